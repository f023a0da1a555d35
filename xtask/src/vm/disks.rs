//! The guest's disks: sparse files with a fresh file system each.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::plan::Mount;
use crate::debian::Package;
use crate::process;

/// A disk of the guest.
pub(crate) struct Disk {
    /// Its file system, which also names its file.
    pub(crate) kind: &'static str,
    bytes: u64,
    maker: &'static str,
    arguments: &'static [&'static str],
}

/// Every disk, in the order in which the guest finds them.
pub(crate) const DISKS: [Disk; 2] = [
    Disk { kind: "ext4", bytes: 2 << 30, maker: "mkfs.ext4", arguments: &["-q", "-E", "lazy_itable_init=0"] },
    Disk { kind: "xfs", bytes: 512 << 20, maker: "mkfs.xfs", arguments: &["-q", "-m", "reflink=1"] },
];

/// What makes them.
pub(crate) const MAKERS: [Package; 2] = [
    Package { name: "e2fsprogs", program: "mkfs.ext4", why: "the virtual machines' ext4 disk" },
    Package { name: "xfsprogs", program: "mkfs.xfs", why: "the virtual machines' disk that reflinks" },
];

/// Makes them in a directory; the first holds what lies in `content`.
pub(crate) fn make(directory: &Path, content: &Path) -> anyhow::Result<Vec<(&'static Disk, PathBuf)>> {
    let mut made = Vec::new();
    for disk in &DISKS {
        let path = directory.join(format!("{}.img", disk.kind));
        let file = File::create(&path).with_context(|| path.display().to_string())?;
        file.set_len(disk.bytes).context("making room for a disk")?;
        let maker = process::find(disk.maker).with_context(|| format!("no {} here", disk.maker))?;
        let mut maker = Command::new(maker);
        maker.args(disk.arguments);
        if disk.kind == "ext4" {
            maker.arg("-d").arg(content);
        }
        process::capture(maker.arg(&path))?;
        made.push((disk, path));
    }
    Ok(made)
}

/// Where the guest mounts them: the first where the host has what cargo builds.
pub(crate) fn mounts(target: &Path) -> Vec<Mount> {
    let directory = |at: usize| if at == 0 { target.display().to_string() } else { "/disk".to_owned() };
    let mount = |(at, disk): (usize, &Disk)| Mount {
        serial: disk.kind.to_owned(),
        kind: disk.kind.to_owned(),
        directory: directory(at),
    };
    DISKS.iter().enumerate().map(mount).collect()
}
