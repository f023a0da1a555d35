//! The copy model: from payload by path to copied, referenced and DMA bytes. Pure.

mod advise;
mod hops;
mod profile;
mod verify;

pub use advise::{Advice, AdviceReport, GroupAdvice, ProcessAdvice, advise, report};
pub use hops::{Catalogue, PathTotals};
pub use profile::{
    Basis, ContextSwitches, CopiedBytes, CopyCost, DirectIo, DmaBytes, HopBytes, Lost, MmapAsked, ModeSwitches,
    NetworkBytes, PageCacheBytes, PageFaults, PassThrough, PathProfile, PeerBytes, PeersSince, ProcessInfo, Profile,
    profile,
};
pub use verify::{Claim, Verdict, Verification};
