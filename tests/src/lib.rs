//! What the end-to-end tests against the real kernel share.
//!
//! The agent leaves its own process out, so that all traffic comes from helper programs (`src/bin`). A helper stops
//! itself right before and right after the calls that count ([`script`]); the test takes a snapshot at both stops
//! ([`stage`]) and compares the difference, path by path and byte by byte, with what the helper says it did.

pub mod bpf;
pub mod expected;
pub mod memory;
pub mod script;
pub mod stage;
