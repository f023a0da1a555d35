//! `/api/v1/rules`: the verify rules of the configuration, judged now.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::problem::Problem;
use super::super::rules::{RuleAnswer, judge};
use super::App;

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RuleList {
    /// In the order of the configuration file.
    rules: Vec<RuleAnswer>,
}

/// Whether each verify rule's claim holds, with the evidence.
#[utoipa::path(get, path = "/api/v1/rules", responses(
    (status = 200, description = "One answer for each rule.", body = RuleList),
))]
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Json<RuleList>, Problem> {
    let snapshot = app.fresh().await?;
    Ok(Json(RuleList { rules: judge(&app.about, &app.source, &snapshot) }))
}
