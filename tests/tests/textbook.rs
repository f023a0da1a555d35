//! What network devices make of what is sent: the textbook's table, measured, and copies that only a probe sees.

mod common;

use anyhow::{Context as _, Result};
use common::{Scratch, command, run};
use serde_json::Value;

fn validate(arguments: &[&str]) -> Result<(i32, Value)> {
    let scratch = Scratch::new()?;
    let ended =
        run(command(["validate", "--json", "--bytes", "4MiB"]).args(arguments).arg("--directory").arg(scratch.path()))?;
    let report = serde_json::from_str(&ended.stdout).with_context(|| format!("{ended:?}"))?;
    Ok((ended.status, report))
}

#[test]
fn every_way_of_the_textbook_copies_what_is_known() -> Result<()> {
    let (status, report) = validate(&["--textbook"])?;
    assert_eq!((status, &report["exact"]), (0, &Value::Bool(true)), "{report:#}");
    let rows = report["textbook"].as_array().context("rows")?;
    // Five ways that send, cold and warm, through three kinds of device; and direct I/O.
    assert_eq!(rows.len(), 5 * 2 * 3 + 1);
    let bytes = 4 << 20;
    for row in rows {
        assert_eq!((&row["exact"], row["bytes"].as_u64()), (&Value::Bool(true), Some(bytes)), "{row}");
        // Of pages that are handed over to a receiver on the same host, too.
        let linear = row["device"] == "veth without scatter-gather" || row["way"] == "read-zerocopy";
        assert_eq!(row["observed_bytes"].as_u64() >= Some(bytes), linear, "{row}");
        assert_eq!(row["disk_bytes"].as_u64() >= Some(bytes), row["cold"] == true, "{row}");
        assert!(row["call_switches"].as_u64() >= row["operations"].as_u64().map(|all| 2 * all), "{row}");
        // The devices are virtual.
        assert_eq!(row["nic_bytes"], 0, "{row}");
    }
    Ok(())
}

#[test]
fn what_is_copied_for_a_device_without_scatter_gather_is_seen_on_every_path() -> Result<()> {
    let paths = [
        "write:user:tcp+veth-linear",
        "write:mapping:tcp+veth-linear",
        "sendfile:file:tcp+veth-linear",
        // Each call's copies on its own path.
        "sendfile:file:tcp+veth-linear-headed",
        "splice:pipe:tcp+veth-linear",
        "zerocopy_send:user:tcp+veth-linear",
    ];
    let arguments: Vec<_> = paths.iter().flat_map(|path| ["--path", path]).collect();
    let (status, report) = validate(&arguments)?;
    assert_eq!(status, 0, "{report:#}");
    let rows = report["rows"].as_array().context("rows")?;
    assert_eq!(rows.len(), paths.len());
    for row in rows {
        let observed = row["copied_bytes"]["observed"].as_u64();
        assert!(row["exact"] == true && observed >= row["bytes"]["ledger"].as_u64(), "{row}");
    }
    Ok(())
}

#[test]
fn pages_handed_over_to_a_receiver_on_the_same_host_are_copied_after_all() -> Result<()> {
    let (status, report) = validate(&[
        "--path",
        "zerocopy_send:user:tcp",
        "--path",
        "zerocopy_send:user:tcp+headed",
        "--path",
        "write:user:tcp+veth",
    ])?;
    assert_eq!(status, 0, "{report:#}");
    let of = |name: &str| {
        let rows = report["rows"].as_array()?;
        rows.iter().find(|row| row["workload"] == name)?["copied_bytes"]["observed"].as_u64()
    };
    assert!(of("zerocopy_send:user:tcp") >= Some(4 << 20), "{report:#}");
    assert!(of("zerocopy_send:user:tcp+headed") >= Some(4 << 20), "{report:#}");
    assert_eq!(of("write:user:tcp+veth"), Some(0), "{report:#}");
    Ok(())
}
