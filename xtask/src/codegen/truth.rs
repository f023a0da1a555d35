//! docs/truth.md: the textbook, the rows, and what the CPU did, by kernel, from what `cargo xtask vm --record` kept.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// What the last recorded run of the matrix found.
static RECORDED: &str = include_str!("../../../tests/matrix.json");

/// A kernel of the matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kernel {
    /// `6.12.117 x86_64`.
    pub(crate) kernel: String,
    /// Its workloads.
    pub(crate) rows: Vec<Row>,
}

/// A workload on a kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Path, condition and variant.
    pub(crate) workload: String,
    /// Payload.
    pub(crate) bytes: u64,
    /// Bytes that the CPU copied, by the row.
    pub(crate) modelled: u64,
    /// Bytes that a probe saw it copy; null where none looks.
    #[serde(default)]
    pub(crate) observed: Option<u64>,
    /// Bytes that it really copied; null where the audit did not run.
    pub(crate) audited: Option<u64>,
    /// CPU copies by the textbook; null where it says nothing.
    pub(crate) textbook: Option<u64>,
    /// Whether ledger, row and audit agree; null where it can't run.
    pub(crate) exact: Option<bool>,
}

const INTRO: &str = "# The truth, beside the textbook\n\n\
    Copies of each payload byte by the CPU: what the textbook charges to the path, what the catalogue's row says \
    (model), and what hardware breakpoints on the kernel's copy routines counted during the workload (audit), byte for \
    byte; what feeds the path and drains it copies too, and is left out by what its rows say. Copies by `memcpy`, on \
    which no breakpoint may be set, are not seen: zero-copy sends over loopback, which the kernel copies so after all, are \
    not audited; there the probe of network devices stands alone (`seen`). A dash: nothing is said, or not measured; `not here`: that kernel can't. Network paths are over loopback, \
    reflinks on XFS, all other files on ext4.\n\n\
    Made by `cargo xtask codegen` from `tests/matrix.json`, which `cargo xtask vm --record` writes.\n\n";

impl Kernel {
    fn machine(&self) -> &str {
        self.kernel.split_once(' ').map_or("", |(_, machine)| machine)
    }
}

/// What was found before, with all kernels of the machines that were run now replaced.
pub(crate) fn merge(before: Vec<Kernel>, now: Vec<Kernel>) -> Vec<Kernel> {
    let ran = |kernel: &Kernel| now.iter().any(|one| one.machine() == kernel.machine());
    let mut kernels: Vec<_> = before.into_iter().filter(|kernel| !ran(kernel)).collect();
    kernels.extend(now);
    // The rows are in the order of the first one's.
    kernels.sort_by_key(|kernel| kernel.machine() != "x86_64");
    kernels
}

/// The page.
pub(super) fn markdown() -> String {
    let kernels: Vec<Kernel> = serde_json::from_str(RECORDED).unwrap_or_default();
    page(&kernels)
}

fn page(kernels: &[Kernel]) -> String {
    let mut text = INTRO.to_owned();
    let mut head = "| path | textbook |".to_owned();
    for Kernel { kernel, .. } in kernels {
        _ = write!(head, " {kernel}: model | audit |");
    }
    _ = writeln!(text, "{head}\n|{}", "---|".repeat(2 + 2 * kernels.len()));
    let by_name: Vec<BTreeMap<&str, &Row>> =
        kernels.iter().map(|one| one.rows.iter().map(|row| (row.workload.as_str(), row)).collect()).collect();
    for row in kernels.first().map_or(&[][..], |first| &first.rows) {
        _ = write!(
            text,
            "| `{}` | {} |",
            row.workload,
            row.textbook.map_or("-".to_owned(), |copies| copies.to_string())
        );
        for rows in &by_name {
            _ = match rows.get(row.workload.as_str()) {
                Some(Row { exact: None, .. }) | None => write!(text, " not here | - |"),
                Some(row) => {
                    let audit = row.audited.map_or("-".to_owned(), |copied| copies(copied, row.bytes));
                    let wrong = if row.exact == Some(true) { "" } else { " (differs)" };
                    // Of faults the model is what was seen.
                    let seen = row.observed.filter(|seen| *seen != 0 && *seen != row.modelled);
                    let seen = seen.map_or(String::new(), |seen| format!(" + {} seen", copies(seen, row.bytes)));
                    write!(text, " {}{seen} | {audit}{wrong} |", copies(row.modelled, row.bytes))
                }
            };
        }
        text.push('\n');
    }
    text
}

/// Copies of each byte: whole ones, or with two decimals.
fn copies(copied: u64, bytes: u64) -> String {
    match copied.checked_rem(bytes) {
        None => "-".to_owned(),
        Some(0) => (copied / bytes).to_string(),
        Some(_) => format!("{:.2}", copied as f64 / bytes as f64),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_row_says_what_each_kernel_did() {
        let row = |audited, exact| Row {
            workload: "read:file:user".to_owned(),
            bytes: 10,
            modelled: 10,
            observed: None,
            audited,
            textbook: Some(1),
            exact,
        };
        let kernel = |kernel: &str, row| Kernel { kernel: kernel.to_owned(), rows: vec![row] };
        let text = page(&[kernel("a", row(Some(15), Some(false))), kernel("b", row(None, None))]);
        assert!(text.ends_with("| `read:file:user` | 1 | 1 | 1.50 (differs) | not here | - |\n"), "{text}");
    }

    #[test]
    fn kernels_of_machines_that_did_not_run_stay() {
        let kernel = |name: &str| Kernel { kernel: name.to_owned(), rows: Vec::new() };
        let merged = |before: &[&str], now: &[&str]| -> Vec<String> {
            let of = |names: &[&str]| names.iter().map(|name| kernel(name)).collect();
            merge(of(before), of(now)).into_iter().map(|one| one.kernel).collect()
        };
        let before = ["6.12.1 x86_64", "6.1.1 x86_64", "6.12.1 aarch64"];
        assert_eq!(merged(&before, &["6.12.2 aarch64"]), ["6.12.1 x86_64", "6.1.1 x86_64", "6.12.2 aarch64"]);
        assert_eq!(merged(&before, &["6.12.2 x86_64"]), ["6.12.2 x86_64", "6.12.1 aarch64"]);
    }

    #[test]
    fn what_is_recorded_can_be_read() {
        let kernels: Vec<Kernel> = serde_json::from_str(RECORDED).unwrap();
        assert!(!kernels.is_empty());
        // Who adds a row records what it does on the other kernels.
        for kernel in kernels {
            let path_of = |row: &Row| row.workload.split(['@', '+']).next().map(ToOwned::to_owned);
            let recorded: BTreeSet<_> = kernel.rows.iter().filter_map(path_of).collect();
            for path in zc_common::path::ROWS.iter().map(|row| row.id().to_string()) {
                assert!(recorded.contains(&path), "{}: {path} is not recorded", kernel.kernel);
            }
        }
    }
}
