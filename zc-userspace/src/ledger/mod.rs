//! The ledger: totals per process and group from the kernel's readings. Pure: values in, values out; no clock, no I/O.

mod counters;
mod groups;
mod identity;
mod peers;
mod select;
mod snapshot;
mod totals;

pub use counters::Counters;
pub use groups::{GroupBy, OTHER_GROUP};
pub use identity::{Cgroup, ProcessKey};
pub use peers::{Peer, Peers};
pub use select::{Selector, SelectorError};
pub use snapshot::{Process, Snapshot};
pub use totals::{Ledger, Lookup, Settings};
