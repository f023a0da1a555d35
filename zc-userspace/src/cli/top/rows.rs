//! The table's rows: what each process did between two snapshots, sorted and filtered. Pure.

use std::cmp::Ordering;

use clap::ValueEnum;

use crate::ledger::{Counters, Process, ProcessKey, Snapshot};
use crate::model::{Catalogue, Profile, profile};

/// What the table is sorted by: its columns, from left to right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// Process id.
    Pid,
    /// Command name.
    Command,
    /// Bytes copied by the CPU.
    Copied,
    /// Bytes delivered.
    Delivered,
    /// Copied per delivered byte.
    CopiesPerByte,
    /// Bytes handed over by reference.
    Reference,
    /// Bytes moved by disks.
    Disk,
    /// System calls.
    Calls,
}

impl Sort {
    /// Names and numbers of which people look for the first or least one first.
    pub(super) fn ascends(self) -> bool {
        matches!(self, Self::Pid | Self::Command)
    }

    /// The column so many to the right, around the end.
    pub(super) fn step(self, by: isize) -> Self {
        let all = Self::value_variants();
        let at = all.iter().position(|one| *one == self).unwrap_or_default();
        all[at.saturating_add_signed(by + all.len().cast_signed()) % all.len()]
    }
}

/// One process's line. Figures are per second.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) key: ProcessKey,
    /// As the process chose it: to be sanitized before it is shown.
    pub(super) comm: String,
    pub(super) exited: bool,
    pub(super) copied: f64,
    pub(super) delivered: f64,
    /// None where nothing was delivered.
    pub(super) copies_per_byte: Option<f64>,
    pub(super) referenced: f64,
    /// None where no probe sees disks.
    pub(super) disk: Option<f64>,
    pub(super) calls: f64,
}

/// What a process did between two snapshots; everything, if the first does not know it.
pub(super) fn between(catalogue: &Catalogue, then: &Snapshot, now: &Snapshot, process: &Process) -> Profile {
    let counters: Counters = match then.by_key(process.key) {
        Some(before) => process.counters.since(&before.counters),
        None => process.counters.clone(),
    };
    profile(catalogue, Vec::new(), &counters, Some(now.taken.duration_since(then.taken)), 0)
}

/// A row for each process but ourselves and those that had ended before, unsorted.
pub(super) fn rows(catalogue: &Catalogue, then: &Snapshot, now: &Snapshot) -> Vec<(Row, String)> {
    let own = std::process::id();
    let seconds = now.taken.duration_since(then.taken).as_secs_f64();
    let per_second = |figure: u64| if seconds > 0.0 { figure as f64 / seconds } else { 0.0 };
    let gone = |process: &Process| then.by_key(process.key).is_some_and(|then| then.exited);
    let shown = now.processes.iter().filter(|process| process.key.tgid != own && !gone(process));
    let row = |process: &Process| {
        let did = between(catalogue, then, now, process);
        let disk = [did.dma_bytes.disk_read, did.dma_bytes.disk_write].into_iter().flatten().reduce(|a, b| a + b);
        Row {
            key: process.key,
            comm: process.comm.clone(),
            exited: process.exited,
            copied: per_second(did.copied_bytes.total()),
            delivered: per_second(did.delivered_bytes),
            copies_per_byte: did.copies_per_byte,
            referenced: per_second(did.referenced_bytes),
            disk: disk.map(per_second),
            calls: per_second(did.mode_switches.system_calls / 2),
        }
    };
    shown.map(|process| (row(process), names(process))).collect()
}

/// What the filter looks into.
fn names(process: &Process) -> String {
    let more = [&process.exe, &process.unit, &process.container, &process.cgroup];
    let more = more.into_iter().flatten().map(String::as_str);
    std::iter::once(process.comm.as_str()).chain(more).collect::<Vec<_>>().join("\0")
}

/// Sorts; equals by pid. What has no figure comes last either way.
pub(super) fn sort(rows: &mut [Row], by: Sort, reversed: bool) {
    let figure = |row: &Row| match by {
        Sort::Copied => Some(row.copied),
        Sort::Delivered => Some(row.delivered),
        Sort::CopiesPerByte => row.copies_per_byte,
        Sort::Reference => Some(row.referenced),
        Sort::Disk => row.disk,
        Sort::Calls => Some(row.calls),
        Sort::Pid | Sort::Command => Some(0.0),
    };
    rows.sort_by(|a, b| {
        let order = match by {
            Sort::Pid => a.key.cmp(&b.key),
            Sort::Command => a.comm.cmp(&b.comm),
            _ => figure(a).unwrap_or_default().total_cmp(&figure(b).unwrap_or_default()),
        };
        let order = if by.ascends() == reversed { order.reverse() } else { order };
        let last = |row: &Row| figure(row).is_none();
        last(a).cmp(&last(b)).then(order).then_with(|| a.key.cmp(&b.key))
    });
}

/// 1234567 as `1.2M`, in units of 1000; below 1000 whole numbers.
pub(super) fn short(figure: f64) -> String {
    let mut rest = figure;
    for unit in ["", "k", "M", "G"] {
        if rest.total_cmp(&999.5) == Ordering::Less {
            return if unit.is_empty() || rest >= 100.0 {
                format!("{rest:.0}{unit}")
            } else {
                format!("{rest:.1}{unit}")
            };
        }
        rest /= 1000.0;
    }
    format!("{rest:.1}T")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::super::window::tests::{process, snapshot};
    use super::*;

    fn sample() -> Vec<Row> {
        let then = snapshot(vec![process(5, 5, None, "a", 1000), process(7, 7, None, "c", 0)]);
        let mut now = snapshot(vec![
            process(5, 5, None, "a", 5000),
            process(6, 60, None, "b", 8000),
            process(7, 7, None, "c", 0),
            process(std::process::id(), 8, None, "zcprof", 0),
        ]);
        now.taken = then.taken + Duration::from_secs(2);
        rows(&Catalogue::default(), &then, &now).into_iter().map(|(row, _)| row).collect()
    }

    fn order(by: Sort, reversed: bool) -> Vec<u32> {
        let mut rows = sample();
        sort(&mut rows, by, reversed);
        rows.iter().map(|row| row.key.tgid).collect()
    }

    #[test]
    fn figures_are_per_second_and_what_is_new_counts_from_zero() {
        let rows = sample();
        assert_eq!(rows.iter().map(|row| row.copied).collect::<Vec<_>>(), [2000.0, 4000.0, 0.0]);
        assert_eq!((rows[0].copies_per_byte, rows[2].copies_per_byte), (Some(1.0), None));
        assert_eq!(rows[0].disk, None, "no probe sees it");
    }

    #[test]
    fn what_had_exited_before_is_not_shown_again() {
        let gone = Arc::new(Process { exited: true, ..Arc::unwrap_or_clone(process(5, 5, None, "a", 9)) });
        let then = snapshot(vec![gone.clone()]);
        assert!(rows(&Catalogue::default(), &then, &snapshot(vec![gone])).is_empty());
    }

    #[test]
    fn greatest_figures_and_first_names_come_first_and_nothing_last() {
        assert_eq!(order(Sort::Copied, false), [6, 5, 7]);
        assert_eq!(order(Sort::Copied, true), [7, 5, 6]);
        assert_eq!(order(Sort::Command, false), [5, 6, 7]);
        assert_eq!(order(Sort::Pid, true), [7, 6, 5]);
        assert_eq!(order(Sort::CopiesPerByte, true), [5, 6, 7]);
    }

    #[test]
    fn columns_go_around() {
        assert_eq!(Sort::Calls.step(1), Sort::Pid);
        assert_eq!(Sort::Pid.step(-1), Sort::Calls);
        assert_eq!(Sort::Copied.step(1), Sort::Delivered);
    }

    #[test]
    fn short_figures() {
        for (figure, text) in [
            (0.0, "0"),
            (12.4, "12"),
            (999.4, "999"),
            (999.6, "1.0k"),
            (123_456.0, "123k"),
            (1e9, "1.0G"),
            (2.5e15, "2500.0T"),
        ] {
            assert_eq!(short(figure), text);
        }
    }
}
