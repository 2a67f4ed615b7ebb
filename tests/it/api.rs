//! The admin API: who gets in, what it refuses, what it tells and what it never shows.

use std::time::Duration;

use serde_json::{Value, json};
use simulators::microsoft::Mode;
use simulators::plumbing::Fault;

use crate::support::{Setup, World, day, mail};

#[test]
fn without_the_token_everything_is_401_with_problem_details() {
    let world = World::start();
    let wrong = format!("Bearer {}x", world.token);
    for path in [
        "/users",
        "/settings",
        "/rules",
        "/history",
        "/messages",
        "/holds",
        "/subscriptions",
        "/roles",
        "/schedules",
        "/nothing",
    ] {
        for headers in [&[][..], &[("Authorization", wrong.as_str())], &[("Authorization", "Basic YWRtaW46")]] {
            let (status, kind, text) = world.http("GET", &format!("/api/v1{path}"), headers, None);
            assert_eq!((status, kind.as_str()), (401, "application/problem+json"), "{path}: {text}");
            let problem: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(problem["status"], 401);
            assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        }
    }
    let (status, ..) =
        world.http("PUT", "/api/v1/rules", &[("Content-Type", "application/json")], Some(b"{}".to_vec()));
    assert_eq!(status, 401);
}

#[test]
fn unknown_keys_and_bad_values_are_400_with_the_key_named_and_nothing_is_kept() {
    let world = World::start();
    let binding = format!("/users/{}/binding", world.id("anna"));
    let rules = format!("/users/{}/rules", world.id("anna"));
    let cases = [
        ("PUT", "/settings", json!({ "enabeld": false }), "enabeld"),
        ("PUT", "/settings", json!({ "espocrm": { "key": "x" } }), "key"),
        ("PUT", "/rules", json!({ "atendees": "none" }), "atendees"),
        ("PUT", "/rules", json!({ "meeting": { "directoin": "both" } }), "directoin"),
        ("PUT", "/rules", json!({ "meeting": { "direction": "sideways" } }), "sideways"),
        ("PUT", &rules, json!({ "private": "busy" }), "private"),
        ("PUT", &binding, json!({ "mail": "x@y.example" }), "mail"),
        ("PUT", &binding, json!({ "sync_from": "yesterday" }), ""),
        ("PUT", "/schedules", json!({ "meetings": "* * * * *" }), "meetings"),
        ("PUT", "/schedules", json!({ "meeting": "now and then" }), ""),
        ("POST", "/sync", json!({ "kinds": ["meeting"] }), "kinds"),
        ("POST", "/messages/replay", json!({ "stat": "dead" }), "stat"),
    ];
    let before = (world.get("/rules"), world.get("/settings"), world.get("/schedules"));
    for (method, path, body, named) in cases {
        let (status, answer) = world.call(method, path, Some(&body));
        assert_eq!(status, 400, "{method} {path} {body}: {answer}");
        assert!(answer["detail"].as_str().is_some_and(|detail| detail.contains(named)), "{body}: {answer}");
    }
    for body in ["", "{", "[]", "nul"] {
        let headers =
            [("Authorization", format!("Bearer {}", world.token)), ("Content-Type", "application/json".to_owned())];
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (status, kind, text) = world.http("PUT", "/api/v1/rules", &headers, Some(body.into()));
        assert_eq!((status, kind.as_str()), (400, "application/problem+json"), "{body:?}: {text}");
    }
    assert_eq!((world.get("/rules"), world.get("/settings"), world.get("/schedules")), before);
}

#[test]
fn what_does_not_exist_is_404_with_problem_details() {
    let world = World::start();
    let paths = ["/users/nobody", "/jobs/none", "/history/none", "/messages/none", "/nothing", "/records/teapot/1"];
    for path in paths {
        let (status, answer) = world.call("GET", path, None);
        assert!(status == 404 || (status == 400 && path.contains("teapot")), "{path}: {status} {answer}");
        assert_eq!(answer["status"], status, "{path}: {answer}");
    }
    assert_eq!(world.call("POST", "/messages/none/replay", None).0, 404);
    assert_eq!(world.call("POST", "/holds/none/confirm", None).0, 404);
    assert_eq!(world.call("DELETE", "/messages/none", None).0, 404);
}

#[test]
fn the_defaults_are_those_that_the_rules_name() {
    let world = World::start();
    let (rules, settings) = (world.get("/rules"), world.get("/settings"));
    for kind in ["meeting", "call", "task"] {
        assert_eq!(rules[kind], json!({ "direction": "both", "priority": "newest" }), "{rules}");
    }
    let chosen = ["create_participant_as", "attendees", "private_events", "call_category", "new_events"];
    let wanted = ["lead", "invite", "none", "Call", "meeting"];
    assert_eq!(chosen.map(|name| rules[name].as_str().unwrap()), wanted, "{rules}");
    assert_eq!(settings["events_per_iteration"], 10, "{settings}");
}

#[test]
fn put_merges_and_a_users_rules_say_where_each_value_comes_from() {
    let world = World::start();
    world.put("/rules", &json!({ "meeting": { "priority": "espo" } }));
    world.put("/rules", &json!({ "attendees": "none" }));
    let rules = world.get("/rules");
    assert_eq!(
        (&rules["meeting"]["priority"], &rules["meeting"]["direction"]),
        (&json!("espo"), &json!("both")),
        "{rules}"
    );
    assert_eq!(rules["attendees"], "none");
    let path = format!("/users/{}/rules", world.id("anna"));
    world.put(&path, &json!({ "meeting": { "direction": "espo_to_outlook" } }));
    let own = world.get(&path);
    assert_eq!(own["effective"]["meeting"], json!({ "direction": "espo_to_outlook", "priority": "espo" }), "{own}");
    assert_eq!(own["sources"]["meeting.direction"], "user");
    assert_eq!(own["sources"]["attendees"], "organisation");
    world.delete(&path);
    assert_eq!(world.get(&path)["effective"]["meeting"]["direction"], "both");
    world.put("/schedules", &json!({ "meeting": "0 3 * * *" }));
    let schedules = world.get("/schedules");
    assert_eq!((&schedules["meeting"], &schedules["task"]), (&json!("0 3 * * *"), &json!("0 0 1 1 *")), "{schedules}");
}

#[test]
fn secrets_are_never_shown_neither_by_the_api_nor_in_the_log() {
    let world = Setup::default().admin_account().start();
    world.pair("Something", json!({}));
    let mut shown = String::new();
    for path in ["/settings", "/users", "/subscriptions", "/messages", "/history", "/rules", "/roles", "/schedules"] {
        shown.push_str(&world.get(path).to_string());
    }
    let bound = world.id("anna");
    shown.push_str(&world.get(&format!("/users/{bound}")).to_string());
    shown.push_str(&world.product.log());
    let mut secrets =
        vec![world.espo.api_key(), world.espo.admin().password, world.graph.client_secret(), world.token.clone()];
    secrets.extend(world.espo.webhooks().iter().filter_map(|hook| hook["secretKey"].as_str().map(str::to_owned)));
    for secret in secrets {
        assert!(!shown.contains(&secret), "a secret is shown: {secret}");
    }
    assert!(!shown.contains("Bearer ") && !shown.contains("eyJ0eXAi"), "a token is shown");
    let kept = world.database.contents(world.folder());
    let has = |needle: &[u8]| kept.windows(needle.len()).any(|window| window == needle);
    assert!(!kept.is_empty() && !has(b"eyJ0eXAiOiJKV1Qi."), "an access token lies open in the database");
}

#[test]
fn the_history_lists_field_old_new_direction_and_cause() {
    let world = World::start();
    let (id, event) = world.pair("Old title", json!({}));
    world.espo_update(&id, json!({ "name": "New title" }));
    world.one_event("anna", "New title");
    world.settle();
    world.outlook_update("anna", &event, json!({ "subject": "Newest title" }));
    world.one_record("Newest title");
    world.settle();
    let entries = world.history(&format!("record_id={id}"));
    let of = |kind: &str, direction: &str| {
        let entry = entries.iter().find(|entry| entry["type"] == kind && entry["direction"] == direction);
        entry.unwrap_or_else(|| panic!("no {kind} {direction}: {entries:#?}")).clone()
    };
    let title = |entry: &Value| {
        let changes = entry["changes"].as_array().unwrap();
        let change = changes.iter().find(|change| change["field"] == "title").unwrap();
        (change["old"].clone(), change["new"].clone())
    };
    assert_eq!(title(&of("create", "to_outlook")).1, "Old title");
    assert_eq!(title(&of("update", "to_outlook")), (json!("Old title"), json!("New title")));
    let back = of("update", "to_espo");
    assert_eq!(title(&back), (json!("New title"), json!("Newest title")));
    assert_eq!(back["cause"], "notification");
    assert_eq!(back["user_id"], world.id("anna").as_str());
    assert_eq!((&back["kind"], &back["revertible"]), (&json!("meeting"), &json!(true)));
    assert_eq!(world.get(&format!("/history/{}", back["id"].as_str().unwrap()))["id"], back["id"]);
    assert_eq!(world.history(&format!("record_id={id}&direction=to_espo")).len(), 1);
    assert_eq!(world.history("kind=task").len(), 0);
    let page = world.get("/history?limit=1");
    let cursor = page["next_cursor"].as_str().unwrap();
    let next = world.get(&format!("/history?limit=1&cursor={cursor}"));
    assert_ne!(page["items"][0]["id"], next["items"][0]["id"]);
}

#[test]
fn a_change_is_reverted_by_its_entry() {
    let world = World::start();
    let (id, event) = world.pair("Right", json!({}));
    world.outlook_update("anna", &event, json!({ "subject": "Wrong" }));
    world.one_record("Wrong");
    world.settle();
    let entry = world.history(&format!("record_id={id}&direction=to_espo"))[0]["id"].as_str().unwrap().to_owned();
    world.post(&format!("/history/{entry}/revert"), &json!({}));
    world.eventually("both are as they were", || {
        world.record(&id)["name"] == "Right" && world.event("anna", &event)["subject"] == "Right"
    });
    world.settle();
    assert!(world.history(&format!("record_id={id}")).iter().any(|entry| entry["cause"] == "revert"));
}

#[test]
fn a_records_page_shows_both_ends_and_says_why() {
    let world = World::start();
    let (id, event) = world.pair("Explained", json!({}));
    let page = world.get(&format!("/records/meeting/{id}"));
    assert_eq!(page["synchronised"], true, "{page}");
    assert_eq!(page["espo"]["values"]["title"], "Explained");
    assert_eq!(page["outlook"]["values"]["title"], "Explained");
    assert!(page["base"]["title"].is_object() && page["decision"]["verdict"].is_string(), "{page}");
    assert_eq!(page["replicas"].as_array().map(Vec::len), Some(1));
    assert!(!event.is_empty());
    assert_eq!(world.get(&format!("/records/MEETING/{id}"))["record_id"], id.as_str(), "kinds are read in any case");
    let alone = world.espo_create("boris", "Not his", json!({}));
    world.settle();
    let page = world.get(&format!("/records/meeting/{alone}"));
    assert_eq!(page["synchronised"], false, "{page}");
    assert!(page["decision"]["verdict"].as_str().is_some_and(|why| !why.is_empty()), "{page}");
}

#[test]
fn what_was_received_is_listed_and_can_be_replayed() {
    let world = World::start();
    let (id, event) = world.pair("Replayed", json!({}));
    let of_record = |message: &Value| message["target"]["id"] == id.as_str();
    let done = world.items("/messages?state=done&limit=500");
    let message = done.iter().find(|message| of_record(message)).unwrap_or_else(|| panic!("{done:#?}"));
    assert!(message["received"].is_string() && message["source"].is_string(), "{message}");
    let mark = world.mark();
    let answer = world.post(&format!("/messages/{}/replay", message["id"].as_str().unwrap()), &json!({}));
    assert_eq!(answer["replayed"], 1);
    world.settle();
    let replayed = world.items("/messages?limit=500").into_iter().find(|one| one["replay_of"] == message["id"]);
    assert_eq!(replayed.map(|one| one["state"].clone()), Some(json!("done")));
    world.no_writes_since(mark);
    assert_eq!(world.event("anna", &event)["subject"], "Replayed");
    world.delete(&format!("/messages/{}", message["id"].as_str().unwrap()));
}

fn preview_of(world: &World, asked: Value) -> Value {
    let job = world.post("/sync", &asked)["job_id"].as_str().unwrap().to_owned();
    let job = world.eventually_some("the preview", || {
        let job = world.get(&format!("/jobs/{job}"));
        (job["state"] == "done" || job["state"] == "failed").then_some(job)
    });
    assert_eq!(job["state"], "done", "{job}");
    job["preview"].clone()
}

#[test]
fn a_preview_looks_at_pairs_too_and_names_what_it_counts() {
    let world = World::start();
    let (kept, _) = world.pair("Kept", json!({}));
    let (edited, _) = world.pair("Edited", json!({}));
    let (deleted, _) = world.pair("Deleted", json!({}));
    let (_, lost) = world.pair("Lost", json!({}));
    world.settle();
    world.put("/settings", &json!({ "enabled": false }));
    world.espo_update(&edited, json!({ "name": "Edited here" }));
    world.espo_delete(&deleted);
    world.person("anna").delete_event(&lost).unwrap();
    world.settle();
    let mark = world.mark();
    let preview = preview_of(&world, json!({ "dry_run": true, "user_id": world.id("anna") }));
    let counts = ["creates", "updates", "deletes", "matches", "skips"].map(|name| preview[name].as_u64().unwrap());
    assert_eq!(counts, [0, 1, 2, 0, 1], "{preview}");
    let mut lines: Vec<(&str, &str, &str)> = preview["users"][world.id("anna")]["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| {
            (line["what"].as_str().unwrap(), line["to"].as_str().unwrap_or("-"), line["title"].as_str().unwrap())
        })
        .collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [("delete", "espo", "Lost"), ("delete", "outlook", "Deleted"), ("update", "outlook", "Edited")],
        "{preview} (and {kept} in step)"
    );
    world.no_writes_since(mark);
}

#[test]
fn a_preview_tells_and_writes_nothing() {
    let world = World::start();
    // Switched off, nothing but the preview looks at the two.
    world.put("/settings", &json!({ "enabled": false }));
    world.espo_create("anna", "Here", json!({ "usersIds": [world.id("boris")] }));
    world.outlook_create("anna", "There", json!({}));
    world.settle();
    let mark = world.mark();
    let preview = preview_of(&world, json!({ "dry_run": true, "kind": "Meeting" }));
    assert_eq!((&preview["creates"], &preview["invitations"]), (&json!(2), &json!(1)), "{preview}");
    assert_eq!(preview["users"][world.id("anna")]["creates"], 2, "{preview}");
    let preview = preview_of(&world, json!({ "dry_run": true, "direction": "to_espo" }));
    assert_eq!((&preview["creates"], &preview["invitations"]), (&json!(1), &json!(0)), "{preview}");
    world.no_writes_since(mark);
}

/// Binds Anna, and waits for nothing.
fn begin(world: &World) {
    let wanted = json!({ "enabled": true, "mailbox": mail("anna"), "sync_from": day(-60) });
    world.put(&format!("/users/{}/binding", world.id("anna")), &wanted);
    assert_eq!(world.sign_in("anna", "anna").status, 200);
}

#[test]
fn a_first_synchronisation_that_would_invite_waits_for_a_word() {
    let world = Setup::default().bound(&[]).start();
    world.espo_create("anna", "With guests", json!({ "usersIds": [world.id("anna"), world.id("boris")] }));
    world.espo_create("anna", "Alone", json!({}));
    begin(&world);
    let hold = world.eventually_some("a hold", || world.items("/holds").first().cloned());
    assert_eq!(hold["kind"], "first_sync");
    assert_eq!(hold["summary"]["preview"]["invitations"], 1, "{hold}");
    world.settle();
    assert!(world.person("anna").events().is_empty() && world.mails().is_empty(), "{:#?}", world.history(""));
    world.post(&format!("/holds/{}/confirm", hold["id"].as_str().unwrap()), &json!({}));
    world.one_event("anna", "With guests");
    world.one_event("anna", "Alone");
    world.settle();
    assert_eq!(world.mails(), [("invitation".to_owned(), mail("boris"))]);
}

#[test]
fn a_first_synchronisation_that_would_make_many_waits_for_a_word() {
    for (count, waits) in [(3, false), (4, true)] {
        let world = Setup::default().bound(&[]).env("SYNC__FIRST_SYNC_HOLD_OVER", "3").start();
        world.espo_create("anna", "Record", json!({}));
        (1..count).for_each(|n| drop(world.outlook_create("anna", &format!("Event {n}"), json!({}))));
        begin(&world);
        if waits {
            let hold = world.eventually_some("a hold", || world.items("/holds").first().cloned());
            assert_eq!((&hold["kind"], &hold["summary"]["preview"]["creates"]), (&json!("first_sync"), &json!(count)));
            world.settle();
            assert!(world.espo.records("Meeting").len() == 1 && world.person("anna").events().len() == count - 1);
            world.post(&format!("/holds/{}/confirm", hold["id"].as_str().unwrap()), &json!({}));
        }
        world.eventually("all are made", || world.espo.records("Meeting").len() == count);
        world.one_event("anna", "Record");
        assert!(world.items("/holds").is_empty());
    }
}

#[test]
fn what_is_made_while_a_first_synchronisation_makes_its_lists_arrives_too() {
    let world = Setup::default().bound(&[]).start();
    world.graph.wire().push(Fault::held_before("GET", "/calendarView/delta"));
    begin(&world);
    world.eventually("the calendar is being listed", || world.graph.wire().pending_faults() == Some(0));
    let id = world.espo_create("anna", "Meanwhile", json!({}));
    let told = || world.items("/messages?state=done").iter().any(|message| message["target"]["id"] == id.as_str());
    world.eventually("its webhook was looked at", told);
    assert!(world.person("anna").events().is_empty(), "it was taken in ahead of the others");
    world.graph.wire().release();
    world.one_event("anna", "Meanwhile");
    world.is_at_rest();
}

#[test]
fn a_first_synchronisation_that_would_invite_to_a_matched_event_waits_for_a_word() {
    let world = Setup::default().bound(&[]).start();
    world.espo_create("anna", "Both", json!({ "usersIds": [world.id("anna"), world.id("boris")] }));
    world.outlook_create("anna", "Both", json!({}));
    begin(&world);
    let hold = world.eventually_some("a hold", || world.items("/holds").first().cloned());
    let preview = &hold["summary"]["preview"];
    assert_eq!((&preview["matches"], &preview["invitations"]), (&json!(1), &json!(1)), "{hold}");
    world.settle();
    assert!(world.mails().is_empty(), "{:?}", world.mails());
    world.post(&format!("/holds/{}/confirm", hold["id"].as_str().unwrap()), &json!({}));
    world.eventually("Boris is invited", || world.mails() == [("invitation".to_owned(), mail("boris"))]);
    world.settle();
    assert_eq!((world.events("anna", "Both").len(), world.records("Both").len()), (1, 1));
}

#[test]
fn a_synchronisation_of_one_kind_and_direction_takes_nothing_else_in() {
    // Nothing comes by itself: only what is asked for.
    let world = Setup::default().env("SYNC__POLL_INTERVAL", "1h").start();
    world.espo.lose_webhooks(true);
    world.graph.set_notifications(Mode::Drop, 1, false, Duration::ZERO);
    let here = world.espo_create("anna", "Here", json!({}));
    world.outlook_create("anna", "There", json!({}));
    world.outlook_create("anna", "Ring", json!({ "categories": ["Call"] }));
    let job = |asked: Value| {
        let job = world.post("/sync", &asked)["job_id"].as_str().unwrap().to_owned();
        world.eventually_some("the job ends", || {
            let job = world.get(&format!("/jobs/{job}"));
            (job["state"] == "done").then_some(job)
        })
    };
    let done = job(json!({ "kind": "call" }));
    assert_eq!((&done["created"], &done["done"]), (&json!(1), &done["total"]), "{done}");
    assert_eq!((world.espo.records("Call").len(), world.records("There").len()), (1, 0));
    job(json!({ "kind": "meeting", "direction": "to_espo" }));
    assert_eq!((world.records("There").len(), world.events("anna", "Here").len()), (1, 0));
    job(json!({ "direction": "to_outlook" }));
    assert_eq!(world.events("anna", "Here").len(), 1, "{here}");
}

#[test]
fn many_deletions_at_once_are_held_until_confirmed() {
    let world = World::start();
    let names: Vec<String> = (0..12).map(|n| format!("Meeting {n}")).collect();
    let ids: Vec<String> = names.iter().map(|name| world.espo_create("anna", name, json!({}))).collect();
    for name in &names {
        world.one_event("anna", name);
    }
    world.settle();
    for id in &ids {
        world.espo_delete(id);
    }
    let hold = world.eventually_some("a hold", || world.items("/holds").first().cloned());
    assert_eq!(hold["kind"], "mass_deletion");
    world.settle();
    assert_eq!(world.person("anna").events().len(), 12, "some were deleted before anybody confirmed");
    world.post(&format!("/holds/{}/confirm", hold["id"].as_str().unwrap()), &json!({}));
    world.eventually("they are deleted", || world.person("anna").events().is_empty());
}

#[test]
fn the_service_is_small_when_it_is_idle_and_stops_when_asked() {
    let mut world = World::start();
    world.pair("Something", json!({}));
    world.never("a sweep", 1, || false);
    let (resident, own) = world.product.resident();
    assert!(own < 32 * 1024, "{own} KiB are its own");
    // A build for debugging maps far more code.
    let most = if cfg!(debug_assertions) { 90 } else { 60 };
    assert!(resident < most * 1024, "{resident} KiB are resident");
    let before = std::time::Instant::now();
    assert!(world.product.stop(), "it does not stop");
    assert!(before.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_body_that_is_too_large_is_a_problem_like_others() {
    let world = World::start();
    let body = format!("{{\"a\": \"{}\"}}", "x".repeat(2 << 20)).into_bytes();
    let token = format!("Bearer {}", world.token);
    for (method, path) in [("PUT", "/api/v1/rules"), ("POST", "/api/v1/sync"), ("POST", "/api/v1/history/revert")] {
        let (status, kind, text) = world.http(method, path, &[("Authorization", &token)], Some(body.clone()));
        assert_eq!(status, 413, "{path}: {text}");
        assert!(kind.contains("application/problem+json") && text.contains("\"detail\""), "{path}: {kind} {text}");
    }
}

#[test]
fn what_is_said_of_a_role_is_merged_and_null_forgets_it() {
    let world = World::start();
    let said = |world: &World| world.items("/roles");
    world.put("/roles", &json!({ "r1": { "access": "read", "fields": { "direction": "no", "token": "edit" } } }));
    world.put("/roles", &json!({ "r1": { "fields": { "token": null, "history": "read" } } }));
    assert_eq!(
        said(&world),
        [json!({ "role_id": "r1", "access": "read", "fields": { "direction": "no", "history": "read" } })]
    );
    world.put("/roles", &json!({ "r1": { "access": null } }));
    assert_eq!(said(&world), [json!({ "role_id": "r1", "fields": { "direction": "no", "history": "read" } })]);
    assert_eq!(world.call("PUT", "/roles", Some(&json!({ "r1": { "acces": "edit" } }))).0, 400);
    world.put("/roles", &json!({ "r1": null }));
    assert!(said(&world).is_empty());
}

#[test]
fn a_sqlite_file_has_one_worker_and_a_second_one_says_what_to_do() {
    let world = Setup::default().file().start();
    let mut second = world.product.beside("second", "127.0.0.1:0", "worker");
    second.start();
    world.eventually("it ends", || second.ended().is_some());
    assert!(second.log().contains("another process is the worker on this SQLite file"), "{}", second.log());
    let mut receiver = world.product.beside("receiver", "127.0.0.1:0", "receiver");
    receiver.start();
    world.never("a receiver is refused", 2, || receiver.ended().is_some());
    assert!(receiver.stop());
}

#[test]
fn without_migrations_a_schema_that_is_behind_is_refused_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let env = [
        ("DATABASE__URL", format!("sqlite://{}/x.db?mode=rwc", folder.path().display())),
        ("SERVER__BIND", "127.0.0.1:0".to_owned()),
    ];
    let env = env.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let run = crate::support::command(&["serve", "--no-migrate"], &env, folder.path());
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(!run.status.success() && said.contains("espo-outlook migrate up"), "{said}");
}

#[test]
fn probes_and_documents_answer_without_a_token() {
    let world = World::start();
    for path in ["/healthz", "/readyz", "/metrics", "/api/openapi.json", "/api/docs", "/sign-in"] {
        assert_eq!(world.http("GET", path, &[], None).0, 200, "{path}");
    }
    assert_eq!(world.http("GET", "/", &[], None).0, 303, "the pages ask to sign in");
    let openapi: Value = serde_json::from_str(&world.http("GET", "/api/openapi.json", &[], None).2).unwrap();
    for path in
        ["/api/v1/rules", "/api/v1/users/{id}/binding", "/api/v1/messages/{id}/replay", "/api/v1/records/{kind}/{id}"]
    {
        assert!(openapi["paths"].get(path).is_some(), "{path} is not described");
    }
    let (_, _, metrics) = world.http("GET", "/metrics", &[], None);
    for name in ["queue_depth", "dead_letters", "bindings", "subscriptions", "holds", "http_client_requests_total"] {
        assert!(metrics.contains(&format!("espo_outlook_{name}")), "{name} is not measured:\n{metrics}");
    }
}
