//! Reading queries: strictly, with messages that say what would be right.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::super::problem::Problem;
use super::super::source::{MAX_WINDOW, Past, Source};
use super::processes::no_such_pid;
use crate::ledger::{Counters, Process, Selector, Snapshot};
use crate::model::{Catalogue, ProcessInfo, Profile, profile};

/// A route's query; what it does not know is an error.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(query)| Self(query)).map_err(|error: QueryRejection| Problem::bad_parameter(reason(&error)))
    }
}

/// What is wrong, without the words about deserializing in front of it.
fn reason(error: &QueryRejection) -> String {
    let text = error.body_text();
    text.rsplit_once("query string: ").map_or(text.clone(), |(_, reason)| reason.to_owned())
}

/// The pid in a route.
pub(super) struct Pid(pub(super) u32);

impl<S: Send + Sync> FromRequestParts<S> for Pid {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = text.map_err(|error| Problem::bad_parameter(error.body_text()))?;
        let wrong = |_| Problem::bad_parameter(format!("`{text}` is no pid: give a number, as in /api/v1/processes/1"));
        u32::from_str(&text).map(Self).map_err(wrong)
    }
}

/// Whose traffic is meant: what routes take of selectors.
pub(super) struct Whom {
    pub(super) pid: Option<u32>,
    pub(super) comm: Option<String>,
    pub(super) exe: Option<String>,
    pub(super) unit: Option<String>,
    pub(super) container: Option<String>,
    pub(super) cgroup: Option<String>,
}

impl Whom {
    pub(super) fn at_most_one(self) -> Result<Option<Selector>, Problem> {
        let given = [
            self.pid.map(Selector::Pid),
            self.comm.map(Selector::Comm),
            self.exe.map(Selector::Exe),
            self.unit.map(Selector::Unit),
            self.container.map(Selector::Container),
            self.cgroup.map(Selector::Cgroup),
        ];
        let mut given = given.into_iter().flatten();
        let first = given.next();
        if given.next().is_some() {
            return Err(Self::not_one());
        }
        Ok(first)
    }

    pub(super) fn exactly_one(self) -> Result<Selector, Problem> {
        self.at_most_one()?.ok_or_else(Self::not_one)
    }

    fn not_one() -> Problem {
        Problem::bad_parameter(
            "say whose traffic is meant: give exactly one of pid, comm, exe, unit, container, cgroup",
        )
    }
}

/// What it selects, if it selects anything.
pub(super) fn some<'a>(selector: &Selector, snapshot: &'a Snapshot) -> Result<Vec<&'a Arc<Process>>, Problem> {
    let processes = selector.select(snapshot);
    if processes.is_empty() {
        return Err(match selector {
            Selector::Pid(pid) => no_such_pid(*pid),
            _ => Problem::no_such_process("no process is selected: /api/v1/processes lists what there is"),
        });
    }
    Ok(processes)
}

/// The state a window ago, if one was asked for.
pub(super) fn past(source: &Source, snapshot: &Snapshot, window: Option<&str>) -> Result<Option<Arc<Past>>, Problem> {
    let Some(text) = window else { return Ok(None) };
    let wrong = |why: &dyn std::fmt::Display| {
        Problem::bad_parameter(format!("window: `{text}` is no duration such as 10s: {why}"))
    };
    let window = humantime::parse_duration(text).map_err(|error| wrong(&error))?;
    if window == Duration::ZERO {
        return Err(wrong(&"it must be longer than nothing"));
    }
    if window > MAX_WINDOW {
        let most = humantime::format_duration(MAX_WINDOW);
        return Err(Problem::window_too_long(format!(
            "the history reaches back {most}: give window={most} or less, or leave it out for everything since the process was first seen"
        )));
    }
    source.before(snapshot.taken, window).map(Some).ok_or_else(Problem::not_ready)
}

/// The profile of these processes together, over the window if there is one.
pub(in crate::export) fn profile_of(
    catalogue: &Catalogue,
    snapshot: &Snapshot,
    processes: &[&Arc<Process>],
    past: Option<&Past>,
) -> Profile {
    let mut sum = Counters::default();
    for process in processes {
        match past {
            Some(past) => sum.add(&process.counters.since(&past.counters(process))),
            None => sum.add(&process.counters),
        }
    }
    let infos = processes.iter().map(|process| ProcessInfo::of(process)).collect();
    let window = past.map(|past| snapshot.taken.duration_since(past.taken));
    let lost =
        snapshot.fallback.events_lost - past.map_or(0, |past| past.events_lost.min(snapshot.fallback.events_lost));
    profile(catalogue, infos, &sum, window, lost)
}

/// Whether a selector means this very process (not as a descendant).
pub(super) fn means(selector: &Selector, process: &Arc<Process>) -> bool {
    let alone = Snapshot {
        taken: std::time::Instant::now(),
        duration: Duration::ZERO,
        processes: vec![Arc::clone(process)],
        groups: Default::default(),
        fallback: Default::default(),
        devices: Default::default(),
        runs: Vec::new(),
    };
    !selector.select(&alone).is_empty()
}
