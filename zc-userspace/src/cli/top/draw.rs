//! The state on the screen. Names of processes are sanitized here, all of them.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, Table, TableState};

use super::super::render::{bytes, sanitize};
use super::rows::{Row, Sort, short};
use super::state::State;
use crate::ledger::Process;
use crate::model::{Basis, Profile};

/// The table's columns: heading, width, and what they are sorted by.
const COLUMNS: [(&str, Constraint, Sort); 8] = [
    ("PID", Constraint::Length(8), Sort::Pid),
    ("COMMAND", Constraint::Min(16), Sort::Command),
    ("COPIED/s", Constraint::Length(10), Sort::Copied),
    ("DELIV/s", Constraint::Length(9), Sort::Delivered),
    ("COPIES/B", Constraint::Length(10), Sort::CopiesPerByte),
    ("BY REF/s", Constraint::Length(10), Sort::Reference),
    ("DISK/s", Constraint::Length(8), Sort::Disk),
    ("CALLS/s", Constraint::Length(9), Sort::Calls),
];

/// The columns of one process's paths.
const PATHS: [(&str, Constraint); 8] = [
    ("PATH", Constraint::Min(24)),
    ("BYTES/s", Constraint::Length(9)),
    ("COPIED/s", Constraint::Length(9)),
    ("BY REF/s", Constraint::Length(9)),
    ("OPERATIONS", Constraint::Length(12)),
    ("BYTES", Constraint::Length(16)),
    ("COPIED", Constraint::Length(16)),
    ("BASIS", Constraint::Length(9)),
];

/// Draws everything.
pub(super) fn screen(frame: &mut Frame<'_>, state: &State) {
    let rows = Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)]);
    let [head, body, foot] = rows.areas(frame.area());
    frame.render_widget(Line::from(heading(state)).style(Modifier::BOLD), head);
    match state.shown {
        Some(_) => detail(frame, body, state),
        None => table(frame, body, state),
    }
    frame.render_widget(Line::from(footer(state)).style(Modifier::DIM), foot);
}

fn heading(state: &State) -> String {
    let window = match state.window() {
        0.0 => "watching".to_owned(),
        seconds => format!("over {seconds:.1} s"),
    };
    let paused = if state.paused { "  PAUSED" } else { "" };
    let filter = match (state.typing, state.filter.is_empty()) {
        (true, _) => format!("  filter: {}_", sanitize(&state.filter)),
        (false, false) => format!("  filter: {}", sanitize(&state.filter)),
        (false, true) => String::new(),
    };
    format!("zcprof top  {window}  {} of {} processes{paused}{filter}", state.rows.len(), state.total())
}

fn footer(state: &State) -> &'static str {
    match (state.typing, state.shown) {
        (true, _) => "type to filter   Enter keep   Esc clear",
        (_, Some(_)) => "Esc back   p pause   q quit   - no probe sees this here",
        _ => "↑↓ move   Enter paths   / filter   s S sort   r reverse   p pause   q quit",
    }
}

fn right(text: String) -> Cell<'static> {
    Cell::from(Text::from(text).alignment(Alignment::Right))
}

fn table(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let heads = COLUMNS.iter().enumerate().map(|(at, (name, _, sort))| {
        let descends = sort.ascends() == state.reversed;
        let mark = if *sort != state.sort {
            ""
        } else if descends {
            "▼"
        } else {
            "▲"
        };
        let text = format!("{name}{mark}");
        if at == 1 { Cell::from(text) } else { right(text) }
    });
    let body = state.rows.iter().map(line);
    let table = Table::new(body, COLUMNS.map(|(_, width, _)| width))
        .header(TableRow::new(heads).style(Modifier::BOLD))
        .column_spacing(1)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut cursor = TableState::default().with_selected(state.cursor());
    frame.render_stateful_widget(table, area, &mut cursor);
}

fn line(row: &Row) -> TableRow<'static> {
    let exited = if row.exited { " (exited)" } else { "" };
    let unknown = || "-".to_owned();
    TableRow::new([
        right(row.key.tgid.to_string()),
        Cell::from(format!("{}{exited}", sanitize(&row.comm))),
        right(short(row.copied)),
        right(short(row.delivered)),
        right(row.copies_per_byte.map_or_else(String::new, |copies| format!("{copies:.2}"))),
        right(short(row.referenced)),
        right(row.disk.map_or_else(unknown, short)),
        right(short(row.calls)),
    ])
}

fn detail(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let Some((process, since, window)) = state.detail() else {
        frame.render_widget(Paragraph::new("This process has exited, and is forgotten. Esc leads back."), area);
        return;
    };
    let about = about(process, &since);
    let height = u16::try_from(about.len() + 1).unwrap_or(u16::MAX);
    let [top, rest] = Layout::vertical([Constraint::Length(height), Constraint::Min(1)]).areas(area);
    frame.render_widget(Paragraph::new(about.join("\n")), top);
    let heads = PATHS.iter().enumerate().map(|(at, (name, _))| numbers(at, (*name).to_owned()));
    let paths = Table::new(paths(&since, &window, state.window()), PATHS.map(|(_, width)| width));
    frame.render_widget(paths.header(TableRow::new(heads).style(Modifier::BOLD)), rest);
}

/// Every column but the first and last is one of numbers.
fn numbers(at: usize, text: String) -> Cell<'static> {
    if at == 0 || at + 1 == PATHS.len() { Cell::from(text) } else { right(text) }
}

fn about(process: &Process, since: &Profile) -> Vec<String> {
    let exited = if process.exited { " (exited)" } else { "" };
    let mut lines = vec![format!("{}, pid {}{exited}", sanitize(&process.comm), process.key.tgid)];
    let names = [
        ("file", &process.exe),
        ("unit", &process.unit),
        ("container", &process.container),
        ("cgroup", &process.cgroup),
    ];
    for (what, name) in names {
        lines.extend(name.as_deref().map(|name| format!("{what:<10}{}", sanitize(name))));
    }
    let copies = since.copies_per_byte.map_or("nothing delivered".to_owned(), |it| format!("{it:.3}"));
    let known = |figure: Option<u64>| figure.map_or_else(|| "-".to_owned(), bytes);
    lines.push(format!(
        "since it was first seen: delivered {}, copied {}, by reference {}, copies per byte {copies}",
        bytes(since.delivered_bytes),
        bytes(since.copied_bytes.total()),
        bytes(since.referenced_bytes)
    ));
    lines.push(format!(
        "disk read {}, disk written {}, unclassified {}",
        known(since.dma_bytes.disk_read),
        known(since.dma_bytes.disk_write),
        bytes(since.lost.unclassified_bytes)
    ));
    lines
}

fn paths(since: &Profile, window: &Profile, seconds: f64) -> Vec<TableRow<'static>> {
    let rows = since.paths.iter().map(|path| {
        let now = window.paths.iter().find(|one| one.id == path.id);
        let rate = |figure: Option<u64>| {
            if seconds > 0.0 { short(figure.unwrap_or_default() as f64 / seconds) } else { String::new() }
        };
        let basis = match path.basis {
            Basis::Modelled => "modelled",
            Basis::Observed => "observed",
        };
        let cells = [
            path.id.clone(),
            rate(now.map(|now| now.bytes)),
            rate(now.map(|now| now.copied_bytes)),
            rate(now.map(|now| now.referenced_bytes)),
            path.operations.to_string(),
            path.bytes.to_string(),
            path.copied_bytes.to_string(),
            basis.to_owned(),
        ];
        TableRow::new(cells.into_iter().enumerate().map(|(at, text)| numbers(at, text)))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::KeyCode;

    use super::super::state::tests::{press, sample};
    use super::*;

    fn text(state: &State, width: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, 20)).unwrap();
        terminal.draw(|frame| screen(frame, state)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn the_table_shows_figures_and_harmless_names() {
        let text = text(&sample(), 120);
        for part in ["over 2.0 s  2 of 2 processes", "COPIED/s▼", "b\\u{1b}[31m", "4.0k", "1.00", "Enter paths"] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn one_process_with_its_paths() {
        let mut state = sample();
        press(&mut state, &[KeyCode::Enter, KeyCode::Char('p')]);
        let text = text(&state, 140);
        for part in ["PAUSED", "b\\u{1b}[31m, pid 6", "read:file:user", "4.0k", "8000", "modelled", "disk read -"] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn small_screens_do_no_harm() {
        let mut state = sample();
        for width in [1, 20, 60] {
            text(&state, width);
        }
        press(&mut state, &[KeyCode::Enter]);
        text(&state, 10);
    }
}
