//! zcprof's user half as a library, so that the end-to-end tests can drive its parts.

pub mod agent;
pub mod cli;
pub mod config;
pub mod export;
pub mod kernel;
pub mod ledger;
pub mod model;
pub mod validate;
pub mod workload;
