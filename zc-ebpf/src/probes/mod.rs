//! The probes, one family per file.

pub mod audit;
pub mod block;
pub mod faults;
pub mod identity;
pub mod io_uring;
pub mod lifecycle;
pub mod mapping;
pub mod net;
pub mod sigbus;
pub mod sys_exit;
pub mod threads;
pub mod usage;
