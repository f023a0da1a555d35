//! What is copied needlessly, and which call would save it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zc_common::hop::Mover;
use zc_common::path::{Condition, Endpoint, Mechanism, PathId, Row};

use super::hops::Catalogue;
use super::profile::{Basis, PathProfile, Profile};

mod report;
#[cfg(test)]
mod tests;

pub use report::{AdviceReport, GroupAdvice, ProcessAdvice, report};

/// Advice on one way that bytes take through a process's memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Advice {
    /// What the bytes are read from; `user` for what the process made itself.
    pub source: String,
    /// What they are written to.
    pub sink: String,
    /// What was read from there into the process's memory; null where the process made the bytes itself, or mapped them.
    pub read_bytes: Option<u64>,
    /// What was written to there from its memory.
    pub written_bytes: u64,
    /// Of those the candidates: an upper bound of what the call below could move instead. Calls that overwrite memory
    /// are seen, plain stores are not.
    pub candidate_bytes: u64,
    /// Candidates of what was read or written, whichever is less: 0 to 1.
    pub share: f64,
    /// Whether the call below is advised.
    pub advised: bool,
    /// The call that would save copies; null where there is none.
    pub call: Option<String>,
    /// The paths that the bytes would take then.
    pub paths: Vec<String>,
    /// What the CPU would not have to copy; modelled, of the candidates.
    pub saved_copied_bytes: u64,
    /// Switches from user mode to the kernel and back that would not be; modelled, at the sizes of now.
    pub saved_mode_switches: u64,
    /// Always modelled.
    pub basis: Basis,
    /// Why it is advised, or why not.
    pub reason: String,
}

/// Less than this is not worth a word.
const LEAST_BYTES: u64 = 64 << 10;
/// Bytes that could pass through are told of only as if they did from this share on.
const LEAST_SHARE: f64 = 0.5;
/// Reads and writes that do not fit each other by this much are told apart as of other sizes.
const SAME_SIZE: f64 = 0.9;
/// A way through memory that is not advised is told of if it takes this share of what is written there.
const NOTABLE: f64 = 0.2;
/// The mechanisms that copy what they write: others would not save what is reckoned here.
const COPYING: [&str; 4] = ["write", "io_uring", "io_uring_fixed", "aio"];
/// MSG_ZEROCOPY pays from about 10 KiB per call (Documentation/networking/msg_zerocopy.rst, v6.1).
const LEAST_ZEROCOPY: u64 = 10 << 10;

/// What could be read and written otherwise.
struct Way<'a> {
    catalogue: &'a Catalogue,
    source: Endpoint,
    sink: Endpoint,
}

/// Another way for the same bytes.
struct Other {
    call: Mechanism,
    paths: Vec<PathId>,
    /// CPU copies of each byte.
    copies: u64,
    /// Calls for each of the writes of now.
    calls: u64,
}

fn copies(row: &Row) -> u64 {
    row.hops.iter().filter(|hop| matches!(hop.mover, Mover::Cpu(_))).count() as u64
}

impl Way<'_> {
    fn row(&self, mechanism: Mechanism, source: Endpoint, sink: Endpoint) -> Option<&Row> {
        let id = PathId { mechanism, source, sink };
        let rows = self.catalogue.rows().iter();
        rows.into_iter().find(|row| row.id() == id && row.condition == Condition::Always && row.inactive.is_none())
    }

    fn other(&self, call: Mechanism, legs: &[(Endpoint, Endpoint)]) -> Option<Other> {
        let rows: Vec<_> = legs.iter().map(|&(from, to)| self.row(call, from, to)).collect::<Option<_>>()?;
        Some(Other {
            call,
            paths: rows.iter().map(|row| row.id()).collect(),
            copies: rows.iter().map(|row| copies(row)).sum(),
            calls: rows.len() as u64,
        })
    }

    /// The way with the fewest copies, and of those the simplest.
    fn best(&self) -> Option<Other> {
        let &Self { source, sink, .. } = self;
        if self.has_datagrams() {
            return None;
        }
        let pipe = Endpoint::Pipe;
        let spliced: &[(Endpoint, Endpoint)] =
            if source == pipe || sink == pipe { &[(source, sink)] } else { &[(source, pipe), (pipe, sink)] };
        let ways = [
            self.other(Mechanism::CopyFileRange, &[(source, sink)]),
            self.other(Mechanism::Splice, spliced),
            self.other(Mechanism::Sendfile, &[(source, sink)]),
        ];
        ways.into_iter().flatten().min_by_key(|way| (way.copies, way.calls))
    }

    /// Whether messages would lose their boundaries on any other way.
    fn has_datagrams(&self) -> bool {
        self.source == Endpoint::Udp || self.sink == Endpoint::Udp
    }

    /// CPU copies of a byte that is read and written now.
    fn copies_now(&self) -> u64 {
        let read = self.row(Mechanism::Read, self.source, Endpoint::User).map_or(0, copies);
        read + self.row(Mechanism::Write, Endpoint::User, self.sink).map_or(0, copies)
    }
}

fn traffic<'a>(profile: &'a Profile, wanted: impl Fn(&PathProfile) -> bool + 'a) -> (u64, u64) {
    let paths = profile.paths.iter().filter(|path| path.mechanism != Mechanism::Mmap.name() && wanted(path));
    paths.fold((0, 0), |(operations, bytes), path| (operations + path.operations, bytes + path.bytes))
}

/// Advice for what a profile shows, what saves most first. `enciphers` names the library by which the process enciphers
/// in user space, if it is known to have one.
#[must_use]
pub fn advise(catalogue: &Catalogue, profile: &Profile, enciphers: Option<&str>) -> Vec<Advice> {
    advise_from(catalogue, profile, enciphers, LEAST_BYTES)
}

/// The same for as little as `least` bytes.
fn advise_from(catalogue: &Catalogue, profile: &Profile, enciphers: Option<&str>, least: u64) -> Vec<Advice> {
    let mut all = Vec::new();
    for &sink in Endpoint::ALL {
        let written = |path: &PathProfile| {
            COPYING.contains(&&*path.mechanism) && path.source == "user" && path.sink == sink.name()
        };
        let (writes, written_bytes) = traffic(profile, written);
        if written_bytes >= least {
            for &source in Endpoint::ALL {
                let way = Way { catalogue, source, sink };
                all.extend(through_memory(&way, profile, written_bytes, enciphers, least));
            }
            all.extend(by_zerocopy(catalogue, sink, profile, (writes, written_bytes), enciphers));
        }
        all.extend(from_mapping(catalogue, sink, profile, least));
    }
    all.sort_by_key(|one| std::cmp::Reverse((one.advised, one.saved_copied_bytes, one.written_bytes)));
    all
}

/// Read into memory, and written from there.
fn through_memory(
    way: &Way<'_>,
    profile: &Profile,
    written_bytes: u64,
    enciphers: Option<&str>,
    least: u64,
) -> Option<Advice> {
    let (source, sink) = (way.source.name(), way.sink.name());
    let (_, read_bytes) = traffic(profile, |path| path.source == source && path.sink == "user");
    let found = profile.pass_through.as_ref()?.iter().find(|one| one.source == source && one.sink == sink);
    let (calls, found_bytes) = found.map_or((0, 0), |one| (one.operations, one.bytes));
    let less = read_bytes.min(written_bytes);
    // What is written to several places from one buffer is found at each.
    let candidate_bytes = found_bytes.min(less);
    let share = if less == 0 { 0.0 } else { candidate_bytes as f64 / less as f64 };
    if less < least || (share < LEAST_SHARE && (less as f64) < NOTABLE * written_bytes as f64) {
        return None;
    }
    let best = way.best();
    let saved = best.as_ref().map_or(0, |best| way.copies_now().saturating_sub(best.copies));
    let passes = share >= LEAST_SHARE;
    let reason = match (&best, passes, enciphers) {
        (Some(best), true, _) if saved > 0 => {
            let now = way.copies_now();
            format!("written out from where it was read into: {now} copies now, {} by {}", best.copies, best.call)
        }
        (Some(best), true, _) => format!("{} would copy as often", best.call),
        (None, true, _) if way.has_datagrams() => "datagrams would lose their boundaries on any other way".to_owned(),
        (None, true, _) => format!("no call moves bytes from {source} to {sink} past the process"),
        (_, false, Some(library)) => format!(
            "other buffers: written from elsewhere than read into; it has {library} and may encipher: kernel TLS could use sendfile"
        ),
        (_, false, None) if (less as f64) < SAME_SIZE * read_bytes.max(written_bytes) as f64 => {
            format!("other sizes: {read_bytes} bytes read, {written_bytes} written: not the same bytes")
        }
        (_, false, None) => {
            "other buffers: written from elsewhere than read into (copied, changed or enciphered by the process)"
                .to_owned()
        }
    };
    let advised = passes && saved > 0;
    let best = best.filter(|_| advised);
    // Of now a read and a write for each; then the other way's.
    // What is found at several sinks was read once.
    let calls = calls as f64 * (candidate_bytes as f64 / found_bytes.max(1) as f64);
    let saved_calls = best.as_ref().map_or(0, |best| calls as u64 * 2_u64.saturating_sub(best.calls));
    Some(Advice {
        source: source.to_owned(),
        sink: sink.to_owned(),
        read_bytes: Some(read_bytes),
        written_bytes,
        candidate_bytes,
        share,
        advised,
        call: best.as_ref().map(|best| best.call.name().to_owned()),
        paths: best.iter().flat_map(|best| &best.paths).map(ToString::to_string).collect(),
        saved_copied_bytes: if advised { saved * candidate_bytes } else { 0 },
        saved_mode_switches: 2 * saved_calls,
        basis: Basis::Modelled,
        reason,
    })
}

/// Written from a mapping of a file: that could be sent by itself.
fn from_mapping(catalogue: &Catalogue, sink: Endpoint, profile: &Profile, least: u64) -> Option<Advice> {
    let (_, bytes) = traffic(profile, |path| {
        COPYING.contains(&&*path.mechanism) && path.source == "mapping" && path.sink == sink.name()
    });
    let way = Way { catalogue, source: Endpoint::File, sink };
    let now = way.row(Mechanism::Write, Endpoint::Mapping, sink).map_or(0, copies);
    let best = way.best().filter(|best| best.copies < now && bytes >= least)?;
    let saved = now - best.copies;
    Some(Advice {
        source: Endpoint::Mapping.name().to_owned(),
        sink: sink.name().to_owned(),
        read_bytes: None,
        written_bytes: bytes,
        candidate_bytes: bytes,
        share: 1.0,
        advised: true,
        call: Some(best.call.name().to_owned()),
        paths: best.paths.iter().map(ToString::to_string).collect(),
        saved_copied_bytes: saved * bytes,
        saved_mode_switches: 0,
        basis: Basis::Modelled,
        reason: format!("written from a mapping of a file: {now} copies now, {} by {}", best.copies, best.call),
    })
}

/// Made by the process itself, in large pieces: MSG_ZEROCOPY, but only where the device gathers.
fn by_zerocopy(
    catalogue: &Catalogue,
    sink: Endpoint,
    profile: &Profile,
    (writes, written_bytes): (u64, u64),
    enciphers: Option<&str>,
) -> Option<Advice> {
    let way = Way { catalogue, source: Endpoint::User, sink };
    let row = way.row(Mechanism::ZerocopySend, Endpoint::User, sink)?;
    let found = profile.pass_through.as_ref()?.iter().filter(|one| one.sink == sink.name());
    let passed: u64 = found.map(|one| one.bytes).sum();
    let made = written_bytes.saturating_sub(passed);
    if made < LEAST_BYTES.max(written_bytes / 2) || written_bytes / writes.max(1) < LEAST_ZEROCOPY {
        return None;
    }
    let why_not = zerocopy_fails(profile).or_else(|| {
        enciphers.map(|library| {
            format!("MSG_ZEROCOPY: it has {library}, which uses its buffers again while they would be on their way")
        })
    });
    let advised = why_not.is_none();
    Some(Advice {
        source: Endpoint::User.name().to_owned(),
        sink: sink.name().to_owned(),
        read_bytes: None,
        written_bytes,
        candidate_bytes: made,
        share: made as f64 / written_bytes as f64,
        advised,
        call: advised.then(|| "MSG_ZEROCOPY".to_owned()),
        paths: if advised { vec![row.id().to_string()] } else { Vec::new() },
        saved_copied_bytes: if advised { made } else { 0 },
        saved_mode_switches: 0,
        basis: Basis::Modelled,
        reason: why_not.unwrap_or_else(|| {
            "made by the process, sent in large pieces, and the device gathers: pages could be handed over".to_owned()
        }),
    })
}

/// Why the kernel would copy what MSG_ZEROCOPY hands over, if it would.
fn zerocopy_fails(profile: &Profile) -> Option<String> {
    /// Of what is sent: headers lie elsewhere.
    const MOST: f64 = 0.9;
    let network = &profile.network;
    let (Some(sent), Some(paged), Some(nowhere)) =
        (network.transmitted_bytes, network.paged_bytes, network.virtual_bytes)
    else {
        return Some("MSG_ZEROCOPY: whether the device gathers is not known without the probe net".to_owned());
    };
    if sent == 0 || nowhere as f64 > (1.0 - MOST) * sent as f64 {
        return Some("MSG_ZEROCOPY: to receivers on this host the kernel copies after all".to_owned());
    }
    let gathers = paged as f64 >= MOST * sent as f64 && network.linearized_bytes.unwrap_or(0) == 0;
    (!gathers)
        .then(|| "MSG_ZEROCOPY: the device does not gather (no scatter-gather): the kernel copies after all".to_owned())
}
