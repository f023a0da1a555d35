//! This kernel against `tests/kernels.toml`: which probes attach, which paths are active, which workloads run.

mod common;

use std::env::consts::ARCH;
use std::path::Path;

use anyhow::{Context as _, Result};
use common::{Scratch, run_zcprof};
use serde_json::Value;
use xtask::expected::{Seen, of_kernel};

fn json(arguments: &[&str]) -> Result<Value> {
    let ended = run_zcprof(arguments)?;
    serde_json::from_str(&ended.stdout).with_context(|| format!("{arguments:?}: {ended:?}"))
}

#[test]
fn all_is_as_listed() -> Result<()> {
    let scratch = Scratch::new()?;
    let directory = scratch.path().to_string_lossy();
    let mut validate = vec!["validate", "--json", "--bytes", "64KiB", "--directory", &directory];
    // As in the virtual machines.
    validate.extend((ARCH != "x86_64").then_some("--variants"));
    let validation = json(&validate)?;
    let seen = Seen {
        probes: json(&["probes", "--json"])?,
        paths: json(&["paths", "--json"])?,
        validations: vec![validation],
        failed: None,
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the project's tree")?;
    let release = seen.probes["kernel"].as_str().context("the kernel's release")?;
    let differences = of_kernel(root, release, ARCH)?.differences(&seen);
    assert_eq!(differences, Vec::<String>::new(), "{release}");
    Ok(())
}
