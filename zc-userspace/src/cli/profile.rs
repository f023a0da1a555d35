//! `zcprof profile`: what running processes do over a window of time.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::{ArgGroup, Args};
use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::signal::Signal;

use super::output::{self, Failure, NOTHING};
use super::selector::{FLAGS, SelectorArgs};
use super::{child, parse, render, signals, window};
use crate::agent::{Agent, ONE_SHOT, drop_capabilities};
use crate::ledger::{Selector, Snapshot};
use crate::model::{Catalogue, PeersSince, Profile};

const NOTES: &str = "\
Figures are what happened within the window; processes that start or end meanwhile are included. Ctrl-C ends the \
window early and reports. Kernel threads make no system calls and are no processes here.

Exit status: 0; 2 if the usage is wrong or tracing isn't possible here, 3 if no process matches.

Examples:
  zcprof profile --pid 4711
  zcprof profile --unit nginx --for 1m --json";

/// How many peers are named unless told otherwise.
pub(super) const PEERS: usize = 10;

/// Reports how processes that already run move bytes.
#[derive(Debug, Clone, Args)]
#[command(after_help = NOTES, group = ArgGroup::new("selector").args(FLAGS).required(true))]
pub struct ProfileArgs {
    /// Whom to watch.
    #[command(flatten)]
    pub whom: SelectorArgs,
    /// How long to watch.
    #[arg(long = "for", value_name = "DURATION", default_value = "10s", value_parser = parse::duration)]
    pub window: Duration,
    /// How many peers to name: the other sides of sockets that most bytes went to and came from.
    #[arg(long, value_name = "N", default_value_t = PEERS)]
    pub peers: usize,
    /// Report as JSON.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(arguments: &ProfileArgs) -> Result<u8, Failure> {
    let agent = Agent::start(Catalogue::default(), ONE_SHOT)?;
    drop_privileges()?;
    let profile = over_window(&agent, &arguments.whom, arguments.window, Some(arguments.peers))?;
    output::print(&if arguments.json { output::json(&profile)? } else { render::profile(&profile) })?;
    Ok(0)
}

/// Gives up what only loading needed. Not where a command is run, which is the user's and has the user's privileges.
pub(super) fn drop_privileges() -> Result<(), Failure> {
    drop_capabilities().map_err(|error| Failure::cannot("drop capabilities", error))
}

/// The profile of what the flags select, over the time given from now on; with so many peers, if any.
pub(super) fn over_window(
    agent: &Agent,
    whom: &SelectorArgs,
    window: Duration,
    most: Option<usize>,
) -> Result<Profile, Failure> {
    let selector = whom.selector().ok_or_else(|| Failure::new(output::CANNOT, "say which processes: see --help"))?;
    let ledger = |error| Failure::cannot("read the ledger", error);
    catch_interrupt()?;
    let start = agent.observe().map_err(ledger)?;
    let no_match = || Failure::new(NOTHING, format!("no process matches {}", whom.describe()));
    // A pid that nobody has is not waited for: whoever gets it next is somebody else.
    if matches!(selector, Selector::Pid(_)) && selector.select(&start).iter().all(|process| process.exited) {
        return Err(no_match());
    }
    let peers = || if most.is_some() { agent.peers().map_err(ledger) } else { Ok(None) };
    let peers_before = peers()?;
    wait(agent, &start, window).map_err(ledger)?;
    let end = agent.observe().map_err(ledger)?;
    let found = window::between(agent.catalogue(), &selector, &start, &end, std::process::id());
    let mut profile = found.ok_or_else(no_match)?;
    if let (Some(most), Some(before), Some(after)) = (most, peers_before, peers()?) {
        profile.put_peers(&after.since(&before), most, PeersSince::Window);
    }
    Ok(profile)
}

/// What there was before the time given, and after it.
pub(super) fn watch(agent: &Agent, window: Duration) -> Result<(Snapshot, Snapshot), Failure> {
    let ledger = |error| Failure::cannot("read the ledger", error);
    catch_interrupt()?;
    let start = agent.observe().map_err(ledger)?;
    wait(agent, &start, window).map_err(ledger)?;
    Ok((start, agent.observe().map_err(ledger)?))
}

fn catch_interrupt() -> Result<(), Failure> {
    signals::catch(&[Signal::SIGINT]).map_err(|error| Failure::cannot("catch Ctrl-C", error))
}

/// Lets the window pass, or the part of it until Ctrl-C.
fn wait(agent: &Agent, start: &Snapshot, window: Duration) -> std::io::Result<()> {
    let bar = progress(window);
    let end = start.taken.checked_add(window);
    child::keep_up(agent, |most| {
        let now = Instant::now();
        let left = end.map_or(most, |end| end.saturating_duration_since(now));
        bar.set_position(u64::try_from((now - start.taken).as_millis()).unwrap_or(u64::MAX));
        if left.is_zero() || signals::take(Signal::SIGINT) {
            return Ok(true);
        }
        child::pause(left.min(most))?;
        Ok(false)
    })?;
    bar.finish_and_clear();
    Ok(())
}

/// A bar on stderr where somebody may be waiting in front of it.
fn progress(window: Duration) -> ProgressBar {
    if window <= Duration::from_secs(1) || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(u64::try_from(window.as_millis()).unwrap_or(u64::MAX));
    // The template is a constant; the default one would do as well.
    let style = ProgressStyle::with_template("watching [{bar:40}] {elapsed} (Ctrl-C reports now)");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
