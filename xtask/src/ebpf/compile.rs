//! Compiles, links and strips the object, the same bytes wherever it is done.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::stage;
use super::toolchain::Toolchain;
use crate::manifest::Input;
use crate::process;

/// What only concerns how packages are fetched; every other variable of cargo, rustup or rustc could change the object.
const KEPT: &[&str] = &["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_TERM_"];

/// The stripped object, built from `inputs` in `dir`.
pub(super) fn compile(toolchain: &Toolchain, inputs: &[Input], dir: &Path) -> anyhow::Result<Vec<u8>> {
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let dir = dir.canonicalize().with_context(|| dir.display().to_string())?;
    stage::lay(inputs, &dir)?;

    let mut cargo = process::cargo(&dir);
    process::without(&mut cargo, is_foreign);
    cargo.args(["build", "--release", "--locked", "--target", "bpfel-unknown-none", "--package", "zc-ebpf"]);
    cargo.arg("--target-dir").arg(dir.join("target"));
    cargo.env("RUSTC", &toolchain.rustc);
    // The target has no stable standard library; its core comes built with this very compiler.
    cargo.env("RUSTC_BOOTSTRAP", "1");
    cargo.env("LD_LIBRARY_PATH", &toolchain.llvm);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags(toolchain, &dir, &cargo_home()?));
    process::stream(&mut cargo)?;

    let linked = dir.join("target/bpfel-unknown-none/release/zc-ebpf");
    let stripped = linked.with_extension("stripped");
    // Not --strip-unneeded, which takes symbols that the loader relocates by. BTF and BTF.ext stay.
    let mut objcopy = std::process::Command::new(&toolchain.llvm_objcopy);
    process::stream(objcopy.arg("--strip-debug").arg(&linked).arg(&stripped))?;
    fs::read(&stripped).with_context(|| stripped.display().to_string())
}

fn is_foreign(name: &str) -> bool {
    let ours = ["CARGO", "RUSTC", "RUSTFLAGS", "RUSTDOC", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH"];
    ours.iter().any(|prefix| name.starts_with(prefix)) && !KEPT.iter().any(|prefix| name.starts_with(prefix))
}

/// Encoded as cargo wants it, so that a path may contain spaces.
fn flags(toolchain: &Toolchain, dir: &Path, cargo_home: &Path) -> String {
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    [
        format!("-Clinker={}", toolchain.bpf_linker.display()),
        "-Clink-arg=--btf".into(),
        // Jumps on 32-bit halves and atomics that fetch; the linker takes its --cpu from here.
        "-Ctarget-cpu=v3".into(),
        // BTF is made from it.
        "-Cdebuginfo=2".into(),
        remap(dir, "/zcprof"),
        remap(cargo_home, "/cargo"),
    ]
    .join("\u{1f}")
}

fn cargo_home() -> anyhow::Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).context("neither CARGO_HOME nor HOME is set")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_is_shielded_from_its_caller() {
        for name in
            ["CARGO_PROFILE_RELEASE_LTO", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTUP_TOOLCHAIN"]
        {
            assert!(is_foreign(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_HTTP_PROXY", "CARGO_REGISTRIES_X_INDEX", "PATH", "HOME"] {
            assert!(!is_foreign(name), "{name}");
        }
    }
}
