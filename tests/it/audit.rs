//! Who has done what: every action of the admin API, refused ones too, and no secret.

use serde_json::{Value, json};

use crate::support::World;

fn entries(world: &World) -> Vec<Value> {
    world.items("/audit?limit=500")
}

fn actions(world: &World) -> Vec<String> {
    entries(world).iter().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_action_is_noted_with_who_when_what_and_what_came_of_it() {
    let world = World::start();
    let (record, _) = world.pair("Pair", json!({}));
    let anna = world.id("anna");
    world.espo_update(&record, json!({ "name": "Pair, edited" }));
    world.eventually("the edit arrives", || world.events("anna", "Pair, edited").len() == 1);
    world.settle();
    let before = entries(&world).len();
    let subscription = world.items("/subscriptions")[0]["id"].as_str().unwrap().to_owned();
    let message = world.items("/messages?state=done")[0]["id"].as_str().unwrap().to_owned();
    let change = world.items("/history")[0]["id"].as_str().unwrap().to_owned();
    let steps: [(&str, String, Value, &str); 13] = [
        ("PUT", "/settings".to_owned(), json!({ "events_per_iteration": 7 }), "settings.update"),
        ("PUT", "/rules".to_owned(), json!({ "meeting": { "priority": "espo" } }), "rules.update"),
        ("PUT", format!("/users/{anna}/rules"), json!({ "call": { "priority": "espo" } }), "user_rules.update"),
        ("DELETE", format!("/users/{anna}/rules"), Value::Null, "user_rules.delete"),
        ("PUT", format!("/users/{anna}/binding"), json!({ "enabled": true }), "binding.update"),
        ("PUT", "/schedules".to_owned(), json!({ "meeting": "0 1 * * *" }), "schedules.update"),
        ("POST", format!("/users/{anna}/authorize"), json!({}), "binding.authorize"),
        ("POST", "/sync".to_owned(), json!({ "dry_run": true }), "sync.start"),
        ("POST", format!("/history/{change}/revert"), json!({}), "history.revert"),
        ("POST", format!("/messages/{message}/replay"), json!({}), "message.replay"),
        ("DELETE", format!("/messages/{message}"), Value::Null, "message.discard"),
        ("POST", format!("/subscriptions/{subscription}/renew"), json!({}), "subscription.renew"),
        ("PUT", format!("/records/meeting/{record}/sync"), json!({ "enabled": true }), "record.switch"),
    ];
    for (method, path, body, action) in &steps {
        let (status, answer) = world.call(method, path, Some(body).filter(|body| !body.is_null()));
        let entry = entries(&world).into_iter().find(|entry| entry["action"] == *action);
        let entry =
            entry.unwrap_or_else(|| panic!("{action} was not noted ({status} {answer}): {:?}", actions(&world)));
        assert_eq!((&entry["subject"], &entry["status"]), (&json!(path), &json!(status)), "{entry}");
        assert_eq!(entry["actor"], "admin token");
        assert!(status < 500, "{action}: {status} {answer}");
        if body.as_object().is_some_and(|body| !body.is_empty()) {
            assert_eq!(&entry["detail"], body);
        }
    }
    assert_eq!(entries(&world).len(), before + steps.len());
    // A hold, and what is refused, leave their trace as well.
    assert_eq!(world.call("POST", "/holds/none/confirm", Some(&json!({}))).0, 404);
    assert_eq!(world.call("PUT", "/rules", Some(&json!({ "nonsense": 1 }))).0, 400);
    let newest: Vec<(Value, Value)> =
        entries(&world)[..2].iter().map(|entry| (entry["action"].clone(), entry["status"].clone())).collect();
    assert_eq!(newest, [(json!("rules.update"), json!(400)), (json!("hold.confirm"), json!(404))]);
    // By pages, and by name.
    let first = world.get("/audit?limit=3");
    let rest = world.get(&format!("/audit?limit=500&cursor={}", first["next_cursor"].as_str().unwrap()));
    assert_eq!(3 + rest["items"].as_array().unwrap().len(), entries(&world).len());
    assert_eq!(world.items("/audit?action=sync.start").len(), 1);
    assert_eq!(world.call("GET", "/audit?nonsense=1", None).0, 400);
}

#[test]
fn a_secret_is_never_in_the_audit() {
    let world = World::start();
    let secret = "a-secret-of-the-audit-test";
    let body =
        json!({ "espocrm": { "api_key": secret, "admin_password": secret }, "microsoft": { "client_secret": secret } });
    world.call("PUT", "/settings", Some(&body));
    let text = world.get("/audit?limit=500").to_string();
    assert!(text.contains("settings.update") && text.contains("(given)"), "{text}");
    assert!(!text.contains(secret), "{text}");
    assert!(!world.product.log().contains(secret));
}

#[test]
fn a_request_without_the_token_is_not_noted_and_changes_nothing() {
    let world = World::start();
    let before = entries(&world).len();
    let body = json!({ "enabled": false }).to_string().into_bytes();
    let headers = [("Authorization", "Bearer wrong"), ("Content-Type", "application/json")];
    assert_eq!(world.http("PUT", "/api/v1/settings", &headers, Some(body)).0, 401);
    assert_eq!(entries(&world).len(), before);
}
