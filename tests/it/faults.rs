//! Unexpected answers: one bad record spoils nothing else, throttling is respected, a lost answer makes no twin.

use std::time::Duration;

use serde_json::{Value, json};
use simulators::plumbing::Fault;

use crate::support::{Setup, World, at, espo, graph_time, mail, title};

/// Messages about something that have not ended well, with their reason.
fn troubled(world: &World, id: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for state in ["dead", "parked"] {
        for message in world.items(&format!("/messages?state={state}&limit=500")) {
            if message["target"]["id"] == id {
                found.push((state.to_owned(), message["last_error"].as_str().unwrap_or_default().to_owned()));
            }
        }
    }
    found
}

#[test]
fn a_record_of_odd_form_is_told_and_the_others_go_on() {
    let odd = [
        json!([]),
        json!(null),
        json!("text"),
        json!({ "id": 5, "name": { "x": 1 }, "dateStart": 17 }),
        json!({ "id": "65a0f0c0000000001", "name": "Odd", "dateStart": "the day after", "dateEnd": [], "usersIds": "none" }),
    ];
    for body in odd {
        let world = World::start();
        let (id, _) = world.pair("Odd", json!({}));
        world.espo.wire().push(Fault::status("GET", &format!("Meeting/{id}"), 200).body(body.clone()).times(-1));
        world.espo_update(&id, json!({ "name": "Odd, edited" }));
        world.espo_create("anna", "Even", json!({}));
        world.one_event("anna", "Even");
        let reasons =
            world.eventually_some("it is told", || Some(troubled(&world, &id)).filter(|found| !found.is_empty()));
        assert!(reasons.iter().all(|(_, reason)| reason.len() > 10), "{body}: {reasons:?}");
        assert_eq!(world.events("anna", "Odd").len(), 1, "{body}: the event was touched");
        world.espo.wire().clear();
        world.post("/messages/replay", &json!({}));
        world.sync();
        world.one_event("anna", "Odd, edited");
    }
}

#[test]
fn an_event_of_odd_form_is_told_and_the_others_go_on() {
    let odd = [
        json!([]),
        json!("text"),
        json!({ "id": 5, "subject": ["x"], "start": "tomorrow" }),
        json!({ "id": "x", "start": { "dateTime": "?", "timeZone": 5 } }),
    ];
    for body in odd {
        let world = World::start();
        let (record, event) = world.pair("Odd", json!({}));
        let page = world.get(&format!("/records/meeting/{record}"));
        let item = page["replicas"][0]["item_id"].as_str().unwrap().to_owned();
        world.graph.wire().push(Fault::status("GET", &item[..30], 200).body(body.clone()).times(-1));
        world.outlook_update("anna", &event, json!({ "subject": "Odd, edited" }));
        world.outlook_create("anna", "Even", json!({}));
        world.one_record("Even");
        let reasons =
            world.eventually_some("it is told", || Some(troubled(&world, &item)).filter(|found| !found.is_empty()));
        assert!(reasons.iter().all(|(_, reason)| reason.len() > 10), "{body}: {reasons:?}");
        assert_eq!(world.records("Odd").len(), 1, "{body}: the record was touched");
        world.graph.wire().clear();
        world.post("/messages/replay", &json!({}));
        world.sync();
        world.one_record("Odd, edited");
    }
}

#[test]
fn a_refusal_for_good_is_a_dead_letter_with_its_reason_and_replay_mends_it() {
    let world = World::start();
    let refusal =
        json!({ "error": { "code": "ErrorInvalidRequest", "message": "The request is invalid in a way of its own." } });
    world.graph.wire().push(Fault::status("POST", "/events", 400).body(refusal).times(-1));
    let id = world.espo_create("anna", "Refused", json!({}));
    let dead = world
        .eventually_some("a dead letter", || world.dead().into_iter().find(|one| one["target"]["id"] == id.as_str()));
    assert!(dead["last_error"].as_str().is_some_and(|reason| reason.contains("invalid")), "{dead}");
    assert!(world.metric("dead_letters", "") >= 1.0);
    // The webhook and the polls of the next second tell of the record, each once; nothing of it is tried again by itself.
    let is_attempt = |row: &simulators::plumbing::Logged| row.method == "POST" && row.path.contains("/events");
    let attempts = || world.graph.wire().since(0).iter().filter(|row| is_attempt(row)).count();
    world.never("a refusal for good is tried again and again", 5, || attempts() > 3);
    world.graph.wire().clear();
    world.post("/messages/replay", &json!({ "state": "dead" }));
    world.one_event("anna", "Refused");
    world.settle();
    assert!(world.dead().is_empty(), "{:?}", world.dead());
}

#[test]
fn retry_after_is_respected_and_other_mailboxes_go_on() {
    let world = Setup::default().bound(&["anna", "boris"]).start();
    world.graph.throttle(&mail("anna"), 3, 2);
    for n in 0..6 {
        world.espo_create("anna", &format!("Anna {n}"), json!({}));
    }
    world.espo_create("boris", "Boris", json!({}));
    world.one_event("boris", "Boris");
    for n in 0..6 {
        world.one_event("anna", &format!("Anna {n}"));
    }
    world.settle();
    let report = &world.graph.throttle_report()[&mail("anna")];
    assert!(report.refused >= 1, "nothing was throttled");
    // What was on its way when the refusal came is no violation.
    let early: Vec<_> = report.early.iter().filter(|early| early.after_refusal > Duration::from_millis(150)).collect();
    assert!(early.is_empty(), "{early:?}");
    assert!(report.max_in_flight <= 4, "{report:?}");
    assert!(world.metric("throttled_total", "") >= 1.0);
    assert!(world.dead().is_empty(), "{:?}", world.dead());
}

#[test]
fn a_429_of_espocrm_is_waited_for() {
    let world = World::start();
    world.espo.wire().push(Fault::status("POST", "/Meeting", 429).header("Retry-After", "2"));
    let before = std::time::Instant::now();
    world.outlook_create("anna", "Patient", json!({}));
    world.one_record("Patient");
    assert!(before.elapsed() >= Duration::from_secs(2), "it came after {:?}", before.elapsed());
}

#[test]
fn a_failed_or_unanswered_creation_in_outlook_makes_no_twin() {
    let world = World::start();
    let faults = [
        Fault::status("POST", "/events", 500),
        Fault::status("POST", "/events", 502),
        Fault::status("POST", "/events", 503),
        Fault::status("POST", "/events", 504),
        Fault::drop_before("POST", "/events"),
        Fault::drop_after("POST", "/events"),
        Fault::drop_after("POST", "/events").times(3),
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        world.graph.wire().push(fault.clone());
        let name = format!("Once {n}");
        let times = json!({ "dateStart": espo(at(7, 1 + n as u32)), "dateEnd": espo(at(7, 2 + n as u32)) });
        world.espo_create("anna", &name, times);
        world.one_event("anna", &name);
        world.settle();
        assert!(world.graph.wire().pending_faults() < Some(fault.times), "the fault did not strike");
        world.graph.wire().clear();
        assert_eq!((world.events("anna", &name).len(), world.records(&name).len()), (1, 1), "{fault:?}");
    }
}

/// With the marker field and without it.
fn creations_in_espocrm(setup: Setup) {
    let world = setup.start();
    let faults = [
        Fault::status("POST", "/Meeting", 500),
        Fault::status("POST", "/Meeting", 503),
        Fault::drop_before("POST", "/Meeting"),
        Fault::drop_after("POST", "/Meeting"),
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        world.espo.wire().push(fault.clone());
        let name = format!("Once {n}");
        let times = json!({ "start": graph_time(at(7, 1 + n as u32)), "end": graph_time(at(7, 2 + n as u32)) });
        world.outlook_create("anna", &name, times);
        world.one_record(&name);
        world.settle();
        assert_eq!(world.espo.wire().pending_faults(), Some(0), "the fault did not strike");
        assert_eq!((world.events("anna", &name).len(), world.records(&name).len()), (1, 1), "{fault:?}");
    }
}

#[test]
fn a_failed_or_unanswered_creation_in_espocrm_makes_no_twin() {
    creations_in_espocrm(Setup::default());
}

#[test]
fn a_failed_or_unanswered_creation_in_espocrm_makes_no_twin_with_the_marker_field() {
    creations_in_espocrm(Setup::default().admin_account());
}

#[test]
fn a_failed_or_unanswered_update_of_espocrm_is_made_once_the_more() {
    let world = World::start();
    let (id, event) = world.pair("Name", json!({}));
    let faults = [
        Fault::status("PUT", "/Meeting/", 500),
        Fault::status("PUT", "/Meeting/", 503),
        Fault::status("PUT", "/Meeting/", 429).header("Retry-After", "1"),
        Fault::drop_before("PUT", "/Meeting/"),
        Fault::drop_after("PUT", "/Meeting/"),
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        world.espo.wire().push(fault.clone());
        world.outlook_update("anna", &event, json!({ "subject": format!("Name {n}") }));
        world
            .eventually(&format!("it is written after {fault:?}"), || title(&world.record(&id)) == format!("Name {n}"));
        world.settle();
        assert_eq!(world.espo.wire().pending_faults(), Some(0), "the fault did not strike");
    }
    let puts = world.espo.wire().since(0).into_iter().filter(|row| row.method == "PUT" && row.path.contains(&id));
    assert_eq!(puts.filter(|row| row.status == 200 || row.status == -200).count(), 5);
}

#[test]
fn a_failed_or_unanswered_deletion_is_carried_out_in_the_end() {
    let world = World::start();
    let faults = [("DELETE", 500), ("DELETE", 503), ("DELETE", 0)];
    for (n, (method, status)) in faults.into_iter().enumerate() {
        let name = format!("Going {n}");
        let (id, event) = world.pair(&name, json!({}));
        let fault = |path: &str| {
            if status == 0 { Fault::drop_after(method, path) } else { Fault::status(method, path, status) }
        };
        if n % 2 == 0 {
            world.espo.wire().push(fault("/Meeting/"));
            world.person("anna").delete_event(&event).unwrap();
        } else {
            world.graph.wire().push(fault("/events/"));
            world.espo_delete(&id);
        }
        world.eventually("both are gone", || world.records(&name).is_empty() && world.events("anna", &name).is_empty());
        world.settle();
        assert_eq!((world.espo.wire().pending_faults(), world.graph.wire().pending_faults()), (Some(0), Some(0)));
    }
    assert!(world.dead().is_empty(), "{:?}", world.dead());
}

#[test]
fn an_unanswered_creation_of_a_lead_makes_no_second_lead() {
    let world = World::start();
    world.espo.wire().push(Fault::drop_after("POST", "/Lead"));
    let attendees = json!([world.attendee("nina@new.example", "Nina Novak")]);
    world.outlook_create("anna", "With Nina", json!({ "attendees": attendees }));
    let record = || world.records("With Nina").first().cloned();
    world.eventually("she takes part", || {
        record().is_some_and(|record| record["leadsIds"].as_array().is_some_and(|ids| ids.len() == 1))
    });
    world.settle();
    assert_eq!(world.espo.records("Lead").len(), 1);
    assert_eq!(world.records("With Nina").len(), 1);
}

#[test]
fn an_event_changed_while_it_was_written_is_merged_again() {
    let world = World::start();
    let (id, event) = world.pair("Race", json!({ "description": "old" }));
    world.graph.wire().push(Fault::latency("PATCH", "/events/", Duration::from_millis(1500)));
    let mark = world.mark();
    world.espo_update(&id, json!({ "name": "Race, by EspoCRM" }));
    let is_asked = || world.graph.wire().since(mark.1).iter().any(|row| row.method == "PATCH" && row.fault);
    world.eventually("the write is on its way", is_asked);
    world.outlook_update("anna", &event, json!({ "body": { "contentType": "text", "content": "by Outlook" } }));
    world.settle();
    let rows = world.graph.wire().since(mark.1);
    assert!(rows.iter().any(|row| row.status == 412), "nothing collided: {rows:?}");
    assert_eq!(title(&world.event("anna", &event)), "Race, by EspoCRM");
    assert_eq!(title(&world.record(&id)), "Race, by EspoCRM");
    assert_eq!(world.record(&id)["description"].as_str().map(str::trim), Some("by Outlook"));
    assert!(world.dead().is_empty());
}

#[test]
fn a_412_that_comes_for_no_visible_reason_is_tried_again() {
    let world = World::start();
    let (id, event) = world.pair("Restless", json!({}));
    let conflict = json!({ "error": { "code": "ErrorIrresolvableConflict", "message": "The send or update operation could not be performed because the change key passed in the request does not match the current change key for the item." } });
    world.graph.wire().push(Fault::status("PATCH", "/events/", 412).body(conflict).times(2));
    world.espo_update(&id, json!({ "name": "Restless, edited" }));
    world.eventually("it is written", || title(&world.event("anna", &event)) == "Restless, edited");
}

#[test]
fn an_update_of_which_the_answer_was_lost_is_not_written_twice() {
    let world = World::start();
    let (id, event) = world.pair("Lost", json!({}));
    world.graph.wire().push(Fault::drop_after("PATCH", "/events/"));
    let mark = world.mark();
    world.espo_update(&id, json!({ "name": "Lost, edited" }));
    world.eventually("it is written", || title(&world.event("anna", &event)) == "Lost, edited");
    world.settle();
    let (espo, graph) = world.writes_since(mark);
    assert_eq!((espo.len(), graph.len()), (0, 1), "{espo:?} {graph:?}");
}

#[test]
fn an_empty_or_broken_list_deletes_nothing() {
    let world = World::start();
    for n in 0..3 {
        world.espo_create("anna", &format!("Kept {n}"), json!({}));
        world.one_event("anna", &format!("Kept {n}"));
    }
    world.settle();
    let empty = json!({ "total": 0, "list": [] });
    world.espo.wire().push(Fault::status("GET", "/Meeting?", 200).body(empty).times(-1));
    world.graph.wire().push(Fault::status("GET", "/calendarView", 200).body(json!({ "value": [] })).times(-1));
    let mark = world.mark();
    let job = world.post("/sync", &json!({}))["job_id"].as_str().unwrap().to_owned();
    world.eventually("the job ends", || {
        ["done", "failed"].contains(&world.get(&format!("/jobs/{job}"))["state"].as_str().unwrap())
    });
    world.settle();
    world.espo.wire().clear();
    world.graph.wire().clear();
    world.settle();
    world.no_writes_since(mark);
    assert_eq!((world.espo.records("Meeting").len(), world.person("anna").events().len()), (3, 3));
}

#[test]
fn a_403_or_500_of_one_record_is_not_taken_for_a_deletion() {
    let world = World::start();
    for (n, status) in [403, 500, 502].into_iter().enumerate() {
        let (id, event) = world.pair(
            &format!("Hidden {n}"),
            json!({ "dateStart": espo(at(7, 1 + n as u32)), "dateEnd": espo(at(7, 2 + n as u32)) }),
        );
        world.espo.wire().push(Fault::status("GET", &format!("Meeting/{id}"), status).times(-1));
        world.outlook_update("anna", &event, json!({ "subject": format!("Hidden {n}, edited") }));
        world.never("the event must stay", 3, || world.person("anna").event(&event).is_none());
        world.espo.wire().clear();
        assert!(world.espo.get_record("Meeting", &id).is_some());
        world.post("/messages/replay", &json!({}));
        world.sync();
        world.eventually("it goes on", || title(&world.record(&id)) == format!("Hidden {n}, edited"));
        world.settle();
    }
}

#[test]
fn a_wrong_key_is_not_hammered() {
    let mut world = World::start();
    world.pair("Known", json!({}));
    world.product.env.insert("ESPOCRM__API_KEY".to_owned(), "0123456789abcdef0123456789abcdef".to_owned());
    world.crash();
    let mark = world.mark();
    world.serve();
    for n in 0..5 {
        world.outlook_create("anna", &format!("Locked {n}"), json!({}));
    }
    let refused = || world.espo.wire().since(mark.0).len();
    world.never("EspoCRM is asked again and again", 6, || refused() > 5);
    assert!(refused() > 0, "it was not even tried");
    assert!(world.dead().is_empty(), "{:?}", world.dead());
}

#[test]
fn a_record_that_ends_before_it_starts_is_left_alone_and_says_so() {
    let world = World::start();
    let id = world.espo.seed("Meeting", &json!({
        "name": "Backwards", "assignedUserId": world.id("anna"), "dateStart": espo(at(7, 12)), "dateEnd": espo(at(7, 10)),
    }));
    world.sync();
    world.settle();
    assert!(world.events("anna", "Backwards").is_empty());
    assert!(world.dead().is_empty(), "{:?}", world.dead());
    let page = world.get(&format!("/records/meeting/{id}"));
    let why: &Value = &page["decision"]["verdict"];
    assert!(why.as_str().is_some_and(|why| why.contains("end")), "{page}");
}

#[test]
fn answers_that_make_no_sense_for_a_moment_need_nobodys_help() {
    let world = World::start();
    let (id, event) = world.pair("Pair", json!({}));
    world.espo.wire().push(Fault::status("GET", &format!("Meeting/{id}"), 200).body(json!({ "odd": true })).times(2));
    world.espo_update(&id, json!({ "name": "Edited in EspoCRM" }));
    world.one_event("anna", "Edited in EspoCRM");
    world.settle();
    world.graph.wire().push(Fault::status("GET", "/events/", 200).body(json!({ "odd": true })).times(2));
    world.outlook_update("anna", &event, json!({ "subject": "Edited in Outlook" }));
    world.one_record("Edited in Outlook");
    world.settle();
    assert!(world.dead().is_empty(), "{:?}", world.dead());
}

#[test]
fn a_mailbox_that_cannot_be_used_is_told_and_tried_again_by_itself() {
    let world = World::start();
    world.graph.set_mailbox_enabled(&mail("anna"), false);
    world.espo_create("anna", "Waits for the mailbox", json!({}));
    world.becomes("anna", "error");
    let user = world.user("anna");
    assert!(
        user["next_try"].is_string() && user["reason"].as_str().is_some_and(|why| why.contains("mailbox")),
        "{user}"
    );
    assert!(world.dead().is_empty(), "{:?}", world.dead());
    world.graph.set_mailbox_enabled(&mail("anna"), true);
    world.one_event("anna", "Waits for the mailbox");
    world.becomes("anna", "active");
}
