//! The Grafana dashboards: a host, a group on it, and the fleet. The panels of the mechanisms are made from the
//! catalogue of copy paths.

use zc_common::path::{Condition, Mechanism, ROWS, Row};

use super::grafana::{Dashboard, Kind, Panel, Variable};
use super::paths::all_hops;

const HOST: &str = r#"job=~"$job", instance=~"$instance""#;
const GROUP: &str = r#"job=~"$job", instance=~"$instance", group=~"$group""#;
const FLEET: &str = r#"job=~"$job""#;

const JOB: Variable = Variable { name: "job", metric: "zcprof_build_info", several: true };
const INSTANCE: Variable = Variable { name: "instance", metric: r#"zcprof_build_info{job=~"$job"}"#, several: true };
const GROUPS: Variable = Variable {
    name: "group",
    metric: r#"zcprof_delivered_bytes_total{job=~"$job", instance=~"$instance"}"#,
    several: true,
};

/// `dashboards/grafana/host.json`.
pub(super) fn host() -> String {
    let dashboard = Dashboard {
        uid: "zcprof-host",
        title: "zcprof / host",
        description: "How the bytes of a host's processes move, and how often the CPU copies them.",
        variables: vec![JOB, INSTANCE],
        sections: vec![
            ("Now", now(HOST)),
            ("By group", by_group()),
            ("Copy paths", vec![paths(HOST), copied(HOST)]),
            ("Behind the calls", behind(HOST)),
            ("Verify rules of the configuration", rules()),
            ("zcprof itself", itself()),
        ],
    };
    dashboard.text()
}

/// `dashboards/grafana/group.json`.
pub(super) fn group() -> String {
    let dashboard = Dashboard {
        uid: "zcprof-group",
        title: "zcprof / group",
        description: "How one group of processes (a command name, unit, cgroup or pid: the daemon's --group-by) moves its bytes.",
        variables: vec![JOB, INSTANCE, GROUPS],
        sections: vec![
            ("Now", now(GROUP)),
            ("Copy paths", vec![paths(GROUP), copied(GROUP), unclassified(GROUP), operation_size(GROUP)]),
            ("By mechanism", Mechanism::ALL.iter().filter_map(|mechanism| by_mechanism(*mechanism)).collect()),
            ("Behind the calls", behind(GROUP)),
        ],
    };
    dashboard.text()
}

/// `dashboards/grafana/fleet.json`: of recording rules alone (`dashboards/zcprof.rules.yml`).
pub(super) fn fleet() -> String {
    let lines = |unit, title: &str, description: &str, rule: &str, legend: &str| {
        Panel::new(Kind::Lines, unit, title, description).query(format!("{rule}{{{FLEET}}}"), legend)
    };
    let stat = |unit, title: &str, description: &str, rule: &str| {
        Panel::new(Kind::Stat, unit, title, description).query(format!("{rule}{{{FLEET}}}"), "{{job}}")
    };
    let top = |rule: &str| format!("topk(10, {rule}{{{FLEET}}})");
    let dashboard = Dashboard {
        uid: "zcprof-fleet",
        title: "zcprof / fleet",
        description: "All hosts that run the daemon, summed by the recording rules in zcprof.rules.yml.",
        variables: vec![JOB],
        sections: vec![
            (
                "Now",
                vec![
                    stat("short", "Hosts", "Daemons that are scraped.", "job:zcprof_hosts:count"),
                    stat(
                        "none",
                        "Copies per byte",
                        "Bytes that the CPUs copied for each byte delivered. 0: nothing is copied.",
                        "job:zcprof_copies_per_byte:ratio_rate5m",
                    ),
                    stat("Bps", "Copied", "Bytes per second that the CPUs copied.", "job:zcprof_copied_bytes:rate5m"),
                    stat(
                        "short",
                        "Probes not attached",
                        "On all hosts together; the host's dashboard says which, and why.",
                        "job:zcprof_probes_missing:count",
                    ),
                ],
            ),
            (
                "Over time",
                vec![
                    lines(
                        "Bps",
                        "Delivered and copied",
                        "Bytes per second that reached files, sockets or devices.",
                        "job:zcprof_delivered_bytes:rate5m",
                        "delivered, {{job}}",
                    )
                    .query(format!("job:zcprof_copied_bytes:rate5m{{{FLEET}}}"), "copied, {{job}}")
                    .query(format!("job:zcprof_referenced_bytes:rate5m{{{FLEET}}}"), "by reference, {{job}}"),
                    lines(
                        "Bps",
                        "Payload by mechanism",
                        "Bytes per second by the call that moved them.",
                        "job_mechanism:zcprof_path_bytes:rate5m",
                        "{{mechanism}}",
                    ),
                    lines(
                        "Bps",
                        "Device DMA",
                        "Bytes per second that disks read and wrote and network devices transmitted, by direction.",
                        "job_direction:zcprof_dma_bytes:rate5m",
                        "{{direction}}",
                    ),
                    Panel::new(
                        Kind::Lines,
                        "none",
                        "Copies per byte by host",
                        "Bytes that the CPU copied for each byte delivered.",
                    )
                    .query(top("instance:zcprof_copies_per_byte:ratio_rate5m"), "{{instance}}"),
                ],
            ),
            (
                "Groups",
                vec![
                    Panel::new(
                        Kind::Lines,
                        "Bps",
                        "Copied by group",
                        "The ten groups for which the CPUs copy most, on all hosts together.",
                    )
                    .query(top("job_group:zcprof_copied_bytes:rate5m"), "{{group}}"),
                    Panel::new(
                        Kind::Lines,
                        "none",
                        "Copies per byte by group",
                        "The ten groups with most copies for each byte delivered.",
                    )
                    .query(top("job_group:zcprof_copies_per_byte:ratio_rate5m"), "{{group}}"),
                    Panel::new(
                        Kind::Lines,
                        "percentunit",
                        "Share sent by sendfile",
                        "Of what groups send to sockets; groups that never used sendfile have none.",
                    )
                    .query(
                        format!("instance_group:zcprof_sendfile_share:ratio_rate5m{{{FLEET}}}"),
                        "{{group}} on {{instance}}",
                    ),
                    Panel::new(
                        Kind::Lines,
                        "percentunit",
                        "Page cache missed",
                        "Bytes that disks read into the page cache for each byte that calls asked files for.",
                    )
                    .query(
                        format!("instance_group:zcprof_page_cache_missed:ratio_rate5m{{{FLEET}}}"),
                        "{{group}} on {{instance}}",
                    ),
                ],
            ),
        ],
    };
    dashboard.text()
}

fn rate(metric: &str, labels: &str) -> String {
    format!("rate({metric}{{{labels}}}[$__rate_interval])")
}

fn now(labels: &str) -> Vec<Panel> {
    let sum = |metric: &str| format!("sum({})", rate(metric, labels));
    let stat = |unit, title: &str, description: &str| Panel::new(Kind::Stat, unit, title, description);
    let (copied, delivered) = (sum("zcprof_copied_bytes_total"), sum("zcprof_delivered_bytes_total"));
    vec![
        stat("none", "Copies per byte", "Bytes that the CPU copied for each byte delivered. A file sent by read and write has 2, by mmap and write 1, by sendfile 0.")
            .query(format!("{copied} / ({delivered} > 0)"), "copies per byte"),
        stat("Bps", "Delivered", "Payload bytes per second into files, sockets and devices.").query(delivered.clone(), "delivered"),
        stat("Bps", "Copied by the CPU", "Bytes per second, all copies summed.").query(copied.clone(), "copied"),
        stat("Bps", "By reference", "Bytes per second that were handed over as pages instead of copied.")
            .query(sum("zcprof_referenced_bytes_total"), "by reference"),
    ]
}

fn by_group() -> Vec<Panel> {
    let top = |metric: &str| format!("topk(10, sum by (group) ({}))", rate(metric, HOST));
    vec![
        Panel::new(Kind::Lines, "Bps", "Copied by group", "The ten groups for which the CPU copies most.")
            .query(top("zcprof_copied_bytes_total"), "{{group}}"),
        Panel::new(
            Kind::Lines,
            "Bps",
            "Delivered by group",
            "The ten groups that deliver most bytes to files, sockets and devices.",
        )
        .query(top("zcprof_delivered_bytes_total"), "{{group}}"),
        Panel::new(
            Kind::Lines,
            "Bps",
            "By reference, by group",
            "The ten groups with most bytes handed over without a copy.",
        )
        .query(top("zcprof_referenced_bytes_total"), "{{group}}"),
        Panel::new(
            Kind::Lines,
            "none",
            "Copies per byte by group",
            "Bytes that the CPU copied for each byte delivered; groups that deliver nothing have none.",
        )
        .query(
            format!(
                "sum by (group) ({}) / (sum by (group) ({}) > 0)",
                rate("zcprof_copied_bytes_total", HOST),
                rate("zcprof_delivered_bytes_total", HOST)
            ),
            "{{group}}",
        ),
    ]
}

fn paths(labels: &str) -> Panel {
    Panel::new(
        Kind::Lines,
        "Bps",
        "Payload by copy path",
        "The ten copy paths (mechanism:source:sink) with most payload, as zcprof paths lists them.",
    )
    .query(
        format!("topk(10, sum by (mechanism, source, sink) ({}))", rate("zcprof_path_bytes_total", labels)),
        "{{mechanism}}:{{source}}:{{sink}}",
    )
}

fn copied(labels: &str) -> Panel {
    Panel::new(
        Kind::Stack,
        "Bps",
        "Copied by direction",
        "Into user memory, out of it, or within the kernel; modelled from the copy paths, or observed by a probe.",
    )
    .query(
        format!("sum by (direction, basis) ({})", rate("zcprof_copied_bytes_total", labels)),
        "{{direction}}, {{basis}}",
    )
}

fn unclassified(labels: &str) -> Panel {
    Panel::new(
        Kind::Lines,
        "Bps",
        "Unclassified",
        "Payload whose descriptor or buffer could not be resolved; it is in no path.",
    )
    .query(format!("sum({})", rate("zcprof_unclassified_bytes_total", labels)), "unclassified")
}

fn operation_size(labels: &str) -> Panel {
    let sum = |metric: &str| format!("sum by (mechanism) ({})", rate(metric, labels));
    Panel::new(
        Kind::Lines,
        "bytes",
        "Bytes per operation",
        "Payload of one call that moved bytes; small ones spend their time on switching modes.",
    )
    .query(
        format!("{} / ({} > 0)", sum("zcprof_path_bytes_total"), sum("zcprof_path_operations_total")),
        "{{mechanism}}",
    )
}

/// A mechanism's paths; none for one that nothing counts in this build.
fn by_mechanism(mechanism: Mechanism) -> Option<Panel> {
    let rows: Vec<&Row> = ROWS
        .iter()
        .filter(|row| row.mechanism == mechanism && row.condition == Condition::Always && row.inactive.is_none())
        .collect();
    if rows.is_empty() {
        return None;
    }
    let hops = rows.iter().map(|row| format!("{}: {}", row.id(), all_hops(row.hops))).collect::<Vec<_>>().join(". ");
    let labels = format!(r#"{GROUP}, mechanism="{mechanism}""#);
    let panel = Panel::new(Kind::Stack, "Bps", format!("{mechanism}: payload by source and sink"), &format!("{hops}."));
    Some(panel.query(
        format!("sum by (source, sink) ({})", rate("zcprof_path_bytes_total", &labels)),
        "{{source}} to {{sink}}",
    ))
}

fn behind(labels: &str) -> Vec<Panel> {
    let by = |label: &str, metric: &str| format!("sum by ({label}) ({})", rate(metric, labels));
    vec![
        Panel::new(Kind::Lines, "Bps", "Device DMA", "Bytes per second that disks read and wrote and physical network devices transmitted on behalf of these processes, by device and direction.")
            .query(by("device, direction", "zcprof_dma_bytes_total"), "{{device}} {{direction}}"),
        Panel::new(Kind::Lines, "Bps", "Page cache", "Bytes got from files through the page cache (requested), read into it from disk (missed), and the part that read-ahead asked for.")
            .query(by("kind", "zcprof_page_cache_bytes_total"), "{{kind}}"),
        Panel::new(Kind::Stack, "ops", "Mode switches", "User mode to the kernel and back: two for each system call, and for each page fault from user mode.")
            .query(by("cause", "zcprof_mode_switches_total"), "{{cause}}"),
        Panel::new(Kind::Stack, "ops", "Context switches", "The scheduler's: voluntary, when the process waits, or involuntary.")
            .query(by("kind", "zcprof_context_switches_total"), "{{kind}}"),
        Panel::new(Kind::Stack, "ops", "Page faults", "Minor ones, and major ones that wait for I/O.")
            .query(by("kind", "zcprof_page_faults_total"), "{{kind}}"),
        Panel::new(Kind::Lines, "Bps", "Pass-through candidates", "Bytes per second written out from the very memory that they had been read into, by source and sink: an upper bound of what sendfile or splice might have moved; zcprof advise says more.")
            .query(by("source, sink", "zcprof_pass_through_bytes_total"), "{{source}} to {{sink}}"),
        Panel::new(Kind::Lines, "Bps", "mmap of files", "Bytes per second that mmap calls asked to map; what faults then mapped is among the copy paths, as mmap.")
            .query(format!("sum({})", rate("zcprof_mmap_requested_bytes_total", labels)), "asked for"),
    ]
}

fn rules() -> Vec<Panel> {
    let description = "Of each rule's traffic, the share that takes the path claimed, and the share that is claimed; /api/v1/rules has the evidence. Without traffic there is no share.";
    let panel = Panel::new(Kind::Lines, "percentunit", "Verify rules", description)
        .query(format!("zcprof_verify_share_ratio{{{HOST}}}"), "{{rule}} on {{instance}}")
        .query(format!("zcprof_verify_min_share_ratio{{{HOST}}}"), "{{rule}} on {{instance}}, claimed");
    vec![panel]
}

fn itself() -> Vec<Panel> {
    let of = |metric: &str| rate(metric, HOST);
    vec![
        Panel::new(Kind::Table, "none", "Probes", "What is attached (1), and why what is not is not.")
            .query(format!("max by (instance, probe, reason) (zcprof_probe_attached{{{HOST}}})"), ""),
        Panel::new(
            Kind::Lines,
            "none",
            "Not counted for any process",
            "System calls, and lifecycle events lost. No byte of the ledger rests on events.",
        )
        .query(format!("sum({})", of("zcprof_fallback_system_calls_total")), "system calls")
        .query(format!("sum by (cause) ({})", of("zcprof_events_lost_total")), "events: {{cause}}"),
        Panel::new(
            Kind::Lines,
            "ops",
            "Unclassified operations",
            "System calls whose descriptor or buffer could not be resolved.",
        )
        .query(format!("sum({})", of("zcprof_operations_unclassified_total")), "operations"),
        Panel::new(
            Kind::Lines,
            "s",
            "Reading the ledger",
            "How long it takes to read and sum all that was counted: the 99th of 100.",
        )
        .query(
            format!("histogram_quantile(0.99, sum by (le) ({}))", of("zcprof_snapshot_duration_seconds_bucket")),
            "99 %",
        ),
        Panel::new(
            Kind::Lines,
            "percentunit",
            "CPU of the daemon",
            "In user space and in the kernel; the probes' own time shows below.",
        )
        .query(of("process_cpu_seconds_total"), "{{instance}}"),
        Panel::new(Kind::Lines, "bytes", "Memory of the daemon", "Resident.")
            .query(format!("process_resident_memory_bytes{{{HOST}}}"), "{{instance}}"),
        Panel::new(
            Kind::Lines,
            "percentunit",
            "CPU of the probes",
            "Only while kernel.bpf_stats_enabled is 1, which costs some 20 ns a run.",
        )
        .query(format!("sum by (probe) ({})", of("zcprof_probe_seconds_total")), "{{probe}}"),
        Panel::new(Kind::Lines, "ops", "Runs of the probes", "Only while kernel.bpf_stats_enabled is 1.")
            .query(format!("sum by (probe) ({})", of("zcprof_probe_runs_total")), "{{probe}}"),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn panels(text: &str) -> Vec<Value> {
        let all: Value = serde_json::from_str(text).unwrap();
        all["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row").cloned().collect()
    }

    #[test]
    fn every_panel_says_what_it_shows_and_in_which_unit() {
        for panel in [host(), group(), fleet()].iter().flat_map(|text| panels(text)) {
            let title = panel["title"].as_str().unwrap();
            assert!(!title.is_empty() && !panel["description"].as_str().unwrap().is_empty(), "{title}");
            assert!(!panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap().is_empty(), "{title}");
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{title}");
            for target in targets {
                let expression = target["expr"].as_str().unwrap();
                assert!(expression.contains(r#"job=~"$job""#), "{expression}");
                assert!(!expression.contains("rate(") || expression.contains("[$__rate_interval]"), "{expression}");
            }
        }
    }

    #[test]
    fn panels_do_not_cover_each_other() {
        for text in [host(), group(), fleet()] {
            let mut taken = std::collections::BTreeSet::new();
            for panel in panels(&text) {
                let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
                assert!(at("x") + at("w") <= 24);
                for (x, y) in
                    (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
                {
                    assert!(taken.insert((x, y)), "{} at {x}, {y}", panel["title"]);
                }
            }
        }
    }

    #[test]
    fn each_mechanism_that_is_counted_has_a_panel_and_no_other() {
        let text = group();
        for mechanism in Mechanism::ALL {
            let counted = ROWS.iter().any(|row| row.mechanism == *mechanism && row.inactive.is_none());
            let expression = format!(r#"mechanism=\"{mechanism}\""#);
            assert_eq!(text.contains(&expression), counted, "{mechanism}");
        }
        assert!(text.contains("sendfile:file:tcp: page_cache → socket_buffer (reference)"), "{text}");
    }
}
