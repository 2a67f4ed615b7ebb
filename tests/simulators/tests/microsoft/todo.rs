use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::support::*;

async fn base(g: &Graph, who: &str) -> String {
    let lists = g.get(who, "/me/todo/lists").await.ok(200).rows();
    let default = lists.iter().find(|l| l["wellknownListName"] == "defaultList").unwrap();
    format!("/me/todo/lists/{}/tasks", default["id"].as_str().unwrap())
}

#[tokio::test]
async fn tasks_that_graph_refuses_are_refused() {
    let g = Graph::new();
    let base = base(&g, ANNA).await;
    for (why, body) in [
        ("unknown property", json!({"title": "t", "bogus": 1})),
        ("no title", json!({"status": "completed"})),
        ("status", json!({"title": "t", "status": "done"})),
        ("importance", json!({"title": "t", "importance": "urgent"})),
        ("no zone", json!({"title": "t", "dueDateTime": {"dateTime": "2026-12-01T00:00:00"}})),
        ("linked resource", json!({"title": "t", "linkedResources": [{"bogus": 1}]})),
        ("recurrence without due", json!({"title": "t", "recurrence": {"pattern": {}, "range": {}}})),
    ] {
        assert_eq!(g.send(ANNA, "POST", &base, body).await.status, 400, "{why}");
    }
    assert_eq!(g.get(ANNA, "/me/todo/lists/AAMkLISTxxxxxxxxxxxxxxxxxxxxx/tasks").await.status, 404);
    let malformed = g.get(ANNA, "/me/todo/lists/short").await.ok(400);
    assert_eq!(malformed.body["error"]["innerError"]["code"], "ErrorInvalidIdMalformed");
    assert_eq!(g.get(ANNA, &format!("{base}?$filter=bogus%20eq%20'x'")).await.status, 400);
    assert_eq!(g.send(ANNA, "PUT", &base, json!({})).await.status, 405);
}

#[tokio::test]
async fn due_dates_lose_their_time_and_reminders_keep_it() {
    let g = Graph::new();
    let base = base(&g, ANNA).await;
    let late = json!({"dateTime": "2026-12-01T23:30:00", "timeZone": "Europe/Berlin"});
    let task =
        g.send(ANNA, "POST", &base, json!({"title": "t", "dueDateTime": late, "reminderDateTime": late})).await.ok(201);
    assert_eq!(task.body["dueDateTime"], json!({"dateTime": "2026-12-01T00:00:00.0000000", "timeZone": "UTC"}));
    assert_eq!(task.body["reminderDateTime"]["dateTime"], "2026-12-01T22:30:00.0000000");
    assert_eq!(task.body["isReminderOn"], true);
    let done = g.send(ANNA, "PATCH", &format!("{base}/{}", task.id()), json!({"status": "completed"})).await.ok(200);
    assert_eq!(done.body["completedDateTime"]["dateTime"], "2026-11-22T00:00:00.0000000");
    let open = g.send(ANNA, "PATCH", &format!("{base}/{}", task.id()), json!({"status": "inProgress"})).await.ok(200);
    assert!(open.body.get("completedDateTime").is_none());
}

#[tokio::test]
async fn a_date_of_the_to_do_app_is_the_day_before_in_utc_east_of_greenwich() {
    let g = Graph::new();
    let due = json!({"dateTime": "2026-12-24T00:00:00", "timeZone": "UTC"});
    let task = g.sim.person(CARLA).create_task(json!({"title": "gift", "dueDateTime": due})).unwrap();
    assert_eq!(task["dueDateTime"]["dateTime"], "2026-12-23T10:00:00.0000000");
}

#[tokio::test]
async fn a_linked_resource_is_found_by_its_external_id_and_written_by_its_own_route() {
    let g = Graph::new();
    let base = base(&g, ANNA).await;
    let link = json!({"applicationName": "crm", "externalId": "77", "displayName": "x"});
    let task = g.send(ANNA, "POST", &base, json!({"title": "t", "linkedResources": [link]})).await.ok(201);
    g.send(ANNA, "POST", &base, json!({"title": "other"})).await.ok(201);
    let found = g.get(ANNA, &format!("{base}?$filter=linkedResources/any(r:r/externalId%20eq%20'77')")).await.rows();
    assert_eq!((found.len(), &found[0]["id"]), (1, &task.body["id"]));
    let path = format!("{base}/{}", task.id());
    assert!(g.get(ANNA, &path).await.body.get("linkedResources").is_none());
    let shown = g.get(ANNA, &format!("{path}?$expand=linkedResources")).await;
    assert_eq!(shown.body["linkedResources"][0]["externalId"], "77");
    assert_eq!(g.send(ANNA, "PATCH", &path, json!({"linkedResources": []})).await.status, 400);
    let second = g.send(ANNA, "POST", &format!("{path}/linkedResources"), json!({"externalId": "78"})).await.ok(201);
    let own = format!("{path}/linkedResources/{}", second.id());
    g.send(ANNA, "PATCH", &own, json!({"externalId": "79"})).await.ok(200);
    assert_eq!(g.get(ANNA, &own).await.body["externalId"], "79");
    g.delete(ANNA, &own).await.ok(204);
    g.get(ANNA, &own).await.ok(404);
}

#[tokio::test]
async fn task_delta_tells_changes_and_deletions_in_pages() {
    let g = Graph::new();
    let base = base(&g, ANNA).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(g.send(ANNA, "POST", &base, json!({"title": format!("t{n}")})).await.ok(201).id());
    }
    let (rows, link) = g.round(ANNA, &format!("{base}/delta"), 2).await;
    assert_eq!(rows.len(), 5);
    g.send(ANNA, "PATCH", &format!("{base}/{}", ids[0]), json!({"title": "new"})).await.ok(200);
    g.delete(ANNA, &format!("{base}/{}", ids[1])).await.ok(204);
    let (rows, link) = g.round(ANNA, &link, 2).await;
    assert_eq!(rows.len(), 2);
    assert_eq!((&rows[0]["title"], &rows[1]["@removed"]["reason"]), (&json!("new"), &json!("deleted")));
    g.sim.resync_delta();
    assert_eq!(g.get(ANNA, &link).await.status, 410);
}

#[tokio::test]
async fn new_lists_come_by_lists_delta_and_wellknown_ones_cannot_be_changed() {
    let g = Graph::new();
    let (rows, link) = g.round(ANNA, "/me/todo/lists/delta", 10).await;
    assert_eq!(rows.len(), 2);
    let list = g.send(ANNA, "POST", "/me/todo/lists", json!({"displayName": "Work"})).await.ok(201);
    let (rows, link) = g.round(ANNA, &link, 10).await;
    assert_eq!(rows[0]["displayName"], "Work");
    g.delete(ANNA, &format!("/me/todo/lists/{}", list.id())).await.ok(204);
    assert_eq!(g.round(ANNA, &link, 10).await.0[0]["@removed"]["reason"], "deleted");
    let default = base(&g, ANNA).await.replace("/tasks", "");
    assert_eq!(g.delete(ANNA, &default).await.status, 400);
}

#[tokio::test]
async fn a_stale_task_etag_is_412() {
    let g = Graph::new();
    let base = base(&g, ANNA).await;
    let task = g.send(ANNA, "POST", &base, json!({"title": "t"})).await.ok(201);
    let path = format!("{base}/{}", task.id());
    let etag = task.body["@odata.etag"].as_str().unwrap();
    g.send(ANNA, "PATCH", &path, json!({"title": "u"})).await.ok(200);
    let stale = g.request(ANNA, "PATCH", &path).with_header("If-Match", etag).with_json(&json!({"title": "v"}));
    g.ask(stale).await.ok(412);
}

#[tokio::test]
async fn small_attachments_come_in_one_post_and_three_megabytes_do_not() {
    let g = Graph::new();
    let base = base(&g, ANNA).await;
    let task = g.send(ANNA, "POST", &base, json!({"title": "t"})).await.ok(201);
    let path = format!("{base}/{}/attachments", task.id());
    let file = |bytes: &[u8]| {
        json!({"@odata.type": "#microsoft.graph.taskFileAttachment", "name": "a.txt",
        "contentType": "text/plain", "contentBytes": STANDARD.encode(bytes)})
    };
    let mut untyped = file(b"x");
    untyped.as_object_mut().unwrap().remove("@odata.type");
    assert_eq!(g.send(ANNA, "POST", &path, untyped).await.status, 400);
    assert_eq!(g.send(ANNA, "POST", &path, with(file(b"x"), "contentBytes", json!("%%"))).await.status, 400);
    assert_eq!(g.send(ANNA, "POST", &path, file(&vec![b'x'; 3 << 20])).await.status, 413);
    let made = g.send(ANNA, "POST", &path, file(b"hello")).await.ok(201);
    assert_eq!(made.body["size"], 5);
    let raw = g.get(ANNA, &format!("{path}/{}/$value", made.id())).await.ok(200);
    assert_eq!(raw.response.body, b"hello");
    assert_eq!(g.get(ANNA, &format!("{base}/{}", task.id())).await.body["hasAttachments"], true);
    g.delete(ANNA, &format!("{path}/{}", made.id())).await.ok(204);
    assert!(g.get(ANNA, &path).await.rows().is_empty());
}

#[tokio::test]
async fn large_attachments_come_in_order_in_chunks_of_four_megabytes() {
    let g = Graph::new();
    let base = base(&g, ANNA).await;
    let task = g.send(ANNA, "POST", &base, json!({"title": "t"})).await.ok(201);
    let path = format!("{base}/{}/attachments", task.id());
    let (first, size) = (4_usize << 20, (4_usize << 20) + 10);
    let info = |size: usize| json!({"attachmentInfo": {"attachmentType": "file", "name": "big", "size": size}});
    let open = format!("{path}/createUploadSession");
    assert_eq!(g.send(ANNA, "POST", &open, info((25 << 20) + 1)).await.status, 400);
    let session = g.send(ANNA, "POST", &open, info(size)).await.ok(200);
    assert_eq!(session.body["nextExpectedRanges"], json!(["0-"]));
    let url = session.body["uploadUrl"].as_str().unwrap().split_once("/v1.0").unwrap().1.to_owned();
    let put = |range: String, bytes: Vec<u8>| {
        let mut request = g.request(ANNA, "PUT", &url).with_header("Content-Range", &range);
        request.body = bytes;
        g.ask(request)
    };
    put(format!("bytes 0-{}/{size}", first), vec![0; first + 1]).await.ok(416);
    let next = put(format!("bytes 0-{}/{size}", first - 1), vec![0; first]).await.ok(200);
    assert_eq!(next.body["nextExpectedRanges"], json!([format!("{first}-")]));
    put(format!("bytes 5-14/{size}"), vec![0; 10]).await.ok(416);
    let done = put(format!("bytes {first}-{}/{size}", size - 1), vec![0; 10]).await.ok(201);
    assert!(done.response.get_header("Location").unwrap().contains("/attachments/"));
    assert_eq!(g.get(ANNA, &path).await.rows()[0]["size"], json!(size));
}
