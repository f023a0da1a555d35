//! The page at `/` in a real Chromium: the API's numbers while a workload runs, through the daemon's restart, with names
//! that try to be more than text, by keyboard, in the dark and on a phone.

mod common;

use std::fs;
use std::io::Write as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use common::browser::Browser;
use common::daemon::Daemon;
use common::process::{Running, until};
use common::{Scratch, run, without};
use nix::sys::signal::Signal;
use serde_json::Value;

/// A name that would be an element, if it were ever taken for HTML.
const HOSTILE: &str = "<img src=x>\u{1b}[7";

/// Names a folder for pictures of the page, if they are wanted.
const PICTURES: &str = "ZCPROF_PICTURES";

/// `yes | cat > /dev/null` under names of their own: bytes from user memory into a pipe, and out of it again.
struct Busy {
    yes: Running,
    cat: Running,
    _scratch: Scratch,
}

impl Busy {
    fn start() -> Result<Self> {
        let scratch = Scratch::new()?;
        let names = [(scratch.at(HOSTILE), "yes"), (scratch.at("page-cat"), "cat")];
        for (link, program) in &names {
            let found = run(Command::new("sh").args(["-c", &format!("command -v {program}")]))?;
            std::os::unix::fs::symlink(found.stdout.trim(), link)?;
        }
        let [(yes, _), (cat, _)] = names;
        let mut yes = Running::start_as_is(Command::new(yes).stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let pipe = yes.child().stdout.take().context("a pipe")?;
        let cat = Running::start_as_is(Command::new(cat).stdin(pipe).stdout(Stdio::null()))?;
        Ok(Self { yes, cat, _scratch: scratch })
    }
}

fn open(daemon: &Daemon) -> Result<Browser> {
    let mut browser = Browser::start()?;
    browser.appear(1280, 1000, "light")?;
    browser.open(&format!("http://{}/", daemon.address))?;
    is_live(&mut browser)?;
    Ok(browser)
}

fn is_live(browser: &mut Browser) -> Result<()> {
    browser.until("the page to be live", "document.getElementById('status').textContent.startsWith('Live.')")
}

/// Only these processes' rows.
fn filter(browser: &mut Browser, text: &str) -> Result<()> {
    let set = "document.getElementById('filter')";
    browser.evaluate(&format!("{set}.value = {}; {set}.dispatchEvent(new Event('input'))", Value::from(text)))?;
    Ok(())
}

/// The figures in a process's row: bytes, copied, delivered, copies per byte.
fn figures(browser: &mut Browser, pid: u32) -> Result<Option<Vec<f64>>> {
    let cells = format!(
        "[...document.querySelectorAll('tr[data-pid=\"{pid}\"] td.number')].map((cell) => cell.textContent.replaceAll(',', ''))"
    );
    let cells = browser.evaluate(&cells)?;
    let texts = cells.as_array().context("cells")?.iter().filter_map(Value::as_str);
    Ok(texts.map(|text| text.parse().ok()).collect::<Option<Vec<f64>>>().filter(|all| all.len() == 4))
}

fn api(daemon: &Daemon, pid: u32) -> Result<[f64; 3]> {
    let answer = daemon.json(&format!("/api/v1/processes?pid={pid}"))?;
    let one = &answer["processes"][0];
    let figure = |name: &str| one[name].as_f64().with_context(|| format!("no {name} in {one}"));
    Ok([figure("bytes")?, figure("copied_bytes")?, figure("delivered_bytes")?])
}

#[test]
fn says_what_could_be_saved() -> Result<()> {
    if without("chromium") {
        return Ok(());
    }
    let daemon = Daemon::start(&[])?;
    let scratch = Scratch::new()?;
    scratch.file("file", 64 << 20)?;
    let mut browser = open(&daemon)?;
    let piped = format!("cat {0} | cat > {0}2", scratch.at("file"));
    assert_eq!(run(Command::new("sh").args(["-c", &piped]))?.status, 0);
    // Among what else is said, of others and of groups.
    let told = "[...document.querySelectorAll('#advice tr[data-advice=\"file>pipe\"][data-advised=true]')].map((row) => \
                row.textContent).find((text) => text.startsWith('cat (pid') && text.includes('67,108,864')) ?? ''";
    let row = until("the advice", || Ok(Some(browser.evaluate(told)?).filter(|row| row != "")))?;
    assert!(row.as_str().is_some_and(|row| row.contains("splice") && row.contains("134,217,728")), "{row}");
    assert_at_peace(&mut browser, &daemon)
}

#[test]
fn says_with_whom_a_process_talks() -> Result<()> {
    if without("chromium") {
        return Ok(());
    }
    let daemon = Daemon::start(&[])?;
    let name = SocketAddr::from_abstract_name(format!("{HOSTILE}{}", std::process::id()))?;
    let listener = UnixListener::bind_addr(&name)?;
    let mut client = UnixStream::connect_addr(&name)?;
    client.write_all(&[1; 50_000])?;
    let mut browser = open(&daemon)?;
    assert_eq!(browser.evaluate("document.getElementById('peers-of').hidden")?, true);
    browser.open(&format!("http://{}/?#pid={}", daemon.address, std::process::id()))?;
    browser.until("the peers", "document.querySelector('#peers tr[data-peer=unix]') !== null")?;
    let row = browser.text("#peers tr[data-peer=unix]")?;
    assert!(row.contains("@<img src=x>\\u{1b}[7") && row.contains("50,000"), "{row}");
    assert_eq!(browser.evaluate("document.querySelector('img')")?, Value::Null);
    drop(listener);
    assert_at_peace(&mut browser, &daemon)
}

/// Nothing went wrong on the page, and nothing came from elsewhere.
fn assert_at_peace(browser: &mut Browser, daemon: &Daemon) -> Result<()> {
    let origins = "[...new Set(performance.getEntriesByType('resource').map((one) => new URL(one.name).origin))]";
    let origins = browser.evaluate(origins)?;
    assert_eq!(origins, serde_json::json!([format!("http://{}", daemon.address)]));
    assert_eq!(browser.complaints, Vec::<String>::new());
    Ok(())
}

#[test]
fn shows_what_the_api_says_while_a_workload_runs_and_after_it() -> Result<()> {
    if without("chromium") {
        return Ok(());
    }
    let daemon = Daemon::start(&[])?;
    let mut busy = Busy::start()?;
    let pid = busy.cat.pid();
    let mut browser = open(&daemon)?;
    filter(&mut browser, "page-cat")?;
    // While it runs, the page's figures lie between what the API said before and says after.
    let before = api(&daemon, pid)?;
    let shown = until("newer figures on the page", || {
        let shown = figures(&mut browser, pid)?;
        Ok(shown.filter(|shown| shown[0] > before[0]))
    })?;
    let after = api(&daemon, pid)?;
    for at in 0..3 {
        assert!((before[at]..=after[at]).contains(&shown[at]), "{before:?} {shown:?} {after:?}");
    }
    // cat's whole payload is copied out of the pipe, and /dev/null takes it without a copy.
    assert!((0.99..1.01).contains(&shown[3]), "{shown:?}");
    assert_bands(&mut browser, &daemon, pid)?;
    // In the end they are the API's to the byte.
    busy.yes.end_by(Signal::SIGTERM)?;
    busy.cat.end()?;
    let last = api(&daemon, pid)?;
    until("the last figures on the page", || {
        Ok(figures(&mut browser, pid)?.filter(|shown| shown[..3] == last).map(drop))
    })?;
    assert_at_peace(&mut browser, &daemon)
}

/// Chooses a process by its button, and compares the hops that are drawn with the history's point of that time.
fn assert_bands(browser: &mut Browser, daemon: &Daemon, pid: u32) -> Result<()> {
    browser.evaluate(&format!("document.querySelector('tr[data-pid=\"{pid}\"] button').click()"))?;
    let drawn = "document.querySelector('#hops tr[data-hop=\"pipe>user>cpu\"]') !== null";
    browser.until(
        "the process's hops",
        &format!("document.getElementById('flow').dataset.whose === 'pid={pid}' && {drawn}"),
    )?;
    let page = browser.evaluate(
        "({at: Number(document.getElementById('flow').dataset.at), \
          rate: Number(document.querySelector('#hops tr[data-hop=\"pipe>user>cpu\"] .number').textContent.replaceAll(',', '')), \
          bands: document.querySelectorAll('#flow path.band.cpu').length})",
    )?;
    let (at, rate) = (page["at"].as_u64().context("a time")?, page["rate"].as_f64().context("a rate")?);
    let history = daemon.json(&format!("/api/v1/history?pid={pid}&since={}", at - 1))?;
    let point = &history["points"][0];
    let bytes = point["flows"].as_array().and_then(|flows| flows.iter().find(|flow| flow["from"] == "pipe"));
    let bytes = bytes.and_then(|flow| flow["bytes"].as_f64()).with_context(|| point.to_string())?;
    let seconds = point["seconds"].as_f64().context("seconds")?;
    assert!(point["at"] == at && (rate - bytes / seconds).abs() <= 1.0, "{page} is not {point}");
    let copies = point["flows"].as_array().map(|flows| flows.iter().filter(|flow| flow["mover"] == "cpu").count());
    assert_eq!(page["bands"].as_u64(), copies.map(|count| count as u64), "{page} is not {point}");
    Ok(())
}

#[test]
fn hostile_names_are_text() -> Result<()> {
    if without("chromium") {
        return Ok(());
    }
    let daemon = Daemon::start(&[])?;
    let busy = Busy::start()?;
    let pid = busy.yes.pid();
    let mut browser = open(&daemon)?;
    filter(&mut browser, "<img")?;
    let row = format!("tr[data-pid=\"{pid}\"] td.name");
    browser.until("its row", &format!("document.querySelector({}) !== null", Value::from(row.as_str())))?;
    assert_eq!(browser.text(&row)?, "<img src=x>\\u{1b}[7");
    // As a choice of what is drawn, too: once as a group, once as a process.
    let group = format!(
        "[...document.getElementById('whose').options].some((one) => one.value === {})",
        Value::from(format!("group={HOSTILE}"))
    );
    browser.until("its group", &group)?;
    browser.evaluate(&format!("document.querySelector('tr[data-pid=\"{pid}\"] button').click()"))?;
    browser.until("its hops", &format!("document.getElementById('flow').dataset.whose === 'pid={pid}'"))?;
    assert_eq!(browser.evaluate("document.querySelectorAll('img').length")?, 0);
    // A hostile choice in the address is a name like others.
    browser.open(&format!("http://{}/?again#group=%3Cimg%20src%3Dx%3E", daemon.address))?;
    is_live(&mut browser)?;
    assert_eq!(browser.evaluate("document.querySelectorAll('img').length")?, 0);
    assert_at_peace(&mut browser, &daemon)
}

#[test]
fn survives_the_daemons_restart_and_its_own_reload() -> Result<()> {
    if without("chromium") {
        return Ok(());
    }
    let mut daemon = Daemon::start(&[])?;
    let _busy = Busy::start()?;
    let mut browser = open(&daemon)?;
    let known = "document.querySelector('#strip path.cpu').getAttribute('d').split('L').length";
    browser.until("some history", &format!("{known} >= 3"))?;
    // A reload has the history from the daemon at once.
    browser.ask("Page.reload", &serde_json::json!({}))?;
    browser
        .until("history after a reload", &format!("document.getElementById('hops').rows.length > 0 && {known} >= 3"))?;
    let address = daemon.address.to_string();
    daemon.process.end_by(Signal::SIGTERM)?;
    browser.until("the page to notice", "document.getElementById('status').classList.contains('failed')")?;
    assert!(browser.text("#status")?.contains("trying again"));
    let before = browser.evaluate("Number(document.getElementById('flow').dataset.at)")?;
    let again = Daemon::start(&["--web.listen-address", &address])?;
    is_live(&mut browser)?;
    browser.until("newer history", &format!("Number(document.getElementById('flow').dataset.at) > {before}"))?;
    // What was before is still there.
    browser.until("older history", &format!("{known} >= 3"))?;
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
    drop(again);
    Ok(())
}

#[test]
fn works_by_keyboard_goes_back_in_time_and_sorts() -> Result<()> {
    if without("chromium") {
        return Ok(());
    }
    let daemon = Daemon::start(&[])?;
    let _busy = Busy::start()?;
    let mut browser = open(&daemon)?;
    browser
        .until("three steps", "document.querySelector('#strip path.cpu').getAttribute('d').split('L').length >= 3")?;
    let focus = |browser: &mut Browser| {
        browser.evaluate("document.activeElement.id || document.activeElement.closest('th')?.dataset.sort || ''")
    };
    // From the top with Tab alone to the slider.
    until("the slider", || {
        browser.press("Tab", 9, "")?;
        Ok((focus(&mut browser)? == "time").then_some(()))
    })?;
    browser.press("ArrowLeft", 37, "")?;
    browser.press("ArrowLeft", 37, "")?;
    assert_eq!(
        browser.evaluate("document.getElementById('time').getAttribute('aria-valuetext').startsWith('4 s ago')")?,
        true
    );
    let earlier = "(({at, newest}) => Number(at) > 0 && Number(at) <= Number(newest) - 4000)(document.getElementById('flow').dataset)";
    browser.until("an earlier time", earlier)?;
    assert_eq!(browser.evaluate("document.getElementById('time').min")?, "-600", "ten minutes");
    until("the pid's heading", || {
        browser.press("Tab", 9, "")?;
        Ok((focus(&mut browser)? == "pid").then_some(()))
    })?;
    browser.press("Enter", 13, "\r")?;
    let sorted = |way: &str| {
        format!(
            "document.querySelector('th[data-sort=pid]').getAttribute('aria-sort') === '{way}' && \
         [...document.querySelectorAll('#rows tr')].map((row) => Number(row.dataset.pid)) \
         .every((pid, at, all) => at === 0 || (all[at - 1] - pid) * ('{way}' === 'ascending' ? 1 : -1) <= 0)"
        )
    };
    browser.until("pids from the first on", &sorted("ascending"))?;
    browser.press("Enter", 13, "\r")?;
    browser.until("pids from the last on", &sorted("descending"))?;
    // The same figures for those who don't see the picture.
    let named = "[...document.querySelectorAll('svg[role=img], section, [role=region], input, select')].every((one) => \
                 one.getAttribute('aria-label') || one.getAttribute('aria-labelledby') || one.labels?.length > 0)";
    assert_eq!(browser.evaluate(named)?, true);
    assert_at_peace(&mut browser, &daemon)
}

#[test]
fn probes_say_why_they_are_not_attached() -> Result<()> {
    if without("chromium") {
        return Ok(());
    }
    let daemon = Daemon::start(&["--probe", "-block"])?;
    let mut browser = open(&daemon)?;
    let answer = daemon.json("/api/v1/probes")?;
    for probe in answer["probes"].as_array().context("probes")? {
        let row = browser.text(&format!("tr[data-probe=\"{}\"]", probe["name"].as_str().context("a name")?))?;
        assert!(row.contains(probe["reason"].as_str().unwrap_or("yes")), "{row}: {probe}");
    }
    assert!(browser.text("tr[data-probe=block]")?.contains("turned off as asked"));
    assert_at_peace(&mut browser, &daemon)
}

#[test]
fn fits_light_dark_and_phones() -> Result<()> {
    if without("chromium") {
        return Ok(());
    }
    let daemon = Daemon::start(&[])?;
    let busy = Busy::start()?;
    let scratch = Scratch::new()?;
    let mut browser = open(&daemon)?;
    // Something on every kind of band.
    let words = ["workload", "run", "sendfile:file:tcp", "--bytes", "64MiB", "--directory"];
    until("a reference", || {
        assert_eq!(run(common::command(words).arg(scratch.path()))?.status, 0);
        let seen = browser.evaluate("document.querySelector('#hops tr[data-hop$=reference]') !== null")?;
        Ok((seen == true).then_some(()))
    })?;
    let mut seen = Vec::new();
    for (name, width, height, scheme) in
        [("light", 1080, 800, "light"), ("dark", 1080, 800, "dark"), ("phone", 390, 844, "dark")]
    {
        browser.appear(width, height, scheme)?;
        let colours = "getComputedStyle(document.body).backgroundColor + getComputedStyle(document.body).color";
        seen.push(browser.evaluate(colours)?);
        let wide = browser.evaluate("document.documentElement.scrollWidth")?;
        assert!(wide.as_u64().is_some_and(|wide| wide <= u64::from(width)), "{name}: {wide} > {width}");
        keep(&mut browser, name)?;
    }
    assert!(seen[0] != seen[1] && seen[1] == seen[2], "{seen:?}");
    drop(busy);
    assert_at_peace(&mut browser, &daemon)
}

/// Keeps a picture where the environment says so.
fn keep(browser: &mut Browser, name: &str) -> Result<()> {
    let Some(folder) = std::env::var_os(PICTURES) else { return Ok(()) };
    let mut base64 = Command::new("base64");
    let file = fs::File::create(Path::new(&folder).join(format!("page-{name}.png")))?;
    let mut decode = Running::start_as_is(base64.arg("-d").stdin(Stdio::piped()).stdout(file))?;
    // Which build of the kernel this is concerns nobody.
    browser.evaluate("document.getElementById('status').textContent = document.getElementById('status').textContent.replace(/-.*/, '.')")?;
    let picture = browser.picture()?;
    std::io::Write::write_all(&mut decode.child().stdin.take().context("a pipe")?, picture.as_bytes())?;
    assert_eq!(decode.end()?.status, 0);
    Ok(())
}
