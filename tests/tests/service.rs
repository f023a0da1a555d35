//! The daemon as a service: what it tells a service manager, the sockets that it takes from one, and the units that we
//! ship, as systemd judges them. No systemd runs here: the tests play its part.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use common::daemon::Daemon;
use common::http::get;
use common::process::{Running, until};
use common::{Scratch, command, leftovers, run, without, without_root, zcprof};
use nix::sys::signal::Signal;

/// The worst that `systemd-analyze security` may say of the service; 0 is best, 10 worst.
const EXPOSURE: &str = "9"; // of its --threshold, in tenths.

/// Makes standard input descriptor 3, and the process the one that it is meant for, as systemd does.
const HAND_OVER: &str = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"";

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd")
}

/// All values of a directive of the service, in order.
fn directive(name: &str) -> Result<Vec<String>> {
    let unit = fs::read_to_string(units().join("zcprof.service"))?;
    let values = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    Ok(values.map(str::to_owned).collect())
}

/// A command that is handed a listening socket as systemd hands it over.
fn handed(socket: impl Into<OwnedFd>, words: &[&str]) -> Command {
    let mut start = Command::new("sh");
    start.args(["-c", HAND_OVER, "sh"]).args(words).stdin(Stdio::from(socket.into()));
    start
}

fn path() -> Result<&'static str> {
    zcprof().to_str().context("a path in UTF-8")
}

/// The next message to the service manager.
fn message(manager: &UnixDatagram) -> Result<String> {
    let mut bytes = [0; 1024];
    let length = manager.recv(&mut bytes).context("no message to the service manager")?;
    Ok(String::from_utf8(bytes[..length].to_vec())?)
}

#[test]
fn tells_the_service_manager_when_it_is_ready_alive_and_stopping() -> Result<()> {
    let scratch = Scratch::new()?;
    let manager = UnixDatagram::bind(scratch.at("notify"))?;
    manager.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut start = command(["daemon", "--web.listen-address", "127.0.0.1:0"]);
    start.env("NOTIFY_SOCKET", scratch.at("notify")).env("WATCHDOG_USEC", "300000");
    let mut daemon = Daemon::launch_by(&mut start)?;
    let ready = message(&manager)?;
    assert!(ready.starts_with("READY=1\nSTATUS=tracing with "), "{ready:?}");
    assert_eq!(get(daemon.address, "/-/ready")?.status, 200, "ready when it says so");
    for _ in 0..4 {
        assert_eq!(message(&manager)?, "WATCHDOG=1");
    }
    // One that does not run is not alive.
    daemon.process.signal(Signal::SIGSTOP)?;
    manager.set_read_timeout(Some(Duration::from_millis(300)))?;
    until("silence", || Ok(message(&manager).is_err().then_some(())))?;
    manager.set_read_timeout(Some(Duration::from_secs(60)))?;
    daemon.process.signal(Signal::SIGCONT)?;
    assert_eq!(message(&manager)?, "WATCHDOG=1");
    assert_eq!(daemon.process.end_by(Signal::SIGTERM)?.status, 0, "{}", daemon.log());
    let last = until("its last word", || Ok(Some(message(&manager)?).filter(|said| said != "WATCHDOG=1")))?;
    assert!(last.starts_with("STOPPING=1\n"), "{last:?}");
    leftovers::assert_none()
}

#[test]
fn without_a_watchdog_it_does_not_report_for_life() -> Result<()> {
    let scratch = Scratch::new()?;
    let manager = UnixDatagram::bind(scratch.at("notify"))?;
    manager.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut start = command(["daemon", "--web.listen-address", "127.0.0.1:0"]);
    // A deadline of somebody else's.
    start.env("NOTIFY_SOCKET", scratch.at("notify")).env("WATCHDOG_USEC", "300000").env("WATCHDOG_PID", "1");
    let mut daemon = Daemon::launch_by(&mut start)?;
    assert!(message(&manager)?.starts_with("READY=1\n"));
    assert_eq!(daemon.process.end_by(Signal::SIGTERM)?.status, 0, "{}", daemon.log());
    assert!(message(&manager)?.starts_with("STOPPING=1\n"));
    Ok(())
}

#[test]
fn a_service_manager_that_is_not_there_is_complained_of_and_done_without() -> Result<()> {
    let scratch = Scratch::new()?;
    let mut start = command(["daemon", "--web.listen-address", "127.0.0.1:0"]);
    let daemon = Daemon::launch_by(start.env("NOTIFY_SOCKET", scratch.at("nobody")))?;
    assert!(daemon.log().contains("NOTIFY_SOCKET"), "{}", daemon.log());
    assert_eq!(daemon.get("/-/ready")?.status, 200);
    Ok(())
}

/// In a network of its own, as in the unit: only what it was handed connects it with ours. And as the unit's user, with
/// the unit's capabilities and view of /proc.
#[test]
fn serves_on_a_socket_that_it_was_handed_with_what_the_unit_leaves_it() -> Result<()> {
    if without_root() {
        return Ok(());
    }
    let scratch = Scratch::open_to_all()?;
    fs::copy(zcprof(), scratch.at("zcprof"))?;
    let bounds = directive("AmbientCapabilities")?.concat().to_lowercase().replace("cap_", "+").replace(' ', ",");
    assert_eq!(bounds, "+bpf,+perfmon");
    assert_eq!(directive("CapabilityBoundingSet")?, directive("AmbientCapabilities")?);
    assert_eq!(
        (directive("PrivateNetwork")?.concat(), directive("ProcSubset")?.concat()),
        ("yes".into(), "pid".into())
    );
    let user = format!(
        "mount -t proc -o subset=pid proc /proc && exec setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs \
         --inh-caps=-all,{bounds} --ambient-caps=-all,{bounds} --bounding-set=-all,{bounds} -- \"$@\""
    );
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let binary = scratch.at("zcprof");
    let words = ["unshare", "--mount", "--net", "--", "sh", "-ec", &user, "sh", &binary, "daemon"];
    let mut daemon = Daemon::launch_by(&mut handed(listener, &words))?;
    assert_eq!(daemon.address, address);
    assert!(daemon.log().contains("confined: files by landlock, system calls by seccomp"), "{}", daemon.log());
    // It sees processes of others, and what they are in.
    let data = format!("if={}", scratch.file("data", 54_321)?);
    let mut dd = Running::start(Command::new("dd").args([&data, "of=/dev/null", "bs=64K"]))?;
    assert_eq!(dd.end()?.status, 0);
    let profile = daemon.json(&format!("/api/v1/processes/{}", dd.pid()))?;
    let written = profile["paths"].as_array().context("paths")?.iter().find(|one| one["id"] == "write:user:device");
    assert_eq!(written.and_then(|path| path["bytes"].as_u64()), Some(54_321), "{profile}");
    let own = daemon.json(&format!("/api/v1/processes/{}", std::process::id()))?;
    let own = &own["processes"][0];
    // What docs/operations.md says of such a user: it knows the executed file of what began under its eyes alone.
    assert!(own["cgroup"].is_string() && own["exe"].is_null(), "{own}");
    let exe = profile["processes"][0]["exe"].as_str();
    assert!(exe.is_some_and(|exe| exe.ends_with("dd")), "{profile}");
    let ended = daemon.process.end_by(Signal::SIGTERM)?;
    assert_eq!(ended.status, 0, "{}", daemon.log());
    leftovers::assert_none()
}

#[test]
fn a_handed_socket_takes_the_place_of_the_default_address_but_not_of_one_that_is_given() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (first, own) = (listener.local_addr()?, listener.try_clone()?);
    let daemon = Daemon::launch_by(&mut handed(own, &[path()?, "daemon"]))?;
    assert_eq!(listening(&daemon.log()), [first.to_string()]);
    drop(daemon);
    let words = [path()?, "daemon", "--web.listen-address", "127.0.0.1:0"];
    let daemon = Daemon::launch_by(&mut handed(listener, &words))?;
    let addresses = until("both addresses", || Ok(Some(listening(&daemon.log())).filter(|all| all.len() == 2)))?;
    assert_eq!(addresses[0], first.to_string());
    for address in addresses {
        assert_eq!(get(address.parse::<SocketAddr>()?, "/-/ready")?.status, 200, "{address}");
    }
    Ok(())
}

fn listening(log: &str) -> Vec<String> {
    log.lines().filter_map(|line| Some(line.split_once("listening address=")?.1.to_owned())).collect()
}

#[test]
fn a_handed_unix_socket_serves_http() -> Result<()> {
    let scratch = Scratch::new()?;
    let socket = scratch.at("zcprof.sock");
    let listener = UnixListener::bind(&socket)?;
    let mut daemon = Running::start(&mut handed(listener, &[path()?, "daemon"]))?;
    // The kernel queues it until the daemon traces.
    let mut stream = UnixStream::connect(&socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(b"GET /-/ready HTTP/1.1\r\nHost: zcprof\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let ended = daemon.end_by(Signal::SIGTERM)?;
    assert!(ended.status == 0 && ended.stderr.contains(&format!("address=unix:{socket}")), "{ended:?}");
    Ok(())
}

/// At a path of its own: for owner and group alone, in place of what an earlier one left there, and never in place of
/// one that lives.
#[test]
fn a_path_is_listened_on_and_who_connects_is_told() -> Result<()> {
    let scratch = Scratch::new()?;
    let socket = scratch.at("own.sock");
    let address = format!("unix:{socket}");
    for _ in 0..2 {
        let mut start = command(["daemon", "--log.level", "debug", "--web.listen-address", &address]);
        // More than a pipe holds.
        start.stdout(Stdio::null()).stderr(fs::File::create(scratch.at("log"))?);
        let mut daemon = Running::start_as_is(&mut start)?;
        let mut stream = until("the socket", || match UnixStream::connect(&socket) {
            Ok(stream) => Ok(Some(stream)),
            Err(_) if daemon.child().try_wait()?.is_none() => Ok(None),
            Err(_) => anyhow::bail!("{}", scratch.read("log")?),
        })?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        assert_eq!(fs::metadata(&socket)?.permissions().mode() & 0o777, 0o660);
        stream.write_all(b"GET /-/ready HTTP/1.1\r\nHost: zcprof\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let second = run(&mut command(["daemon", "--web.listen-address", &address]))?;
        assert!(second.status == 2 && second.stderr.contains("in use"), "{second:?}");
        let ended = daemon.end_by(Signal::SIGTERM)?;
        let told = format!("pid={}", std::process::id());
        let log = scratch.read("log")?;
        assert!(ended.status == 0 && log.contains(&told), "{told}: {log}");
    }
    let file = scratch.text("file", "not a socket")?;
    let refused = run(&mut command(["daemon", "--web.listen-address", &format!("unix:{file}")]))?;
    assert!(refused.status == 2 && scratch.read("file")? == "not a socket", "{refused:?}");
    Ok(())
}

#[test]
fn what_it_should_not_be_handed_is_refused() -> Result<()> {
    let open = TcpListener::bind("0.0.0.0:0")?;
    let refused = |mut start: Command, says: &[&str]| -> Result<()> {
        let ended = Running::start(&mut start)?.end()?;
        assert_eq!(ended.status, 2, "{ended:?}");
        assert!(says.iter().all(|part| ended.stderr.contains(part)), "{says:?}: {ended:?}");
        Ok(())
    };
    let at = open.local_addr()?.to_string();
    refused(handed(open, &[path()?, "daemon"]), &[&at, "--web.insecure", "ListenStream="])?;
    refused(handed(fs::File::open("/dev/null")?, &[path()?, "daemon"]), &["descriptor 3", "not a socket"])?;
    // Announced, and not there.
    let mut nothing = Command::new("sh");
    nothing.args(["-c", "exec 3<&-; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"", "sh", path()?, "daemon"]);
    refused(nothing, &["LISTEN_FDS"])?;
    leftovers::assert_none()
}

#[test]
fn systemd_is_content_with_the_units() -> Result<()> {
    if without("systemd-analyze") {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    // It wants to see the program, too.
    let service = fs::read_to_string(units().join("zcprof.service"))?;
    assert!(service.contains("ExecStart=/usr/bin/zcprof daemon "), "{service}");
    let service = scratch.text("zcprof.service", service.replace("/usr/bin/zcprof", path()?))?;
    let socket = scratch.at("zcprof.socket");
    fs::copy(units().join("zcprof.socket"), &socket)?;
    let verified = run(Command::new("systemd-analyze").args(["verify", "--man=no", &service, &socket]))?;
    assert_eq!((verified.status, verified.stderr.as_str()), (0, ""), "{verified:?}");
    let words = ["security", "--offline=true", "--threshold", EXPOSURE, "--no-pager", &service];
    let judged = run(Command::new("systemd-analyze").args(words))?;
    assert_eq!(judged.status, 0, "{judged:?}");
    // A line that it does not know would be passed over with a warning.
    let odd = scratch.text("odd.service", "[Service]\nExecStart=/bin/true\nCapabilities=CAP_BPF\n")?;
    assert!(!run(Command::new("systemd-analyze").args(["verify", "--man=no", &odd]))?.stderr.is_empty());
    Ok(())
}

/// The system calls that the unit's filter leaves, as systemd makes it up: line by line.
fn allowed() -> Result<BTreeSet<String>> {
    let mut allowed = names("@default")?;
    for line in directive("SystemCallFilter")? {
        let (deny, words) = line.strip_prefix('~').map_or((false, line.as_str()), |words| (true, words));
        for word in words.split_whitespace() {
            let names = names(word)?;
            if deny {
                allowed.retain(|name| !names.contains(name));
            } else {
                allowed.extend(names);
            }
        }
    }
    Ok(allowed)
}

/// A set's members, or the call itself.
fn names(word: &str) -> Result<BTreeSet<String>> {
    if !word.starts_with('@') {
        return Ok(BTreeSet::from([word.to_owned()]));
    }
    let listed = run(Command::new("systemd-analyze").args(["syscall-filter", "--no-pager", word]))?;
    assert_eq!(listed.status, 0, "{word}: {listed:?}");
    let mut found = BTreeSet::new();
    for member in listed.stdout.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        found.extend(names(member)?);
    }
    Ok(found)
}

#[test]
fn the_units_filter_leaves_all_calls_that_the_daemon_makes() -> Result<()> {
    if without("systemd-analyze") || without("strace") {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let manager = UnixDatagram::bind(scratch.at("notify"))?;
    let trace = scratch.at("trace");
    let listener = TcpListener::bind("127.0.0.1:0")?;
    // strace has another pid than the daemon: the sockets are announced inside of it.
    let inner = ["strace", "-f", "-qq", "-o", &trace, "sh", "-c", HAND_OVER, "sh", path()?, "daemon"];
    let mut start = Command::new(inner[0]);
    start.args(&inner[1..]).stdin(Stdio::from(OwnedFd::from(listener)));
    start.env("NOTIFY_SOCKET", scratch.at("notify")).env("WATCHDOG_USEC", "500000");
    let mut daemon = Daemon::launch_by(&mut start)?;
    let begun = Instant::now();
    for route in ["/metrics", "/", "/api/v1/processes", "/api/v1/processes?sort=copied&limit=3", "/api/v1/rules"] {
        assert_eq!(get(daemon.address, route)?.status, 200, "{route}");
    }
    std::thread::sleep(Duration::from_secs(2).saturating_sub(begun.elapsed()));
    // strace hands the signal on to nobody: the daemon is its child.
    let pid = fs::read_to_string(format!("/proc/{0}/task/{0}/children", daemon.process.pid()))?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.trim().parse()?), Signal::SIGTERM)?;
    assert_eq!(daemon.process.end()?.status, 0, "{}", daemon.log());
    let trace = scratch.read("trace")?;
    // From where the shell has become the daemon.
    let (_, trace) = trace.split_once(&format!("execve(\"{}\"", path()?)).context("the daemon's execve")?;
    let made: BTreeSet<_> = trace.lines().skip(1).filter_map(called).collect();
    for needed in ["bpf", "capset", "seccomp", "landlock_restrict_self", "accept4", "sendto"] {
        assert!(made.contains(needed), "{needed} is not in {made:?}");
    }
    let allowed = allowed()?;
    let refused: Vec<_> = made.iter().filter(|call| !allowed.contains(**call)).collect();
    assert!(refused.is_empty(), "the unit's SystemCallFilter refuses {refused:?}");
    assert!(!allowed.contains("init_module") && !allowed.contains("setuid"), "it should refuse something");
    drop(manager);
    Ok(())
}

/// The call of a line of strace's: `PID name(…`.
fn called(line: &str) -> Option<&str> {
    let (name, _) = line.split_once(' ')?.1.trim_start().split_once('(')?;
    (!name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')).then_some(name)
}
