//! Benchmarks: each prints medians and ratios of one run, and writes its page under docs/.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::{preflight, process};

/// A benchmark: its program in the tests crate, its page, and what the page says first.
struct Bench {
    program: &'static str,
    page: &'static str,
    command: &'static str,
    intro: &'static str,
}

const OVERHEAD: Bench = Bench {
    program: "overhead",
    page: "docs/overhead.md",
    command: "cargo xtask bench overhead",
    intro: "# What zcprof costs\n\nWhat one system call costs untraced, and what tracers add to it, measured side by side \
            in one run: rounds of all tracers alternate, medians are compared. Trust the ratios more than the figures: the \
            machine has two noisy cores.",
};

const SCALE: Bench = Bench {
    program: "scale",
    page: "docs/scale.md",
    command: "cargo xtask bench scale",
    intro: "# The daemon with many processes\n\nStart, memory and response times of a daemon beside many sleeping processes, \
            measured in one run; medians and worst of many requests, each with a reading of its own.",
};

/// The cost of the hot hook.
pub(crate) fn overhead(root: &Path, rounds: u32) -> anyhow::Result<()> {
    run(root, &OVERHEAD, &["--rounds", &rounds.to_string()])
}

/// The daemon beside many processes.
pub(crate) fn scale(root: &Path, processes: u32) -> anyhow::Result<()> {
    process::build_zcprof(root)?;
    run(root, &SCALE, &["--processes", &processes.to_string()])
}

fn run(root: &Path, bench: &Bench, args: &[&str]) -> anyhow::Result<()> {
    preflight::tracing(None, "bench")?;
    let mut cargo = process::cargo(root);
    cargo.args(["run", "--quiet", "--release", "--locked", "-p", "zc-tests", "--bin", bench.program, "--"]).args(args);
    let table = process::capture(&mut cargo)?;
    print!("{table}");
    let text = format!("{}\n\nMade by `{}`.\n\n{}\n", bench.intro, bench.command, table.trim_end());
    fs::write(root.join(bench.page), text).with_context(|| bench.page.to_owned())?;
    println!("\nwrote {}", bench.page);
    Ok(())
}
