//! The report as a table for people.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use super::{Report, Row};

const HEADER: [&str; 12] = [
    "path",
    "chunk",
    "operations",
    "payload",
    "to user",
    "from user",
    "in kernel",
    "by reference",
    "copies/byte",
    "basis",
    "textbook",
    "exact",
];

/// The table, the notes below it, and the sum.
#[must_use]
pub fn table(report: &Report) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(HEADER);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for row in &report.rows {
        table.add_row(cells(row));
    }
    let mut text = format!("{table}\n");
    for row in &report.rows {
        if let Some(note) = &row.note {
            text += &format!("{}: {note}\n", row.workload);
        }
    }
    let count = |wanted| report.rows.iter().filter(|row| row.exact == wanted).count();
    let (exact, wrong, not_run) = (count(Some(true)), count(Some(false)), count(None));
    text += &format!(
        "{}: {exact} exact, {wrong} not, {not_run} not run here. Payload and operations are observed, and \
         so are copies made for network devices and of pages handed over; other copies are modelled from the \
         catalogue's rows.\n",
        report.kernel
    );
    text
}

fn cells(row: &Row) -> Vec<String> {
    let copies = |bytes: u64| if row.exact.is_none() { "-".to_owned() } else { bytes.to_string() };
    let per_byte = if row.bytes.ledger == 0 {
        "-".to_owned()
    } else {
        let copied = row.copied_bytes.modelled + row.copied_bytes.observed.unwrap_or(0);
        format!("{:.1}", copied as f64 / row.bytes.ledger as f64)
    };
    vec![
        row.workload.clone(),
        copies(row.chunk),
        compared(row.operations.expected, row.operations.ledger),
        compared(row.bytes.expected, row.bytes.ledger),
        copies(row.moved.to_user),
        copies(row.moved.from_user),
        copies(row.moved.in_kernel),
        copies(row.moved.referenced),
        per_byte,
        row.basis.clone(),
        row.textbook_cpu_copies.map_or_else(|| "-".to_owned(), |copies| copies.to_string()),
        match row.exact {
            Some(true) if row.asked => "exact (asked)",
            Some(true) => "exact",
            Some(false) => "NO",
            None => "not run",
        }
        .to_owned(),
    ]
}

fn compared(expected: u64, ledger: u64) -> String {
    if expected == ledger { ledger.to_string() } else { format!("{ledger} (not {expected})") }
}
