//! Whether probes stay in the kernel that nobody holds any more.
//!
//! Other tests, and other people, run zcprof at the same time, so that the number of programs says nothing. But a program
//! that its process has left behind has no holder: no descriptor of any process is its, or its link's.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result};

use super::process::until;

/// Our programs' names, as far as the kernel keeps them (BPF_OBJ_NAME_LEN is 16, with a NUL).
const NAMES: [&[u8]; 16] = [
    b"sys_exit",
    b"sched_process_e",
    b"sched_process_f",
    b"iter_task",
    b"signal_generate",
    b"page_fault_user",
    b"block_bio_queue",
    b"writeback_dirty",
    b"io_uring_comple",
    b"io_uring_overfl",
    b"io_uring_submit",
    b"audit_rcx",
    b"audit_rdx",
    b"audit_sum",
    b"audit_iter_rcx",
    b"audit_iter_rdx",
];

/// bpf(2)'s commands (include/uapi/linux/bpf.h, v6.1).
const PROG_GET_NEXT_ID: libc::c_long = 11;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;

/// The start of `union bpf_attr` for those commands.
type Attributes = [u64; 4];

/// Fails if programs of ours stay without anybody holding them. What is being attached or torn down at this moment may
/// look so for a while.
pub(crate) fn assert_none() -> Result<()> {
    let mut left = abandoned()?;
    until("abandoned probes to go away", || {
        let now = abandoned()?;
        left.retain(|id| now.contains(id));
        Ok(left.is_empty().then_some(()))
    })
}

/// How many programs of ours a process holds: what [`assert_none`] would find if it left them behind.
pub(crate) fn held_by(pid: u32) -> usize {
    held_by_process(&pid.to_string()).intersection(&ours()).count()
}

fn ours() -> BTreeSet<u32> {
    programs().filter(|id| name(*id).is_some_and(|name| NAMES.contains(&&name[..]))).collect()
}

fn abandoned() -> Result<BTreeSet<u32>> {
    let ours = ours();
    if ours.is_empty() {
        return Ok(ours);
    }
    let held = held()?;
    Ok(ours.difference(&held).copied().collect())
}

/// The ids of all programs.
fn programs() -> impl Iterator<Item = u32> {
    let mut last = 0_u32;
    std::iter::from_fn(move || {
        let mut attributes: Attributes = [u64::from(last), 0, 0, 0];
        bpf(PROG_GET_NEXT_ID, &mut attributes)?;
        // start_id, then next_id.
        last = u32::try_from(attributes[0] >> 32).ok()?;
        Some(last)
    })
}

/// A program's name; none if it has gone meanwhile.
fn name(id: u32) -> Option<Vec<u8>> {
    use std::os::fd::{FromRawFd as _, OwnedFd};
    let fd = bpf(PROG_GET_FD_BY_ID, &mut [u64::from(id), 0, 0, 0])?;
    // SAFETY: the kernel has just made it, and nobody else knows it.
    let _owner = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).ok()?) };
    // `struct bpf_prog_info` has the name at byte 64.
    let mut info = [0_u8; 80];
    let what = u64::try_from(fd).ok()? | (info.len() as u64) << 32;
    bpf(OBJ_GET_INFO_BY_FD, &mut [what, info.as_mut_ptr() as u64, 0, 0])?;
    Some(info[64..].iter().copied().take_while(|byte| *byte != 0).collect())
}

/// What bpf(2) returns; none if it refuses.
fn bpf(command: libc::c_long, attributes: &mut Attributes) -> Option<libc::c_long> {
    // SAFETY: the attributes are valid for their size, and so is the buffer that the only command with one is given.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of::<Attributes>()) };
    (result >= 0).then_some(result)
}

/// The programs that descriptors of other processes hold, or links that such descriptors hold.
fn held() -> Result<BTreeSet<u32>> {
    let own = std::process::id().to_string();
    let mut held = BTreeSet::new();
    for process in fs::read_dir("/proc").context("/proc")?.flatten() {
        let pid = process.file_name();
        let Some(pid) = pid.to_str().filter(|pid| *pid != own && pid.starts_with(|c: char| c.is_ascii_digit())) else {
            continue;
        };
        held.extend(held_by_process(pid));
    }
    Ok(held)
}

/// Processes and descriptors may go away meanwhile.
fn held_by_process(pid: &str) -> BTreeSet<u32> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    let texts = descriptors.map(|fd| fs::read_to_string(fd.path()).unwrap_or_default());
    texts.filter_map(|text| text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok())).collect()
}
