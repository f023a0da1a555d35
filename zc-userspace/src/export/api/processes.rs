//! `/api/v1/processes`, `/api/v1/processes/{pid}` and `/api/v1/groups`.

#![allow(unused_qualifications, reason = "in code that utoipa makes of the handlers' parameters")]

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use clap::ValueEnum as _;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::problem::Problem;
use super::App;
use super::figures::{Figures, GroupRow, Order, ProcessRow, Sort, sort};
use super::query::{Params, Pid, means, past, profile_of};
use crate::ledger::{Counters, Process, Selector, Snapshot};
use crate::model::{PeersSince, ProcessInfo, Profile, profile};

/// How many processes a list has unless told otherwise.
const DEFAULT_LIMIT: usize = 100;
/// How many peers a process has unless told otherwise.
const DEFAULT_PEERS: usize = 10;
/// How many it may have.
const MAX_PEERS: usize = 100;

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// By what to sort: bytes (default), copied, delivered, copies_per_byte, pid or comm.
    #[param(inline)]
    sort: Sort,
    /// asc or desc; figures from the greatest and names from the first on, unless told otherwise.
    #[param(inline)]
    order: Option<Order>,
    /// How many processes at most; 100 unless told otherwise.
    limit: Option<usize>,
    /// Only processes whose command name, file, unit, container or cgroup has this text in it.
    filter: Option<String>,
    /// Only processes with this command name.
    comm: Option<String>,
    /// Only processes that run this file: its path, or its last component.
    exe: Option<String>,
    /// Only processes of this systemd unit (nginx means nginx.service).
    unit: Option<String>,
    /// Only processes of the container whose id starts so.
    container: Option<String>,
    /// Only processes in this cgroup or below.
    cgroup: Option<String>,
    /// Only this process.
    pid: Option<u32>,
    /// Only processes that have exited (true) or that live (false).
    exited: Option<bool>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProcessList {
    /// At most `limit`.
    processes: Vec<ProcessRow>,
    /// How many match.
    total: usize,
}

impl ListQuery {
    fn selectors(self) -> Vec<Selector> {
        [
            self.comm.map(Selector::Comm),
            self.exe.map(Selector::Exe),
            self.unit.map(Selector::Unit),
            self.container.map(Selector::Container),
            self.cgroup.map(Selector::Cgroup),
            self.pid.map(Selector::Pid),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Whether one of a process's names has a text in it.
fn has_text(process: &Process, text: &str) -> bool {
    let names = [&process.exe, &process.unit, &process.container, &process.cgroup];
    process.comm.contains(text) || names.into_iter().flatten().any(|name| name.contains(text))
}

/// The processes and their figures since each was first seen.
#[utoipa::path(get, path = "/api/v1/processes", params(ListQuery), responses(
    (status = 200, description = "Those that match all filters.", body = ProcessList),
    (status = 400, description = "A bad parameter.", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Params(query): Params<ListQuery>,
) -> Result<Json<ProcessList>, Problem> {
    let snapshot = app.fresh().await?;
    let (by, order, limit, exited) = (query.sort, query.order, query.limit.unwrap_or(DEFAULT_LIMIT), query.exited);
    let filter = query.filter.clone().unwrap_or_default();
    let selectors = query.selectors();
    let wanted = snapshot.processes.iter().filter(|process| {
        exited.is_none_or(|exited| exited == process.exited)
            && has_text(process, &filter)
            && selectors.iter().all(|one| means(one, process))
    });
    let mut processes: Vec<_> = wanted
        .map(|process| {
            let profile = profile(&app.about.catalogue, Vec::new(), &process.counters, None, 0);
            ProcessRow::of(ProcessInfo::of(process), &profile)
        })
        .collect();
    let total = processes.len();
    sort(&mut processes, by, order);
    processes.truncate(limit);
    Ok(Json(ProcessList { processes, total }))
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct OneQuery {
    /// How far to look back, such as 10s, at most 1m; everything since the process was first seen if left out. The
    /// answer's window_seconds says the window really covered: it begins at a kept snapshot.
    window: Option<String>,
    /// Whether to take in all its descendants.
    descendants: bool,
    /// How many peers to name, at most 100; 10 unless told otherwise. They are since the process was first seen, whatever the
    /// window: the answer's peers_since says so.
    peers: Option<usize>,
}

/// The copy profile of one process.
#[utoipa::path(
    get,
    path = "/api/v1/processes/{pid}",
    params(("pid" = u32, Path, description = "The process that bears it, or bore it last."), OneQuery),
    responses(
        (status = 200, description = "The profile.", body = Profile),
        (status = 400, description = "A bad parameter.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such process.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn one(
    State(app): State<Arc<App>>,
    Pid(pid): Pid,
    Params(query): Params<OneQuery>,
) -> Result<Json<Profile>, Problem> {
    let most = query.peers.unwrap_or(DEFAULT_PEERS);
    if most > MAX_PEERS {
        return Err(Problem::bad_parameter(format!("peers: {most} are too many: give at most {MAX_PEERS}")));
    }
    let snapshot = app.fresh().await?;
    let process = snapshot.by_pid(pid).ok_or_else(|| no_such_pid(pid))?;
    let past = past(&app.source, &snapshot, query.window.as_deref())?;
    let family = if query.descendants { Selector::Key(process.key).select(&snapshot) } else { vec![process] };
    let mut profile = profile_of(&app.about.catalogue, &snapshot, &family, past.as_deref());
    if let Some(peers) = app.peers().await? {
        profile.put_peers(&peers, most, PeersSince::FirstSeen);
    }
    Ok(Json(profile))
}

pub(super) fn no_such_pid(pid: u32) -> Problem {
    Problem::no_such_process(format!(
        "no process with pid {pid} runs, and none exited lately (see --retain): /api/v1/processes lists them; zcprof does not count itself"
    ))
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupList {
    /// What the groups are: comm, exe, unit, cgroup or pid.
    group_by: String,
    /// By name.
    groups: Vec<GroupRow>,
}

/// The groups of the metrics and their figures.
#[utoipa::path(get, path = "/api/v1/groups", responses(
    (status = 200, description = "All groups that did anything.", body = GroupList),
))]
pub(super) async fn groups(State(app): State<Arc<App>>) -> Result<Json<GroupList>, Problem> {
    let snapshot: Arc<Snapshot> = app.fresh().await?;
    let row = |(group, counters): (&String, &Counters)| GroupRow {
        group: group.clone(),
        figures: Figures::of(&profile(&app.about.catalogue, Vec::new(), counters, None, 0)),
    };
    let group_by = app.about.group_by.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
    Ok(Json(GroupList { group_by, groups: snapshot.groups.iter().map(row).collect() }))
}
