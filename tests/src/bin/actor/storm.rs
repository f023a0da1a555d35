//! Threads that come and go, and count all the while.

use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, ensure};
use zc_tests::memory::{Memory, PAGE};
use zc_tests::script::{Script, arg, raw};

use crate::{Scenario, open};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[("storm", storm), ("one_wave", one_wave)];

static ENOUGH: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_: libc::c_int) {
    ENOUGH.store(true, Ordering::SeqCst);
}

/// Waves of threads until SIGTERM: each writes and reads one byte so many times.
fn storm(arguments: &[String]) -> anyhow::Result<()> {
    let (threads, times) = numbers(arguments)?;
    // SAFETY: the handler only sets an atomic.
    unsafe { libc::signal(libc::SIGTERM, on_signal as extern "C" fn(libc::c_int) as usize) };
    let mut s = Script::default();
    s.begin()?;
    let mut waves = 0;
    while !ENOUGH.load(Ordering::SeqCst) {
        wave(threads, times)?;
        waves += 1;
    }
    let operations = waves * threads * times;
    s.expect("write:user:device null_sink", operations as u64, operations);
    s.expect("read:device:user null_source", operations as u64, operations);
    s.note("threads", waves * threads);
    s.end()
}

fn numbers(arguments: &[String]) -> anyhow::Result<(usize, usize)> {
    let [threads, times] = arguments else { anyhow::bail!("threads and times") };
    Ok((threads.parse()?, times.parse()?))
}

fn wave(threads: usize, times: usize) -> anyhow::Result<()> {
    let (null, zero) = (open::device("/dev/null")?, open::device("/dev/zero")?);
    let (null, zero) = (arg(null.as_raw_fd()), arg(zero.as_raw_fd()));
    let memory = Memory::anonymous(PAGE)?;
    let at = memory.at(0);
    let all: Vec<_> = (0..threads)
        .map(|_| {
            std::thread::spawn(move || -> anyhow::Result<()> {
                for _ in 0..times {
                    ensure!(raw(libc::SYS_write, &[null, at, 1])? == 1, "write");
                    ensure!(raw(libc::SYS_read, &[zero, at, 1])? == 1, "read");
                }
                Ok(())
            })
        })
        .collect();
    all.into_iter().try_for_each(|thread| thread.join().ok().context("a thread panicked")?)
}

/// One wave.
fn one_wave(arguments: &[String]) -> anyhow::Result<()> {
    let (threads, times) = numbers(arguments)?;
    let mut s = Script::default();
    s.begin()?;
    wave(threads, times)?;
    let operations = threads * times;
    s.expect("write:user:device null_sink", operations as u64, operations);
    s.expect("read:device:user null_source", operations as u64, operations);
    s.end()
}
