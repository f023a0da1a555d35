//! MSG_ZEROCOPY and TCP_ZEROCOPY_RECEIVE: calls that hand pages over instead of copying.

use std::mem::offset_of;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use anyhow::ensure;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recvmsg, sockopt};
use nix::unistd;
use zc_common::path::Condition::Copied;

use super::Workload;
use super::calls::{from, returned};
use super::channel::Pair;
use super::drive::{Moved, Stage};
use super::fixture::End;
use super::fixture::Fixture::{
    Mapping, Received, TcpChunks, TcpPages, TcpZerocopy, UdpZerocopy, User, VethLinearZerocopy,
};
use super::sockets;

const PAGE: i32 = 4096;

/// Lets a pair's first socket hand pages over.
pub(super) fn enabled(pair: Pair) -> anyhow::Result<Pair> {
    enable(pair.0.as_fd())?;
    Ok(pair)
}

/// Lets a socket hand pages over.
pub(super) fn enable(socket: BorrowedFd<'_>) -> nix::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1)
}

/// Hands a whole buffer over to a blocking socket.
pub(super) fn send_all(socket: BorrowedFd<'_>, mut buffer: &[u8]) -> nix::Result<()> {
    while !buffer.is_empty() {
        // SAFETY: the buffer is that long; whoever reads its pages, they stay mapped.
        let sent = unsafe { libc::send(socket.as_raw_fd(), buffer.as_ptr().cast(), buffer.len(), libc::MSG_ZEROCOPY) };
        match Errno::result(sent) {
            Ok(n) => buffer = &buffer[usize::try_from(n).unwrap_or(0)..],
            // Too many notices wait to be read, or to be given: those of packets on their way.
            Err(Errno::ENOBUFS) => std::thread::sleep(std::time::Duration::from_millis(1)),
            Err(errno) => return Err(errno),
        }
        reap(socket)?;
    }
    Ok(())
}

fn set(socket: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> nix::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(0);
    // SAFETY: the option's value is an int, which outlives the call.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    Errno::result(done).map(drop)
}

/// Takes what the kernel has to say of sends that are done: until then they weigh on the socket's memory.
fn reap(socket: BorrowedFd<'_>) -> nix::Result<()> {
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    loop {
        let mut control = nix::cmsg_space!([u8; 64]);
        match recvmsg::<()>(socket.as_raw_fd(), &mut [], Some(&mut control), flags) {
            Ok(_) => {}
            Err(Errno::EAGAIN) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
}

/// Sends, and reaps. What finds no room for its notice waits.
fn sent(stage: &mut Stage, send: impl FnOnce(&mut Stage) -> nix::Result<Moved>) -> nix::Result<Moved> {
    let moved = send(stage);
    reap(stage.sink.fd()?)?;
    match moved {
        Err(Errno::ENOBUFS) => Err(Errno::EAGAIN),
        moved => moved,
    }
}

fn sendto(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    sent(stage, |stage| {
        let fd = stage.sink.fd()?.as_raw_fd();
        let buffer = stage.source.bytes(len)?;
        // SAFETY: the buffer is that long; its pages stay as they are, whoever reads them.
        returned(unsafe { libc::send(fd, buffer.as_ptr().cast(), buffer.len(), libc::MSG_ZEROCOPY) })
    })
}

/// A header by write, which copies, before each send.
fn headed_sendto(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let header = super::sendfile::header(stage)?;
    let moved = sendto(stage, len)?;
    Ok(Moved { taken: moved.counted + header, ..moved })
}

fn sendmsg(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    sent(stage, |stage| {
        let fd = stage.sink.fd()?.as_raw_fd();
        let segments = from(stage.source.bytes(len)?);
        // SAFETY: all zero is a message without name, segments and control data.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = segments.as_ptr().cast_mut().cast();
        message.msg_iovlen = segments.len() as _;
        // SAFETY: an IoSlice is an iovec; the message and what it points to outlive the call.
        returned(unsafe { libc::sendmsg(fd, &raw const message, libc::MSG_ZEROCOPY) })
    })
}

fn sendmmsg(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    sent(stage, |stage| {
        let fd = stage.sink.fd()?.as_raw_fd();
        let segments = from(stage.source.bytes(len)?);
        // SAFETY: as above.
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        message.msg_hdr.msg_iov = segments.as_ptr().cast_mut().cast();
        message.msg_hdr.msg_iovlen = segments.len() as _;
        // SAFETY: as above. The flags' type is not the same in every C library.
        let sent = unsafe { libc::sendmmsg(fd, &raw mut message, 1, libc::MSG_ZEROCOPY as _) };
        Errno::result(sent)?;
        Ok(usize::try_from(message.msg_len).unwrap_or(0).into())
    })
}

/// Two TCP sockets over loopback whose segments are whole pages.
pub(super) fn whole_pages() -> anyhow::Result<Pair> {
    /// The largest that the option takes is 32,767.
    const SEGMENT: i32 = 7 * PAGE;
    let room = |asked: i32| -> anyhow::Result<(Pair, i32)> {
        let pair = sockets::tcp_with("127.0.0.1:0", |socket| set(socket, libc::IPPROTO_TCP, libc::TCP_MAXSEG, asked))?;
        let got = nix::sys::socket::getsockopt(&pair.1, sockopt::TcpMaxSeg)?;
        Ok((pair, i32::try_from(got)?))
    };
    let (pair, got) = room(SEGMENT)?;
    if got == SEGMENT {
        return Ok(pair);
    }
    // Options (timestamps) take some of each segment.
    let (pair, got) = room(2 * SEGMENT - got)?;
    ensure!(got % PAGE == 0, "segments of {got} bytes, which are no whole pages");
    Ok(pair)
}

/// `struct tcp_zerocopy_receive` (include/uapi/linux/tcp.h, v6.1).
#[repr(C)]
#[derive(Default)]
struct Receive {
    address: u64,
    length: u32,
    recv_skip_hint: u32,
    inq: u32,
    err: i32,
    copybuf_address: u64,
    copybuf_len: i32,
    flags: u32,
    msg_control: u64,
    msg_controllen: u64,
    msg_flags: u32,
    reserved: u32,
}

const _: () = assert!(offset_of!(Receive, copybuf_len) == 32 && size_of::<Receive>() == 64);

fn receive(socket: BorrowedFd<'_>, request: &mut Receive) -> nix::Result<()> {
    /// include/uapi/linux/tcp.h, v6.1.
    const TCP_ZEROCOPY_RECEIVE: i32 = 35;
    let mut length = libc::socklen_t::try_from(size_of::<Receive>()).unwrap_or(0);
    let value = std::ptr::from_mut(request).cast();
    // SAFETY: the structure outlives the call, and what it points to is memory made for this.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, value, &raw mut length)
    };
    Errno::result(done).map(drop)
}

/// Maps received pages, over those of the operation before. What can't be mapped is read.
fn map(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let End::Memory(area) = &stage.sink else { return Err(Errno::EFAULT) };
    let mut taken = 0;
    loop {
        let length = u32::try_from(len).unwrap_or(0);
        let mut request = Receive { address: area.address(), length, ..Receive::default() };
        receive(stage.source.fd()?, &mut request)?;
        let mapped = usize::try_from(request.length).unwrap_or(0);
        taken += mapped;
        if mapped != 0 {
            return Ok(Moved { counted: mapped, taken, operations: 1 });
        }
        let rest = usize::try_from(request.recv_skip_hint).unwrap_or(0).clamp(1, len);
        taken += unistd::read(stage.source.fd()?, stage.second.bytes(rest)?)?;
    }
}

/// Receives so little that it is copied whole.
fn copy(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let buffer = stage.sink.bytes(len)?;
    let mut request = Receive {
        copybuf_address: buffer.as_ptr().addr() as u64,
        copybuf_len: i32::try_from(buffer.len()).unwrap_or(0),
        ..Receive::default()
    };
    receive(stage.source.fd()?, &mut request)?;
    match usize::try_from(request.copybuf_len).unwrap_or(0) {
        0 => Err(Errno::EAGAIN),
        copied => Ok(copied.into()),
    }
}

/// One for each row.
pub(super) const MAIN: &[Workload] = &[
    Workload::new("zerocopy_send:user:tcp", User, TcpZerocopy, sendto, "send with MSG_ZEROCOPY to a TCP socket"),
    Workload::new("zerocopy_send:user:udp", User, UdpZerocopy, sendto, "send with MSG_ZEROCOPY to a UDP socket"),
    Workload::new(
        "zerocopy_send:mapping:tcp",
        Mapping,
        TcpZerocopy,
        sendto,
        "send with MSG_ZEROCOPY to a TCP socket from a mapping of a file",
    ),
    Workload::new(
        "zerocopy_send:mapping:udp",
        Mapping,
        UdpZerocopy,
        sendto,
        "send with MSG_ZEROCOPY to a UDP socket from a mapping of a file",
    ),
    Workload::new("zerocopy_receive:tcp:user", TcpPages, Received, map, "map received pages (TCP_ZEROCOPY_RECEIVE)"),
    Workload::new("zerocopy_receive:tcp:user", TcpChunks, User, copy, "TCP_ZEROCOPY_RECEIVE of what can't be mapped")
        .when(Copied),
];

/// The other calls of the family.
pub(super) const VARIANTS: &[Workload] = &[
    Workload::new("zerocopy_send:user:tcp", User, TcpZerocopy, sendmsg, "sendmsg").variant("sendmsg"),
    Workload::new("zerocopy_send:user:tcp", User, TcpZerocopy, sendmmsg, "sendmmsg").variant("sendmmsg"),
    Workload::new("zerocopy_send:user:tcp", User, TcpZerocopy, headed_sendto, "behind headers that are written")
        .variant("headed"),
    Workload::new(
        "zerocopy_send:user:tcp",
        User,
        VethLinearZerocopy,
        sendto,
        "through a network device without scatter-gather",
    )
    .variant("veth-linear"),
    Workload::new("zerocopy_send:user:udp", User, UdpZerocopy, sendmsg, "sendmsg").variant("sendmsg"),
    Workload::new(
        "write:user:tcp",
        User,
        super::fixture::Fixture::Tcp,
        sendto,
        "MSG_ZEROCOPY without SO_ZEROCOPY: an ordinary send",
    )
    .variant("zerocopy-not-enabled"),
];
