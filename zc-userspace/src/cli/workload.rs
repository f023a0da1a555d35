//! `zcprof workload`: drives copy paths with exactly known bytes.

use std::os::fd::{FromRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;

use super::output::{CANNOT, Failure, json, print};
use super::{parse, progress};
use crate::validate::{StopAtGates, Went};
use crate::workload::way::{self, Way};
use crate::workload::{self, Gate, Outcome, Request, Workload};

/// Drives one copy path with an exactly known number of bytes.
#[derive(Debug, Clone, Args)]
pub struct WorkloadArgs {
    /// What to do.
    #[command(subcommand)]
    pub what: What,
}

/// What can be done with workloads.
#[derive(Debug, Clone, Subcommand)]
pub enum What {
    /// List the paths that can be driven here, and why others can not.
    #[command(after_help = "Exit status: 0.")]
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Drive one path.
    #[command(
        after_help = "Exit status: 0; 2 if the path can't be driven here.\n\nExample:\n  zcprof record -- zcprof workload run sendfile:file:tcp --bytes 1GiB"
    )]
    Run(RunArgs),
    /// Go one of the textbook's ways: what `zcprof validate --textbook` starts.
    #[command(hide = true)]
    Way(WayArgs),
}

/// One path and how much to move along it.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The path, as `zcprof workload list` names it: sendfile:file:tcp, read:tcp:user@peek, read:file:user+preadv2.
    pub path: String,
    /// How much to move: 64MiB, 64KiB, or plain bytes.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse::size)]
    pub bytes: u64,
    /// How much at a time.
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = parse::size)]
    pub chunk: u64,
    /// Where to put scratch files: on a file system with a disk behind it [default: TMPDIR, /var/tmp or here, the first
    /// that has one].
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Say what was moved as JSON.
    #[arg(long)]
    pub json: bool,
    /// Stop (SIGSTOP) right before and right after the bytes move.
    #[arg(long, hide = true)]
    pub stop_at_gates: bool,
}

/// One of the textbook's ways.
#[derive(Debug, Clone, Args)]
pub struct WayArgs {
    /// The way.
    pub way: Way,
    /// The file.
    #[arg(long)]
    pub file: PathBuf,
    /// The number of the inherited socket to send it to.
    #[arg(long)]
    pub socket: i32,
    /// How much at a time.
    #[arg(long, value_parser = parse::size)]
    pub chunk: u64,
    /// With nothing of the file in the page cache.
    #[arg(long)]
    pub cold: bool,
}

/// Does what was asked; returns the exit status.
///
/// # Errors
/// If the path is unknown or can't be driven here.
pub fn run(arguments: &WorkloadArgs) -> Result<u8, Failure> {
    match &arguments.what {
        What::List { json } => list(*json),
        What::Run(arguments) => drive(arguments),
        What::Way(arguments) => go(arguments),
    }
}

/// One workload, as `list --json` shows it.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    id: &'static str,
    condition: &'static str,
    variant: &'static str,
    about: &'static str,
    available: bool,
    reason: Option<String>,
}

fn list(as_json: bool) -> Result<u8, Failure> {
    let directory = scratch_directory(None)?;
    let all: Vec<_> = workload::all().iter().map(|one| listed(one, directory.path())).collect();
    if as_json {
        print(&json(&serde_json::json!({ "workloads": all }))?)?;
        return Ok(0);
    }
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(["workload", "what it does", "here"]);
    for one in all {
        let here = one.reason.unwrap_or_else(|| "yes".to_owned());
        table.add_row([one.name, one.about.to_owned(), here]);
    }
    print(&format!("{table}\n"))?;
    Ok(0)
}

fn listed(workload: &Workload, directory: &Path) -> Listed {
    let reason = workload.unavailable(directory);
    Listed {
        name: workload.name(),
        id: workload.id,
        condition: workload.condition.name(),
        variant: workload.variant,
        about: workload.about,
        available: reason.is_none(),
        reason,
    }
}

fn drive(arguments: &RunArgs) -> Result<u8, Failure> {
    let found = named(&arguments.path)?;
    let [workload] = found[..] else {
        let names: Vec<_> = found.iter().map(|one| one.name()).collect();
        let message = format!("{} is several workloads; name one of {}", arguments.path, names.join(", "));
        // The plain one is what its bare name means.
        let Some(plain) = found.iter().find(|one| one.name() == arguments.path) else {
            return Err(Failure::new(CANNOT, message));
        };
        return one(plain, arguments);
    };
    one(workload, arguments)
}

fn go(arguments: &WayArgs) -> Result<u8, Failure> {
    let chunk = usize::try_from(arguments.chunk).map_err(|error| Failure::cannot("go", error))?;
    // SAFETY: whoever starts this hands the descriptor down, and nothing else here knows its number.
    let socket = unsafe { OwnedFd::from_raw_fd(arguments.socket) };
    let request = way::Request { way: arguments.way, file: &arguments.file, cold: arguments.cold, socket, chunk };
    let (bytes, operations) =
        way::run(request, &mut StopAtGates).map_err(|error| Failure::new(CANNOT, format!("{error:#}")))?;
    print(&json(&Went { bytes, operations })?)?;
    Ok(0)
}

fn one(workload: &Workload, arguments: &RunArgs) -> Result<u8, Failure> {
    let scratch = scratch_directory(arguments.directory.as_deref())?;
    if let Some(why) = workload.unavailable(scratch.path()) {
        return Err(Failure::cannot(format!("drive {}", workload.name()), why));
    }
    let request = Request { bytes: arguments.bytes, chunk: arguments.chunk, directory: scratch.path().to_owned() };
    let outcome = if arguments.stop_at_gates {
        workload.run(&request, &mut StopAtGates)
    } else {
        workload.run(&request, &mut Shown(progress::bytes(workload.plan(request.bytes, request.chunk).0)))
    };
    let outcome = outcome.map_err(|error| Failure::new(CANNOT, format!("{error:#}")))?;
    print(&if arguments.json { json(&outcome)? } else { sentence(workload, &outcome) })?;
    Ok(0)
}

fn sentence(workload: &Workload, outcome: &Outcome) -> String {
    let note = outcome.note.as_ref().map_or_else(String::new, |note| format!(" ({note})"));
    format!(
        "{}: {} bytes in {} operations of {} bytes{note}\n",
        workload.name(),
        outcome.bytes,
        outcome.operations,
        outcome.chunk
    )
}

/// The workloads of a name.
pub(super) fn named(name: &str) -> Result<Vec<&'static Workload>, Failure> {
    let found = workload::find(name);
    if found.is_empty() {
        let message = format!("there is no workload for the path {name}; `zcprof workload list` names them all");
        return Err(Failure::new(CANNOT, message));
    }
    Ok(found)
}

/// Shows how far the workload is.
struct Shown(indicatif::ProgressBar);

impl Gate for Shown {
    fn ready(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn done(&mut self) -> anyhow::Result<()> {
        self.0.finish_and_clear();
        Ok(())
    }

    fn progress(&mut self, bytes: u64) {
        self.0.set_position(bytes);
    }
}

/// A scratch directory that is removed in the end: in the one given, or in the first of the usual ones that has a disk
/// behind it, without which nothing can be opened past the page cache.
pub(super) fn scratch_directory(given: Option<&Path>) -> Result<tempfile::TempDir, Failure> {
    let make = |parent: &Path| tempfile::Builder::new().prefix("zcprof-").tempdir_in(parent);
    if let Some(parent) = given {
        return make(parent)
            .map_err(|error| Failure::cannot(format!("make a directory in {}", parent.display()), error));
    }
    let usual = [std::env::temp_dir(), PathBuf::from("/var/tmp"), PathBuf::from(".")];
    let direct = workload::find("read:disk:user");
    let mut last = None;
    for scratch in usual.iter().filter_map(|parent| make(parent).ok()) {
        if direct.iter().all(|one| one.unavailable(scratch.path()).is_none()) {
            return Ok(scratch);
        }
        last = Some(scratch);
    }
    last.ok_or_else(|| Failure::new(CANNOT, "can't write to TMPDIR, /var/tmp or here; give a --directory"))
}
