//! The service manager that may have started the daemon (sd_notify(3)): what it is told.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tracing::warn;

/// Where the service manager listens, if there is one. The socket is opened at once and kept: the confined daemon
/// can't open any (which is why sd-notify's own `notify`, which opens one for each message, is not used).
#[derive(Debug, Default)]
pub(super) struct Manager {
    socket: Option<UnixDatagram>,
    /// The longest silence that it takes for life.
    pub(super) patience: Option<Duration>,
}

impl Manager {
    /// The one that the environment names. Says so if it can't be reached.
    pub(super) fn of_environment() -> Self {
        let Some(address) = env::var_os("NOTIFY_SOCKET") else { return Self::default() };
        match connect(&address) {
            Ok(socket) => {
                let patience = sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero());
                Self { socket: Some(socket), patience }
            }
            Err(error) => {
                warn!(%error, socket = %address.display(), "the service manager can't be reached (NOTIFY_SOCKET)");
                Self::default()
            }
        }
    }

    /// It traces and answers.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// It was told to stop.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=detaching the probes");
    }

    /// It does what it is for.
    pub(super) fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, what: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(what.as_bytes()) {
            warn!(%error, what, "the service manager can't be told");
        }
    }
}

/// A path, or an abstract name after an @.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let address = match address.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A manager that does not listen must not hold the daemon up.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_abstract_names_are_reached() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("@{}", path.display());
        let abstractly = SocketAddr::from_abstract_name(&name.as_bytes()[1..]).unwrap();
        let listeners = [UnixDatagram::bind(&path).unwrap(), UnixDatagram::bind_addr(&abstractly).unwrap()];
        for (address, listener) in [path.as_os_str(), name.as_ref()].into_iter().zip(listeners) {
            let manager = Manager { socket: Some(connect(address).unwrap()), patience: None };
            manager.ready("well");
            let mut message = [0; 64];
            let length = listener.recv(&mut message).unwrap();
            assert_eq!(&message[..length], b"READY=1\nSTATUS=well");
        }
        assert!(connect(directory.path().join("nobody").as_os_str()).is_err());
        Manager::default().stopping();
    }
}
