//! Profiles as text. Pure.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};
use zc_common::hop::{Direction, Mover};
use zc_common::path::{PathId, ROWS};

use crate::model::{Basis, HopBytes, PathProfile, PeerBytes, ProcessInfo, Profile};

/// Processes that are named one by one; a build may have thousands.
const NAMED: usize = 12;

const FOOTNOTE: &str = "-  no probe sees this here: `zcprof probes` says why\n";

/// A profile for people.
pub(super) fn profile(profile: &Profile) -> String {
    let mut text = match profile.window_seconds {
        Some(seconds) => format!("Copy profile over {seconds:.1} s\n"),
        None => "Copy profile since the start\n".to_owned(),
    };
    processes(&mut text, &profile.processes);
    text.push('\n');
    if profile.paths.is_empty() {
        text.push_str("No bytes moved by any path that is counted.\n");
    } else {
        text.push_str(&paths(&profile.paths));
    }
    text.push('\n');
    if let Some(peers) = profile.peers.as_deref().filter(|peers| !peers.is_empty()) {
        text.push_str(&peer_table(peers));
        text.push('\n');
    }
    text.push_str(&totals(profile));
    text
}

fn processes(text: &mut String, all: &[ProcessInfo]) {
    for process in all.iter().take(NAMED) {
        let name = sanitize(process.exe.as_deref().unwrap_or(&process.comm));
        let comm = sanitize(&process.comm);
        let exited = if process.exited { ", exited" } else { "" };
        let _ = writeln!(text, "  {comm} (pid {}{exited})  {name}", process.pid);
    }
    if all.len() > NAMED {
        let _ = writeln!(text, "  … and {} more processes", all.len() - NAMED);
    }
}

/// The table of paths: exact bytes.
pub(super) fn paths(paths: &[PathProfile]) -> String {
    let header = ["PATH", "OPERATIONS", "PAYLOAD", "TO USER", "FROM USER", "IN KERNEL", "BY REFERENCE", "BASIS"];
    let rows = paths.iter().map(|path| {
        let copied = |direction| copied_in(path, direction).to_string();
        vec![
            path.id.clone(),
            path.operations.to_string(),
            path.bytes.to_string(),
            copied(Direction::ToUser),
            copied(Direction::FromUser),
            copied(Direction::InKernel),
            path.referenced_bytes.to_string(),
            match path.basis {
                Basis::Modelled => "modelled",
                Basis::Observed => "observed",
            }
            .to_owned(),
        ]
    });
    table(&header, rows, 1..7)
}

/// The other sides of sockets. Names are their binders' own choice.
fn peer_table(peers: &[PeerBytes]) -> String {
    let rows = peers.iter().map(|peer| {
        vec![
            peer.protocol.clone(),
            peer.address.as_deref().map_or_else(|| "(no name)".to_owned(), sanitize),
            peer.operations.to_string(),
            peer.sent_bytes.to_string(),
            peer.received_bytes.to_string(),
        ]
    });
    table(&["PROTOCOL", "PEER", "OPERATIONS", "SENT", "RECEIVED"], rows, 2..5)
}

/// Plain columns, those in `numbers` to the right.
pub(super) fn table(
    header: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
    numbers: std::ops::Range<usize>,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header.to_vec()).add_rows(rows);
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if numbers.contains(&at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

fn copied_in(path: &PathProfile, wanted: Direction) -> u64 {
    path.hops.iter().filter(|hop| direction_of(path, hop) == Some(wanted)).map(|hop| hop.bytes).sum()
}

/// A profile names a hop's ends, which don't always tell its direction (process_vm_*: user to user); the path's row
/// does.
fn direction_of(path: &PathProfile, hop: &HopBytes) -> Option<Direction> {
    // What probes see beside the row is copied in the kernel.
    if hop.basis == Basis::Observed {
        return (hop.mover == "cpu").then_some(Direction::InKernel);
    }
    let id = PathId::parse(&path.id)?;
    let mut hops = ROWS.iter().filter(|row| row.id() == id).flat_map(|row| row.hops);
    hops.find_map(|of| match of.mover {
        Mover::Cpu(direction)
            if of.mover.name() == hop.mover && of.from.name() == hop.from && of.to.name() == hop.to =>
        {
            Some(direction)
        }
        _ => None,
    })
}

fn totals(profile: &Profile) -> String {
    let Profile { copied_bytes: copied, dma_bytes: dma, page_cache: cache, network, .. } = profile;
    let mut lines = vec![
        ("delivered", bytes(profile.delivered_bytes)),
        (
            "copied",
            format!(
                "{}: {} to user, {} from user, {} in kernel",
                bytes(copied.total()),
                copied.to_user,
                copied.from_user,
                copied.in_kernel
            ),
        ),
        ("by reference", bytes(profile.referenced_bytes)),
        ("copies per byte", profile.copies_per_byte.map_or("nothing delivered".to_owned(), |it| format!("{it:.3}"))),
        (
            "mode switches",
            format!(
                "{} by system calls, {} by page faults",
                profile.mode_switches.system_calls,
                known(profile.mode_switches.page_faults)
            ),
        ),
        (
            "context switches",
            format!(
                "{} voluntary, {} involuntary",
                known(profile.context_switches.voluntary),
                known(profile.context_switches.involuntary)
            ),
        ),
        (
            "page faults",
            format!("{} minor, {} major", known(profile.page_faults.minor), known(profile.page_faults.major)),
        ),
        (
            "page cache",
            format!(
                "{} requested, {} missed, {} read ahead",
                known(cache.requested_bytes),
                known(cache.missed_bytes),
                known(cache.read_ahead_bytes)
            ),
        ),
        (
            "by DMA",
            format!(
                "{} disk read, {} disk written, {} NIC sent, {} NIC received",
                known(dma.disk_read),
                known(dma.disk_write),
                known(dma.nic_transmit),
                known(dma.nic_receive)
            ),
        ),
        (
            "network devices",
            format!(
                "{} sent ({} in pages, {} to virtual devices), {} made linear, {} copied after all, {} sent again",
                known(network.transmitted_bytes),
                known(network.paged_bytes),
                known(network.virtual_bytes),
                known(network.linearized_bytes),
                known(network.copied_after_all_bytes),
                known(network.retransmitted_bytes)
            ),
        ),
        ("could pass through", pass_through(profile)),
    ];
    if profile.enciphered_bytes > 0 {
        lines.push(("enciphered", bytes(profile.enciphered_bytes)));
    }
    if let Some(cost) = profile.copy_cost {
        let cost = format!("{:.3} s at {}/s (modelled)", cost.cpu_seconds, bytes(cost.bytes_per_second));
        lines.insert(2, ("copies took", cost));
    }
    if profile.mmap.calls > 0 {
        let mapped = profile.mmap.mapped_bytes.map_or_else(|| "-".to_owned(), bytes);
        let asked = format!(
            "{} asked for in {} calls, {mapped} mapped",
            bytes(profile.mmap.requested_bytes),
            profile.mmap.calls
        );
        lines.push(("mmap of files", asked));
    }
    let lost = &profile.lost;
    if lost.unclassified_operations > 0 {
        let of = format!("{} in {} operations", bytes(lost.unclassified_bytes), lost.unclassified_operations);
        lines.push(("unclassified", of));
    }
    if lost.events > 0 {
        let lost = format!("{} lost on this host: short-lived descendants may be missing or unnamed", lost.events);
        lines.push(("lifecycle events", lost));
    }
    let mut text = String::new();
    for (name, value) in lines {
        let _ = writeln!(text, "{name:<20}{value}");
    }
    if has_unknown(profile) {
        let _ = write!(text, "\n{FOOTNOTE}");
    }
    text
}

fn pass_through(profile: &Profile) -> String {
    match &profile.pass_through {
        None => "-".to_owned(),
        Some(all) => bytes(all.iter().map(|one| one.bytes).sum()),
    }
}

fn has_unknown(profile: &Profile) -> bool {
    let Profile { dma_bytes: dma, page_cache: cache, .. } = profile;
    [
        profile.mode_switches.page_faults,
        profile.context_switches.voluntary,
        profile.context_switches.involuntary,
        profile.page_faults.minor,
        profile.page_faults.major,
        cache.requested_bytes,
        cache.missed_bytes,
        cache.read_ahead_bytes,
        dma.disk_read,
        dma.disk_write,
        dma.nic_transmit,
        dma.nic_receive,
        profile.network.transmitted_bytes,
    ]
    .contains(&None)
        || profile.pass_through.is_none()
}

fn known(figure: Option<u64>) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string())
}

/// `64.0 MiB (67108864)`.
pub(super) fn bytes(count: u64) -> String {
    if count < 1024 {
        format!("{count} B")
    } else {
        format!("{} ({count})", bytesize::ByteSize::b(count).display().iec())
    }
}

/// Names are the processes' own choice; what could steer a terminal is shown, not sent.
pub(super) fn sanitize(name: &str) -> String {
    let steers = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut clean = String::with_capacity(name.len());
    for c in name.chars() {
        if steers(c) {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    clean
}

#[cfg(test)]
pub(super) mod tests {
    use zc_common::path::Condition;
    use zc_common::record::Cell;

    use super::*;
    use crate::ledger::Counters;
    use crate::model::Catalogue;

    fn of(cells: &[(&str, u64)]) -> Profile {
        let catalogue = Catalogue::default();
        let mut counters = Counters::with_calls(10);
        for &(id, bytes) in cells {
            let cell = catalogue.cell(PathId::parse(id).unwrap(), Condition::Always).unwrap();
            counters.add_cell(cell, Cell { operations: 2, bytes });
        }
        let process = ProcessInfo {
            pid: 7,
            tgid_start: 70,
            comm: "c\u{1b}[31mat".to_owned(),
            exe: None,
            cgroup: None,
            unit: None,
            container: None,
            exited: true,
        };
        crate::model::profile(&catalogue, vec![process], &counters, None, 0)
    }

    /// A process that read 64 MiB of a file.
    pub(in crate::cli) fn sample() -> Profile {
        of(&[("read:file:user", 67_108_864)])
    }

    #[test]
    fn a_profile_shows_exact_and_readable_bytes_and_what_is_unknown() {
        let text = profile(&sample());
        for part in [
            "since the start",
            "c\\u{1b}[31mat (pid 7, exited)",
            "read:file:user           2  67108864  67108864          0          0             0  modelled\n",
            "delivered           64.0 MiB (67108864)\n",
            "copies per byte     1.000\n",
            "mode switches       20 by system calls, - by page faults\n",
            "zcprof probes",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn directions_come_from_the_row_where_the_ends_do_not_tell() {
        let found = of(&[("process_vm_read:user:user", 5), ("process_vm_write:user:user", 7)]);
        let sum = |direction| found.paths.iter().map(|path| copied_in(path, direction)).collect::<Vec<_>>();
        assert_eq!(sum(Direction::ToUser), [0, 5]);
        assert_eq!(sum(Direction::FromUser), [7, 0]);
    }

    #[test]
    fn every_copied_byte_of_every_row_has_its_direction() {
        for row in ROWS.iter().filter(|row| row.condition == Condition::Always) {
            let found = of(&[(&row.id().to_string(), 100)]);
            let by_direction: u64 = Direction::ALL.iter().map(|&it| copied_in(&found.paths[0], it)).sum();
            assert_eq!(by_direction, found.paths[0].copied_bytes, "{}", row.id());
        }
    }

    #[test]
    fn peers_are_named_and_can_not_steer_a_terminal() {
        let mut found = sample();
        assert!(!profile(&found).contains("PEER"));
        let peer = |address: Option<&str>| PeerBytes {
            protocol: "unix".to_owned(),
            address: address.map(ToOwned::to_owned),
            sent_bytes: 5,
            received_bytes: 6,
            operations: 2,
        };
        found.peers = Some(vec![peer(Some("/a\u{1b}[2J\n\"")), peer(None)]);
        let text = profile(&found);
        for part in ["unix      /a\\u{1b}[2J\\n\"           2     5         6\n", "(no name)"] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn nothing_moved_says_so() {
        assert!(profile(&of(&[])).contains("No bytes moved"));
    }

    #[test]
    fn many_processes_are_not_all_named() {
        let mut many = sample();
        many.processes = vec![many.processes[0].clone(); 20];
        assert!(profile(&many).contains("… and 8 more processes"));
    }

    #[test]
    fn names_can_not_steer_a_terminal() {
        assert_eq!(sanitize("a\nb\u{7f}\u{202e}ü"), "a\\nb\\u{7f}\\u{202e}ü");
        assert_eq!(bytes(1023), "1023 B");
    }
}
