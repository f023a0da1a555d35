//! Loading programs and attaching them: which this kernel has, all at once, and what it says of those that it refuses.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use aya::maps::Map;
use aya::programs::{BtfTracePoint, Iter};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use zc_common::config::{Config, table};
use zc_common::path::Row;

use super::btf::Btf;
use super::object::Blanks;
use super::probes::{Family, OPTIONAL};
use super::tracer::LoadError;
use super::{bpf, calls, object};

/// The programs that take longest to check, the longest last (60, 60, 60, 20 and 20 ms on 6.18).
const LONG: [&str; 5] = ["mm_page_alloc", "io_uring_submit", "io_uring_overflow", "io_uring_complete", "sys_exit"];

pub(super) fn load_object(blanks: &Blanks<'_>, rows: &[Row], log: VerifierLogLevel) -> Result<Ebpf, LoadError> {
    let mut bytes = object::bytes().map_err(|(path, error)| LoadError::Object { path, error })?;
    object::fill_in(bytes.to_mut(), blanks);
    let (native, compat, table) = (calls::native(), calls::compat(), table(rows));
    EbpfLoader::new()
        .verifier_log_level(log)
        .allow_unsupported_maps()
        .override_global("CALLS", &native, true)
        .override_global("COMPAT_CALLS", &compat, true)
        .override_global("TABLE", &table, true)
        .load(&bytes)
        .map_err(|error| match errno(&error) {
            Some(libc::EPERM) => LoadError::NotPermitted,
            _ => LoadError::Load(chain(&error)),
        })
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut BtfTracePoint, String> {
    let program = ebpf.program_mut(name).ok_or("the eBPF object lacks it")?;
    program.try_into().map_err(|error| chain(&error))
}

pub(super) fn load_program(ebpf: &mut Ebpf, name: &str, tracepoint: &str, btf: &aya::Btf) -> Result<(), String> {
    program(ebpf, name)?.load(tracepoint, btf).map_err(|error| chain(&error))
}

pub(super) fn attach(ebpf: &mut Ebpf, name: &str) -> Result<(), String> {
    program(ebpf, name)?.attach().map(drop).map_err(|error| chain(&error))
}

/// Programs and the tracepoints that they are for.
pub(super) type Programs = Vec<(&'static str, &'static str)>;

/// The programs of each optional family on this kernel, or why it can't be had.
pub(super) fn optional(btf: &Btf<'_>, without: &[&str]) -> Vec<Result<Programs, String>> {
    let programs = |family: &Family| match without.contains(&family.name) {
        true => Err("turned off as asked".to_owned()),
        false => family.on(btf),
    };
    OPTIONAL.iter().map(programs).collect()
}

/// Loads programs, on all processors at once, since checking them takes the kernel most of the start. What was refused, and
/// why.
pub(super) fn load_all<'a>(
    ebpf: &mut Ebpf,
    wanted: impl Iterator<Item = &'a (&'static str, &'static str)>,
    btf: &aya::Btf,
) -> HashMap<&'static str, String> {
    let wanted: HashMap<_, _> = wanted.copied().collect();
    let programs = ebpf.programs_mut().filter_map(|(name, program)| {
        let (&name, &tracepoint) = wanted.get_key_value(name)?;
        Some((name, tracepoint, program))
    });
    let mut queue: Vec<_> = programs.collect();
    // The last is taken first: whatever takes long must not come last.
    queue.sort_by_key(|(name, ..)| LONG.iter().position(|long| long == name));
    let mut refused: HashMap<_, _> =
        wanted.into_keys().map(|name| (name, "the eBPF object lacks it".to_owned())).collect();
    for (name, ..) in &queue {
        refused.remove(name);
    }
    let (queue, refused) = (Mutex::new(queue), Mutex::new(refused));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    let Some((name, tracepoint, program)) = next else { break };
                    let program: Result<&mut BtfTracePoint, _> = program.try_into();
                    if let Err(error) = program.and_then(|program| program.load(tracepoint, btf)) {
                        refused.lock().unwrap_or_else(PoisonError::into_inner).insert(name, chain(&error));
                    }
                }
            });
        }
    });
    refused.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Attaches programs: all or none.
pub(super) fn attach_all(ebpf: &mut Ebpf, programs: &Programs) -> Result<(), String> {
    let attached = programs.iter().try_for_each(|(name, _)| attach(ebpf, name));
    if attached.is_err() {
        for (name, _) in programs {
            // What can't be unloaded was never loaded.
            let _ = program(ebpf, name).map(BtfTracePoint::unload);
        }
    }
    attached
}

/// The last lines of what the verifier has to say of a program that it refused: it is asked again, since it is silent
/// unless asked to speak, and slow when it does.
pub(super) fn verifier_says(
    blanks: &Blanks<'_>,
    rows: &[Row],
    (name, tracepoint): (&str, &str),
    btf: &aya::Btf,
) -> Option<String> {
    const LINES: usize = 6;
    let mut ebpf = load_object(blanks, rows, VerifierLogLevel::DEBUG | VerifierLogLevel::STATS).ok()?;
    let said = load_program(&mut ebpf, name, tracepoint, btf).err()?;
    let lines: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Some(lines[lines.len().saturating_sub(LINES)..].join(" / "))
}

pub(super) fn link_iterator(ebpf: &mut Ebpf, btf: &aya::Btf) -> Result<OwnedFd, String> {
    let program = ebpf.program_mut("iter_task").ok_or("the eBPF object lacks it")?;
    let program: &mut Iter = program.try_into().map_err(|error| chain(&error))?;
    program.load("task", btf).map_err(|error| chain(&error))?;
    let fd = program.fd().map_err(|error| chain(&error))?;
    bpf::link_iterator(fd.as_fd()).map_err(|error| error.to_string())
}

/// Takes a map out of the object.
pub(super) fn take<M: TryFrom<Map, Error = aya::maps::MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<M, LoadError> {
    let map = ebpf.take_map(name).ok_or_else(|| LoadError::Load(format!("the eBPF object lacks the map {name}")))?;
    M::try_from(map).map_err(|error| LoadError::Load(chain(&error)))
}

/// What prints the kernel half's log lines. The built-in object has none; one that is built with its debug-log feature
/// has.
#[cfg(feature = "debug-log")]
pub(super) fn log_printer(ebpf: &mut Ebpf) -> Result<Box<dyn FnMut() + Send>, LoadError> {
    let mut logger = aya_log::EbpfLogger::init(ebpf)
        .map_err(|error| LoadError::Load(format!("it has no log ({}); build it with debug-log", chain(&error))))?;
    Ok(Box::new(move || logger.flush()))
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// The system error at the root of an error.
fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.raw_os_error();
        }
        cause = error.source();
    }
    None
}

/// Programs that do nothing, attached to the hot hook and to io_uring's: what the overhead benchmark holds the real ones
/// against.
pub struct EmptyProbe {
    _ebpf: Ebpf,
}

impl EmptyProbe {
    /// Attaches it until it is dropped.
    ///
    /// # Errors
    /// If tracing can't start here.
    pub fn attach() -> Result<Self, LoadError> {
        const PROGRAMS: [(&str, &[&str]); 3] = [
            ("sys_exit_empty", &["sys_exit"]),
            ("io_uring_complete_empty", &["io_uring_complete"]),
            // The name before 6.3 is the last.
            ("io_uring_submit_empty", &["io_uring_submit_req", "io_uring_submit_sqe"]),
        ];
        let mut ebpf = load_object(&Blanks { cast: None, config: &Config::default() }, &[], VerifierLogLevel::empty())?;
        let btf = aya::Btf::from_sys_fs().map_err(|error| LoadError::Load(error.to_string()))?;
        for (probe, tracepoints) in PROGRAMS {
            let mut loaded = Err(String::new());
            for tracepoint in tracepoints {
                loaded = loaded.or_else(|_| load_program(&mut ebpf, probe, tracepoint, &btf));
            }
            loaded.and_then(|()| attach(&mut ebpf, probe)).map_err(|reason| LoadError::Refused { probe, reason })?;
        }
        Ok(Self { _ebpf: ebpf })
    }
}
