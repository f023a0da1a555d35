//! Signals that a command notes instead of dying of them, so that it can still report.

use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// One bit per signal number.
static NOTED: AtomicU64 = AtomicU64::new(0);

extern "C" fn note(signal: i32) {
    NOTED.fetch_or(1 << signal, Ordering::Relaxed);
}

/// From now on notes these signals. What is ignored stays ignored (`nohup`, background jobs of a shell without job
/// control). A handler rather than ignoring, because commands that we start would inherit that.
pub(super) fn catch(signals: &[Signal]) -> nix::Result<()> {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    for &signal in signals {
        // SAFETY: the handler only sets a bit in an atomic, which is async-signal-safe.
        let before = unsafe { sigaction(signal, &action) }?;
        if before.handler() == SigHandler::SigIgn {
            // SAFETY: puts back what was there.
            unsafe { sigaction(signal, &before) }?;
        }
    }
    Ok(())
}

/// Whether the signal came since it was last asked for.
pub(super) fn take(signal: Signal) -> bool {
    let bit = 1 << signal as i32;
    NOTED.fetch_and(!bit, Ordering::Relaxed) & bit != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_noted_once() {
        catch(&[Signal::SIGUSR1]).unwrap();
        assert!(!take(Signal::SIGUSR1));
        nix::sys::signal::raise(Signal::SIGUSR1).unwrap();
        assert!(take(Signal::SIGUSR1));
        assert!(!take(Signal::SIGUSR1));
    }
}
