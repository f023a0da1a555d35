//! Devices that are told apart: each gets a place when it is first seen, and keeps it.

use aya_ebpf::btf_maps::Array;
use zc_common::record::Device;

use crate::kernel;
use crate::slots::compare_exchange;

/// The place of a device among `known`, with its name, which lies at an address; the number of places if all are taken.
#[inline(always)]
pub fn place_of<const PLACES: usize>(known: &Array<Device, PLACES>, device: u64, name: u64) -> usize {
    for place in 0..PLACES {
        let Some(at) = known.get_ptr_mut(place as u32) else { break };
        // SAFETY: a live element of the map; its name is written once, by whoever takes the place.
        let at = unsafe { &mut *at };
        if at.device == device {
            return place;
        }
        if at.device == 0 && compare_exchange(&mut at.device, 0, device) == 0 {
            at.name = kernel::read(name).unwrap_or([0; 32]);
            return place;
        }
    }
    PLACES
}
