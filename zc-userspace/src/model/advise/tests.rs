//! What is told, what is not, and why.

use zc_common::passed;
use zc_common::path::PathId;
use zc_common::record::{Cell, FIRST_NET_CELL, NET_VIRTUAL};

use super::*;
use crate::kernel::{NET, PASS_THROUGH};
use crate::ledger::Counters;
use crate::model::profile;

const MIB: u64 = 1 << 20;

fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::default();
    catalogue.sees.insert(PASS_THROUGH);
    catalogue.sees.insert(NET);
    catalogue
}

fn count(counters: &mut Counters, id: &str, operations: u64, bytes: u64) {
    let cell = catalogue().cell(PathId::parse(id).unwrap(), Condition::Always).unwrap();
    counters.add_cell(cell, Cell { operations, bytes });
}

fn passed(counters: &mut Counters, source: Endpoint, sink: Endpoint, operations: u64, bytes: u64) {
    let (_, _, cell) = passed::pairs().find(|(from, to, _)| (*from, *to) == (source, sink)).unwrap();
    counters.add_cell(cell, Cell { operations, bytes });
}

fn advice(counters: &Counters) -> Vec<Advice> {
    let catalogue = catalogue();
    advise(&catalogue, &profile(&catalogue, Vec::new(), counters, None, 0), None)
}

/// A process that reads `read` bytes from here, writes `written` there, and of those `through` from where they came.
fn relay(source: Endpoint, sink: Endpoint, read: u64, written: u64, through: u64) -> Vec<Advice> {
    let mut counters = Counters::default();
    count(&mut counters, &format!("read:{source}:user"), 16, read);
    count(&mut counters, &format!("write:user:{sink}"), 16, written);
    passed(&mut counters, source, sink, 16, through);
    let all = advice(&counters);
    all.into_iter().filter(|one| one.source == source.name()).collect()
}

#[test]
fn a_file_that_is_sent_by_read_and_write_is_told() {
    let all = relay(Endpoint::File, Endpoint::Tcp, MIB, MIB, MIB);
    let [one] = &all[..] else { panic!("{all:?}") };
    assert_eq!(
        (one.advised, one.call.as_deref(), &one.paths[..]),
        (true, Some("sendfile"), &["sendfile:file:tcp".to_owned()][..])
    );
    assert_eq!((one.saved_copied_bytes, one.saved_mode_switches, one.candidate_bytes), (2 * MIB, 32, MIB));
}

#[test]
fn the_call_depends_on_both_ends() {
    for (source, sink, call, copies) in [
        (Endpoint::File, Endpoint::File, "copy_file_range", 1),
        (Endpoint::Tcp, Endpoint::Tcp, "splice", 2),
        (Endpoint::Pipe, Endpoint::File, "splice", 1),
        (Endpoint::Tcp, Endpoint::Pipe, "splice", 2),
    ] {
        let all = relay(source, sink, MIB, MIB, MIB);
        let [one] = &all[..] else { panic!("{source} to {sink}: {all:?}") };
        assert_eq!((one.call.as_deref(), one.saved_copied_bytes), (Some(call), copies * MIB), "{source} to {sink}");
    }
}

#[test]
fn what_no_call_moves_is_not_advised() {
    for (source, sink, why) in [
        (Endpoint::Udp, Endpoint::Tcp, "datagrams"),
        (Endpoint::Other, Endpoint::Device, "sendfile would copy as often"),
    ] {
        let all = relay(source, sink, MIB, MIB, MIB);
        let [one] = &all[..] else { panic!("{all:?}") };
        assert!(!one.advised && one.call.is_none() && one.reason.starts_with(why), "{one:?}");
    }
}

#[test]
fn other_buffers_other_sizes_and_libraries_are_reasons_against() {
    let reason = |all: Vec<Advice>| {
        let [one] = &all[..] else { panic!("{all:?}") };
        assert!(!one.advised && one.saved_copied_bytes == 0, "{one:?}");
        one.reason.clone()
    };
    assert!(reason(relay(Endpoint::File, Endpoint::Tcp, MIB, MIB, MIB / 8)).starts_with("other buffers"));
    assert!(reason(relay(Endpoint::File, Endpoint::File, MIB, MIB / 3, 0)).starts_with("other sizes"));
    let mut counters = Counters::default();
    count(&mut counters, "read:file:user", 1, MIB);
    count(&mut counters, "write:user:tcp", 1, MIB);
    let catalogue = catalogue();
    let all = advise(&catalogue, &profile(&catalogue, Vec::new(), &counters, None, 0), Some("libssl.so.3"));
    assert!(all.iter().any(|one| one.source == "file" && one.reason.contains("libssl.so.3")), "{all:?}");
}

#[test]
fn little_is_not_worth_a_word_and_what_is_read_besides_neither() {
    assert_eq!(relay(Endpoint::File, Endpoint::Tcp, 1000, 1000, 1000), []);
    // Configuration files of a server that sends something else.
    assert_eq!(relay(Endpoint::File, Endpoint::Tcp, MIB / 8, 10 * MIB, 0), []);
}

#[test]
fn what_goes_out_twice_counts_once_for_each_sink() {
    let all = relay(Endpoint::Tcp, Endpoint::Tcp, MIB, 10 * MIB, 10 * MIB);
    assert_eq!(all[0].candidate_bytes, MIB);
}

#[test]
fn a_mapping_that_is_written_could_be_sent() {
    let mut counters = Counters::default();
    count(&mut counters, "write:mapping:tcp", 4, MIB);
    let all = advice(&counters);
    let [one] = &all[..] else { panic!("{all:?}") };
    assert_eq!((one.advised, one.call.as_deref(), one.saved_copied_bytes), (true, Some("sendfile"), MIB));
}

#[test]
fn zero_copy_sends_are_advised_only_where_the_device_gathers() {
    let sends = |place: usize, paged: u64| {
        let mut counters = Counters::default();
        count(&mut counters, "write:user:tcp", 16, MIB);
        counters.add_cell(FIRST_NET_CELL + place as u16, Cell { operations: paged, bytes: MIB + 1000 });
        let [one] = &advice(&counters)[..] else { panic!() };
        (one.advised, one.reason.clone())
    };
    assert!(sends(0, MIB).0);
    assert!(!sends(0, 0).0 && sends(0, 0).1.contains("does not gather"));
    assert!(!sends(NET_VIRTUAL, MIB).0 && sends(NET_VIRTUAL, MIB).1.contains("receivers on this host"));
}

#[test]
fn who_hands_pages_over_already_or_enciphers_is_not_told_to() {
    let sends = |id: &str, library: Option<&str>| {
        let mut counters = Counters::default();
        count(&mut counters, id, 16, MIB);
        counters.add_cell(FIRST_NET_CELL, Cell { operations: MIB, bytes: MIB });
        let catalogue = catalogue();
        advise(&catalogue, &profile(&catalogue, Vec::new(), &counters, None, 0), library)
    };
    assert!(sends("write:user:tcp", None)[0].advised);
    assert_eq!(sends("zerocopy_send:user:tcp", None), []);
    let all = sends("write:user:tcp", Some("libssl.so.3"));
    assert!(!all[0].advised && all[0].reason.contains("libssl.so.3"), "{all:?}");
}
