//! The kernel's side: loading, attaching and reading the probes. The only module that imports aya.

mod audit;
mod bpf;
mod btf;
mod calls;
mod events;
mod load;
mod object;
mod offsets;
mod operations;
mod peers;
mod probes;
mod read;
mod tracer;

pub use audit::{Audit, AuditError, Audited, Kind, Watch};
pub use events::{Lifecycle, LifecycleKind};
pub use load::EmptyProbe;
pub use operations::Operations;
pub use peers::PeersReading;
pub use probes::{
    BLOCK, FAULTS, IO_URING, MAPPING, NET, PASS_THROUGH, PEERS, ProbeStatus, SCHED, is_optional, kernel_release,
};
pub use read::{Devices, FallbackReading, ProbeRuns, Reading, ThreadReading};
pub(crate) use tracer::nanoseconds_since_boot;
pub use tracer::{Ledgers, LoadError, Options, Tracer};
