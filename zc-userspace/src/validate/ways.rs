//! The textbook's table, measured: each way of sending a file, cold and warm, through each kind of network device.

use std::io::Read as _;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::{Deserialize, Serialize};

use super::Plan;
use super::child::{Guard, counters_of, go_on, said, wait_for_gate};
use crate::agent::Agent;
use crate::kernel::kernel_release;
use crate::model::{Profile, profile};
use crate::workload::way::{self, Devices, Line, Way};

/// What the textbook says of a way, for one operation and for each byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// System calls.
    pub system_calls: u8,
    /// Mode switches.
    pub mode_switches: u8,
    /// Copies by the CPU.
    pub cpu_copies: u8,
    /// Copies by DMA: from the disk, and to the network.
    pub dma_copies: u8,
}

/// A way under one circumstance: what the textbook claims and what happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WayRow {
    /// The way: read-write, mmap-write, sendfile, splice, direct.
    pub way: String,
    /// Whether the page cache had none of the file before.
    pub cold: bool,
    /// What lies between the sockets; null where nothing is sent.
    pub device: Option<String>,
    /// The textbook; null where it says nothing.
    pub textbook: Option<Claim>,
    /// Bytes of the file.
    pub bytes: u64,
    /// Operations, each of at most a chunk.
    pub operations: u64,
    /// Bytes that the CPU copied, without those that were sent again.
    pub copied_bytes: u64,
    /// The part of them that probes saw.
    pub observed_bytes: u64,
    /// Bytes handed over by reference.
    pub referenced_bytes: u64,
    /// Bytes that disks read; null where no probe sees them.
    pub disk_bytes: Option<u64>,
    /// Bytes that physical network devices sent; null where no probe sees them.
    pub nic_bytes: Option<u64>,
    /// Mode switches by system calls.
    pub call_switches: u64,
    /// Mode switches by page faults; null where no probe sees them.
    pub fault_switches: Option<u64>,
    /// Copies by the CPU of each byte that this kernel is known to make here; null if the way could not be gone.
    pub expected_cpu_copies: u8,
    /// Whether the bytes copied are those, and the disk's bytes as the cache lets expect; null if it could not be gone.
    pub exact: Option<bool>,
    /// Where the textbook and this kernel differ, or why it could not be gone.
    pub note: String,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextbookReport {
    /// The kernel's release.
    pub kernel: String,
    /// The ways.
    pub textbook: Vec<WayRow>,
    /// Whether all that could be gone are exact.
    pub exact: bool,
}

/// Cold reads may fetch this much beside the file: its blocks' places.
const METADATA: u64 = 2 << 20;
const LINES: [Line; 4] = [Line::Loopback, Line::Veth, Line::VethLinear, Line::Devices];

impl Way {
    const SENT: [Self; 5] = [Self::ReadWrite, Self::MmapWrite, Self::Sendfile, Self::Splice, Self::ReadZerocopy];

    const fn name(self) -> &'static str {
        match self {
            Self::ReadWrite => "read-write",
            Self::MmapWrite => "mmap-write",
            Self::Sendfile => "sendfile",
            Self::Splice => "splice",
            Self::ReadZerocopy => "read-zerocopy",
            Self::Direct => "direct",
        }
    }

    /// The textbook's table (docs/paths.md has the paths); of MSG_ZEROCOPY it says nothing.
    const fn claim(self, line: Option<Line>) -> Option<Claim> {
        let (system_calls, mode_switches, cpu_copies, dma_copies) = match self {
            Self::ReadWrite => (2, 4, 2, 2),
            Self::MmapWrite => (2, 4, 1, 2),
            Self::Sendfile if matches!(line, Some(Line::VethLinear)) => (1, 2, 1, 2),
            Self::Sendfile => (1, 2, 0, 2),
            Self::Splice => (1, 2, 0, 2),
            Self::Direct => (1, 2, 0, 1),
            Self::ReadZerocopy => return None,
        };
        Some(Claim { system_calls, mode_switches, cpu_copies, dma_copies })
    }

    /// Copies by the CPU of each byte, as measured with breakpoints on 6.1 and 6.12.
    const fn copies(self, line: Option<Line>) -> u8 {
        let own = match self {
            Self::ReadWrite => 2,
            Self::MmapWrite | Self::ReadZerocopy => 1,
            Self::Sendfile | Self::Splice | Self::Direct => 0,
        };
        // What is handed over to a receiver on the same host is copied after all.
        let in_vain = matches!(self, Self::ReadZerocopy) && !matches!(line, Some(Line::Devices));
        own + if matches!(line, Some(Line::VethLinear)) || in_vain { 1 } else { 0 }
    }
}

/// Goes all ways, through the given devices, too.
///
/// # Errors
/// If there is no room for the file.
pub fn run(
    agent: &Agent,
    plan: &Plan,
    devices: Option<&Devices>,
    finished: &dyn Fn(usize, usize),
) -> Result<TextbookReport> {
    let file = way::file(&plan.request.directory, plan.request.bytes)?;
    let lines = LINES.iter().filter(|line| **line != Line::Devices || devices.is_some());
    let sent = Way::SENT.iter().flat_map(|&way| lines.clone().map(move |&line| (way, Some(line))));
    let all: Vec<_> = sent.flat_map(|(way, line)| [(way, line, true), (way, line, false)]).collect();
    let all: Vec<_> = all.into_iter().chain([(Way::Direct, None, true)]).collect();
    let mut rows = Vec::new();
    for &(way, line, cold) in &all {
        rows.push(
            one(agent, plan, devices, &file, (way, line, cold))
                .unwrap_or_else(|error| WayRow { note: format!("not run: {error:#}"), ..empty(way, line, cold) }),
        );
        finished(rows.len(), all.len());
    }
    let exact = rows.iter().any(|row| row.exact == Some(true)) && rows.iter().all(|row| row.exact != Some(false));
    Ok(TextbookReport { kernel: kernel_release(), textbook: rows, exact })
}

fn empty(way: Way, line: Option<Line>, cold: bool) -> WayRow {
    WayRow {
        way: way.name().to_owned(),
        cold,
        device: line.map(|line| line.name().to_owned()),
        textbook: way.claim(line),
        bytes: 0,
        operations: 0,
        copied_bytes: 0,
        observed_bytes: 0,
        referenced_bytes: 0,
        disk_bytes: None,
        nic_bytes: None,
        call_switches: 0,
        fault_switches: None,
        expected_cpu_copies: way.copies(line),
        exact: None,
        note: String::new(),
    }
}

/// What the child says it did.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Went {
    /// Bytes of the file.
    pub bytes: u64,
    /// Operations.
    pub operations: u64,
}

fn one(
    agent: &Agent,
    plan: &Plan,
    devices: Option<&Devices>,
    file: &Path,
    (way, line, cold): (Way, Option<Line>, bool),
) -> Result<WayRow> {
    // Where nothing is sent, the socket is not used.
    let (near, far) = line.unwrap_or(Line::Loopback).open(devices)?;
    let child = Command::new(&plan.program)
        .args(["workload", "way", way.name(), "--socket", &way::inherit(&near)?.to_string()])
        .args(["--chunk", &plan.request.chunk.to_string(), "--file"])
        .arg(file)
        .args(cold.then_some("--cold"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {}", plan.program.display()))?;
    drop(near);
    let mut child = Guard(child);
    // What the agent itself does is not counted.
    let arrived = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&arrived);
    let drain = thread::spawn(move || drain(far, &counter));
    wait_for_gate(&mut child.0)?;
    let before = counters_of(agent, &child.0)?;
    go_on(&child.0)?;
    wait_for_gate(&mut child.0)?;
    if line.is_some() {
        // All has been sent when all has arrived.
        await_bytes(&arrived, plan.request.bytes)?;
    }
    let after = counters_of(agent, &child.0)?;
    go_on(&child.0)?;
    let mut text = String::new();
    child.0.stdout.take().context("the child's output")?.read_to_string(&mut text)?;
    let status = child.0.wait()?;
    ensure!(status.success(), "the way's process: {status}{}", said(&mut child.0));
    let went: Went = serde_json::from_str(&text).with_context(|| format!("the way printed {text:?}"))?;
    drain.join().map_err(|_| anyhow!("the draining thread panicked"))??;
    let profile = profile(agent.catalogue(), Vec::new(), &after.since(&before), None, 0);
    Ok(judged((way, line, cold), went, &profile))
}

/// Reads a socket to its end.
fn drain(socket: OwnedFd, arrived: &AtomicU64) -> std::io::Result<()> {
    let mut socket = TcpStream::from(socket);
    socket.set_nonblocking(false)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match socket.read(&mut buffer)? {
            0 => return Ok(()),
            n => arrived.fetch_add(n as u64, Ordering::Relaxed),
        };
    }
}

fn await_bytes(arrived: &AtomicU64, wanted: u64) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let start = Instant::now();
    while arrived.load(Ordering::Relaxed) < wanted {
        let so_far = arrived.load(Ordering::Relaxed);
        ensure!(start.elapsed() < PATIENCE, "{so_far} of {wanted} bytes arrived");
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn judged((way, line, cold): (Way, Option<Line>, bool), went: Went, profile: &Profile) -> WayRow {
    let observed_bytes = profile.observed_copies();
    // What is sent again is copied again.
    let again = profile.network.retransmitted_bytes.unwrap_or(0).min(observed_bytes);
    let copied_bytes = profile.copied_bytes.total() - again;
    // What devices of this host do is not known before.
    let linear = line == Some(Line::Devices) && observed_bytes > 0;
    let expected_cpu_copies = way.copies(line) + u8::from(linear);
    let expected = u64::from(expected_cpu_copies) * went.bytes;
    // Headers take their part.
    let to_network = |nic: u64| nic == 0 || (went.bytes..=went.bytes + went.bytes / 10 + (1 << 20)).contains(&nic);
    let nic_bytes = profile.dma_bytes.nic_transmit;
    let from_disk = |disk: u64| {
        if cold { (went.bytes..=went.bytes + METADATA).contains(&disk) } else { disk == 0 }
    };
    let disk_bytes = profile.dma_bytes.disk_read;
    let row = WayRow {
        bytes: went.bytes,
        operations: went.operations,
        copied_bytes,
        observed_bytes,
        referenced_bytes: profile.referenced_bytes,
        disk_bytes,
        nic_bytes,
        expected_cpu_copies,
        call_switches: profile.mode_switches.system_calls,
        fault_switches: profile.mode_switches.page_faults,
        exact: Some(copied_bytes == expected && disk_bytes.is_none_or(from_disk) && nic_bytes.is_none_or(to_network)),
        ..empty(way, line, cold)
    };
    WayRow { note: words(&row, way), ..row }
}

/// Where the textbook and this kernel differ.
fn words(row: &WayRow, way: Way) -> String {
    let mut words = Vec::new();
    let claimed = row.textbook.map(|claim| u64::from(claim.cpu_copies) * row.bytes);
    if way == Way::ReadZerocopy {
        let after_all = if row.observed_bytes > 0 { "handed over, and copied after all" } else { "handed over" };
        words.push(after_all.to_owned());
    } else if Some(row.copied_bytes) > claimed && row.observed_bytes > 0 {
        words.push("the device takes no pages: one copy more, into one piece".to_owned());
    } else if let Some(claimed) = claimed.filter(|claimed| *claimed != row.copied_bytes) {
        words.push(format!("the textbook's copies would be {claimed} bytes"));
    }
    if !row.cold {
        words.push("warm: no disk".to_owned());
    }
    if row.device.is_some() && row.nic_bytes == Some(0) {
        words.push("virtual device: no DMA".to_owned());
    }
    if way == Way::MmapWrite {
        words.push("mmap is called once".to_owned());
    }
    if way == Way::Splice {
        words.push("two calls: into a pipe, out of it".to_owned());
    }
    if row.fault_switches.unwrap_or(0) > row.operations / 100 {
        words.push("page faults, too".to_owned());
    }
    if words.is_empty() { "as the textbook says".to_owned() } else { words.join("; ") }
}

/// The report for people.
#[must_use]
pub fn textbook_table(report: &TextbookReport) -> String {
    const HEADER: [&str; 11] = [
        "way",
        "file",
        "device",
        "CPU copies",
        "textbook",
        "by DMA",
        "textbook",
        "switches/op",
        "textbook",
        "exact",
        "",
    ];
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(HEADER);
    for column in table.column_iter_mut().skip(3).take(6) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for row in &report.textbook {
        table.add_row(cells(row));
    }
    format!(
        "{table}\n{}: copies and moves by DMA are of each byte, switches of each operation. Copies for network devices and \
         DMA are observed, other copies are modelled from observed payload.\n",
        report.kernel
    )
}

fn cells(row: &WayRow) -> Vec<String> {
    let share = |bytes: u64, whole: u64| {
        if row.exact.is_none() || whole == 0 { "-".to_owned() } else { format!("{:.2}", bytes as f64 / whole as f64) }
    };
    let claimed =
        |figure: fn(&Claim) -> u8| row.textbook.map_or_else(|| "-".to_owned(), |claim| figure(&claim).to_string());
    let dma = row.disk_bytes.map(|disk| disk + row.nic_bytes.unwrap_or(0));
    vec![
        row.way.clone(),
        if row.cold { "cold" } else { "warm" }.to_owned(),
        row.device.clone().unwrap_or_else(|| "-".to_owned()),
        share(row.copied_bytes, row.bytes),
        claimed(|claim| claim.cpu_copies),
        dma.map_or_else(|| "-".to_owned(), |dma| share(dma, row.bytes)),
        claimed(|claim| claim.dma_copies),
        share(row.call_switches + row.fault_switches.unwrap_or(0), row.operations),
        claimed(|claim| claim.mode_switches),
        match row.exact {
            Some(true) => "exact",
            Some(false) => "NO",
            None => "not run",
        }
        .to_owned(),
        row.note.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_scatter_gather_costs_every_way_one_copy() {
        for way in Way::SENT.into_iter().filter(|way| *way != Way::ReadZerocopy) {
            assert_eq!(way.copies(Some(Line::VethLinear)), way.copies(Some(Line::Veth)) + 1);
            assert_eq!(way.copies(Some(Line::Veth)), way.copies(Some(Line::Loopback)));
        }
        let of_sendfile = |line| Way::Sendfile.claim(Some(line)).map(|claim| claim.cpu_copies);
        assert_eq!((of_sendfile(Line::VethLinear), of_sendfile(Line::Veth)), (Some(1), Some(0)));
        // It is copied once more either way, and by a card that gathers not at all.
        let of_zerocopy =
            [Line::Veth, Line::VethLinear, Line::Devices].map(|line| Way::ReadZerocopy.copies(Some(line)));
        assert_eq!(of_zerocopy, [2, 2, 1]);
    }

    #[test]
    fn words_say_where_the_textbook_differs() {
        let row = WayRow {
            bytes: 100,
            operations: 1,
            copied_bytes: 300,
            observed_bytes: 100,
            nic_bytes: Some(0),
            ..empty(Way::ReadWrite, Some(Line::VethLinear), true)
        };
        let said = words(&row, Way::ReadWrite);
        assert!(said.contains("takes no pages") && said.contains("virtual"), "{said}");
        let direct = WayRow { bytes: 100, operations: 1, ..empty(Way::Direct, None, true) };
        assert_eq!(words(&direct, Way::Direct), "as the textbook says");
    }
}
