//! `/api/v1/history`: how bytes hopped over the last ten minutes.

#![allow(unused_qualifications, reason = "in code that utoipa makes of the handlers' parameters")]

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::history::{Point, REACH, STEP, Whose};
use super::super::problem::Problem;
use super::App;
use super::processes::no_such_pid;
use super::query::Params;

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// Only this process's (not its descendants'); not together with group.
    pid: Option<u32>,
    /// Only this group's, as in the metrics; the host's if both are left out, with what could be told to be nobody's.
    group: Option<String>,
    /// Only steps that ended later than this, in milliseconds since 1970.
    since: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HistoryList {
    /// How long a step is, or a little more.
    step_seconds: f64,
    /// How far the daemon keeps them, once it has run for so long.
    reach_seconds: f64,
    /// Oldest first.
    points: Vec<Point>,
}

/// What moved from place to place, step by step.
#[utoipa::path(get, path = "/api/v1/history", params(HistoryQuery), responses(
    (status = 200, description = "The steps of the last ten minutes.", body = HistoryList),
    (status = 400, description = "A bad parameter.", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such process.", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Params(query): Params<HistoryQuery>,
) -> Result<Json<HistoryList>, Problem> {
    let whose = match (query.pid, query.group) {
        (None, None) => Whose::Host,
        (None, Some(group)) => Whose::Group(group),
        (Some(pid), None) => {
            let snapshot = app.fresh().await?;
            Whose::Process(snapshot.by_pid(pid).ok_or_else(|| no_such_pid(pid))?.key)
        }
        (Some(_), Some(_)) => return Err(Problem::bad_parameter("give pid or group, not both")),
    };
    Ok(Json(HistoryList {
        step_seconds: STEP.as_secs_f64(),
        reach_seconds: REACH.as_secs_f64(),
        points: app.history.of(&whose, query.since),
    }))
}
