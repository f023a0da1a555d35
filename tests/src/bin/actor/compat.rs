//! 32-bit system calls (int 0x80), whose numbers and structures are others.

use crate::Scenario;

#[cfg(target_arch = "x86_64")]
pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[("compat", x86::compat)];
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[];

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
