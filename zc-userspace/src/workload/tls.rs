//! Kernel TLS: a TCP socket that enciphers what is sent.

use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::Context as _;
use nix::errno::Errno;
use zc_common::path::Condition::Tls as OverTls;

use super::Workload;
use super::calls::{write, writev};
use super::channel::Pair;
use super::fixture::Fixture::{Disk, File, Mapping, Pipe, Tls, User};
use super::messages::sendmsg;
use super::{sendfile, sockets, splice, uring};

/// include/uapi/linux/tls.h, v6.1.
const TLS_TX: i32 = 1;
const TLS_1_2_VERSION: u16 = 0x0303;
const TLS_CIPHER_AES_GCM_128: u16 = 51;

/// `struct tls12_crypto_info_aes_gcm_128` (same file).
#[repr(C)]
struct CryptoInfo {
    version: u16,
    cipher: u16,
    iv: [u8; 8],
    key: [u8; 16],
    salt: [u8; 4],
    record: [u8; 8],
}

/// Makes a pair's first socket encipher what is sent. Nobody deciphers it: the peer counts its bytes and drops them.
pub(super) fn enciphering(pair: Pair) -> anyhow::Result<Pair> {
    let socket = pair.0.as_fd().as_raw_fd();
    let name = b"tls";
    // SAFETY: the value is that long and outlives the call.
    let done = unsafe {
        libc::setsockopt(socket, libc::IPPROTO_TCP, libc::TCP_ULP, name.as_ptr().cast(), name.len() as libc::socklen_t)
    };
    Errno::result(done).context("setting TCP_ULP to tls")?;
    let keys = CryptoInfo {
        version: TLS_1_2_VERSION,
        cipher: TLS_CIPHER_AES_GCM_128,
        iv: [1; 8],
        key: [2; 16],
        salt: [3; 4],
        record: [0; 8],
    };
    // SAFETY: as above.
    let done = unsafe {
        let length = size_of::<CryptoInfo>() as libc::socklen_t;
        libc::setsockopt(socket, libc::SOL_TLS, TLS_TX, (&raw const keys).cast(), length)
    };
    Errno::result(done).context("setting TLS_TX")?;
    Ok(pair)
}

/// Why a socket can't be made so here.
pub(super) fn unavailable() -> Option<String> {
    let refused = sockets::tcp("127.0.0.1:0").and_then(enciphering).err()?;
    Some(format!("this kernel has no kernel TLS, or not its module tls: {refused:#}"))
}

/// One for each row.
pub(super) const MAIN: &[Workload] = &[
    Workload::new("write:user:tcp", User, Tls, write, "write to a TCP socket with kernel TLS").when(OverTls),
    Workload::new("write:mapping:tcp", Mapping, Tls, write, "write to one with kernel TLS from a mapping of a file")
        .when(OverTls),
    Workload::new("sendfile:file:tcp", File, Tls, sendfile::sendfile, "send a file to one with kernel TLS")
        .when(OverTls),
    Workload::new("sendfile:disk:tcp", Disk, Tls, sendfile::sendfile, "the same from a file opened with O_DIRECT")
        .when(OverTls),
    Workload::new("splice:pipe:tcp", Pipe, Tls, splice::splice, "splice a pipe to one with kernel TLS").when(OverTls),
    Workload::new("io_uring:user:tcp", User, Tls, uring::send, "SEND to one with kernel TLS")
        .when(OverTls)
        .ring(super::ring::Plan::PLAIN)
        .needs(uring::needs),
];

/// Other calls.
pub(super) const VARIANTS: &[Workload] = &[
    Workload::new("write:user:tcp", User, Tls, writev, "writev").when(OverTls).variant("writev"),
    Workload::new("write:user:tcp", User, Tls, sendmsg, "sendmsg").when(OverTls).variant("sendmsg"),
];
