//! From a system call to copy paths: which mechanism, what its descriptors and buffers are, how many bytes each took.

pub mod aio;
mod clone;
pub mod note;
pub mod uring;
mod vector;
mod zerocopy;

use zc_common::config::{CODE_PEEK, CODE_UNKNOWN, Call, SINK_ASKED, table_index};
use zc_common::path::{Endpoint, Mechanism};
use zc_common::record::{CELL_NO_BUFFER, CELL_NO_DESCRIPTOR, ThreadLedger};

use crate::kernel::{At, Known, Task, read_user};
use crate::maps::{self, TABLE, config};
use crate::{account, buffer, endpoint, passing, peers, sockets, streams};

// include/linux/socket.h, v6.1.
const MSG_PEEK: u64 = 2;
const MSG_TRUNC: u64 = 0x20;
const MSG_ZEROCOPY: u64 = 0x0400_0000;
/// include/uapi/asm-generic/mman-common.h, v6.1.
const MAP_ANONYMOUS: u64 = 0x20;

/// Arguments that are looked at.
const ARGUMENTS: usize = 5;

/// A call that returned something: taken out of the registers, for functions that the verifier checks once.
#[repr(C)]
pub struct Moved {
    arguments: [u64; ARGUMENTS],
    /// What the call returned, in most cases bytes.
    returned: u64,
    call: u32,
    /// A 32-bit call: other registers, 32 bits of each, and 32-bit structures in user memory.
    compat: u32,
}

impl Moved {
    #[inline(always)]
    pub fn new(regs: Known, call: u8, compat: bool, returned: u64) -> Self {
        let arguments = if compat {
            [
                u64::from(regs.load::<u32>(config!(offsets.regs_compat_arguments, 0))),
                u64::from(regs.load::<u32>(config!(offsets.regs_compat_arguments, 1))),
                u64::from(regs.load::<u32>(config!(offsets.regs_compat_arguments, 2))),
                u64::from(regs.load::<u32>(config!(offsets.regs_compat_arguments, 3))),
                u64::from(regs.load::<u32>(config!(offsets.regs_compat_arguments, 4))),
            ]
        } else {
            [argument::<0>(regs), argument::<1>(regs), argument::<2>(regs), argument::<3>(regs), argument::<4>(regs)]
        };
        Self { arguments, returned, call: u32::from(call), compat: u32::from(compat) }
    }

    /// The Nth argument, from 0.
    #[inline(always)]
    fn get<const N: usize>(&self) -> u64 {
        self.arguments[N]
    }
}

/// The Nth argument of a native call.
#[inline(always)]
fn argument<const N: usize>(regs: Known) -> u64 {
    regs.load(config!(offsets.regs_arguments, N))
}

/// One operation between a descriptor (or another process) and user buffers, in one word: the verifier checks
/// functions that take only numbers once, whoever calls them.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Operation(pub u64);

impl Operation {
    /// The buffer is the sink.
    pub const INWARDS: u64 = 1 << 16;
    /// The operation has been counted: it is, with its first bytes.
    const COUNTED: u64 = 1 << 17;
    /// 32-bit structures in user memory.
    const COMPAT: u64 = 1 << 18;
    /// The payload may be longer than the buffers (MSG_TRUNC): the rest was never moved.
    const TRUNCATES: u64 = 1 << 19;
    /// The descriptor lies above this bit.
    const FD: u32 = 32;

    #[inline(always)]
    fn into_buffer(mechanism: Mechanism, far: u8) -> Self {
        Self(mechanism as u64 | u64::from(far) << 8 | Self::INWARDS)
    }

    #[inline(always)]
    fn from_buffer(mechanism: Mechanism, far: u8) -> Self {
        Self(mechanism as u64 | u64::from(far) << 8)
    }

    #[inline(always)]
    fn with(self, flag: u64, on: bool) -> Self {
        if on { Self(self.0 | flag) } else { self }
    }

    #[inline(always)]
    pub fn is(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    #[inline(always)]
    pub fn mechanism(self) -> u8 {
        self.0 as u8
    }

    #[inline(always)]
    fn peeking(self) -> Self {
        self.by(CODE_PEEK)
    }

    /// The same by another mechanism, or by one under a condition.
    #[inline(always)]
    fn by(self, mechanism: u8) -> Self {
        Self(self.0 & !0xff | u64::from(mechanism))
    }

    /// The same on a descriptor.
    #[inline(always)]
    fn on(self, fd: u64) -> Self {
        Self(self.0 | fd << Self::FD)
    }

    /// The descriptor that it is on.
    #[inline(always)]
    pub fn fd(self) -> u64 {
        self.0 >> Self::FD
    }

    /// Code of the endpoint that is not the buffer.
    #[inline(always)]
    pub fn far(self) -> u8 {
        (self.0 >> 8) as u8
    }
}

/// Where an operation's buffers are.
#[derive(Clone, Copy)]
#[repr(u64)]
enum Shape {
    /// At one address.
    Buffer,
    /// In so many iovecs at an address.
    Iovecs,
    /// In the iovecs of a msghdr at an address.
    Message,
    /// In as many mmsghdrs at an address as the call returned.
    Messages,
}

/// Counts what one successful call of a known kind moved.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn count_call(ledger: *mut ThreadLedger, args: *const Moved) -> u64 {
    // SAFETY: callers pass where the running thread counts, and a call.
    if let (Some(ledger), Some(args)) = unsafe { (ledger.as_mut(), args.as_ref()) } {
        ledger.socket = 0;
        streams::begin(ledger);
        call(ledger, args);
        tell_of_socket(ledger);
        streams::tell(ledger);
    }
    0
}

#[inline(always)]
fn call(ledger: &mut ThreadLedger, args: &Moved) {
    const READ: u8 = Call::Read as u8;
    const READV: u8 = Call::Readv as u8;
    const WRITE: u8 = Call::Write as u8;
    const WRITEV: u8 = Call::Writev as u8;
    const SENDTO: u8 = Call::Sendto as u8;
    const SENDMSG: u8 = Call::Sendmsg as u8;
    const SENDMMSG: u8 = Call::Sendmmsg as u8;
    const RECVFROM: u8 = Call::Recvfrom as u8;
    const RECVMSG: u8 = Call::Recvmsg as u8;
    const RECVMMSG: u8 = Call::Recvmmsg as u8;
    const SENDFILE: u8 = Call::Sendfile as u8;
    const SPLICE: u8 = Call::Splice as u8;
    const TEE: u8 = Call::Tee as u8;
    const VMSPLICE: u8 = Call::Vmsplice as u8;
    const COPY_FILE_RANGE: u8 = Call::CopyFileRange as u8;
    const PROCESS_VM_READ: u8 = Call::ProcessVmRead as u8;
    const PROCESS_VM_WRITE: u8 = Call::ProcessVmWrite as u8;
    const IOCTL: u8 = Call::Ioctl as u8;
    const MMAP: u8 = Call::Mmap as u8;
    const SOCKETCALL: u8 = Call::Socketcall as u8;
    const IO_SUBMIT: u8 = Call::IoSubmit as u8;
    const IO_GETEVENTS: u8 = Call::IoGetevents as u8;
    const GETSOCKOPT: u8 = Call::Getsockopt as u8;

    let (call, returned) = (args.call as u8, args.returned);
    if call == IOCTL {
        return clone::ioctl(ledger, args);
    }
    if call == GETSOCKOPT {
        return zerocopy::getsockopt(ledger, args);
    }
    if returned == 0 {
        return;
    }
    let (fd, buffer, length) = (args.get::<0>(), args.get::<1>(), args.get::<2>());
    let mut name = 0;
    let (operation, shape, flags, buffer, length) = match call {
        READ => (into_buffer(fd), Shape::Buffer, 0, buffer, length),
        WRITE => (from_buffer(ledger, fd, 0), Shape::Buffer, 0, buffer, length),
        READV => (into_buffer(fd), Shape::Iovecs, 0, buffer, length),
        WRITEV => (from_buffer(ledger, fd, 0), Shape::Iovecs, 0, buffer, length),
        SENDTO => {
            name = args.get::<4>();
            (from_buffer(ledger, fd, args.get::<3>()), Shape::Buffer, 0, buffer, length)
        }
        SENDMSG => (from_buffer(ledger, fd, length), Shape::Message, 0, buffer, length),
        SENDMMSG => (from_buffer(ledger, fd, args.get::<3>()), Shape::Messages, 0, buffer, length),
        RECVFROM => {
            name = args.get::<4>();
            (into_buffer(fd), Shape::Buffer, args.get::<3>(), buffer, length)
        }
        RECVMSG => (into_buffer(fd), Shape::Message, args.get::<2>(), buffer, length),
        RECVMMSG => (into_buffer(fd), Shape::Messages, args.get::<3>(), buffer, length),
        VMSPLICE => (vmsplice(fd), Shape::Iovecs, 0, buffer, length),
        PROCESS_VM_READ => {
            let far = Endpoint::User as u8;
            let operation = Operation::into_buffer(Mechanism::ProcessVmRead, far);
            (operation, Shape::Iovecs, 0, buffer, length)
        }
        PROCESS_VM_WRITE => {
            let operation = Operation::from_buffer(Mechanism::ProcessVmWrite, Endpoint::User as u8);
            (operation, Shape::Iovecs, 0, buffer, length)
        }
        SENDFILE => return between(ledger, Mechanism::Sendfile, args.get::<1>(), fd, returned),
        SPLICE => return between(ledger, Mechanism::Splice, fd, args.get::<2>(), returned),
        TEE => return between(ledger, Mechanism::Tee, fd, args.get::<1>(), returned),
        COPY_FILE_RANGE => return clone::copy_file_range(ledger, args, returned),
        MMAP => return mmap(ledger, args),
        IO_SUBMIT => {
            aio::submitted(length, returned, args.compat.into());
            return;
        }
        IO_GETEVENTS => {
            aio::reaped(args.get::<3>(), returned);
            return;
        }
        SOCKETCALL => match socketcall(ledger, fd, buffer, returned) {
            Some(call) => {
                if matches!(fd, 11 | 12) {
                    name = u64::from(read_user::<u32>(buffer + 16).unwrap_or(0));
                }
                call
            }
            None => return,
        },
        _ => return,
    };
    let operation = operation.with(Operation::COMPAT, args.compat != 0);
    ledger.talk = [operation.0, name];
    let [operation, shape, flags, buffer, length] = forget(ledger, [operation.0, shape as u64, flags, buffer, length]);
    transfer(ledger, Operation(operation), shape, flags, (buffer, length), returned);
}

/// What i386's socketcall stands for: the number of the real call, and the address of its arguments (net/socket.c,
/// v6.1). Operation, shape, flags, buffer and length.
#[inline(always)]
fn socketcall(
    ledger: &mut ThreadLedger,
    number: u64,
    arguments: u64,
    returned: u64,
) -> Option<(Operation, Shape, u64, u64, u64)> {
    // Of the calls below only.
    if !matches!(number, 9..=12 | 16 | 17 | 19 | 20) {
        return None;
    }
    // Some have three arguments, and their block may end where memory does.
    let Some([fd, buffer, length]) = read_user::<[u32; 3]>(arguments) else {
        account::count(ledger, CELL_NO_DESCRIPTOR, 1, returned);
        return None;
    };
    let flags = read_user::<u32>(arguments + 12).unwrap_or(0);
    let (fd, buffer, flags) = (u64::from(fd), u64::from(buffer), u64::from(flags));
    let length = u64::from(length);
    Some(match number {
        9 | 11 => (from_buffer(ledger, fd, flags_if(number == 11, flags)), Shape::Buffer, 0, buffer, length),
        10 | 12 => (into_buffer(fd), Shape::Buffer, flags, buffer, length),
        16 => (from_buffer(ledger, fd, length), Shape::Message, 0, buffer, length),
        17 => (into_buffer(fd), Shape::Message, length, buffer, length),
        19 => (into_buffer(fd), Shape::Messages, flags, buffer, length),
        20 => (from_buffer(ledger, fd, flags), Shape::Messages, 0, buffer, length),
        _ => return None,
    })
}

/// Whether a call is one of the commonest.
#[inline(always)]
pub fn is_plain(call: u8) -> bool {
    call == Call::Read as u8 || call == Call::Write as u8
}

/// The commonest calls, without a function call of our own where the thread remembers the buffer: on processors that
/// guard returns each costs several nanoseconds.
#[inline(always)]
pub fn plain(task: At, ledger: &mut ThreadLedger, call: u8, regs: Known, bytes: u64) {
    if bytes == 0 {
        return;
    }
    ledger.socket = 0;
    streams::begin(ledger);
    let reads = call == Call::Read as u8;
    let socket = if reads { core::ptr::null_mut() } else { &raw mut ledger.socket };
    let far = endpoint::descriptor(task, argument::<0>(regs), socket);
    let operation = if reads {
        Operation::into_buffer(Mechanism::Read, far)
    } else {
        Operation::from_buffer(Mechanism::Write, far)
    };
    let [operation] = forget(ledger, [operation.on(argument::<0>(regs)).0]);
    ledger.talk[0] = operation;
    let (operation, address) = (Operation(operation), argument::<1>(regs));
    match buffer::remembered(ledger, buffer::sequence(task), address) {
        Some(found) if bytes <= found.end - address => {
            piece(ledger, operation, found.endpoint, bytes);
            passing::look(ledger, operation, address, bytes, task);
        }
        _ => {
            count_buffer(ledger, operation.0, address, bytes);
        }
    }
    tell_peers(ledger, 0, bytes);
    tell_of_socket(ledger);
    streams::tell(ledger);
}

/// Counts bytes with the peer of the operation at hand, if it is on a socket: of what lies in the ledger, since the stack has
/// no room for it.
#[inline(always)]
fn tell_peers(ledger: &mut ThreadLedger, name: u64, bytes: u64) {
    if config!(peers) == 0 {
        return;
    }
    // SAFETY: a live word; volatile, lest it be kept on the stack until now.
    let operation = Operation(unsafe { core::ptr::read_volatile(&raw const ledger.talk[0]) });
    if peers::talks(operation) {
        peers::moved(operation.0, name, bytes);
    }
}

/// Tells whose the socket is that the call at hand has sent on, if it has.
#[inline(always)]
fn tell_of_socket(ledger: &mut ThreadLedger) {
    if config!(net) == 0 {
        return;
    }
    // SAFETY: a live word; volatile, lest it be kept on the stack until now.
    let socket = unsafe { core::ptr::read_volatile(&raw const ledger.socket) };
    if socket != 0 {
        sockets::sent(ledger, socket);
    }
}

/// Passes values through memory: see [`ThreadLedger::forget`].
#[inline(always)]
fn forget<const N: usize>(ledger: &mut ThreadLedger, values: [u64; N]) -> [u64; N] {
    let at = (&raw mut ledger.forget).cast::<[u64; N]>();
    // SAFETY: none has more than six values; volatile, for else the compiler would keep what the verifier is to forget.
    unsafe {
        at.write_volatile(values);
        at.read_volatile()
    }
}

#[inline(always)]
fn into_buffer(fd: u64) -> Operation {
    Operation::into_buffer(Mechanism::Read, endpoint::of_descriptor(fd) as u8).on(fd)
}

#[inline(always)]
fn from_buffer(ledger: &mut ThreadLedger, fd: u64, flags: u64) -> Operation {
    let what = endpoint::of_descriptor(fd);
    let socket = endpoint::socket(what);
    let takes_pages = what as u8 == Endpoint::Tcp as u8 || what as u8 == Endpoint::Udp as u8;
    let zerocopy = flags & MSG_ZEROCOPY != 0 && takes_pages && endpoint::hands_pages_over(fd);
    ledger.socket = if zerocopy { socket | 1 } else { socket };
    Operation::from_buffer(if zerocopy { Mechanism::ZerocopySend } else { Mechanism::Write }, what as u8).on(fd)
}

/// The flags of a call that has some.
#[inline(always)]
fn flags_if(has: bool, flags: u64) -> u64 {
    if has { flags } else { 0 }
}

/// Into the pipe if the descriptor can be written, out of it otherwise (vmsplice_type, fs/splice.c, v6.1).
#[inline(always)]
fn vmsplice(fd: u64) -> Operation {
    let file = endpoint::file_of_descriptor(fd);
    let far = if file == 0 { CODE_UNKNOWN } else { Endpoint::Pipe as u8 };
    if endpoint::mode(file) & endpoint::FMODE_WRITE != 0 {
        Operation::from_buffer(Mechanism::Vmsplice, far)
    } else {
        Operation::into_buffer(Mechanism::Vmsplice, far)
    }
}

#[inline(always)]
fn transfer(
    ledger: &mut ThreadLedger,
    operation: Operation,
    shape: u64,
    flags: u64,
    (buffer, length): (u64, u64),
    returned: u64,
) {
    const BUFFER: u64 = Shape::Buffer as u64;
    const IOVECS: u64 = Shape::Iovecs as u64;
    const MESSAGE: u64 = Shape::Message as u64;
    let operation = if flags & MSG_PEEK != 0 {
        // Delivers nothing: who reads in the end has received it.
        ledger.talk[0] = 0;
        operation.peeking()
    } else {
        operation
    };
    let truncates = flags & MSG_TRUNC != 0;
    // With MSG_TRUNC, TCP throws the bytes away uncopied (tcp_recvmsg_locked, net/ipv4/tcp.c, v6.1); the others return
    // the message's length and copy what the buffer holds.
    if truncates && operation.far() == Endpoint::Tcp as u8 {
        return;
    }
    let operation = operation.with(Operation::TRUNCATES, truncates);
    let moved = match shape {
        BUFFER => {
            let bytes = if truncates { returned.min(length) } else { returned };
            if bytes != 0 {
                count_buffer(ledger, operation.0, buffer, bytes);
            }
            bytes
        }
        IOVECS => vector::count_iovecs(operation.0, buffer, length, returned),
        MESSAGE => {
            ledger.talk[1] = peers::name_of(buffer, operation.is(Operation::COMPAT));
            vector::message(operation, buffer, returned)
        }
        _ => return vector::messages(operation, buffer, returned),
    };
    // SAFETY: a live word; volatile like the operation.
    let name = unsafe { core::ptr::read_volatile(&raw const ledger.talk[1]) };
    tell_peers(ledger, name, moved);
}

/// Counts bytes that lie at one user address, mapping by mapping.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_buffer(ledger: *mut ThreadLedger, operation: u64, mut address: u64, mut bytes: u64) -> u64 {
    /// Mappings that one buffer may span; what lies behind is unclassified.
    const PIECES: usize = 32;
    let mut operation = Operation(operation);
    passing::look(ledger, operation, address, bytes, Task::current().untrusted());
    for _ in 0..PIECES {
        let here = count_mapping(ledger, operation.0, address, bytes);
        if here >= bytes {
            return 0;
        }
        operation = operation.with(Operation::COUNTED, true);
        address += here;
        bytes -= here;
    }
    // SAFETY: callers pass the running thread's ledger.
    if let Some(ledger) = unsafe { ledger.as_mut() } {
        piece(ledger, operation, CODE_UNKNOWN, bytes);
    }
    0
}

/// Counts the bytes that lie in the mapping of a user address; returns how many do. A function of its own, lest the
/// verifier walk through it as often as the loop above may run.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_mapping(ledger: *mut ThreadLedger, operation: u64, address: u64, bytes: u64) -> u64 {
    // SAFETY: callers pass the running thread's ledger.
    let Some(ledger) = (unsafe { ledger.as_mut() }) else { return bytes };
    let found = buffer::look_up(ledger, address);
    let here = bytes.min(found.end.wrapping_sub(address));
    piece(ledger, Operation(operation), found.endpoint, here);
    here
}

/// Counts bytes of an operation in a buffer of a known kind.
#[inline(always)]
fn piece(ledger: &mut ThreadLedger, operation: Operation, near: u8, bytes: u64) {
    let cell = cell_of(operation, near);
    account::count(ledger, cell, u64::from(!operation.is(Operation::COUNTED)), bytes);
}

/// The cell of an operation with a buffer of a known kind.
#[inline(always)]
fn cell_of(operation: Operation, near: u8) -> u8 {
    let far = operation.far();
    if far == CODE_UNKNOWN {
        CELL_NO_DESCRIPTOR
    } else if near == CODE_UNKNOWN {
        CELL_NO_BUFFER
    } else if operation.is(Operation::INWARDS) {
        maps::entry(&TABLE, table_index(operation.mechanism(), far, near))
    } else {
        maps::entry(&TABLE, table_index(operation.mechanism(), near, far))
    }
}

/// Counts an operation between two descriptors.
#[inline(always)]
fn between(ledger: &mut ThreadLedger, mechanism: Mechanism, source: u64, sink: u64, bytes: u64) {
    let from = endpoint::of_descriptor(source) as u8;
    let received = Operation::into_buffer(mechanism, from).on(source);
    if peers::talks(received) {
        peers::moved(received.0, 0, bytes);
    }
    let to = endpoint::of_descriptor(sink);
    ledger.socket = endpoint::socket(to);
    let sent = Operation::from_buffer(mechanism, to as u8).on(sink);
    if peers::talks(sent) {
        peers::moved(sent.0, 0, bytes);
    }
    count_between(ledger, mechanism as u8, from, to as u8, bytes);
}

#[inline(always)]
fn count_between(ledger: &mut ThreadLedger, mechanism: u8, source: u8, sink: u8, bytes: u64) {
    account::count(ledger, cell_between(mechanism, source, sink), 1, bytes);
}

/// The cell of an operation between two descriptors.
#[inline(always)]
fn cell_between(mechanism: u8, source: u8, sink: u8) -> u8 {
    if source == CODE_UNKNOWN || sink == CODE_UNKNOWN {
        CELL_NO_DESCRIPTOR
    } else {
        maps::entry(&TABLE, table_index(mechanism, source, sink))
    }
}

/// Counts an mmap call of a file and the bytes it asked for.
#[inline(always)]
fn mmap(ledger: &mut ThreadLedger, args: &Moved) {
    if args.get::<3>() & MAP_ANONYMOUS != 0 {
        return;
    }
    let far = endpoint::of_descriptor(args.get::<4>()) as u8;
    if far == Endpoint::File as u8 || far == Endpoint::Disk as u8 {
        count_between(ledger, Mechanism::Mmap as u8, Endpoint::File as u8, SINK_ASKED, args.get::<1>());
    }
}
