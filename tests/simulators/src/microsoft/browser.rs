//! A small Outlook in the browser: one mailbox's coming weeks and its To Do list, rendered on the server.
//!
//! Everything is a form; what a form does is what [`super::Person`] does, so it mails and notifies as Outlook would.

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use super::error::{Outcome, Refusal, fail};
use super::html::{escape, to_text};
use super::request::encode;
use super::{GraphSim, Person, times};
use crate::plumbing::{Request, Response};

const STYLE: &str = include_str!("browser.css");
const WEEKS: i64 = 3;

/// A whole page.
pub fn page(title: &str, body: &str) -> Response {
    Response::html(
        200,
        format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\"><title>{}</title><style>{STYLE}</style></head><body>{body}</body></html>",
            escape(title)
        ),
    )
}

/// The mailbox that a page is about.
struct View {
    person: Person,
    upn: String,
    name: String,
    zone: String,
    now: DateTime<Utc>,
    monday: NaiveDate,
}

fn choose(sim: &GraphSim, wanted: Option<&str>, week: Option<&str>) -> Option<View> {
    let state = sim.state();
    let index = wanted.and_then(|user| state.resolve(user)).unwrap_or(0);
    let mailbox = state.mailbox(index)?;
    let (upn, name, zone) = (mailbox.upn.clone(), mailbox.name.clone(), mailbox.zone.clone());
    let now = state.now();
    drop(state);
    let day = week.and_then(|w| w.parse().ok()).unwrap_or_else(|| times::local(now, &zone).date());
    let monday = day - Days::new(u64::from(day.weekday().num_days_from_monday()));
    Some(View { person: sim.person(&upn), upn, name, zone, now, monday })
}

/// `GET /` and the forms under `/ui/`.
pub fn handle(sim: &GraphSim, request: &Request) -> Response {
    if request.method == "GET" {
        let Some(view) = choose(sim, request.query("mailbox"), request.query("week")) else {
            return page("Outlook (simulated)", "<main class=\"picker\"><h1>No mailboxes yet</h1></main>");
        };
        return page(&format!("{} – Outlook (simulated)", view.name), &main_page(sim, &view, request.query("problem")));
    }
    if request.method != "POST" {
        return Response::empty(405);
    }
    let form: Map<String, Value> = request.form().into_iter().map(|(k, v)| (k, Value::String(v))).collect();
    let field = |name: &str| form.get(name).and_then(Value::as_str).unwrap_or_default();
    let Some(view) = choose(sim, Some(field("mailbox")), Some(field("week")).filter(|w| !w.is_empty())) else {
        return Response::empty(404);
    };
    let back = format!("/?mailbox={}&week={}", encode(&view.upn), view.monday);
    match act(&view, request.path.trim_start_matches("/ui/"), &field) {
        Ok(()) => Response::see_other(&back),
        Err(refusal) => Response::see_other(&format!("{back}&problem={}", encode(&refusal.message))),
    }
}

fn act<'f>(view: &View, action: &str, field: &dyn Fn(&str) -> &'f str) -> Outcome<()> {
    let (person, id) = (&view.person, field("id"));
    match action {
        "event" => person.create_event(new_event(view, field)?).map(drop),
        "event/save" => {
            let before = person.event(id).ok_or_else(super::error::not_found)?;
            let changes = event_changes(view, &before, field)?;
            if changes.as_object().is_some_and(Map::is_empty) {
                return Ok(());
            }
            person.patch_event(id, changes).map(drop)
        }
        "event/delete" => person.delete_event(id),
        "event/respond" => person.respond(id, field("answer")),
        "task" => {
            let mut body = json!({"title": field("title")});
            if !field("due").is_empty() {
                body["dueDateTime"] = midnight(field("due"))?;
            }
            person.create_task(body).map(drop)
        }
        "task/save" => {
            let due = if field("due").is_empty() { Value::Null } else { midnight(field("due"))? };
            let text = json!({"content": field("body").replace("\r\n", "\n"), "contentType": "text"});
            let body =
                json!({"title": field("title"), "dueDateTime": due, "body": text, "importance": field("importance")});
            person.patch_task(id, body).map(drop)
        }
        "task/status" => person.patch_task(id, json!({"status": field("status")})).map(drop),
        "task/delete" => person.delete_task(id),
        _ => Err(fail(404, "ResourceNotFound", "There is no such form.")),
    }
}

fn midnight(day: &str) -> Outcome<Value> {
    let day: NaiveDate = day.parse().map_err(|_| bad_field("date"))?;
    Ok(times::midnight(day, "UTC"))
}

fn bad_field(name: &str) -> Refusal {
    fail(400, "BadRequest", format!("The {name} is not valid."))
}

/// Start and end of the form, as Outlook sends them.
fn form_times<'f>(view: &View, field: &dyn Fn(&str) -> &'f str) -> Outcome<(Value, Value, bool)> {
    let read = |name: &str| {
        let text = field(name);
        let minutes = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M");
        minutes.or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S")).map_err(|_| bad_field(name))
    };
    let (start, end, all_day) = (read("start")?, read("end")?, field("all_day") == "on");
    if all_day {
        let last = end.date().max(start.date()) + Days::new(1);
        return Ok((times::midnight(start.date(), &view.zone), times::midnight(last, &view.zone), true));
    }
    let write =
        |at: NaiveDateTime| json!({"dateTime": at.format("%Y-%m-%dT%H:%M:%S").to_string(), "timeZone": view.zone});
    Ok((write(start), write(end), false))
}

fn people(text: &str) -> Value {
    let addresses = text.split([',', ';']).map(str::trim).filter(|a| !a.is_empty());
    addresses.map(|a| json!({"type": "required", "emailAddress": {"address": a}})).collect()
}

fn new_event<'f>(view: &View, field: &dyn Fn(&str) -> &'f str) -> Outcome<Value> {
    let (start, end, all_day) = form_times(view, field)?;
    let day = start["dateTime"].as_str().and_then(|t| t.get(..10)).unwrap_or_default().to_owned();
    let mut body = json!({
        "subject": field("subject"), "start": start, "end": end, "isAllDay": all_day,
        "location": {"displayName": field("location")}, "attendees": people(field("attendees")),
        "body": {"contentType": "text", "content": field("body").replace("\r\n", "\n")},
    });
    let weekday = day.parse::<NaiveDate>().map(|d| d.format("%A").to_string().to_lowercase()).unwrap_or_default();
    let pattern = match field("repeat") {
        "daily" => json!({"type": "daily", "interval": 1}),
        "weekly" => json!({"type": "weekly", "interval": 1, "daysOfWeek": [weekday], "firstDayOfWeek": "monday"}),
        _ => return Ok(body),
    };
    body["recurrence"] =
        json!({"pattern": pattern, "range": {"type": "numbered", "startDate": day, "numberOfOccurrences": 10}});
    Ok(body)
}

/// Only what differs: Exchange mails all attendees on any write of the subject, the time or the text.
fn event_changes<'f>(view: &View, before: &Value, field: &dyn Fn(&str) -> &'f str) -> Outcome<Value> {
    let mut out = Map::new();
    let mut differs = |name: &str, old: String, value: Value, new: &str| {
        if old.trim() != new.trim() {
            out.insert(name.to_owned(), value);
        }
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    differs("subject", text(&before["subject"]), json!(field("subject")), field("subject"));
    let place = field("location");
    differs("location", text(&before["location"]["displayName"]), json!({"displayName": place}), place);
    let body = field("body").replace("\r\n", "\n");
    let new_body = json!({"contentType": "text", "content": body});
    differs("body", to_text(before["body"]["content"].as_str().unwrap_or_default()), new_body, &body);
    if before["isOrganizer"] == json!(true) {
        let wanted = people(field("attendees"));
        differs("attendees", addresses(&before["attendees"]), wanted.clone(), &addresses(&wanted));
    }
    let (start, end, all_day) = form_times(view, field)?;
    let (old_start, old_end) = input_times(view, before);
    if (old_start.as_str(), old_end.as_str(), before["isAllDay"] == json!(true))
        != (field("start"), field("end"), all_day)
    {
        out.extend([("start".to_owned(), start), ("end".to_owned(), end), ("isAllDay".to_owned(), json!(all_day))]);
    }
    Ok(Value::Object(out))
}

fn addresses(attendees: &Value) -> String {
    let list = attendees.as_array().map(Vec::as_slice).unwrap_or_default();
    let list: Vec<&str> = list.iter().filter_map(|a| a["emailAddress"]["address"].as_str()).collect();
    list.join(", ")
}

fn naive(value: &Value) -> NaiveDateTime {
    times::parse(value).map(|m| m.local).unwrap_or_default()
}

/// Local start and end of an event as a person sees them; an all-day event ends on its last day.
fn local_times(view: &View, event: &Value) -> (NaiveDateTime, NaiveDateTime) {
    if event["isAllDay"] == json!(true) {
        return (naive(&event["start"]), naive(&event["end"]) - TimeDelta::days(1));
    }
    let local = |value: &Value| times::parse(value).map(|m| times::local(m.at, &view.zone)).unwrap_or_default();
    (local(&event["start"]), local(&event["end"]))
}

fn input_times(view: &View, event: &Value) -> (String, String) {
    let (start, end) = local_times(view, event);
    let write = |at: NaiveDateTime| at.format("%Y-%m-%dT%H:%M").to_string();
    (write(start), write(end))
}

fn main_page(sim: &GraphSim, view: &View, problem: Option<&str>) -> String {
    let tabs: String = {
        let state = sim.state();
        let tab = |upn: &str, name: &str| {
            let class = if upn == view.upn { " class=\"on\"" } else { "" };
            format!("<a{class} href=\"/?mailbox={}\">{}<span>{}</span></a>", encode(upn), escape(name), escape(upn))
        };
        state.mailboxes.iter().map(|m| tab(&m.upn, &m.name)).collect()
    };
    let problem = problem.map(|p| format!("<p class=\"problem\">{}</p>", escape(p))).unwrap_or_default();
    format!(
        "<header><b>Outlook</b><i>simulated</i><em>{} · {}</em></header><div class=\"app\"><nav>{tabs}</nav><main>{problem}{}</main><aside>{}</aside></div>",
        times::local(view.now, &view.zone).format("%a %-d %b %Y, %H:%M"),
        escape(&view.zone),
        agenda(view),
        tasks(view)
    )
}

fn hidden(view: &View, id: &str) -> String {
    format!(
        "<input type=\"hidden\" name=\"mailbox\" value=\"{}\"><input type=\"hidden\" name=\"week\" value=\"{}\"><input type=\"hidden\" name=\"id\" value=\"{}\">",
        escape(&view.upn),
        view.monday,
        escape(id)
    )
}

fn agenda(view: &View) -> String {
    let link = |days: i64, text: &str| {
        let monday = view.monday + TimeDelta::days(days);
        format!("<a class=\"button\" href=\"/?mailbox={}&week={monday}\">{text}</a>", encode(&view.upn))
    };
    let last = view.monday + TimeDelta::days(7 * WEEKS - 1);
    let mut out = format!(
        "<div class=\"bar\"><h1>{} – {}</h1>{}{}{}</div><details class=\"new\"><summary>New event</summary>{}</details>",
        view.monday.format("%-d %b"),
        last.format("%-d %b %Y"),
        link(-7, "‹"),
        format_args!("<a class=\"button\" href=\"/?mailbox={}\">Today</a>", encode(&view.upn)),
        link(7, "›"),
        new_form(view)
    );
    let tz = times::known_zone(&view.zone);
    let from = times::to_utc(view.monday.and_time(chrono::NaiveTime::MIN), tz);
    let to = times::to_utc((last + TimeDelta::days(1)).and_time(chrono::NaiveTime::MIN), tz);
    let events = view.person.view(from, to);
    let today = times::local(view.now, &view.zone).date();
    for day in view.monday.iter_days().take_while(|d| *d <= last) {
        let mine: Vec<&Value> = events.iter().filter(|e| shows_on(view, e, day)).collect();
        let class = if day == today { "day today" } else { "day" };
        if day.weekday() == chrono::Weekday::Mon {
            out.push_str(&format!("<h3>Week {}</h3>", day.iso_week().week()));
        }
        if mine.is_empty() && day != today {
            continue;
        }
        let rows: String = mine.iter().map(|e| event_row(view, e)).collect();
        let rows = if rows.is_empty() { "<p class=\"quiet\">Nothing planned</p>".to_owned() } else { rows };
        out.push_str(&format!(
            "<section class=\"{class}\"><h2>{}<b>{}</b></h2><div>{rows}</div></section>",
            day.format("%a"),
            day.day()
        ));
    }
    out
}

fn shows_on(view: &View, event: &Value, day: NaiveDate) -> bool {
    let (start, end) = local_times(view, event);
    let last = if end > start && end.time() == chrono::NaiveTime::MIN && event["isAllDay"] != json!(true) {
        end.date() - Days::new(1)
    } else {
        end.date()
    };
    (start.date()..=last).contains(&day)
}

fn event_row(view: &View, event: &Value) -> String {
    let text = |name: &str| escape(event[name].as_str().unwrap_or_default());
    let (start, end) = local_times(view, event);
    let time = if event["isAllDay"] == json!(true) {
        "All day".to_owned()
    } else {
        format!("{}<span>{}</span>", start.format("%H:%M"), end.format("%H:%M"))
    };
    let mine = event["isOrganizer"] == json!(true);
    let answer = event["responseStatus"]["response"].as_str().unwrap_or_default();
    let mut badges = String::new();
    let mut badge = |shown: bool, class: &str, label: &str| {
        if shown {
            badges.push_str(&format!("<i class=\"{class}\">{label}</i>"));
        }
    };
    badge(event["isCancelled"] == json!(true), "bad", "cancelled");
    badge(event["type"] == "occurrence" || event["type"] == "exception", "", "repeats");
    badge(event["isOnlineMeeting"] == json!(true), "", "Teams");
    badge(event["sensitivity"] == "private", "", "private");
    badge(!mine && ["none", "notResponded"].contains(&answer), "ask", "not answered");
    badge(answer == "accepted", "good", "accepted");
    badge(answer == "tentativelyAccepted", "ask", "tentative");
    let place = event["location"]["displayName"].as_str().unwrap_or_default();
    let organizer = event["organizer"]["emailAddress"]["name"].as_str().unwrap_or_default();
    let people = event["attendees"].as_array().map_or(0, Vec::len);
    let mut notes = Vec::new();
    notes.extend((!place.is_empty()).then(|| escape(place)));
    notes.extend((people > 0).then(|| format!("{people} invited")));
    notes.extend((!mine).then(|| format!("by {}", escape(organizer))));
    let notes = notes.join(" · ");
    format!(
        "<details class=\"event {}\"><summary><time>{time}</time><span class=\"what\"><b>{}</b>{badges}<small>{notes}</small></span></summary>{}</details>",
        text("showAs"),
        text("subject"),
        edit_form(view, event, mine)
    )
}

/// The fields of an event, empty for a new one.
fn fields(
    subject: &str,
    place: &str,
    times: (&str, &str),
    all_day: bool,
    attendees: Option<&str>,
    body: &str,
) -> String {
    let attendees = attendees.map_or_else(String::new, |a| {
        format!("<label class=\"wide\">Attendees<input name=\"attendees\" value=\"{}\" placeholder=\"anna@contoso.example, guest@else.example\"></label>", escape(a))
    });
    format!(
        "<label class=\"wide\">Subject<input name=\"subject\" value=\"{}\" required></label><label>Start<input type=\"datetime-local\" name=\"start\" value=\"{}\" required></label><label>End<input type=\"datetime-local\" name=\"end\" value=\"{}\" required></label><label class=\"check\"><input type=\"checkbox\" name=\"all_day\"{}>All day</label><label>Place<input name=\"location\" value=\"{}\"></label>{attendees}<label class=\"wide\">Text<textarea name=\"body\" rows=\"3\">{}</textarea></label>",
        escape(subject),
        times.0,
        times.1,
        if all_day { " checked" } else { "" },
        escape(place),
        escape(body)
    )
}

fn new_form(view: &View) -> String {
    let now = times::local(view.now, &view.zone);
    let day = now.date().max(view.monday);
    let start = day.and_hms_opt(9, 0, 0).unwrap_or(now);
    let start = if start < now { start + TimeDelta::days(1) } else { start };
    let write = |at: NaiveDateTime| at.format("%Y-%m-%dT%H:%M").to_string();
    let span = (write(start), write(start + TimeDelta::hours(1)));
    format!(
        "<form method=\"post\" action=\"/ui/event\">{}{}<label>Repeat<select name=\"repeat\"><option value=\"\">never</option><option value=\"daily\">every day, 10 times</option><option value=\"weekly\">every week, 10 times</option></select></label><p class=\"wide\"><button class=\"main\">Save</button></p></form>",
        hidden(view, ""),
        fields("", "", (&span.0, &span.1), false, Some(""), "")
    )
}

fn edit_form(view: &View, event: &Value, mine: bool) -> String {
    let id = event["id"].as_str().unwrap_or_default();
    let hidden = hidden(view, id);
    let body = to_text(event["body"]["content"].as_str().unwrap_or_default());
    let attendees = addresses(&event["attendees"]);
    let span = input_times(view, event);
    let answers: String = if mine {
        String::new()
    } else {
        [("accept", "Accept"), ("tentativelyAccept", "Maybe"), ("decline", "Decline")]
            .map(|(answer, label)| format!("<form method=\"post\" action=\"/ui/event/respond\" class=\"inline\">{hidden}<button name=\"answer\" value=\"{answer}\">{label}</button></form>"))
            .concat()
    };
    let people: String = event["attendees"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|a| {
            let answer = a["status"]["response"].as_str().unwrap_or_default();
            format!(
                "<li>{} <small>{answer}</small></li>",
                escape(a["emailAddress"]["address"].as_str().unwrap_or_default())
            )
        })
        .collect();
    let place = event["location"]["displayName"].as_str().unwrap_or_default();
    let subject = event["subject"].as_str().unwrap_or_default();
    let all_day = event["isAllDay"] == json!(true);
    format!(
        "<form method=\"post\" action=\"/ui/event/save\">{hidden}{}<p class=\"wide\"><button class=\"main\">Save</button></p></form><ul class=\"people\">{people}</ul><div class=\"row\">{answers}<form method=\"post\" action=\"/ui/event/delete\" class=\"inline\">{hidden}<button class=\"danger\">Delete</button></form></div>",
        fields(subject, place, (&span.0, &span.1), all_day, mine.then_some(attendees.as_str()), &body)
    )
}

fn tasks(view: &View) -> String {
    let mut rows = view.person.tasks();
    rows.sort_by_key(|t| (t["status"] == "completed", due_day(view, t).unwrap_or(NaiveDate::MAX)));
    let rows: String = rows.iter().map(|t| task_row(view, t)).collect();
    format!(
        "<h1>To Do</h1><form method=\"post\" action=\"/ui/task\" class=\"add\">{}<input name=\"title\" placeholder=\"Add a task\" required><input type=\"date\" name=\"due\"><button class=\"main\">Add</button></form>{rows}",
        hidden(view, "")
    )
}

/// The date of a task: midnight in UTC or in the mailbox's zone.
fn due_day(view: &View, task: &Value) -> Option<NaiveDate> {
    let moment = times::parse(task.get("dueDateTime")?).ok()?;
    let local = times::local(moment.at, &view.zone);
    let is_local_midnight = local.time() == chrono::NaiveTime::MIN;
    Some(if is_local_midnight { local.date() } else { moment.local.date() })
}

fn task_row(view: &View, task: &Value) -> String {
    let id = task["id"].as_str().unwrap_or_default();
    let hidden = hidden(view, id);
    let done = task["status"] == "completed";
    let due = due_day(view, task);
    let late = due.is_some_and(|d| d < times::local(view.now, &view.zone).date()) && !done;
    let shown = due
        .map(|d| format!("<small class=\"{}\">{}</small>", if late { "late" } else { "" }, d.format("%a %-d %b")))
        .unwrap_or_default();
    let star = if task["importance"] == "high" { "<i class=\"ask\">important</i>" } else { "" };
    let title = escape(task["title"].as_str().unwrap_or_default());
    let importance: String = ["low", "normal", "high"]
        .map(|i| format!("<option{}>{i}</option>", if task["importance"] == i { " selected" } else { "" }))
        .concat();
    format!(
        "<div class=\"task{}\"><form method=\"post\" action=\"/ui/task/status\" class=\"inline\">{hidden}<button class=\"tick\" name=\"status\" value=\"{}\" title=\"{}\">{}</button></form><details><summary>{title}{star}{shown}</summary><form method=\"post\" action=\"/ui/task/save\">{hidden}<label class=\"wide\">Title<input name=\"title\" value=\"{title}\" required></label><label>Due<input type=\"date\" name=\"due\" value=\"{}\"></label><label>Importance<select name=\"importance\">{importance}</select></label><label class=\"wide\">Text<textarea name=\"body\" rows=\"2\">{}</textarea></label><p class=\"wide\"><button class=\"main\">Save</button></p></form><form method=\"post\" action=\"/ui/task/delete\" class=\"inline\">{hidden}<button class=\"danger\">Delete</button></form></details></div>",
        if done { " done" } else { "" },
        if done { "notStarted" } else { "completed" },
        if done { "Open again" } else { "Complete" },
        if done { "✓" } else { "" },
        due.map(|d| d.to_string()).unwrap_or_default(),
        escape(&to_text(task["body"]["content"].as_str().unwrap_or_default()))
    )
}
