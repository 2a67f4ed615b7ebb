//! Nobody fights: what is in step is left in peace.

use serde_json::json;

use crate::support::{Setup, World};

/// Requests to either side that are not the polls.
fn stray(world: &World, mark: (usize, usize)) -> Vec<String> {
    let polls = |method: &str, path: &str| {
        let lists = ["Meeting?", "Call?", "Task?"].iter().any(|kind| path.contains(kind));
        method == "GET" && (path.contains("delta") || (lists && path.contains("modifiedAt")))
    };
    let espo = world.espo.wire().since(mark.0);
    let graph = world.graph.wire().since(mark.1);
    let rows = espo.into_iter().chain(graph).filter(|row| !polls(&row.method, &row.path));
    rows.map(|row| format!("{} {}", row.method, row.path)).collect()
}

#[test]
fn after_everything_has_settled_only_the_polls_go_on() {
    let setup = Setup::default().bound(&["anna", "boris"]);
    let world = setup.seeds(|espo, _| espo.add_field("Meeting", "cLocation", "varchar", &json!(null))).start();
    let people = json!([world.id("anna"), world.id("boris")]);
    let rich = json!({ "description": "a\n\n- b\n- c <d> & \"e\"\n", "usersIds": people, "cLocation": " Room 1 " });
    let (id, _) = world.pair("From EspoCRM", rich);
    let html = json!({ "body": { "contentType": "html", "content": "<div>one<br>two</div><ul><li>x</li></ul>" },
        "attendees": [world.attendee("nina@new.example", "Nina Novak")], "location": { "displayName": "Hall" },
        "start": crate::support::graph_time(crate::support::at(8, 10)), "end": crate::support::graph_time(crate::support::at(8, 11)) });
    world.outlook_create("anna", "From Outlook", html);
    world.one_record("From Outlook");
    world.settle();
    world.espo_update(&id, json!({ "name": "From EspoCRM, edited" }));
    world.one_event("anna", "From EspoCRM, edited");
    world.settle();
    let mark = world.mark();
    world.never("a request that is no poll", 3, || !stray(&world, mark).is_empty());
    world.sync();
    world.settle();
    world.no_writes_since(mark);
}

#[test]
fn without_subscriptions_only_the_polls_go_on() {
    let world = Setup::default().unreachable().start();
    world.pair("Polled", json!({ "description": "text" }));
    let mark = world.mark();
    world.never("a request that is no poll", 3, || !stray(&world, mark).is_empty());
}

#[test]
fn exchange_touching_an_item_for_its_own_reasons_writes_nothing() {
    let world = World::start();
    let (_, event) = world.pair("Touched", json!({}));
    let mark = world.mark();
    world.person("anna").touch_event(&event).unwrap();
    world.settle();
    world.no_writes_since(mark);
}

#[test]
fn notifications_that_come_thrice_and_shuffled_do_what_one_does() {
    let world = World::start();
    world.graph.set_notifications(simulators::microsoft::Mode::Normal, 3, true, std::time::Duration::from_millis(30));
    for n in 0..4 {
        let event = world.outlook_create("anna", &format!("Copy {n}"), json!({}));
        world.outlook_update("anna", &event, json!({ "subject": format!("Copy {n}, edited") }));
    }
    for n in 0..4 {
        world.one_record(&format!("Copy {n}, edited"));
    }
    world.settle();
    assert_eq!(world.espo.records("Meeting").len(), 4);
}

#[test]
fn records_of_the_same_title_and_time_stay_two() {
    let world = World::start();
    let event = world.outlook_create("anna", "Twins", json!({}));
    world.one_record("Twins");
    world.settle();
    let second = world.outlook_create("anna", "Twins", json!({}));
    world.eventually("a record for each", || world.records("Twins").len() == 2);
    world.settle();
    assert_eq!((world.records("Twins").len(), world.events("anna", "Twins").len()), (2, 2));
    world.person("anna").delete_event(&second).unwrap();
    world.eventually("one of them goes", || world.records("Twins").len() == 1);
    world.settle();
    assert_eq!(world.one_event("anna", "Twins")["id"], event.as_str());
}
