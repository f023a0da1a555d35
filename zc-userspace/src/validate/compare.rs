//! What a workload says it did, beside what the ledger has and the model makes of it.

use zc_common::hop::{Direction, Mover};
use zc_common::path::{Condition, Mechanism, PathId};
use zc_common::record::{CELL_RETRANSMITTED, COPIED_AFTER_ALL, LINEARIZED};

use super::{Compared, Copied, Moved, Row};
use crate::kernel::{Audited, NET};
use crate::ledger::Counters;
use crate::model::Catalogue;
use crate::workload::{Copies, Outcome, Workload};

/// Ends at which nothing may be called `other`: everything that a workload between them does is known.
const KNOWN_ENDS: [&str; 3] = ["file", "tcp", "pipe"];

fn empty(catalogue: &Catalogue, workload: &Workload) -> Row {
    let textbook = PathId::parse(workload.id).and_then(|id| {
        let mut rows = catalogue.rows().iter().filter(|row| row.id() == id);
        rows.find_map(|row| row.textbook)
    });
    Row {
        id: workload.id.to_owned(),
        workload: workload.name(),
        chunk: 0,
        operations: Compared::default(),
        bytes: Compared::default(),
        copied_bytes: Copied::default(),
        moved: Moved::default(),
        textbook_cpu_copies: textbook.map(|textbook| u64::from(textbook.cpu_copies)),
        basis: if is_observed(workload) { "observed" } else { "modelled" }.to_owned(),
        exact: Some(false),
        asked: workload.condition == Condition::Asked,
        note: None,
    }
}

/// Whether each page is seen, and not only the call.
fn is_observed(workload: &Workload) -> bool {
    workload.id.starts_with("mmap:") && workload.condition != Condition::Asked
}

/// The row of a workload that can't run here.
pub(super) fn not_run(catalogue: &Catalogue, workload: &Workload, why: &str) -> Row {
    Row { exact: None, note: Some(format!("not run: {why}")), ..empty(catalogue, workload) }
}

/// Why nothing counts what a workload does, if nothing does.
pub(super) fn uncounted(catalogue: &Catalogue, workload: &Workload) -> Option<&'static str> {
    let cell = catalogue.cell(PathId::parse(workload.id)?, workload.condition)?;
    catalogue.row(cell.into())?.inactive
}

/// The row of a workload that failed.
pub(super) fn failed(catalogue: &Catalogue, workload: &Workload, why: &str) -> Row {
    Row { note: Some(why.to_owned()), ..empty(catalogue, workload) }
}

/// Compares.
pub(super) fn row(catalogue: &Catalogue, workload: &Workload, outcome: &Outcome, counted: &Counters) -> Row {
    let cell = PathId::parse(workload.id).and_then(|id| catalogue.cell(id, workload.condition)).map(u16::from);
    let ledger = cell.map(|cell| counted.get(cell)).unwrap_or_default();
    let mut moved = modelled(catalogue, cell, ledger.bytes);
    let copied = moved.to_user + moved.from_user + moved.in_kernel;
    let observed = cell.and_then(|cell| observed(catalogue, workload, counted, cell));
    // What is sent again is copied again.
    let seen = observed.unwrap_or(0);
    let again = match counted.get(CELL_RETRANSMITTED).bytes.min(seen) {
        // Or not: over some devices it is not.
        _ if moved.in_kernel + seen == outcome.copies.in_kernel => 0,
        again => again,
    };
    moved.in_kernel += seen - again;
    let observed = if is_observed(workload) { Some(copied) } else { observed };
    let mut row = Row {
        chunk: outcome.chunk,
        operations: Compared { expected: outcome.operations, ledger: ledger.operations },
        bytes: Compared { expected: outcome.bytes, ledger: ledger.bytes },
        copied_bytes: Copied { modelled: copied, observed, audited: None },
        moved,
        ..empty(catalogue, workload)
    };
    let mut problems = Vec::new();
    if cell.is_none() {
        problems.push(format!("the catalogue has no row for {} ({})", workload.id, workload.condition));
    }
    if row.operations.expected != row.operations.ledger || row.bytes.expected != row.bytes.ledger {
        problems.push(format!("the ledger has instead: {}", listed(catalogue, counted)));
    }
    if moved != of(outcome.copies) && problems.is_empty() {
        problems.push(format!("the row's hops say {moved:?}, the workload expects {:?}", of(outcome.copies)));
    }
    let unclassified = counted.unclassified();
    if unclassified.operations != 0 || unclassified.bytes != 0 {
        let (operations, bytes) = (unclassified.operations, unclassified.bytes);
        problems.push(format!("{operations} operations with {bytes} bytes unclassified"));
    }
    if let Some(other) = unexpected_other(catalogue, workload, counted) {
        problems.push(other);
    }
    row.exact = Some(problems.is_empty());
    let condition = match workload.condition {
        Condition::Asked => Some("bytes asked for; nothing has moved yet".to_owned()),
        _ => None,
    };
    let resent = (again != 0).then(|| format!("{again} bytes were sent again, and copied again: they are left out"));
    let notes: Vec<_> = problems.into_iter().chain(outcome.note.clone()).chain(condition).chain(resent).collect();
    row.note = (!notes.is_empty()).then(|| notes.join("; "));
    row
}

/// Holds what the CPU copied for the workload's whole process against what the rows of all paths that it used say, in
/// each direction. What feeds a source and drains a sink uses other paths: the path's own part is what these leave.
pub(super) fn audited(catalogue: &Catalogue, row: Row, counted: &Counters, audited: Audited) -> Row {
    let mut model = Moved::default();
    let is_watched = |cell: u16| {
        // Copies by faults are audited only where they are the matter.
        let by_fault = catalogue.row(cell).is_some_and(|row| row.mechanism == Mechanism::Mmap);
        !by_fault || row.id.starts_with(Mechanism::Mmap.name())
    };
    for (cell, counters) in counted.iter().filter(|(cell, _)| is_watched(*cell)) {
        let moved = modelled(catalogue, Some(cell), counters.bytes);
        model.to_user += moved.to_user;
        model.from_user += moved.from_user;
        model.in_kernel += moved.in_kernel;
    }
    let Audited { to_user, from_user, in_kernel } = audited;
    let others = (model.to_user + model.from_user + model.in_kernel).saturating_sub(row.copied_bytes.modelled);
    let own = (to_user + from_user + in_kernel).saturating_sub(others);
    let agrees = (to_user, from_user, in_kernel) == (model.to_user, model.from_user, model.in_kernel);
    let problem = format!(
        "the CPU copied {to_user} bytes to user memory, {from_user} from it and {in_kernel} in the kernel; the rows say \
         {}, {} and {}",
        model.to_user, model.from_user, model.in_kernel
    );
    let note = match (agrees, row.note) {
        (true, note) => note,
        (false, None) => Some(problem),
        (false, Some(note)) => Some(format!("{problem}; {note}")),
    };
    let copied_bytes = Copied { audited: Some(own), ..row.copied_bytes };
    Row { copied_bytes, exact: Some(row.exact == Some(true) && agrees), note, ..row }
}

/// A row that the audit can say nothing of.
pub(super) fn not_audited(row: Row) -> Row {
    const WHY: &str = "not audited: over loopback the kernel copies these bytes after all, by memcpy, which takes no \
                       breakpoint";
    Row { note: Some(row.note.map_or(WHY.to_owned(), |note| format!("{note}; {WHY}"))), ..row }
}

fn of(copies: Copies) -> Moved {
    let Copies { to_user, from_user, in_kernel, referenced, dma, enciphered } = copies;
    Moved { to_user, from_user, in_kernel, referenced, dma, enciphered }
}

/// What probes saw the CPU copy beside what the row says, all of it in the kernel; nothing where none would see it.
fn observed(catalogue: &Catalogue, workload: &Workload, counted: &Counters, cell: u16) -> Option<u64> {
    let sends = workload.sink_is_watched() && catalogue.sees.contains(NET);
    let copies = [COPIED_AFTER_ALL, LINEARIZED].map(|kind| counted.get(kind + cell).bytes);
    sends.then(|| copies.iter().sum())
}

/// What the catalogue's row makes of so many bytes.
fn modelled(catalogue: &Catalogue, cell: Option<u16>, bytes: u64) -> Moved {
    let mut moved = Moved::default();
    for hop in cell.and_then(|cell| catalogue.row(cell)).map_or(&[][..], |row| row.hops) {
        let sum = match hop.mover {
            Mover::Cpu(Direction::ToUser) => &mut moved.to_user,
            Mover::Cpu(Direction::FromUser) => &mut moved.from_user,
            Mover::Cpu(Direction::InKernel) => &mut moved.in_kernel,
            Mover::Reference => &mut moved.referenced,
            Mover::Dma => &mut moved.dma,
            Mover::Cipher => &mut moved.enciphered,
        };
        *sum += bytes;
    }
    moved
}

/// Everything counted, for the note of a row that does not agree.
fn listed(catalogue: &Catalogue, counted: &Counters) -> String {
    let all: Vec<_> = counted
        .iter()
        .map(|(cell, counters)| {
            let name = catalogue.row(cell).map_or_else(
                || format!("cell {cell}"),
                |row| match row.condition {
                    Condition::Always => row.id().to_string(),
                    condition => format!("{}@{condition}", row.id()),
                },
            );
            format!("{name} {} operations {} bytes", counters.operations, counters.bytes)
        })
        .collect();
    if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
}

fn unexpected_other(catalogue: &Catalogue, workload: &Workload, counted: &Counters) -> Option<String> {
    let mut ends = workload.id.split(':').skip(1);
    if !ends.any(|end| KNOWN_ENDS.contains(&end)) || workload.id.contains(":other") {
        return None;
    }
    let strangers: Vec<_> = catalogue
        .paths(counted)
        .into_keys()
        .filter(|id| [id.source.name(), id.sink.name()].contains(&"other"))
        .map(|id| id.to_string())
        .collect();
    (!strangers.is_empty()).then(|| format!("unexpected: {}", strangers.join(", ")))
}

#[cfg(test)]
mod tests {
    use zc_common::path::ROWS;
    use zc_common::record::Cell;

    use super::*;
    use crate::workload::find;

    fn judge(catalogue: &Catalogue, counted_on: &str, operations: u64) -> Row {
        let workload = find("sendfile:file:tcp")[0];
        let outcome = Outcome {
            id: workload.id.to_owned(),
            chunk: 10,
            operations: 2,
            bytes: 20,
            copies: Copies { referenced: 20, ..Copies::default() },
            note: None,
        };
        let mut counted = Counters::default();
        let cell = Catalogue::default().cell(PathId::parse(counted_on).unwrap(), Condition::Always).unwrap();
        counted.add_cell(cell, Cell { operations, bytes: 20 });
        row(catalogue, workload, &outcome, &counted)
    }

    #[test]
    fn agreement_is_exact() {
        let row = judge(&Catalogue::default(), "sendfile:file:tcp", 2);
        assert_eq!((row.exact, row.note), (Some(true), None));
    }

    #[test]
    fn another_count_path_row_or_hop_is_not() {
        let plain = Catalogue::default();
        assert_eq!(judge(&plain, "sendfile:file:tcp", 3).exact, Some(false));
        assert_eq!(judge(&plain, "read:file:user", 2).exact, Some(false));
        let mutated = |change: fn(&mut zc_common::path::Row)| {
            let mut rows = ROWS.to_vec();
            let at = rows
                .iter()
                .position(|row| row.id().to_string() == "sendfile:file:tcp" && row.condition == Condition::Always);
            let at = at.unwrap();
            change(&mut rows[at]);
            Catalogue::of(rows)
        };
        let hop = mutated(|row| row.hops = &[]);
        assert_eq!(judge(&hop, "sendfile:file:tcp", 2).exact, Some(false));
        let mechanism = mutated(|row| row.mechanism = Mechanism::Tee);
        assert_eq!(judge(&mechanism, "sendfile:file:tcp", 2).exact, Some(false));
    }
}
