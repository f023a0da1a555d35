//! Several tracers at once, tracers that are gone, and tracers without capabilities.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;
use zc_common::record::SLOTS;
use zc_tests::bpf;
use zc_tests::expected::Paths;
use zc_tests::stage::{Helper, SETTINGS};
use zcprof::agent::Agent;
use zcprof::kernel::Ledgers;
use zcprof::model::Catalogue;

const ACTOR: &str = env!("CARGO_BIN_EXE_actor");
const TRACER: &str = env!("CARGO_BIN_EXE_tracer");
const DISK: &str = env!("CARGO_TARGET_TMPDIR");

/// Tests here look at the descriptors of this process: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// A tracer in a process of its own; killed and reaped when dropped.
struct Tracer {
    child: Child,
    answers: BufReader<ChildStdout>,
    /// What it said when it was ready.
    hello: Value,
}

impl Tracer {
    fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(TRACER).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut answers = BufReader::new(child.stdout.take().context("stdout")?);
        let hello = line(&mut answers);
        let mut tracer = Self { child, answers, hello: Value::Null };
        tracer.hello = hello?;
        Ok(tracer)
    }

    /// What it has counted for a process.
    fn ask(&mut self, pid: u32) -> anyhow::Result<Value> {
        writeln!(self.child.stdin.as_mut().context("stdin")?, "{pid}")?;
        line(&mut self.answers)
    }
}

fn line(from: &mut BufReader<ChildStdout>) -> anyhow::Result<Value> {
    let mut text = String::new();
    from.read_line(&mut text)?;
    serde_json::from_str(&text).with_context(|| format!("the tracer said {text:?}"))
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn agent() -> anyhow::Result<Agent> {
    Ok(Agent::start(Catalogue::default(), SETTINGS)?)
}

fn agent_with(ledgers: Ledgers) -> anyhow::Result<Agent> {
    Ok(Agent::start_with(Catalogue::default(), SETTINGS, ledgers, &[])?)
}

/// `after` less `before`, path by path.
fn difference(before: &Paths, after: &Paths) -> Paths {
    let mut more = Paths::default();
    for (path, (operations, bytes)) in &after.0 {
        let then = before.get(path);
        if then != (*operations, *bytes) {
            more.add(path, operations - then.0, bytes - then.1);
        }
    }
    more
}

fn sum(paths: &Paths) -> (u64, u64) {
    paths.0.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// One of each way of counting, and one in another process.
#[test]
fn tracers_of_all_kinds_count_the_same() -> anyhow::Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let agents = [agent_with(Ledgers::Slots)?, agent_with(Ledgers::Threads)?, agent_with(Ledgers::Shared)?];
    let mut other = Tracer::start(&[])?;
    let scenarios = ["wide", "splice", "closed", "mixed_iovecs", "getppid", "restarted", "peek"];
    for scenario in scenarios.into_iter().chain(cfg!(target_arch = "x86_64").then_some("compat")) {
        let mut helper = Helper::start(ACTOR, &[scenario, DISK])?;
        let mut stops = Vec::new();
        for _ in 0..2 {
            helper.wait_stopped()?;
            let mut seen = Vec::new();
            for agent in &agents {
                let process = helper.observe(agent)?;
                let counters = &process.counters;
                seen.push((Paths::of(agent.catalogue(), counters), counters.system_calls));
            }
            let answer = other.ask(helper.pid())?;
            seen.push((Paths::from_json(&answer["paths"])?, answer["system_calls"].as_u64().unwrap_or_default()));
            stops.push(seen);
            helper.proceed()?;
        }
        let report = helper.report()?;
        for (which, (before, after)) in stops[0].iter().zip(&stops[1]).enumerate() {
            assert_eq!(difference(&before.0, &after.0), report.paths, "{scenario}, tracer {which}");
            let calls = stops[1][0].1 - stops[0][0].1;
            assert_eq!(after.1 - before.1, calls, "{scenario}, tracer {which}");
        }
    }
    Ok(())
}

/// Threads whose exit nobody noticed leave their slots behind; those that come after on their stacks must not count in
/// their names, and what the dead have counted is found.
#[test]
fn missed_exits_cost_no_thread_that_comes_after() -> anyhow::Result<()> {
    const THREADS: u64 = 40_000;
    const OPERATIONS: u64 = 2;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let agent = agent_with(Ledgers::Unfolded)?;
    let mut helper = Helper::start(ACTOR, &["waves", &THREADS.to_string(), "1"])?;
    helper.wait_stopped()?;
    let before = helper.observe(&agent)?;
    helper.proceed()?;
    helper.wait_stopped()?;
    let snapshot = agent.observe()?;
    let after = helper.process(&snapshot)?;
    let report = helper.finish()?;
    let counted = sum(&Paths::of(agent.catalogue(), &after.counters.since(&before.counters))).0;
    let done = sum(&report.paths).0;
    // Missing is what is still in the slots, whose threads have had no successor, and what found no room because too
    // many others exited on this host meanwhile.
    let missing = (done - counted) / OPERATIONS;
    assert!(missing <= SLOTS as u64 + snapshot.fallback.threads, "{counted} of {done}, {:?}", snapshot.fallback);
    assert!(snapshot.fallback.evicted > 0 && missing > 0, "{:?}", snapshot.fallback);
    Ok(())
}

/// Waits until none of these objects exists: the kernel lets go of them a moment after their last user.
fn assert_gone(objects: &bpf::Objects) {
    let started = Instant::now();
    while !objects.existing().is_empty() {
        assert!(started.elapsed() < Duration::from_secs(10), "still there: {:?}", objects.existing());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn dropping_an_agent_leaves_nothing() -> anyhow::Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = bpf::own()?;
    let agent = agent()?;
    let mine = bpf::own()?.without(&before);
    assert!(mine.programs.len() >= 5 && mine.links.len() >= 5 && mine.maps.len() >= 5, "{mine:?}");
    assert_eq!(mine.existing(), mine);
    drop(agent);
    assert_eq!(bpf::own()?.without(&before), bpf::Objects::default(), "descriptors");
    assert_gone(&mine);
    Ok(())
}

#[test]
fn a_killed_tracer_leaves_nothing() -> anyhow::Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let tracer = Tracer::start(&[])?;
    let theirs = bpf::Objects::from_json(&tracer.hello["own"])?;
    assert!(theirs.programs.len() >= 5, "{theirs:?}");
    assert_eq!(theirs.existing(), theirs);
    drop(tracer);
    assert_gone(&theirs);
    Ok(())
}

#[test]
fn a_tracer_without_capabilities_goes_on() -> anyhow::Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut tracer = Tracer::start(&["drop"])?;
    assert_eq!(tracer.hello["effective"], "0000000000000000");
    // Threads of the storm exit between and before the readings; then the process itself does.
    let mut helper = Helper::start(ACTOR, &["one_wave", "50", "20"])?;
    helper.wait_stopped()?;
    let before = Paths::from_json(&tracer.ask(helper.pid())?["paths"])?;
    helper.proceed()?;
    helper.wait_stopped()?;
    let pid = helper.pid();
    let live = tracer.ask(pid)?;
    helper.proceed()?;
    let report = helper.report()?;
    // Buffers may be unclassified while threads are made: the sum is what matters here.
    let counted = difference(&before, &Paths::from_json(&live["paths"])?);
    assert_eq!(sum(&counted), sum(&report.paths), "{counted:?}");
    assert_eq!(live["exited"], false);
    let end = tracer.ask(pid)?;
    assert_eq!((&end["exited"], &end["comm"]), (&Value::Bool(true), &Value::from("actor")));
    // After the second stop it only said what it had done.
    let after = difference(&Paths::from_json(&live["paths"])?, &Paths::from_json(&end["paths"])?);
    assert_eq!(after.0.keys().collect::<Vec<_>>(), ["write:user:pipe"]);
    Ok(())
}
