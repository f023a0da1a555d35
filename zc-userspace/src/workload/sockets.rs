//! Pairs of connected descriptors: sockets, pipes, an eventfd.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};

use anyhow::{Context as _, ensure};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::eventfd::EventFd;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, connect, getsockname, setsockopt, socket,
    sockopt,
};
use nix::unistd::pipe2;

use super::channel::{Pair, Shape, oriented};

/// Room for several of the largest chunks: a direct read whose pages a socket takes only in part is hard to resume.
const BUFFER: usize = 4 << 20;

/// Two TCP sockets connected over a loopback address, `host:0`.
pub(super) fn tcp(address: &str) -> anyhow::Result<Pair> {
    tcp_with(address, |_| Ok(()))
}

/// The same, with options set on the listener, which both sides go by.
pub(super) fn tcp_with(address: &str, options: impl Fn(BorrowedFd<'_>) -> nix::Result<()>) -> anyhow::Result<Pair> {
    let listener = TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
    options(listener.as_fd()).context("setting an option of a TCP socket")?;
    let near = TcpStream::connect(listener.local_addr()?).context("connecting to the listener just made")?;
    connected(near, &listener)
}

/// A socket that was just connected to a listener, and the one that this gets from it.
pub(super) fn connected(near: TcpStream, listener: &TcpListener) -> anyhow::Result<Pair> {
    let (far, from) = listener.accept().context("accepting the connection just made")?;
    ensure!(from == near.local_addr()?, "a stranger connected to {}", listener.local_addr()?);
    for end in [&near, &far] {
        end.set_nodelay(true)?;
        widen(end);
    }
    Ok((near.into(), far.into()))
}

/// Two UDP sockets connected to each other over a loopback address, `host:0`.
pub(super) fn udp(address: &str) -> anyhow::Result<Pair> {
    let bound = || UdpSocket::bind(address).with_context(|| format!("binding to {address}"));
    let (near, far) = (bound()?, bound()?);
    near.connect(far.local_addr()?)?;
    far.connect(near.local_addr()?)?;
    widen(&near);
    widen(&far);
    Ok((near.into(), far.into()))
}

/// Two connected unix stream sockets.
pub(super) fn unix_stream() -> anyhow::Result<Pair> {
    let (near, far) = UnixStream::pair().context("making a pair of unix sockets")?;
    widen(&near);
    widen(&far);
    Ok((near.into(), far.into()))
}

/// Two connected unix datagram sockets.
pub(super) fn unix_datagram() -> anyhow::Result<Pair> {
    let (near, far) = UnixDatagram::pair().context("making a pair of unix datagram sockets")?;
    widen(&near);
    widen(&far);
    Ok((near.into(), far.into()))
}

/// Two netlink sockets of the family meant for talk between processes, connected to each other.
pub(super) fn netlink() -> anyhow::Result<Pair> {
    let bound = || -> nix::Result<(OwnedFd, NetlinkAddr)> {
        let protocol = SockProtocol::NetlinkUserSock;
        let end = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        // Port 0: the kernel chooses one.
        bind(end.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        let address = getsockname(end.as_raw_fd())?;
        Ok((end, address))
    };
    let (near, near_address) = bound().context("making a netlink socket")?;
    let (far, far_address) = bound().context("making a netlink socket")?;
    connect(near.as_raw_fd(), &far_address)?;
    connect(far.as_raw_fd(), &near_address)?;
    widen(&near);
    widen(&far);
    Ok((near, far))
}

/// An eventfd, which is its own peer.
pub(super) fn event() -> anyhow::Result<Pair> {
    let event = OwnedFd::from(EventFd::new().context("making an eventfd")?);
    let peer = event.try_clone()?;
    Ok((event, peer))
}

/// A pipe that holds a whole chunk, where the kernel permits.
pub(super) fn pipe(shape: &Shape) -> anyhow::Result<Pair> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).context("making a pipe")?;
    // Beyond /proc/sys/fs/pipe-max-size only root may go. Where it stays small, operations are shorter.
    let size = i32::try_from(shape.chunk).unwrap_or(i32::MAX).max(1 << 20);
    let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(size)).or_else(|_| fcntl(&write, FcntlArg::F_SETPIPE_SZ(1 << 20)));
    Ok(oriented(read, write, shape.is_source))
}

/// Makes a socket's buffers wide. The forced way needs CAP_NET_ADMIN; what is not granted makes operations shorter.
fn widen(socket: &impl AsFd) {
    let socket = &socket.as_fd();
    let _ = setsockopt(socket, sockopt::SndBufForce, &BUFFER).or_else(|_| setsockopt(socket, sockopt::SndBuf, &BUFFER));
    let _ = setsockopt(socket, sockopt::RcvBufForce, &BUFFER).or_else(|_| setsockopt(socket, sockopt::RcvBuf, &BUFFER));
}
