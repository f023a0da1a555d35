//! Which BPF objects a process holds, and whether they still exist.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use anyhow::Context as _;
use serde_json::{Value, json};

/// Ids of BPF programs, maps and links.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objects {
    /// Programs.
    pub programs: BTreeSet<u32>,
    /// Maps.
    pub maps: BTreeSet<u32>,
    /// Links.
    pub links: BTreeSet<u32>,
}

// enum bpf_cmd (include/uapi/linux/bpf.h, v6.1).
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_MAP_GET_FD_BY_ID: libc::c_long = 14;
const BPF_LINK_GET_FD_BY_ID: libc::c_long = 30;

/// BPF_ENABLE_STATS, and its BPF_STATS_RUN_TIME (include/uapi/linux/bpf.h, v6.1).
const BPF_ENABLE_STATS: libc::c_long = 32;

/// Lets the kernel count runs of all programs and their time, until what it returns is dropped.
///
/// # Errors
/// If the kernel refuses.
pub fn enable_stats() -> anyhow::Result<OwnedFd> {
    let run_time = 0_u64;
    // SAFETY: bpf(BPF_ENABLE_STATS) reads the eight bytes that it is given.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_ENABLE_STATS, &raw const run_time, size_of::<u64>()) };
    let fd = i32::try_from(fd)?;
    anyhow::ensure!(fd >= 0, "counting runs: {}", io::Error::last_os_error());
    // SAFETY: the kernel has just made it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Those that the calling process has descriptors of, as /proc tells them.
///
/// # Errors
/// If /proc can't be read.
pub fn own() -> io::Result<Objects> {
    let mut found = Objects::default();
    for entry in std::fs::read_dir("/proc/self/fdinfo")? {
        // The directory's own descriptor is gone by now.
        let Ok(text) = std::fs::read_to_string(entry?.path()) else { continue };
        for line in text.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let Ok(id) = value.trim().parse() else { continue };
            match name {
                "prog_id" => _ = found.programs.insert(id),
                "map_id" => _ = found.maps.insert(id),
                "link_id" => _ = found.links.insert(id),
                _ => {}
            }
        }
    }
    Ok(found)
}

impl Objects {
    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({"programs": self.programs, "maps": self.maps, "links": self.links})
    }

    /// From JSON.
    ///
    /// # Errors
    /// If it is not what [`Objects::to_json`] makes.
    pub fn from_json(value: &Value) -> anyhow::Result<Self> {
        let ids = |kind: &str| -> anyhow::Result<BTreeSet<u32>> {
            let all = value[kind].as_array().with_context(|| format!("no {kind}"))?;
            all.iter().map(|id| Ok(u32::try_from(id.as_u64().context("an id")?)?)).collect()
        };
        Ok(Self { programs: ids("programs")?, maps: ids("maps")?, links: ids("links")? })
    }

    /// Those of them that others do not have.
    #[must_use]
    pub fn without(&self, others: &Self) -> Self {
        Self {
            programs: &self.programs - &others.programs,
            maps: &self.maps - &others.maps,
            links: &self.links - &others.links,
        }
    }

    /// Whether there is any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty() && self.maps.is_empty() && self.links.is_empty()
    }

    /// Those of them that exist in the kernel now.
    #[must_use]
    pub fn existing(&self) -> Self {
        let of = |command, ids: &BTreeSet<u32>| ids.iter().copied().filter(|&id| exists(command, id)).collect();
        Self {
            programs: of(BPF_PROG_GET_FD_BY_ID, &self.programs),
            maps: of(BPF_MAP_GET_FD_BY_ID, &self.maps),
            links: of(BPF_LINK_GET_FD_BY_ID, &self.links),
        }
    }
}

fn exists(command: libc::c_long, id: u32) -> bool {
    let attributes = [id, 0, 0, 0];
    // SAFETY: the attributes are a zero-padded prefix of union bpf_attr, live during the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(&attributes)) };
    if fd < 0 {
        return io::Error::last_os_error().raw_os_error() != Some(libc::ENOENT);
    }
    // SAFETY: the kernel just made it for us.
    drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
    true
}
