//! Threads that come and go, and count all the while.

use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, ensure};
use zc_tests::memory::{Memory, PAGE};
use zc_tests::script::{Script, arg, raw};

use crate::{Scenario, open};

pub(crate) const SCENARIOS: &[(&str, Scenario)] =
    &[("storm", storm), ("one_wave", one_wave), ("waves", waves), ("sleepers", sleepers), ("read_on", read_on)];

/// Reads single bytes of /dev/zero for so many milliseconds: as fast as it can, or so many in each.
fn read_on(arguments: &[String]) -> anyhow::Result<()> {
    let [milliseconds, each] = arguments else { anyhow::bail!("milliseconds, and reads in each") };
    let (milliseconds, each): (u64, u64) = (milliseconds.parse()?, each.parse()?);
    let (zero, memory) = (std::fs::File::open("/dev/zero")?, Memory::anonymous(PAGE)?);
    let mut s = Script::default();
    s.begin()?;
    let start = std::time::Instant::now();
    let mut reads = 0;
    loop {
        let passed = start.elapsed().as_micros() as u64;
        if passed >= milliseconds * 1000 {
            break;
        }
        let due = if each == 0 { reads + 1000 } else { passed * each / 1000 };
        while reads < due {
            ensure!(raw(libc::SYS_read, &[arg(zero.as_raw_fd()), memory.at(0), 1])? == 1, "no byte");
            reads += 1;
        }
        if each != 0 {
            std::thread::yield_now();
        }
    }
    s.note("reads", reads);
    s.end()
}

static ENOUGH: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_: libc::c_int) {
    ENOUGH.store(true, Ordering::SeqCst);
}

/// The C library's allocator reads the number of CPUs from /sys when it makes its ninth arena: one does here.
fn one_arena() {
    // SAFETY: sets a parameter before there are threads.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Waves of threads until SIGTERM: each writes and reads one byte so many times.
fn storm(arguments: &[String]) -> anyhow::Result<()> {
    let (threads, times) = numbers(arguments)?;
    one_arena();
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
    one_arena();
    let mut s = Script::default();
    s.begin()?;
    wave(threads, times)?;
    let operations = threads * times;
    s.expect("write:user:device null_sink", operations as u64, operations);
    s.expect("read:device:user null_source", operations as u64, operations);
    s.end()
}

/// So many threads, twenty at a time.
fn waves(arguments: &[String]) -> anyhow::Result<()> {
    let (threads, times) = numbers(arguments)?;
    one_arena();
    let mut s = Script::default();
    s.begin()?;
    for _ in 0..threads / 20 {
        wave(20, times)?;
    }
    s.expect("write:user:device null_sink", (threads * times) as u64, threads * times);
    s.expect("read:device:user null_source", (threads * times) as u64, threads * times);
    s.end()
}

/// Threads that do nothing but be there.
fn sleepers(arguments: &[String]) -> anyhow::Result<()> {
    let (threads, _) = numbers(arguments)?;
    let (sender, receiver) = std::sync::mpsc::channel();
    for _ in 0..threads {
        let sender = sender.clone();
        std::thread::Builder::new().stack_size(4 * PAGE).spawn(move || {
            let _ = sender.send(());
            loop {
                std::thread::park();
            }
        })?;
    }
    receiver.iter().take(threads).for_each(drop);
    let mut s = Script::default();
    s.begin()?;
    s.end()
}
