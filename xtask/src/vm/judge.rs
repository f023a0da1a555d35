//! What a guest reported against what is expected of its kernel.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::kernels::Kernel;
use super::machine::Machine;
use super::plan::{Message, Outcome};
use crate::codegen::truth;
use crate::expected::{self, Seen, Summary};

/// The judgement of one kernel.
pub(crate) struct Verdict {
    /// `6.12.117 x86_64`.
    pub(crate) kernel: String,
    /// What is not as expected.
    pub(crate) problems: Vec<String>,
    seen: Seen,
    summary: Summary,
    steps: Vec<Value>,
}

impl Verdict {
    /// The kernel in one line.
    pub(crate) fn line(&self) -> String {
        let Summary { exact, audited, missing, not_here, differing } = self.summary;
        let listed = |count: usize, what: &str| if count == 0 { String::new() } else { format!(" ({count} {what})") };
        let rest = listed(not_here, "not on this kernel") + &listed(differing, "listed as differing");
        format!("{}: {exact} rows exact, {audited} audited, {missing} missing{rest}", self.kernel)
    }

    /// Its workloads but the variants, for docs/truth.md: each as it came out where it could run.
    pub(crate) fn recorded(&self) -> truth::Kernel {
        let all = self.seen.validations.iter().filter_map(|report| report["rows"].as_array()).flatten();
        let mut rows: Vec<truth::Row> = Vec::new();
        for row in all.filter(|row| !row["workload"].as_str().is_some_and(|workload| workload.contains('+'))) {
            let number = |field: &str, of: &str| row[field][of].as_u64();
            let new = truth::Row {
                workload: row["workload"].as_str().unwrap_or_default().to_owned(),
                bytes: number("bytes", "ledger").unwrap_or(0),
                modelled: number("copied_bytes", "modelled").unwrap_or(0),
                observed: number("copied_bytes", "observed"),
                audited: number("copied_bytes", "audited"),
                textbook: row["textbook_cpu_copies"].as_u64(),
                exact: row["exact"].as_bool(),
            };
            match rows.iter_mut().find(|row| row.workload == new.workload) {
                Some(old) if old.exact.is_none() => *old = new,
                Some(_) => {}
                None => rows.push(new),
            }
        }
        truth::Kernel { kernel: self.kernel.clone(), rows }
    }

    /// All of it, for the documents.
    pub(crate) fn to_json(&self) -> Value {
        json!({"kernel": self.kernel, "steps": self.steps, "validations": self.seen.validations})
    }
}

/// Judges what a guest reported. `steps` are those that it was given.
pub(crate) fn judge(
    root: &Path,
    machine: &Machine,
    kernel: &Kernel,
    steps: &[String],
    messages: &[Message],
) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict {
        kernel: format!("{} {}", kernel.version, machine.name),
        problems: Vec::new(),
        seen: Seen { failed: Some(BTreeSet::new()), ..Seen::default() },
        summary: Summary::default(),
        steps: Vec::new(),
    };
    let mut left: Vec<&str> = steps.iter().map(String::as_str).collect();
    let mut ended = false;
    for message in messages {
        match message {
            Message::Ready(release) if *release == kernel.release => {}
            Message::Ready(release) => verdict.problems.push(format!("it is {release}, not {}", kernel.release)),
            Message::Failed(why) => verdict.problems.push(format!("the guest gave up: {why}")),
            Message::End => ended = true,
            Message::Done(outcome) => {
                left.retain(|name| *name != outcome.name);
                verdict.step(outcome)?;
            }
        }
    }
    if !ended {
        verdict.problems.push("the guest did not come to its end".to_owned());
    }
    verdict.problems.extend(left.iter().map(|name| format!("{name}: did not run")));
    let expected = expected::of_kernel(root, &kernel.release, machine.name)?;
    verdict.problems.extend(expected.differences(&verdict.seen));
    verdict.summary = expected.summary(&verdict.seen);
    Ok(verdict)
}

impl Verdict {
    /// Takes in what a step printed.
    fn step(&mut self, outcome: &Outcome) -> anyhow::Result<()> {
        let Outcome { name, status, stdout, stderr, seconds } = outcome;
        let how = status.map_or("took too long".to_owned(), |status| format!("exit status {status}"));
        eprintln!("   {name}: {how} after {seconds:.1} s");
        self.steps.push(json!({"name": name, "status": status, "seconds": seconds}));
        let parsed = || serde_json::from_str::<Value>(stdout).with_context(|| format!("{name}: {stdout}{stderr}"));
        let expected = match name.split_once(' ').unwrap_or((name, "")) {
            ("probes", _) => {
                self.seen.probes = parsed()?;
                *status == Some(0)
            }
            ("paths", _) => {
                self.seen.paths = parsed()?;
                *status == Some(0)
            }
            // Its rows say what is wrong.
            ("validate", _) if matches!(status, Some(0 | 1)) => {
                self.seen.validations.push(parsed()?);
                true
            }
            ("textbook", devices) => {
                let report = parsed()?;
                self.problems.extend(wrong_ways(&report, devices).into_iter().map(|way| format!("{name}: {way}")));
                *status == Some(0)
            }
            // What it can't do here it says, and nothing else.
            ("audit", _) => *status == Some(2) && stdout.is_empty(),
            ("test", target) => {
                let failed: Vec<_> = failed(stdout).map(|test| format!("{target}::{test}")).collect();
                // The list of those that fail tells whether they should.
                let all_said = status == &Some(0) || status == &Some(TESTS_FAILED) && !failed.is_empty();
                self.seen.failed.get_or_insert_default().extend(failed);
                all_said
            }
            _ => *status == Some(0),
        };
        if !expected {
            self.problems.push(format!("{name}: {how}: {}", stderr.lines().last().unwrap_or_default()));
        }
        Ok(())
    }
}

/// What the textbook's ways through two cards are not as known: `eth0` takes no pages, `eth1` does (`qemu.rs`).
fn wrong_ways(report: &Value, devices: &str) -> Vec<String> {
    let number = |row: &Value, field: &str| row[field].as_u64().unwrap_or(0);
    let through: Vec<_> =
        report["textbook"].as_array().into_iter().flatten().filter(|row| row["device"] == "as given").collect();
    let mut wrong: Vec<_> = through
        .iter()
        .filter(|row| {
            let bytes = number(row, "bytes");
            let linear = number(row, "observed_bytes") >= bytes;
            row["exact"] != true
                || bytes == 0
                || number(row, "nic_bytes") < bytes
                || linear != devices.starts_with("eth0")
        })
        .map(ToString::to_string)
        .collect();
    if through.is_empty() {
        wrong.push("no way went through the devices".to_owned());
    }
    wrong
}

/// What a test program exits with when tests failed (std's test harness).
const TESTS_FAILED: i32 = 101;

/// The tests that failed, as their program lists them.
fn failed(stdout: &str) -> impl Iterator<Item = &str> {
    stdout.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
}

/// Keeps what each step that failed has printed.
pub(crate) fn keep_output(directory: &Path, messages: &[Message]) -> anyhow::Result<()> {
    for message in messages {
        if let Message::Done(Outcome { name, status, stdout, stderr, .. }) = message
            && *status != Some(0)
        {
            let file = directory.join(format!("{}.txt", name.replace(' ', "-")));
            fs::write(&file, format!("{stdout}\n{stderr}")).with_context(|| file.display().to_string())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel() -> Kernel {
        Kernel { version: "6.1.9".to_owned(), release: "6.1.0-9".to_owned(), directory: Path::new("/none").to_owned() }
    }

    fn judged(messages: &[Message]) -> Vec<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        judge(root, &super::super::machine::X86_64, &kernel(), &["test paths".to_owned()], messages).unwrap().problems
    }

    fn done(status: Option<i32>, stdout: &str) -> Message {
        let (name, stdout, stderr) = ("test paths".to_owned(), stdout.to_owned(), String::new());
        Message::Done(Outcome { name, status, stdout, stderr, seconds: 1.0 })
    }

    #[test]
    fn what_did_not_run_or_not_to_its_end_is_a_problem() {
        let has = |messages: &[Message], what: &str| judged(messages).iter().any(|problem| problem.contains(what));
        assert!(has(&[], "did not run") && has(&[], "did not come to its end"));
        assert!(has(&[Message::Ready("6.2.0".to_owned())], "it is 6.2.0"));
        assert!(has(&[Message::Failed("no disk".to_owned())], "no disk"));
        assert!(!has(&[done(Some(0), ""), Message::End], "did not"));
        assert!(has(&[done(None, "")], "took too long"));
        assert!(has(&[done(Some(101), "")], "exit status 101"), "a test program that says nothing");
        let new = [done(Some(101), "test no_such_test ... FAILED\n")];
        assert!(has(&new, "paths::no_such_test is failing") && !has(&new, "exit status 101"));
    }
}
