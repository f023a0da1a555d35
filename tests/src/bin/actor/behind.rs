//! What no system call's result shows: waiting, and touching memory.

use std::time::Duration;

use anyhow::Context as _;
use zc_tests::memory::{Memory, PAGE};
use zc_tests::script::Script;

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] =
    &[("naps", naps), ("leaderless_naps", leaderless_naps), ("touches", touches), ("stopped_touches", stopped_touches)];

fn nap(times: usize) {
    for _ in 0..times {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// So many threads, the first among them, each sleep so many times.
fn naps(arguments: &[String]) -> anyhow::Result<()> {
    let [threads, times] = arguments else { anyhow::bail!("threads and times") };
    let (threads, times) = (threads.parse::<usize>()?, times.parse()?);
    let others: Vec<_> = (1..threads).map(|_| std::thread::spawn(move || nap(times))).collect();
    nap(times);
    others.into_iter().try_for_each(|other| other.join().ok().context("a thread"))
}

/// The first thread ends at once, another sleeps so many times.
fn leaderless_naps(arguments: &[String]) -> anyhow::Result<()> {
    let [times] = arguments else { anyhow::bail!("times") };
    let times = times.parse()?;
    std::thread::spawn(move || {
        nap(times);
        // SAFETY: ends the process; nothing is to be cleaned up.
        unsafe { libc::_exit(0) }
    });
    // SAFETY: ends this thread alone, without unwinding.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    unreachable!("exit(2) does not return")
}

/// The same between two stops.
fn stopped_touches(arguments: &[String]) -> anyhow::Result<()> {
    let mut s = Script::default();
    // Its own code is there by then.
    touches(&["1".to_owned()])?;
    s.begin()?;
    touches(arguments)?;
    s.note("page", PAGE);
    s.end()
}

/// Writes to so many fresh pages, one by one.
fn touches(arguments: &[String]) -> anyhow::Result<()> {
    let [pages] = arguments else { anyhow::bail!("pages") };
    let pages: usize = pages.parse()?;
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let memory = Memory::map(pages * PAGE, protection, flags, None)?;
    // A huge page would be one fault. A kernel without them refuses.
    // SAFETY: the memory is ours, and its content stays.
    unsafe { libc::madvise(memory.at(0) as *mut libc::c_void, pages * PAGE, libc::MADV_NOHUGEPAGE) };
    for page in 0..pages {
        // SAFETY: inside the memory, which nobody else has.
        unsafe { (memory.at(page * PAGE) as *mut u8).write_volatile(1) };
    }
    Ok(())
}
