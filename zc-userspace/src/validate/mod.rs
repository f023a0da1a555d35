//! Every workload against the ledger, byte for byte: the proof of the instrumentation on this kernel.

mod child;
mod compare;
mod table;
mod ways;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::kernel::{Audit, kernel_release};
use crate::workload::{Request, Workload};

pub use child::StopAtGates;
pub use table::table;
pub use ways::{Claim, TextbookReport, WayRow, Went, run as textbook, textbook_table};

/// What to validate, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The workloads.
    pub workloads: Vec<&'static Workload>,
    /// Bytes, chunk and scratch directory of each.
    pub request: Request,
    /// Workloads that run at the same time.
    pub jobs: usize,
    /// The zcprof binary, which runs each workload in a process of its own.
    pub program: PathBuf,
}

/// A figure as the workload knows it and as the ledger has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// What the workload added up from its own return values.
    pub expected: u64,
    /// What the ledger counted.
    pub ledger: u64,
}

/// Bytes that the CPU copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// By the catalogue's row.
    pub modelled: u64,
    /// By a probe that saw them; null where none does.
    pub observed: Option<u64>,
    /// By the audit; null without it.
    pub audited: Option<u64>,
}

/// The modelled hops of a row, summed by what moves the bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Copied from kernel to user.
    pub to_user: u64,
    /// Copied from user to kernel.
    pub from_user: u64,
    /// Copied within the kernel.
    pub in_kernel: u64,
    /// By reference.
    pub referenced: u64,
    /// By DMA.
    pub dma: u64,
    /// Enciphered.
    pub enciphered: u64,
}

/// One workload's comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The path.
    pub id: String,
    /// The workload: the path, its condition and its variant.
    pub workload: String,
    /// The chunk that it really used.
    pub chunk: u64,
    /// System calls that moved bytes.
    pub operations: Compared,
    /// What they moved.
    pub bytes: Compared,
    /// What the CPU copied.
    pub copied_bytes: Copied,
    /// What became of the bytes, by the catalogue's row.
    pub moved: Moved,
    /// CPU copies that the textbook charges to this path; null where it says nothing.
    pub textbook_cpu_copies: Option<u64>,
    /// `observed` or `modelled`: the basis of the copied bytes.
    pub basis: String,
    /// Whether everything agrees; null if the workload can't run here.
    pub exact: Option<bool>,
    /// Whether the bytes were only asked for (mmap), and none has moved.
    pub asked: bool,
    /// What differs, or what the reader should know.
    pub note: Option<String>,
}

/// All comparisons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The kernel's release.
    pub kernel: String,
    /// In the order of the plan.
    pub rows: Vec<Row>,
    /// Whether every workload that can run here is exact.
    pub exact: bool,
}

/// Runs the plan. `finished` is called as each workload ends, with how many have.
/// With an audit, whose breakpoints watch one process at a time, one workload runs at a time.
pub fn run(agent: &Agent, plan: &Plan, audit: Option<Audit>, finished: &(dyn Fn(usize, &Row) + Sync)) -> Report {
    let jobs = if audit.is_some() { 1 } else { plan.jobs.max(1) };
    let audit = Mutex::new(audit);
    let queue: Mutex<VecDeque<_>> = Mutex::new(plan.workloads.iter().copied().enumerate().collect());
    let done: Mutex<Vec<(usize, Row)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some((at, workload)) = next else { return };
                    let row = one(agent, plan, workload, &audit);
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    finished(done.len() + 1, &row);
                    done.push((at, row));
                }
            });
        }
    });
    let mut rows = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort_by_key(|(at, _)| *at);
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    let exact = rows.iter().any(|row| row.exact == Some(true)) && rows.iter().all(|row| row.exact != Some(false));
    Report { kernel: kernel_release(), rows, exact }
}

fn one(agent: &Agent, plan: &Plan, workload: &Workload, audit: &Mutex<Option<Audit>>) -> Row {
    if let Some(why) = workload.unavailable(&plan.request.directory) {
        return compare::not_run(agent.catalogue(), workload, &why);
    }
    if let Some(why) = compare::uncounted(agent.catalogue(), workload) {
        return compare::not_run(agent.catalogue(), workload, why);
    }
    let mut held = audit.lock().unwrap_or_else(PoisonError::into_inner);
    let done = if held.is_some() {
        child::run(agent, plan, workload, held.as_mut())
    } else {
        drop(held);
        child::run(agent, plan, workload, None)
    };
    match done {
        Ok((outcome, counted, audited)) => {
            let row = compare::row(agent.catalogue(), workload, &outcome, &counted);
            match audited {
                Some(_) if workload.escapes_the_audit() => compare::not_audited(row),
                Some(audited) => compare::audited(agent.catalogue(), row, &counted, audited),
                None => row,
            }
        }
        Err(error) => compare::failed(agent.catalogue(), workload, &format!("{error:#}")),
    }
}
