//! The catalogue of paths and the list of probes as JSON, for the API and for `zcprof paths` and `zcprof probes`.

use serde::Serialize;
use utoipa::ToSchema;
use zc_common::hop::Mover;
use zc_common::path::{Condition, PathId, Row};

use crate::kernel::ProbeStatus;
use crate::model::Catalogue;

/// `zcprof paths --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PathList {
    /// One for each path id, in the catalogue's order.
    pub paths: Vec<PathEntry>,
}

/// One copy path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PathEntry {
    /// `mechanism:source:sink`.
    pub id: String,
    /// The call.
    pub mechanism: &'static str,
    /// Where the bytes come from.
    pub source: &'static str,
    /// Where they go.
    pub sink: &'static str,
    /// How each payload byte hops, unless a condition below holds.
    pub hops: Vec<HopEntry>,
    /// What the textbook says; null where it says nothing.
    pub textbook: Option<TextbookEntry>,
    /// Whether this build counts on this path.
    pub active: bool,
    /// Why it does not; null if it does.
    pub reason: Option<&'static str>,
    /// When bytes hop otherwise.
    pub conditions: Vec<ConditionEntry>,
}

/// One move of a payload byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct HopEntry {
    /// From which place.
    pub from: &'static str,
    /// To which place.
    pub to: &'static str,
    /// cpu, dma or reference.
    pub mover: &'static str,
    /// For the CPU: to_user, from_user or in_kernel; else null.
    pub direction: Option<&'static str>,
}

/// What the textbook charges a path with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TextbookEntry {
    /// The way of sending a file that the path is part of.
    pub way: &'static str,
    /// Copies of the payload by the CPU.
    pub cpu_copies: u8,
    /// Copies by DMA.
    pub dma_copies: u8,
    /// Mode switches of one operation.
    pub mode_switches: u8,
}

/// How bytes hop under a condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ConditionEntry {
    /// peek, null_source, null_sink, null_both or asked.
    pub condition: &'static str,
    /// How each byte then hops.
    pub hops: Vec<HopEntry>,
}

/// `zcprof probes --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProbeList {
    /// The running kernel's release.
    pub kernel: String,
    /// What became of each probe.
    pub probes: Vec<ProbeStatus>,
}

fn hops_of(row: &Row) -> Vec<HopEntry> {
    let hops = row.hops.iter().map(|hop| HopEntry {
        from: hop.from.name(),
        to: hop.to.name(),
        mover: hop.mover.name(),
        direction: match hop.mover {
            Mover::Cpu(direction) => Some(direction.name()),
            Mover::Dma | Mover::Reference | Mover::Cipher => None,
        },
    });
    hops.collect()
}

fn entry(id: PathId, rows: &[&Row]) -> PathEntry {
    let always = |row: &&&Row| row.condition == Condition::Always;
    let textbook = rows.iter().find_map(|row| row.textbook);
    let active = rows.iter().any(|row| row.is_payload() && row.inactive.is_none());
    PathEntry {
        id: id.to_string(),
        mechanism: id.mechanism.name(),
        source: id.source.name(),
        sink: id.sink.name(),
        hops: rows.iter().find(always).map(|row| hops_of(row)).unwrap_or_default(),
        textbook: textbook.map(|textbook| TextbookEntry {
            way: textbook.way,
            cpu_copies: textbook.cpu_copies,
            dma_copies: textbook.dma_copies,
            mode_switches: textbook.mode_switches,
        }),
        active,
        reason: if active { None } else { rows.iter().find_map(|row| row.inactive) },
        conditions: rows
            .iter()
            .filter(|row| !always(row))
            .map(|row| ConditionEntry { condition: row.condition.name(), hops: hops_of(row) })
            .collect(),
    }
}

/// The catalogue, one entry for each path id; rows under conditions are folded into their path.
#[must_use]
pub fn paths_json(catalogue: &Catalogue) -> PathList {
    let mut paths: Vec<(PathId, Vec<&Row>)> = Vec::new();
    for row in catalogue.rows() {
        match paths.iter_mut().find(|(id, _)| *id == row.id()) {
            Some((_, rows)) => rows.push(row),
            None => paths.push((row.id(), vec![row])),
        }
    }
    PathList { paths: paths.iter().map(|(id, rows)| entry(*id, rows)).collect() }
}

/// The probes of this kernel.
#[must_use]
pub fn probes_json(kernel: &str, probes: &[ProbeStatus]) -> ProbeList {
    ProbeList { kernel: kernel.to_owned(), probes: probes.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_entry_for_each_path_with_its_conditions() {
        let list = paths_json(&Catalogue::default());
        let find = |id: &str| list.paths.iter().filter(|path| path.id == id).collect::<Vec<_>>();
        let [tcp] = find("read:tcp:user")[..] else { panic!("not once") };
        assert_eq!((tcp.hops.len(), tcp.conditions.len(), tcp.conditions[0].condition), (1, 1, "peek"));
        assert_eq!((tcp.hops[0].mover, tcp.hops[0].direction), ("cpu", Some("to_user")));
        let [mmap] = find("mmap:file:mapping")[..] else { panic!("not once") };
        assert!(mmap.active && mmap.hops.len() == 1 && mmap.conditions[0].condition == "asked");
        let rows: usize = list.paths.iter().map(|path| path.conditions.len()).sum();
        assert_eq!(rows + list.paths.len(), Catalogue::default().rows().len());
    }
}
