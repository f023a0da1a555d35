//! What lies behind the system calls, held against what the kernel itself says.

mod common;

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use common::Scratch;
#[cfg(target_arch = "x86_64")]
use zc_common::record::CELL_USER_FAULTS;
use zc_common::record::{CELL_FAULTS, CELL_SWITCHES, Cell};
#[cfg(target_arch = "x86_64")]
use zc_tests::stage::Helper;
use zc_tests::stage::agent;
use zcprof::model::{Profile, profile};

/// Bytes of a file.
const SIZE: usize = 64 << 20;
/// What a file system may add to a file's blocks, and read or write of other files.
const METADATA: u64 = 2 << 20;
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

/// Its kernels lack the tracepoint.
#[cfg(target_arch = "aarch64")]
#[test]
fn faults_from_user_mode_are_null_with_a_reason() -> Result<()> {
    let probe = agent().probes().iter().find(|probe| probe.name == "faults").context("no such probe")?;
    let reason = probe.reason.as_deref().unwrap_or_default();
    assert!(!probe.attached && reason == "this kernel has no tracepoint page_fault_user", "{probe:?}");
    let profile = ran(&mut Command::new("true"))?;
    assert_eq!(profile.mode_switches.page_faults, None);
    assert!(profile.page_faults.minor.is_some_and(|faults| faults > 0), "{:?}", profile.page_faults);
    Ok(())
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_page_that_is_touched_first_is_a_fault_from_user_mode() -> Result<()> {
    const PAGES: u64 = 1000;
    let agent = agent();
    let mut helper = Helper::start(ACTOR, &["stopped_touches", &PAGES.to_string()])?;
    helper.wait_stopped()?;
    let before = helper.observe(agent)?;
    helper.proceed()?;
    helper.wait_stopped()?;
    let after = helper.observe(agent)?;
    let counted = after.counters.since(&before.counters);
    helper.finish()?;
    let faults = counted.get(CELL_USER_FAULTS).operations;
    // Pages of its code may have been taken from it meanwhile, but not many.
    assert!((PAGES..PAGES + 64).contains(&faults), "{faults} faults from user mode");
    assert!(faults <= counted.get(CELL_FAULTS).operations + counted.get(CELL_FAULTS).bytes);
    Ok(())
}

/// What a command that has ended did.
fn ran(command: &mut Command) -> Result<Profile> {
    let agent = agent();
    let mut child = command.stdin(Stdio::null()).spawn()?;
    let pid = child.id();
    ensure!(child.wait()?.success(), "{command:?}");
    let snapshot = agent.observe()?;
    let process = snapshot.by_pid(pid).context("the command is not in the ledger")?;
    Ok(profile(agent.catalogue(), Vec::new(), &process.counters, None, 0))
}

fn dd(scratch: &Scratch, words: &[&str]) -> Command {
    let mut dd = Command::new("dd");
    dd.args(["bs=64K", "status=none"]).args(words).current_dir(scratch.path());
    dd
}

/// A file on a disk of which nothing is in memory.
fn cold(scratch: &Scratch, name: &str) -> Result<()> {
    let file = File::open(scratch.file(name, SIZE)?)?;
    file.sync_all()?;
    // SAFETY: touches no memory.
    let failed = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    ensure!(failed == 0, "posix_fadvise: {failed}");
    Ok(())
}

fn assert_about(figure: Option<u64>, what: &str) {
    let size = SIZE as u64;
    assert!(figure.is_some_and(|bytes| (size..=size + METADATA).contains(&bytes)), "{what}: {figure:?}");
}

#[test]
fn a_cold_file_comes_from_disk_and_a_warm_one_does_not() -> Result<()> {
    let scratch = Scratch::new()?;
    cold(&scratch, "file")?;
    let read = || ran(&mut dd(&scratch, &["if=file", "of=/dev/null"]));
    let first = read()?;
    assert_about(first.dma_bytes.disk_read, "read from disk");
    assert_about(first.page_cache.missed_bytes, "missed");
    assert_about(first.page_cache.requested_bytes, "requested");
    assert!(first.page_cache.read_ahead_bytes <= first.page_cache.missed_bytes);
    assert_eq!(first.dma_bytes.disk_read_direct, Some(0));
    let second = read()?;
    assert_about(second.page_cache.requested_bytes, "requested");
    assert_eq!((second.dma_bytes.disk_read, second.page_cache.missed_bytes), (Some(0), Some(0)), "warm");
    Ok(())
}

#[test]
fn direct_io_is_the_callers_and_told_apart() -> Result<()> {
    let scratch = Scratch::new()?;
    scratch.file("from", SIZE)?;
    File::open(scratch.at("from"))?.sync_all()?;
    let read = ran(&mut dd(&scratch, &["if=from", "of=/dev/null", "iflag=direct"]))?;
    assert_eq!(read.dma_bytes.disk_read_direct, Some(SIZE as u64));
    let write = ran(&mut dd(&scratch, &["if=/dev/zero", "of=to", "count=1024", "oflag=direct"]))?;
    assert_eq!(write.dma_bytes.disk_write_direct, Some(SIZE as u64));
    assert_about(write.dma_bytes.disk_write, "written");
    Ok(())
}

#[test]
fn a_buffered_write_is_the_writers_whoever_has_it_written_back() -> Result<()> {
    let (agent, scratch) = (agent(), Scratch::new()?);
    let mut child = dd(&scratch, &["if=/dev/zero", "of=to", "count=1024"]).stdin(Stdio::null()).spawn()?;
    let pid = child.id();
    ensure!(child.wait()?.success(), "dd");
    // By us, of whom the agent counts nothing.
    File::open(scratch.at("to"))?.sync_all()?;
    let snapshot = agent.observe()?;
    let process = snapshot.by_pid(pid).context("dd is not in the ledger")?;
    let written = profile(agent.catalogue(), Vec::new(), &process.counters, None, 0).dma_bytes;
    assert_about(written.disk_write, "written back");
    assert_eq!(written.disk_write_direct, Some(0));
    Ok(())
}
