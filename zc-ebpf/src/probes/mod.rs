//! The probes, one family per file.

pub mod identity;
pub mod io_uring;
pub mod lifecycle;
pub mod sys_exit;
pub mod threads;
