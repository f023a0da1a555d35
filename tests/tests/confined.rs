//! What the daemon's confinement leaves, and what it takes.

use std::process::Command;

use serde_json::json;

#[test]
fn only_what_the_daemon_needs_is_left() -> anyhow::Result<()> {
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("confined");
    let folder = directory.join("folder");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("file"), "readable")?;
    std::fs::write(directory.join("outside"), "not readable")?;
    let output = Command::new(env!("CARGO_BIN_EXE_confined")).arg(&folder).arg(directory.join("outside")).output()?;
    assert!(output.status.success(), "{output:?}");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let expected = json!({
        "thread": 0, "read /proc": 0, "read cgroups": 0, "read the folder": 0,
        // It came as far as its arguments, which make no sense.
        "bpf lookup": libc::EINVAL,
        "write the folder": libc::EACCES, "read outside": libc::EACCES,
        "bpf load": libc::EPERM, "spawn": libc::EPERM, "bind": libc::EPERM, "connect": libc::EPERM,
    });
    assert_eq!(said, json!({"seccomp": "2", "attempts": expected}));
    assert_eq!(std::fs::read_to_string(folder.join("file"))?, "readable");
    Ok(())
}
