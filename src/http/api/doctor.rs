//! `/doctor`: what `espo-outlook doctor` prints.

use actix_web::web::{self, Data, Json, ServiceConfig};

use super::Answer;
use crate::app::App;
use crate::app::doctor::Report;
use crate::http::problem::Problem;
use crate::http::resource;

pub(super) fn configure(routes: &mut ServiceConfig) {
    routes.service(resource("/doctor", "GET").route(web::get().to(show)));
}

/// Looks at everything: one check a line, each with its remedy. Takes some seconds
#[utoipa::path(get, path = "/api/v1/doctor", tag = "operation", responses((status = 200, body = Report)))]
pub async fn show(app: Data<App>) -> Answer<Report> {
    let inner = app.get_ref().clone();
    let report = app.on_main(async move { crate::app::doctor::of_app(&inner).await }).await;
    report.map(Json).ok_or_else(|| Problem::unavailable("the service is stopping"))
}
