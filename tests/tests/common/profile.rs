//! A profile, as zcprof prints it, and recording one.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Ended, Scratch, command, run};

/// A profile's JSON.
#[derive(Debug, Clone)]
pub(crate) struct Profile(pub(crate) Value);

impl Profile {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).map(Self).with_context(|| format!("no profile: {text:?}"))
    }

    /// Payload bytes of a path; 0 if it isn't in the profile.
    pub(crate) fn bytes(&self, id: &str) -> u64 {
        self.figure(id, "bytes")
    }

    /// Operations of a path; 0 if it isn't in the profile.
    pub(crate) fn operations(&self, id: &str) -> u64 {
        self.figure(id, "operations")
    }

    fn figure(&self, id: &str, name: &str) -> u64 {
        let mut paths = self.0["paths"].as_array().expect("a profile has paths").iter();
        paths.find(|path| path["id"] == id).map_or(0, |path| path[name].as_u64().expect("a path has figures"))
    }

    pub(crate) fn copies_per_byte(&self) -> Option<f64> {
        self.0["copies_per_byte"].as_f64()
    }

    /// Fails if anything was lost or left without a path: then no other figure could be called exact.
    pub(crate) fn assert_complete(&self) {
        let lost = &self.0["lost"];
        assert_eq!((lost["events"].as_u64(), lost["unclassified_operations"].as_u64()), (Some(0), Some(0)), "{self}");
    }

    /// Fails if it isn't exactly so many bytes that took the path.
    pub(crate) fn assert_bytes(&self, id: &str, bytes: u64) {
        assert_eq!(self.bytes(id), bytes, "bytes of {id} in {self}");
    }
}

impl std::fmt::Display for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for path in self.0["paths"].as_array().into_iter().flatten() {
            write!(f, "{} {} {}; ", path["id"], path["operations"], path["bytes"])?;
        }
        write!(f, "{}", self.0["lost"])
    }
}

/// `zcprof record --json -o FILE --`, to be given a command. Its standard streams are pipes or nothing, never a file.
pub(crate) fn recorder(scratch: &Scratch, report: &str) -> Command {
    let mut record = command(["record", "--json", "-o", &scratch.at(report), "--"]);
    record.stdin(std::process::Stdio::null());
    record
}

/// Records a command that is to succeed; the profile is complete.
pub(crate) fn record(scratch: &Scratch, words: &[&str]) -> Result<(Profile, Ended)> {
    let ended = run(recorder(scratch, "report.json").args(words).current_dir(scratch.path()))?;
    assert_eq!(ended.status, 0, "{words:?}: {ended:?}");
    let profile = Profile::parse(&scratch.read("report.json")?)?;
    profile.assert_complete();
    Ok((profile, ended))
}
