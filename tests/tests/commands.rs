//! What can be wrong: input, privileges, kernel and eBPF object. Each ends with the contract's status and a line that says
//! what to do, and leaves nothing in the kernel.

mod common;

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use common::process::{Running, until_watching};
use common::profile::{Profile, recorder};
use common::{Ended, Scratch, command, leftovers, run, run_zcprof, without_root, zcprof};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Greater than any pid can be (PID_MAX_LIMIT).
const NOBODYS_PID: &str = "4194305";
/// Nobody's user and group id.
const NOBODY: u32 = 65534;
/// Names another eBPF object than the built-in one.
const OBJECT: &str = "ZCPROF_EBPF_OBJECT";

/// Fails unless it ended with this status, without a report, and one line on standard error that has all of these.
fn assert_refused(ended: &Ended, status: i32, says: &[&str]) {
    assert_eq!((ended.status, ended.stdout.as_str()), (status, ""), "{ended:?}");
    assert_eq!(ended.stderr.trim_end().lines().count(), 1, "one line, not {}", ended.stderr);
    assert!(ended.stderr.starts_with("zcprof: "), "{}", ended.stderr);
    for part in says {
        assert!(ended.stderr.contains(part), "{part:?} is not in {}", ended.stderr);
    }
}

#[test]
fn a_pid_that_nobody_has_is_no_match() -> Result<()> {
    let ended = run_zcprof(&["profile", "--pid", NOBODYS_PID, "--for", "1m"])?;
    assert_refused(&ended, 3, &[NOBODYS_PID]);
    let ended = run_zcprof(&["verify", "--pid", NOBODYS_PID, "--mechanism", "read", "--for", "1m"])?;
    assert_refused(&ended, 3, &[NOBODYS_PID]);
    leftovers::assert_none()
}

#[test]
fn a_process_that_ends_within_the_window_keeps_its_figures() -> Result<()> {
    const SIZE: usize = 1_234_567;
    let scratch = Scratch::new()?;
    scratch.file("a", SIZE)?;
    scratch.file("b", 0)?;
    let script = "read go; exec dd if=a of=b bs=64K";
    let mut reader = Command::new("sh");
    reader.args(["-c", script]).current_dir(scratch.path()).stdin(Stdio::piped());
    let mut reader = Running::start(&mut reader)?;
    let pid = reader.pid().to_string();
    let mut profile = Running::start(&mut command(["profile", "--json", "--for", "10m", "--pid", &pid]))?;
    until_watching(&mut profile)?;
    reader.child().stdin.take().context("a pipe")?.write_all(b"go\n")?;
    assert_eq!(reader.end()?.status, 0);
    let ended = profile.end_by(Signal::SIGINT)?;
    assert_eq!(ended.status, 0, "{ended:?}");
    let profile = Profile::parse(&ended.stdout)?;
    profile.assert_complete();
    profile.assert_bytes("write:user:file", SIZE as u64);
    assert!(profile.bytes("read:file:user") >= SIZE as u64, "{profile}");
    let process = &profile.0["processes"][0];
    assert_eq!((process["pid"].to_string(), process["exited"].as_bool()), (pid, Some(true)));
    assert_eq!(process["comm"], "dd");
    Ok(())
}

#[test]
fn peers_are_those_of_the_window() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let mut client = TcpStream::connect(&address)?;
    let _server = listener.accept()?;
    client.write_all(&[1; 1000])?;
    let pid = std::process::id().to_string();
    let mut profile = Running::start(&mut command(["profile", "--json", "--for", "10m", "--pid", &pid]))?;
    until_watching(&mut profile)?;
    client.write_all(&[1; 5000])?;
    let ended = profile.end_by(Signal::SIGINT)?;
    assert_eq!(ended.status, 0, "{ended:?}");
    let profile = Profile::parse(&ended.stdout)?.0;
    assert_eq!(profile["peers_since"], "window");
    let mut peers = profile["peers"].as_array().context("no peers")?.iter();
    let peer = peers.find(|peer| peer["address"] == address).context("no such peer")?;
    assert_eq!((&peer["protocol"], &peer["operations"]), (&"tcp".into(), &1.into()), "{peer}");
    assert_eq!((&peer["sent_bytes"], &peer["received_bytes"]), (&5000.into(), &0.into()), "{peer}");
    Ok(())
}

#[test]
fn the_window_ends_by_itself() -> Result<()> {
    let mut sleeper = Running::start(Command::new("sleep").arg("600"))?;
    let ended = run_zcprof(&["profile", "--json", "--for", "300ms", "--pid", &sleeper.pid().to_string()])?;
    assert_eq!(ended.status, 0, "{ended:?}");
    let profile = Profile::parse(&ended.stdout)?;
    let window = profile.0["window_seconds"].as_f64().context("a window")?;
    assert!((0.3..20.0).contains(&window), "{window}");
    assert!(sleeper.child().try_wait()?.is_none());
    Ok(())
}

#[test]
fn an_unknown_mechanism_is_refused_with_those_there_are() -> Result<()> {
    let ended = run_zcprof(&["verify", "--pid", "1", "--mechanism", "sendfiel"])?;
    assert_eq!((ended.status, ended.stdout.as_str()), (2, ""));
    for name in ["sendfiel", "sendfile", "splice", "copy_file_range", "io_uring_zerocopy"] {
        assert!(ended.stderr.contains(name), "{name}: {}", ended.stderr);
    }
    Ok(())
}

#[test]
fn record_tells_a_missing_command_from_one_that_can_not_run() -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.file("file", 10)?;
    let record = |word: &str| run(recorder(&scratch, "report.json").arg(word));
    assert_refused(&record("no-such-command-anywhere")?, 127, &["no-such-command-anywhere"]);
    assert_refused(&record(&scratch.at("none"))?, 127, &["none"]);
    assert_refused(&record(&file)?, 126, &["Permission denied"]);
    assert_refused(&record(&scratch.at(""))?, 126, &[]);
    leftovers::assert_none()
}

#[test]
fn record_does_not_run_what_it_could_not_report() -> Result<()> {
    let scratch = Scratch::new()?;
    let mark = scratch.at("mark");
    let ended = run_zcprof(&["record", "-o", &scratch.at("none/report"), "--", "touch", &mark])?;
    assert_refused(&ended, 125, &["none/report"]);
    let ended = run_zcprof(&["record", "-o", &scratch.at(""), "--", "touch", &mark])?;
    assert_refused(&ended, 125, &[&scratch.at("")]);
    let ended = run_zcprof(&["record", "--nonsense", "--", "touch", &mark])?;
    assert_eq!(ended.status, 125, "{ended:?}");
    assert!(!fs::exists(mark)?);
    Ok(())
}

/// What zcprof makes of another eBPF object.
fn with_object(object: &str, words: &[&str]) -> Result<Ended> {
    run(command(words).env(OBJECT, object))
}

const WATCH_INIT: [&str; 5] = ["profile", "--pid", "1", "--for", "1ms"];

#[test]
fn an_object_that_is_missing_or_none_is_named() -> Result<()> {
    let scratch = Scratch::new()?;
    let missing = scratch.at("missing.o");
    assert_refused(&with_object(&missing, &WATCH_INIT)?, 2, &[&missing, OBJECT]);
    for garbage in [scratch.file("garbage.o", 5000)?, scratch.file("empty.o", 0)?] {
        assert_refused(&with_object(&garbage, &WATCH_INIT)?, 2, &["eBPF object"]);
    }
    let mark = scratch.at("mark");
    assert_refused(&with_object(&missing, &["record", "--", "touch", &mark])?, 125, &[&missing]);
    assert!(!fs::exists(mark)?);
    leftovers::assert_none()
}

/// The built-in object with one program's first instruction replaced by one that ends it without a result.
fn spoilt(section: &str) -> Result<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../zc-ebpf/prebuilt/zcprof.bpf.o");
    let mut object = fs::read(&path).with_context(|| path.display().to_string())?;
    let at = offset_of(&object, section).with_context(|| format!("no section {section}"))?;
    /// BPF_JMP | BPF_EXIT.
    const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];
    object.get_mut(at..at + EXIT.len()).context("a section within the file")?.copy_from_slice(&EXIT);
    Ok(object)
}

/// Where a section of a 64-bit little-endian ELF file begins.
fn offset_of(elf: &[u8], section: &str) -> Option<usize> {
    let number = |at: usize, size: usize| -> Option<usize> {
        let bytes = elf.get(at..at + size)?;
        bytes.iter().rev().try_fold(0_usize, |sum, byte| Some(sum << 8 | usize::from(*byte)))
    };
    let (table, count, names) = (number(40, 8)?, number(60, 2)?, number(62, 2)?);
    let header = |index: usize| table + index * 64;
    let names = number(header(names) + 24, 8)?;
    let wanted = [section.as_bytes(), b"\0"].concat();
    let found = (0..count).map(header).find(|header| {
        let name = number(*header, 4).and_then(|name| elf.get(names + name..));
        name.is_some_and(|name| name.starts_with(&wanted))
    });
    number(found? + 24, 8)
}

#[test]
fn an_object_that_the_verifier_rejects_is_refused_by_the_probes_name() -> Result<()> {
    let scratch = Scratch::new()?;
    for (section, probe) in [
        ("tp_btf/sched_process_exit", "sched_process_exit"),
        ("tp_btf/sys_exit", "sys_exit"),
        ("iter/task", "iter_task"),
    ] {
        let object = scratch.text("spoilt.o", spoilt(section)?)?;
        assert_refused(&with_object(&object, &WATCH_INIT)?, 2, &["refused", probe]);
        leftovers::assert_none()?;
        let listed = with_object(&object, &["probes", "--json"])?;
        assert_eq!(listed.status, 0, "{listed:?}");
        let list: Value = serde_json::from_str(&listed.stdout)?;
        let reason =
            attached_and_reasons(&list).into_iter().find(|(name, ..)| name == probe).context("no such probe")?;
        assert!(!reason.1 && reason.2.contains("this kernel refused it"), "{reason:?}");
        leftovers::assert_none()?;
    }
    Ok(())
}

/// Name, whether it is attached and why not, of each probe.
fn attached_and_reasons(list: &Value) -> Vec<(String, bool, String)> {
    let probes = list["probes"].as_array().expect("a list of probes").iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    probes.map(|probe| (text(&probe["name"]), probe["attached"] == true, text(&probe["reason"]))).collect()
}

/// A zcprof that every user can execute, and a file that every user can read.
fn open_to_all() -> Result<Scratch> {
    let scratch = Scratch::open_to_all()?;
    fs::copy(zcprof(), scratch.at("zcprof"))?;
    scratch.file("data", 54321)?;
    Ok(scratch)
}

#[test]
fn without_privileges_one_line_says_which_are_missing() -> Result<()> {
    if without_root() {
        return Ok(());
    }
    let scratch = open_to_all()?;
    let mark = scratch.at("mark");
    let other: [(&[&str], i32); 5] = [
        (&WATCH_INIT, 2),
        (&["verify", "--pid", "1", "--mechanism", "read"], 2),
        (&["validate", "--path", "read:file:user"], 2),
        (&["daemon", "--web.listen-address", "127.0.0.1:0"], 2),
        (&["record", "--", "touch", &mark], 125),
    ];
    for (words, status) in other {
        let ended = run(Command::new(scratch.at("zcprof")).args(words).uid(NOBODY).gid(NOBODY))?;
        assert_eq!((ended.status, ended.stdout.as_str()), (status, ""), "{words:?}: {ended:?}");
        assert_eq!(ended.stderr.trim_end().lines().count(), 1, "{words:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("CAP_BPF") && ended.stderr.contains("CAP_PERFMON"), "{}", ended.stderr);
    }
    let listed = run(Command::new(scratch.at("zcprof")).args(["probes", "--json"]).uid(NOBODY).gid(NOBODY))?;
    assert_eq!(listed.status, 0, "{listed:?}");
    let probes = attached_and_reasons(&serde_json::from_str(&listed.stdout)?);
    assert!(probes.iter().all(|(_, attached, reason)| !attached && !reason.is_empty()), "{probes:?}");
    leftovers::assert_none()
}

/// zcprof as an ordinary user with two capabilities.
fn with_two_capabilities(scratch: &Scratch, words: &[&str]) -> Result<Ended> {
    let user = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let capabilities =
        ["--inh-caps=-all,+bpf,+perfmon", "--ambient-caps=-all,+bpf,+perfmon", "--bounding-set=-all,+bpf,+perfmon"];
    run(Command::new("setpriv").args(user).args(capabilities).arg("--").arg(scratch.at("zcprof")).args(words))
}

#[test]
fn an_ordinary_user_with_cap_bpf_and_cap_perfmon_can_trace() -> Result<()> {
    if without_root() {
        return Ok(());
    }
    let scratch = open_to_all()?;
    let listed = with_two_capabilities(&scratch, &["probes", "--json"])?;
    assert_eq!(listed.status, 0, "{listed:?}");
    let probes = attached_and_reasons(&serde_json::from_str(&listed.stdout)?);
    for needed in ["sys_exit", "sched_process_exit", "sched_process_fork", "sched_process_exec", "iter_task"] {
        assert!(probes.iter().any(|(name, attached, _)| name == needed && *attached), "{needed}: {probes:?}");
    }
    let recorded = with_two_capabilities(
        &scratch,
        &["record", "--json", "--", "dd", "bs=64K", "of=/dev/null", &format!("if={}", scratch.at("data"))],
    )?;
    assert_eq!(recorded.status, 0, "{recorded:?}");
    let profile = Profile::parse(&recorded.stdout)?;
    profile.assert_complete();
    profile.assert_bytes("write:user:device", 54321);
    assert!(profile.bytes("read:file:user") >= 54321, "{profile}");
    leftovers::assert_none()
}

#[test]
fn a_kernel_without_btf_is_told_what_it_needs() -> Result<()> {
    if without_root() {
        return Ok(());
    }
    // In a mount namespace of its own.
    let hidden = |mount: &str, words: &str| {
        let script = format!("{mount} && exec \"$0\" {words}");
        run(Command::new("unshare").args(["--mount", "sh", "-c", &script]).arg(zcprof()))
    };
    let absent = "mount -t tmpfs none /sys/kernel/btf";
    let empty = "mount --bind /dev/null /sys/kernel/btf/vmlinux";
    let watch = WATCH_INIT.join(" ");
    assert_refused(&hidden(absent, &watch)?, 2, &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"]);
    assert_refused(&hidden(empty, &watch)?, 2, &["/sys/kernel/btf/vmlinux"]);
    for mount in [absent, empty] {
        let listed = hidden(mount, "probes --json")?;
        assert_eq!(listed.status, 0, "{listed:?}");
        let probes = attached_and_reasons(&serde_json::from_str(&listed.stdout)?);
        assert!(probes.iter().all(|(_, attached, reason)| !attached && reason.contains("vmlinux")), "{probes:?}");
    }
    leftovers::assert_none()
}

#[test]
fn a_tracer_that_is_killed_leaves_nothing_attached() -> Result<()> {
    let mut sleeper = Running::start(Command::new("sleep").arg("600"))?;
    let pid = sleeper.pid().to_string();
    let mut profile = Running::start(&mut command(["profile", "--for", "10m", "--pid", &pid]))?;
    until_watching(&mut profile)?;
    assert!(leftovers::held_by(profile.pid()) >= 5, "what is held is found");
    assert_eq!(profile.end_by(Signal::SIGKILL)?.status, 137);
    leftovers::assert_none()?;
    assert_eq!(sleeper.end_by(Signal::SIGTERM)?.status, 143);
    Ok(())
}
