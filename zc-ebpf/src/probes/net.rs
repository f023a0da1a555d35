//! What network devices are handed, in pages or in one piece; and which pages of users were copied after all.

use core::ffi::c_void;

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::BtfTracePointContext;
use zc_common::record::{FIRST_NET_CELL, NET_VIRTUAL};

use crate::kernel::{self, Known, argument, number};
use crate::maps::{NET_DEVICES, ZEROCOPIES, offset};
use crate::{account, devices, sockets};

/// `SKBFL_ZEROCOPY_ENABLE` (include/linux/skbuff.h, v6.1).
const ZEROCOPY: u8 = 1;
const IPPROTO_TCP: u16 = 6;
const IPPROTO_UDP: u16 = 17;
const SOCK_STREAM: u16 = 1;
const SOCK_DGRAM: u16 = 2;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// States of what is no whole socket (include/net/tcp_states.h, v6.1).
const TIME_WAIT: u8 = 6;
const NEW_SYN_RECV: u8 = 12;
/// No packet has longer headers: what is longer before its pages has payload there.
const HEADERS: u32 = 256;

/// The last packet that was copied into one piece: devices that stand on another hand it on.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Linear {
    skb: u64,
    device: u64,
    sequence: u64,
}

#[btf_map]
static LAST_LINEAR: PerCpuArray<Linear, 1> = PerCpuArray::new();

/// `net_dev_start_xmit`: a device is handed a packet. Segmented and copied it was by then, if it had to be
/// (validate_xmit_skb, net/core/dev.c, v6.1).
#[inline(always)]
pub fn transmitted(ctx: &BtfTracePointContext) {
    let (bytes, paged) = lengths(ctx.arg(0));
    let (skb, device) = (argument(ctx, 0), argument(ctx, 1));
    let place = place_of(device);
    let socket = socket_of(skb);
    if socket == 0 {
        account::count_fallback(u32::from(FIRST_NET_CELL) + place as u32, u64::from(paged), u64::from(bytes));
        return;
    }
    if paged != 0 && place == NET_VIRTUAL as u64 && flags_of(skb) & ZEROCOPY != 0 {
        // What the device receives itself (loopback, veth) it receives without the socket, at the same address.
        let _ = ZEROCOPIES.insert(&skb, &socket, 0);
    }
    if paged == 0 || bytes - paged > HEADERS {
        linearized(skb, socket, device, bytes - paged);
    }
    sockets::transmitted(socket, place, u64::from(bytes), u64::from(paged));
}

/// A packet's bytes, and those of them in pages.
#[inline(always)]
fn lengths(skb: *const c_void) -> (u32, u32) {
    let skb = Known::new(skb);
    (skb.load(offset!(skb_len)), skb.load(offset!(skb_data_len)))
}

/// The TCP or UDP socket of a packet that was sent by one; or 0.
#[inline(always)]
fn socket_of(skb: u64) -> u64 {
    let socket = number(skb + offset!(skb_sk));
    if socket == 0 {
        return 0;
    }
    let family = kernel::read::<u16>(socket + offset!(sock_family)).unwrap_or(0);
    let state = kernel::read::<u8>(socket + offset!(sock_state)).unwrap_or(0);
    if !matches!(family, AF_INET | AF_INET6) || matches!(state, TIME_WAIT | NEW_SYN_RECV) {
        return 0;
    }
    // A raw socket has a protocol, too.
    let kind = kernel::read::<u16>(socket + offset!(sock_type)).unwrap_or(0);
    match (kind, protocol(socket)) {
        (SOCK_STREAM, IPPROTO_TCP) | (SOCK_DGRAM, IPPROTO_UDP) => socket,
        _ => 0,
    }
}

#[inline(always)]
fn protocol(socket: u64) -> u16 {
    kernel::read::<u16>(socket + offset!(sock_protocol)).unwrap_or(0)
}

/// The flags that a packet's fragments share (skb_shinfo, include/linux/skbuff.h, v6.1).
#[inline(always)]
fn flags_of(skb: u64) -> u8 {
    let end = number(skb + offset!(skb_end)) as u32;
    let shared = number(skb + offset!(skb_head)) + u64::from(end);
    kernel::read::<u8>(shared + offset!(shared_flags)).unwrap_or(0)
}

/// Counts TCP payload in a packet's first piece. A system call puts it into pages (tcp_sendmsg_locked, net/ipv4/tcp.c, v6.1 to
/// v6.18), so that it has been copied since. Not so what goes with a SYN.
#[inline(always)]
fn linearized(skb: u64, socket: u64, device: u64, linear: u32) {
    /// `TCPHDR_SYN`.
    const SYN: u64 = 2;
    if protocol(socket) != IPPROTO_TCP {
        return;
    }
    let head = number(skb + offset!(skb_head));
    let header = head + u64::from(kernel::read::<u16>(skb + offset!(skb_transport)).unwrap_or(0));
    let end = number(skb + offset!(skb_data)) + u64::from(linear);
    // The length of the header in words is in the upper half of byte 12, the flags are in byte 13.
    let what = number(header + 12);
    let words = what >> 4 & 0xf;
    let payload = end.wrapping_sub(header + words * 4);
    if what >> 8 & SYN != 0 || words < 5 || payload as i64 <= 0 || payload > u64::from(linear) {
        return;
    }
    // Ports, sequence number. Within a tunnel another header lies there.
    let (ports, sequence) = (number(header), number(header) >> 32);
    let port = kernel::read::<u16>(socket + offset!(sock_port)).unwrap_or(0);
    if ports as u16 != port.swap_bytes() {
        return;
    }
    let sequence = u64::from((sequence as u32).swap_bytes());
    // SAFETY: per-CPU, and the program runs with preemption and softirqs off.
    let Some(last) = LAST_LINEAR.get_ptr_mut(0).and_then(|last| unsafe { last.as_mut() }) else { return };
    let handed_on = last.skb == skb && last.sequence == sequence && last.device != device;
    *last = Linear { skb, device, sequence };
    if !handed_on {
        sockets::linearized(socket, sequence, payload);
    }
}

/// `netif_receive_skb`: a packet begins its way up. Pages that its sender still owns are copied before any protocol has
/// them (skb_orphan_frags_rx in __netif_receive_skb_core, net/core/dev.c, v6.1), but for what a bridge takes.
#[inline(always)]
pub fn received(ctx: &BtfTracePointContext) {
    let (_, paged) = lengths(ctx.arg(0));
    if paged == 0 {
        return;
    }
    let skb = argument(ctx, 0);
    if flags_of(skb) & ZEROCOPY == 0 {
        return;
    }
    if number(number(skb + offset!(skb_dev)) + offset!(device_handler)) != 0 {
        return;
    }
    // SAFETY: the entry of a packet is written before it is received.
    if let Some(&socket) = unsafe { ZEROCOPIES.get(&skb) } {
        let _ = ZEROCOPIES.remove(&skb);
        sockets::copied_after_all(socket, u64::from(paged));
    }
}

/// `tcp_retransmit_skb`: a segment was sent again. In the queue a packet has no headers.
#[inline(always)]
pub fn retransmitted(ctx: &BtfTracePointContext) {
    if offset!(retransmit_says_error) != 0 && ctx.arg::<i32>(2) != 0 {
        return;
    }
    let (bytes, _) = lengths(ctx.arg(1));
    sockets::retransmitted(argument(ctx, 0), u64::from(bytes));
}

/// A device's place among those that are told apart.
#[inline(always)]
fn place_of(device: u64) -> u64 {
    if number(device + offset!(device_parent)) == 0 {
        return NET_VIRTUAL as u64;
    }
    devices::place_of(&NET_DEVICES, device, device + offset!(device_name)) as u64
}
