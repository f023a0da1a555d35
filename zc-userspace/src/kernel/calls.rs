//! Which system call numbers move data, for this architecture and for its 32-bit calls.

use zc_common::config::{Call, SYSCALLS};

/// io_pgetevents (arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h, v6.1): the libc crate
/// does not have it everywhere.
#[cfg(target_arch = "x86_64")]
const IO_PGETEVENTS: libc::c_long = 333;
#[cfg(target_arch = "aarch64")]
const IO_PGETEVENTS: libc::c_long = 292;

/// The native calls.
pub(super) fn native() -> [u8; SYSCALLS] {
    table(&[
        (libc::SYS_read, Call::Read),
        (libc::SYS_pread64, Call::Read),
        (libc::SYS_readv, Call::Readv),
        (libc::SYS_preadv, Call::Readv),
        (libc::SYS_preadv2, Call::Readv),
        (libc::SYS_write, Call::Write),
        (libc::SYS_pwrite64, Call::Write),
        (libc::SYS_writev, Call::Writev),
        (libc::SYS_pwritev, Call::Writev),
        (libc::SYS_pwritev2, Call::Writev),
        (libc::SYS_sendto, Call::Sendto),
        (libc::SYS_sendmsg, Call::Sendmsg),
        (libc::SYS_sendmmsg, Call::Sendmmsg),
        (libc::SYS_recvfrom, Call::Recvfrom),
        (libc::SYS_recvmsg, Call::Recvmsg),
        (libc::SYS_recvmmsg, Call::Recvmmsg),
        (libc::SYS_sendfile, Call::Sendfile),
        (libc::SYS_splice, Call::Splice),
        (libc::SYS_tee, Call::Tee),
        (libc::SYS_vmsplice, Call::Vmsplice),
        (libc::SYS_copy_file_range, Call::CopyFileRange),
        (libc::SYS_process_vm_readv, Call::ProcessVmRead),
        (libc::SYS_process_vm_writev, Call::ProcessVmWrite),
        (libc::SYS_ioctl, Call::Ioctl),
        (libc::SYS_mmap, Call::Mmap),
        (libc::SYS_getsockopt, Call::Getsockopt),
        (libc::SYS_io_submit, Call::IoSubmit),
        (libc::SYS_io_getevents, Call::IoGetevents),
        (IO_PGETEVENTS, Call::IoGetevents),
    ])
}

/// i386 (arch/x86/entry/syscalls/syscall_32.tbl, v6.1), but for the old mmap (90), which only asks.
#[cfg(target_arch = "x86_64")]
pub(super) fn compat() -> [u8; SYSCALLS] {
    table(&[
        (3, Call::Read),
        (180, Call::Read),
        (145, Call::Readv),
        (333, Call::Readv),
        (378, Call::Readv),
        (4, Call::Write),
        (181, Call::Write),
        (146, Call::Writev),
        (334, Call::Writev),
        (379, Call::Writev),
        (369, Call::Sendto),
        (370, Call::Sendmsg),
        (345, Call::Sendmmsg),
        (371, Call::Recvfrom),
        (372, Call::Recvmsg),
        (337, Call::Recvmmsg),
        (417, Call::Recvmmsg),
        (187, Call::Sendfile),
        (239, Call::Sendfile),
        (313, Call::Splice),
        (315, Call::Tee),
        (316, Call::Vmsplice),
        (377, Call::CopyFileRange),
        (347, Call::ProcessVmRead),
        (348, Call::ProcessVmWrite),
        (54, Call::Ioctl),
        (192, Call::Mmap),
        (102, Call::Socketcall),
        (365, Call::Getsockopt),
        (248, Call::IoSubmit),
        (247, Call::IoGetevents),
        (385, Call::IoGetevents),
        (416, Call::IoGetevents),
    ])
}

/// 32-bit arm (arch/arm64/include/asm/unistd32.h, v6.1).
#[cfg(target_arch = "aarch64")]
pub(super) fn compat() -> [u8; SYSCALLS] {
    table(&[
        (3, Call::Read),
        (180, Call::Read),
        (145, Call::Readv),
        (361, Call::Readv),
        (392, Call::Readv),
        (4, Call::Write),
        (181, Call::Write),
        (146, Call::Writev),
        (362, Call::Writev),
        (393, Call::Writev),
        (290, Call::Sendto),
        (289, Call::Sendto),
        (296, Call::Sendmsg),
        (374, Call::Sendmmsg),
        (292, Call::Recvfrom),
        (291, Call::Recvfrom),
        (297, Call::Recvmsg),
        (365, Call::Recvmmsg),
        (417, Call::Recvmmsg),
        (187, Call::Sendfile),
        (239, Call::Sendfile),
        (340, Call::Splice),
        (342, Call::Tee),
        (343, Call::Vmsplice),
        (391, Call::CopyFileRange),
        (376, Call::ProcessVmRead),
        (377, Call::ProcessVmWrite),
        (54, Call::Ioctl),
        (192, Call::Mmap),
        (295, Call::Getsockopt),
        (246, Call::IoSubmit),
        (245, Call::IoGetevents),
        (399, Call::IoGetevents),
        (416, Call::IoGetevents),
    ])
}

fn table(calls: &[(libc::c_long, Call)]) -> [u8; SYSCALLS] {
    let mut table = [Call::None as u8; SYSCALLS];
    for &(number, call) in calls {
        table[number as usize] = call as u8;
    }
    table
}
