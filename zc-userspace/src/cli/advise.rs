//! `zcprof advise`: what is copied needlessly, and which call would save it.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::time::Duration;

use clap::{ArgGroup, Args};

use super::output::{self, CANNOT, Failure, NOTHING};
use super::selector::{FLAGS, SelectorArgs};
use super::{child, parse, profile, render, window};
use crate::agent::{Agent, ONE_SHOT, cipher_library};
use crate::ledger::{GroupBy, Selector};
use crate::model::{Advice, AdviceReport, Catalogue, ProcessAdvice, ProcessInfo, report};

const NOTES: &str = "\
Candidates are bytes that were written out from the very memory that they had been read into: an upper bound of what a \
call that moves them past the process could save. Calls that overwrite memory are seen, plain stores are not. What is \
saved is modelled.

With CMD, the text report goes to standard error, so that CMD's own output stays clean; else, and with --json, to \
standard output. CMD's own exit status does not matter.

Exit status: 0; 2 if the usage is wrong, tracing isn't possible here or CMD can't be run, 3 if no process matches.

Examples:
  zcprof advise --for 30s
  zcprof advise --unit nginx
  zcprof advise -- cat A";

/// Says what is copied needlessly, and which call would save it.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = NOTES,
    // clap's own would leave out the `--`.
    override_usage = "zcprof advise [OPTIONS] [SELECTOR]\n       zcprof advise [OPTIONS] -- <CMD>...",
    group = ArgGroup::new("selector").args(FLAGS).arg("command").required(false),
)]
pub struct AdviseArgs {
    /// Whom to watch; everybody if nobody is named.
    #[command(flatten)]
    pub whom: SelectorArgs,
    /// How long to watch running processes.
    #[arg(
        long = "for", value_name = "DURATION", default_value = "10s", value_parser = parse::duration,
        conflicts_with = "command"
    )]
    pub window: Duration,
    /// Report as JSON, to standard output.
    #[arg(long)]
    pub json: bool,
    /// Run this command and look at it and its descendants.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

pub(super) fn run(arguments: &AdviseArgs) -> Result<u8, Failure> {
    let agent = Agent::start(Catalogue::default(), ONE_SHOT)?;
    if !agent.catalogue().sees.contains(crate::kernel::PASS_THROUGH) {
        return Err(Failure::cannot("advise", "the probe pass_through is not attached: `zcprof probes` says why"));
    }
    let report = if arguments.command.is_empty() {
        over_window(&agent, &arguments.whom, arguments.window)?
    } else {
        let ran = child::run(&agent, &arguments.command).map_err(|e| Failure::from(e).with_status(CANNOT))?;
        let family = Selector::Key(ran.key).select(&ran.snapshot).into_iter();
        let family = family.map(|process| (&**process, process.counters.clone()));
        report(agent.catalogue(), GroupBy::Comm, family, None, cipher_library)
    };
    if arguments.json {
        output::print(&output::json(&report)?)?;
    } else if arguments.command.is_empty() {
        output::print(&text(&report))?;
    } else {
        output::print_aside(&text(&report));
    }
    Ok(0)
}

/// Advice for each of the processes that are selected, or for all. Capabilities are kept: without them other users'
/// processes do not show what libraries they use.
fn over_window(agent: &Agent, whom: &SelectorArgs, window: Duration) -> Result<AdviceReport, Failure> {
    let (start, end) = profile::watch(agent, window)?;
    let passed = end.taken.duration_since(start.taken);
    let of = match whom.selector() {
        Some(selector) => window::differences(&selector, &start, &end, std::process::id()),
        None => window::all_differences(&start, &end, std::process::id()),
    };
    if of.is_empty() && whom.selector().is_some() {
        return Err(Failure::new(NOTHING, format!("no process matches {}", whom.describe())));
    }
    let of = of.into_iter().map(|(process, counters)| (&**process, counters));
    Ok(report(agent.catalogue(), GroupBy::Comm, of, Some(passed), cipher_library))
}

fn text(report: &AdviceReport) -> String {
    let mut text = String::new();
    let is_advised = |one: &&ProcessAdvice| one.advice.iter().any(|advice| advice.advised);
    for one in report.processes.iter().filter(is_advised) {
        let _ = writeln!(text, "{}", name(&one.process));
        for advice in one.advice.iter().filter(|advice| advice.advised) {
            let _ = write!(text, "{}", advised(advice));
        }
    }
    if text.is_empty() {
        text.push_str("Nothing is copied needlessly, as far as can be seen.\n");
    }
    for one in report.groups.iter().filter(|one| one.processes > 1 && one.advice.iter().any(|advice| advice.advised)) {
        let _ = writeln!(text, "all {} processes of {} together", one.processes, render::sanitize(&one.group));
        for advice in one.advice.iter().filter(|advice| advice.advised) {
            let _ = write!(text, "{}", advised(advice));
        }
    }
    let others = report.processes.iter().flat_map(|one| one.advice.iter().map(move |advice| (&one.process, advice)));
    let mut others = others.filter(|(_, advice)| !advice.advised).peekable();
    if others.peek().is_some() {
        text.push_str("\nNot advised:\n");
    }
    for (process, advice) in others {
        let bytes = render::bytes(advice.written_bytes);
        let (source, sink) = (&advice.source, &advice.sink);
        let _ = writeln!(text, "  {}: {source} to {sink}, {bytes} written: {}", name(process), advice.reason);
    }
    text
}

fn name(process: &ProcessInfo) -> String {
    format!("{} (pid {})", render::sanitize(&process.comm), process.pid)
}

fn advised(advice: &Advice) -> String {
    let Advice { source, sink, candidate_bytes, share, call, paths, reason, .. } = advice;
    let call = call.as_deref().unwrap_or_default();
    let mut text = format!(
        "  {source} to {sink}: up to {} ({:.0}% of it): {call} ({})\n      {reason}\n      saves up to {} of copies",
        render::bytes(*candidate_bytes),
        share * 100.0,
        paths.join(", "),
        render::bytes(advice.saved_copied_bytes),
    );
    if advice.saved_mode_switches > 0 {
        let _ = write!(text, " and {} mode switches", advice.saved_mode_switches);
    }
    text + " (modelled)\n"
}
