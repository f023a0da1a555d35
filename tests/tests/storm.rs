//! Snapshots while threads come and go: no counter ever goes back, and in the end every operation is there.

use std::time::Instant;

use nix::sys::signal::Signal;
use zc_common::record::Cell;
use zc_tests::expected::Paths;
use zc_tests::stage::{Helper, agent, assert_counted};
use zcprof::ledger::Counters;

const ACTOR: &str = env!("CARGO_BIN_EXE_actor");
const SNAPSHOTS: usize = 10_000;

/// Fails if any counter of `now` is below its value in `before`.
fn assert_grown(what: &str, before: &Counters, now: &Counters) {
    let back = before.since(now);
    assert!(back.is_zero(), "{what} went back by {:?}", Paths::of(agent().catalogue(), &back));
}

fn operations(counters: &Counters) -> u64 {
    counters.iter().map(|(_, Cell { operations, .. })| operations).sum()
}

#[test]
fn counters_only_grow_and_none_is_missing() -> anyhow::Result<()> {
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
    assert_counted("storm", &last.counters.since(&first.counters), &report);
    eprintln!("{} threads, {} operations", report.notes["threads"], operations(&last.counters));
    let end = agent().observe()?;
    assert_eq!(end.by_key(last.key).map(|end| last.counters.since(&end.counters).is_zero()), Some(true));
    assert_eq!(end.fallback.threads, 0, "no ledger had to go to the fallback");
    Ok(())
}

/// Nobody looks while the threads live.
#[test]
fn threads_that_live_between_two_snapshots_are_counted() -> anyhow::Result<()> {
    for _ in 0..5 {
        zc_tests::stage::check(ACTOR, &["one_wave", "200", "10"])?;
    }
    Ok(())
}
