//! The MANIFEST beside the committed eBPF object: what it was built from, with what, and its own digest.
//!
//! `verify` needs nothing but the files, so that every `cargo test` can tell when the sources have moved on.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use sha2::{Digest as _, Sha256};

mod inputs;

pub(crate) use inputs::{Input, PACKAGE_TABLE, inputs};

/// The committed object, from the workspace's root.
pub const OBJECT: &str = "zc-ebpf/prebuilt/zcprof.bpf.o";
/// Its MANIFEST, from the workspace's root.
pub const MANIFEST: &str = "zc-ebpf/prebuilt/MANIFEST";

const HEADER: &str = "\
# zcprof.bpf.o: its digest, the tools that built it, and the digests (SHA-256) of all that it was built from.
# Made by `cargo xtask ebpf build`. Compared with the files by every `cargo test`, and with a rebuild by
# `cargo xtask ebpf check`.
";

/// The tools that built an object, as they name their versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tools {
    /// The compiler and its LLVM.
    pub(crate) rustc: String,
    /// The linker.
    pub(crate) bpf_linker: String,
    /// The tool that stripped it.
    pub(crate) llvm_objcopy: String,
}

/// A MANIFEST's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The object's digest.
    pub(crate) object: String,
    /// What built it.
    pub(crate) tools: Tools,
    /// Each input's digest, by its path.
    pub(crate) inputs: BTreeMap<String, String>,
}

/// How the committed object, its MANIFEST and the sources disagree.
#[derive(Debug, thiserror::Error)]
#[error("zc-ebpf/prebuilt does not match its sources: {}: run `cargo xtask ebpf build`", .0.join("; "))]
pub struct Mismatch(Vec<String>);

/// Whether the committed object is the one that the MANIFEST tells of, and the sources are those that it was built from.
///
/// # Errors
/// Names every file that differs, is new, or is gone.
pub fn verify(root: &Path) -> Result<(), Mismatch> {
    let one = |what: String| Mismatch(vec![what]);
    let manifest = read(root).map_err(|error| one(format!("{error:#}")))?;
    let now = inputs(root).map_err(|error| one(format!("{error:#}")))?;
    let object = std::fs::read(root.join(OBJECT)).map_err(|error| one(format!("{OBJECT}: {error}")))?;

    let mut wrong = differences(&manifest.inputs, &digests(&now));
    if digest(&object) != manifest.object {
        wrong.push(format!("{OBJECT} is not the object that was built"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(Mismatch(wrong)) }
}

/// The committed MANIFEST.
pub(crate) fn read(root: &Path) -> anyhow::Result<Manifest> {
    let text = std::fs::read_to_string(root.join(MANIFEST)).map_err(|error| anyhow::anyhow!("{MANIFEST}: {error}"))?;
    Manifest::parse(&text).ok_or_else(|| anyhow::anyhow!("{MANIFEST}: not as `cargo xtask ebpf build` writes it"))
}

/// SHA-256 as hex.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Each input's digest, by its path.
pub(crate) fn digests(inputs: &[Input]) -> BTreeMap<String, String> {
    inputs.iter().map(|input| (input.path.clone(), digest(&input.bytes))).collect()
}

fn differences(then: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let changed = now.iter().filter_map(|(path, digest)| match then.get(path) {
        None => Some(format!("{path} is new")),
        Some(old) if old != digest => Some(format!("{path} has changed")),
        Some(_) => None,
    });
    let gone = then.keys().filter(|path| !now.contains_key(*path)).map(|path| format!("{path} is gone"));
    changed.chain(gone).collect()
}

/// One digest over all inputs, in the order of their paths.
fn overall(inputs: &BTreeMap<String, String>) -> String {
    digest(inputs.iter().map(|(path, digest)| format!("{digest}  {path}\n")).collect::<String>().as_bytes())
}

impl Manifest {
    fn parse(text: &str) -> Option<Self> {
        let mut fields = BTreeMap::new();
        let mut inputs = BTreeMap::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some((name, value)) = line.split_once(": ") {
                fields.insert(name, value.to_owned());
            } else {
                let (digest, path) = line.split_once("  ")?;
                inputs.insert(path.to_owned(), digest.to_owned());
            }
        }
        if fields.remove("inputs")? != overall(&inputs) {
            return None;
        }
        let tools = Tools {
            rustc: fields.remove("rustc")?,
            bpf_linker: fields.remove("bpf-linker")?,
            llvm_objcopy: fields.remove("llvm-objcopy")?,
        };
        Some(Self { object: fields.remove("object")?, tools, inputs })
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tools { rustc, bpf_linker, llvm_objcopy } = &self.tools;
        writeln!(f, "{HEADER}\nobject: {}\ninputs: {}", self.object, overall(&self.inputs))?;
        writeln!(f, "rustc: {rustc}\nbpf-linker: {bpf_linker}\nllvm-objcopy: {llvm_objcopy}\n")?;
        self.inputs.iter().try_for_each(|(path, digest)| writeln!(f, "{digest}  {path}"))
    }
}

#[cfg(test)]
mod tests;
