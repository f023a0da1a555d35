//! 32-bit system calls from a 64-bit process, through `int 0x80`: their numbers mean other calls than `syscall`'s.

use super::drive::{Moved, Stage};

/// read, with the 32-bit number 3.
pub(super) fn read(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    use std::os::fd::AsRawFd as _;
    let fd = stage.source.fd()?.as_raw_fd();
    call(3, fd, stage.sink.bytes(len)?)
}

/// write, with the 32-bit number 4.
pub(super) fn write(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    use std::os::fd::AsRawFd as _;
    let fd = stage.sink.fd()?.as_raw_fd();
    call(4, fd, stage.source.bytes(len)?)
}

#[cfg(target_arch = "x86_64")]
fn call(number: u64, fd: i32, buffer: &mut [u8]) -> nix::Result<Moved> {
    let address = u32::try_from(buffer.as_mut_ptr() as usize).map_err(|_| nix::errno::Errno::EFAULT)?;
    // SAFETY: the numbers above read into or write from the buffer, which lies below 4 GiB and is as long as is said.
    let result = unsafe { int80(number, u64::from(fd.cast_unsigned()), u64::from(address), buffer.len() as u64) };
    if result < 0 { Err(nix::errno::Errno::from_raw(-result)) } else { Ok(usize::try_from(result).unwrap_or(0).into()) }
}

#[cfg(not(target_arch = "x86_64"))]
fn call(_: u64, _: i32, _: &mut [u8]) -> nix::Result<Moved> {
    Err(nix::errno::Errno::ENOSYS)
}

/// # Safety
/// The arguments must be what the 32-bit call with this number takes.
#[cfg(target_arch = "x86_64")]
unsafe fn int80(number: u64, first: u64, second: u64, third: u64) -> i32 {
    let result: u64;
    // SAFETY: the gate keeps all registers but rax and, before 4.17, r8 to r11. rbx holds the first argument but is
    // the compiler's own, so it is put back.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {first}",
            "int 0x80",
            "xchg rbx, {first}",
            first = inout(reg) first => _,
            inlateout("rax") number => result,
            in("rcx") second,
            in("rdx") third,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            options(nostack),
        );
    }
    (result as u32).cast_signed()
}

/// Why there are no 32-bit calls here.
#[cfg(target_arch = "x86_64")]
pub(super) fn unavailable() -> Option<String> {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    // Without IA32 emulation the instruction faults, so a child tries it.
    // SAFETY: the child makes one system call that takes no arguments (getpid, 20) and exits, all of which a forked
    // child of a process with threads may do.
    match unsafe { fork() } {
        // SAFETY: as above.
        Ok(ForkResult::Child) => unsafe {
            int80(20, 0, 0, 0);
            libc::_exit(0);
        },
        Ok(ForkResult::Parent { child }) => match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, 0)) => None,
            other => Some(format!("needs the kernel's IA32 emulation: int 0x80 ended a child with {other:?}")),
        },
        Err(errno) => Some(format!("could not fork to try int 0x80: {errno}")),
    }
}

/// Why there are no 32-bit calls here.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn unavailable() -> Option<String> {
    Some("int 0x80 is an instruction of x86".to_owned())
}
