//! Faults that map a file's pages, copy a page that is written to, or find nothing.

use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, ensure};
use zc_tests::memory::{Memory, PAGE};
use zc_tests::script::Script;

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("map_small", map_small),
    ("map_by_threads", map_by_threads),
    ("copies_of_the_forked", copies_of_the_forked),
    ("copies_by_the_kernel", copies_by_the_kernel),
    ("write_without_a_copy", write_without_a_copy),
    ("bus_error", bus_error),
];

const BOTH: i32 = libc::PROT_READ | libc::PROT_WRITE;
const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

/// Brings in what the process has mapped, and makes it its own: faults are the scenario's alone then. Memory from an
/// address on is left out.
fn settle(except: Option<&Memory>) -> anyhow::Result<()> {
    let except = except.map(|memory| memory.at(0) as u64);
    if except.is_none() {
        // SAFETY: touches nothing that is ours to keep.
        ensure!(unsafe { libc::mlockall(libc::MCL_CURRENT) } == 0, "mlockall: {}", std::io::Error::last_os_error());
    }
    for line in std::fs::read_to_string("/proc/self/maps")?.lines() {
        let (range, rest) = line.split_once(' ').context("a mapping")?;
        let (start, end) = range.split_once('-').context("a range")?;
        let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        if rest.starts_with("rw-p") && except.is_none_or(|at| !(start..end).contains(&at)) {
            // SAFETY: it writes back what is there.
            unsafe { libc::madvise(start as *mut libc::c_void, (end - start) as usize, libc::MADV_POPULATE_WRITE) };
        }
    }
    Ok(())
}

/// Writes to each page.
fn write(memory: &Memory, pages: usize) {
    for page in 0..pages {
        // SAFETY: inside the memory, which nobody else has.
        unsafe { (memory.at(page * PAGE) as *mut u8).write_volatile(2) };
    }
}

fn file(arguments: &[String]) -> anyhow::Result<std::fs::File> {
    let [path, ..] = arguments else { anyhow::bail!("a file") };
    Ok(std::fs::File::options().read(true).write(true).open(path)?)
}

/// A file of 100 bytes is one page when it is mapped.
fn map_small(arguments: &[String]) -> anyhow::Result<()> {
    let file = file(arguments)?;
    settle(None)?;
    let mut s = Script::default();
    s.begin()?;
    let memory = Memory::map(100, libc::PROT_READ, libc::MAP_SHARED, Some(file.as_fd()))?;
    // SAFETY: inside the mapping.
    unsafe { (memory.at(0) as *const u8).read_volatile() };
    s.end()
}

/// Several threads read one mapping, each its part, again and again after it was unmapped.
fn map_by_threads(arguments: &[String]) -> anyhow::Result<()> {
    const THREADS: usize = 4;
    let file = file(arguments)?;
    let pages = usize::try_from(file.metadata()?.len())? / PAGE;
    let rounds: usize = arguments.get(1).context("rounds")?.parse()?;
    let once = |memory: &Memory| {
        std::thread::scope(|scope| {
            for part in 0..THREADS {
                scope.spawn(move || {
                    for page in pages * part / THREADS..pages * (part + 1) / THREADS {
                        // SAFETY: inside the mapping.
                        unsafe { (memory.at(page * PAGE) as *const u8).read_volatile() };
                    }
                });
            }
        });
    };
    let map = || Memory::map(pages * PAGE, libc::PROT_READ, libc::MAP_SHARED, Some(file.as_fd()));
    // Cold, only what a round itself needs is made ready.
    if arguments.get(2).is_none_or(|how| how != "cold") {
        once(&map()?);
    }
    settle(None)?;
    let mut s = Script::default();
    s.begin()?;
    for _ in 0..rounds {
        once(&map()?);
    }
    s.note("bytes", rounds * pages * PAGE);
    s.end()
}

/// Runs `between` stops in a process that a sleeping child shares all pages with but those that `settle` takes back.
fn beside_a_child(memory: &Memory, run: impl FnOnce(&mut Script) -> anyhow::Result<()>) -> anyhow::Result<()> {
    // SAFETY: the child makes system calls alone.
    let child = unsafe { libc::fork() };
    if child == 0 {
        loop {
            // SAFETY: neither touches memory.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::pause();
            }
        }
    }
    ensure!(child > 0, "fork: {}", std::io::Error::last_os_error());
    settle(Some(memory))?;
    let mut s = Script::default();
    s.begin()?;
    run(&mut s)?;
    // SAFETY: our own child.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
    s.end()
}

fn pages(arguments: &[String]) -> anyhow::Result<usize> {
    Ok(arguments.first().context("pages")?.parse()?)
}

fn memory(pages: usize) -> anyhow::Result<Memory> {
    settle(None)?;
    let memory = Memory::map(pages * PAGE, BOTH, PRIVATE, None)?;
    // SAFETY: the memory is ours, and its content stays.
    unsafe { libc::madvise(memory.at(0) as *mut libc::c_void, pages * PAGE, libc::MADV_NOHUGEPAGE) };
    write(&memory, pages);
    Ok(memory)
}

/// Each page is copied when it is written to, and not again.
fn copies_of_the_forked(arguments: &[String]) -> anyhow::Result<()> {
    let pages = pages(arguments)?;
    let memory = memory(pages)?;
    beside_a_child(&memory, |_| {
        write(&memory, pages);
        write(&memory, pages);
        Ok(())
    })
}

/// The kernel writes: read(2) into memory that a child has, too.
fn copies_by_the_kernel(arguments: &[String]) -> anyhow::Result<()> {
    let pages = pages(arguments)?;
    let memory = memory(pages)?;
    let zero = std::fs::File::open("/dev/urandom")?;
    beside_a_child(&memory, |_| {
        // SAFETY: the memory is so long.
        let read = unsafe { libc::read(zero.as_raw_fd(), memory.at(0) as *mut libc::c_void, pages * PAGE) };
        ensure!(read == (pages * PAGE) as isize, "read {read}");
        Ok(())
    })
}

/// Stays on this processor: a page that another still has in its batch of new ones has an owner more, and is copied
/// (wp_can_reuse_anon_folio, mm/memory.c, v6.1 to v6.18).
fn stay() -> anyhow::Result<()> {
    // SAFETY: plain numbers; the set lives during the call.
    let done = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(usize::try_from(libc::sched_getcpu())?, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    ensure!(done == 0, "sched_setaffinity: {}", std::io::Error::last_os_error());
    Ok(())
}

/// Faults on pages that are there and must not be written, of which none is copied: the last owner's, a shared file's
/// after it was written back, and those whose protection was changed.
fn write_without_a_copy(arguments: &[String]) -> anyhow::Result<()> {
    stay()?;
    let file = file(arguments)?;
    let pages = usize::try_from(file.metadata()?.len())? / PAGE;
    let shared = Memory::map(pages * PAGE, BOTH, libc::MAP_SHARED, Some(file.as_fd()))?;
    write(&shared, pages);
    let own = memory(pages)?;
    // SAFETY: the child ends at once.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: as above.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: our own child.
    ensure!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) } == child, "waitpid");
    settle(Some(&own))?;
    file.sync_all()?;
    let mut s = Script::default();
    s.begin()?;
    write(&own, pages);
    write(&shared, pages);
    for protection in [libc::PROT_READ, BOTH] {
        // SAFETY: the memory is ours.
        ensure!(unsafe { libc::mprotect(own.at(0) as *mut libc::c_void, pages * PAGE, protection) } == 0, "mprotect");
    }
    write(&own, pages);
    s.end()
}

/// Reads behind the end of a file that shrank, and is told so by SIGBUS.
fn bus_error(arguments: &[String]) -> anyhow::Result<()> {
    let file = file(arguments)?;
    file.set_len(2 * PAGE as u64)?;
    let memory = Memory::map(2 * PAGE, libc::PROT_READ, libc::MAP_SHARED, Some(file.as_fd()))?;
    file.set_len(PAGE as u64)?;
    // SAFETY: inside the mapping; the second page ends the process, if nothing handles the signal, and Rust does.
    unsafe {
        libc::signal(libc::SIGBUS, libc::SIG_DFL);
        (memory.at(0) as *const u8).read_volatile();
        (memory.at(PAGE) as *const u8).read_volatile();
    }
    anyhow::bail!("no SIGBUS")
}
