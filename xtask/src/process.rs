//! Child processes: cargo as it would run outside of `cargo xtask`, streamed or captured.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context as _, bail};

/// Set by cargo for the package it runs (ours), and of no meaning to another cargo.
const OF_THIS_PACKAGE: &[&str] = &["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];

/// Cargo in `dir`: the one that runs us, without what it told us about ourselves.
pub(crate) fn cargo(dir: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(dir);
    without(&mut command, |name| OF_THIS_PACKAGE.iter().any(|prefix| name.starts_with(prefix)));
    command
}

/// Removes the variables that `drop` names from the command's environment.
pub(crate) fn without(command: &mut Command, drop: impl Fn(&str) -> bool) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(&drop) {
            command.env_remove(name);
        }
    }
}

/// Runs it before the user's eyes, with no input; an error unless it succeeds.
pub(crate) fn stream(command: &mut Command) -> anyhow::Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("`{}`: {status}", line(command));
    }
    Ok(())
}

/// Runs it before the user's eyes, with no input.
pub(crate) fn status(command: &mut Command) -> anyhow::Result<ExitStatus> {
    eprintln!("$ {}", line(command));
    command.stdin(Stdio::null()).status().with_context(|| format!("can't run `{}`", line(command)))
}

/// Runs it silently; its output, or an error with what it said.
pub(crate) fn capture(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("can't run `{}`", line(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}`: {}: {}", line(command), output.status, said.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("what `{}` wrote", line(command)))
}

/// The command as one would type it, short of its environment.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    std::iter::once(program).chain(command.get_args()).map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// The program of this name in PATH or where Debian keeps daemons.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let daemons = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(daemons).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir(root: &Path) -> PathBuf {
    root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// The release build of `zcprof`, brought up to date.
pub(crate) fn build_zcprof(root: &Path) -> anyhow::Result<PathBuf> {
    stream(cargo(root).args(["build", "--release", "--locked", "-p", "zc-userspace"]))?;
    Ok(target_dir(root).join("release/zcprof"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_succeed_or_say_why() {
        assert_eq!(capture(Command::new("echo").arg("a b")).unwrap(), "a b\n");
        let error = capture(Command::new("ls").arg("/no/such/file")).unwrap_err().to_string();
        assert!(error.starts_with("`ls /no/such/file`"), "{error}");
        assert!(capture(&mut Command::new("no-such-program-here")).is_err());
        assert!(find("ls").is_some());
        assert_eq!(find("no-such-program-here"), None);
    }
}
