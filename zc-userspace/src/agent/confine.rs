//! Confinement: once it traces, the daemon needs few files and few system calls, and can have no others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetStatus,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

/// Why the process is not confined.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// Files.
    #[error("landlock: {0}")]
    Files(#[from] landlock::RulesetError),
    /// System calls.
    #[error("seccomp: {0}")]
    Calls(#[from] seccompiler::Error),
    /// The filter itself.
    #[error("seccomp: {0}")]
    Filter(#[from] seccompiler::BackendError),
    /// This build does not know the processor.
    #[error("seccomp: no filter for this processor")]
    Processor,
}

/// What was confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confined {
    /// Whether the kernel has landlock (5.13 on, if it was turned on): files and ports are refused.
    pub files: bool,
}

/// Confines the calling thread and those that it starts from now on. Files can be read under /proc, the cgroup file
/// system, the kernel's list of CPUs and `folders`, and nothing can be written, executed, bound or connected to; of system calls those are left that
/// the daemon makes. Needs no_new_privs, or CAP_SYS_ADMIN.
///
/// # Errors
/// If the kernel refuses; what was confined until then stays so.
pub fn confine(folders: &[PathBuf]) -> Result<Confined, ConfineError> {
    let files = confine_files(folders)?;
    confine_calls()?;
    Ok(Confined { files })
}

fn confine_files(folders: &[PathBuf]) -> Result<bool, ConfineError> {
    // The crate leaves out what an older kernel does not know.
    let abi = ABI::V5;
    let readable = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut rules =
        Ruleset::default().handle_access(AccessFs::from_all(abi))?.handle_access(AccessNet::from_all(abi))?.create()?;
    // The last tells how many CPUs there may be, which reading per-CPU maps takes.
    let fixed = ["/proc", "/sys/fs/cgroup", "/sys/devices/system/cpu"].map(Path::new);
    for folder in fixed.into_iter().chain(folders.iter().map(PathBuf::as_path)) {
        // What is not there can't be opened either.
        if let Ok(folder) = PathFd::new(folder) {
            rules = rules.add_rule(PathBeneath::new(folder, readable))?;
        }
    }
    Ok(rules.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

/// bpf(2)'s commands that reading takes (enum bpf_cmd, include/uapi/linux/bpf.h, v6.1): look up, update, delete, next
/// key, information, batches, a reading of an iterator.
const BPF_COMMANDS: [u64; 10] = [1, 2, 3, 4, 15, 21, 24, 25, 27, 33];

/// Calls that are allowed whatever their arguments.
const CALLS: &[libc::c_long] = &[
    // Descriptors and files; which ones is landlock's affair.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_openat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_dup,
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    // Connections that were accepted.
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
    // Memory, threads, signals, time.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_prctl,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_uname,
    libc::SYS_getrusage,
    libc::SYS_prlimit64,
    libc::SYS_sysinfo,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Older calls of x86-64 that C libraries still make.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
];

fn confine_calls() -> Result<(), ConfineError> {
    let is = |argument, length, operator, value| SeccompCondition::new(argument, length, operator, value);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = CALLS.iter().map(|call| (*call, Vec::new())).collect();
    let commands =
        BPF_COMMANDS.map(|command| SeccompRule::new(vec![is(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, command)?]));
    rules.insert(libc::SYS_bpf, commands.into_iter().collect::<Result<_, _>>()?);
    // Threads, but no processes.
    let thread = libc::CLONE_THREAD as u64;
    let threads = SeccompRule::new(vec![is(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(thread), thread)?])?;
    rules.insert(libc::SYS_clone, vec![threads]);
    let refuse = |errno: i32| SeccompAction::Errno(errno.cast_unsigned());
    // clone3's flags lie in memory, where a filter can't look: C libraries fall back to clone where there is none. The
    // second filter lets it through to this one.
    apply(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), SeccompAction::Allow, refuse(libc::ENOSYS))?;
    rules.insert(libc::SYS_clone3, Vec::new());
    apply(rules, refuse(libc::EPERM), SeccompAction::Allow)
}

fn apply(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    on_match: SeccompAction,
) -> Result<(), ConfineError> {
    let processor = std::env::consts::ARCH.try_into().map_err(|_| ConfineError::Processor)?;
    let filter: BpfProgram = SeccompFilter::new(rules, otherwise, on_match, processor)?.try_into()?;
    Ok(apply_filter(&filter)?)
}
