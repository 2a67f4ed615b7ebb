//! The HTML of the page for people.

use std::fmt::Write;

use chrono::{Days, NaiveDate, NaiveDateTime, NaiveTime};

use super::VERSION;
use super::defs::{Def, def, options};
use super::page::{KINDS, View, location_field, span, users};
use super::state::{Record, State, full_name};

const STYLE: &str = include_str!("page.css");
const WEEKS: u64 = 3;

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

struct Entry<'a> {
    def: &'static Def,
    record: &'a Record,
    start: NaiveDateTime,
    end: NaiveDateTime,
    all_day: bool,
}

impl Entry<'_> {
    fn touches(&self, day: NaiveDate) -> bool {
        let last = if self.end > self.start && self.end.time() == NaiveTime::MIN && !self.all_day {
            self.end.date().pred_opt().unwrap_or(self.end.date())
        } else {
            self.end.date()
        };
        self.start.date() <= day && day <= last.max(self.start.date())
    }
}

fn entries<'a>(state: &'a State, user_id: &str) -> Vec<Entry<'a>> {
    let mut out = Vec::new();
    for def in KINDS.iter().filter_map(|kind| def(kind)) {
        let mine = |record: &&Record| record.text("assignedUserId") == Some(user_id) || record.linked("users", user_id);
        for record in state.table(def.name).filter(|record| !record.is_deleted()).filter(mine) {
            if let Some((start, end)) = span(state, def, record, user_id) {
                let all_day = record.text("dateStartDate").or(record.text("dateEndDate")).is_some();
                out.push(Entry { def, record, start, end, all_day });
            }
        }
    }
    out.sort_by_key(|entry| (!entry.all_day, entry.start.time(), entry.record.id().to_owned()));
    out
}

pub(super) fn render(state: &State, view: &View) -> String {
    let user_id = state.live_user_id(&view.user).unwrap_or_default();
    let mut out = String::new();
    head(&mut out, state, view, &user_id);
    if let Some(error) = &view.error {
        let _ = write!(out, "<p class=\"error\">{}</p>", escape(error));
    }
    navigation(&mut out, view);
    out.push_str("<main><section>");
    weeks(&mut out, state, view, &user_id);
    out.push_str("</section><aside class=\"panel\">");
    let open = view.open.as_ref().and_then(|(def, id)| state.live(def.name, id).map(|record| (*def, record)));
    panel(&mut out, state, view, &user_id, open);
    out.push_str("</aside></main></body></html>");
    out
}

fn head(out: &mut String, state: &State, view: &View, user_id: &str) {
    let zone = state.zone_of(user_id).name();
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>EspoCRM calendar</title>\
         <link rel=\"icon\" href=\"data:,\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><style>{STYLE}</style></head><body>\
         <header><h1>EspoCRM</h1><small>simulated {VERSION} &middot; {zone}</small><form method=\"get\" action=\"/\">\
         <input type=\"hidden\" name=\"week\" value=\"{}\"><select name=\"user\" aria-label=\"User\">",
        view.monday
    );
    for user in users(state) {
        let name = user.text("userName").unwrap_or_default();
        let chosen = if name == view.user { " selected" } else { "" };
        let _ = write!(out, "<option value=\"{}\"{chosen}>{}</option>", escape(name), escape(&full_name("User", user)));
    }
    out.push_str("</select><button class=\"plain\">Show</button></form></header>");
}

fn navigation(out: &mut String, view: &View) {
    let by = |weeks: u64, back: bool| {
        let days = Days::new(7 * weeks);
        let to = if back { view.monday.checked_sub_days(days) } else { view.monday.checked_add_days(days) };
        escape(&view.link(to.unwrap_or(view.monday), None))
    };
    let last = view.monday.checked_add_days(Days::new(7 * WEEKS - 1)).unwrap_or(view.monday);
    let today = form_link(&view.user);
    let _ = write!(
        out,
        "<nav><a href=\"{}\">&larr; earlier</a><a href=\"{today}\">today</a><a href=\"{}\">later &rarr;</a>\
         <strong>{} &ndash; {}</strong></nav>",
        by(1, true),
        by(1, false),
        view.monday.format("%-d %b"),
        last.format("%-d %b %Y")
    );
}

fn form_link(user: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("user", user);
    format!("/?{}", query.finish())
}

fn weeks(out: &mut String, state: &State, view: &View, user_id: &str) {
    let entries = entries(state, user_id);
    let today = state.clock.now().with_timezone(&state.zone_of(user_id)).date_naive();
    for week in 0..WEEKS {
        out.push_str("<div class=\"week\">");
        for day in 0..7 {
            let Some(day) = view.monday.checked_add_days(Days::new(7 * week + day)) else { continue };
            let class = if day == today { "day today" } else { "day" };
            let _ = write!(out, "<div class=\"{class}\"><h3>{}</h3>", day.format("%a %-d %b"));
            for entry in entries.iter().filter(|entry| entry.touches(day)) {
                item(out, view, entry);
            }
            out.push_str("</div>");
        }
        out.push_str("</div>");
    }
}

fn item(out: &mut String, view: &View, entry: &Entry<'_>) {
    let kind = entry.def.name;
    let key = format!("{kind}/{}", entry.record.id());
    let status = entry.record.text("status").unwrap_or_default();
    let done = if entry.def.done.contains(&status) { " done" } else { "" };
    let is_open = view.open.as_ref().is_some_and(|(def, id)| def.name == kind && id == entry.record.id());
    let open = if is_open { " open" } else { "" };
    let when = match (entry.all_day, kind) {
        (true, "Task") => "due".to_owned(),
        (true, _) => "all day".to_owned(),
        (false, "Task") => format!("due {}", entry.start.format("%H:%M")),
        (false, _) => format!("{}–{}", entry.start.format("%H:%M"), entry.end.format("%H:%M")),
    };
    let _ = write!(
        out,
        "<a class=\"item {kind}{done}{open}\" href=\"{}\"><span>{when} &middot; {kind}</span>{}</a>",
        escape(&view.link(view.monday, Some(&key))),
        escape(&full_name(kind, entry.record))
    );
}

fn hidden(out: &mut String, view: &View, open: Option<&str>) {
    let _ = write!(
        out,
        "<input type=\"hidden\" name=\"user\" value=\"{}\"><input type=\"hidden\" name=\"week\" value=\"{}\">",
        escape(&view.user),
        view.monday
    );
    if let Some(open) = open {
        let _ = write!(out, "<input type=\"hidden\" name=\"open\" value=\"{}\">", escape(open));
    }
}

fn panel(out: &mut String, state: &State, view: &View, user_id: &str, open: Option<(&'static Def, &Record)>) {
    let key = open.map(|(def, record)| format!("{}/{}", def.name, record.id()));
    let title = open.map_or_else(|| "New".to_owned(), |(def, _)| def.name.to_owned());
    let _ = write!(out, "<h2>{title}</h2><form method=\"post\" action=\"/ui/save\">");
    hidden(out, view, key.as_deref());
    match open {
        None => out.push_str(
            "<label>Kind<select name=\"kind\"><option>Meeting</option><option>Call</option><option>Task</option></select></label>",
        ),
        Some((def, record)) => statuses(out, def, record),
    }
    let text = |name: &str| escape(open.and_then(|(_, record)| record.text(name)).unwrap_or_default());
    let _ = write!(out, "<label>Name<input name=\"name\" required value=\"{}\"></label>", text("name"));
    times(out, state, view, user_id, open);
    let place = open.map_or_else(
        || def("Meeting").and_then(|def| location_field(state, def)),
        |(def, _)| location_field(state, def),
    );
    if let Some(place) = place {
        let _ = write!(out, "<label>Location<input name=\"location\" value=\"{}\"></label>", text(&place));
    }
    if open.is_none_or(|(def, _)| def.is_event()) {
        let names = open.map_or_else(|| view.user.clone(), |(_, record)| names(state, record));
        let _ = write!(
            out,
            "<label>Participants (user names, contacts)<input name=\"people\" value=\"{}\"></label>",
            escape(&names)
        );
    }
    let _ = write!(out, "<label>Description<textarea name=\"description\">{}</textarea></label>", text("description"));
    let button = if open.is_some() { "Save" } else { "Create" };
    let _ = write!(out, "<div class=\"row\"><button>{button}</button></div></form>");
    if let (Some((def, record)), Some(key)) = (open, key) {
        answers(out, view, user_id, def, record, &key);
        attendees(out, state, record);
        let _ = write!(out, "<p><a href=\"{}\">New entry</a></p>", escape(&view.link(view.monday, None)));
    }
}

fn statuses(out: &mut String, def: &Def, record: &Record) {
    out.push_str("<label>Status<select name=\"status\">");
    for status in options(def.name, "status").unwrap_or_default() {
        let chosen = if record.text("status") == Some(status) { " selected" } else { "" };
        let _ = write!(out, "<option{chosen}>{status}</option>");
    }
    out.push_str("</select></label>");
}

fn times(out: &mut String, state: &State, view: &View, user_id: &str, open: Option<(&'static Def, &Record)>) {
    let local = |at: NaiveDateTime| at.format("%Y-%m-%dT%H:%M").to_string();
    let today = state.clock.now().with_timezone(&state.zone_of(user_id)).date_naive();
    let new_start = view.monday.max(today).and_time(NaiveTime::from_hms_opt(9, 0, 0).unwrap_or_default());
    let (start, end) = match open {
        None => (local(new_start), local(new_start + chrono::Duration::hours(1))),
        Some((def, record)) if def.name == "Task" => {
            (String::new(), span(state, def, record, user_id).map(|(_, due)| local(due)).unwrap_or_default())
        }
        Some((def, record)) => span(state, def, record, user_id).map(|(a, b)| (local(a), local(b))).unwrap_or_default(),
    };
    let is_task = open.is_some_and(|(def, _)| def.name == "Task");
    out.push_str("<div class=\"pair\">");
    if !is_task {
        let _ = write!(out, "<label>Start<input type=\"datetime-local\" name=\"dateStart\" value=\"{start}\"></label>");
    }
    let label = if is_task { "Due" } else { "End" };
    let _ = write!(out, "<label>{label}<input type=\"datetime-local\" name=\"dateEnd\" value=\"{end}\"></label></div>");
    if open.is_none_or(|(def, _)| def.has_all_day()) {
        let dated =
            open.is_some_and(|(_, record)| record.text("dateEndDate").or(record.text("dateStartDate")).is_some());
        let checked = if dated { " checked" } else { "" };
        let _ =
            write!(out, "<label class=\"check\"><input type=\"checkbox\" name=\"allDay\"{checked}> All day</label>");
    }
}

fn names(state: &State, record: &Record) -> String {
    let users = record
        .links("users")
        .iter()
        .filter_map(|(id, _)| state.live("User", id).and_then(|user| user.text("userName")).map(str::to_owned));
    let contacts = record.links("contacts").iter().filter_map(|(id, _)| state.name_of("Contact", id));
    users.chain(contacts).collect::<Vec<_>>().join(", ")
}

fn answers(out: &mut String, view: &View, user_id: &str, def: &Def, record: &Record, key: &str) {
    out.push_str("<div class=\"row\">");
    if def.is_event() && record.linked("users", user_id) {
        for (status, label) in [("Accepted", "Accept"), ("Tentative", "Maybe"), ("Declined", "Decline")] {
            out.push_str("<form method=\"post\" action=\"/ui/answer\">");
            hidden(out, view, Some(key));
            let _ = write!(out, "<button class=\"plain\" name=\"status\" value=\"{status}\">{label}</button></form>");
        }
    }
    out.push_str("<form method=\"post\" action=\"/ui/delete\">");
    hidden(out, view, Some(key));
    out.push_str("<button class=\"bad\">Delete</button></form></div>");
}

fn attendees(out: &mut String, state: &State, record: &Record) {
    let mut rows = String::new();
    for (link, entity) in [("users", "User"), ("contacts", "Contact"), ("leads", "Lead")] {
        for (id, status) in record.links(link) {
            let name = state.name_of(entity, id).unwrap_or_else(|| id.clone());
            let _ = write!(rows, "<li>{}<span class=\"dim\">{}</span></li>", escape(&name), escape(status));
        }
    }
    if !rows.is_empty() {
        let _ = write!(out, "<ul class=\"people\">{rows}</ul>");
    }
}
