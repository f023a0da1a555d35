//! Whether the committed object is what its sources make.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use super::{compile, toolchain};
use crate::manifest::{self, Manifest, OBJECT, Tools};
use crate::stop::Stop;
use crate::{preflight, process};

/// What a rebuilt object says about the committed one.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Identical,
    /// By other tools, so it has to show that it works.
    Validate,
    Differs,
}

/// Compares the MANIFEST with the files, then the object with one built in an empty directory.
pub(crate) fn check(root: &Path, install: bool) -> anyhow::Result<()> {
    manifest::verify(root)?;
    println!("{OBJECT} and its sources are those of the MANIFEST");
    let recorded = manifest::read(root)?;
    let toolchain = toolchain::acquire(root, install)?;

    let empty = tempfile::tempdir().context("an empty directory")?;
    let rebuilt = compile::compile(&toolchain, &manifest::inputs(root)?, empty.path())?;
    match verdict(&recorded, &rebuilt, &toolchain.tools) {
        Verdict::Identical => println!("the rebuilt object is identical, byte for byte"),
        Verdict::Differs => bail!(
            "{OBJECT} ({}) is not what the recorded toolchain builds ({}): run `cargo xtask ebpf build`",
            recorded.object,
            manifest::digest(&rebuilt),
        ),
        Verdict::Validate => {
            println!("not compared byte for byte: {}", difference(&recorded.tools, &toolchain.tools));
            let object = empty.path().join("zcprof.bpf.o");
            std::fs::write(&object, &rebuilt).with_context(|| object.display().to_string())?;
            validate(root, &object)?;
            println!("the rebuilt object loads and counts every path right");
        }
    }
    Ok(())
}

fn verdict(recorded: &Manifest, rebuilt: &[u8], tools: &Tools) -> Verdict {
    if manifest::digest(rebuilt) == recorded.object {
        Verdict::Identical
    } else if *tools == recorded.tools {
        Verdict::Differs
    } else {
        Verdict::Validate
    }
}

fn difference(recorded: &Tools, here: &Tools) -> String {
    let pairs = [
        (&recorded.rustc, &here.rustc),
        (&recorded.bpf_linker, &here.bpf_linker),
        (&recorded.llvm_objcopy, &here.llvm_objcopy),
    ];
    let other = pairs.into_iter().filter(|(then, now)| then != now);
    other.map(|(then, now)| format!("recorded {then}, here {now}")).collect::<Vec<_>>().join("; ")
}

fn validate(root: &Path, object: &Path) -> anyhow::Result<()> {
    let zcprof = process::build_zcprof(root)?;
    preflight::tracing(Some(&zcprof), "ebpf check")?;
    let status = process::status(Command::new(zcprof).arg("validate").env("ZCPROF_EBPF_OBJECT", object))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(2) => Err(Stop::Status(2).into()),
        _ => bail!("the rebuilt object fails `zcprof validate` ({status})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let tools = |rustc: &str| Tools { rustc: rustc.into(), bpf_linker: "b".into(), llvm_objcopy: "o".into() };
        let recorded = Manifest { object: manifest::digest(b"x"), tools: tools("1"), inputs: [].into() };
        assert_eq!(verdict(&recorded, b"x", &tools("1")), Verdict::Identical);
        assert_eq!(verdict(&recorded, b"x", &tools("2")), Verdict::Identical);
        assert_eq!(verdict(&recorded, b"y", &tools("1")), Verdict::Differs);
        assert_eq!(verdict(&recorded, b"y", &tools("2")), Verdict::Validate);
        assert_eq!(difference(&tools("1"), &tools("2")), "recorded 1, here 2");
    }
}
