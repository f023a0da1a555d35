//! A thousand processes that live too briefly for any snapshot: all are accounted for.

use zc_tests::expected::Paths;
use zc_tests::stage::{Helper, agent};
use zcprof::ledger::Selector;

const ACTOR: &str = env!("CARGO_BIN_EXE_actor");
const BRIEF: &str = env!("CARGO_BIN_EXE_brief");

/// Runs them, with `meanwhile` going on until the last has exited.
fn thousand(meanwhile: impl Fn(&Helper) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut helper = Helper::start(ACTOR, &["launcher", BRIEF, "1000"])?;
    helper.wait_stopped()?;
    helper.observe(agent())?;
    helper.proceed()?;
    meanwhile(&helper)?;
    let snapshot = agent().observe()?;
    let root = helper.process(&snapshot)?;
    let report = helper.finish()?;
    let family = Selector::Key(root.key).select(&snapshot);
    let children: Vec<_> = family.iter().filter(|process| process.key != root.key).collect();
    assert_eq!(children.len(), 1000);
    let mut bytes = Vec::new();
    for child in children {
        assert_eq!((child.comm.as_str(), child.exited), ("brief", true), "{child:?}");
        let (operations, written) = Paths::of(agent().catalogue(), &child.counters).get("write:user:device null_sink");
        assert_eq!(operations, 1, "{child:?}");
        assert_eq!(child.counters.unclassified().operations, 0, "{child:?}");
        bytes.push(written);
    }
    bytes.sort_unstable();
    assert_eq!(bytes, (1..=1000).collect::<Vec<u64>>());
    assert_eq!(report.number("bytes")?, 500_500);
    Ok(())
}

/// The ring of lifecycle events (1 MiB) may overflow here; the ledger does not depend on it.
#[test]
fn nobody_looks_until_they_are_gone() -> anyhow::Result<()> {
    thousand(Helper::wait_stopped)
}

#[test]
fn snapshots_are_taken_all_the_while() -> anyhow::Result<()> {
    thousand(|helper| {
        while !helper.has_stopped()? {
            agent().observe()?;
        }
        Ok(())
    })
}
