use serde_json::{Value, json};

use crate::support::*;

fn path() -> String {
    format!("/me/calendarView/delta?{WINDOW}")
}

fn kinds(rows: &[Value]) -> Vec<(String, bool)> {
    rows.iter().map(|e| (e["id"].as_str().unwrap().to_owned(), e.get("@removed").is_some())).collect()
}

#[tokio::test]
async fn a_round_gives_everything_once_and_the_next_only_changes() {
    let g = Graph::new();
    let mut ids = Vec::new();
    for n in 0..7 {
        ids.push(g.post_event(event(&format!("e{n}"))).await.ok(201).id());
    }
    let (rows, link) = g.round(ANNA, &path(), 3).await;
    let mut seen: Vec<String> = kinds(&rows).into_iter().map(|(id, _)| id).collect();
    seen.sort();
    let mut wanted = ids.clone();
    wanted.sort();
    assert_eq!(seen, wanted);
    assert!(rows.iter().all(|e| e["@odata.type"] == "#microsoft.graph.event"));
    let (rows, link) = g.round(ANNA, &link, 3).await;
    assert!(rows.is_empty());
    g.send(ANNA, "PATCH", &format!("/me/events/{}", ids[0]), json!({"subject": "changed"})).await.ok(200);
    g.delete(ANNA, &format!("/me/events/{}", ids[1])).await.ok(204);
    let (rows, _) = g.round(ANNA, &link, 3).await;
    assert_eq!(kinds(&rows), [(ids[0].clone(), false), (ids[1].clone(), true)]);
}

#[tokio::test]
async fn what_leaves_the_window_or_changes_outside_it_is_told_as_removed_though_it_lives() {
    let g = Graph::new();
    let id = g.post_event(event("inside")).await.ok(201).id();
    let (_, link) = g.round(ANNA, &path(), 10).await;
    let far = event_in("far", "2028-01-01T10:00:00", "2028-01-01T11:00:00", "UTC");
    g.send(ANNA, "PATCH", &format!("/me/events/{id}"), far.clone()).await.ok(200);
    let outside = g.post_event(far).await.ok(201).id();
    let (rows, link) = g.round(ANNA, &link, 10).await;
    let mut told = kinds(&rows);
    told.sort();
    let mut wanted = vec![(id.clone(), true), (outside.clone(), true)];
    wanted.sort();
    assert_eq!(told, wanted);
    g.get(ANNA, &format!("/me/events/{id}")).await.ok(200);
    assert!(g.round(ANNA, &link, 10).await.0.is_empty(), "told once");
    g.delete(ANNA, &format!("/me/events/{outside}")).await.ok(204);
    let (rows, _) = g.round(ANNA, &link, 10).await;
    assert_eq!(kinds(&rows), [(outside, true)]);
}

#[tokio::test]
async fn occurrences_come_bare_and_masters_and_exceptions_whole() {
    let g = Graph::new();
    g.post_event(tuesdays()).await.ok(201);
    let view = g.get(ANNA, &format!("/me/calendarView?{WINDOW}")).await.rows();
    let second = format!("/me/events/{}", view[1]["id"].as_str().unwrap());
    g.send(ANNA, "PATCH", &second, json!({"subject": "special"})).await.ok(200);
    let (rows, link) = g.round(ANNA, &path(), 2).await;
    for row in &rows {
        let bare = row["type"] == "occurrence";
        assert_eq!(row.get("subject").is_none() && row.get("iCalUId").is_none(), bare, "{row}");
    }
    assert_eq!(rows.iter().filter(|e| e["type"] == "seriesMaster").count(), 1);
    assert_eq!(rows.iter().filter(|e| e["type"] == "exception").count(), 1);
    let third = view[2]["id"].as_str().unwrap();
    g.delete(ANNA, &format!("/me/events/{third}")).await.ok(204);
    let (rows, _) = g.round(ANNA, &link, 10).await;
    assert!(kinds(&rows).contains(&(third.to_owned(), true)));
    assert!(rows.iter().any(|e| e["type"] == "seriesMaster"), "the master changes too");
}

#[tokio::test]
async fn a_deleted_occurrence_may_go_without_a_word() {
    let g = Graph::new();
    g.sim.settings(|s| s.hide_removed_occurrences = true);
    g.post_event(tuesdays()).await.ok(201);
    let view = g.get(ANNA, &format!("/me/calendarView?{WINDOW}")).await.rows();
    let (_, link) = g.round(ANNA, &path(), 10).await;
    g.delete(ANNA, &format!("/me/events/{}", view[2]["id"].as_str().unwrap())).await.ok(204);
    let (rows, _) = g.round(ANNA, &link, 10).await;
    assert!(rows.iter().all(|e| e.get("@removed").is_none()));
    assert!(rows.iter().any(|e| e["type"] == "seriesMaster"));
}

#[tokio::test]
async fn a_forgotten_token_is_410_and_a_full_round_starts_again() {
    let g = Graph::new();
    g.post_event(event("E")).await.ok(201);
    let (_, link) = g.round(ANNA, &path(), 10).await;
    g.sim.resync_delta();
    let gone = g.get(ANNA, &link).await;
    assert_eq!((gone.status, gone.code()), (410, "SyncStateNotFound"));
    let location = gone.response.get_header("Location").unwrap();
    assert!(location.ends_with("$deltatoken="));
    assert_eq!(g.get(ANNA, location.split_once("/v1.0").unwrap().1).await.ok(200).rows().len(), 1);
    assert_eq!(g.round(ANNA, &path(), 10).await.0.len(), 1);
    assert_eq!(g.get(BORIS, &link).await.status, 410, "a token of another mailbox");
}

#[tokio::test]
async fn options_that_delta_does_not_know_are_refused_and_parentheses_accepted() {
    let g = Graph::new();
    for option in ["$select=subject", "$filter=isAllDay%20eq%20true", "$top=5", "$orderby=subject"] {
        assert_eq!(g.get(ANNA, &format!("{}&{option}", path())).await.status, 400, "{option}");
    }
    assert_eq!(g.get(ANNA, "/me/calendarView/delta").await.status, 400, "no window");
    let answer = g.get(ANNA, &format!("/me/calendarView/delta()?{WINDOW}")).await.ok(200);
    assert_eq!(answer.response.get_header("Preference-Applied"), Some("odata.track-changes"));
    let encoded = "/me/calendarView/delta?startDateTime=2026-11-01T00%3A00%3A00Z&endDateTime=2027-03-01T00%3A00%3A00Z";
    g.get(ANNA, encoded).await.ok(200);
}

#[tokio::test]
async fn the_preference_for_ids_is_per_page() {
    let g = Graph::new();
    let id = g.post_event(event("E")).await.ok(201).id();
    let (_, link) = g.round(ANNA, &path(), 10).await;
    g.delete(ANNA, &format!("/me/events/{id}")).await.ok(204);
    let plain = g.get(ANNA, &link).await.rows();
    let immutable = g.get_preferring(ANNA, &link, "IdType=\"ImmutableId\"").await.rows();
    assert_eq!(plain[0]["id"], json!(id));
    assert_ne!(immutable[0]["id"], json!(id));
}
