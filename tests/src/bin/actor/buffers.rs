//! Buffers: what memory of each kind counts as, and buffers of several kinds in one call.

use std::os::fd::{AsFd as _, AsRawFd as _};

use libc::{SYS_read, SYS_readv, SYS_write, SYS_writev};
use zc_tests::memory::{Memory, PAGE, address, address_mut, iovec};
use zc_tests::script::{Script, arg};

use crate::{Scenario, open};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("kinds", kinds),
    ("program", program),
    ("mmap_calls", mmap_calls),
    ("spans", spans),
    ("spans_many", spans_many),
    ("mixed_iovecs", mixed_iovecs),
    ("many_iovecs", many_iovecs),
    ("empty_iovecs", empty_iovecs),
    ("remapped", remapped),
    ("hammered", hammered),
];

const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// System V shared memory.
fn system_v() -> anyhow::Result<usize> {
    // SAFETY: new shared memory, attached where the kernel likes and marked to go with its last user.
    unsafe {
        let id = libc::shmget(libc::IPC_PRIVATE, PAGE, 0o600);
        let at = libc::shmat(id, std::ptr::null(), 0);
        libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut());
        anyhow::ensure!(at as isize != -1, "shmat: {}", std::io::Error::last_os_error());
        Ok(at as usize)
    }
}

/// Writes a page of each kind of memory to a pipe, and reads it back into it.
fn kinds(arguments: &[String]) -> anyhow::Result<()> {
    let disk = open::file(open::disk_directory(arguments)?, PAGE, 0)?;
    let (quick, memfd, zero) =
        (open::file(open::TMPFS, PAGE, 0)?, open::memfd(PAGE as u64)?, open::device("/dev/zero")?);
    let (shared, private, anonymous) = (libc::MAP_SHARED, libc::MAP_PRIVATE, libc::MAP_ANONYMOUS);
    let user = [
        Memory::map(PAGE, RW, private | anonymous, None)?,
        Memory::map(PAGE, RW, shared | anonymous, None)?,
        Memory::map(PAGE, RW, shared, Some(memfd.as_fd()))?,
        Memory::map(PAGE, RW, private, Some(memfd.as_fd()))?,
        Memory::map(PAGE, RW, shared, Some(quick.as_fd()))?,
        Memory::map(PAGE, RW, private, Some(disk.as_fd()))?,
        Memory::map(PAGE, RW, private, Some(zero.as_fd()))?,
        Memory::map(PAGE, RW, shared, Some(zero.as_fd()))?,
    ];
    let mut stack = [0_u8; PAGE];
    let mut heap = vec![0_u8; PAGE];
    let mut places: Vec<(usize, &str)> = user.iter().map(|memory| (memory.at(0), "user")).collect();
    places.extend([(system_v()?, "user"), (address_mut(&mut stack), "user"), (address_mut(&mut heap[..]), "user")]);
    let file = Memory::map(PAGE, RW, shared, Some(disk.as_fd()))?;
    places.push((file.at(0), "mapping"));
    let constant = Memory::map(PAGE, libc::PROT_READ, private, Some(disk.as_fd()))?;
    let constant_memfd = Memory::map(PAGE, libc::PROT_READ, private, Some(memfd.as_fd()))?;
    let (reader, writer) = open::pipe()?;
    let (rx, tx) = (arg(reader.as_raw_fd()), arg(writer.as_raw_fd()));
    let mut s = Script::default();
    s.begin()?;
    for (at, kind) in places {
        s.moves(&format!("write:{kind}:pipe"), PAGE, SYS_write, &[tx, at, PAGE])?;
        s.moves(&format!("read:pipe:{kind}"), PAGE, SYS_read, &[rx, at, PAGE])?;
    }
    s.moves("write:mapping:pipe", PAGE, SYS_write, &[tx, constant.at(0), PAGE])?;
    s.moves("write:user:pipe", PAGE, SYS_write, &[tx, constant_memfd.at(0), PAGE])?;
    s.end()
}

static CONSTANT: [u8; 256] = [1; 256];
static VARIABLE: std::sync::Mutex<[u8; 256]> = std::sync::Mutex::new([1; 256]);

/// The program's own constants are a mapping of its file, its variables are not.
fn program(_: &[String]) -> anyhow::Result<()> {
    let null = open::device("/dev/null")?;
    let null = arg(null.as_raw_fd());
    let variable = VARIABLE.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
    let mut s = Script::default();
    s.begin()?;
    s.moves("write:mapping:device null_sink", 256, SYS_write, &[null, address(&CONSTANT), 256])?;
    s.moves("write:user:device null_sink", 256, SYS_write, &[null, address(&*variable), 256])?;
    s.end()
}

fn mmap_calls(arguments: &[String]) -> anyhow::Result<()> {
    let file = open::file(open::disk_directory(arguments)?, 2 * PAGE, 0)?;
    let fd = arg(file.as_raw_fd());
    let mut s = Script::default();
    s.calls_are_exact();
    s.begin()?;
    let (shared, private) = (libc::MAP_SHARED as usize, (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize);
    s.call(libc::SYS_mmap, &[0, 2 * PAGE, 1, shared, fd, 0])?;
    s.expect("mmap:file:mapping asked", 1, 2 * PAGE);
    s.call(libc::SYS_mmap, &[0, 2 * PAGE, 1, private, fd, 0])?;
    s.fails(libc::EBADF, libc::SYS_mmap, &[0, 2 * PAGE, 1, shared, 999, 0])?;
    s.end()
}

/// One buffer over user, mapping and user memory.
fn spans(arguments: &[String]) -> anyhow::Result<()> {
    let file = open::file(open::disk_directory(arguments)?, PAGE, 0)?;
    let memory = Memory::anonymous(3 * PAGE)?;
    memory.replace_page(1, libc::MAP_SHARED, file.as_fd())?;
    let (reader, writer) = open::pipe()?;
    let (rx, tx) = (arg(reader.as_raw_fd()), arg(writer.as_raw_fd()));
    let mut s = Script::default();
    s.begin()?;
    let (from, bytes) = (memory.at(10), 3 * PAGE - 20);
    for _ in 0..3 {
        s.returns(bytes, SYS_write, &[tx, from, bytes])?;
        s.expect("write:user:pipe", 1, bytes - PAGE);
        s.expect("write:mapping:pipe", 0, PAGE);
        s.returns(bytes, SYS_read, &[rx, from, bytes])?;
        s.expect("read:pipe:user", 1, bytes - PAGE);
        s.expect("read:pipe:mapping", 0, PAGE);
    }
    s.end()
}

/// One buffer over seventeen mappings, as many as the kernel half follows.
fn spans_many(arguments: &[String]) -> anyhow::Result<()> {
    let file = open::file(open::disk_directory(arguments)?, PAGE, 0)?;
    let memory = Memory::anonymous(17 * PAGE)?;
    for page in (1..17).step_by(2) {
        memory.replace_page(page, libc::MAP_SHARED, file.as_fd())?;
    }
    let (_reader, writer) = open::pipe()?;
    let mut s = Script::default();
    s.begin()?;
    s.returns(17 * PAGE, SYS_write, &[arg(writer.as_raw_fd()), memory.at(0), 17 * PAGE])?;
    s.expect("write:user:pipe", 1, 9 * PAGE);
    s.expect("write:mapping:pipe", 0, 8 * PAGE);
    s.end()
}

fn mixed_iovecs(arguments: &[String]) -> anyhow::Result<()> {
    let file = open::file(open::disk_directory(arguments)?, 2 * PAGE, 0)?;
    let (mapping, memory) = (crate::kernel_moves::mapped(&file)?, Memory::anonymous(2 * PAGE)?);
    let vector = [
        iovec(mapping.at(3), 100),
        iovec(memory.at(0), 200),
        iovec(mapping.at(PAGE), 300),
        iovec(memory.at(PAGE), 400),
    ];
    let (reader, writer) = open::pipe()?;
    let (rx, tx) = (arg(reader.as_raw_fd()), arg(writer.as_raw_fd()));
    let v = address(&vector);
    let mut s = Script::default();
    s.begin()?;
    s.returns(1000, SYS_writev, &[tx, v, 4])?;
    s.expect("write:mapping:pipe", 1, 400);
    s.expect("write:user:pipe", 0, 600);
    // Only 450 bytes arrive: the third segment is filled in part, the fourth not at all.
    s.moves("read:pipe:user", 550, SYS_read, &[rx, memory.at(0), 550])?;
    s.returns(450, SYS_readv, &[rx, v, 4])?;
    s.expect("read:pipe:mapping", 1, 250);
    s.expect("read:pipe:user", 0, 200);
    s.end()
}

fn many_iovecs(_: &[String]) -> anyhow::Result<()> {
    let memory = Memory::anonymous(PAGE)?;
    let vector: Vec<_> = (0..1024).map(|i| iovec(memory.at(i * 3), 1 + i % 3)).collect();
    let bytes = vector.iter().map(|one| one.iov_len).sum();
    let (reader, writer) = open::pipe()?;
    let (rx, tx, v) = (arg(reader.as_raw_fd()), arg(writer.as_raw_fd()), address(&vector[..]));
    let mut s = Script::default();
    s.begin()?;
    s.moves("write:user:pipe", bytes, SYS_writev, &[tx, v, 1024])?;
    s.moves("read:pipe:user", bytes, SYS_readv, &[rx, v, 1024])?;
    s.fails(libc::EINVAL, SYS_writev, &[tx, v, 1025])?;
    s.end()
}

fn empty_iovecs(arguments: &[String]) -> anyhow::Result<()> {
    let file = open::file(open::disk_directory(arguments)?, 2 * PAGE, 0)?;
    let (mapping, memory) = (crate::kernel_moves::mapped(&file)?, Memory::anonymous(PAGE)?);
    // The first that is not empty decides which path has the operation.
    let vector = [iovec(memory.at(0), 0), iovec(0, 0), iovec(mapping.at(0), 10), iovec(0, 0), iovec(memory.at(0), 5)];
    let (reader, writer) = open::pipe()?;
    let (rx, tx, v) = (arg(reader.as_raw_fd()), arg(writer.as_raw_fd()), address(&vector));
    let mut s = Script::default();
    s.begin()?;
    s.returns(15, SYS_writev, &[tx, v, 5])?;
    s.expect("write:mapping:pipe", 1, 10);
    s.expect("write:user:pipe", 0, 5);
    s.returns(0, SYS_writev, &[tx, v, 2])?;
    s.returns(0, SYS_writev, &[tx, v, 0])?;
    s.returns(15, SYS_readv, &[rx, v, 5])?;
    s.expect("read:pipe:mapping", 1, 10);
    s.expect("read:pipe:user", 0, 5);
    s.end()
}

/// An address that was user memory is a file's a moment later, and the other way round: nothing stale is used.
fn remapped(arguments: &[String]) -> anyhow::Result<()> {
    let file = open::file(open::disk_directory(arguments)?, PAGE, 0)?;
    let memory = Memory::anonymous(2 * PAGE)?;
    let null = open::device("/dev/null")?;
    let (fd, null) = (arg(file.as_raw_fd()), arg(null.as_raw_fd()));
    let anonymous = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED) as usize;
    let shared = (libc::MAP_SHARED | libc::MAP_FIXED) as usize;
    let mut s = Script::default();
    s.begin()?;
    for _ in 0..1000 {
        s.moves("write:user:device null_sink", 10, SYS_write, &[null, memory.at(0), 10])?;
        s.returns(memory.at(0), libc::SYS_mmap, &[memory.at(0), PAGE, RW as usize, shared, fd, 0])?;
        s.expect("mmap:file:mapping asked", 1, PAGE);
        s.moves("write:mapping:device null_sink", 10, SYS_write, &[null, memory.at(0), 10])?;
        s.returns(memory.at(0), libc::SYS_mmap, &[memory.at(0), PAGE, RW as usize, anonymous, usize::MAX, 0])?;
    }
    s.end()
}

/// Writes from one buffer while another thread changes the memory map elsewhere all the time.
fn hammered(_: &[String]) -> anyhow::Result<()> {
    use std::sync::atomic::{AtomicBool, Ordering};
    static DONE: AtomicBool = AtomicBool::new(false);
    let (null, memory) = (open::device("/dev/null")?, Memory::anonymous(PAGE)?);
    let null = arg(null.as_raw_fd());
    let mut s = Script::default();
    s.begin()?;
    let hammer = std::thread::spawn(|| -> anyhow::Result<()> {
        while !DONE.load(Ordering::Relaxed) {
            Memory::anonymous(16 * PAGE)?;
        }
        Ok(())
    });
    for _ in 0..100_000 {
        s.moves("write:user:device null_sink", 1, SYS_write, &[null, memory.at(0), 1])?;
    }
    DONE.store(true, Ordering::Relaxed);
    hammer.join().map_err(|_| anyhow::anyhow!("the thread panicked"))??;
    s.end()
}
