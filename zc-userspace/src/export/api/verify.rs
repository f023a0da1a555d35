//! `/api/v1/verify`: does it really use this path?

#![allow(unused_qualifications, reason = "in code that utoipa makes of the handlers' parameters")]

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;
use zc_common::path::{Endpoint, Mechanism};

use super::super::problem::Problem;
use super::App;
use super::query::{Params, Pid, Whom, past, profile_of, some};
use crate::ledger::Selector;
use crate::model::{Claim, Verification};

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct ClaimQuery {
    /// The mechanism that is to be used, such as sendfile.
    #[param(required = true)]
    mechanism: Option<String>,
    /// Where the bytes are to come from, such as file.
    source: Option<String>,
    /// Where they are to go, such as tcp.
    sink: Option<String>,
    /// The least share of the bytes of all paths with that sink (else that source, else of all that deliver), 0 to 1;
    /// 0.95 unless told otherwise.
    min_share: Option<f64>,
    /// How far to look back, such as 10s, at most 1m; everything if left out.
    window: Option<String>,
}

// serde can't refuse unknown fields of a structure with flattened parts, so this repeats ClaimQuery's.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct VerifyQuery {
    /// The process with this pid and its descendants. Give exactly one of pid, comm, exe, unit, container, cgroup.
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
    /// The mechanism that is to be used, such as sendfile.
    #[param(required = true)]
    mechanism: Option<String>,
    /// Where the bytes are to come from, such as file.
    source: Option<String>,
    /// Where they are to go, such as tcp.
    sink: Option<String>,
    /// The least share of the bytes of all paths with that sink (else that source, else of all that deliver), 0 to 1;
    /// 0.95 unless told otherwise.
    min_share: Option<f64>,
    /// How far to look back, such as 10s, at most 1m; everything if left out.
    window: Option<String>,
}

impl VerifyQuery {
    fn split(self) -> Result<(Selector, ClaimQuery), Problem> {
        let Self { pid, comm, exe, unit, container, cgroup, .. } = self;
        let selector = Whom { pid, comm, exe, unit, container, cgroup }.exactly_one()?;
        let Self { mechanism, source, sink, min_share, window, .. } = self;
        Ok((selector, ClaimQuery { mechanism, source, sink, min_share, window }))
    }
}

impl ClaimQuery {
    fn claim(&self) -> Result<Claim, Problem> {
        let Some(mechanism) = &self.mechanism else {
            return Err(Problem::bad_parameter(format!("mechanism is missing: give one of {}", mechanisms())));
        };
        let unknown = |what: &str, name: &str, valid: &str| {
            Problem::bad_parameter(format!("{what}: there is no `{name}`; give one of {valid}"))
        };
        let endpoint = |what: &str, name: &Option<String>| match name {
            Some(name) => Endpoint::parse(name).map(Some).ok_or_else(|| unknown(what, name, &endpoints())),
            None => Ok(None),
        };
        let min_share = self.min_share.unwrap_or(Claim::MIN_SHARE);
        if !(0.0..=1.0).contains(&min_share) {
            return Err(Problem::bad_parameter(format!("min_share: {min_share} is no share; give 0 to 1")));
        }
        Ok(Claim {
            mechanism: Mechanism::parse(mechanism).ok_or_else(|| unknown("mechanism", mechanism, &mechanisms()))?,
            source: endpoint("source", &self.source)?,
            sink: endpoint("sink", &self.sink)?,
            min_share,
        })
    }
}

fn mechanisms() -> String {
    Mechanism::ALL.iter().map(|one| one.name()).collect::<Vec<_>>().join(", ")
}

fn endpoints() -> String {
    Endpoint::ALL.iter().map(|one| one.name()).collect::<Vec<_>>().join(", ")
}

async fn judge(app: &App, selector: &Selector, query: &ClaimQuery) -> Result<Json<Verification>, Problem> {
    let claim = query.claim()?;
    if let Some(why) = app.about.catalogue.unseen(claim.mechanism) {
        return Err(Problem::bad_parameter(why));
    }
    let snapshot = app.fresh().await?;
    let processes = some(selector, &snapshot)?;
    let past = past(&app.source, &snapshot, query.window.as_deref())?;
    Ok(Json(claim.judge(&profile_of(&app.about.catalogue, &snapshot, &processes, past.as_deref()))))
}

/// Whether the traffic of the processes selected, descendants included, takes a path.
#[utoipa::path(get, path = "/api/v1/verify", params(VerifyQuery), responses(
    (status = 200, description = "The verdict and its evidence.", body = Verification),
    (status = 400, description = "A bad parameter.", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such process.", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn any(
    State(app): State<Arc<App>>,
    Params(query): Params<VerifyQuery>,
) -> Result<Json<Verification>, Problem> {
    let (selector, query) = query.split()?;
    judge(&app, &selector, &query).await
}

/// Short for /api/v1/verify?pid={pid}.
#[utoipa::path(
    get,
    path = "/api/v1/processes/{pid}/verify",
    params(("pid" = u32, Path, description = "The process that bears it, or bore it last."), ClaimQuery),
    responses(
        (status = 200, description = "The verdict and its evidence.", body = Verification),
        (status = 400, description = "A bad parameter.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such process.", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn one(
    State(app): State<Arc<App>>,
    Pid(pid): Pid,
    Params(query): Params<ClaimQuery>,
) -> Result<Json<Verification>, Problem> {
    judge(&app, &Selector::Pid(pid), &query).await
}
