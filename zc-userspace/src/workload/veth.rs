//! Two TCP sockets in network namespaces of their own, with a pair of virtual devices between them: what is sent goes
//! through a network device that can be told to take pages or not.
//!
//! The namespaces have no names. They live as long as the sockets do, and the devices as long as they.

use std::ffi::c_char;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _};
use std::thread;

use anyhow::{Context as _, anyhow, bail};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{self, MsgFlags, SockFlag, SockProtocol, SockType};

use super::channel::Pair;
use super::sockets::connected;

/// The device that the workload sends through.
const NEAR: &str = "zcprof0";
/// The one that its peer receives from.
const FAR: &str = "zcprof1";
/// Addresses for documentation (RFC 5737): the namespaces lead nowhere.
const NEAR_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const FAR_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// Two connected sockets; the first one's device takes pages (scatter-gather), or does not.
pub(super) fn tcp(scatter_gather: bool) -> anyhow::Result<Pair> {
    let far = in_new_namespace(this_namespace)?;
    in_new_namespace(move || {
        make_devices(&far)?;
        up(NEAR, NEAR_ADDRESS)?;
        if !scatter_gather {
            refuse_pages(NEAR)?;
        }
        let listener = in_namespace(&far, || {
            up(FAR, FAR_ADDRESS)?;
            Ok(TcpListener::bind((FAR_ADDRESS, 0))?)
        })?;
        to(&listener)
    })
}

/// Two network devices of this host that are connected to each other, each in a network namespace of its own. A physical
/// one comes back when this is gone, switched off and without its addresses; a virtual one does not.
#[derive(Debug)]
pub struct Devices {
    near: File,
    far: File,
}

impl Devices {
    /// Takes them from the network namespace that this runs in.
    ///
    /// # Errors
    /// If there are no such devices, or without root.
    pub fn take(near: &str, far: &str) -> anyhow::Result<Self> {
        let into_its_own = |device: &str, address| -> anyhow::Result<File> {
            let namespace = in_new_namespace(this_namespace)?;
            let mut link = LinkMessage::default();
            link.header.index = if_nametoindex(device).with_context(|| format!("the network device {device}"))?;
            link.attributes.push(LinkAttribute::NetNsFd(namespace.as_raw_fd()));
            ask(RouteNetlinkMessage::SetLink(link), 0).with_context(|| format!("moving {device} to a namespace"))?;
            in_namespace(&namespace, || up(device, address))?;
            Ok(namespace)
        };
        Ok(Self { near: into_its_own(near, NEAR_ADDRESS)?, far: into_its_own(far, FAR_ADDRESS)? })
    }

    /// Two sockets connected through them, the first of which sends through the near one.
    ///
    /// # Errors
    /// If they can't be connected.
    pub fn connect(&self) -> anyhow::Result<Pair> {
        let listener = in_namespace(&self.far, || Ok(TcpListener::bind((FAR_ADDRESS, 0))?))?;
        in_namespace(&self.near, || to(&listener))
    }
}

fn this_namespace() -> anyhow::Result<File> {
    File::open("/proc/thread-self/ns/net").context("this thread's network namespace")
}

/// A connection to a listener of another namespace.
fn to(listener: &TcpListener) -> anyhow::Result<Pair> {
    let near = TcpStream::connect(SocketAddr::from((FAR_ADDRESS, listener.local_addr()?.port())))?;
    connected(near, listener)
}

/// Why there can be none here.
pub(super) fn unavailable() -> Option<String> {
    let refused = tcp(true).err()?;
    Some(format!("needs root and the kernel module veth, to make network namespaces: {refused:#}"))
}

/// Does something in a thread with a network namespace of its own.
fn in_new_namespace<T: Send>(action: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    in_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).context("a network namespace")?;
        action()
    })
}

fn in_namespace<T: Send>(namespace: &File, action: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    in_thread(|| {
        nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET).context("entering a network namespace")?;
        action()
    })
}

fn in_thread<T: Send>(action: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    thread::scope(|scope| scope.spawn(action).join().map_err(|_| anyhow!("the thread of a namespace panicked"))?)
}

/// Makes a pair of devices: one here, the other in a namespace.
fn make_devices(far: &impl AsFd) -> anyhow::Result<()> {
    let mut peer = LinkMessage::default();
    peer.attributes.push(LinkAttribute::IfName(FAR.to_owned()));
    peer.attributes.push(LinkAttribute::NetNsFd(far.as_fd().as_raw_fd()));
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(NEAR.to_owned()));
    link.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    ask(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL).context("making a pair of veth devices")
}

/// Gives a device of this namespace an address, and switches it on.
fn up(device: &str, address: Ipv4Addr) -> anyhow::Result<()> {
    let index = if_nametoindex(device)?;
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = 30;
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(address.into()));
    message.attributes.push(AddressAttribute::Address(address.into()));
    ask(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL).context("an address")?;
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    ask(RouteNetlinkMessage::SetLink(link), 0).context("switching a device on")
}

/// Asks the kernel, and waits for its answer.
fn ask(message: RouteNetlinkMessage, flags: u16) -> anyhow::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    let route = socket::socket(
        socket::AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    socket::send(route.as_raw_fd(), &bytes, MsgFlags::empty())?;
    let mut answer = vec![0; 8192];
    let length = socket::recv(route.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer[..length])?.payload {
        NetlinkPayload::Error(error) if error.code.is_none() => Ok(()),
        NetlinkPayload::Error(error) => Err(Errno::from_raw(-error.raw_code()).into()),
        other => bail!("an answer of another kind: {other:?}"),
    }
}

/// `struct ethtool_value` (include/uapi/linux/ethtool.h, v6.1).
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Switches a device's scatter-gather off.
fn refuse_pages(device: &str) -> anyhow::Result<()> {
    /// include/uapi/linux/ethtool.h, v6.1.
    const ETHTOOL_SSG: u32 = 0x19;
    /// include/uapi/linux/sockios.h, v6.1.
    const SIOCETHTOOL: libc::Ioctl = 0x8946;
    let mut value = EthtoolValue { command: ETHTOOL_SSG, data: 0 };
    // SAFETY: all zero is a request without a name.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = from as c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    let any = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: the request and the value that it points to outlive the call.
    let done = unsafe { libc::ioctl(any.as_fd().as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    Errno::result(done).map(drop).with_context(|| format!("switching scatter-gather of {device} off"))
}
