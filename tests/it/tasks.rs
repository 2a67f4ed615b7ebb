//! Tasks and Microsoft To Do: status, priority, dates in the mailbox's zone, lists.

use serde_json::{Value, json};

use crate::support::{Setup, World, at, day, espo, mail};

fn create(world: &World, name: &str, fields: Value) -> String {
    let mut body = json!({ "name": name, "assignedUserId": world.id("anna") });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let made = world.espo.write_as("anna", "POST", "Task", None, &body).unwrap();
    made["id"].as_str().unwrap().to_owned()
}

fn update(world: &World, id: &str, fields: Value) {
    world.espo.write_as("anna", "PUT", "Task", Some(id), &fields).unwrap();
}

fn record(world: &World, id: &str) -> Value {
    world.espo.get_record("Task", id).expect("the record is there")
}

fn task(world: &World, title: &str) -> Value {
    let find = || world.graph.person(&mail("anna")).tasks().into_iter().find(|task| task["title"] == title);
    world.eventually_some(&format!("a task '{title}' in To Do"), find)
}

fn patch(world: &World, title: &str, body: Value) {
    let id = task(world, title)["id"].as_str().unwrap().to_owned();
    world.person("anna").patch_task(&id, body).unwrap();
}

fn quiet(world: &World) {
    world.settle();
    let mark = world.mark();
    world.sync();
    world.settle();
    world.no_writes_since(mark);
    assert!(world.dead().is_empty(), "{:?}", world.dead());
}

#[test]
fn every_status_of_espocrm_has_one_in_to_do_and_does_not_come_back_changed() {
    let world = World::start();
    let pairs = [
        ("Not Started", "notStarted"),
        ("Started", "inProgress"),
        ("Completed", "completed"),
        ("Canceled", "completed"),
        ("Deferred", "deferred"),
    ];
    let ids = pairs.map(|(status, _)| create(&world, status, json!({ "status": status })));
    for (status, wanted) in pairs {
        assert_eq!(task(&world, status)["status"], wanted, "{status}");
    }
    world.settle();
    // An edit of something else in To Do says nothing of the status.
    for (status, _) in pairs {
        patch(&world, status, json!({ "body": { "contentType": "text", "content": "words" } }));
    }
    for (id, (status, _)) in ids.iter().zip(pairs) {
        world.eventually("the text is there", || record(&world, id)["description"] == "words");
        assert_eq!(record(&world, id)["status"], status);
    }
    patch(&world, "Canceled", json!({ "status": "inProgress" }));
    world.eventually("it was reopened", || record(&world, &ids[3])["status"] == "Started");
    world.settle();
    // What looks the same in To Do is not written there.
    let mark = world.mark();
    update(&world, &ids[2], json!({ "status": "Canceled" }));
    world.settle();
    world.no_writes_since(mark);
    quiet(&world);
}

#[test]
fn a_task_that_waits_for_others_is_deferred_in_espocrm_and_goes_on_waiting_in_to_do() {
    let world = World::start();
    let due = json!({ "dateTime": format!("{}T00:00:00", day(4)), "timeZone": "UTC" });
    let body = json!({ "title": "Waits", "status": "waitingOnOthers", "dueDateTime": due });
    world.person("anna").create_task(body).unwrap();
    let find = || world.espo.records("Task").into_iter().find(|record| record["name"] == "Waits");
    let made = world.eventually_some("the record", find);
    assert_eq!(made["status"], "Deferred");
    world.settle();
    update(&world, made["id"].as_str().unwrap(), json!({ "name": "Still waits" }));
    assert_eq!(task(&world, "Still waits")["status"], "waitingOnOthers");
    quiet(&world);
    assert_eq!(task(&world, "Still waits")["status"], "waitingOnOthers");
}

#[test]
fn urgent_is_high_in_to_do_and_does_not_come_back_as_high() {
    let world = World::start();
    let words = [("Low", "low"), ("Normal", "normal"), ("High", "high"), ("Urgent", "high")];
    let ids = words.map(|(word, _)| create(&world, word, json!({ "priority": word })));
    for (word, wanted) in words {
        assert_eq!(task(&world, word)["importance"], wanted, "{word}");
    }
    world.settle();
    patch(&world, "Urgent", json!({ "status": "inProgress" }));
    world.eventually("it is started", || record(&world, &ids[3])["status"] == "Started");
    assert_eq!(record(&world, &ids[3])["priority"], "Urgent");
    patch(&world, "Urgent", json!({ "importance": "low" }));
    world.eventually("it is low", || record(&world, &ids[3])["priority"] == "Low");
    quiet(&world);
}

#[test]
fn a_due_time_is_the_date_in_the_mailboxs_zone_and_survives_edits_in_to_do() {
    let setup = Setup::default().zone("anna", "Line Islands Standard Time");
    let world = setup.start();
    // Noon UTC is two o'clock of the next day there.
    let id = create(&world, "Due", json!({ "dateEnd": espo(at(5, 12)) }));
    let date =
        |title: &str| task(&world, title)["dueDateTime"]["dateTime"].as_str().unwrap_or_default()[..10].to_owned();
    assert_eq!(date("Due"), day(6));
    world.settle();
    patch(&world, "Due", json!({ "title": "Due still" }));
    world.eventually("the title is there", || record(&world, &id)["name"] == "Due still");
    assert_eq!(record(&world, &id)["dateEnd"], espo(at(5, 12)));
    // Another hour of the same day there changes nothing in To Do.
    let mark = world.mark();
    update(&world, &id, json!({ "dateEnd": espo(at(5, 20)) }));
    world.settle();
    world.no_writes_since(mark);
    // Another day in To Do is a date in EspoCRM.
    patch(
        &world,
        "Due still",
        json!({ "dueDateTime": { "dateTime": format!("{}T00:00:00", day(9)), "timeZone": "UTC" } }),
    );
    world.eventually("the date is there", || record(&world, &id)["dateEndDate"] == day(9));
    quiet(&world);
    assert_eq!(record(&world, &id)["dateEndDate"], day(9));
}

#[test]
fn due_and_start_dates_come_and_go_on_both_sides() {
    let world = World::start();
    let id = create(&world, "Dates", json!({}));
    let of = |name: &str| task(&world, "Dates")[name]["dateTime"].as_str().map(|text| text[..10].to_owned());
    assert_eq!(of("dueDateTime"), None);
    let on = |days: i64| json!({ "dateTime": format!("{}T00:00:00", day(days)), "timeZone": "UTC" });
    patch(&world, "Dates", json!({ "dueDateTime": on(5), "startDateTime": on(3) }));
    let dates = || (record(&world, &id)["dateStartDate"].clone(), record(&world, &id)["dateEndDate"].clone());
    world.eventually("both are there", || dates() == (day(3).into(), day(5).into()));
    world.settle();
    patch(&world, "Dates", json!({ "dueDateTime": null }));
    world.eventually("the due date is gone", || dates() == (day(3).into(), Value::Null));
    world.settle();
    update(&world, &id, json!({ "dateStartDate": null, "dateStart": null, "dateEndDate": day(8) }));
    world.eventually("To Do follows", || (of("startDateTime"), of("dueDateTime")) == (None, Some(day(8))));
    quiet(&world);
}

#[test]
fn only_the_default_list_takes_part_unless_another_is_chosen() {
    let world = World::start();
    let lists = world.person("anna").lists();
    let (other, _) = lists.get(1).expect("flagged e-mails");
    world.person("anna").create_task_in(other, json!({ "title": "A flagged mail" })).unwrap();
    world.person("anna").create_task(json!({ "title": "Mine" })).unwrap();
    let names = || world.espo.records("Task").iter().map(|record| record["name"].clone()).collect::<Vec<_>>();
    world.eventually("the task is in EspoCRM", || names() == ["Mine"]);
    world.sync();
    quiet(&world);
    assert_eq!(names(), ["Mine"]);
}
