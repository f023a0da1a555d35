//! Descriptors of every kind, none of which leaves anything behind.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};

/// A nameless file in a directory, with this many bytes in it, opened with these flags too.
pub(crate) fn file(directory: &str, length: usize, flags: i32) -> anyhow::Result<File> {
    let path = Path::new(directory).join(format!("zc-{}-{:?}", std::process::id(), std::thread::current().id()));
    let mut plain = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .with_context(|| path.display().to_string())?;
    plain.write_all(&vec![7; length])?;
    plain.sync_all()?;
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(&path);
    std::fs::remove_file(&path)?;
    file.with_context(|| format!("{} with flags {flags:#o}", path.display()))
}

/// The directory that the test names: on a file system with a block device behind it.
pub(crate) fn disk_directory(arguments: &[String]) -> anyhow::Result<&str> {
    const EXT4: i64 = 0xef53;
    const XFS: i64 = 0x5846_5342;
    let directory = arguments.first().context("the test names a directory")?;
    let name = std::ffi::CString::new(directory.as_str())?;
    // SAFETY: zeroes are a valid statfs, and the name is a C string.
    let (failed, found) = unsafe {
        let mut found: libc::statfs = std::mem::zeroed();
        (libc::statfs(name.as_ptr(), &raw mut found), found.f_type)
    };
    ensure!(failed == 0 && (found == EXT4 || found == XFS), "{directory} must be on ext4 or xfs for this test");
    Ok(directory)
}

/// A directory on tmpfs.
pub(crate) const TMPFS: &str = "/dev/shm";

/// An existing file for reading and writing.
pub(crate) fn device(path: &str) -> anyhow::Result<File> {
    OpenOptions::new().read(true).write(true).open(path).with_context(|| path.to_owned())
}

fn owned(fd: i32) -> anyhow::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error()).context("no descriptor");
    }
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A pipe: reading end, writing end. It holds 256 KiB.
pub(crate) fn pipe() -> anyhow::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
    // SAFETY: no memory is involved.
    let size = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, 256 << 10) };
    ensure!(size >= 256 << 10, "the pipe holds only {size} bytes");
    Ok((reader, writer))
}

/// A connected pair of unix sockets.
pub(crate) fn unix(kind: i32) -> anyhow::Result<(OwnedFd, OwnedFd)> {
    let mut pair = [0; 2];
    // SAFETY: room for two descriptors.
    let failed = unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) };
    ensure!(failed == 0, "socketpair: {}", io::Error::last_os_error());
    Ok((owned(pair[0])?, owned(pair[1])?))
}

/// A connected pair of TCP sockets.
pub(crate) fn tcp() -> anyhow::Result<(OwnedFd, OwnedFd)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    let (other, _) = listener.accept()?;
    one.set_nodelay(true)?;
    Ok((one.into(), other.into()))
}

/// A connected pair of UDP sockets.
pub(crate) fn udp() -> anyhow::Result<(OwnedFd, OwnedFd)> {
    let (one, other) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    one.connect(other.local_addr()?)?;
    other.connect(one.local_addr()?)?;
    Ok((one.into(), other.into()))
}

/// An eventfd.
pub(crate) fn eventfd() -> anyhow::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    owned(unsafe { libc::eventfd(0, 0) })
}

/// A memfd with this many bytes.
pub(crate) fn memfd(length: u64) -> anyhow::Result<File> {
    // SAFETY: the name is a C string.
    let file = File::from(owned(unsafe { libc::memfd_create(c"zc".as_ptr(), 0) })?);
    file.set_len(length)?;
    Ok(file)
}

/// A netlink socket of the routing family.
pub(crate) fn netlink() -> anyhow::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    owned(unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE) })
}
