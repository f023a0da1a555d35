//! `zcprof paths`: the catalogue.

use clap::Args;

use super::output::{self, Failure};
use super::render;
use crate::export::catalogue::{HopEntry, PathList, paths_json};
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
    let list = paths_json(&Catalogue::default());
    output::print(&if arguments.json { output::json(&list)? } else { text(&list) })?;
    Ok(0)
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

    #[test]
    fn the_contracts_fields_are_there() {
        let json = serde_json::to_value(paths_json(&Catalogue::default())).unwrap();
        let first = &json["paths"][0];
        for field in ["id", "mechanism", "source", "sink", "hops", "textbook", "active", "reason"] {
            assert!(first.get(field).is_some(), "{field}");
        }
        assert_eq!(
            first["hops"][0],
            serde_json::json!({"from": "page_cache", "to": "user", "mover": "cpu", "direction": "to_user"})
        );
    }

    #[test]
    fn inactive_paths_say_why() {
        let mut catalogue = Catalogue::default();
        catalogue.without_probes();
        let list = paths_json(&catalogue);
        assert!(list.paths.iter().all(|path| path.active == path.reason.is_none()));
        assert!(text(&list).contains("mmap:file:mapping is not counted: "));
    }
}
