//! The audit: a second, independent instrument beside the probes. Hardware breakpoints on the kernel's copy routines
//! count the bytes that the CPU really copies for one process.

use aya::Ebpf;
use aya::maps::Array;
use aya::programs::PerfEvent;
use aya::programs::perf_event::{BreakpointConfig, PerfEventConfig, PerfEventScope, SamplePolicy};
use zc_common::config::Config;
use zc_common::record::Audit as Record;

use super::btf::Btf;
use super::load::{chain, load_object};
use super::object::Blanks;
use super::tracer::LoadError;
use aya::VerifierLogLevel;

/// A routine and the program that reads its registers.
struct Routine {
    symbol: &'static str,
    program: &'static str,
}

/// The one user-copy routine: v6.4 on, and before (arch/x86/lib/copy_user_64.S).
const USER: [Routine; 2] = [
    Routine { symbol: "rep_movs_alternative", program: "audit_rcx" },
    Routine { symbol: "copy_user_enhanced_fast_string", program: "audit_rdx" },
];
/// Copies between the kernel and an iterator (lib/iov_iter.c), which may go over kernel memory. `memcpy` itself takes no
/// breakpoint: it is code that must not be instrumented (noinstr).
const IN_KERNEL: [Routine; 2] = [
    Routine { symbol: "_copy_to_iter", program: "audit_iter_rdx" },
    Routine { symbol: "_copy_from_iter", program: "audit_iter_rdx" },
];
/// A processor has four breakpoints. The last is for the copy into the page cache, or for the one that sums up datagrams
/// as it copies them: no path has both. Faults copy pages, and nothing goes over iterators.
const PAGES: Routine = Routine { symbol: "copy_page_from_iter_atomic", program: "audit_iter_rcx" };
const SUMS: Routine = Routine { symbol: "csum_partial_copy_generic", program: "audit_sum" };
const FAULTS: [Routine; 2] = [
    Routine { symbol: "copy_page", program: "audit_page" },
    Routine { symbol: "copy_mc_enhanced_fast_string", program: "audit_carefully" },
];
const PROGRAMS: [&str; 7] =
    ["audit_rcx", "audit_rdx", "audit_sum", "audit_iter_rcx", "audit_iter_rdx", "audit_page", "audit_carefully"];

/// What a workload moves, which decides what is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Anything but these.
    Plain,
    /// Datagrams: the copies that sum up are watched, and not those into the page cache.
    Datagrams,
    /// Pages, by faults.
    Faults,
}

impl Kind {
    /// That of a path.
    #[must_use]
    pub fn of(id: &str) -> Self {
        if id.starts_with("mmap:") {
            Self::Faults
        } else if id.contains(":udp") {
            Self::Datagrams
        } else {
            Self::Plain
        }
    }
}

/// Why the audit can't be had here.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Another processor.
    #[error("no audit here: only the copy routines of x86-64's kernels are known; `cargo xtask vm` audits those")]
    Architecture,
    /// The processor's copies are inlined.
    #[error(
        "no audit here: {0}, so that the kernel's copies are no calls of one routine; `cargo xtask vm` audits in a virtual machine"
    )]
    Inlined(&'static str),
    /// The kernel does not tell its symbols' addresses, or has no such routine.
    #[error("no audit here: /proc/kallsyms shows no address of {0}; needs root and kernel.kptr_restrict below 2")]
    NoSymbol(&'static str),
    /// The kernel refused a breakpoint.
    #[error(
        "no audit here: this kernel refused a hardware breakpoint ({0}), as in lockdown or without debug registers; `cargo xtask vm` audits in a virtual machine"
    )]
    Refused(String),
    /// The programs could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The counters could not be read.
    #[error("can't read the audit: {0}")]
    Read(String),
}

/// Bytes that the CPU copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Audited {
    /// From kernel to user memory.
    pub to_user: u64,
    /// From user to kernel memory.
    pub from_user: u64,
    /// Inside the kernel.
    pub in_kernel: u64,
}

/// The audit's programs, loaded.
pub struct Audit {
    ebpf: Ebpf,
    /// Addresses, and the programs for them.
    user: (u64, &'static str),
    in_kernel: Vec<(u64, &'static str)>,
    pages: (u64, &'static str),
    sums: (u64, &'static str),
    faults: Vec<(u64, &'static str)>,
    iter: Record,
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct PlainRecord(Record);
// SAFETY: plain integers without padding.
unsafe impl aya::Pod for PlainRecord {}

/// Watches until it is dropped.
pub struct Watch<'a> {
    audit: &'a mut Audit,
    links: Vec<(&'static str, aya::programs::perf_event::PerfEventLinkId)>,
}

impl Audit {
    /// Loads the programs, and tries a breakpoint on ourselves.
    ///
    /// # Errors
    /// If this processor or kernel can't be audited.
    pub fn load() -> Result<Self, AuditError> {
        if cfg!(not(target_arch = "x86_64")) {
            return Err(AuditError::Architecture);
        }
        // X86_FEATURE_FSRM (arch/x86/include/asm/uaccess_64.h, v6.4 on): copy_user_generic is one instruction then.
        let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        if flags.split_whitespace().any(|flag| flag == "fsrm") {
            return Err(AuditError::Inlined("this processor has FSRM (fast short REP MOVSB)"));
        }
        let symbols = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
        let user = USER.iter().find_map(|routine| Some((address(&symbols, routine.symbol)?, routine.program)));
        let user = user.ok_or(AuditError::NoSymbol(USER[0].symbol))?;
        let find = |routine: &Routine| {
            let address = address(&symbols, routine.symbol).ok_or(AuditError::NoSymbol(routine.symbol))?;
            Ok::<_, AuditError>((address, routine.program))
        };
        let in_kernel = IN_KERNEL.iter().map(find).collect::<Result<_, _>>()?;
        let faults = FAULTS.iter().map(find).collect::<Result<_, _>>()?;
        let (pages, sums) = (find(&PAGES)?, find(&SUMS)?);
        let mut ebpf = load_object(&Blanks { cast: None, config: &Config::default() }, &[], VerifierLogLevel::empty())?;
        for name in PROGRAMS {
            program(&mut ebpf, name)?.load().map_err(|error| LoadError::Load(chain(&error)))?;
        }
        let iter = iter()?;
        let mut audit = Self { ebpf, user, in_kernel, pages, sums, faults, iter };
        audit.watch(std::process::id(), Kind::Plain)?;
        Ok(audit)
    }

    /// Watches a process that has one thread and is stopped, and the workers that the kernel makes for it, from now on.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn watch(&mut self, pid: u32, kind: Kind) -> Result<Watch<'_>, AuditError> {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        let (heap, stack) = (range(&maps, "[heap]"), range(&maps, "[stack]"));
        // The stack may grow by its usual limit.
        let stack_start = stack.map_or(u64::MAX, |(start, _)| start - (8 << 20));
        let (heap_start, heap_end) = heap.unwrap_or_default();
        let record = Record { heap_start, heap_end, stack_start, ..self.iter };
        self.counters()?.set(0, PlainRecord(record), 0).map_err(|error| AuditError::Read(chain(&error)))?;
        let mut watch = Watch { audit: self, links: Vec::new() };
        for (address, name) in watch.audit.routines(kind) {
            let breakpoint = PerfEventConfig::Breakpoint(BreakpointConfig::Instruction { address });
            let scope = PerfEventScope::OneProcess { pid, cpu: None };
            let link = program(&mut watch.audit.ebpf, name)?
                .attach(breakpoint, scope, SamplePolicy::Period(1), true)
                .map_err(|error| AuditError::Refused(chain(&error)))?;
            watch.links.push((name, link));
        }
        Ok(watch)
    }

    fn routines(&self, kind: Kind) -> Vec<(u64, &'static str)> {
        let mut routines = vec![self.user];
        match kind {
            Kind::Faults => routines.extend(&self.faults),
            Kind::Datagrams => routines.extend(self.in_kernel.iter().copied().chain([self.sums])),
            Kind::Plain => routines.extend(self.in_kernel.iter().copied().chain([self.pages])),
        }
        routines
    }

    fn counters(&mut self) -> Result<Array<&mut aya::maps::MapData, PlainRecord>, AuditError> {
        let map = self.ebpf.map_mut("AUDIT").ok_or_else(|| AuditError::Read("no map AUDIT".to_owned()))?;
        Array::try_from(map).map_err(|error| AuditError::Read(chain(&error)))
    }
}

impl Watch<'_> {
    /// What has been copied since.
    ///
    /// # Errors
    /// If the counters can't be read, for which no cause is known.
    pub fn read(&mut self) -> Result<Audited, AuditError> {
        let PlainRecord(record) = self.audit.counters()?.get(&0, 0).map_err(|error| AuditError::Read(chain(&error)))?;
        Ok(Audited { to_user: record.to_user, from_user: record.from_user, in_kernel: record.in_kernel })
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        for (name, link) in self.links.drain(..) {
            if let Ok(program) = program(&mut self.audit.ebpf, name) {
                // What can't be detached goes with the program.
                let _ = program.detach(link);
            }
        }
    }
}

/// Where an `iov_iter` says what it goes over, and which values mean user memory: a flag of its own until v6.6, the
/// first two kinds since (include/linux/uio.h).
fn iter() -> Result<Record, LoadError> {
    let data = std::fs::read("/sys/kernel/btf/vmlinux").map_err(LoadError::NoBtf)?;
    let btf = Btf::parse(&data)?;
    let need = |field| btf.offset("iov_iter", field).ok_or_else(|| LoadError::Load(format!("iov_iter has no {field}")));
    let (iter_kind, user_kinds) = match btf.offset("iov_iter", "user_backed") {
        Some(flag) => (flag, [1, 1]),
        None => (need("iter_type")?, [0, 1]),
    };
    Ok(Record { iter_kind, user_kinds, iter_count: need("count")?, ..Record::default() })
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut PerfEvent, LoadError> {
    let program = ebpf.program_mut(name).ok_or_else(|| LoadError::Load(format!("the eBPF object lacks {name}")))?;
    program.try_into().map_err(|error: aya::programs::ProgramError| LoadError::Load(chain(&error)))
}

/// The address of a symbol in the text of /proc/kallsyms; none if it is hidden.
fn address(symbols: &str, name: &str) -> Option<u64> {
    symbols.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (address, _, symbol) = (words.next()?, words.next()?, words.next()?);
        if symbol == name { u64::from_str_radix(address, 16).ok().filter(|&address| address != 0) } else { None }
    })
}

/// From where to where a mapping lies, in the text of /proc/PID/maps.
fn range(maps: &str, name: &str) -> Option<(u64, u64)> {
    let (start, end) = maps.lines().find(|line| line.ends_with(name))?.split_once(' ')?.0.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_and_mappings_are_found() {
        let symbols = "ffffffff81000000 T __memcpy_x\nffffffff82000000 T __memcpy\n0000000000000000 T hidden\n";
        assert_eq!(address(symbols, "__memcpy"), Some(0xffff_ffff_8200_0000));
        assert_eq!((address(symbols, "hidden"), address(symbols, "none")), (None, None));
        let maps = "1000-2000 rw-p 00000000 00:00 0                  [heap]\n5000-6000 rw-p 0 00:00 0 [stack]\n";
        assert_eq!((range(maps, "[heap]"), range(maps, "[vdso]")), (Some((0x1000, 0x2000)), None));
    }
}
