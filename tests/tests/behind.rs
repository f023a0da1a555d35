//! What lies behind the system calls, held against what the kernel itself says.

use std::mem::MaybeUninit;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use zc_common::record::{CELL_FAULTS, CELL_SWITCHES, Cell};
use zc_tests::stage::agent;

const ACTOR: &str = env!("CARGO_BIN_EXE_actor");

/// Runs an actor to its end; what the ledger has of it, and what wait4(2) says.
fn to_the_end(arguments: &[&str]) -> Result<(zcprof::ledger::Counters, libc::rusage)> {
    let agent = agent();
    // Reaped below, by its pid.
    let child = Command::new(ACTOR).args(arguments).stdin(Stdio::null()).spawn()?;
    let pid = libc::pid_t::try_from(child.id())?;
    let mut info = MaybeUninit::uninit();
    // SAFETY: waits for our child and leaves it as it is; the kernel writes the structure.
    let waited = unsafe { libc::waitid(libc::P_PID, child.id(), info.as_mut_ptr(), libc::WEXITED | libc::WNOWAIT) };
    ensure!(waited == 0, "waitid: {}", std::io::Error::last_os_error());
    // It has told us that it ends; only then does it leave the CPU for good, which is a switch.
    std::thread::sleep(Duration::from_millis(100));
    let process = agent.observe()?.by_pid(child.id()).context("the actor is not in the ledger")?.clone();
    let (mut status, mut usage) = (0, MaybeUninit::uninit());
    // SAFETY: the kernel writes both.
    let reaped = unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) };
    ensure!(reaped == pid && status == 0, "{arguments:?} failed: {status}");
    // SAFETY: written by wait4.
    Ok((process.counters.clone(), unsafe { usage.assume_init() }))
}

fn assert_usage(arguments: &[&str], least_switches: i64, least_faults: i64) -> Result<()> {
    let (counters, usage) = to_the_end(arguments)?;
    let of = |first: i64, second: i64| Cell { operations: first as u64, bytes: second as u64 };
    assert!(usage.ru_nvcsw >= least_switches && usage.ru_minflt >= least_faults, "the actor did nothing");
    assert_eq!(counters.get(CELL_SWITCHES), of(usage.ru_nvcsw, usage.ru_nivcsw), "{arguments:?}: context switches");
    assert_eq!(counters.get(CELL_FAULTS), of(usage.ru_minflt, usage.ru_majflt), "{arguments:?}: page faults");
    Ok(())
}

#[test]
fn context_switches_and_faults_of_a_process_are_what_wait4_says() -> Result<()> {
    assert_usage(&["naps", "1", "50"], 50, 10)?;
    assert_usage(&["touches", "1000"], 0, 1000)
}

#[test]
fn those_of_its_threads_are_in() -> Result<()> {
    assert_usage(&["naps", "8", "20"], 8 * 20, 10)
}

#[test]
fn a_leader_that_goes_first_is_in() -> Result<()> {
    assert_usage(&["leaderless_naps", "20"], 20, 10)
}
