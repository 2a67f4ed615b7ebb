//! `doctor`: each check says what is wrong when it is, and what to do about it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use chrono::Duration;
use serde_json::{Value, json};
use simulators::plumbing::SimClock;

use crate::support::{Setup, World, command, mail};

/// Verdict and text of the checks of a name, the worst first.
fn seen(report: &Value, name: &str) -> (String, String) {
    let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    let checks = report["checks"].as_array().unwrap_or_else(|| panic!("no report: {report}"));
    let rank = |verdict: &str| ["failed", "warning", "skipped", "ok"].iter().position(|one| *one == verdict);
    let worst = checks.iter().filter(|check| check["name"] == name).min_by_key(|check| rank(&text(check, "verdict")));
    let worst = worst.unwrap_or_else(|| panic!("nothing is said of {name}: {report:#}"));
    (text(worst, "verdict"), format!("{} -> {}", text(worst, "detail"), text(worst, "remedy")))
}

/// A check, and a part of what it has to say.
fn expect(report: &Value, name: &str, verdict: &str, part: &str) {
    let (found, text) = seen(report, name);
    assert!(found == verdict && text.contains(part), "{name} is {found}, not {verdict} with `{part}`: {text}");
    let is_remedied = ["skipped", "ok"].contains(&verdict) || !text.ends_with("-> ") || text.contains([';', ',']);
    assert!(is_remedied, "{name} tells no remedy: {text}");
}

impl World {
    fn doctor(&self) -> Value {
        self.get("/doctor")
    }

    /// The command, with other variables than the service: its report, and whether it succeeded.
    fn doctor_with(&self, variables: &[(&str, &str)]) -> (Value, bool) {
        let mut env = self.product.env.clone();
        env.extend(variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        env.retain(|_, value| !value.is_empty());
        run(&env, self.folder())
    }
}

fn run(env: &BTreeMap<String, String>, folder: &std::path::Path) -> (Value, bool) {
    let output = command(&["doctor", "--json"], env, folder);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = serde_json::from_str(&text);
    let report = report.unwrap_or_else(|_| panic!("no JSON: {text}{}", String::from_utf8_lossy(&output.stderr)));
    (report, output.status.success())
}

#[test]
fn all_is_well_in_a_world_that_is_well() {
    let world = Setup::default().admin_account().start();
    let done = world.product.command(&["setup", "espocrm"]);
    assert!(done.status.success());
    let (report, success) = world.doctor_with(&[]);
    assert!(success && report["ok"] == true, "{report:#}");
    let of_the_service = world.doctor();
    for name in [
        "configuration",
        "database",
        "encryption_key",
        "queue",
        "espocrm",
        "admin",
        "rights.meeting",
        "rights.call",
        "rights.task",
        "rights.people",
        "rights.assignment",
        "rights.webhook",
        "fields",
        "webhooks",
        "webhook_job",
        "internal_address",
        "microsoft",
        "permissions",
        "bindings",
        "mailbox",
        "public_url",
        "signature",
        "clock.espocrm",
        "clock.microsoft",
    ] {
        expect(&report, name, "ok", "");
        expect(&of_the_service, name, "ok", "");
    }
    expect(&report, "client_secret", "skipped", "Application.Read.All");
    let lines = world.product.command(&["doctor"]);
    let lines = String::from_utf8_lossy(&lines.stdout).into_owned();
    assert_eq!(lines.lines().count(), report["checks"].as_array().unwrap().len(), "one line each: {lines}");
}

#[test]
fn what_the_role_lacks_is_named_by_scope() {
    let world = World::start();
    let espo = &world.espo;
    espo.set_right("Meeting", "edit", "no");
    espo.set_right("Call", "read", "team");
    espo.close_field("Task", "description", "edit");
    espo.set_right("Lead", "create", "no");
    espo.set_assignment("team");
    espo.close_scope("Webhook");
    let report = world.doctor();
    assert_eq!(report["ok"], false);
    expect(&report, "rights.meeting", "failed", "Meeting: no right to edit");
    expect(&report, "rights.call", "warning", "of its own teams may it read");
    expect(&report, "rights.task", "failed", "drops what is written to description");
    expect(&report, "rights.people", "warning", "create Lead");
    expect(&report, "rights.assignment", "failed", "`team`");
    expect(&report, "rights.webhook", "warning", "enable the scope Webhook");
    espo.set_right("User", "read", "no");
    expect(&world.doctor(), "rights.people", "failed", "users cannot be bound");
    // Without the administrator's account what only administrators may read is not passed over in silence.
    expect(&report, "admin", "warning", "espocrm.admin_username");
    expect(&report, "fields", "warning", "Meeting.cSyncWithOutlook");
    expect(&report, "webhook_job", "skipped", "only administrators");
    expect(&report, "internal_address", "skipped", "only administrators");
}

#[test]
fn webhooks_their_job_and_their_address_are_looked_at() {
    let world = Setup::default().admin_account().start();
    let espo = &world.espo;
    let minute = Duration::minutes(1);
    for (job, part) in [
        (None, "missing or inactive"),
        (Some(("*/2 * * * *", false, minute)), "missing or inactive"),
        (Some(("*/30 * * * *", true, minute)), "every 1800 s up to 20 events"),
        (Some(("*/2 * * * *", true, Duration::hours(3))), "cron does not run"),
        (Some(("now and then", true, minute)), "cannot be read"),
    ] {
        espo.set_webhook_schedule(job);
        expect(&world.doctor(), "webhook_job", "warning", part);
    }
    espo.set_webhook_schedule(Some(("*/2 * * * *", true, minute)));
    espo.set_event_portion(5);
    expect(&world.doctor(), "webhook_job", "warning", "webhookQueueEventPortionSize");
    espo.set_event_portion(100);
    expect(&world.doctor(), "webhook_job", "ok", "50 a minute");
    espo.allow_internal_webhooks(false);
    let address = world.url.strip_prefix("http://").unwrap();
    expect(&world.doctor(), "internal_address", "failed", &format!("add '{address}' to webhookAllowedAddressList"));
    espo.allow_webhook_address(address);
    expect(&world.doctor(), "internal_address", "ok", address);
    let webhook = espo.webhooks()[0]["id"].as_str().unwrap().to_owned();
    espo.write_as("admin", "DELETE", "Webhook", Some(&webhook), &Value::Null).unwrap();
    expect(&world.doctor(), "webhooks", "warning", "setup espocrm");
}

#[test]
fn wrong_credentials_and_a_system_that_is_away_are_told_apart() {
    let world = Setup::default().admin_account().start();
    let (report, success) = world.doctor_with(&[("ESPOCRM__API_KEY", "wrong")]);
    assert!(!success);
    expect(&report, "espocrm", "failed", "refuses the API key");
    let (report, _) = world.doctor_with(&[("ESPOCRM__ADMIN_PASSWORD", "wrong")]);
    expect(&report, "admin", "failed", "administrator account");
    let (report, _) = world.doctor_with(&[("ESPOCRM__URL", ""), ("ESPOCRM__API_KEY", ""), ("MICROSOFT__TENANT", "")]);
    expect(&report, "espocrm", "failed", "espocrm.url");
    expect(&report, "microsoft", "failed", "microsoft.tenant");
    let pairs = json!([{"kind": "meeting", "espo": "cNowhere", "outlook": "category:X", "name": "x"}]).to_string();
    let (report, _) = world.doctor_with(&[("PAIRS", &pairs)]);
    expect(&report, "pairs", "warning", "cNowhere");
    world.espo.wire().set_down(true);
    expect(&world.doctor(), "espocrm", "failed", "");
    world.espo.wire().set_down(false);
    world.graph.wire().set_down(true);
    expect(&world.doctor(), "clock.microsoft", "skipped", "does not tell the time");
    world.graph.wire().set_down(false);
    world.espo.clock().advance(Duration::minutes(5));
    let report = world.doctor();
    expect(&report, "clock.espocrm", "failed", "NTP");
    expect(&report, "clock.microsoft", "failed", "NTP");
}

#[test]
fn permissions_credentials_and_mailboxes_of_microsoft_are_looked_at() {
    let world = Setup::default().bound(&["anna", "boris"]).start();
    let graph = &world.graph;
    let now = SimClock::system().now();
    graph.set_app_roles(&["Calendars.ReadWrite", "Application.Read.All"]);
    graph.set_secret_end(now + Duration::days(5));
    expect(&world.doctor(), "client_secret", "warning", "in 4 days");
    graph.set_secret_end(now - Duration::days(1));
    expect(&world.doctor(), "client_secret", "failed", "ended on");
    graph.set_secret_end(now + Duration::days(100));
    expect(&world.doctor(), "client_secret", "ok", "in 99 days");
    graph.withhold_scopes(&["Tasks.ReadWrite"]);
    assert_eq!(world.sign_in("anna", "anna").status, 200);
    expect(&world.doctor(), "permissions", "failed", "not granted: Tasks.ReadWrite");
    graph.set_mailbox_enabled(&mail("boris"), false);
    expect(&world.doctor(), "mailbox", "failed", &mail("boris"));
    graph.withhold_scopes(&[]);
    assert_eq!(world.sign_in("anna", "anna").status, 200);
    graph.revoke(&mail("anna"));
    world.outlook_create("anna", "Stirs", json!({}));
    world.becomes("anna", "needs_authorization");
    expect(&world.doctor(), "bindings", "warning", "have to sign in");
    graph.set_client_secret("another");
    expect(&world.doctor(), "microsoft", "failed", "client secret");
    let (report, _) = world.doctor_with(&[("MICROSOFT__CLIENT_CERTIFICATE", &expired())]);
    expect(&report, "certificate", "failed", "ended on 2025-02-01");
}

/// Self-signed, made for this test alone, and long over.
fn expired() -> String {
    format!("{}/tests/it/fixtures/expired.test.pem", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn in_application_mode_the_permissions_of_the_app_itself_count() {
    let world = Setup::default().bound(&[]).env("MICROSOFT__MODE", "application").start();
    expect(&world.doctor(), "permissions", "ok", "Tasks.ReadWrite.All");
    world.graph.set_app_roles(&["Calendars.ReadWrite", "MailboxSettings.Read"]);
    expect(&world.doctor(), "permissions", "failed", "Tasks.ReadWrite.All");
    expect(&world.doctor(), "mailbox", "skipped", "nobody is bound");
}

/// A proxy that passes the handshake on and loses the headers of deliveries.
fn careless_proxy() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut text = [0; 2048];
            let length = stream.read(&mut text).unwrap_or(0);
            let handshake = String::from_utf8_lossy(&text[..length]).contains("validationToken");
            let (status, body) = if handshake { ("200 OK", "doctor: hello") } else { ("401 Unauthorized", "") };
            let length = body.len();
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").ok();
        }
    });
    url
}

#[test]
fn the_public_address_and_a_signed_delivery_are_tried() {
    let mut world = World::start();
    let (report, _) = world.doctor_with(&[("SERVER__PUBLIC_URL", "")]);
    expect(&report, "public_url", "warning", "server.public_url");
    expect(&report, "webhooks", "skipped", "polled");
    let (report, _) = world.doctor_with(&[("SERVER__PUBLIC_URL", &careless_proxy())]);
    expect(&report, "public_url", "ok", "handshake");
    expect(&report, "signature", "failed", "answered with 401");
    assert!(world.product.stop());
    let (report, success) = world.doctor_with(&[]);
    assert!(!success);
    expect(&report, "public_url", "failed", "start the service");
    expect(&report, "signature", "skipped", "does not lead to a running service");
}

#[test]
fn database_queue_and_key_are_tried() {
    let world = World::start();
    let (report, success) = world.doctor_with(&[("DATABASE__URL", "sqlite:///nowhere/at/all.db?mode=rwc")]);
    assert!(!success);
    expect(&report, "database", "failed", "database.url");
    expect(&report, "espocrm", "skipped", "cannot start");
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let (report, _) = world.doctor_with(&[("SECURITY__ENCRYPTION_KEY", key)]);
    expect(&report, "encryption_key", "failed", "the Microsoft token of the user");
    let (report, _) = world.doctor_with(&[("SECURITY__ENCRYPTION_KEY_FILE", "/nowhere/at/all.key")]);
    expect(&report, "encryption_key", "failed", "/nowhere/at/all.key");
    let (report, success) = world.doctor_with(&[("WORKER__CONCURRENCY", "many")]);
    assert!(!success);
    expect(&report, "configuration", "failed", "worker.concurrency");
    // Somebody else holds what is to be written and does not end: neither database nor queue take anything.
    let holder = world.closed_to_writers();
    let report = world.doctor();
    expect(&report, "database", "failed", "cannot be written");
    expect(&report, "queue", "failed", "takes no messages");
    world.wait_for(async { holder.close().await.unwrap() });
    expect(&world.doctor(), "database", "ok", "can be written");
}

#[test]
fn what_was_received_and_cannot_be_read_is_told_of_and_keeps_nobody_waiting() {
    let world = World::start();
    world.wait_for(world.database.execute("INSERT INTO inbox (received, count, hints) VALUES (0, 1, 'no JSON')"));
    world.pair("Beside it", json!({}));
    world.settle();
    let report = world.doctor();
    expect(&report, "queue", "warning", "1 received messages could not be read");
    assert_eq!(world.metric("queue_depth", ""), 0.0);
}

#[test]
fn a_database_that_lacks_migrations_is_left_as_it_is() {
    let world = World::start();
    let mut env = world.product.env.clone();
    let folder = tempfile::tempdir().unwrap();
    env.insert("DATABASE__URL".to_owned(), format!("sqlite://{}/fresh.db?mode=rwc", folder.path().display()));
    let (report, _) = run(&env, folder.path());
    expect(&report, "database", "warning", "no schema yet");
    expect(&report, "espocrm", "ok", "");
}

#[test]
fn the_layout_is_changed_on_request_only_and_once() {
    let world = Setup::default().admin_account().start();
    let shown = |what: &str| {
        let admin = world.espo.admin();
        let (user, password) = (admin.user_name, admin.password);
        let url = format!("{}/api/v1/{what}/layout/detail", world.espo.url().unwrap());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        world.wait_for(async move {
            let request = client.get(url).basic_auth(user, Some(password)).header("X-Simulator-Person", "1");
            request.send().await.unwrap().text().await.unwrap().matches("cSyncWithOutlook").count()
        })
    };
    let steps = |args: &[&str]| {
        let done = world.product.command(args);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let steps: Vec<Value> = serde_json::from_slice(&done.stdout).unwrap();
        let of_layouts = steps.into_iter().filter(|step| step["what"].as_str().unwrap().contains("layout"));
        of_layouts.map(|step| step["done"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(steps(&["setup", "espocrm", "--json"]).is_empty());
    assert_eq!([shown("Meeting"), shown("Call"), shown("Task")], [0, 0, 0]);
    assert_eq!(steps(&["setup", "espocrm", "--layout", "--dry-run", "--json"]), ["created"; 3]);
    assert_eq!([shown("Meeting"), shown("Call"), shown("Task")], [0, 0, 0]);
    assert_eq!(steps(&["setup", "espocrm", "--layout", "--json"]), ["created"; 3]);
    assert_eq!([shown("Meeting"), shown("Call"), shown("Task")], [1, 1, 1]);
    assert_eq!(steps(&["setup", "espocrm", "--layout", "--json"]), ["present"; 3]);
    assert_eq!([shown("Meeting"), shown("Call"), shown("Task")], [1, 1, 1]);
}
