//! Every route and every kind of problem against a fixed snapshot, without a kernel or a socket.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use super::super::history::History;
use super::super::source::Source;
use super::super::testing::{HOSTILE, about, counters, peers, snapshot};
use super::{App, Document, router};
use crate::ledger::Snapshot;

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn kind(&self) -> &str {
        self.headers["content-type"].to_str().unwrap()
    }

    /// Asserts that it is a problem of this kind that says this.
    #[track_caller]
    fn is_problem(&self, status: u16, kind: &str, says: &str) {
        assert_eq!((self.status.as_u16(), self.kind()), (status, "application/problem+json"), "{}", self.body);
        let json = self.json();
        assert_eq!(json["type"], format!("urn:zcprof:problem:{kind}"), "{json}");
        assert_eq!(json["status"], status);
        assert!(json["title"].is_string());
        assert!(json["detail"].as_str().unwrap().contains(says), "{json}");
    }
}

fn app(observe: impl Fn() -> io::Result<Snapshot> + Send + Sync + 'static) -> Arc<App> {
    let history = Arc::new(History::default());
    Arc::new(App { about: about(), source: Arc::new(Source::new(observe).unwrap()), history, streams: None })
}

fn fixed() -> Arc<App> {
    app(|| Ok(Snapshot { taken: Instant::now(), ..snapshot() }))
}

fn ask(app: Arc<App>, method: Method, path: &str, body: Body) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let request = Request::builder().method(method).uri(path).body(body).unwrap();
        let response = router(app, None).oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Answer { status, headers, body: String::from_utf8(body.to_vec()).unwrap() }
    })
}

fn get(path: &str) -> Answer {
    ask(fixed(), Method::GET, path, Body::empty())
}

#[track_caller]
fn json(path: &str) -> Value {
    let answer = get(path);
    assert_eq!((answer.status, answer.kind()), (StatusCode::OK, "application/json"), "{}", answer.body);
    answer.json()
}

fn pids(query: &str) -> Vec<u64> {
    let list = json(&format!("/api/v1/processes?{query}"));
    list["processes"].as_array().unwrap().iter().map(|one| one["pid"].as_u64().unwrap()).collect()
}

#[test]
fn processes_are_listed_with_their_figures() {
    let list = json("/api/v1/processes");
    assert_eq!(list["total"], 4);
    let nginx = &list["processes"][0];
    for (field, value) in [("pid", 10), ("tgid_start", 100), ("bytes", 1000), ("copied_bytes", 100)] {
        assert_eq!(nginx[field], value, "{field}");
    }
    for (field, value) in [("referenced_bytes", 900), ("delivered_bytes", 1000), ("unclassified_bytes", 7)] {
        assert_eq!(nginx[field], value, "{field}");
    }
    assert_eq!((&nginx["comm"], &nginx["copies_per_byte"]), (&"nginx".into(), &0.1.into()));
    assert_eq!((&nginx["unit"], &nginx["container"]), (&"nginx.service".into(), &Value::Null));
}

#[test]
fn processes_are_sorted_limited_and_filtered() {
    assert_eq!(pids(""), [10, 20, 40, 30]);
    assert_eq!(pids("sort=bytes&order=asc"), [30, 40, 10, 20]);
    assert_eq!(pids("sort=copied"), [20, 40, 10, 30]);
    assert_eq!(pids("sort=copies_per_byte&order=asc"), [10, 20, 40, 30]);
    assert_eq!(pids("sort=pid"), [10, 20, 30, 40]);
    assert_eq!(pids("sort=comm&order=desc"), [20, 10, 40, 30]);
    assert_eq!(pids("sort=delivered&limit=1"), [10]);
    assert_eq!(pids("limit=0"), [0_u64; 0]);
    assert_eq!(json("/api/v1/processes?limit=1&exited=false")["total"], 3);
    assert_eq!(pids("comm=worker"), [20]);
    assert_eq!(pids("filter=ork"), [20]);
    assert_eq!(pids("filter=nobody"), [0; 0]);
    assert_eq!(pids("exe=nginx"), [10], "descendants are not meant");
    assert_eq!(pids("exe=/usr/sbin/cat&exited=true"), [40]);
    assert_eq!(pids("unit=nginx&pid=20"), [0_u64; 0]);
    assert_eq!(pids("cgroup=/system.slice&sort=pid"), [10, 20, 30, 40]);
    assert_eq!(pids("container=abc"), [0_u64; 0]);
}

#[test]
fn a_profile_is_of_one_process_or_of_its_family() {
    let one = json("/api/v1/processes/10");
    assert_eq!(one["processes"].as_array().unwrap().len(), 1);
    assert_eq!((&one["window_seconds"], &one["delivered_bytes"]), (&Value::Null, &1000.into()));
    assert_eq!(one["paths"][0]["id"], "sendfile:file:tcp");
    assert_eq!(one["lost"]["events"], 5);
    let family = json("/api/v1/processes/10?descendants=true");
    assert_eq!((family["processes"].as_array().unwrap().len(), &family["delivered_bytes"]), (2, &2000.into()));
}

#[test]
fn peers_are_named_most_bytes_first_and_are_null_where_they_are_not_counted() {
    let json = json("/api/v1/processes/10");
    assert_eq!((&json["peers"], &json["peers_since"]), (&Value::Null, &Value::Null));
    let observe = || Ok(Snapshot { taken: Instant::now(), ..snapshot() });
    let source = Arc::new(Source::new(observe).unwrap().with_peers(|| Ok(Some(peers()))));
    let app = Arc::new(App { about: about(), source, history: Arc::new(History::default()), streams: None });
    let of = |path: &str| ask(Arc::clone(&app), Method::GET, path, Body::empty());
    let all = of("/api/v1/processes/10?window=1s");
    all.is_problem(503, "not-ready", "");
    let all = of("/api/v1/processes/10").json();
    assert_eq!(all["peers_since"], "first_seen");
    let named = |of: &Value| of.as_array().unwrap().iter().map(|one| one["address"].clone()).collect::<Vec<_>>();
    assert_eq!(named(&all["peers"]), [Value::from(HOSTILE), "10.0.0.1:443".into(), Value::Null]);
    let tcp = &all["peers"][1];
    assert_eq!((&tcp["protocol"], &tcp["operations"]), (&"tcp".into(), &4.into()));
    assert_eq!((&tcp["sent_bytes"], &tcp["received_bytes"]), (&5.into(), &6.into()));
    assert_eq!(named(&of("/api/v1/processes/10?peers=1").json()["peers"]), [HOSTILE]);
    assert_eq!(named(&of("/api/v1/processes/20?peers=0").json()["peers"]), [Value::Null; 0]);
    of("/api/v1/processes/10?peers=101").is_problem(400, "bad-parameter", "at most 100");
    of("/api/v1/processes/10?peers=x").is_problem(400, "bad-parameter", "peers");
}

#[test]
fn a_window_gives_what_happened_in_it() {
    let start = Instant::now();
    let later = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&later);
    let app = app(move || {
        let mut snapshot = snapshot();
        let later = now.load(Ordering::Relaxed);
        snapshot.taken = start + if later { Duration::from_millis(10_500) } else { Duration::ZERO };
        snapshot.fallback.events_lost += u64::from(later);
        let worker = Arc::make_mut(&mut snapshot.processes[1]);
        worker.counters = counters(&[("write:user:tcp", if later { 1300 } else { 1000 })]);
        Ok(snapshot)
    });
    app.source.keep().unwrap();
    later.store(true, Ordering::Relaxed);
    let answer = ask(Arc::clone(&app), Method::GET, "/api/v1/processes/20?window=10s", Body::empty()).json();
    assert_eq!((&answer["window_seconds"], &answer["delivered_bytes"]), (&10.5.into(), &300.into()));
    assert_eq!(answer["lost"]["events"], 1);
    let query = "/api/v1/verify?comm=worker&mechanism=write&window=10s";
    assert_eq!(ask(Arc::clone(&app), Method::GET, query, Body::empty()).json()["total_bytes"], 300);
    let too_long = ask(app, Method::GET, "/api/v1/processes/20?window=2m", Body::empty());
    too_long.is_problem(400, "window-too-long", "window=1m");
}

#[test]
fn verify_judges_a_selection_with_its_descendants() {
    let short = json("/api/v1/processes/10/verify?mechanism=sendfile&sink=tcp");
    assert_eq!((&short["verdict"], &short["share"]), (&"fail".into(), &0.45.into()));
    assert_eq!(short, json("/api/v1/verify?pid=10&mechanism=sendfile&sink=tcp"));
    let enough = json("/api/v1/verify?unit=nginx&mechanism=sendfile&source=file&sink=tcp&min_share=0.4");
    assert_eq!((&enough["verdict"], &enough["matching_bytes"]), (&"pass".into(), &900.into()));
    assert_eq!(enough["evidence"].as_array().unwrap().len(), 2);
    let none = json("/api/v1/verify?comm=cat&mechanism=sendfile&sink=tcp");
    assert_eq!((&none["verdict"], &none["share"]), (&"no_traffic".into(), &Value::Null));
}

#[test]
fn groups_paths_and_probes() {
    let groups = json("/api/v1/groups");
    assert_eq!(groups["group_by"], "comm");
    let nginx = groups["groups"].as_array().unwrap().iter().find(|one| one["group"] == "nginx").unwrap();
    assert_eq!((&nginx["bytes"], &nginx["operations"], &nginx["system_calls"]), (&1000.into(), &2.into(), &10.into()));
    let paths = json("/api/v1/paths");
    let path = paths["paths"].as_array().unwrap().iter().find(|one| one["id"] == "sendfile:file:tcp").unwrap();
    assert_eq!((&path["active"], &path["hops"][0]["mover"]), (&true.into(), &"reference".into()));
    assert_eq!(path["textbook"]["way"], "sendfile + DMA gather");
    let probes = json("/api/v1/probes");
    assert_eq!(
        (&probes["kernel"], &probes["probes"][1]["reason"]),
        (&"6.1.0-test".into(), &"not in this build".into())
    );
}

#[test]
fn rules_are_judged_with_their_evidence_and_as_metrics() {
    let answer = json("/api/v1/rules");
    let rule = &answer["rules"][0];
    // 900 of nginx's 1000, and 1000 of its worker's that it did not send so.
    assert_eq!((&rule["rule"], &rule["verdict"]), (&"nginx sends".into(), &"pass".into()), "{rule}");
    assert_eq!((&rule["matching_bytes"], &rule["total_bytes"]), (&900.into(), &2000.into()), "{rule}");
    assert_eq!(rule["evidence"].as_array().map(Vec::len), Some(2), "{rule}");
    assert_eq!(rule["processes"].as_array().map(Vec::len), Some(2), "{rule}");
    let metrics = get("/metrics").body;
    for line in [
        "zcprof_verify_share_ratio{rule=\"nginx sends\"} 0.45",
        "zcprof_verify_min_share_ratio{rule=\"nginx sends\"} 0.4",
        "zcprof_verify_bytes{rule=\"nginx sends\"} 2000",
        "zcprof_verify_pass{rule=\"nginx sends\"} 1",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line} is not in {metrics}");
    }
}

#[test]
fn metrics_health_and_page() {
    let metrics = get("/metrics");
    assert_eq!(metrics.kind(), "text/plain; version=0.0.4; charset=utf-8");
    assert!(
        metrics.body.contains("zcprof_path_bytes_total")
            && metrics.body.contains("zcprof_snapshot_duration_seconds_count 1")
    );
    assert_eq!(get("/-/healthy").status, StatusCode::OK);
    get("/-/ready").is_problem(503, "not-ready", "try again");
    let app = fixed();
    app.source.observe().unwrap();
    assert_eq!(ask(app, Method::GET, "/-/ready", Body::empty()).status, StatusCode::OK);
    let page = get("/");
    assert!(page.kind().starts_with("text/html") && !page.body.contains("://"), "nothing comes from elsewhere");
    assert!(!page.body.contains("<script>") && !page.body.contains("style="), "the policy forbids what is inline");
    for path in ["/page.js", "/flow.js", "/table.js"] {
        let script = get(path);
        assert!(script.kind().starts_with("text/javascript"), "{path}");
        for refused in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "://"] {
            let namespace = script.body.replace("http://www.w3.org/2000/svg", "");
            assert!(!namespace.contains(refused), "{refused} in {path}");
        }
    }
    assert!(get("/page.css").kind().starts_with("text/css"));
    assert!(!get("/page.css").body.contains("url("), "nothing comes from elsewhere");
}

#[test]
fn every_answer_tells_browsers_to_be_strict() {
    for path in ["/", "/metrics", "/api/v1/processes", "/nowhere", "/api/v1/processes/x"] {
        let headers = get(path).headers;
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{path}");
    }
}

#[test]
fn the_description_names_every_route() {
    let document = json("/openapi.json");
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let paths = document["paths"].as_object().unwrap();
    let mut known: Vec<_> = paths.keys().map(String::as_str).collect();
    known.sort_unstable();
    let expected = [
        "/-/healthy",
        "/-/ready",
        "/api/v1/advise",
        "/api/v1/groups",
        "/api/v1/history",
        "/api/v1/paths",
        "/api/v1/probes",
        "/api/v1/processes",
        "/api/v1/processes/{pid}",
        "/api/v1/processes/{pid}/events",
        "/api/v1/processes/{pid}/verify",
        "/api/v1/rules",
        "/api/v1/verify",
        "/metrics",
    ];
    assert_eq!(known, expected);
    for path in expected {
        let answer = get(&path.replace("{pid}", "10"));
        assert!(!answer.body.contains("no-such-resource"), "{path} is described but not served");
    }
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for name in
        ["Profile", "Problem", "ProcessList", "GroupList", "PathList", "ProbeList", "Verification", "AdviceReport"]
    {
        assert!(schemas.contains_key(name), "{name}");
    }
    // Every reference leads somewhere.
    let text = serde_json::to_string(&<Document as utoipa::OpenApi>::openapi()).unwrap();
    for name in text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(schemas.contains_key(name), "{name} is referred to but not described");
    }
}

#[test]
fn problems_say_what_to_do() {
    get("/api/v1/advice").is_problem(404, "no-such-resource", "/openapi.json");
    get("/api/v1/processes/11/events").is_problem(404, "no-such-process", "pid 11");
    get("/api/v1/processes/10/events").is_problem(500, "failed", "nobody tells operations");
    get("/api/v1/processes/11").is_problem(404, "no-such-process", "pid 11");
    get("/api/v1/processes/11/verify?mechanism=read").is_problem(404, "no-such-process", "pid 11");
    get("/api/v1/history?pid=11").is_problem(404, "no-such-process", "pid 11");
    get("/api/v1/advise?comm=nobody").is_problem(404, "no-such-process", "/api/v1/processes");
    get("/api/v1/advise?comm=a&pid=1").is_problem(400, "bad-parameter", "exactly one of");
    get("/api/v1/verify?comm=nobody&mechanism=read").is_problem(404, "no-such-process", "/api/v1/processes");
    for (path, says) in [
        ("processes/nginx", "give a number"),
        ("processes/-1", "no pid"),
        ("processes/4294967296", "no pid"),
        ("processes?sort=size", "copies_per_byte"),
        ("processes?order=up", "asc"),
        ("processes?limit=-1", "limit"),
        ("processes?exited=maybe", "exited"),
        ("processes?colour=red", "colour"),
        ("processes?pid=1&pid=2", "duplicate"),
        ("processes/10?window=soon", "window"),
        ("processes/10?window=0s", "longer than nothing"),
        ("processes/10?windows=10s", "windows"),
        ("processes/10?descendants=1", "descendants"),
        ("processes/10/verify", "mechanism is missing"),
        ("processes/10/verify?mechanism=read&pid=3", "pid"),
        ("history?pid=10&group=nginx", "not both"),
        ("history?since=yesterday", "since"),
        ("verify?pid=10&mechanism=zoom", "sendfile, splice"),
        ("verify?pid=10&mechanism=read&source=disc", "file, disk"),
        ("verify?pid=10&mechanism=read&sink=TCP", "tcp, udp"),
        ("verify?pid=10&mechanism=read&min_share=95", "0 to 1"),
        ("verify?pid=10&mechanism=read&min_share=NaN", "0 to 1"),
        ("verify?mechanism=read", "exactly one of pid"),
        ("verify?pid=10&comm=nginx&mechanism=read", "exactly one of pid"),
    ] {
        get(&format!("/api/v1/{path}")).is_problem(400, "bad-parameter", says);
    }
}

#[test]
fn wrong_methods_and_bodies_are_refused() {
    for path in ["/metrics", "/api/v1/processes", "/api/v1/processes/10", "/"] {
        let answer = ask(fixed(), Method::POST, path, Body::empty());
        answer.is_problem(405, "wrong-method", "POST");
        assert_eq!(answer.headers["allow"], "GET,HEAD", "{path}");
    }
    ask(fixed(), Method::GET, "/metrics", Body::from(vec![0; 5000])).is_problem(413, "body-too-large", "leave it out");
}

#[test]
fn a_failing_kernel_is_a_problem_and_not_an_end() {
    let broken = || app(|| Err(io::Error::from_raw_os_error(libc::EPERM)));
    for path in ["/metrics", "/api/v1/processes", "/api/v1/processes/10", "/api/v1/groups"] {
        ask(broken(), Method::GET, path, Body::empty()).is_problem(500, "failed", "log");
    }
}

#[test]
fn hostile_names_stay_text() {
    let answer = get("/api/v1/processes?pid=30");
    assert_eq!(answer.json()["processes"][0]["comm"], HOSTILE);
    assert!(!answer.body.contains('\u{1b}') && !answer.body.contains('\n'), "control characters are escaped");
    assert_eq!(json("/api/v1/processes/30")["processes"][0]["comm"], HOSTILE);
    let groups = json("/api/v1/groups");
    assert!(groups["groups"].as_array().unwrap().iter().any(|one| one["group"] == HOSTILE));
    let metrics = get("/metrics").body;
    assert!(metrics.contains("</script>\\\"\\n\\\\\u{1b}[2J\u{fffd}'&\""), "{metrics}");
    // A request may be hostile, too; its path comes back as JSON text.
    get("/%3Cscript%3E%22").is_problem(404, "no-such-resource", "%3Cscript%3E");
}
