//! Advice for many: by process and by group.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Advice, LEAST_BYTES, advise};
use crate::ledger::{Counters, GroupBy, Process, ProcessKey};
use crate::model::{Catalogue, ProcessInfo, profile};

/// What is copied needlessly, by process and by group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AdviceReport {
    /// The window that the figures are over; null if they are cumulative since each process was first seen.
    pub window_seconds: Option<f64>,
    /// Processes that there is something to say of, what saves most first.
    pub processes: Vec<ProcessAdvice>,
    /// The same for the groups of these processes.
    pub groups: Vec<GroupAdvice>,
}

/// Advice for one process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProcessAdvice {
    /// Which.
    pub process: ProcessInfo,
    /// What saves most first.
    pub advice: Vec<Advice>,
}

/// Advice for one group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GroupAdvice {
    /// Its name.
    pub group: String,
    /// What saves most first.
    pub advice: Vec<Advice>,
}

fn saved(advice: &[Advice]) -> u64 {
    advice.iter().map(|one| one.saved_copied_bytes).sum()
}

/// What there is to say of processes that did this. `enciphers` finds the library by which a process may encipher.
pub fn report<'a>(
    catalogue: &Catalogue,
    group_by: GroupBy,
    of: impl Iterator<Item = (&'a Process, Counters)>,
    window: Option<Duration>,
    enciphers: impl Fn(ProcessKey) -> Option<String>,
) -> AdviceReport {
    let say = |counters: &Counters, library: Option<&str>| {
        advise(catalogue, &profile(catalogue, Vec::new(), counters, window, 0), library)
    };
    let (mut processes, mut sums) = (Vec::new(), BTreeMap::<_, Counters>::new());
    for (process, counters) in of.filter(|(_, counters)| counters.iter().any(|(_, cell)| cell.bytes >= LEAST_BYTES)) {
        let mut advice = say(&counters, None);
        if advice.iter().any(|one| !one.advised)
            && let Some(library) = enciphers(process.key)
        {
            advice = say(&counters, Some(&library));
        }
        sums.entry(group_by.name_of(process)).or_default().add(&counters);
        if !advice.is_empty() {
            processes.push(ProcessAdvice { process: ProcessInfo::of(process), advice });
        }
    }
    processes.sort_by_key(|one| Reverse(saved(&one.advice)));
    let group = |(group, counters)| GroupAdvice { group, advice: say(&counters, None) };
    let mut groups: Vec<_> = sums.into_iter().map(group).filter(|one| !one.advice.is_empty()).collect();
    groups.sort_by_key(|one| Reverse(saved(&one.advice)));
    AdviceReport { window_seconds: window.map(|window| window.as_secs_f64()), processes, groups }
}
