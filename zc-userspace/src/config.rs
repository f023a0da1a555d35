//! The daemon's configuration: flags over a TOML file over defaults.

mod file;
mod rules;

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use crate::export::listen::Address;
use crate::export::rules::Rule;
use crate::export::web::{Web, WebError};
use crate::kernel::{ProbeStatus, is_optional};
use crate::ledger::GroupBy;

/// Where the daemon listens unless told otherwise.
pub const DEFAULT_LISTEN_ADDRESS: &str = "127.0.0.1:9750";
/// How many groups the metrics may have beside `other`, unless told otherwise.
pub const DEFAULT_MAX_GROUPS: usize = 512;
/// How long an exited process is kept unless told otherwise.
pub const DEFAULT_RETAIN: Duration = Duration::from_secs(600);

/// How much is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// What went wrong.
    Error,
    /// And what may go wrong.
    Warn,
    /// And what was done.
    #[default]
    Info,
    /// And every request.
    Debug,
    /// And what libraries do.
    Trace,
}

/// What a log line looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Time, level, message, key=value.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// What the command line says; what is `None` or empty was not given.
#[derive(Debug, Clone, Default)]
pub struct DaemonOptions {
    /// `--config.file`.
    pub config_file: Option<PathBuf>,
    /// `--web.listen-address`, as often as given.
    pub web_listen_address: Vec<String>,
    /// `--web.config.file`.
    pub web_config_file: Option<PathBuf>,
    /// `--web.insecure`.
    pub web_insecure: Option<bool>,
    /// `--group-by`.
    pub group_by: Option<GroupBy>,
    /// `--max-groups`.
    pub max_groups: Option<usize>,
    /// `--retain`.
    pub retain: Option<Duration>,
    /// `--probe`, as often as given: `name` or `-name`.
    pub probe: Vec<String>,
    /// `--log.level`.
    pub log_level: Option<LogLevel>,
    /// `--log.format`.
    pub log_format: Option<LogFormat>,
}

/// What the daemon runs with.
#[derive(Debug, Clone, PartialEq)]
pub struct DaemonConfig {
    /// Where to listen; loopback only, unless `anywhere`. Empty if no address was given: then on the sockets that the
    /// service manager has opened, or else on [`DEFAULT_LISTEN_ADDRESS`].
    pub listen: Vec<Address>,
    /// Whether it may be asked from other hosts: with TLS, or because plain HTTP was allowed there.
    pub anywhere: bool,
    /// The web configuration: TLS, who may ask.
    pub web_config: Option<PathBuf>,
    /// What processes are grouped by in the metrics.
    pub group_by: GroupBy,
    /// Groups beside `other`.
    pub max_groups: usize,
    /// How long an exited process is kept.
    pub retain: Duration,
    /// Probes asked for (`name`) and renounced (`-name`); see [`check_probes`].
    pub probe: Vec<String>,
    /// What to judge continually.
    pub rules: Vec<Rule>,
    /// How much is logged.
    pub log_level: LogLevel,
    /// What a log line looks like.
    pub log_format: LogFormat,
}

/// Why there is no configuration. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the configuration file {path}: {error}; see --config.file")]
    Unreadable {
        /// As given.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// The file is not what it should be. The message names the line.
    #[error("{path}: {error}")]
    Malformed {
        /// As given.
        path: PathBuf,
        /// Where and what.
        error: Box<toml::de::Error>,
    },
    /// An address that is none.
    #[error(
        "can't listen on `{address}`: {reason}; give --web.listen-address as host:port, e.g. {DEFAULT_LISTEN_ADDRESS}, or as unix:/path"
    )]
    Address {
        /// As given.
        address: String,
        /// Why not.
        reason: String,
    },
    /// Plain HTTP would leave the host.
    #[error(
        "refusing to serve plain HTTP on {0}, which is not a loopback address: give a --web.config.file with tls_server_config, listen on {DEFAULT_LISTEN_ADDRESS} (--web.listen-address, or ListenStream= of a socket unit), or accept the risk with --web.insecure"
    )]
    Insecure(SocketAddr),
    /// The web configuration can't be used.
    #[error("{0}; see --web.config.file")]
    Web(#[from] WebError),
    /// Two verify rules can't be told apart.
    #[error("there are two verify rules named `{0}`: give each a name of its own")]
    SameRule(String),
    /// A probe by a name that none has.
    #[error("there is no probe `{name}`; the probes are: {known}")]
    UnknownProbe {
        /// As given.
        name: String,
        /// All names.
        known: String,
    },
    /// A probe that everything rests on.
    #[error("the probe `{name}` can't be turned off: every figure rests on {base}; these can: {optional}")]
    BaseProbe {
        /// As given.
        name: String,
        /// Those that can't.
        base: String,
        /// Those that can.
        optional: String,
    },
    /// A probe asked for by name that can't be had.
    #[error(
        "the probe `{name}` was asked for but can't be had: {reason}; leave `--probe {name}` out; attached are: {attached}"
    )]
    ProbeNotHere {
        /// As given.
        name: String,
        /// Why not.
        reason: String,
        /// What there is.
        attached: String,
    },
}

impl DaemonConfig {
    /// Merges the flags over the file that they name, if any, over the defaults.
    ///
    /// # Errors
    /// If the file or an address is unusable, or plain HTTP would leave the host.
    pub fn load(options: DaemonOptions) -> Result<Self, ConfigError> {
        let file = options.config_file.as_deref().map_or_else(|| Ok(file::File::default()), file::read)?;
        let web_config = options.web_config_file.or(file.web.config.file);
        let web = web_config.as_deref().map(Web::load).transpose()?;
        let encrypts = web.is_some_and(|web| web.current().tls.is_some());
        let anywhere = encrypts || options.web_insecure.or(file.web.insecure).unwrap_or(false);
        let given = options.web_listen_address;
        let addresses = if given.is_empty() { file.web.listen_address } else { given };
        let listen = addresses.iter().map(|address| resolve(address)).collect::<Result<Vec<_>, _>>()?;
        if !anywhere && let Some(open) = listen.iter().find_map(Address::open_to_others) {
            return Err(ConfigError::Insecure(open));
        }
        let rules: Vec<_> = file.verify.into_iter().map(|checked| checked.0).collect();
        let same = |at: &usize| rules[..*at].iter().any(|earlier| earlier.name == rules[*at].name);
        if let Some(at) = (0..rules.len()).find(same) {
            return Err(ConfigError::SameRule(rules[at].name.clone()));
        }
        Ok(Self {
            listen,
            anywhere,
            rules,
            web_config,
            group_by: options.group_by.or(file.group_by).unwrap_or_default(),
            max_groups: options.max_groups.or(file.max_groups).unwrap_or(DEFAULT_MAX_GROUPS),
            retain: options.retain.or(file.retain).unwrap_or(DEFAULT_RETAIN),
            probe: if options.probe.is_empty() { file.probe } else { options.probe },
            log_level: options.log_level.or(file.log.level).unwrap_or_default(),
            log_format: options.log_format.or(file.log.format).unwrap_or_default(),
        })
    }
}

/// Reads `unix:/path`, or `host:port`; `:port` means every address, as Prometheus's exporters have it.
fn resolve(address: &str) -> Result<Address, ConfigError> {
    let wrong = |reason: String| ConfigError::Address { address: address.to_owned(), reason };
    if let Some(path) = address.strip_prefix("unix:") {
        let path = PathBuf::from(path);
        return if path.is_absolute() {
            Ok(Address::Unix(path))
        } else {
            Err(wrong("its path must be absolute".to_owned()))
        };
    }
    let full = if address.starts_with(':') { format!("[::]{address}") } else { address.to_owned() };
    let mut found = full.to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
    found.next().map(Address::Tcp).ok_or_else(|| wrong("no such host".to_owned()))
}

/// Holds what `--probe` asks for against what there is. Returns the probes that were renounced; none of them is
/// attached.
///
/// # Errors
/// If a probe is unknown, can't be turned off, or was asked for by name and is not attached.
pub fn check_probes<'a>(asked: &'a [String], probes: &[ProbeStatus]) -> Result<Vec<&'a str>, ConfigError> {
    let list = |wanted: &dyn Fn(&ProbeStatus) -> bool| -> String {
        probes.iter().filter(|probe| wanted(probe)).map(|probe| probe.name).collect::<Vec<_>>().join(", ")
    };
    let mut renounced = Vec::new();
    for entry in asked {
        let name = entry.strip_prefix('-').unwrap_or(entry);
        let Some(probe) = probes.iter().find(|probe| probe.name == name) else {
            return Err(ConfigError::UnknownProbe { name: name.to_owned(), known: list(&|_| true) });
        };
        match (entry.starts_with('-'), probe.attached) {
            (true, false) => renounced.push(name),
            (true, true) => {
                return Err(ConfigError::BaseProbe {
                    name: name.to_owned(),
                    base: list(&|probe| probe.attached && !is_optional(probe.name)),
                    optional: list(&|probe| !probe.attached || is_optional(probe.name)),
                });
            }
            (false, true) => {}
            (false, false) => {
                return Err(ConfigError::ProbeNotHere {
                    name: name.to_owned(),
                    reason: probe.reason.clone().unwrap_or_else(|| "no reason known".to_owned()),
                    attached: list(&|probe| probe.attached),
                });
            }
        }
    }
    Ok(renounced)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Selector;

    fn with_file(text: &str, options: DaemonOptions) -> Result<DaemonConfig, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("zcprof.toml");
        std::fs::write(&path, text).unwrap();
        DaemonConfig::load(DaemonOptions { config_file: Some(path), ..options }).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults() {
        let config = DaemonConfig::load(DaemonOptions::default()).unwrap();
        assert!(config.listen.is_empty() && !config.anywhere);
        assert_eq!((config.max_groups, config.retain.as_secs()), (512, 600));
        assert_eq!((config.group_by, config.log_level), (GroupBy::Comm, LogLevel::Info));
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let text = "group-by = \"unit\"\nmax-groups = 7\nretain = \"90s\"\nprobe = \"-net\"\n\
                    [web]\nlisten-address = [\"127.0.0.1:1\", \"[::1]:2\"]\n[log]\nlevel = \"debug\"\nformat = \"json\"\n";
        let config = with_file(text, DaemonOptions { max_groups: Some(9), ..DaemonOptions::default() }).unwrap();
        assert_eq!((config.group_by, config.max_groups, config.retain.as_secs()), (GroupBy::Unit, 9, 90));
        assert_eq!((config.log_level, config.log_format), (LogLevel::Debug, LogFormat::Json));
        assert_eq!((config.listen.len(), config.probe.as_slice()), (2, ["-net".to_owned()].as_slice()));
    }

    #[test]
    fn verify_rules() {
        let rule = |more: &str| format!("[[verify]]\nname = \"n\"\nunit = \"nginx\"\nmechanism = \"sendfile\"\n{more}");
        let config = with_file(&rule("sink = \"tcp\"\nwindow = \"30s\"\n"), DaemonOptions::default()).unwrap();
        let [found] = &config.rules[..] else { panic!("{:?}", config.rules) };
        assert_eq!((found.claim.min_share, found.window.as_secs()), (0.95, 30));
        assert_eq!((found.name.as_str(), &found.selector), ("n", &Selector::Unit("nginx".to_owned())));
        for (text, says) in [
            (rule("comm = \"nginx\"\n"), "exactly one of"),
            (rule("min-share = 95\n"), "0 to 1"),
            (rule("window = \"2h\"\n"), "at most 1m"),
            (rule("sink = \"TCP\"\n"), "tcp, udp"),
            (rule("colour = \"red\"\n"), "colour"),
            (rule("") + &rule(""), "two verify rules"),
        ] {
            let error = with_file(&text, DaemonOptions::default()).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_faulty_file_is_refused_with_its_line() {
        for (text, says) in [
            ("max-groups = 1\nmax-group = 2\n", ["line 2", "max-group"]),
            ("[web]\nlisten = \"x\"\n", ["line 2", "listen-address"]),
            ("group-by = \"colour\"\n", ["line 1", "comm, exe, unit, cgroup, pid"]),
            ("\nretain = \"soon\"\n", ["line 2", "10m"]),
            ("[web]\nlisten-address = 9750\n", ["line 2", "list of strings"]),
            ("max-groups = -1\n", ["line 1", "-1"]),
        ] {
            let error = with_file(text, DaemonOptions::default()).unwrap_err();
            assert!(says.iter().all(|part| error.contains(part)), "{text}: {error}");
        }
        let missing =
            DaemonOptions { config_file: Some("/nonexistent/zcprof.toml".into()), ..DaemonOptions::default() };
        assert!(DaemonConfig::load(missing).unwrap_err().to_string().contains("/nonexistent/zcprof.toml"));
    }

    #[test]
    fn plain_http_stays_on_the_host_unless_told_otherwise() {
        let on = |address: &str, insecure| {
            let options = DaemonOptions {
                web_listen_address: vec![address.to_owned()],
                web_insecure: insecure,
                ..DaemonOptions::default()
            };
            DaemonConfig::load(options).map_err(|error| error.to_string())
        };
        for open in ["0.0.0.0:9750", ":9750", "[::]:9750", "192.0.2.1:9750"] {
            assert!(on(open, None).unwrap_err().contains("--web.insecure"), "{open}");
            assert!(on(open, Some(true)).is_ok(), "{open}");
        }
        for closed in ["[::ffff:127.0.0.1]:1", "unix:/run/zcprof.sock"] {
            assert!(on(closed, None).is_ok(), "{closed}");
        }
        assert!(on("unix:zcprof.sock", None).unwrap_err().contains("absolute"));
        assert!(on("127.0.0.1", None).unwrap_err().contains("host:port"));
        let missing = "[web]\nconfig.file = \"/nonexistent/web.yml\"\n";
        assert!(with_file(missing, DaemonOptions::default()).unwrap_err().contains("/nonexistent/web.yml"));
    }

    #[test]
    fn probes_that_cannot_be_had_or_renounced_are_errors() {
        let probe = |name, attached: bool| ProbeStatus {
            name,
            attached,
            reason: (!attached).then(|| "not in this build".to_owned()),
            minimum_kernel: "6.1",
            provides: "",
        };
        let probes = [probe("sys_exit", true), probe("net", false)];
        let check = |entry: &str| {
            let asked = [entry.to_owned()];
            check_probes(&asked, &probes).map(|names| names.join(",")).map_err(|error| error.to_string())
        };
        assert_eq!(check("-net").as_deref(), Ok("net"));
        assert_eq!(check("sys_exit").as_deref(), Ok(""));
        for (entry, says) in
            [("net", "not in this build"), ("-sys_exit", "can't be turned off"), ("x", "sys_exit, net")]
        {
            assert!(check(entry).unwrap_err().contains(says), "{entry}");
        }
    }
}
