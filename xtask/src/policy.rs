//! deny.toml, enforced: licences and sources by ourselves, advisories by cargo-deny where it is installed.

mod rules;

use std::path::Path;

use anyhow::{Context as _, bail};
use cargo_metadata::{CargoOpt, MetadataCommand};

use crate::process;
use rules::Policy;

/// Checks every dependency of the workspace and of the eBPF half. What could not be checked here, and why.
pub(crate) fn run(root: &Path) -> anyhow::Result<Option<String>> {
    let text = std::fs::read_to_string(root.join("deny.toml")).context("deny.toml")?;
    let policy = Policy::parse(&text).context("deny.toml")?;
    let mut wrong = Vec::new();
    for manifest in ["Cargo.toml", "zc-ebpf/Cargo.toml"] {
        let metadata = MetadataCommand::new()
            .manifest_path(root.join(manifest))
            .features(CargoOpt::AllFeatures)
            .other_options(["--locked".to_owned()])
            .exec()
            .with_context(|| manifest.to_owned())?;
        wrong.extend(metadata.packages.iter().flat_map(|package| policy.judge(package)));
        println!("{manifest}: {} packages", metadata.packages.len());
    }
    if !wrong.is_empty() {
        bail!("against deny.toml:\n  {}", wrong.join("\n  "));
    }
    println!("licences, sources and version bounds agree with deny.toml");
    let not_checked = advisories(root)?;
    if let Some(why) = &not_checked {
        println!("advisories were not checked: {why}");
    }
    Ok(not_checked)
}

/// Asks cargo-deny for advisories; why not, where that can't be done.
fn advisories(root: &Path) -> anyhow::Result<Option<String>> {
    if process::find("cargo-deny").is_none() {
        return Ok(Some("cargo-deny is not installed".to_owned()));
    }
    if process::capture(process::cargo(root).args(["deny", "fetch", "db"])).is_err() {
        return Ok(Some("no advisory database can be reached".to_owned()));
    }
    process::stream(process::cargo(root).args(["deny", "check", "--disable-fetch", "advisories"]))?;
    Ok(None)
}
