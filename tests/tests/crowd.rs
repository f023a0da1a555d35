//! Crowds: processes and threads that live too briefly for any snapshot, and more of them than the kernel half has room for.

use std::sync::{Mutex, PoisonError};

use zc_tests::expected::Paths;
use zc_tests::stage::{Helper, SETTINGS, agent};
use zcprof::agent::Agent;
use zcprof::ledger::Selector;
use zcprof::model::Catalogue;

const ACTOR: &str = env!("CARGO_BIN_EXE_actor");
const BRIEF: &str = env!("CARGO_BIN_EXE_brief");
const DISK: &str = env!("CARGO_TARGET_TMPDIR");

/// Held by tests that fill what is the whole host's, or that can't bear its being full.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs them, with `meanwhile` going on until the last has exited.
fn thousand(meanwhile: impl Fn(&Helper) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut helper = Helper::start(ACTOR, &["launcher", BRIEF, "1000"])?;
    helper.wait_stopped()?;
    helper.observe(agent())?;
    helper.proceed()?;
    meanwhile(&helper)?;
    let snapshot = agent().observe()?;
    let root = helper.process(&snapshot)?;
    let report = helper.finish()?;
    let family = Selector::Key(root.key).select(&snapshot);
    let children: Vec<_> = family.iter().filter(|process| process.key != root.key).collect();
    assert_eq!(children.len(), 1000);
    let mut bytes = Vec::new();
    for child in children {
        assert_eq!((child.comm.as_str(), child.exited), ("brief", true), "{child:?}");
        let (operations, written) = Paths::of(agent().catalogue(), &child.counters).get("write:user:device null_sink");
        assert_eq!(operations, 1, "{child:?}");
        assert_eq!(child.counters.unclassified().operations, 0, "{child:?}");
        bytes.push(written);
    }
    bytes.sort_unstable();
    assert_eq!(bytes, (1..=1000).collect::<Vec<u64>>());
    assert_eq!(report.number("bytes")?, 500_500);
    Ok(())
}

#[test]
fn nobody_looks_until_they_are_gone() -> anyhow::Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    thousand(Helper::wait_stopped)
}

#[test]
fn snapshots_are_taken_all_the_while() -> anyhow::Result<()> {
    thousand(|helper| {
        while !helper.has_stopped()? {
            agent().observe()?;
        }
        Ok(())
    })
}

/// A host that starts a thousand commands a second, and an agent that does not get the processor for seconds.
#[test]
fn the_ring_holds_the_events_of_thousands_of_commands() -> anyhow::Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let agent = Agent::start(Catalogue::default(), SETTINGS)?;
    let mut helper = Helper::start(ACTOR, &["launcher", BRIEF, "1500"])?;
    helper.wait_stopped()?;
    helper.proceed()?;
    helper.wait_stopped()?;
    let snapshot = agent.observe()?;
    assert_eq!(snapshot.fallback.events_lost, 0);
    let root = helper.process(&snapshot)?;
    let children = Selector::Key(root.key).select(&snapshot).into_iter().filter(|process| process.key != root.key);
    let unnamed = children.filter(|child| child.exe.is_none()).count();
    assert_eq!(unnamed, 0, "the events tell what they ran");
    helper.finish()?;
    Ok(())
}

/// Operations and bytes of all paths.
fn sum(paths: &Paths) -> (u64, u64) {
    paths.0.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// More threads exit than the map of exited threads holds (65,536) before anybody looks: the rest is in the fallback,
/// which is the whole host's.
#[test]
fn more_threads_exit_than_there_is_room_for() -> anyhow::Result<()> {
    const THREADS: u64 = 70_000;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let agent = Agent::start(Catalogue::default(), SETTINGS)?;
    let mut helper = Helper::start(ACTOR, &["waves", &THREADS.to_string(), "1"])?;
    helper.wait_stopped()?;
    let before = helper.observe(&agent)?;
    helper.proceed()?;
    helper.wait_stopped()?;
    let snapshot = agent.observe()?;
    let after = helper.process(&snapshot)?;
    let mut counted = Paths::of(agent.catalogue(), &after.counters.since(&before.counters));
    assert!(sum(&counted).0 <= 2 * THREADS, "{counted:?}");
    let lost = snapshot.fallback.threads;
    assert!(lost >= THREADS - 65_536, "only {lost} threads in the fallback");
    for (cell, more) in &snapshot.fallback.cells {
        let mut one = zcprof::ledger::Counters::default();
        one.add_cell(*cell, *more);
        for (path, (operations, bytes)) in Paths::of(agent.catalogue(), &one).0 {
            counted.add(&path, operations, bytes);
        }
    }
    assert!(sum(&counted).0 >= 2 * THREADS, "{counted:?}");
    helper.finish()?;
    Ok(())
}

/// Each child leaves a score of cells in the shared ledger (65,536 cells), where nobody needs them any more.
#[test]
fn the_shared_ledger_does_not_fill_up() -> anyhow::Result<()> {
    let agent = Agent::start(Catalogue::default(), SETTINGS)?;
    let mut helper = Helper::start(ACTOR, &["wide_crowd", DISK, "5000"])?;
    while !helper.has_stopped()? {
        agent.observe()?;
    }
    let before = helper.observe(&agent)?;
    helper.proceed()?;
    helper.wait_stopped()?;
    let after = helper.observe(&agent)?;
    let report = helper.finish()?;
    assert_eq!(Paths::of(agent.catalogue(), &after.counters.since(&before.counters)), report.paths);
    Ok(())
}
