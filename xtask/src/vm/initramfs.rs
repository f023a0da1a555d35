//! The guest's first file system: a cpio archive in the kernel's "newc" format
//! (Documentation/driver-api/early-userspace/buffer-format.rst, v6.1).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

/// An archive that is being written.
pub(crate) struct Initramfs<W: Write> {
    out: W,
    number: u32,
    /// What is in it already, so that nothing is there twice.
    paths: BTreeSet<PathBuf>,
}

impl Initramfs<BufWriter<File>> {
    /// A new one, in a file.
    pub(crate) fn create(file: &Path) -> anyhow::Result<Self> {
        Ok(Self::new(BufWriter::new(File::create(file).with_context(|| file.display().to_string())?)))
    }
}

impl<W: Write> Initramfs<W> {
    fn new(out: W) -> Self {
        Self { out, number: 0, paths: BTreeSet::new() }
    }

    /// Adds a file of the host, under any name.
    pub(crate) fn copy(&mut self, host: &Path, guest: &Path) -> anyhow::Result<()> {
        let content = fs::read(host).with_context(|| host.display().to_string())?;
        self.file(guest, &content)
    }

    /// Adds a file that may be executed.
    pub(crate) fn file(&mut self, path: &Path, content: &[u8]) -> anyhow::Result<()> {
        self.entry(path, PROGRAM, content)
    }

    /// Adds an empty directory.
    pub(crate) fn directory(&mut self, path: &Path) -> anyhow::Result<()> {
        self.entry(path, DIRECTORY, &[])
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: &Path, target: &str) -> anyhow::Result<()> {
        self.entry(path, LINK, target.as_bytes())
    }

    /// Whether a path is there.
    pub(crate) fn has(&self, path: &Path) -> bool {
        self.paths.contains(path)
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> anyhow::Result<W> {
        self.record("TRAILER!!!", 0, &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) -> anyhow::Result<()> {
        if let Some(parent) = path.parent().filter(|parent| parent.parent().is_some() && !self.has(parent)) {
            self.entry(parent, DIRECTORY, &[])?;
        }
        if !self.paths.insert(path.to_owned()) {
            return Ok(());
        }
        let name = path.to_str().context("a path of UTF-8")?.trim_start_matches('/').to_owned();
        self.record(&name, mode, content)
    }

    /// Header, name and content, each filled up to four bytes.
    fn record(&mut self, name: &str, mode: u32, content: &[u8]) -> anyhow::Result<()> {
        self.number += 1;
        let size = u32::try_from(content.len())?;
        let name_size = u32::try_from(name.len())? + 1;
        // inode, mode, uid, gid, links, time, size, device (2), special device (2), length of the name, checksum.
        let fields = [self.number, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        let mut head = "070701".to_owned();
        head.extend(fields.map(|field| format!("{field:08x}")));
        head += name;
        head.push('\0');
        for part in [head.as_bytes(), content] {
            self.out.write_all(part)?;
            self.out.write_all(&[0; 3][..part.len().next_multiple_of(4) - part.len()])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_before_what_is_in_them_and_nothing_is_there_twice() {
        let mut archive = Initramfs::new(Vec::new());
        archive.file(Path::new("/a/b/c"), b"hello").unwrap();
        archive.file(Path::new("/a/b/c"), b"again").unwrap();
        archive.link(Path::new("/a/l"), "b").unwrap();
        let bytes = archive.finish().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let places: Vec<_> = ["a\0", "a/b\0", "a/b/c\0", "hello", "a/l\0", "TRAILER!!!\0"]
            .iter()
            .map(|name| text.find(name).unwrap_or_else(|| panic!("no {name:?}")))
            .collect();
        assert!(places.is_sorted(), "{places:?}");
        assert!(!text.contains("again"));
        assert_eq!(bytes.len() % 4, 0);
    }
}
