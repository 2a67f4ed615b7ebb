//! Rules: those of everybody, and what a user has set instead. What is inherited is shown as such.

use std::collections::BTreeMap;

use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, Path, ServiceConfig};
use askama::Template;
use serde::Serialize;
use serde_json::{Map, Value, json};
use sync::{Rules, RulesPatch};

use super::form::Form;
use super::view::View;
use super::{Page, admin, done, guard, html};
use crate::app::App;
use crate::http::api::rules::{self, UserRules};
use crate::http::api::settings::Access;
use crate::http::api::users::{self, People};
use crate::http::problem::Problem;
use crate::http::resource;
use crate::http::session::Caller;

pub(super) fn configure(routes: &mut ServiceConfig) {
    admin!(routes, "/rules", GET show, POST save);
    admin!(routes, "/users/{id}/rules", GET show_of_user, POST save_of_user);
}

const DIRECTIONS: &[&str] = &["both", "espo_to_outlook", "outlook_to_espo", "disabled"];
const PRIORITIES: &[&str] = &["newest", "espo", "outlook"];

/// The rules that the pages know: name, and words to choose from; none for a text.
pub(super) const KNOWN: &[(&str, &[&str])] = &[
    ("meeting.direction", DIRECTIONS),
    ("meeting.priority", PRIORITIES),
    ("call.direction", DIRECTIONS),
    ("call.priority", PRIORITIES),
    ("task.direction", DIRECTIONS),
    ("task.priority", PRIORITIES),
    ("attendees", &["invite", "none"]),
    ("create_participant_as", &["lead", "contact", "none"]),
    ("own_domains", &[]),
    ("private_events", &["none", "busy", "full"]),
    ("new_events", &["meeting", "call"]),
    ("call_category", &[]),
    ("reminders", &["true", "false"]),
    ("not_held", &["keep", "cancel"]),
    ("cancelled", &["not_held", "delete"]),
];

/// A value to choose.
pub(super) struct Choice {
    pub value: &'static str,
    pub label: String,
}

/// A rule of a form.
pub(super) struct Rule {
    pub name: &'static str,
    pub label: String,
    pub help: String,
    pub choices: Vec<Choice>,
    /// What is set here; empty when it is inherited.
    pub value: String,
    /// What holds when nothing is set here; none where nothing can be inherited.
    pub inherited: Option<String>,
    pub access: Access,
}

impl Rule {
    pub fn is_open(&self) -> bool {
        self.access == Access::Edit
    }
}

/// Some rules under a heading.
pub(super) struct Section {
    pub title: String,
    pub rules: Vec<Rule>,
}

fn at<'a>(rules: &'a Value, name: &str) -> Option<&'a Value> {
    name.split('.').try_fold(rules, |value, part| value.get(part))
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(flag)) => flag.to_string(),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        _ => String::new(),
    }
}

fn json_of(rules: &impl Serialize) -> Value {
    serde_json::to_value(rules).unwrap_or_default()
}

/// The label of a value of a rule.
fn label(v: &View, bare: &str, value: &str) -> String {
    v.word("rule", &format!("{bare}.{value}"))
}

/// The form's sections. `set` is what is set here; `below` what holds without it.
fn sections(v: &View, set: &Value, below: Option<&Value>, access: impl Fn(&str) -> Access) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for (name, words) in KNOWN {
        let bare = name.rsplit('.').next().unwrap_or(name);
        let shown = |value: String| match words.is_empty() || value.is_empty() {
            true if value.is_empty() => v.t("rules.nothing").to_owned(),
            true => value,
            false => label(v, bare, &value),
        };
        let access = access(name);
        if access == Access::No {
            continue;
        }
        let rule = Rule {
            name,
            label: v.word("rule", bare),
            help: v.lang.find(&format!("rule.{bare}.help")).unwrap_or_default().to_owned(),
            choices: words.iter().map(|value| Choice { value, label: label(v, bare, value) }).collect(),
            value: text(at(set, name)),
            inherited: below.map(|below| shown(text(at(below, name)))),
            access,
        };
        let title = match name.split_once('.') {
            Some((kind, _)) => v.word("kinds", kind),
            None if ["attendees", "create_participant_as", "own_domains"].contains(name) => {
                v.t("rules.people").to_owned()
            }
            None => v.t("rules.more").to_owned(),
        };
        match sections.last_mut().filter(|section| section.title == title) {
            Some(section) => section.rules.push(rule),
            None => sections.push(Section { title, rules: vec![rule] }),
        }
    }
    sections
}

/// The sections of somebody's own rules.
pub(super) fn own_sections(v: &View, own: &UserRules, below: &Rules, caller: &Caller) -> Vec<Section> {
    sections(v, &json_of(&own.overrides), Some(&json_of(below)), |name| caller.access(name))
}

/// The sections of some of the rules of everybody.
pub(super) fn some_sections(v: &View, rules: &Rules, names: &[&str]) -> Vec<Section> {
    let access = |name: &str| if names.contains(&name) { Access::Edit } else { Access::No };
    sections(v, &json_of(rules), None, access)
}

/// What a form says, as the API takes it; empty fields are left out.
fn said(form: &Form) -> Map<String, Value> {
    let mut patch = Map::new();
    for (name, words) in KNOWN {
        let Some(typed) = form.text(name) else { continue };
        let value = match *name {
            "reminders" => json!(typed == "true"),
            "own_domains" => json!(
                typed.split([',', ' ', '\n']).map(str::trim).filter(|domain| !domain.is_empty()).collect::<Vec<_>>()
            ),
            _ if words.is_empty() || words.contains(&typed) => json!(typed),
            _ => json!(typed),
        };
        put(&mut patch, name, value);
    }
    patch
}

fn put(patch: &mut Map<String, Value>, name: &str, value: Value) {
    match name.split_once('.') {
        Some((kind, rule)) => {
            let kind = patch.entry(kind).or_insert_with(|| json!({}));
            if let Some(kind) = kind.as_object_mut() {
                kind.insert(rule.to_owned(), value);
            }
        }
        None => drop(patch.insert(name.to_owned(), value)),
    }
}

#[derive(Template)]
#[template(path = "rules.html")]
struct RulesPage<'a> {
    v: &'a View,
    sections: Vec<Section>,
    title: String,
    intro: &'static str,
    action: String,
    back: Option<(String, String)>,
}

async fn show(app: Data<App>, view: View) -> Page {
    let rules = rules::show(app).await?.into_inner();
    let page = RulesPage {
        v: &view,
        sections: sections(&view, &json_of(&rules), None, |_| Access::Edit),
        title: view.t("nav.rules").to_owned(),
        intro: view.t("rules.intro"),
        action: "/rules".to_owned(),
        back: None,
    };
    html(&view, &page)
}

async fn save(app: Data<App>, view: View, form: Form) -> Page {
    let mut patch = said(&form);
    if form.raw("own_domains").is_some() && !patch.contains_key("own_domains") {
        patch.insert("own_domains".to_owned(), json!([]));
    }
    rules::put(app, web::Json(crate::http::extract::Object(patch))).await?;
    Ok(done(form.text("to").filter(|to| *to == "/setup").unwrap_or("/rules"), view.t("user.saved")))
}

async fn show_of_user(app: Data<App>, people: Data<People>, view: View, caller: Caller, id: Path<String>) -> Page {
    let user = users::one(&app, &people, &id).await?;
    let (own, below) = of_user(&app, &id).await?;
    let page = RulesPage {
        v: &view,
        sections: own_sections(&view, &own, &below, &caller),
        title: view.f1("rules.of", &user.name),
        intro: view.t("rules.intro_user"),
        action: format!("/users/{id}/rules"),
        back: Some((format!("/users/{id}"), user.name)),
    };
    html(&view, &page)
}

/// A user's rules, and those that hold for everybody.
pub(super) async fn of_user(app: &App, id: &str) -> Result<(UserRules, Rules), Problem> {
    let own = rules::of_user(app, id).await?.into_inner();
    Ok((own, rules::organisation(app).await?.over(&Rules::default())))
}

async fn save_of_user(app: Data<App>, view: View, caller: Caller, id: Path<String>, form: Form) -> Page {
    replace(&app, &caller, &id, &form).await?;
    Ok(done(&format!("/users/{id}/rules"), view.t("user.saved")))
}

/// Sets what the form says and removes what it leaves empty, as far as the caller may.
pub(super) async fn replace(app: &App, caller: &Caller, id: &str, form: &Form) -> Result<(), Problem> {
    let (own, _) = of_user(app, id).await?;
    let before = json_of(&own.overrides);
    let wanted = Value::Object(said(form));
    let mut after = before.as_object().cloned().unwrap_or_default();
    let mut changed: BTreeMap<&str, Option<&Value>> = BTreeMap::new();
    for (name, _) in KNOWN {
        // A closed field is not in the form at all.
        if form.raw(name).is_some() && at(&before, name) != at(&wanted, name) {
            caller.must_edit(name)?;
            changed.insert(name, at(&wanted, name));
        }
    }
    for (name, value) in changed {
        match (value, name.split_once('.')) {
            (Some(value), _) => put(&mut after, name, value.clone()),
            (None, None) => drop(after.remove(name)),
            (None, Some((kind, rule))) => {
                if let Some(kind) = after.get_mut(kind).and_then(Value::as_object_mut) {
                    kind.remove(rule);
                }
            }
        }
    }
    let patch: RulesPatch =
        serde_json::from_value(Value::Object(after)).map_err(|error| Problem::bad_request(error.to_string()))?;
    rules::replace(app, id, &patch).await
}
