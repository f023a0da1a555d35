//! What probes behind the system calls see. A metric of a probe that is not attached is absent.

use ::prometheus::{Error, IntCounterVec};
use zc_common::record::{DISK_DIRECT, DISK_WRITE, DISKS, NET_OTHER};

use super::Families;
use crate::export::About;
use crate::kernel::{BLOCK, Devices, NET, PASS_THROUGH, SCHED};
use crate::ledger::Counters;
use crate::model::Profile;

/// The metrics of the probes that are attached.
pub(super) struct Metrics {
    context_switches: Option<IntCounterVec>,
    page_faults: Option<IntCounterVec>,
    sigbus: Option<IntCounterVec>,
    page_cache: Option<IntCounterVec>,
    dma: Option<IntCounterVec>,
    pass_through: Option<IntCounterVec>,
    network: Option<IntCounterVec>,
}

fn add(metric: Option<&IntCounterVec>, group: &str, label: &str, figure: Option<u64>) {
    if let (Some(metric), Some(figure)) = (metric, figure) {
        metric.with_label_values(&[group, label]).inc_by(figure);
    }
}

/// Device, direction and bytes, where there are any.
fn by_device<'a>(counters: &Counters, devices: &'a Devices) -> Vec<(&'a str, &'static str, u64)> {
    let mut all = by_disk(counters, &devices.disks);
    for place in 0..=NET_OTHER {
        let device = devices.network.get(place).map_or("other", String::as_str);
        let (bytes, _) = counters.transmitted(|one| one == place);
        if bytes > 0 {
            all.push((device, "transmit", bytes));
        }
    }
    all
}

fn by_disk<'a>(counters: &Counters, disks: &'a [String]) -> Vec<(&'a str, &'static str, u64)> {
    let mut all = Vec::new();
    for place in 0..=DISKS as u8 {
        let device = disks.get(usize::from(place)).map_or("other", String::as_str);
        for (direction, write) in [("read", 0), ("write", DISK_WRITE)] {
            let bytes = counters.disk_at(place, write) + counters.disk_at(place, write | DISK_DIRECT);
            if bytes > 0 {
                all.push((device, direction, bytes));
            }
        }
    }
    all
}

/// What devices moved for no process that could be told: a journal, swap, what loop devices have below, packets without
/// a socket.
pub(super) fn unattributed(
    families: &Families,
    about: &About,
    counters: &Counters,
    devices: &Devices,
) -> Result<(), Error> {
    if !sees_dma(about) {
        return Ok(());
    }
    let help = "Bytes that devices moved by DMA for no process that could be told.";
    let dma = families.counters("zcprof_unattributed_dma_bytes_total", help, &["device", "direction"])?;
    for (device, direction, bytes) in by_device(counters, devices) {
        dma.with_label_values(&[device, direction]).inc_by(bytes);
    }
    Ok(())
}

fn sees_dma(about: &About) -> bool {
    about.catalogue.sees.contains(BLOCK) || about.catalogue.sees.contains(NET)
}

impl Metrics {
    /// Registers them.
    pub(super) fn new(families: &Families, about: &About) -> Result<Self, Error> {
        let seen = |probe: &str, name: &str, help: &str, label: &str| {
            let seen = about.catalogue.sees.contains(probe);
            seen.then(|| families.counters(name, help, &["group", label])).transpose()
        };
        Ok(Self {
            context_switches: seen(
                SCHED,
                "zcprof_context_switches_total",
                "Context switches as the kernel counts them: voluntary, involuntary.",
                "kind",
            )?,
            page_faults: seen(
                SCHED,
                "zcprof_page_faults_total",
                "Page faults as the kernel counts them: minor, major.",
                "kind",
            )?,
            sigbus: about
                .catalogue
                .sees
                .contains(SCHED)
                .then(|| {
                    let help = "Page faults that found nothing to map and ended in SIGBUS.";
                    families.counters("zcprof_sigbus_faults_total", help, &["group"])
                })
                .transpose()?,
            page_cache: seen(
                BLOCK,
                "zcprof_page_cache_bytes_total",
                "Bytes got from files through the page cache (requested), read into it from disk (missed), and the part of those that read-ahead asked for.",
                "kind",
            )?,
            network: seen(
                NET,
                "zcprof_network_bytes_total",
                "Bytes of sockets handed to network devices (transmitted, paged, virtual: with headers), and payload copied into one piece for a device without scatter-gather (linearized), copied although it was handed over (copied_after_all), and sent again (retransmitted).",
                "kind",
            )?,
            pass_through: about
                .catalogue
                .sees
                .contains(PASS_THROUGH)
                .then(|| {
                    let help = "Bytes written out from where they had been read into: an upper bound of what sendfile or splice might have moved.";
                    families.counters("zcprof_pass_through_bytes_total", help, &["group", "source", "sink"])
                })
                .transpose()?,
            dma: sees_dma(about)
                .then(|| {
                    let help = "Bytes that devices moved by DMA.";
                    families.counters("zcprof_dma_bytes_total", help, &["group", "device", "direction"])
                })
                .transpose()?,
        })
    }

    /// Adds a group's.
    pub(super) fn add(&self, group: &str, counters: &Counters, profile: &Profile, devices: &Devices) {
        if let Some(dma) = &self.dma {
            for (device, direction, bytes) in by_device(counters, devices) {
                dma.with_label_values(&[group, device, direction]).inc_by(bytes);
            }
        }
        if let (Some(metric), Some(all)) = (&self.pass_through, &profile.pass_through) {
            for one in all {
                metric.with_label_values(&[group, &one.source, &one.sink]).inc_by(one.bytes);
            }
        }
        let cache = profile.page_cache;
        add(self.page_cache.as_ref(), group, "requested", cache.requested_bytes);
        add(self.page_cache.as_ref(), group, "missed", cache.missed_bytes);
        add(self.page_cache.as_ref(), group, "read_ahead", cache.read_ahead_bytes);
        let network = profile.network;
        for (kind, figure) in [
            ("transmitted", network.transmitted_bytes),
            ("paged", network.paged_bytes),
            ("virtual", network.virtual_bytes),
            ("linearized", network.linearized_bytes),
            ("copied_after_all", network.copied_after_all_bytes),
            ("retransmitted", network.retransmitted_bytes),
        ] {
            add(self.network.as_ref(), group, kind, figure);
        }
        let switches = profile.context_switches;
        add(self.context_switches.as_ref(), group, "voluntary", switches.voluntary);
        add(self.context_switches.as_ref(), group, "involuntary", switches.involuntary);
        add(self.page_faults.as_ref(), group, "minor", profile.page_faults.minor);
        add(self.page_faults.as_ref(), group, "major", profile.page_faults.major);
        if let (Some(metric), Some(faults)) = (&self.sigbus, profile.page_faults.sigbus) {
            metric.with_label_values(&[group]).inc_by(faults);
        }
    }
}
