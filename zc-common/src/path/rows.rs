//! The catalogue: every copy path that zcprof knows, one row each. The only list of copy paths: the kernel's
//! classification table, labels, API, docs and the workload generator's checks are all made from it.
//!
//! Hops are what the kernel does, measured with an execution breakpoint on its copy routines (6.1 and 6.12) unless a
//! comment says otherwise; a file's pages may come from disk first, which a system call does not show.

use super::Endpoint::{self, Device, Disk, File, Mapping, Other, Pipe, Tcp, Udp, Unix, User};
use super::Mechanism::{
    self, Aio, CopyFileRange, IoUring, IoUringFixed, IoUringZerocopy, Mmap, ProcessVmRead, ProcessVmWrite, Read,
    Reflink, Sendfile, Splice, Tee, Vmsplice, Write, ZerocopyReceive, ZerocopySend,
};
use super::{Condition, Row, Textbook};
use crate::hop::{Hop, Place as P};

const fn row(mechanism: Mechanism, source: Endpoint, sink: Endpoint, hops: &'static [Hop]) -> Row {
    Row { mechanism, source, sink, condition: Condition::Always, hops, textbook: None, inactive: None }
}

impl Row {
    const fn when(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }

    const fn textbook(mut self, textbook: Textbook) -> Self {
        self.textbook = Some(textbook);
        self
    }
}

const fn way(way: &'static str, cpu_copies: u8, dma_copies: u8) -> Textbook {
    Textbook { way, cpu_copies, dma_copies, mode_switches: 2 }
}

const READ_WRITE: Textbook = way("read + write", 1, 1);
const MMAP_WRITE: Textbook = way("mmap + write", 1, 1);
const MMAP: Textbook = way("mmap + write", 0, 1);
const SENDFILE: Textbook = way("sendfile + DMA gather", 0, 2);
const SPLICE: Textbook = way("splice", 0, 1);
const DIRECT: Textbook = way("direct I/O", 0, 1);
const ASYNC_DIRECT: Textbook = way("direct I/O with AIO or io_uring, for large files", 0, 1);

const DISK_TO_PIPE: Hop = Hop::dma(P::Disk, P::Pipe);
const CACHE_REF_SOCKET: Hop = Hop::reference(P::PageCache, P::SocketBuffer);
const PIPE_REF_SOCKET: Hop = Hop::reference(P::Pipe, P::SocketBuffer);
/// Unix sockets that keep messages apart take no pages (unix_dgram_sendmsg, net/unix/af_unix.c, v6.1 to v6.18).
const CACHE_COPY_SOCKET: Hop = Hop::in_kernel(P::PageCache, P::SocketBuffer);
const PIPE_COPY_SOCKET: Hop = Hop::in_kernel(P::Pipe, P::SocketBuffer);
const KERNEL_TO_PIPE: Hop = Hop::in_kernel(P::Kernel, P::Pipe);
const PIPE_TO_CACHE: Hop = Hop::in_kernel(P::Pipe, P::PageCache);
const PIPE_TO_KERNEL: Hop = Hop::in_kernel(P::Pipe, P::Kernel);

/// Every row. A row's place here is not part of any contract.
pub const ROWS: &[Row] = &[
    // read, recv: the one copy of the textbook, from wherever the bytes lie to the caller's memory.
    row(Read, File, User, &[Hop::to_user(P::PageCache)]).textbook(READ_WRITE),
    row(Read, Disk, User, &[Hop::dma(P::Disk, P::User)]).textbook(DIRECT),
    row(Read, Tcp, User, &[Hop::to_user(P::SocketBuffer)]),
    row(Read, Udp, User, &[Hop::to_user(P::SocketBuffer)]),
    row(Read, Unix, User, &[Hop::to_user(P::SocketBuffer)]),
    row(Read, Pipe, User, &[Hop::to_user(P::Pipe)]),
    row(Read, Device, User, &[Hop::to_user(P::Kernel)]),
    row(Read, Device, User, &[]).when(Condition::NullSource),
    row(Read, Other, User, &[Hop::to_user(P::Kernel)]),
    row(Read, Tcp, User, &[Hop::to_user(P::SocketBuffer)]).when(Condition::Peek),
    row(Read, Udp, User, &[Hop::to_user(P::SocketBuffer)]).when(Condition::Peek),
    row(Read, Unix, User, &[Hop::to_user(P::SocketBuffer)]).when(Condition::Peek),
    row(Read, Other, User, &[Hop::to_user(P::Kernel)]).when(Condition::Peek),
    // read into a mapping of a file: the same copy, into the other file's page cache.
    row(Read, File, Mapping, &[Hop::to_user(P::PageCache)]),
    row(Read, Disk, Mapping, &[Hop::dma(P::Disk, P::PageCache)]),
    row(Read, Tcp, Mapping, &[Hop::to_user(P::SocketBuffer)]),
    row(Read, Udp, Mapping, &[Hop::to_user(P::SocketBuffer)]),
    row(Read, Unix, Mapping, &[Hop::to_user(P::SocketBuffer)]),
    row(Read, Pipe, Mapping, &[Hop::to_user(P::Pipe)]),
    row(Read, Device, Mapping, &[Hop::to_user(P::Kernel)]),
    row(Read, Device, Mapping, &[]).when(Condition::NullSource),
    row(Read, Other, Mapping, &[Hop::to_user(P::Kernel)]),
    row(Read, Tcp, Mapping, &[Hop::to_user(P::SocketBuffer)]).when(Condition::Peek),
    row(Read, Udp, Mapping, &[Hop::to_user(P::SocketBuffer)]).when(Condition::Peek),
    row(Read, Unix, Mapping, &[Hop::to_user(P::SocketBuffer)]).when(Condition::Peek),
    row(Read, Other, Mapping, &[Hop::to_user(P::Kernel)]).when(Condition::Peek),
    // write, send.
    row(Write, User, File, &[Hop::from_user(P::PageCache)]),
    row(Write, User, Disk, &[Hop::dma(P::User, P::Disk)]).textbook(DIRECT),
    row(Write, User, Tcp, &[Hop::from_user(P::SocketBuffer)]).textbook(READ_WRITE),
    row(Write, User, Udp, &[Hop::from_user(P::SocketBuffer)]),
    row(Write, User, Unix, &[Hop::from_user(P::SocketBuffer)]),
    row(Write, User, Pipe, &[Hop::from_user(P::Pipe)]),
    row(Write, User, Device, &[Hop::from_user(P::Kernel)]),
    row(Write, User, Device, &[]).when(Condition::NullSink),
    row(Write, User, Other, &[Hop::from_user(P::Kernel)]),
    // kernel TLS in software: the cipher reads where the bytes lie, the user's own pages included (tls_sw_sendmsg,
    // net/tls/tls_sw.c, v6.1).
    row(Write, User, Tcp, &[Hop::cipher(P::User, P::SocketBuffer)]).when(Condition::Tls),
    row(Write, Mapping, Tcp, &[Hop::cipher(P::PageCache, P::SocketBuffer)]).when(Condition::Tls),
    row(Sendfile, File, Tcp, &[Hop::cipher(P::PageCache, P::SocketBuffer)]).when(Condition::Tls),
    row(Sendfile, Disk, Tcp, &[DISK_TO_PIPE, Hop::cipher(P::Pipe, P::SocketBuffer)]).when(Condition::Tls),
    row(Splice, Pipe, Tcp, &[Hop::cipher(P::Pipe, P::SocketBuffer)]).when(Condition::Tls),
    row(IoUring, User, Tcp, &[Hop::cipher(P::User, P::SocketBuffer)]).when(Condition::Tls),
    // MSG_ZEROCOPY where SO_ZEROCOPY is set: the pages are handed over. Where the kernel copies them after all, that is
    // observed.
    row(ZerocopySend, User, Tcp, &[Hop::reference(P::User, P::SocketBuffer)]),
    row(ZerocopySend, User, Udp, &[Hop::reference(P::User, P::SocketBuffer)]),
    row(ZerocopySend, Mapping, Tcp, &[Hop::reference(P::PageCache, P::SocketBuffer)]),
    row(ZerocopySend, Mapping, Udp, &[Hop::reference(P::PageCache, P::SocketBuffer)]),
    // TCP_ZEROCOPY_RECEIVE: whole pages are mapped, what is none is copied into a buffer beside them.
    row(ZerocopyReceive, Tcp, User, &[Hop::reference(P::SocketBuffer, P::User)]),
    row(ZerocopyReceive, Tcp, User, &[Hop::to_user(P::SocketBuffer)]).when(Condition::Copied),
    // write from a mapping of a file: the textbook's mmap + write.
    row(Write, Mapping, File, &[Hop::from_user(P::PageCache)]),
    row(Write, Mapping, Disk, &[Hop::dma(P::PageCache, P::Disk)]),
    row(Write, Mapping, Tcp, &[Hop::from_user(P::SocketBuffer)]).textbook(MMAP_WRITE),
    row(Write, Mapping, Udp, &[Hop::from_user(P::SocketBuffer)]),
    row(Write, Mapping, Unix, &[Hop::from_user(P::SocketBuffer)]),
    row(Write, Mapping, Pipe, &[Hop::from_user(P::Pipe)]),
    row(Write, Mapping, Device, &[Hop::from_user(P::Kernel)]),
    row(Write, Mapping, Device, &[]).when(Condition::NullSink),
    row(Write, Mapping, Other, &[Hop::from_user(P::Kernel)]),
    // mmap: what the calls asked for, which moves nothing; and each page of a file that a fault then maps.
    row(Mmap, File, Mapping, &[]).when(Condition::Asked),
    row(Mmap, File, Mapping, &[Hop::reference(P::PageCache, P::User)]).textbook(MMAP),
    // A page that is copied when it is written to: after a fork, or of a private mapping (whose first copy comes from the
    // page cache). Operations are pages.
    row(Mmap, User, User, &[Hop::in_kernel(P::User, P::User)]),
    // sendfile: page-cache pages are referenced by the socket; file to file the CPU copies.
    row(Sendfile, File, Tcp, &[CACHE_REF_SOCKET]).textbook(SENDFILE),
    row(Sendfile, File, Udp, &[CACHE_REF_SOCKET]),
    row(Sendfile, File, Unix, &[CACHE_REF_SOCKET]),
    row(Sendfile, File, Unix, &[CACHE_COPY_SOCKET]).when(Condition::MessageSink),
    row(Sendfile, File, File, &[Hop::in_kernel(P::PageCache, P::PageCache)]),
    row(Sendfile, File, Disk, &[Hop::dma(P::PageCache, P::Disk)]),
    row(Sendfile, File, Pipe, &[Hop::reference(P::PageCache, P::Pipe)]),
    row(Sendfile, File, Device, &[Hop::in_kernel(P::PageCache, P::Kernel)]),
    row(Sendfile, File, Device, &[]).when(Condition::NullSink),
    row(Sendfile, File, Other, &[Hop::in_kernel(P::PageCache, P::Kernel)]),
    // sendfile from an O_DIRECT descriptor: read by DMA into private pages, which then go on.
    row(Sendfile, Disk, Tcp, &[DISK_TO_PIPE, PIPE_REF_SOCKET]),
    row(Sendfile, Disk, Udp, &[DISK_TO_PIPE, PIPE_REF_SOCKET]),
    row(Sendfile, Disk, Unix, &[DISK_TO_PIPE, PIPE_REF_SOCKET]),
    row(Sendfile, Disk, Unix, &[DISK_TO_PIPE, PIPE_COPY_SOCKET]).when(Condition::MessageSink),
    row(Sendfile, Disk, File, &[DISK_TO_PIPE, PIPE_TO_CACHE]),
    row(Sendfile, Disk, Disk, &[DISK_TO_PIPE, Hop::dma(P::Pipe, P::Disk)]),
    row(Sendfile, Disk, Pipe, &[DISK_TO_PIPE]),
    row(Sendfile, Disk, Device, &[DISK_TO_PIPE, PIPE_TO_KERNEL]),
    row(Sendfile, Disk, Device, &[DISK_TO_PIPE]).when(Condition::NullSink),
    row(Sendfile, Disk, Other, &[DISK_TO_PIPE, PIPE_TO_KERNEL]),
    // sendfile from a character device or a pseudo file: its read copies into private pages
    // (copy_splice_read, fs/splice.c, v6.5 on), which then go on.
    row(Sendfile, Device, Tcp, &[KERNEL_TO_PIPE, PIPE_REF_SOCKET]),
    row(Sendfile, Device, Tcp, &[PIPE_REF_SOCKET]).when(Condition::NullSource),
    row(Sendfile, Device, Udp, &[KERNEL_TO_PIPE, PIPE_REF_SOCKET]),
    row(Sendfile, Device, Udp, &[PIPE_REF_SOCKET]).when(Condition::NullSource),
    row(Sendfile, Device, Unix, &[KERNEL_TO_PIPE, PIPE_REF_SOCKET]),
    row(Sendfile, Device, Unix, &[PIPE_REF_SOCKET]).when(Condition::NullSource),
    row(Sendfile, Device, Unix, &[KERNEL_TO_PIPE, PIPE_COPY_SOCKET]).when(Condition::MessageSink),
    row(Sendfile, Device, Unix, &[PIPE_COPY_SOCKET]).when(Condition::NullToMessage),
    row(Sendfile, Device, File, &[KERNEL_TO_PIPE, PIPE_TO_CACHE]),
    row(Sendfile, Device, File, &[PIPE_TO_CACHE]).when(Condition::NullSource),
    row(Sendfile, Device, Disk, &[KERNEL_TO_PIPE, Hop::dma(P::Pipe, P::Disk)]),
    row(Sendfile, Device, Disk, &[Hop::dma(P::Pipe, P::Disk)]).when(Condition::NullSource),
    row(Sendfile, Device, Pipe, &[KERNEL_TO_PIPE]),
    row(Sendfile, Device, Pipe, &[]).when(Condition::NullSource),
    row(Sendfile, Device, Device, &[KERNEL_TO_PIPE, PIPE_TO_KERNEL]),
    row(Sendfile, Device, Device, &[PIPE_TO_KERNEL]).when(Condition::NullSource),
    row(Sendfile, Device, Device, &[KERNEL_TO_PIPE]).when(Condition::NullSink),
    row(Sendfile, Device, Device, &[]).when(Condition::NullBoth),
    row(Sendfile, Device, Other, &[KERNEL_TO_PIPE, PIPE_TO_KERNEL]),
    row(Sendfile, Device, Other, &[PIPE_TO_KERNEL]).when(Condition::NullSource),
    row(Sendfile, Other, Tcp, &[KERNEL_TO_PIPE, PIPE_REF_SOCKET]),
    row(Sendfile, Other, Udp, &[KERNEL_TO_PIPE, PIPE_REF_SOCKET]),
    row(Sendfile, Other, Unix, &[KERNEL_TO_PIPE, PIPE_REF_SOCKET]),
    row(Sendfile, Other, Unix, &[KERNEL_TO_PIPE, PIPE_COPY_SOCKET]).when(Condition::MessageSink),
    row(Sendfile, Other, File, &[KERNEL_TO_PIPE, PIPE_TO_CACHE]),
    row(Sendfile, Other, Pipe, &[KERNEL_TO_PIPE]),
    row(Sendfile, Other, Device, &[KERNEL_TO_PIPE, PIPE_TO_KERNEL]),
    row(Sendfile, Other, Device, &[KERNEL_TO_PIPE]).when(Condition::NullSink),
    row(Sendfile, Other, Other, &[KERNEL_TO_PIPE, PIPE_TO_KERNEL]),
    // sendfile from a socket works only into a pipe (do_sendfile, fs/read_write.c, v6.1): a splice in disguise.
    row(Sendfile, Tcp, Pipe, &[Hop::reference(P::SocketBuffer, P::Pipe)]),
    row(Sendfile, Unix, Pipe, &[Hop::reference(P::SocketBuffer, P::Pipe)]),
    row(Sendfile, Unix, Pipe, &[Hop::in_kernel(P::SocketBuffer, P::Pipe)]).when(Condition::MessageSource),
    row(Sendfile, Udp, Pipe, &[Hop::in_kernel(P::SocketBuffer, P::Pipe)]),
    // splice into a pipe.
    row(Splice, File, Pipe, &[Hop::reference(P::PageCache, P::Pipe)]).textbook(SPLICE),
    row(Splice, Disk, Pipe, &[DISK_TO_PIPE]),
    row(Splice, Tcp, Pipe, &[Hop::reference(P::SocketBuffer, P::Pipe)]),
    row(Splice, Udp, Pipe, &[Hop::in_kernel(P::SocketBuffer, P::Pipe)]),
    row(Splice, Unix, Pipe, &[Hop::reference(P::SocketBuffer, P::Pipe)]),
    row(Splice, Unix, Pipe, &[Hop::in_kernel(P::SocketBuffer, P::Pipe)]).when(Condition::MessageSource),
    row(Splice, Device, Pipe, &[KERNEL_TO_PIPE]),
    row(Splice, Device, Pipe, &[]).when(Condition::NullSource),
    row(Splice, Other, Pipe, &[KERNEL_TO_PIPE]),
    row(Splice, Pipe, Pipe, &[Hop::reference(P::Pipe, P::Pipe)]),
    // splice out of a pipe: by reference to a socket, by copy to any file (against the textbook).
    row(Splice, Pipe, File, &[PIPE_TO_CACHE]),
    row(Splice, Pipe, Disk, &[Hop::dma(P::Pipe, P::Disk)]),
    row(Splice, Pipe, Tcp, &[PIPE_REF_SOCKET]).textbook(SPLICE),
    row(Splice, Pipe, Udp, &[PIPE_REF_SOCKET]),
    row(Splice, Pipe, Unix, &[PIPE_REF_SOCKET]),
    row(Splice, Pipe, Unix, &[PIPE_COPY_SOCKET]).when(Condition::MessageSink),
    row(Splice, Pipe, Device, &[PIPE_TO_KERNEL]),
    row(Splice, Pipe, Device, &[]).when(Condition::NullSink),
    row(Splice, Pipe, Other, &[PIPE_TO_KERNEL]),
    row(Tee, Pipe, Pipe, &[Hop::reference(P::Pipe, P::Pipe)]),
    row(Vmsplice, User, Pipe, &[Hop::reference(P::User, P::Pipe)]),
    row(Vmsplice, Mapping, Pipe, &[Hop::reference(P::PageCache, P::Pipe)]),
    row(Vmsplice, Pipe, User, &[Hop::to_user(P::Pipe)]),
    row(Vmsplice, Pipe, Mapping, &[Hop::to_user(P::Pipe)]),
    row(CopyFileRange, File, File, &[Hop::in_kernel(P::PageCache, P::PageCache)]),
    row(CopyFileRange, File, Disk, &[Hop::dma(P::PageCache, P::Disk)]),
    row(CopyFileRange, Disk, File, &[DISK_TO_PIPE, PIPE_TO_CACHE]),
    row(CopyFileRange, Disk, Disk, &[DISK_TO_PIPE, Hop::dma(P::Pipe, P::Disk)]),
    // reflink: two files share the blocks; only metadata is written.
    row(Reflink, File, File, &[Hop::reference(P::Disk, P::Disk)]),
    // process_vm_*: the other process's side is called user whatever backs it.
    row(ProcessVmRead, User, User, &[Hop::to_user(P::User)]),
    row(ProcessVmRead, User, Mapping, &[Hop::to_user(P::User)]),
    row(ProcessVmWrite, User, User, &[Hop::from_user(P::User)]),
    row(ProcessVmWrite, Mapping, User, &[Hop::from_user(P::User)]),
    // io_uring: READ, READV, RECV, RECVMSG and their multishot kin copy as read and recv do.
    row(IoUring, File, User, &[Hop::to_user(P::PageCache)]),
    row(IoUring, Disk, User, &[Hop::dma(P::Disk, P::User)]).textbook(ASYNC_DIRECT),
    row(IoUring, Tcp, User, &[Hop::to_user(P::SocketBuffer)]),
    row(IoUring, Udp, User, &[Hop::to_user(P::SocketBuffer)]),
    row(IoUring, Unix, User, &[Hop::to_user(P::SocketBuffer)]),
    row(IoUring, Pipe, User, &[Hop::to_user(P::Pipe)]),
    row(IoUring, Device, User, &[Hop::to_user(P::Kernel)]),
    row(IoUring, Device, User, &[]).when(Condition::NullSource),
    row(IoUring, Other, User, &[Hop::to_user(P::Kernel)]),
    row(IoUring, Tcp, User, &[Hop::to_user(P::SocketBuffer)]).when(Condition::Peek),
    row(IoUring, Udp, User, &[Hop::to_user(P::SocketBuffer)]).when(Condition::Peek),
    row(IoUring, Unix, User, &[Hop::to_user(P::SocketBuffer)]).when(Condition::Peek),
    row(IoUring, File, Mapping, &[Hop::to_user(P::PageCache)]),
    row(IoUring, Disk, Mapping, &[Hop::dma(P::Disk, P::PageCache)]),
    row(IoUring, Tcp, Mapping, &[Hop::to_user(P::SocketBuffer)]),
    // WRITE, WRITEV, SEND, SENDMSG.
    row(IoUring, User, File, &[Hop::from_user(P::PageCache)]),
    row(IoUring, User, Disk, &[Hop::dma(P::User, P::Disk)]).textbook(ASYNC_DIRECT),
    row(IoUring, User, Tcp, &[Hop::from_user(P::SocketBuffer)]),
    row(IoUring, User, Udp, &[Hop::from_user(P::SocketBuffer)]),
    row(IoUring, User, Unix, &[Hop::from_user(P::SocketBuffer)]),
    row(IoUring, User, Pipe, &[Hop::from_user(P::Pipe)]),
    row(IoUring, User, Device, &[Hop::from_user(P::Kernel)]),
    row(IoUring, User, Device, &[]).when(Condition::NullSink),
    row(IoUring, User, Other, &[Hop::from_user(P::Kernel)]),
    row(IoUring, Mapping, File, &[Hop::from_user(P::PageCache)]),
    row(IoUring, Mapping, Disk, &[Hop::dma(P::PageCache, P::Disk)]),
    row(IoUring, Mapping, Tcp, &[Hop::from_user(P::SocketBuffer)]),
    // SPLICE and TEE.
    row(IoUring, File, Pipe, &[Hop::reference(P::PageCache, P::Pipe)]),
    row(IoUring, Disk, Pipe, &[DISK_TO_PIPE]),
    row(IoUring, Tcp, Pipe, &[Hop::reference(P::SocketBuffer, P::Pipe)]),
    row(IoUring, Pipe, Pipe, &[Hop::reference(P::Pipe, P::Pipe)]),
    row(IoUring, Pipe, File, &[PIPE_TO_CACHE]),
    row(IoUring, Pipe, Disk, &[Hop::dma(P::Pipe, P::Disk)]),
    row(IoUring, Pipe, Tcp, &[PIPE_REF_SOCKET]),
    // Registered buffers: the CPU copies between the kernel's own mappings of their pages. They are anonymous memory
    // or its kin, for pages of files can't be pinned for good.
    row(IoUringFixed, File, User, &[Hop::in_kernel(P::PageCache, P::User)]),
    row(IoUringFixed, Disk, User, &[Hop::dma(P::Disk, P::User)]),
    row(IoUringFixed, Tcp, User, &[Hop::in_kernel(P::SocketBuffer, P::User)]),
    row(IoUringFixed, Pipe, User, &[Hop::in_kernel(P::Pipe, P::User)]),
    row(IoUringFixed, User, File, &[Hop::in_kernel(P::User, P::PageCache)]),
    row(IoUringFixed, User, Disk, &[Hop::dma(P::User, P::Disk)]),
    row(IoUringFixed, User, Tcp, &[Hop::in_kernel(P::User, P::SocketBuffer)]),
    row(IoUringFixed, User, Pipe, &[Hop::in_kernel(P::User, P::Pipe)]),
    // SEND_ZC and SENDMSG_ZC: the pages are handed over.
    row(IoUringZerocopy, User, Tcp, &[Hop::reference(P::User, P::SocketBuffer)]),
    row(IoUringZerocopy, User, Udp, &[Hop::reference(P::User, P::SocketBuffer)]),
    row(IoUringZerocopy, Mapping, Tcp, &[Hop::reference(P::PageCache, P::SocketBuffer)]),
    row(IoUringZerocopy, Mapping, Udp, &[Hop::reference(P::PageCache, P::SocketBuffer)]),
    // Linux AIO: direct requests are asynchronous, buffered ones are done by io_submit itself.
    row(Aio, File, User, &[Hop::to_user(P::PageCache)]),
    row(Aio, Disk, User, &[Hop::dma(P::Disk, P::User)]).textbook(ASYNC_DIRECT),
    row(Aio, Tcp, User, &[Hop::to_user(P::SocketBuffer)]),
    row(Aio, Pipe, User, &[Hop::to_user(P::Pipe)]),
    row(Aio, File, Mapping, &[Hop::to_user(P::PageCache)]),
    row(Aio, Disk, Mapping, &[Hop::dma(P::Disk, P::PageCache)]),
    row(Aio, User, File, &[Hop::from_user(P::PageCache)]),
    row(Aio, User, Disk, &[Hop::dma(P::User, P::Disk)]).textbook(ASYNC_DIRECT),
    row(Aio, User, Tcp, &[Hop::from_user(P::SocketBuffer)]),
    row(Aio, User, Pipe, &[Hop::from_user(P::Pipe)]),
    row(Aio, Mapping, File, &[Hop::from_user(P::PageCache)]),
    row(Aio, Mapping, Disk, &[Hop::dma(P::PageCache, P::Disk)]),
];
