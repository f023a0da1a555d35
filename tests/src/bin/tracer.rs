//! A process with an agent of its own: `tracer [drop]`, where `drop` gives up all capabilities once it traces. For
//! each pid on standard input it answers one line: what the process with this pid has been counted with.

use std::io::{BufRead as _, Write as _};

use anyhow::Context as _;
use serde_json::json;
use zc_tests::expected::Paths;
use zc_tests::stage::SETTINGS;
use zcprof::agent::{Agent, drop_capabilities};
use zcprof::model::Catalogue;

fn main() -> anyhow::Result<()> {
    let agent = Agent::start(Catalogue::default(), SETTINGS)?;
    if std::env::args().nth(1).is_some() {
        drop_capabilities().context("dropping capabilities")?;
    }
    let mut output = std::io::stdout();
    writeln!(output, "{}", json!({"effective": effective()?, "own": zc_tests::bpf::own()?.to_json()}))?;
    for line in std::io::stdin().lock().lines() {
        let pid: u32 = line?.trim().parse()?;
        let snapshot = agent.observe()?;
        let answer = snapshot.by_pid(pid).map(|process| {
            json!({
                "paths": Paths::of(agent.catalogue(), &process.counters).to_json(),
                "system_calls": process.counters.system_calls,
                "exited": process.exited,
                "comm": process.comm,
            })
        });
        writeln!(output, "{}", json!(answer))?;
    }
    Ok(())
}

/// The effective capabilities, as /proc tells them.
fn effective() -> anyhow::Result<String> {
    let status = std::fs::read_to_string("/proc/thread-self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).context("CapEff")?;
    Ok(line.trim().to_owned())
}
