//! What the end-to-end tests with real programs share: the binary under test, scratch directories, processes that end
//! with the test, and reading what zcprof reports.

#![allow(dead_code, reason = "every test file uses another part")]

pub(crate) mod browser;
pub(crate) mod daemon;
pub(crate) mod http;
pub(crate) mod leftovers;
pub(crate) mod nginx;
pub(crate) mod process;
pub(crate) mod profile;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};

/// Names a zcprof to test instead of the one that belongs to this tree.
const BINARY: &str = "ZCPROF_BINARY";
/// Lists the programs that this machine can't have (`cargo xtask test` sets it).
const WITHOUT: &str = "ZCPROF_TESTS_WITHOUT";
/// A name of each scratch directory of its own.
static SCRATCHES: AtomicU32 = AtomicU32::new(0);

/// The zcprof under test, built from this tree unless the environment names another.
pub(crate) fn zcprof() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| match std::env::var_os(BINARY) {
        Some(path) => PathBuf::from(path),
        None => build().expect("zcprof can be built"),
    })
}

/// Cargo knows whether there is anything to do.
fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("the target directory")?;
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--locked", "-p", "zc-userspace", "--target-dir"]).arg(target);
    let built = command.current_dir(env!("CARGO_MANIFEST_DIR")).output()?;
    if !built.status.success() {
        bail!("cargo build: {}", String::from_utf8_lossy(&built.stderr));
    }
    Ok(target.join("release/zcprof"))
}

/// zcprof with these arguments.
pub(crate) fn command<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(zcprof());
    command.args(arguments);
    command
}

/// What a command that has ended left.
#[derive(Debug)]
pub(crate) struct Ended {
    /// As a shell has it: 128 + n for signal n.
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let status = output.status.code().or(output.status.signal().map(|signal| 128 + signal));
        Self {
            status: status.unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Result<Ended> {
    let output = command.output().with_context(|| format!("starting {:?}", command.get_program()))?;
    Ok(output.into())
}

/// Runs zcprof to its end.
pub(crate) fn run_zcprof(arguments: &[&str]) -> Result<Ended> {
    run(&mut command(arguments))
}

/// Whether to do without a program, which is then said. Any other program's absence is a failure of the test.
pub(crate) fn without(program: &str) -> bool {
    let list = std::env::var(WITHOUT).unwrap_or_default();
    let without = list.split(',').any(|one| one.trim() == program);
    if without {
        eprintln!("not run: {WITHOUT} names {program}");
    }
    without
}

/// Whether to do without root's rights, which is then said: the tests may be run with CAP_BPF and CAP_PERFMON alone.
pub(crate) fn without_root() -> bool {
    let ordinary = !nix::unistd::geteuid().is_root();
    if ordinary {
        eprintln!("not run: needs root, to become somebody else");
    }
    ordinary
}

/// A directory of its own on the disk that the target directory is on; removed in the end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Result<Self> {
        Self::within(Path::new(env!("CARGO_TARGET_TMPDIR")))
    }

    /// One that every user can reach, as the target directory need not be.
    pub(crate) fn open_to_all() -> Result<Self> {
        use fs::Permissions;
        use std::os::unix::fs::PermissionsExt as _;
        let scratch = Self::within(&std::env::temp_dir())?;
        fs::set_permissions(&scratch.0, Permissions::from_mode(0o755))?;
        Ok(scratch)
    }

    fn within(parent: &Path) -> Result<Self> {
        let number = SCRATCHES.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("zcprof-test-{}-{number}", std::process::id()));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A file's path in it, as text.
    pub(crate) fn at(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }

    /// Makes a file of so many bytes, none of them a hole.
    pub(crate) fn file(&self, name: &str, bytes: usize) -> Result<String> {
        let pattern: Vec<u8> = (0..251).map(|i| i | 1).collect();
        let mut content = pattern.repeat(bytes / pattern.len() + 1);
        content.truncate(bytes);
        self.text(name, content)
    }

    /// Makes a file with this content.
    pub(crate) fn text(&self, name: &str, content: impl AsRef<[u8]>) -> Result<String> {
        let path = self.at(name);
        fs::write(&path, content).with_context(|| path.clone())?;
        Ok(path)
    }

    pub(crate) fn read(&self, name: &str) -> Result<String> {
        fs::read_to_string(self.0.join(name)).with_context(|| name.to_owned())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left lies in the target directory, or where temporary files belong.
        let _ = fs::remove_dir_all(&self.0);
    }
}
