//! The overhead benchmark (`cargo xtask bench overhead`): what one system call costs untraced, under an empty program,
//! under zcprof, and under other tracers, side by side in one run.
//!
//! Rounds of all tracers alternate, so that a slow minute of a noisy machine hits all of them; medians are compared.

use std::ffi::CString;
use std::io::Write as _;
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use zcprof::agent::{Agent, ONE_SHOT};
use zcprof::kernel::{EmptyProbe, kernel_release};
use zcprof::model::Catalogue;

/// The calls measured, in the order of the columns.
const CALLS: [&str; 6] = [
    "getppid",
    "read 1 B of /dev/zero",
    "pread 4 KiB cached",
    "write 4 KiB to tmpfs",
    "send 64 KiB",
    "io_uring READ 4 KiB cached, 32 at once",
];
/// Samples of each call in one measurement; the child reports their median.
const SAMPLES: usize = 15;

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("measure") => measure(&std::env::args().nth(2).context("measure NAME-OF-SCALE")?),
        Some("--rounds") => report(std::env::args().nth(2).context("--rounds N")?.parse()?),
        None => report(5),
        Some(other) => bail!("unknown argument {other}; usage: overhead [--rounds N]"),
    }
}

/// A tracer to compare.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tracer {
    Nothing,
    Empty,
    Zcprof,
    Bpftrace,
    Syscount,
    PerfTrace,
    Strace,
}

impl Tracer {
    const ALL: [Self; 7] =
        [Self::Nothing, Self::Empty, Self::Zcprof, Self::Bpftrace, Self::Syscount, Self::PerfTrace, Self::Strace];

    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing attached",
            Self::Empty => "empty tp_btf programs on sys_exit, and io_uring's submit and complete",
            Self::Zcprof => "zcprof",
            Self::Bpftrace => "bpftrace: sum of bytes by pid",
            Self::Syscount => "libbpf-tools syscount",
            Self::PerfTrace => "perf trace -s",
            Self::Strace => "strace -c",
        }
    }

    /// The program that it needs, where it is not zcprof's own.
    fn program(self) -> Option<&'static str> {
        match self {
            Self::Bpftrace => Some("bpftrace"),
            Self::Syscount => Some("syscount"),
            Self::PerfTrace => Some("perf"),
            Self::Strace => Some("strace"),
            Self::Nothing | Self::Empty | Self::Zcprof => None,
        }
    }

    /// Tracers that stop the process at each call get fewer calls.
    fn scale(self) -> &'static str {
        if matches!(self, Self::PerfTrace | Self::Strace) { "few" } else { "many" }
    }
}

fn installed(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut folders: Vec<_> = std::env::split_paths(&path).collect();
    folders.push("/usr/sbin".into());
    folders.into_iter().map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Nanoseconds per call of each of [`CALLS`].
type Costs = [f64; CALLS.len()];

/// The other tracers want tracefs where they expect it: mounted for this process and its children alone.
fn mount_tracefs() -> Result<()> {
    use nix::mount::{MsFlags, mount};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).context("a mount namespace of its own (needs root)")?;
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
    mount(nothing, "/sys/kernel/debug", Some("debugfs"), MsFlags::empty(), nothing)?;
    mount(nothing, "/sys/kernel/tracing", Some("tracefs"), MsFlags::empty(), nothing)?;
    Ok(())
}

fn report(rounds: usize) -> Result<()> {
    mount_tracefs()?;
    let mut costs: Vec<(Tracer, Vec<Costs>)> = Vec::new();
    for tracer in Tracer::ALL {
        match tracer.program() {
            Some(program) if installed(program).is_none() => {
                eprintln!("{}: {program} is not installed, left out", tracer.name());
            }
            _ => costs.push((tracer, Vec::new())),
        }
    }
    for round in 0..rounds {
        for (tracer, samples) in &mut costs {
            eprintln!("round {}/{rounds}: {}", round + 1, tracer.name());
            samples.push(run(*tracer)?);
        }
    }
    let medians: Vec<(Tracer, Costs)> = costs
        .iter()
        .map(|(tracer, samples)| {
            let mut medians = [0.0; CALLS.len()];
            for (call, cost) in medians.iter_mut().enumerate() {
                *cost = median(samples.iter().map(|sample| sample[call]).collect());
            }
            (*tracer, medians)
        })
        .collect();
    print(&medians, rounds);
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print(medians: &[(Tracer, Costs)], rounds: usize) {
    let of = |wanted: Tracer| medians.iter().find(|(tracer, _)| *tracer == wanted).map(|(_, costs)| *costs);
    println!(
        "Kernel {}, {rounds} rounds, medians; nanoseconds per call.\n",
        kernel_release().split('-').next().unwrap_or_default()
    );
    println!("| tracer | {} |", CALLS.join(" | "));
    println!("|---|{}", "---|".repeat(CALLS.len()));
    let Some(base) = of(Tracer::Nothing) else { return };
    for (tracer, costs) in medians {
        let cells: Vec<String> = costs
            .iter()
            .zip(base)
            .map(
                |(cost, base)| {
                    if *tracer == Tracer::Nothing { format!("{cost:.0}") } else { format!("{:+.0}", cost - base) }
                },
            )
            .collect();
        println!("| {} | {} |", tracer.name(), cells.join(" | "));
    }
    let (Some(empty), Some(zcprof)) = (of(Tracer::Empty), of(Tracer::Zcprof)) else { return };
    println!("\n| ratio | measured | bound |\n|---|---|---|");
    println!("| getppid under zcprof / under the empty program, whole call | {:.2} | 2 |", zcprof[0] / empty[0]);
    println!("| the same, what is added | {:.2} | |", (zcprof[0] - base[0]) / (empty[0] - base[0]));
    println!("| added to a completion of a 4 KiB cached READ, ns | {:.0} | 100 |", zcprof[5] - base[5]);
    println!("| what empty programs on the same tracepoints add to it, ns | {:.0} | |", empty[5] - base[5]);
    if let Some(bpftrace) = of(Tracer::Bpftrace) {
        let ratio = (zcprof[1] - base[1]) / (bpftrace[1] - base[1]);
        println!("| what zcprof adds to a 1-byte read of /dev/zero / what bpftrace's sum adds | {ratio:.2} | 0.5 |");
    }
}

/// Measures once under one tracer.
fn run(tracer: Tracer) -> Result<Costs> {
    match tracer {
        Tracer::Nothing => measured(&mut own(tracer)?),
        Tracer::Empty => {
            let _probe = EmptyProbe::attach()?;
            measured(&mut own(tracer)?)
        }
        Tracer::Zcprof => {
            let _agent = Agent::start(Catalogue::default(), ONE_SHOT)?;
            measured(&mut own(tracer)?)
        }
        Tracer::Bpftrace => beside(tracer, &["-q", "-e", BPFTRACE]),
        Tracer::Syscount => beside(tracer, &["-d", "600"]),
        Tracer::PerfTrace => around(tracer, &["trace", "-s", "-o", "/dev/null"]),
        Tracer::Strace => around(tracer, &["-c", "-f", "-o", "/dev/null"]),
    }
}

const BPFTRACE: &str = "tracepoint:syscalls:sys_exit_read, tracepoint:syscalls:sys_exit_pread64, \
     tracepoint:syscalls:sys_exit_write, tracepoint:syscalls:sys_exit_sendto /args->ret > 0/ { @[pid] = sum(args->ret); }";

fn own(tracer: Tracer) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["measure", tracer.scale()]);
    Ok(command)
}

/// Runs the tracer beside the measurement.
fn beside(tracer: Tracer, arguments: &[&str]) -> Result<Costs> {
    let program = tracer.program().and_then(installed).context("not installed")?;
    let child = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let mut guard = Stop(child);
    // Long enough for either to compile and attach; a tracer that ended meanwhile could not trace.
    std::thread::sleep(Duration::from_secs(4));
    if let Some(status) = guard.0.try_wait()? {
        bail!("{} ended early: {status}", tracer.name());
    }
    measured(&mut own(tracer)?)
}

struct Stop(Child);

impl Drop for Stop {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        // Gone already: nothing to stop.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT);
        let _ = self.0.wait();
    }
}

/// Runs the measurement under the tracer.
fn around(tracer: Tracer, arguments: &[&str]) -> Result<Costs> {
    let program = tracer.program().and_then(installed).context("not installed")?;
    let mut command = Command::new(program);
    command.args(arguments).arg(std::env::current_exe()?).args(["measure", tracer.scale()]);
    measured(&mut command)
}

fn measured(command: &mut Command) -> Result<Costs> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("costs ")).context("the measurement printed no costs")?;
    let mut costs = [0.0; CALLS.len()];
    for (cost, word) in costs.iter_mut().zip(line.split(' ')) {
        *cost = word.parse()?;
    }
    Ok(costs)
}

/// In the child: measures every call and prints one line.
fn measure(scale: &str) -> Result<()> {
    let calls = if scale == "few" { 200 } else { 100_000 };
    let zero = std::fs::File::open("/dev/zero")?;
    let mut page = vec![1_u8; 64 << 10];
    let cached = scratch(c"cached")?;
    (&cached).write_all(&page[..4096])?;
    let scratch = scratch(c"scratch")?;
    let (left, right) = std::os::unix::net::UnixStream::pair()?;
    let drain = std::thread::spawn(move || {
        let mut sink = vec![0; 1 << 20];
        while std::io::Read::read(&mut &right, &mut sink).is_ok_and(|n| n != 0) {}
    });
    let buffer = page.as_mut_ptr();
    let on_disk = on_disk()?;
    (&on_disk).write_all(&vec![1; 4096])?;
    let mut ring = Ring::new(on_disk.as_raw_fd(), buffer)?;
    // SAFETY: each call passes a live descriptor and a buffer of at least the length given.
    let costs = unsafe {
        [
            cost(calls, || libc::syscall(libc::SYS_getppid) as isize),
            cost(calls, || libc::read(zero.as_raw_fd(), buffer.cast(), 1)),
            cost(calls, || libc::pread(cached.as_raw_fd(), buffer.cast(), 4096, 0)),
            cost(calls, || libc::pwrite(scratch.as_raw_fd(), buffer.cast(), 4096, 0)),
            cost(calls / 20, || libc::send(left.as_raw_fd(), buffer.cast(), 64 << 10, 0)),
            cost(calls / Ring::BATCH, || ring.read()) / Ring::BATCH as f64,
        ]
    };
    drop(left);
    let _ = drain.join();
    println!("costs {}", costs.map(|cost| cost.to_string()).join(" "));
    Ok(())
}

/// Reads through io_uring, a batch in each system call.
struct Ring {
    ring: io_uring::IoUring,
    read: io_uring::squeue::Entry,
}

impl Ring {
    const BATCH: usize = 32;

    fn new(fd: i32, buffer: *mut u8) -> Result<Self> {
        let ring = io_uring::IoUring::new(Self::BATCH as u32).context("making an io_uring")?;
        Ok(Self { ring, read: io_uring::opcode::Read::new(io_uring::types::Fd(fd), buffer, 4096).build() })
    }

    /// One batch; how many came back with all bytes.
    fn read(&mut self) -> isize {
        for _ in 0..Self::BATCH {
            // SAFETY: the buffer and the descriptor live as long as the measurement.
            assert!(unsafe { self.ring.submission().push(&self.read) }.is_ok(), "the queue holds a batch");
        }
        assert!(self.ring.submit_and_wait(Self::BATCH).is_ok(), "the batch is submitted");
        let whole = self.ring.completion().filter(|one| one.result() == 4096).count();
        assert_eq!(whole, Self::BATCH, "every read is of 4 KiB");
        whole as isize
    }
}

/// A nameless file beside this program: requests on a file of a tmpfs are left to worker threads, since it does not say
/// whether it would wait.
fn on_disk() -> Result<std::fs::File> {
    let path = std::env::current_exe()?.with_extension(format!("{}.scratch", std::process::id()));
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

fn scratch(name: &std::ffi::CStr) -> Result<std::fs::File> {
    let name = CString::from(name);
    Ok(nix::sys::memfd::memfd_create(name.as_c_str(), nix::sys::memfd::MFdFlags::empty())?.into())
}

/// Median nanoseconds of one call.
fn cost(calls: usize, mut call: impl FnMut() -> isize) -> f64 {
    let calls = calls.max(1);
    let samples = (0..SAMPLES).map(|_| {
        let start = Instant::now();
        for _ in 0..calls {
            std::hint::black_box(call());
        }
        start.elapsed().as_nanos() as f64 / calls as f64
    });
    median(samples.collect())
}
