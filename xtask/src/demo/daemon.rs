//! The demo's daemon: started, waited for, and ended with us, whatever happens.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::http;
use crate::stop::Stop;

const READY_WITHIN: Duration = Duration::from_secs(60);
const STOPPED_WITHIN: Duration = Duration::from_secs(10);
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Our child, ended when dropped.
pub(super) struct Daemon {
    child: Child,
    address: SocketAddr,
}

impl Daemon {
    pub(super) fn start(zcprof: &Path, address: SocketAddr) -> anyhow::Result<Self> {
        eprintln!("$ zcprof daemon --web.listen-address {address}");
        let mut command = Command::new(zcprof);
        command.args(["daemon", "--web.listen-address"]).arg(address.to_string()).stdin(Stdio::null());
        // Out of the terminal's reach: Ctrl-C is for us, who then end it.
        command.process_group(0);
        let child = command.spawn().with_context(|| format!("can't run {}", zcprof.display()))?;
        Ok(Self { child, address })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        while started.elapsed() < READY_WITHIN {
            self.is_running()?;
            // Refused until it listens, 503 until it traces.
            if http::get(self.address, "/-/ready").is_ok_and(|(status, _)| status == 200) {
                return Ok(());
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
        bail!("the daemon was not ready within {} s", READY_WITHIN.as_secs())
    }

    /// An error if it has ended by itself. It has said why.
    pub(super) fn is_running(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait().context("the daemon")? {
            None => Ok(()),
            Some(status) if status.code() == Some(2) => Err(Stop::Status(2).into()),
            Some(status) => bail!("the daemon ended by itself ({status})"),
        }
    }

    /// Ends it by SIGTERM; an error if it doesn't end well.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        match self.end()? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("the daemon, told to end, ended with {status}"),
            None => bail!("the daemon did not end within {} s of SIGTERM", STOPPED_WITHIN.as_secs()),
        }
    }

    fn end(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if self.child.try_wait()?.is_none() {
            // Not yet waited for, so the id is still its own.
            kill(Pid::from_raw(self.child.id().try_into()?), Signal::SIGTERM)?;
        }
        let told = Instant::now();
        while told.elapsed() < STOPPED_WITHIN {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
        Ok(None)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After `stop` there is nothing left to end.
        if !matches!(self.end(), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon(script: &str) -> Daemon {
        let child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        Daemon { child, address: SocketAddr::from(([127, 0, 0, 1], 1)) }
    }

    #[test]
    fn it_ends_when_told() {
        daemon("trap 'exit 0' TERM; while :; do sleep 0.05; done").stop().ok();
        let mut sleeping = daemon("exec sleep 100");
        sleeping.is_running().unwrap();
        assert!(sleeping.stop().unwrap_err().to_string().contains("SIGTERM"));
    }

    #[test]
    fn its_own_end_is_noticed() {
        let error = daemon("exit 2").wait_until_ready().unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Stop::Status(2))), "{error:#}");
        assert!(daemon("exit 1").wait_until_ready().is_err());
    }
}
