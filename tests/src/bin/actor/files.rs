//! read and write and their kin, on files, devices and what else is neither socket nor pipe.

use std::os::fd::AsRawFd as _;

use libc::{
    SYS_pread64, SYS_preadv, SYS_preadv2, SYS_pwrite64, SYS_pwritev, SYS_pwritev2, SYS_read, SYS_readv, SYS_write,
    SYS_writev,
};
use zc_tests::memory::{Memory, PAGE, address, address_mut, iovec};
use zc_tests::script::{Script, arg};

use crate::{Scenario, open};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("reads", reads),
    ("writes", writes),
    ("direct", direct),
    ("direct_tmpfs", direct_tmpfs),
    ("devices", devices),
    ("others", others),
    ("memfd", memfd),
];

fn reads(arguments: &[String]) -> anyhow::Result<()> {
    let file = open::file(open::disk_directory(arguments)?, 65536, 0)?;
    let (fd, mut buffer) = (arg(file.as_raw_fd()), vec![0_u8; 8192]);
    let at = address_mut(buffer.as_mut_slice());
    let vector = [iovec(at, 500), iovec(at + 600, 700), iovec(at + 1400, 1)];
    let v = address(&vector);
    let mut s = Script::default();
    s.calls_are_exact();
    s.begin()?;
    let path = "read:file:user";
    s.moves(path, 1000, SYS_read, &[fd, at, 1000])?;
    s.moves(path, 1, SYS_read, &[fd, at, 1])?;
    s.moves(path, 2000, SYS_pread64, &[fd, at, 2000, 77])?;
    s.moves(path, 1201, SYS_readv, &[fd, v, 3])?;
    s.moves(path, 1200, SYS_preadv, &[fd, v, 2, 9, 0])?;
    s.moves(path, 500, SYS_preadv2, &[fd, v, 1, 9, 0, 0])?;
    s.moves(path, 1201, SYS_preadv2, &[fd, v, 3, usize::MAX, 0, 0])?;
    s.end()
}

fn writes(arguments: &[String]) -> anyhow::Result<()> {
    let file = open::file(open::disk_directory(arguments)?, 0, 0)?;
    let (fd, buffer) = (arg(file.as_raw_fd()), vec![0_u8; 8192]);
    let at = address(buffer.as_slice());
    let vector = [iovec(at, 500), iovec(at + 600, 700), iovec(at + 1400, 1)];
    let v = address(&vector);
    let mut s = Script::default();
    s.calls_are_exact();
    s.begin()?;
    let path = "write:user:file";
    s.moves(path, 1000, SYS_write, &[fd, at, 1000])?;
    s.moves(path, 2000, SYS_pwrite64, &[fd, at, 2000, 77])?;
    s.moves(path, 1201, SYS_writev, &[fd, v, 3])?;
    s.moves(path, 1200, SYS_pwritev, &[fd, v, 2, 9, 0])?;
    s.moves(path, 500, SYS_pwritev2, &[fd, v, 1, 9, 0, 0])?;
    s.returns(0, libc::SYS_fsync, &[fd])?;
    s.end()
}

fn direct(arguments: &[String]) -> anyhow::Result<()> {
    let file = open::file(open::disk_directory(arguments)?, 8 * PAGE, libc::O_DIRECT)?;
    let (fd, memory) = (arg(file.as_raw_fd()), Memory::anonymous(4 * PAGE)?);
    let vector = [iovec(memory.at(0), PAGE), iovec(memory.at(2 * PAGE), 2 * PAGE)];
    let mut s = Script::default();
    s.calls_are_exact();
    s.begin()?;
    s.moves("read:disk:user", 4 * PAGE, SYS_pread64, &[fd, memory.at(0), 4 * PAGE, 0])?;
    s.moves("read:disk:user", 3 * PAGE, SYS_preadv, &[fd, address(&vector), 2, 0, 0])?;
    s.moves("write:user:disk", PAGE, SYS_pwrite64, &[fd, memory.at(PAGE), PAGE, PAGE])?;
    s.fails(libc::EINVAL, SYS_pread64, &[fd, memory.at(1), PAGE, 1])?;
    s.end()
}

fn direct_tmpfs(_: &[String]) -> anyhow::Result<()> {
    let file = open::file(open::TMPFS, 4 * PAGE, libc::O_DIRECT)?;
    let (fd, memory) = (arg(file.as_raw_fd()), Memory::anonymous(4 * PAGE)?);
    let mut s = Script::default();
    s.begin()?;
    s.moves("read:file:user", 100, SYS_pread64, &[fd, memory.at(0), 100, 5])?;
    s.moves("read:file:user", 4 * PAGE, SYS_read, &[fd, memory.at(0), 4 * PAGE])?;
    s.moves("write:user:file", PAGE, SYS_pwrite64, &[fd, memory.at(0), PAGE, 0])?;
    s.end()
}

fn devices(_: &[String]) -> anyhow::Result<()> {
    let [null, zero, full, random] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/urandom"].map(open::device);
    let (null, zero, full, random) = (null?, zero?, full?, random?);
    let mut buffer = vec![1_u8; 4096];
    let at = address_mut(buffer.as_mut_slice());
    let fd = |file: &std::fs::File| arg(file.as_raw_fd());
    let mut s = Script::default();
    s.calls_are_exact();
    s.begin()?;
    s.moves("write:user:device null_sink", 1234, SYS_write, &[fd(&null), at, 1234])?;
    s.moves("write:user:device null_sink", 12, SYS_write, &[fd(&zero), at, 12])?;
    s.fails(libc::ENOSPC, SYS_write, &[fd(&full), at, 12])?;
    s.returns(0, SYS_read, &[fd(&null), at, 100])?;
    s.moves("read:device:user null_source", 100, SYS_read, &[fd(&zero), at, 100])?;
    s.moves("read:device:user null_source", 10, SYS_pread64, &[fd(&full), at, 10, 3])?;
    s.moves("read:device:user", 64, SYS_read, &[fd(&random), at, 64])?;
    s.moves("write:user:device", 5, SYS_write, &[fd(&random), at, 5])?;
    s.end()
}

fn others(_: &[String]) -> anyhow::Result<()> {
    let (event, netlink) = (open::eventfd()?, open::netlink()?);
    let comm = open::device("/proc/self/comm")?;
    let sys = std::fs::File::open("/sys/kernel/mm/transparent_hugepage/enabled")
        .or_else(|_| std::fs::File::open("/sys/kernel/uevent_seqnum"))?;
    let mut buffer = vec![0_u8; 65536];
    buffer[0] = 1;
    // A netlink header: RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, and a zeroed ifinfomsg.
    let mut request = vec![0_u8; 32];
    request[0] = 32;
    request[4] = 18;
    request[6..8].copy_from_slice(&0x301_u16.to_le_bytes());
    let at = address_mut(buffer.as_mut_slice());
    let (event, netlink) = (arg(event.as_raw_fd()), arg(netlink.as_raw_fd()));
    let mut s = Script::default();
    s.calls_are_exact();
    s.begin()?;
    s.moves("write:user:other", 8, SYS_write, &[event, at, 8])?;
    s.moves("read:other:user", 8, SYS_read, &[event, at, 8])?;
    s.moves("read:other:user", 6, SYS_pread64, &[arg(comm.as_raw_fd()), at, 100, 0])?;
    s.moves("write:user:other", 4, SYS_write, &[arg(comm.as_raw_fd()), at, 4])?;
    let read = s.call(SYS_pread64, &[arg(sys.as_raw_fd()), at, 100, 0])?;
    s.expect("read:other:user", 1, read);
    s.moves("write:user:other", 32, libc::SYS_sendto, &[netlink, address(request.as_slice()), 32, 0, 0, 0])?;
    let read = s.call(libc::SYS_recvfrom, &[netlink, at, 65536, 0, 0, 0])?;
    s.expect("read:other:user", 1, read);
    s.end()
}

fn memfd(_: &[String]) -> anyhow::Result<()> {
    let file = open::memfd(4096)?;
    let (fd, mut buffer) = (arg(file.as_raw_fd()), vec![0_u8; 4096]);
    let at = address_mut(buffer.as_mut_slice());
    let mut s = Script::default();
    s.begin()?;
    s.moves("write:user:file", 321, SYS_write, &[fd, at, 321])?;
    s.moves("read:file:user", 123, SYS_pread64, &[fd, at, 123, 0])?;
    s.end()
}
