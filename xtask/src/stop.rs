//! How a command ends other than well, and with which exit status.

use std::process::ExitCode;

/// What sets an exit status of its own; every other error is 1.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    /// This machine lacks something; the text says what, and how to get it, in one line. Exit status 2.
    #[error("{0}")]
    Cannot(String),
    /// A child's exit status to pass on; it has said why itself.
    #[error("exit status {0}")]
    Status(u8),
}

/// Says why, unless a child has, and gives the exit status.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<Stop>() {
        Some(Stop::Cannot(why)) => {
            eprintln!("xtask: {why}");
            ExitCode::from(2)
        }
        Some(Stop::Status(status)) => ExitCode::from(*status),
        None => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
