use serde_json::{Value, json};
use simulators::plumbing::Request;

use crate::support::*;

#[tokio::test]
async fn what_is_written_is_read_back_in_the_zone_and_form_asked_for() {
    let g = Graph::new();
    let body = with(event("E"), "body", json!({"contentType": "text", "content": "hi & <b>"}));
    let made = g.post_event(body).await.ok(201);
    let prefer = r#"outlook.body-content-type="text", outlook.timezone="Europe/Berlin""#;
    let got = g.get_preferring(ANNA, &format!("/me/events/{}", made.id()), prefer).await.ok(200);
    assert_eq!(got.body["body"], json!({"contentType": "text", "content": "hi & <b>"}));
    assert_eq!(got.body["start"], json!({"dateTime": "2026-12-01T11:00:00.0000000", "timeZone": "Europe/Berlin"}));
    assert_eq!(got.response.get_header("Preference-Applied"), Some("outlook.timezone=\"Europe/Berlin\""));
    let html = g.get(ANNA, &format!("/me/events/{}", made.id())).await.body["body"]["content"].to_string();
    assert!(html.contains("<meta") && html.contains("&amp;"), "Exchange wraps bodies: {html}");
}

#[tokio::test]
async fn bodies_that_graph_refuses_are_refused() {
    let g = Graph::new();
    let all_day = |start, end| with(event_in("A", start, end, "Europe/Berlin"), "isAllDay", json!(true));
    let many: Vec<String> = (0..501).map(|n| format!("p{n}@else.example")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let refused = [
        ("unknown property", with(event("E"), "nonsense", json!(1))),
        ("unknown property of the body", with(event("E"), "body", json!({"content": "x", "kind": "text"}))),
        ("no time zone", with(event("E"), "start", json!({"dateTime": "2026-12-01T10:00:00"}))),
        ("unknown time zone", event_in("E", "2026-12-01T10:00:00", "2026-12-01T11:00:00", "Mars/Base")),
        ("custom time zone", event_in("E", "2026-12-01T10:00:00", "2026-12-01T11:00:00", "tzone://Microsoft/Custom")),
        ("offset in dateTime", event_in("E", "2026-12-01T10:00:00+01:00", "2026-12-01T11:00:00", "UTC")),
        ("end before start", event_in("E", "2026-12-01T10:00:00", "2026-12-01T09:00:00", "UTC")),
        ("no start", json!({"subject": "x"})),
        ("all day not at midnight", with(event("E"), "isAllDay", json!(true))),
        ("all day of no length", all_day("2026-12-01T00:00:00", "2026-12-01T00:00:00")),
        ("attendee address", with(event("E"), "attendees", people(&["nobody"]))),
        ("501 attendees", with(event("E"), "attendees", people(&many))),
        ("enum", with(event("E"), "importance", json!("urgent"))),
        ("bool", with(event("E"), "isReminderOn", json!("yes"))),
        ("number", with(event("E"), "reminderMinutesBeforeStart", json!("15"))),
        ("extended id", with(event("E"), "singleValueExtendedProperties", json!([{"id": "Name x", "value": "1"}]))),
        ("extended value", with(event("E"), "singleValueExtendedProperties", json!([{"id": PROPERTY, "value": 1}]))),
    ];
    for (why, body) in refused {
        assert_eq!(g.post_event(body).await.status, 400, "{why}");
    }
    let mut mixed = all_day("2026-12-01T00:00:00", "2026-12-02T00:00:00");
    mixed["end"]["timeZone"] = json!("UTC");
    assert_eq!(g.post_event(mixed).await.status, 400, "two zones");
    assert_eq!(g.sim.person(ANNA).events().len(), 0, "nothing was stored");
    g.post_event(all_day("2026-12-01T00:00:00", "2026-12-02T00:00:00")).await.ok(201);
}

#[tokio::test]
async fn a_broken_payload_is_400_and_another_media_type_415() {
    let g = Graph::new();
    let raw = |kind: &str, body: &str| {
        let mut request = g.request(ANNA, "POST", "/me/events").with_header("Content-Type", kind);
        request.body = body.as_bytes().to_vec();
        request
    };
    assert_eq!(g.ask(raw("application/json", "{")).await.status, 400);
    assert_eq!(g.ask(raw("application/json", "[]")).await.status, 400);
    assert_eq!(g.ask(raw("text/plain", "{}")).await.status, 415);
    assert_eq!(g.send(ANNA, "PUT", "/me/events", json!({})).await.status, 405);
}

#[tokio::test]
async fn queries_that_graph_refuses_are_refused() {
    let g = Graph::new();
    g.post_event(event("E")).await.ok(201);
    for path in [
        "/me/events?$select=bogus",
        "/me/events?$filter=bogus%20eq%201",
        "/me/events?$filter=transactionId%20eq%20'x'",
        "/me/events?$filter=uid%20eq%20'x'",
        "/me/events?$top=0",
        "/me/events?$orderby=bogus",
        "/me/events?$expand=singleValueExtendedProperties",
        "/me/calendarView",
        "/me/calendarView?startDateTime=2026-01-01T00:00:00Z&endDateTime=2025-01-01T00:00:00Z",
        "/me/calendarView?startDateTime=2020-01-01T00:00:00Z&endDateTime=2026-01-01T00:00:00Z",
        "/me/events/delta",
        "/me/nonsense",
    ] {
        assert_eq!(g.get(ANNA, path).await.status, 400, "{path}");
    }
    assert_eq!(g.get(ANNA, "/me/events/short").await.code(), "ErrorInvalidIdMalformed");
    let gone = g.get(ANNA, "/me/events/AAMkADxxxxxxxxxxxxxxxxxxxxxxxxxxxx").await;
    assert_eq!((gone.status, gone.code()), (404, "ErrorItemNotFound"));
    assert_eq!(g.get_preferring(ANNA, "/me/events", "outlook.timezone=\"Mars\"").await.status, 400);
}

#[tokio::test]
async fn an_all_day_event_keeps_its_dates_in_every_zone() {
    let g = Graph::new();
    let body = event_in("Fair", "2026-12-01T00:00:00", "2026-12-03T00:00:00", "Pacific/Auckland");
    let made = g.post_event(with(body, "isAllDay", json!(true))).await.ok(201);
    let path = format!("/me/events/{}", made.id());
    let got = g.get_preferring(ANNA, &path, "outlook.timezone=\"Pacific Standard Time\"").await;
    assert_eq!(got.body["start"]["dateTime"], "2026-12-01T00:00:00.0000000");
    assert_eq!(got.body["end"]["dateTime"], "2026-12-03T00:00:00.0000000");
}

#[tokio::test]
async fn read_only_properties_are_ignored_and_the_transaction_id_is_fixed() {
    let g = Graph::new();
    let made = g.post_event(with(event("E"), "transactionId", json!("t-1"))).await.ok(201);
    let path = format!("/me/events/{}", made.id());
    let patched = g.send(ANNA, "PATCH", &path, json!({"iCalUId": "mine", "isCancelled": true})).await.ok(200);
    assert_eq!(patched.body["iCalUId"], made.body["iCalUId"]);
    assert_eq!(patched.body["isCancelled"], false);
    assert_eq!(g.send(ANNA, "PATCH", &path, json!({"transactionId": "t-2"})).await.status, 400);
    assert_eq!(g.send(ANNA, "PATCH", &path, json!({"bogus": 1})).await.status, 400);
}

#[tokio::test]
async fn a_repeated_transaction_gives_the_first_event_again() {
    let g = Graph::new();
    let body = with(event("E"), "transactionId", json!("t-1"));
    let first = g.post_event(body.clone()).await.ok(201);
    let again = g.post_event(body.clone()).await.ok(201);
    assert_eq!(first.id(), again.id());
    assert_eq!(g.sim.person(ANNA).events().len(), 1);
    g.sim.settings(|s| s.duplicate_transaction_conflicts = true);
    assert_eq!(g.post_event(body).await.code(), "ErrorDuplicateTransactionId");
}

#[tokio::test]
async fn a_stale_etag_is_412_and_a_malformed_one_400() {
    let g = Graph::new();
    let made = g.post_event(event("E")).await.ok(201);
    let path = format!("/me/events/{}", made.id());
    let patch = |etag: &str, subject: &str| {
        g.ask(g.request(ANNA, "PATCH", &path).with_header("If-Match", etag).with_json(&json!({"subject": subject})))
    };
    let etag = made.body["@odata.etag"].as_str().unwrap();
    let patched = patch(etag, "E2").await.ok(200);
    assert_ne!(patched.body["changeKey"], made.body["changeKey"]);
    let stale = patch(etag, "E3").await;
    assert_eq!((stale.status, stale.code()), (412, "ErrorIrresolvableConflict"));
    assert_eq!(patch("W/\"%%\"", "E3").await.code(), "ErrorInvalidChangeKey");
    patch("*", "E4").await.ok(200);
    let stale_delete = g.ask(g.request(ANNA, "DELETE", &path).with_header("If-Match", etag)).await;
    assert_eq!(stale_delete.status, 412);
    g.delete(ANNA, &path).await.ok(204);
    g.get(ANNA, &path).await.ok(404);
}

#[tokio::test]
async fn an_extended_property_is_found_by_filter_shown_by_expand_and_never_echoed() {
    let g = Graph::new();
    let body = with(event("E"), "singleValueExtendedProperties", json!([{"id": PROPERTY, "value": "it's 42"}]));
    let made = g.post_event(body).await.ok(201);
    g.post_event(event("other")).await.ok(201);
    assert!(made.body.get("singleValueExtendedProperties").is_none());
    let clause = format!("singleValueExtendedProperties/Any(ep: ep/id eq '{PROPERTY}' and ep/value eq 'it''s 42')");
    let escape = |text: &str| text.replace(' ', "%20");
    let found = g.get(ANNA, &format!("/me/events?$filter={}", escape(&clause))).await.ok(200);
    assert_eq!(found.rows().len(), 1);
    let expand = escape(&format!("singleValueExtendedProperties($filter=id eq '{PROPERTY}')"));
    let got = g.get(ANNA, &format!("/me/events/{}?$expand={expand}", made.id())).await;
    assert_eq!(got.body["singleValueExtendedProperties"][0]["value"], "it's 42");
    let in_view = g.get(ANNA, &format!("/me/calendarView?{WINDOW}&$expand={expand}&$select=subject")).await.rows();
    assert_eq!(in_view.iter().filter(|e| e.get("singleValueExtendedProperties").is_some()).count(), 1);
    let (rows, _) = g.round(ANNA, &format!("/me/calendarView/delta?{WINDOW}"), 10).await;
    assert!(rows.iter().all(|e| e.get("singleValueExtendedProperties").is_none()));
    let status = g.get(ANNA, &format!("/me/calendarView/delta?{WINDOW}&$expand={expand}")).await.status;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn both_ids_of_an_event_find_it_and_the_preference_chooses_the_one_shown() {
    let g = Graph::new();
    let made = g.post_event(event("E")).await.ok(201);
    let path = format!("/me/events/{}", made.id());
    let immutable = g.get_preferring(ANNA, &path, "IdType=\"ImmutableId\"").await.id();
    assert_ne!(immutable, made.id());
    assert_eq!(g.get(ANNA, &format!("/me/events/{immutable}")).await.id(), made.id());
    assert_eq!(g.get(ANNA, &format!("/me/events('{immutable}')")).await.id(), made.id());
    assert_eq!(g.get(BORIS, &path).await.status, 404, "another mailbox");
}

#[tokio::test]
async fn filters_and_pages_walk_through_all_events() {
    let g = Graph::new();
    for n in 1..=12 {
        let day = format!("2026-12-{n:02}");
        g.post_event(event_in(&format!("e{n}"), &format!("{day}T10:00:00"), &format!("{day}T11:00:00"), "UTC"))
            .await
            .ok(201);
    }
    let filter = "$filter=start/dateTime%20ge%20'2026-12-03T00:00:00Z'%20and%20isCancelled%20eq%20false";
    let mut path = format!("/me/events?{filter}&$top=4&$select=subject,start&$orderby=start/dateTime");
    let mut subjects = Vec::new();
    loop {
        let page = g.get(ANNA, &path).await.ok(200);
        subjects.extend(page.rows().iter().map(|e| e["subject"].as_str().unwrap().to_owned()));
        assert!(page.rows().iter().all(|e| e.get("body").is_none() && e["@odata.etag"].is_string()));
        let Some(next) = page.body["@odata.nextLink"].as_str() else { break };
        path = next.split_once("/v1.0").unwrap().1.to_owned();
    }
    assert_eq!(subjects, (3..=12).map(|n| format!("e{n}")).collect::<Vec<_>>());
    let uid = g.get(ANNA, "/me/events?$top=1").await.rows()[0]["iCalUId"].as_str().unwrap().to_owned();
    assert_eq!(g.get(ANNA, &format!("/me/events?$filter=iCalUId%20eq%20'{uid}'")).await.rows().len(), 1);
}

#[tokio::test]
async fn a_series_has_occurrences_exceptions_and_gaps() {
    let g = Graph::new();
    let master = g.post_event(tuesdays()).await.ok(201);
    assert_eq!(master.body["type"], "seriesMaster");
    let view = g.get(ANNA, &format!("/me/calendarView?{WINDOW}")).await.rows();
    assert_eq!(view.iter().map(|e| e["type"].as_str().unwrap()).collect::<Vec<_>>(), ["occurrence"; 4]);
    let uids: std::collections::BTreeSet<String> = view.iter().map(|e| e["iCalUId"].to_string()).collect();
    assert_eq!(uids.len(), 4, "each occurrence has its own iCalUId");
    let path = |n: usize| format!("/me/events/{}", view[n]["id"].as_str().unwrap());
    let to = |day: u32| {
        event_in("moved", &format!("2026-12-{day:02}T10:00:00"), &format!("2026-12-{day:02}T11:00:00"), "UTC")
    };
    let moved = g.send(ANNA, "PATCH", &path(1), to(9)).await.ok(200);
    assert_eq!((&moved.body["type"], &moved.body["seriesMasterId"]), (&json!("exception"), &master.body["id"]));
    assert_eq!(g.send(ANNA, "PATCH", &path(1), to(15)).await.code(), "ErrorOccurrenceCrossingBoundary");
    g.delete(ANNA, &path(2)).await.ok(204);
    g.get(ANNA, &path(2)).await.ok(404);
    let instances = g.get(ANNA, &format!("/me/events/{}/instances?{WINDOW}", master.id())).await.rows();
    let days: Vec<&str> = instances.iter().map(|e| &e["start"]["dateTime"].as_str().unwrap()[..10]).collect();
    assert_eq!(days, ["2026-12-01", "2026-12-09", "2026-12-22"]);
    assert!(instances[0]["occurrenceId"].as_str().unwrap().ends_with(".2026-12-01"));
    let select = format!(
        "/me/events/{}?$select=cancelledOccurrences,exceptionOccurrences&$expand=exceptionOccurrences",
        master.id()
    );
    let got = g.get(ANNA, &select).await.ok(200);
    assert!(got.body["cancelledOccurrences"][0].as_str().unwrap().ends_with("2026-12-15"));
    assert_eq!(got.body["exceptionOccurrences"][0]["subject"], "moved");
    assert_eq!(g.get(ANNA, &format!("{}/instances?{WINDOW}", path(0))).await.status, 400);
    let rule: Value = tuesdays()["recurrence"].clone();
    assert_eq!(g.send(ANNA, "PATCH", &path(0), json!({"recurrence": rule})).await.status, 400);
}

#[tokio::test]
async fn a_series_keeps_its_wall_time_over_the_change_to_summer_time() {
    let g = Graph::new();
    let rule = json!({"pattern": {"type": "daily", "interval": 1},
        "range": {"type": "numbered", "startDate": "2027-03-27", "numberOfOccurrences": 3}});
    let body = event_in("D", "2027-03-27T09:00:00", "2027-03-27T10:00:00", "W. Europe Standard Time");
    g.post_event(with(body.clone(), "recurrence", rule.clone())).await.ok(201);
    let view = g
        .get(ANNA, "/me/calendarView?startDateTime=2027-03-01T00:00:00Z&endDateTime=2027-04-10T00:00:00Z")
        .await
        .rows();
    let times: Vec<&str> = view.iter().map(|e| &e["start"]["dateTime"].as_str().unwrap()[11..16]).collect();
    assert_eq!(times, ["08:00", "07:00", "07:00"]);
    let mut late = rule;
    late["range"]["startDate"] = json!("2027-03-28");
    assert_eq!(g.post_event(with(body, "recurrence", late)).await.status, 400, "range starts on another day");
}

#[tokio::test]
async fn overwriting_the_body_of_an_online_meeting_loses_the_join_block() {
    let g = Graph::new();
    let made = g.post_event(with(event("Call"), "isOnlineMeeting", json!(true))).await.ok(201);
    assert!(made.body["onlineMeeting"]["joinUrl"].is_string());
    assert!(made.body["body"]["content"].as_str().unwrap().contains("meet_invite_block"));
    let path = format!("/me/events/{}", made.id());
    let still = g.send(ANNA, "PATCH", &path, json!({"isOnlineMeeting": false})).await.ok(200);
    assert_eq!(still.body["isOnlineMeeting"], true, "it cannot be undone");
    let lost = g.send(ANNA, "PATCH", &path, json!({"body": {"contentType": "html", "content": "new"}})).await.ok(200);
    assert_eq!(lost.body["onlineMeeting"], Value::Null);
    assert_eq!(g.sim.lost_joins(), [made.id()]);
}

#[tokio::test]
async fn a_disabled_mailbox_is_404_for_everything_in_it_with_its_own_code() {
    let g = Graph::new();
    g.sim.set_mailbox_enabled(ANNA, false);
    for path in ["/me/events", "/me/todo/lists", "/me/mailboxSettings", "/me/calendar"] {
        let answer = g.get(ANNA, path).await;
        assert_eq!((answer.status, answer.code()), (404, "MailboxNotEnabledForRESTAPI"), "{path}");
    }
    g.get(ANNA, "/me").await.ok(200);
}

#[tokio::test]
async fn a_delegated_token_opens_its_own_mailbox_only() {
    let g = Graph::new();
    let id = g.get(ANNA, "/me").await.id();
    g.get(ANNA, &format!("/users/{id}/events")).await.ok(200);
    g.get(ANNA, &format!("/users/{ANNA}/mailboxSettings/timeZone")).await.ok(200);
    assert_eq!(g.get(ANNA, &format!("/users/{BORIS}/events")).await.code(), "ErrorAccessDenied");
    g.get(ANNA, &format!("/users/{BORIS}")).await.ok(200);
    assert_eq!(g.get(ANNA, "/users/nobody@contoso.example/events").await.status, 404);
    let calendar = g.get(ANNA, "/me/calendar").await.id();
    g.get(ANNA, &format!("/me/calendars/{calendar}/events")).await.ok(200);
    g.get(ANNA, "/me/calendars/AAMkCALother/events").await.ok(404);
    let zone = g.get(ANNA, "/me/mailboxSettings").await.body["timeZone"].clone();
    assert_eq!(zone, "W. Europe Standard Time");
    g.get(ANNA, "/organization").await.ok(200);
    let unsigned = g.ask(Request::new("GET", "/v1.0/me")).await;
    assert_eq!((unsigned.status, unsigned.code()), (401, "InvalidAuthenticationToken"));
}
