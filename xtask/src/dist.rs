//! The release binary as one static file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::{deb, process};

/// The type of a program header that names the dynamic loader (ELF's PT_INTERP).
const INTERPRETER: u32 = 3;

/// Builds it, makes sure that it is static, and says where it is.
pub(crate) fn run(root: &Path) -> anyhow::Result<PathBuf> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let dist = process::target_dir(root).join("dist");
    let mut cargo = process::cargo(root);
    cargo.args(["build", "--release", "--locked", "-p", "zc-userspace", "--target", &target]);
    // With a target named, the flags don't reach build scripts and macros, which can't be static.
    cargo.arg("--target-dir").arg(&dist).env_remove("CARGO_ENCODED_RUSTFLAGS");
    process::stream(cargo.env("RUSTFLAGS", "-C target-feature=+crt-static"))?;

    let built = dist.join(&target).join("release/zcprof");
    let bytes = fs::read(&built).with_context(|| built.display().to_string())?;
    match has_interpreter(&bytes) {
        None => bail!("{}: not a 64-bit little-endian ELF file", built.display()),
        Some(true) => bail!("{} is not static: it names a dynamic loader", built.display()),
        Some(false) => {}
    }
    let binary = dist.join("zcprof");
    fs::copy(&built, &binary).with_context(|| binary.display().to_string())?;
    println!("{}: static, {:.1} MiB", binary.display(), bytes.len() as f64 / f64::from(1 << 20));
    Ok(binary)
}

/// The Debian package of the binary given, or else of the static one, beside it.
pub(crate) fn deb(root: &Path, binary: Option<&Path>, directory: Option<&Path>) -> anyhow::Result<()> {
    let built = if let Some(binary) = binary { binary.to_owned() } else { run(root)? };
    let beside = process::target_dir(root).join("dist");
    deb::run(root, &built, directory.unwrap_or(&beside)).map(|package| println!("{}", package.display()))
}

/// Whether a 64-bit little-endian ELF file has a program header of type PT_INTERP.
pub(crate) fn has_interpreter(elf: &[u8]) -> Option<bool> {
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let bytes = |at: usize, n: usize| elf.get(at..at.checked_add(n)?);
    let half = |at| bytes(at, 2).and_then(|b| Some(usize::from(u16::from_le_bytes(b.try_into().ok()?))));
    let table = usize::try_from(u64::from_le_bytes(bytes(32, 8)?.try_into().ok()?)).ok()?;
    let (size, count) = (half(54)?, half(56)?);
    (0..count).try_fold(false, |found, i| {
        let kind = u32::from_le_bytes(bytes(table.checked_add(i * size)?, 4)?.try_into().ok()?);
        Some(found || kind == INTERPRETER)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(kinds: &[u32]) -> Vec<u8> {
        let mut elf = vec![0; 64 + 56 * kinds.len()];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = u8::try_from(kinds.len()).unwrap();
        for (i, kind) in kinds.iter().enumerate() {
            elf[64 + 56 * i..][..4].copy_from_slice(&kind.to_le_bytes());
        }
        elf
    }

    #[test]
    fn static_files_name_no_loader() {
        assert_eq!(has_interpreter(&elf(&[1, 2, 6])), Some(false));
        assert_eq!(has_interpreter(&elf(&[6, 3, 1])), Some(true));
        assert_eq!(has_interpreter(&elf(&[1, 1])[..100]), None, "cut short");
        assert_eq!(has_interpreter(b"#!/bin/sh"), None);
    }
}
