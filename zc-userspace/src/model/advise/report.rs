//! Advice for many: by process and by group.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zc_common::passed;
use zc_common::record::COPIED_AFTER_ALL;

use super::{Advice, LEAST_BYTES, advise_from};
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
    /// Processes of it that moved anything worth a look.
    pub processes: usize,
    /// The sum of what is said of its processes, what saves most first.
    pub advice: Vec<Advice>,
}

fn saved(advice: &[Advice]) -> u64 {
    advice.iter().map(|one| one.saved_copied_bytes).sum()
}

/// Whether a process has done anything that there may be something to say of, be it little: others may do the same.
fn is_of_interest(counters: &Counters) -> bool {
    counters
        .iter()
        .any(|(cell, counted)| counted.bytes >= LEAST_BYTES || (passed::FIRST_CELL..COPIED_AFTER_ALL).contains(&cell))
}

/// Adds the advice for one process to its group's.
fn merge(sums: &mut Vec<Advice>, more: &[Advice]) {
    for one in more {
        let Some(sum) = sums.iter_mut().find(|sum| (&sum.source, &sum.sink) == (&one.source, &one.sink)) else {
            sums.push(one.clone());
            continue;
        };
        let (mut new, old) =
            if one.saved_copied_bytes > sum.saved_copied_bytes { (one.clone(), &*sum) } else { (sum.clone(), one) };
        new.read_bytes = new.read_bytes.zip(old.read_bytes).map(|(new, old)| new + old);
        new.written_bytes += old.written_bytes;
        new.candidate_bytes += old.candidate_bytes;
        new.saved_copied_bytes += old.saved_copied_bytes;
        new.saved_mode_switches += old.saved_mode_switches;
        let less = new.read_bytes.map_or(new.written_bytes, |read| read.min(new.written_bytes));
        new.share = if less == 0 { 0.0 } else { (new.candidate_bytes as f64 / less as f64).min(1.0) };
        *sum = new;
    }
}

/// What there is to say of processes that did this. `enciphers` finds the library by which a process may encipher.
pub fn report<'a>(
    catalogue: &Catalogue,
    group_by: GroupBy,
    of: impl Iterator<Item = (&'a Process, Counters)>,
    window: Option<Duration>,
    enciphers: impl Fn(ProcessKey) -> Option<String>,
) -> AdviceReport {
    let (mut processes, mut groups) = (Vec::new(), BTreeMap::<_, (usize, Vec<Advice>)>::new());
    for (process, counters) in of.filter(|(_, counters)| is_of_interest(counters)) {
        let profile = profile(catalogue, Vec::new(), &counters, window, 0);
        let mut advice = advise_from(catalogue, &profile, None, 1);
        if !advice.is_empty()
            && let Some(library) = enciphers(process.key)
        {
            advice = advise_from(catalogue, &profile, Some(&library), 1);
        }
        let (members, sums) = groups.entry(group_by.name_of(process)).or_default();
        *members += 1;
        merge(sums, &advice);
        advice.retain(|one| one.written_bytes >= LEAST_BYTES);
        if !advice.is_empty() {
            processes.push(ProcessAdvice { process: ProcessInfo::of(process), advice });
        }
    }
    processes.sort_by_key(|one| Reverse(saved(&one.advice)));
    let group = |(group, (processes, mut advice)): (String, (usize, Vec<Advice>))| {
        advice.retain(|one| one.written_bytes >= LEAST_BYTES);
        advice.sort_by_key(|one| Reverse((one.advised, one.saved_copied_bytes)));
        GroupAdvice { group, processes, advice }
    };
    let mut groups: Vec<_> = groups.into_iter().map(group).filter(|one| !one.advice.is_empty()).collect();
    groups.sort_by_key(|one| Reverse(saved(&one.advice)));
    AdviceReport { window_seconds: window.map(|window| window.as_secs_f64()), processes, groups }
}
