//! Over real sockets, on a database of its own each.

use std::cell::RefCell;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{Client, Method, Response, StatusCode};
use secrecy::SecretString;
use serde_json::{Value, json};
use sha2::Sha256;
use store::bindings::{Binding, BindingState};
use store::subscriptions::{Subscription, SubscriptionState};
use sync::Target;

use super::*;
use crate::app::provision::secret_purpose;
use crate::clock::{Clock, ManualClock};
use crate::config::{Config, Mode};
use crate::vault::digest;

const TOKEN: &str = "test-admin-token";
const SECRET: &str = "webhook secret";

struct Service {
    app: App,
    url: String,
    http: Client,
    clock: ManualClock,
    _dir: tempfile::TempDir,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.app.shutdown().cancel();
    }
}

async fn start(change: impl FnOnce(&mut Config)) -> Service {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut config = Config::defaults().unwrap();
    config.database.url = SecretString::from(format!("sqlite://{}/t.db?mode=rwc", dir.path().display()));
    config.server.bind = address;
    config.server.admin_token = Some(SecretString::from(TOKEN));
    config.server.max_body = 4096;
    change(&mut config);
    let now = DateTime::parse_from_rfc3339("2026-11-22T10:00:00Z").unwrap().to_utc();
    let clock = ManualClock::at(now);
    let app = App::build(config, Clock::Manual(clock.clone())).await.unwrap();
    let server = server(&app, listener, &Role::all()).unwrap();
    let (handle, shutdown) = (server.handle(), app.shutdown().clone());
    tokio::spawn(server);
    tokio::spawn(async move {
        shutdown.cancelled().await;
        handle.stop(false).await;
    });
    let http = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    Service { app, url: format!("http://{address}"), http, clock, _dir: dir }
}

impl Service {
    async fn api(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = self.http.request(method, format!("{}/api/v1{path}", self.url)).bearer_auth(TOKEN);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> Response {
        self.http.get(format!("{}{path}", self.url)).send().await.unwrap()
    }

    async fn targets(&self) -> Vec<Target> {
        store::inbox::empty(self.app.store()).await.unwrap();
        let filter = store::messages::Filter::default();
        let page = store::messages::page(self.app.store().read(), &filter, None, 100).await.unwrap();
        page.items.into_iter().map(|message| message.change.target).collect()
    }

    async fn with_webhook(&self, id: &str, event: &str) {
        let webhook = store::espo_webhooks::Webhook {
            id: id.to_owned(),
            event: event.to_owned(),
            secret: self.app.vault().seal(&secret_purpose(id), SECRET).unwrap(),
            created: self.app.clock().now(),
        };
        store::espo_webhooks::put(self.app.store().write(), &webhook).await.unwrap();
    }

    async fn deliver(&self, signature: Option<String>, body: &str) -> Response {
        let mut request = self.http.post(format!("{}/webhooks/espocrm", self.url)).body(body.to_owned());
        if let Some(signature) = signature {
            request = request.header("Signature", signature);
        }
        request.send().await.unwrap()
    }

    async fn with_binding(&self, user: &str, mailbox: Option<&str>) {
        let now = self.app.clock().now();
        let binding = Binding {
            user_id: user.to_owned(),
            user_name: user.to_owned(),
            email: None,
            enabled: true,
            mailbox: mailbox.map(str::to_owned),
            graph_user_id: None,
            zone: None,
            sync_from: now.date_naive(),
            todo_list: None,
            state: BindingState::NeedsAuthorization,
            reason: "Sign in.".to_owned(),
            next_try: None,
            last_sync: None,
            first_sync_done: false,
            created: now,
            updated: now,
        };
        store::bindings::upsert(self.app.store().write(), &binding, now).await.unwrap();
    }

    async fn with_subscription(&self, id: &str, user: &str, client_state: &str) {
        let now = self.app.clock().now();
        let subscription = Subscription {
            id: id.to_owned(),
            user_id: user.to_owned(),
            resource: "/me/events".to_owned(),
            list_id: None,
            client_state: digest(client_state),
            state: SubscriptionState::Active,
            error: None,
            created: now,
            expires: now + TimeDelta::days(6),
            renew_at: now + TimeDelta::days(3),
        };
        store::subscriptions::put(self.app.store().write(), &subscription).await.unwrap();
    }

    async fn notify(&self, path: &str, body: &Value) -> StatusCode {
        self.http.post(format!("{}{path}", self.url)).json(body).send().await.unwrap().status()
    }
}

fn sign(id: &str, secret: &str, body: &str) -> String {
    let mut mac = <Hmac<Sha256>>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    STANDARD.encode(format!("{id}:{}", hex::encode(mac.finalize().into_bytes())))
}

fn changed(subscription: &str, client_state: &str, id: &str) -> Value {
    json!({
        "subscriptionId": subscription, "clientState": client_state, "changeType": "updated",
        "resource": format!("Users/x/Events/{id}"),
        "resourceData": { "@odata.type": "#Microsoft.Graph.Event", "id": id, "@odata.etag": "W/\"1\"" },
    })
}

fn microsoft(config: &mut Config) {
    config.microsoft.tenant = Some("contoso".to_owned());
    config.microsoft.client_id = Some("app".to_owned());
    config.microsoft.client_secret = Some(SecretString::from("hush"));
    config.microsoft.mode = Some(Mode::Delegated);
}

#[tokio::test]
async fn the_admin_api_wants_the_token() {
    let service = start(|_| {}).await;
    let without = service.get("/api/v1/settings").await;
    assert_eq!(without.status(), 401);
    assert_eq!(without.headers()["content-type"], "application/problem+json");
    let wrong = service.http.get(format!("{}/api/v1/settings", service.url)).bearer_auth("no").send().await.unwrap();
    assert_eq!(wrong.status(), 401);
    assert_eq!(service.api(Method::GET, "/settings", None).await.0, 200);
}

#[tokio::test]
async fn a_signed_delivery_is_queued_before_it_is_answered() {
    let service = start(|_| {}).await;
    service.with_webhook("w1", "Meeting.update").await;
    let body = r#"[{"id":"6a"},{"name":"no id"},{"id":"6b"}]"#;
    assert_eq!(service.deliver(Some(sign("w1", SECRET, body)), body).await.status(), 200);
    let record = |id: &str| Target::Record { kind: sync::Kind::Meeting, id: id.to_owned() };
    let targets = service.targets().await;
    assert!(targets.len() == 2 && targets.contains(&record("6a")) && targets.contains(&record("6b")), "{targets:?}");
}

#[tokio::test]
async fn a_delivery_is_refused_when_the_signature_is_missing_wrong_or_of_nobody() {
    let service = start(|_| {}).await;
    service.with_webhook("w1", "Meeting.update").await;
    let body = r#"[{"id":"6a"}]"#;
    assert_eq!(service.deliver(None, body).await.status(), 401);
    assert_eq!(service.deliver(Some(sign("w1", "another secret", body)), body).await.status(), 401);
    assert_eq!(service.deliver(Some(sign("w2", SECRET, body)), body).await.status(), 401);
    assert_eq!(service.deliver(Some("?".to_owned()), body).await.status(), 401);
    assert_eq!(service.deliver(Some(sign("w1", SECRET, body)), r#"[{"id":"6b"}]"#).await.status(), 401);
    assert!(service.targets().await.is_empty());
}

#[tokio::test]
async fn a_signed_body_that_is_no_array_is_malformed_and_a_large_one_too_large() {
    let service = start(|_| {}).await;
    service.with_webhook("w1", "Meeting.update").await;
    for body in ["{}", "nonsense", ""] {
        assert_eq!(service.deliver(Some(sign("w1", SECRET, body)), body).await.status(), 400, "{body}");
    }
    let large = format!("[\"{}\"]", "x".repeat(5000));
    assert_eq!(service.deliver(Some(sign("w1", SECRET, &large)), &large).await.status(), 413);
}

#[tokio::test]
async fn a_webhook_whose_secret_was_changed_beside_the_service_is_believed() {
    let service = start(|_| {}).await;
    let body = "[]";
    assert_eq!(service.deliver(Some(sign("w1", SECRET, body)), body).await.status(), 401);
    service.with_webhook("w1", "Task.create").await;
    assert_eq!(service.deliver(Some(sign("w1", SECRET, body)), body).await.status(), 200);
    let renewed = store::espo_webhooks::Webhook {
        id: "w1".to_owned(),
        event: "Task.create".to_owned(),
        secret: service.app.vault().seal(&secret_purpose("w1"), "new").unwrap(),
        created: service.app.clock().now(),
    };
    store::espo_webhooks::put(service.app.store().write(), &renewed).await.unwrap();
    assert_eq!(service.deliver(Some(sign("w1", "new", body)), body).await.status(), 200);
    assert_eq!(service.deliver(Some(sign("w1", SECRET, body)), body).await.status(), 401);
}

#[tokio::test]
async fn a_validation_token_is_echoed_decoded_as_plain_text() {
    let service = start(|_| {}).await;
    for path in ["/webhooks/graph", "/webhooks/graph/lifecycle"] {
        let url = format!("{}{path}?validationToken=a%20b%3Cscript%3E+c", service.url);
        let answer = service.http.post(url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        assert_eq!(answer.text().await.unwrap(), "a b<script> c");
    }
}

#[tokio::test]
async fn only_notifications_that_repeat_the_secret_are_queued() {
    let service = start(|_| {}).await;
    service.with_subscription("s1", "anna", "secret-1").await;
    let body = json!({ "value": [
        changed("s1", "secret-1", "e1"),
        changed("s1", "wrong", "e2"),
        changed("s9", "secret-1", "e3"),
        { "subscriptionId": "s1", "resourceData": { "id": "e4" } },
    ] });
    assert_eq!(service.notify("/webhooks/graph", &body).await, 202);
    let event = Target::Event { user: "anna".to_owned(), id: "e1".to_owned() };
    assert_eq!(service.targets().await, vec![event]);
    let malformed = service.http.post(format!("{}/webhooks/graph", service.url)).body("{").send().await.unwrap();
    assert_eq!(malformed.status(), 400);
}

#[tokio::test]
async fn a_removed_subscription_is_noted_and_its_mailbox_looked_at() {
    let service = start(|_| {}).await;
    service.with_subscription("s1", "anna", "secret-1").await;
    let event = |client_state: &str| {
        json!({ "value": [
            { "subscriptionId": "s1", "clientState": client_state, "lifecycleEvent": "subscriptionRemoved" },
        ] })
    };
    assert_eq!(service.notify("/webhooks/graph/lifecycle", &event("wrong")).await, 202);
    let state = async || store::subscriptions::get(service.app.store().read(), "s1").await.unwrap().unwrap().state;
    assert_eq!(state().await, SubscriptionState::Active);
    assert_eq!(service.notify("/webhooks/graph/lifecycle", &event("secret-1")).await, 202);
    assert_eq!(state().await, SubscriptionState::Lapsed);
    assert_eq!(service.targets().await, vec![Target::Mailbox { user: "anna".to_owned() }]);
}

#[tokio::test]
async fn settings_merge_and_their_secrets_are_never_shown() {
    let service = start(|_| {}).await;
    let wanted =
        json!({ "espocrm": { "url": "https://crm.example", "api_key": "hush-key" }, "events_per_iteration": 3 });
    let (status, shown) = service.api(Method::PUT, "/settings", Some(wanted)).await;
    assert_eq!(status, 200);
    assert_eq!(shown["events_per_iteration"], 3);
    assert_eq!(shown["secrets"]["espocrm.api_key"], true);
    assert!(!shown.to_string().contains("hush"), "{shown}");
    assert!(service.app.connections().espocrm().is_some(), "the connection is there without a restart");
    // What GET gives may be put back.
    let (status, again) = service.api(Method::PUT, "/settings", Some(shown.clone())).await;
    assert_eq!((status, &again), (StatusCode::OK, &shown));
    let (status, off) = service.api(Method::PUT, "/settings", Some(json!({ "espocrm": { "api_key": null } }))).await;
    assert_eq!((status, &off["secrets"]["espocrm.api_key"]), (StatusCode::OK, &json!(false)));
    assert!(service.app.connections().espocrm().is_none());
}

#[tokio::test]
async fn what_the_configuration_fixes_cannot_be_changed_and_unknown_keys_are_named() {
    let service = start(microsoft).await;
    let (status, problem) =
        service.api(Method::PUT, "/settings", Some(json!({ "microsoft": { "tenant": "other" } }))).await;
    assert_eq!(status, 409, "{problem}");
    let (status, problem) = service.api(Method::PUT, "/settings", Some(json!({ "enbled": true }))).await;
    assert_eq!(status, 400);
    assert!(problem["detail"].as_str().unwrap().contains("enbled"), "{problem}");
    let (status, problem) = service.api(Method::PUT, "/rules", Some(json!({ "meeting": { "way": "both" } }))).await;
    assert_eq!(status, 400);
    assert!(problem["detail"].as_str().unwrap().contains("way"), "{problem}");
    let (status, _) = service.api(Method::PUT, "/schedules", Some(json!({ "meeting": "whenever" }))).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn rules_are_put_back_as_they_were_read_and_users_override_them() {
    let service = start(|_| {}).await;
    let (_, mut rules) = service.api(Method::GET, "/rules", None).await;
    rules["call"]["direction"] = json!("disabled");
    let (status, after) = service.api(Method::PUT, "/rules", Some(rules.clone())).await;
    assert_eq!((status, &after), (StatusCode::OK, &rules));
    let wanted = json!({ "call": { "direction": "both" } });
    let (_, own) = service.api(Method::PUT, "/users/u1/rules", Some(wanted)).await;
    assert_eq!(own["effective"]["call"]["direction"], "both");
    assert_eq!(own["sources"]["call.direction"], "user");
    let (_, own) = service.api(Method::DELETE, "/users/u1/rules", None).await;
    assert_eq!(own["effective"]["call"]["direction"], "disabled");
}

#[tokio::test]
async fn a_sign_in_link_works_once_and_not_after_ten_minutes() {
    let service = start(microsoft).await;
    service.with_binding("anna", None).await;
    let link = async || {
        let (status, link) = service.api(Method::POST, "/users/anna/authorize", None).await;
        assert_eq!(status, 200, "{link}");
        let url = url::Url::parse(link["url"].as_str().unwrap()).unwrap();
        format!("{}?{}", url.path(), url.query().unwrap())
    };
    let first = link().await;
    let begun = service.get(&first).await;
    assert_eq!(begun.status(), 303);
    let to = begun.headers()["location"].to_str().unwrap();
    assert!(to.contains("code_challenge_method=S256") && to.contains("/contoso/oauth2/v2.0/authorize"), "{to}");
    let cookie = begun.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    assert_eq!(service.get(&first).await.status(), 400);
    let second = link().await;
    service.clock.advance(TimeDelta::minutes(11));
    assert_eq!(service.get(&second).await.status(), 400);
}

/// A sign-in as far as Microsoft's page: its state and the cookie of the browser in which it began.
async fn begun(service: &Service) -> (String, String) {
    let (_, link) = service.api(Method::POST, "/users/anna/authorize", None).await;
    let url = url::Url::parse(link["url"].as_str().unwrap()).unwrap();
    let begun = service.get(&format!("{}?{}", url.path(), url.query().unwrap())).await;
    let to = url::Url::parse(begun.headers()["location"].to_str().unwrap()).unwrap();
    let state = to.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let cookie = begun.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    (state, cookie)
}

#[tokio::test]
async fn a_callback_in_another_browser_or_with_a_foreign_state_is_refused() {
    let service = start(microsoft).await;
    service.with_binding("anna", None).await;
    let (state, cookie) = begun(&service).await;
    let foreign = service.get("/oauth/microsoft/callback?state=x&code=y").await;
    assert_eq!(foreign.status(), 400);
    let elsewhere = service.get(&format!("/oauth/microsoft/callback?state={state}&code=y")).await;
    assert_eq!(elsewhere.status(), 400);
    assert!(store::tokens::get(service.app.store().read(), "anna").await.unwrap().is_none());
    // The state is spent, also for the right browser.
    let url = format!("{}/oauth/microsoft/callback?state={state}&error=access_denied", service.url);
    let late = service.http.get(url).header("Cookie", cookie).send().await.unwrap();
    assert_eq!(late.status(), 400);
}

#[tokio::test]
async fn what_microsoft_says_is_escaped_on_the_page() {
    let service = start(microsoft).await;
    service.with_binding("anna", None).await;
    let (state, cookie) = begun(&service).await;
    let query = format!("state={state}&error=access_denied&error_description=%3Cscript%3Ealert(1)%3C/script%3E");
    let url = format!("{}/oauth/microsoft/callback?{query}", service.url);
    let answer = service.http.get(url).header("Cookie", cookie).send().await.unwrap();
    assert_eq!(answer.status(), 403);
    let page = answer.text().await.unwrap();
    assert!(page.contains("access_denied") && !page.contains("<script"), "{page}");
}

#[tokio::test]
async fn users_are_listed_from_the_bindings_when_espocrm_does_not_answer() {
    let service = start(|config| {
        // Nothing listens on the discard port.
        config.espocrm.url = Some("http://127.0.0.1:9".parse().unwrap());
        config.espocrm.api_key = Some(SecretString::from("key"));
    })
    .await;
    service.with_binding("anna", Some("anna@example.com")).await;
    let (status, users) = service.api(Method::GET, "/users", None).await;
    assert_eq!(status, 200, "{users}");
    assert_eq!(users["items"][0]["id"], "anna");
    assert_eq!(users["items"][0]["state"], "needs_authorization");
    assert!(users["note"].is_string(), "{users}");
    let (status, _) = service.api(Method::PUT, "/users/boris/binding", Some(json!({ "enabled": true }))).await;
    assert_eq!(status, 503);
}

#[tokio::test]
async fn a_mailbox_is_bound_to_one_user_only_and_unbinding_removes_everything() {
    let service = start(microsoft).await;
    service.with_binding("anna", Some("anna@example.com")).await;
    service.with_binding("boris", None).await;
    service.with_subscription("s1", "anna", "x").await;
    let wanted = json!({ "mailbox": "Anna@Example.com" });
    assert_eq!(service.api(Method::PUT, "/users/boris/binding", Some(wanted)).await.0, 409);
    assert_eq!(service.api(Method::DELETE, "/users/anna/binding", None).await.0, 204);
    assert!(store::subscriptions::list(service.app.store().read()).await.unwrap().is_empty());
    assert_eq!(service.api(Method::DELETE, "/users/anna/binding", None).await.0, 404);
}

#[tokio::test]
async fn a_job_is_noted_and_can_be_asked_about() {
    let service = start(|_| {}).await;
    let (status, started) = service
        .api(Method::POST, "/sync", Some(json!({ "kind": "Meeting", "direction": "to-espo", "dry_run": true })))
        .await;
    assert_eq!(status, 202, "{started}");
    let (_, job) = service.api(Method::GET, &format!("/jobs/{}", started["job_id"].as_str().unwrap()), None).await;
    assert_eq!(job["state"], "queued");
    assert_eq!(job["request"], json!({ "kind": "meeting", "direction": "to_espo", "dry_run": true }));
    assert_eq!(service.api(Method::POST, "/sync", None).await.0, 202);
    assert_eq!(service.api(Method::POST, "/sync", Some(json!({ "kind": "lunch" }))).await.0, 400);
    assert_eq!(service.api(Method::POST, "/sync", Some(json!({ "user_id": "nobody" }))).await.0, 404);
    assert_eq!(service.api(Method::GET, "/jobs/none", None).await.0, 404);
}

#[tokio::test]
async fn messages_are_replayed_and_deleted() {
    let service = start(|_| {}).await;
    service.with_webhook("w1", "Meeting.update").await;
    let body = r#"[{"id":"6a"}]"#;
    service.deliver(Some(sign("w1", SECRET, body)), body).await;
    let (_, page) = service.api(Method::GET, "/messages?state=queued", None).await;
    let id = page["items"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(page["items"][0]["excerpt"], r#"{"id":"6a"}"#);
    // What is queued is not queued twice.
    let (status, replayed) = service.api(Method::POST, &format!("/messages/{id}/replay"), None).await;
    assert_eq!((status, &replayed["replayed"]), (StatusCode::ACCEPTED, &json!(0)));
    assert_eq!(service.api(Method::DELETE, &format!("/messages/{id}"), None).await.0, 204);
    assert_eq!(service.api(Method::DELETE, &format!("/messages/{id}"), None).await.0, 404);
    assert_eq!(service.api(Method::GET, "/messages?state=lost", None).await.0, 400);
    assert_eq!(service.api(Method::GET, "/messages?cursor=x", None).await.0, 400);
}

#[tokio::test]
async fn probes_name_the_parts_and_metrics_have_their_names() {
    let service = start(|_| {}).await;
    assert_eq!(service.get("/healthz").await.status(), 200);
    let ready = service.get("/readyz").await;
    assert_eq!(ready.status(), 200);
    let ready: Value = ready.json().await.unwrap();
    assert_eq!(ready["parts"]["espocrm"]["state"], "not_configured");
    assert_eq!(ready["parts"]["database"]["state"], "ok");
    let metrics = service.get("/metrics").await.text().await.unwrap();
    for name in
        ["queue_depth", "dead_letters", "bindings{state=\"active\"}", "subscriptions{state=\"active\"}", "holds"]
    {
        assert!(metrics.contains(&format!("espo_outlook_{name}")), "{name} is missing in\n{metrics}");
    }
    service.app.shutdown().cancel();
}

#[tokio::test]
async fn pages_carry_a_strict_policy_and_unknown_addresses_are_problems() {
    let service = start(|_| {}).await;
    let page = service.get("/sign-in").await;
    assert_eq!(page.status(), 200);
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(service.get("/api/docs").await.status(), 200);
    assert_eq!(service.get("/api/openapi.json").await.status(), 200);
    let missing = service.get("/nowhere").await;
    assert_eq!(missing.status(), 404);
    assert_eq!(missing.headers()["content-type"], "application/problem+json");
    // Within the scopes as well, and whatever the answer is.
    let nested = service.http.get(format!("{}/api/v1/nowhere", service.url)).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(nested.status(), 404);
    assert_eq!(nested.headers()["content-type"], "application/problem+json");
    for answer in [missing, nested, service.get("/api/v1/settings").await, service.get("/healthz").await] {
        for name in ["x-frame-options", "x-content-type-options", "content-security-policy", "cache-control"] {
            assert!(answer.headers().contains_key(name), "{name} of {}", answer.url());
        }
    }
}

#[test]
fn moments_in_the_api_are_utc() {
    let at: DateTime<Utc> = "2026-11-22T10:00:00Z".parse().unwrap();
    assert_eq!(serde_json::to_value(at).unwrap(), "2026-11-22T10:00:00Z");
}

#[tokio::test]
async fn a_method_that_an_address_does_not_take_is_refused_by_name() {
    let service = start(|_| {}).await;
    let (status, problem) = service.api(Method::DELETE, "/settings", None).await;
    assert_eq!(
        (status, &problem["detail"]),
        (StatusCode::METHOD_NOT_ALLOWED, &json!("DELETE is not for this address; it takes GET, PUT"))
    );
}

#[tokio::test]
async fn a_way_that_a_rule_opens_is_swept_and_one_that_it_closes_is_not() {
    let service = start(|_| {}).await;
    let jobs = async || service.api(Method::GET, "/jobs", None).await.1["items"].as_array().unwrap().len();
    let before = jobs().await;
    service.api(Method::PUT, "/rules", Some(json!({ "Task": { "direction": "disabled" } }))).await;
    assert_eq!(jobs().await, before);
    service.api(Method::PUT, "/rules", Some(json!({ "TASK": { "direction": "both" } }))).await;
    assert_eq!(jobs().await, before + 1);
}

thread_local! {
    /// What was registered on this thread: paths, which may be within a scope, and their methods.
    pub(super) static REGISTERED: RefCell<Vec<(String, &'static str)>> = const { RefCell::new(Vec::new()) };
}

/// The routes that a part registers and that change something; the ids in them are nobody's.
fn changing(prefix: &str, configure: impl FnOnce(&mut ServiceConfig)) -> Vec<(Method, String)> {
    REGISTERED.with_borrow_mut(Vec::clear);
    let _ = ActixApp::new().configure(configure);
    let registered = REGISTERED.with_borrow_mut(std::mem::take);
    let mut found = Vec::new();
    for (path, allow) in registered {
        let mut parts = path.split(['{', '}']).enumerate();
        let path: String = parts.by_ref().map(|(n, part)| if n % 2 == 1 { "none" } else { part }).collect();
        for method in allow.split(", ").filter(|method| !["GET", "HEAD"].contains(method)) {
            found.push((method.parse().unwrap(), format!("{prefix}{path}")));
        }
    }
    found
}

/// Somebody who has signed in with the admin token: the cookie and the CSRF token.
async fn signed_in(service: &Service) -> (String, String) {
    let form = service.http.post(format!("{}/sign-in", service.url)).form(&[("token", TOKEN)]);
    let answer = form.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let page = service.http.get(format!("{}/sessions", service.url)).header("Cookie", &cookie);
    let page = page.send().await.unwrap().text().await.unwrap();
    let csrf = page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    (cookie, csrf)
}

/// What a session may be refused for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sent {
    WithoutToken,
    WithAnothersToken,
    FromElsewhere,
    FromNowhere,
    AcrossSites,
    AsItShould,
}

impl Service {
    async fn send(&self, route: &(Method, String), (cookie, csrf): &(String, String), sent: Sent) -> StatusCode {
        let (method, path) = route;
        let request = self.http.request(method.clone(), format!("{}{path}", self.url)).header("Cookie", cookie);
        let request = match sent {
            Sent::WithoutToken => request,
            Sent::WithAnothersToken => request.header("X-CSRF-Token", "guessed"),
            _ => request.header("X-CSRF-Token", csrf),
        };
        let request = match sent {
            Sent::FromElsewhere => request.header("Origin", "https://evil.example"),
            Sent::FromNowhere => request.header("Origin", "null"),
            Sent::AcrossSites => request.header("Sec-Fetch-Site", "cross-site"),
            _ => request.header("Origin", &self.url),
        };
        request.send().await.unwrap().status()
    }
}

#[tokio::test]
async fn no_route_lets_a_session_change_anything_without_its_token_or_from_elsewhere() {
    let service = start(|_| {}).await;
    let pages = changing("", ui::configure);
    let api = changing("/api/v1", api::configure);
    assert!(pages.len() >= 25 && api.len() >= 20, "{} pages, {} of the API", pages.len(), api.len());
    // Nobody has a session there yet, so there is no token either.
    let is_open = |path: &str| ["/sign-in", "/preferences"].contains(&path);
    let session = signed_in(&service).await;
    for route in pages.iter().chain(&api) {
        for sent in [Sent::FromElsewhere, Sent::FromNowhere, Sent::AcrossSites] {
            assert_eq!(service.send(route, &session, sent).await, StatusCode::FORBIDDEN, "{route:?} {sent:?}");
        }
        for sent in [Sent::WithoutToken, Sent::WithAnothersToken] {
            let status = service.send(route, &session, sent).await;
            assert_eq!(status == StatusCode::FORBIDDEN, !is_open(&route.1), "{route:?} {sent:?}: {status}");
        }
    }
    for route in pages.iter().chain(&api) {
        let session = signed_in(&service).await;
        let status = service.send(route, &session, Sent::AsItShould).await;
        assert_ne!(status, StatusCode::FORBIDDEN, "{route:?} is refused altogether");
    }
}
