//! The scale benchmark (`cargo xtask bench scale`): start, memory and response times of the daemon beside many
//! processes.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use zcprof::agent::{Agent, ONE_SHOT};
use zcprof::kernel::kernel_release;
use zcprof::model::Catalogue;

/// Requests of each kind; far enough apart that each gets a reading of its own.
const REQUESTS: usize = 50;
const PAUSE: Duration = Duration::from_millis(50);

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("--processes"), Some(count)) => report(count.parse()?),
        (None, _) => report(1000),
        _ => bail!("usage: scale [--processes N]"),
    }
}

/// Ended and reaped when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn report(count: usize) -> Result<()> {
    let first = first_counted_byte()?;
    let crowd: Vec<Running> = (0..count)
        .map(|_| Ok(Running(Command::new("sleep").arg("600").stdin(Stdio::null()).spawn()?)))
        .collect::<Result<_>>()?;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let start = Instant::now();
    let daemon = Running(
        Command::new(zcprof_binary()?)
            .args(["daemon", "--log.level", "error", "--web.listen-address", &format!("127.0.0.1:{port}")])
            .stdin(Stdio::null())
            .spawn()?,
    );
    while get(port, "/-/ready").is_err() {
        if start.elapsed() > Duration::from_secs(30) {
            bail!("the daemon is not ready after 30 seconds");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let ready = start.elapsed();
    std::thread::sleep(Duration::from_secs(3));
    let idle = resident(&daemon)?;
    let pid = crowd.last().map_or(1, |one| one.0.id());
    let profile = times(port, &format!("/api/v1/processes/{pid}"))?;
    let metrics = times(port, "/metrics")?;
    let list = times(port, "/api/v1/processes")?;
    let loaded = resident(&daemon)?;
    println!(
        "Kernel {}, {count} sleeping processes, {REQUESTS} requests of each kind.\n",
        kernel_release().split('-').next().unwrap_or_default()
    );
    println!("| what | median | worst | bound |\n|---|---|---|---|");
    println!("| start of loading to the first counted byte | {} ms | | 200 ms |", millis(first));
    println!("| start of the daemon to ready | {} ms | | |", millis(ready));
    println!("| GET /api/v1/processes/PID | {} ms | {} ms | 10 ms |", millis(profile.0), millis(profile.1));
    println!("| GET /metrics | {} ms | {} ms | 50 ms |", millis(metrics.0), millis(metrics.1));
    println!("| GET /api/v1/processes | {} ms | {} ms | |", millis(list.0), millis(list.1));
    println!("| resident memory, idle | {:.1} MiB | | 40 MiB |", idle as f64 / 1024.0);
    println!("| resident memory after the requests | {:.1} MiB | | 40 MiB |", loaded as f64 / 1024.0);
    Ok(())
}

/// From the start of loading until a byte that another process moves afterwards is in a reading: median of five.
fn first_counted_byte() -> Result<Duration> {
    let mover = Running(
        Command::new("dd")
            .args(["if=/dev/zero", "of=/dev/null", "bs=1"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?,
    );
    let mut samples = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        let agent = Agent::start(Catalogue::default(), ONE_SHOT)?;
        loop {
            let snapshot = agent.observe()?;
            if snapshot
                .by_pid(mover.0.id())
                .is_some_and(|process| process.counters.iter().any(|(_, cell)| cell.bytes != 0))
            {
                break;
            }
        }
        samples.push(start.elapsed());
    }
    samples.sort_unstable();
    Ok(samples[samples.len() / 2])
}

/// target/release/zcprof, beside this program.
fn zcprof_binary() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let binary = this.parent().context("this program lies in a folder")?.join("zcprof");
    if !binary.is_file() {
        bail!("{} is not there: run `cargo xtask bench scale`, which builds it", binary.display());
    }
    Ok(binary)
}

fn get(port: u16, path: &str) -> Result<usize> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    if !answer.starts_with(b"HTTP/1.1 200") {
        bail!("{path}: {}", String::from_utf8_lossy(&answer[..answer.len().min(200)]));
    }
    Ok(answer.len())
}

/// Median and worst response time.
fn times(port: u16, path: &str) -> Result<(Duration, Duration)> {
    let mut samples = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        std::thread::sleep(PAUSE);
        let start = Instant::now();
        get(port, path)?;
        samples.push(start.elapsed());
    }
    samples.sort_unstable();
    Ok((samples[REQUESTS / 2], samples[REQUESTS - 1]))
}

/// Resident memory in KiB.
fn resident(process: &Running) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.0.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn millis(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1e3)
}
