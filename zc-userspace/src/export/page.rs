//! `/`: a plain page. Nothing on it comes from elsewhere, and names are only ever set as text.

use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};

/// The page may load its own script and ask this daemon; nothing else, and nobody may frame it.
pub(super) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page.
pub(super) async fn html() -> Html<&'static str> {
    Html(include_str!("page.html"))
}

/// The page's script: a file of its own, so that the policy need not allow inline scripts at all.
pub(super) async fn script() -> Response {
    let kind = HeaderValue::from_static("text/javascript; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], include_str!("page.js")).into_response()
}
