//! A small Outlook in the browser (stub).
use super::GraphSim;
use crate::plumbing::{Request, Response};
pub fn page(title: &str, body: &str) -> Response {
    Response::html(200, format!("<!doctype html><title>{title}</title>{body}"))
}
pub fn handle(_sim: &GraphSim, _request: &Request) -> Response {
    page("Outlook", "")
}
