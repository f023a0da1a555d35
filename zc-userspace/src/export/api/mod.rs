//! The HTTP API: routes, what they share, and what holds for every answer.

mod advise;
mod events;
mod figures;
mod history;
mod processes;
mod query;
mod rules;
mod verify;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tracing::debug;
use utoipa::OpenApi;

use super::catalogue::{PathList, ProbeList, paths_json, probes_json};
pub(super) use query::profile_of;

use super::history::History;
use super::problem::Problem;
use super::source::Source;
use super::streams::Streams;
use super::web::{self, Web};
use super::{About, page, prometheus};
use crate::ledger::{Peers, Snapshot};

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How many bytes of body are ignored; a request with more is refused.
const MAX_BODY: u64 = 4096;

/// What the handlers read.
pub struct App {
    /// What does not change.
    pub about: About,
    /// Snapshots.
    pub source: Arc<Source>,
    /// What moved in the last ten minutes.
    pub history: Arc<History>,
    /// Who listens to operations; none where the kernel tells none.
    pub streams: Option<Arc<Streams>>,
}

impl App {
    async fn fresh(&self) -> Result<Arc<Snapshot>, Problem> {
        let failed = |error| Problem::failed(&format_args!("can't read the ledger: {error}"));
        self.source.fresh().await.map_err(failed)
    }

    async fn peers(&self) -> Result<Option<Arc<Peers>>, Problem> {
        let failed = |error| Problem::failed(&format_args!("can't read the peers: {error}"));
        self.source.peers().await.map_err(failed)
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "zcprof",
        description = "Which copy path (mechanism x source x sink) every byte of each process took, and how often the CPU copied it.",
        license(name = "MIT OR Apache-2.0")
    ),
    paths(
        metrics,
        healthy,
        ready,
        processes::list,
        processes::one,
        verify::one,
        verify::any,
        advise::list,
        events::stream_of,
        processes::groups,
        history::list,
        rules::list,
        paths,
        probes
    )
)]
struct Document;

/// The router of everything that the daemon serves; with a web configuration, to those whom it lets in.
pub fn router(app: Arc<App>, web: Option<Arc<Web>>) -> Router {
    let routes = Router::new()
        .route("/", get(page::html))
        .route("/page.css", get(page::style))
        .route("/page.js", get(page::script))
        .route("/flow.js", get(page::flow))
        .route("/table.js", get(page::table))
        .route("/metrics", get(metrics))
        .route("/-/healthy", get(healthy))
        .route("/-/ready", get(ready))
        .route("/openapi.json", get(openapi))
        .route("/api/v1/processes", get(processes::list))
        .route("/api/v1/processes/{pid}", get(processes::one))
        .route("/api/v1/processes/{pid}/verify", get(verify::one))
        .route("/api/v1/processes/{pid}/events", get(events::stream_of))
        .route("/api/v1/verify", get(verify::any))
        .route("/api/v1/advise", get(advise::list))
        .route("/api/v1/groups", get(processes::groups))
        .route("/api/v1/history", get(history::list))
        .route("/api/v1/rules", get(rules::list))
        .route("/api/v1/paths", get(paths))
        .route("/api/v1/probes", get(probes))
        .fallback(async |request: Request| Problem::no_such_resource(request.uri().path()))
        .method_not_allowed_fallback(async |request: Request| Problem::wrong_method(request.method().as_str()));
    let routes = match web {
        Some(web) => routes.layer(middleware::from_fn_with_state(web, web::check)),
        None => routes,
    };
    routes.layer(middleware::from_fn(guard)).with_state(app)
}

/// Bounds every request, and adds to every answer what browsers must know.
async fn guard(request: Request<Body>, next: Next) -> Response {
    let begun = Instant::now();
    let asked = format!("{} {}", request.method(), request.uri());
    let mut response = if request.body().size_hint().lower() > MAX_BODY {
        Problem::body_too_large().into_response()
    } else {
        match tokio::time::timeout(ANSWER_TIMEOUT, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Problem::timeout().into_response(),
        }
    };
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, page::CONTENT_SECURITY_POLICY),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        // Unless the web configuration sets it.
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    debug!(request = asked, status = response.status().as_u16(), took = ?begun.elapsed(), "answered");
    response
}

/// The ledger by group, in Prometheus's text format.
#[utoipa::path(get, path = "/metrics", responses(
    (status = 200, description = "Metrics.", body = String, content_type = "text/plain; version=0.0.4"),
))]
async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let snapshot = app.fresh().await?;
    let text = prometheus::render(&app.about, &snapshot, app.source.durations());
    let rules = super::rules::metrics(&super::rules::judge(&app.about, &app.source, &snapshot));
    let text = text.and_then(|text| Ok([text, rules?].concat()));
    let text = text.map_err(|error| Problem::failed(&format_args!("can't render the metrics: {error}")))?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(prometheus::CONTENT_TYPE))], text).into_response())
}

/// Whether the daemon runs.
#[utoipa::path(get, path = "/-/healthy", responses((status = 200, description = "It does.", body = String)))]
async fn healthy() -> &'static str {
    "healthy\n"
}

/// Whether the daemon has counted.
#[utoipa::path(get, path = "/-/ready", responses(
    (status = 200, description = "The first snapshot has been taken.", body = String),
    (status = 503, description = "Not yet.", body = Problem, content_type = "application/problem+json"),
))]
async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    app.source.latest().map(|_| "ready\n").ok_or_else(Problem::not_ready)
}

async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}

/// The catalogue of copy paths.
#[utoipa::path(get, path = "/api/v1/paths", responses((status = 200, description = "One for each path.", body = PathList)))]
async fn paths(State(app): State<Arc<App>>) -> Json<PathList> {
    Json(paths_json(&app.about.catalogue))
}

/// What is attached here, and why what is not is not.
#[utoipa::path(get, path = "/api/v1/probes", responses((status = 200, description = "One for each probe.", body = ProbeList)))]
async fn probes(State(app): State<Arc<App>>) -> Json<ProbeList> {
    Json(probes_json(&app.about.kernel, &app.about.probes))
}
