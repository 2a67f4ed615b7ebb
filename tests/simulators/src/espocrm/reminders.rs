//! Reminders belong to one user each. Facts (EspoCRM 9.3.10, `Crm/Hooks/../Reminder` Saver): a save by somebody who is no
//! attendee adds one more copy of every attendee's default reminders; a save that changes the start, the users or the
//! assignee deletes all and makes them anew from the preferences, but an acting attendee keeps or sets the own ones; a
//! record that is held or done has none.

use serde_json::{Value, json};

use super::defs::Def;
use super::state::{Actor, Record, Reminder, State};
use super::time;
use super::write::Changed;

/// What a user sees as `reminders`: the own ones, without copies.
pub(super) fn own(state: &State, def: &Def, id: &str, user: &str) -> Value {
    let rows = state.reminders.get(&(def.name, id.to_owned())).map(Vec::as_slice).unwrap_or_default();
    let mut own: Vec<(i64, &str)> =
        rows.iter().filter(|row| row.user == user).map(|row| (row.seconds, row.kind.as_str())).collect();
    own.sort_unstable();
    own.dedup();
    own.into_iter().map(|(seconds, kind)| json!({"seconds": seconds, "type": kind})).collect()
}

pub(super) fn save(
    state: &mut State,
    def: &'static Def,
    record: &Record,
    sent: Option<&Value>,
    actor: &Actor,
    changed: &Changed,
    creating: bool,
) {
    if !def.has_reminders() {
        return;
    }
    let key = (def.name, record.id().to_owned());
    if record.text("status").is_some_and(|status| def.done.contains(&status)) {
        state.reminders.remove(&key);
        return;
    }
    let side = if def.is_event() { "dateStart" } else { "dateEnd" };
    let renew = creating || ["assignedUserId", "usersIds", side].iter().any(|name| changed.has(name));
    let mut whom: Vec<String> = if def.is_event() {
        record.links("users").iter().map(|(id, _)| id.clone()).collect()
    } else {
        record.text("assignedUserId").map(str::to_owned).into_iter().collect()
    };
    let sent = sent.filter(|sent| !sent.is_null()).cloned();
    let mine = sent.or_else(|| (!creating).then(|| own(state, def, record.id(), &actor.id)));
    let mut rows = state.reminders.remove(&key).unwrap_or_default();
    rows.retain(|row| !renew && row.user != actor.id);
    if !renew && whom.contains(&actor.id) {
        whom = vec![actor.id.clone()];
    }
    let now = state.now();
    for user in record.text(side).map(|_| whom).unwrap_or_default() {
        let wanted = match &mine {
            Some(mine) if user == actor.id => mine.as_array().cloned().unwrap_or_default(),
            _ => state.default_reminders(&user, def),
        };
        rows.extend(wanted.iter().filter_map(|item| {
            let seconds = item.get("seconds").and_then(Value::as_i64)?;
            let kind = item.get("type").and_then(Value::as_str)?.to_owned();
            // A reminder whose moment has passed is not stored.
            let due = record.text(side).and_then(|at| time::shift(at, -seconds))?;
            (due >= now).then(|| Reminder { user: user.clone(), kind, seconds })
        }));
    }
    state.reminders.insert(key, rows);
}
