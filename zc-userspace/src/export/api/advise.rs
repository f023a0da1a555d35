//! `/api/v1/advise`: what is copied needlessly, and which call would save it.

#![allow(unused_qualifications, reason = "in code that utoipa makes of the handlers' parameters")]

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::super::problem::Problem;
use super::App;
use super::query::{Params, Whom, past, some};
use crate::agent::cipher_library;
use crate::ledger::Process;
use crate::model::{AdviceReport, report};

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct AdviseQuery {
    /// The process with this pid and its descendants. Give at most one of pid, comm, exe, unit, container, cgroup; all
    /// processes if none is given.
    pid: Option<u32>,
    /// Every process with this command name, and descendants.
    comm: Option<String>,
    /// Every process that runs this file (its path, or its last component), and descendants.
    exe: Option<String>,
    /// Every process of this systemd unit, and descendants.
    unit: Option<String>,
    /// Every process of the container whose id starts so, and descendants.
    container: Option<String>,
    /// Every process in this cgroup or below, and descendants.
    cgroup: Option<String>,
    /// How far to look back, such as 10s, at most 1m; everything if left out.
    window: Option<String>,
}

/// What processes copy needlessly, and which call would save it. Upper bounds, and modelled.
#[utoipa::path(get, path = "/api/v1/advise", params(AdviseQuery), responses(
    (status = 200, description = "What there is to say, by process and by group.", body = AdviceReport),
    (status = 400, description = "A bad parameter.", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such process.", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Params(query): Params<AdviseQuery>,
) -> Result<Json<AdviceReport>, Problem> {
    let AdviseQuery { pid, comm, exe, unit, container, cgroup, window } = query;
    let selector = Whom { pid, comm, exe, unit, container, cgroup }.at_most_one()?;
    let snapshot = app.fresh().await?;
    let past = past(&app.source, &snapshot, window.as_deref())?;
    let processes = match &selector {
        Some(selector) => some(selector, &snapshot)?,
        None => snapshot.processes.iter().collect(),
    };
    let processes: Vec<_> = processes.into_iter().cloned().collect();
    // Whether a process may encipher is read from /proc.
    let said = tokio::task::spawn_blocking(move || {
        let did = |process: &Process| match &past {
            Some(past) => process.counters.since(&past.counters(process)),
            None => process.counters.clone(),
        };
        let of = processes.iter().map(|process| (&**process, did(process)));
        let window = past.as_ref().map(|past| snapshot.taken.duration_since(past.taken));
        report(&app.about.catalogue, app.about.group_by, of, window, cipher_library)
    });
    said.await.map(Json).map_err(|error| Problem::failed(&error))
}
