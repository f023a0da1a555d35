//! `zcprof verify`: whether traffic really takes a path, as an exit status.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::time::Duration;

use clap::{ArgGroup, Args};
use zc_common::path::{Endpoint, Mechanism};

use super::output::{self, CANNOT, Failure, NOTHING};
use super::selector::{FLAGS, SelectorArgs};
use super::{child, parse, profile, render, window};
use crate::agent::{Agent, ONE_SHOT};
use crate::model::{Catalogue, Claim, Verdict, Verification};

const NOTES: &str = "\
The share is the matching bytes of all bytes that go to the sink given; without --sink, of all bytes that come from \
the source given; without either, of all bytes that are delivered.

With CMD, the text report goes to standard error, so that CMD's own output stays clean; else, and with --json, to \
standard output. CMD's own exit status does not matter to the verdict.

Exit status: 0 if the share is reached, 1 if it is not; 2 if the usage is wrong, tracing isn't possible here or CMD \
can't be run; 3 if there was no traffic to judge by or no process matches.

Examples:
  zcprof verify --unit nginx --for 30s --mechanism sendfile --sink tcp
  zcprof verify --mechanism copy_file_range --sink file -- cp A B";

/// Checks that traffic really takes a path.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = NOTES,
    // clap's own would leave out the `--`.
    override_usage = "zcprof verify [OPTIONS] --mechanism <M> <SELECTOR>\n       zcprof verify [OPTIONS] --mechanism <M> -- <CMD>...",
    group = ArgGroup::new("selector").args(FLAGS).arg("command").required(true),
)]
pub struct VerifyArgs {
    /// Whose traffic.
    #[command(flatten)]
    pub whom: SelectorArgs,
    /// How long to watch running processes.
    #[arg(
        long = "for", value_name = "DURATION", default_value = "10s", value_parser = parse::duration,
        conflicts_with = "command"
    )]
    pub window: Duration,
    /// By this call …
    #[arg(long, value_name = "M", value_parser = parse::mechanism)]
    pub mechanism: Mechanism,
    /// … from here …
    #[arg(long, value_name = "S", value_parser = parse::endpoint)]
    pub source: Option<Endpoint>,
    /// … to there …
    #[arg(long, value_name = "T", value_parser = parse::endpoint)]
    pub sink: Option<Endpoint>,
    /// … go at least this share of the bytes, from 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = Claim::MIN_SHARE, value_parser = parse::share)]
    pub min_share: f64,
    /// Report as JSON, to standard output.
    #[arg(long)]
    pub json: bool,
    /// Run this command and judge its traffic and its descendants'.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

pub(super) fn run(arguments: &VerifyArgs) -> Result<u8, Failure> {
    let &VerifyArgs { mechanism, source, sink, min_share, .. } = arguments;
    let catalogue = Catalogue::default();
    if let Some(why) = catalogue.unseen(mechanism) {
        return Err(Failure::cannot("judge that", why));
    }
    let agent = Agent::start(catalogue, ONE_SHOT)?;
    let profile = if arguments.command.is_empty() {
        profile::drop_privileges()?;
        profile::over_window(&agent, &arguments.whom, arguments.window, None)?
    } else {
        // Whatever keeps the command from running, there is no verdict.
        let ran = child::run(&agent, &arguments.command).map_err(|e| Failure::from(e).with_status(CANNOT))?;
        if !ran.status.success() {
            output::complain(&format!("note: the command ended with status {}", child::exit_status(ran.status)));
        }
        window::since_start(agent.catalogue(), ran.key, &ran.snapshot)
    };
    let claim = Claim { mechanism, source, sink, min_share };
    let found = claim.judge(&profile);
    if arguments.json {
        output::print(&output::json(&found)?)?;
    } else if arguments.command.is_empty() {
        output::print(&text(&claim, &found))?;
    } else {
        output::print_aside(&text(&claim, &found));
    }
    Ok(exit_status(found.verdict))
}

fn exit_status(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Pass => 0,
        Verdict::Fail => 1,
        Verdict::NoTraffic => NOTHING,
    }
}

fn text(claim: &Claim, found: &Verification) -> String {
    let part = |end: Option<Endpoint>| end.map_or("*", Endpoint::name);
    let path = format!("{}:{}:{}", claim.mechanism, part(claim.source), part(claim.sink));
    let of = match (claim.sink, claim.source) {
        (Some(sink), _) => format!("all to {sink}"),
        (None, Some(source)) => format!("all from {source}"),
        (None, None) => "all delivered".to_owned(),
    };
    let wanted = claim.min_share * 100.0;
    let mut text = match (found.verdict, found.share) {
        (Verdict::NoTraffic, _) | (_, None) => format!("no traffic: nothing to judge {path} by ({of}: 0 bytes)\n"),
        (verdict, Some(share)) => format!(
            "{}: {path} carried {} of {of} (at least {wanted}% wanted)\n{} of {}\n",
            if verdict == Verdict::Pass { "pass" } else { "fail" },
            percent(share),
            render::bytes(found.matching_bytes),
            render::bytes(found.total_bytes),
        ),
    };
    if !found.evidence.is_empty() {
        let _ = write!(text, "\n{}", render::paths(&found.evidence));
    }
    text
}

/// Rounded down, so that a share that falls short never reads as if it did not.
fn percent(share: f64) -> String {
    format!("{:.2}%", (share * 10_000.0 + 1e-9).floor() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIM: Claim =
        Claim { mechanism: Mechanism::Read, source: Some(Endpoint::File), sink: None, min_share: 0.95 };

    #[test]
    fn verdicts_are_exit_statuses() {
        assert_eq!([Verdict::Pass, Verdict::Fail, Verdict::NoTraffic].map(exit_status), [0, 1, 3]);
    }

    #[test]
    fn the_verdict_leads_and_the_evidence_follows() {
        let found = CLAIM.judge(&render::tests::sample());
        let text = text(&CLAIM, &found);
        assert!(text.starts_with("pass: read:file:* carried 100.00% of all from file"), "{text}");
        assert!(text.contains("read:file:user"), "{text}");
    }

    #[test]
    fn no_traffic_says_so() {
        let claim = Claim { source: Some(Endpoint::Disk), ..CLAIM };
        let text = text(&claim, &claim.judge(&render::tests::sample()));
        assert!(text.starts_with("no traffic: nothing to judge read:disk:* by (all from disk"), "{text}");
    }

    #[test]
    fn a_share_is_never_rounded_up() {
        assert_eq!(percent(0.949_999), "94.99%");
        assert_eq!(percent(0.95), "95.00%");
        assert_eq!(percent(1.0), "100.00%");
    }
}
