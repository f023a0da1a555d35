//! The Debian package, from a binary that is built already: Debian's own dpkg-deb puts it together.

mod contents;
mod notices;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::dist::has_interpreter;
use crate::process;
use contents::Contents;

/// Builds the package of `binary` into `directory`; where it is. The maintainer is DEBFULLNAME <DEBEMAIL>, as Debian's
/// tools have it.
///
/// # Errors
/// If a file is missing, or a tool of Debian's is, or fails.
pub fn run(root: &Path, binary: &Path, directory: &Path) -> anyhow::Result<PathBuf> {
    if process::find("dpkg-deb").is_none() {
        bail!("no dpkg-deb here: install what Debian calls dpkg");
    }
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    let elf = stripped(binary)?;
    let depends = depends(&elf).with_context(|| binary.display().to_string())?;
    let contents = Contents::gather(root, binary, elf)?;
    let tree = tempfile::tempdir_in(directory).context("a directory for the package's tree")?;
    let size = contents.lay(tree.path())?;

    let architecture = architecture()?;
    let control = read(root, "control")?
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@ARCHITECTURE@", architecture)
        .replace("@MAINTAINER@", &maintainer())
        .replace("@SIZE@", &size.div_ceil(1024).to_string())
        .replace("@DEPENDS@", &depends);
    let scripts = ["postinst", "prerm", "postrm"];
    contents::write(tree.path(), "DEBIAN/control", control.as_bytes(), 0o644)?;
    contents::write(tree.path(), "DEBIAN/conffiles", b"/etc/zcprof/zcprof.toml\n", 0o644)?;
    contents::write(tree.path(), "DEBIAN/md5sums", contents.digests(tree.path())?.as_bytes(), 0o644)?;
    for script in scripts {
        contents::write(tree.path(), &format!("DEBIAN/{script}"), read(root, script)?.as_bytes(), 0o755)?;
    }
    let package = directory.join(format!("zcprof_{}_{architecture}.deb", env!("CARGO_PKG_VERSION")));
    let mut build = Command::new("dpkg-deb");
    process::capture(build.args(["--root-owner-group", "-Zxz", "--build"]).arg(tree.path()).arg(&package))?;
    Ok(package)
}

/// The binary without symbols, which is what a package holds.
fn stripped(binary: &Path) -> anyhow::Result<Vec<u8>> {
    let bare = tempfile::NamedTempFile::new().context("a file for the stripped binary")?;
    process::capture(Command::new("strip").args(["--strip-unneeded", "-o"]).arg(bare.path()).arg(binary))?;
    fs::read(bare.path()).context("the stripped binary")
}

/// A file of packaging/debian.
fn read(root: &Path, name: &str) -> anyhow::Result<String> {
    let path = root.join("packaging/debian").join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Debian's name for the processor that we build for.
fn architecture() -> anyhow::Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("zcprof is not built for {other}"),
    }
}

/// As Debian's tools take it from the environment (devscripts); packages for others should have a real one.
fn maintainer() -> String {
    let get = |name, otherwise: &str| std::env::var(name).unwrap_or_else(|_| otherwise.to_owned());
    format!("{} <{}>", get("DEBFULLNAME", "The zcprof authors"), get("DEBEMAIL", "root@localhost"))
}

/// The control file's line: none for a static binary, else no older C library than the one here.
fn depends(elf: &[u8]) -> anyhow::Result<String> {
    match has_interpreter(elf) {
        None => bail!("not a 64-bit little-endian ELF file"),
        Some(false) => Ok(String::new()),
        Some(true) => {
            let version = process::capture(Command::new("getconf").arg("GNU_LIBC_VERSION"))?;
            let version = version.trim().strip_prefix("glibc ").context("the C library's version")?;
            Ok(format!("Depends: libc6 (>= {version}), libgcc-s1\n"))
        }
    }
}
