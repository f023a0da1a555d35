//! With whom: what each process moves to and from the other side of its TCP, UDP and unix sockets.
//!
//! Asked when an operation on a socket has been counted, of the descriptor's socket, and of nothing else: calls on files and
//! pipes get here never. The peer is the socket's own, or where it has none the one that the call names.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use zc_common::config::{CODE_PEEK, CODE_TLS, CODE_UNIX_MESSAGES, CODE_URING_PEEK};
use zc_common::path::Endpoint;
use zc_common::peers::{NAME_WORDS, PeerKey, PeerTraffic, TCP, UDP, UNIX, UnixName};

use crate::account::atomic_add;
use crate::classify::Operation;
use crate::endpoint;
use crate::kernel::{At, Task, number, read_user};
use crate::maps::{PEERS, UNIX_NAME, UNIX_NAMES, config, offset};
use crate::passing::opaque;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// What stands before an IPv4 address mapped into IPv6 (RFC 4291, 2.5.5.2), in the second word.
const MAPPED: u64 = 0xffff_0000;
/// Operations after which a name is used anew, lest it be forgotten before its peer.
const NAME_EVERY: u64 = 64;

static NOTHING: PeerTraffic = PeerTraffic { sent: 0, received: 0, operations: 0 };

/// Whether an operation is on a socket whose peers are counted.
#[inline(always)]
pub fn talks(operation: Operation) -> bool {
    const SOCKETS: u32 = 1 << Endpoint::Tcp as u32
        | 1 << Endpoint::Udp as u32
        | 1 << Endpoint::Unix as u32
        | 1 << CODE_UNIX_MESSAGES as u32
        | 1 << CODE_TLS as u32;
    config!(peers) != 0 && SOCKETS >> (operation.far() & 31) & 1 != 0
}

/// An operation of the running task has moved bytes. `name` is where in user memory the address lies that the call took or
/// gave, 0 for none.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn moved(operation: u64, name: u64, bytes: u64) -> u64 {
    let task = Task::current().untrusted();
    moved_by(task, endpoint::file(task, Operation(operation).fd()), operation, name, bytes)
}

/// An operation of a task on a file that is a socket has moved bytes.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn moved_of(task: u64, file: u64, operation: u64, bytes: u64) -> u64 {
    moved_by(Task::at_address(task), file, operation, 0, bytes)
}

#[inline(always)]
fn moved_by(task: At, file: u64, operation: u64, name: u64, bytes: u64) -> u64 {
    let operation = Operation(operation);
    // A peek delivers nothing: who reads in the end is counted.
    if file == 0 || bytes == 0 || matches!(operation.mechanism(), CODE_PEEK | CODE_URING_PEEK) {
        return 0;
    }
    let tgid = task.load::<u32>(offset!(task_tgid));
    if u64::from(tgid) == config!(own_tgid) {
        return 0;
    }
    let leader = Task::at_address(task.load(offset!(task_group_leader)));
    let inode: u64 = At::new(file, config!(types.file)).load(offset!(file_inode));
    let sock: u64 = At::new(inode - offset!(socket_to_inode), config!(types.socket)).load(offset!(socket_sk));
    if sock == 0 {
        return 0;
    }
    let far = operation.far();
    let (protocol, Address(high, low, port)) = if far == Endpoint::Unix as u8 || far == CODE_UNIX_MESSAGES {
        (UNIX, bound(sock))
    } else if far == Endpoint::Udp as u8 {
        (UDP, named(name).unwrap_or_else(|| connected(sock)))
    } else {
        (TCP, connected(sock))
    };
    let key = PeerKey {
        process_start: leader.load(offset!(task_start_boottime)),
        address: [high, low],
        tgid,
        port,
        protocol,
    };
    count(&key, operation.is(Operation::INWARDS), bytes);
    0
}

#[inline(always)]
fn count(key: &PeerKey, inwards: bool, bytes: u64) {
    let mut found = PEERS.get_ptr_mut(key);
    if found.is_none() {
        // It is another CPU's by now if this fails with EEXIST.
        let _ = PEERS.insert(key, &NOTHING, u64::from(BPF_NOEXIST));
        found = PEERS.get_ptr_mut(key);
    }
    // SAFETY: a live element of the map; all that write it do so atomically.
    let Some(traffic) = found.and_then(|found| unsafe { found.as_mut() }) else { return };
    if key.protocol == UNIX && key.address[0] != 0 && traffic.operations % NAME_EVERY == 0 {
        if let Some(name) = name_at_hand() {
            if UNIX_NAMES.get_ptr(&name.key).is_none() {
                let _ = UNIX_NAMES.insert(&name.key, &*name, 0);
            }
        }
    }
    atomic_add(if inwards { &mut traffic.received } else { &mut traffic.sent }, bytes);
    atomic_add(&mut traffic.operations, 1);
}

/// An address and a port as keys have them.
struct Address(u64, u64, u16);

const UNKNOWN: Address = Address(0, 0, 0);

/// The name that a unix socket's peer is bound to, or where it is not, as one that connected to us, ours.
#[inline(always)]
fn bound(sock: u64) -> Address {
    if offset!(unix_peer) == 0 {
        return UNKNOWN;
    }
    let sock = At::new(sock, config!(types.unix));
    let peer: u64 = sock.load(offset!(unix_peer));
    if peer == 0 {
        return UNKNOWN;
    }
    let mut address: u64 = At::new(peer, config!(types.unix)).load(offset!(unix_address));
    if address == 0 {
        address = sock.load(offset!(unix_address));
    }
    if address == 0 {
        return UNKNOWN;
    }
    let Some(name) = name_at_hand() else { return UNKNOWN };
    // Through memory it becomes a number, which the verifier makes of no pointer that it knows the type of.
    // SAFETY: a live word; volatile, for the same reason.
    unsafe { core::ptr::write_volatile(&mut name.key[0], address) };
    if name_of_unix() == 0 { UNKNOWN } else { Address(name.key[0], name.key[1], 0) }
}

/// The address that a TCP or UDP socket is connected to, if it is.
#[inline(always)]
fn connected(sock: u64) -> Address {
    let sock = At::new(sock, config!(types.sock));
    let port: u16 = sock.load(offset!(sock_peer_port));
    if port == 0 {
        return UNKNOWN;
    }
    if sock.load::<u16>(offset!(sock_family)) == AF_INET6 && offset!(sock_peer_v6) != 0 {
        return Address(sock.load(offset!(sock_peer_v6)), sock.load(offset!(sock_peer_v6) + 8), port.swap_bytes());
    }
    Address(0, MAPPED | u64::from(sock.load::<u32>(offset!(sock_peer))) << 32, port.swap_bytes())
}

/// The address that a call names, if it is one of the Internet's: a control structure, like the msghdr around it.
#[inline(always)]
fn named(name: u64) -> Option<Address> {
    if name == 0 {
        return None;
    }
    let head = read_user::<u64>(name)?;
    let port = ((head >> 16) as u16).swap_bytes();
    match head as u16 {
        AF_INET => Some(Address(0, MAPPED | head >> 32 << 32, port)),
        AF_INET6 => Some(Address(read_user(name + 8)?, read_user(name + 16)?, port)),
        _ => None,
    }
}

/// Where the address of a message lies; 0 for none.
#[inline(always)]
pub fn name_of(message: u64, compat: bool) -> u64 {
    let (name, length) = if compat {
        read_user::<[u32; 2]>(message).map_or((0, 0), |[name, length]| (u64::from(name), length))
    } else {
        read_user::<[u64; 2]>(message).map_or((0, 0), |[name, length]| (name, length as u32))
    };
    if length == 0 { 0 } else { name }
}

/// The name of a unix socket's peer that was looked up last.
#[inline(always)]
fn name_at_hand() -> Option<&'static mut UnixName> {
    // SAFETY: per-CPU, and what looks names up runs with preemption off, never in an interrupt.
    unsafe { UNIX_NAME.get_ptr_mut(0)?.as_mut() }
}

/// Reads the name of a unix socket, whose address is at hand, and makes its key; 0 if there is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn name_of_unix() -> u64 {
    // `sun_family`.
    const FAMILY: u64 = 2;
    let Some(name) = name_at_hand() else { return 0 };
    // SAFETY: a live word; volatile like the write.
    let address = unsafe { core::ptr::read_volatile(&raw const name.key[0]) };
    let length = u64::from(number(address + offset!(unix_length)) as u32).wrapping_sub(FAMILY);
    if length == 0 || length > 108 {
        return 0;
    }
    for i in 0..NAME_WORDS {
        // SAFETY: a live word; volatile, since the compiler would call a function that fills them.
        unsafe { core::ptr::write_volatile(&mut name.text[opaque(i) & (NAME_WORDS - 1)], 0) };
    }
    let from = address + offset!(unix_name) + FAMILY;
    // SAFETY: the helper writes no more than the text has room for.
    unsafe { bpf_probe_read_kernel(name.text.as_mut_ptr().cast(), length as u32, from as *const core::ffi::c_void) };
    name.length = length;
    hash(name);
    1
}

/// Makes the key of a name.
#[inline(always)]
fn hash(name: &mut UnixName) {
    const FACTORS: [u64; 2] = [0x9E37_79B9_7F4A_7C15, 0xC2B2_AE3D_27D4_EB4F];
    let (mut one, mut other) = (name.length.wrapping_mul(FACTORS[1]), name.length);
    for i in 0..NAME_WORDS {
        if i as u64 * 8 >= name.length {
            break;
        }
        // SAFETY: a live word; volatile, since a helper wrote it.
        let word = unsafe { core::ptr::read_volatile(&raw const name.text[opaque(i) & (NAME_WORDS - 1)]) };
        one = (one ^ word).wrapping_mul(FACTORS[0]);
        one ^= one >> 32;
        other = (other ^ word).wrapping_mul(FACTORS[1]);
        other ^= other >> 29;
    }
    // Zero stands for none.
    name.key = [one | 1, other];
}
