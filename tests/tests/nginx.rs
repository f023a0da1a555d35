//! A real nginx, with sendfile on and off, under every command that can tell the difference.

mod common;

use std::process::Command;

use anyhow::{Context as _, Result};
use common::nginx::{Nginx, SIZE};
use common::process::{Running, until_asleep, until_watching};
use common::profile::Profile;
use common::{Ended, command, run, without};
use nix::sys::signal::Signal;
use serde_json::Value;

/// How often it is fetched.
const TIMES: u64 = 4;

/// What these tests ask of it.
impl Nginx {
    /// Fetches the file several times, and waits until nginx is through with it. Returns the sum of the headers.
    fn fetch(&self) -> Result<u64> {
        let mut headers = 0;
        for _ in 0..TIMES {
            let url = format!("{}://{}/file", self.scheme, self.address);
            let mut curl = Command::new("curl");
            let options = [
                "-q",
                "-sSk",
                "--noproxy",
                "*",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code} %{size_download} %{size_header}",
            ];
            let ended = run(curl.args(options).arg(url))?;
            let figures: Vec<u64> = ended
                .stdout
                .split(' ')
                .map(str::parse)
                .collect::<Result<_, _>>()
                .with_context(|| format!("{ended:?}"))?;
            let [status, body, header] = figures[..].try_into().context("three figures")?;
            assert_eq!((status, body), (200, SIZE), "{ended:?}");
            headers += header;
        }
        for worker in self.workers()? {
            until_asleep(worker)?;
        }
        Ok(headers)
    }

    /// What `zcprof WORDS --pid MASTER` says of what is done meanwhile; ended as Ctrl-C does.
    fn watch<T>(&self, words: &[&str], meanwhile: impl FnOnce() -> Result<T>) -> Result<(T, Ended)> {
        let pid = self.master.to_string();
        let mut zcprof = command(words);
        let mut watcher = Running::start(zcprof.args(["--json", "--for", "10m", "--pid", &pid]))?;
        until_watching(&mut watcher)?;
        let done = meanwhile()?;
        Ok((done, watcher.end_by(Signal::SIGINT)?))
    }

    /// `zcprof verify` for sendfile from a file to TCP: exit status and verdict.
    fn verify(&self, meanwhile: impl FnOnce() -> Result<()>) -> Result<(i32, Value)> {
        let claim = ["verify", "--mechanism", "sendfile", "--source", "file", "--sink", "tcp"];
        let ((), ended) = self.watch(&claim, meanwhile)?;
        let verdict = serde_json::from_str(&ended.stdout).with_context(|| format!("{ended:?}"))?;
        Ok((ended.status, verdict))
    }

    /// What `zcprof advise` says of its workers: all of it, and what of it is advised.
    fn advised(&self) -> Result<(Value, Vec<Value>)> {
        let (_, ended) = self.watch(&["advise"], || self.fetch())?;
        let report: Value = serde_json::from_str(&ended.stdout).with_context(|| format!("{ended:?}"))?;
        let processes = report["processes"].as_array().context("no list")?.iter();
        let all = processes.flat_map(|one| one["advice"].as_array().cloned().unwrap_or_default());
        let advised = all.filter(|one| one["advised"] == true).collect();
        Ok((report, advised))
    }

    fn profile(&self) -> Result<(u64, Profile)> {
        let (headers, ended) = self.watch(&["profile"], || self.fetch())?;
        assert_eq!(ended.status, 0, "{ended:?}");
        let profile = Profile::parse(&ended.stdout)?;
        profile.assert_complete();
        // The master and those of its workers that there are.
        assert_eq!(profile.0["processes"].as_array().map(Vec::len), Some(3), "{profile}");
        assert!(profile.0["window_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
        Ok((headers, profile))
    }
}

fn not_here() -> bool {
    without("nginx") || without("curl")
}

fn assert_sent_by_sendfile(profile: &Profile, headers: u64) {
    profile.assert_bytes("sendfile:file:tcp", TIMES * SIZE);
    profile.assert_bytes("write:user:tcp", headers);
    // Pages that its processes copy when they write to them are what is left.
    assert!(profile.copies_per_byte().is_some_and(|copies| copies < 0.02), "{:?}", profile.copies_per_byte());
}

#[test]
fn with_sendfile_no_byte_of_the_file_is_copied() -> Result<()> {
    if not_here() {
        return Ok(());
    }
    let (headers, profile) = Nginx::start(true, false)?.profile()?;
    assert_sent_by_sendfile(&profile, headers);
    profile.assert_bytes("read:file:user", 0);
    Ok(())
}

#[test]
fn without_sendfile_every_byte_is_copied_twice() -> Result<()> {
    if not_here() {
        return Ok(());
    }
    let (headers, profile) = Nginx::start(false, false)?.profile()?;
    profile.assert_bytes("sendfile:file:tcp", 0);
    profile.assert_bytes("write:user:tcp", TIMES * SIZE + headers);
    profile.assert_bytes("read:file:user", TIMES * SIZE);
    assert!(profile.copies_per_byte().is_some_and(|copies| (1.99..2.01).contains(&copies)), "{profile}");
    Ok(())
}

/// Past the page cache, which sendfile can't be: read by DMA, and copied once.
#[test]
fn with_direct_io_every_byte_is_copied_once() -> Result<()> {
    if not_here() {
        return Ok(());
    }
    let (headers, profile) = Nginx::with("sendfile on; directio 1m;", false)?.profile()?;
    assert_direct(&profile, headers);
    let dma = profile.0["dma_bytes"]["disk_read_direct"].as_u64();
    assert!(dma.is_some_and(|dma| dma >= TIMES * SIZE), "{dma:?} bytes by DMA");
    Ok(())
}

#[test]
fn threads_read_past_the_page_cache_too() -> Result<()> {
    if not_here() {
        return Ok(());
    }
    let (headers, profile) = Nginx::with("sendfile on; directio 1m; aio threads;", false)?.profile()?;
    assert_direct(&profile, headers);
    Ok(())
}

#[test]
fn what_threads_do_is_their_processs() -> Result<()> {
    if not_here() {
        return Ok(());
    }
    let (headers, profile) = Nginx::with("sendfile on; aio threads;", false)?.profile()?;
    assert_sent_by_sendfile(&profile, headers);
    let (headers, profile) = Nginx::with("sendfile off; aio threads;", false)?.profile()?;
    profile.assert_bytes("read:file:user", TIMES * SIZE);
    profile.assert_bytes("write:user:tcp", TIMES * SIZE + headers);
    Ok(())
}

fn assert_direct(profile: &Profile, headers: u64) {
    profile.assert_bytes("sendfile:file:tcp", 0);
    profile.assert_bytes("read:file:user", 0);
    profile.assert_bytes("read:disk:user", TIMES * SIZE);
    profile.assert_bytes("write:user:tcp", TIMES * SIZE + headers);
    assert!(profile.copies_per_byte().is_some_and(|copies| (0.99..1.01).contains(&copies)), "{profile}");
}

#[test]
fn a_recorded_nginx_counts_from_its_start_to_its_end() -> Result<()> {
    if not_here() {
        return Ok(());
    }
    let mut nginx = Nginx::start(true, true)?;
    let headers = nginx.fetch()?;
    // zcprof hands it on to nginx, which ends with 0.
    let ended = nginx.process.end_by(Signal::SIGTERM)?;
    assert_eq!(ended.status, 0, "{ended:?}");
    let profile = Profile::parse(&nginx.scratch.read("report.json")?)?;
    profile.assert_complete();
    profile.assert_bytes("sendfile:file:tcp", TIMES * SIZE);
    profile.assert_bytes("write:user:tcp", headers);
    // It has read its configuration and libraries, which is little beside what it has sent.
    assert_sent_by_sendfile(&profile, headers);
    Ok(())
}

#[test]
fn verify_passes_with_sendfile_and_has_nothing_to_judge_when_idle() -> Result<()> {
    if not_here() {
        return Ok(());
    }
    let nginx = Nginx::start(true, false)?;
    let (status, found) = nginx.verify(|| nginx.fetch().map(drop))?;
    assert_eq!((status, found["verdict"].as_str()), (0, Some("pass")), "{found}");
    assert_eq!(found["matching_bytes"].as_u64(), Some(TIMES * SIZE), "{found}");
    assert!(found["share"].as_f64().is_some_and(|share| share > 0.999 && share < 1.0), "{found}");
    let (status, found) = nginx.verify(|| Ok(()))?;
    assert_eq!((status, found["verdict"].as_str()), (3, Some("no_traffic")), "{found}");
    Ok(())
}

#[test]
fn verify_fails_without_sendfile() -> Result<()> {
    if not_here() {
        return Ok(());
    }
    let nginx = Nginx::start(false, false)?;
    let (status, found) = nginx.verify(|| nginx.fetch().map(drop))?;
    assert_eq!((status, found["verdict"].as_str()), (1, Some("fail")), "{found}");
    assert_eq!(found["matching_bytes"].as_u64(), Some(0), "{found}");
    assert!(found["total_bytes"].as_u64().is_some_and(|bytes| bytes > TIMES * SIZE), "{found}");
    Ok(())
}

#[test]
fn without_sendfile_it_is_advised() -> Result<()> {
    if not_here() {
        return Ok(());
    }
    let (report, advised) = Nginx::start(false, false)?.advised()?;
    let sum = |field: &str| advised.iter().filter_map(|one| one[field].as_u64()).sum::<u64>();
    assert_eq!(sum("candidate_bytes"), TIMES * SIZE, "{report:#}");
    assert_eq!(sum("saved_copied_bytes"), 2 * TIMES * SIZE, "{report:#}");
    assert!(advised.iter().all(|one| one["call"] == "sendfile" && one["sink"] == "tcp"), "{report:#}");
    let group = &report["groups"][0];
    assert_eq!((&group["group"], &group["advice"][0]["candidate_bytes"]), (&"nginx".into(), &(TIMES * SIZE).into()));
    Ok(())
}

#[test]
fn with_sendfile_or_tls_nothing_is_advised() -> Result<()> {
    if not_here() {
        return Ok(());
    }
    let (report, advised) = Nginx::start(true, false)?.advised()?;
    assert!(advised.is_empty(), "{report:#}");
    let (report, advised) = Nginx::with_tls()?.advised()?;
    assert!(advised.is_empty(), "{report:#}");
    // It is said why not.
    let text = report.to_string();
    assert!(text.contains("libssl") && text.contains("other buffers"), "{report:#}");
    Ok(())
}
