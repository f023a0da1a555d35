//! Movers of the socket calls: send, recv and their kin, with and without peeking.

use std::mem;
use std::os::fd::{AsRawFd as _, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use nix::unistd;

use super::calls::{from, into, returned};
use super::channel::parts;
use super::drive::{Moved, Stage};

/// Messages of one recvmmsg or sendmmsg.
pub(super) const MESSAGES: usize = 4;

pub(super) fn recvfrom(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    Ok(recv(source(stage)?, stage.sink.bytes(len)?, MsgFlags::empty())?.into())
}

pub(super) fn recvmsg(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    receive_message(stage, len, 0)
}

pub(super) fn recvmmsg(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    receive_messages(stage, len, 0)
}

/// A datagram longer than the buffer: the call returns the datagram's length, and copies what fits.
pub(super) fn recvfrom_truncated(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let returned = recv(source(stage)?, stage.sink.bytes(len)?, MsgFlags::MSG_TRUNC)?;
    Ok(Moved { counted: returned.min(len), ..returned.into() })
}

/// Alternates reads with receives that discard (TCP's MSG_TRUNC), which return bytes and move none.
pub(super) fn read_and_discard(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let fd = source(stage)?;
    let counted = unistd::read(stage.source.fd()?, stage.sink.bytes(len)?)?;
    let discarded = or_nothing(recv(fd, stage.sink.bytes(len)?, MsgFlags::MSG_TRUNC))?;
    Ok(Moved { taken: counted + discarded, ..counted.into() })
}

pub(super) fn peek(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let n = recv(source(stage)?, stage.sink.bytes(len)?, MsgFlags::MSG_PEEK)?;
    consume(stage, n)
}

pub(super) fn peek_recvmsg(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let n = receive_message(stage, len, libc::MSG_PEEK)?.counted;
    consume(stage, n)
}

/// Takes what was peeked at out of the socket, by a plain read into other memory: the same path, another condition.
fn consume(stage: &mut Stage, n: usize) -> nix::Result<Moved> {
    let mut taken = 0;
    while taken < n {
        taken += unistd::read(stage.source.fd()?, stage.second.bytes(n - taken)?)?;
    }
    Ok(n.into())
}

pub(super) fn sendto(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    Ok(send(sink(stage)?, stage.source.bytes(len)?, MsgFlags::empty())?.into())
}

pub(super) fn sendmsg(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let fd = sink(stage)?;
    let mut segments = from(stage.source.bytes(len)?);
    let message = header(segments.as_mut_ptr().cast(), segments.len());
    // SAFETY: the header and its segments outlive the call; an IoSlice is an iovec.
    returned(unsafe { libc::sendmsg(fd, &raw const message, 0) })
}

/// sendmsg whose first segment is the path's memory and whose second, just as long, lies on another path.
pub(super) fn sendmsg_mixed(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let fd = sink(stage)?;
    let mut segments = [segment(stage.source.bytes(len)?), segment(stage.second.bytes(len)?)];
    let message = header(segments.as_mut_ptr(), segments.len());
    // SAFETY: the header and its segments outlive the call, and their buffers belong to the stage.
    let n = returned(unsafe { libc::sendmsg(fd, &raw const message, 0) })?.taken;
    Ok(Moved { counted: n.min(len), ..n.into() })
}

pub(super) fn sendmmsg(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let fd = sink(stage)?;
    let mut segments = Segments::new(stage.source.bytes(len)?, parts(len, MESSAGES));
    let mut messages = segments.messages();
    // SAFETY: the headers and their segments outlive the call, and their buffers belong to the stage.
    let sent = Errno::result(unsafe { libc::sendmmsg(fd, messages.as_mut_ptr(), segments.used, 0) })?;
    Ok(sum(&messages, sent))
}

fn receive_message(stage: &mut Stage, len: usize, flags: i32) -> nix::Result<Moved> {
    let fd = source(stage)?;
    let mut segments = into(stage.sink.bytes(len)?);
    let mut message = header(segments.as_mut_ptr().cast(), segments.len());
    // SAFETY: the header and its segments outlive the call; an IoSliceMut is an iovec.
    returned(unsafe { libc::recvmsg(fd, &raw mut message, flags) })
}

fn receive_messages(stage: &mut Stage, len: usize, flags: i32) -> nix::Result<Moved> {
    let fd = source(stage)?;
    // Datagrams: any of them fits any buffer, for they may come in two lots. Streams: never more than asked for.
    let room = if stage.parts > 1 { stage.chunk.div_ceil(MESSAGES) * MESSAGES } else { len };
    let mut segments = Segments::new(stage.sink.bytes(room)?, parts(room, MESSAGES));
    let mut messages = segments.messages();
    let flags = flags | libc::MSG_DONTWAIT;
    let none = std::ptr::null_mut();
    // SAFETY: the headers and their segments outlive the call, and their buffers belong to the stage.
    let got = Errno::result(unsafe { libc::recvmmsg(fd, messages.as_mut_ptr(), segments.used, flags, none) })?;
    Ok(sum(&messages, got))
}

/// Segments of one buffer, each to be a message of its own.
struct Segments {
    all: [libc::iovec; MESSAGES],
    used: u32,
}

impl Segments {
    fn new(buffer: &mut [u8], lengths: impl Iterator<Item = usize>) -> Self {
        let mut segments = Self { all: [segment(&mut []); MESSAGES], used: 0 };
        let mut rest = buffer;
        // An empty message would say that a stream has ended.
        for (slot, len) in segments.all.iter_mut().zip(lengths.filter(|len| *len > 0)) {
            let (first, others) = rest.split_at_mut(len);
            *slot = segment(first);
            rest = others;
            segments.used += 1;
        }
        segments
    }

    fn messages(&mut self) -> [libc::mmsghdr; MESSAGES] {
        let base = self.all.as_mut_ptr();
        // `wrapping_add` stays within the array: the index is below its length.
        std::array::from_fn(|i| libc::mmsghdr { msg_hdr: header(base.wrapping_add(i), 1), msg_len: 0 })
    }
}

fn sum(messages: &[libc::mmsghdr], done: i32) -> Moved {
    let done = usize::try_from(done).unwrap_or(0);
    messages.iter().take(done).map(|message| message.msg_len as usize).sum::<usize>().into()
}

fn segment(buffer: &mut [u8]) -> libc::iovec {
    libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() }
}

fn header(segments: *mut libc::iovec, count: usize) -> libc::msghdr {
    // SAFETY: a message header of zeros is one with no address, no segments and no control data.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = segments;
    // Its type is not the same in every C library.
    header.msg_iovlen = count as _;
    header
}

fn or_nothing(result: nix::Result<usize>) -> nix::Result<usize> {
    if result == Err(Errno::EAGAIN) { Ok(0) } else { result }
}

fn source(stage: &Stage) -> nix::Result<RawFd> {
    Ok(stage.source.fd()?.as_raw_fd())
}

fn sink(stage: &Stage) -> nix::Result<RawFd> {
    Ok(stage.sink.fd()?.as_raw_fd())
}
