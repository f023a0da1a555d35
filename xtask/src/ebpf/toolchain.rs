//! The compiler, linker and stripper of the eBPF object, found or installed.
//!
//! Debian's rustc-web comes with a core library already built for bpfel-unknown-none, which stable toolchains have not;
//! bpf-linker is built under target/tools and uses the LLVM of that same compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::debian::{self, Package};
use crate::manifest::Tools;
use crate::stop::Stop;
use crate::{preflight, process};

const RUSTC: &str = "/usr/bin/rustc";
const TARGET: &str = "bpfel-unknown-none";
const BPF_LINKER: &str = "0.10.3";

const RUSTC_PACKAGES: &[Package] = &[
    Package { name: "rustc-web", program: "", why: "the compiler that builds for bpfel-unknown-none" },
    Package { name: "libstd-rust-web-dev-bpf", program: "", why: "its core library for that target" },
];
const LLVM_PACKAGE: Package = Package { name: "llvm", program: "llvm-objcopy", why: "strips the object" };

/// What builds the object.
pub(super) struct Toolchain {
    pub(super) rustc: PathBuf,
    pub(super) bpf_linker: PathBuf,
    pub(super) llvm_objcopy: PathBuf,
    /// A folder with the compiler's LLVM and nothing else: bpf-linker loads the first that it finds.
    pub(super) llvm: PathBuf,
    pub(super) tools: Tools,
}

/// Whether nothing of it would have to be installed.
pub(crate) fn is_complete(root: &Path) -> bool {
    missing_packages().is_empty() && find_bpf_linker(root).is_some()
}

/// Finds it; installs what is missing: bpf-linker under target/tools, and Debian packages if `install`.
pub(super) fn acquire(root: &Path, install: bool) -> anyhow::Result<Toolchain> {
    let missing = missing_packages();
    if !missing.is_empty() {
        let names = debian::names(&missing);
        if !install || !preflight::is_root() {
            return Err(Stop::Cannot(format!(
                "the eBPF object is built with Debian's {names}: as root run `apt-get install {names}`, or this again with --install"
            ))
            .into());
        }
        debian::install(&missing)?;
    }
    let rustc = PathBuf::from(RUSTC);
    let llvm = llvm_folder(root, &rustc)?;
    let bpf_linker = match find_bpf_linker(root) {
        Some(found) => found,
        None => install_bpf_linker(root)?,
    };
    let llvm_objcopy = find_objcopy().context("llvm-objcopy is in no usual place, though its package is installed")?;
    let tools = Tools {
        rustc: format!("{}, {}", version(&rustc, "rustc ")?, llvm_version(&rustc)?),
        bpf_linker: version(&bpf_linker, "bpf-linker ")?,
        llvm_objcopy: version(&llvm_objcopy, "LLVM version ")?,
    };
    Ok(Toolchain { rustc, bpf_linker, llvm_objcopy, llvm, tools })
}

fn missing_packages() -> Vec<&'static Package> {
    let mut missing = Vec::new();
    if !compiles_for_bpf() {
        missing.extend(RUSTC_PACKAGES);
    }
    if find_objcopy().is_none() {
        missing.push(&LLVM_PACKAGE);
    }
    missing
}

fn compiles_for_bpf() -> bool {
    let printed = process::capture(Command::new(RUSTC).args(["--print", "target-libdir", "--target", TARGET]));
    let has_core = |folder: &str| {
        let mut files = fs::read_dir(folder.trim()).into_iter().flatten().flatten();
        files.any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
    };
    printed.is_ok_and(|folder| has_core(&folder))
}

fn find_objcopy() -> Option<PathBuf> {
    process::find("llvm-objcopy").or_else(|| {
        let versions = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
        let llvms =
            versions.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("llvm-")));
        llvms.map(|llvm| llvm.join("bin/llvm-objcopy")).filter(|file| file.is_file()).max()
    })
}

fn find_bpf_linker(root: &Path) -> Option<PathBuf> {
    let wanted = format!("bpf-linker {BPF_LINKER}");
    let ours = installed_bpf_linker(root);
    let candidates = [Some(ours), process::find("bpf-linker")];
    candidates.into_iter().flatten().find(|file| version(file, "bpf-linker ").is_ok_and(|found| found == wanted))
}

fn installed_bpf_linker(root: &Path) -> PathBuf {
    tools_folder(root).join("bin/bpf-linker")
}

fn tools_folder(root: &Path) -> PathBuf {
    process::target_dir(root).join("tools")
}

fn install_bpf_linker(root: &Path) -> anyhow::Result<PathBuf> {
    println!("building bpf-linker {BPF_LINKER} into {}, which takes a minute", tools_folder(root).display());
    let mut cargo = process::cargo(root);
    cargo.args(["install", "bpf-linker", "--locked", "--version", BPF_LINKER, "--root"]).arg(tools_folder(root));
    process::stream(&mut cargo)?;
    Ok(installed_bpf_linker(root))
}

/// A folder whose only file is the LLVM that `rustc` uses, by the version that it tells.
fn llvm_folder(root: &Path, rustc: &Path) -> anyhow::Result<PathBuf> {
    let version = llvm_version(rustc)?;
    let name = library_name(&version).with_context(|| format!("rustc's LLVM: {version}"))?;
    let folders = fs::read_dir("/usr/lib").context("/usr/lib")?.flatten();
    let library = folders.map(|folder| folder.path().join(&name)).find(|file| file.exists());
    let library = library.with_context(|| format!("no /usr/lib/*/{name}, the LLVM of {}", rustc.display()))?;

    let folder = tools_folder(root).join("llvm");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let link = folder.join("libLLVM.so");
    if fs::read_link(&link).ok().as_ref() != Some(&library) {
        // It may be missing, or point to an LLVM that has been removed.
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(&library, &link).with_context(|| link.display().to_string())?;
    }
    folder.canonicalize().with_context(|| folder.display().to_string())
}

/// `LLVM version: 22.1.8` → `libLLVM.so.22.1`, as LLVM has named it since 18.
fn library_name(version: &str) -> Option<String> {
    let mut numbers = version.rsplit(' ').next()?.split('.');
    Some(format!("libLLVM.so.{}.{}", numbers.next()?, numbers.next()?))
}

fn llvm_version(rustc: &Path) -> anyhow::Result<String> {
    line(&process::capture(Command::new(rustc).arg("-vV"))?, "LLVM version: ").context("`rustc -vV` names no LLVM")
}

fn version(program: &Path, word: &str) -> anyhow::Result<String> {
    let said = process::capture(Command::new(program).arg("--version"))?;
    line(&said, word).with_context(|| format!("`{} --version` says {said:?}", program.display()))
}

/// The line that has this word, without the spaces around it.
fn line(text: &str, word: &str) -> Option<String> {
    text.lines().find(|line| line.contains(word)).map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let said = "llvm-objcopy, compatible with GNU objcopy\nDebian LLVM version 14.0.6\n  \n  Optimized build.\n";
        assert_eq!(line(said, "LLVM version ").as_deref(), Some("Debian LLVM version 14.0.6"));
        assert_eq!(line(said, "bpf-linker "), None);
        assert_eq!(library_name("LLVM version: 22.1.8").as_deref(), Some("libLLVM.so.22.1"));
    }
}
