//! Real programs under `zcprof record`: each moves a file's bytes in its own way, and the ledger has exactly those bytes
//! on exactly those paths.

mod common;

use std::process::Stdio;

use anyhow::{Context as _, Result};
use common::process::{Running, until};
use common::profile::{Profile, record, recorder};
use common::{Ended, Scratch, run, without};

/// No multiple of a page or of any program's buffer.
const ODD: usize = 3 << 20 | 0x1235;
/// A multiple of every sector.
const EVEN: usize = 4 << 20;
/// The Python of Debian's package; what else is on the PATH may be a script around one.
const PYTHON: &str = "/usr/bin/python3";

#[test]
fn cp_moves_the_file_in_the_kernel() -> Result<()> {
    let scratch = Scratch::new()?;
    let a = scratch.file("a", ODD)?;
    let (profile, _) = record(&scratch, &["cp", &a, &scratch.at("b")])?;
    // By reference where the file system can, else by a copy within the kernel.
    let moved = profile.bytes("copy_file_range:file:file") + profile.bytes("reflink:file:file");
    assert_eq!(moved, ODD as u64, "{profile}");
    profile.assert_bytes("write:user:file", 0);
    assert_eq!(std::fs::read(a)?, std::fs::read(scratch.at("b"))?);
    Ok(())
}

#[test]
fn cat_into_a_pipe_reads_the_file_and_writes_the_pipe() -> Result<()> {
    let scratch = Scratch::new()?;
    scratch.file("full", ODD)?;
    scratch.file("empty", 0)?;
    // The counts go to a file, so that nothing else goes through a pipe.
    let count = |name: &str| record(&scratch, &["sh", "-c", &format!("cat {name} | wc -c > count")]);
    let (empty, _) = count("empty")?;
    let (full, _) = count("full")?;
    assert_eq!(scratch.read("count")?.trim(), ODD.to_string());
    full.assert_bytes("write:user:pipe", ODD as u64);
    full.assert_bytes("read:pipe:user", ODD as u64);
    empty.assert_bytes("write:user:pipe", 0);
    // The loader's and the locale's reads are the same both times.
    assert_eq!(full.bytes("read:file:user") - empty.bytes("read:file:user"), ODD as u64, "{full} but {empty}");
    Ok(())
}

/// Records dd from `a` to `b`; the records that it says it has read and written, partial ones included.
fn dd(scratch: &Scratch, flags: &[&str]) -> Result<(Profile, u64, u64)> {
    let words = [&["dd", "if=a", "of=b", "bs=64K"], flags].concat();
    let (profile, ended) = record(scratch, &words)?;
    Ok((profile, records(&ended, "in")?, records(&ended, "out")?))
}

/// The sum of "N+M records in".
fn records(ended: &Ended, which: &str) -> Result<u64> {
    let line = ended.stderr.lines().find(|line| line.ends_with(&format!("records {which}")));
    let (whole, rest) = line.and_then(|line| line.split_once('+')).with_context(|| format!("{ended:?}"))?;
    let partial = rest.split(' ').next().unwrap_or_default();
    Ok(whole.parse::<u64>()? + partial.parse::<u64>()?)
}

#[test]
fn dd_copies_by_the_records_that_it_reports() -> Result<()> {
    let scratch = Scratch::new()?;
    scratch.file("a", 0)?;
    let (idle, ..) = dd(&scratch, &[])?;
    scratch.file("a", ODD)?;
    let (profile, read, written) = dd(&scratch, &[])?;
    assert_eq!((read, written), (ODD as u64 / 65536 + 1, ODD as u64 / 65536 + 1));
    profile.assert_bytes("write:user:file", ODD as u64);
    assert_eq!(profile.operations("write:user:file"), written, "{profile}");
    assert_eq!(profile.bytes("read:file:user") - idle.bytes("read:file:user"), ODD as u64, "{profile} but {idle}");
    // A read that finds the end moves nothing, and is no operation of the path in either.
    let operations = profile.operations("read:file:user") - idle.operations("read:file:user");
    assert_eq!(operations, read, "{profile} but {idle}");
    Ok(())
}

#[test]
fn dd_with_direct_input_reads_past_the_page_cache() -> Result<()> {
    let scratch = Scratch::new()?;
    scratch.file("a", 0)?;
    let (idle, ..) = dd(&scratch, &[])?;
    scratch.file("a", EVEN)?;
    let (profile, read, written) = dd(&scratch, &["iflag=direct"])?;
    profile.assert_bytes("read:disk:user", EVEN as u64);
    assert_eq!(profile.operations("read:disk:user"), read, "{profile}");
    profile.assert_bytes("write:user:file", EVEN as u64);
    assert_eq!(profile.operations("write:user:file"), written, "{profile}");
    profile.assert_bytes("read:file:user", idle.bytes("read:file:user"));
    Ok(())
}

#[test]
fn dd_with_direct_output_writes_past_the_page_cache() -> Result<()> {
    let scratch = Scratch::new()?;
    scratch.file("a", EVEN)?;
    let (profile, _, written) = dd(&scratch, &["oflag=direct"])?;
    profile.assert_bytes("write:user:disk", EVEN as u64);
    assert_eq!(profile.operations("write:user:disk"), written, "{profile}");
    profile.assert_bytes("write:user:file", 0);
    Ok(())
}

#[test]
fn python_and_its_child_talk_to_one_peer() -> Result<()> {
    if without("python3") {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let talk = "import os, socket
l = socket.socket(socket.AF_UNIX); l.bind('s'); l.listen(); child = os.fork()
c = socket.socket(socket.AF_UNIX); c.connect('s'); c.sendall(b'x' * 3000); c.close()
if child:
    for _ in range(2): a = l.accept()[0]; print(len(a.recv(3000, socket.MSG_WAITALL)))
    os.wait()
";
    let (profile, ended) = record(&scratch, &[PYTHON, "-I", "-B", "-S", "-c", talk])?;
    assert_eq!(ended.stdout, "3000\n3000\n");
    let peer = serde_json::json!([{"protocol": "unix", "address": "s", "sent_bytes": 6000, "received_bytes": 6000, "operations": 4}]);
    assert_eq!((&profile.0["peers"], &profile.0["peers_since"]), (&peer, &"first_seen".into()));
    Ok(())
}

#[test]
fn python_copies_a_file_without_touching_its_bytes() -> Result<()> {
    if without("python3") {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let copy = "import shutil; shutil.copyfile('a', 'b')";
    scratch.file("a", 0)?;
    let (idle, _) = record(&scratch, &[PYTHON, "-I", "-B", "-S", "-c", copy])?;
    scratch.file("a", ODD)?;
    let (profile, _) = record(&scratch, &[PYTHON, "-I", "-B", "-S", "-c", copy])?;
    // os.sendfile up to 3.13, then copy_file_range or a reflink.
    let paths = ["sendfile:file:file", "copy_file_range:file:file", "reflink:file:file"];
    assert_eq!(paths.iter().map(|id| profile.bytes(id)).sum::<u64>(), ODD as u64, "{profile}");
    profile.assert_bytes("write:user:file", 0);
    profile.assert_bytes("read:file:user", idle.bytes("read:file:user"));
    Ok(())
}

#[test]
fn strace_sees_the_calls_that_the_ledger_has() -> Result<()> {
    if without("python3") || without("strace") {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    scratch.file("a", ODD)?;
    let copy = "import shutil; shutil.copyfile('a', 'b')";
    let python = [PYTHON, "-I", "-B", "-S", "-c", copy];
    let (profile, _) = record(&scratch, &python)?;
    let calls = "trace=sendfile,copy_file_range";
    let mut strace = std::process::Command::new("strace");
    let ended = run(strace.args(["-f", "-qq", "-e", calls, "--"]).args(python).current_dir(scratch.path()))?;
    let moved = |call: &str| -> (u64, u64) {
        let lines = ended.stderr.lines().filter(|line| line.starts_with(call));
        let sizes = lines.filter_map(|line| line.rsplit_once(" = ")?.1.parse::<u64>().ok()).filter(|size| *size > 0);
        sizes.fold((0, 0), |(calls, bytes), size| (calls + 1, bytes + size))
    };
    for call in ["sendfile", "copy_file_range"] {
        let id = format!("{call}:file:file");
        assert_eq!((profile.operations(&id), profile.bytes(&id)), moved(call), "{profile}\n{}", ended.stderr);
    }
    Ok(())
}

/// Serves one request from the working directory, and says in the file `port` where.
const SERVE_ONCE: &str = "\
import http.server as h, os
server = h.HTTPServer(('127.0.0.1', 0), h.SimpleHTTPRequestHandler)
open('port.new', 'w').write(str(server.server_port)); os.rename('port.new', 'port')
server.handle_request()
server.server_close()";

/// What curl says of one download: body, headers and request, in bytes.
fn fetch(scratch: &Scratch, file: &str) -> Result<[u64; 3]> {
    let port = until("the server's port", || Ok(scratch.read("port").ok()))?;
    let (profile_of_curl, ended) = record_curl(scratch, &format!("http://127.0.0.1:{port}/{file}"))?;
    let figures: Vec<u64> = ended.stdout.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [body, headers, request] = figures[..].try_into().context("three figures")?;
    profile_of_curl.assert_bytes("read:tcp:user", body + headers);
    profile_of_curl.assert_bytes("write:user:tcp", request);
    profile_of_curl.assert_bytes("write:user:file", body + headers);
    assert_eq!(scratch.read("headers")?.len() as u64, headers);
    Ok([body, headers, request])
}

/// Body and headers go to a file each. Reports elsewhere than the server's recorder.
fn record_curl(scratch: &Scratch, url: &str) -> Result<(Profile, Ended)> {
    let figures = "%{size_download} %{size_header} %{size_request}";
    let curl = ["curl", "-q", "-s", "-S", "--noproxy", "*", "-o", "got", "-D", "headers", "-w", figures, url];
    let ended = run(recorder(scratch, "curl.json").args(curl).current_dir(scratch.path()))?;
    assert_eq!(ended.status, 0, "{ended:?}");
    let profile = Profile::parse(&scratch.read("curl.json")?)?;
    profile.assert_complete();
    Ok((profile, ended))
}

#[test]
fn pythons_web_server_copies_twice_what_curl_gets() -> Result<()> {
    if without("python3") || without("curl") {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let served = |file: &str| -> Result<(Profile, [u64; 3])> {
        let mut record = recorder(&scratch, "server.json");
        record.args([PYTHON, "-I", "-B", "-S", "-c", SERVE_ONCE]).current_dir(scratch.path()).stdin(Stdio::null());
        let mut server = Running::start(&mut record)?.ending_by(nix::sys::signal::Signal::SIGTERM);
        let figures = fetch(&scratch, file)?;
        let ended = server.end()?;
        assert_eq!(ended.status, 0, "{ended:?}");
        std::fs::remove_file(scratch.at("port"))?;
        let profile = Profile::parse(&scratch.read("server.json")?)?;
        profile.assert_complete();
        Ok((profile, figures))
    };
    scratch.file("empty.bin", 0)?;
    scratch.file("large.bin", ODD)?;
    let (empty, [_, little, _]) = served("empty.bin")?;
    let (full, [body, headers, request]) = served("large.bin")?;
    assert_eq!(body, ODD as u64);
    full.assert_bytes("write:user:tcp", body + headers);
    full.assert_bytes("read:tcp:user", request);
    empty.assert_bytes("write:user:tcp", little);
    // What Python reads of itself is the same both times.
    assert_eq!(full.bytes("read:file:user") - empty.bytes("read:file:user"), body, "{full} but {empty}");
    assert_eq!(std::fs::read(scratch.at("got"))?, std::fs::read(scratch.at("large.bin"))?);
    Ok(())
}

#[test]
fn record_ends_as_the_command_does() -> Result<()> {
    let scratch = Scratch::new()?;
    for (script, status) in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137), ("kill $$", 143)] {
        let ended = run(recorder(&scratch, "report.json").args(["sh", "-c", script]))?;
        assert_eq!(ended.status, status, "{script}: {ended:?}");
        Profile::parse(&scratch.read("report.json")?)?.assert_complete();
    }
    Ok(())
}

#[test]
fn a_process_with_one_thread_is_classified_whatever_else_runs() -> Result<()> {
    let scratch = Scratch::new()?;
    let zcprof = common::zcprof().to_string_lossy();
    let busy = || Running::start(std::process::Command::new("sh").args(["-c", "while :; do /bin/true; done"]));
    let _load = [busy()?, busy()?, busy()?];
    for _ in 0..100 {
        let (path, bytes, directory) = ("sendfile:file:tcp", "8MiB", scratch.at(""));
        let workload = [&*zcprof, "workload", "run", path, "--bytes", bytes, "--directory", &directory];
        // Which insists on there being nothing unclassified.
        record(&scratch, &workload)?;
    }
    Ok(())
}
