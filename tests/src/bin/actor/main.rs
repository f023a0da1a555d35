//! A traced process that makes precisely known system calls: `actor SCENARIO [ARGUMENT ..]`.

mod behind;
mod buffers;
mod compat;
mod faults;
mod files;
mod identity;
mod kernel_moves;
mod open;
mod passing;
mod peers;
mod signals;
mod sockets;
mod storm;
mod traps;
mod uring;
mod wide;

use anyhow::Context as _;

type Scenario = fn(&[String]) -> anyhow::Result<()>;

const FAMILIES: &[&[(&str, Scenario)]] = &[
    behind::SCENARIOS,
    faults::SCENARIOS,
    files::SCENARIOS,
    sockets::SCENARIOS,
    kernel_moves::SCENARIOS,
    buffers::SCENARIOS,
    traps::SCENARIOS,
    signals::SCENARIOS,
    compat::SCENARIOS,
    identity::SCENARIOS,
    storm::SCENARIOS,
    uring::SCENARIOS,
    wide::SCENARIOS,
    passing::SCENARIOS,
    peers::SCENARIOS,
];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let name = arguments.first().context("usage: actor SCENARIO [ARGUMENT ..]")?;
    let scenario = FAMILIES.iter().flat_map(|family| family.iter()).find(|(known, _)| known == name);
    let (_, run) = scenario.with_context(|| format!("no scenario {name}"))?;
    run(&arguments[1..]).with_context(|| name.clone())
}
