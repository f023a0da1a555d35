//! Processes that run beside the test, and waiting for them.

use std::fs;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Ended;

/// How long anything may take that should happen soon, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process that does not outlive the test. Ask it to end before it is killed, if it has children to see to.
pub(crate) struct Running {
    child: Child,
    /// Sent in the end, so that it can see to its children.
    farewell: Signal,
}

impl Running {
    /// Starts it, with its output held for [`Self::end`].
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self::start_as_is(command)
    }

    /// Starts it with the streams that the command has.
    pub(crate) fn start_as_is(command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("starting {:?}", command.get_program()))?;
        Ok(Self { child, farewell: Signal::SIGKILL })
    }

    /// Have it end by this signal, rather than by being killed.
    pub(crate) fn ending_by(mut self, farewell: Signal) -> Self {
        self.farewell = farewell;
        self
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).context("sending a signal")
    }

    /// Waits for its end; what it says meanwhile must fit into a pipe.
    pub(crate) fn end(&mut self) -> Result<Ended> {
        let status = until("its end", || Ok(self.child.try_wait()?))?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        if let Some(mut pipe) = self.child.stdout.take() {
            pipe.read_to_end(&mut stdout)?;
        }
        if let Some(mut pipe) = self.child.stderr.take() {
            pipe.read_to_end(&mut stderr)?;
        }
        Ok(std::process::Output { status, stdout, stderr }.into())
    }

    /// Sends a signal and waits for its end.
    pub(crate) fn end_by(&mut self, signal: Signal) -> Result<Ended> {
        self.signal(signal)?;
        self.end()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // If it can't be signalled or waited for, there is nothing left to do about it.
        let _ = self.signal(self.farewell);
        let ended = self.farewell != Signal::SIGKILL && until("its end", || Ok(self.child.try_wait()?)).is_ok();
        if !ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Asks again and again until there is an answer.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() > end {
            bail!("waited in vain for {what}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A field of /proc/PID/status.
pub(crate) fn status_field(process: &str, name: &str) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(value.with_context(|| format!("no {name} of {process}"))?.trim().to_owned())
}

/// Waits until a process sleeps, as a server does that has finished what it was about: what it did is counted then.
pub(crate) fn until_asleep(pid: u32) -> Result<()> {
    until("a process to go to sleep", || {
        let state = status_field(&pid.to_string(), "State")?;
        Ok(state.starts_with('S').then_some(()))
    })
}

/// Waits until `zcprof profile` or `verify` has taken its first reading: it has arranged for Ctrl-C, and polls.
pub(crate) fn until_watching(watcher: &mut Running) -> Result<()> {
    let pid = watcher.pid().to_string();
    until("zcprof to watch", || {
        if watcher.child().try_wait()?.is_some() {
            bail!("zcprof ended at once: {:?}", watcher.end()?);
        }
        let caught = u64::from_str_radix(&status_field(&pid, "SigCgt")?, 16)?;
        let call = fs::read_to_string(format!("/proc/{pid}/syscall"))?;
        let interrupt = 1 << (Signal::SIGINT as u64 - 1);
        Ok((caught & interrupt != 0 && is_poll(&call)).then_some(()))
    })
}

/// Whether /proc/PID/syscall says that it waits in poll or ppoll.
fn is_poll(call: &str) -> bool {
    let number = call.split(' ').next().and_then(|number| number.parse::<libc::c_long>().ok());
    number.is_some_and(|number| number == libc::SYS_ppoll || (cfg!(target_arch = "x86_64") && number == 7))
}
