//! `zcprof daemon`: its flags. Each is optional, so that the configuration file can fill what is not given.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::output::{CANNOT, Failure};
use super::parse;
use crate::agent::daemon;
use crate::config::{DaemonConfig, DaemonOptions, LogFormat, LogLevel};
use crate::ledger::GroupBy;

const NOTES: &str = "\
Flags win over the configuration file. The daemon runs in the foreground until SIGTERM or Ctrl-C.

Exit status: 0 on SIGTERM; 2 if the usage is wrong or tracing isn't possible here.

Examples:
  zcprof daemon
  zcprof daemon --group-by unit --probe -net
  zcprof daemon --web.listen-address [::1]:9750 --web.listen-address 127.0.0.1:9750";

/// Runs in the foreground and offers Prometheus metrics, an HTTP API and a web page.
#[derive(Debug, Clone, Args)]
#[command(after_help = NOTES)]
pub struct DaemonArgs {
    /// Address to listen on, host:port or unix:/path; may be given several times [default: the sockets that systemd hands over, or else
    /// 127.0.0.1:9750].
    #[arg(long = "web.listen-address", value_name = "ADDRESS")]
    pub listen: Vec<String>,
    /// File with TLS, client certificates, names and passwords, in the format of Prometheus's exporters.
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub web_config: Option<PathBuf>,
    /// Listen on other addresses than this host's own without TLS.
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
    /// How long processes that have exited are shown, if no more than 8,192 are [default: 10m].
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    pub retain: Option<Duration>,
    /// Require a probe, or leave it out with a minus before its name (-net); may be given several times.
    #[arg(long = "probe", value_name = "[-]NAME", allow_hyphen_values = true)]
    pub probes: Vec<String>,
    /// Keep counting while the daemon is restarted: pin the probes (not in this build).
    #[arg(long)]
    pub pin: bool,
    /// Least severe messages to log [default: info].
    #[arg(long = "log.level", value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
    /// How to log [default: text].
    #[arg(long = "log.format", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// Runs the daemon; returns the exit status.
///
/// # Errors
/// If the configuration makes no sense, or asks for what this build can't do.
pub fn run(arguments: &DaemonArgs) -> Result<ExitCode, Failure> {
    if arguments.pin {
        let why =
            "this build can't pin its probes yet: start the daemon without --pin; counters begin anew with each start";
        return Err(Failure::new(CANNOT, why));
    }
    let options = DaemonOptions {
        config_file: arguments.config.clone(),
        web_listen_address: arguments.listen.clone(),
        web_config_file: arguments.web_config.clone(),
        web_insecure: arguments.insecure.then_some(true),
        group_by: arguments.group_by,
        max_groups: arguments.max_groups,
        retain: arguments.retain,
        probe: arguments.probes.clone(),
        log_level: arguments.log_level,
        log_format: arguments.log_format,
    };
    let config = DaemonConfig::load(options).map_err(|error| Failure::new(CANNOT, format!("{error}")))?;
    Ok(daemon::run(&config))
}
