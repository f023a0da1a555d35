//! `zcprof top`: the live view on a terminal.

mod draw;
mod rows;
mod state;

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::signal::Signal;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use super::output::{self, Failure};
use super::profile::drop_privileges;
use super::{child, parse, signals};
use crate::agent::Agent;
use crate::ledger::{GroupBy, Settings};
use crate::model::Catalogue;
use rows::Sort;
use state::State;

const NOTES: &str = "\
Figures are averages over the last interval. Keys: arrows, PgUp, PgDn, Home, End move; Enter shows one process's paths and \
Esc leads back; / filters by command, file, unit, container or cgroup; s and S sort by the next or previous column, r \
reverses; p or space pauses; q ends.

Exit status: 0; 2 if the usage is wrong, tracing isn't possible here, or standard output is no terminal.

Examples:
  zcprof top
  zcprof top --sort delivered --filter nginx";

/// Exited processes are forgotten after so long: nobody sees more of them than one interval.
const RETAIN: Duration = Duration::from_secs(10);
/// The first figures come sooner than an interval.
const FIRST: Duration = Duration::from_millis(300);

/// Shows live which processes move bytes, and how.
#[derive(Debug, Clone, Args)]
#[command(after_help = NOTES)]
pub struct TopArgs {
    /// How often the figures change.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse::duration)]
    pub interval: Duration,
    /// By what to sort at first.
    #[arg(long, value_enum, default_value_t = Sort::Copied)]
    pub sort: Sort,
    /// Only processes with this text in their command, file, unit, container or cgroup at first.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub filter: String,
}

pub(super) fn run(arguments: &TopArgs) -> Result<u8, Failure> {
    if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        return Err(Failure::new(output::CANNOT, "top needs a terminal; for scripts there is `zcprof profile --json`"));
    }
    let retain = Some(RETAIN.max(arguments.interval.saturating_mul(2)));
    let agent = Agent::start(Catalogue::default(), Settings { group_by: GroupBy::Comm, max_groups: 0, retain })?;
    drop_privileges()?;
    signals::catch(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])
        .map_err(|error| Failure::cannot("catch signals", error))?;
    let first = agent.observe().map_err(|error| Failure::cannot("read the ledger", error))?;
    let mut state = State::new(agent.catalogue().clone(), arguments.sort, arguments.filter.clone(), first);
    // It arranges for the terminal to be as it was even if we panic.
    let terminal = ratatui::try_init().map_err(|error| Failure::cannot("use the terminal", error))?;
    let shown = show(&agent, &mut state, terminal, arguments.interval);
    ratatui::restore();
    shown.map_err(|error| Failure::cannot("go on", error))?;
    Ok(0)
}

fn show(agent: &Agent, state: &mut State, mut terminal: DefaultTerminal, interval: Duration) -> io::Result<()> {
    let mut due = Instant::now() + FIRST.min(interval);
    terminal.draw(|frame| draw::screen(frame, state))?;
    child::keep_up(agent, |most| {
        let left = due.saturating_duration_since(Instant::now());
        let mut changed = false;
        if event::poll(left.min(most))? {
            changed = true;
            if let Event::Key(key) = event::read()?
                && key.kind != KeyEventKind::Release
            {
                state.key(key);
            }
        }
        if Instant::now() >= due {
            due = Instant::now() + interval;
            if !state.paused {
                state.update(agent.observe()?);
                changed = true;
            }
        }
        if changed {
            terminal.draw(|frame| draw::screen(frame, state))?;
        }
        let ended = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].map(signals::take).contains(&true);
        Ok(state.done || ended)
    })
}
