//! A fixed snapshot for the exporters' tests: no kernel.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use zc_common::path::{Condition, Endpoint, Mechanism, PathId};
use zc_common::peers::{self, PeerKey, PeerTraffic, UnixName};
use zc_common::record::{CELL_NO_BUFFER, Cell};

use super::About;
use super::rules::Rule;
use crate::kernel::{Devices, FallbackReading, PeersReading, ProbeRuns, ProbeStatus};
use crate::ledger::{Counters, GroupBy, Peers, Process, ProcessKey, Selector, Snapshot};
use crate::model::{Catalogue, Claim};

/// A command name that tries everything: quotes, line breaks, an escape, HTML, and a replaced byte.
pub(super) const HOSTILE: &str = "</script>\"\n\\\u{1b}[2J\u{fffd}'&";

pub(super) fn about() -> About {
    let probe = |name, attached: bool| ProbeStatus {
        name,
        attached,
        reason: (!attached).then(|| "not in this build".to_owned()),
        minimum_kernel: "6.1",
        provides: "",
    };
    About {
        catalogue: Catalogue::default(),
        probes: vec![probe("sys_exit", true), probe("net", false)],
        kernel: "6.1.0-test".to_owned(),
        group_by: GroupBy::Comm,
        rules: vec![rule()],
    }
}

/// nginx sends files by sendfile, which is true of 9 bytes of 10.
fn rule() -> Rule {
    let claim = Claim {
        mechanism: Mechanism::Sendfile,
        source: Some(Endpoint::File),
        sink: Some(Endpoint::Tcp),
        min_share: 0.4,
    };
    let selector = Selector::Comm("nginx".to_owned());
    Rule { name: "nginx sends".to_owned(), selector, claim, window: Duration::from_secs(60) }
}

/// Ten system calls, and one operation on each path.
pub(super) fn counters(cells: &[(&str, u64)]) -> Counters {
    let catalogue = Catalogue::default();
    let mut counters = Counters::with_calls(10);
    for &(id, bytes) in cells {
        let id = PathId::parse(id).unwrap();
        let cell = catalogue.cell(id, Condition::Asked).or_else(|| catalogue.cell(id, Condition::Always)).unwrap();
        counters.add_cell(cell, Cell { operations: 1, bytes });
    }
    counters
}

fn process(tgid: u32, parent: Option<u32>, comm: &str, counters: Counters) -> Arc<Process> {
    let key = |tgid: u32| ProcessKey { tgid, start: u64::from(tgid) * 10 };
    Arc::new(Process {
        key: key(tgid),
        parent: parent.map(key),
        comm: comm.to_owned(),
        exe: Some(format!("/usr/sbin/{comm}")),
        cgroup: Some(format!("/system.slice/{comm}.service")),
        unit: Some(format!("{comm}.service")),
        container: None,
        exited: tgid == 40,
        exited_at: None,
        counters,
    })
}

/// Peers of nginx: one at an address, one that is named to do harm, and one without a name.
pub(super) fn peers() -> Peers {
    let key = |protocol, address, port| PeerKey { process_start: 100, address, tgid: 10, port, protocol };
    let traffic = |sent, received| PeerTraffic { sent, received, operations: 4 };
    let mut name = UnixName { key: [1, 1], length: HOSTILE.len() as u64, text: Default::default() };
    for (at, byte) in HOSTILE.bytes().enumerate() {
        name.text[at / 8] |= u64::from(byte) << (at % 8 * 8);
    }
    let address = u64::from_ne_bytes([0, 0, 0xff, 0xff, 10, 0, 0, 1]);
    Peers::of(&PeersReading {
        traffic: vec![
            (key(peers::TCP, [0, address], 443), traffic(5, 6)),
            (key(peers::UNIX, [1, 1], 0), traffic(0, 100)),
            (key(peers::UNIX, [0, 0], 0), traffic(1, 0)),
        ],
        names: HashMap::from([(name.key, name)]),
    })
}

/// nginx and its worker, a reader that has exited, and one that is named to do harm.
pub(super) fn snapshot() -> Snapshot {
    let mut nginx = counters(&[("sendfile:file:tcp", 900), ("write:user:tcp", 100), ("mmap:file:mapping", 4096)]);
    nginx.add_cell(CELL_NO_BUFFER, Cell { operations: 1, bytes: 7 });
    let file = Catalogue::default().cell(PathId::parse("read:file:user").unwrap(), Condition::Always).unwrap();
    Snapshot {
        taken: Instant::now(),
        duration: Duration::from_millis(1),
        processes: vec![
            process(10, None, "nginx", nginx.clone()),
            process(20, Some(10), "worker", counters(&[("write:user:tcp", 1000)])),
            process(30, None, HOSTILE, Counters::default()),
            process(40, None, "cat", counters(&[("read:file:user", 500)])),
        ],
        groups: BTreeMap::from([
            ("nginx".to_owned(), nginx),
            ("worker".to_owned(), counters(&[("write:user:tcp", 1000)])),
            (HOSTILE.to_owned(), Counters::with_calls(1)),
        ]),
        fallback: FallbackReading {
            system_calls: 3,
            events_lost: 5,
            threads: 1,
            without_ledger: 2,
            evicted: 4,
            cells: vec![(file.into(), Cell { operations: 1, bytes: 50 })],
        },
        devices: Devices { disks: vec!["vda".to_owned()], network: vec!["eth0".to_owned()] },
        runs: vec![ProbeRuns { probe: "sys_exit", runs: 7, time: Duration::from_millis(250) }],
    }
}
