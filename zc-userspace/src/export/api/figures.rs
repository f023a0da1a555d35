//! The figures that lists show of a process or group, and how a list is sorted by them.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::{ProcessInfo, Profile};

/// What lists show of a profile. All are cumulative.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct Figures {
    /// System calls that moved bytes.
    operations: u64,
    /// Payload bytes of all paths.
    bytes: u64,
    /// Bytes that the CPU copied.
    copied_bytes: u64,
    /// Bytes handed over by reference.
    referenced_bytes: u64,
    /// Payload of the paths whose sink is not user, mapping or pipe; where there is none, payload into user.
    delivered_bytes: u64,
    /// Copied per delivered byte; null when nothing was delivered.
    copies_per_byte: Option<f64>,
    /// System calls of any kind.
    system_calls: u64,
    /// Payload in no path, because its descriptor or buffer could not be resolved.
    unclassified_bytes: u64,
}

/// A process in a list.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct ProcessRow {
    #[serde(flatten)]
    pub(super) process: ProcessInfo,
    #[serde(flatten)]
    figures: Figures,
}

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct GroupRow {
    /// The group's name, as in the metrics.
    pub(super) group: String,
    #[serde(flatten)]
    pub(super) figures: Figures,
}

/// What a list is sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Sort {
    #[default]
    Bytes,
    Copied,
    Delivered,
    CopiesPerByte,
    Pid,
    Comm,
}

/// Which way a list is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    Asc,
    Desc,
}

impl Figures {
    pub(super) fn of(profile: &Profile) -> Self {
        Self {
            operations: profile.paths.iter().map(|path| path.operations).sum(),
            bytes: profile.paths.iter().map(|path| path.bytes).sum(),
            copied_bytes: profile.copied_bytes.total(),
            referenced_bytes: profile.referenced_bytes,
            delivered_bytes: profile.delivered_bytes,
            copies_per_byte: profile.copies_per_byte,
            system_calls: profile.mode_switches.system_calls / 2,
            unclassified_bytes: profile.lost.unclassified_bytes,
        }
    }
}

impl ProcessRow {
    pub(super) fn of(process: ProcessInfo, profile: &Profile) -> Self {
        Self { process, figures: Figures::of(profile) }
    }

    fn compare(&self, other: &Self, sort: Sort) -> Ordering {
        let (a, b) = (&self.figures, &other.figures);
        match sort {
            Sort::Bytes => a.bytes.cmp(&b.bytes),
            Sort::Copied => a.copied_bytes.cmp(&b.copied_bytes),
            Sort::Delivered => a.delivered_bytes.cmp(&b.delivered_bytes),
            Sort::CopiesPerByte => a.copies_per_byte.unwrap_or(0.0).total_cmp(&b.copies_per_byte.unwrap_or(0.0)),
            Sort::Pid => self.process.pid.cmp(&other.process.pid),
            Sort::Comm => self.process.comm.cmp(&other.process.comm),
        }
    }
}

/// Sorts: figures from the greatest and names from the first on, unless an order is given; equals by pid. A process
/// that delivered nothing has no copies per byte and comes last either way.
pub(super) fn sort(rows: &mut [ProcessRow], sort: Sort, order: Option<Order>) {
    let order = order.unwrap_or(if matches!(sort, Sort::Pid | Sort::Comm) { Order::Asc } else { Order::Desc });
    rows.sort_by(|a, b| {
        let null = |row: &ProcessRow| sort == Sort::CopiesPerByte && row.figures.copies_per_byte.is_none();
        let wanted = match order {
            Order::Asc => a.compare(b, sort),
            Order::Desc => b.compare(a, sort),
        };
        null(a).cmp(&null(b)).then(wanted).then_with(|| a.process.pid.cmp(&b.process.pid))
    });
}
