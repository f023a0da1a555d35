//! `[[verify]]` of the configuration file.

use std::time::Duration;

use serde::Deserialize;
use zc_common::path::{Endpoint, Mechanism};

use crate::export::rules::Rule;
use crate::export::source::MAX_WINDOW;
use crate::ledger::Selector;
use crate::model::Claim;

/// A rule as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    name: String,
    comm: Option<String>,
    exe: Option<String>,
    unit: Option<String>,
    container: Option<String>,
    cgroup: Option<String>,
    mechanism: String,
    source: Option<String>,
    sink: Option<String>,
    min_share: Option<f64>,
    window: Option<String>,
}

/// One that makes sense.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Written")]
pub(super) struct Checked(pub(super) Rule);

impl TryFrom<Written> for Checked {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { name, mechanism, source, sink, .. } = &written;
        let wrong = |why: String| format!("verify rule `{name}`: {why}");
        let endpoint = |name: &Option<String>| match name {
            None => Ok(None),
            Some(name) => Endpoint::parse(name).map(Some).ok_or_else(|| wrong(one_of(name, Endpoint::ALL))),
        };
        let min_share = written.min_share.unwrap_or(Claim::MIN_SHARE);
        if !(0.0..=1.0).contains(&min_share) {
            return Err(wrong(format!("min-share: {min_share} is no share; give 0 to 1")));
        }
        let claim = Claim {
            mechanism: Mechanism::parse(mechanism).ok_or_else(|| wrong(one_of(mechanism, Mechanism::ALL)))?,
            source: endpoint(source)?,
            sink: endpoint(sink)?,
            min_share,
        };
        let window = window(written.window.as_deref()).map_err(wrong)?;
        let name = name.clone();
        let selector = selector(&written)
            .ok_or_else(|| format!("verify rule `{name}`: give exactly one of comm, exe, unit, container, cgroup"))?;
        Ok(Self(Rule { name, selector, claim, window }))
    }
}

fn one_of(name: &str, all: &[impl ToString]) -> String {
    let all: Vec<_> = all.iter().map(ToString::to_string).collect();
    format!("`{name}` is none of: {}", all.join(", "))
}

fn window(text: Option<&str>) -> Result<Duration, String> {
    let Some(text) = text else { return Ok(MAX_WINDOW) };
    let window = humantime::parse_duration(text).map_err(|error| format!("window: `{text}`: {error}"))?;
    if window.is_zero() || window > MAX_WINDOW {
        let most = humantime::format_duration(MAX_WINDOW);
        return Err(format!("window: `{text}` must be more than nothing and at most {most}"));
    }
    Ok(window)
}

/// None unless exactly one is given.
fn selector(written: &Written) -> Option<Selector> {
    let Written { comm, exe, unit, container, cgroup, .. } = written;
    let given = [
        comm.clone().map(Selector::Comm),
        exe.clone().map(Selector::Exe),
        unit.clone().map(Selector::Unit),
        container.clone().map(Selector::Container),
        cgroup.clone().map(Selector::Cgroup),
    ];
    let mut given = given.into_iter().flatten();
    given.next().filter(|_| given.next().is_none())
}
