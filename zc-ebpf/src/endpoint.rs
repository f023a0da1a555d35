//! What a descriptor is: file, disk, socket, pipe, device or other.

use zc_common::config::{CODE_NULL_DEVICE, CODE_TLS, CODE_UNIX_MESSAGES, CODE_UNKNOWN};
use zc_common::path::Endpoint;

use crate::kernel::{self, At, Task, number};
use crate::maps::{config, offset};

// include/uapi/linux/stat.h, v6.1.
const S_IFMT: u32 = 0o170_000;
const S_IFSOCK: u32 = 0o140_000;
const S_IFREG: u32 = 0o100_000;
const S_IFBLK: u32 = 0o060_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFIFO: u32 = 0o010_000;

/// `FMODE_CAN_ODIRECT` (include/linux/fs.h, v6.1): the file system takes O_DIRECT.
const FMODE_CAN_ODIRECT: u32 = 0x0040_0000;
/// `FMODE_WRITE` (include/linux/fs.h, v6.1).
pub const FMODE_WRITE: u32 = 2;

/// `makedev(1, minor)` as the kernel keeps it (MINORBITS is 20: include/linux/kdev_t.h, v6.1).
const DEVICE_NULL: u32 = 1 << 20 | 3;
const DEVICE_ZERO: u32 = 1 << 20 | 5;
const DEVICE_FULL: u32 = 1 << 20 | 7;

const SOCK_STREAM: u16 = 1;
const SOCK_DGRAM: u16 = 2;
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;
const IPPROTO_UDP: u16 = 17;

const EXT4_SUPER_MAGIC: u64 = 0xef53;
const BTRFS_SUPER_MAGIC: u64 = 0x9123_683e;
/// `EXT4_JOURNAL_DATA_FL | EXT4_INLINE_DATA_FL` (fs/ext4/ext4.h, v6.1): such files do direct I/O through the page
/// cache (ext4_dio_alignment and ext4_should_use_dio, fs/ext4).
const EXT4_NOT_DIRECT: u32 = 0x0000_4000 | 0x1000_0000;

/// The file behind a descriptor of a task: its address, or 0 if the descriptor is closed.
#[inline(always)]
pub fn file(task: At, fd: u64) -> u64 {
    let files: u64 = task.load(offset!(task_files));
    if files == 0 {
        return 0;
    }
    let table = At::new(At::new(files, config!(types.files)).load(offset!(files_fdt)), config!(types.fdtable));
    let fd = fd as u32;
    if fd >= table.load::<u32>(offset!(fdt_max_fds)) {
        return 0;
    }
    let slots: u64 = table.load(offset!(fdt_fd));
    At::new(slots + u64::from(fd) * 8, config!(types.list_head)).load(0)
}

/// What a descriptor of a task is: the code of an endpoint, of a null device, or [`CODE_UNKNOWN`]. Of a TCP or UDP socket
/// the address of its `sock` goes where `sock` points to, if network probes want it; who only reads points nowhere, and gets
/// no code but TCP's for a socket that enciphers what is sent.
#[inline(always)]
pub fn descriptor(task: At, fd: u64, sock: *mut u64) -> u8 {
    let file = file(task, fd);
    if file == 0 { CODE_UNKNOWN } else { of_file(file, sock) }
}

/// The code of a descriptor or file in the lowest byte, above it what is known of its `sock` (see [`socket`]).
#[inline(always)]
fn pack(code: u8, sock: u64) -> u64 {
    sock << 8 | u64::from(code)
}

/// The `sock` of what a descriptor is, 0 if it is no TCP or UDP socket. Kernel addresses begin with eight ones, on x86
/// with five levels of page tables, too (Documentation/arch/x86/x86_64/mm.rst, v6.12), so that they go without.
#[inline(always)]
pub fn socket(what: u64) -> u64 {
    if what >> 8 == 0 { 0 } else { what >> 8 | 0xff << 56 }
}

/// Puts the address of a socket's `sock` somewhere: as a number, which the verifier makes of no pointer that it knows the
/// type of.
#[inline(always)]
fn put_sock(inode: u64, to: *mut u64) {
    kernel::read_to(to, inode - offset!(socket_to_inode) + offset!(socket_sk));
}

/// The file behind a descriptor of the running task, for all but the hottest path; 0 if the descriptor is closed.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn file_of_descriptor(fd: u64) -> u64 {
    let table = number(number(Task::current().at() + offset!(task_files)) + offset!(files_fdt));
    let fd = fd as u32;
    if fd >= number(table + offset!(fdt_max_fds)) as u32 {
        return 0;
    }
    number(number(table + offset!(fdt_fd)) + u64::from(fd) * 8)
}

/// [`descriptor`] of the running task, for all but the hottest path.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn of_descriptor(fd: u64) -> u64 {
    let mut sock = 0;
    let code = descriptor(Task::current().untrusted(), fd, &raw mut sock);
    pack(code, sock)
}

/// [`of_file`] for all but the hottest paths; [`CODE_UNKNOWN`] for none.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn of_file_at(file: u64) -> u64 {
    let mut sock = 0;
    let code = if file == 0 { CODE_UNKNOWN } else { of_file(file, &raw mut sock) };
    pack(code, sock)
}

/// What a file is, as [`descriptor`] tells it.
#[inline(always)]
pub fn of_file(file: u64, sock: *mut u64) -> u8 {
    let file = At::new(file, config!(types.file));
    let inode: u64 = file.load(offset!(file_inode));
    if inode == 0 {
        return CODE_UNKNOWN;
    }
    let at = At::new(inode, config!(types.inode));
    match u32::from(at.load::<u16>(offset!(inode_mode))) & S_IFMT {
        S_IFREG => of_regular(file, inode, at.load(offset!(inode_sb))),
        S_IFSOCK => of_socket(inode, sock),
        S_IFIFO => Endpoint::Pipe as u8,
        S_IFCHR => match at.load::<u32>(offset!(inode_rdev)) {
            DEVICE_NULL | DEVICE_ZERO | DEVICE_FULL => CODE_NULL_DEVICE,
            _ => Endpoint::Device as u8,
        },
        S_IFBLK if is_direct(file) => Endpoint::Disk as u8,
        S_IFBLK => Endpoint::File as u8,
        _ => Endpoint::Other as u8,
    }
}

#[inline(always)]
fn of_regular(file: At, inode: u64, sb: u64) -> u8 {
    let sb = At::new(sb, config!(types.super_block));
    let magic: u64 = sb.load(offset!(sb_magic));
    if has_no_page_cache(magic) {
        return Endpoint::Other as u8;
    }
    if is_direct(file) && reaches_disk(sb, inode) {
        return Endpoint::Disk as u8;
    }
    Endpoint::File as u8
}

#[inline(always)]
fn is_direct(file: At) -> bool {
    let flags: u32 = file.load(offset!(file_flags));
    u64::from(flags) & config!(open_direct) != 0 && file.load::<u32>(offset!(file_mode)) & FMODE_CAN_ODIRECT != 0
}

/// Whether a file opened with O_DIRECT really bypasses the page cache. tmpfs takes the flag and ignores it: no block
/// device is behind it.
/// A function of its own like [`of_socket`].
#[inline(never)]
fn reaches_disk(sb: At, inode: u64) -> bool {
    let magic: u64 = sb.load(offset!(sb_magic));
    // btrfs spans devices, so that its superblock names none.
    if sb.load::<u64>(offset!(sb_bdev)) == 0 && magic != BTRFS_SUPER_MAGIC {
        return false;
    }
    if magic == EXT4_SUPER_MAGIC && offset!(ext4_vfs_inode) != 0 {
        let flags = kernel::read::<u32>(inode - offset!(ext4_vfs_inode) + offset!(ext4_flags)).unwrap_or(0);
        return flags & EXT4_NOT_DIRECT == 0;
    }
    true
}

/// Regular files that are windows into the kernel, by their file system's magic (include/uapi/linux/magic.h, v6.12).
/// Since v6.16 eventfds and their kin are regular files of the anonymous-inode file system, too.
#[inline(always)]
fn has_no_page_cache(magic: u64) -> bool {
    matches!(
        magic as u32,
        0x9fa0          // proc
        | 0x6265_6572   // sysfs
        | 0x0027_e0eb   // cgroup
        | 0x6367_7270   // cgroup2
        | 0x0904_1934   // anonymous inodes
        | 0x6462_6720   // debugfs
        | 0x7472_6163   // tracefs
        | 0x7363_6673   // securityfs
        | 0xf97c_ff8c   // selinuxfs
        | 0x4341_5d53   // smackfs
        | 0x5a3c_69f0   // apparmorfs
        | 0xcafe_4a11   // bpffs
        | 0x6e73_6673   // nsfs
        | 0x5049_4446   // pidfs
        | 0x6265_6570   // configfs
        | 0xde5e_81e4   // efivarfs
        | 0x6165_676c   // pstore
        | 0x4249_4e4d   // binfmt_misc
        | 0x0765_5821   // resctrl
        | 0x1980_0202   // mqueue
        | 0x6573_5543   // fusectl
        | 0x6e66_7364   // nfsd
        | 0x6759_6969   // rpc_pipefs
        | 0xabba_1974 // xenfs
    )
}

/// A function of its own for the stack's sake, and not one that the verifier checks once: that would lose the inode's type.
#[inline(never)]
fn of_socket(inode: u64, to: *mut u64) -> u8 {
    let socket = At::new(inode - offset!(socket_to_inode), config!(types.socket));
    let address: u64 = socket.load(offset!(socket_sk));
    if address == 0 {
        return CODE_UNKNOWN;
    }
    let sock = At::new(address, config!(types.sock));
    match sock.load::<u16>(offset!(sock_family)) {
        AF_UNIX if sock.load::<u16>(offset!(sock_type)) == SOCK_STREAM => Endpoint::Unix as u8,
        AF_UNIX => CODE_UNIX_MESSAGES,
        AF_INET | AF_INET6 => {
            // A raw socket has a protocol, too.
            let kind = (sock.load::<u16>(offset!(sock_type)), sock.load::<u16>(offset!(sock_protocol)));
            match kind {
                (SOCK_STREAM, IPPROTO_TCP) if to.is_null() => Endpoint::Tcp as u8,
                (SOCK_STREAM, IPPROTO_TCP) => of_tcp(address, inode, to),
                (SOCK_DGRAM, IPPROTO_UDP) => {
                    if config!(net) != 0 && !to.is_null() {
                        put_sock(inode, to);
                    }
                    Endpoint::Udp as u8
                }
                _ => Endpoint::Other as u8,
            }
        }
        _ => Endpoint::Other as u8,
    }
}

/// Whether a TCP socket enciphers what is sent.
#[inline(always)]
fn of_tcp(sock: u64, inode: u64, to: *mut u64) -> u8 {
    if config!(net) != 0 || offset!(sock_ulp) != 0 {
        put_sock(inode, to);
    }
    if offset!(sock_ulp) != 0 {
        let protocol: u64 = At::new(sock, config!(types.tcp)).load(offset!(sock_ulp));
        if protocol != 0 {
            // SAFETY: callers pass a live word; volatile, since a helper wrote it.
            return of_upper_protocol(unsafe { to.read_volatile() }) as u8;
        }
    }
    Endpoint::Tcp as u8
}

/// What a TCP socket is that has another protocol above it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn of_upper_protocol(sock: u64) -> u64 {
    /// `tls`, with the NUL.
    const TLS: u32 = u32::from_le_bytes(*b"tls\0");
    /// `TLS_SW` (include/net/tls.h, v6.1): the other configurations hand plain text on.
    const IN_SOFTWARE: u8 = 1;
    let plain = u64::from(Endpoint::Tcp as u8);
    if kernel::read::<u32>(number(sock + offset!(sock_ulp)) + offset!(ulp_name)) != Some(TLS) {
        return plain;
    }
    let context = number(sock + offset!(sock_ulp_data));
    match kernel::read::<u8>(context + offset!(tls_configuration)) {
        Some(configuration) if configuration & 7 == IN_SOFTWARE => u64::from(CODE_TLS),
        _ => plain,
    }
}

/// Whether the user of a TCP or UDP socket has asked with SO_ZEROCOPY for what MSG_ZEROCOPY means.
#[inline(always)]
pub fn hands_pages_over(fd: u64) -> bool {
    zerocopy_enabled(fd) != 0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn zerocopy_enabled(fd: u64) -> u64 {
    let file = file_of_descriptor(fd);
    if file == 0 {
        return 0;
    }
    let inode = number(file + offset!(file_inode));
    let sock = number(inode - offset!(socket_to_inode) + offset!(socket_sk));
    number(sock + offset!(sock_flags)) & offset!(sock_zerocopy)
}

/// File systems whose regular files' mappings are memory, not a file's pages.
#[inline(always)]
fn is_memory(magic: u64) -> bool {
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;
    const SECRETMEM_MAGIC: u64 = 0x5345_434d;
    matches!(magic, TMPFS_MAGIC | HUGETLBFS_MAGIC | SECRETMEM_MAGIC) || has_no_page_cache(magic)
}

/// What memory is that maps this file: anonymous or a mapping of a regular file.
#[inline(always)]
pub fn of_mapped_file(file: u64, shared_or_read_only: bool) -> u8 {
    let inode = number(file + offset!(file_inode));
    let mode = kernel::read::<u16>(inode + offset!(inode_mode)).unwrap_or(0);
    if u32::from(mode) & S_IFMT != S_IFREG || !shared_or_read_only {
        return Endpoint::User as u8;
    }
    let magic = number(number(inode + offset!(inode_sb)) + offset!(sb_magic));
    if is_memory(magic) { Endpoint::User as u8 } else { Endpoint::Mapping as u8 }
}

/// `file.f_mode`.
#[inline(always)]
pub fn mode(file: u64) -> u32 {
    kernel::read::<u32>(file + offset!(file_mode)).unwrap_or(0)
}
