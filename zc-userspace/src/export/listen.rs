//! Sockets that the daemon answers on: its own, or those that a service manager has opened for it.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{AddressFamily, SockType, SockaddrLike as _, SockaddrStorage, getsockname, getsockopt, sockopt};
use nix::sys::stat::{Mode, umask};
use tracing::debug;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Over IP.
    Tcp(SocketAddr),
    /// At a path, for this host's processes.
    Unix(PathBuf),
}

impl Address {
    /// The address, if it can be reached from other hosts.
    #[must_use]
    pub fn open_to_others(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address).filter(|at| !at.ip().to_canonical().is_loopback()),
            Self::Unix(_) => None,
        }
    }
}

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// Over IP.
    Tcp(TcpListener),
    /// On this host alone; who may connect is the socket file's mode.
    Unix(UnixListener),
}

impl Listener {
    /// Listens on an address of ours.
    ///
    /// # Errors
    /// If it can't be had, with a way out.
    pub fn bind(address: &Address) -> Result<Self> {
        let address = match address {
            Address::Tcp(address) => address,
            Address::Unix(path) => return bind_path(path).map(Self::Unix),
        };
        let bound = TcpListener::bind(address).with_context(|| {
            format!("can't listen on {address}; choose another with --web.listen-address, e.g. {}:9751", address.ip())
        })?;
        Ok(Self::Tcp(bound))
    }

    /// The address, if it can be reached from other hosts.
    #[must_use]
    pub fn open_to_others(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().and_then(|at| Address::Tcp(at).open_to_others()),
            Self::Unix(_) => None,
        }
    }

    fn from_descriptor(descriptor: OwnedFd) -> Result<Self> {
        let streams = getsockopt(&descriptor, sockopt::SockType).context("not a socket")? == SockType::Stream;
        if !(streams && getsockopt(&descriptor, sockopt::AcceptConn)?) {
            bail!("not a socket that listens for connections (Accept=no and ListenStream= in a socket unit)");
        }
        let address: SockaddrStorage = getsockname(std::os::fd::AsRawFd::as_raw_fd(&descriptor.as_fd()))?;
        match address.family() {
            Some(AddressFamily::Inet | AddressFamily::Inet6) => Ok(Self::Tcp(descriptor.into())),
            Some(AddressFamily::Unix) => Ok(Self::Unix(descriptor.into())),
            family => bail!("neither TCP nor a Unix socket: {family:?}"),
        }
    }
}

/// As the log has it.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or(Err(fmt::Error), |address| address.fmt(f)),
            Self::Unix(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "unix:{}", address.as_pathname().unwrap_or("(unnamed)".as_ref()).display()),
                Err(_) => Err(fmt::Error),
            },
        }
    }
}

/// Listens at a path that its owner and group may connect to. A socket that nobody listens on any more (the confined
/// daemon can't remove its own) is replaced. To be called while there is one thread: the umask is the process's.
fn bind_path(path: &Path) -> Result<UnixListener> {
    let hint = || format!("can't listen on unix:{}; choose another path with --web.listen-address", path.display());
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
        std::fs::remove_file(path).with_context(hint)?;
    }
    let before = umask(Mode::from_bits_truncate(0o117));
    let bound = UnixListener::bind(path);
    umask(before);
    bound.with_context(hint)
}

/// The sockets that a service manager has opened for this process (sd_listen_fds(3)); none if it has not. To be called
/// once.
///
/// # Errors
/// If what was handed over is not there, or does not listen.
pub fn inherited() -> Result<Vec<Listener>> {
    let descriptors = sd_notify::listen_fds().context("the sockets that LISTEN_FDS announces")?;
    descriptors.map(|number| adopt(number).with_context(|| format!("descriptor {number} of LISTEN_FDS"))).collect()
}

fn adopt(number: RawFd) -> Result<Listener> {
    // SAFETY: LISTEN_PID names this process: the descriptor was opened for it before it began, and is no one else's. It
    // is open, for close-on-exec could just be set on it.
    Listener::from_descriptor(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A listener among the server's tasks.
pub(super) enum Accepting {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

/// A client.
pub(super) enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

impl Accepting {
    pub(super) fn new(listener: Listener) -> io::Result<Self> {
        match listener {
            Listener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                tokio::net::TcpListener::from_std(listener).map(Self::Tcp)
            }
            Listener::Unix(listener) => {
                listener.set_nonblocking(true)?;
                tokio::net::UnixListener::from_std(listener).map(Self::Unix)
            }
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred()?;
                debug!(user = peer.uid(), group = peer.gid(), pid = peer.pid(), "connected by unix socket");
                Ok(Stream::Unix(stream))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_told_by_what_they_are() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let adopted = Listener::from_descriptor(tcp.into()).unwrap();
        assert!(matches!(adopted, Listener::Tcp(_)) && adopted.open_to_others().is_none());
        assert_eq!(adopted.to_string(), address.to_string());
        let open = Listener::from_descriptor(TcpListener::bind("0.0.0.0:0").unwrap().into()).unwrap();
        assert!(open.open_to_others().is_some());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let unix = Listener::from_descriptor(UnixListener::bind(&path).unwrap().into()).unwrap();
        assert_eq!((unix.to_string(), unix.open_to_others()), (format!("unix:{}", path.display()), None));
        let file: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        assert!(Listener::from_descriptor(file).unwrap_err().to_string().contains("not a socket"));
        let datagrams: OwnedFd = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into();
        assert!(Listener::from_descriptor(datagrams).unwrap_err().to_string().contains("ListenStream="));
    }
}
