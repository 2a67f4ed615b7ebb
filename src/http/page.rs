//! Small pages without a layout: the list of routes, and what a user sees at the end of a sign-in. Everything that is put into
//! them is escaped.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};

use super::ui::{Lang, in_language};

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
    whole(Lang::En, status, title, &format!("<h1>{}</h1>{body}", escape(title)))
}

/// A page of one sentence, in the language of the browser.
pub(super) fn sentence(request: &HttpRequest, status: StatusCode, title: &str, text: &str) -> HttpResponse {
    let lang = Lang::of_request(request);
    let title = &in_language(lang, title);
    let (heading, text) = (escape(title), escape(&in_language(lang, text)));
    let logo = "<p class=\"logo\"><svg viewBox=\"0 0 24 24\" aria-hidden=\"true\"><path \
                d=\"M4 8h11l-3-3M20 16H9l3 3\"/></svg>espo-outlook</p>";
    let link = format!("<p><a class=\"button\" href=\"/\">{}</a></p>", escape(lang.t("problem.home")));
    whole(lang, status, title, &format!("{logo}<div class=\"card\"><h1>{heading}</h1><p>{text}</p>{link}</div>"))
}

fn whole(lang: Lang, status: StatusCode, title: &str, main: &str) -> HttpResponse {
    let (title, css, lang) = (escape(title), super::ui::CSS, lang.code());
    let page = format!(
        "<!doctype html><html lang=\"{lang}\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><title>{title} · espo-outlook</title><link rel=\"icon\" \
         href=\"/assets/icon.svg\" type=\"image/svg+xml\"><link rel=\"stylesheet\" href=\"{css}\"></head><body \
         class=\"plain\"><main class=\"narrow\">{main}</main></body></html>"
    );
    HttpResponse::build(status).content_type("text/html; charset=utf-8").body(page)
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn nothing_that_is_put_into_a_page_becomes_markup() {
        assert_eq!(escape(r#"<a href="x" b='y'>&"#), "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp;");
    }
}
