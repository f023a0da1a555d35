//! `zcprof validate`: every workload against the ledger.

use std::path::PathBuf;

use clap::Args;
use zc_common::path::{Endpoint, Mechanism, PathId, ROWS};

use super::output::{CANNOT, Failure, json, print};
use super::{parse, progress, workload};
use crate::agent::{Agent, ONE_SHOT};
use crate::kernel::Audit;
use crate::model::Catalogue;
use crate::validate::{Plan, run as validate, table, textbook, textbook_table};
use crate::workload::way::Devices;
use crate::workload::{Request, Workload, all};

const NOTES: &str = "\
A row shows the chunk that it really used (UDP and O_DIRECT have limits), and moves fewer bytes where it would need \
more than 65,536 operations. It is exact if the ledger has the workload's operations and bytes on its path and nothing \
unclassified, and the catalogue's hops are what the workload knows of the kernel. Copied bytes are modelled.

Exit status: 0 if every row is exact, 1 if one is not; 2 if the usage is wrong or tracing isn't possible here.

Examples:
  zcprof validate
  zcprof validate --path sendfile:file:tcp --path splice:pipe:tcp --bytes 1GiB --json
  zcprof validate --variants --jobs 8
  zcprof validate --textbook --bytes 16MiB";

/// Runs every workload and compares the ledger with what it moved, byte for byte, with the textbook beside it.
#[derive(Debug, Clone, Args)]
#[command(after_help = NOTES)]
pub struct ValidateArgs {
    /// Only this path; may be given several times.
    #[arg(long = "path", value_name = "P")]
    pub paths: Vec<String>,
    /// How much each workload moves: 64MiB, 64KiB, or plain bytes.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse::size)]
    pub bytes: u64,
    /// How much at a time.
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = parse::size)]
    pub chunk: u64,
    /// How many workloads to run at once.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: u16,
    /// Also the variants of each path: every call of its family, other kinds of the same endpoints.
    #[arg(long)]
    pub variants: bool,
    /// The textbook's table instead: each way of sending a file, cold and warm, over loopback and through a pair of
    /// network devices with and without scatter-gather (which takes root).
    #[arg(long, conflicts_with_all = ["paths", "variants", "audit", "falsify", "jobs"])]
    pub textbook: bool,
    /// With --textbook: also through two network devices of this host that are connected to each other, FROM,TO. They are
    /// taken out of this network namespace meanwhile; physical ones come back, switched off and without addresses.
    #[arg(long, requires = "textbook", value_name = "FROM,TO", value_parser = devices)]
    pub devices: Option<(String, String)>,
    /// Also count what the CPU really copies, with hardware breakpoints on the kernel's copy routines; one workload at a
    /// time, whatever --jobs says.
    #[arg(long)]
    pub audit: bool,
    /// Where to put scratch files: on a file system with a disk behind it.
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Report as JSON.
    #[arg(long)]
    pub json: bool,
    /// Falsify the catalogue's row of a path, to see that it is noticed: mechanism, sink or hops.
    #[arg(long, hide = true, value_name = "WHAT=PATH")]
    pub falsify: Option<String>,
}

/// Does what was asked; returns the exit status.
///
/// # Errors
/// If a path is unknown or tracing can't start.
pub fn run(arguments: &ValidateArgs) -> Result<u8, Failure> {
    let workloads = chosen(arguments)?;
    let catalogue = match &arguments.falsify {
        Some(what) => falsified(what)?,
        None => Catalogue::default(),
    };
    let scratch = workload::scratch_directory(arguments.directory.as_deref())?;
    let plan = Plan {
        workloads,
        request: Request { bytes: arguments.bytes, chunk: arguments.chunk, directory: scratch.path().to_owned() },
        // The breakpoints count what the whole kernel copies.
        jobs: if arguments.audit { 1 } else { usize::from(arguments.jobs) },
        program: std::env::current_exe().map_err(|error| Failure::cannot("find this program", error))?,
    };
    let audit = if arguments.audit {
        Some(Audit::load().map_err(|error| Failure::new(CANNOT, error.to_string()))?)
    } else {
        None
    };
    let agent = Agent::start(catalogue, ONE_SHOT)?;
    if arguments.textbook {
        return ways(&agent, &plan, arguments);
    }
    let bar = progress::steps(plan.workloads.len() as u64);
    let report = validate(&agent, &plan, audit, &|finished, row| {
        bar.set_position(finished as u64);
        bar.set_message(row.workload.clone());
    });
    bar.finish_and_clear();
    print(&if arguments.json { json(&report)? } else { table(&report) })?;
    Ok(u8::from(!report.exact))
}

fn devices(text: &str) -> Result<(String, String), String> {
    match text.split_once(',') {
        Some((from, to)) if !from.is_empty() && !to.is_empty() => Ok((from.to_owned(), to.to_owned())),
        _ => Err("two names with a comma between them, e.g. eth1,eth2".to_owned()),
    }
}

fn ways(agent: &Agent, plan: &Plan, arguments: &ValidateArgs) -> Result<u8, Failure> {
    let take = |(from, to): &(String, String)| Devices::take(from, to);
    let devices = arguments.devices.as_ref().map(take).transpose();
    let devices = devices.map_err(|error| Failure::new(CANNOT, format!("{error:#}")))?;
    let bar = progress::steps(0);
    let report = textbook(agent, plan, devices.as_ref(), &|finished, of| {
        bar.set_length(of as u64);
        bar.set_position(finished as u64);
    });
    bar.finish_and_clear();
    let report = report.map_err(|error| Failure::new(CANNOT, format!("{error:#}")))?;
    print(&if arguments.json { json(&report)? } else { textbook_table(&report) })?;
    Ok(u8::from(!report.exact))
}

fn chosen(arguments: &ValidateArgs) -> Result<Vec<&'static Workload>, Failure> {
    if arguments.paths.is_empty() {
        return Ok(all().iter().filter(|one| arguments.variants || one.variant.is_empty()).collect());
    }
    let mut workloads = Vec::new();
    for path in &arguments.paths {
        workloads.extend(workload::named(path)?);
        if arguments.variants {
            workloads.extend(all().iter().filter(|one| one.id == path && !one.variant.is_empty()));
        }
    }
    Ok(workloads)
}

/// The catalogue with one row made wrong.
fn falsified(what: &str) -> Result<Catalogue, Failure> {
    let usage = || Failure::new(CANNOT, format!("--falsify {what}: write mechanism=PATH, sink=PATH or hops=PATH"));
    let (kind, path) = what.split_once('=').ok_or_else(usage)?;
    let path = PathId::parse(path).ok_or_else(usage)?;
    let mut rows = ROWS.to_vec();
    for row in rows.iter_mut().filter(|row| row.id() == path) {
        match kind {
            "mechanism" if row.mechanism == Mechanism::Tee => row.mechanism = Mechanism::Mmap,
            "mechanism" => row.mechanism = Mechanism::Tee,
            "sink" if row.sink == Endpoint::Disk => row.sink = Endpoint::File,
            "sink" => row.sink = Endpoint::Disk,
            "hops" if row.hops.is_empty() => row.hops = ROWS[0].hops,
            "hops" => row.hops = &[],
            _ => return Err(usage()),
        }
    }
    Ok(Catalogue::of(rows))
}
