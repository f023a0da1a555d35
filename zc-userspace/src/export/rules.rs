//! Verify rules of the configuration: claims that the daemon judges whenever it is asked, as metrics and with evidence.

use std::time::Duration;

use ::prometheus::{Encoder as _, Error, GaugeVec, Opts, Registry, TextEncoder};
use serde::Serialize;
use utoipa::ToSchema;

use super::About;
use super::api::profile_of;
use super::source::Source;
use crate::ledger::{Selector, Snapshot};
use crate::model::{Claim, ProcessInfo, Verdict, Verification};

/// A claim about some processes, over a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// What metrics call it.
    pub name: String,
    /// Whom it is about; descendants included.
    pub selector: Selector,
    /// What is claimed.
    pub claim: Claim,
    /// How far back traffic counts.
    pub window: Duration,
}

/// A rule's answer.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct RuleAnswer {
    /// The rule's name.
    pub rule: String,
    /// The share that it claims.
    pub min_share: f64,
    /// The window that was really covered; null before there is one.
    pub window_seconds: Option<f64>,
    /// Whose traffic was judged.
    pub processes: Vec<ProcessInfo>,
    /// Verdict, share and evidence.
    #[serde(flatten)]
    pub verification: Verification,
}

/// Judges every rule by a snapshot and what is known of the time before it.
pub(super) fn judge(about: &About, source: &Source, snapshot: &Snapshot) -> Vec<RuleAnswer> {
    let answers = about.rules.iter().map(|rule| {
        let past = source.before(snapshot.taken, rule.window);
        let profile = profile_of(&about.catalogue, snapshot, &rule.selector.select(snapshot), past.as_deref());
        RuleAnswer {
            rule: rule.name.clone(),
            min_share: rule.claim.min_share,
            window_seconds: profile.window_seconds,
            verification: rule.claim.judge(&profile),
            processes: profile.processes,
        }
    });
    answers.collect()
}

/// The answers as metrics; nothing where there are no rules, and no share where there is no traffic.
///
/// # Errors
/// Only if two metrics had the same name, which the tests rule out.
pub(super) fn metrics(answers: &[RuleAnswer]) -> Result<Vec<u8>, Error> {
    let registry = Registry::new();
    let gauges = |name: &str, help: &str| -> Result<GaugeVec, Error> {
        let gauges = GaugeVec::new(Opts::new(name, help), &["rule"])?;
        registry.register(Box::new(gauges.clone()))?;
        Ok(gauges)
    };
    let share = gauges(
        "zcprof_verify_share_ratio",
        "Share of a verify rule's traffic that takes the path claimed, over the rule's window; absent without traffic.",
    )?;
    let least = gauges("zcprof_verify_min_share_ratio", "Share that a verify rule claims.")?;
    let total =
        gauges("zcprof_verify_bytes", "Payload bytes that a verify rule's share is of, over the rule's window.")?;
    let passes = gauges("zcprof_verify_pass", "Whether a verify rule's claim holds; absent without traffic.")?;
    for answer in answers {
        let labels = [answer.rule.as_str()];
        least.with_label_values(&labels).set(answer.min_share);
        total.with_label_values(&labels).set(answer.verification.total_bytes as f64);
        if let Some(found) = answer.verification.share {
            share.with_label_values(&labels).set(found);
            let pass = answer.verification.verdict == Verdict::Pass;
            passes.with_label_values(&labels).set(f64::from(u8::from(pass)));
        }
    }
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    Ok(text)
}
