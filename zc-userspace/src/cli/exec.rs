//! Starting a command so that nearly nothing but its own system calls stands in its ledger.
//!
//! The standard library alone would not do: by posix_spawn(3) the child makes some 140 calls, about signals, before it
//! executes; by execvp(3) it tries every directory of PATH, and hands what is no program to a shell.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

use nix::errno::Errno;
use nix::unistd::execv;

/// What execvp(3) searches where PATH is not set.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Forks and executes, with our standard streams and environment.
///
/// # Errors
/// `NotFound` if there is no such file, else what execve(2) said.
pub(super) fn spawn(program: &OsStr, arguments: &[OsString]) -> io::Result<Child> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    let files: Vec<CString> = candidates(program, &path).into_iter().map(c_string).collect::<io::Result<_>>()?;
    let words = std::iter::once(program.to_owned()).chain(arguments.iter().cloned());
    let words: Vec<CString> = words.map(c_string).collect::<io::Result<_>>()?;
    let mut command = Command::new(program);
    // SAFETY: between fork and exec only execve is called, and memory allocated: glibc's fork keeps its allocator usable
    // in the child, and elsewhere no other thread of this process could hold its lock.
    unsafe { command.pre_exec(move || Err(execute(&files, &words).into())) };
    command.spawn()
}

/// Becomes the first of the files that can be executed; returns why there is none.
fn execute(files: &[CString], words: &[CString]) -> Errno {
    let mut reason = Errno::ENOENT;
    for file in files {
        let Err(error) = execv(file, words);
        match error {
            // As execvp does: perhaps there is another further down the PATH.
            Errno::EACCES => reason = error,
            Errno::ENOENT | Errno::ENOTDIR => {}
            error => return error,
        }
    }
    reason
}

/// The files that a command name may mean.
fn candidates(program: &OsStr, path: &OsStr) -> Vec<OsString> {
    if program.as_bytes().contains(&b'/') {
        return vec![program.to_owned()];
    }
    if program.is_empty() {
        return Vec::new();
    }
    // An empty directory of PATH is the current one.
    let directories = std::env::split_paths(path).map(|dir| if dir.as_os_str().is_empty() { ".".into() } else { dir });
    let files = directories.map(|directory| Path::join(&directory, program));
    files.filter(|file| file.is_file()).map(Into::into).collect()
}

fn c_string(text: OsString) -> io::Result<CString> {
    CString::new(text.into_vec()).map_err(|_| io::Error::other("an argument has a NUL byte"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_name_is_searched_for_and_a_path_is_not() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("tool"), "").unwrap();
        std::fs::create_dir(directory.path().join("folder")).unwrap();
        let mut path = OsString::from("/nonexistent:");
        path.push(directory.path());
        let found = |program: &str| candidates(OsStr::new(program), &path);
        assert_eq!(found("tool"), [directory.path().join("tool").into_os_string()]);
        assert_eq!(found("./tool"), ["./tool"]);
        for none in ["folder", "other", ""] {
            assert!(found(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn why_a_command_can_not_run_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let garbage = directory.path().join("garbage");
        std::fs::write(&garbage, [1, 2, 3]).unwrap();
        let why = |program: &Path| spawn(program.as_os_str(), &[]).map(drop).unwrap_err();
        assert_eq!(why(&garbage).kind(), io::ErrorKind::PermissionDenied);
        std::fs::set_permissions(&garbage, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(why(&garbage).raw_os_error(), Some(libc::ENOEXEC));
        assert_eq!(why(&directory.path().join("none")).kind(), io::ErrorKind::NotFound);
        assert_eq!(why(Path::new("no-such-command-anywhere")).kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn arguments_arrive() {
        let mut child = spawn(OsStr::new("sh"), &["-c".into(), "exit $1".into(), "sh".into(), "7".into()]).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7));
    }
}
