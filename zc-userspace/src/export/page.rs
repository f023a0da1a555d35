//! `/`: the page. Nothing on it comes from elsewhere, and names are only ever set as text.

use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};

/// The page may load its own scripts and style, and ask this daemon; nothing else, and nobody may frame it.
pub(super) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page.
pub(super) async fn html() -> Html<&'static str> {
    Html(include_str!("page/page.html"))
}

/// Its style: a file of its own, as the scripts are, so that the policy need not allow anything inline.
pub(super) async fn style() -> Response {
    file("text/css; charset=utf-8", include_str!("page/page.css"))
}

/// Asks the daemon and keeps what it answers.
pub(super) async fn script() -> Response {
    javascript(include_str!("page/page.js"))
}

/// Draws the places and the bands between them.
pub(super) async fn flow() -> Response {
    javascript(include_str!("page/flow.js"))
}

/// Fills the tables.
pub(super) async fn table() -> Response {
    javascript(include_str!("page/table.js"))
}

fn javascript(text: &'static str) -> Response {
    file("text/javascript; charset=utf-8", text)
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response()
}
