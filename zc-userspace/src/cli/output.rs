//! Saying things: reports, complaints and exit statuses. Nothing here panics when the reader has gone away.

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;

use crate::kernel::LoadError;

/// The exit status of what could not be done: usage, or no tracing here.
pub(super) const CANNOT: u8 = 2;
/// The exit status where no process matched, or there was nothing to judge by.
pub(super) const NOTHING: u8 = 3;

/// Why a command ends without having done what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit status.
    pub status: u8,
    /// One line that says what to do.
    pub message: String,
}

impl Failure {
    /// A failure with this status.
    #[must_use]
    pub fn new(status: u8, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// The same failure with another status.
    #[must_use]
    pub fn with_status(self, status: u8) -> Self {
        Self { status, ..self }
    }

    pub(super) fn cannot(what: impl Display, why: impl Display) -> Self {
        Self::new(CANNOT, format!("can't {what}: {why}"))
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        Self::new(CANNOT, format!("can't trace: {error}"))
    }
}

/// Writes a line about ourselves to stderr; if nobody can read it, so be it.
pub(super) fn complain(message: &str) {
    let _ = writeln!(io::stderr().lock(), "zcprof: {message}");
}

/// Writes to stdout. A reader that has read enough (`| head`) is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    finish(io::stdout().lock(), text).map_err(|error| Failure::cannot("write to standard output", error))
}

/// Writes to stderr.
pub(super) fn print_aside(text: &str) {
    let _ = finish(io::stderr().lock(), text);
}

/// Writes everything and flushes.
pub(super) fn finish(mut to: impl Write, text: &str) -> io::Result<()> {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// As JSON, indented, with a newline at the end.
pub(super) fn json(value: &impl Serialize) -> Result<String, Failure> {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| Failure::cannot("write JSON", error))?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(io::ErrorKind);
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_left_is_no_failure_but_a_full_disk_is() {
        assert!(finish(Broken(io::ErrorKind::BrokenPipe), "x").is_ok());
        assert!(finish(Broken(io::ErrorKind::StorageFull), "x").is_err());
    }

    #[test]
    fn failing_to_load_is_can_not_trace() {
        let failure = Failure::from(LoadError::NotPermitted);
        assert_eq!(failure.status, CANNOT);
        assert!(failure.message.contains("CAP_BPF"), "{}", failure.message);
    }
}
