//! The rules of EspoCRM 9.3.10 that a connector stumbles over, one test each.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::BoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use simulators::espocrm::{EspoSim, php_json, signatures};
use simulators::plumbing::{Request, Response, Running, SimClock, Wire, serve};

fn start() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2026-11-22T18:00:00Z").unwrap().to_utc()
}

/// A CRM with anna and boris, whose default reminder is ten minutes.
struct Crm {
    sim: EspoSim,
    clock: SimClock,
    anna: String,
    boris: String,
}

impl Crm {
    fn new() -> Self {
        let clock = SimClock::manual(start());
        let sim = EspoSim::new(clock.clone(), 7);
        let anna = sim.seed_user("anna", "Anna Test", "anna@example.com");
        let boris = sim.seed_user("boris", "Boris Test", "boris@example.com");
        Self { sim, clock, anna, boris }
    }

    fn send(&self, request: &Request) -> (u16, Value) {
        let answer = self.sim.handle(request);
        (answer.status, answer.to_json().unwrap_or_default())
    }

    /// As the connector's API user.
    fn api(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = Request::new(method, &format!("/api/v1/{path}")).with_header("X-Api-Key", &self.sim.api_key());
        self.send(&if body.is_null() { request } else { request.with_json(body) })
    }

    fn login(&self, user: &str, password: &str, method: &str, path: &str) -> Request {
        let credentials = STANDARD.encode(format!("{user}:{password}"));
        Request::new(method, &format!("/api/v1/{path}")).with_header("Authorization", &format!("Basic {credentials}"))
    }

    /// As the administrator, acting as somebody.
    fn acting(&self, user: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let admin = self.login("admin", &self.sim.admin().password, method, path);
        self.send(&admin.with_header("X-Another-User", user).with_json(body))
    }

    fn meeting(&self, more: Value) -> Value {
        let mut body = json!({"name": "M", "dateStart": "2026-12-10 09:00:00", "dateEnd": "2026-12-10 10:00:00",
            "assignedUserId": self.anna});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, made) = self.api("POST", "Meeting", &body);
        assert_eq!(status, 200, "{made}");
        made
    }

    fn put(&self, id: &str, body: &Value) -> Value {
        let (status, answer) = self.api("PUT", &format!("Meeting/{id}"), body);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    fn task(&self, name: &str) {
        let (status, _) = self.api("POST", "Task", &json!({"name": name, "assignedUserId": self.anna}));
        assert_eq!(status, 200);
    }

    fn hook(&self, event: &str, url: &str) -> Value {
        let (status, hook) = self.api("POST", "Webhook", &json!({"event": event, "url": url}));
        assert_eq!(status, 201, "{hook}");
        hook
    }

    fn reminders(&self, id: &str) -> Vec<i64> {
        self.sim.reminders_of("Meeting", id).iter().map(|reminder| reminder.seconds).collect()
    }
}

fn id(record: &Value) -> String {
    record["id"].as_str().unwrap().to_owned()
}

/// A receiver that keeps what it gets and answers as told.
struct Receiver {
    running: Running,
    status: Arc<AtomicU16>,
    got: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    async fn new(status: u16) -> Self {
        let status = Arc::new(AtomicU16::new(status));
        let got = Arc::new(Mutex::new(Vec::new()));
        let (answers, requests) = (status.clone(), got.clone());
        let handler = move |request: Request| {
            requests.lock().unwrap().push(request);
            let answer = Response::empty(answers.load(Ordering::SeqCst));
            Box::pin(async move { answer }) as BoxFuture<'static, Response>
        };
        let running = serve(0, Wire::new(SimClock::system()), Arc::new(handler)).await.unwrap();
        Self { running, status, got }
    }

    fn bodies(&self) -> Vec<Value> {
        self.got.lock().unwrap().iter().map(|request| request.json().unwrap()).collect()
    }
}

#[test]
fn the_worked_signature_example_comes_out() {
    let body = br#"[{"name":"Kick-off v2","reminders":[],"modifiedById":"6b033b3e54905d985","modifiedByName":"connector","id":"6b033b8a988926618"}]"#;
    let (current, legacy) = signatures("6b033b67e20bdbfa3", "2a4ff39c17694329337cb0a9347ba8d6", body);
    assert_eq!(
        String::from_utf8(STANDARD.decode(current).unwrap()).unwrap(),
        "6b033b67e20bdbfa3:60569d57b6bd594dc7e0687f91bcad5cccf6cfcbe28f6de0f543e6824e35dc76"
    );
    assert_eq!(legacy, "NmIwMzNiNjdlMjBiZGJmYTM6YFadV7a9WU3H4Gh/kbytXMz2z8vij23g9UPmgk413HY=");
}

#[test]
fn payloads_are_escaped_as_php_does() {
    assert_eq!(php_json(&json!({"a": "</b> ü 😀 \"\n"})), r#"{"a":"<\/b> \u00fc \ud83d\ude00 \"\n"}"#);
}

#[tokio::test]
async fn twenty_events_leave_per_run_and_are_signed_over_the_raw_bytes() {
    let (crm, receiver) = (Crm::new(), Receiver::new(200).await);
    let hook = crm.hook("Task.create", &receiver.running.url);
    for n in 0..25 {
        crm.task(&format!("Tür {n}"));
    }
    assert_eq!(crm.sim.pending_webhooks(), 25);
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.push(crm.sim.run_webhook_job().await);
    }
    assert_eq!(sent, [20, 5, 0]);
    let sizes: Vec<usize> = receiver.bodies().iter().map(|body| body.as_array().unwrap().len()).collect();
    assert_eq!(sizes, [20, 5]);
    let got = receiver.got.lock().unwrap();
    let wanted = signatures(&id(&hook), hook["secretKey"].as_str().unwrap(), &got[0].body);
    let header = |name: &str| got[0].header(name).unwrap().to_owned();
    assert_eq!((header("Signature"), header("X-Signature")), wanted);
    assert!(String::from_utf8_lossy(&got[0].body).contains("T\\u00fcr 0"));
    assert_eq!(got[0].header("User-Agent"), None);
}

#[tokio::test]
async fn the_answer_decides_whether_a_batch_is_done_lost_or_tried_again() {
    let receiver = Receiver::new(200).await;
    let table = [
        (200, 0),
        (201, 0),
        (204, 0),
        (302, 0),
        (400, 0),
        (401, 1),
        (403, 1),
        (404, 1),
        (405, 1),
        (408, 1),
        (409, 0),
        (413, 0),
        (422, 0),
        (429, 0),
        (500, 1),
        (502, 0),
        (503, 1),
        (504, 0),
    ];
    for (status, kept) in table {
        let crm = Crm::new();
        receiver.status.store(status, Ordering::SeqCst);
        crm.hook("Task.create", &receiver.running.url);
        crm.task("T");
        assert_eq!(crm.sim.run_webhook_job().await, 1);
        assert_eq!(crm.sim.pending_webhooks(), kept, "after {status}");
        assert_eq!(crm.sim.deliveries().last().unwrap().status, status);
        assert_eq!(crm.sim.webhooks().len(), 1);
    }
}

#[tokio::test]
async fn a_gone_receiver_deletes_the_webhook_and_what_waits_for_it() {
    let (crm, receiver) = (Crm::new(), Receiver::new(410).await);
    crm.hook("Task.create", &receiver.running.url);
    crm.task("T");
    crm.sim.run_webhook_job().await;
    assert_eq!((crm.sim.webhooks().len(), crm.sim.pending_webhooks()), (0, 0));
}

#[tokio::test]
async fn four_attempts_ten_minutes_apart_are_all_and_new_events_overtake() {
    let (crm, receiver) = (Crm::new(), Receiver::new(503).await);
    crm.hook("Task.create", &receiver.running.url);
    crm.task("first");
    assert_eq!(crm.sim.run_webhook_job().await, 1);
    assert_eq!(crm.sim.run_webhook_job().await, 0, "not before ten minutes have passed");
    receiver.status.store(200, Ordering::SeqCst);
    crm.task("second");
    assert_eq!(crm.sim.run_webhook_job().await, 1);
    assert_eq!(receiver.bodies()[1][0]["name"], "second");
    receiver.status.store(503, Ordering::SeqCst);
    for attempt in 2..=4 {
        crm.clock.advance(TimeDelta::minutes(10));
        assert_eq!(crm.sim.run_webhook_job().await, 1, "attempt {attempt}");
    }
    crm.clock.advance(TimeDelta::minutes(10));
    assert_eq!((crm.sim.run_webhook_job().await, crm.sim.pending_webhooks()), (0, 0));
}

#[tokio::test]
async fn a_refused_connection_is_tried_again() {
    let (crm, receiver) = (Crm::new(), Receiver::new(200).await);
    crm.hook("Task.create", &receiver.running.url);
    receiver.running.stop().await;
    crm.task("T");
    crm.sim.run_webhook_job().await;
    assert_eq!((crm.sim.deliveries()[0].status, crm.sim.pending_webhooks()), (0, 1));
}

#[tokio::test]
async fn skip_own_leaves_out_what_the_owner_did() {
    let (crm, receiver) = (Crm::new(), Receiver::new(200).await);
    let body = json!({"event": "Task.create", "url": receiver.running.url, "skipOwn": true});
    assert_eq!(crm.api("POST", "Webhook", &body).0, 201);
    crm.task("own");
    let hers = json!({"name": "hers", "assignedUserId": crm.anna});
    crm.sim.write_as("anna", "POST", "Task", None, &hers).unwrap();
    crm.sim.run_webhook_job().await;
    let bodies = receiver.bodies();
    assert_eq!((bodies.len(), &bodies[0][0]["name"]), (1, &json!("hers")));
}

#[tokio::test]
async fn the_running_job_delivers_by_itself() {
    let (crm, receiver) = (Crm::new(), Receiver::new(200).await);
    crm.hook("Task.create", &receiver.running.url);
    crm.sim.start_webhook_job(Duration::from_millis(5));
    crm.task("T");
    let delivered = async {
        while crm.sim.deliveries().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), delivered).await.unwrap();
    crm.sim.stop_webhook_job();
}

#[test]
fn at_most_fifty_webhooks_per_api_user_and_internal_hosts_only_where_allowed() {
    let crm = Crm::new();
    for n in 0..50 {
        crm.hook("Task.create", &format!("https://connector.example/{n}"));
    }
    let one_more = json!({"event": "Task.create", "url": "https://connector.example/50"});
    assert_eq!(crm.api("POST", "Webhook", &one_more).0, 403);
    crm.sim.allow_internal_webhooks(false);
    let internal = json!({"event": "Task.create", "url": "http://10.1.2.3/x"});
    assert_eq!(crm.api("POST", "Webhook", &internal).0, 400, "validated before it is counted");
}

#[test]
fn every_put_counts_as_a_change_and_fires() {
    let crm = Crm::new();
    crm.hook("Meeting.update", "http://127.0.0.1:9/");
    let made = crm.meeting(json!({}));
    crm.clock.advance(TimeDelta::seconds(5));
    let again = crm.put(&id(&made), &json!({"name": "M"}));
    assert!(again["modifiedAt"].as_str() > made["modifiedAt"].as_str());
    assert_eq!(crm.sim.pending_webhooks(), 1);
}

#[test]
fn acceptance_and_link_endpoint_are_silent() {
    let crm = Crm::new();
    let made = crm.meeting(json!({"usersIds": [crm.anna, crm.boris]}));
    let contact = crm.sim.seed("Contact", &json!({"lastName": "Kunde"}));
    crm.hook("Meeting.update", "http://127.0.0.1:9/");
    crm.hook("Meeting.fieldUpdate.users", "http://127.0.0.1:9/");
    crm.clock.advance(TimeDelta::seconds(5));
    crm.sim.set_acceptance("boris", "Meeting", &id(&made), "Tentative").unwrap();
    assert_eq!(
        crm.api("POST", &format!("Meeting/{}/contacts", id(&made)), &json!({"id": contact})),
        (200, json!(true))
    );
    let now = crm.sim.get_record("Meeting", &id(&made)).unwrap();
    assert_eq!(now["usersColumns"][&crm.boris]["status"], "Tentative");
    assert_eq!(now["contactsIds"], json!([contact]));
    assert_eq!((&now["modifiedAt"], crm.sim.pending_webhooks()), (&made["modifiedAt"], 0));
}

#[test]
fn a_put_by_an_outsider_adds_a_copy_of_each_default_reminder() {
    let crm = Crm::new();
    crm.sim.set_preferences("anna", &json!({"defaultReminders": [{"type": "Popup", "seconds": 600}]}));
    let meeting = id(&crm.meeting(json!({"reminders": [{"type": "Popup", "seconds": 60}]})));
    assert_eq!(crm.reminders(&meeting), [600], "what an outsider sends is thrown away");
    crm.put(&meeting, &json!({"name": "a"}));
    crm.put(&meeting, &json!({"name": "a"}));
    assert_eq!(crm.reminders(&meeting), [600, 600, 600]);
    let own = json!({"reminders": [{"type": "Popup", "seconds": 300}]});
    crm.sim.write_as("anna", "PUT", "Meeting", Some(&meeting), &own).unwrap();
    assert_eq!(crm.reminders(&meeting), [300]);
    assert_eq!(crm.api("GET", &format!("Meeting/{meeting}"), &Value::Null).1["reminders"], json!([]));
    crm.put(&meeting, &json!({"name": "b"}));
    assert_eq!(crm.reminders(&meeting), [300, 600]);
    crm.put(&meeting, &json!({"dateStart": "2026-12-11 09:00:00"}));
    assert_eq!(crm.reminders(&meeting), [600], "a moved start puts the default in the place of her own");
    let connector = crm.sim.user_id("connector").unwrap();
    crm.put(&meeting, &json!({"usersIds": [crm.anna, connector]}));
    crm.put(&meeting, &json!({"name": "c"}));
    crm.put(&meeting, &json!({"name": "d"}));
    assert_eq!(crm.reminders(&meeting), [600], "an acting attendee adds no copies");
    crm.put(&meeting, &json!({"status": "Held"}));
    assert!(crm.reminders(&meeting).is_empty());
}

#[test]
fn acting_as_the_owner_keeps_reminders_and_obeys_the_owners_rights() {
    let crm = Crm::new();
    crm.sim.set_preferences("anna", &json!({"defaultReminders": [{"type": "Popup", "seconds": 600}]}));
    let role = json!({"Meeting": {"create": "yes", "read": "all", "edit": "own", "delete": "own", "stream": "all"}});
    crm.sim.set_role("role-staff", &role, "all");
    let meeting = id(&crm.meeting(json!({"usersIds": [crm.anna, crm.boris]})));
    let path = format!("Meeting/{meeting}");
    let hers = json!({"reminders": [{"type": "Popup", "seconds": 900}], "dateStart": "2026-12-12 09:00:00"});
    assert_eq!(crm.acting("anna", "PUT", &path, &hers).0, 200);
    assert_eq!(crm.acting("anna", "PUT", &path, &json!({"name": "x", "dateStart": "2026-12-13 09:00:00"})).0, 200);
    assert_eq!(crm.sim.reminders_seen_by("anna", "Meeting", &meeting), json!([{"seconds": 900, "type": "Popup"}]));
    assert_eq!(crm.reminders(&meeting), [900]);
    assert_eq!(crm.acting("boris", "PUT", &path, &json!({"name": "y"})).0, 403);
    assert_eq!(crm.acting("nobody", "GET", &path, &Value::Null).0, 401);
    let by_api = Request::new("GET", "/api/v1/App/user").with_header("X-Api-Key", &crm.sim.api_key());
    assert_eq!(crm.send(&by_api.with_header("X-Another-User", "anna")).0, 401);
}

#[test]
fn all_day_dates_win_over_times_in_the_system_zone() {
    let crm = Crm::new();
    crm.sim.set_time_zone("Europe/Berlin".parse().unwrap());
    let dates =
        json!({"name": "D", "dateStartDate": "2026-12-24", "dateEndDate": "2026-12-24", "assignedUserId": crm.anna});
    let (_, made) = crm.api("POST", "Meeting", &dates);
    assert_eq!((&made["dateStart"], &made["dateEnd"]), (&json!("2026-12-23 23:00:00"), &json!("2026-12-24 23:00:00")));
    let times = json!({"dateStart": "2026-12-24 10:00:00", "dateEnd": "2026-12-24 11:00:00"});
    let put = crm.put(&id(&made), &times);
    assert_eq!(
        (&put["dateStart"], &put["dateEnd"]),
        (&made["dateStart"], &made["dateEnd"]),
        "overruled without a word"
    );
    let timed = json!({"dateStart": "2026-12-24 10:00:00", "dateEnd": "2026-12-24 11:00:00", "dateStartDate": null, "dateEndDate": null});
    let put = crm.put(&id(&made), &timed);
    assert_eq!((&put["dateStart"], &put["dateStartDate"]), (&json!("2026-12-24 10:00:00"), &Value::Null));
    let put = crm.put(&id(&made), &json!({"dateStart": "2026-12-25 12:30:00"}));
    assert_eq!(put["dateEnd"], "2026-12-25 13:30:00", "a moved start takes the end along");
    let back = crm.put(&id(&made), &json!({"dateStartDate": "2026-12-26", "dateEndDate": "2026-12-27"}));
    assert_eq!((&back["dateEnd"], &back["isAllDay"]), (&json!("2026-12-27 23:00:00"), &json!(false)));
}

#[test]
fn the_assignee_is_always_an_attendee_and_columns_are_merged() {
    let crm = Crm::new();
    let columns = json!({&crm.boris: {"status": "Accepted"}});
    let made = crm.meeting(json!({"usersIds": [crm.boris], "usersColumns": columns}));
    let only = json!({"usersColumns": {&crm.anna: {"status": "Declined"}}});
    crm.put(&id(&made), &only);
    crm.put(&id(&made), &json!({"usersIds": []}));
    let now = crm.sim.get_record("Meeting", &id(&made)).unwrap();
    assert_eq!(now["usersColumns"], json!({&crm.anna: {"status": "Declined"}}));
    assert!(now["uid"].is_string(), "the administrator sees it");
    assert!(crm.api("GET", &format!("Meeting/{}", id(&made)), &Value::Null).1.get("uid").is_none());
}

#[test]
fn without_assignment_permission_only_new_others_are_refused() {
    let crm = Crm::new();
    let all = json!({"create": "yes", "read": "all", "edit": "all", "delete": "all", "stream": "all"});
    let scopes = json!({"Meeting": all});
    let made = id(&crm.meeting(json!({"usersIds": [crm.anna]})));
    let path = format!("Meeting/{made}");
    crm.sim.set_role("role-connector", &scopes, "no");
    let same = json!({"name": "same people", "assignedUserId": crm.anna, "usersIds": [crm.anna]});
    assert_eq!(crm.api("PUT", &path, &same).0, 200);
    assert_eq!(crm.api("PUT", &path, &json!({"usersIds": [crm.anna, crm.boris]})).0, 403);
    crm.sim.set_role("role-connector", &scopes, "team");
    assert_eq!(crm.api("PUT", &path, &json!({"assignedUserId": crm.boris})).0, 403);
    let team = crm.sim.seed("Team", &json!({"name": "Both"}));
    for user in [crm.boris.clone(), crm.sim.user_id("connector").unwrap()] {
        assert!(crm.sim.relate("User", &user, "teams", &team));
    }
    assert_eq!(crm.api("PUT", &path, &json!({"assignedUserId": crm.boris})).0, 200);
}

#[tokio::test]
async fn a_webhook_tells_its_owner_only_what_the_role_may_read() {
    let (crm, receiver) = (Crm::new(), Receiver::new(200).await);
    crm.hook("Meeting.update", &receiver.running.url);
    let meeting = id(&crm.meeting(json!({})));
    let fields = json!({"Meeting": {"description": {"read": "no", "edit": "no"}}});
    crm.sim.set_field_access("role-connector", &fields);
    let change = json!({"name": "seen", "description": "hidden"});
    crm.sim.write_as("anna", "PUT", "Meeting", Some(&meeting), &change).unwrap();
    crm.sim.run_webhook_job().await;
    assert_eq!((&receiver.bodies()[0][0]["name"], receiver.bodies()[0][0].get("description")), (&json!("seen"), None));
    let own = json!({"Webhook": true, "Meeting": {"create": "yes", "read": "own", "edit": "own"}});
    crm.sim.set_role("role-connector", &own, "all");
    crm.sim.write_as("anna", "PUT", "Meeting", Some(&meeting), &json!({"name": "unseen"})).unwrap();
    assert_eq!((crm.sim.run_webhook_job().await, crm.sim.pending_webhooks()), (0, 0));
}

#[test]
fn deleted_records_are_gone_for_the_api_and_restored_without_a_webhook() {
    let crm = Crm::new();
    let meeting = id(&crm.meeting(json!({})));
    let path = format!("Meeting/{meeting}");
    assert_eq!(crm.api("DELETE", &path, &Value::Null), (200, json!(true)));
    assert_eq!(crm.api("DELETE", &path, &Value::Null).0, 404);
    assert_eq!(crm.api("GET", &path, &Value::Null).0, 404);
    for event in ["Meeting.create", "Meeting.update"] {
        crm.hook(event, "http://127.0.0.1:9/");
    }
    assert!(crm.sim.restore("Meeting", &meeting));
    assert_eq!((crm.api("GET", &path, &Value::Null).0, crm.sim.pending_webhooks()), (200, 0));
}

#[test]
fn eleven_failed_logins_close_the_address_for_a_minute() {
    let crm = Crm::new();
    let wrong = Request::new("GET", "/api/v1/App/user").with_header("X-Api-Key", "wrong");
    for _ in 0..11 {
        assert_eq!(crm.send(&wrong).0, 401);
    }
    assert_eq!(crm.api("GET", "App/user", &Value::Null).0, 403, "a valid key from the same address");
    crm.clock.advance(TimeDelta::seconds(61));
    assert_eq!(crm.api("GET", "App/user", &Value::Null).0, 200);
}

#[test]
fn hmac_signs_method_and_path_and_closes_the_bare_key() {
    let crm = Crm::new();
    crm.sim.set_hmac(Some("a-secret"));
    let digest = |text: &str| {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(b"a-secret").unwrap();
        mac.update(text.as_bytes());
        mac.finalize().into_bytes()
    };
    let call = |digest: &[u8]| {
        let mut value = format!("{}:", crm.sim.api_key()).into_bytes();
        value.extend_from_slice(digest);
        let header = STANDARD.encode(value);
        crm.send(&Request::new("GET", "/api/v1/Meeting?maxSize=1").with_header("X-Hmac-Authorization", &header)).0
    };
    assert_eq!(call(hex::encode(digest("GET /Meeting")).as_bytes()), 200);
    assert_eq!(call(&digest("GET /Meeting")), 200, "the legacy form");
    assert_eq!(call(hex::encode(digest("POST /Meeting")).as_bytes()), 401);
    assert_eq!(crm.api("GET", "Meeting", &Value::Null).0, 401);
}

#[test]
fn a_token_may_be_bound_to_a_cookie_and_ends_when_destroyed() {
    let crm = Crm::new();
    let header = |secret: &str| STANDARD.encode(format!("anna:{secret}"));
    let login = Request::new("GET", "/api/v1/App/user").with_header("Espo-Authorization", &header("anna-Pass1"));
    let plain = crm.send(&login).1["token"].as_str().unwrap().to_owned();
    let bound = crm.sim.handle(&login.clone().with_header("Espo-Authorization-Create-Token-Secret", "true"));
    let cookie = bound.get_header("Set-Cookie").unwrap().split(';').next().unwrap().to_owned();
    let bound = bound.to_json().unwrap()["token"].as_str().unwrap().to_owned();
    let by_token = |token: &str| {
        let request = Request::new("GET", "/api/v1/App/user").with_header("Espo-Authorization", &header(token));
        request.with_header("Espo-Authorization-By-Token", "true")
    };
    assert_eq!(crm.send(&by_token(&plain)).0, 200);
    assert_eq!(crm.send(&by_token(&bound)).0, 401, "the token of a browser session alone is of no use");
    assert_eq!(crm.send(&by_token(&bound).with_header("Cookie", &cookie)).0, 200);
    let destroy = Request { method: "POST".into(), path: "/api/v1/App/destroyAuthToken".into(), ..by_token(&plain) };
    assert_eq!(crm.send(&destroy.with_json(&json!({"token": plain}))), (200, json!(true)));
    assert_eq!(crm.send(&by_token(&plain)).0, 401);
    assert_eq!(crm.send(&crm.login("anna", "wrong", "GET", "App/user")).0, 401);
    crm.sim.set_active("anna", false);
    assert_eq!(crm.send(&crm.login("anna", "anna-Pass1", "GET", "App/user")).0, 401);
}

#[test]
fn lists_page_by_modification_and_id() {
    let crm = Crm::new();
    let ids: Vec<String> = (0..5).map(|n| id(&crm.meeting(json!({"name": format!("M{n}")})))).collect();
    let at = crm.sim.get_record("Meeting", &ids[0]).unwrap()["modifiedAt"].as_str().unwrap().to_owned();
    let after = json!({"where": [{"type": "or", "value": [
        {"type": "greaterThan", "attribute": "modifiedAt", "value": at},
        {"type": "and", "value": [{"type": "equals", "attribute": "modifiedAt", "value": at},
            {"type": "greaterThan", "attribute": "id", "value": ids[2]}]}]}],
        "orderBy": "modifiedAt", "order": "asc", "maxSize": 1, "select": ["modifiedAt"]});
    let query: String =
        url::form_urlencoded::Serializer::new(String::new()).append_pair("searchParams", &after.to_string()).finish();
    let (status, page) = crm.api("GET", &format!("Meeting?{query}"), &Value::Null);
    assert_eq!((status, &page["total"], &page["list"][0]["id"]), (200, &json!(2), &json!(ids[3])));
    assert!(page["list"][0].get("name").is_none());
}

#[test]
fn a_custom_field_is_made_by_an_administrator_and_gets_a_prefix() {
    let crm = Crm::new();
    let old = id(&crm.meeting(json!({})));
    let spec = json!({"name": "syncWithOutlook", "type": "bool", "default": true});
    assert_eq!(crm.api("POST", "Admin/fieldManager/Meeting", &spec).0, 403);
    let post = || {
        let admin = crm.login("admin", &crm.sim.admin().password, "POST", "Admin/fieldManager/Meeting");
        crm.send(&admin.with_json(&spec)).0
    };
    assert_eq!((post(), post()), (200, 409));
    let read = crm.api("GET", &format!("Meeting/{old}"), &Value::Null).1;
    assert_eq!(read["cSyncWithOutlook"], true);
    let fields = crm.api("GET", "Metadata?key=entityDefs.Meeting.fields", &Value::Null).1;
    assert_eq!(
        (&fields["cSyncWithOutlook"]["type"], &fields["dateStart"]["type"]),
        (&json!("bool"), &json!("datetimeOptional"))
    );
}

#[tokio::test]
async fn people_write_on_the_page_and_are_told_from_the_client() {
    let crm = Crm::new();
    crm.sim.set_time_zone("Europe/Berlin".parse().unwrap());
    crm.sim.add_field("Meeting", "location", "varchar", &Value::Null);
    let url = crm.sim.start(0).await.unwrap();
    let client = reqwest::Client::builder().build().unwrap();
    let post = |path: &str, form: &[(&str, &str)]| client.post(format!("{url}{path}")).form(form).send();
    let day =
        [("user", "anna"), ("week", "2026-12-07"), ("dateStart", "2026-12-10T09:00"), ("dateEnd", "2026-12-10T10:00")];
    let new = [("kind", "Meeting"), ("name", "Tea & \"talk\""), ("location", "Room 1"), ("people", "anna, boris")];
    let page = post("/ui/save", &[day, new].concat()).await.unwrap().text().await.unwrap();
    assert!(page.contains("Tea &amp; &quot;talk&quot;"), "{page}");
    let made = crm.sim.records("Meeting").remove(0);
    assert_eq!((&made["dateStart"], &made["location"]), (&json!("2026-12-10 08:00:00"), &json!("Room 1")));
    assert_eq!(made["usersIds"].as_array().unwrap().len(), 2);
    let open = format!("Meeting/{}", id(&made));
    let moved = [("open", open.as_str()), ("name", "Tea"), ("people", "anna, nobody"), ("allDay", "")];
    let page = post("/ui/save", &[day, moved].concat()).await.unwrap().text().await.unwrap();
    assert!(page.contains("nobody&#39; is neither a user nor a contact"), "{page}");
    post("/ui/answer", &[("user", "boris"), ("open", &open), ("status", "Declined")]).await.unwrap();
    let made = crm.sim.get_record("Meeting", &id(&made)).unwrap();
    assert_eq!(
        (&made["usersColumns"][&crm.boris]["status"], &made["name"]),
        (&json!("Declined"), &json!("Tea & \"talk\""))
    );
    post("/ui/delete", &[("user", "anna"), ("open", &open)]).await.unwrap();
    assert!(crm.sim.records("Meeting").is_empty());
    assert!(crm.sim.wire().log().iter().all(|row| row.person), "{:?}", crm.sim.wire().log());
    assert!(crm.sim.wire().writes_since(0).is_empty());
    crm.sim.stop().await;
}
