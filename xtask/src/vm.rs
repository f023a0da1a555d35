//! Other kernels: Debian's, in emulated machines. Each boots, validates every path, and runs the end-to-end tests.

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

use crate::debian::{self, Package};
use crate::stop::Stop;
use crate::{preflight, process};
use guest::Guest;
use judge::Verdict;
use kernels::Kernel;
use machine::{Machine, X86_64};
use plan::{Message, Outcome};

/// Runs the matrix, or the series of kernels given; or only the steps whose names start so, for those who work on it.
pub(crate) fn run(root: &Path, series: &[String], only: Option<&str>, install: bool) -> anyhow::Result<()> {
    if let Some(only) = only {
        let guest = prepare(root, &X86_64, install)?.only(only);
        return chosen(&X86_64, series).iter().try_for_each(|series| show(root, &X86_64, series, &guest));
    }
    for line in matrix(root, series, install)? {
        println!("{line}");
    }
    Ok(())
}

/// Runs the matrix and keeps what it found, for docs/truth.md.
pub(crate) fn record(root: &Path, install: bool) -> anyhow::Result<()> {
    let verdicts = verdicts(root, &[], install)?;
    let lines = finish(&directory(root), &verdicts)?;
    let kernels: Vec<_> = verdicts.iter().map(Verdict::recorded).collect();
    let file = root.join("tests/matrix.json");
    let text = serde_json::to_string_pretty(&kernels)? + "\n";
    fs::write(&file, text).with_context(|| file.display().to_string())?;
    for line in lines {
        println!("{line}");
    }
    println!("wrote tests/matrix.json; now `cargo xtask codegen`");
    Ok(())
}

/// Runs the matrix; a line for each kernel, or an error that names those that failed.
pub(crate) fn matrix(root: &Path, series: &[String], install: bool) -> anyhow::Result<Vec<String>> {
    finish(&directory(root), &verdicts(root, series, install)?)
}

fn verdicts(root: &Path, series: &[String], install: bool) -> anyhow::Result<Vec<Verdict>> {
    let machine = &X86_64;
    let guest = prepare(root, machine, install)?;
    let mut verdicts = Vec::new();
    for series in chosen(machine, series) {
        let (kernel, messages) = boot(root, machine, series, &guest)?;
        verdicts.push(judge::judge(root, machine, &kernel, &guest.step_names(), &messages)?);
    }
    Ok(verdicts)
}

fn chosen<'a>(machine: &'a Machine, series: &'a [String]) -> Vec<&'a str> {
    if series.is_empty() { machine.series.to_vec() } else { series.iter().map(String::as_str).collect() }
}

fn prepare(root: &Path, machine: &'static Machine, install: bool) -> anyhow::Result<Guest> {
    tools(machine, install)?;
    guest::build(root)
}

/// Prints what a guest's steps printed.
fn show(root: &Path, machine: &Machine, series: &str, guest: &Guest) -> anyhow::Result<()> {
    let (kernel, messages) = boot(root, machine, series, guest)?;
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
    let needed: Vec<&'static Package> =
        std::iter::once(&machine.qemu).chain(&disks::MAKERS).chain(guest::TOOLS).collect();
    let missing = || needed.iter().copied().filter(|one| process::find(one.program).is_none()).collect::<Vec<_>>();
    if !missing().is_empty() && install && preflight::is_root() {
        debian::install(&missing())?;
    }
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let names = debian::names(&missing);
    Err(Stop::Cannot(format!("the virtual machines need {names}: as root, `apt-get install {names}`")).into())
}

/// Boots one kernel; what the guest reported.
fn boot(root: &Path, machine: &Machine, series: &str, guest: &Guest) -> anyhow::Result<(Kernel, Vec<Message>)> {
    let kernel = Kernel::newest(machine, series, &directory(root).join("kernels"))?;
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
