//! What zcprof's two halves agree on: the catalogue of copy paths (`path`), how bytes hop along them (`hop`), the
//! records that cross from kernel to user (`record`, `peers`) and the load-time constants that cross the other way (`config`).
#![cfg_attr(not(test), no_std)]

pub mod config;
pub mod hop;
pub mod passed;
pub mod path;
pub mod peers;
pub mod record;
