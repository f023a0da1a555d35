//! The tests' side: an agent, helpers that stop and go on, and the comparison of what both say.

use std::ffi::OsStr;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;
use zcprof::agent::Agent;
use zcprof::ledger::{Counters, GroupBy, Process, ProcessKey, Settings, Snapshot};
use zcprof::model::Catalogue;

use crate::expected::Paths;

/// Keeps every process and every group, as far as memory goes.
pub const SETTINGS: Settings = Settings { group_by: GroupBy::Comm, max_groups: 1_000_000, retain: None };

/// The agent that the tests of one target share.
///
/// # Panics
/// If tracing can't start here.
pub fn agent() -> &'static Agent {
    static AGENT: OnceLock<Agent> = OnceLock::new();
    AGENT.get_or_init(|| match Agent::start(Catalogue::default(), SETTINGS) {
        Ok(agent) => agent,
        Err(error) => panic!("the end-to-end tests need a kernel that can be traced: {error}"),
    })
}

/// A helper program; killed and reaped when dropped.
#[derive(Debug)]
pub struct Helper {
    child: Child,
    key: Option<ProcessKey>,
}

/// What a helper says about what it did.
#[derive(Debug)]
pub struct Report {
    /// Operations and bytes between its first and last stop.
    pub paths: Paths,
    /// System calls between them.
    pub calls: u64,
    /// Whatever else it noted.
    pub notes: Value,
}

impl Report {
    /// A number that it noted.
    ///
    /// # Errors
    /// If it did not.
    pub fn number(&self, name: &str) -> anyhow::Result<u64> {
        self.notes[name].as_u64().with_context(|| format!("the helper noted no {name}"))
    }
}

impl Helper {
    /// Starts a helper. Its standard output is read by [`Helper::finish`].
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start(program: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let child = Command::new(program)
            .args(arguments.iter().map(OsStr::new))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't start {program}"))?;
        Ok(Self { child, key: None })
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn nix_pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Waits until it has stopped itself.
    ///
    /// # Errors
    /// If it exits instead.
    pub fn wait_stopped(&self) -> anyhow::Result<()> {
        match waitpid(self.nix_pid(), Some(WaitPidFlag::WUNTRACED))? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => Ok(()),
            status => bail!("the helper did not stop but: {status:?} (its message is above)"),
        }
    }

    /// Whether it has stopped itself since the last time that anybody waited for that.
    ///
    /// # Errors
    /// If it exits instead.
    pub fn has_stopped(&self) -> anyhow::Result<bool> {
        match waitpid(self.nix_pid(), Some(WaitPidFlag::WUNTRACED | WaitPidFlag::WNOHANG))? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => Ok(true),
            WaitStatus::StillAlive => Ok(false),
            status => bail!("the helper did not stop but: {status:?} (its message is above)"),
        }
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// If it is gone.
    pub fn proceed(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it is gone.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill(self.nix_pid(), signal).context("kill")
    }

    /// What the ledger has for it. The first time it finds its key, and from then on goes by that.
    ///
    /// # Errors
    /// If it is not there.
    pub fn process(&mut self, snapshot: &Snapshot) -> anyhow::Result<Arc<Process>> {
        let found = match self.key {
            None => snapshot.by_pid(self.pid()),
            Some(key) => snapshot.by_key(key),
        };
        let process = found.with_context(|| format!("helper {} is not in the snapshot", self.pid()))?;
        self.key = Some(process.key);
        Ok(Arc::clone(process))
    }

    /// Takes a reading of an agent, and what that has for the helper.
    ///
    /// # Errors
    /// If the reading fails or lacks the helper.
    pub fn observe(&mut self, agent: &Agent) -> anyhow::Result<Arc<Process>> {
        self.process(&agent.observe()?)
    }

    /// Lets it go on to its end and reads what it says.
    ///
    /// # Errors
    /// If it fails or says nothing that can be understood.
    pub fn finish(mut self) -> anyhow::Result<Report> {
        self.proceed()?;
        self.report()
    }

    /// Reads what it says, up to its end.
    ///
    /// # Errors
    /// If it fails or says nothing that can be understood.
    pub fn report(&mut self) -> anyhow::Result<Report> {
        let mut text = String::new();
        self.child.stdout.take().context("stdout")?.read_to_string(&mut text)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the helper failed: {status} (its message is above)");
        let report: Value = serde_json::from_str(&text).with_context(|| format!("the helper said {text:?}"))?;
        Ok(Report {
            paths: Paths::from_json(&report["paths"])?,
            calls: report["calls"].as_u64().context("calls")?,
            notes: report["notes"].clone(),
        })
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Compares what was counted between two snapshots with what a helper says it did.
///
/// # Panics
/// If they differ.
pub fn assert_counted(what: &str, counted: &Counters, report: &Report) {
    assert_eq!(Paths::of(agent().catalogue(), counted), report.paths, "{what}: counted (left), done (right)");
    if report.notes["calls_are_exact"] == Value::Bool(true) {
        assert_eq!(counted.system_calls, report.calls, "{what}: system calls counted (left), made (right)");
    }
}

/// Runs a helper's scenario with two stops and checks what was counted in between, and that its exit changes nothing.
///
/// # Errors
/// If the helper fails.
///
/// # Panics
/// If the ledger differs from what the helper did.
pub fn check(program: &str, arguments: &[&str]) -> anyhow::Result<Report> {
    let agent = agent();
    let mut helper = Helper::start(program, arguments)?;
    helper.wait_stopped()?;
    let before = helper.observe(agent)?;
    helper.proceed()?;
    helper.wait_stopped()?;
    let after = helper.observe(agent)?;
    let report = helper.finish()?;
    assert_counted(&arguments.join(" "), &after.counters.since(&before.counters), &report);
    let gone = agent.observe()?;
    let gone = gone.by_key(after.key).context("the process is gone from the ledger")?;
    assert!(gone.exited, "it has exited");
    assert!(after.counters.since(&gone.counters).is_zero(), "nothing is lost at exit");
    Ok(report)
}
