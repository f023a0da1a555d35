//! A workload in a process of its own, which stops itself right before and right after the bytes move: what the ledger
//! counted in between is the workload's alone, without the noise of a starting process.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::Plan;
use crate::agent::Agent;
use crate::kernel::{Audit, Audited, Kind, Watch};
use crate::ledger::Counters;
use crate::workload::{Gate, Outcome, Workload};

/// The child's side: stops at each gate until it is told to go on. Moves no byte.
#[derive(Debug, Clone, Copy, Default)]
pub struct StopAtGates;

impl Gate for StopAtGates {
    fn ready(&mut self) -> Result<()> {
        raise(Signal::SIGSTOP).context("stopping before the workload")
    }

    fn done(&mut self) -> Result<()> {
        raise(Signal::SIGSTOP).context("stopping after the workload")
    }
}

/// Kills and reaps the child if it is left behind.
pub(super) struct Guard(pub(super) Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have been reaped already: then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs one workload; returns what it says it did, what the ledger counted meanwhile, and what the audit did.
pub(super) fn run(
    agent: &Agent,
    plan: &Plan,
    workload: &Workload,
    audit: Option<&mut Audit>,
) -> Result<(Outcome, Counters, Option<Audited>)> {
    let child = Command::new(&plan.program)
        .args(["workload", "run", &workload.name(), "--stop-at-gates", "--json"])
        .args(["--bytes", &plan.request.bytes.to_string(), "--chunk", &plan.request.chunk.to_string()])
        .arg("--directory")
        .arg(&plan.request.directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {}", plan.program.display()))?;
    let mut guard = Guard(child);
    let before = counted_at_gate(agent, &mut guard.0)?;
    let mut watch = audit.map(|audit| audit.watch(guard.0.id(), Kind::of(workload.id))).transpose()?;
    go_on(&guard.0)?;
    let after = counted_at_gate(agent, &mut guard.0)?;
    let audited = watch.as_mut().map(Watch::read).transpose()?;
    drop(watch);
    go_on(&guard.0)?;
    let mut text = String::new();
    guard.0.stdout.take().context("the child's output")?.read_to_string(&mut text)?;
    let status = guard.0.wait()?;
    if !status.success() {
        bail!("the workload's process: {status}{}", said(&mut guard.0));
    }
    let outcome = serde_json::from_str(&text).with_context(|| format!("the workload printed {text:?}"))?;
    Ok((outcome, after.since(&before), audited))
}

pub(super) fn go_on(child: &Child) -> Result<()> {
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGCONT).context("letting the workload go on")
}

/// Waits for the child to stop, and reads what it has been counted.
fn counted_at_gate(agent: &Agent, child: &mut Child) -> Result<Counters> {
    wait_for_gate(child)?;
    counters_of(agent, child)
}

/// Waits for the child to stop.
pub(super) fn wait_for_gate(child: &mut Child) -> Result<()> {
    let pid = Pid::from_raw(child.id().cast_signed());
    match waitpid(pid, Some(WaitPidFlag::WUNTRACED))? {
        WaitStatus::Stopped(..) => Ok(()),
        ended => bail!("the workload's process ended early ({ended:?}){}", said(child)),
    }
}

/// Reads what a child has been counted.
pub(super) fn counters_of(agent: &Agent, child: &Child) -> Result<Counters> {
    let snapshot = agent.observe().context("reading the ledger")?;
    let process = snapshot.by_pid(child.id()).context("the workload's process is not in the ledger")?;
    let counters = process.counters.clone();
    Ok(counters)
}

pub(super) fn said(child: &mut Child) -> String {
    let mut text = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        // What it says is only a help; if it can't be read, the status must do.
        let _ = stderr.read_to_string(&mut text);
    }
    if text.is_empty() { String::new() } else { format!(": {}", text.trim()) }
}
