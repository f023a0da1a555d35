//! Ctrl-C and SIGTERM held back, so that what was begun can be put away before we end.
//!
//! Children are not affected: the standard library starts them with an empty signal mask.

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal};

/// SIGINT, SIGTERM and SIGCHLD of this thread, blocked until dropped. One that came meanwhile takes effect then.
pub(crate) struct Held(SigSet);

impl Held {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let set: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGCHLD].into_iter().collect();
        set.thread_block().context("can't hold back Ctrl-C")?;
        Ok(Self(set))
    }

    /// Waits for one of them and takes it.
    pub(crate) fn wait(&self) -> anyhow::Result<Signal> {
        self.0.wait().context("can't wait for Ctrl-C")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Fails only on an invalid argument, which the set was not when it was blocked.
        let _ = self.0.thread_unblock();
    }
}
