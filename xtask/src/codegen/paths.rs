//! docs/paths.md: the catalogue of copy paths as a table.

use std::fmt::Write as _;

use zc_common::hop::{Hop, Mover};
use zc_common::path::{Condition, ROWS, Row, Textbook};

const INTRODUCTION: &str = "\
<!-- Made from zc-common/src/path/rows.rs by `cargo xtask codegen`; don't edit. -->

# Copy paths

Every path that zcprof knows: *mechanism*:*source*:*sink*, and how each byte of its payload hops along it. `cpu` is a
copy by the CPU (into user memory, from user memory, or within the kernel), `dma` a move by a device, `reference` a
page handed over with nothing copied, `cipher` the CPU enciphering bytes on their way (kernel TLS), which is no copy. A
file's pages may have to come from disk first; a system call doesn't show that.

A path with several rows hops differently from call to call:

- `peek`: the call only looked (MSG_PEEK): it copied, but delivered nothing.
- `null_source`, `null_sink`, `null_both`: the device is /dev/zero or /dev/null (or full): nothing to copy from it, or to it.
- `message_source`, `message_sink`: the unix socket keeps messages apart: it gives no pages away, and takes none.
- `null_source_message_sink`: from /dev/zero to such a socket.
- `tls`: the socket enciphers what is sent (kernel TLS in software).
- `copied`: the part that the kernel could not map, and copied into a buffer beside.
- `asked`: what mmap calls asked for; nothing has moved yet.

What the kernel copies beside these hops is observed (probe `net`), and appears in a profile's hops as such: bytes copied
into one piece for a network device without scatter-gather, and pages handed over (MSG_ZEROCOPY, SEND_ZC) that were
copied after all, since their receiver is on the same host.

The textbook's figures are those that this path is charged with, as one part of the way named; the hops are what the
kernel does.

| path | when | hops | textbook | counted |
|---|---|---|---|---|
";

/// The file's text.
pub(super) fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    for row in ROWS {
        let Row { condition, hops, textbook, inactive, .. } = row;
        let when = if *condition == Condition::Always { "" } else { condition.name() };
        let counted = inactive.map_or_else(|| "yes".to_owned(), |reason| format!("no: {reason}"));
        let _ = writeln!(
            text,
            "| `{}` | {when} | {} | {} | {} |",
            row.id(),
            all_hops(hops),
            textbook.map(claim).unwrap_or_default(),
            cell(&counted)
        );
    }
    text
}

/// All hops of a path, in words.
pub(super) fn all_hops(hops: &[Hop]) -> String {
    let one = |hop: &Hop| {
        let mover = match hop.mover {
            Mover::Cpu(direction) => format!("cpu, {}", direction.name().replace('_', " ")),
            Mover::Dma | Mover::Reference | Mover::Cipher => hop.mover.name().to_owned(),
        };
        format!("{} → {} ({mover})", hop.from, hop.to)
    };
    if hops.is_empty() { "none".to_owned() } else { hops.iter().map(one).collect::<Vec<_>>().join("; ") }
}

fn claim(textbook: Textbook) -> String {
    let Textbook { way, cpu_copies, dma_copies, mode_switches } = textbook;
    format!("{way}: {cpu_copies} by the CPU, {dma_copies} by DMA, {mode_switches} mode switches")
}

/// Text that can't end a table's cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_line_of_five_cells() {
        let text = markdown();
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(lines.len(), ROWS.len());
        assert!(lines.iter().all(|line| line.matches(" |").count() == 5), "{text}");
        assert!(text.contains("`cargo xtask codegen`"));
        for condition in Condition::ALL {
            assert!(*condition == Condition::Always || text.contains(&format!("`{condition}`")), "{condition}");
        }
    }

    #[test]
    fn hops_read_as_sentences_do() {
        let row = ROWS.iter().find(|row| row.id().to_string() == "read:file:user").unwrap();
        assert_eq!(all_hops(row.hops), "page_cache → user (cpu, to user)");
        assert_eq!(all_hops(&[]), "none");
    }
}
