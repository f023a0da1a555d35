//! Pass-through: exactly the bytes that are written out from where they had been read into.

use anyhow::{Context as _, Result};
use zc_common::passed;
use zc_tests::stage::{Helper, agent};

const ACTOR: &str = env!("CARGO_BIN_EXE_actor");

/// Runs a scenario between its two stops, and compares every pair of source and sink with what it says.
fn check(scenario: &str) -> Result<()> {
    let agent = agent();
    let mut helper = Helper::start(ACTOR, &[scenario])?;
    helper.wait_stopped()?;
    let before = helper.observe(agent)?;
    helper.proceed()?;
    helper.wait_stopped()?;
    let after = helper.observe(agent)?;
    let (counted, report) = (after.counters.since(&before.counters), helper.finish()?);
    for (source, sink, cell) in passed::pairs() {
        let expected = report.notes.get(format!("{source}:{sink}")).and_then(serde_json::Value::as_u64).unwrap_or(0);
        assert_eq!(counted.get(cell).bytes, expected, "{scenario}: from {source} to {sink}");
    }
    report.notes.get("file:file").map(drop).context("nothing was said")
}

macro_rules! scenarios {
    ($($name:ident $scenario:literal)*) => { $(#[test] fn $name() -> Result<()> { check($scenario) })* };
}

scenarios! {
    whole_buffers_pass "pass_whole"
    parts_of_a_buffer_pass "pass_in_parts"
    segments_pass_in_any_order "pass_in_segments"
    a_ring_passes_byte_for_byte "pass_around_a_ring"
    another_thread_may_write "pass_between_threads"
    large_reads_pass_in_parts "pass_large_reads"
    many_reads_pass_in_one_write "pass_large_writes"
    single_bytes_pass "pass_byte_by_byte"
    io_uring_passes "pass_by_uring"
    sockets_pass "pass_between_sockets"
    copies_do_not_pass "pass_elsewhere"
    the_last_to_be_read_passes "pass_overwritten"
    gaps_do_not_pass "pass_with_gaps"
    a_childs_memory_is_its_own "pass_in_child"
}
