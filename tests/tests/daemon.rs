//! A daemon from outside: its routes, its metrics to the byte, what it refuses, what it gives up, and how it stops.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use common::daemon::Daemon;
use common::http::ask;
use common::process::{Running, status_field, until};
use common::{Scratch, leftovers, run, run_zcprof, without, zcprof};
use nix::sys::signal::Signal;
use serde_json::Value;

/// What one workload moves.
const BYTES: u64 = 8 << 20;
/// In so many pieces.
const OPERATIONS: u64 = BYTES / (64 << 10);

/// `zcprof workload run sendfile:file:tcp` under a name of its own, which is its group: other tests run zcprof, too.
fn workload(scratch: &Scratch) -> Result<(String, Command)> {
    let name = format!("wl-{}", scratch.path().to_string_lossy().rsplit_once("test-").context("a name")?.1);
    let link = scratch.at(&name);
    if !fs::exists(&link)? {
        std::os::unix::fs::symlink(zcprof(), &link)?;
    }
    let mut workload = Command::new(link);
    workload.args(["workload", "run", "sendfile:file:tcp", "--bytes", "8MiB", "--chunk", "64KiB", "--directory"]);
    workload.arg(scratch.path());
    assert!(name.len() < 16, "the kernel keeps 15 characters: {name}");
    Ok((name, workload))
}

/// Runs it to its end; its pid.
fn drive(scratch: &Scratch) -> Result<u32> {
    let mut running = Running::start(&mut workload(scratch)?.1)?;
    let pid = running.pid();
    let ended = running.end()?;
    assert_eq!(ended.status, 0, "{ended:?}");
    Ok(pid)
}

/// Fails unless it has all of these fields.
fn assert_fields(value: &Value, fields: &[&str]) {
    for field in fields {
        assert!(value.get(field).is_some(), "{field} is not in {value}");
    }
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

#[test]
fn is_healthy_and_ready_and_shows_a_page() -> Result<()> {
    let daemon = Daemon::start(&[])?;
    assert_eq!((daemon.get("/-/healthy")?.status, daemon.get("/-/ready")?.status), (200, 200));
    let page = daemon.get("/")?;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")), "{page:?}");
    assert!(page.body.contains("zcprof") && page.body.contains("page.js"));
    assert_eq!(daemon.get("/page.js")?.status, 200);
    Ok(())
}

#[test]
fn metrics_are_promlint_clean_and_those_of_the_contract() -> Result<()> {
    if without("promtool") {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let daemon = Daemon::start(&[])?;
    drive(&scratch)?;
    let text = daemon.get("/metrics")?.body;
    let mut promtool = Running::start(Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()))?;
    promtool.child().stdin.take().context("a pipe")?.write_all(text.as_bytes())?;
    let ended = promtool.end()?;
    assert_eq!((ended.status, ended.stderr.as_str(), ended.stdout.as_str()), (0, "", ""));
    let metrics = daemon.metrics()?;
    for name in [
        "path_bytes_total",
        "path_operations_total",
        "copied_bytes_total",
        "referenced_bytes_total",
        "delivered_bytes_total",
        "mode_switches_total",
        "context_switches_total",
        "page_faults_total",
        "page_cache_bytes_total",
        "unclassified_bytes_total",
        "build_info",
        "probe_attached",
        "events_lost_total",
        "operations_unclassified_total",
    ] {
        assert!(metrics.names().any(|one| one == format!("zcprof_{name}")), "zcprof_{name} is not in {text}");
    }
    assert!(metrics.names().any(|name| name.starts_with("zcprof_snapshot_duration_seconds")), "{text}");
    Ok(())
}

#[test]
fn without_a_probe_its_figures_are_absent_and_it_says_so() -> Result<()> {
    let names = |daemon: &Daemon| -> Result<Vec<String>> { Ok(daemon.metrics()?.names().map(str::to_owned).collect()) };
    let rest_on = |probe: &str| match probe {
        "sched" => ["zcprof_context_switches_total", "zcprof_page_faults_total"],
        _ => ["zcprof_dma_bytes_total", "zcprof_page_cache_bytes_total"],
    };
    for (without, with) in [("sched", "block"), ("block", "sched")] {
        let scratch = Scratch::new()?;
        let daemon = Daemon::start(&["--probe", &format!("-{without}"), "--probe", with])?;
        let pid = drive(&scratch)?;
        // Something has to have been written back.
        fs::File::open(scratch.file("written", 4096)?)?.sync_all()?;
        let names = names(&daemon)?;
        for name in rest_on(without) {
            assert!(!names.iter().any(|one| one == name), "{name} without {without}");
        }
        for name in rest_on(with) {
            assert!(names.iter().any(|one| one == name), "{name} with {with}");
        }
        let probes = daemon.json("/api/v1/probes")?;
        let said = list(&probes, "probes").iter().find(|probe| probe["name"] == without).context("the probe")?;
        assert!(said["attached"] == false && said["reason"] == "turned off as asked", "{said}");
        let profile = daemon.json(&format!("/api/v1/processes/{pid}"))?;
        let null = |pointer: &str| profile.pointer(pointer).is_some_and(Value::is_null);
        assert_eq!(null("/context_switches/voluntary"), without == "sched", "{profile}");
        assert_eq!(null("/dma_bytes/disk_read"), without == "block", "{profile}");
        assert!(!null("/mode_switches/page_faults"), "{profile}");
    }
    Ok(())
}

#[test]
fn without_the_probes_of_faults_their_paths_are_inactive_and_say_why() -> Result<()> {
    let scratch = Scratch::new()?;
    let daemon = Daemon::start(&["--probe", "-mapping", "--probe", "-faults"])?;
    let pid = drive(&scratch)?;
    let profile = daemon.json(&format!("/api/v1/processes/{pid}"))?;
    for pointer in ["/mmap/mapped_bytes", "/mode_switches/page_faults"] {
        assert_eq!(profile.pointer(pointer), Some(&Value::Null), "{pointer}: {profile}");
    }
    assert!(profile["copy_cost"]["cpu_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{profile}");
    let paths = daemon.json("/api/v1/paths")?;
    for (id, probe) in [("mmap:file:mapping", "mapping"), ("mmap:user:user", "faults")] {
        let path = list(&paths, "paths").iter().find(|path| path["id"] == id).context("the path")?;
        let reason = path["reason"].as_str().unwrap_or_default();
        assert!(path["active"] == false && reason.contains(&format!("probe {probe}")), "{path}");
    }
    Ok(())
}

#[test]
fn disks_have_the_names_that_the_system_has_for_them() -> Result<()> {
    let (scratch, daemon) = (Scratch::new()?, Daemon::start(&[])?);
    fs::File::open(scratch.file("written", 4096)?)?.sync_all()?;
    let text = daemon.get("/metrics")?.body;
    let devices: BTreeSet<_> = text.split("device=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(!devices.is_empty(), "{text}");
    for device in devices {
        assert!(device == "other" || Path::new("/sys/block").join(device).exists(), "{device:?}");
    }
    Ok(())
}

#[test]
fn runs_of_the_probes_are_shown_once_the_kernel_counts_them() -> Result<()> {
    let _counting = zc_tests::bpf::enable_stats()?;
    let daemon = Daemon::start(&[])?;
    let (runs, seconds) =
        (r#"zcprof_probe_runs_total{probe="sys_exit"}"#, r#"zcprof_probe_seconds_total{probe="sys_exit"}"#);
    let before = daemon.metrics()?;
    let after = daemon.metrics()?;
    after.assert_since(&before);
    assert!(after.get(runs) > before.get(runs), "{} runs", after.get(runs));
    assert!(after.get(seconds) > 0.0);
    Ok(())
}

#[test]
fn a_group_has_exactly_its_processes_bytes_and_no_counter_goes_back() -> Result<()> {
    let scratch = Scratch::new()?;
    let (group, mut start) = workload(&scratch)?;
    let labels = format!(r#"{{group="{group}",mechanism="sendfile",sink="tcp",source="file"}}"#);
    let (bytes, operations) =
        (format!("zcprof_path_bytes_total{labels}"), format!("zcprof_path_operations_total{labels}"));
    let daemon = Daemon::start(&[])?;
    let mut last = daemon.metrics()?;
    for times in 1..=3 {
        let mut running = Running::start(&mut start)?;
        until("the workload's end", || {
            let ended = running.child().try_wait()?.is_some();
            let now = daemon.metrics()?;
            now.assert_since(&last);
            last = now;
            Ok(ended.then_some(()))
        })?;
        // The last scrape began after its end.
        let moved = (last.get(&bytes), last.get(&operations));
        assert_eq!(moved, ((times * BYTES) as f64, (times * OPERATIONS) as f64), "after {times}");
        assert_eq!(last.get(&format!(r#"zcprof_unclassified_bytes_total{{group="{group}"}}"#)), 0.0);
    }
    Ok(())
}

#[test]
fn verify_rules_are_metrics_and_answers_with_evidence() -> Result<()> {
    let scratch = Scratch::new()?;
    let (group, _) = workload(&scratch)?;
    let rule = |name: &str, comm: &str, mechanism: &str| {
        format!("[[verify]]\nname = \"{name}\"\ncomm = \"{comm}\"\nmechanism = \"{mechanism}\"\nsink = \"tcp\"\n")
    };
    let rules =
        [rule("true", &group, "sendfile"), rule("false", &group, "splice"), rule("idle", "nobody-is", "sendfile")];
    let file = scratch.text("zcprof.toml", rules.concat())?;
    let daemon = Daemon::start(&["--config.file", &file])?;
    drive(&scratch)?;
    let answer = daemon.json("/api/v1/rules")?;
    let verdicts: Vec<_> = list(&answer, "rules").iter().map(|one| one["verdict"].clone()).collect();
    assert_eq!(verdicts, ["pass", "fail", "no_traffic"], "{answer}");
    let found = &answer["rules"][0];
    assert_fields(found, &["rule", "min_share", "window_seconds", "processes", "share", "evidence"]);
    assert_eq!((found["matching_bytes"].as_u64(), found["total_bytes"].as_u64()), (Some(BYTES), Some(BYTES)));
    assert_eq!(found["evidence"][0]["id"], "sendfile:file:tcp", "{found}");
    let metrics = daemon.metrics()?;
    let value = |name: &str, rule: &str| metrics.get(&format!("zcprof_verify_{name}{{rule=\"{rule}\"}}"));
    assert_eq!((value("share_ratio", "true"), value("pass", "true")), (1.0, 1.0));
    assert_eq!((value("bytes", "false"), value("min_share_ratio", "false")), (BYTES as f64, 0.95));
    assert!(!daemon.get("/metrics")?.body.contains("zcprof_verify_share_ratio{rule=\"idle\"}"));
    // What can't be judged is refused.
    let file = scratch.text("blind.toml", rule("blind", "x", "io_uring"))?;
    let words = ["daemon", "--web.listen-address", "127.0.0.1:0", "--probe", "-io_uring", "--config.file", &file];
    let ended = run_zcprof(&words)?;
    assert!(ended.status == 2 && ended.stderr.contains("needs the probe io_uring"), "{ended:?}");
    Ok(())
}

#[test]
fn groups_and_processes_agree_with_the_workload() -> Result<()> {
    let scratch = Scratch::new()?;
    let (group, _) = workload(&scratch)?;
    let daemon = Daemon::start(&[])?;
    let pid = drive(&scratch)?;
    let groups = daemon.json("/api/v1/groups")?;
    let ours = list(&groups, "groups").iter().find(|one| one["group"] == group.as_str()).context("no such group")?;
    assert_eq!(ours["unclassified_bytes"].as_u64(), Some(0));
    let listed = daemon.json(&format!("/api/v1/processes?comm={group}&exited=true&sort=bytes&limit=5"))?;
    assert_eq!((listed["total"].as_u64(), list(&listed, "processes").len()), (Some(1), 1), "{listed}");
    let row = &list(&listed, "processes")[0];
    assert_fields(row, &["pid", "tgid_start", "comm", "exe", "cgroup", "unit", "container", "exited"]);
    assert_eq!((row["pid"].as_u64(), row["exited"].as_bool()), (Some(pid.into()), Some(true)), "{row}");

    let profile = daemon.json(&format!("/api/v1/processes/{pid}"))?;
    assert_fields(
        &profile,
        &[
            "processes",
            "window_seconds",
            "paths",
            "delivered_bytes",
            "copied_bytes",
            "referenced_bytes",
            "dma_bytes",
            "copies_per_byte",
            "mode_switches",
            "context_switches",
            "page_faults",
            "page_cache",
            "pass_through",
            "lost",
        ],
    );
    // By the call, and of its program by faults, where they are seen.
    let mapped = profile["mmap"]["mapped_bytes"].as_u64().unwrap_or(0);
    assert_eq!(profile["referenced_bytes"].as_u64(), Some(BYTES + mapped), "{profile}");
    assert_eq!(ours["referenced_bytes"], profile["referenced_bytes"], "{ours}");
    let path = list(&profile, "paths").iter().find(|path| path["id"] == "sendfile:file:tcp").context("no sendfile")?;
    assert_fields(path, &["mechanism", "source", "sink", "copied_bytes", "referenced_bytes", "basis", "hops"]);
    assert_eq!((path["bytes"].as_u64(), path["operations"].as_u64()), (Some(BYTES), Some(OPERATIONS)), "{path}");
    assert_eq!(
        (&profile["window_seconds"], profile["lost"]["unclassified_operations"].as_u64()),
        (&Value::Null, Some(0))
    );
    Ok(())
}

#[test]
fn a_process_has_its_peers() -> Result<()> {
    let daemon = Daemon::start(&[])?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let at_server = listener.local_addr()?.to_string();
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, at_client) = listener.accept()?;
    client.write_all(&[1; 40_000])?;
    server.read_exact(&mut [0; 40_000])?;
    let of = |answer: &Value, address: &str| -> Result<Value> {
        let found = list(answer, "peers").iter().find(|peer| peer["address"] == address).context("no such peer")?;
        assert_eq!(found["protocol"], "tcp");
        Ok(found.clone())
    };
    let answer = daemon.json(&format!("/api/v1/processes/{}?peers=100", std::process::id()))?;
    assert_eq!(answer["peers_since"], "first_seen");
    let (there, here) = (of(&answer, &at_server)?, of(&answer, &at_client.to_string())?);
    assert_eq!((&there["sent_bytes"], &there["received_bytes"]), (&40_000.into(), &0.into()), "{there}");
    assert_eq!((&here["sent_bytes"], &here["received_bytes"]), (&0.into(), &40_000.into()), "{here}");
    let first = daemon.json(&format!("/api/v1/processes/{}?peers=1", std::process::id()))?;
    assert_eq!(list(&first, "peers").len(), 1);

    let without = Daemon::start(&["--probe=-peers"])?;
    client.write_all(&[1; 10])?;
    let answer = without.json(&format!("/api/v1/processes/{}", std::process::id()))?;
    assert_eq!((&answer["peers"], &answer["peers_since"]), (&Value::Null, &Value::Null));
    Ok(())
}

#[test]
fn a_window_holds_what_happened_in_it() -> Result<()> {
    let daemon = Daemon::start(&[])?;
    let scratch = Scratch::new()?;
    let mut sleeper = Running::start(Command::new("sleep").arg("600"))?;
    let path = format!("/api/v1/processes/{}?window=1s", sleeper.pid());
    // A daemon that has just started covers less, and says so.
    until("a window of a second", || {
        let seconds = daemon.json(&path)?["window_seconds"].as_f64().context("a window")?;
        Ok((1.0..20.0).contains(&seconds).then_some(()))
    })?;
    let pid = drive(&scratch)?;
    let windowed = daemon.json(&format!("/api/v1/processes/{pid}?window=30s"))?;
    let path = list(&windowed, "paths").iter().find(|path| path["id"] == "sendfile:file:tcp").context("no sendfile")?;
    assert_eq!(path["bytes"].as_u64(), Some(BYTES), "{windowed}");
    until("the workload to leave the window", || {
        let windowed = daemon.json(&format!("/api/v1/processes/{pid}?window=1s"))?;
        Ok(list(&windowed, "paths").is_empty().then_some(()))
    })?;
    sleeper.end_by(Signal::SIGTERM)?;
    Ok(())
}

#[test]
fn verify_judges_by_pid_and_by_command() -> Result<()> {
    let scratch = Scratch::new()?;
    let (group, _) = workload(&scratch)?;
    let daemon = Daemon::start(&[])?;
    let pid = drive(&scratch)?;
    let claims = [
        ("mechanism=sendfile&source=file&sink=tcp", "pass", BYTES),
        ("mechanism=sendfile&sink=tcp&min_share=1", "pass", BYTES),
        ("mechanism=splice&sink=tcp", "fail", 0),
        ("mechanism=sendfile&sink=udp", "no_traffic", 0),
    ];
    for (claim, verdict, matching) in claims {
        for path in [
            format!("/api/v1/verify?pid={pid}&{claim}"),
            format!("/api/v1/verify?comm={group}&{claim}"),
            format!("/api/v1/processes/{pid}/verify?{claim}"),
        ] {
            let found = daemon.json(&path)?;
            assert_fields(&found, &["verdict", "share", "matching_bytes", "total_bytes", "evidence"]);
            assert_eq!(found["verdict"], verdict, "{path}: {found}");
            assert_eq!(found["matching_bytes"].as_u64(), Some(matching), "{path}: {found}");
        }
    }
    Ok(())
}

#[test]
fn the_catalogue_the_probes_and_the_description_are_complete() -> Result<()> {
    let daemon = Daemon::start(&[])?;
    let paths = daemon.json("/api/v1/paths")?;
    let cli: Value = serde_json::from_str(&run_zcprof(&["paths", "--json"])?.stdout)?;
    let ids = |value: &Value| list(value, "paths").iter().map(|path| path["id"].to_string()).collect::<Vec<_>>();
    assert!(ids(&paths).len() >= 45 && ids(&paths) == ids(&cli), "{} and {}", ids(&paths).len(), ids(&cli).len());
    for path in list(&paths, "paths") {
        assert_fields(path, &["id", "mechanism", "source", "sink", "hops", "textbook", "active", "reason"]);
    }
    let probes = daemon.json("/api/v1/probes")?;
    assert!(probes["kernel"].is_string());
    for probe in list(&probes, "probes") {
        assert_fields(probe, &["name", "attached", "reason", "minimum_kernel"]);
        assert_eq!(probe["attached"] == true, probe["reason"].is_null(), "{probe}");
    }
    assert!(list(&probes, "probes").iter().any(|probe| probe["name"] == "sys_exit" && probe["attached"] == true));
    let document = daemon.json("/openapi.json")?;
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")), "{document}");
    for route in ["processes", "processes/{pid}", "processes/{pid}/verify", "verify", "groups", "paths", "probes"] {
        assert!(document["paths"][format!("/api/v1/{route}")]["get"].is_object(), "{route}");
    }
    assert_fields(&document["paths"], &["/metrics", "/-/healthy", "/-/ready"]);
    Ok(())
}

#[test]
fn errors_are_problem_documents() -> Result<()> {
    let daemon = Daemon::start(&[])?;
    let cases = [
        ("GET", "/api/v1/nonsense", 404, "/api/v1/nonsense"),
        ("GET", "/api/v1/processes/4194305", 404, "4194305"),
        ("GET", "/api/v1/processes/x", 400, "x"),
        ("GET", "/api/v1/processes?limit=many", 400, "limit"),
        ("GET", "/api/v1/processes?colour=red", 400, "colour"),
        ("GET", "/api/v1/processes?sort=nonsense", 400, "copied"),
        ("GET", "/api/v1/processes/4194305/verify?mechanism=read", 404, "4194305"),
        ("GET", "/api/v1/verify?pid=1", 400, "mechanism"),
        ("GET", "/api/v1/verify?mechanism=read", 400, "exactly one"),
        ("GET", "/api/v1/verify?comm=a&mechanism=sendfiel", 400, "sendfile"),
        ("GET", "/api/v1/verify?comm=a&mechanism=read&min_share=2", 400, "0 to 1"),
        ("POST", "/api/v1/processes", 405, "GET"),
    ];
    for (method, path, status, says) in cases {
        let answer = ask(daemon.address, method, path)?;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (status, Some("application/problem+json")),
            "{path}"
        );
        let problem = answer.json()?;
        assert_fields(&problem, &["type", "title", "status", "detail"]);
        assert_eq!(problem["status"].as_u64(), Some(status.into()));
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(says)), "{path}: {problem}");
    }
    Ok(())
}

/// Fails unless a daemon with these options ends at once with status 2, and says this.
fn assert_refused(options: &[&str], says: &[&str]) -> Result<()> {
    let mut daemon = Running::start(common::command(["daemon"]).args(options))?;
    let ended = daemon.end()?;
    assert_eq!((ended.status, ended.stdout.as_str()), (2, ""), "{options:?}: {ended:?}");
    for part in says {
        assert!(ended.stderr.contains(part), "{options:?}: {part} is not in {}", ended.stderr);
    }
    Ok(())
}

#[test]
fn an_address_that_it_should_not_or_can_not_have_is_refused() -> Result<()> {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = taken.local_addr()?.to_string();
    assert_refused(&["--web.listen-address", &address], &[&address, "in use"])?;
    for open in ["0.0.0.0:0", "[::]:0", ":0"] {
        assert_refused(&["--web.listen-address", open], &["--web.insecure", "loopback"])?;
    }
    assert_refused(&["--web.listen-address", "nonsense"], &["nonsense", "host:port"])?;
    leftovers::assert_none()
}

#[test]
fn with_tls_it_may_listen_anywhere_and_lets_in_who_has_the_password() -> Result<()> {
    if without("curl") {
        return Ok(());
    }
    /// bcrypt's of "secret".
    const HASH: &str = "$2b$04$QmicYokiB3zzLa7K6D8h1OulqeUN06YASloWkvtlF.QiBtbHIcoVS";
    let scratch = Scratch::new()?;
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let certificate = scratch.text("a.crt", own.cert.pem())?;
    scratch.text("a.key", own.signing_key.serialize_pem())?;
    let tls = "tls_server_config:\n  cert_file: a.crt\n  key_file: a.key\n";
    let web = scratch.text("web.yml", format!("{tls}basic_auth_users:\n  alice: {HASH}\n"))?;
    let daemon = Daemon::launch(&["--web.config.file", &web, "--web.listen-address", "0.0.0.0:0"])?;
    let port = daemon.address.port();
    let curl = |scheme: &str, user: &str| -> Result<String> {
        let url = format!("{scheme}://localhost:{port}/metrics");
        let options = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "--ipv4", "--cacert", &certificate, "-u", user];
        Ok(run(Command::new("curl").args(options).arg(url))?.stdout)
    };
    assert_eq!(curl("https", "alice:secret")?, "200");
    assert_eq!(curl("https", "alice:wrong")?, "401");
    assert_eq!(curl("https", "bob:secret")?, "401");
    assert_eq!(curl("http", "alice:secret")?, "000");
    let plain = scratch.text("plain.yml", format!("basic_auth_users:\n  alice: {HASH}\n"))?;
    let open = ["--web.config.file", &plain, "--web.listen-address", "0.0.0.0:0"];
    assert_refused(&open, &["plain HTTP", "tls_server_config"])?;
    let faulty = scratch.text("faulty.yml", "basic_auth_users:\n  alice: secret\n")?;
    assert_refused(&["--web.config.file", &faulty], &[&faulty, "alice", "htpasswd"])
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused_by_its_line() -> Result<()> {
    let scratch = Scratch::new()?;
    let missing = scratch.at("none.toml");
    assert_refused(&["--config.file", &missing], &[&missing])?;
    assert_refused(&["--config.file", &scratch.at("")], &[&scratch.at("")])?;
    let unknown = scratch.text("unknown.toml", "max-groups = 7\nmax-group = 8\n")?;
    assert_refused(&["--config.file", &unknown], &[&unknown, "line 2", "max-group"])?;
    let address = ["--web.listen-address", "127.0.0.1:0"];
    assert_refused(&[&address[..], &["--probe", "nonsense"]].concat(), &["nonsense", "sys_exit"])?;
    leftovers::assert_none()
}

#[test]
fn the_configuration_file_is_obeyed() -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.text("zcprof.toml", "group-by = \"pid\"\n[log]\nlevel = \"debug\"\n")?;
    let daemon = Daemon::start(&["--config.file", &file])?;
    let pid = drive(&scratch)?;
    assert_eq!(daemon.json("/api/v1/groups")?["group_by"], "pid");
    let labels = format!(r#"{{group="{pid}",mechanism="sendfile",sink="tcp",source="file"}}"#);
    assert_eq!(daemon.metrics()?.get(&format!("zcprof_path_bytes_total{labels}")), BYTES as f64);
    assert!(daemon.log().contains("DEBUG"), "{}", daemon.log());
    Ok(())
}

#[test]
fn more_groups_than_wanted_are_summed_as_other() -> Result<()> {
    let scratch = Scratch::new()?;
    let daemon = Daemon::start(&["--group-by", "pid", "--max-groups", "1"])?;
    let other = r#"zcprof_path_bytes_total{group="other",mechanism="sendfile",sink="tcp",source="file"}"#;
    let before = daemon.metrics()?.get(other);
    drive(&scratch)?;
    drive(&scratch)?;
    // Strangers' sendfile may add to it, and one of ours may have been the one group.
    assert!(daemon.metrics()?.get(other) - before >= BYTES as f64);
    assert!(list(&daemon.json("/api/v1/groups")?, "groups").len() <= 2);
    Ok(())
}

#[test]
fn it_gives_up_all_privileges_and_stops_at_once_leaving_nothing() -> Result<()> {
    let mut daemon = Daemon::start(&[])?;
    for thread in fs::read_dir(format!("/proc/{}/task", daemon.process.pid()))? {
        let thread = thread?.file_name().to_string_lossy().into_owned();
        for (field, value) in
            [("CapEff", 0), ("CapPrm", 0), ("CapInh", 0), ("CapAmb", 0), ("NoNewPrivs", 1), ("Seccomp", 2)]
        {
            assert_eq!(u64::from_str_radix(&status_field(&thread, field)?, 16)?, value, "{field}");
        }
    }
    assert!(daemon.log().contains("confined: files by landlock, system calls by seccomp"), "{}", daemon.log());
    // It does not wait for clients that say nothing.
    let _idle = TcpStream::connect(daemon.address)?;
    let begun = Instant::now();
    let ended = daemon.process.end_by(Signal::SIGTERM)?;
    assert_eq!(ended.status, 0, "{}", daemon.log());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(TcpStream::connect(daemon.address).is_err());
    let again = run(&mut common::command(["detach"]))?;
    assert!(again.stdout.contains("nothing is pinned"), "{again:?}");
    leftovers::assert_none()
}
