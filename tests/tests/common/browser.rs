//! Debian's Chromium without a window, driven through its DevTools protocol over a pipe: requests and answers are JSON
//! with a zero byte behind each.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::Scratch;
use super::process::{Running, until};

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where Chromium reads requests, and writes answers.
const READS: RawFd = 3;
const WRITES: RawFd = 4;

/// A browser with one page.
pub(crate) struct Browser {
    to: File,
    from: Receiver<Value>,
    session: Option<String>,
    last: u64,
    /// What the page complained about: exceptions, and what the policy forbade.
    pub(crate) complaints: Vec<String>,
    _process: Running,
    _scratch: Scratch,
}

impl Browser {
    /// Starts it on an empty page.
    pub(crate) fn start() -> Result<Self> {
        let scratch = Scratch::new()?;
        let (requests, to) = nix::unistd::pipe()?;
        let (answers, from_it) = nix::unistd::pipe()?;
        let mut start = Command::new("chromium");
        start.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
        start.args(["--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio"]);
        start.args(["--no-proxy-server", "--force-color-profile=srgb", "--remote-debugging-pipe"]);
        start.arg(format!("--user-data-dir={}", scratch.at("profile"))).arg("about:blank");
        start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(scratch.at("log"))?);
        let (read, write) = (requests.as_raw_fd(), from_it.as_raw_fd());
        // SAFETY: dup2 is async-signal-safe, and the descriptors are open until the command has been started.
        unsafe { start.pre_exec(move || hand_over(read, write)) };
        let process = Running::start_as_is(&mut start)?.ending_by(Signal::SIGTERM);
        let (sender, from) = channel();
        // Ends with the browser, whose end of the pipe it reads.
        std::thread::spawn(move || {
            for message in BufReader::new(File::from(answers)).split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { break };
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let mut browser = Self {
            to: File::from(to),
            from,
            session: None,
            last: 0,
            complaints: Vec::new(),
            _process: process,
            _scratch: scratch,
        };
        let target = browser.ask("Target.createTarget", &json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.ask("Target.attachToTarget", &attach)?["sessionId"].as_str().map(str::to_owned);
        browser.session = Some(session.context("a session")?);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.ask(domain, &json!({}))?;
        }
        Ok(browser)
    }

    /// Asks and waits for the answer.
    pub(crate) fn ask(&mut self, method: &str, parameters: &Value) -> Result<Value> {
        self.last += 1;
        let id = self.last;
        let mut request = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            request["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{request}\0").as_bytes())?;
        loop {
            let message = self.from.recv_timeout(PATIENCE).with_context(|| format!("no answer to {method}"))?;
            if message["id"] != id {
                self.note(&message);
                continue;
            }
            if !message["error"].is_null() {
                bail!("{method}: {}", message["error"]);
            }
            return Ok(message["result"].clone());
        }
    }

    fn note(&mut self, event: &Value) {
        let said = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => &event["params"]["exceptionDetails"],
            // What the network does is not the page's fault.
            Some("Log.entryAdded") if event["params"]["entry"]["source"] != "network" => &event["params"]["entry"],
            _ => return,
        };
        self.complaints.push(said.to_string());
    }

    /// Goes to an address and waits until it has been loaded.
    pub(crate) fn open(&mut self, url: &str) -> Result<()> {
        self.ask("Page.navigate", &json!({"url": url}))?;
        self.until("the page", "document.readyState === 'complete' && location.href !== 'about:blank'")
    }

    /// The value of an expression on the page.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let parameters = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.ask("Runtime.evaluate", &parameters)?;
        if !answer["exceptionDetails"].is_null() {
            bail!("{expression}: {}", answer["exceptionDetails"]);
        }
        Ok(answer["result"]["value"].clone())
    }

    /// The text of the first element that a selector finds.
    pub(crate) fn text(&mut self, selector: &str) -> Result<String> {
        let value = self.evaluate(&format!("document.querySelector({})?.textContent ?? null", json!(selector)))?;
        Ok(value.as_str().with_context(|| format!("no {selector}"))?.to_owned())
    }

    /// Waits until an expression is true; while it fails, because the page is being loaded, it is not.
    pub(crate) fn until(&mut self, what: &str, expression: &str) -> Result<()> {
        let tried = format!("(() => {{ try {{ return {expression}; }} catch {{ return false; }} }})()");
        until(what, || match self.evaluate(&tried) {
            Ok(value) => Ok((value == true).then_some(())),
            Err(error) if error.to_string().contains("navigated") || error.to_string().contains("context") => Ok(None),
            Err(error) => Err(error),
        })
    }

    /// Presses a key.
    pub(crate) fn press(&mut self, key: &str, code: u32, text: &str) -> Result<()> {
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = json!(text);
            }
            self.ask("Input.dispatchKeyEvent", &event)?;
        }
        Ok(())
    }

    /// Makes the window so large, and the reader's choice `light` or `dark`.
    pub(crate) fn appear(&mut self, width: u32, height: u32, scheme: &str) -> Result<()> {
        let mobile = width < 600;
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.ask("Emulation.setDeviceMetricsOverride", &size)?;
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.ask("Emulation.setEmulatedMedia", &json!({"features": features}))?;
        Ok(())
    }

    /// What it looks like, as a PNG in base64.
    pub(crate) fn picture(&mut self) -> Result<String> {
        let answer = self.ask("Page.captureScreenshot", &json!({"format": "png"}))?;
        Ok(answer["data"].as_str().context("a picture")?.to_owned())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It takes its helpers along; if it can't be asked, the signal does as much.
        self.session = None;
        let _ = self.ask("Browser.close", &json!({}));
    }
}

/// Puts the ends of the pipes where Chromium looks for them.
fn hand_over(read: RawFd, write: RawFd) -> std::io::Result<()> {
    // The one may lie where the other is to go: both are moved out of the way first.
    for (from, to) in [(read, 100), (write, 101), (100, READS), (101, WRITES)] {
        // SAFETY: dup2 touches no memory; both descriptors are ours.
        if unsafe { libc::dup2(from, to) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    for moved in [100, 101] {
        // SAFETY: close touches no memory.
        unsafe { libc::close(moved) };
    }
    Ok(())
}
