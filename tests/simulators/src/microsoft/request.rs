//! What every Graph request carries: the grant behind its token, its `Prefer` headers, its query options.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::error::{Outcome, denied, fail};
use super::times;
use crate::plumbing::Request;

/// Who a token speaks for: a user with scopes, or the application with roles.
#[derive(Debug, Clone)]
pub struct Grant {
    pub user: Option<String>,
    pub scopes: BTreeSet<String>,
}

impl Grant {
    pub fn any(&self, scopes: &[&str]) -> Outcome<()> {
        if scopes.iter().any(|s| self.scopes.contains(*s)) { Ok(()) } else { Err(denied()) }
    }
}

/// The preferences of all `Prefer` headers, each of which may be a comma list.
#[derive(Debug, Clone, Default)]
pub struct Prefer {
    pub timezone: Option<String>,
    pub text_body: bool,
    pub immutable: bool,
    pub page_size: Option<usize>,
}

impl Prefer {
    pub fn read(headers: &[(String, String)]) -> Outcome<Self> {
        let mut out = Self::default();
        for (_, header) in headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("prefer")) {
            for part in split_outside_quotes(header, ",") {
                let (name, value) = part.split_once('=').unwrap_or((&part, ""));
                let value = value.trim().trim_matches('"');
                match name.trim().to_ascii_lowercase().as_str() {
                    "outlook.timezone" => {
                        let message = "The time zone of Prefer: outlook.timezone is not supported.";
                        times::zone(value).map_err(|_| fail(400, "ErrorInvalidTimeZone", message))?;
                        out.timezone = Some(value.to_owned());
                    }
                    "outlook.body-content-type" => out.text_body = value.eq_ignore_ascii_case("text"),
                    "idtype" => out.immutable = value.eq_ignore_ascii_case("ImmutableId"),
                    "odata.maxpagesize" => out.page_size = value.parse().ok().filter(|n| *n > 0),
                    _ => {}
                }
            }
        }
        Ok(out)
    }
}

/// Splits at a separator that stands outside quotes and parentheses.
pub fn split_outside_quotes(text: &str, separator: &str) -> Vec<String> {
    let (mut out, mut piece) = (Vec::new(), String::new());
    let (mut quote, mut depth) = (None, 0_i32);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if quote.is_none() && depth == 0 && rest.starts_with(separator) {
            out.push(std::mem::take(&mut piece));
            rest = rest.get(separator.len()..).unwrap_or_default();
            continue;
        }
        match (c, quote) {
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            ('(', None) => depth += 1,
            (')', None) => depth -= 1,
            _ => {}
        }
        piece.push(c);
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    out.push(piece);
    out.into_iter().map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()).collect()
}

/// One Graph request with what was learned from its headers.
pub struct Call<'a> {
    pub request: &'a Request,
    pub grant: Grant,
    pub prefer: Prefer,
}

impl Call<'_> {
    pub fn method(&self) -> &str {
        &self.request.method
    }

    pub fn allow(&self, methods: &[&str]) -> Outcome<()> {
        if methods.contains(&self.method()) {
            return Ok(());
        }
        Err(fail(405, "UnsupportedMethod", "The OData request is not supported.").header("Allow", &methods.join(", ")))
    }

    pub fn select(&self) -> Option<Vec<String>> {
        let names = self.request.query("$select")?.split(',').map(|n| n.trim().to_owned());
        Some(names.filter(|n| !n.is_empty()).collect::<Vec<_>>()).filter(|names| !names.is_empty())
    }

    pub fn body(&self) -> Outcome<Map<String, Value>> {
        let kind = self.request.header("Content-Type").unwrap_or_default().to_ascii_lowercase();
        if !kind.contains("application/json") {
            return Err(fail(415, "UnsupportedMediaType", "Content-Type must be application/json"));
        }
        match self.request.json() {
            Ok(Value::Object(map)) => Ok(map),
            _ => Err(fail(400, "BadRequest", "Unable to read JSON request payload. An object is expected.")),
        }
    }

    /// `$top`, within what the collection allows.
    pub fn top(&self, default: usize, cap: usize) -> Outcome<usize> {
        let Some(text) = self.request.query("$top") else { return Ok(default) };
        let message = || fail(400, "ErrorInvalidUrlQuery", format!("The value of $top must be between 1 and {cap}."));
        text.parse().ok().filter(|n| (1..=cap).contains(n)).ok_or_else(message)
    }

    pub fn skip(&self) -> Outcome<usize> {
        let Some(text) = self.request.query("$skip") else { return Ok(0) };
        text.parse().map_err(|_| fail(400, "ErrorInvalidUrlQuery", "The value of $skip must be a number."))
    }

    /// The absolute address of this path with other query options.
    pub fn link(&self, options: &[(String, String)]) -> String {
        let query: Vec<String> = options.iter().map(|(k, v)| format!("{k}={}", encode(v))).collect();
        format!("{}{}?{}", self.request.base, self.request.raw_path, query.join("&"))
    }

    /// The next page of a list: all options kept, `$skip` moved.
    pub fn next_link(&self, skip: usize) -> String {
        let mut options: Vec<(String, String)> =
            self.request.query.iter().filter(|(k, _)| k != "$skip").cloned().collect();
        options.push(("$skip".to_owned(), skip.to_string()));
        self.link(&options)
    }

    pub fn check_etag(&self, etag: &str) -> Outcome<()> {
        let Some(given) = self.request.header("If-Match").map(str::trim) else { return Ok(()) };
        let bare = |text: &str| text.trim_start_matches("W/").trim_matches('"').to_owned();
        if given == "*" || bare(given) == bare(etag) {
            return Ok(());
        }
        let key = bare(given);
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || "+/=_-".contains(c)) {
            return Err(fail(400, "ErrorInvalidChangeKey", "The change key is invalid."));
        }
        Err(super::error::conflict())
    }
}

pub fn encode(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_preferences_may_be_one_comma_list() {
        let header = r#"IdType="ImmutableId", outlook.timezone="Europe/Berlin", odata.maxpagesize=7"#;
        let prefer = Prefer::read(&[("prefer".to_owned(), header.to_owned())]).unwrap();
        assert!(prefer.immutable && !prefer.text_body);
        assert_eq!((prefer.timezone.as_deref(), prefer.page_size), (Some("Europe/Berlin"), Some(7)));
    }

    #[test]
    fn an_unknown_time_zone_preference_is_refused() {
        let header = ("Prefer".to_owned(), "outlook.timezone=\"Mars\"".to_owned());
        assert_eq!(Prefer::read(&[header]).unwrap_err().status, 400);
    }

    #[test]
    fn splitting_respects_quotes_and_parentheses() {
        let text = "subject eq 'a and b' and Any(ep: ep/id eq 'x' and ep/value eq 'y') and isAllDay eq true";
        assert_eq!(split_outside_quotes(text, " and ").len(), 3);
    }
}
