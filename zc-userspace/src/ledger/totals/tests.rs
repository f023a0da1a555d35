//! The totals under exits, renames, used pids and cells that are taken.

use zc_common::passed;
use zc_common::record::{CELL_FAULTS, CELL_FREE, CELL_SWITCHES, THREAD_CELLS, ThreadCells, Usage};

use super::*;

struct Nobody;
impl Lookup for Nobody {
    fn exe(&self, _: ProcessKey) -> Option<String> {
        None
    }
    fn cgroup(&self, _: ProcessKey) -> Option<Cgroup> {
        None
    }
}

fn thread(id: u64, tgid: u32, start: u64, comm: &[u8], bytes: u64) -> ThreadReading {
    let mut identity = Identity { id, tgid, tid: tgid, process_start: start, ..Identity::default() };
    identity.comm[..comm.len()].copy_from_slice(comm);
    let mut cells = ThreadCells {
        owners: [CELL_FREE; THREAD_CELLS],
        cells: [Cell::default(); THREAD_CELLS],
        passed_owners: [0; passed::THREAD_CELLS],
        passed: [Cell::default(); passed::THREAD_CELLS],
    };
    cells.owners[3] = 9;
    cells.cells[3] = Cell { operations: 1, bytes };
    ThreadReading { identity, system_calls: 1, usage: Usage::default(), cells: Some(cells) }
}

fn ledger(retain: Option<Duration>) -> Ledger {
    Ledger::new(Settings { group_by: GroupBy::Comm, max_groups: 8, retain })
}

fn bytes(ledger: &Ledger, tgid: u32) -> u64 {
    let snapshot = ledger.snapshot(Instant::now(), Duration::ZERO);
    snapshot.by_pid(tgid).map_or(0, |process| process.counters.get(9_u8).bytes)
}

fn read(live: Vec<ThreadReading>, exited: Vec<ThreadReading>) -> Reading {
    Reading { threads: live, exited, ..Reading::default() }
}

#[test]
fn threads_move_from_live_to_exited_without_loss() {
    let mut ledger = ledger(None);
    let now = Instant::now();
    let _ = ledger.apply(read(vec![thread(1, 7, 1, b"a", 10), thread(2, 7, 1, b"a", 5)], vec![]), now, &Nobody);
    assert_eq!(bytes(&ledger, 7), 15);
    let _ = ledger.apply(read(vec![thread(1, 7, 1, b"a", 12)], vec![thread(2, 7, 1, b"a", 6)]), now, &Nobody);
    assert_eq!(bytes(&ledger, 7), 18);
    let _ = ledger.apply(read(vec![], vec![thread(1, 7, 1, b"a", 13)]), now, &Nobody);
    assert_eq!(bytes(&ledger, 7), 19);
    let snapshot = ledger.snapshot(now, Duration::ZERO);
    assert!(snapshot.by_pid(7).unwrap().exited);
    assert_eq!(snapshot.groups["a"].get(9_u8), Cell { operations: 2, bytes: 19 });
}

#[test]
fn a_thread_that_one_reading_misses_is_counted_once() {
    let mut ledger = ledger(None);
    let now = Instant::now();
    let _ = ledger.apply(read(vec![thread(1, 7, 1, b"a", 10)], vec![]), now, &Nobody);
    let _ = ledger.apply(read(vec![], vec![]), now, &Nobody);
    assert_eq!(bytes(&ledger, 7), 10);
    assert!(!ledger.snapshot(now, Duration::ZERO).by_pid(7).unwrap().exited);
    let _ = ledger.apply(read(vec![thread(1, 7, 1, b"a", 12)], vec![]), now, &Nobody);
    assert_eq!(bytes(&ledger, 7), 12);
    let _ = ledger.apply(read(vec![], vec![thread(1, 7, 1, b"a", 13)]), now, &Nobody);
    assert_eq!(bytes(&ledger, 7), 13);
}

#[test]
fn shared_cells_are_summed_once_and_given_back_when_the_process_has_exited() {
    let mut ledger = ledger(None);
    let now = Instant::now();
    let key = SharedKey { process_start: 1, tgid: 7, cell: 9 };
    let shared = |bytes| vec![(key, Cell { operations: 1, bytes })];
    let live = Reading { shared: shared(100), ..read(vec![thread(1, 7, 1, b"a", 10)], vec![]) };
    assert_eq!(ledger.apply(live, now, &Nobody), []);
    assert_eq!(bytes(&ledger, 7), 110);
    let mut last = thread(1, 7, 1, b"a", 10);
    last.identity.flags = FLAG_GROUP_DEAD;
    let dead = Reading { shared: shared(150), ..read(vec![], vec![last]) };
    assert_eq!(ledger.apply(dead, now, &Nobody), [key]);
    assert_eq!(bytes(&ledger, 7), 160);
    // What came between the reading and the taking is in.
    ledger.close(vec![(key, Cell { operations: 2, bytes: 170 })]);
    assert_eq!(ledger.apply(read(vec![], vec![]), now, &Nobody), []);
    assert_eq!(bytes(&ledger, 7), 180);
}

#[test]
fn shared_cells_of_a_process_that_nothing_told_of_are_counted() {
    let mut ledger = ledger(None);
    let key = SharedKey { process_start: 1, tgid: 7, cell: 9 };
    let reading = Reading { shared: vec![(key, Cell { operations: 1, bytes: 5 })], ..Reading::default() };
    assert_eq!(ledger.apply(reading, Instant::now(), &Nobody), []);
    assert_eq!(bytes(&ledger, 7), 5);
    assert_eq!(ledger.snapshot(Instant::now(), Duration::ZERO).by_pid(7).unwrap().comm, "unknown");
    let reading = Reading { shared: vec![(key, Cell { operations: 2, bytes: 6 })], ..Reading::default() };
    assert_eq!(ledger.apply(reading, Instant::now(), &Nobody), [key], "nobody has seen it for two readings");
    assert_eq!(bytes(&ledger, 7), 6);
}

#[test]
fn system_calls_of_a_thread_without_a_ledger_are_counted() {
    let mut ledger = ledger(None);
    let key = SharedKey { process_start: 1, tgid: 7, cell: u32::from(CELL_CALLS) };
    let mut nameless = thread(0, 7, 1, b"a", 0);
    nameless.system_calls = 0;
    nameless.cells = None;
    let shared = vec![(key, Cell { operations: 30, bytes: 0 })];
    let reading = Reading { shared, ..read(vec![nameless], vec![]) };
    assert_eq!(ledger.apply(reading, Instant::now(), &Nobody), []);
    let snapshot = ledger.snapshot(Instant::now(), Duration::ZERO);
    assert_eq!(snapshot.by_pid(7).unwrap().counters, Counters::with_calls(30));
}

fn with_usage(mut thread: ThreadReading, voluntary: u64) -> ThreadReading {
    thread.usage = Usage { voluntary, involuntary: 1, minor_faults: 2, major_faults: 3 };
    thread
}

fn switches(ledger: &Ledger, tgid: u32) -> Cell {
    ledger.snapshot(Instant::now(), Duration::ZERO).by_pid(tgid).unwrap().counters.get(CELL_SWITCHES)
}

#[test]
fn what_the_kernel_counted_before_we_came_is_left_out() {
    let mut ledger = ledger(None);
    let old = |voluntary| with_usage(thread(1, 7, 1, b"a", 1), voluntary);
    let new = |voluntary| with_usage(thread(2, 8, 100, b"b", 1), voluntary);
    let reading = |old, new| Reading { attached_at: 50, ..read(vec![old, new], vec![]) };
    let _ = ledger.apply(reading(old(10), new(10)), Instant::now(), &Nobody);
    assert_eq!((switches(&ledger, 7).operations, switches(&ledger, 8).operations), (0, 10));
    let _ = ledger.apply(reading(old(12), new(13)), Instant::now(), &Nobody);
    assert_eq!((switches(&ledger, 7).operations, switches(&ledger, 8).operations), (2, 13));
    assert_eq!(ledger.snapshot(Instant::now(), Duration::ZERO).groups["a"].get(CELL_FAULTS), Cell::default());
}

#[test]
fn the_kernels_last_word_of_a_process_stands() {
    let mut ledger = ledger(None);
    let now = Instant::now();
    let _ = ledger.apply(read(vec![], vec![with_usage(thread(1, 7, 1, b"a", 1), 4)]), now, &Nobody);
    let key = SharedKey { process_start: 1, tgid: 7, cell: 0 };
    let last = Usage { voluntary: 6, involuntary: 0, minor_faults: 2, major_faults: 3 };
    let late = Reading { ended: vec![(key, last)], ..Reading::default() };
    let _ = ledger.apply(late, now, &Nobody);
    assert_eq!(switches(&ledger, 7), Cell { operations: 6, bytes: 1 });
    assert_eq!(ledger.snapshot(now, Duration::ZERO).groups["a"].get(CELL_SWITCHES).operations, 6);
}

#[test]
fn a_thread_that_gets_a_ledger_keeps_what_the_kernel_had_counted_of_it() {
    let mut ledger = ledger(None);
    let now = Instant::now();
    for id in [0, 0, 3] {
        let _ = ledger.apply(read(vec![with_usage(thread(id, 7, 1, b"a", 1), 4)], vec![]), now, &Nobody);
        assert_eq!(switches(&ledger, 7).operations, 4);
    }
    let _ = ledger.apply(read(vec![], vec![with_usage(thread(3, 7, 1, b"a", 1), 5)]), now, &Nobody);
    assert_eq!(switches(&ledger, 7).operations, 5);
}

#[test]
fn an_exited_threads_name_is_older_than_a_living_ones() {
    let mut ledger = ledger(None);
    let now = Instant::now();
    let reading = read(vec![thread(1, 7, 1, b"new", 1)], vec![thread(2, 7, 1, b"old", 1)]);
    let _ = ledger.apply(reading, now, &Nobody);
    assert_eq!(ledger.snapshot(now, Duration::ZERO).by_pid(7).unwrap().comm, "new");
}

#[test]
fn exited_processes_are_kept_within_their_number() {
    let mut ledger = ledger(Some(Duration::from_secs(600)));
    let now = Instant::now();
    let many = |from: u32| (from..from + 5000).map(|pid| thread(u64::from(pid), pid, 1, b"a", 1)).collect();
    let _ = ledger.apply(read(vec![], many(1)), now, &Nobody);
    let _ = ledger.apply(read(vec![], many(10_000)), now + Duration::from_secs(1), &Nobody);
    let snapshot = ledger.snapshot(now, Duration::ZERO);
    assert_eq!(snapshot.processes.len(), MAX_EXITED);
    assert!(snapshot.by_pid(10_000).is_some());
    assert_eq!(snapshot.groups["a"].get(9_u8).bytes, 10_000);
}

#[test]
fn a_thread_that_vanishes_takes_nothing_back() {
    let mut ledger = ledger(None);
    let now = Instant::now();
    let _ = ledger.apply(read(vec![thread(1, 7, 1, b"a", 10), thread(2, 7, 1, b"a", 5)], vec![]), now, &Nobody);
    let _ = ledger.apply(read(vec![thread(1, 7, 1, b"a", 10)], vec![]), now, &Nobody);
    assert_eq!(bytes(&ledger, 7), 15);
    let _ = ledger.apply(read(vec![thread(1, 7, 1, b"a", 20)], vec![]), now, &Nobody);
    assert_eq!(bytes(&ledger, 7), 25);
}

#[test]
fn a_pid_used_again_is_another_process_and_the_group_goes_on() {
    let mut ledger = ledger(Some(Duration::from_secs(60)));
    let now = Instant::now();
    let _ = ledger.apply(read(vec![], vec![thread(1, 7, 1, b"a", 10)]), now, &Nobody);
    let _ = ledger.apply(read(vec![thread(2, 7, 2, b"a", 3)], vec![]), now, &Nobody);
    assert_eq!(bytes(&ledger, 7), 3);
    let later = now + Duration::from_secs(61);
    let _ = ledger.apply(read(vec![thread(2, 7, 2, b"a", 4)], vec![]), later, &Nobody);
    let snapshot = ledger.snapshot(later, Duration::ZERO);
    assert_eq!(snapshot.processes.len(), 1);
    assert_eq!(snapshot.groups["a"].get(9_u8).bytes, 14);
}

#[test]
fn a_renamed_process_gives_only_what_is_new_to_its_new_group() {
    let mut ledger = ledger(None);
    let now = Instant::now();
    let _ = ledger.apply(read(vec![thread(1, 7, 1, b"a", 10)], vec![]), now, &Nobody);
    let _ = ledger.apply(read(vec![thread(1, 7, 1, b"b", 15)], vec![]), now, &Nobody);
    let groups = ledger.snapshot(now, Duration::ZERO).groups;
    assert_eq!((groups["a"].get(9_u8).bytes, groups["b"].get(9_u8).bytes), (10, 5));
}
