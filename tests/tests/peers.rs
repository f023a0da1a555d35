//! Peers: with whom sockets talk, byte for byte.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;
use zc_tests::stage::{Helper, SETTINGS, agent};
use zcprof::agent::Agent;
use zcprof::ledger::{ProcessKey, Settings};
use zcprof::model::Catalogue;

const ACTOR: &str = env!("CARGO_BIN_EXE_actor");

/// Sent, received and operations, by protocol and address.
type Talk = BTreeMap<(String, Option<String>), [u64; 3]>;

fn said(notes: &Value) -> Option<Talk> {
    let of = |one: &Value| -> Option<_> {
        let counts = one[2].as_array()?.iter().map(Value::as_u64).collect::<Option<Vec<_>>>()?;
        Some(((one[0].as_str()?.to_owned(), one[1].as_str().map(ToOwned::to_owned)), counts.try_into().ok()?))
    };
    notes["peers"].as_array()?.iter().map(of).collect()
}

fn counted(key: ProcessKey) -> Result<Talk> {
    let peers = agent().peers()?.context("the probe `peers` is not attached")?.sum([key].into_iter());
    let of = |(peer, it): (zcprof::ledger::Peer, zc_common::peers::PeerTraffic)| {
        ((peer.protocol.to_owned(), peer.address), [it.sent, it.received, it.operations])
    };
    Ok(peers.into_iter().map(of).collect())
}

/// Runs a scenario between its two stops, and compares all its peers with what it says. Nothing is sent before.
fn check(scenario: &str) -> Result<()> {
    let mut helper = Helper::start(ACTOR, &[scenario])?;
    helper.wait_stopped()?;
    let key = helper.observe(agent())?.key;
    assert_eq!(counted(key)?, Talk::new(), "{scenario}: before");
    helper.proceed()?;
    helper.wait_stopped()?;
    let counted = counted(key)?;
    let report = helper.finish()?;
    assert_eq!(counted, said(&report.notes).context("nothing was said")?, "{scenario}: counted (left), done (right)");
    Ok(())
}

macro_rules! scenarios {
    ($($name:ident $scenario:literal)*) => { $(#[test] fn $name() -> Result<()> { check($scenario) })* };
}

scenarios! {
    tcp "peers_tcp"
    tcp_over_ipv6 "peers_tcp6"
    ipv4_over_sockets_of_ipv6_is_ipv4 "peers_tcp_mapped"
    calls_name_udps_peers "peers_udp"
    calls_name_udps_peers_over_ipv6 "peers_udp6"
    connected_udp "peers_udp_connected"
    each_message_has_its_peer "peers_messages"
    unix_sockets_by_path_by_abstract_name_and_without "peers_unix"
    unix_datagrams "peers_unix_datagrams"
    peers_are_told_apart "peers_many"
    io_urings_peers "peers_uring"
    sendfile_and_splice_have_peers "peers_moved_by_the_kernel"
    pipes_and_files_have_none "peers_none"
}

#[test]
fn what_a_forgotten_process_has_left_is_forgotten() -> Result<()> {
    let settings = Settings { retain: Some(Duration::ZERO), ..SETTINGS };
    let agent = Agent::start(Catalogue::default(), settings)?;
    let mut helper = Helper::start(ACTOR, &["peers_unix"])?;
    helper.wait_stopped()?;
    let key = helper.observe(&agent)?.key;
    helper.proceed()?;
    helper.wait_stopped()?;
    let known = || -> Result<bool> { Ok(agent.observe()?.by_key(key).is_some()) };
    let peers = || -> Result<usize> { Ok(agent.peers()?.context("not attached")?.sum([key].into_iter()).len()) };
    assert!(known()? && peers()? == 5, "two paths, two abstract names, and a socketpair");
    helper.finish()?;
    let begun = Instant::now();
    while known()? {
        assert!(begun.elapsed() < Duration::from_secs(30), "the process is not forgotten");
    }
    assert_eq!(peers()?, 0);
    Ok(())
}
