//! A daemon that runs for a test, and the metrics that it tells.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::command;
use super::http::{Answer, get};
use super::process::{Running, until};

/// Requests that come faster than this for long may share a reading.
const INTERVAL: Duration = Duration::from_millis(25);

/// A daemon on a port that the kernel has chosen.
pub(crate) struct Daemon {
    pub(crate) process: Running,
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Daemon {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(options: &[&str]) -> Result<Self> {
        let daemon = Self::launch(options)?;
        until("the daemon to be ready", || Ok((daemon.get("/-/ready")?.status == 200).then_some(())))?;
        Ok(daemon)
    }

    /// Starts it and waits until it listens.
    pub(crate) fn launch(options: &[&str]) -> Result<Self> {
        Self::launch_by(command(["daemon", "--web.listen-address", "127.0.0.1:0"]).args(options))
    }

    /// Starts it by this command, and waits until it listens on an address.
    pub(crate) fn launch_by(start: &mut Command) -> Result<Self> {
        let mut process = Running::start_as_is(start.stdout(Stdio::null()).stderr(Stdio::piped()))?;
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(process.child().stderr.take().context("the daemon's log")?).lines();
        let sink = Arc::clone(&log);
        // Ends with the daemon, whose end of the pipe it reads.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *sink.lock().unwrap_or_else(PoisonError::into_inner) += &(line + "\n");
            }
        });
        let address = until("the daemon's address", || {
            let log = log.lock().unwrap_or_else(PoisonError::into_inner);
            if process.child().try_wait()?.is_some() {
                bail!("the daemon does not start: {log}");
            }
            let line = log.lines().find_map(|line| line.split_once("listening address="));
            Ok(line.map(|(_, address)| address.parse()).transpose()?)
        })?;
        Ok(Self { process, address, log })
    }

    /// `GET path`, never so often that the daemon would answer from a reading it has made for an earlier request.
    pub(crate) fn get(&self, path: &str) -> Result<Answer> {
        std::thread::sleep(INTERVAL);
        get(self.address, path)
    }

    /// What a route answers with 200, as JSON.
    pub(crate) fn json(&self, path: &str) -> Result<Value> {
        let answer = self.get(path)?;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{path}: {answer:?}");
        answer.json()
    }

    pub(crate) fn metrics(&self) -> Result<Metrics> {
        let answer = self.get("/metrics")?;
        assert_eq!(answer.status, 200, "{answer:?}");
        Metrics::parse(&answer.body)
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// All series of one scrape, by name and labels.
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let series = lines.map(|line| {
            let (name, value) = line.rsplit_once(' ').with_context(|| format!("no sample: {line}"))?;
            Ok((name.to_owned(), value.parse().with_context(|| line.to_owned())?))
        });
        series.collect::<Result<_>>().map(Self)
    }

    /// A series' value; 0 if there is none yet.
    pub(crate) fn get(&self, series: &str) -> f64 {
        self.0.get(series).copied().unwrap_or_default()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|series| series.split('{').next().unwrap_or_default())
    }

    /// The counters of the ledger and of ourselves: all that ends in _total.
    pub(crate) fn counters(&self) -> impl Iterator<Item = (&str, f64)> {
        let total = |series: &str| series.split('{').next().is_some_and(|name| name.ends_with("_total"));
        self.0.iter().filter(move |(series, _)| total(series)).map(|(series, value)| (series.as_str(), *value))
    }

    /// Fails if a counter has gone back, or gone away, since an earlier scrape.
    pub(crate) fn assert_since(&self, earlier: &Self) {
        for (series, value) in earlier.counters() {
            let now = self.0.get(series);
            assert!(now.is_some_and(|now| *now >= value), "{series} was {value} and is {now:?}");
        }
    }
}
