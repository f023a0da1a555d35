//! `zcprof paths`: the catalogue.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;
use zc_common::hop::Hop;
use zc_common::path::{Condition, PathId, Row, Textbook};

use super::output::{self, Failure};
use super::render;
use crate::model::Catalogue;

/// Lists every copy path: how its bytes hop, what the textbook says, and whether it is counted.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Exit status: 0.")]
pub struct PathsArgs {
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(arguments: &PathsArgs) -> Result<u8, Failure> {
    let list = PathList::of(Catalogue::default().rows());
    output::print(&if arguments.json { output::json(&list)? } else { text(&list) })?;
    Ok(0)
}

/// The catalogue's envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct PathList {
    paths: Vec<PathEntry>,
}

/// One path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct PathEntry {
    id: String,
    mechanism: &'static str,
    source: &'static str,
    sink: &'static str,
    /// How its bytes hop unless a condition below holds.
    hops: Vec<HopEntry>,
    textbook: Option<TextbookEntry>,
    active: bool,
    /// Why it is not active; null if it is.
    reason: Option<&'static str>,
    /// How its bytes hop otherwise.
    conditions: Vec<ConditionEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct HopEntry {
    from: &'static str,
    to: &'static str,
    mover: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ConditionEntry {
    condition: &'static str,
    hops: Vec<HopEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct TextbookEntry {
    way: &'static str,
    cpu_copies: u8,
    dma_copies: u8,
    mode_switches: u8,
}

impl PathList {
    /// One entry per path id, in the catalogue's order.
    fn of(rows: &[Row]) -> Self {
        let mut paths: Vec<PathEntry> = Vec::new();
        let mut at: BTreeMap<PathId, usize> = BTreeMap::new();
        for row in rows {
            let index = *at.entry(row.id()).or_insert_with(|| {
                paths.push(PathEntry::of(row.id()));
                paths.len() - 1
            });
            paths[index].fold_in(row);
        }
        Self { paths }
    }
}

impl PathEntry {
    fn of(id: PathId) -> Self {
        Self {
            id: id.to_string(),
            mechanism: id.mechanism.name(),
            source: id.source.name(),
            sink: id.sink.name(),
            hops: Vec::new(),
            textbook: None,
            active: true,
            reason: None,
            conditions: Vec::new(),
        }
    }

    fn fold_in(&mut self, row: &Row) {
        let hops = row.hops.iter().map(HopEntry::of).collect();
        match row.condition {
            Condition::Always | Condition::Asked => self.hops = hops,
            condition => self.conditions.push(ConditionEntry { condition: condition.name(), hops }),
        }
        self.textbook = self.textbook.take().or(row.textbook.map(TextbookEntry::of));
        self.reason = self.reason.or(row.inactive);
        self.active = self.reason.is_none();
    }
}

impl HopEntry {
    fn of(hop: &Hop) -> Self {
        Self { from: hop.from.name(), to: hop.to.name(), mover: hop.mover.name() }
    }
}

impl TextbookEntry {
    fn of(textbook: Textbook) -> Self {
        let Textbook { way, cpu_copies, dma_copies, mode_switches } = textbook;
        Self { way, cpu_copies, dma_copies, mode_switches }
    }
}

fn text(list: &PathList) -> String {
    let rows = list.paths.iter().map(|path| {
        let textbook = path.textbook.as_ref().map_or(String::new(), |says| {
            format!("{}: {} by CPU, {} by DMA", says.way, says.cpu_copies, says.dma_copies)
        });
        vec![path.id.clone(), hops(&path.hops), textbook, if path.active { "yes" } else { "no" }.to_owned()]
    });
    let mut text = render::table(&["PATH", "HOPS", "TEXTBOOK (COPIES)", "COUNTED"], rows, 0..0);
    for (at, path) in list.paths.iter().filter(|path| !path.active).enumerate() {
        let gap = if at == 0 { "\n" } else { "" };
        text.push_str(&format!("{gap}{} is not counted: {}\n", path.id, path.reason.unwrap_or("unknown")));
    }
    text
}

fn hops(hops: &[HopEntry]) -> String {
    let hops: Vec<_> = hops.iter().map(|hop| format!("{} -> {} ({})", hop.from, hop.to, hop.mover)).collect();
    if hops.is_empty() { "-".to_owned() } else { hops.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zc_common::path::ROWS;

    #[test]
    fn every_path_once_with_its_conditions() {
        let list = PathList::of(ROWS);
        let ids: std::collections::BTreeSet<_> = ROWS.iter().map(|row| row.id().to_string()).collect();
        assert_eq!(list.paths.iter().map(|path| path.id.clone()).collect::<std::collections::BTreeSet<_>>(), ids);
        assert_eq!(list.paths.len(), ids.len());
        let conditions: usize = list.paths.iter().map(|path| path.conditions.len() + 1).sum();
        assert_eq!(conditions, ROWS.len());
    }

    #[test]
    fn the_contracts_fields_are_there() {
        let json = serde_json::to_value(PathList::of(ROWS)).unwrap();
        let first = &json["paths"][0];
        for field in ["id", "mechanism", "source", "sink", "hops", "textbook", "active", "reason"] {
            assert!(first.get(field).is_some(), "{field}");
        }
        assert_eq!(first["hops"][0], serde_json::json!({"from": "page_cache", "to": "user", "mover": "cpu"}));
    }

    #[test]
    fn inactive_paths_say_why() {
        let list = PathList::of(ROWS);
        assert!(list.paths.iter().all(|path| path.active == path.reason.is_none()));
        assert!(text(&list).contains("mmap:file:mapping is not counted: "));
    }
}
