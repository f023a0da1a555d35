//! Linux AIO: io_submit, io_getevents, io_pgetevents.

use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::Context as _;
use nix::errno::Errno;

use super::Workload;
use super::calls::{from, into};
use super::drive::{Moved, Stage};
use super::fixture::End;
use super::fixture::Fixture::{self, Disk, File, Mapping, Pipe, Tcp, User};

// include/uapi/linux/aio_abi.h, v6.1.
const PREAD: u16 = 0;
const PWRITE: u16 = 1;
const PREADV: u16 = 7;
const PWRITEV: u16 = 8;

/// `struct iocb` (include/uapi/linux/aio_abi.h, v6.1), little-endian.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Iocb {
    data: u64,
    key: u32,
    flags: u32,
    operation: u16,
    priority: i16,
    fd: i32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    more_flags: u32,
    event: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Event {
    data: u64,
    iocb: u64,
    result: i64,
    second: i64,
}

/// A context of AIO, and what its requests need.
pub(super) struct Context {
    id: libc::c_ulong,
    depth: usize,
    iocbs: Vec<Iocb>,
    addresses: Vec<*mut Iocb>,
    events: Vec<Event>,
    segments: Vec<[libc::iovec; 3]>,
}

impl Context {
    /// A context for so many requests at once.
    pub(super) fn open(depth: usize) -> anyhow::Result<Self> {
        let mut id: libc::c_ulong = 0;
        // SAFETY: the call writes the context's id.
        let made = unsafe { libc::syscall(libc::SYS_io_setup, depth, &raw mut id) };
        Errno::result(made).context("io_setup")?;
        let none = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Ok(Self {
            id,
            depth,
            iocbs: vec![Iocb::default(); depth],
            addresses: Vec::with_capacity(depth),
            events: vec![Event::default(); depth],
            segments: vec![[none; 3]; depth],
        })
    }

    /// Submits the first iocbs and reaps their events.
    fn run(&mut self, count: usize, reap: Reap) -> nix::Result<Moved> {
        self.addresses.clear();
        self.addresses.extend(self.iocbs.iter_mut().take(count).map(std::ptr::from_mut));
        // SAFETY: the iocbs, and the buffers and segments that they point to, outlive the requests: all are awaited.
        let submitted = unsafe { libc::syscall(libc::SYS_io_submit, self.id, count, self.addresses.as_mut_ptr()) };
        let submitted = usize::try_from(Errno::result(submitted)?).unwrap_or(0);
        let (mut moved, mut failure, mut done) = (Moved { operations: 0, ..0.into() }, None, 0);
        while done < submitted {
            let left = submitted - done;
            let none = std::ptr::null_mut::<libc::c_void>();
            // SAFETY: the events have room for as many as are asked for.
            let reaped = unsafe { libc::syscall(reap.call(), self.id, 1, left, self.events.as_mut_ptr(), none, none) };
            let reaped = match Errno::result(reaped) {
                Err(Errno::EINTR) => continue,
                reaped => usize::try_from(reaped?).unwrap_or(0),
            };
            for event in &self.events[..reaped] {
                match usize::try_from(event.result) {
                    Ok(0) => {}
                    Ok(bytes) => {
                        moved.counted += bytes;
                        moved.taken += bytes;
                        moved.operations += 1;
                    }
                    Err(_) => failure = Some(Errno::from_raw(i32::try_from(-event.result).unwrap_or(libc::EIO))),
                }
            }
            done += reaped;
        }
        match failure {
            Some(errno) if moved.operations == 0 || errno != Errno::EAGAIN => Err(errno),
            _ => Ok(moved),
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: nothing is in flight.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.id) };
    }
}

/// Which call reaps.
#[derive(Clone, Copy)]
enum Reap {
    Getevents,
    Pgetevents,
}

impl Reap {
    fn call(self) -> libc::c_long {
        /// arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h, v6.1.
        const IO_PGETEVENTS: libc::c_long = if cfg!(target_arch = "x86_64") { 333 } else { 292 };
        match self {
            Self::Getevents => libc::SYS_io_getevents,
            Self::Pgetevents => IO_PGETEVENTS,
        }
    }
}

fn requests(stage: &mut Stage, len: usize, vectored: bool, reap: Reap) -> nix::Result<Moved> {
    let inwards = matches!(stage.sink, End::Memory(_));
    let ((End::Channel(channel), memory @ End::Memory(_)) | (memory @ End::Memory(_), End::Channel(channel))) =
        (&mut stage.source, &mut stage.sink)
    else {
        return Err(Errno::EBADF);
    };
    let context = stage.aio.as_mut().ok_or(Errno::ENOENT)?;
    let unit = usize::try_from(stage.unit).unwrap_or(1);
    let each = len.div_ceil(context.depth).next_multiple_of(unit);
    let mut count = 0;
    for (part, buffer) in memory.bytes(len)?.chunks_mut(each).enumerate() {
        let offset = if channel.is_file() { channel.at + (part * each) as u64 } else { 0 };
        let (operation, at, bytes) = if vectored {
            let segments = &mut context.segments[part];
            *segments = if inwards {
                into(buffer).map(|mut one| libc::iovec { iov_base: one.as_mut_ptr().cast(), iov_len: one.len() })
            } else {
                from(buffer).map(|one| libc::iovec { iov_base: one.as_ptr().cast_mut().cast(), iov_len: one.len() })
            };
            (if inwards { PREADV } else { PWRITEV }, segments.as_ptr() as u64, segments.len() as u64)
        } else {
            (if inwards { PREAD } else { PWRITE }, buffer.as_ptr() as u64, buffer.len() as u64)
        };
        context.iocbs[part] = Iocb {
            operation,
            fd: channel.fd.as_fd().as_raw_fd(),
            buffer: at,
            bytes,
            offset: offset.cast_signed(),
            ..Iocb::default()
        };
        count += 1;
    }
    context.run(count, reap)
}

fn plain(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    requests(stage, len, false, Reap::Getevents)
}

fn vector(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    requests(stage, len, true, Reap::Getevents)
}

fn pgetevents(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    requests(stage, len, false, Reap::Pgetevents)
}

const fn new(id: &'static str, source: Fixture, sink: Fixture, mover: super::Mover, about: &'static str) -> Workload {
    Workload::new(id, source, sink, mover, about).aio(1)
}

/// One for each row.
pub(super) const MAIN: &[Workload] = &[
    new("aio:file:user", File, User, plain, "AIO read of a file through the page cache"),
    new("aio:disk:user", Disk, User, plain, "AIO read of a file with O_DIRECT"),
    new("aio:tcp:user", Tcp, User, plain, "AIO read from a TCP socket"),
    new("aio:pipe:user", Pipe, User, plain, "AIO read of a pipe"),
    new("aio:file:mapping", File, Mapping, plain, "AIO read of a file into a mapping of another"),
    new("aio:disk:mapping", Disk, Mapping, plain, "AIO read of a file with O_DIRECT into a mapping of another"),
    new("aio:user:file", User, File, plain, "AIO write of a file through the page cache"),
    new("aio:user:disk", User, Disk, plain, "AIO write of a file with O_DIRECT"),
    new("aio:user:tcp", User, Tcp, plain, "AIO write to a TCP socket"),
    new("aio:user:pipe", User, Pipe, plain, "AIO write to a pipe"),
    new("aio:mapping:file", Mapping, File, plain, "AIO write of a file from a mapping of another"),
    new("aio:mapping:disk", Mapping, Disk, plain, "AIO write of a file with O_DIRECT from a mapping of another"),
];

/// Vectors, depths and the other call that reaps.
pub(super) const VARIANTS: &[Workload] = &[
    new("aio:file:user", File, User, vector, "a vector").variant("vector"),
    new("aio:file:user", File, User, plain, "128 requests at once").variant("depth-128").aio(128),
    new("aio:file:user", File, User, pgetevents, "reaped by io_pgetevents").variant("pgetevents"),
    new("aio:disk:user", Disk, User, vector, "a vector").variant("vector"),
    new("aio:disk:user", Disk, User, plain, "8 requests at once").variant("depth-8").aio(8),
    new("aio:disk:user", Disk, User, plain, "128 requests at once").variant("depth-128").aio(128),
    new("aio:disk:user", Disk, User, pgetevents, "8 at once, reaped by io_pgetevents").variant("pgetevents").aio(8),
    new("aio:user:disk", User, Disk, plain, "8 requests at once").variant("depth-8").aio(8),
    new("aio:user:disk", User, Disk, plain, "128 requests at once").variant("depth-128").aio(128),
    new("aio:user:file", User, File, vector, "a vector").variant("vector"),
];
