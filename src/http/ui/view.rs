//! What every page knows: the language, the theme, who is signed in, what is to be said, and how values are shown.

use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;

use actix_web::cookie::{Cookie, SameSite, time::Duration as CookieDuration};
use actix_web::dev::Payload;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest};
use askama::filters::Safe;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::assets;
use super::guard;
use super::lang::Lang;
use super::sentences;
use crate::app::App;
use crate::app::provision::Done;
use crate::http::access::Closed;
use crate::http::api::settings::Access;
use crate::http::api::users::People;
use crate::http::page::escape;
use crate::http::problem::Problem;
use crate::http::session::Caller;

pub const LANG_COOKIE: &str = "espo_outlook_lang";
pub const THEME_COOKIE: &str = "espo_outlook_theme";
const FLASH_COOKIE: &str = "espo_outlook_flash";

/// Light, dark, or as the system says.
pub const THEMES: [&str; 3] = ["auto", "light", "dark"];

/// What was done, or why not: said once, on the next page.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Flash {
    pub good: bool,
    pub text: String,
}

impl Flash {
    pub fn good(text: impl Into<String>) -> Self {
        Self { good: true, text: text.into() }
    }

    pub fn bad(text: impl Into<String>) -> Self {
        Self { good: false, text: text.into() }
    }

    pub fn cookie(self) -> Cookie<'static> {
        // Browsers keep no cookie above 4 KiB.
        let text: String = self.text.chars().take(600).collect();
        let json = serde_json::to_vec(&Self { text, ..self }).unwrap_or_default();
        flash_cookie(URL_SAFE_NO_PAD.encode(json), CookieDuration::minutes(1))
    }

    fn of(request: &HttpRequest) -> Option<Self> {
        let cookie = request.cookie(FLASH_COOKIE)?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(cookie.value()).ok()?).ok()
    }
}

fn flash_cookie(value: String, life: CookieDuration) -> Cookie<'static> {
    Cookie::build(FLASH_COOKIE, value).path("/").http_only(true).same_site(SameSite::Lax).max_age(life).finish()
}

pub fn flash_spent() -> Cookie<'static> {
    flash_cookie(String::new(), CookieDuration::ZERO)
}

/// What waits for somebody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Waiting {
    pub holds: u64,
    pub dead: u64,
}

/// A link of the menu.
pub struct Item {
    pub href: &'static str,
    pub key: &'static str,
    /// A path in a square of 24, drawn as a line.
    pub icon: &'static str,
    pub count: u64,
    pub is_here: bool,
}

/// Something that is closed to the caller: what it is called, what is left of it, and whose doing that is.
pub struct ClosedField {
    pub name: String,
    pub access: &'static str,
    pub roles: String,
}

/// What every page knows.
#[derive(Debug, Clone)]
pub struct View {
    pub lang: Lang,
    pub theme: &'static str,
    pub caller: Option<Caller>,
    pub path: String,
    pub flash: Option<Flash>,
    pub waiting: Waiting,
    pub now: DateTime<Utc>,
    pub is_configured: bool,
    /// EspoCRM's users, as far as they are known.
    pub people: Option<Data<People>>,
}

impl FromRequest for View {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { Ok(Self::of(&request).await) })
    }
}

/// Some links of the menu.
pub struct Group {
    pub key: &'static str,
    pub items: Vec<Item>,
}

type Links = &'static [(&'static str, &'static str)];

/// Groups of links, and whether they are for administrators.
const MENU: &[(&str, bool, Links)] = &[
    (
        "nav.oversee",
        true,
        &[
            ("/", "nav.overview"),
            ("/users", "nav.users"),
            ("/holds", "nav.holds"),
            ("/history", "nav.history"),
            ("/records", "nav.records"),
        ],
    ),
    (
        "nav.operate",
        true,
        &[
            ("/sync", "nav.sync"),
            ("/messages", "nav.messages"),
            ("/subscriptions", "nav.subscriptions"),
            ("/audit", "nav.audit"),
            ("/log", "nav.log"),
        ],
    ),
    (
        "nav.configure",
        true,
        &[
            ("/setup", "setup.title"),
            ("/doctor", "nav.doctor"),
            ("/settings", "nav.settings"),
            ("/rules", "nav.rules"),
            ("/schedules", "nav.schedules"),
            ("/roles", "nav.roles"),
        ],
    ),
    (
        "nav.own",
        false,
        &[
            ("/me", "me.preferences"),
            ("/me/rules", "me.rules"),
            ("/me/records", "nav.records"),
            ("/me/history", "nav.history"),
        ],
    ),
];

/// Pages, and what is drawn beside their names.
const ICONS: &[(&str, &str)] = &[
    ("/", "M4 4h6v9H4zM4 17h6v3H4zM14 4h6v3h-6zM14 11h6v9h-6z"),
    (
        "/users",
        "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7M3 20a6 6 0 0 1 12 0M16 4.3a3.5 3.5 0 0 1 0 6.4M17.5 14.4a6 6 0 0 1 3.5 5.6",
    ),
    ("/holds", "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18M10 9v6M14 9v6"),
    ("/history", "M4 5v5h5M4.5 10A8 8 0 1 1 4 13.5M12 8v4.5l3 1.8"),
    ("/me/records", "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14M16.2 16.2 20.5 20.5"),
    ("/me/history", "M4 5v5h5M4.5 10A8 8 0 1 1 4 13.5M12 8v4.5l3 1.8"),
    ("/records", "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14M16.2 16.2 20.5 20.5"),
    ("/sync", "M20 4v5h-5M4 20v-5h5M5.3 9A7.2 7.2 0 0 1 18 6.5L20 9M18.7 15A7.2 7.2 0 0 1 6 17.5L4 15"),
    ("/messages", "M3.5 6h17v12h-17zM4 7l8 6 8-6"),
    ("/subscriptions", "M6 16v-5a6 6 0 0 1 12 0v5l1.5 2h-15zM10 21h4"),
    ("/audit", "M12 3l7 3v5c0 4.5-3 8-7 10-4-2-7-5.5-7-10V6zM9 12l2.2 2.2L15 10"),
    ("/log", "M3.5 5h17v14h-17zM7 9l3 3-3 3M12.5 15H17"),
    ("/setup", "M4 6.5 5.7 8 9 4.5M4 16.5 5.7 18 9 14.5M13 7h7M13 17h7"),
    ("/doctor", "M3 12h4l2.5-6 4 12 2.5-6h5"),
    ("/settings", "M4 7h9M17 7h3M15 5v4M4 17h9M17 17h3M15 15v4M4 12h3M11 12h9M9 10v4"),
    ("/rules", "M4 5h16l-6.3 7.5v5L10.3 19v-6.5z"),
    ("/me/rules", "M4 5h16l-6.3 7.5v5L10.3 19v-6.5z"),
    ("/schedules", "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18M12 7v5l3.5 2"),
    ("/roles", "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3"),
    ("/me", "M12 11a4 4 0 1 0 0-8 4 4 0 0 0 0 8M5 20.5a7 7 0 0 1 14 0"),
];

/// A dot for what has none.
fn icon(href: &str) -> &'static str {
    ICONS.iter().find(|(known, _)| *known == href).map_or("M12 11v2", |(_, path)| path)
}

impl View {
    pub async fn of(request: &HttpRequest) -> Self {
        let cookie = |name: &str| request.cookie(name).map(|cookie| cookie.value().to_owned());
        let lang = Lang::of_request(request);
        let theme = cookie(THEME_COOKIE).and_then(|theme| THEMES.into_iter().find(|known| *known == theme));
        let caller = guard::caller(request);
        let app = request.app_data::<Data<App>>();
        let waiting = match app.filter(|_| caller.as_ref().is_some_and(|caller| caller.is_admin)) {
            Some(app) => waiting(app).await,
            None => Waiting::default(),
        };
        let is_configured =
            app.is_some_and(|app| app.connections().espocrm().is_some() && app.connections().microsoft().is_some());
        Self {
            lang,
            theme: theme.unwrap_or("auto"),
            caller,
            path: request.path().to_owned(),
            flash: Flash::of(request),
            waiting,
            now: app.map(|app| app.clock().now()).unwrap_or_default(),
            is_configured,
            people: request.app_data::<Data<People>>().cloned(),
        }
    }

    // What templates ask for.

    pub fn css(&self) -> &'static str {
        assets::CSS
    }

    pub fn js(&self) -> &'static str {
        assets::JS
    }

    pub fn htmx(&self) -> &'static str {
        assets::HTMX
    }

    pub fn is_admin(&self) -> bool {
        self.caller.as_ref().is_some_and(|caller| caller.is_admin)
    }

    /// Whether the caller is somebody in EspoCRM.
    pub fn is_user(&self) -> bool {
        self.caller.as_ref().is_some_and(|caller| caller.user_id.is_some())
    }

    pub fn csrf(&self) -> &str {
        self.caller.as_ref().and_then(|caller| caller.csrf.as_deref()).unwrap_or_default()
    }

    pub fn who(&self) -> &str {
        self.caller.as_ref().map(|caller| caller.name.as_str()).unwrap_or_default()
    }

    pub fn langs(&self) -> [Lang; 2] {
        Lang::ALL
    }

    pub fn themes(&self) -> [&'static str; 3] {
        THEMES
    }

    /// The menu: what the caller may open.
    pub fn menu(&self) -> Vec<Group> {
        MENU.iter()
            .filter(|(_, for_admins, _)| if *for_admins { self.is_admin() } else { self.is_user() })
            .map(|(key, _, items)| self.group(key, items))
            .collect()
    }

    fn group(&self, key: &'static str, items: &[(&'static str, &'static str)]) -> Group {
        // "/me" is the beginning of all of one's own pages.
        let is_here = |href: &str| {
            self.path == href || (!["/", "/me"].contains(&href) && self.path.starts_with(&format!("{href}/")))
        };
        let count = |href: &str| match href {
            "/holds" => self.waiting.holds,
            "/messages" => self.waiting.dead,
            _ => 0,
        };
        let item = |(href, key): &(&'static str, &'static str)| Item {
            href,
            key,
            icon: icon(href),
            count: count(href),
            is_here: is_here(href),
        };
        Group { key, items: items.iter().map(item).collect() }
    }

    /// A message.
    pub fn t(&self, key: &str) -> &'static str {
        self.lang.t(key)
    }

    /// A message with a value in it; of one thing it may say something else.
    pub fn f1(&self, key: &str, a: impl Display) -> String {
        let a = a.to_string();
        let one = (a == "1").then(|| self.lang.find(&format!("{key}.one"))).flatten();
        one.unwrap_or_else(|| self.t(key)).replace("{0}", &a)
    }

    /// A message with two values in it.
    pub fn f2(&self, key: &str, a: impl Display, b: impl Display) -> String {
        // The last first: a value that looks like a place is left alone.
        self.t(key).replace("{1}", &b.to_string()).replacen("{0}", &a.to_string(), 1)
    }

    /// A word of the program in words of people: `state.` and `active`.
    pub fn word(&self, family: &str, word: &str) -> String {
        self.lang.find(&format!("{family}.{word}")).map_or_else(|| word.replace('_', " "), str::to_owned)
    }

    /// A moment, which the browser shows in its own zone.
    pub fn when(&self, at: &DateTime<Utc>) -> Safe<String> {
        let format = match self.lang {
            Lang::En => "%-d %b %Y, %H:%M UTC",
            Lang::De => "%d.%m.%Y, %H:%M UTC",
        };
        Safe(format!("<time datetime=\"{}\">{}</time>", at.format("%Y-%m-%dT%H:%M:%SZ"), at.format(format)))
    }

    /// The same, where there may be none.
    pub fn maybe_when(&self, at: &Option<DateTime<Utc>>) -> Safe<String> {
        at.as_ref().map_or_else(|| Safe("–".to_owned()), |at| self.when(at))
    }

    /// How long ago that was, roughly.
    pub fn ago(&self, at: &DateTime<Utc>) -> String {
        let seconds = (self.now - *at).num_seconds().max(0);
        match seconds {
            0..60 => self.t("time.now").to_owned(),
            60..3600 => self.f1("time.minutes", seconds / 60),
            3600..86_400 => self.f1("time.hours", seconds / 3600),
            _ => self.f1("time.days", seconds / 86_400),
        }
    }

    /// How long it is until then, roughly; how long ago it was when it is over.
    pub fn until(&self, at: &DateTime<Utc>) -> String {
        let seconds = (*at - self.now).num_seconds();
        match seconds {
            ..0 => self.ago(at),
            0..60 => self.t("time.now").to_owned(),
            60..3600 => self.f1("time.in_minutes", seconds / 60),
            3600..172_800 => self.f1("time.in_hours", seconds / 3600),
            _ => self.f1("time.in_days", seconds / 86_400),
        }
    }

    /// A sentence that the service wrote down in English, in the reader's language.
    pub fn said(&self, sentence: &str) -> String {
        sentences::in_language(self.lang, sentence)
    }

    /// Why something of one's own is closed: by which roles.
    pub fn closed(&self, field: &str) -> String {
        let roles = self.caller.as_ref().map(|caller| caller.rights.roles_on(field)).unwrap_or_default();
        match roles.as_slice() {
            [role] => self.f1("access.closed", role),
            roles => self.f1("access.closed.many", self.quoted(roles.iter())),
        }
    }

    /// What of these is closed to the caller, in words.
    pub fn all_closed<'a>(&self, family: &str, fields: impl IntoIterator<Item = &'a str>) -> Vec<ClosedField> {
        let closed = self.caller.as_ref().filter(|caller| !caller.is_admin);
        let closed = closed.map(|caller| caller.rights.closed(fields)).unwrap_or_default();
        closed.into_iter().map(|one| self.closed_field(family, &one)).collect()
    }

    /// Something that is closed to somebody, in words.
    pub fn closed_field(&self, family: &str, closed: &Closed) -> ClosedField {
        ClosedField {
            name: match closed.field.split_once('.') {
                Some((kind, rule)) => format!("{} · {}", self.word("kinds", kind), self.word(family, rule)),
                None => self.word(family, &closed.field),
            },
            access: self.t(if closed.access == Access::Read { "access.read" } else { "access.no" }),
            roles: self.quoted(closed.roles.iter()),
        }
    }

    fn quoted(&self, names: impl Iterator<Item = impl Display>) -> String {
        let [open, close] = if self.lang == Lang::De { ['„', '“'] } else { ['“', '”'] };
        names.map(|name| format!("{open}{name}{close}")).collect::<Vec<_>>().join(", ")
    }

    /// A state as a word with a colour.
    pub fn pill(&self, family: &str, word: &str) -> Safe<String> {
        let tone = tone(word);
        Safe(format!("<span class=\"pill {tone}\">{}</span>", escape(&self.word(family, word))))
    }

    /// What was done about something that EspoCRM needs.
    pub fn step(&self, done: &Done) -> Safe<String> {
        let word = serde_json::to_value(done).unwrap_or_default();
        self.pill("step", word.as_str().unwrap_or_default())
    }

    /// A value of a field, in words.
    pub fn value(&self, value: &Value) -> String {
        match value {
            Value::Null => "–".to_owned(),
            Value::Bool(flag) => self.t(if *flag { "value.yes" } else { "value.no" }).to_owned(),
            Value::String(text) if text.is_empty() => "–".to_owned(),
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Array(items) if items.is_empty() => "–".to_owned(),
            Value::Array(items) => items.iter().map(|item| self.value(item)).collect::<Vec<_>>().join("\n"),
            Value::Object(parts) => {
                if let Some(span) = span(parts) {
                    return span;
                }
                let part = |(name, value): (&String, &Value)| {
                    (!value.is_null()).then(|| format!("{}: {}", self.word("field", name), self.moment(value)))
                };
                let mut parts: Vec<(&String, &Value)> = parts.iter().collect();
                parts.sort_by_key(|(name, _)| ORDER.iter().position(|known| known == name).unwrap_or(ORDER.len()));
                parts.into_iter().filter_map(part).collect::<Vec<_>>().join(" · ")
            }
        }
    }

    /// A moment in a value; anything else as it is.
    pub fn moment(&self, value: &Value) -> String {
        let at = value.as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
        at.map_or_else(|| self.value(value), |at| at.format("%Y-%m-%d %H:%M UTC").to_string())
    }
}

/// From then until then, where nothing else is said.
fn span(parts: &serde_json::Map<String, Value>) -> Option<String> {
    let at = |key: &str| Some(DateTime::parse_from_rfc3339(parts.get(key)?.as_str()?).ok()?.to_utc());
    let (start, end) = (at("start")?, at("end")?);
    if parts.values().filter(|part| !part.is_null()).count() > 2 {
        return None;
    }
    let until = if start.date_naive() == end.date_naive() { "%H:%M UTC" } else { "%Y-%m-%d %H:%M UTC" };
    Some(format!("{} – {}", start.format("%Y-%m-%d %H:%M"), end.format(until)))
}

/// Parts of a value, as people expect them.
const ORDER: [&str; 6] = ["start", "end", "first_day", "last_day", "due", "address"];

fn tone(word: &str) -> &'static str {
    match word {
        "active" | "done" | "ok" | "confirmed" | "configured" | "create" | "present" | "created" => "ok",
        "needs_authorization"
        | "queued"
        | "parked"
        | "leased"
        | "open"
        | "lapsed"
        | "first_sync"
        | "warning"
        | "away"
        | "running"
        | "missing" => "warn",
        "error" | "dead" | "failed" | "alarm" | "delete" | "not_configured" => "bad",
        "update" => "info",
        _ => "idle",
    }
}

async fn waiting(app: &App) -> Waiting {
    let conn = app.store().read();
    Waiting {
        holds: store::holds::open_count(conn).await.unwrap_or_default(),
        dead: store::messages::dead_count(conn).await.unwrap_or_default(),
    }
}
