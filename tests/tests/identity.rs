//! Processes stay who they are through exec, exits of leaders, renames and pids used again.

use std::collections::BTreeMap;
use std::sync::Arc;

use zc_tests::expected::Paths;
use zc_tests::stage::{Helper, SETTINGS, agent, assert_counted};
use zcprof::agent::Agent;
use zcprof::ledger::{Counters, Process, ProcessKey, Selector, Snapshot};
use zcprof::model::Catalogue;

const ACTOR: &str = env!("CARGO_BIN_EXE_actor");
const BRIEF: &str = env!("CARGO_BIN_EXE_brief");
const NULL: &str = "write:user:device null_sink";

fn null(counters: &Counters) -> (u64, u64) {
    Paths::of(agent().catalogue(), counters).get(NULL)
}

/// Descendants of a process and what each has written to /dev/null, by pid and start.
fn descendants(snapshot: &Snapshot, key: ProcessKey) -> BTreeMap<ProcessKey, (u64, u64)> {
    let family = Selector::Key(key).select(snapshot);
    family.iter().filter(|one| one.key != key).map(|one| (one.key, null(&one.counters))).collect()
}

#[test]
fn exec_in_a_thread_keeps_the_process() -> anyhow::Result<()> {
    let mut helper = Helper::start(ACTOR, &["exec_in_thread", BRIEF])?;
    helper.wait_stopped()?;
    let before = helper.observe(agent())?;
    assert_eq!((before.comm.as_str(), before.exe.as_deref()), ("actor", Some(ACTOR)));
    helper.proceed()?;
    helper.wait_stopped()?;
    let snapshot = agent().observe()?;
    let after = helper.process(&snapshot)?;
    assert_eq!(after.exe.as_deref(), Some(BRIEF));
    assert_eq!(null(&after.counters), (3, 137), "leader, thread and the program after the exec");
    assert_eq!(null(&before.counters), (0, 0));
    let bearers = snapshot.processes.iter().filter(|process| process.key.tgid == helper.pid());
    assert_eq!(bearers.count(), 1, "it is one process");
    helper.finish()?;
    let end = agent().observe()?;
    let end = end.by_key(after.key).unwrap();
    assert!(end.exited);
    assert_eq!(null(&end.counters), (3, 137));
    Ok(())
}

/// The old leader's last record comes with the same reading as the exec, and has the old name.
#[test]
fn exec_in_a_thread_changes_the_name() -> anyhow::Result<()> {
    let agent = Agent::start(Catalogue::default(), SETTINGS)?;
    let mut helper = Helper::start(ACTOR, &["exec_in_thread", BRIEF])?;
    helper.wait_stopped()?;
    assert_eq!(helper.observe(&agent)?.comm, "actor");
    helper.proceed()?;
    helper.wait_stopped()?;
    assert_eq!(helper.observe(&agent)?.comm, "brief");
    Ok(())
}

#[test]
fn leader_exits_and_the_others_go_on() -> anyhow::Result<()> {
    let mut helper = Helper::start(ACTOR, &["leader_exits"])?;
    helper.wait_stopped()?;
    helper.observe(agent())?;
    for wanted in [(3, 111), (4, 1111)] {
        helper.proceed()?;
        helper.wait_stopped()?;
        let now = helper.observe(agent())?;
        assert!(!now.exited);
        assert_eq!(null(&now.counters), wanted);
        assert_eq!(now.comm, "actor");
    }
    helper.proceed()?;
    let report = helper.report()?;
    let end = helper.observe(agent())?;
    assert!(end.exited);
    assert_eq!(null(&end.counters), report.paths.get(NULL));
    Ok(())
}

#[test]
fn descendants_are_found_when_everybody_between_is_gone() -> anyhow::Result<()> {
    let mut helper = Helper::start(ACTOR, &["tree"])?;
    helper.wait_stopped()?;
    helper.observe(agent())?;
    helper.proceed()?;
    helper.wait_stopped()?;
    let snapshot = agent().observe()?;
    let root = helper.process(&snapshot)?;
    let mut bytes: Vec<_> = descendants(&snapshot, root.key).into_values().collect();
    bytes.sort_unstable();
    assert_eq!(bytes, [(1, 10), (1, 100), (1, 1000)]);
    assert_eq!(null(&root.counters), (1, 1));
    // The chain: each is the child of the one that wrote a tenth as much.
    let mut parent = root.key;
    for wanted in [10, 100, 1000] {
        let child = snapshot.processes.iter().find(|one| one.parent == Some(parent)).unwrap();
        assert_eq!(null(&child.counters), (1, wanted));
        parent = child.key;
    }
    helper.finish()?;
    Ok(())
}

#[test]
fn a_name_may_be_any_bytes() -> anyhow::Result<()> {
    for bytes in [&b"\xff\xfe\n\"{}\\,="[..], b"a b\tc)(", b"", "ü€漢字漢x".as_bytes()] {
        let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut helper = Helper::start(ACTOR, &["odd_comm", &hexadecimal])?;
        helper.wait_stopped()?;
        let before = helper.observe(agent())?;
        helper.proceed()?;
        helper.wait_stopped()?;
        let snapshot = agent().observe()?;
        let after = helper.process(&snapshot)?;
        // The kernel keeps fifteen bytes.
        let kept = String::from_utf8_lossy(&bytes[..bytes.len().min(15)]).into_owned();
        assert_eq!(after.comm, kept);
        assert!(snapshot.groups.contains_key(&kept), "{kept:?}");
        assert_counted("odd_comm", &after.counters.since(&before.counters), &helper.finish()?);
    }
    Ok(())
}

#[test]
fn groups_only_grow_through_rename_and_exit() -> anyhow::Result<()> {
    let mut helper = Helper::start(ACTOR, &["renamed"])?;
    let (a, b) = (format!("zca{}", helper.pid()), format!("zcb{}", helper.pid()));
    let groups = || -> anyhow::Result<[(u64, u64); 2]> {
        let snapshot = agent().observe()?;
        Ok([&a, &b].map(|name| snapshot.groups.get(name).map(null).unwrap_or_default()))
    };
    helper.wait_stopped()?;
    assert_eq!(groups()?, [(0, 0), (0, 0)]);
    helper.proceed()?;
    helper.wait_stopped()?;
    assert_eq!(groups()?, [(1, 100), (0, 0)]);
    helper.proceed()?;
    helper.wait_stopped()?;
    assert_eq!(groups()?, [(1, 100), (2, 57)], "the child's bytes count under the name that it inherited");
    helper.proceed()?;
    helper.report()?;
    for _ in 0..3 {
        assert_eq!(groups()?, [(1, 100), (2, 57)]);
    }
    assert!(helper.observe(agent())?.exited);
    Ok(())
}

/// The two processes with the reused pid.
fn bearers(snapshot: &Snapshot, pid: u64) -> Vec<&Arc<Process>> {
    snapshot.processes.iter().filter(|process| u64::from(process.key.tgid) == pid).collect()
}

fn pid_reuse(arguments: &[&str]) -> anyhow::Result<()> {
    let mut helper = Helper::start(ACTOR, arguments)?;
    helper.wait_stopped()?;
    helper.observe(agent())?;
    for _ in 0..arguments.len() {
        helper.proceed()?;
        helper.wait_stopped()?;
        agent().observe()?;
    }
    let snapshot = agent().observe()?;
    let root = helper.process(&snapshot)?;
    let report = helper.finish()?;
    let pid = report.number("pid")?;
    // Its own parent may have had a child with this pid long ago, but no agent has seen that.
    let found = bearers(&snapshot, pid);
    let counted: Vec<_> = found.iter().map(|process| null(&process.counters)).collect();
    assert_eq!(counted, [(1, 10), (1, 20)], "sorted by start: {found:?}");
    assert!(found.iter().all(|process| process.exited && process.parent == Some(root.key)), "{found:?}");
    let later = agent().observe()?;
    assert_eq!(bearers(&later, pid), found, "totals of exited processes are final");
    Ok(())
}

#[test]
fn a_pid_used_again_between_two_readings_is_two_processes() -> anyhow::Result<()> {
    pid_reuse(&["pid_reuse"])
}

#[test]
fn a_pid_used_again_after_a_reading_is_two_processes() -> anyhow::Result<()> {
    pid_reuse(&["pid_reuse", "stop"])
}

/// /proc tells of the pid's present bearer, not of the process that an event is about.
#[test]
fn a_process_that_is_gone_does_not_get_the_exe_of_its_successor() -> anyhow::Result<()> {
    let agent = Agent::start(Catalogue::default(), SETTINGS)?;
    let mut helper = Helper::start(ACTOR, &["pid_reuse_exec", BRIEF])?;
    helper.wait_stopped()?;
    helper.observe(&agent)?;
    helper.proceed()?;
    helper.wait_stopped()?;
    let snapshot = agent.observe()?;
    helper.proceed()?;
    helper.wait_stopped()?;
    let pid = helper.finish()?.number("pid")?;
    let found: Vec<_> =
        bearers(&snapshot, pid).iter().map(|process| (process.comm.as_str(), process.exe.as_deref())).collect();
    assert_eq!(found[1], ("brief", Some(BRIEF)));
    assert_eq!(found[0].0, "actor");
    assert_ne!(found[0].1, Some(BRIEF), "it never executed that");
    Ok(())
}

#[test]
fn clone_parent_descends_from_whoever_forked() -> anyhow::Result<()> {
    let mut helper = Helper::start(ACTOR, &["clone_parent"])?;
    helper.wait_stopped()?;
    helper.observe(agent())?;
    helper.proceed()?;
    helper.wait_stopped()?;
    let snapshot = agent().observe()?;
    let root = helper.process(&snapshot)?;
    let report = helper.finish()?;
    let pid = |name| report.number(name).map(|pid| u32::try_from(pid).unwrap());
    let (middle, last) = (snapshot.by_pid(pid("middle")?).unwrap(), snapshot.by_pid(pid("last")?).unwrap());
    assert_eq!((middle.parent, last.parent), (Some(root.key), Some(middle.key)));
    assert_eq!((null(&middle.counters), null(&last.counters)), ((1, 10), (1, 20)));
    assert_eq!(descendants(&snapshot, middle.key).len(), 1);
    Ok(())
}

/// A thread that executes a program takes over the leader's pid while a reading may be under way.
#[test]
fn exec_in_threads_during_readings_counts_nothing_twice() -> anyhow::Result<()> {
    const TIMES: u64 = 300;
    let mut helper = Helper::start(ACTOR, &["exec_chain", &TIMES.to_string(), &TIMES.to_string()])?;
    helper.wait_stopped()?;
    helper.observe(agent())?;
    // Their pids lie between the leader's and the threads': a reading takes a while from the one to the other.
    let sleepers = Helper::start(ACTOR, &["sleepers", "1000", "0"])?;
    sleepers.wait_stopped()?;
    helper.proceed()?;
    while !helper.has_stopped()? {
        helper.observe(agent())?;
    }
    let now = helper.observe(agent())?;
    let report = helper.finish()?;
    assert_eq!(null(&now.counters), report.paths.get(NULL));
    Ok(())
}
