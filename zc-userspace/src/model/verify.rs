//! Whether traffic really takes a path.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zc_common::path::{Endpoint, Mechanism};

use super::profile::{PathProfile, Profile};

/// What is claimed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Claim {
    /// By this call …
    pub mechanism: Mechanism,
    /// … from here, if it matters …
    pub source: Option<Endpoint>,
    /// … to there, if it matters …
    pub sink: Option<Endpoint>,
    /// … go at least this share of the bytes (0 to 1).
    pub min_share: f64,
}

impl Claim {
    /// The share that must be reached unless told otherwise.
    pub const MIN_SHARE: f64 = 0.95;
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The share is reached.
    Pass,
    /// It is not.
    Fail,
    /// There was nothing to judge by.
    NoTraffic,
}

/// The answer with its evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Verification {
    /// The answer.
    pub verdict: Verdict,
    /// Matching bytes / total bytes; null without traffic.
    pub share: Option<f64>,
    /// Payload on matching paths.
    pub matching_bytes: u64,
    /// Payload of all paths with the sink given, else with the source given, else of all that deliver.
    pub total_bytes: u64,
    /// The paths that make up the total.
    pub evidence: Vec<PathProfile>,
}

impl Claim {
    fn matches(&self, path: &PathProfile) -> bool {
        path.mechanism == self.mechanism.name()
            && self.source.is_none_or(|source| path.source == source.name())
            && self.sink.is_none_or(|sink| path.sink == sink.name())
    }

    /// What faults map or copy is no traffic, unless it is asked for.
    fn is_traffic(&self, path: &PathProfile) -> bool {
        path.mechanism != Mechanism::Mmap.name() || self.mechanism == Mechanism::Mmap
    }

    /// Whether a path's bytes are among those that the share is of.
    fn counts(&self, path: &PathProfile) -> bool {
        if !self.is_traffic(path) {
            return false;
        }
        match (self.sink, self.source) {
            (Some(sink), _) => path.sink == sink.name(),
            (None, Some(source)) => path.source == source.name(),
            (None, None) => !["user", "mapping", "pipe"].contains(&path.sink.as_str()),
        }
    }

    /// Judges a profile.
    #[must_use]
    pub fn judge(&self, profile: &Profile) -> Verification {
        let mut evidence: Vec<_> = profile.paths.iter().filter(|path| self.counts(path)).cloned().collect();
        if evidence.iter().all(|path| path.bytes == 0) && self.sink.is_none() && self.source.is_none() {
            // As for delivered bytes: where nothing is delivered elsewhere, payload into user is.
            evidence =
                profile.paths.iter().filter(|path| path.sink == "user" && self.is_traffic(path)).cloned().collect();
        }
        let total_bytes: u64 = evidence.iter().map(|path| path.bytes).sum();
        let matching_bytes: u64 = evidence.iter().filter(|path| self.matches(path)).map(|path| path.bytes).sum();
        let share = (total_bytes != 0).then(|| matching_bytes as f64 / total_bytes as f64);
        let verdict = match share {
            None => Verdict::NoTraffic,
            Some(share) if share >= self.min_share => Verdict::Pass,
            Some(_) => Verdict::Fail,
        };
        Verification { verdict, share, matching_bytes, total_bytes, evidence }
    }
}

#[cfg(test)]
mod tests {
    use zc_common::path::{Condition, PathId};
    use zc_common::record::Cell;

    use super::*;
    use crate::ledger::Counters;
    use crate::model::{Catalogue, profile};

    fn judge(claim: Claim, cells: &[(&str, u64)]) -> (Verdict, Option<f64>) {
        let catalogue = Catalogue::default();
        let mut counters = Counters::default();
        for &(id, bytes) in cells {
            let cell = catalogue.cell(PathId::parse(id).unwrap(), Condition::Always).unwrap();
            counters.add_cell(cell, Cell { operations: 1, bytes });
        }
        let answer = claim.judge(&profile(&catalogue, Vec::new(), &counters, None, 0));
        (answer.verdict, answer.share)
    }

    const SENDFILE: Claim = Claim {
        mechanism: Mechanism::Sendfile,
        source: Some(Endpoint::File),
        sink: Some(Endpoint::Tcp),
        min_share: 0.95,
    };

    #[test]
    fn share_is_of_all_paths_to_the_sink() {
        let headers = ("write:user:tcp", 5);
        assert_eq!(judge(SENDFILE, &[("sendfile:file:tcp", 95), headers]), (Verdict::Pass, Some(0.95)));
        assert_eq!(judge(SENDFILE, &[("sendfile:file:tcp", 94), ("write:user:tcp", 6)]).0, Verdict::Fail);
        assert_eq!(judge(SENDFILE, &[("read:file:user", 100)]), (Verdict::NoTraffic, None));
    }

    #[test]
    fn without_a_sink_the_source_counts_and_without_either_what_delivers() {
        let from_file = Claim { sink: None, ..SENDFILE };
        assert_eq!(judge(from_file, &[("sendfile:file:tcp", 50), ("read:file:user", 50)]).1, Some(0.5));
        let any = Claim { sink: None, source: None, ..SENDFILE };
        assert_eq!(judge(any, &[("sendfile:file:tcp", 50), ("read:file:user", 50)]).1, Some(1.0));
        let read = Claim { mechanism: Mechanism::Read, ..any };
        assert_eq!(judge(read, &[("read:file:user", 50)]).0, Verdict::Pass);
    }
}
