//! `/metrics`: a snapshot in Prometheus's text format.
//!
//! What this build or kernel can't observe is absent, never 0. The number of series is bounded by the ledger's groups.

mod observed;
mod process;

use ::prometheus::core::Collector;
use ::prometheus::{
    CounterVec, Encoder as _, Error, GaugeVec, Histogram, IntCounter, IntCounterVec, Opts, Registry, TextEncoder,
};
use zc_common::path::PathId;

use super::{About, VERSION};
use crate::ledger::Snapshot;
use crate::model::{Basis, Profile, profile};

/// The content type of [`render`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The sinks whose payload is not delivered but brought where the process can use it (see DESIGN, "Delivered").
const NOT_DELIVERED: [&str; 3] = ["user", "mapping", "pipe"];

/// Renders a snapshot.
///
/// # Errors
/// Only if two metrics had the same name, which the tests rule out.
pub fn render(about: &About, snapshot: &Snapshot, durations: &Histogram) -> Result<Vec<u8>, Error> {
    let families = Families(Registry::new());
    groups(&families, about, snapshot)?;
    fallback(&families, about, snapshot)?;
    itself(&families, about, snapshot)?;
    families.add(durations.clone())?;
    process::add(&families)?;
    let mut text = Vec::with_capacity(1 << 15);
    TextEncoder::new().encode(&families.0.gather(), &mut text)?;
    Ok(text)
}

/// The metrics of one scrape.
struct Families(Registry);

impl Families {
    fn add<C: Collector + Clone + 'static>(&self, family: C) -> Result<C, Error> {
        self.0.register(Box::new(family.clone()))?;
        Ok(family)
    }

    fn counter(&self, name: &str, help: &str, value: u64) -> Result<(), Error> {
        let counter = self.add(IntCounter::new(name, help)?)?;
        counter.inc_by(value);
        Ok(())
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, Error> {
        self.add(GaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str, value: f64) -> Result<(), Error> {
        let none: [&str; 0] = [];
        self.gauges(name, help, &none)?.with_label_values(&none).set(value);
        Ok(())
    }
}

fn basis_name(basis: Basis) -> &'static str {
    match basis {
        Basis::Modelled => "modelled",
        Basis::Observed => "observed",
    }
}

/// Payload into sinks that deliver. A profile's figure counts payload into user where there is none of it; a group
/// may turn from the one kind into the other, and a counter may not go down.
fn delivered(profile: &Profile) -> u64 {
    let paths = profile.paths.iter().filter(|path| !NOT_DELIVERED.contains(&path.sink.as_str()));
    paths.map(|path| path.bytes).sum()
}

fn groups(families: &Families, about: &About, snapshot: &Snapshot) -> Result<(), Error> {
    const PATH: [&str; 4] = ["group", "mechanism", "source", "sink"];
    const GROUP: [&str; 1] = ["group"];
    let path_bytes = families.counters("zcprof_path_bytes_total", "Payload bytes by copy path.", &PATH)?;
    let path_operations =
        families.counters("zcprof_path_operations_total", "System calls that moved bytes, by copy path.", &PATH)?;
    let copied = families.counters(
        "zcprof_copied_bytes_total",
        "Bytes that the CPU copied, by direction: the sum over all CPU hops.",
        &["group", "direction", "basis"],
    )?;
    let referenced = families.counters(
        "zcprof_referenced_bytes_total",
        "Bytes that were handed over by reference instead of copied.",
        &GROUP,
    )?;
    let enciphered = families.counters(
        "zcprof_enciphered_bytes_total",
        "Bytes that the CPU enciphered on their way into a socket, instead of copying them (kernel TLS).",
        &GROUP,
    )?;
    let delivered_bytes = families.counters(
        "zcprof_delivered_bytes_total",
        "Payload bytes of the paths whose sink is not user, mapping or pipe.",
        &GROUP,
    )?;
    let switches = families.counters(
        "zcprof_mode_switches_total",
        "Switches from user mode to the kernel and back: two for each system call, and for each page fault from user mode.",
        &["group", "cause"],
    )?;
    let observed = observed::Metrics::new(families, about)?;
    let unclassified = families.counters(
        "zcprof_unclassified_bytes_total",
        "Payload bytes whose descriptor or buffer could not be resolved; they are in no path.",
        &GROUP,
    )?;
    let mmap_bytes = families.counters(
        "zcprof_mmap_requested_bytes_total",
        "Bytes that mmap calls of files asked to map.",
        &GROUP,
    )?;
    let mmap_calls = families.counters("zcprof_mmap_calls_total", "mmap calls of files.", &GROUP)?;
    let copy_seconds = copy_cost(families, about)?;
    for (group, counters) in &snapshot.groups {
        let group = group.as_str();
        let profile = profile(&about.catalogue, Vec::new(), counters, None, 0);
        for path in &profile.paths {
            let labels = [group, &path.mechanism, &path.source, &path.sink];
            path_bytes.with_label_values(&labels).inc_by(path.bytes);
            path_operations.with_label_values(&labels).inc_by(path.operations);
        }
        let directions = profile.copied_bytes;
        // What probes see copied is copied in the kernel.
        let seen = profile.observed_copies();
        for (direction, basis, bytes) in [
            ("to_user", Basis::Modelled, directions.to_user),
            ("from_user", Basis::Modelled, directions.from_user),
            ("in_kernel", Basis::Modelled, directions.in_kernel - seen),
            ("in_kernel", Basis::Observed, seen),
        ] {
            copied.with_label_values(&[group, direction, basis_name(basis)]).inc_by(bytes);
        }
        if let (Some(seconds), Some(cost)) = (&copy_seconds, profile.copy_cost) {
            seconds.with_label_values(&[group]).inc_by(cost.cpu_seconds);
        }
        enciphered.with_label_values(&[group]).inc_by(profile.enciphered_bytes);
        referenced.with_label_values(&[group]).inc_by(profile.referenced_bytes);
        delivered_bytes.with_label_values(&[group]).inc_by(delivered(&profile));
        switches.with_label_values(&[group, "system_call"]).inc_by(profile.mode_switches.system_calls);
        if let Some(faults) = profile.mode_switches.page_faults {
            switches.with_label_values(&[group, "page_fault"]).inc_by(faults);
        }
        observed.add(group, counters, &profile, &snapshot.devices);
        unclassified.with_label_values(&[group]).inc_by(profile.lost.unclassified_bytes);
        mmap_bytes.with_label_values(&[group]).inc_by(profile.mmap.requested_bytes);
        mmap_calls.with_label_values(&[group]).inc_by(profile.mmap.calls);
    }
    Ok(())
}

/// What copies cost, where the bandwidth was measured.
fn copy_cost(families: &Families, about: &About) -> Result<Option<CounterVec>, Error> {
    let Some(bandwidth) = about.catalogue.copy_bandwidth else { return Ok(None) };
    let help = "Bytes that a processor copied in a second, measured over 4 MiB when the agent started.";
    families.gauge("zcprof_copy_bandwidth_bytes_per_second", help, bandwidth as f64)?;
    let help = "Processor time that the copied bytes took: modelled, by the bandwidth measured when the agent started.";
    let seconds = Opts::new("zcprof_copy_cpu_seconds_total", help);
    Ok(Some(families.add(CounterVec::new(seconds, &["group"])?)?))
}

/// What could be counted for no process is in no group: it has metrics of its own, so that nothing is hidden.
fn fallback(families: &Families, about: &About, snapshot: &Snapshot) -> Result<(), Error> {
    const PATH: [&str; 3] = ["mechanism", "source", "sink"];
    let counters = snapshot.unattributed();
    let bytes = families.counters(
        "zcprof_fallback_bytes_total",
        "Payload bytes that could be counted for no process, by copy path.",
        &PATH,
    )?;
    let operations = families.counters(
        "zcprof_fallback_operations_total",
        "System calls that moved bytes and could be counted for no process, by copy path.",
        &PATH,
    )?;
    for (PathId { mechanism, source, sink }, totals) in about.catalogue.paths(&counters) {
        let labels = [mechanism.name(), source.name(), sink.name()];
        bytes.with_label_values(&labels).inc_by(totals.bytes);
        operations.with_label_values(&labels).inc_by(totals.operations);
    }
    families.counter(
        "zcprof_fallback_unclassified_bytes_total",
        "Payload bytes that could be counted neither for a process nor on a path.",
        counters.unclassified().bytes,
    )?;
    observed::unattributed(families, about, &counters, &snapshot.devices)?;
    families.counter(
        "zcprof_fallback_system_calls_total",
        "System calls that could be counted for no process.",
        counters.system_calls,
    )?;
    families.counter(
        "zcprof_system_calls_without_ledger_total",
        "System calls of threads that could have no ledger of their own; they are counted for their processes.",
        snapshot.fallback.without_ledger,
    )?;
    families.counter(
        "zcprof_slots_evicted_total",
        "Slots of threads whose exit was missed, emptied when their stack was used again; what was in them is counted.",
        snapshot.fallback.evicted,
    )?;
    families.counter(
        "zcprof_fallback_threads_total",
        "Exited threads whose totals could be counted for no process.",
        snapshot.fallback.threads,
    )
}

fn itself(families: &Families, about: &About, snapshot: &Snapshot) -> Result<(), Error> {
    let labels = ["version", "kernel"];
    let info = families.gauges("zcprof_build_info", "This build and the kernel that it runs on; always 1.", &labels)?;
    info.with_label_values(&[VERSION, &about.kernel]).set(1.0);
    let attached =
        families.gauges("zcprof_probe_attached", "Whether a probe is attached, and why not.", &["probe", "reason"])?;
    for probe in &about.probes {
        let labels = [probe.name, probe.reason.as_deref().unwrap_or_default()];
        attached.with_label_values(&labels).set(f64::from(u8::from(probe.attached)));
    }
    runs(families, snapshot)?;
    let lost = families.counters(
        "zcprof_events_lost_total",
        "Lifecycle events that were lost; no byte of the ledger rests on them.",
        &["cause"],
    )?;
    lost.with_label_values(&["ring_full"]).inc_by(snapshot.fallback.events_lost);
    let of_groups = snapshot.groups.values().map(|counters| counters.unclassified().operations);
    families.counter(
        "zcprof_operations_unclassified_total",
        "System calls whose descriptor or buffer could not be resolved, of all groups and of no process.",
        of_groups.sum::<u64>() + snapshot.unattributed().unclassified().operations,
    )
}

/// Only where the kernel counts them: zeroes would say that the probes do not run.
fn runs(families: &Families, snapshot: &Snapshot) -> Result<(), Error> {
    if snapshot.runs.iter().all(|one| one.runs == 0) {
        return Ok(());
    }
    let help = "Runs of a probe while kernel.bpf_stats_enabled was 1.";
    let runs = families.counters("zcprof_probe_runs_total", help, &["probe"])?;
    let help = "Time that they took.";
    let seconds = families.add(CounterVec::new(Opts::new("zcprof_probe_seconds_total", help), &["probe"])?)?;
    for one in &snapshot.runs {
        runs.with_label_values(&[one.probe]).inc_by(one.runs);
        seconds.with_label_values(&[one.probe]).inc_by(one.time.as_secs_f64());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use zc_common::record::{CELL_NO_DESCRIPTOR, Cell};

    use super::super::testing::{about, counters, snapshot};
    use super::*;
    use crate::ledger::Counters;

    fn text(snapshot: &Snapshot) -> String {
        let durations = Histogram::with_opts(::prometheus::HistogramOpts::new("zcprof_x_seconds", "x")).unwrap();
        String::from_utf8(render(&about(), snapshot, &durations).unwrap()).unwrap()
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|one| one == line), "no line\n{line}\nin\n{text}");
    }

    #[test]
    fn promtool_finds_nothing_to_complain_about() {
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool, from Debian's package prometheus");
        promtool.stdin.take().unwrap().write_all(text(&snapshot()).as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn the_ledger_by_group() {
        let text = text(&snapshot());
        for line in [
            r#"zcprof_path_bytes_total{group="nginx",mechanism="sendfile",sink="tcp",source="file"} 900"#,
            r#"zcprof_path_operations_total{group="nginx",mechanism="sendfile",sink="tcp",source="file"} 1"#,
            r#"zcprof_copied_bytes_total{basis="modelled",direction="from_user",group="nginx"} 100"#,
            r#"zcprof_referenced_bytes_total{group="nginx"} 900"#,
            r#"zcprof_delivered_bytes_total{group="nginx"} 1000"#,
            r#"zcprof_mode_switches_total{cause="system_call",group="nginx"} 20"#,
            r#"zcprof_unclassified_bytes_total{group="nginx"} 7"#,
            r#"zcprof_mmap_requested_bytes_total{group="nginx"} 4096"#,
            r#"zcprof_mmap_calls_total{group="nginx"} 1"#,
        ] {
            has(&text, line);
        }
    }

    #[test]
    fn what_no_process_has_and_what_the_daemon_is() {
        let text = text(&snapshot());
        for line in [
            r#"zcprof_fallback_bytes_total{mechanism="read",sink="user",source="file"} 50"#,
            "zcprof_fallback_system_calls_total 3",
            "zcprof_fallback_threads_total 1",
            r#"zcprof_events_lost_total{cause="ring_full"} 5"#,
            "zcprof_operations_unclassified_total 1",
            r#"zcprof_probe_runs_total{probe="sys_exit"} 7"#,
            r#"zcprof_probe_seconds_total{probe="sys_exit"} 0.25"#,
            r#"zcprof_probe_attached{probe="sys_exit",reason=""} 1"#,
            r#"zcprof_probe_attached{probe="net",reason="not in this build"} 0"#,
        ] {
            has(&text, line);
        }
        assert!(text.contains("zcprof_build_info{kernel=\"6.1.0-test\""));
        assert!(text.contains("process_resident_memory_bytes ") && text.contains("process_start_time_seconds 1"));
    }

    #[test]
    fn what_is_not_observed_is_absent() {
        let text = text(&snapshot());
        for name in ["dma_bytes", "page_faults", "context_switches", "page_cache", "pass_through"] {
            assert!(!text.contains(name), "{name}");
        }
        assert!(!text.contains(r#"cause="page_fault""#));
    }

    #[test]
    fn what_is_observed_is_there() {
        use zc_common::record::{
            CELL_CACHE_FILLS, CELL_SWITCHES, CELL_USER_FAULTS, DISK_DIRECT, DISK_KINDS, DISK_WRITE, DISKS,
            FIRST_DISK_CELL,
        };
        let (mut about, mut snapshot) = (about(), snapshot());
        about.catalogue.sees.extend([crate::kernel::SCHED, crate::kernel::FAULTS, crate::kernel::BLOCK]);
        let other = FIRST_DISK_CELL + DISKS as u8 * DISK_KINDS;
        for (cell, operations, bytes) in [
            (CELL_SWITCHES, 3, 4),
            (CELL_USER_FAULTS, 5, 0),
            (CELL_CACHE_FILLS, 100, 200),
            (FIRST_DISK_CELL, 1, 200),
            (FIRST_DISK_CELL + DISK_DIRECT, 1, 30),
            (other + DISK_WRITE, 1, 7),
        ] {
            snapshot.groups.get_mut("nginx").unwrap().add_cell(cell, Cell { operations, bytes });
        }
        snapshot.fallback.cells.push(((FIRST_DISK_CELL + DISK_WRITE).into(), Cell { operations: 1, bytes: 9 }));
        let durations = Histogram::with_opts(::prometheus::HistogramOpts::new("zcprof_x_seconds", "x")).unwrap();
        let text = String::from_utf8(render(&about, &snapshot, &durations).unwrap()).unwrap();
        for line in [
            r#"zcprof_context_switches_total{group="nginx",kind="voluntary"} 3"#,
            r#"zcprof_context_switches_total{group="nginx",kind="involuntary"} 4"#,
            r#"zcprof_mode_switches_total{cause="page_fault",group="nginx"} 10"#,
            r#"zcprof_page_cache_bytes_total{group="nginx",kind="missed"} 200"#,
            r#"zcprof_page_cache_bytes_total{group="nginx",kind="read_ahead"} 100"#,
            r#"zcprof_page_cache_bytes_total{group="nginx",kind="requested"} 900"#,
            r#"zcprof_dma_bytes_total{device="vda",direction="read",group="nginx"} 230"#,
            r#"zcprof_dma_bytes_total{device="other",direction="write",group="nginx"} 7"#,
            r#"zcprof_unattributed_dma_bytes_total{device="vda",direction="write"} 9"#,
        ] {
            has(&text, line);
        }
    }

    #[test]
    fn hostile_group_names_stay_inside_their_label() {
        let mut snapshot = snapshot();
        snapshot.groups.insert("a\"} 1\nzcprof_evil 1\\\u{1b}[2J\u{fffd}".to_owned(), Counters::with_calls(1));
        let text = text(&snapshot);
        assert!(!text.lines().any(|line| line.starts_with("zcprof_evil")));
        assert!(text.contains("{group=\"a\\\"} 1\\nzcprof_evil 1\\\\\u{1b}[2J\u{fffd}\"} 0"), "{text}");
    }

    #[test]
    fn delivered_never_goes_down_when_a_reader_begins_to_send() {
        let of = |cells: &[(&str, u64)]| delivered(&profile(&about().catalogue, Vec::new(), &counters(cells), None, 0));
        let reading = of(&[("read:file:user", 100)]);
        assert!(reading <= of(&[("read:file:user", 100), ("write:user:tcp", 5)]));
    }

    #[test]
    fn runs_that_the_kernel_does_not_count_are_absent() {
        let mut snapshot = snapshot();
        snapshot.runs[0].runs = 0;
        assert!(!text(&snapshot).contains("zcprof_probe_runs"));
    }

    #[test]
    fn unclassified_of_the_fallback_is_counted() {
        let mut snapshot = snapshot();
        snapshot.fallback.cells.push((CELL_NO_DESCRIPTOR.into(), Cell { operations: 2, bytes: 9 }));
        let text = text(&snapshot);
        has(&text, "zcprof_operations_unclassified_total 3");
        has(&text, "zcprof_fallback_unclassified_bytes_total 9");
    }

    #[test]
    fn as_many_series_as_groups() {
        let mut snapshot = snapshot();
        let all = counters(&[("read:file:user", 1), ("write:user:tcp", 1)]);
        snapshot.groups = (0..512).map(|number| (number.to_string(), all.clone())).collect();
        let begun = std::time::Instant::now();
        let text = text(&snapshot);
        assert_eq!(text.lines().filter(|line| line.starts_with("zcprof_path_bytes_total{")).count(), 1024);
        assert!(begun.elapsed().as_secs() < 2);
    }
}
