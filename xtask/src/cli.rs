//! The command line: one variant and one arm per command.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::{bench, codegen, demo, dist, ebpf, policy, test, vm};

/// Everything the project runs on itself.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build, load the probes, start the daemon, drive every copy path, show what it saw; stay up until Ctrl-C.
    Demo {
        /// End at once instead of staying up.
        #[arg(long)]
        exit: bool,
    },
    /// Every check and test that this machine can run; names what it could not run here, and why.
    Test {
        /// Install no Debian packages, even as root.
        #[arg(long)]
        no_install: bool,
        /// Leave out the virtual machines with other kernels.
        #[arg(long)]
        no_vm: bool,
    },
    /// Other kernels: Debian's, in emulated machines, with every path validated and the end-to-end tests run.
    Vm {
        #[command(flatten)]
        choice: vm::Choice,
        /// Only the steps whose names start so, and show what they print; nothing is compared with what is expected.
        #[arg(long, value_name = "STEP")]
        only: Option<String>,
        /// Keep what was found in tests/matrix.json, of which docs/truth.md is made.
        #[arg(long, conflicts_with = "only")]
        record: bool,
        /// Install no Debian packages, even as root.
        #[arg(long)]
        no_install: bool,
    },
    /// The eBPF object that is committed.
    Ebpf {
        #[command(subcommand)]
        command: Ebpf,
    },
    /// The files that are generated from the code.
    Codegen {
        /// Change nothing; fail if one is out of date.
        #[arg(long)]
        check: bool,
    },
    /// Benchmarks: print a table and write it into docs/.
    Bench {
        #[command(subcommand)]
        command: Bench,
    },
    /// Licences, sources and advisories of all dependencies, by deny.toml.
    Policy,
    /// The release binary, static, in one file; or a package of it.
    Dist {
        #[command(subcommand)]
        command: Option<Dist>,
    },
}

#[derive(Subcommand)]
enum Dist {
    /// A Debian package.
    Deb {
        /// The binary to package, in place of one that is built now.
        #[arg(long, value_name = "FILE")]
        binary: Option<PathBuf>,
        /// Where to put the package [default: target/dist].
        #[arg(long, value_name = "DIRECTORY")]
        output: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum Ebpf {
    /// Build it from zc-ebpf and zc-common, with a MANIFEST.
    Build(Install),
    /// Compare it with its sources, and with what an empty directory builds.
    Check(Install),
}

#[derive(Subcommand)]
enum Bench {
    /// What a system call costs, untraced, under zcprof, and under other tracers that are installed.
    Overhead {
        /// How often each tracer is measured.
        #[arg(long, default_value_t = 5)]
        rounds: u32,
    },
    /// The daemon's start, memory and response times beside many processes.
    Scale {
        /// How many.
        #[arg(long, default_value_t = 1000)]
        processes: u32,
    },
}

#[derive(Args)]
struct Install {
    /// Install the Debian packages that are missing (as root).
    #[arg(long)]
    install: bool,
}

/// Parses the command line and runs it.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Demo { exit } => demo::run(root, exit),
        Command::Test { no_install, no_vm } => test::run(root, !no_install, !no_vm),
        Command::Vm { record: true, choice, no_install, .. } => vm::record(root, &choice, !no_install),
        Command::Vm { choice, only, no_install, .. } => vm::run(root, &choice, only.as_deref(), !no_install),
        Command::Ebpf { command: Ebpf::Build(args) } => ebpf::build(root, args.install),
        Command::Ebpf { command: Ebpf::Check(args) } => ebpf::check(root, args.install),
        Command::Codegen { check } => codegen::run(root, check),
        Command::Bench { command: Bench::Overhead { rounds } } => bench::overhead(root, rounds),
        Command::Bench { command: Bench::Scale { processes } } => bench::scale(root, processes),
        Command::Policy => policy::run(root).map(|_not_checked| ()),
        Command::Dist { command: None } => dist::run(root).map(|_binary| ()),
        Command::Dist { command: Some(Dist::Deb { binary, output }) } => {
            dist::deb(root, binary.as_deref(), output.as_deref())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
