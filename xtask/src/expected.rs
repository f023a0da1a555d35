//! What is expected to work on which kernel (`tests/kernels.toml`), held against what does. Whatever differs is a
//! difference, either way: what is missing, and what works although it is listed as missing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;

/// The list, in the project's tree.
const LIST: &str = "tests/kernels.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    kernel: Vec<Expected>,
}

/// What is expected of the kernels of a series on an architecture, and of later ones up to the next that is listed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// `6.12`.
    pub series: String,
    /// As `uname -m` has it.
    pub architecture: String,
    /// The probes that attach; no others do.
    probes: BTreeSet<String>,
    /// Paths that are not active, and why; all others are.
    #[serde(default)]
    inactive: BTreeMap<String, String>,
    /// Workloads that can't run, and why; all others run, and are exact.
    #[serde(default)]
    not_run: BTreeMap<String, String>,
    /// Workloads with which the audit does not agree, and in what; all others are exact.
    #[serde(default)]
    differing: BTreeMap<String, String>,
    /// End-to-end tests that fail for want of something, and why; all others pass.
    #[serde(default)]
    failing: BTreeMap<String, String>,
}

/// What zcprof says of itself on a kernel.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// `zcprof probes --json`.
    pub probes: Value,
    /// `zcprof paths --json`.
    pub paths: Value,
    /// `zcprof validate --json`, once or on several file systems: what can't run on one may on another.
    pub validations: Vec<Value>,
    /// The end-to-end tests that failed, as `paths::direct`; none if they were not run.
    pub failed: Option<BTreeSet<String>>,
}

/// How many workloads came out how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Exact.
    pub exact: usize,
    /// Whose copies the audit counted, and agreed.
    pub audited: usize,
    /// Wrong, or not run although it should have.
    pub missing: usize,
    /// Not run, as listed.
    pub not_here: usize,
    /// Not as the audit has it, as listed.
    pub differing: usize,
}

/// What is expected of a kernel, by its release and architecture: the newest listed series that is not newer than it.
///
/// # Errors
/// If the list can't be read, or has none so old.
pub fn of_kernel(root: &Path, release: &str, architecture: &str) -> anyhow::Result<Expected> {
    let path = root.join(LIST);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let list: List = toml::from_str(&text).with_context(|| path.display().to_string())?;
    let of_architecture = list.kernel.into_iter().filter(|entry| entry.architecture == architecture);
    let entry = of_architecture.filter(|entry| version(&entry.series) <= version(release));
    entry
        .max_by_key(|entry| version(&entry.series))
        .with_context(|| format!("{LIST} has nothing as old as {release} for {architecture}"))
}

/// The first two numbers of a release.
fn version(release: &str) -> Vec<u32> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).take(2).collect()
}

impl Expected {
    /// Everything in which a kernel differs.
    #[must_use]
    pub fn differences(&self, seen: &Seen) -> Vec<String> {
        let mut all = Vec::new();
        let attached = names(&seen.probes["probes"], "name", |probe| probe["attached"] == true);
        compare(&mut all, "probe", &attached, &self.probes, "attached");
        let inactive = names(&seen.paths["paths"], "id", |path| path["active"] != true);
        compare(&mut all, "path", &inactive, &self.inactive.keys().cloned().collect(), "inactive");
        let not_run = seen.not_run();
        compare(&mut all, "workload", &not_run, &self.not_run.keys().cloned().collect(), "not run");
        if let Some(failed) = &seen.failed {
            compare(&mut all, "test", failed, &self.failing.keys().cloned().collect(), "failing");
        }
        let wrong = seen.workloads(|row| row["exact"] == false);
        // The audit tells; without one they are exact.
        let audited = seen.rows().any(|row| !row["copied_bytes"]["audited"].is_null());
        let differing = self.differing.keys().filter(|_| audited).cloned().collect();
        compare(&mut all, "workload", &wrong, &differing, "differing");
        let unlisted = seen.rows().filter(|row| row["exact"] == false && !self.differs(&text(row, "workload")));
        all.extend(unlisted.map(|row| format!("{}: {}", text(row, "workload"), text(row, "note"))));
        if names(&seen.paths["paths"], "id", |_| true).is_empty() || seen.rows().next().is_none() {
            all.push("no paths or no workloads were seen at all".to_owned());
        }
        all
    }
}

impl Expected {
    fn differs(&self, workload: &str) -> bool {
        self.differing.contains_key(workload)
    }

    /// How many workloads came out how.
    #[must_use]
    pub fn summary(&self, seen: &Seen) -> Summary {
        let wrong = seen.workloads(|row| row["exact"] == false);
        let exact = &seen.workloads(|row| row["exact"] == true) - &wrong;
        let audited = &seen.workloads(|row| !row["copied_bytes"]["audited"].is_null()) - &wrong;
        let (not_here, not_run): (Vec<_>, Vec<_>) =
            seen.not_run().into_iter().partition(|name| self.not_run.contains_key(name));
        let differing = wrong.iter().filter(|name| self.differs(name)).count();
        let missing = wrong.len() - differing + not_run.len();
        Summary { exact: exact.len(), audited: audited.len(), missing, not_here: not_here.len(), differing }
    }
}

impl Seen {
    fn rows(&self) -> impl Iterator<Item = &Value> {
        self.validations.iter().filter_map(|report| report["rows"].as_array()).flatten()
    }

    fn workloads(&self, wanted: impl Fn(&Value) -> bool) -> BTreeSet<String> {
        self.rows().filter(|row| wanted(row)).map(|row| text(row, "workload")).collect()
    }

    /// The workloads that ran nowhere.
    fn not_run(&self) -> BTreeSet<String> {
        let ran = self.workloads(|row| !row["exact"].is_null());
        self.workloads(|row| row["exact"].is_null()).difference(&ran).cloned().collect()
    }
}

fn text(row: &Value, field: &str) -> String {
    row[field].as_str().unwrap_or("(nothing)").to_owned()
}

fn names(list: &Value, field: &str, wanted: impl Fn(&Value) -> bool) -> BTreeSet<String> {
    list.as_array().into_iter().flatten().filter(|one| wanted(one)).map(|one| text(one, field)).collect()
}

fn compare(into: &mut Vec<String>, what: &str, seen: &BTreeSet<String>, listed: &BTreeSet<String>, state: &str) {
    into.extend(seen.difference(listed).map(|name| format!("{what} {name} is {state}, and {LIST} does not say so")));
    into.extend(listed.difference(seen).map(|name| format!("{what} {name} is not {state}, and {LIST} says it is")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn expected() -> Expected {
        Expected {
            series: "6.1".to_owned(),
            architecture: "x86_64".to_owned(),
            probes: ["sys_exit".to_owned()].into(),
            inactive: [("mmap:file:mapping".to_owned(), "no faults".to_owned())].into(),
            not_run: [("tee:pipe:pipe".to_owned(), "no".to_owned())].into(),
            differing: [("read:proc".to_owned(), "more".to_owned())].into(),
            failing: [("paths::direct_tmpfs".to_owned(), "no".to_owned())].into(),
        }
    }

    fn seen() -> Seen {
        let report = |exact: Value| {
            json!({"rows": [{"workload": "read:file:user", "exact": true},
            {"workload": "reflink:file:file", "exact": exact}, {"workload": "read:proc", "exact": false, "copied_bytes": {"audited": 1}}, {"workload": "tee:pipe:pipe", "exact": null}]})
        };
        Seen {
            probes: json!({"probes": [{"name": "sys_exit", "attached": true}, {"name": "net", "attached": false}]}),
            paths: json!({"paths": [{"id": "read:file:user", "active": true},
                {"id": "mmap:file:mapping", "active": false}]}),
            validations: vec![report(Value::Null), report(json!(true))],
            failed: Some(["paths::direct_tmpfs".to_owned()].into()),
        }
    }

    #[test]
    fn as_listed() {
        assert_eq!(expected().differences(&seen()), Vec::<String>::new());
        assert_eq!(
            expected().summary(&seen()),
            Summary { exact: 2, audited: 0, missing: 0, not_here: 1, differing: 1 }
        );
        let nothing_listed = Expected { not_run: BTreeMap::new(), ..expected() };
        assert_eq!(nothing_listed.summary(&seen()).missing, 1);
    }

    #[test]
    fn whatever_differs_is_noticed_either_way() {
        let differs = |change: fn(&mut Expected, &mut Seen)| {
            let (mut expected, mut seen) = (expected(), seen());
            change(&mut expected, &mut seen);
            assert!(!expected.differences(&seen).is_empty());
        };
        differs(|expected, _| expected.differing.clear());
        differs(|_, seen| {
            for report in &mut seen.validations {
                report["rows"][2]["exact"] = json!(true);
            }
        });
        differs(|_, seen| seen.probes["probes"][0]["attached"] = json!(false));
        differs(|_, seen| seen.probes["probes"][1]["attached"] = json!(true));
        differs(|expected, _| expected.probes = ["sys_exit".to_owned(), "faults".to_owned()].into());
        differs(|_, seen| seen.paths["paths"][0]["active"] = json!(false));
        differs(|_, seen| seen.paths["paths"][1]["active"] = json!(true));
        differs(|expected, _| expected.inactive.clear());
        differs(|_, seen| seen.validations[0]["rows"][3]["exact"] = json!(true));
        differs(|_, seen| _ = seen.validations.pop());
        differs(|expected, _| expected.not_run.clear());
        differs(|expected, _| expected.failing.clear());
        differs(|_, seen| seen.failed = Some(BTreeSet::new()));
        differs(|_, seen| seen.validations[1]["rows"][0]["exact"] = json!(false));
    }

    #[test]
    fn nothing_seen_is_a_difference() {
        assert!(expected().differences(&Seen::default()).iter().any(|one| one.contains("at all")));
    }

    #[test]
    fn every_kernel_has_the_newest_entry_that_is_not_newer() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for (release, architecture, series) in [
            ("6.1.0-56-cloud-amd64", "x86_64", "6.1"),
            ("6.12.117+deb12-cloud-amd64", "x86_64", "6.12"),
            ("6.30.1", "x86_64", "6.18"),
            ("6.30.1", "aarch64", "6.12"),
        ] {
            let expected = of_kernel(root, release, architecture).unwrap();
            assert_eq!((&*expected.series, &*expected.architecture), (series, architecture), "{release}");
        }
        assert!(of_kernel(root, "5.10.0", "x86_64").is_err() && of_kernel(root, "6.12.0", "riscv64").is_err());
    }
}
