//! What /proc tells of a process.

use crate::ledger::{Cgroup, Lookup, ProcessKey};

/// The running system's /proc.
#[derive(Debug, Clone, Copy, Default)]
pub struct Procfs;

/// Nanoseconds of one tick of /proc/PID/stat's start time (USER_HZ is 100 on every architecture supported).
const TICK: u64 = 10_000_000;

/// Whether the pid is still this process's, and not its next bearer's.
fn is(process: ProcessKey) -> bool {
    let Ok(stat) = std::fs::read(format!("/proc/{}/stat", process.tgid)) else { return false };
    starttime(&stat) == Some(process.start / TICK)
}

/// The 22nd field of /proc/PID/stat (proc(5)); the second, in parentheses, may hold anything.
fn starttime(stat: &[u8]) -> Option<u64> {
    let end = stat.iter().rposition(|&b| b == b')')?;
    let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The library by which a process may encipher in user space, if it has one loaded and we may look.
#[must_use]
pub fn cipher_library(process: ProcessKey) -> Option<String> {
    const LIBRARIES: [&str; 5] = ["libssl", "libgnutls", "libmbedtls", "libwolfssl", "libs2n"];
    let maps = std::fs::read(format!("/proc/{}/maps", process.tgid)).ok()?;
    let maps = String::from_utf8_lossy(&maps);
    let mut names = maps.lines().filter_map(|line| line.rsplit_once('/').map(|(_, name)| name));
    let found = names.find(|name| LIBRARIES.iter().any(|library| name.starts_with(library)))?;
    is(process).then(|| found.to_owned())
}

impl Lookup for Procfs {
    fn exe(&self, process: ProcessKey) -> Option<String> {
        let path = std::fs::read_link(format!("/proc/{}/exe", process.tgid)).ok()?;
        // Looked at afterwards: if it is the process now, it was when the link was read.
        is(process).then(|| path.to_string_lossy().into_owned())
    }

    fn cgroup(&self, process: ProcessKey) -> Option<Cgroup> {
        let text = std::fs::read(format!("/proc/{}/cgroup", process.tgid)).ok()?;
        is(process).then(|| Cgroup::parse(&String::from_utf8_lossy(&text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let fields = (3..=22).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(starttime(format!("1 (a) b) {fields} 99").as_bytes()), Some(22));
        assert_eq!(starttime(b"1 (a"), None);
        assert_eq!(starttime(b""), None);
    }

    #[test]
    fn another_start_is_another_process() {
        let tgid = std::process::id();
        let stat = std::fs::read("/proc/self/stat").unwrap();
        let start = starttime(&stat).unwrap() * TICK;
        assert!(Procfs.exe(ProcessKey { tgid, start }).is_some());
        assert_eq!(Procfs.exe(ProcessKey { tgid, start: start + TICK }), None);
    }
}
