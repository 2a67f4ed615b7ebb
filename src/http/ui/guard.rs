//! What stands before every page: the session, the form with its token, and a page for every error.

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{HOST, REFERER};
use actix_web::middleware::Next;
use actix_web::web::{Bytes, Data};
use actix_web::{Error, HttpMessage as _, HttpRequest, HttpResponse};
use askama::Template;
use url::Url;

use super::form::Form;
use super::view::{Flash, View};
use crate::app::App;
use crate::http::audit;
use crate::http::problem::Problem;
use crate::http::session::{self, CSRF_FIELD, CSRF_HEADER, Caller};

type Answer = Result<ServiceResponse<BoxBody>, Error>;

/// For administrators.
pub(super) async fn admin(request: ServiceRequest, next: Next<BoxBody>) -> Answer {
    guarded(request, next, Door::Admins).await
}

/// For everybody who is signed in.
pub(super) async fn anyone(request: ServiceRequest, next: Next<BoxBody>) -> Answer {
    guarded(request, next, Door::Users).await
}

/// For everybody: there is no session yet, so a form can bring no token, and only where it comes from is looked at.
pub(super) async fn public(request: ServiceRequest, next: Next<BoxBody>) -> Answer {
    guarded(request, next, Door::Open).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    Users,
    Admins,
}

async fn guarded(mut request: ServiceRequest, next: Next<BoxBody>, door: Door) -> Answer {
    match admitted(&mut request, door).await {
        Ok(None) => noted(request, next).await,
        Ok(Some(elsewhere)) => Ok(request.into_response(elsewhere)),
        Err(problem) => {
            let page = problem_page(request.request(), &problem).await;
            Ok(request.into_response(page))
        }
    }
}

/// What changes something is noted in the audit.
async fn noted(request: ServiceRequest, next: Next<BoxBody>) -> Answer {
    let app = request.app_data::<Data<App>>().cloned().filter(|_| !request.method().is_safe());
    let caller = request.extensions().get::<Caller>().cloned();
    let (Some(app), Some(caller)) = (app, caller) else { return presentable(next.call(request).await?).await };
    let action = audit::action_of_page(&request.match_pattern().unwrap_or_default());
    let told = request.extensions().get::<Form>().map(Form::told).unwrap_or_default();
    let entry = audit::begin(&app, &audit::actor(&caller), &action, request.path(), told).await?;
    let response = next.call(request).await?;
    audit::end(&app, &entry, response.status().as_u16()).await;
    presentable(response).await
}

/// None when the request may go on; else where it is sent instead.
async fn admitted(request: &mut ServiceRequest, door: Door) -> Result<Option<HttpResponse>, Problem> {
    let caller = session::of_request(request).await?;
    if caller.is_none() && door != Door::Open {
        return Ok(Some(to_sign_in(request)));
    }
    let app = request.app_data::<Data<App>>().cloned();
    if !request.method().is_safe() {
        let body = request.extract::<Bytes>().await.map_err(|error| Problem::bad_request(error.to_string()))?;
        let form = Form::parse(&body);
        let header = request.headers().get(CSRF_HEADER).and_then(|value| value.to_str().ok());
        let has_token = caller.as_ref().is_some_and(|caller| caller.has_csrf(form.raw(CSRF_FIELD).or(header)));
        let is_from_here = app.as_ref().is_some_and(|app| session::is_from_here(app, request));
        if !is_from_here || (door != Door::Open && !has_token) {
            let detail =
                "The form is too old, or does not come from this page. Open the page again and send it from there.";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        request.extensions_mut().insert(form);
    }
    let is_admin = caller.as_ref().is_some_and(|caller| caller.is_admin);
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    if door == Door::Admins && !is_admin {
        return Err(Problem::new(StatusCode::FORBIDDEN, "This page is for administrators."));
    }
    Ok(None)
}

fn to_sign_in(request: &ServiceRequest) -> HttpResponse {
    let wanted = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let to = match request.method().is_safe() && wanted != "/" {
        true => {
            let query: String = url::form_urlencoded::byte_serialize(wanted.as_bytes()).collect();
            format!("/sign-in?to={query}")
        }
        false => "/sign-in".to_owned(),
    };
    if request.headers().contains_key("HX-Request") {
        return HttpResponse::Ok().insert_header(("HX-Redirect", to)).finish();
    }
    super::redirect(&to)
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    v: &'a View,
    status: u16,
    detail: &'a str,
}

async fn problem_page(request: &HttpRequest, problem: &Problem) -> HttpResponse {
    let view = View::of(request).await;
    let detail = view.said(&problem.detail);
    let page = ProblemPage { v: &view, status: problem.status, detail: &detail };
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    super::render(&view, status, &page).unwrap_or_else(|problem| actix_web::ResponseError::error_response(&problem))
}

/// Errors are pages; that of a form goes back to the page with the form.
async fn presentable(response: ServiceResponse<BoxBody>) -> Answer {
    let problem = response.response().error().and_then(|error| error.as_error::<Problem>()).cloned();
    let Some(problem) = problem else { return Ok(response) };
    let (request, _) = response.into_parts();
    let back = (!request.method().is_safe() && problem.status < 500).then(|| back(&request)).flatten();
    let page = match back {
        Some(back) => {
            let mut response = super::redirect(&back);
            let detail = View::of(&request).await.said(&problem.detail);
            // A cookie of ours can always be written.
            response.add_cookie(&Flash::bad(detail).cookie()).ok();
            response
        }
        None => problem_page(&request, &problem).await,
    };
    Ok(ServiceResponse::new(request, page))
}

/// The page that the form was on.
fn back(request: &HttpRequest) -> Option<String> {
    let from: Url = request.headers().get(REFERER)?.to_str().ok()?.parse().ok()?;
    let host = request.headers().get(HOST)?.to_str().ok()?;
    let is_ours = from.host_str().is_some_and(|name| host.split(':').next() == Some(name));
    let query = from.query().map(|query| format!("?{query}")).unwrap_or_default();
    is_ours.then(|| format!("{}{query}", from.path()))
}

/// Who asks, where anybody may.
pub(super) fn caller(request: &HttpRequest) -> Option<Caller> {
    request.extensions().get::<Caller>().cloned()
}
