//! `zcprof top` on a pseudo-terminal: what a person at it sees, and what the terminal is sent.

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use common::process::{Running, until};
use common::{Scratch, command, run};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::Signal;

const COLUMNS: u16 = 150;
const LINES: u16 = 40;

/// A process's name that would turn what follows red, and give the window a title.
const HOSTILE: &str = "\u{1b}[31m\u{1b}]0;x\u{7}";

/// A name of each pair of processes of its own.
static PAIRS: AtomicU32 = AtomicU32::new(0);

/// zcprof at a terminal of its own.
struct Top {
    process: Running,
    keyboard: fs::File,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Top {
    fn start(options: &[&str]) -> Result<Self> {
        let size = Winsize { ws_row: LINES, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None)?;
        let mut start = command(["top", "--interval", "300ms"]);
        start.args(options).env("TERM", "xterm-256color");
        start.stdin(pty.slave.try_clone()?).stdout(pty.slave.try_clone()?).stderr(pty.slave.try_clone()?);
        // SAFETY: both calls are async-signal-safe; they make the terminal the one that the new process belongs to.
        unsafe { start.pre_exec(own_terminal) };
        let process = Running::start_as_is(&mut start)?.ending_by(Signal::SIGTERM);
        // The slave's last descriptors on our side are in the command.
        drop((start, pty.slave));
        let sent = Arc::new(Mutex::new(Vec::new()));
        let keyboard = fs::File::from(pty.master.try_clone()?);
        collect(pty.master, Arc::clone(&sent));
        let top = Self { process, keyboard, sent };
        top.until("its table", |screen| screen.contains("COMMAND") && screen.contains("over "))?;
        Ok(top)
    }

    fn press(&mut self, keys: &str) -> Result<()> {
        self.keyboard.write_all(keys.as_bytes()).context("the keyboard")
    }

    fn raw(&self) -> Vec<u8> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is on the screen now.
    fn screen(&self) -> String {
        let mut terminal = vt100::Parser::new(LINES, COLUMNS, 0);
        terminal.process(&self.raw());
        terminal.screen().contents()
    }

    fn until(&self, what: &str, good: impl Fn(&str) -> bool) -> Result<String> {
        let found = until(what, || {
            let screen = self.screen();
            Ok(good(&screen).then_some(screen))
        });
        found.with_context(|| self.screen())
    }

    /// Waits until the other screen is left, and the cursor there again: what it was sent last may be under way.
    fn until_restored(&self) -> Result<()> {
        until("the terminal as it was", || {
            let raw = self.raw();
            let text = String::from_utf8_lossy(&raw);
            let (entered, left) = (text.rfind("\u{1b}[?1049h"), text.rfind("\u{1b}[?1049l"));
            let cursor = text.rfind("\u{1b}[?25h") > text.rfind("\u{1b}[?25l");
            Ok((entered.is_some() && entered < left && cursor).then_some(()))
        })
    }

    /// The lines of the table whose processes have this in their names, without the figures.
    fn names(&self, part: &str) -> Vec<String> {
        let screen = self.screen();
        let lines = screen.lines().skip(2).filter(|line| line.contains(part));
        lines.map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")).collect()
    }
}

fn own_terminal() -> std::io::Result<()> {
    nix::unistd::setsid()?;
    // SAFETY: descriptor 0 is the terminal, and the argument is no pointer.
    if unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

/// Keeps what the terminal is sent; ends when nobody holds its other side any more.
fn collect(master: OwnedFd, sent: Arc<Mutex<Vec<u8>>>) {
    assert!(master.as_raw_fd() > 2);
    std::thread::spawn(move || {
        let mut master = fs::File::from(master);
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = master.read(&mut piece) {
            sent.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece[..length]);
        }
    });
}

/// `yes | cat`, under names of their own.
struct Pair {
    yes: Running,
    cat: Running,
    _scratch: Scratch,
    tag: String,
}

impl Pair {
    fn start() -> Result<Self> {
        let scratch = Scratch::new()?;
        // 15 characters are kept of a name.
        let number = PAIRS.fetch_add(1, Ordering::Relaxed);
        let tag = format!("{}-{number}", std::process::id());
        let (yes, cat) = (scratch.at(&format!("y{HOSTILE}{number}")), scratch.at(&format!("c-{tag}")));
        for (link, program) in [(&yes, "yes"), (&cat, "cat")] {
            std::os::unix::fs::symlink(which(program)?, link)?;
        }
        let mut yes = Running::start_as_is(Command::new(yes).stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let pipe = yes.child().stdout.take().context("a pipe")?;
        let cat = Running::start_as_is(Command::new(cat).stdin(pipe).stdout(Stdio::null()))?;
        Ok(Self { yes, cat, _scratch: scratch, tag })
    }
}

fn which(program: &str) -> Result<String> {
    let ended = run(Command::new("sh").args(["-c", &format!("command -v {program}")]))?;
    Ok(ended.stdout.trim().to_owned())
}

#[test]
fn shows_sorts_filters_leads_to_paths_pauses_and_leaves_the_terminal_as_it_was() -> Result<()> {
    let pair = Pair::start()?;
    let (cat, yes) = (pair.cat.pid().to_string(), pair.yes.pid().to_string());
    let mut top = Top::start(&[])?;
    // Both copy at full speed.
    top.until("both processes", |screen| screen.contains(&format!("c-{}", pair.tag)) && screen.contains(&yes))?;
    assert!(top.screen().contains("COPIED/s▼"), "{}", top.screen());
    assert!(top.screen().contains("y\\u{1b}[31m"), "escapes are shown, not sent:\n{}", top.screen());

    top.press(&format!("/c-{}", pair.tag))?;
    // A frame may arrive in pieces: whatever is expected is waited for.
    top.until("the filter", |screen| {
        let only = screen.contains(" 1 of ") && !screen.contains(&format!("{yes} y"));
        only && screen.contains(&format!("filter: c-{}_", pair.tag))
    })?;
    top.press("\r")?;
    top.until("the end of typing", |screen| screen.contains("Enter paths"))?;

    top.press("\r")?;
    let about = format!("c-{}, pid {cat}", pair.tag);
    let expected = [&about, "copies per byte 1.0", "read:pipe:user", "write:user:device"];
    top.until("its paths", |screen| expected.iter().all(|part| screen.contains(part)))?;

    top.press("p")?;
    let paused = top.until("the pause", |screen| screen.contains("PAUSED"))?;
    std::thread::sleep(Duration::from_millis(1000));
    assert_eq!(top.screen(), paused, "figures stand still");
    top.press("p")?;
    top.until("other figures", |screen| !screen.contains("PAUSED") && screen != paused)?;
    top.press("\u{1b}")?;
    top.until("the table", |screen| screen.contains("COMMAND"))?;
    top.press("q")?;
    assert_eq!(top.process.end()?.status, 0, "{}", top.screen());
    top.until_restored()?;
    assert_harmless(&top.raw());
    Ok(())
}

#[test]
fn sorts_by_the_column_chosen_either_way() -> Result<()> {
    let pair = Pair::start()?;
    let mut top = Top::start(&["--sort", "pid", "--filter", "y\u{1b}"])?;
    let other = Pair::start()?;
    let (first, second) = (pair.yes.pid().to_string(), other.yes.pid().to_string());
    let order = |top: &Top| {
        let pids: Vec<_> =
            top.names("y\\u{1b}").iter().filter_map(|name| Some(name.split(' ').next()?.to_owned())).collect();
        let at = |pid: &String| pids.iter().position(|one| one == pid);
        at(&first).zip(at(&second)).map(|(first, second)| first.cmp(&second))
    };
    let ascending = first.parse::<u32>()?.cmp(&second.parse()?);
    top.until("the lower pid first", |screen| screen.contains("PID▲") && order(&top) == Some(ascending))?;
    top.press("r")?;
    top.until("the higher pid first", |screen| screen.contains("PID▼") && order(&top) == Some(ascending.reverse()))?;
    for heading in ["COMMAND▼", "COPIED/s▲"] {
        top.press("s")?;
        top.until(heading, |screen| screen.contains(heading))?;
    }
    // Ctrl-C is a key here.
    top.press("\u{3}")?;
    assert_eq!(top.process.end()?.status, 0);
    top.until_restored()?;
    assert_harmless(&top.raw());
    Ok(())
}

#[test]
fn a_signal_ends_it_in_order_and_without_a_terminal_it_does_not_begin() -> Result<()> {
    let mut top = Top::start(&[])?;
    assert_eq!(top.process.end_by(Signal::SIGTERM)?.status, 0);
    top.until_restored()?;
    let ended = run(command(["top"]).stdin(Stdio::null()))?;
    assert_eq!(ended.status, 2, "{ended:?}");
    assert!(ended.stderr.contains("needs a terminal") && ended.stdout.is_empty(), "{ended:?}");
    Ok(())
}

/// No escape sequence of a process's name reached the terminal.
fn assert_harmless(raw: &[u8]) {
    let text = String::from_utf8_lossy(raw);
    assert!(!text.contains("\u{1b}]0;") && !text.contains('\u{7}'), "{text:?}");
}
