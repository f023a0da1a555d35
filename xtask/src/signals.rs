//! Ctrl-C and SIGTERM held back, so that what was begun can be put away before we end.
//!
//! By handlers, which a child loses at exec; a blocked signal it would inherit, and never end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};

/// While it lives, SIGINT and SIGTERM are only noted. Afterwards they end us again.
pub(crate) struct Held {
    came: Arc<AtomicBool>,
    released: Arc<AtomicBool>,
    noting: Vec<SigId>,
}

impl Held {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut held = Self { came: Arc::default(), released: Arc::default(), noting: Vec::new() };
        for signal in [SIGINT, SIGTERM] {
            // Stays registered: nothing restores the default action but performing it.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&held.released))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&held.came)))
                .map(|id| held.noting.push(id))
                .context("can't hold back Ctrl-C")?;
        }
        Ok(held)
    }

    /// Whether one came.
    pub(crate) fn came(&self) -> bool {
        self.came.load(Ordering::Relaxed)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.released.store(true, Ordering::Relaxed);
        for id in self.noting.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_signal_is_noted_and_children_do_not_inherit_that() {
        let held = Held::new().unwrap();
        assert!(!held.came());
        signal_hook::low_level::raise(SIGTERM).unwrap();
        assert!(held.came());
        let child = Command::new("sh").args(["-c", "kill -TERM $$; sleep 5"]).status().unwrap();
        assert_eq!(child.signal(), Some(SIGTERM));
    }
}
