//! docs/questions.md, run: every command in it, and what it prints held against what the page says.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};
use common::daemon::Daemon;
use common::nginx::Nginx;
use common::process::{Running, until};
use common::{Scratch, leftovers, run, without, zcprof};

/// What the page calls its process that thrashes, and the web server of its rule.
const NAMES: [&str; 2] = ["thrasher", "nginx"];

/// A fenced block of the page: its language and its text.
struct Block {
    language: String,
    text: String,
}

fn blocks() -> Result<Vec<Block>> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/questions.md"))?;
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for line in page.lines() {
        match (line.strip_prefix("```"), open) {
            (Some(language), false) => {
                blocks.push(Block { language: language.to_owned(), text: String::new() });
                open = true;
            }
            (Some(_), true) => open = false,
            (None, true) => {
                let block = blocks.last_mut().context("a block")?;
                block.text += &format!("{line}\n");
            }
            (None, false) => {}
        }
    }
    Ok(blocks)
}

/// Whether a line has the parts between the pattern's ellipses, in their order; the first one anywhere in it, since
/// tables indent.
fn matches(line: &str, pattern: &str) -> bool {
    let mut rest = line;
    for part in pattern.split('…').map(str::trim) {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

/// Fails unless the lines of the pattern are among those printed, in their order.
fn assert_prints(printed: &str, patterns: &str, by: &str) {
    let mut lines = printed.lines();
    for pattern in patterns.lines() {
        assert!(lines.any(|line| matches(line, pattern)), "{pattern:?} is not in what this prints:\n{by}\n{printed}");
    }
}

/// What the page takes for granted.
struct Place {
    scratch: Scratch,
    nginx: Nginx,
    daemon: Daemon,
    /// The names of ours for [`NAMES`].
    names: [String; 2],
}

impl Place {
    fn new(configuration: &str) -> Result<Self> {
        let scratch = Scratch::new()?;
        let id = std::process::id();
        let names = [format!("thrash-{id}"), format!("ngx-{id}")];
        let [thrasher, nginx] = names.each_ref().map(|name| scratch.at(name));
        for (program, link) in [("dd", &thrasher), ("nginx", &nginx)] {
            symlink(found(program)?, link)?;
        }
        symlink(zcprof(), scratch.at("zcprof"))?;
        let configuration = configuration.replace(&format!("\"{}\"", NAMES[1]), &format!("\"{}\"", names[1]));
        let file = scratch.text("zcprof.toml", configuration)?;
        let daemon = Daemon::start(&["--config.file", &file])?;
        let nginx = Nginx::named(&nginx, "sendfile on;")?;
        scratch.file("cold", 8 << 20)?;
        Ok(Self { scratch, nginx, daemon, names })
    }

    /// Runs a block in a directory of its own, as one types it; what it prints.
    fn run(&self, block: &str, number: usize) -> Result<String> {
        let folder = self.scratch.at(&format!("block-{number}"));
        fs::create_dir(&folder)?;
        self.scratch.file(&format!("block-{number}/big.iso"), 8 << 20)?;
        fs::File::open(format!("{folder}/big.iso"))?.sync_all()?;
        let script = block
            .replace("/run/nginx.pid", &self.nginx.scratch.at("pid"))
            .replace("127.0.0.1:9750", &self.daemon.address.to_string())
            .replace(&format!("--comm {}", NAMES[0]), &format!("--comm {}", self.names[0]));
        let mut bash = Command::new("bash");
        bash.args(["-eu", "-c", &format!("exec 2>&1\n{script}")]).current_dir(folder);
        let path = format!("{}:{}", self.scratch.path().display(), std::env::var("PATH")?);
        let ended = run(bash.env("PATH", path).env("no_proxy", "*"))?;
        if ended.status != 0 {
            bail!("exit status {} of:\n{script}\n{}", ended.status, ended.stdout);
        }
        Ok(ended.stdout)
    }

    /// Fetches from nginx, and reads a file that it has the page cache forget, until told to stop.
    fn keep_busy(&self, stop: &AtomicBool) -> Result<()> {
        let url = format!("http://{}/file", self.nginx.address);
        let (thrasher, cold) = (self.scratch.at(&self.names[0]), self.scratch.at("cold"));
        fs::File::open(&cold)?.sync_all()?;
        while !stop.load(Ordering::Relaxed) {
            let curl = run(Command::new("curl").args(["-q", "-sS", "--noproxy", "*", "-o", "/dev/null", &url]))?;
            assert_eq!(curl.status, 0, "{curl:?}");
            let forget = [&format!("if={cold}"), "iflag=nocache", "count=0", "status=none"];
            // One process that reads, and goes on reading, so that it can be selected by its name.
            run(Command::new(found("dd")?).args(forget))?;
            let read = [&format!("if={cold}"), "of=/dev/null", "bs=64K", "status=none"];
            let mut reader = Running::start(Command::new(&thrasher).args(read))?;
            assert_eq!(reader.end()?.status, 0);
        }
        Ok(())
    }

    /// Whether nginx has sent something that the daemon's rule can be judged by, and the page cache has missed something.
    fn is_busy(&self) -> Result<bool> {
        let metrics = self.daemon.metrics()?;
        let missed = format!("zcprof_page_cache_bytes_total{{group=\"{}\",kind=\"missed\"}}", self.names[0]);
        Ok(metrics.get("zcprof_verify_pass{rule=\"nginx sends files by sendfile\"}") == 1.0
            && metrics.get(&missed) >= f64::from(16 << 20))
    }
}

/// Sets it in the end.
struct Tell<'a>(&'a AtomicBool);

impl Drop for Tell<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn found(program: &str) -> Result<String> {
    let path = format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH")?);
    let found = run(Command::new("sh").args(["-c", &format!("command -v {program}")]).env("PATH", path))?;
    let found = found.stdout.trim().to_owned();
    if found.is_empty() { bail!("no {program} here") } else { Ok(found) }
}

#[test]
fn every_command_of_the_page_prints_what_the_page_says() -> Result<()> {
    if ["nginx", "curl", "python3"].into_iter().any(without) {
        return Ok(());
    }
    let blocks = blocks()?;
    let [configuration, questions @ ..] = &blocks[..] else { bail!("no blocks") };
    assert_eq!(configuration.language, "toml");
    let (pairs, rest) = questions.as_chunks::<2>();
    assert!(pairs.len() >= 10 && rest.is_empty(), "each command with what it prints");
    let place = Place::new(&configuration.text)?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| place.keep_busy(&stop));
        // However this ends: nobody waits for who is never told.
        let told = Tell(&stop);
        let answers = (|| {
            until("traffic", || Ok(place.is_busy()?.then_some(())))?;
            let answer = |(number, [command, printed]): (usize, &[Block; 2])| -> Result<()> {
                assert_eq!((command.language.as_str(), printed.language.as_str()), ("sh", "text"));
                let patterns = printed.text.replace(NAMES[0], &place.names[0]);
                assert_prints(&place.run(&command.text, number)?, &patterns, &command.text);
                Ok(())
            };
            // All at once: most of them watch for a while.
            std::thread::scope(|scope| {
                let each: Vec<_> = pairs.iter().enumerate().map(|pair| scope.spawn(move || answer(pair))).collect();
                each.into_iter().try_for_each(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            })
        })();
        drop(told);
        answers.and(busy.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    drop(place);
    leftovers::assert_none()
}

#[test]
fn a_line_that_differs_is_not_taken_for_the_one_on_the_page() {
    assert!(matches("  read:file:user   129  8388608 ", "read:file:user … 8388608 …"));
    assert!(matches("pass: a carried 99.9% of b", "pass: a carried …% of b"));
    for line in ["fail: a carried 99.9% of b", "pass: a carried 99.9 of b", "", "b of 99% carried a pass:"] {
        assert!(!matches(line, "pass: a carried …% of b"), "{line}");
    }
    let wrong = std::panic::catch_unwind(|| assert_prints("one\ntwo\n", "two\none\n", "it"));
    assert!(wrong.is_err(), "another order");
}
