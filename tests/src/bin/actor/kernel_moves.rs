//! sendfile, splice, tee, vmsplice, copy_file_range, process_vm_*: what moves bytes without passing them by a buffer.

use std::fs::File;
use std::os::fd::AsRawFd;

use libc::{
    SYS_copy_file_range, SYS_process_vm_readv, SYS_process_vm_writev, SYS_read, SYS_sendfile, SYS_splice, SYS_tee,
    SYS_vmsplice, SYS_write,
};
use zc_tests::memory::{Memory, PAGE, address, address_mut, iovec};
use zc_tests::script::{Script, arg};

use crate::{Scenario, open};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("sendfile", sendfile),
    ("sendfile_odd", sendfile_odd),
    ("splice", splice),
    ("splice_zero", splice_zero),
    ("tee", tee),
    ("vmsplice", vmsplice),
    ("copy_file_range", copy_file_range),
    ("process_vm", process_vm),
];

fn fd(of: &impl AsRawFd) -> usize {
    arg(of.as_raw_fd())
}

/// The test process is not traced, but whoever takes the bytes out of the pipe here is: so nobody does.
fn sendfile(arguments: &[String]) -> anyhow::Result<()> {
    let directory = open::disk_directory(arguments)?;
    let (file, sink) = (open::file(directory, 65536, 0)?, open::file(directory, 0, 0)?);
    let (tcp, udp, unix) = (open::tcp()?, open::udp()?, open::unix(libc::SOCK_STREAM)?);
    let (pipe, null) = (open::pipe()?, open::device("/dev/null")?);
    let mut s = Script::default();
    s.calls_are_exact();
    s.begin()?;
    let source = fd(&file);
    s.moves("sendfile:file:tcp", 10_000, SYS_sendfile, &[fd(&tcp.0), source, 0, 10_000])?;
    s.moves("sendfile:file:udp", 1000, SYS_sendfile, &[fd(&udp.0), source, 0, 1000])?;
    s.moves("sendfile:file:unix", 2000, SYS_sendfile, &[fd(&unix.0), source, 0, 2000])?;
    s.moves("sendfile:file:pipe", 3000, SYS_sendfile, &[fd(&pipe.1), source, 0, 3000])?;
    s.moves("sendfile:file:file", 4000, SYS_sendfile, &[fd(&sink), source, 0, 4000])?;
    s.moves("sendfile:file:device null_sink", 500, SYS_sendfile, &[fd(&null), source, 0, 500])?;
    let mut offset = 65_000_u64;
    // Behind the offset there are only 536 bytes: a short count, and then the end.
    s.moves("sendfile:file:tcp", 536, SYS_sendfile, &[fd(&tcp.0), source, address_mut(&mut offset), 10_000])?;
    s.returns(0, SYS_sendfile, &[fd(&tcp.0), source, address_mut(&mut offset), 10_000])?;
    s.end()
}

fn sendfile_odd(arguments: &[String]) -> anyhow::Result<()> {
    let directory = open::disk_directory(arguments)?;
    let (disk, sink) = (open::file(directory, 65536, libc::O_DIRECT)?, open::file(directory, 0, 0)?);
    let (tcp, pipe, more) = (open::tcp()?, open::pipe()?, open::pipe()?);
    let (stream, unix, memory) = (open::tcp()?, open::unix(libc::SOCK_STREAM)?, Memory::anonymous(PAGE)?);
    let proc = File::open("/proc/sys/kernel/ostype")?;
    let random = open::device("/dev/urandom")?;
    let mut s = Script::default();
    s.begin()?;
    s.moves("sendfile:disk:tcp", 8192, SYS_sendfile, &[fd(&tcp.0), fd(&disk), 0, 8192])?;
    s.moves("sendfile:disk:pipe", 4096, SYS_sendfile, &[fd(&pipe.1), fd(&disk), 0, 4096])?;
    s.moves("sendfile:device:file", 4096, SYS_sendfile, &[fd(&sink), fd(&random), 0, 4096])?;
    s.moves("write:user:tcp", 100, SYS_write, &[fd(&stream.0), memory.at(0), 100])?;
    s.moves("sendfile:tcp:pipe", 100, SYS_sendfile, &[fd(&more.1), fd(&stream.1), 0, 100])?;
    s.moves("write:user:unix", 70, SYS_write, &[fd(&unix.0), memory.at(0), 70])?;
    s.moves("sendfile:unix:pipe", 70, SYS_sendfile, &[fd(&more.1), fd(&unix.1), 0, 70])?;
    s.moves("sendfile:other:pipe", 6, SYS_sendfile, &[fd(&more.1), fd(&proc), 0, 6])?;
    // A pipe can't be the source.
    s.fails(libc::EINVAL, SYS_sendfile, &[fd(&more.1), fd(&pipe.0), 0, 100])?;
    s.end()
}

fn splice(arguments: &[String]) -> anyhow::Result<()> {
    let directory = open::disk_directory(arguments)?;
    let (file, sink) = (open::file(directory, 65536, 0)?, open::file(directory, 0, 0)?);
    let disk = open::file(directory, 16384, libc::O_DIRECT)?;
    let (tcp, udp, unix) = (open::tcp()?, open::udp()?, open::unix(libc::SOCK_STREAM)?);
    let ((reader, writer), (_far, more)) = (open::pipe()?, open::pipe()?);
    let null = open::device("/dev/null")?;
    let mut s = Script::default();
    s.calls_are_exact();
    s.begin()?;
    let mut through = |name: &str, sink: &dyn AsRawFd, bytes: usize| -> anyhow::Result<()> {
        s.moves("splice:file:pipe", bytes, SYS_splice, &[fd(&file), 0, fd(&writer), 0, bytes, 0])?;
        let path = format!("splice:pipe:{name}");
        s.moves(&path, bytes, SYS_splice, &[fd(&reader), 0, arg(sink.as_raw_fd()), 0, bytes, 0])
    };
    through("tcp", &tcp.0, 9000)?;
    through("udp", &udp.0, 900)?;
    through("unix", &unix.0, 700)?;
    through("file", &sink, 5000)?;
    through("pipe", &more, 600)?;
    through("device null_sink", &null, 800)?;
    let (w, r) = (fd(&writer), fd(&reader));
    s.moves("splice:unix:pipe", 700, SYS_splice, &[fd(&unix.1), 0, w, 0, 4096, 0])?;
    s.moves("splice:tcp:pipe", 4000, SYS_splice, &[fd(&tcp.1), 0, w, 0, 4000, 0])?;
    s.moves("splice:pipe:device null_sink", 4700, SYS_splice, &[r, 0, fd(&null), 0, 65536, 0])?;
    s.moves("splice:disk:pipe", 8192, SYS_splice, &[fd(&disk), 0, w, 0, 8192, 0])?;
    s.moves("splice:pipe:device null_sink", 8192, SYS_splice, &[r, 0, fd(&null), 0, 65536, 0])?;
    s.fails(libc::EAGAIN, SYS_splice, &[r, 0, fd(&null), 0, 65536, libc::SPLICE_F_NONBLOCK as usize])?;
    s.end()
}

/// Of its own: kernels before 6.5 refuse to splice from /dev/zero.
fn splice_zero(_: &[String]) -> anyhow::Result<()> {
    let (null, zero) = (open::device("/dev/null")?, open::device("/dev/zero")?);
    let (_reader, writer) = open::pipe()?;
    let mut s = Script::default();
    s.calls_are_exact();
    s.begin()?;
    s.moves("splice:device:pipe null_source", 300, SYS_splice, &[fd(&zero), 0, fd(&writer), 0, 300, 0])?;
    s.moves("sendfile:device:pipe null_source", 4096, SYS_sendfile, &[fd(&writer), fd(&zero), 0, 4096])?;
    s.moves("sendfile:device:device null_both", 4096, SYS_sendfile, &[fd(&null), fd(&zero), 0, 4096])?;
    s.end()
}

fn tee(_: &[String]) -> anyhow::Result<()> {
    let ((reader, writer), (_far, more)) = (open::pipe()?, open::pipe()?);
    let memory = Memory::anonymous(2 * PAGE)?;
    let mut s = Script::default();
    s.calls_are_exact();
    s.begin()?;
    s.moves("write:user:pipe", 5000, SYS_write, &[fd(&writer), memory.at(0), 5000])?;
    s.moves("tee:pipe:pipe", 5000, SYS_tee, &[fd(&reader), fd(&more), 65536, 0])?;
    s.moves("tee:pipe:pipe", 70, SYS_tee, &[fd(&reader), fd(&more), 70, 0])?;
    s.moves("read:pipe:user", 5000, SYS_read, &[fd(&reader), memory.at(0), 8192])?;
    s.end()
}

fn vmsplice(arguments: &[String]) -> anyhow::Result<()> {
    let file = open::file(open::disk_directory(arguments)?, 2 * PAGE, 0)?;
    let mapping = mapped(&file)?;
    let memory = Memory::anonymous(4 * PAGE)?;
    let (reader, writer) = open::pipe()?;
    let user = [iovec(memory.at(0), 100), iovec(memory.at(PAGE), PAGE)];
    let file = [iovec(mapping.at(10), 5000)];
    let (user, file) = (address(&user), address(&file));
    let mut s = Script::default();
    s.calls_are_exact();
    s.begin()?;
    s.moves("vmsplice:user:pipe", 100 + PAGE, SYS_vmsplice, &[fd(&writer), user, 2, 0])?;
    s.moves("vmsplice:pipe:user", 100 + PAGE, SYS_vmsplice, &[fd(&reader), user, 2, 0])?;
    s.moves("vmsplice:mapping:pipe", 5000, SYS_vmsplice, &[fd(&writer), file, 1, 0])?;
    s.moves("vmsplice:pipe:mapping", 5000, SYS_vmsplice, &[fd(&reader), file, 1, 0])?;
    s.end()
}

/// A shared mapping of two pages of a file.
pub(crate) fn mapped(file: &File) -> anyhow::Result<Memory> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    Memory::map(2 * PAGE, protection, libc::MAP_SHARED, Some(std::os::fd::AsFd::as_fd(file)))
}

fn copy_file_range(arguments: &[String]) -> anyhow::Result<()> {
    let directory = open::disk_directory(arguments)?;
    let (from, to) = (open::file(directory, 65536, 0)?, open::file(directory, 0, 0)?);
    let (quick, quicker) = (open::file(open::TMPFS, 4096, 0)?, open::file(open::TMPFS, 0, 0)?);
    let mut offset = 65_000_u64;
    let mut s = Script::default();
    s.calls_are_exact();
    s.begin()?;
    let path = "copy_file_range:file:file";
    s.moves(path, 10_000, SYS_copy_file_range, &[fd(&from), 0, fd(&to), 0, 10_000, 0])?;
    s.moves(path, 536, SYS_copy_file_range, &[fd(&from), address_mut(&mut offset), fd(&to), 0, 4096, 0])?;
    s.moves(path, 4096, SYS_copy_file_range, &[fd(&quick), 0, fd(&quicker), 0, 8192, 0])?;
    s.returns(0, SYS_copy_file_range, &[fd(&quick), 0, fd(&quicker), 0, 8192, 0])?;
    s.end()
}

fn process_vm(arguments: &[String]) -> anyhow::Result<()> {
    let file = open::file(open::disk_directory(arguments)?, 2 * PAGE, 0)?;
    let (mapping, memory) = (mapped(&file)?, Memory::anonymous(4 * PAGE)?);
    let local = [iovec(memory.at(0), 100), iovec(mapping.at(0), 50)];
    let remote = [iovec(memory.at(PAGE), 30), iovec(memory.at(2 * PAGE), 120)];
    let (local, remote) = (address(&local), address(&remote));
    let pid = std::process::id() as usize;
    let mut s = Script::default();
    s.calls_are_exact();
    s.begin()?;
    s.moves("process_vm_read:user:user", 100, SYS_process_vm_readv, &[pid, local, 1, remote, 2, 0])?;
    s.returns(150, SYS_process_vm_readv, &[pid, local, 2, remote, 2, 0])?;
    s.expect("process_vm_read:user:user", 1, 100);
    s.expect("process_vm_read:user:mapping", 0, 50);
    s.returns(150, SYS_process_vm_writev, &[pid, local, 2, remote, 2, 0])?;
    s.expect("process_vm_write:user:user", 1, 100);
    s.expect("process_vm_write:mapping:user", 0, 50);
    s.end()
}
