//! io_uring: every operation that moves bytes, in every way of submitting it.

use std::os::fd::AsFd as _;
use std::path::Path;

use io_uring::squeue::{Entry, Flags};
use io_uring::{opcode, types};
use nix::errno::Errno;
use nix::unistd;
use zc_common::path::Condition::{NullSink, NullSource, Peek};

use super::Workload;
use super::calls::{from, into};
use super::drive::{Moved, Stage};
use super::fixture::Fixture::{
    Disk, File, Mapping, Netlink, Null, Pipe, Tcp, Tmpfs, Udp, Unix, Urandom, User, UserPrivate, Zero,
};
use super::fixture::{End, Fixture};
use super::ring::{self, GROUP, Header, NOTIFIES, Plan, Provided, Ring, fd};

/// What one request of a batch is about.
struct Part {
    fd: types::Fd,
    buffer: *mut u8,
    len: usize,
    /// Where in the file.
    at: u64,
    header: *mut Header,
}

impl Part {
    fn len(&self) -> u32 {
        u32::try_from(self.len).unwrap_or(u32::MAX)
    }
}

/// Divides an operation of `len` bytes into requests, makes and runs them.
fn requests(stage: &mut Stage, len: usize, make: fn(&Part) -> Entry) -> nix::Result<Moved> {
    let parts = parts(stage, len)?;
    let ring = stage.ring.as_mut().ok_or(Errno::ENOENT)?;
    moved(ring.run(parts.iter().map(make).collect())?)
}

fn parts(stage: &mut Stage, len: usize) -> nix::Result<Vec<Part>> {
    let (fd, at) = match (&stage.source, &stage.sink) {
        (End::Channel(channel), End::Memory(_)) | (End::Memory(_), End::Channel(channel)) => {
            // Sockets refuse any position but 0.
            (fd(channel.fd.as_fd()), if channel.is_file() { channel.at } else { 0 })
        }
        _ => return Err(Errno::EBADF),
    };
    let memory = if matches!(stage.source, End::Memory(_)) { &mut stage.source } else { &mut stage.sink };
    let buffer = memory.bytes(len)?.as_mut_ptr();
    let ring = stage.ring.as_mut().ok_or(Errno::ENOENT)?;
    let unit = usize::try_from(stage.unit).unwrap_or(1);
    let each = len.div_ceil(ring.plan.depth).next_multiple_of(unit);
    let parts = ring.headers.iter_mut().enumerate().filter_map(|(i, header)| {
        let start = i * each;
        let len = len.saturating_sub(start).min(each);
        // `wrapping_add` stays within the buffer: the part is not empty.
        let buffer = buffer.wrapping_add(start);
        (len > 0).then(|| Part { fd, buffer, len, at: at + start as u64, header: std::ptr::from_mut(header) })
    });
    Ok(parts.collect())
}

fn moved(batch: ring::Batch) -> nix::Result<Moved> {
    match batch.failure {
        Some(errno) if batch.operations == 0 || !matches!(errno, Errno::EAGAIN | Errno::EINTR) => Err(errno),
        _ => Ok(Moved { operations: batch.operations as u64, ..batch.bytes.into() }),
    }
}

fn read(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    requests(stage, len, |part| opcode::Read::new(part.fd, part.buffer, part.len()).offset(part.at).build())
}

fn write(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    requests(stage, len, |part| opcode::Write::new(part.fd, part.buffer, part.len()).offset(part.at).build())
}

fn recv(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    requests(stage, len, |part| opcode::Recv::new(part.fd, part.buffer, part.len()).build())
}

pub(super) fn send(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    requests(stage, len, |part| opcode::Send::new(part.fd, part.buffer, part.len()).build())
}

/// Cuts a part's buffer into segments, one of them empty.
fn segments(part: &Part, inwards: bool) -> (*const libc::iovec, usize) {
    // SAFETY: the buffer is the part's alone, and the header the request's.
    let (buffer, header) = unsafe { (std::slice::from_raw_parts_mut(part.buffer, part.len), &mut *part.header) };
    if inwards {
        let cut = into(buffer);
        header.segments = cut.map(|mut one| libc::iovec { iov_base: one.as_mut_ptr().cast(), iov_len: one.len() });
    } else {
        let cut = from(buffer);
        header.segments = cut.map(|one| libc::iovec { iov_base: one.as_ptr().cast_mut().cast(), iov_len: one.len() });
    }
    header.message.msg_iov = header.segments.as_mut_ptr();
    // Its type is not the same in every C library.
    header.message.msg_iovlen = header.segments.len() as _;
    (header.segments.as_ptr(), header.segments.len())
}

fn message(part: &Part, inwards: bool) -> *mut libc::msghdr {
    segments(part, inwards);
    // SAFETY: the header is the request's.
    unsafe { &raw mut (*part.header).message }
}

fn readv(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    requests(stage, len, |part| {
        let (segments, count) = segments(part, true);
        opcode::Readv::new(part.fd, segments, u32::try_from(count).unwrap_or(0)).offset(part.at).build()
    })
}

fn writev(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    requests(stage, len, |part| {
        let (segments, count) = segments(part, false);
        opcode::Writev::new(part.fd, segments, u32::try_from(count).unwrap_or(0)).offset(part.at).build()
    })
}

fn recvmsg(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    requests(stage, len, |part| opcode::RecvMsg::new(part.fd, message(part, true)).build())
}

fn sendmsg(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    requests(stage, len, |part| opcode::SendMsg::new(part.fd, message(part, false)).build())
}

fn read_fixed(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    requests(stage, len, |part| opcode::ReadFixed::new(part.fd, part.buffer, part.len(), 0).offset(part.at).build())
}

fn write_fixed(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    requests(stage, len, |part| opcode::WriteFixed::new(part.fd, part.buffer, part.len(), 0).offset(part.at).build())
}

fn send_zc(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    requests(stage, len, |part| opcode::SendZc::new(part.fd, part.buffer, part.len()).build().user_data(NOTIFIES))
}

fn send_zc_fixed(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    requests(stage, len, |part| {
        opcode::SendZc::new(part.fd, part.buffer, part.len()).buf_index(Some(0)).build().user_data(NOTIFIES)
    })
}

fn sendmsg_zc(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    requests(stage, len, |part| opcode::SendMsgZc::new(part.fd, message(part, false)).build().user_data(NOTIFIES))
}

/// Peeks, and then takes what was peeked at by a plain read: another mechanism's path.
fn peek(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let flags = libc::MSG_PEEK;
    let parts = parts(stage, len)?;
    let entry = parts.first().map(|part| opcode::Recv::new(part.fd, part.buffer, part.len()).flags(flags).build());
    let ring = stage.ring.as_mut().ok_or(Errno::ENOENT)?;
    let peeked = moved(ring.run_one(entry.ok_or(Errno::EINVAL)?)?)?;
    let mut taken = 0;
    while taken < peeked.counted {
        taken += unistd::read(stage.source.fd()?, stage.second.bytes(peeked.counted - taken)?)?;
    }
    Ok(peeked)
}

/// Provides one buffer, and has the request take it.
fn with_provided(stage: &mut Stage, len: usize, make: fn(&Part) -> Entry) -> nix::Result<Moved> {
    let parts = parts(stage, len)?;
    let part = parts.first().ok_or(Errno::EINVAL)?;
    let ring = stage.ring.as_mut().ok_or(Errno::ENOENT)?;
    // A request that found nothing has left its buffer where it was.
    if !stage.provided {
        ring.provide(part.buffer, part.len)?;
    }
    let batch = ring.run_one(make(part).flags(Flags::BUFFER_SELECT));
    stage.provided = !batch.is_ok_and(|batch| batch.operations > 0);
    moved(batch?)
}

fn read_provided(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    with_provided(stage, len, |part| {
        opcode::Read::new(part.fd, std::ptr::null_mut(), part.len()).offset(part.at).buf_group(GROUP).build()
    })
}

fn recv_provided(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    with_provided(stage, len, |part| {
        opcode::Recv::new(part.fd, std::ptr::null_mut(), part.len()).buf_group(GROUP).build()
    })
}

/// A multishot receive: of a datagram that waits, and then of none for lack of buffers, which ends it.
fn recv_multishot(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let parts = parts(stage, len)?;
    let part = parts.first().ok_or(Errno::EINVAL)?;
    let ring = stage.ring.as_mut().ok_or(Errno::ENOENT)?;
    ring.provide(part.buffer, part.len)?;
    let batch = ring.run_one(opcode::RecvMulti::new(part.fd, GROUP).build())?;
    // The end of it: ENOBUFS, or EAGAIN from a socket that does not wait.
    if batch.operations == 0 {
        return Err(batch.failure.unwrap_or(Errno::EAGAIN));
    }
    Ok(Moved { operations: batch.operations as u64, ..batch.bytes.into() })
}

fn splice(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let entry = opcode::Splice::new(
        fd(stage.source.fd()?),
        splice_offset(&stage.source),
        fd(stage.sink.fd()?),
        splice_offset(&stage.sink),
        u32::try_from(len).unwrap_or(u32::MAX),
    )
    .build();
    let ring = stage.ring.as_mut().ok_or(Errno::ENOENT)?;
    moved(ring.run(vec![entry])?)
}

/// Files have positions, sockets and pipes none.
fn splice_offset(end: &End) -> i64 {
    end.channel().map_or(-1, |channel| if channel.is_file() { channel.at.cast_signed() } else { -1 })
}

/// What is duplicated stays in the first pipe, whence a plain read takes it.
fn tee(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    let entry = opcode::Tee::new(fd(stage.source.fd()?), fd(stage.sink.fd()?), len).build();
    let ring = stage.ring.as_mut().ok_or(Errno::ENOENT)?;
    let moved = moved(ring.run(vec![entry])?)?;
    let mut taken = 0;
    while taken < moved.counted {
        taken += unistd::read(stage.source.fd()?, stage.second.bytes(moved.counted - taken)?)?;
    }
    Ok(moved)
}

const fn new(id: &'static str, source: Fixture, sink: Fixture, mover: super::Mover, about: &'static str) -> Workload {
    Workload::new(id, source, sink, mover, about).ring(Plan::PLAIN).needs(needs)
}

pub(super) fn needs(_: &Path) -> Option<String> {
    ring::unavailable()
}

const fn depth(depth: usize) -> Plan {
    Plan { depth, ..Plan::PLAIN }
}

const ASYNC: Plan = Plan { asynchronous: true, ..depth(8) };
const POLLED: Plan = Plan { polled: true, ..depth(8) };
const LINKED: Plan = Plan { linked: true, ..depth(8) };
const DEFERRED: Plan = Plan { deferred: true, ..depth(8) };
const THREADS: Plan = Plan { threads: 8, ..depth(64) };
const RING: Plan = Plan { provided: Provided::Ring, ..Plan::PLAIN };
const REQUESTS: Plan = Plan { provided: Provided::Requests, ..Plan::PLAIN };

/// One for each row.
pub(super) const MAIN: &[Workload] = &[
    new("io_uring:file:user", File, User, read, "READ of a file through the page cache"),
    new("io_uring:disk:user", Disk, User, read, "READ of a file with O_DIRECT"),
    new("io_uring:tcp:user", Tcp, User, recv, "RECV from a TCP socket"),
    new("io_uring:udp:user", Udp, User, recv, "RECV from a UDP socket"),
    new("io_uring:unix:user", Unix, User, recv, "RECV from a unix stream socket"),
    new("io_uring:pipe:user", Pipe, User, read, "READ of a pipe"),
    new("io_uring:device:user", Urandom, User, read, "READ of /dev/urandom"),
    new("io_uring:device:user", Zero, User, read, "READ of /dev/zero").when(NullSource),
    new("io_uring:other:user", Netlink, User, recv, "RECV from a netlink socket"),
    new("io_uring:tcp:user", Tcp, User, peek, "RECV that peeks at a TCP socket").when(Peek),
    new("io_uring:udp:user", Udp, User, peek, "RECV that peeks at a UDP socket").when(Peek),
    new("io_uring:unix:user", Unix, User, peek, "RECV that peeks at a unix stream socket").when(Peek),
    new("io_uring:file:mapping", File, Mapping, read, "READ of a file into a mapping of another"),
    new("io_uring:disk:mapping", Disk, Mapping, read, "READ of a file with O_DIRECT into a mapping of another"),
    new("io_uring:tcp:mapping", Tcp, Mapping, recv, "RECV from a TCP socket into a mapping of a file"),
    new("io_uring:user:file", User, File, write, "WRITE of a file through the page cache"),
    new("io_uring:user:disk", User, Disk, write, "WRITE of a file with O_DIRECT"),
    new("io_uring:user:tcp", User, Tcp, send, "SEND to a TCP socket"),
    new("io_uring:user:udp", User, Udp, send, "SEND to a UDP socket"),
    new("io_uring:user:unix", User, Unix, send, "SEND to a unix stream socket"),
    new("io_uring:user:pipe", User, Pipe, write, "WRITE to a pipe"),
    new("io_uring:user:device", User, Urandom, write, "WRITE to /dev/urandom"),
    new("io_uring:user:device", User, Null, write, "WRITE to /dev/null").when(NullSink),
    new("io_uring:user:other", User, Netlink, send, "SEND to a netlink socket"),
    new("io_uring:mapping:file", Mapping, File, write, "WRITE of a file from a mapping of another"),
    new("io_uring:mapping:disk", Mapping, Disk, write, "WRITE of a file with O_DIRECT from a mapping of another"),
    new("io_uring:mapping:tcp", Mapping, Tcp, send, "SEND to a TCP socket from a mapping of a file"),
    new("io_uring:file:pipe", File, Pipe, splice, "SPLICE of a file into a pipe"),
    new("io_uring:disk:pipe", Disk, Pipe, splice, "SPLICE of a file opened with O_DIRECT into a pipe"),
    new("io_uring:tcp:pipe", Tcp, Pipe, splice, "SPLICE of a TCP socket into a pipe"),
    new("io_uring:pipe:pipe", Pipe, Pipe, splice, "SPLICE of a pipe into another"),
    new("io_uring:pipe:file", Pipe, File, splice, "SPLICE of a pipe into a file"),
    new("io_uring:pipe:disk", Pipe, Disk, splice, "SPLICE of a pipe into a file opened with O_DIRECT"),
    new("io_uring:pipe:tcp", Pipe, Tcp, splice, "SPLICE of a pipe into a TCP socket"),
    new("io_uring_fixed:file:user", File, User, read_fixed, "READ_FIXED of a file through the page cache").registered(),
    new("io_uring_fixed:disk:user", Disk, User, read_fixed, "READ_FIXED of a file with O_DIRECT").registered(),
    new("io_uring_fixed:tcp:user", Tcp, User, read_fixed, "READ_FIXED from a TCP socket").registered(),
    new("io_uring_fixed:pipe:user", Pipe, User, read_fixed, "READ_FIXED of a pipe").registered(),
    new("io_uring_fixed:user:file", User, File, write_fixed, "WRITE_FIXED of a file through the page cache")
        .registered(),
    new("io_uring_fixed:user:disk", User, Disk, write_fixed, "WRITE_FIXED of a file with O_DIRECT").registered(),
    new("io_uring_fixed:user:tcp", User, Tcp, write_fixed, "WRITE_FIXED to a TCP socket").registered(),
    new("io_uring_fixed:user:pipe", User, Pipe, write_fixed, "WRITE_FIXED to a pipe").registered(),
    new("io_uring_zerocopy:user:tcp", User, Tcp, send_zc, "SEND_ZC to a TCP socket"),
    new("io_uring_zerocopy:user:udp", User, Udp, send_zc, "SEND_ZC to a UDP socket"),
    new("io_uring_zerocopy:mapping:tcp", Mapping, Tcp, send_zc, "SEND_ZC to a TCP socket from a mapping of a file"),
    new("io_uring_zerocopy:mapping:udp", Mapping, Udp, send_zc, "SEND_ZC to a UDP socket from a mapping of a file"),
];

/// The other operations, and the other ways of submitting them.
pub(super) const VARIANTS: &[Workload] = &[
    new("io_uring:file:user", File, User, readv, "READV").variant("readv"),
    new("io_uring:file:user", Tmpfs, User, read, "of a file of a tmpfs").variant("tmpfs"),
    new("io_uring:file:user", File, UserPrivate, read, "into a private writable mapping of a file").variant("private"),
    new("io_uring:file:user", File, User, read, "8 requests at once").variant("depth-8").ring(depth(8)),
    new("io_uring:file:user", File, User, read, "128 requests at once").variant("depth-128").ring(depth(128)),
    new("io_uring:file:user", File, User, readv, "128 READVs at once").variant("readv-128").ring(depth(128)),
    new("io_uring:file:user", File, User, read, "by worker threads (IOSQE_ASYNC)").variant("async").ring(ASYNC),
    new("io_uring:file:user", File, User, readv, "READV by worker threads").variant("readv-async").ring(ASYNC),
    new("io_uring:file:user", File, User, read, "taken by a polling thread (SQPOLL)").variant("sqpoll").ring(POLLED),
    new("io_uring:file:user", File, User, readv, "READV taken by a polling thread")
        .variant("readv-sqpoll")
        .ring(POLLED),
    new("io_uring:file:user", File, User, read, "a chain of 8 (IOSQE_IO_LINK)").variant("linked").ring(LINKED),
    new("io_uring:file:user", File, User, read, "completed when asked for (DEFER_TASKRUN)")
        .variant("deferred")
        .ring(DEFERRED),
    new("io_uring:file:user", File, User, read, "from 8 threads on one ring").variant("threads").ring(THREADS),
    new("io_uring:file:user", File, User, read_provided, "into a buffer of a shared ring")
        .variant("provided")
        .ring(RING),
    new("io_uring:file:user", File, User, read_provided, "into a buffer provided by a request")
        .variant("provided-request")
        .ring(REQUESTS),
    new("io_uring:file:mapping", File, Mapping, readv, "READV").variant("readv"),
    new("io_uring:file:mapping", File, Mapping, read, "128 requests at once").variant("depth-128").ring(depth(128)),
    new("io_uring:file:mapping", File, Mapping, read_provided, "into a buffer of a shared ring")
        .variant("provided")
        .ring(RING),
    new("io_uring:disk:user", Disk, User, readv, "READV").variant("readv"),
    new("io_uring:disk:user", Disk, User, read, "8 requests at once").variant("depth-8").ring(depth(8)),
    new("io_uring:disk:user", Disk, User, read, "128 requests at once").variant("depth-128").ring(depth(128)),
    new("io_uring:disk:user", Disk, User, read, "by worker threads").variant("async").ring(ASYNC),
    new("io_uring:disk:user", Disk, User, read, "taken by a polling thread").variant("sqpoll").ring(POLLED),
    new("io_uring:disk:user", Disk, User, read, "from 8 threads on one ring").variant("threads").ring(THREADS),
    new("io_uring:tcp:user", Tcp, User, recvmsg, "RECVMSG").variant("recvmsg"),
    new("io_uring:tcp:user", Tcp, User, read, "READ").variant("read"),
    new("io_uring:tcp:user", Tcp, User, recv, "8 requests at once").variant("depth-8").ring(depth(8)),
    new("io_uring:tcp:user", Tcp, User, recvmsg, "8 RECVMSGs at once").variant("recvmsg-8").ring(depth(8)),
    new("io_uring:tcp:user", Tcp, User, recv, "by worker threads").variant("async").ring(ASYNC),
    new("io_uring:tcp:user", Tcp, User, recv, "taken by a polling thread").variant("sqpoll").ring(POLLED),
    new("io_uring:tcp:user", Tcp, User, recv_provided, "into a buffer of a shared ring").variant("provided").ring(RING),
    new("io_uring:tcp:user", Tcp, User, recv_provided, "into a buffer provided by a request")
        .variant("provided-request")
        .ring(REQUESTS),
    new("io_uring:udp:user", Udp, User, recvmsg, "RECVMSG").variant("recvmsg"),
    new("io_uring:udp:user", Udp, User, recv_multishot, "a multishot RECV").variant("multishot").ring(RING),
    new("io_uring:unix:user", Unix, User, recvmsg, "RECVMSG").variant("recvmsg"),
    new("io_uring:pipe:user", Pipe, User, readv, "READV").variant("readv"),
    new("io_uring:pipe:user", Pipe, User, read, "8 requests at once").variant("depth-8").ring(depth(8)),
    new("io_uring:user:file", User, File, writev, "WRITEV").variant("writev"),
    new("io_uring:user:file", User, File, write, "8 requests at once").variant("depth-8").ring(depth(8)),
    new("io_uring:user:file", User, File, write, "128 requests at once").variant("depth-128").ring(depth(128)),
    new("io_uring:user:file", User, File, write, "by worker threads").variant("async").ring(ASYNC),
    new("io_uring:user:file", User, File, write, "taken by a polling thread").variant("sqpoll").ring(POLLED),
    new("io_uring:user:file", User, File, writev, "WRITEV by worker threads").variant("writev-async").ring(ASYNC),
    new("io_uring:user:file", User, File, write, "a chain of 8").variant("linked").ring(LINKED),
    new("io_uring:user:file", User, File, write, "from 8 threads on one ring").variant("threads").ring(THREADS),
    new("io_uring:user:disk", User, Disk, write, "128 requests at once").variant("depth-128").ring(depth(128)),
    new("io_uring:user:disk", User, Disk, write, "from 8 threads on one ring").variant("threads").ring(THREADS),
    new("io_uring:user:tcp", User, Tcp, sendmsg, "SENDMSG").variant("sendmsg"),
    new("io_uring:user:tcp", User, Tcp, write, "WRITE").variant("write"),
    new("io_uring:user:tcp", User, Tcp, send, "8 requests at once").variant("depth-8").ring(depth(8)),
    new("io_uring:user:tcp", User, Tcp, sendmsg, "8 SENDMSGs at once").variant("sendmsg-8").ring(depth(8)),
    new("io_uring:user:tcp", User, Tcp, send, "by worker threads").variant("async").ring(ASYNC),
    new("io_uring:user:tcp", User, Tcp, send, "taken by a polling thread").variant("sqpoll").ring(POLLED),
    new("io_uring:user:udp", User, Udp, sendmsg, "SENDMSG").variant("sendmsg"),
    new("io_uring:user:unix", User, Unix, sendmsg, "SENDMSG").variant("sendmsg"),
    new("io_uring:user:pipe", User, Pipe, writev, "WRITEV").variant("writev"),
    new("io_uring:pipe:pipe", Pipe, Pipe, tee, "TEE of a pipe into another").variant("tee"),
    new("io_uring:file:pipe", File, Pipe, splice, "taken by a polling thread")
        .variant("sqpoll")
        .ring(Plan { polled: true, ..Plan::PLAIN }),
    new("io_uring_fixed:file:user", File, User, read_fixed, "128 requests at once")
        .variant("depth-128")
        .registered()
        .ring(depth(128)),
    new("io_uring_fixed:file:user", File, User, read_fixed, "by worker threads")
        .variant("async")
        .registered()
        .ring(ASYNC),
    new("io_uring_fixed:disk:user", Disk, User, read_fixed, "8 requests at once")
        .variant("depth-8")
        .registered()
        .ring(depth(8)),
    new("io_uring_zerocopy:user:tcp", User, Tcp, sendmsg_zc, "SENDMSG_ZC").variant("sendmsg"),
    new("io_uring_zerocopy:user:tcp", User, Tcp, send_zc_fixed, "from a registered buffer")
        .variant("fixed")
        .registered(),
    new("io_uring_zerocopy:user:tcp", User, Tcp, send_zc, "8 requests at once").variant("depth-8").ring(depth(8)),
];

/// The ring of a workload that has one, with its memory registered if need be.
pub(super) fn open(plan: Plan, registered: bool, source: &mut End, sink: &mut End) -> anyhow::Result<Ring> {
    let ring = Ring::open(plan)?;
    if registered {
        for end in [source, sink] {
            if let End::Memory(memory) = end {
                ring.register(memory.all()?)?;
            }
        }
    }
    Ok(ring)
}
