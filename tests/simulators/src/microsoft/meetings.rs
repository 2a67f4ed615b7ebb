//! Meetings: the copies in the attendees' mailboxes, and who gets mail.
//!
//! Facts: every attendee holds an own item with an own id and the organizer's iCalUId; the organizer's copy is
//! authoritative; creating, changing and cancelling mail the attendees and no switch suppresses that; a PATCH with
//! `attendees` only mails the changed ones; after invitations the change key of the organizer's item moves again.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::state::{Change, EMPTY_TIME, Event, Mail, State, status};
use super::times;

/// Properties whose writing makes Exchange mail every attendee.
pub const MAILING: [&str; 10] = [
    "subject",
    "body",
    "start",
    "end",
    "isAllDay",
    "location",
    "locations",
    "recurrence",
    "isOnlineMeeting",
    "importance",
];
const COPIED: [&str; 14] = [
    "subject",
    "body",
    "isAllDay",
    "location",
    "locations",
    "attendees",
    "importance",
    "sensitivity",
    "recurrence",
    "isOnlineMeeting",
    "onlineMeeting",
    "onlineMeetingProvider",
    "responseRequested",
    "hideAttendees",
];

fn copy_content(source: &Event, twin: &mut Event) {
    for name in COPIED {
        match source.data.get(name) {
            Some(value) => {
                twin.data.insert(name.to_owned(), value.clone());
            }
            None if name == "recurrence" => {
                twin.data.remove(name);
            }
            None => {}
        }
    }
    if twin.series.is_some() {
        twin.data.remove("recurrence");
    }
    (twin.start, twin.end) = (source.start, source.end);
    (twin.start_zone, twin.end_zone) = (source.start_zone.clone(), source.end_zone.clone());
}

impl State {
    /// The copies of a meeting, or of one occurrence of it, in the other mailboxes.
    fn copies(&self, index: usize, event: &Event) -> Vec<(usize, Event)> {
        let others = self.mailboxes.iter().enumerate().filter(|(n, _)| *n != index);
        others
            .filter_map(|(n, mailbox)| {
                let direct = mailbox.by_ical(&event.ical).cloned();
                let of_series = || {
                    let series = event.series.as_ref()?;
                    mailbox.by_ical(&series.master_ical)?.occurrence_of(series.day)
                };
                direct.or_else(of_series).map(|twin| (n, twin))
            })
            .collect()
    }

    pub fn invite(&mut self, index: usize, event: &Event, addresses: &[String]) {
        for address in addresses {
            self.send_mail("invitation", event, address);
            let Some(theirs) = self.resolve(address) else { continue };
            let known = self.mailbox(theirs).and_then(|m| m.by_ical(&event.ical)).cloned();
            let change = if known.is_some() { Change::Updated } else { Change::Created };
            // Somebody invited again finds the cancelled copy restored.
            if theirs == index || known.as_ref().is_some_and(|twin| !twin.flag("isCancelled")) {
                continue;
            }
            let mut twin = known.unwrap_or_else(|| self.blank_event(&event.organizer));
            twin.ical.clone_from(&event.ical);
            twin.is_organizer = false;
            twin.data.remove("isCancelled");
            copy_content(event, &mut twin);
            twin.data.extend([
                ("responseStatus".to_owned(), status("notResponded", EMPTY_TIME)),
                ("isReminderOn".to_owned(), json!(true)),
                ("reminderMinutesBeforeStart".to_owned(), json!(15)),
                ("showAs".to_owned(), json!("tentative")),
                ("categories".to_owned(), json!([])),
            ]);
            let twin = self.store(theirs, twin);
            self.notify_event(theirs, change, &twin);
        }
    }

    /// What follows a change of the organizer's item: mails, and every copy in step.
    pub fn after_organizer_patch(
        &mut self,
        index: usize,
        event: &Event,
        changed: &BTreeSet<&'static str>,
        before: &[String],
    ) {
        let after = event.people();
        let added: Vec<String> = after.iter().filter(|a| !before.contains(a)).cloned().collect();
        let removed: Vec<String> = before.iter().filter(|a| !after.contains(a)).cloned().collect();
        let content = changed.iter().any(|name| MAILING.contains(name));
        let mailed: Vec<String> =
            if content { after.iter().filter(|a| before.contains(a)).cloned().collect() } else { Vec::new() };
        let copied = content || ["attendees", "sensitivity", "hideAttendees"].iter().any(|n| changed.contains(n));
        if copied && (!after.is_empty() || !before.is_empty()) {
            self.propagate(index, event, &mailed, &removed);
        }
        self.invite(index, event, &added);
        if !(added.is_empty() && removed.is_empty() && mailed.is_empty()) {
            let touched = self.store(index, event.clone());
            self.notify_event(index, Change::Updated, &touched);
        }
    }

    fn propagate(&mut self, index: usize, event: &Event, mailed: &[String], removed: &[String]) {
        // One mail for a series and one for each of its exceptions.
        let exceptions: Vec<Event> = event.exceptions.values().flatten().cloned().collect();
        for address in mailed {
            self.send_mail("update", event, address);
            for exception in &exceptions {
                self.send_mail("update", exception, address);
            }
        }
        for address in removed {
            self.send_mail("cancellation", event, address);
        }
        for (theirs, mut twin) in self.copies(index, event) {
            if self.mailbox(theirs).is_some_and(|m| removed.contains(&m.upn.to_lowercase())) {
                self.mark_cancelled(theirs, twin);
                continue;
            }
            let moved = (twin.start, twin.end) != (event.start, event.end);
            copy_content(event, &mut twin);
            if moved && ["accepted", "tentativelyAccepted"].contains(&twin.response()) {
                twin.data.insert("responseStatus".to_owned(), status("notResponded", EMPTY_TIME));
            }
            let twin = self.store(theirs, twin);
            self.notify_event(theirs, Change::Updated, &twin);
        }
    }

    pub fn mark_cancelled(&mut self, theirs: usize, mut twin: Event) {
        let subject = twin.subject().to_owned();
        if !subject.starts_with("Canceled: ") {
            twin.data.insert("subject".to_owned(), json!(format!("Canceled: {subject}")));
        }
        twin.data.insert("isCancelled".to_owned(), json!(true));
        twin.data.insert("showAs".to_owned(), json!("free"));
        let twin = self.store(theirs, twin);
        self.notify_event(theirs, Change::Updated, &twin);
    }

    /// The organizer deletes or cancels: mails, and the copies stay behind as cancelled.
    fn cancel(&mut self, index: usize, event: &Event) {
        for address in event.people() {
            self.send_mail("cancellation", event, &address);
        }
        for (theirs, twin) in self.copies(index, event) {
            if twin.series.is_some() {
                self.remove_event(theirs, &twin);
            } else {
                self.mark_cancelled(theirs, twin);
            }
        }
    }

    /// Deletes one item; on the organizer's calendar the attendees get cancellations.
    pub fn delete_event(&mut self, index: usize, event: &Event) {
        if event.is_organizer {
            self.cancel(index, event);
        }
        self.remove_event(index, event);
    }

    pub fn remove_event(&mut self, index: usize, event: &Event) {
        if let Some(master) = self.take_out(index, event) {
            self.notify_event(index, Change::Updated, &master);
        }
        self.notify_event(index, Change::Deleted, event);
    }

    /// An attendee answers; the organizer's item learns it when a response is sent.
    pub fn respond(&mut self, index: usize, mut twin: Event, response: &str, send: bool) {
        let time = times::stamp(self.now());
        let show_as = match response {
            "accepted" => "busy",
            "tentativelyAccepted" => "tentative",
            _ => "free",
        };
        twin.data.insert("responseStatus".to_owned(), status(response, &time));
        twin.data.insert("showAs".to_owned(), json!(show_as));
        let twin = self.store(index, twin);
        if send {
            let from = self.mailbox(index).map(|m| m.upn.clone()).unwrap_or_default();
            self.mails.push(Mail {
                kind: "response".to_owned(),
                response: Some(response.to_owned()),
                to: twin.organizer.to_lowercase(),
                from: from.clone(),
                subject: twin.subject().to_owned(),
                ical_uid: twin.ical.clone(),
                start: twin.start,
                at: self.now(),
            });
            for (theirs, mut other) in self.copies(index, &twin) {
                if other.is_organizer {
                    set_status(&mut other, &from, status(response, &time));
                    let other = self.store(theirs, other);
                    self.notify_event(theirs, Change::Updated, &other);
                }
            }
        }
        if response == "declined" {
            self.remove_event(index, &twin);
        } else {
            self.notify_event(index, Change::Updated, &twin);
        }
    }
}

/// Writes an attendee's status, as only the service may.
pub fn set_status(event: &mut Event, address: &str, status: Value) {
    let attendees = event.data.get_mut("attendees").and_then(Value::as_array_mut);
    for attendee in attendees.into_iter().flatten() {
        if attendee["emailAddress"]["address"].as_str().is_some_and(|a| a.eq_ignore_ascii_case(address)) {
            attendee["status"] = status.clone();
        }
    }
}
