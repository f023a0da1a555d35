//! `zcprof workload`: drives copy paths with exactly known bytes.

use clap::{Args, Subcommand};

use super::output::{CANNOT, Failure};
use super::parse;

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
}

/// One path and how much to move along it.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The path, as `zcprof workload list` names it: sendfile:file:tcp.
    pub path: String,
    /// How much to move: 64MiB, 64KiB, or plain bytes.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse::size)]
    pub bytes: u64,
    /// How much at a time.
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = parse::size)]
    pub chunk: u64,
    /// Say what was moved as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Does what was asked; returns the exit status.
///
/// # Errors
/// Always, until the workload generator is in.
pub fn run(arguments: &WorkloadArgs) -> Result<u8, Failure> {
    match &arguments.what {
        What::List { .. } => Err(Failure::new(CANNOT, "workload list: not wired yet")),
        What::Run(_) => Err(Failure::new(CANNOT, "workload run: not wired yet")),
    }
}
