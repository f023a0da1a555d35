//! Other kernels: Debian's, in emulated machines. Each boots, validates every path, and runs the end-to-end tests.

mod archive;
mod built;
mod cross;
mod disks;
mod guest;
mod initramfs;
mod judge;
mod kernels;
mod machine;
mod modules;
pub mod plan;
mod programs;
mod qemu;
mod serial;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail};

use crate::codegen::truth;
use crate::debian::{self, Package};
use crate::stop::Stop;
use crate::{preflight, process};
use archive::Archive;
use guest::Guest;
use judge::Verdict;
use kernels::Kernel;
use machine::{MACHINES, Machine};
use plan::{Message, Outcome};

/// Which part of the matrix is run; all where nothing is named.
#[derive(Default, clap::Args)]
pub(crate) struct Choice {
    /// Only this series of kernels, e.g. 6.12; may be given several times.
    #[arg(long = "kernel", value_name = "X.Y", conflicts_with = "record")]
    kernels: Vec<String>,
    /// Only this machine; may be given several times.
    #[arg(long = "machine", value_name = "NAME", value_parser = MACHINES.map(|machine| machine.name))]
    machines: Vec<String>,
}

impl Choice {
    /// The machines, each with its series of kernels: those of its own that are asked for, or, if it is named itself,
    /// all that are.
    fn parts(&self) -> Vec<(&'static Machine, Vec<&str>)> {
        let wanted = |machine: &&&Machine| self.machines.is_empty() || self.names(machine);
        let series = |machine: &&'static Machine| -> Vec<&str> {
            let own = machine.series.iter().copied();
            match &self.kernels[..] {
                [] => own.collect(),
                kernels if self.names(machine) => kernels.iter().map(String::as_str).collect(),
                kernels => own.filter(|series| kernels.iter().any(|kernel| kernel == series)).collect(),
            }
        };
        MACHINES.iter().filter(wanted).map(|machine| (*machine, series(machine))).collect()
    }

    fn names(&self, machine: &Machine) -> bool {
        self.machines.iter().any(|name| name == machine.name)
    }
}

/// What became of the matrix.
#[derive(Default)]
pub(crate) struct Matrix {
    /// A line for each kernel.
    pub(crate) lines: Vec<String>,
    /// What was not run, and why.
    pub(crate) not_run: Vec<String>,
}

impl Matrix {
    fn print(&self) {
        for line in &self.lines {
            println!("{line}");
        }
        for line in &self.not_run {
            println!("not run: {line}");
        }
    }
}

/// Runs the matrix or a part of it; or only the steps whose names start so, for those who work on it.
pub(crate) fn run(root: &Path, choice: &Choice, only: Option<&str>, install: bool) -> anyhow::Result<()> {
    let Some(only) = only else {
        matrix(root, choice, install)?.print();
        return Ok(());
    };
    for (machine, series) in choice.parts() {
        let (archive, guest) = prepare(root, machine, install)?;
        let guest = guest.only(only);
        series.iter().try_for_each(|series| show(root, machine, series, &archive, &guest))?;
    }
    Ok(())
}

/// Runs the matrix and keeps what it found, for docs/truth.md. What was found before on machines that were not run stays.
pub(crate) fn record(root: &Path, choice: &Choice, install: bool) -> anyhow::Result<()> {
    let (verdicts, not_run) = verdicts(root, choice, install)?;
    let lines = finish(&directory(root), &verdicts)?;
    let file = root.join("tests/matrix.json");
    let before = fs::read(&file).with_context(|| file.display().to_string())?;
    let before: Vec<truth::Kernel> = serde_json::from_slice(&before).with_context(|| file.display().to_string())?;
    let kernels = truth::merge(before, verdicts.iter().map(Verdict::recorded).collect());
    let text = serde_json::to_string_pretty(&kernels)? + "\n";
    fs::write(&file, text).with_context(|| file.display().to_string())?;
    Matrix { lines, not_run }.print();
    println!("wrote tests/matrix.json; now `cargo xtask codegen`");
    Ok(())
}

/// Runs the matrix; a line for each kernel, or an error that names those that failed.
pub(crate) fn matrix(root: &Path, choice: &Choice, install: bool) -> anyhow::Result<Matrix> {
    let (verdicts, not_run) = verdicts(root, choice, install)?;
    Ok(Matrix { lines: finish(&directory(root), &verdicts)?, not_run })
}

fn verdicts(root: &Path, choice: &Choice, install: bool) -> anyhow::Result<(Vec<Verdict>, Vec<String>)> {
    let (mut verdicts, mut not_run) = (Vec::new(), Vec::new());
    for (machine, series) in choice.parts() {
        if series.is_empty() {
            continue;
        }
        match machine_verdicts(root, machine, &series, install) {
            Ok(of_machine) => verdicts.extend(of_machine),
            // Without it the others are still worth running; unless it was asked for.
            Err(error)
                if machine.cross.is_some()
                    && !choice.names(machine)
                    && matches!(error.downcast_ref(), Some(Stop::Cannot(_))) =>
            {
                not_run.push(format!("kernels of {}: {error}", machine.name));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((verdicts, not_run))
}

fn machine_verdicts(
    root: &Path,
    machine: &'static Machine,
    series: &[&str],
    install: bool,
) -> anyhow::Result<Vec<Verdict>> {
    let (archive, guest) = prepare(root, machine, install)?;
    let one = |series: &&str| {
        let (kernel, messages) = boot(root, machine, series, &archive, &guest)?;
        judge::judge(root, machine, &kernel, &guest.step_names(), &messages)
    };
    series.iter().map(one).collect()
}

fn prepare(root: &Path, machine: &'static Machine, install: bool) -> anyhow::Result<(Archive, Guest)> {
    if machine.cross.is_none() && machine.name != std::env::consts::ARCH {
        let why = format!("the programs of {} machines are only built on such a host", machine.name);
        return Err(Stop::Cannot(why).into());
    }
    tools(machine, install)?;
    let archive = Archive::open(machine, &directory(root).join("packages"))?;
    let guest = guest::build(root, machine, &archive)?;
    Ok((archive, guest))
}

/// Prints what a guest's steps printed.
fn show(root: &Path, machine: &Machine, series: &str, archive: &Archive, guest: &Guest) -> anyhow::Result<()> {
    let (kernel, messages) = boot(root, machine, series, archive, guest)?;
    for message in messages {
        if let Message::Done(Outcome { name, status, stdout, stderr, seconds }) = message {
            println!("== {name} on {}: exit status {status:?} after {seconds:.1} s\n{stdout}{stderr}", kernel.version);
        } else {
            println!("== {message:?}");
        }
    }
    Ok(())
}

/// What of the end-to-end tests the matrix leaves out, and why.
pub(crate) fn not_run() -> String {
    guest::not_run()
}

/// Where kernels and results are kept.
fn directory(root: &Path) -> PathBuf {
    process::target_dir(root).join("vm")
}

/// Sees to the emulator and what makes disks.
fn tools(machine: &'static Machine, install: bool) -> anyhow::Result<()> {
    let mut needed: Vec<&'static Package> =
        std::iter::once(&machine.qemu).chain(&disks::MAKERS).chain(guest::TOOLS).collect();
    if let Some(cross) = &machine.cross {
        needed.extend([&cross::RUSTC, &cross.linker, &cross.libc]);
    }
    let missing = || needed.iter().copied().filter(|one| process::find(one.program).is_none()).collect::<Vec<_>>();
    if !missing().is_empty() && install && preflight::is_root() {
        // Without a network what is missing is named.
        match debian::install(&missing()) {
            Err(error) if !error.is::<Stop>() => eprintln!("xtask: {error:#}"),
            done => done?,
        }
    }
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let names = debian::names(&missing);
    Err(Stop::Cannot(format!(
        "the virtual machines of {} need {names}: as root, `apt-get install {names}`",
        machine.name
    ))
    .into())
}

/// Boots one kernel; what the guest reported.
fn boot(
    root: &Path,
    machine: &Machine,
    series: &str,
    archive: &Archive,
    guest: &Guest,
) -> anyhow::Result<(Kernel, Vec<Message>)> {
    let kernel = Kernel::newest(machine, series, archive)?;
    let directory = directory(root).join(format!("{}-{}", kernel.version, machine.name));
    // Of an earlier run, whose results are not this one's.
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    eprintln!("\n== Linux {} ({}) on {}", kernel.version, kernel.release, machine.name);
    let start = Instant::now();
    let files = qemu::Files::within(&directory);
    let content = tempfile::tempdir_in(&directory).context("a directory for a disk's content")?;
    guest.pack(&kernel, &files.initramfs, content.path())?;
    let disks = disks::make(&directory, content.path())?;
    let messages = qemu::run(machine, &kernel, &disks, &files)?;
    eprintln!("   {:.0} s", start.elapsed().as_secs_f64());
    judge::keep_output(&directory, &messages)?;
    // What is left are the console and the results.
    for file in disks.iter().map(|(_, path)| path).chain([&files.initramfs]) {
        fs::remove_file(file).with_context(|| file.display().to_string())?;
    }
    Ok((kernel, messages))
}

/// Keeps the results for the documents that are made of them, and sums up.
fn finish(directory: &Path, verdicts: &[Verdict]) -> anyhow::Result<Vec<String>> {
    let results: Vec<_> = verdicts.iter().map(Verdict::to_json).collect();
    let file = directory.join("matrix.json");
    fs::write(&file, serde_json::to_vec_pretty(&results)?).with_context(|| file.display().to_string())?;
    let mut failed = Vec::new();
    for verdict in verdicts {
        for problem in &verdict.problems {
            eprintln!("{}: {problem}", verdict.kernel);
        }
        if !verdict.problems.is_empty() {
            eprintln!("{}", verdict.line());
            failed.push(format!("{} ({} problems)", verdict.kernel, verdict.problems.len()));
        }
    }
    if failed.is_empty() {
        Ok(verdicts.iter().map(Verdict::line).collect())
    } else {
        bail!("not as expected: {}; results and consoles are in {}", failed.join(", "), directory.display())
    }
}
