//! Every workload for real, without a tracer: what it says of itself must be what was planned.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use zc_common::path::{Condition, PathId, ROWS};

use super::{Gate, NoGate, Request, Workload, all, find};

/// A directory with a disk behind it, which the temporary one need not have: beside the test program.
fn scratch() -> tempfile::TempDir {
    let binary = std::env::current_exe().unwrap();
    tempfile::tempdir_in(binary.parent().unwrap()).unwrap()
}

#[test]
fn every_row_has_a_workload_and_every_workload_a_row() {
    let rows: BTreeSet<_> = ROWS.iter().map(|row| (row.id(), row.condition)).collect();
    let main = all().iter().filter(|one| one.variant.is_empty());
    let driven: BTreeSet<_> = main.clone().map(|one| (PathId::parse(one.id).unwrap(), one.condition)).collect();
    assert_eq!(driven, rows);
    assert_eq!(main.count(), rows.len());
    for one in all() {
        assert!(rows.contains(&(PathId::parse(one.id).unwrap(), one.condition)), "{}", one.name());
    }
}

#[test]
fn names_are_unique_and_find_finds_them() {
    for one in all() {
        let found = find(&one.name());
        assert!(found.iter().any(|other| std::ptr::eq(*other, one)), "{}", one.name());
        assert_eq!(all().iter().filter(|other| other.name() == one.name()).count(), 1, "{}", one.name());
    }
    let names = |name: &str| find(name).iter().map(|one| one.name()).collect::<Vec<_>>();
    assert_eq!(names("read:tcp:user"), ["read:tcp:user", "read:tcp:user@peek"]);
    assert_eq!(names("read:tcp:user@peek"), ["read:tcp:user@peek"]);
    assert_eq!(names("read:file:user+preadv2"), ["read:file:user+preadv2"]);
    assert_eq!(names("mmap:file:mapping"), ["mmap:file:mapping", "mmap:file:mapping@asked"]);
    assert!(find("read").is_empty());
}

#[test]
fn plans_keep_to_the_limits() {
    let plan = |name: &str, bytes, chunk| find(name)[0].plan(bytes, chunk);
    assert_eq!(plan("read:file:user", 64 << 20, 64 << 10), (64 << 20, 64 << 10));
    assert_eq!(plan("read:file:user", 64 << 20, 1), (65_536, 1));
    assert_eq!(plan("read:file:user", 10, 64 << 10), (10, 10));
    assert_eq!(plan("read:file:user", 0, 0), (1, 1));
    assert_eq!(plan("read:udp:user", 64 << 20, 1 << 20), (64 << 20, 32 << 10));
    assert_eq!(plan("read:disk:user", 64 << 20, 1), (64 << 20, 4096));
    assert_eq!(plan("read:disk:user", 10_000, 5000), (8192, 4096));
    assert_eq!(plan("sendfile:disk:udp", 1 << 20, 1 << 20), (1 << 20, 32 << 10));
    assert_eq!(plan("read:other:user+eventfd", 100, 100), (96, 8));
    assert_eq!(plan("reflink:file:file", 100_000, 30_000), (90_000, 30_000));
}

/// Runs one, and says what is wrong.
fn check(one: &Workload, directory: &Path, bytes: u64, chunk: u64) -> Option<String> {
    let (planned, used) = one.plan(bytes, chunk);
    let request = Request { bytes, chunk, directory: directory.to_owned() };
    let outcome = match one.run(&request, &mut NoGate) {
        Ok(outcome) => outcome,
        Err(error) => return Some(format!("{}: {error:#}", one.name())),
    };
    let sound = outcome.id == one.id
        && outcome.chunk == used
        && outcome.bytes == planned
        && outcome.note.is_none()
        // Short returns make more operations, never fewer.
        && outcome.operations >= planned.div_ceil(used)
        && outcome.operations <= planned;
    (!sound).then(|| format!("{}: planned {planned} by {used}: {outcome:?}", one.name()))
}

/// Runs all of them, a few at a time.
fn check_all(bytes: u64, chunk: u64) {
    let directory = scratch();
    let queue = Mutex::new(all().iter());
    let wrong = Mutex::new(Vec::new());
    let work = || {
        loop {
            let Some(one) = queue.lock().unwrap().next() else { break };
            let problem = match one.unavailable(directory.path()) {
                None => check(one, directory.path(), bytes, chunk),
                // Not every kernel has kernel TLS; the virtual machines' have.
                Some(why) if one.condition == Condition::Tls && why.contains("kernel TLS") => None,
                Some(why) => Some(format!("{} is unavailable: {why}", one.name())),
            };
            wrong.lock().unwrap().extend(problem);
        }
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(work);
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn pages() {
    check_all(256 << 10, 4096);
}

/// Enough of them to fill a pipe whose every slot holds one byte.
#[test]
fn single_bytes() {
    check_all(1000, 1);
}

#[test]
fn odd_sizes() {
    check_all(100_001, 7001);
}

#[test]
fn large_chunks() {
    check_all(3 << 20, 1 << 20);
}

/// The defaults: too long for every run of the tests. `cargo test -p zc-userspace --release workload -- --ignored`
#[test]
#[ignore = "takes a minute"]
fn defaults() {
    let directory = scratch();
    for one in all().iter().filter(|one| one.unavailable(directory.path()).is_none()) {
        let start = std::time::Instant::now();
        let problem = check(one, directory.path(), 64 << 20, 64 << 10);
        println!("{:8.3} s {} {}", start.elapsed().as_secs_f64(), one.name(), problem.unwrap_or_default());
    }
}

#[derive(Default)]
struct Recorder {
    ready: u32,
    done: u32,
    last: u64,
    in_order: bool,
}

impl Gate for Recorder {
    fn ready(&mut self) -> anyhow::Result<()> {
        self.ready += 1;
        self.in_order = self.last == 0;
        Ok(())
    }

    fn done(&mut self) -> anyhow::Result<()> {
        self.done += 1;
        self.in_order &= self.ready == 1;
        Ok(())
    }

    fn progress(&mut self, bytes: u64) {
        self.in_order &= self.ready == 1 && self.done == 0 && bytes > self.last;
        self.last = bytes;
    }
}

#[test]
fn the_gate_is_told_in_order() {
    let directory = scratch();
    let mut gate = Recorder::default();
    let request = Request { bytes: 10_000, chunk: 3000, directory: directory.path().to_owned() };
    let outcome = find("splice:pipe:tcp")[0].run(&request, &mut gate).unwrap();
    assert!(gate.in_order && gate.done == 1, "ready {}, done {}", gate.ready, gate.done);
    assert_eq!(gate.last, outcome.bytes);
}

#[test]
fn a_gate_that_refuses_ends_the_run() {
    struct Refuses;
    impl Gate for Refuses {
        fn ready(&mut self) -> anyhow::Result<()> {
            anyhow::bail!("not today")
        }
        fn done(&mut self) -> anyhow::Result<()> {
            unreachable!("never made ready")
        }
    }
    let directory = scratch();
    let request = Request { bytes: 1, chunk: 1, directory: directory.path().to_owned() };
    let error = find("write:user:pipe")[0].run(&request, &mut Refuses).unwrap_err();
    assert!(format!("{error:#}").contains("not today"));
}
