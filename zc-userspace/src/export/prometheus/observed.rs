//! What probes behind the system calls see. A metric of a probe that is not attached is absent.

use ::prometheus::{Error, IntCounterVec};

use super::Families;
use crate::export::About;
use crate::kernel::SCHED;
use crate::model::Profile;

/// The metrics of the probes that are attached.
pub(super) struct Metrics {
    context_switches: Option<IntCounterVec>,
    page_faults: Option<IntCounterVec>,
}

fn add(metric: Option<&IntCounterVec>, group: &str, label: &str, figure: Option<u64>) {
    if let (Some(metric), Some(figure)) = (metric, figure) {
        metric.with_label_values(&[group, label]).inc_by(figure);
    }
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
        })
    }

    /// Adds a group's.
    pub(super) fn add(&self, group: &str, profile: &Profile) {
        let switches = profile.context_switches;
        add(self.context_switches.as_ref(), group, "voluntary", switches.voluntary);
        add(self.context_switches.as_ref(), group, "involuntary", switches.involuntary);
        add(self.page_faults.as_ref(), group, "minor", profile.page_faults.minor);
        add(self.page_faults.as_ref(), group, "major", profile.page_faults.major);
    }
}
