//! Real servers that the textbook names: MariaDB with O_DIRECT and without, and a log in Kafka's manner in Java.

mod common;

use std::fs;
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use common::process::{Running, until};
use common::profile::{Profile, recorder};
use common::{Scratch, run, without};
use nix::sys::signal::Signal;

/// What is counted besides: libraries, logs, the metadata of files.
const LITTLE: u64 = 1 << 20;

/// A MariaDB with a directory and a socket of its own, and no port.
struct MariaDb {
    scratch: Scratch,
}

/// What InnoDB says that it has written: pages, and its log.
struct Written {
    pages: u64,
    log: u64,
}

impl MariaDb {
    /// Makes the system's tables.
    fn install() -> Result<Self> {
        let scratch = Scratch::new()?;
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        let ended = run(install.arg(format!("--datadir={}", scratch.at("data"))).args(user()))?;
        assert_eq!(ended.status, 0, "{ended:?}");
        Ok(Self { scratch })
    }

    /// A server that is recorded, into which 30 MB are loaded, and that has then ended.
    fn loaded(&self, options: &[&str]) -> Result<(Profile, Written)> {
        let at = |option: &str, name: &str| format!("--{option}={}", self.scratch.at(name));
        let mut server = recorder(&self.scratch, "report.json");
        server.args(["mariadbd", "--no-defaults", "--skip-networking", "--innodb-buffer-pool-size=16M"]);
        // Debian has it where ordinary users do not look.
        server.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH")?));
        server.args([at("datadir", "data"), at("socket", "socket"), at("pid-file", "pid")]).args(user()).args(options);
        // Its messages may be more than fits into a pipe.
        server.arg(at("log-error", "log"));
        let mut server = Running::start(&mut server)?.ending_by(Signal::SIGTERM);
        until("MariaDB to answer", || {
            if server.child().try_wait()?.is_some() {
                bail!("MariaDB does not start: {:?} {}", server.end()?, self.scratch.read("log").unwrap_or_default());
            }
            Ok(self.ask("SELECT 1").is_ok().then_some(()))
        })?;
        self.ask(
            "CREATE OR REPLACE DATABASE load_here; USE load_here; CREATE TABLE t (i INT PRIMARY KEY, t TEXT) ENGINE=InnoDB; \
             INSERT INTO t SELECT seq, REPEAT('x', 1000) FROM seq_1_to_30000",
        )?;
        let written =
            Written { pages: self.status("Innodb_data_written")?, log: self.status("Innodb_os_log_written")? };
        let ended = server.end_by(Signal::SIGTERM)?;
        assert_eq!(ended.status, 0, "{ended:?}");
        let profile = Profile::parse(&self.scratch.read("report.json")?)?;
        profile.assert_complete();
        Ok((profile, written))
    }

    fn ask(&self, statement: &str) -> Result<String> {
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "--user=root", "--skip-column-names", "--batch", "--execute", statement]);
        let ended = run(client.arg(format!("--socket={}", self.scratch.at("socket"))))?;
        if ended.status != 0 {
            bail!("{statement}: {ended:?}");
        }
        Ok(ended.stdout)
    }

    fn status(&self, name: &str) -> Result<u64> {
        let said = self.ask(&format!("SHOW GLOBAL STATUS LIKE '{name}'"))?;
        said.split_whitespace().nth(1).and_then(|figure| figure.parse().ok()).with_context(|| format!("{name}: {said}"))
    }
}

/// MariaDB runs as root only if it is told to.
fn user() -> Option<&'static str> {
    nix::unistd::geteuid().is_root().then_some("--user=root")
}

/// Bytes from memory to a sink, by whichever calls the server was built for.
fn written_to(profile: &Profile, sink: &str) -> u64 {
    ["write", "aio", "io_uring"].map(|mechanism| profile.bytes(&format!("{mechanism}:user:{sink}"))).iter().sum()
}

fn figure(profile: &Profile, pointer: &str) -> Option<u64> {
    profile.0.pointer(pointer)?.as_u64()
}

impl Written {
    /// It writes on until it has ended, but not much.
    fn assert_agrees(&self, bytes: u64, profile: &Profile) {
        let said = self.pages + self.log;
        assert!(said > 60_000_000, "InnoDB has written {said} bytes only");
        assert!(
            (said..said + said / 4 + 16 * LITTLE).contains(&bytes),
            "{bytes} bytes written, InnoDB says {said}: {profile}"
        );
    }
}

#[test]
fn mariadb_passes_the_page_cache_by_with_o_direct_and_only_then() -> Result<()> {
    if without("mariadbd") {
        return Ok(());
    }
    let server = MariaDb::install()?;
    let (direct, said) = server.loaded(&["--innodb-flush-method=O_DIRECT"])?;
    let bytes = written_to(&direct, "disk");
    said.assert_agrees(bytes, &direct);
    assert!(written_to(&direct, "file") < LITTLE, "{direct}");
    let dma = figure(&direct, "/dma_bytes/disk_write_direct").context("no probe of disks")?;
    assert!((bytes..bytes + LITTLE).contains(&dma), "{dma} bytes by DMA, {bytes} by calls");
    assert!(figure(&direct, "/direct_io/pinned_bytes").is_some_and(|pinned| pinned >= bytes), "{direct}");

    let (buffered, said) = server.loaded(&["--innodb-flush-method=fsync", "--innodb-log-file-buffering=ON"])?;
    let bytes = written_to(&buffered, "file");
    said.assert_agrees(bytes, &buffered);
    assert_eq!(written_to(&buffered, "disk"), 0, "{buffered}");
    assert_eq!(figure(&buffered, "/dma_bytes/disk_write_direct"), Some(0), "{buffered}");
    // What is not synced at its end, somebody else may write after it.
    assert!(figure(&buffered, "/dma_bytes/disk_write").is_some_and(|dma| dma > bytes / 2), "{buffered}");
    Ok(())
}

#[test]
fn a_log_in_java_is_appended_to_by_faults_and_sent_without_a_copy() -> Result<()> {
    const BYTES: u64 = 16 << 20;
    const CONSUMERS: u64 = 3;
    if without("javac") {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/Log.java");
    let mut java = recorder(&scratch, "report.json");
    java.args(["java", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]).arg(program);
    java.args([scratch.at("."), BYTES.to_string(), CONSUMERS.to_string()]);
    let mut java = Running::start(&mut java)?.ending_by(Signal::SIGTERM);
    let port = until("the log to be served", || {
        if java.child().try_wait()?.is_some() {
            bail!("it ended at once: {:?}", java.end()?);
        }
        Ok(fs::read_to_string(scratch.at("port")).ok())
    })?;
    for _ in 0..CONSUMERS {
        let mut received = Vec::new();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port.parse()?))?.read_to_end(&mut received)?;
        assert_eq!(received.len() as u64, BYTES);
        assert!(
            received
                .chunks(1 << 16)
                .zip((0..=u8::MAX).cycle())
                .all(|(message, n)| message.iter().all(|byte| *byte == n))
        );
    }
    let ended = java.end()?;
    assert_eq!(ended.status, 0, "{ended:?}");
    let profile = Profile::parse(&scratch.read("report.json")?)?;
    profile.assert_complete();
    profile.assert_bytes("sendfile:file:tcp", CONSUMERS * BYTES);
    // Nothing of the log: it is written by storing into memory.
    assert!(profile.bytes("write:user:file") < LITTLE && profile.bytes("write:user:tcp") == 0, "{profile}");
    // Each of its pages is mapped once; so are some of Java's own.
    if let Some(mapped) = figure(&profile, "/mmap/mapped_bytes") {
        assert!((BYTES..BYTES + 128 * LITTLE).contains(&mapped), "{mapped} bytes mapped: {profile}");
    }
    assert!(figure(&profile, "/dma_bytes/disk_write").is_some_and(|dma| dma >= BYTES), "forced to disk: {}", profile.0);
    Ok(())
}
