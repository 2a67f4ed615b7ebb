//! The whole service on RabbitMQ: what people do, and what happens to brokers.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simulators::espocrm::signatures;

use crate::support::{Server, Setup, World, broker_url, without_broker, without_servers};

fn setup() -> Setup {
    Setup::default().broker(&broker_url())
}

/// A delivery of EspoCRM about a record that it does not have: the status, and how long the answer took.
fn deliver(world: &World, n: usize) -> (u16, Duration) {
    let hooks = world.espo.webhooks();
    let hook = hooks.iter().find(|hook| hook["event"] == "Meeting.update").unwrap();
    let body = format!(r#"[{{"id":"65a0f0c0{n:09x}","name":"x"}}]"#).into_bytes();
    let (id, secret) = (hook["id"].as_str().unwrap(), hook["secretKey"].as_str().unwrap());
    let (current, legacy) = signatures(id, secret, &body);
    let headers = [("Signature", current.as_str()), ("X-Signature", &legacy), ("Content-Type", "application/json")];
    let sent = Instant::now();
    let (status, _, _) = world.http("POST", "/webhooks/espocrm", &headers, Some(body));
    (status, sent.elapsed())
}

/// Several deliveries are refused, and not after the time for which a sender is kept waiting: the quickest of them tells, as
/// the machine may be busy.
fn refused_at_once(world: &World, from: usize) {
    let answers: Vec<(u16, Duration)> = (from..from + 5).map(|n| deliver(world, n)).collect();
    let quickest = answers.iter().map(|(_, took)| *took).min().unwrap();
    assert!(answers.iter().all(|(status, _)| *status == 503) && quickest < Duration::from_secs(2), "{answers:?}");
}

fn queue_state(world: &World) -> (u16, String, String) {
    let (status, body) = world.readiness();
    let part = &body["parts"]["queue"];
    let text = |name: &str| part[name].as_str().unwrap_or_default().to_owned();
    (status, text("state"), text("detail"))
}

fn lives_and_dies(world: &World) {
    let (record, event) = world.pair("Made in EspoCRM", json!({}));
    world.espo_update(&record, json!({ "name": "Renamed in EspoCRM" }));
    world.eventually("it is renamed in Outlook", || world.event("anna", &event)["subject"] == "Renamed in EspoCRM");
    world.settle();
    world.outlook_update("anna", &event, json!({ "subject": "Renamed in Outlook" }));
    world.eventually("it is renamed in EspoCRM", || world.record(&record)["name"] == "Renamed in Outlook");
    let other = world.outlook_create("anna", "Made in Outlook", json!({}));
    let made = world.one_record("Made in Outlook")["id"].as_str().unwrap().to_owned();
    world.settle();
    world.person("anna").delete_event(&other).unwrap();
    world.eventually("the record is gone", || world.espo.get_record("Meeting", &made).is_none());
    world.espo_delete(&record);
    world.eventually("the event is gone", || world.person("anna").event(&event).is_none());
    world.settle();
    let mark = world.mark();
    world.sync();
    world.settle();
    world.no_writes_since(mark);
    let causes: Vec<Value> =
        world.items("/messages?limit=500").into_iter().map(|message| message["source"].clone()).collect();
    assert!(causes.contains(&json!("webhook")) && causes.contains(&json!("notification")), "{causes:?}");
    assert!(world.dead().is_empty(), "{:?}", world.dead());
    assert!(world.metric("queue_moved_total", "") > 0.0, "nothing came through the broker");
    assert_eq!(queue_state(world).1, "ok");
}

#[test]
fn meetings_are_made_changed_and_deleted_both_ways() {
    if !without_broker() {
        lives_and_dies(&setup().start());
    }
}

#[test]
fn so_it_is_in_three_processes_on_a_database_server() {
    if without_broker() || without_servers() {
        return;
    }
    let world = setup().processes(&["receiver", "worker", "worker,scheduler"]).env("SERVER__SILENCE", "5s").start();
    let (record, event) = world.pair("Made in EspoCRM", json!({}));
    world.outlook_update("anna", &event, json!({ "subject": "Renamed in Outlook" }));
    world.eventually("it is renamed in EspoCRM", || world.record(&record)["name"] == "Renamed in Outlook");
    world.settle();
    assert_eq!(world.queues().waiting(&world.queues().changes()), 0);
}

#[test]
fn a_broker_that_is_killed_and_restarted_under_load_loses_and_doubles_nothing() {
    if without_broker() {
        return;
    }
    let server = Server::broker();
    let world = Setup::default().broker(&server.url).start();
    let mut count = 0;
    let load = |world: &World, count: &mut usize, n: usize| {
        for _ in 0..n {
            *count += 1;
            world.espo_create("anna", &format!("E{count}"), json!({}));
            *count += 1;
            world.outlook_create("anna", &format!("O{count}"), json!({}));
        }
    };
    for _ in 0..2 {
        load(&world, &mut count, 6);
        server.kill();
        load(&world, &mut count, 4);
        world.eventually("readyz names the queue", || {
            let (status, state, detail) = queue_state(&world);
            status == 503 && state == "failed" && detail.contains("RabbitMQ")
        });
        refused_at_once(&world, count);
        server.start_again();
        world.eventually("it is ready again", || queue_state(&world).0 == 200);
        load(&world, &mut count, 2);
    }
    world.eventually("both sides agree", || {
        world.espo.records("Meeting").len() == count && world.person("anna").events().len() == count
    });
    world.settle_within(90);
    for n in 1..=count {
        let name = format!("{}{n}", if n % 2 == 1 { "E" } else { "O" });
        assert_eq!((world.records(&name).len(), world.events("anna", &name).len()), (1, 1), "{name}");
    }
    world.is_at_rest();
    // The broker is to go after those who use it.
    drop(world);
    drop(server);
}

#[test]
fn while_the_broker_blocks_publishing_deliveries_are_refused_at_once_and_then_it_goes_on() {
    if without_broker() {
        return;
    }
    let server = Server::broker();
    let world = Setup::default().broker(&server.url).start();
    let (record, event) = world.pair("Before", json!({}));
    server.control(&["set_vm_memory_high_watermark", "0.00000001"]);
    // The first one finds out.
    let mut n = 0;
    world.eventually("deliveries are refused", || {
        n += 1;
        deliver(&world, n).0 == 503
    });
    refused_at_once(&world, 100);
    let (status, state, detail) = queue_state(&world);
    assert_eq!((status, state.as_str()), (503, "failed"), "{detail}");
    assert!(detail.contains("blocked"), "{detail}");
    // What we find ourselves needs no broker.
    world.espo_update(&record, json!({ "name": "Meanwhile" }));
    world.eventually("the poll finds it", || world.event("anna", &event)["subject"] == "Meanwhile");
    let said = doctor(&world);
    assert!(said.contains("blocked publishing"), "{said}");
    server.control(&["set_vm_memory_high_watermark", "absolute", "1GB"]);
    world.eventually("it is ready again", || queue_state(&world).0 == 200);
    assert_eq!(deliver(&world, 200).0, 200);
    world.settle();
    drop(world);
    drop(server);
}

fn doctor(world: &World) -> String {
    String::from_utf8_lossy(&world.product.command(&["doctor"]).stdout).into_owned()
}

#[test]
fn without_a_broker_it_starts_says_what_is_missing_and_begins_by_itself_once_there_is_one() {
    if without_broker() {
        return;
    }
    let server = Server::broker();
    server.kill();
    let mut world = Setup::default().broker(&server.url).prepare();
    world.product.start();
    world.eventually("it answers", || world.answers());
    world.eventually("it has tried", || queue_state(&world).2.contains("cannot be reached"));
    let (status, state, detail) = queue_state(&world);
    assert_eq!((status, state.as_str()), (503, "failed"));
    assert!(detail.contains("queue.url"), "{detail}");
    assert_eq!(world.http("GET", "/healthz", &[], None).0, 200);
    let said = doctor(&world);
    assert!(said.contains("check that it runs, and queue.url"), "{said}");
    server.start_again();
    world.eventually("it is ready", || queue_state(&world).0 == 200);
    world.set_up(&["anna"]);
    world.pair("After all", json!({}));
    drop(world);
    drop(server);
}

#[test]
fn a_wrong_password_or_virtual_host_is_said_with_its_remedy_and_the_password_is_not() {
    if without_broker() {
        return;
    }
    let good = broker_url();
    let (_, place) = good.split_once('@').unwrap();
    let (host, _) = place.split_once('/').unwrap();
    for (url, says) in [
        (format!("amqp://guest:hush-hush@{host}/%2f"), "check user and password in queue.url"),
        (format!("amqp://guest:guest@{host}/nowhere"), "rabbitmqctl add_vhost nowhere"),
    ] {
        let mut world = Setup::default().env("QUEUE__URL", &url).env("QUEUE__PREFIX", "it-none").prepare();
        world.product.start();
        world.eventually("it answers", || world.answers());
        world.eventually("readyz says what is wrong", || queue_state(&world).2.contains(says));
        let said = doctor(&world);
        assert!(said.contains(says), "{said}");
        for text in [said, world.product.log(), world.readiness().1.to_string()] {
            assert!(!text.contains("hush-hush"), "{text}");
        }
    }
}

#[test]
fn a_user_that_lacks_rights_is_said_with_the_remedy_and_works_once_it_has_them() {
    if without_broker() {
        return;
    }
    let server = Server::broker();
    let (_, place) = server.url.split_once('@').unwrap();
    server.control(&["add_user", "weak", "hush-hush"]);
    server.control(&["set_permissions", "-p", "/", "weak", "^$", "^$", "^$"]);
    let url = format!("amqp://weak:hush-hush@{place}");
    let mut world = Setup::default().env("QUEUE__URL", &url).env("QUEUE__PREFIX", "it-weak").prepare();
    world.product.start();
    world.eventually("it answers", || world.answers());
    let says = "it has to configure, write and read the queues that begin with queue.prefix, and to write amq.default";
    world.eventually("readyz says what is missing", || queue_state(&world).2.contains(says));
    let said = doctor(&world);
    assert!(said.contains("does not let `weak` do that") && said.contains(says), "{said}");
    assert!(![said, world.product.log()].iter().any(|text| text.contains("hush-hush")));
    // What is said to be enough is given, and no more.
    let (own, write) = (r"^it-weak\.", r"^(it-weak\..*|amq\.default)$");
    server.control(&["set_permissions", "-p", "/", "weak", own, write, own]);
    world.eventually("it is ready", || queue_state(&world).0 == 200);
    world.set_up(&["anna"]);
    world.pair("With rights", json!({}));
    drop(world);
    drop(server);
}

#[test]
fn over_tls_a_certificate_that_the_machine_trusts_is_asked_for() {
    if without_broker() {
        return;
    }
    let (server, encrypted, root) = Server::broker_with_tls();
    let setup = || Setup::default().env("QUEUE__URL", &encrypted).env("QUEUE__PREFIX", "it-tls");
    {
        let mut world = setup().prepare();
        world.product.start();
        world.eventually("it answers", || world.answers());
        let says = "amqps:// needs a certificate that this machine trusts";
        world.eventually("readyz says what is wrong", || queue_state(&world).2.contains(says));
        assert!(doctor(&world).contains(says));
    }
    let world = setup().env("SSL_CERT_FILE", &root).start();
    world.pair("Encrypted", json!({}));
    assert_eq!(deliver(&world, 1).0, 200);
    world.settle();
    drop(world);
    drop(server);
}

#[test]
fn a_queue_that_is_there_and_of_another_kind_is_said_and_is_ours_once_it_is_gone() {
    if without_broker() {
        return;
    }
    let mut world = setup().prepare();
    let queues = world.queues();
    queues.make_otherwise(&queues.changes());
    world.product.start();
    world.eventually("it answers", || world.answers());
    world.eventually("readyz says what is wrong", || queue_state(&world).2.contains("choose another queue.prefix"));
    assert!(doctor(&world).contains("exists in RabbitMQ with other properties"));
    let queues = world.queues();
    queues.delete(&queues.changes()).unwrap();
    world.eventually("it is ready", || queue_state(&world).0 == 200);
}

#[test]
fn an_address_of_something_else_is_refused_at_the_start_and_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    for url in ["redis://me:hush@localhost", "amqp://me:hush@localhost:port"] {
        let env = [("QUEUE__URL".to_owned(), url.to_owned())].into();
        let done = crate::support::command(&["serve"], &env, folder.path());
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && said.contains("queue.url") && said.contains("amqp://"), "{said}");
        assert!(!said.contains("hush"), "{said}");
    }
}

#[test]
fn a_message_that_nobody_can_read_is_named_everywhere_and_can_be_put_back() {
    if without_broker() {
        return;
    }
    let world = setup().start();
    let queues = world.queues();
    queues.put(&queues.changes(), b"nonsense");
    queues.put(&queues.changes(), br#"{"version":2,"changes":[{}]}"#);
    world.eventually("they are aside", || world.readiness().1["parts"]["queue"]["unreadable"] == 2);
    // They stand in nobody's way.
    world.pair("Beside them", json!({}));
    assert_eq!(world.metric("queue_unreadable", ""), 2.0);
    assert_eq!(world.metric("dead_letters", ""), 2.0);
    let said = doctor(&world);
    assert!(said.contains("could not be read") && said.contains(&queues.dead()), "{said}");
    // Put back, they are no better.
    let replayed = world.post("/messages/replay", &json!({ "state": "dead" }));
    assert_eq!(replayed["replayed"], 2);
    world.eventually("they are aside again", || world.readiness().1["parts"]["queue"]["unreadable"] == 2);
    let (properties, _) = queues.take(&queues.dead()).unwrap();
    assert!(properties.headers().as_ref().is_some_and(|headers| headers.contains_key("x-error")));
    queues.take(&queues.dead()).unwrap();
    world.eventually("there are none any more", || world.metric("dead_letters", "") == 0.0);
}

#[test]
fn while_the_database_is_away_a_receiver_takes_deliveries_over() {
    if without_broker() || without_servers() {
        return;
    }
    let server = Server::start();
    let world =
        setup().server(&server.url).processes(&["receiver", "worker,scheduler"]).env("SERVER__SILENCE", "5s").start();
    let (record, event) = world.pair("Before", json!({}));
    world.settle();
    server.kill();
    world.eventually("readyz names the database", || world.readiness().1["parts"]["database"]["state"] == "failed");
    let deliveries = (world.espo.deliveries().len(), world.graph.deliveries().len());
    world.espo_update(&record, json!({ "name": "Renamed meanwhile" }));
    world.outlook_create("anna", "Made meanwhile", json!({}));
    world.eventually("both are told", || {
        let (espo, graph) = (world.espo.deliveries(), world.graph.deliveries());
        espo.len() > deliveries.0 && graph.len() > deliveries.1
    });
    for n in 0..20 {
        // One that looked into the database would be told to come again.
        assert_eq!(deliver(&world, n).0, 200);
    }
    let refused = |status: u16| !(200..300).contains(&status);
    assert!(!world.espo.deliveries()[deliveries.0..].iter().any(|one| refused(one.status)));
    assert!(!world.graph.deliveries()[deliveries.1..].iter().any(|one| refused(one.status)));
    server.start_again();
    world.eventually("it arrives", || world.event("anna", &event)["subject"] == "Renamed meanwhile");
    world.one_record("Made meanwhile");
    world.settle_within(90);
    assert!(world.dead().is_empty(), "{:?}", world.dead());
    drop(world);
    drop(server);
}

#[test]
fn a_service_that_is_stopped_under_load_has_kept_everything_that_it_confirmed() {
    if without_broker() {
        return;
    }
    let mut world = setup().start();
    for round in 0..3 {
        for n in 0..5 {
            world.espo_create("anna", &format!("E{round}-{n}"), json!({}));
            world.outlook_create("anna", &format!("O{round}-{n}"), json!({}));
        }
        world.restart();
    }
    world.eventually("all are there", || {
        world.espo.records("Meeting").len() == 30 && world.person("anna").events().len() == 30
    });
    world.settle();
    assert_eq!((world.espo.records("Meeting").len(), world.person("anna").events().len()), (30, 30));
}
