//! What cargo says that it built.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use cargo_metadata::{Message, TargetKind};

/// A program.
pub(crate) struct Built {
    pub(crate) name: String,
    pub(crate) is_test: bool,
    pub(crate) file: PathBuf,
}

/// Runs cargo; the programs and tests that it built.
pub(crate) fn run(cargo: &mut Command) -> anyhow::Result<Vec<Built>> {
    cargo.arg("--message-format=json-render-diagnostics");
    let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cargo")?;
    if !output.status.success() {
        bail!("the programs of the virtual machines can't be built");
    }
    let mut built = Vec::new();
    for message in Message::parse_stream(&output.stdout[..]) {
        let Message::CompilerArtifact(artifact) = message? else { continue };
        let Some(file) = artifact.executable else { continue };
        let is_test = artifact.profile.test;
        let kind = if is_test { TargetKind::Test } else { TargetKind::Bin };
        if artifact.target.kind.contains(&kind) {
            built.push(Built { name: artifact.target.name, is_test, file: file.into() });
        }
    }
    Ok(built)
}
