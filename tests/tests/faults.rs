//! Bytes that faults map and pages that they copy, page for page; and faults that do neither.

mod common;

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use common::Scratch;
use zc_common::path::{Condition, PathId};
use zc_common::record::{CELL_CACHE_FILLS, CELL_SIGBUS, Cell};
use zc_tests::stage::{Helper, Report, agent};
use zcprof::ledger::Counters;

const ACTOR: &str = env!("CARGO_BIN_EXE_actor");
const PAGE: u64 = 4096;

/// Runs a scenario of the actor between its two stops.
fn between_stops(arguments: &[&str]) -> Result<(Counters, Report)> {
    let agent = agent();
    let mut helper = Helper::start(ACTOR, arguments)?;
    helper.wait_stopped()?;
    let before = helper.observe(agent)?;
    helper.proceed()?;
    helper.wait_stopped()?;
    let after = helper.observe(agent)?;
    Ok((after.counters.since(&before.counters), helper.finish()?))
}

/// Pages and bytes of a path.
fn of(counters: &Counters, id: &str) -> Result<(u64, u64)> {
    let id = PathId::parse(id).context("a path")?;
    let cell = agent().catalogue().cell(id, Condition::Always).context("a row")?;
    let Cell { operations, bytes } = counters.get(cell);
    Ok((operations, bytes))
}

/// Whether mapped pages are seen here, which `zcprof probes` must explain otherwise.
fn maps_are_seen() -> Result<bool> {
    let probe = agent().probes().iter().find(|probe| probe.name == "mapping").context("no such probe")?;
    assert_eq!(probe.attached, probe.reason.is_none());
    if let Some(reason) = &probe.reason {
        eprintln!("mapped pages are not seen here: {reason}");
    }
    Ok(probe.attached)
}

#[test]
fn a_small_file_is_mapped_in_whole_pages() -> Result<()> {
    let scratch = Scratch::new()?;
    scratch.file("small", 100)?;
    let (counted, _) = between_stops(&["map_small", &scratch.at("small")])?;
    let asked = agent().catalogue().mmap_asked(&counted);
    assert_eq!((asked.operations, asked.bytes), (1, 100));
    let mapped = of(&counted, "mmap:file:mapping")?;
    assert_eq!(mapped, if maps_are_seen()? { (1, PAGE) } else { (0, 0) });
    Ok(())
}

/// The kernel keeps the counters that it is told from by CPU, and the threads are on all of them.
#[test]
fn threads_that_map_together_miss_no_page() -> Result<()> {
    const PAGES: usize = 4096;
    let scratch = Scratch::new()?;
    scratch.file("large", PAGES * PAGE as usize)?;
    let (counted, report) = between_stops(&["map_by_threads", &scratch.at("large"), "20"])?;
    let (pages, bytes) = of(&counted, "mmap:file:mapping")?;
    if maps_are_seen()? {
        let done = report.number("bytes")?;
        // Threads that fault at once on one page map it once; code of theirs may be mapped meanwhile.
        assert!((done..=done + 64 * PAGE).contains(&bytes), "{bytes} bytes mapped, of {done}");
        assert_eq!(bytes, pages * PAGE);
    }
    assert_eq!(of(&counted, "mmap:user:user")?.0.saturating_sub(64), 0, "only threads' stacks");
    Ok(())
}

#[cfg(target_arch = "x86_64")]
#[test]
fn pages_that_a_child_has_are_copied_once() -> Result<()> {
    let (counted, _) = between_stops(&["copies_of_the_forked", "1000"])?;
    assert_eq!(of(&counted, "mmap:user:user")?, (1000, 1000 * PAGE));
    Ok(())
}

#[cfg(target_arch = "x86_64")]
#[test]
fn so_are_those_that_the_kernel_writes_to() -> Result<()> {
    let (counted, _) = between_stops(&["copies_by_the_kernel", "1000"])?;
    assert_eq!(of(&counted, "mmap:user:user")?, (1000, 1000 * PAGE));
    Ok(())
}

#[cfg(target_arch = "x86_64")]
#[test]
fn faults_that_copy_nothing_are_no_copies() -> Result<()> {
    let scratch = Scratch::new()?;
    scratch.file("shared", 1000 * PAGE as usize)?;
    let (counted, _) = between_stops(&["write_without_a_copy", &scratch.at("shared")])?;
    assert_eq!(of(&counted, "mmap:user:user")?, (0, 0));
    let faults = counted.get(zc_common::record::CELL_USER_FAULTS).operations;
    // All of its own pages, and those of the shared ones that were written back.
    assert!(faults > 1000, "only {faults} faults: nothing was tested");
    Ok(())
}

#[test]
fn a_file_that_shrank_is_a_bus_error() -> Result<()> {
    let (agent, scratch) = (agent(), Scratch::new()?);
    scratch.file("shrinking", 1)?;
    let file = scratch.at("shrinking");
    let mut child = Command::new(ACTOR).args(["bus_error", &file]).stdin(Stdio::null()).spawn()?;
    let pid = child.id();
    let status = child.wait()?;
    ensure!(status.signal() == Some(libc::SIGBUS), "{status:?}");
    let snapshot = agent.observe()?;
    let counters = &snapshot.by_pid(pid).context("the actor is not in the ledger")?.counters;
    assert_eq!(counters.get(CELL_SIGBUS), Cell { operations: 1, bytes: 0 });
    Ok(())
}

/// What is in memory is mapped around a fault, what is not is read first; each page once.
#[test]
fn cold_and_warm_files_are_mapped_alike() -> Result<()> {
    if !maps_are_seen()? {
        return Ok(());
    }
    const PAGES: u64 = 2048;
    let scratch = Scratch::new()?;
    let file = File::open(scratch.file("file", (PAGES * PAGE) as usize)?)?;
    file.sync_all()?;
    for cold in [true, false] {
        if cold {
            // SAFETY: touches no memory.
            let failed = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
            ensure!(failed == 0, "posix_fadvise: {failed}");
        }
        let how = if cold { "cold" } else { "warm" };
        let (counted, report) = between_stops(&["map_by_threads", &scratch.at("file"), "1", how])?;
        let (done, bytes) = (report.number("bytes")?, of(&counted, "mmap:file:mapping")?.1);
        assert!((done..=done + 64 * PAGE).contains(&bytes), "{how}: {bytes} bytes mapped, of {done}");
        assert_eq!(counted.get(CELL_CACHE_FILLS).bytes >= done, cold, "{how}: what came from the disk");
    }
    Ok(())
}
