//! Operations one by one, over HTTP: none is told twice, and what is missing is said.

mod common;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use common::Scratch;
use common::daemon::Daemon;
use serde_json::Value;
use zc_tests::stage::Helper;

const ACTOR: &str = env!("CARGO_BIN_EXE_actor");

/// What a client hears.
#[derive(Debug, Default)]
struct Heard {
    /// By path, operations and bytes.
    paths: std::collections::BTreeMap<String, (u64, u64)>,
    operations: u64,
    /// The data of the last event.
    end: Value,
}

/// A client, which listens as soon as it has been answered.
struct Client(BufReader<TcpStream>);

impl Client {
    fn listen(daemon: &Daemon, pid: u32) -> Result<Self> {
        let stream = TcpStream::connect(daemon.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        // Of 1.0, lest the answer be cut into chunks.
        write!(&stream, "GET /api/v1/processes/{pid}/events HTTP/1.0\r\nHost: {}\r\n\r\n", daemon.address)?;
        let mut client = Self(BufReader::with_capacity(1 << 20, stream));
        let (mut head, mut line) = (String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            ensure!(client.0.read_line(&mut line)? > 0, "no answer: {head}");
            head += &line;
        }
        ensure!(head.starts_with("HTTP/1.0 200") && head.contains("text/event-stream"), "{head}");
        Ok(client)
    }

    /// Hears all until the end. `each` is called for every operation.
    fn hear(mut self, mut each: impl FnMut()) -> Result<Heard> {
        let (mut heard, mut name, mut line) = (Heard::default(), String::new(), String::new());
        loop {
            line.clear();
            if self.0.read_line(&mut line)? == 0 {
                return Ok(heard);
            }
            if let Some(event) = line.strip_prefix("event: ") {
                name = event.trim_end().to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                match name.as_str() {
                    "operation" => {
                        heard.operation(data)?;
                        each();
                    }
                    "end" => heard.end = serde_json::from_str(data)?,
                    name => ensure!(name == "lost", "an event named {name}"),
                }
            }
        }
    }
}

impl Heard {
    /// Not by a JSON parser, which would take longer than the daemon does.
    fn operation(&mut self, data: &str) -> Result<()> {
        let number = |name: &str| -> Result<u64> {
            let (_, rest) = data.split_once(name).with_context(|| data.to_owned())?;
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            Ok(rest[..digits].parse()?)
        };
        let (operations, bytes) = (number("\"operations\":")?, number("\"bytes\":")?);
        self.operations += operations;
        let path = data.split('"').skip_while(|word| *word != "path").nth(2).unwrap_or_default();
        if let Some(sum) = self.paths.get_mut(path) {
            sum.0 += operations;
            sum.1 += bytes;
        } else {
            self.paths.insert(path.to_owned(), (operations, bytes));
        }
        Ok(())
    }
}

/// A process's operations by the ledger: of calls, not of faults.
fn counted(daemon: &Daemon, pid: u32) -> Result<u64> {
    let profile = daemon.json(&format!("/api/v1/processes/{pid}"))?;
    let paths = profile["paths"].as_array().context("paths")?.iter().filter(|path| path["mechanism"] != "mmap");
    let operations = |value: &Value| value.as_u64().unwrap_or(0);
    let calls: u64 = paths.map(|path| operations(&path["operations"])).sum();
    Ok(calls + operations(&profile["mmap"]["calls"]) + operations(&profile["lost"]["unclassified_operations"]))
}

/// Listens to single-byte reads, and compares with the ledger what was told and what is missing.
fn check(milliseconds: &str, each: &str) -> Result<(Heard, f64)> {
    let daemon = Daemon::start(&[])?;
    let helper = Helper::start(ACTOR, &["read_on", milliseconds, each])?;
    helper.wait_stopped()?;
    let client = Client::listen(&daemon, helper.pid())?;
    let before = counted(&daemon, helper.pid())?;
    let pid = helper.pid();
    let (mut first, mut last) = (None, Instant::now());
    let heard = std::thread::scope(|scope| {
        let hears = scope.spawn(|| {
            client.hear(|| {
                last = Instant::now();
                first.get_or_insert(last);
            })
        });
        helper.proceed()?;
        helper.wait_stopped()?;
        helper.finish()?;
        hears.join().map_err(|_| anyhow::anyhow!("the client failed"))?
    })?;
    let (delivered, lost) = (heard.end["delivered_operations"].as_u64(), heard.end["lost"]["operations"].as_u64());
    let (delivered, lost) = (delivered.context("no end")?, lost.context("no end")?);
    assert_eq!(delivered, heard.operations, "{heard:?}");
    assert_eq!(delivered + lost, counted(&daemon, pid)? - before, "{heard:?}");
    let seconds = first.map_or(1.0, |first| (last - first).as_secs_f64());
    Ok((heard, seconds))
}

#[test]
fn at_full_speed_what_is_told_and_what_is_missing_is_all() -> Result<()> {
    let (heard, seconds) = check("10000", "0")?;
    eprintln!("{} operations a second reached the client; {}", heard.operations as f64 / seconds, heard.end);
    Ok(())
}

#[test]
fn at_an_ordinary_pace_nothing_is_missing() -> Result<()> {
    // A thousand a second, which no machine is too busy for.
    let (heard, _) = check("2000", "1")?;
    assert_eq!(heard.end["lost"]["operations"], 0, "{heard:?}");
    let (reads, bytes) = heard.paths["read:device:user"];
    assert!(reads > 1000 && reads == bytes, "{heard:?}");
    Ok(())
}

#[test]
fn every_operation_has_its_path() -> Result<()> {
    let (daemon, scratch) = (Daemon::start(&[])?, Scratch::new()?);
    scratch.file("file", 1 << 20)?;
    // Waits until it is listened to.
    let mut shell = std::process::Command::new("sh");
    let copy = format!("read line; exec dd if={0} of={0}2 bs=64k", scratch.at("file"));
    let shell = shell.args(["-c", &copy]).stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    let mut shell = common::process::Running::start_as_is(shell)?;
    let client = Client::listen(&daemon, shell.pid())?;
    shell.child().stdin.take().context("stdin")?.write_all(b"go\n")?;
    let heard = client.hear(|| {})?;
    shell.end()?;
    assert_eq!(heard.paths.get("write:user:file").map(|sum| sum.0 >= 16), Some(true), "{heard:?}");
    let read = heard.paths.get("read:file:user").context("nothing was read")?;
    assert!(read.0 >= 16 && read.1 >= 1 << 20, "{heard:?}");
    assert_eq!(heard.end["lost"]["operations"], 0, "{heard:?}");
    Ok(())
}

#[test]
fn who_does_not_run_can_not_be_heard_and_a_stopped_daemon_says_end() -> Result<()> {
    let mut daemon = Daemon::start(&[])?;
    let answer = daemon.get("/api/v1/processes/4194304/events")?;
    assert_eq!(answer.status, 404, "{answer:?}");
    let mut sleeper = std::process::Command::new("sleep");
    let sleeper = common::process::Running::start_as_is(sleeper.arg("600"))?;
    let many: Vec<_> = (0..32).map(|_| Client::listen(&daemon, sleeper.pid())).collect::<Result<_>>()?;
    let answer = daemon.get(&format!("/api/v1/processes/{}/events", sleeper.pid()))?;
    assert!(answer.status == 503 && answer.body.contains("32 clients"), "{answer:?}");
    daemon.process.end_by(nix::sys::signal::Signal::SIGTERM)?;
    for client in many {
        let heard = client.hear(|| {})?;
        assert_eq!(heard.end["delivered_operations"], heard.operations);
    }
    Ok(())
}
