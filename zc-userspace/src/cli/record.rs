//! `zcprof record`: a command's profile, from before its exec to after its exit.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use clap::Args;

use super::child::{self, RunError};
use super::output::{self, Failure};
use super::{render, window};
use crate::agent::{Agent, ONE_SHOT};
use crate::model::{Catalogue, PeersSince, Profile};

/// The exit status of our own failures, as of env(1), timeout(1) and their kin.
pub(super) const OWN_FAILURE: u8 = 125;
/// The exit status where the command can't be run.
const CANNOT_RUN: u8 = 126;
/// The exit status where there is no such command.
const NOT_FOUND: u8 = 127;

const NOTES: &str = "\
The text report goes to standard error, so that CMD's own output stays clean; with --json it goes to standard \
output. -o FILE sends either to a file instead.

Figures are since CMD's start and include its descendants; what descendants do after CMD itself has ended is not in \
the report. The few system calls between fork and exec count as CMD's.

Exit status: CMD's own, or 128 + n if signal n killed it; 125 if zcprof itself fails, 126 if CMD can't be run, 127 if \
it isn't found.

Examples:
  zcprof record -- cp A B
  zcprof record --json -o profile.json -- sh -c 'cat A | wc -c'";

/// Runs CMD and reports how it and all its descendants moved bytes.
#[derive(Debug, Clone, Args)]
#[command(after_help = NOTES)]
pub struct RecordArgs {
    /// Report as JSON, to standard output.
    #[arg(long)]
    pub json: bool,
    /// Report to this file.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How many peers to name: the other sides of sockets that most bytes went to and came from.
    #[arg(long, value_name = "N", default_value_t = super::profile::PEERS)]
    pub peers: usize,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

pub(super) fn run(arguments: &RecordArgs) -> Result<u8, Failure> {
    record(arguments).map_err(|failure| match failure.status {
        CANNOT_RUN | NOT_FOUND => failure,
        _ => failure.with_status(OWN_FAILURE),
    })
}

fn record(arguments: &RecordArgs) -> Result<u8, Failure> {
    // Before the command runs: it may run for hours, or not bear being run twice.
    let file = arguments.output.as_deref().map(open).transpose()?;
    let (agent, ran) = match run_command(&arguments.command) {
        Ok(ran) => ran,
        Err(failure) => {
            discard(file, arguments.output.as_deref());
            return Err(failure);
        }
    };
    let mut profile = window::since_start(agent.catalogue(), ran.key, &ran.snapshot);
    if let Some(peers) = agent.peers().map_err(|error| Failure::cannot("read the ledger", error))? {
        profile.put_peers(&peers, arguments.peers, PeersSince::FirstSeen);
    }
    report(arguments, file, &profile)?;
    Ok(child::exit_status(ran.status))
}

fn run_command(command: &[OsString]) -> Result<(Agent, child::Ran), Failure> {
    let agent = Agent::start(Catalogue::default(), ONE_SHOT)?;
    let ran = child::run(&agent, command)?;
    Ok((agent, ran))
}

/// Takes the report's file away again where it is empty: there is no report.
fn discard(file: Option<File>, path: Option<&Path>) {
    let empty = file.and_then(|file| file.metadata().ok()).is_some_and(|of| of.is_file() && of.len() == 0);
    if let (true, Some(path)) = (empty, path) {
        // It says nothing, and we have something worse to tell.
        let _ = std::fs::remove_file(path);
    }
}

/// Opens the report's file without touching what is in it yet.
fn open(path: &Path) -> Result<File, Failure> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    file.map_err(|error| Failure::cannot(format_args!("write {}", path.display()), error))
}

fn report(arguments: &RecordArgs, file: Option<File>, profile: &Profile) -> Result<(), Failure> {
    let text = if arguments.json { output::json(profile)? } else { render::profile(profile) };
    match (file, &arguments.output) {
        (Some(file), path) => {
            let path = path.as_deref().unwrap_or(Path::new("the report")).display();
            let empty = match file.metadata() {
                Ok(of) if of.is_file() => file.set_len(0),
                _ => Ok(()),
            };
            empty
                .and_then(|()| output::finish(&file, &text))
                .map_err(|error| Failure::cannot(format_args!("write {path}"), error))
        }
        (None, _) if arguments.json => output::print(&text),
        (None, _) => {
            output::print_aside(&text);
            Ok(())
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let status = match &error {
            RunError::NotFound(_) => NOT_FOUND,
            RunError::CannotRun(..) => CANNOT_RUN,
            RunError::NotSeen | RunError::Own(_) => OWN_FAILURE,
        };
        Self::new(status, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn statuses_are_those_of_env() {
        let status = |error: RunError| Failure::from(error).status;
        assert_eq!(status(RunError::NotFound("x".to_owned())), 127);
        assert_eq!(status(RunError::CannotRun("x".to_owned(), io::ErrorKind::PermissionDenied.into())), 126);
        assert_eq!(status(RunError::NotSeen), 125);
    }

    #[test]
    fn a_report_replaces_what_was_in_its_file_only_when_there_is_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report");
        std::fs::write(&path, "an earlier report, which is longer than this one ".repeat(100)).unwrap();
        let file = open(&path).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("an earlier"));
        let arguments = RecordArgs { json: true, output: Some(path.clone()), peers: 10, command: Vec::new() };
        let profile = render::tests::sample();
        report(&arguments, Some(file), &profile).unwrap();
        let back: Profile = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(back, profile);
    }

    #[test]
    fn where_there_is_no_report_there_is_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let (new, old) = (directory.path().join("new"), directory.path().join("old"));
        std::fs::write(&old, "earlier").unwrap();
        for path in [&new, &old] {
            discard(Some(open(path).unwrap()), Some(path));
        }
        assert!(!new.exists());
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "earlier");
    }

    #[test]
    fn a_file_that_can_not_be_written_is_an_error_at_once() {
        let directory = tempfile::tempdir().unwrap();
        assert!(open(&directory.path().join("none/report")).is_err());
        assert!(open(directory.path()).is_err());
    }
}
