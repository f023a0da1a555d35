//! The textbook's ways of sending a file, end to end: what `zcprof validate --textbook` measures.
//!
//! A way uses several paths. Its file and its socket are given; whoever gives them drains the socket's other end.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::net::TcpStream;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use nix::fcntl::{SpliceFFlags, splice};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::sendfile::sendfile;
use nix::unistd::pipe;

use super::channel::Pair;
use super::files::evict;
use super::memory::Memory;
pub use super::veth::Devices;
use super::{Gate, files, sockets, veth, zerocopy};

/// A way of sending a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// read into a buffer, write the buffer.
    ReadWrite,
    /// Map the file, write the mapping.
    MmapWrite,
    /// sendfile.
    Sendfile,
    /// splice into a pipe, splice out of it.
    Splice,
    /// read into a buffer, send it with MSG_ZEROCOPY. Not the textbook's.
    ReadZerocopy,
    /// Read past the page cache into a buffer; nothing is sent.
    Direct,
}

/// What lies between the sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// The loopback device.
    Loopback,
    /// A pair of virtual devices with scatter-gather.
    Veth,
    /// The same without.
    VethLinear,
    /// Two devices of this host.
    Devices,
}

impl Line {
    /// Two connected sockets, the first of which sends.
    ///
    /// # Errors
    /// If the devices can't be made, which takes root, or are not given.
    pub fn open(self, devices: Option<&Devices>) -> anyhow::Result<Pair> {
        match self {
            Self::Loopback => sockets::tcp("127.0.0.1:0"),
            Self::Veth => veth::tcp(true),
            Self::VethLinear => veth::tcp(false),
            Self::Devices => devices.context("no network devices were given")?.connect(),
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Veth => "veth",
            Self::VethLinear => "veth without scatter-gather",
            Self::Devices => "as given",
        }
    }
}

/// A file of `bytes` in a directory, all on its disk, with the name that ways open it by.
///
/// # Errors
/// If it can't be written.
pub fn file(directory: &Path, bytes: u64) -> anyhow::Result<tempfile::TempPath> {
    let file = tempfile::NamedTempFile::new_in(directory).context("a scratch file")?;
    files::fill(file.as_file(), bytes)?;
    file.as_file().sync_all()?;
    Ok(file.into_temp_path())
}

/// How a way is to be gone.
#[derive(Debug)]
pub struct Request<'a> {
    /// The way.
    pub way: Way,
    /// The file.
    pub file: &'a Path,
    /// Whether the page cache is to have none of it.
    pub cold: bool,
    /// Where to send it.
    pub socket: OwnedFd,
    /// Bytes at a time.
    pub chunk: usize,
}

/// Sends the whole file; returns its bytes and the operations that sent them.
///
/// # Errors
/// If the file can't be read, or the socket not be written.
pub fn run(request: Request<'_>, gate: &mut dyn Gate) -> anyhow::Result<(u64, u64)> {
    let mut options = File::options();
    if request.way == Way::Direct {
        options.custom_flags(libc::O_DIRECT);
    }
    let mut file = options.read(true).open(request.file).context("opening the file")?;
    let length = file.metadata()?.len();
    if request.cold {
        evict(&file)?;
    } else {
        std::io::copy(&mut file, &mut std::io::sink())?;
        file.rewind()?;
    }
    let mut socket = TcpStream::from(request.socket);
    socket.set_nonblocking(false)?;
    if request.way == Way::ReadZerocopy {
        zerocopy::enable(socket.as_fd())?;
    }
    let mut buffer = Memory::user(request.chunk)?;
    let (from, to) = pipe().context("a pipe")?;
    let mut operations = 0;
    gate.ready()?;
    match request.way {
        Way::ReadWrite => loop {
            let n = file.read(buffer.all()?)?;
            if n == 0 {
                break;
            }
            socket.write_all(&buffer.all()?[..n])?;
            operations += 1;
        },
        Way::MmapWrite => operations = map_and_write(&file, length, request.chunk, &mut socket)?,
        Way::Sendfile => {
            let mut left = length;
            while left > 0 {
                let n = sendfile(&socket, &file, None, request.chunk)?;
                ensure!(n > 0, "the file ended early");
                left -= n as u64;
                operations += 1;
            }
        }
        Way::Splice => loop {
            let mut waiting = splice(&file, None, &to, None, request.chunk, SpliceFFlags::empty())?;
            if waiting == 0 {
                break;
            }
            operations += 1;
            while waiting > 0 {
                waiting -= splice(&from, None, &socket, None, waiting, SpliceFFlags::empty())?;
            }
        },
        Way::ReadZerocopy => loop {
            let n = file.read(buffer.all()?)?;
            if n == 0 {
                break;
            }
            // The peer throws away what it gets: nobody minds that the next read writes over pages on their way.
            zerocopy::send_all(socket.as_fd(), &buffer.all()?[..n])?;
            operations += 1;
        },
        Way::Direct => {
            while file.read(buffer.all()?)? > 0 {
                operations += 1;
            }
        }
    }
    gate.done()?;
    Ok((length, operations))
}

fn map_and_write(file: &File, length: u64, chunk: usize, socket: &mut TcpStream) -> anyhow::Result<u64> {
    let whole = NonZeroUsize::new(usize::try_from(length)?).context("an empty file")?;
    // SAFETY: the kernel chooses the place; the file is a scratch file that nobody truncates.
    let start = unsafe { mmap(None, whole, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file, 0) }?;
    // SAFETY: the mapping is that long, can be read, and is unmapped below.
    let mapped = unsafe { std::slice::from_raw_parts(start.as_ptr().cast::<u8>(), whole.get()) };
    let mut operations = 0;
    let mut sent = Ok(());
    for piece in mapped.chunks(chunk) {
        sent = socket.write_all(piece);
        operations += 1;
        if sent.is_err() {
            break;
        }
    }
    // SAFETY: no slice of it is used any more.
    unsafe { munmap(start, whole.get()) }?;
    sent?;
    Ok(operations)
}

/// Lets a child that is about to be started have a socket: the descriptor's number there.
///
/// # Errors
/// If the descriptor is none.
pub fn inherit(socket: &OwnedFd) -> nix::Result<i32> {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    fcntl(socket.as_fd(), FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(socket.as_raw_fd())
}
