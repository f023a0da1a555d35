//! Reflinks: two files that share blocks, on a file system that can, made in a scratch file if need be.
//!
//! The file system is mounted without a place in the tree (fsmount) from a loop device that clears itself: both are
//! gone when their descriptors are closed, however the process ends, and no other process sees them.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::fcntl::{self, OFlag, openat};
use nix::sys::stat::Mode;

use super::Workload;
use super::drive::{Moved, Stage};
use super::files::{self, Name};
use super::fixture::Fixture::{Reflinked, ReflinkedBlocks};

/// mkfs.xfs makes none smaller than 300 MiB, mkfs.btrfs none smaller than about 110 MiB. The image is sparse.
const IMAGE: u64 = 512 << 20;
/// Who takes part in the race for a free loop device tries again as often.
const ATTEMPTS: u32 = 50;
const MAKERS: [(&CStr, &str, &[&str]); 2] =
    [(c"xfs", "mkfs.xfs", &["-q", "-m", "reflink=1"]), (c"btrfs", "mkfs.btrfs", &["-q"])];

fn ficlone(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let (from, to) = (stage.source.fd()?.as_raw_fd(), stage.sink.fd()?.as_raw_fd());
    // SAFETY: FICLONE takes a descriptor, and the stage holds both.
    Errno::result(unsafe { libc::ioctl(to, libc::FICLONE as _, from) })?;
    Ok(len.into())
}

fn ficlonerange(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let (from, to) = (stage.source.fd()?.as_raw_fd(), stage.sink.fd()?.as_raw_fd());
    let range =
        libc::file_clone_range { src_fd: i64::from(from), src_offset: 0, src_length: len as u64, dest_offset: 0 };
    // SAFETY: FICLONERANGE takes a pointer to this structure, which outlives the call.
    Errno::result(unsafe { libc::ioctl(to, libc::FICLONERANGE as _, &raw const range) })?;
    Ok(len.into())
}

fn copy_file_range(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    Ok(fcntl::copy_file_range(stage.source.fd()?, None, stage.sink.fd()?, None, len)?.into())
}

/// The one row.
pub(super) const MAIN: &[Workload] =
    &[Workload::new("reflink:file:file", Reflinked, Reflinked, ficlone, "clone a file with FICLONE")];

/// The other calls that share blocks.
pub(super) const VARIANTS: &[Workload] = &[
    Workload::new("reflink:file:file", Reflinked, Reflinked, ficlonerange, "FICLONERANGE").variant("ficlonerange"),
    Workload::new("reflink:file:file", ReflinkedBlocks, ReflinkedBlocks, copy_file_range, "copy_file_range")
        .variant("copy_file_range"),
];

/// A place for files that share blocks.
pub(super) struct Shared(Place);

enum Place {
    /// The scratch directory itself is on such a file system.
    Directory(PathBuf),
    /// The root of a file system mounted nowhere. It keeps its loop device.
    Mount(OwnedFd),
}

impl Shared {
    /// Finds or makes one.
    pub(super) fn open(directory: &Path) -> anyhow::Result<Self> {
        if shares_blocks(directory) {
            return Ok(Self(Place::Directory(directory.to_owned())));
        }
        let image = Name::new(directory);
        let file = files::create(&image.0)?;
        file.set_len(IMAGE).context("making room for a file system")?;
        let kind = format_image(&image.0)?;
        let (device, node) = attach(&file, directory)?;
        let mounted = mount(kind, &node.path())
            .with_context(|| format!("mounting {} from a loop device", kind.to_string_lossy()))?;
        // From here on the mount holds the device, and the device the image.
        drop(device);
        Ok(Self(Place::Mount(mounted)))
    }

    /// A file of `length` bytes, already on its disk and unlinked.
    pub(super) fn file(&self, length: u64) -> anyhow::Result<File> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let file = match &self.0 {
            Place::Directory(directory) => files::scratch(directory, length)?,
            Place::Mount(root) => {
                let name = format!("file-{}", NEXT.fetch_add(1, Ordering::Relaxed));
                let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
                let file = File::from(openat(root, name.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
                files::fill(&file, length)?;
                file
            }
        };
        file.sync_all()?;
        Ok(file)
    }

    /// Why there can be none.
    pub(super) fn unavailable(directory: &Path) -> Option<String> {
        if shares_blocks(directory) {
            return None;
        }
        if maker().is_none() {
            return Some(
                "needs mkfs.xfs (package xfsprogs) or mkfs.btrfs (package btrfs-progs) and root to mount a loop device"
                    .to_owned(),
            );
        }
        // Trying is the only sure way: it takes a kernel with the file system and the privilege to mount it.
        Self::open(directory).err().map(|error| format!("can't mount a file system from a loop device: {error:#}"))
    }
}

/// Whether files of the directory can share blocks.
pub(super) fn shares_blocks(directory: &Path) -> bool {
    let attempt = || -> anyhow::Result<()> {
        let (from, to) = (files::scratch(directory, 4096)?, files::scratch(directory, 0)?);
        // SAFETY: FICLONE takes a descriptor, and both are held.
        Errno::result(unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE as _, from.as_raw_fd()) })?;
        Ok(())
    };
    attempt().is_ok()
}

/// A program that makes a file system, where the paths of root's programs have one.
fn maker() -> Option<(PathBuf, &'static CStr, &'static [&'static str])> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> =
        std::env::split_paths(&paths).chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from)).collect();
    MAKERS.iter().find_map(|&(kind, program, arguments)| {
        let program = places.iter().map(|place| place.join(program)).find(|program| program.is_file())?;
        Some((program, kind, arguments))
    })
}

fn format_image(image: &Path) -> anyhow::Result<&'static CStr> {
    let (program, kind, arguments) = maker().context("neither mkfs.xfs nor mkfs.btrfs is installed")?;
    let output = Command::new(&program)
        .args(arguments)
        .arg(image)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {}", program.display()))?;
    if !output.status.success() {
        bail!("{} failed: {}", program.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(kind)
}

/// A loop device's node: the usual one, or one of our own where /dev has none.
enum Node {
    Usual(PathBuf),
    Own(Name),
}

impl Node {
    fn find(number: u32, directory: &Path) -> anyhow::Result<Self> {
        let usual = PathBuf::from(format!("/dev/loop{number}"));
        if usual.exists() {
            return Ok(Self::Usual(usual));
        }
        let own = Name::new(directory);
        let device = nix::sys::stat::makedev(7, u64::from(number));
        nix::sys::stat::mknod(&own.0, nix::sys::stat::SFlag::S_IFBLK, Mode::S_IRUSR | Mode::S_IWUSR, device)
            .context("making a loop device's node")?;
        Ok(Self::Own(own))
    }

    fn path(&self) -> PathBuf {
        match self {
            Self::Usual(path) | Self::Own(Name(path)) => path.clone(),
        }
    }
}

/// `struct loop_info64` and `struct loop_config` (include/uapi/linux/loop.h).
#[repr(C)]
struct LoopInfo {
    device: [u64; 5],
    number: u32,
    encryption: [u32; 2],
    flags: u32,
    names_and_key: [u8; 160],
    init: [u64; 2],
}

#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// Puts the image behind a free loop device, which frees itself when the last descriptor is closed.
fn attach(image: &File, directory: &Path) -> anyhow::Result<(File, Node)> {
    let control =
        File::options().read(true).write(true).open("/dev/loop-control").context("opening /dev/loop-control")?;
    let info = LoopInfo {
        device: [0; 5],
        number: 0,
        encryption: [0; 2],
        flags: LO_FLAGS_AUTOCLEAR,
        names_and_key: [0; 160],
        init: [0; 2],
    };
    let config = LoopConfig { fd: image.as_raw_fd().cast_unsigned(), block_size: 0, info, reserved: [0; 8] };
    for attempt in 0..ATTEMPTS {
        // SAFETY: the request takes no argument.
        let number = Errno::result(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) })
            .context("asking for a free loop device")?;
        let node = Node::find(number.cast_unsigned(), directory)?;
        let device = File::options().read(true).write(true).open(node.path()).context("opening a loop device")?;
        // SAFETY: the request takes a pointer to this structure, laid out as the kernel's, which outlives the call.
        let configured = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) };
        match Errno::result(configured) {
            Ok(_) => return Ok((device, node)),
            // Another process was faster.
            Err(Errno::EBUSY) => sleep(Duration::from_millis(u64::from(attempt % 7) + 1)),
            Err(errno) => return Err(errno).context("setting up a loop device"),
        }
    }
    bail!("no free loop device after {ATTEMPTS} attempts")
}

/// Mounts it without a place in the tree.
fn mount(kind: &CStr, device: &Path) -> anyhow::Result<OwnedFd> {
    const FSCONFIG_SET_STRING: libc::c_uint = 1;
    const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
    let device = CString::new(device.as_os_str().as_bytes())?;
    let null = std::ptr::null::<libc::c_char>();
    // SAFETY: the strings end in NUL and outlive the calls, which keep no pointer to them.
    unsafe {
        let context = descriptor(libc::syscall(libc::SYS_fsopen, kind.as_ptr(), 1)).context("fsopen")?;
        let set = |command: libc::c_uint, key: *const libc::c_char, value: *const libc::c_char| {
            Errno::result(libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, value, 0))
        };
        set(FSCONFIG_SET_STRING, c"source".as_ptr(), device.as_ptr()).context("fsconfig: source")?;
        set(FSCONFIG_CMD_CREATE, null, null).context("fsconfig: create")?;
        descriptor(libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 1, 0)).context("fsmount")
    }
}

/// # Safety
/// A value that is not negative must be a descriptor that nobody else owns.
unsafe fn descriptor(value: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = i32::try_from(Errno::result(value)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: as the caller promises.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
