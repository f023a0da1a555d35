//! What the view shows, and what keys do to it. Pure.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::rows::{Row, Sort, between, rows, sort};
use crate::ledger::{Process, ProcessKey, Snapshot};
use crate::model::{Catalogue, Profile, profile};

/// How far PgUp and PgDn go.
const PAGE: usize = 10;

/// Everything that the screen is drawn from.
pub(super) struct State {
    catalogue: Catalogue,
    then: Snapshot,
    now: Snapshot,
    all: Vec<(Row, String)>,
    /// Those that pass the filter, sorted.
    pub(super) rows: Vec<Row>,
    pub(super) sort: Sort,
    pub(super) reversed: bool,
    pub(super) filter: String,
    /// Whether keys go to the filter.
    pub(super) typing: bool,
    pub(super) paused: bool,
    pub(super) done: bool,
    /// The process that the cursor is on, wherever it goes in the table.
    selected: Option<ProcessKey>,
    /// The process whose paths are shown instead of the table.
    pub(super) shown: Option<ProcessKey>,
}

impl State {
    pub(super) fn new(catalogue: Catalogue, sort: Sort, filter: String, now: Snapshot) -> Self {
        Self {
            catalogue,
            then: now.clone(),
            now,
            all: Vec::new(),
            rows: Vec::new(),
            sort,
            reversed: false,
            filter,
            typing: false,
            paused: false,
            done: false,
            selected: None,
            shown: None,
        }
    }

    /// Moves on to a later snapshot.
    pub(super) fn update(&mut self, now: Snapshot) {
        self.then = std::mem::replace(&mut self.now, now);
        self.all = rows(&self.catalogue, &self.then, &self.now);
        self.arrange();
    }

    fn arrange(&mut self) {
        let matching = self.all.iter().filter(|(_, names)| names.contains(&self.filter));
        self.rows = matching.map(|(row, _)| row.clone()).collect();
        sort(&mut self.rows, self.sort, self.reversed);
    }

    /// How many processes there are, filter or not.
    pub(super) fn total(&self) -> usize {
        self.all.len()
    }

    /// What the figures are an average over, in seconds; 0 before there are any.
    pub(super) fn window(&self) -> f64 {
        self.now.taken.duration_since(self.then.taken).as_secs_f64()
    }

    /// The cursor's row.
    pub(super) fn cursor(&self) -> Option<usize> {
        let at = self.rows.iter().position(|row| Some(row.key) == self.selected);
        at.or((!self.rows.is_empty()).then_some(0))
    }

    /// The process shown: what is known of it, since it was first seen and over the last interval. None if it is gone.
    pub(super) fn detail(&self) -> Option<(&Process, Profile, Profile)> {
        let process = self.now.by_key(self.shown?)?;
        let since = profile(&self.catalogue, Vec::new(), &process.counters, None, 0);
        Some((process, since, between(&self.catalogue, &self.then, &self.now, process)))
    }

    /// Does what a key means.
    pub(super) fn key(&mut self, key: KeyEvent) {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            self.done |= key.code == KeyCode::Char('c');
        } else if self.typing {
            self.type_filter(key.code);
        } else {
            self.command(key.code);
        }
        self.arrange();
    }

    fn type_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char(c) => self.filter.push(c),
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            _ => {}
        }
    }

    fn command(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char('q') => self.done = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Esc | KeyCode::Backspace => self.shown = None,
            _ if self.shown.is_some() => {}
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('s') => self.sort = self.sort.step(1),
            KeyCode::Char('S') => self.sort = self.sort.step(-1),
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Enter => self.shown = self.cursor().map(|at| self.rows[at].key),
            KeyCode::Up | KeyCode::Char('k') => self.move_to(|at| at.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.move_to(|at| at + 1),
            KeyCode::PageUp => self.move_to(|at| at.saturating_sub(PAGE)),
            KeyCode::PageDown => self.move_to(|at| at + PAGE),
            KeyCode::Home => self.move_to(|_| 0),
            KeyCode::End => self.move_to(|_| usize::MAX),
            _ => {}
        }
    }

    fn move_to(&mut self, from: impl Fn(usize) -> usize) {
        let at = from(self.cursor().unwrap_or_default()).min(self.rows.len().saturating_sub(1));
        self.selected = self.rows.get(at).map(|row| row.key);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::super::super::window::tests::{process, snapshot};
    use super::*;

    pub(in crate::cli::top) fn sample() -> State {
        let then = snapshot(vec![process(5, 5, None, "aa", 1000)]);
        let mut state = State::new(Catalogue::default(), Sort::Copied, String::new(), then.clone());
        let mut now = snapshot(vec![process(5, 5, None, "aa", 5000), process(6, 60, None, "b\u{1b}[31m", 8000)]);
        now.taken = then.taken + Duration::from_secs(2);
        state.update(now);
        state
    }

    pub(in crate::cli::top) fn press(state: &mut State, keys: &[KeyCode]) {
        for key in keys {
            state.key(KeyEvent::from(*key));
        }
    }

    fn pids(state: &State) -> Vec<u32> {
        state.rows.iter().map(|row| row.key.tgid).collect()
    }

    #[test]
    fn sorts_and_reverses() {
        let mut state = sample();
        assert_eq!(pids(&state), [6, 5]);
        press(&mut state, &[KeyCode::Char('r')]);
        assert_eq!(pids(&state), [5, 6]);
        press(&mut state, &[KeyCode::Char('S')]);
        assert_eq!((state.sort, pids(&state)), (Sort::Command, vec![6, 5]));
    }

    #[test]
    fn filters_while_typing_and_escape_takes_it_back() {
        let mut state = sample();
        press(&mut state, &[KeyCode::Char('/'), KeyCode::Char('a'), KeyCode::Char('q')]);
        assert!(pids(&state).is_empty() && !state.done && state.cursor().is_none());
        press(&mut state, &[KeyCode::Backspace, KeyCode::Enter]);
        assert_eq!((pids(&state), state.typing, state.total()), (vec![5], false, 2));
        press(&mut state, &[KeyCode::Char('/'), KeyCode::Esc]);
        assert_eq!(pids(&state), [6, 5]);
    }

    #[test]
    fn the_cursor_stays_on_its_process() {
        let mut state = sample();
        press(&mut state, &[KeyCode::End]);
        assert_eq!(state.cursor(), Some(1));
        press(&mut state, &[KeyCode::Char('r')]);
        assert_eq!(state.cursor(), Some(0), "pid 5, now the first");
        press(&mut state, &[KeyCode::PageDown, KeyCode::Up]);
        assert_eq!(state.cursor(), Some(0));
    }

    #[test]
    fn one_process_is_shown_until_escape_and_may_go_away() {
        let mut state = sample();
        press(&mut state, &[KeyCode::Enter, KeyCode::Char('s')]);
        let (process, since, window) = state.detail().unwrap();
        assert_eq!((process.key.tgid, since.delivered_bytes, window.delivered_bytes), (6, 8000, 8000));
        assert_eq!(state.sort, Sort::Copied, "no key of the table works here");
        state.update(snapshot(Vec::new()));
        assert!(state.detail().is_none() && state.shown.is_some());
        press(&mut state, &[KeyCode::Esc]);
        assert!(state.shown.is_none());
    }

    #[test]
    fn pauses_and_ends() {
        let mut state = sample();
        press(&mut state, &[KeyCode::Char('p')]);
        assert!(state.paused);
        press(&mut state, &[KeyCode::Char(' ')]);
        assert!(!state.paused);
        state.typing = true;
        state.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(state.done);
    }
}
