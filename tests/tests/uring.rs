//! io_uring: failed, cancelled and nameless requests, vectors that are gone, multishot receives, full queues, rings that
//! are torn down with requests in flight.

use nix::sys::signal::Signal;
use zc_tests::memory::PAGE;
use zc_tests::stage::{self, Helper, agent};

const ACTOR: &str = env!("CARGO_BIN_EXE_actor");
const DISK: &str = env!("CARGO_TARGET_TMPDIR");

macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        $(#[test]
        fn $name() -> anyhow::Result<()> {
            stage::check(ACTOR, &[stringify!($name), DISK]).map(|_| ())
        })+
    };
}

scenarios! {
    uring_failed, uring_hostile, uring_vector, uring_multishot, uring_multishot_message, uring_overflow, uring_skip,
    uring_skipped_link, uring_unregistered, uring_thread,
}

/// A process that is killed with requests in flight takes no other process's bytes with it, and its own are kept.
#[test]
fn uring_killed() -> anyhow::Result<()> {
    let mut victims = Vec::new();
    for _ in 0..4 {
        let victim = Helper::start(ACTOR, &["uring_victim", DISK])?;
        victim.wait_stopped()?;
        victim.proceed()?;
        victims.push(victim);
    }
    let mut seen = Vec::new();
    for mut victim in victims {
        // It has moved something.
        let before = loop {
            let process = victim.observe(agent())?;
            if !uring_paths(&process.counters).is_empty() {
                break process;
            }
        };
        victim.signal(Signal::SIGKILL)?;
        stage::check(ACTOR, &["uring_thread", DISK])?;
        seen.push(before);
    }
    let snapshot = agent().observe()?;
    for before in seen {
        let after = snapshot.by_key(before.key).expect("a process that was killed is kept");
        assert!(after.exited, "{:?} was killed", before.key);
        assert!(before.counters.since(&after.counters).is_zero(), "nothing is lost when it is killed");
        // Its requests were for a page each; no other process's are among them.
        for (path, (operations, bytes)) in uring_paths(&after.counters) {
            assert!(["io_uring:disk:user", "io_uring:file:user"].contains(&path.as_str()), "{path}");
            assert_eq!(bytes, operations * PAGE as u64, "{path}");
        }
    }
    Ok(())
}

fn uring_paths(counters: &zcprof::ledger::Counters) -> Vec<(String, (u64, u64))> {
    let paths = zc_tests::expected::Paths::of(agent().catalogue(), counters);
    paths.0.into_iter().filter(|(path, _)| path.starts_with("io_uring")).collect()
}
