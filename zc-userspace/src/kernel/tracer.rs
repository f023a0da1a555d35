//! Loading and attaching the probes, and reading what they count.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use aya::maps::{Array, Map, MapData, PerCpuArray, PerCpuValues};
use aya::programs::BtfTracePoint;
use aya::{Ebpf, VerifierLogLevel};
use zc_common::config::{Config, LEDGERS_SHARED, LEDGERS_SLOTS, LEDGERS_THREADS, LEDGERS_UNFOLDED};
use zc_common::path::Row;
use zc_common::peers::PeerKey;
use zc_common::record::{Cell, Device, Fallback, SharedKey};

use super::btf::{Btf, Malformed};
use super::events::{Events, Lifecycle};
use super::load::{Programs, attach, attach_all, link_iterator, load_all, load_object, optional, take, verifier_says};
use super::object::Blanks;
use super::offsets::MissingField;
use super::operations::Operations;
use super::peers::{self, PeersReading};
use super::probes::{Family, NET, OPTIONAL, PASS_THROUGH, PEERS, ProbeStatus};
use super::read::{self, Devices, HandedOut, ProbeRuns, Reading};
use super::{object, offsets};

const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// What a tracer counts.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The catalogue.
    pub rows: &'a [Row],
    /// Whether the calling process itself is left out, as it must be for a tracer that runs on.
    pub exclude_self: bool,
    /// Where threads count.
    pub ledgers: Ledgers,
    /// Names of the optional probes that are to be left out.
    pub without: &'a [&'a str],
}

/// Where threads count. The kernel half chooses call by call: a slot if one is free, else the thread's storage, else the
/// shared ledger. The figures are the same; tests insist on the rarer ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ledgers {
    /// As it comes; the only one outside tests.
    Slots,
    /// Each in its task storage.
    Threads,
    /// All in the shared ledger, by process.
    Shared,
    /// As it comes, and the exits of threads in slots are missed.
    Unfolded,
}

impl Ledgers {
    fn code(self) -> u64 {
        match self {
            Self::Slots => LEDGERS_SLOTS,
            Self::Threads => LEDGERS_THREADS,
            Self::Shared => LEDGERS_SHARED,
            Self::Unfolded => LEDGERS_UNFOLDED,
        }
    }
}

/// Why tracing can't start. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The process may not load programs.
    #[error(
        "not permitted to load the probes: needs CAP_BPF and CAP_PERFMON; run as root, or `setcap cap_bpf,cap_perfmon+ep` on the binary"
    )]
    NotPermitted,
    /// The process's pids are not the kernel's.
    #[error(
        "not in the host's pid namespace: the ledger's pids would not be ours; run it on the host, or give the container the host's pid namespace (hostPID, --pid=host)"
    )]
    PidNamespace,
    /// The kernel has no BTF.
    #[error(
        "can't read {BTF_PATH} ({0}): needs a kernel built with CONFIG_DEBUG_INFO_BTF=y, as Debian's, Fedora's and Ubuntu's are"
    )]
    NoBtf(std::io::Error),
    /// The kernel's BTF can't be parsed.
    #[error("can't read this kernel's {BTF_PATH}: {0}; needs a kernel built with CONFIG_DEBUG_INFO_BTF=y")]
    BadBtf(#[from] Malformed),
    /// The kernel is too old or built otherwise.
    #[error(transparent)]
    MissingField(#[from] MissingField),
    /// The object's file.
    #[error("can't read the eBPF object {path} that {} names: {error}", object::OBJECT_VARIABLE)]
    Object {
        /// Its path.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// The object can't be loaded.
    #[error("can't load the eBPF object: {0}")]
    Load(String),
    /// The kernel refused a probe.
    #[error("this kernel refused the probe {probe}: {reason}")]
    Refused {
        /// Its name.
        probe: &'static str,
        /// What the kernel said.
        reason: String,
    },
    /// Reading the first time failed.
    #[error("can't read the ledger: {0}")]
    Read(#[from] std::io::Error),
}

/// Loaded and attached probes. Dropping it detaches them.
pub struct Tracer {
    /// Holds the programs, maps and links.
    ebpf: Ebpf,
    iterator: OwnedFd,
    events: Events,
    operations: Option<Operations>,
    handed_out: HandedOut,
    probes: Vec<ProbeStatus>,
    attached_at: u64,
    #[cfg(feature = "debug-log")]
    print_log: Box<dyn FnMut() + Send>,
}

/// The tracepoint programs, in the order in which they are attached: the exit first and system calls last, so that
/// whatever has a ledger is folded and gives its slot back; forks before system calls, so that a ledger made in between
/// has its parent.
const TRACEPOINTS: [(&str, &str); 4] = [
    ("sched_process_exit", "the fold of exiting threads' ledgers"),
    ("sched_process_fork", "descendants"),
    ("sched_process_exec", "executed files"),
    ("sys_exit", "every path of a system call, Linux AIO, mode_switches.system_calls"),
];

impl Tracer {
    /// Loads the probes and attaches them to every process.
    ///
    /// # Errors
    /// If the kernel or the process's privileges do not suffice; nothing stays attached then.
    pub fn load(options: &Options<'_>) -> Result<Self, LoadError> {
        if !in_host_pid_namespace() {
            return Err(LoadError::PidNamespace);
        }
        let data = std::fs::read(BTF_PATH).map_err(LoadError::NoBtf)?;
        let btf = Btf::parse(&data)?;
        let cast = btf.function("bpf_rdonly_cast");
        let own_tgid = if options.exclude_self { u64::from(std::process::id()) } else { 0 };
        let families = optional(&btf, options.without);
        let sees = |name| OPTIONAL.iter().zip(&families).any(|(family, on)| family.name == name && on.is_ok());
        let config = Config {
            own_tgid,
            net: u64::from(sees(NET)),
            pass_through: u64::from(sees(PASS_THROUGH)),
            peers: u64::from(sees(PEERS)),
            ledgers: options.ledgers.code(),
            open_direct: libc::O_DIRECT as u64,
            casts: u64::from(cast.is_some()),
            types: offsets::types(&btf)?,
            offsets: offsets::resolve(&btf)?,
        };
        let blanks = Blanks { cast, config: &config };
        let mut ebpf = load_object(&blanks, options.rows, VerifierLogLevel::empty())?;
        let btf = aya::Btf::from_sys_fs().map_err(|error| LoadError::Load(error.to_string()))?;
        #[cfg(feature = "debug-log")]
        let print_log = log_printer(&mut ebpf)?;
        let mut probes = Vec::new();
        // Loading takes a while, in which the ring of events would fill: all are loaded before any is attached.
        let needed = TRACEPOINTS.map(|(name, _)| (name, name));
        let wanted = needed.iter().chain(families.iter().flatten().flatten());
        let mut refused = load_all(&mut ebpf, wanted, &btf);
        let mut check = |program: (&'static str, &'static str)| match refused.remove(program.0) {
            Some(reason) => Err(verifier_says(&blanks, options.rows, program, &btf).unwrap_or(reason)),
            None => Ok(()),
        };
        for program in needed {
            check(program).map_err(|reason| LoadError::Refused { probe: program.0, reason })?;
        }
        let mut check_all = |programs: Programs| {
            let mut check =
                |&program: &(&'static str, _)| check(program).map_err(|why| format!("{}: {why}", program.0));
            programs.iter().try_for_each(&mut check).map(|()| programs)
        };
        let loaded: Vec<_> = families.into_iter().map(|family| family.and_then(&mut check_all)).collect();
        let attached_at = nanoseconds_since_boot();
        for (name, provides) in TRACEPOINTS {
            attach(&mut ebpf, name).map_err(|reason| LoadError::Refused { probe: name, reason })?;
            probes.push(ProbeStatus { name, attached: true, reason: None, minimum_kernel: "6.1", provides });
        }
        let iterator =
            link_iterator(&mut ebpf, &btf).map_err(|reason| LoadError::Refused { probe: "iter_task", reason })?;
        let provides = "reading the threads' ledgers";
        probes.push(ProbeStatus { name: "iter_task", attached: true, reason: None, minimum_kernel: "6.1", provides });
        for (family, loaded) in OPTIONAL.iter().zip(loaded) {
            probes.push(family.status(loaded.and_then(|programs| attach_all(&mut ebpf, &programs))));
        }
        probes.extend(ProbeStatus::not_in_this_build());
        let operations = Operations::take(&mut ebpf)?;
        let events = Events::new(take(&mut ebpf, "EVENTS")?);
        Ok(Self {
            ebpf,
            iterator,
            events,
            operations: Some(operations),
            handed_out: HandedOut::new(),
            probes,
            attached_at,
            #[cfg(feature = "debug-log")]
            print_log,
        })
    }

    /// What became of each probe.
    #[must_use]
    pub fn probes(&self) -> &[ProbeStatus] {
        &self.probes
    }

    /// What tells operations one by one: for whoever asks first.
    pub fn take_operations(&mut self) -> Option<Operations> {
        self.operations.take()
    }

    /// Reads everything counted so far. Exited threads are handed out once.
    ///
    /// # Errors
    /// If the kernel refuses a read, for which no cause is known while the tracer lives.
    pub fn read(&mut self) -> std::io::Result<Reading> {
        let mut handed_out = std::mem::take(&mut self.handed_out);
        let reading = read::threads(self.iterator.as_fd(), self.fd("EXITED")?.fd().as_fd(), &mut handed_out);
        self.handed_out = handed_out;
        let mut reading = reading?;
        reading.attached_at = self.attached_at;
        reading.ended = read::ended(self.fd("TOTALS")?.fd().as_fd())?;
        reading.shared = read::shared(self.fd("SHARED")?.fd().as_fd())?;
        let cpus: PerCpuArray<_, PlainFallback> = self.map("FALLBACK")?;
        let cpus: PerCpuValues<_> = cpus.get(&0, 0).map_err(std::io::Error::other)?;
        reading.fallback = read::sum_fallback(cpus.iter().map(|cpu| &cpu.0));
        reading.devices = Devices { disks: self.devices("DISK_NAMES")?, network: self.devices("NET_DEVICES")? };
        reading.runs = self.runs();
        Ok(reading)
    }

    /// How often the probes' programs ran; one whose state can't be read is left out.
    fn runs(&self) -> Vec<ProbeRuns> {
        let of = |name: &'static str| {
            let program: &BtfTracePoint = self.ebpf.program(name)?.try_into().ok()?;
            let info = program.info().ok()?;
            Some(ProbeRuns { probe: name, runs: info.run_count(), time: info.run_time() })
        };
        let of_family = |family: &Family| {
            let all = family.programs.iter().filter_map(|(name, _)| of(name));
            all.reduce(|sum, one| ProbeRuns { probe: sum.probe, runs: sum.runs + one.runs, time: sum.time + one.time })
                .map(|sum| ProbeRuns { probe: family.name, ..sum })
        };
        TRACEPOINTS.iter().filter_map(|(name, _)| of(name)).chain(OPTIONAL.iter().filter_map(of_family)).collect()
    }

    /// Takes cells out of the shared ledger, with what is in them by now.
    ///
    /// # Errors
    /// If the kernel refuses, for which no cause is known.
    pub fn take_shared(&self, keys: &[SharedKey]) -> std::io::Result<Vec<(SharedKey, Cell)>> {
        read::take_shared(self.fd("SHARED")?.fd().as_fd(), keys)
    }

    /// Reads what was counted by peer; `None` if that probe is not attached.
    ///
    /// # Errors
    /// If the kernel refuses, for which no cause is known.
    pub fn peers(&self) -> std::io::Result<Option<PeersReading>> {
        if !self.probes.iter().any(|probe| probe.name == PEERS && probe.attached) {
            return Ok(None);
        }
        peers::read(self.fd("PEERS")?.fd().as_fd(), self.fd("UNIX_NAMES")?.fd().as_fd()).map(Some)
    }

    /// Forgets peers.
    ///
    /// # Errors
    /// If the kernel refuses, for which no cause is known.
    pub fn forget_peers(&self, keys: &[PeerKey]) -> std::io::Result<()> {
        peers::forget(self.fd("PEERS")?.fd().as_fd(), keys)
    }

    /// Takes the lifecycle events that wait.
    pub fn events(&mut self) -> Vec<Lifecycle> {
        #[cfg(feature = "debug-log")]
        (self.print_log)();
        self.events.drain()
    }

    /// Names of the devices in a map of them.
    fn devices(&self, name: &str) -> std::io::Result<Vec<String>> {
        let devices: Array<_, PlainDevice> = self.map(name)?;
        Ok(read::device_names(devices.iter().filter_map(Result::ok).map(|device| device.0)))
    }

    fn fd(&self, name: &str) -> std::io::Result<&MapData> {
        match self.ebpf.map(name) {
            Some(Map::HashMap(data) | Map::LruHashMap(data)) => Ok(data),
            _ => Err(std::io::Error::other(format!("the eBPF object has no hash map {name}"))),
        }
    }

    fn map<'a, M: TryFrom<&'a Map, Error = aya::maps::MapError>>(&'a self, name: &str) -> std::io::Result<M> {
        let map = self.ebpf.map(name).ok_or_else(|| std::io::Error::other(format!("no map {name}")))?;
        M::try_from(map).map_err(std::io::Error::other)
    }
}

/// Whether our pids are the kernel's own. Where /proc does not tell, that is presumed.
fn in_host_pid_namespace() -> bool {
    /// PROC_PID_INIT_INO (include/linux/proc_ns.h, v6.1).
    const HOST: u64 = 0xEFFF_FFFC;
    std::fs::metadata("/proc/self/ns/pid").map_or(true, |namespace| namespace.ino() == HOST)
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct PlainFallback(Fallback);
// SAFETY: plain integers without padding.
unsafe impl aya::Pod for PlainFallback {}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct PlainDevice(Device);
// SAFETY: plain integers without padding.
unsafe impl aya::Pod for PlainDevice {}

/// What processes' start times are told in.
pub(crate) fn nanoseconds_since_boot() -> u64 {
    // The clock is always there.
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
        .map_or(0, |now| std::time::Duration::from(now).as_nanos());
    u64::try_from(now).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_are_attached_first_and_system_calls_last() {
        assert_eq!((TRACEPOINTS[0].0, TRACEPOINTS[TRACEPOINTS.len() - 1].0), ("sched_process_exit", "sys_exit"));
    }
}
