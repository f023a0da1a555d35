//! The helpers' side: raw system calls between two stops, and a count of what they should have moved.

use std::io::{self, Write as _};
use std::os::fd::RawFd;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Map, Value, json};

use crate::expected::Paths;

/// What a helper did, as it knows it.
#[derive(Debug)]
pub struct Script {
    /// Asked once: asking is a system call.
    pid: usize,
    expected: Paths,
    /// System calls made since [`Script::begin`] by this thread through [`Script::call`].
    calls: u64,
    notes: Map<String, Value>,
}

/// Makes one system call. The arguments that are addresses must be of memory that lives and that nothing else uses
/// during the call, as for the C library's functions.
///
/// # Errors
/// If the call fails.
pub fn raw(number: libc::c_long, arguments: &[usize]) -> io::Result<usize> {
    let a = |i: usize| arguments.get(i).copied().unwrap_or(0);
    // SAFETY: the helpers pass live memory; excess arguments are ignored by the kernel.
    let returned = unsafe { libc::syscall(number, a(0), a(1), a(2), a(3), a(4), a(5)) };
    usize::try_from(returned).map_err(|_| io::Error::last_os_error())
}

/// The call that forks, and its arguments: newer architectures have no fork.
#[cfg(target_arch = "x86_64")]
pub const FORK: (libc::c_long, &[usize]) = (libc::SYS_fork, &[]);
/// The call that forks, and its arguments: newer architectures have no fork.
#[cfg(not(target_arch = "x86_64"))]
pub const FORK: (libc::c_long, &[usize]) = (libc::SYS_clone, &[libc::SIGCHLD as usize]);

/// Forks, without what the C library does at that.
///
/// # Errors
/// If the kernel refuses.
pub fn fork() -> io::Result<usize> {
    raw(FORK.0, FORK.1)
}

/// A descriptor as an argument of [`raw`].
#[must_use]
pub fn arg(fd: RawFd) -> usize {
    fd as usize
}

impl Default for Script {
    fn default() -> Self {
        Self { pid: std::process::id() as usize, expected: Paths::default(), calls: 0, notes: Map::new() }
    }
}

impl Script {
    /// Stops; what follows is measured.
    ///
    /// # Errors
    /// If the process can't stop itself.
    pub fn begin(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        self.calls = 0;
        Ok(())
    }

    /// Stops until the test goes on. One system call.
    ///
    /// # Errors
    /// If the process can't stop itself.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.returns(0, libc::SYS_kill, &[self.pid, libc::SIGSTOP as usize])
    }

    /// One system call.
    ///
    /// # Errors
    /// If it fails.
    pub fn call(&mut self, number: libc::c_long, arguments: &[usize]) -> io::Result<usize> {
        self.calls += 1;
        raw(number, arguments)
    }

    /// One system call that must return `wanted`.
    ///
    /// # Errors
    /// If it returns anything else.
    pub fn returns(&mut self, wanted: usize, number: libc::c_long, arguments: &[usize]) -> anyhow::Result<()> {
        let returned = self.call(number, arguments).with_context(|| format!("system call {number}"))?;
        ensure!(returned == wanted, "system call {number} returned {returned}, not {wanted}");
        Ok(())
    }

    /// One system call that must return `bytes`, which it moved on `path`.
    ///
    /// # Errors
    /// If it returns anything else.
    pub fn moves(&mut self, path: &str, bytes: usize, number: libc::c_long, arguments: &[usize]) -> anyhow::Result<()> {
        self.returns(bytes, number, arguments).with_context(|| path.to_owned())?;
        self.expect(path, 1, bytes);
        Ok(())
    }

    /// One system call that must fail with `errno`.
    ///
    /// # Errors
    /// If it does not.
    pub fn fails(&mut self, errno: i32, number: libc::c_long, arguments: &[usize]) -> anyhow::Result<()> {
        match self.call(number, arguments) {
            Ok(returned) => bail!("system call {number} returned {returned} and should have failed"),
            Err(error) if error.raw_os_error() == Some(errno) => Ok(()),
            Err(error) => bail!("system call {number} failed with {error}, not with errno {errno}"),
        }
    }

    /// Expects operations and bytes on a path.
    pub fn expect(&mut self, path: &str, operations: u64, bytes: usize) {
        self.expected.add(path, operations, bytes as u64);
    }

    /// Says that exactly the calls made through [`Script::call`] happen between the stops.
    pub fn calls_are_exact(&mut self) {
        self.notes.insert("calls_are_exact".to_owned(), Value::Bool(true));
    }

    /// Adds system calls made otherwise.
    pub fn other_calls(&mut self, calls: u64) {
        self.calls += calls;
    }

    /// Tells the test something else.
    pub fn note(&mut self, name: &str, value: impl Into<Value>) {
        self.notes.insert(name.to_owned(), value.into());
    }

    /// Stops; what came before was measured. Then tells the test what it should have seen.
    ///
    /// # Errors
    /// If the process can't stop itself or print.
    pub fn end(mut self) -> anyhow::Result<()> {
        let calls = self.calls + 1;
        self.stop()?;
        self.report(calls)
    }

    fn report(self, calls: u64) -> anyhow::Result<()> {
        let report = json!({"paths": self.expected.to_json(), "calls": calls, "notes": self.notes});
        writeln!(io::stdout(), "{report}").context("stdout")
    }
}
