//! The demo: a daemon with its HTTP API, every copy path driven, the table, and the requests to try.

mod daemon;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::Context as _;

use crate::signals::Held;
use crate::stop::Stop;
use crate::{http, preflight, process};
use daemon::Daemon;

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9750);

const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Builds, starts, drives, shows; then ends (`exit`) or stays up until Ctrl-C.
pub(crate) fn run(root: &Path, exit: bool) -> anyhow::Result<()> {
    // Before the build, which takes minutes.
    preflight::tracing(Some(&process::target_dir(root).join("release/zcprof")), "demo")?;
    free(ADDRESS)?;
    let zcprof = process::build_zcprof(root)?;
    // A new binary has lost the capabilities of the old one.
    preflight::tracing(Some(&zcprof), "demo")?;

    // From here on Ctrl-C ends the daemon before it ends us.
    let signals = Held::new()?;
    let mut daemon = Daemon::start(&zcprof, ADDRESS)?;
    daemon.wait_until_ready()?;
    println!("\nzcprof's daemon (pid {}) answers on http://{ADDRESS}\n", daemon.pid());
    let validated = process::status(Command::new(&zcprof).arg("validate"))?;
    requests();

    if !exit && !signals.came() && validated.code().is_some_and(|code| code != 2) {
        println!("\nThe daemon stays up: press Ctrl-C to end it.");
        while !signals.came() {
            daemon.is_running()?;
            std::thread::sleep(BETWEEN_LOOKS);
        }
    }
    daemon.stop()?;
    passed_on(validated)
}

fn passed_on(status: ExitStatus) -> anyhow::Result<()> {
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(Stop::Status(u8::try_from(code).unwrap_or(1)).into()),
        None => anyhow::bail!("`zcprof validate`: {status}"),
    }
}

fn free(address: SocketAddr) -> anyhow::Result<()> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(Stop::Cannot(format!(
            "{address} is in use, perhaps by another zcprof: `ss -ltnp sport = :{}` shows by whom; end it and run this again",
            address.port()
        ))
        .into()),
        Err(error) => Err(error).with_context(|| format!("can't listen on {address}")),
    }
}

/// The requests to try, with the id of a process that the daemon knows.
fn requests() {
    let known = http::get(ADDRESS, "/api/v1/processes?limit=1").ok().and_then(|(_, body)| first_pid(&body));
    let pid = known.unwrap_or_else(std::process::id);
    println!("\nTry:");
    for path in ["/metrics", "/api/v1/processes?limit=5", "/api/v1/paths", "/openapi.json"] {
        println!("  curl -s 'http://{ADDRESS}{path}'");
    }
    println!("  curl -s 'http://{ADDRESS}/api/v1/processes/{pid}'");
}

fn first_pid(json: &str) -> Option<u32> {
    let (_, after) = json.split_once("\"pid\":")?;
    let digits = after.trim_start().split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_is_found() {
        assert_eq!(first_pid("{\"processes\":[{\"pid\": 42,\"comm\":\"x\"}]}"), Some(42));
        assert_eq!(first_pid("{\"processes\":[]}"), None);
    }

    #[test]
    fn a_port_in_use_is_said_in_one_line() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let error = free(taken.local_addr().unwrap()).unwrap_err();
        let Some(Stop::Cannot(why)) = error.downcast_ref() else { panic!("{error:#}") };
        assert!(why.contains("is in use") && !why.contains('\n'), "{why}");
    }
}
