//! What /proc tells of a process.

use crate::ledger::{Cgroup, Lookup};

/// The running system's /proc.
#[derive(Debug, Clone, Copy, Default)]
pub struct Procfs;

impl Lookup for Procfs {
    fn exe(&self, pid: u32) -> Option<String> {
        let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        Some(path.to_string_lossy().into_owned())
    }

    fn cgroup(&self, pid: u32) -> Option<Cgroup> {
        std::fs::read(format!("/proc/{pid}/cgroup")).ok().map(|text| Cgroup::parse(&String::from_utf8_lossy(&text)))
    }
}
