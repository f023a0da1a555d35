//! The daemon: probes, ledger and HTTP in one process without privileges.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;
use tracing::{error, info, warn};

use super::manager::Manager;
use super::{Agent, Confined, DRAIN_INTERVAL, confine, drop_capabilities};
use crate::config::{ConfigError, DEFAULT_LISTEN_ADDRESS, DaemonConfig, LogFormat, LogLevel, check_probes};
use crate::export::api::{App, router};
use crate::export::history::History;
use crate::export::listen::{Address, Listener, inherited};
use crate::export::serve::serve;
use crate::export::source::{STEP, Source};
use crate::export::streams::Streams;
use crate::export::web::Web;
use crate::export::{About, VERSION};
use crate::kernel::{Ledgers, kernel_release};
use crate::ledger::Settings;
use crate::model::Catalogue;

/// The exit status when the daemon can't do its work: no probes, no port.
const CANNOT: u8 = 2;
/// Threads that run handlers: rendering takes milliseconds.
const WORKERS: usize = 2;
/// Threads that may wait for the kernel's counters on behalf of requests; they take turns anyway.
const BLOCKING: usize = 2;
/// Stack of each thread, in bytes; what the agent itself needs is far less.
const STACK: usize = 512 * 1024;

/// Runs the daemon until SIGTERM or SIGINT. Must be called before the process has other threads: capabilities are
/// dropped by thread.
#[must_use]
pub fn run(config: &DaemonConfig) -> ExitCode {
    start_log(config.log_level, config.log_format);
    match run_until_stopped(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("zcprof daemon: {error:#}");
            ExitCode::from(CANNOT)
        }
    }
}

fn run_until_stopped(config: &DaemonConfig) -> Result<()> {
    let web = config.web_config.as_deref().map(Web::load).transpose()?.map(Arc::new);
    // The ports first: a daemon that can't be asked must not trace.
    let listeners = listeners(config)?;
    let manager = Arc::new(Manager::of_environment());
    // A stop asked for while the probes are being attached waits for them, and is then a stop like any other.
    let stops = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    stops.thread_block().context("can't hold signals back")?;
    let settings = Settings { group_by: config.group_by, max_groups: config.max_groups, retain: Some(config.retain) };
    let without: Vec<_> = config.probe.iter().filter_map(|name| name.strip_prefix('-')).collect();
    let agent = Arc::new(Agent::start_with(Catalogue::default(), settings, Ledgers::Slots, &without)?);
    // A rule about what nobody sees would fail, or pass, for no reason.
    if let Some(why) = config.rules.iter().find_map(|rule| agent.catalogue().unseen(rule.claim.mechanism)) {
        anyhow::bail!("a verify rule of the configuration can't be judged: {why}");
    }
    let renounced = check_probes(&config.probe, agent.probes())?;
    nix::sys::prctl::set_no_new_privs().context("can't set no_new_privs")?;
    drop_capabilities().context("can't drop capabilities")?;
    announce(&agent, &renounced);
    match confine(&web.as_ref().map_or_else(Vec::new, |web| web.folders())) {
        Ok(Confined { files: true }) => info!("confined: files by landlock, system calls by seccomp"),
        Ok(Confined { files: false }) => warn!("this kernel has no landlock: only system calls are confined"),
        Err(error) => warn!(%error, "not confined"),
    }
    // Threads only from here on: they inherit that nothing is permitted.
    let about = About {
        catalogue: agent.catalogue().clone(),
        probes: agent.probes().to_vec(),
        kernel: kernel_release(),
        group_by: config.group_by,
        rules: config.rules.clone(),
    };
    let observer = Arc::clone(&agent);
    let peers = Arc::clone(&agent);
    let source = Arc::new(Source::new(move || observer.observe())?.with_peers(move || peers.peers()));
    source.keep().context("can't read the ledger")?;
    let history = Arc::new(History::default());
    let (stop, stopped) = channel();
    let keeper = {
        let (agent, source, history) = (Arc::clone(&agent), Arc::clone(&source), Arc::clone(&history));
        let named = std::thread::Builder::new().name("keeper".to_owned()).stack_size(STACK);
        named.spawn(move || keep(&agent, &source, &history, &stopped)).context("can't start a thread")?
    };
    let streams = agent.take_operations().map(|operations| Arc::new(Streams::new(operations)));
    let teller = streams.clone().map(|streams| {
        let source = Arc::clone(&source);
        let is_gone = move |key| {
            let latest = source.latest();
            latest.is_some_and(|latest| latest.by_key(key).is_none_or(|process| process.exited))
        };
        let named = std::thread::Builder::new().name("teller".to_owned()).stack_size(STACK);
        named.spawn(move || streams.run(is_gone))
    });
    let teller = teller.transpose().context("can't start a thread")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .thread_stack_size(STACK)
        .enable_all()
        .build()
        .context("can't start the HTTP server")?;
    let app = Arc::new(App { about, source: Arc::clone(&source), history, streams: streams.clone() });
    let served = runtime.block_on(async {
        let signals = wait_for_signal()?;
        stops.thread_unblock().context("can't let signals through")?;
        for listener in &listeners {
            info!(address = %listener, "listening");
        }
        let status = status(&agent);
        if let Some(patience) = manager.patience {
            tokio::spawn(watched(Arc::clone(&manager), Arc::clone(&source), patience));
        }
        let stop = async {
            signals.await;
            manager.stopping();
            // Answers that would go on for ever.
            streams.iter().for_each(|streams| streams.close());
        };
        manager.ready(&status);
        serve(listeners, router(app, web.clone()), web, stop).await.context("can't serve HTTP")
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(stop);
    streams.iter().for_each(|streams| streams.close());
    if teller.is_some_and(|teller| !matches!(teller.join(), Ok(Ok(())))) {
        error!("the thread that tells operations had failed");
    }
    if keeper.join().is_err() {
        error!("the thread that keeps the ledger had failed");
    }
    drop(agent);
    info!("stopped; the probes are detached");
    served
}

/// The service manager's sockets and those at the addresses given; the default one only if there are neither.
fn listeners(config: &DaemonConfig) -> Result<Vec<Listener>> {
    let mut listeners = inherited()?;
    if let Some(open) = listeners.iter().find_map(Listener::open_to_others).filter(|_| !config.anywhere) {
        return Err(ConfigError::Insecure(open).into());
    }
    let default = if config.listen.is_empty() && listeners.is_empty() {
        Some(Address::Tcp(DEFAULT_LISTEN_ADDRESS.parse().context(DEFAULT_LISTEN_ADDRESS)?))
    } else {
        None
    };
    for address in config.listen.iter().chain(&default) {
        listeners.push(Listener::bind(address)?);
    }
    Ok(listeners)
}

/// One line for `systemctl status`.
fn status(agent: &Agent) -> String {
    let attached = agent.probes().iter().filter(|probe| probe.attached).count();
    format!("tracing with {attached} of {} probes", agent.probes().len())
}

/// Tells the service manager again and again that the daemon is alive: that it answers requests (this task runs among
/// theirs), and that the ledger has been read lately.
async fn watched(manager: Arc<Manager>, source: Arc<Source>, patience: Duration) {
    let mut next = tokio::time::interval(patience / 3);
    loop {
        next.tick().await;
        if source.latest().is_some_and(|latest| latest.taken.elapsed() < patience.max(STEP * 2)) {
            manager.alive();
        }
    }
}

fn announce(agent: &Agent, renounced: &[&str]) {
    let attached: Vec<_> = agent.probes().iter().filter(|probe| probe.attached).map(|probe| probe.name).collect();
    info!(version = VERSION, kernel = kernel_release(), attached = attached.join(","), "tracing");
    for probe in agent.probes().iter().filter(|probe| !probe.attached) {
        let reason = probe.reason.as_deref().unwrap_or_default();
        info!(probe = probe.name, reason, lacks = probe.provides, "probe not attached");
    }
    for probe in renounced {
        info!(probe, "turned off as asked");
    }
}

/// Keeps the ledger going: takes events off the ring before it fills, and a snapshot for the history every second.
/// Ends when the other end of `stopped` is dropped.
fn keep(agent: &Agent, source: &Source, history: &History, stopped: &Receiver<()>) {
    let mut next = Instant::now() + STEP;
    let mut failed = false;
    while stopped.recv_timeout(DRAIN_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        if Instant::now() < next {
            agent.drain_events();
            continue;
        }
        // Not next + STEP: a host that slept has no seconds to make up for.
        next = Instant::now() + STEP - DRAIN_INTERVAL / 2;
        match source.keep() {
            Ok(()) if failed => warn!("the ledger can be read again"),
            Err(error) if !failed => error!(%error, "can't read the ledger"),
            _ => {}
        }
        if let Some(latest) = source.latest() {
            history.keep(agent.catalogue(), &latest);
        }
        failed = source.latest().is_none_or(|latest| latest.taken.elapsed() > STEP);
    }
}

fn wait_for_signal() -> Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).context("can't wait for signals");
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: stopping"),
            _ = interrupt.recv() => info!("SIGINT: stopping"),
        }
    })
}

/// Logs to standard error. A second call changes nothing.
fn start_log(level: LogLevel, format: LogFormat) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // A log that nobody reads any more must not end the daemon: no complaints about it to the same place.
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .log_internal_errors(false);
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::config::DaemonOptions;

    #[test]
    fn a_port_in_use_is_named_with_a_way_out_before_anything_is_traced() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let _holder = TcpListener::bind(taken).unwrap();
        let options = DaemonOptions { web_listen_address: vec![taken.to_string()], ..DaemonOptions::default() };
        let error = run_until_stopped(&DaemonConfig::load(options).unwrap()).unwrap_err();
        let message = format!("{error:#}");
        for part in [&taken.to_string(), "--web.listen-address", "in use"] {
            assert!(message.contains(part), "{message}");
        }
    }
}
