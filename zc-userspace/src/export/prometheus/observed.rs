//! What probes behind the system calls see. A metric of a probe that is not attached is absent.

use ::prometheus::{Error, IntCounterVec};
use zc_common::record::{DISK_DIRECT, DISK_WRITE, DISKS};

use super::Families;
use crate::export::About;
use crate::kernel::{BLOCK, SCHED};
use crate::ledger::Counters;
use crate::model::Profile;

/// The metrics of the probes that are attached.
pub(super) struct Metrics {
    context_switches: Option<IntCounterVec>,
    page_faults: Option<IntCounterVec>,
    sigbus: Option<IntCounterVec>,
    page_cache: Option<IntCounterVec>,
    dma: Option<IntCounterVec>,
}

fn add(metric: Option<&IntCounterVec>, group: &str, label: &str, figure: Option<u64>) {
    if let (Some(metric), Some(figure)) = (metric, figure) {
        metric.with_label_values(&[group, label]).inc_by(figure);
    }
}

/// Device, direction and bytes, where there are any.
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

/// What disks moved for no process that could be told: a journal, swap, what loop devices have below.
pub(super) fn unattributed(
    families: &Families,
    about: &About,
    counters: &Counters,
    disks: &[String],
) -> Result<(), Error> {
    if !about.catalogue.sees.contains(BLOCK) {
        return Ok(());
    }
    let help = "Bytes that devices moved by DMA for no process that could be told.";
    let dma = families.counters("zcprof_unattributed_dma_bytes_total", help, &["device", "direction"])?;
    for (device, direction, bytes) in by_disk(counters, disks) {
        dma.with_label_values(&[device, direction]).inc_by(bytes);
    }
    Ok(())
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
            dma: about
                .catalogue
                .sees
                .contains(BLOCK)
                .then(|| {
                    let help = "Bytes that devices moved by DMA.";
                    families.counters("zcprof_dma_bytes_total", help, &["group", "device", "direction"])
                })
                .transpose()?,
        })
    }

    /// Adds a group's.
    pub(super) fn add(&self, group: &str, counters: &Counters, profile: &Profile, disks: &[String]) {
        if let Some(dma) = &self.dma {
            for (device, direction, bytes) in by_disk(counters, disks) {
                dma.with_label_values(&[group, device, direction]).inc_by(bytes);
            }
        }
        let cache = profile.page_cache;
        add(self.page_cache.as_ref(), group, "requested", cache.requested_bytes);
        add(self.page_cache.as_ref(), group, "missed", cache.missed_bytes);
        add(self.page_cache.as_ref(), group, "read_ahead", cache.read_ahead_bytes);
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
