//! A process that is confined as the daemon is, and tries what it should and should not be able to: `confined FOLDER
//! OUTSIDE`. One line of JSON: for each attempt the error's number, or 0.

use std::collections::BTreeMap;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

use anyhow::Context as _;

fn errno<T>(result: io::Result<T>) -> i32 {
    result.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |_| 0)
}

/// bpf(2) with an attribute of zeroes: refused for its arguments, if it comes as far as that.
fn bpf(command: libc::c_long) -> i32 {
    let zeroes = [0_u8; 128];
    // SAFETY: the attribute is as long as it is said to be.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, zeroes.as_ptr(), zeroes.len()) };
    errno(if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) })
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let (folder, outside) = arguments.next().zip(arguments.next()).context("usage: confined FOLDER OUTSIDE")?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    nix::sys::prctl::set_no_new_privs()?;
    let confined = zcprof::agent::confine(std::slice::from_ref(&folder))?;
    anyhow::ensure!(confined.files, "this kernel has no landlock");
    let status = std::fs::read_to_string("/proc/self/status")?;
    let seccomp = status.lines().find_map(|line| line.strip_prefix("Seccomp:")).context("Seccomp")?.trim().to_owned();
    let within = folder.join("file");
    let attempts = BTreeMap::from([
        ("thread", errno(std::thread::Builder::new().spawn(|| ()).map(std::thread::JoinHandle::join))),
        ("read /proc", errno(std::fs::read("/proc/1/stat"))),
        ("read cgroups", errno(std::fs::read_dir("/sys/fs/cgroup"))),
        ("read the folder", errno(std::fs::read(&within))),
        ("bpf lookup", bpf(1)),
        ("write the folder", errno(std::fs::write(&within, "x"))),
        ("read outside", errno(std::fs::read(&outside))),
        ("bpf load", bpf(5)),
        ("spawn", errno(std::process::Command::new("/bin/true").status())),
        ("bind", errno(TcpListener::bind("127.0.0.1:0"))),
        ("connect", errno(TcpStream::connect(address))),
    ]);
    println!("{}", serde_json::json!({"seccomp": seccomp, "attempts": attempts}));
    Ok(())
}
