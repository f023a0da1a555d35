//! Every check and test that this machine can run, and a list of what it could not run, with the reason.

use std::path::Path;

use anyhow::Context as _;

use crate::stop::Stop;
use crate::tools::{self, Registry};
use crate::{codegen, debian, ebpf, manifest, policy, preflight, process, vm};

/// Tells the end-to-end tests which programs they have to do without; they fail for want of any other.
const WITHOUT: &str = "ZCPROF_TESTS_WITHOUT";

/// What was not run, and why.
type NotRun = Vec<String>;

/// Runs all, cheapest first; stops at the first that fails.
pub(crate) fn run(root: &Path, install: bool, machines: bool) -> anyhow::Result<()> {
    preflight::tracing(None, "test")?;
    let mut not_run = NotRun::new();
    let mut without = programs(install, &mut not_run)?;
    without.extend(registries(root, install, &mut not_run));

    component(root, "fmt", &["--check"], &mut not_run)?;
    component(root, "clippy", &["--workspace", "--all-targets", "--locked", "--", "-D", "warnings"], &mut not_run)?;
    step("eBPF object against its sources");
    manifest::verify(root)?;
    step("generated files");
    codegen::run(root, true)?;
    step("licences, sources, advisories");
    not_run.extend(policy::run(root)?.map(|why| format!("advisories: {why}")));
    step("build and tests");
    process::build_zcprof(root)?;
    process::stream(process::cargo(root).args(["test", "--workspace", "--locked"]).env(WITHOUT, without.join(",")))?;
    step("eBPF object, rebuilt");
    if ebpf::is_complete(root) {
        ebpf::check(root, false)?;
    } else {
        not_run.push(
            "rebuilding the eBPF object: its toolchain is not installed; as root, `cargo xtask ebpf check --install`"
                .into(),
        );
    }
    let kernels = if machines { matrix(root, install, &mut not_run)? } else { Vec::new() };
    if !machines {
        not_run.push("other kernels than this one: --no-vm leaves the virtual machines out".into());
    }

    summary(&kernels, &not_run);
    Ok(())
}

/// Sees to the programs that the tests use; those they have to do without.
fn programs(install: bool, not_run: &mut NotRun) -> anyhow::Result<Vec<&'static str>> {
    step("programs that the tests use");
    let missing = debian::missing(debian::FOR_TESTS);
    if !missing.is_empty() && install && preflight::is_root() {
        match debian::install(&missing) {
            Err(error) if !error.is::<Stop>() => eprintln!("xtask: {error:#}; going on without"),
            done => done?,
        }
    }
    let missing = debian::missing(debian::FOR_TESTS);
    let hint = if preflight::is_root() { "" } else { "; as root they would be installed" };
    not_run.extend(missing.iter().map(|package| {
        format!("tests that use {}: not here (Debian's {}: {}){hint}", package.program, package.name, package.why)
    }));
    Ok(missing.iter().map(|package| package.program).collect())
}

/// Sees to what comes from other registries, which are installed in the target directory; those to do without.
fn registries(root: &Path, install: bool, not_run: &mut NotRun) -> Vec<&'static str> {
    let lacks = |registry: &Registry| {
        let why_not = match install.then(|| tools::bring(*registry, &process::target_dir(root))) {
            Some(Ok(_)) => return None,
            Some(Err(error)) => format!("{error:#}"),
            None => "--no-install leaves it out".to_owned(),
        };
        not_run.push(format!("tests that use {} ({}): {why_not}", registry.name(), registry.why()));
        Some(registry.name())
    };
    Registry::ALL.iter().filter_map(lacks).collect()
}

/// Runs a part of the toolchain that a minimal installation lacks.
fn component(root: &Path, name: &str, args: &[&str], not_run: &mut NotRun) -> anyhow::Result<()> {
    step(name);
    if process::capture(process::cargo(root).args([name, "--version"])).is_err() {
        let package = if name == "fmt" { "rustfmt" } else { name };
        not_run.push(format!("cargo {name}: not installed; `rustup component add {package}`"));
        return Ok(());
    }
    process::stream(process::cargo(root).arg(name).args(args)).with_context(|| format!("`cargo {name}` is not content"))
}

fn step(what: &str) {
    eprintln!("\n== {what}");
}

/// The virtual machines; a line for each kernel.
fn matrix(root: &Path, install: bool, not_run: &mut NotRun) -> anyhow::Result<Vec<String>> {
    step("other kernels, in virtual machines");
    match vm::matrix(root, &vm::Choice::default(), install) {
        Err(error) if matches!(error.downcast_ref(), Some(Stop::Cannot(_))) => {
            not_run.push(format!("other kernels than this one: {error}"));
            Ok(Vec::new())
        }
        done => {
            let done = done?;
            not_run.extend(done.not_run);
            not_run.push(vm::not_run());
            Ok(done.lines)
        }
    }
}

fn summary(kernels: &[String], not_run: &[String]) {
    println!("\nAll passed that this machine can run.");
    for kernel in kernels {
        println!("  {kernel}");
    }
    println!("Not run here:{}", if not_run.is_empty() { " nothing" } else { "" });
    for what in not_run {
        println!("  - {what}");
    }
}
