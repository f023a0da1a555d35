//! `zcprof validate` on this kernel: every workload is exact, in any chunk, side by side and amid other processes, and
//! what is made wrong is noticed.

mod common;

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use common::{Ended, Scratch, command, run, run_zcprof};
use serde_json::Value;

/// Fewer rows would mean that paths have lost their workloads.
const ROWS: usize = 45;

/// `zcprof validate ARGUMENTS`, with its scratch files on the disk of the target directory.
fn validate(arguments: &[&str]) -> Result<Ended> {
    let scratch = Scratch::new()?;
    run(command(["validate"]).args(arguments).arg("--directory").arg(scratch.path()))
}

/// The same with `--json`.
fn report(arguments: &[&str]) -> Result<(i32, Value)> {
    let ended = validate(&[arguments, &["--json"]].concat())?;
    let report = serde_json::from_str(&ended.stdout).with_context(|| format!("{ended:?}"))?;
    Ok((ended.status, report))
}

fn rows(report: &Value) -> &[Value] {
    report["rows"].as_array().expect("a report has rows")
}

/// Fails unless every row that this machine can run is exact. Returns the names of those.
fn assert_exact(status: i32, report: &Value) -> BTreeSet<String> {
    let wrong: Vec<_> = rows(report).iter().filter(|row| row["exact"] == false).collect();
    assert_eq!((status, report["exact"].as_bool()), (0, Some(true)), "{wrong:#?}");
    let exact: Vec<_> = rows(report).iter().filter(|row| row["exact"] == true).collect();
    for row in &exact {
        for figure in ["operations", "bytes"] {
            let (expected, ledger) = (row[figure]["expected"].as_u64(), row[figure]["ledger"].as_u64());
            assert!(expected > Some(0) && expected == ledger, "{row}");
        }
    }
    assert!(exact.len() >= ROWS, "only {} of {} rows have run", exact.len(), rows(report).len());
    let names: BTreeSet<_> = exact.iter().filter_map(|row| row["workload"].as_str().map(str::to_owned)).collect();
    assert_eq!(names.len(), exact.len(), "every row is another workload");
    names
}

#[test]
fn every_row_is_exact_with_the_defaults_and_in_the_contracts_fields() -> Result<()> {
    let (status, report) = report(&[])?;
    let names = assert_exact(status, &report);
    for path in
        ["read:file:user", "write:user:tcp", "sendfile:file:tcp", "splice:pipe:tcp", "copy_file_range:file:file"]
    {
        assert!(names.contains(path), "{path} is not in {names:?}");
    }
    assert!(report["kernel"].as_str().is_some_and(|kernel| !kernel.is_empty()));
    for row in rows(&report) {
        let fields = ["id", "chunk", "operations", "bytes", "copied_bytes", "exact", "note"];
        assert!(fields.iter().all(|field| row.get(field).is_some()), "{row}");
        let copied = ["modelled", "observed", "audited"];
        assert!(copied.iter().all(|field| row["copied_bytes"].get(field).is_some()), "{row}");
    }
    // As the textbook has it.
    let plain = rows(&report).iter().find(|row| row["workload"] == "sendfile:file:tcp").context("no sendfile")?;
    assert_eq!(plain["bytes"]["ledger"].as_u64(), Some(64 << 20));
    assert_eq!(plain["copied_bytes"]["modelled"].as_u64(), Some(0));
    Ok(())
}

#[test]
fn eight_at_once_are_as_exact_as_one() -> Result<()> {
    let (status, report) = report(&["--jobs", "8", "--bytes", "16MiB"])?;
    assert_exact(status, &report);
    Ok(())
}

#[test]
fn every_chunk_is_exact() -> Result<()> {
    for (chunk, bytes) in [("1", "4KiB"), ("4096", "1MiB"), ("65536", "4MiB"), ("1MiB", "4MiB")] {
        let (status, report) = report(&["--chunk", chunk, "--bytes", bytes])?;
        assert_exact(status, &report);
        let small = rows(&report).iter().filter(|row| row["chunk"] == 1).count();
        assert!(chunk != "1" || small > ROWS / 2, "most paths can move single bytes");
    }
    Ok(())
}

#[test]
fn every_variant_is_exact() -> Result<()> {
    let (status, all) = report(&["--variants", "--jobs", "4", "--bytes", "1MiB"])?;
    let (_, plain) = report(&["--jobs", "4", "--bytes", "64KiB"])?;
    assert_exact(status, &all);
    assert!(rows(&all).len() > rows(&plain).len() + 50, "{} and {} rows", rows(&all).len(), rows(&plain).len());
    Ok(())
}

#[test]
fn a_thousand_processes_that_come_and_go_change_nothing() -> Result<()> {
    let (started, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let churn = scope.spawn(|| -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                assert!(Command::new("true").status()?.success());
                started.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let validated = during_churn(&started, 1000);
        stop.store(true, Ordering::Relaxed);
        churn.join().expect("the processes could be started")?;
        validated
    })
}

/// Validates until so many processes have come and gone meanwhile.
fn during_churn(started: &AtomicU32, processes: u32) -> Result<()> {
    let before = started.load(Ordering::Relaxed);
    while started.load(Ordering::Relaxed) - before < processes {
        let (status, report) = report(&["--bytes", "4MiB"])?;
        assert_exact(status, &report);
    }
    Ok(())
}

#[test]
fn a_row_made_wrong_is_noticed() -> Result<()> {
    for (what, path) in [("mechanism", "sendfile:file:tcp"), ("sink", "read:pipe:user"), ("hops", "write:user:tcp")] {
        let small = ["--path", path, "--bytes", "1MiB"];
        let (status, sound) = report(&small)?;
        assert_eq!((status, sound["exact"].as_bool()), (0, Some(true)), "{sound}");
        let falsify = format!("{what}={path}");
        let (status, wrong) = report(&[&small[..], &["--falsify", &falsify]].concat())?;
        assert_eq!((status, wrong["exact"].as_bool()), (1, Some(false)), "{what}: {wrong}");
        let row = &rows(&wrong)[0];
        assert_eq!((row["workload"].as_str(), row["exact"].as_bool()), (Some(path), Some(false)), "{row}");
        assert!(row["note"].as_str().is_some_and(|note| !note.is_empty()), "{row}");
    }
    Ok(())
}

#[test]
fn a_path_that_is_none_is_refused_with_a_way_to_find_one() -> Result<()> {
    let ended = run_zcprof(&["validate", "--path", "nonsense"])?;
    assert_eq!((ended.status, ended.stdout.as_str()), (2, ""));
    assert!(ended.stderr.contains("nonsense") && ended.stderr.contains("zcprof workload list"), "{ended:?}");
    Ok(())
}

/// In the virtual machines it must agree; here it may be that the processor or the kernel does not let it.
#[test]
fn the_audit_agrees_or_says_why_there_is_none() -> Result<()> {
    let ended = validate(&["--audit", "--json", "--path", "read:file:user", "--bytes", "1MiB"])?;
    if ended.status == 2 {
        assert!(ended.stdout.is_empty() && ended.stderr.contains("no audit here"), "{ended:?}");
        return Ok(());
    }
    let report: Value = serde_json::from_str(&ended.stdout).with_context(|| format!("{ended:?}"))?;
    assert_eq!(rows(&report)[0]["copied_bytes"]["audited"].as_u64(), Some(1 << 20), "{report}");
    assert_eq!(ended.status, 0);
    Ok(())
}

#[test]
fn the_table_has_a_line_for_each_row() -> Result<()> {
    let few = ["--bytes", "64KiB"];
    let (_, report) = report(&few)?;
    let ended = validate(&few)?;
    assert_eq!(ended.status, 0, "{ended:?}");
    for row in rows(&report) {
        let name = row["workload"].as_str().context("a workload")?;
        let line = ended.stdout.lines().find(|line| line.split_whitespace().next() == Some(name));
        let verdict = line.with_context(|| format!("no line for {name}"))?.trim_end();
        let expected = match (row["exact"] == true, row["asked"] == true) {
            (true, true) => " exact (asked)",
            (true, false) => " exact",
            (false, _) => " not run",
        };
        assert!(verdict.ends_with(expected), "{verdict}");
    }
    let sum = ended.stdout.lines().last().unwrap_or_default();
    assert!(sum.contains(" exact, 0 not, "), "{sum}");
    Ok(())
}
