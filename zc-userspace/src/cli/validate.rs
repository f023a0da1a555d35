//! `zcprof validate`: every workload against the ledger.

use clap::Args;

use super::output::{CANNOT, Failure};
use super::parse;

const NOTES: &str = "\
A row shows the chunk that it really used (UDP and O_DIRECT have limits), and moves fewer bytes where it would need \
more than 65,536 operations.

Exit status: 0 if every row is exact, 1 if one is not; 2 if the usage is wrong or tracing isn't possible here.

Examples:
  zcprof validate
  zcprof validate --path sendfile:file:tcp --path splice:pipe:tcp --bytes 1GiB --json";

/// Runs every workload and compares the ledger with what it moved, byte for byte, with the textbook beside it.
#[derive(Debug, Clone, Args)]
#[command(after_help = NOTES)]
pub struct ValidateArgs {
    /// Only this path; may be given several times.
    #[arg(long = "path", value_name = "P")]
    pub paths: Vec<String>,
    /// How much each workload moves: 64MiB, 64KiB, or plain bytes.
    #[arg(long, value_name = "SIZE", value_parser = parse::size)]
    pub bytes: Option<u64>,
    /// How much at a time.
    #[arg(long, value_name = "SIZE", value_parser = parse::size)]
    pub chunk: Option<u64>,
    /// How many workloads to run at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub jobs: Option<u32>,
    /// Also count the kernel's copies with a second, independent instrument (slow).
    #[arg(long)]
    pub audit: bool,
    /// Report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Does what was asked; returns the exit status.
///
/// # Errors
/// Always, until the workload generator is in.
pub fn run(_: &ValidateArgs) -> Result<u8, Failure> {
    Err(Failure::new(CANNOT, "validate: not wired yet"))
}
