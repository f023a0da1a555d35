//! Snapshots while threads come and go: no counter ever goes back, and in the end every operation is there.

use std::time::Instant;

use nix::sys::signal::Signal;
use zc_common::record::{Cell, FIRST_OBSERVED_CELL};
use zc_tests::expected::{NO_BUFFER, Paths};
use zc_tests::stage::{Helper, Report, agent, assert_counted};
use zcprof::ledger::Counters;

const ACTOR: &str = env!("CARGO_BIN_EXE_actor");
const SNAPSHOTS: usize = 10_000;

/// Fails if any counter of `now` is below its value in `before`.
fn assert_grown(what: &str, before: &Counters, now: &Counters) {
    let back = before.since(now);
    assert!(back.is_zero(), "{what} went back by {:?}", Paths::of(agent().catalogue(), &back));
}

fn operations(counters: &Counters) -> u64 {
    let payload = counters.iter().filter(|(cell, _)| *cell < u16::from(FIRST_OBSERVED_CELL));
    payload.map(|(_, Cell { operations, .. })| operations).sum()
}

#[test]
fn counters_only_grow_and_none_is_missing() -> anyhow::Result<()> {
    let (counted, report) = storm()?;
    let (counted, done) = (sum(&Paths::of(agent().catalogue(), &counted)), sum(&report.paths));
    assert!(counted.0 >= done.0 && counted.1 >= done.1, "{counted:?} of {done:?}");
    Ok(())
}

#[test]
fn after_a_storm_every_operation_is_counted_once() -> anyhow::Result<()> {
    let (counted, report) = storm()?;
    assert_sums("storm", &counted, &report);
    Ok(())
}

/// Takes the snapshots. Returns what was counted from the first to the last, and what the helper did.
fn storm() -> anyhow::Result<(Counters, Report)> {
    let mut helper = Helper::start(ACTOR, &["storm", "8", "25"])?;
    helper.wait_stopped()?;
    let mut snapshot = agent().observe()?;
    let first = helper.process(&snapshot)?;
    helper.proceed()?;
    let started = Instant::now();
    let mut grown = 0;
    for _ in 0..SNAPSHOTS {
        let next = agent().observe()?;
        let (before, now) = (helper.process(&snapshot)?, helper.process(&next)?);
        assert_grown("the process", &before.counters, &now.counters);
        grown += u32::from(operations(&now.counters) > operations(&before.counters));
        for (name, before) in &snapshot.groups {
            assert_grown(name, before, &next.groups[name]);
        }
        snapshot = next;
    }
    eprintln!("{:?} per snapshot, {grown} of them saw progress", started.elapsed() / SNAPSHOTS as u32);
    assert!(grown > 100, "the storm was over after {grown} snapshots");
    helper.signal(Signal::SIGTERM)?;
    helper.wait_stopped()?;
    let last = helper.observe(agent())?;
    let report = helper.finish()?;
    eprintln!("{} threads, {} operations", report.number("threads")?, operations(&last.counters));
    let end = agent().observe()?;
    assert_eq!(end.by_key(last.key).map(|end| last.counters.since(&end.counters).is_zero()), Some(true));
    assert_eq!(end.fallback.threads, 0, "no ledger had to go to the fallback");
    Ok((last.counters.since(&first.counters), report))
}

/// Nobody looks while the threads live.
#[test]
fn threads_that_live_between_two_snapshots_are_counted() -> anyhow::Result<()> {
    for _ in 0..5 {
        let (counted, report) = between_stops(&["one_wave", "200", "10"])?;
        assert_sums("one_wave", &counted, &report);
    }
    Ok(())
}

#[test]
fn threads_that_come_and_go_are_classified() -> anyhow::Result<()> {
    let (counted, report) = between_stops(&["one_wave", "200", "10"])?;
    assert_counted("one_wave", &counted, &report);
    Ok(())
}

#[test]
fn a_buffer_is_known_while_the_map_changes_elsewhere() -> anyhow::Result<()> {
    let (counted, report) = between_stops(&["hammered"])?;
    assert_counted("hammered", &counted, &report);
    Ok(())
}

fn between_stops(arguments: &[&str]) -> anyhow::Result<(Counters, Report)> {
    let mut helper = Helper::start(ACTOR, arguments)?;
    helper.wait_stopped()?;
    let before = helper.observe(agent())?;
    helper.proceed()?;
    helper.wait_stopped()?;
    let after = helper.observe(agent())?;
    Ok((after.counters.since(&before.counters), helper.finish()?))
}

/// Operations and bytes of all paths.
fn sum(paths: &Paths) -> (u64, u64) {
    paths.0.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// The sums of all operations and bytes are exact. Which path each is on is another test's matter: while the memory map
/// is being changed a new thread's buffer can't be looked up.
fn assert_sums(what: &str, counted: &Counters, report: &Report) {
    let counted = Paths::of(agent().catalogue(), counted);
    assert_eq!(sum(&counted), sum(&report.paths), "{what}: {counted:?} instead of {:?}", report.paths);
    for (path, (operations, bytes)) in &counted.0 {
        let most = if path == NO_BUFFER { sum(&report.paths) } else { report.paths.get(path) };
        assert!(*operations <= most.0 && *bytes <= most.1, "{what}: {path} has too much: {counted:?}");
    }
}
