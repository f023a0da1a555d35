//! Calls whose return value or end misleads whoever counts them.

use std::os::fd::{AsRawFd as _, OwnedFd};

use libc::{MSG_PEEK, MSG_TRUNC, SYS_read, SYS_recvfrom, SYS_recvmmsg, SYS_recvmsg, SYS_sendto, SYS_write};
use zc_tests::expected::NO_DESCRIPTOR;
use zc_tests::memory::{Memory, PAGE, address, address_mut, iovec};
use zc_tests::script::{Script, arg};

use crate::signals::until_in_read;
use crate::sockets::{message, messages};
use crate::{Scenario, open};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("truncated_udp", |_| truncated(&open::udp()?, "udp")),
    ("truncated_unix", |_| truncated(&open::unix(libc::SOCK_DGRAM)?, "unix")),
    ("truncated_to_nothing", truncated_to_nothing),
    ("truncated_tcp", truncated_tcp),
    ("empty_messages", empty_messages),
    ("peek", peek),
    ("short", short),
    ("failed", failed),
    ("closed", |_| swapped(None)),
    ("replaced", |_| swapped(Some(&open::unix(libc::SOCK_STREAM)?.0))),
];

/// Datagrams longer than the buffer.
fn truncated((one, other): &(OwnedFd, OwnedFd), name: &str) -> anyhow::Result<()> {
    let (tx, rx, memory) = (arg(one.as_raw_fd()), arg(other.as_raw_fd()), Memory::anonymous(2 * PAGE)?);
    let at = memory.at(0);
    let vector = [iovec(at, 10), iovec(at + PAGE, 6)];
    let mut header = message(&vector);
    let mut several = messages([&vector[..1], &vector[1..]]);
    let (out, into, trunc) = (format!("write:user:{name}"), format!("read:{name}:user"), MSG_TRUNC as usize);
    let mut s = Script::default();
    s.calls_are_exact();
    s.begin()?;
    for _ in 0..7 {
        s.moves(&out, 4096, SYS_sendto, &[tx, at, 4096, 0, 0, 0])?;
    }
    s.moves(&into, 16, SYS_recvfrom, &[rx, at, 16, 0, 0, 0])?;
    s.returns(4096, SYS_recvfrom, &[rx, at, 16, trunc, 0, 0])?;
    s.expect(&into, 1, 16);
    s.returns(4096, SYS_recvmsg, &[rx, address_mut(&mut header), trunc])?;
    s.expect(&into, 1, 16);
    s.moves(&into, 16, SYS_recvmsg, &[rx, address_mut(&mut header), 0])?;
    s.returns(4096, SYS_recvfrom, &[rx, at, 16, trunc | MSG_PEEK as usize, 0, 0])?;
    s.expect(&format!("{into} peek"), 1, 16);
    s.returns(2, SYS_recvmmsg, &[rx, address_mut(&mut several), 2, trunc, 0])?;
    s.expect(&into, 1, 16);
    // A buffer longer than the datagram.
    s.moves(&into, 4096, SYS_recvfrom, &[rx, at, 8192, trunc, 0, 0])?;
    s.end()
}

/// The usual way to ask for a datagram's length: nothing is copied, so there is no operation.
fn truncated_to_nothing(_: &[String]) -> anyhow::Result<()> {
    let (one, other) = open::udp()?;
    let (tx, rx, memory) = (arg(one.as_raw_fd()), arg(other.as_raw_fd()), Memory::anonymous(PAGE)?);
    let header = message(&[]);
    let flags = (MSG_TRUNC | MSG_PEEK) as usize;
    let mut s = Script::default();
    s.begin()?;
    s.moves("write:user:udp", 1000, SYS_sendto, &[tx, memory.at(0), 1000, 0, 0, 0])?;
    s.returns(1000, SYS_recvmsg, &[rx, address(&header), flags])?;
    s.returns(1000, SYS_recvfrom, &[rx, 0, 0, flags, 0, 0])?;
    s.moves("read:udp:user", 1000, SYS_read, &[rx, memory.at(0), 1000])?;
    s.end()
}

/// Messages without bytes before the one with bytes: the call is one operation all the same.
fn empty_messages(_: &[String]) -> anyhow::Result<()> {
    let (one, other) = open::udp()?;
    let (tx, rx, memory) = (arg(one.as_raw_fd()), arg(other.as_raw_fd()), Memory::anonymous(PAGE)?);
    let (empty, full) = ([iovec(memory.at(0), 0)], [iovec(memory.at(0), 100)]);
    let mut out = messages([&empty[..], &full[..]]);
    let mut into = messages([&full[..], &full[..]]);
    let mut s = Script::default();
    s.begin()?;
    s.returns(2, libc::SYS_sendmmsg, &[tx, address_mut(&mut out), 2, 0])?;
    s.expect("write:user:udp", 1, 100);
    s.returns(2, SYS_recvmmsg, &[rx, address_mut(&mut into), 2, 0, 0])?;
    s.expect("read:udp:user", 1, 100);
    s.end()
}

/// TCP throws the bytes away.
fn truncated_tcp(_: &[String]) -> anyhow::Result<()> {
    let (one, other) = open::tcp()?;
    let (tx, rx, memory) = (arg(one.as_raw_fd()), arg(other.as_raw_fd()), Memory::anonymous(2 * PAGE)?);
    let (at, trunc) = (memory.at(0), (MSG_TRUNC | libc::MSG_WAITALL) as usize);
    let vector = [iovec(at, 500)];
    let header = message(&vector);
    let mut s = Script::default();
    s.calls_are_exact();
    s.begin()?;
    s.moves("write:user:tcp", 4096, SYS_write, &[tx, at, 4096])?;
    s.returns(1000, SYS_recvfrom, &[rx, at, 1000, trunc, 0, 0])?;
    s.returns(1000, SYS_recvfrom, &[rx, 0, 1000, trunc, 0, 0])?;
    s.returns(500, SYS_recvmsg, &[rx, address(&header), trunc])?;
    s.moves("read:tcp:user", 1596, SYS_read, &[rx, at, 4096])?;
    s.end()
}

fn peek(_: &[String]) -> anyhow::Result<()> {
    let pairs = [("tcp", open::tcp()?), ("udp", open::udp()?), ("unix", open::unix(libc::SOCK_STREAM)?)];
    let memory = Memory::anonymous(PAGE)?;
    let at = memory.at(0);
    let vector = [iovec(at, 30), iovec(at + 100, 30)];
    let header = message(&vector);
    let mut several = messages([&vector[..]]);
    let peek = MSG_PEEK as usize;
    let mut s = Script::default();
    s.calls_are_exact();
    s.begin()?;
    for (name, (one, other)) in &pairs {
        let (tx, rx) = (arg(one.as_raw_fd()), arg(other.as_raw_fd()));
        let peeked = format!("read:{name}:user peek");
        s.moves(&format!("write:user:{name}"), 100, SYS_write, &[tx, at, 100])?;
        s.moves(&peeked, 100, SYS_recvfrom, &[rx, at, 200, peek, 0, 0])?;
        s.moves(&peeked, 60, SYS_recvmsg, &[rx, address(&header), peek])?;
        s.returns(1, SYS_recvmmsg, &[rx, address_mut(&mut several), 1, peek, 0])?;
        s.expect(&peeked, 1, 60);
        s.moves(&format!("read:{name}:user"), 100, SYS_read, &[rx, at, 200])?;
    }
    s.end()
}

/// Less than asked for, and nothing.
fn short(arguments: &[String]) -> anyhow::Result<()> {
    let file = open::file(open::disk_directory(arguments)?, 10, 0)?;
    let (one, other) = open::udp()?;
    let (reader, writer) = open::pipe()?;
    let memory = Memory::anonymous(3 * PAGE)?;
    // SAFETY: takes the last page of memory that only system calls use.
    let failed = unsafe { libc::mprotect(memory.at(2 * PAGE) as *mut _, PAGE, libc::PROT_NONE) };
    anyhow::ensure!(failed == 0, "mprotect");
    let at = memory.at(0);
    let mut s = Script::default();
    s.calls_are_exact();
    s.begin()?;
    s.moves("read:file:user", 10, SYS_read, &[arg(file.as_raw_fd()), at, 1000])?;
    s.returns(0, SYS_read, &[arg(file.as_raw_fd()), at, 1000])?;
    s.returns(0, SYS_write, &[arg(file.as_raw_fd()), at, 0])?;
    s.returns(0, SYS_sendto, &[arg(one.as_raw_fd()), at, 0, 0, 0, 0])?;
    s.returns(0, SYS_read, &[arg(other.as_raw_fd()), at, 1000])?;
    // The last page can't be read: what lies before it is written.
    let (rx, tx) = (arg(reader.as_raw_fd()), arg(writer.as_raw_fd()));
    s.moves("write:user:pipe", PAGE, SYS_write, &[tx, memory.at(PAGE), 2 * PAGE - 1])?;
    s.moves("read:pipe:user", PAGE, SYS_read, &[rx, at, PAGE])?;
    s.returns(0, libc::SYS_close, &[tx])?;
    s.returns(0, SYS_read, &[rx, at, PAGE])?;
    std::mem::forget(writer);
    s.end()
}

fn failed(_: &[String]) -> anyhow::Result<()> {
    let (reader, _writer) = open::pipe()?;
    let zero = open::device("/dev/zero")?;
    let memory = Memory::anonymous(PAGE)?;
    let nonblocking = libc::O_NONBLOCK as usize;
    // SAFETY: no memory is involved.
    unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETFL, nonblocking) };
    let mut s = Script::default();
    s.calls_are_exact();
    s.begin()?;
    for _ in 0..10 {
        s.fails(libc::EBADF, SYS_read, &[9999, memory.at(0), 100])?;
        s.fails(libc::EBADF, SYS_write, &[usize::MAX, memory.at(0), 100])?;
        s.fails(libc::EFAULT, SYS_read, &[arg(zero.as_raw_fd()), 8, 100])?;
        s.fails(libc::EAGAIN, SYS_read, &[arg(reader.as_raw_fd()), memory.at(0), 100])?;
        s.fails(libc::ENOSYS, 10_000, &[])?;
    }
    s.end()
}

/// A thread blocks in a read while another closes its descriptor, or puts another file in its place.
fn swapped(replacement: Option<&OwnedFd>) -> anyhow::Result<()> {
    let (reader, writer) = open::pipe()?;
    let rx = std::os::fd::IntoRawFd::into_raw_fd(reader);
    let (memory, mine) = (Memory::anonymous(PAGE)?, Memory::anonymous(PAGE)?);
    let mut s = Script::default();
    let (sender, receiver) = std::sync::mpsc::channel();
    let (go, start) = std::sync::mpsc::channel::<()>();
    let at = memory.at(0);
    let thread = std::thread::spawn(move || {
        // SAFETY: asks for the thread's id.
        let _ = sender.send(unsafe { libc::gettid() });
        let _ = start.recv();
        zc_tests::script::raw(SYS_read, &[arg(rx), at, PAGE])
    });
    let state = std::fs::File::open(format!("/proc/self/task/{}/syscall", receiver.recv()?))?;
    s.begin()?;
    go.send(())?;
    let (looks, looked_at) = until_in_read(&state, rx, &mine)?;
    s.expect("read:other:user", looks, looked_at);
    match replacement {
        None => s.returns(0, libc::SYS_close, &[arg(rx)])?,
        Some(other) => s.returns(rx as usize, libc::SYS_dup3, &[arg(other.as_raw_fd()), arg(rx), 0])?,
    }
    s.moves("write:user:pipe", 77, SYS_write, &[arg(writer.as_raw_fd()), mine.at(0), 77])?;
    let read = thread.join().map_err(|_| anyhow::anyhow!("the thread panicked"))??;
    // What is in the descriptor's place at the call's end is all that can be known then.
    s.expect(if replacement.is_some() { "read:unix:user" } else { NO_DESCRIPTOR }, 1, read);
    s.end()
}
