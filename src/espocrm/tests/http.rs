//! The client against a peer on loopback that answers from a script and remembers what it was asked.
#![expect(clippy::expect_used, clippy::panic, reason = "what fails in a helper fails the test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use espocrm::{
    Acting, Client, Config, Deletion, Disposition, Edit, Error, NewPerson, NewRecord, PersonKind, Resolved, Schema,
};
use serde_json::{Value as Json, json};
use sync::{Answer, Field, Kind, Seen, Value, Values, When};

#[derive(Debug, Clone)]
struct Asked {
    line: String,
    headers: Vec<(String, String)>,
    body: Json,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn starts(&self, start: &str) -> bool {
        self.line.starts_with(start)
    }
}

/// What the peer answers: status, `X-Status-Reason`, body. Status 0 closes the connection instead.
type Reply = (u16, Option<&'static str>, Json);
type Script = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

struct Peer {
    url: String,
    log: Arc<Mutex<Vec<Asked>>>,
}

impl Peer {
    fn start(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let log = Arc::<Mutex<Vec<Asked>>>::default();
        let (script, kept): (Script, _) = (Arc::new(script), Arc::clone(&log));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, log) = (Arc::clone(&script), Arc::clone(&kept));
                std::thread::spawn(move || serve(&stream, &script, &log));
            }
        });
        Self { url, log }
    }

    fn log(&self) -> Vec<Asked> {
        self.log.lock().expect("the log").clone()
    }

    fn client(&self, admin: bool) -> Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = Config::new(self.url.parse().expect("a url"), "the-key".into());
        config.admin = admin.then(|| ("root".to_owned(), "secret".into()));
        Client::new(espocrm::http().build().expect("a client"), config, Arc::new(noon))
    }
}

fn serve(stream: &TcpStream, script: &Script, log: &Mutex<Vec<Asked>>) {
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read(&mut reader) {
        log.lock().expect("the log").push(asked.clone());
        let (status, reason, body) = script(&asked);
        if status == 0 {
            return;
        }
        let reason = reason.map(|reason| format!("X-Status-Reason: {reason}\r\n")).unwrap_or_default();
        let (kind, body) = match body {
            Json::String(html) => ("text/html", html),
            json => ("application/json", json.to_string()),
        };
        let head = format!("HTTP/1.1 {status} x\r\nContent-Type: {kind}\r\n{reason}Content-Length: {}\r\n", body.len());
        let location = if status == 302 { "Location: http://127.0.0.1:1/elsewhere\r\n" } else { "" };
        let mut out = stream;
        if out.write_all(format!("{head}{location}\r\n{body}").as_bytes()).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<&TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|&read| read > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    let mut asked = Asked { line: line.trim_end().to_owned(), headers, body: Json::Null };
    let length = asked.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    asked.body = serde_json::from_slice(&body).unwrap_or_default();
    Some(asked)
}

fn noon() -> DateTime<Utc> {
    at("2026-11-22T12:00:00Z")
}

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).expect("a moment").with_timezone(&Utc)
}

fn schema() -> Schema {
    let mut schema = Schema { version: "9.3.10".to_owned(), zone: "UTC".to_owned(), ..Schema::default() };
    for kind in Kind::ALL {
        schema.kinds.entry(kind).or_default().marker = Some("cOutlookMarker".to_owned());
    }
    schema
}

fn meeting() -> Json {
    json!({
        "id": "m1", "name": "Kick-off", "status": "Planned", "dateStart": "2026-12-01 09:00:00", "dateEnd": "2026-12-01 10:00:00",
        "dateStartDate": null, "dateEndDate": null, "description": "Agenda", "reminders": [{"type": "Popup", "seconds": 900}],
        "createdAt": "2026-11-22 10:00:00", "modifiedAt": "2026-11-22 11:00:00", "assignedUserId": "anna", "cOutlookMarker": null,
        "usersIds": ["anna", "boris"], "usersNames": {"boris": "Boris Test"}, "usersColumns": {"boris": {"status": "Accepted"}},
        "contactsIds": [], "contactsNames": {}, "contactsColumns": {}, "leadsIds": [], "leadsNames": {}, "leadsColumns": {}
    })
}

fn users() -> Reply {
    let list = json!([{"id": "anna", "name": "Anna", "emailAddress": "Anna@X.example"}, {"id": "boris", "name": "Boris", "emailAddress": "boris@x.example"}]);
    (200, None, json!({ "total": -2, "list": list }))
}

fn nobody() -> Reply {
    (200, None, json!({ "total": -2, "list": [] }))
}

const ANNA: Acting<'static> = Acting::User { id: "anna", name: "anna.test" };

async fn fetched(client: &Client, acting: Acting<'_>) -> espocrm::Fetched {
    match client.record(&schema(), Kind::Meeting, "m1", acting).await.expect("an answer") {
        Seen::Present(fetched) => fetched,
        other => panic!("{other:?}"),
    }
}

/// A peer with one meeting; `put` answers the PUTs.
fn with_meeting(put: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Peer {
    Peer::start(move |asked| match asked {
        asked if asked.starts("GET /api/v1/Meeting/m1 ") => (200, None, meeting()),
        asked if asked.starts("GET /api/v1/User?") => users(),
        asked if asked.starts("PUT /api/v1/Meeting/m1 ") => put(asked),
        _ => (404, None, json!("<html>")),
    })
}

#[tokio::test]
async fn a_record_is_read_with_the_addresses_of_its_people() {
    let peer = with_meeting(|_| (500, None, Json::Null));
    let client = peer.client(false);
    let record = fetched(&client, Acting::Connector).await.record;
    let people = record.values[&Field::Participants].as_people().expect("people").clone();
    assert_eq!(people.0.keys().collect::<Vec<_>>(), ["boris@x.example"], "the owner is no participant");
    assert_eq!(people.0["boris@x.example"].answer, Answer::Accepted);
    assert!(!record.values.contains_key(&Field::Reminder), "the API user has reminders of its own only");
    fetched(&client, Acting::Connector).await;
    let log = peer.log();
    assert_eq!(
        log.iter().filter(|asked| asked.starts("GET /api/v1/User?")).count(),
        1,
        "addresses are remembered for a while"
    );
    assert!(log.iter().all(|asked| asked.header("x-api-key") == Some("the-key")));
}

#[tokio::test]
async fn a_write_that_changes_nothing_is_no_request() {
    let peer = with_meeting(|_| (500, None, Json::Null));
    let client = peer.client(true);
    let current = fetched(&client, ANNA).await;
    let edit = Edit { current: &current, values: &current.record.values, people: &Resolved::new(), marker: None };
    let updated = client.update(&schema(), edit, ANNA).await.expect("an update");
    assert!(!updated.wrote);
    assert!(!peer.log().iter().any(|asked| asked.starts("PUT")));
}

#[tokio::test]
async fn what_the_user_may_not_is_done_by_the_api_user_without_the_reminders_and_said() {
    let peer = with_meeting(|asked| match asked.header("x-another-user") {
        Some(_) => (403, Some("No edit access."), Json::Null),
        None => (200, None, meeting()),
    });
    let client = peer.client(true);
    let current = fetched(&client, ANNA).await;
    assert_eq!(current.record.values[&Field::Reminder], Value::Reminder(Some(15)));
    let values =
        Values::from([(Field::Title, Value::Text("New".to_owned())), (Field::Reminder, Value::Reminder(Some(5)))]);
    let edit = Edit { current: &current, values: &values, people: &Resolved::new(), marker: None };
    let updated = client.update(&schema(), edit, ANNA).await.expect("an update");
    assert!(updated.wrote);
    let said = updated.fetched.fallback.expect("a word about it");
    assert!(said.contains("anna.test") && said.contains("No edit access."), "{said}");
    let log = peer.log();
    let puts: Vec<_> = log.iter().filter(|asked| asked.starts("PUT")).collect();
    assert_eq!(puts.len(), 2);
    assert_eq!(puts[0].header("x-another-user"), Some("anna.test"));
    assert_eq!(puts[0].header("authorization"), Some("Basic cm9vdDpzZWNyZXQ="));
    assert_eq!(puts[0].header("x-api-key"), None);
    assert_eq!(puts[0].body, json!({"name": "New", "reminders": [{"type": "Popup", "seconds": 300}]}));
    assert_eq!((puts[1].header("x-api-key"), &puts[1].body), (Some("the-key"), &json!({"name": "New"})));
}

#[tokio::test]
async fn reminders_alone_are_never_written_by_the_api_user() {
    let peer = with_meeting(|_| (403, Some("No edit access."), Json::Null));
    let client = peer.client(true);
    let current = fetched(&client, ANNA).await;
    let values = Values::from([(Field::Reminder, Value::Reminder(None))]);
    let edit = Edit { current: &current, values: &values, people: &Resolved::new(), marker: None };
    let updated = client.update(&schema(), edit, ANNA).await.expect("an update");
    assert!(!updated.wrote && updated.fetched.fallback.is_some());
    assert_eq!(peer.log().iter().filter(|asked| asked.starts("PUT")).count(), 1);
}

#[tokio::test]
async fn a_record_is_gone_only_when_espocrm_says_so() {
    let peer = Peer::start(|asked| match asked {
        asked if asked.starts("GET /api/v1/Meeting/gone ") => (404, Some("Record gone does not exist."), Json::Null),
        asked if asked.starts("DELETE /api/v1/Meeting/gone ") => (404, Some("Record gone not found."), Json::Null),
        asked if asked.starts("DELETE") => (200, None, json!(true)),
        _ => (404, None, json!("<html>not here</html>")),
    });
    let client = peer.client(false);
    assert_eq!(
        client.record(&schema(), Kind::Meeting, "gone", Acting::Connector).await.expect("an answer"),
        Seen::Gone
    );
    let error = client.record(&schema(), Kind::Meeting, "m1", Acting::Connector).await.expect_err("an error");
    assert_eq!(error.disposition(), Disposition::Retry { after: None });
    assert_eq!(
        client.delete(Kind::Meeting, "gone", Acting::Connector).await.expect("an answer"),
        Deletion::AlreadyGone
    );
    assert_eq!(
        client.delete(Kind::Meeting, "m1", Acting::Connector).await.expect("an answer"),
        Deletion::Deleted { fallback: None }
    );
}

#[tokio::test]
async fn a_wrong_key_is_sent_twice_at_once_however_many_ask() {
    let peer = Peer::start(|_| (401, None, json!("")));
    let client = peer.client(false);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let client = client.clone();
        tasks.spawn(async move { client.me().await.expect_err("an error").disposition() });
    }
    while let Some(disposition) = tasks.join_next().await {
        assert_eq!(disposition.expect("a task"), Disposition::Denied);
    }
    // Further attempts are spread over the minute.
    assert_eq!(peer.log().len(), 2);
}

#[tokio::test]
async fn a_key_that_is_withdrawn_while_many_are_at_work_is_refused_five_times_at_most() {
    let me = json!({"user": {"id": "c", "userName": "connector", "type": "api"}});
    let first = Mutex::new(true);
    let peer = Peer::start(move |_| match std::mem::take(&mut *first.lock().expect("a flag")) {
        true => (200, None, me.clone()),
        false => (401, None, json!("")),
    });
    let client = peer.client(false);
    assert_eq!(client.me().await.expect("who we are").user_name, "connector");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let client = client.clone();
        tasks.spawn(async move { client.me().await.is_err() });
    }
    while let Some(failed) = tasks.join_next().await {
        assert!(failed.expect("a task"));
    }
    assert!(peer.log().len() <= 6, "{} requests", peer.log().len());
}

#[tokio::test]
async fn a_lock_out_is_waited_for_and_is_no_lack_of_rights() {
    let peer = Peer::start(|_| (403, None, json!("")));
    let error = peer.client(true).record(&schema(), Kind::Meeting, "m1", ANNA).await.expect_err("an error");
    assert_eq!(error.disposition(), Disposition::Retry { after: Some(Duration::from_secs(60)) });
    assert_eq!(peer.log().len(), 1, "not repeated as the API user");
}

#[tokio::test]
async fn a_broken_write_may_have_happened_and_a_broken_read_has_not() {
    let peer =
        Peer::start(|asked| if asked.starts("POST") { (0, None, Json::Null) } else { (502, None, json!("<html>")) });
    let client = peer.client(false);
    let values = Values::from([(Field::Title, Value::Text("New".to_owned()))]);
    let new = NewRecord { owner: "anna", values: &values, people: &Resolved::new(), marker: Some("link-1") };
    let error = client.create(&schema(), Kind::Task, new, Acting::Connector).await.expect_err("an error");
    assert_eq!(error.disposition(), Disposition::Unsure, "{error}");
    assert_eq!(peer.log()[0].body, json!({"name": "New", "assignedUserId": "anna", "cOutlookMarker": "link-1"}));
    assert_eq!(client.me().await.expect_err("an error").disposition(), Disposition::Retry { after: None });
    let nowhere = Config::new("http://127.0.0.1:1".parse().expect("a url"), "key".into());
    let nobody = Client::new(espocrm::http().build().expect("a client"), nowhere, Arc::new(noon));
    let error = nobody.create(&schema(), Kind::Task, new, Acting::Connector).await.expect_err("an error");
    assert_eq!(error.disposition(), Disposition::Retry { after: None }, "nothing was sent: {error}");
}

#[tokio::test]
async fn a_created_record_that_cannot_be_read_is_unsure_and_not_refused() {
    let peer = Peer::start(|_| (200, None, json!({"id": "m1", "createdAt": "yesterday"})));
    let values = Values::new();
    let new = NewRecord { owner: "anna", values: &values, people: &Resolved::new(), marker: None };
    let error = peer.client(false).create(&schema(), Kind::Task, new, Acting::Connector).await.expect_err("an error");
    assert_eq!(error.disposition(), Disposition::Unsure, "{error}");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let peer = Peer::start(|_| (302, None, Json::Null));
    let error = peer.client(false).me().await.expect_err("an error");
    assert!(matches!(&error, Error::Redirected { to, .. } if to.contains("elsewhere")), "{error:?}");
}

#[tokio::test]
async fn an_id_cannot_leave_its_path() {
    let peer = Peer::start(|_| (200, None, json!(true)));
    for id in ["../Admin", "", "..", "a/b", "a?b"] {
        let error = peer.client(true).delete(Kind::Meeting, id, Acting::Admin).await.expect_err("an error");
        assert!(matches!(error, Error::BadId(_)), "{error:?}");
    }
    assert!(peer.log().is_empty());
}

#[tokio::test]
async fn a_second_address_is_found_by_asking_for_it_alone() {
    let peer = Peer::start(|asked| {
        let clara = json!({"id": "clara", "name": "Clara Kunde", "emailAddress": "Clara@Kunde.example"});
        match asked {
            asked if !asked.starts("GET /api/v1/Contact?") => nobody(),
            asked if asked.line.contains("=in&") => (200, None, json!({"total": -2, "list": [clara]})),
            asked if asked.line.contains("private%40kunde.example") => {
                (200, None, json!({"total": -2, "list": [clara]}))
            }
            _ => nobody(),
        }
    });
    let client = peer.client(false);
    let asked_for = ["CLARA@kunde.example", "private@kunde.example", "nobody@kunde.example"].map(str::to_owned);
    let people = client.people_by_address(&asked_for).await.expect("people");
    assert_eq!(people.keys().collect::<Vec<_>>(), ["clara@kunde.example", "private@kunde.example"]);
    assert!(people.values().all(|found| found.len() == 1 && found[0].id == "clara"));
    let log = peer.log();
    assert_eq!(log.iter().filter(|asked| asked.starts("GET /api/v1/User?")).count(), 1);
    assert_eq!(
        log.iter().filter(|asked| asked.starts("GET /api/v1/Contact?")).count(),
        3,
        "one for all, one for each that is left"
    );
}

#[tokio::test]
async fn a_missing_person_asked_for_by_many_at_once_is_made_once() {
    let made = Arc::new(Mutex::new(0));
    let count = Arc::clone(&made);
    let lea = json!({"id": "lea", "name": "Lea Lead", "emailAddress": "lea@lead.example"});
    let peer = Peer::start(move |asked| match asked {
        asked if asked.starts("POST /api/v1/Lead ") => {
            *made.lock().expect("a count") += 1;
            (200, None, lea.clone())
        }
        asked if asked.starts("GET /api/v1/Lead?") && *made.lock().expect("a count") > 0 => {
            (200, None, json!({"total": -2, "list": [lea]}))
        }
        _ => nobody(),
    });
    let client = peer.client(false);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let client = client.clone();
        tasks.spawn(
            async move { client.create_person(lea_lead(PersonKind::Lead, Some("anna")), Acting::Connector).await },
        );
    }
    while let Some(found) = tasks.join_next().await {
        assert_eq!(found.expect("a task").expect("an answer").expect("a person").id, "lea");
    }
    assert_eq!(*count.lock().expect("a count"), 1);
    let log = peer.log();
    let post = log.iter().find(|asked| asked.starts("POST")).expect("the request");
    assert_eq!(
        post.body,
        json!({"firstName": "Lea", "lastName": "Lead", "emailAddress": "lea@lead.example", "assignedUserId": "anna"})
    );
}

fn lea_lead(kind: PersonKind, owner: Option<&str>) -> NewPerson<'_> {
    NewPerson { kind, key: "Lea@lead.example", name: Some("Lea Lead"), owner }
}

#[tokio::test]
async fn who_has_no_address_is_told_by_name_and_adopted_when_there_already() {
    let peer = Peer::start(|asked| match asked {
        asked if !asked.starts("POST") => nobody(),
        _ => (409, Some("duplicate"), json!([{"id": "first", "name": "Walk In"}])),
    });
    let new = NewPerson { kind: PersonKind::Lead, key: "name:walk in", name: Some("Walk In"), owner: None };
    let found = peer.client(false).create_person(new, Acting::Connector).await.expect("an answer");
    assert_eq!(found.expect("a person").id, "first");
    let log = peer.log();
    let post = log.iter().find(|asked| asked.starts("POST")).expect("the request");
    assert_eq!(post.body, json!({"firstName": "Walk", "lastName": "In"}));
}

#[tokio::test]
async fn somebody_whom_the_role_may_not_make_is_left_out() {
    let peer = Peer::start(|asked| match asked {
        asked if !asked.starts("POST") => nobody(),
        _ => (403, Some("No create access."), Json::Null),
    });
    let found = peer.client(false).create_person(lea_lead(PersonKind::Lead, None), Acting::Connector).await;
    assert_eq!(found.expect("no error"), None);
}

#[tokio::test]
async fn a_namesake_with_another_address_is_somebody_else() {
    let peer = Peer::start(|asked| match asked {
        asked if !asked.starts("POST") => nobody(),
        asked if asked.header("x-skip-duplicate-check").is_some() => {
            (200, None, json!({"id": "second", "name": "Lea Lead"}))
        }
        _ => {
            (409, Some("duplicate"), json!([{"id": "first", "name": "Lea Lead", "emailAddress": "other@lead.example"}]))
        }
    });
    let found = peer
        .client(false)
        .create_person(lea_lead(PersonKind::Contact, None), Acting::Connector)
        .await
        .expect("an answer");
    assert_eq!(found.expect("a person").id, "second");
}

#[tokio::test]
async fn after_a_crash_a_record_is_found_by_owner_name_and_time() {
    let peer = Peer::start(|asked| match asked {
        asked if asked.starts("GET /api/v1/Meeting?") => {
            let mut other = meeting();
            other["id"] = "m2".into();
            other["dateStart"] = "2026-12-02 09:00:00".into();
            (200, None, json!({"total": -2, "list": [meeting(), other]}))
        }
        _ => users(),
    });
    let when = When::Timed { start: at("2026-12-01T09:00:00Z"), end: Some(at("2026-12-01T10:00:00Z")) };
    let client = peer.client(false);
    let found = client
        .find_created(&schema(), Kind::Meeting, "anna", "Kick-off", &when, at("2026-11-22T10:00:00Z"))
        .await
        .expect("records");
    assert_eq!(found.iter().map(|fetched| fetched.record.id.as_str()).collect::<Vec<_>>(), ["m1"]);
    let line = peer.log()[0].line.clone();
    assert!(line.contains("where[2][value]=2026-11-22%2009%3A55%3A00"), "clocks may differ: {line}");
}
