//! What real programs are told, and what they are not.

mod common;

use std::net::TcpListener;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use common::process::{Running, until, until_watching};
use common::{Scratch, command, run};
use nix::sys::signal::Signal;
use serde_json::Value;

const SIZE: u64 = 16 << 20;

/// All that a report says that is advised.
fn advised(report: &str) -> Result<Vec<Value>> {
    let report: Value = serde_json::from_str(report).with_context(|| report.to_owned())?;
    let processes = report["processes"].as_array().context("no list")?.iter();
    let all = processes.flat_map(|one| one["advice"].as_array().cloned().unwrap_or_default());
    Ok(all.filter(|one| one["advised"] == true).collect())
}

/// What `zcprof advise -- WORDS` says.
fn of_command(words: &[&str]) -> Result<Vec<Value>> {
    let scratch = Scratch::new()?;
    let out = std::fs::File::create(scratch.at("report"))?;
    // What the command itself prints is not of the report.
    let quiet = [&["sh", "-c", "exec \"$0\" \"$@\" > /dev/null"], words].concat();
    let mut zcprof = command(["advise", "--json", "--"].iter().chain(&quiet));
    let status = zcprof.stdout(Stdio::from(out)).stderr(Stdio::inherit()).status()?;
    assert_eq!(status.code(), Some(0));
    advised(&scratch.read("report")?)
}

fn is(advice: &Value, source: &str, sink: &str, call: &str) -> bool {
    advice["source"] == source && advice["sink"] == sink && advice["call"] == call
}

#[test]
fn cat_is_told() -> Result<()> {
    let scratch = Scratch::new()?;
    scratch.file("file", usize::try_from(SIZE)?)?;
    let (from, to) = (scratch.at("file"), scratch.at("copy"));
    let all = of_command(&["sh", "-c", "cat \"$0\" | cat > \"$1\"", &from, &to])?;
    let [first, second] = &all[..] else { panic!("{all:?}") };
    assert!(is(first, "file", "pipe", "splice") && is(second, "pipe", "file", "splice"), "{all:?}");
    for one in [first, second] {
        assert_eq!(one["candidate_bytes"].as_u64(), Some(SIZE), "{all:?}");
    }
    // Into the page cache the kernel copies once more.
    assert_eq!(
        (first["saved_copied_bytes"].as_u64(), second["saved_copied_bytes"].as_u64()),
        (Some(2 * SIZE), Some(SIZE))
    );
    Ok(())
}

#[test]
fn gzip_is_not() -> Result<()> {
    let scratch = Scratch::new()?;
    scratch.file("file", usize::try_from(SIZE)?)?;
    let all = of_command(&["gzip", "-1", "--keep", &scratch.at("file")])?;
    assert!(all.is_empty(), "{all:?}");
    assert!(std::fs::exists(scratch.at("file.gz"))?);
    Ok(())
}

#[test]
fn pythons_web_server_is_told() -> Result<()> {
    let scratch = Scratch::new()?;
    scratch.file("file", usize::try_from(SIZE)?)?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
    let mut server = Command::new("python3");
    server.args(["-m", "http.server", "--bind", "127.0.0.1", &port, "--directory"]).arg(scratch.path());
    let server = Running::start(server.stdin(Stdio::null()))?;
    let url = format!("http://127.0.0.1:{port}/file");
    let fetch = || run(Command::new("curl").args(["-q", "-sS", "--noproxy", "*", "-o", "/dev/null", &url]));
    until("the server to answer", || Ok((fetch()?.status == 0).then_some(())))?;
    let pid = server.pid().to_string();
    let mut watcher = Running::start(&mut command(["advise", "--json", "--for", "10m", "--pid", &pid]))?;
    until_watching(&mut watcher)?;
    assert_eq!(fetch()?.status, 0);
    let ended = watcher.end_by(Signal::SIGINT)?;
    let all = advised(&ended.stdout)?;
    let [one] = &all[..] else { panic!("{ended:?}") };
    assert!(is(one, "file", "tcp", "sendfile"), "{all:?}");
    let bytes = one["candidate_bytes"].as_u64();
    assert!(bytes.is_some_and(|bytes| bytes > SIZE - (1 << 20) && bytes <= SIZE), "{all:?}");
    Ok(())
}

#[test]
fn whom_nobody_matches_and_what_is_no_process_says_so() -> Result<()> {
    let ended = run(&mut command(["advise", "--comm", "no such name", "--for", "10ms"]))?;
    assert_eq!((ended.status, ended.stderr.contains("no process matches --comm")), (3, true), "{ended:?}");
    let ended = run(&mut command(["advise", "--pid", "1", "--comm", "x"]))?;
    assert_eq!(ended.status, 2, "{ended:?}");
    Ok(())
}
