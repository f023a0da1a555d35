//! The committed eBPF object: built, and compared with its sources.

mod check;
mod compile;
mod stage;
mod toolchain;

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::manifest::{self, MANIFEST, Manifest, OBJECT};
use crate::process;

pub(crate) use check::check;
pub(crate) use toolchain::is_complete;

/// Builds the object and its MANIFEST.
pub(crate) fn build(root: &Path, install: bool) -> anyhow::Result<()> {
    let toolchain = toolchain::acquire(root, install)?;
    let inputs = manifest::inputs(root)?;
    let stage = process::target_dir(root).join("ebpf");
    let object = compile::compile(&toolchain, &inputs, &stage)?;
    let manifest =
        Manifest { object: manifest::digest(&object), tools: toolchain.tools, inputs: manifest::digests(&inputs) };
    let prebuilt = root.join(OBJECT);
    fs::create_dir_all(prebuilt.parent().context(OBJECT)?)?;
    fs::write(&prebuilt, &object).context(OBJECT)?;
    fs::write(root.join(MANIFEST), manifest.to_string()).context(MANIFEST)?;
    println!("{OBJECT}: {} bytes, SHA-256 {}", object.len(), manifest.object);
    Ok(())
}
