//! Giving up what loading needed.

use caps::{CapSet, CapsHashSet};

/// Drops every capability of the calling thread for good, and of the threads that it starts from now on. Reading maps,
/// iterators and the ring needs none.
///
/// # Errors
/// If the kernel refuses, for which no cause is known.
pub fn drop_capabilities() -> Result<(), caps::errors::CapsError> {
    caps::clear(None, CapSet::Ambient)?;
    for capability in caps::read(None, CapSet::Bounding)? {
        // Needs CAP_SETPCAP, which an ordinary user started with two capabilities lacks; the bounding set gives
        // nothing by itself.
        let _ = caps::drop(None, CapSet::Bounding, capability);
    }
    let none = CapsHashSet::new();
    caps::set(None, CapSet::Inheritable, &none)?;
    caps::set(None, CapSet::Effective, &none)?;
    caps::set(None, CapSet::Permitted, &none)
}
