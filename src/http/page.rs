//! Small pages: the status page, and what a user sees at the end of a sign-in. Everything that is put into them is escaped.

use std::fmt::Write as _;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::Data;

use super::problem::Problem;
use crate::app::App;

/// Text as it may stand in an element or a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A page; `body` is HTML.
pub(super) fn html(status: StatusCode, title: &str, body: &str) -> HttpResponse {
    let title = escape(title);
    let page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><title>{title}</title><style>body{{font:16px/1.5 system-ui,\
         sans-serif;max-width:50rem;margin:3rem auto;padding:0 1rem}}th,td{{text-align:left;padding:.2rem 1rem .2rem 0}}\
         code{{background:#eee;padding:0 .2rem}}</style></head><body><main><h1>{title}</h1>{body}</main></body></html>"
    );
    HttpResponse::build(status).content_type("text/html; charset=utf-8").body(page)
}

/// A page of one sentence.
pub(super) fn sentence(status: StatusCode, title: &str, text: &str) -> HttpResponse {
    html(status, title, &format!("<p>{}</p>", escape(text)))
}

/// `GET /`: what anybody may know, without names and numbers of anybody.
pub(super) async fn status(app: Data<App>) -> Result<HttpResponse, Problem> {
    let settings = app.connections().settings();
    let is_up = app.store().ping().await.is_ok();
    let rows = [
        ("Service", if settings.enabled { "running" } else { "switched off in the settings" }),
        ("Database", if is_up { "in order" } else { "cannot be used" }),
        ("EspoCRM", if app.connections().espocrm().is_some() { "configured" } else { "not configured" }),
        ("Microsoft", if app.connections().graph().is_some() { "configured" } else { "not configured" }),
    ];
    let mut table = String::from("<table>");
    for (name, value) in rows {
        let _ = write!(table, "<tr><th>{name}</th><td>{value}</td></tr>");
    }
    table.push_str("</table><p>The admin API is described at <a href=\"/api/docs\">/api/docs</a>.</p>");
    Ok(html(StatusCode::OK, "espo-outlook", &table))
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn nothing_that_is_put_into_a_page_becomes_markup() {
        assert_eq!(escape(r#"<a href="x" b='y'>&"#), "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp;");
    }
}
