//! Bytes between sockets whose other sides are known.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixListener, UnixStream};

use anyhow::{Context as _, ensure};
use io_uring::{IoUring, opcode, types};
use libc::{
    SYS_read, SYS_readv, SYS_recvfrom, SYS_recvmmsg, SYS_recvmsg, SYS_sendfile, SYS_sendmmsg, SYS_sendmsg, SYS_sendto,
    SYS_splice, SYS_write, SYS_writev,
};
use nix::sys::socket::{SockaddrLike as _, SockaddrStorage};
use serde_json::json;
use zc_tests::memory::{address, address_mut, iovec};
use zc_tests::script::{Script, arg, raw};

use crate::sockets::message;
use crate::{Scenario, open};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("peers_tcp", |_| tcp("127.0.0.1:0", "127.0.0.1")),
    ("peers_tcp6", |_| tcp("[::1]:0", "::1")),
    ("peers_tcp_mapped", |_| tcp("[::]:0", "::ffff:127.0.0.1")),
    ("peers_udp", |_| udp("127.0.0.1:0")),
    ("peers_udp6", |_| udp("[::1]:0")),
    ("peers_udp_connected", udp_connected),
    ("peers_messages", messages),
    ("peers_unix", unix),
    ("peers_unix_datagrams", unix_datagrams),
    ("peers_many", many),
    ("peers_uring", uring),
    ("peers_moved_by_the_kernel", by_kernel),
    ("peers_none", none),
];

/// What is done with peers, and what should be seen of it.
struct Talk {
    script: Script,
    peers: BTreeMap<(&'static str, Option<String>), [u64; 3]>,
    buffer: Vec<u8>,
}

impl Talk {
    fn new() -> Self {
        Self { script: Script::default(), peers: BTreeMap::new(), buffer: vec![7; 1 << 16] }
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        self.script.begin()
    }

    fn at(&mut self) -> usize {
        address_mut(self.buffer.as_mut_slice())
    }

    fn expect(&mut self, protocol: &'static str, peer: Option<&str>, sent: usize, received: usize) {
        let [out, into, operations] = self.peers.entry((protocol, peer.map(ToOwned::to_owned))).or_default();
        *out += sent as u64;
        *into += received as u64;
        *operations += 1;
    }

    fn send(
        &mut self,
        fd: &impl AsRawFd,
        bytes: usize,
        protocol: &'static str,
        peer: Option<&str>,
    ) -> anyhow::Result<()> {
        let at = self.at();
        returns(bytes, SYS_write, &[arg(fd.as_raw_fd()), at, bytes])?;
        self.expect(protocol, peer, bytes, 0);
        Ok(())
    }

    fn receive(
        &mut self,
        fd: &impl AsRawFd,
        bytes: usize,
        protocol: &'static str,
        peer: Option<&str>,
    ) -> anyhow::Result<()> {
        let at = self.at();
        returns(bytes, SYS_read, &[arg(fd.as_raw_fd()), at, bytes])?;
        self.expect(protocol, peer, 0, bytes);
        Ok(())
    }

    fn end(mut self) -> anyhow::Result<()> {
        let peers: Vec<_> =
            self.peers.iter().map(|((protocol, peer), counts)| json!([protocol, peer, counts])).collect();
        self.script.note("peers", peers);
        self.script.end()
    }
}

fn returns(wanted: usize, number: libc::c_long, arguments: &[usize]) -> anyhow::Result<()> {
    let returned = raw(number, arguments).with_context(|| format!("system call {number}"))?;
    ensure!(returned == wanted, "system call {number} returned {returned}, not {wanted}");
    Ok(())
}

/// As zcprof writes it: IPv4 is IPv4, whatever the socket is.
fn text(address: SocketAddr) -> String {
    SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
}

/// A connection, and what its ends are to each other.
struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// What the client sees.
    at_client: String,
    at_server: String,
}

fn connect(listener: &TcpListener, host: &str) -> anyhow::Result<Connection> {
    let client = TcpStream::connect((host, listener.local_addr()?.port()))?;
    let (server, _) = listener.accept()?;
    let (at_client, at_server) = (text(client.peer_addr()?), text(server.peer_addr()?));
    Ok(Connection { client, server, at_client, at_server })
}

/// Every call that sends or receives.
fn tcp(bind: &str, host: &str) -> anyhow::Result<()> {
    let listener = TcpListener::bind(bind)?;
    let Connection { client, server, at_client, at_server } = connect(&listener, host)?;
    ensure!(bind != "[::]:0" || client.peer_addr()?.is_ipv6(), "a socket of IPv6");
    let mut t = Talk::new();
    let (tx, rx, at) = (arg(client.as_raw_fd()), arg(server.as_raw_fd()), t.at());
    let (all, peek) = (libc::MSG_WAITALL as usize, libc::MSG_PEEK as usize);
    let vector = [iovec(at, 500), iovec(at + 600, 700), iovec(at + 1400, 1)];
    let header = message(&vector);
    let (to, from) = (Some(at_client.as_str()), Some(at_server.as_str()));
    t.begin()?;
    t.send(&client, 900, "tcp", to)?;
    t.receive(&server, 900, "tcp", from)?;
    t.send(&server, 11, "tcp", from)?;
    t.receive(&client, 11, "tcp", to)?;
    let calls = [
        (1201, (SYS_writev, [tx, address(&vector), 3, 0, 0, 0]), (SYS_readv, [rx, address(&vector), 3, 0, 0, 0])),
        (3000, (SYS_sendto, [tx, at, 3000, 0, 0, 0]), (SYS_recvfrom, [rx, at, 3000, all, 0, 0])),
        (1201, (SYS_sendmsg, [tx, address(&header), 0, 0, 0, 0]), (SYS_recvmsg, [rx, address(&header), all, 0, 0, 0])),
    ];
    for (bytes, (send, sent), (receive, received)) in calls {
        returns(bytes, send, &sent)?;
        t.expect("tcp", to, bytes, 0);
        // A peek is none, nor is what is thrown away.
        returns(5, SYS_recvfrom, &[rx, at, 5, peek, 0, 0])?;
        returns(bytes, receive, &received)?;
        t.expect("tcp", from, 0, bytes);
    }
    returns(10, SYS_write, &[tx, at, 10])?;
    t.expect("tcp", to, 10, 0);
    returns(10, SYS_recvfrom, &[rx, at, 10, libc::MSG_TRUNC as usize | all, 0, 0])?;
    t.end()
}

/// An address as calls take it.
fn raw_address(address: SocketAddr) -> SockaddrStorage {
    SockaddrStorage::from(address)
}

/// Without a connection: the calls name the peers, or don't.
fn udp(bind: &str) -> anyhow::Result<()> {
    let (one, other) = (UdpSocket::bind(bind)?, UdpSocket::bind(bind)?);
    let (at_one, at_other) = (text(one.local_addr()?), text(other.local_addr()?));
    let name = raw_address(other.local_addr()?);
    let mut t = Talk::new();
    let (tx, rx, at) = (arg(one.as_raw_fd()), arg(other.as_raw_fd()), t.at());
    let (name_at, length) = (address(&name), name.len() as usize);
    let mut room = [0_u8; 128];
    let mut room_length = room.len() as u32;
    t.begin()?;
    for bytes in [100, 2000] {
        returns(bytes, SYS_sendto, &[tx, at, bytes, 0, name_at, length])?;
        t.expect("udp", Some(&at_other), bytes, 0);
        let from = [rx, at, 4096, 0, address_mut(&mut room), address_mut(&mut room_length)];
        returns(bytes, SYS_recvfrom, &from)?;
        t.expect("udp", Some(&at_one), 0, bytes);
    }
    returns(300, SYS_sendto, &[tx, at, 300, 0, name_at, length])?;
    t.expect("udp", Some(&at_other), 300, 0);
    // Who receives and does not ask from whom is not told.
    t.receive(&other, 300, "udp", None)?;
    // What does not fit is not received.
    returns(300, SYS_sendto, &[tx, at, 300, 0, name_at, length])?;
    t.expect("udp", Some(&at_other), 300, 0);
    returns(300, SYS_recvfrom, &[rx, at, 40, libc::MSG_TRUNC as usize, 0, 0])?;
    t.expect("udp", None, 0, 40);
    t.end()
}

fn udp_connected(_: &[String]) -> anyhow::Result<()> {
    let (one, other) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    let third = UdpSocket::bind("127.0.0.1:0")?;
    one.connect(other.local_addr()?)?;
    other.connect(one.local_addr()?)?;
    let (at_one, at_other, at_third) = (text(one.local_addr()?), text(other.local_addr()?), text(third.local_addr()?));
    let name = raw_address(third.local_addr()?);
    let mut t = Talk::new();
    let (tx, at) = (arg(one.as_raw_fd()), t.at());
    t.begin()?;
    t.send(&one, 700, "udp", Some(&at_other))?;
    t.receive(&other, 700, "udp", Some(&at_one))?;
    // One that is connected may name another.
    returns(70, SYS_sendto, &[tx, at, 70, 0, address(&name), name.len() as usize])?;
    t.expect("udp", Some(&at_third), 70, 0);
    t.receive(&third, 70, "udp", None)?;
    t.end()
}

/// sendmsg and recvmsg with names, and sendmmsg and recvmmsg with one for each message.
fn messages(_: &[String]) -> anyhow::Result<()> {
    let sockets: Vec<_> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let hub = UdpSocket::bind("127.0.0.1:0")?;
    let at_hub = text(hub.local_addr()?);
    let mut names = Vec::new();
    let mut texts = Vec::new();
    for socket in &sockets {
        names.push(raw_address(socket.local_addr()?));
        texts.push(text(socket.local_addr()?));
    }
    let hub_name = raw_address(hub.local_addr()?);
    let mut t = Talk::new();
    let at = t.at();
    let vectors =
        [[iovec(at, 100), iovec(at + 200, 23)], [iovec(at, 400), iovec(at + 500, 1)], [iovec(at, 7), iovec(at, 8)]];
    let lengths = [123, 401, 15];
    let named = |vector: &[libc::iovec], name: &SockaddrStorage| libc::msghdr {
        msg_name: name.as_ptr().cast_mut().cast(),
        msg_namelen: name.len(),
        ..message(vector)
    };
    let mut several: Vec<_> = vectors
        .iter()
        .zip(&names)
        .map(|(vector, name)| libc::mmsghdr { msg_hdr: named(vector, name), msg_len: 0 })
        .collect();
    let hub_fd = arg(hub.as_raw_fd());
    t.begin()?;
    returns(3, SYS_sendmmsg, &[hub_fd, address_mut(several.as_mut_slice()), 3, 0])?;
    for (at, bytes) in lengths.into_iter().enumerate() {
        t.expect("udp", Some(&texts[at]), bytes, 0);
        t.receive(&sockets[at], bytes, "udp", None)?;
    }
    for (at, bytes) in lengths.into_iter().enumerate() {
        let header = named(&vectors[at], &hub_name);
        returns(bytes, SYS_sendmsg, &[arg(sockets[at].as_raw_fd()), address(&header), 0])?;
        t.expect("udp", Some(&at_hub), bytes, 0);
    }
    let mut rooms = [[0_u8; 128]; 3];
    let mut room =
        |at: usize| libc::msghdr { msg_name: rooms[at].as_mut_ptr().cast(), msg_namelen: 128, ..message(&vectors[at]) };
    let mut first = room(0);
    returns(lengths[0], SYS_recvmsg, &[hub_fd, address_mut(&mut first), 0])?;
    t.expect("udp", Some(&texts[0]), 0, lengths[0]);
    let mut rest = [1, 2].map(|at| libc::mmsghdr { msg_hdr: room(at), msg_len: 0 });
    returns(2, SYS_recvmmsg, &[hub_fd, address_mut(&mut rest), 2, 0, 0])?;
    t.expect("udp", Some(&texts[1]), 0, lengths[1]);
    t.expect("udp", Some(&texts[2]), 0, lengths[2]);
    t.end()
}

/// A name that tries everything: quotes, an escape, a line break, and a byte that is no UTF-8.
const HOSTILE: &[u8] = b"hostile\"'<b>\x1b[31m\n\\\xff";

fn unix(_: &[String]) -> anyhow::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let directory = std::env::temp_dir().join(format!("zcprof-peers-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let made = (|| {
        let mut pairs = Vec::new();
        for name in [&b"socket"[..], HOSTILE] {
            let path = directory.join(std::ffi::OsStr::from_bytes(name));
            let listener = UnixListener::bind(&path)?;
            let client = UnixStream::connect(&path)?;
            pairs.push((client, listener.accept()?.0, Some(path.to_string_lossy().into_owned())));
        }
        Ok::<_, std::io::Error>(pairs)
    })();
    std::fs::remove_dir_all(&directory)?;
    let mut pairs = made?;
    let name = format!("zcprof-peers-{}", std::process::id());
    for name in [name.clone().into_bytes(), [name.as_bytes(), b"\0\n\xfe"].concat()] {
        let abstract_name = UnixAddress::from_abstract_name(&name)?;
        let listener = UnixListener::bind_addr(&abstract_name)?;
        let client = UnixStream::connect_addr(&abstract_name)?;
        pairs.push((client, listener.accept()?.0, Some(format!("@{}", String::from_utf8_lossy(&name)))));
    }
    let (one, other) = UnixStream::pair()?;
    pairs.push((one, other, None));
    let mut t = Talk::new();
    t.begin()?;
    for (bytes, (client, server, name)) in (100..).zip(&pairs) {
        // The accepted side knows its client by its own name: the client has none.
        t.send(client, bytes, "unix", name.as_deref())?;
        t.receive(server, bytes, "unix", name.as_deref())?;
        t.send(server, 3, "unix", name.as_deref())?;
        t.receive(client, 3, "unix", name.as_deref())?;
    }
    t.end()
}

fn unix_datagrams(_: &[String]) -> anyhow::Result<()> {
    let named = |name: &str| -> anyhow::Result<_> {
        let name = format!("zcprof-{name}-{}", std::process::id());
        Ok((UnixDatagram::bind_addr(&UnixAddress::from_abstract_name(&name)?)?, format!("@{name}")))
    };
    let ((one, at_one), (other, at_other)) = (named("one")?, named("other")?);
    one.connect_addr(&other.local_addr()?)?;
    let (left, right) = UnixDatagram::pair()?;
    let mut t = Talk::new();
    t.begin()?;
    t.send(&one, 55, "unix", Some(&at_other))?;
    // One that is not connected does not know from whom.
    t.receive(&other, 55, "unix", None)?;
    t.send(&left, 9, "unix", None)?;
    t.receive(&right, 9, "unix", None)?;
    other.connect_addr(&one.local_addr()?)?;
    t.send(&one, 56, "unix", Some(&at_other))?;
    t.receive(&other, 56, "unix", Some(&at_one))?;
    t.end()
}

/// Peers of one process are told apart.
fn many(_: &[String]) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let all = (0..20).map(|_| connect(&listener, "127.0.0.1")).collect::<anyhow::Result<Vec<_>>>()?;
    let mut t = Talk::new();
    t.begin()?;
    for (bytes, one) in (1..).zip(&all) {
        for _ in 0..bytes {
            t.send(&one.client, bytes, "tcp", Some(&one.at_client))?;
            t.receive(&one.server, bytes, "tcp", Some(&one.at_server))?;
        }
    }
    t.end()
}

fn uring(_: &[String]) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let Connection { client, server, at_client, at_server } = connect(&listener, "127.0.0.1")?;
    let mut ring = IoUring::new(8)?;
    let mut t = Talk::new();
    let at = t.at() as *mut u8;
    let (tx, rx) = (types::Fd(client.as_raw_fd()), types::Fd(server.as_raw_fd()));
    let vector = [iovec(at as usize, 500), iovec(at as usize + 600, 700)];
    let mut header = message(&vector);
    let entries = [
        (opcode::Send::new(tx, at, 1000).build(), 1000, true),
        (opcode::Recv::new(rx, at, 1000).build(), 1000, false),
        (opcode::Write::new(tx, at, 77).build(), 77, true),
        (opcode::Read::new(rx, at, 77).build(), 77, false),
        (opcode::SendMsg::new(tx, &raw const header).build(), 1200, true),
        (opcode::RecvMsg::new(rx, &raw mut header).build(), 1200, false),
    ];
    t.begin()?;
    for (entry, bytes, sends) in entries {
        // SAFETY: what the request points to lives until the scenario's end.
        unsafe { ring.submission().push(&entry) }.context("the queue is full")?;
        ring.submit_and_wait(1)?;
        let done = ring.completion().next().context("no completion")?.result();
        ensure!(done == bytes, "{done}, not {bytes}");
        let bytes = bytes as usize;
        if sends {
            t.expect("tcp", Some(&at_client), bytes, 0);
        } else {
            t.expect("tcp", Some(&at_server), 0, bytes);
        }
    }
    t.end()
}

/// sendfile and splice, which have a socket on one side or on both.
fn by_kernel(_: &[String]) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let Connection { client, server, at_client, at_server } = connect(&listener, "127.0.0.1")?;
    let file: OwnedFd = open::memfd(8192)?.into();
    let (out, into) = open::pipe()?;
    let mut t = Talk::new();
    let fd = |of: &dyn AsFd| arg(of.as_fd().as_raw_fd());
    t.begin()?;
    returns(5000, SYS_sendfile, &[fd(&client), fd(&file), 0, 5000])?;
    t.expect("tcp", Some(&at_client), 5000, 0);
    t.receive(&server, 1000, "tcp", Some(&at_server))?;
    returns(4000, SYS_splice, &[fd(&server), 0, fd(&into), 0, 4000, 0])?;
    t.expect("tcp", Some(&at_server), 0, 4000);
    returns(4000, SYS_splice, &[fd(&out), 0, fd(&server), 0, 4000, 0])?;
    t.expect("tcp", Some(&at_server), 4000, 0);
    t.receive(&client, 4000, "tcp", Some(&at_client))?;
    t.end()
}

/// Pipes and files have no peers.
fn none(_: &[String]) -> anyhow::Result<()> {
    let (out, into) = open::pipe()?;
    let mut file = open::memfd(4096)?;
    let mut t = Talk::new();
    let at = t.at();
    t.begin()?;
    returns(100, SYS_write, &[arg(into.as_raw_fd()), at, 100])?;
    returns(100, SYS_read, &[arg(out.as_raw_fd()), at, 100])?;
    file.write_all(&[1; 300])?;
    t.end()
}
