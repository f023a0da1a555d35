//! `zcprof daemon`: its flags. Each is optional, so that the configuration file can fill what is not given.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::output::{CANNOT, Failure};
use super::parse;
use crate::ledger::GroupBy;

const NOTES: &str = "\
Flags win over the configuration file. The daemon runs in the foreground until SIGTERM or Ctrl-C.

Exit status: 0 on SIGTERM; 2 if the usage is wrong or tracing isn't possible here.

Examples:
  zcprof daemon
  zcprof daemon --group-by unit --probe -net
  zcprof daemon --web.listen-address [::]:9750 --web.config.file web.toml";

/// Runs in the foreground and offers Prometheus metrics, an HTTP API and a web page.
#[derive(Debug, Clone, Args)]
#[command(after_help = NOTES)]
pub struct DaemonArgs {
    /// Address to listen on; may be given several times [default: 127.0.0.1:9750].
    #[arg(long = "web.listen-address", value_name = "ADDRESS")]
    pub listen: Vec<SocketAddr>,
    /// File with TLS and authentication.
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub web_config: Option<PathBuf>,
    /// Listen on other addresses than this host's own without authentication.
    #[arg(long = "web.insecure")]
    pub insecure: bool,
    /// Configuration file.
    #[arg(long = "config.file", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What metrics group processes by [default: comm].
    #[arg(long, value_name = "WHAT")]
    pub group_by: Option<GroupBy>,
    /// Most groups that metrics tell apart; the rest is summed as "other" [default: 512].
    #[arg(long, value_name = "N")]
    pub max_groups: Option<usize>,
    /// How long processes that have exited are shown [default: 10m].
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    pub retain: Option<Duration>,
    /// Require a probe, or leave it out with a minus before its name (-net); may be given several times.
    #[arg(long = "probe", value_name = "[-]NAME", allow_hyphen_values = true)]
    pub probes: Vec<String>,
    /// Keep counting while the daemon is restarted: pin the probes.
    #[arg(long)]
    pub pin: bool,
    /// Least severe messages to log [default: info].
    #[arg(long = "log.level", value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
    /// How to log [default: text].
    #[arg(long = "log.format", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// How severe a message must be to be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// And warnings.
    Warn,
    /// And what happens.
    Info,
    /// And how.
    Debug,
    /// Everything.
    Trace,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object per line.
    Json,
}

/// Runs the daemon; returns the exit status.
///
/// # Errors
/// Always, until the daemon is in.
pub fn run(_: &DaemonArgs) -> Result<u8, Failure> {
    Err(Failure::new(CANNOT, "daemon: not wired yet"))
}
