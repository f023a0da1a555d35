//! What every exporter tells of its own process: CPU, memory, start.

use std::time::{SystemTime, UNIX_EPOCH};

use ::prometheus::{Counter, Error};
use nix::sys::resource::{UsageWho, getrusage};

use super::Families;

/// The daemon's own process, by the names that every exporter uses. Absent where /proc does not tell.
pub(super) fn add(families: &Families) -> Result<(), Error> {
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        let counter = Counter::new("process_cpu_seconds_total", "CPU time of the daemon, in seconds.")?;
        families.add(counter)?.inc_by(seconds(usage.user_time()) + seconds(usage.system_time()));
    }
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = statm.split_ascii_whitespace().map_while(|field| field.parse::<u64>().ok());
    if let (Some(all), Some(resident)) = (pages.next(), pages.next())
        && let Ok(Some(size)) = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
    {
        let bytes = |pages: u64| pages as f64 * size as f64;
        families.gauge("process_virtual_memory_bytes", "Virtual memory of the daemon.", bytes(all))?;
        families.gauge("process_resident_memory_bytes", "Resident memory of the daemon.", bytes(resident))?;
    }
    if let Some(start) = start_time() {
        families.gauge("process_start_time_seconds", "When the daemon started, in seconds since 1970.", start)?;
    }
    Ok(())
}

/// When this process started: /proc/self is made with it.
fn start_time() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Fields are counted behind the command name, which may hold anything: field 22 is the start (proc(5)).
    let ticks: f64 = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()?? as f64;
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
    // Whole seconds: the two clocks are not read at one time, and the value must not waver.
    Some((now - uptime + ticks / per_second).round())
}
