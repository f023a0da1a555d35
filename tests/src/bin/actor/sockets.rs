//! send and receive and their kin.

use std::os::fd::{AsRawFd as _, OwnedFd};

use libc::{
    SYS_read, SYS_readv, SYS_recvfrom, SYS_recvmmsg, SYS_recvmsg, SYS_sendmmsg, SYS_sendmsg, SYS_sendto, SYS_write,
    SYS_writev,
};
use zc_tests::memory::{address, address_mut, iovec};
use zc_tests::script::{Script, arg};

use crate::{Scenario, open};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("tcp", |_| every_call(&open::tcp()?, "tcp")),
    ("udp", |_| every_call(&open::udp()?, "udp")),
    ("unix_stream", |_| every_call(&open::unix(libc::SOCK_STREAM)?, "unix")),
    ("unix_datagram", |_| every_call(&open::unix(libc::SOCK_DGRAM)?, "unix")),
    ("unix_seqpacket", |_| every_call(&open::unix(libc::SOCK_SEQPACKET)?, "unix")),
    ("pipe", pipe),
];

/// A msghdr over iovecs that the caller keeps alive.
pub(crate) fn message(vector: &[libc::iovec]) -> libc::msghdr {
    // SAFETY: zeroes are an empty msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vector.as_ptr().cast_mut();
    message.msg_iovlen = vector.len();
    message
}

/// Messages over iovecs that the caller keeps alive.
pub(crate) fn messages<const N: usize>(vectors: [&[libc::iovec]; N]) -> [libc::mmsghdr; N] {
    vectors.map(|vector| libc::mmsghdr { msg_hdr: message(vector), msg_len: 0 })
}

/// Sends by each call what the other side receives by its counterpart: the same bytes each time.
fn every_call((one, other): &(OwnedFd, OwnedFd), name: &str) -> anyhow::Result<()> {
    let all = libc::MSG_WAITALL as usize;
    let (tx, rx) = (arg(one.as_raw_fd()), arg(other.as_raw_fd()));
    let mut buffer = vec![0_u8; 16384];
    let at = address_mut(buffer.as_mut_slice());
    let vector = [iovec(at, 500), iovec(at + 600, 700), iovec(at + 1400, 1)];
    let v = address(&vector);
    let header = message(&vector);
    let mut several = messages([&vector[..2], &vector[2..], &vector[..1]]);
    let (out, into) = (format!("write:user:{name}"), format!("read:{name}:user"));
    let mut s = Script::default();
    s.calls_are_exact();
    s.begin()?;
    s.moves(&out, 900, SYS_write, &[tx, at, 900])?;
    s.moves(&into, 900, SYS_read, &[rx, at, 900])?;
    s.moves(&out, 1201, SYS_writev, &[tx, v, 3])?;
    s.moves(&into, 1201, SYS_readv, &[rx, v, 3])?;
    s.moves(&out, 3000, SYS_sendto, &[tx, at, 3000, 0, 0, 0])?;
    s.moves(&into, 3000, SYS_recvfrom, &[rx, at, 3000, all, 0, 0])?;
    s.moves(&out, 1201, SYS_sendmsg, &[tx, address(&header), 0])?;
    s.moves(&into, 1201, SYS_recvmsg, &[rx, address(&header), all])?;
    s.returns(3, SYS_sendmmsg, &[tx, address_mut(&mut several), 3, 0])?;
    s.expect(&out, 1, 1200 + 1 + 500);
    s.returns(3, SYS_recvmmsg, &[rx, address_mut(&mut several), 3, all, 0])?;
    s.expect(&into, 1, 1200 + 1 + 500);
    s.end()
}

fn pipe(_: &[String]) -> anyhow::Result<()> {
    let (reader, writer) = open::pipe()?;
    let (rx, tx) = (arg(reader.as_raw_fd()), arg(writer.as_raw_fd()));
    let mut buffer = vec![0_u8; 65536];
    let at = address_mut(buffer.as_mut_slice());
    let vector = [iovec(at, 500), iovec(at + 600, 700), iovec(at + 1400, 1)];
    let v = address(&vector);
    let mut s = Script::default();
    s.calls_are_exact();
    s.begin()?;
    s.moves("write:user:pipe", 65536, SYS_write, &[tx, at, 65536])?;
    s.moves("read:pipe:user", 65536, SYS_read, &[rx, at, 65536])?;
    s.moves("write:user:pipe", 1201, SYS_writev, &[tx, v, 3])?;
    s.moves("read:pipe:user", 1201, SYS_readv, &[rx, v, 3])?;
    s.end()
}
