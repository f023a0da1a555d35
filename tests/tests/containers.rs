//! The Dockerfile and the Kubernetes manifests: judged by hadolint and by the published schemas, held against each other,
//! and the daemon run with the arguments and the capabilities that they give it.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use common::daemon::Daemon;
use common::process::until;
use common::{Ended, Scratch, leftovers, run, without, without_root, zcprof};
use serde_json::{Value, json};
use xtask::tools::{Registry, bring};

/// The oldest and the newest Kubernetes whose schemas are tried.
const VERSIONS: [&str; 2] = ["1.25.0", "1.37.0"];

fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(name)
}

/// Where a registry's packages lie; `None` if the tests were told to do without.
fn tools(registry: Registry) -> Result<Option<PathBuf>> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    if without(registry.name()) {
        return Ok(None);
    }
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("the target directory")?;
    Ok(Some(bring(registry, target)?))
}

/// The documents of all manifests, but for those of the operator if `builtin`.
fn manifests(tools: &Path, builtin: bool) -> Result<Vec<Value>> {
    let script = "import json, sys, yaml\n\
                  print(json.dumps([one for name in sys.argv[1:] for one in yaml.safe_load_all(open(name))]))";
    let read = run(Command::new("python3").args(["-c", script]).args(files(builtin)?).env("PYTHONPATH", tools))?;
    assert_eq!(read.status, 0, "{read:?}");
    Ok(serde_json::from_str(&read.stdout)?)
}

fn files(builtin: bool) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(packaging("kubernetes"))? {
        let path = entry?.path();
        if !(builtin && path.ends_with("servicemonitor.yaml")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn find<'a>(all: &'a [Value], kind: &str) -> Result<&'a Value> {
    all.iter().find(|one| one["kind"] == kind).with_context(|| format!("no {kind}"))
}

fn hadolint(tools: &Path, file: &Path) -> Result<Ended> {
    run(Command::new(tools.join("bin/hadolint")).arg("--no-color").arg(file))
}

#[test]
fn hadolint_is_content_with_the_dockerfile() -> Result<()> {
    let Some(tools) = tools(Registry::Pypi)? else { return Ok(()) };
    let judged = hadolint(&tools, &packaging("Dockerfile"))?;
    assert_eq!((judged.status, judged.stdout.as_str()), (0, ""), "{judged:?}");
    let scratch = Scratch::new()?;
    let text = fs::read_to_string(packaging("Dockerfile"))?;
    let faulty = scratch.text("Dockerfile", text.replace("rust:1.95-bookworm", "rust") + "RUN sudo true\n")?;
    assert_ne!(hadolint(&tools, Path::new(&faulty))?.status, 0);
    // What the last stage takes is what `cargo xtask dist` says that it makes; the toolchain is new enough.
    assert!(
        text.contains("COPY --from=build /src/target/dist/zcprof /zcprof\n") && text.contains("RUN cargo xtask dist\n")
    );
    Ok(())
}

fn validate(tools: &Path, version: &str, files: &[PathBuf]) -> Result<Ended> {
    let mut python = Command::new("python3");
    python.args(["-m", "kubernetes_validate", "--strict", "-k", version]).args(files);
    run(python.env("PYTHONPATH", tools))
}

#[test]
fn the_manifests_are_what_kubernetes_takes() -> Result<()> {
    let Some(tools) = tools(Registry::Pypi)? else { return Ok(()) };
    let files = files(true)?;
    assert_eq!(files.len(), 4, "{files:?}");
    for version in VERSIONS {
        let judged = validate(&tools, version, &files)?;
        assert_eq!(judged.status, 0, "{version}: {judged:?}");
        let passed = (judged.stdout + &judged.stderr).matches(" passed for resource ").count();
        assert_eq!(passed, manifests(&tools, true)?.len(), "{version}");
    }
    let scratch = Scratch::new()?;
    let text = fs::read_to_string(packaging("kubernetes/daemonset.yaml"))?;
    let faulty = scratch.text("daemonset.yaml", text.replace("readOnlyRootFilesystem", "readOnlyRootFileSystem"))?;
    assert_ne!(validate(&tools, VERSIONS[1], &[faulty.into()])?.status, 0, "a name that Kubernetes would pass over");
    Ok(())
}

/// Fails unless the type declares each name: the schema itself passes over names that it does not know.
fn assert_declared(folder: &Path, kind: &str, names: &Value) -> Result<()> {
    let path = folder.join(format!("{kind}.d.ts"));
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    for name in names.as_object().with_context(|| format!("{kind} is no object"))?.keys() {
        assert!(text.contains(&format!("\"{name}\"?:")) || text.contains(&format!("\"{name}\":")), "{kind}: {name}");
    }
    Ok(())
}

#[test]
fn the_service_monitor_is_what_the_operator_takes() -> Result<()> {
    let (Some(python), Some(npm)) = (tools(Registry::Pypi)?, tools(Registry::Npm)?) else { return Ok(()) };
    let all = manifests(&python, false)?;
    let monitor = find(&all, "ServiceMonitor")?;
    let judge = |monitor: &Value| -> Result<Ended> {
        let script = "import { ServiceMonitor } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor'; \
                      new ServiceMonitor(JSON.parse(process.argv[1])).validate();";
        let words = ["--input-type=module", "-e", script, "--", &monitor.to_string()];
        run(Command::new("node").args(words).current_dir(&npm))
    };
    assert_eq!(judge(monitor)?.status, 0, "{:?}", judge(monitor)?);
    let mut faulty = monitor.clone();
    faulty["spec"]["endpoints"][0]["interval"] = json!("15 seconds");
    assert!(judge(&faulty)?.stderr.contains("interval"), "{:?}", judge(&faulty)?);

    let types = npm.join("node_modules/@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1");
    let endpoint = &monitor["spec"]["endpoints"][0];
    assert_declared(&types, "ServiceMonitor", monitor)?;
    assert_declared(&types, "ServiceMonitorSpec", &monitor["spec"])?;
    assert_declared(&types, "Endpoint", endpoint)?;
    assert_declared(&types, "RelabelConfig", &endpoint["relabelings"][0])
}

/// Whether the labels are among those.
fn selects(labels: &Value, of: &Value) -> bool {
    labels.as_object().is_some_and(|labels| !labels.is_empty() && labels.iter().all(|(name, value)| &of[name] == value))
}

#[test]
fn the_manifests_fit_together_and_ask_for_no_more_than_two_capabilities() -> Result<()> {
    let Some(tools) = tools(Registry::Pypi)? else { return Ok(()) };
    let all = manifests(&tools, false)?;
    let (daemons, service) = (find(&all, "DaemonSet")?, find(&all, "Service")?);
    let (monitor, policy) = (find(&all, "ServiceMonitor")?, find(&all, "NetworkPolicy")?);
    let pod = &daemons["spec"]["template"];
    let labels = &pod["metadata"]["labels"];
    assert!(selects(&daemons["spec"]["selector"]["matchLabels"], labels));
    assert!(selects(&service["spec"]["selector"], labels));
    assert!(selects(&policy["spec"]["podSelector"]["matchLabels"], labels));
    assert!(selects(&monitor["spec"]["selector"]["matchLabels"], &service["metadata"]["labels"]));
    let namespace = &find(&all, "Namespace")?["metadata"]["name"];
    assert!(all.iter().all(|one| one["kind"] == "Namespace" || &one["metadata"]["namespace"] == namespace));
    assert_eq!(pod["spec"]["serviceAccountName"], find(&all, "ServiceAccount")?["metadata"]["name"]);

    let [container] = &pod["spec"]["containers"].as_array().context("containers")?[..] else { panic!("{pod}") };
    let port = &container["ports"][0];
    assert_eq!(port["name"], service["spec"]["ports"][0]["targetPort"]);
    assert_eq!(port["name"], policy["spec"]["ingress"][0]["ports"][0]["port"]);
    assert_eq!(service["spec"]["ports"][0]["name"], monitor["spec"]["endpoints"][0]["port"]);

    let security = &container["securityContext"];
    assert_eq!(security["capabilities"], json!({"drop": ["ALL"], "add": ["BPF", "PERFMON"]}));
    assert_eq!(
        (&security["allowPrivilegeEscalation"], &security["readOnlyRootFilesystem"]),
        (&json!(false), &json!(true))
    );
    assert_eq!((&pod["spec"]["hostPID"], &pod["spec"]["hostNetwork"]), (&json!(true), &Value::Null));
    assert!(
        all.iter().all(|one| !one.to_string().contains("\"privileged\":") && !one.to_string().contains("hostPath"))
    );
    Ok(())
}

/// Root with the container's two capabilities and no way to more, in a control group namespace of its own, and the
/// root directory empty but for the kernel's own file systems, as FROM scratch leaves it (and libraries).
#[test]
fn the_daemon_runs_with_what_the_manifest_gives_it() -> Result<()> {
    if without_root() {
        return Ok(());
    }
    let Some(tools) = tools(Registry::Pypi)? else { return Ok(()) };
    let all = manifests(&tools, true)?;
    let container = &find(&all, "DaemonSet")?["spec"]["template"]["spec"]["containers"][0];
    let given = container["args"].as_array().context("args")?.iter().map(|one| one.as_str().unwrap_or_default());
    // The log is read for the address, as text.
    let given = given.filter(|one| *one != "--log.format=json");
    let arguments: Vec<_> = given.map(|one| one.replace("=:9750", "=:0")).collect();
    assert!(arguments.iter().any(|one| one == "--web.listen-address=:0"), "{arguments:?}");

    let root = Scratch::open_to_all()?;
    furnish(&root)?;
    let inside = "mount --bind $0 $0; for one in proc sys; do mount --rbind /$one $0/$one; done; \
                  mount -o remount,bind,ro $0; exec chroot $0 /setpriv --no-new-privs --inh-caps=-all \
                  --bounding-set=-all,+bpf,+perfmon /zcprof \"$@\"";
    let mut start = Command::new("unshare");
    start.args(["--mount", "--cgroup", "--", "sh", "-ec", inside]).arg(root.path()).args(arguments);
    let mut daemon = Daemon::launch_by(&mut start)?;
    daemon.address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    for probe in ["readinessProbe", "livenessProbe"] {
        let path = container[probe]["httpGet"]["path"].as_str().context("a path")?;
        until("the daemon", || Ok((daemon.get(path)?.status == 200).then_some(())))?;
    }
    let own = daemon.json(&format!("/api/v1/processes/{}", std::process::id()))?;
    assert!(own["processes"][0]["comm"].is_string(), "{own}");
    drop(daemon);
    leftovers::assert_none()
}

/// zcprof, what takes all but two capabilities away, and what they are linked with.
fn furnish(root: &Scratch) -> Result<()> {
    for folder in ["proc", "sys"] {
        fs::create_dir(root.at(folder))?;
    }
    let setpriv = run(Command::new("sh").args(["-c", "command -v setpriv"]))?.stdout;
    for (name, program) in [("zcprof", zcprof()), ("setpriv", Path::new(setpriv.trim()))] {
        fs::copy(program, root.at(name)).with_context(|| format!("{}", program.display()))?;
        let linked = run(Command::new("ldd").arg(program))?.stdout;
        for library in linked.split_whitespace().filter(|word| word.starts_with('/')) {
            let copy = root.path().join(library.trim_start_matches('/'));
            fs::create_dir_all(copy.parent().context("a folder")?)?;
            fs::copy(library, copy)?;
        }
    }
    Ok(())
}
