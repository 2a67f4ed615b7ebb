//! Secrets: sealed at rest, sealed anew with another key, and never in anything that people read.

use std::path::Path;

use serde_json::{Value, json};
use simulators::plumbing::Fault;

use crate::support::{Setup, World, mail};

fn json_of(world: &World, args: &[&str]) -> Value {
    let done = world.product.command(args);
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

fn key_file(world: &World) -> std::path::PathBuf {
    world.folder().join("espo-outlook.key")
}

#[test]
fn a_running_service_takes_over_a_new_key() {
    let mut world = World::start();
    let before = json_of(&world, &["secrets", "status", "--json"]);
    let old = before["key_id"].as_str().unwrap().to_owned();
    assert!(before["sealed"][&old].as_u64().unwrap() > 10, "{before}");
    let rotated = json_of(&world, &["secrets", "rotate", "--json"]);
    let new = rotated["key_id"].as_str().unwrap().to_owned();
    assert_ne!(old, new);
    let after = json_of(&world, &["secrets", "status", "--json"]);
    assert_eq!((after["sealed"].get(&old), &after["closed"]), (None, &json!([])), "{after}");
    // Tokens are opened, refreshed and sealed, and webhooks are believed, as before.
    world.graph.expire_access_tokens();
    world.outlook_create("anna", "From Outlook", json!({}));
    world.one_record("From Outlook");
    world.espo_create("anna", "From EspoCRM", json!({}));
    world.one_event("anna", "From EspoCRM");
    world.settle();
    let after = json_of(&world, &["secrets", "status", "--json"]);
    assert_eq!(
        after["sealed"].as_object().unwrap().keys().collect::<Vec<_>>(),
        [&new],
        "sealed with the old key: {after}"
    );
    world.restart();
    world.espo_create("anna", "After a restart", json!({}));
    world.one_event("anna", "After a restart");
    // Nothing needs the old key any more: the next rotation drops it.
    assert_eq!(std::fs::read_to_string(key_file(&world)).unwrap().lines().count(), 2);
    json_of(&world, &["secrets", "rotate", "--json"]);
    let keys = std::fs::read_to_string(key_file(&world)).unwrap();
    assert_eq!(keys.lines().count(), 2, "the first key is still there");
    world.settle();
}

#[test]
fn a_rotation_that_cannot_open_everything_changes_nothing() {
    let world = World::start();
    let keys = std::fs::read_to_string(key_file(&world)).unwrap();
    let other = world.folder().join("other.key");
    std::fs::write(&other, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n").unwrap();
    let mut env = world.product.env.clone();
    env.insert("SECURITY__ENCRYPTION_KEY_FILE".to_owned(), other.display().to_string());
    let done = crate::support::command(&["secrets", "rotate"], &env, world.folder());
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success() && said.contains("nothing was sealed anew"), "{said}");
    assert_eq!(std::fs::read_to_string(key_file(&world)).unwrap(), keys);
    env.remove("SECURITY__ENCRYPTION_KEY_FILE");
    env.insert("SECURITY__ENCRYPTION_KEY".to_owned(), keys.trim().to_owned());
    let done = crate::support::command(&["secrets", "rotate"], &env, world.folder());
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success() && said.contains("security.previous_encryption_keys"), "{said}");
    assert_eq!(json_of(&world, &["secrets", "status", "--json"])["closed"], json!([]));
    // The new key is in the configuration, and the old one beside it.
    env.insert("SECURITY__PREVIOUS_ENCRYPTION_KEYS".to_owned(), keys.trim().to_owned());
    env.insert("SECURITY__ENCRYPTION_KEY".to_owned(), "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned());
    let done = crate::support::command(&["secrets", "rotate"], &env, world.folder());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    env.remove("SECURITY__PREVIOUS_ENCRYPTION_KEYS");
    let done = crate::support::command(&["secrets", "status"], &env, world.folder());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Texts that nobody may ever read, by what they are.
struct Hidden(Vec<(String, String)>);

impl Hidden {
    fn add(&mut self, what: &str, secret: impl Into<String>) {
        let secret = secret.into();
        assert!(secret.len() >= 8, "{what} is too short to be looked for");
        self.0.push((what.to_owned(), secret));
    }

    fn look_in(&self, place: &str, text: &str) {
        for (what, secret) in &self.0 {
            assert!(!text.contains(secret.as_str()), "{what} stands in {place}");
        }
    }

    fn look_in_bytes(&self, place: &Path) {
        let bytes = std::fs::read(place).unwrap();
        for (what, secret) in &self.0 {
            let is_there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!is_there, "{what} stands in {}", place.display());
        }
    }
}

/// Everything that was sent to a token endpoint or came back from it, and every credential of EspoCRM.
fn hidden(world: &World) -> Hidden {
    let mut hidden = Hidden(Vec::new());
    hidden.add("the admin token", &world.token);
    hidden.add("the API key", world.espo.api_key());
    hidden.add("the administrator's password", world.espo.admin().password);
    hidden.add("the client secret", world.graph.client_secret());
    let encoded: String = url::form_urlencoded::byte_serialize(world.graph.client_secret().as_bytes()).collect();
    hidden.add("the client secret, encoded", encoded);
    for webhook in world.espo.webhooks() {
        hidden.add("the secret of a webhook", webhook["secretKey"].as_str().unwrap());
    }
    for token in world.graph.tokens() {
        hidden.add("a token of Microsoft", token);
    }
    for subscription in world.graph.client_states() {
        hidden.add("the clientState of a subscription", subscription);
    }
    let key = std::fs::read_to_string(key_file(world)).unwrap();
    hidden.add("the encryption key", key.trim());
    hidden
}

/// Failures of every kind, so that every error has been written at least once.
fn go_wrong(world: &mut World) {
    let name = |n: usize| format!("Trouble {n}");
    for (n, status) in [400, 401, 403, 404, 409, 412, 429, 500, 503].into_iter().enumerate() {
        world.espo.wire().push(Fault::status("", "/Meeting", status).times(2));
        world.graph.wire().push(Fault::status("", "/v1.0/me", status).times(2));
        world.espo_create("anna", &name(n), json!({}));
    }
    world.espo.wire().push(Fault::drop_after("", "/Meeting").times(2));
    world.graph.wire().push(Fault::drop_before("", "/v1.0/me").times(2));
    for status in [400, 401, 500] {
        let body = json!({ "error": "invalid_request", "error_description": "no", "error_codes": [900144] });
        world.graph.wire().push(Fault::status("POST", "/oauth2/v2.0/token", status).body(body));
    }
    world.graph.expire_access_tokens();
    world.outlook_create("anna", "Trouble in Outlook", json!({}));
    // Deliveries with wrong signatures and secrets, broken bodies, wrong tokens.
    let wrong = [("Signature", "d2hvOmRlYWRiZWVm"), ("X-Signature", "bm9uc2Vuc2U=")];
    for body in ["[]", "{", "[{\"id\":\"x\"}]"] {
        world.http("POST", "/webhooks/espocrm", &wrong, Some(body.as_bytes().to_vec()));
        world.http("POST", "/webhooks/graph", &[], Some(body.as_bytes().to_vec()));
    }
    let told = json!({ "value": [{ "subscriptionId": "none", "clientState": "wrong", "changeType": "updated", "resource": "x" }] });
    world.http("POST", "/webhooks/graph", &[], Some(told.to_string().into_bytes()));
    world.call("PUT", "/settings", Some(&json!({ "espocrm": { "api_key": 5 } })));
    world.call(
        "PUT",
        "/settings",
        Some(&json!({ "microsoft": { "mode": "nonsense", "client_secret": "typed-in-secret" } })),
    );
    world.graph.refuse_next_sign_in("access_denied");
    world.sign_in("boris", "boris");
    world.http("GET", "/oauth/microsoft/callback?code=stolen-code-0123456789&state=stolen-state-0123456789", &[], None);
    // A system that fails too often is left alone for a while, so not all of them are met.
    let left = |world: &World| world.espo.wire().pending_faults().zip(world.graph.wire().pending_faults());
    world.eventually("most was tried", || left(world).is_some_and(|(espo, graph)| espo < 12 && graph < 14));
    world.espo.wire().clear();
    world.graph.wire().clear();
    world.settle();
    world.graph.revoke(&mail("anna"));
    world.outlook_create("anna", "After the revocation", json!({}));
    world.becomes("anna", "needs_authorization");
    world.restart();
}

#[test]
fn no_secret_is_in_logs_answers_history_messages_or_the_database() {
    let setup = Setup::default().admin_account().env("WORKER__MAX_ATTEMPTS", "4");
    let mut world = setup.env("LOG__FILTER", "trace").start();
    let wanted = json!({ "enabled": true, "mailbox": mail("boris") });
    world.put(&format!("/users/{}/binding", world.id("boris")), &wanted);
    world.pair("Fine", json!({}));
    go_wrong(&mut world);
    let mut hidden = hidden(&world);
    hidden.add("a code", "stolen-code-0123456789");
    hidden.add("a state", "stolen-state-0123456789");
    hidden.add("a secret that was typed in", "typed-in-secret");
    let log = world.product.log();
    assert!(log.contains("\"level\":\"TRACE\"") && log.contains("\"level\":\"WARN\""), "nothing is logged");
    for line in log.lines() {
        hidden.look_in(&format!("the log: {}", line.get(..200).unwrap_or(line)), line);
    }
    for path in [
        "/settings",
        "/users",
        "/history?limit=500",
        "/messages?limit=500",
        "/messages?state=dead",
        "/subscriptions",
        "/holds",
        "/rules",
        "/roles",
        "/schedules",
        "/jobs",
        "/audit",
        "/doctor",
    ] {
        let (_, answer) = world.call("GET", path, None);
        hidden.look_in(path, &answer.to_string());
    }
    for (path, _) in [("/metrics", ()), ("/readyz", ()), ("/", ()), ("/api/openapi.json", ())] {
        hidden.look_in(path, &world.http("GET", path, &[], None).2);
    }
    for args in
        [&["doctor"][..], &["doctor", "--json"], &["setup", "espocrm", "--json"], &["messages"], &["secrets", "status"]]
    {
        let done = world.product.command(args);
        let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        hidden.look_in(&format!("{args:?}"), &said);
    }
    assert!(world.product.stop());
    for file in ["espo-outlook.db", "espo-outlook.db-wal"] {
        let path = world.folder().join(file);
        if path.exists() {
            hidden.look_in_bytes(&path);
        }
    }
}
