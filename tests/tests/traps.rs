//! Calls whose return value, end or number misleads whoever counts them; and the exact count of system calls.

use zc_tests::expected::Paths;
use zc_tests::stage::{self, agent};
use zcprof::ledger::Selector;

const ACTOR: &str = env!("CARGO_BIN_EXE_actor");
const DISK: &str = env!("CARGO_TARGET_TMPDIR");

macro_rules! scenarios {
    ($($(#[$more:meta])* $name:ident),+ $(,)?) => {
        $(#[test]
        $(#[$more])*
        fn $name() -> anyhow::Result<()> {
            stage::check(ACTOR, &[stringify!($name), DISK]).map(|_| ())
        })+
    };
}

scenarios! {
    truncated_udp, truncated_unix, truncated_tcp, peek, short, failed, closed, replaced,
    getppid, restarted, handlers,
    truncated_to_nothing,
    empty_messages,
}

#[cfg(target_arch = "x86_64")]
scenarios! { compat }

/// fork and clone return twice: the second time is the child's first system call (x86).
fn children(scenario: &str) -> anyhow::Result<()> {
    let mut helper = stage::Helper::start(ACTOR, &[scenario])?;
    helper.wait_stopped()?;
    let before = helper.observe(agent())?;
    helper.proceed()?;
    helper.wait_stopped()?;
    let snapshot = agent().observe()?;
    let after = helper.process(&snapshot)?;
    let report = helper.finish()?;
    stage::assert_counted(scenario, &after.counters.since(&before.counters), &report);
    let family = Selector::Key(after.key).select(&snapshot);
    let children: Vec<_> = family.iter().filter(|process| process.key != after.key).collect();
    assert_eq!(children.len() as u64, report.number("children")?);
    let mut sum = Paths::default();
    for child in &children {
        assert_eq!(child.parent, Some(after.key), "{child:?}");
        assert!(child.exited, "{child:?}");
        assert_eq!(child.counters.system_calls, report.number("child_calls")?, "{child:?}");
        for (path, (operations, bytes)) in Paths::of(agent().catalogue(), &child.counters).0 {
            sum.add(&path, operations, bytes);
        }
    }
    let mut expected = Paths::default();
    let bytes = report.number("child_bytes")?;
    expected.add("write:user:device null_sink", children.len() as u64, bytes);
    assert_eq!(sum, expected);
    Ok(())
}

#[test]
fn forks() -> anyhow::Result<()> {
    children("forks")
}

/// Children that exec 32-bit programs: on this architecture a 64-bit one has no 32-bit calls.
#[cfg(target_arch = "aarch64")]
#[test]
fn compat() -> anyhow::Result<()> {
    children("compat")
}

#[test]
fn clones() -> anyhow::Result<()> {
    children("clones")
}
