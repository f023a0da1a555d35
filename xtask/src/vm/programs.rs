//! Programs for the guest, with the shared libraries that they need, under the names that they have on the host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::initramfs::Initramfs;
use crate::process;

/// Copies a program of ours without its debug information, and adds the libraries that it needs.
pub(crate) fn strip<W: std::io::Write>(
    archive: &mut Initramfs<W>,
    program: &Path,
    stripped: &Path,
) -> anyhow::Result<()> {
    fs::create_dir_all(stripped.parent().context("a file has a directory")?)?;
    process::capture(Command::new("strip").arg("-o").arg(stripped).arg(program))?;
    libraries(program)?.iter().try_for_each(|library| archive.copy(library, library))
}

/// Puts a program of ours that needs no library onto the disk.
pub(crate) fn place(program: &Path, at: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(at.parent().context("a file has a directory")?)?;
    fs::copy(program, at).with_context(|| program.display().to_string())?;
    Ok(())
}

/// Adds a file that is several programs, depending on the name that it is started by.
pub(crate) fn add_all_in_one<W: std::io::Write>(
    archive: &mut Initramfs<W>,
    file: &Path,
    names: &[&str],
) -> anyhow::Result<()> {
    let place = Path::new("/usr/bin").join(file.file_name().context("a file's name")?);
    archive.copy(file, &place)?;
    let target = place.to_str().context("a path of UTF-8")?;
    names.iter().try_for_each(|name| archive.link(&Path::new("/usr/bin").join(name), target))
}

/// Adds a program of the host by its name, and the libraries that it needs.
pub(crate) fn add<W: std::io::Write>(archive: &mut Initramfs<W>, name: &str) -> anyhow::Result<()> {
    let program = process::find(name).with_context(|| format!("no program {name} on this machine"))?;
    let program = fs::canonicalize(&program)?;
    archive.copy(&program, &Path::new("/usr/bin").join(name))?;
    libraries(&program)?.iter().try_for_each(|library| archive.copy(library, library))
}

/// The files of the libraries that a program needs, its loader included.
fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    Ok(paths(&process::capture(Command::new("ldd").arg(program))?))
}

/// The paths in what ldd prints: `name => path (address)`, or `path (address)`.
fn paths(text: &str) -> Vec<PathBuf> {
    text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/'))).map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found() {
        let text = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\t/lib64/ld-linux.so.2 (0x3)\n";
        assert_eq!(paths(text), [Path::new("/lib/libc.so.6"), Path::new("/lib64/ld-linux.so.2")]);
        assert!(!libraries(Path::new("/bin/sh")).unwrap().is_empty());
    }
}
