//! A real nginx, in a directory of its own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use super::Scratch;
use super::process::{Running, until};
use super::profile::recorder;

/// What is served, as /file, in bytes.
pub(crate) const SIZE: u64 = 32 << 20;

/// nginx with two workers, in a directory of its own.
pub(crate) struct Nginx {
    pub(crate) scratch: Scratch,
    pub(crate) address: SocketAddr,
    pub(crate) scheme: &'static str,
    /// nginx itself, or zcprof that records it.
    pub(crate) process: Running,
    pub(crate) master: u32,
}

impl Nginx {
    /// Starts it, by itself or under `zcprof record`, whose report is then in `report.json`.
    pub(crate) fn start(sendfile: bool, recorded: bool) -> Result<Self> {
        Self::with(if sendfile { "sendfile on;" } else { "sendfile off;" }, recorded)
    }

    /// The same, with directives of how it is to read and send.
    pub(crate) fn with(directives: &str, recorded: bool) -> Result<Self> {
        Self::within(Scratch::new()?, "nginx", directives, recorded)
    }

    /// The same, under another name: a link to it.
    pub(crate) fn named(name: &str, directives: &str) -> Result<Self> {
        Self::within(Scratch::new()?, name, directives, false)
    }

    /// One that enciphers what it sends.
    pub(crate) fn with_tls() -> Result<Self> {
        let scratch = Scratch::new()?;
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        scratch.text("certificate", own.cert.pem())?;
        scratch.text("key", own.signing_key.serialize_pem())?;
        let (certificate, key) = (scratch.at("certificate"), scratch.at("key"));
        let directives = format!("sendfile on; ssl_certificate {certificate}; ssl_certificate_key {key};");
        Self::within(scratch, "nginx", &directives, false)
    }

    fn within(scratch: Scratch, name: &str, directives: &str, recorded: bool) -> Result<Self> {
        fs::create_dir(scratch.at("www"))?;
        scratch.file("www/file", usize::try_from(SIZE)?)?;
        // Between our finding a free port and nginx's binding it, somebody else may.
        for _ in 0..5 {
            let address = free_address()?;
            scratch.text("nginx.conf", configuration(&scratch, address, directives))?;
            let mut process = launch(&scratch, name, recorded)?;
            let serving = until("nginx to listen", || {
                let ended = process.child().try_wait()?.is_some();
                let serves = TcpStream::connect(address).is_ok() && fs::exists(scratch.at("pid"))?;
                Ok((ended || serves).then_some(!ended))
            })?;
            if serving {
                let master = until("nginx's pid", || Ok(scratch.read("pid")?.trim().parse().ok()))?;
                let scheme = if directives.contains("ssl_certificate") { "https" } else { "http" };
                let nginx = Self { scratch, address, scheme, process, master };
                until("nginx's workers", || Ok((nginx.workers()?.len() == 2).then_some(())))?;
                return Ok(nginx);
            }
            let said = process.end()?;
            if !said.stderr.contains("Address already in use") {
                bail!("nginx does not start: {said:?}");
            }
        }
        bail!("no port stays free for nginx");
    }

    pub(crate) fn workers(&self) -> Result<Vec<u32>> {
        let path = format!("/proc/{0}/task/{0}/children", self.master);
        Ok(fs::read_to_string(path)?.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn launch(scratch: &Scratch, name: &str, recorded: bool) -> Result<Running> {
    let words = [name, "-p", &scratch.at(""), "-c", &scratch.at("nginx.conf"), "-e", "stderr"];
    // Debian has it where ordinary users do not look.
    let path = format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH")?);
    let mut start = if recorded { recorder(scratch, "report.json") } else { Command::new("env") };
    start.args(words).env("PATH", path);
    // A master that is killed would leave its workers behind.
    Ok(Running::start(&mut start)?.ending_by(Signal::SIGTERM))
}

fn configuration(scratch: &Scratch, address: SocketAddr, directives: &str) -> String {
    let directory = scratch.path().display();
    let user = if nix::unistd::geteuid().is_root() { "user root root;" } else { "" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {directory}/{kind};\n"))
        .concat();
    let tls = if directives.contains("ssl_certificate") { " ssl" } else { "" };
    format!(
        "daemon off;\nmaster_process on;\nworker_processes 2;\n{user}\npid {directory}/pid;\n\
         events {{ worker_connections 64; }}\n\
         http {{\n  access_log off;\n  {directives}\n{temporary}\
         server {{ listen {address}{tls}; root {directory}/www; }}\n}}\n"
    )
}
