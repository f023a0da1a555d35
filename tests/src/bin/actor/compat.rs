//! 32-bit system calls, whose numbers and structures are others: int 0x80 on x86-64, programs for 32-bit ARM on aarch64.

use crate::Scenario;

#[cfg(target_arch = "x86_64")]
pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[("compat", x86::compat)];
#[cfg(target_arch = "aarch64")]
pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[("compat", arm::compat)];

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::os::fd::AsRawFd as _;

    use anyhow::ensure;
    use zc_tests::memory::{Memory, PAGE};
    use zc_tests::script::Script;

    use crate::open;

    /// One 32-bit call. Its pointers must be of live memory below 4 GiB.
    fn int80(s: &mut Script, number: u64, arguments: [u64; 5]) -> i32 {
        let [first, second, third, fourth, fifth] = arguments;
        let returned: u64;
        s.other_calls(1);
        // SAFETY: the callers pass live memory; rbx, which LLVM keeps for itself, is restored.
        unsafe {
            std::arch::asm!(
                "xchg {first}, rbx",
                "int 0x80",
                "xchg {first}, rbx",
                first = inout(reg) first => _,
                inlateout("rax") number => returned,
                in("rcx") second,
                in("rdx") third,
                in("rsi") fourth,
                in("rdi") fifth,
                out("r8") _,
                out("r9") _,
                out("r10") _,
                out("r11") _,
            );
        }
        returned as i32
    }

    /// Memory that a 32-bit call can name, and what 32-bit structures it starts with.
    struct Low(Memory);

    impl Low {
        fn new() -> anyhow::Result<Self> {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
            Memory::map(4 * PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, None).map(Self)
        }

        fn put(&self, offset: usize, words: &[u32]) -> u64 {
            let at = self.0.at(offset);
            // SAFETY: inside the memory, which only system calls use otherwise.
            unsafe { std::ptr::copy_nonoverlapping(words.as_ptr(), at as *mut u32, words.len()) };
            at as u64
        }

        fn at(&self, offset: usize) -> u64 {
            self.0.at(offset) as u64
        }
    }

    fn moves(s: &mut Script, path: &str, bytes: i32, number: u64, arguments: [u64; 5]) -> anyhow::Result<()> {
        let returned = int80(s, number, arguments);
        ensure!(returned == bytes, "32-bit call {number} returned {returned} (-38: needs IA32 emulation)");
        s.expect(path, 1, bytes as usize);
        Ok(())
    }

    pub(super) fn compat(_: &[String]) -> anyhow::Result<()> {
        let (pipe, unix) = (open::pipe()?, open::unix(libc::SOCK_DGRAM)?);
        let fd = |end: &std::os::fd::OwnedFd| end.as_raw_fd() as u64;
        let (rx, tx, one, other) = (fd(&pipe.0), fd(&pipe.1), fd(&unix.0), fd(&unix.1));
        let low = Low::new()?;
        let data = low.at(PAGE);
        let vector = low.put(0, &[data as u32, 100, 0, 0, data as u32 + 500, 23]);
        let header = low.put(64, &[0, 0, vector as u32, 3, 0, 0, 0]);
        let several = low.put(128, &[0, 0, vector as u32, 1, 0, 0, 0, 0, 0, 0, vector as u32 + 16, 1, 0, 0, 0, 0]);
        let mut s = Script::default();
        s.calls_are_exact();
        s.begin()?;
        moves(&mut s, "write:user:pipe", 1000, 4, [tx, data, 1000, 0, 0])?;
        moves(&mut s, "read:pipe:user", 1000, 3, [rx, data, 1000, 0, 0])?;
        moves(&mut s, "write:user:pipe", 123, 146, [tx, vector, 3, 0, 0])?;
        moves(&mut s, "read:pipe:user", 123, 145, [rx, vector, 3, 0, 0])?;
        moves(&mut s, "write:user:unix", 123, 370, [one, header, 0, 0, 0])?;
        moves(&mut s, "read:unix:user", 123, 372, [other, header, 0, 0, 0])?;
        moves(&mut s, "write:user:unix", 50, 369, [one, data, 50, 0, 0])?;
        moves(&mut s, "read:unix:user", 50, 371, [other, data, 60, 0, 0])?;
        ensure!(int80(&mut s, 345, [one, several, 2, 0, 0]) == 2, "sendmmsg");
        s.expect("write:user:unix", 1, 123);
        ensure!(int80(&mut s, 337, [other, several, 2, 0, 0]) == 2, "recvmmsg");
        s.expect("read:unix:user", 1, 123);
        ensure!(int80(&mut s, 3, [9999, data, 10, 0, 0]) == -libc::EBADF, "read of no descriptor");
        // 20 is getpid here and writev for 64-bit callers; 146 is writev here and sched_get_priority_max there.
        ensure!(int80(&mut s, 20, [tx, vector, 3, 0, 0]) > 0, "getpid");
        s.returns(99, 146, &[libc::SCHED_FIFO as usize, vector as usize, 3])?;
        s.end()
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::fs::File;
    use std::io::Write as _;
    use std::os::fd::{AsRawFd as _, FromRawFd as _};

    use anyhow::ensure;
    use zc_tests::script::{FORK, Script, arg, raw};

    use crate::{open, signals};

    /// Where the program below lies, its headers first.
    const BASE: u32 = 0x1_0000;
    const HEADERS: u32 = 52 + 32;

    /// write(fd, stack, bytes), and exit with 0 if it wrote them all. A32 instructions.
    fn write(fd: u32, bytes: u32) -> Vec<u32> {
        let call = [
            0xe1a0_100d,         // mov r1, sp
            0xe3a0_2000 | bytes, // mov r2, #bytes
            0xe3a0_0000 | fd,    // mov r0, #fd
            0xe3a0_7004,         // mov r7, #4
        ];
        [&call[..], &end(bytes)].concat()
    }

    /// writev(fd, {stack, bytes}, 1), and the same: a vector of 32-bit words.
    fn writev(fd: u32, bytes: u32) -> Vec<u32> {
        let call = [
            0xe24d_d040,         // sub sp, sp, #64
            0xe3a0_2000 | bytes, // mov r2, #bytes
            0xe58d_d020,         // str sp, [sp, #32]
            0xe58d_2024,         // str r2, [sp, #36]
            0xe28d_1020,         // add r1, sp, #32
            0xe3a0_2001,         // mov r2, #1
            0xe3a0_0000 | fd,    // mov r0, #fd
            0xe3a0_7092,         // mov r7, #146
        ];
        [&call[..], &end(bytes)].concat()
    }

    fn end(bytes: u32) -> [u32; 4] {
        [
            0xef00_0000,         // svc #0
            0xe240_0000 | bytes, // sub r0, r0, #bytes
            0xe3a0_7001,         // mov r7, #1
            0xef00_0000,         // svc #0
        ]
    }

    /// An ELF file for 32-bit ARM (machine 40, EABI 5) of one segment that holds all of it.
    fn program(code: &[u32]) -> Vec<u8> {
        let size = HEADERS + 4 * code.len() as u32;
        let ident = [0x464c_457f, 0x0001_0101, 0, 0];
        let header = [40 << 16 | 2, 1, BASE + HEADERS, 52, 0, 0x0500_0000, 32 << 16 | 52, 1, 0];
        let segment = [1, 0, BASE, BASE, size, size, 5, 0x1000];
        let words = ident.iter().chain(&header).chain(&segment).chain(code);
        words.flat_map(|word| word.to_le_bytes()).collect()
    }

    /// The program in memory, open for reading: what is open for writing can't be executed.
    fn file(program: &[u8]) -> anyhow::Result<File> {
        // SAFETY: the name ends in NUL; the descriptor is new.
        let mut file = unsafe {
            let fd = libc::memfd_create(c"compat".as_ptr(), 0);
            ensure!(fd >= 0, "memfd_create: {}", std::io::Error::last_os_error());
            File::from_raw_fd(fd)
        };
        file.write_all(program)?;
        Ok(File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?)
    }

    /// Children that become 32-bit programs. For 64-bit callers 4 is io_getevents, and 146
    /// setuid.
    pub(super) fn compat(_: &[String]) -> anyhow::Result<()> {
        let null = open::device("/dev/null")?;
        // Not closed by exec.
        let fd = null.as_raw_fd();
        // SAFETY: no memory is involved.
        ensure!(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } == 0, "fcntl");
        let fd = fd.cast_unsigned();
        let files = [file(&program(&write(fd, 5)))?, file(&program(&writev(fd, 7)))?];
        let none = [0_usize];
        let arguments = [c"compat".as_ptr() as usize, 0];
        let mut s = Script::default();
        s.note("children", files.len());
        // The end of execveat, and the write.
        s.note("child_calls", 2_u64);
        s.note("child_bytes", 5_u64 + 7);
        s.begin()?;
        for file in &files {
            let pid = s.call(FORK.0, FORK.1)?;
            if pid == 0 {
                let (path, flags) = (c"".as_ptr() as usize, libc::AT_EMPTY_PATH as usize);
                let (arguments, none) = (arguments.as_ptr() as usize, none.as_ptr() as usize);
                let _ = raw(libc::SYS_execveat, &[arg(file.as_raw_fd()), path, arguments, none, flags]);
                let _ = raw(libc::SYS_exit_group, &[1]);
            }
            signals::reap(&mut s, pid)?;
        }
        s.end()
    }
}
