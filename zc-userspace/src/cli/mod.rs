//! The command line: what there is to say, and which file does it. One subcommand per file.

mod advise;
mod child;
pub mod daemon;
mod detach;
mod exec;
mod generate;
mod output;
mod parse;
mod paths;
mod probes;
mod profile;
mod progress;
mod record;
mod render;
mod selector;
mod signals;
mod top;
pub mod validate;
mod verify;
mod window;
pub mod workload;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

pub use output::Failure;

const EXAMPLES: &str = "\
Examples:
  zcprof record -- cp A B                       how cp moved the bytes of A
  zcprof record --json -o cp.json -- cp A B     the same for a script
  zcprof profile --unit nginx --for 30s         what nginx does over the next 30 seconds
  zcprof verify --unit nginx --mechanism sendfile --sink tcp
                                                does nginx really send by sendfile? 0 yes, 1 no
  zcprof advise --for 30s                       what is copied needlessly, and what would save it
  zcprof top                                    who moves bytes right now
  zcprof paths                                  every copy path that zcprof knows
  zcprof probes                                 what can be traced on this host

Tracing needs root, or CAP_BPF and CAP_PERFMON. `zcprof COMMAND --help` explains a command and its exit statuses.

A path reads mechanism:source:sink. `read:file:user` are bytes that read() copied from the page cache into the \
process's memory; `sendfile:file:tcp` are bytes of a file that sendfile() handed to a TCP socket.";

/// Who moved a process's bytes, from where to where, and how often the CPU copied them.
#[derive(Debug, Parser)]
#[command(name = "zcprof", version, after_help = EXAMPLES, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run as a daemon: Prometheus metrics, HTTP API and web page.
    Daemon(daemon::DaemonArgs),
    /// Run a command and report how it and its descendants moved bytes.
    Record(record::RecordArgs),
    /// Report how processes that already run move bytes, over a window of time.
    Profile(profile::ProfileArgs),
    /// Check that traffic really takes a path; for CI jobs.
    Verify(verify::VerifyArgs),
    /// Say what is copied needlessly, and which call would save it.
    Advise(advise::AdviseArgs),
    /// Watch live which processes move bytes, and how.
    Top(top::TopArgs),
    /// List every copy path that zcprof knows.
    Paths(paths::PathsArgs),
    /// List the probes: what is attached here, and why what is not is not.
    Probes(probes::ProbesArgs),
    /// Drive one copy path with an exactly known number of bytes.
    Workload(workload::WorkloadArgs),
    /// Prove the ledger on this kernel: every workload against it, byte for byte.
    Validate(validate::ValidateArgs),
    /// Remove what a daemon left pinned.
    Detach,
    /// Make manual pages and shell completions.
    #[command(hide = true)]
    Generate(generate::GenerateArgs),
}

/// Parses the process's arguments, does what they say, and returns its exit status.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // A reader that has gone away misses nothing that it wanted.
            let _ = error.print();
            return ExitCode::from(usage_status(&arguments, error.exit_code()));
        }
    };
    match run(cli.command) {
        Ok(status) => status,
        Err(failure) => {
            output::complain(&failure.message);
            ExitCode::from(failure.status)
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    let status = match command {
        Command::Daemon(arguments) => return daemon::run(&arguments),
        Command::Record(arguments) => record::run(&arguments),
        Command::Profile(arguments) => profile::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Advise(arguments) => advise::run(&arguments),
        Command::Top(arguments) => top::run(&arguments),
        Command::Paths(arguments) => paths::run(&arguments),
        Command::Probes(arguments) => probes::run(&arguments),
        Command::Workload(arguments) => workload::run(&arguments),
        Command::Validate(arguments) => validate::run(&arguments),
        Command::Detach => detach::run(),
        Command::Generate(arguments) => generate::run(&arguments, &Cli::command()),
    };
    status.map(ExitCode::from)
}

/// clap's own status, but `record`'s 125 for its own failures: 2 could be the command's.
fn usage_status(arguments: &[OsString], status: i32) -> u8 {
    let record = arguments.get(1).is_some_and(|first| first == "record");
    match status {
        0 => 0,
        _ if record => record::OWN_FAILURE,
        _ => output::CANNOT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("zcprof").chain(line.split_whitespace()))
    }

    #[test]
    fn definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_the_contract_writes_parses() {
        for line in [
            "daemon",
            "daemon --web.listen-address 127.0.0.1:9750 --web.listen-address [::1]:9750 --web.insecure --pin",
            "daemon --web.config.file w.yml --config.file c.toml --group-by unit --max-groups 9 --retain 10m",
            "daemon --probe -net --probe block --log.level debug --log.format json",
            "record -- cp -r a b",
            "record --json -o f -- true",
            "profile --pid 1",
            "profile --comm c --for 10s --json",
            "profile --exe /bin/x",
            "profile --unit u",
            "profile --container abc",
            "profile --cgroup /a",
            "verify --pid 1 --for 1s --mechanism sendfile --source file --sink tcp --min-share 0.95 --json",
            "verify --mechanism read -- cat --json",
            "top",
            "top --interval 500ms --sort delivered --filter nginx",
            "paths --json",
            "probes --json",
            "workload list --json",
            "workload run read:file:user --bytes 64MiB --chunk 64KiB --json",
            "validate --path a --path b --bytes 1MiB --chunk 4096 --jobs 2 --audit --json",
            "detach",
            "generate man --dir d",
            "generate completions bash",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
        }
    }

    #[test]
    fn what_can_not_be_meant_does_not_parse() {
        for line in [
            "",
            "record",
            "record true",
            "profile",
            "profile --pid 1 --comm c",
            "profile --pid x",
            "profile --pid 1 --for 0s",
            "verify --pid 1",
            "verify --mechanism read",
            "verify --pid 1 --mechanism read -- true",
            "verify --mechanism read --for 1s -- true",
            "verify --pid 1 --mechanism red",
            "verify --pid 1 --mechanism read --min-share 1.5",
            "workload run x --bytes many",
            "daemon --group-by colour",
            "top --sort colour",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn records_own_failures_are_told_from_the_commands() {
        let of = |line: &str, status| {
            let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            usage_status(&arguments, status)
        };
        assert_eq!(of("zcprof record --bad", 2), 125);
        assert_eq!(of("zcprof record --help", 0), 0);
        assert_eq!(of("zcprof profile --bad", 2), 2);
    }
}
