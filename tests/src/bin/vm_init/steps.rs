//! Running commands: what makes the machine ready, and the plan's steps.

use std::fs::{self, File};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use xtask::vm::plan::{Outcome, Step};

const STDOUT: &str = "/run/stdout";
const STDERR: &str = "/run/stderr";

/// Runs a command that makes the machine ready.
pub(crate) fn must_succeed(command: &[String]) -> Result<()> {
    let outcome = run(&Step { name: command.join(" "), command: command.to_vec(), environment: vec![], seconds: 20 })?;
    ensure!(outcome.status == Some(0), "`{}`: {:?}: {}", outcome.name, outcome.status, outcome.stderr.trim());
    Ok(())
}

/// Runs a step to its end, or kills it when its time is over.
pub(crate) fn run(step: &Step) -> Result<Outcome> {
    let start = Instant::now();
    let [program, arguments @ ..] = &step.command[..] else { anyhow::bail!("{} has no program", step.name) };
    // To files: a pipe that nobody reads would hold the step up.
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .env("HOME", "/tmp")
        .env("RUST_BACKTRACE", "1")
        .envs(step.environment.iter().cloned())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(File::create(STDOUT)?)
        .stderr(File::create(STDERR)?)
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    let status = wait(child, start + Duration::from_secs(step.seconds))?;
    let text = |path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Outcome {
        name: step.name.clone(),
        status: status.map(|status| status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1)),
        stdout: text(STDOUT)?,
        stderr: text(STDERR)?,
        seconds: start.elapsed().as_secs_f64(),
    })
}

fn wait(mut child: Child, end: Instant) -> Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > end {
            // All that it started, too; what has left its group dies with the machine.
            let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
