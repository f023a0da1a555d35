//! A real Prometheus scrapes two daemons while every workload runs, and evaluates every expression of every panel,
//! variable and rule: each has data, and the labels that it is shown by.

mod common;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use common::daemon::Daemon;
use common::process::{Running, until};
use common::{Scratch, command, run, run_zcprof, without, zcprof};
use nix::sys::signal::Signal;
use serde_json::Value;

/// The group that the workloads are in: `zcprof workload run` by its own name.
const GROUP: &str = "zcprof";
/// How often the daemons are scraped and the rules evaluated, in seconds.
const INTERVAL: &str = "1s";
/// What Grafana would make of $__rate_interval: four intervals at least.
const RATE_INTERVAL: &str = "8s";

fn dashboards() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards")
}

fn promtool(words: &[&str]) -> Result<()> {
    let ended = run(Command::new("promtool").args(words).current_dir(dashboards()))?;
    assert_eq!(ended.status, 0, "promtool {words:?}: {ended:?}");
    Ok(())
}

#[test]
fn rules_and_configuration_pass_promtool() -> Result<()> {
    if without("promtool") {
        return Ok(());
    }
    promtool(&["check", "config", "prometheus.yml"])?;
    promtool(&["check", "rules", "zcprof.rules.yml"])?;
    promtool(&["test", "rules", "zcprof.rules.test.yml"])
}

#[test]
fn each_alert_is_tested_for_firing_and_for_not_firing() -> Result<()> {
    let (rules, tests) = (read("zcprof.rules.yml")?, read("zcprof.rules.test.yml")?);
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 5, "{alerts:?}");
    for alert in alerts {
        let expected: Vec<_> = tests.split(&format!("alertname: {alert}\n")).skip(1).collect();
        // With probes, one that is missing stands beside others that are not to be told of.
        let silent = expected.iter().any(|text| text.trim_start().starts_with("exp_alerts: []"));
        let fires = expected.iter().any(|text| text.trim_start().starts_with("exp_alerts:\n"));
        assert!(fires && (silent || alert == "ZcprofProbesMissing"), "{alert}");
    }
    Ok(())
}

#[test]
fn grafana_provisions_from_where_the_files_are_said_to_be() -> Result<()> {
    let providers = read("grafana/provisioning/dashboards/zcprof.yml")?;
    for file in ["host.json", "group.json", "fleet.json"] {
        assert!(providers.contains(file) && dashboards().join("grafana").join(file).is_file(), "{file}");
    }
    assert!(read("grafana/provisioning/datasources/zcprof.yml")?.contains("type: prometheus"));
    Ok(())
}

fn read(name: &str) -> Result<String> {
    fs::read_to_string(dashboards().join(name)).with_context(|| name.to_owned())
}

/// Prometheus with the configuration that we ship, but for the daemons' addresses and its pace.
struct Prometheus {
    address: SocketAddr,
    _process: Running,
    _scratch: Scratch,
}

impl Prometheus {
    fn start(daemons: &[&Daemon]) -> Result<Self> {
        let scratch = Scratch::new()?;
        let targets: Vec<_> = daemons.iter().map(|daemon| format!("\"{}\"", daemon.address)).collect();
        let shipped = read("prometheus.yml")?;
        let ours = shipped.replace("\"localhost:9750\"", &targets.join(", ")).replace("15s", INTERVAL);
        assert!(!ours.contains("localhost") && ours.contains(INTERVAL), "{ours}");
        let configuration = scratch.text("prometheus.yml", ours)?;
        scratch.text("zcprof.rules.yml", read("zcprof.rules.yml")?)?;
        // Between our finding a free port and Prometheus's binding it, somebody else may.
        for attempt in 0..5 {
            let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
            let mut start = Command::new("prometheus");
            start.arg(format!("--config.file={configuration}"));
            start.arg(format!("--storage.tsdb.path={}", scratch.at(&format!("data-{attempt}"))));
            start.arg(format!("--web.listen-address={address}"));
            let log = fs::File::create(scratch.at("log"))?;
            let start = start.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            let mut process = Running::start_as_is(start)?.ending_by(Signal::SIGTERM);
            let serving = until("Prometheus to serve", || {
                let ended = process.child().try_wait()?.is_some();
                let ready = curl(address, "/-/ready", &[]).is_ok();
                Ok((ended || ready).then_some(!ended))
            })?;
            if serving {
                return Ok(Self { address, _process: process, _scratch: scratch });
            }
            let log = scratch.read("log")?;
            if !log.contains("address already in use") {
                bail!("Prometheus does not start: {log}");
            }
        }
        bail!("no port stays free for Prometheus");
    }

    /// The `data` of an answer of its API.
    fn ask(&self, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        let text = curl(self.address, path, query)?;
        let answer: Value = serde_json::from_str(&text).with_context(|| format!("{path} {query:?}: {text}"))?;
        if answer["status"] != "success" {
            bail!("{path} {query:?}: {answer}");
        }
        Ok(answer["data"].clone())
    }

    /// Labels of the series that an expression has now, those whose value is a number.
    fn series(&self, expression: &str) -> Result<Vec<Value>> {
        let data = self.ask("/api/v1/query", &[("query", expression)])?;
        let all = data["result"].as_array().context("a vector")?;
        let number = |one: &&Value| one["value"][1].as_str().is_some_and(|value| value != "NaN");
        Ok(all.iter().filter(number).map(|one| one["metric"].clone()).collect())
    }

    /// Every rule: its name, expression, annotations and error.
    fn rules(&self) -> Result<Vec<Value>> {
        let data = self.ask("/api/v1/rules", &[])?;
        let groups = data["groups"].as_array().context("groups")?;
        Ok(groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect())
    }
}

/// `GET`, with the query encoded; an error unless the status is one of success.
fn curl(address: SocketAddr, path: &str, query: &[(&str, &str)]) -> Result<String> {
    let mut curl = Command::new("curl");
    curl.args(["-q", "-sS", "--noproxy", "*", "--fail-with-body", "--max-time", "30", "-G"]);
    curl.arg(format!("http://{address}{path}"));
    for (name, value) in query {
        curl.args(["--data-urlencode", &format!("{name}={value}")]);
    }
    let ended = run(&mut curl)?;
    if ended.status != 0 {
        bail!("{path} {query:?}: {ended:?}");
    }
    Ok(ended.stdout)
}

/// An expression of ours: what must have data, and the labels that its series must have.
#[derive(Debug)]
struct Expression {
    of: String,
    text: String,
    labels: Vec<String>,
}

/// What Grafana would ask for, with its variables set.
fn set_variables(text: &str) -> String {
    let set = text
        .replace("$__rate_interval", RATE_INTERVAL)
        .replace("$job", "zcprof")
        .replace("$instance", ".+")
        .replace("$group", GROUP);
    assert!(!set.contains('$'), "another variable in {set}");
    set
}

/// The names in `{{name}}`.
fn legend_labels(legend: &str) -> Vec<String> {
    legend.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0.to_owned())).collect()
}

fn panels(dashboard: &str) -> Result<Vec<Expression>> {
    let json: Value = serde_json::from_str(&read(&format!("grafana/{dashboard}.json"))?)?;
    let mut all = Vec::new();
    for panel in json["panels"].as_array().context("panels")? {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let text = target["expr"].as_str().context("an expression")?;
            let of = format!("{dashboard}: {}", panel["title"]);
            let labels = legend_labels(target["legendFormat"].as_str().context("a legend")?);
            all.push(Expression { of, text: set_variables(text), labels });
        }
    }
    assert!(all.len() > 10, "{all:?}");
    Ok(all)
}

/// The metrics and labels that a dashboard's variables read their values from.
fn variables(dashboard: &str) -> Result<Vec<Expression>> {
    let json: Value = serde_json::from_str(&read(&format!("grafana/{dashboard}.json"))?)?;
    let queries = json["templating"]["list"].as_array().context("variables")?.iter().filter_map(|one| {
        let query = one["query"]["query"].as_str()?.strip_prefix("label_values(")?.strip_suffix(')')?;
        let (metric, label) = query.rsplit_once(", ")?;
        let of = format!("{dashboard}: variable {}", one["name"]);
        Some(Expression { of, text: set_variables(metric), labels: vec![label.to_owned()] })
    });
    Ok(queries.collect())
}

/// A rule's expression. Comparisons say 0 or 1 instead of leaving out what does not hold, so that an alert that does not
/// fire has data if all that it compares has.
fn rule(rule: &Value) -> Result<Expression> {
    let (name, text) = (rule["name"].as_str().context("a name")?, rule["query"].as_str().context("a query")?);
    assert_eq!((rule["health"].as_str(), rule["lastError"].as_str()), (Some("ok"), None), "{name}");
    let mut text = text.to_owned();
    let mut labels = Vec::new();
    if rule["type"] == "alerting" {
        for operator in [" < ", " > ", " == "] {
            text = text.replace(operator, &format!("{operator}bool "));
        }
        let annotations = rule["annotations"].to_string();
        labels.extend(annotations.split("$labels.").skip(1).map(|rest| {
            rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default().to_owned()
        }));
        // Where a probe is attached there is no reason.
        labels.retain(|label| label != "reason");
    } else {
        // level:metric:operation; the level is what is not summed away.
        let level = name.split(':').next().unwrap_or_default();
        labels.extend(level.split('_').map(str::to_owned));
    }
    Ok(Expression { of: name.to_owned(), text, labels })
}

/// Drives every path that this machine has, again and again, until told to stop.
fn drive(stop: &AtomicBool) -> Result<()> {
    let scratch = Scratch::new()?;
    let listed: Value = serde_json::from_str(&run_zcprof(&["workload", "list", "--json"])?.stdout)?;
    let all = listed["workloads"].as_array().context("workloads")?;
    let names: Vec<_> =
        all.iter().filter(|one| one["available"] == true).filter_map(|one| one["name"].as_str()).collect();
    assert!(names.len() > 50, "{names:?}");
    // What is written out from where it was read into, by the same name.
    let cat = run(Command::new("sh").args(["-c", "command -v cat"]))?;
    std::os::unix::fs::symlink(cat.stdout.trim(), scratch.at(GROUP))?;
    scratch.file("file", 1 << 20)?;
    let pass = format!("{} {} | cat > /dev/null", scratch.at(GROUP), scratch.at("file"));
    while !stop.load(Ordering::Relaxed) {
        for name in &names {
            let words = ["workload", "run", name, "--bytes", "256KiB", "--chunk", "16KiB", "--directory"];
            let ended = run(command(words).arg(scratch.path()))?;
            assert_eq!(ended.status, 0, "{name}: {ended:?}");
        }
        assert_eq!(run(Command::new("sh").args(["-c", &pass]))?.status, 0);
    }
    Ok(())
}

/// Waits until the expression has data, and fails if a label is missing.
fn evaluate(prometheus: &Prometheus, expression: &Expression) -> Result<()> {
    let Expression { of, text, labels } = expression;
    let series = until(&format!("data for {of}: {text}"), || {
        let series = prometheus.series(text)?;
        if series.is_empty() {
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok((!series.is_empty()).then_some(series))
    })?;
    for label in labels {
        assert!(
            series.iter().all(|one| one[label].as_str().is_some_and(|value| !value.is_empty())),
            "{of}: {text} has a series without {label}: {series:?}"
        );
    }
    Ok(())
}

#[test]
fn every_expression_has_data_and_its_labels() -> Result<()> {
    if without("promtool") || without("curl") || common::without_root() {
        return Ok(());
    }
    zcprof();
    let _counting = zc_tests::bpf::enable_stats()?;
    // A fleet of two on one machine: both see all.
    let scratch = Scratch::new()?;
    let rule = format!("[[verify]]\nname = \"sends\"\ncomm = \"{GROUP}\"\nmechanism = \"sendfile\"\nsink = \"tcp\"\n");
    let configuration = scratch.text("zcprof.toml", rule)?;
    let (one, two) = (Daemon::start(&["--config.file", &configuration])?, Daemon::start(&[])?);
    let prometheus = Prometheus::start(&[&one, &two])?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let driver = scope.spawn(|| drive(&stop));
        // A failed assertion ends the driver, too.
        let stopping = Stopping(&stop);
        evaluate_all(&prometheus)?;
        drop(stopping);
        driver.join().map_err(|_| anyhow::anyhow!("a workload failed"))?
    })
}

/// Tells to stop when it goes.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn evaluate_all(prometheus: &Prometheus) -> Result<()> {
    for dashboard in ["host", "group", "fleet"] {
        for expression in variables(dashboard)?.iter().chain(&panels(dashboard)?) {
            evaluate(prometheus, expression)?;
        }
    }
    let rules = prometheus.rules()?;
    assert!(rules.len() > 20, "{rules:?}");
    for one in &rules {
        evaluate(prometheus, &rule(one)?)?;
    }
    // The fleet is the sum of its hosts, and both see the same.
    let hosts = prometheus.ask("/api/v1/query", &[("query", "job:zcprof_hosts:count")])?;
    assert_eq!(hosts["result"][0]["value"][1], "2", "{hosts}");
    Ok(())
}
