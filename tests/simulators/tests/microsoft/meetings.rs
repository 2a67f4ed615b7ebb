use serde_json::json;

use crate::support::*;

fn mails(g: &Graph, kind: &str) -> Vec<String> {
    let mut to: Vec<String> = g.sim.mails().into_iter().filter(|m| m.kind == kind).map(|m| m.to).collect();
    to.sort();
    to
}

async fn copy_of(g: &Graph, who: &str) -> serde_json::Value {
    g.get(who, "/me/events").await.rows().first().cloned().unwrap_or_default()
}

#[tokio::test]
async fn an_invited_colleague_gets_an_own_copy_with_the_same_ical_uid() {
    let g = Graph::new();
    let made = g.post_event(with(event("Plan"), "attendees", people(&[BORIS, "guest@else.example"]))).await.ok(201);
    assert_eq!(mails(&g, "invitation"), [BORIS, "guest@else.example"]);
    let copy = copy_of(&g, BORIS).await;
    assert_eq!(copy["iCalUId"], made.body["iCalUId"]);
    assert_ne!(copy["id"], made.body["id"]);
    assert_eq!((&copy["isOrganizer"], &copy["responseStatus"]["response"]), (&json!(false), &json!("notResponded")));
}

#[tokio::test]
async fn the_etag_of_the_answer_is_stale_once_the_invitations_went_out() {
    let g = Graph::new();
    let made = g.post_event(with(event("Plan"), "attendees", people(&[BORIS]))).await.ok(201);
    let path = format!("/me/events/{}", made.id());
    assert_ne!(g.get(ANNA, &path).await.body["changeKey"], made.body["changeKey"]);
    let alone = g.post_event(event("Alone")).await.ok(201);
    let path = format!("/me/events/{}", alone.id());
    assert_eq!(g.get(ANNA, &path).await.body["changeKey"], alone.body["changeKey"]);
}

#[tokio::test]
async fn content_mails_everybody_attendees_mail_only_the_changed_and_private_things_nobody() {
    let g = Graph::new();
    let made = g.post_event(with(event("Plan"), "attendees", people(&[BORIS, "guest@else.example"]))).await.ok(201);
    let path = format!("/me/events/{}", made.id());
    let private = json!({"isReminderOn": false, "categories": ["x"], "showAs": "free"});
    g.send(ANNA, "PATCH", &path, private).await.ok(200);
    assert_eq!(mails(&g, "update"), Vec::<String>::new());
    g.send(ANNA, "PATCH", &path, json!({"subject": "New"})).await.ok(200);
    assert_eq!(mails(&g, "update"), [BORIS, "guest@else.example"]);
    assert_eq!(copy_of(&g, BORIS).await["subject"], "New");
    g.send(ANNA, "PATCH", &path, json!({"attendees": people(&[BORIS, CARLA])})).await.ok(200);
    assert_eq!(mails(&g, "update").len(), 2, "nobody who stayed was mailed");
    assert_eq!(mails(&g, "cancellation"), ["guest@else.example"]);
    assert_eq!(mails(&g, "invitation").iter().filter(|to| *to == CARLA).count(), 1);
}

#[tokio::test]
async fn somebody_left_out_keeps_a_cancelled_copy_and_gets_it_back_when_invited_again() {
    let g = Graph::new();
    let made = g.post_event(with(event("Plan"), "attendees", people(&[BORIS]))).await.ok(201);
    let path = format!("/me/events/{}", made.id());
    g.send(ANNA, "PATCH", &path, json!({"attendees": []})).await.ok(200);
    assert_eq!(copy_of(&g, BORIS).await["isCancelled"], true);
    g.send(ANNA, "PATCH", &path, json!({"attendees": people(&[BORIS])})).await.ok(200);
    let copies = g.get(BORIS, "/me/events").await.rows();
    assert_eq!((copies.len(), &copies[0]["isCancelled"], &copies[0]["subject"]), (1, &json!(false), &json!("Plan")));
}

#[tokio::test]
async fn answers_reach_the_organizer_and_declining_removes_the_copy() {
    let g = Graph::new();
    let made = g.post_event(with(event("Plan"), "attendees", people(&[BORIS, CARLA]))).await.ok(201);
    let path = format!("/me/events/{}", made.id());
    assert_eq!(
        g.send(ANNA, "POST", &format!("{path}/accept"), json!({})).await.status,
        400,
        "the organizer cannot answer"
    );
    let id = |copy: serde_json::Value| format!("/me/events/{}", copy["id"].as_str().unwrap());
    let boris = id(copy_of(&g, BORIS).await);
    g.send(BORIS, "POST", &format!("{boris}/accept"), json!({"comment": "ok", "sendResponse": true})).await.ok(202);
    let carla = id(copy_of(&g, CARLA).await);
    assert_eq!(g.send(CARLA, "POST", &format!("{carla}/decline"), json!({"nonsense": 1})).await.status, 400);
    assert_eq!(
        g.send(CARLA, "POST", &format!("{carla}/cancel"), json!({})).await.status,
        400,
        "only the organizer cancels"
    );
    g.send(CARLA, "POST", &format!("{carla}/decline"), json!({"sendResponse": true})).await.ok(202);
    g.get(CARLA, &carla).await.ok(404);
    let answers: Vec<String> = g.get(ANNA, &path).await.body["attendees"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["status"]["response"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(answers, ["accepted", "declined"]);
    assert_eq!(mails(&g, "response").len(), 2);
    let moved = event_in("Plan", "2026-12-02T10:00:00", "2026-12-02T11:00:00", "UTC");
    g.send(ANNA, "PATCH", &path, moved).await.ok(200);
    assert_eq!(g.get(BORIS, &boris).await.body["responseStatus"]["response"], "notResponded", "a new time asks again");
}

#[tokio::test]
async fn a_copy_changes_only_for_its_owner_until_the_organizer_writes() {
    let g = Graph::new();
    let made = g.post_event(with(event("Plan"), "attendees", people(&[BORIS]))).await.ok(201);
    let copy = format!("/me/events/{}", copy_of(&g, BORIS).await["id"].as_str().unwrap());
    assert_eq!(g.send(BORIS, "PATCH", &copy, json!({"attendees": []})).await.status, 403);
    g.send(BORIS, "PATCH", &copy, json!({"subject": "mine", "showAs": "oof"})).await.ok(200);
    let path = format!("/me/events/{}", made.id());
    assert_eq!(g.get(ANNA, &path).await.body["subject"], "Plan");
    g.send(ANNA, "PATCH", &path, json!({"location": {"displayName": "Room 1"}})).await.ok(200);
    let got = g.get(BORIS, &copy).await;
    assert_eq!((&got.body["subject"], &got.body["showAs"]), (&json!("Plan"), &json!("oof")));
    let before = g.sim.mails().len();
    g.delete(BORIS, &copy).await.ok(204);
    assert_eq!(g.sim.mails().len(), before, "deleting a copy mails nobody");
    g.get(ANNA, &path).await.ok(200);
}

#[tokio::test]
async fn deleting_or_cancelling_leaves_marked_copies_behind() {
    let g = Graph::new();
    for action in ["delete", "cancel"] {
        let made = g.post_event(with(event(action), "attendees", people(&[BORIS]))).await.ok(201);
        let path = format!("/me/events/{}", made.id());
        if action == "delete" {
            g.delete(ANNA, &path).await.ok(204);
        } else {
            g.send(ANNA, "POST", &format!("{path}/cancel"), json!({"Comment": "sorry"})).await.ok(202);
        }
        g.get(ANNA, &path).await.ok(404);
        let copy =
            g.get(BORIS, "/me/events?$filter=isCancelled%20eq%20true&$orderby=createdDateTime%20desc").await.rows();
        assert!(copy.iter().any(|e| e["subject"] == format!("Canceled: {action}")));
    }
    assert_eq!(mails(&g, "cancellation").len(), 2);
}

#[tokio::test]
async fn an_occurrence_that_moves_or_goes_does_so_in_every_calendar() {
    let g = Graph::new();
    g.post_event(with(tuesdays(), "attendees", people(&[BORIS]))).await.ok(201);
    let view = g.get(ANNA, &format!("/me/calendarView?{WINDOW}")).await.rows();
    let path = |n: usize| format!("/me/events/{}", view[n]["id"].as_str().unwrap());
    let moved = event_in("moved", "2026-12-09T10:00:00", "2026-12-09T11:00:00", "UTC");
    g.send(ANNA, "PATCH", &path(1), moved).await.ok(200);
    g.delete(ANNA, &path(2)).await.ok(204);
    let theirs = g.get(BORIS, &format!("/me/calendarView?{WINDOW}")).await.rows();
    let seen: Vec<(String, String)> = theirs
        .iter()
        .map(|e| (e["subject"].as_str().unwrap().to_owned(), e["start"]["dateTime"].as_str().unwrap()[..10].to_owned()))
        .collect();
    let expected = [("Series", "2026-12-01"), ("moved", "2026-12-09"), ("Series", "2026-12-22")];
    assert_eq!(seen, expected.map(|(s, d)| (s.to_owned(), d.to_owned())));
    let theirs = format!("/me/events/{}", theirs[0]["id"].as_str().unwrap());
    g.send(BORIS, "POST", &format!("{theirs}/accept"), json!({"sendResponse": true})).await.ok(202);
    let first = g.get(ANNA, &path(0)).await;
    assert_eq!(first.body["attendees"][0]["status"]["response"], "accepted");
    let last = g.get(ANNA, &path(3)).await;
    assert_eq!(last.body["attendees"][0]["status"]["response"], "none");
}

#[tokio::test]
async fn changing_a_series_mails_once_for_it_and_once_for_each_exception() {
    let g = Graph::new();
    let master = g.post_event(with(tuesdays(), "attendees", people(&[BORIS]))).await.ok(201);
    let view = g.get(ANNA, &format!("/me/calendarView?{WINDOW}")).await.rows();
    let second = format!("/me/events/{}", view[1]["id"].as_str().unwrap());
    g.send(ANNA, "PATCH", &second, json!({"subject": "special"})).await.ok(200);
    let before = mails(&g, "update").len();
    g.send(ANNA, "PATCH", &format!("/me/events/{}", master.id()), json!({"importance": "high"})).await.ok(200);
    assert_eq!(mails(&g, "update").len() - before, 2);
}

#[tokio::test]
async fn an_outside_organizer_invites_changes_and_cancels() {
    let g = Graph::new();
    let id = g.sim.invited(ANNA, "Visit", "boss@partner.example", at("2026-12-03T09:00:00Z"), None).unwrap();
    let path = format!("/me/events/{id}");
    let got = g.get(ANNA, &path).await.ok(200);
    assert_eq!(got.body["organizer"]["emailAddress"]["address"], "boss@partner.example");
    assert_eq!(got.body["isOrganizer"], false);
    g.send(ANNA, "POST", &format!("{path}/tentativelyAccept"), json!({})).await.ok(202);
    assert_eq!(mails(&g, "response"), ["boss@partner.example"]);
    g.sim.person(ANNA).organizer_changes(&id, json!({"subject": "Later visit"})).unwrap();
    assert_eq!(g.get(ANNA, &path).await.body["subject"], "Later visit");
    g.sim.person(ANNA).organizer_cancels(&id).unwrap();
    assert_eq!(g.get(ANNA, &path).await.body["isCancelled"], true);
}
