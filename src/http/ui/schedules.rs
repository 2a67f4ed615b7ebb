//! When everything is looked at: cron expressions, in words and with their next times.

use std::collections::BTreeMap;

use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, Json, Path, Query, ServiceConfig};
use askama::Template;
use chrono::{DateTime, Utc};
use croner::Cron;
use serde_json::json;
use sync::Kind;

use super::cron_german::German;
use super::form::Form;
use super::lang::Lang;
use super::view::View;
use super::{Page, admin, done, guard, html};
use crate::app::App;
use crate::config::parse;
use crate::http::api::settings;
use crate::http::extract::Object;
use crate::http::resource;

pub(super) fn configure(routes: &mut ServiceConfig) {
    admin!(routes, "/schedules", GET show, POST save);
    admin!(routes, "/schedules/{kind}", GET typed);
}

struct Schedule {
    kind: &'static str,
    cron: String,
    words: String,
    /// Why it cannot be read.
    wrong: Option<String>,
    next: Vec<DateTime<Utc>>,
}

impl Schedule {
    fn of(v: &View, kind: Kind, text: String) -> Self {
        let read = parse::cron(text.trim());
        Self {
            kind: kind.as_str(),
            words: read.as_ref().map(|cron| words(v.lang, cron)).unwrap_or_default(),
            next: read.as_ref().map(|cron| next(cron, v.now)).unwrap_or_default(),
            wrong: read.err().map(|error| v.said(&error)),
            cron: text,
        }
    }
}

#[derive(Template)]
#[template(path = "schedule_words.html")]
struct WordsPart<'a> {
    v: &'a View,
    s: Schedule,
}

/// What somebody is typing, in words.
async fn typed(view: View, kind: Path<Kind>, query: Query<BTreeMap<String, String>>) -> Page {
    let text = query.get(kind.as_str()).cloned().unwrap_or_default();
    html(&view, &WordsPart { v: &view, s: Schedule::of(&view, *kind, text) })
}

#[derive(Template)]
#[template(path = "schedules.html")]
struct SchedulesPage<'a> {
    v: &'a View,
    schedules: Vec<Schedule>,
}

async fn show(app: Data<App>, view: View) -> Page {
    let all = app.connections().settings().schedules.clone();
    let schedule = |kind: Kind| Schedule::of(&view, kind, all.get(&kind).cloned().unwrap_or_default());
    html(&view, &SchedulesPage { v: &view, schedules: Kind::ALL.into_iter().map(schedule).collect() })
}

fn words(lang: Lang, cron: &Cron) -> String {
    match lang {
        Lang::En => cron.describe().replacen("At every", "Every", 1),
        Lang::De => cron.describe_lang(German),
    }
}

fn next(cron: &Cron, now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    cron.iter_after(now).take(3).collect()
}

async fn save(app: Data<App>, view: View, form: Form) -> Page {
    let wanted = Kind::ALL.into_iter().filter_map(|kind| Some((kind.to_string(), json!(form.text(kind.as_str())?))));
    settings::put_schedules(app, Json(Object(wanted.collect()))).await?;
    Ok(done("/schedules", view.t("user.saved")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_told_in_words_and_with_its_next_times() {
        let cron = parse::cron("*/10 * * * *").unwrap();
        assert_eq!(words(Lang::En, &cron), "Every 10 minutes.");
        assert_eq!(words(Lang::De, &cron), "Alle 10 Minuten.");
        let weekdays = parse::cron("30 7 * * 1-5").unwrap();
        assert!(words(Lang::De, &weekdays).starts_with("Um 07:30"), "{}", words(Lang::De, &weekdays));
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        assert!(next(&cron, now).iter().all(|at| *at > now && at.timestamp() % 600 == 0));
        assert_eq!(next(&cron, now).len(), 3);
    }
}
