//! The page for people.
use super::EspoSim;
use crate::plumbing::{Request, Response};
pub(super) fn answer(_: &EspoSim, _: &Request) -> Response {
    Response::html(200, String::new())
}
