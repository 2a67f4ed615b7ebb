//! Tasks and Microsoft To Do: status, priority, dates in the mailbox's zone, lists.

use serde_json::{Value, json};

use crate::support::{Setup, World, at, day, espo};

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
    let ids = pairs.map(|(status, _)| world.make("Task", "anna", status, json!({ "status": status })));
    for (status, wanted) in pairs {
        assert_eq!(world.one_task(status)["status"], wanted, "{status}");
    }
    world.settle();
    // An edit of something else in To Do says nothing of the status.
    for (status, _) in pairs {
        world.patch_task(status, json!({ "body": { "contentType": "text", "content": "words" } }));
    }
    for (id, (status, _)) in ids.iter().zip(pairs) {
        world.eventually("the text is there", || world.record_of("Task", id)["description"] == "words");
        assert_eq!(world.record_of("Task", id)["status"], status);
    }
    world.patch_task("Canceled", json!({ "status": "inProgress" }));
    world.eventually("it was reopened", || world.record_of("Task", &ids[3])["status"] == "Started");
    world.settle();
    // What looks the same in To Do is not written there.
    let mark = world.mark();
    world.change("Task", &ids[2], json!({ "status": "Canceled" }));
    world.settle();
    world.no_writes_since(mark);
    world.is_at_rest();
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
    world.change("Task", made["id"].as_str().unwrap(), json!({ "name": "Still waits" }));
    assert_eq!(world.one_task("Still waits")["status"], "waitingOnOthers");
    world.is_at_rest();
    assert_eq!(world.one_task("Still waits")["status"], "waitingOnOthers");
}

#[test]
fn urgent_is_high_in_to_do_and_does_not_come_back_as_high() {
    let world = World::start();
    let words = [("Low", "low"), ("Normal", "normal"), ("High", "high"), ("Urgent", "high")];
    let ids = words.map(|(word, _)| world.make("Task", "anna", word, json!({ "priority": word })));
    for (word, wanted) in words {
        assert_eq!(world.one_task(word)["importance"], wanted, "{word}");
    }
    world.settle();
    world.patch_task("Urgent", json!({ "status": "inProgress" }));
    world.eventually("it is started", || world.record_of("Task", &ids[3])["status"] == "Started");
    assert_eq!(world.record_of("Task", &ids[3])["priority"], "Urgent");
    world.patch_task("Urgent", json!({ "importance": "low" }));
    world.eventually("it is low", || world.record_of("Task", &ids[3])["priority"] == "Low");
    world.is_at_rest();
}

#[test]
fn a_due_time_is_the_date_in_the_mailboxs_zone_and_survives_edits_in_to_do() {
    let setup = Setup::default().zone("anna", "Line Islands Standard Time");
    let world = setup.start();
    // Noon UTC is two o'clock of the next day there.
    let id = world.make("Task", "anna", "Due", json!({ "dateEnd": espo(at(5, 12)) }));
    let date =
        |title: &str| world.one_task(title)["dueDateTime"]["dateTime"].as_str().unwrap_or_default()[..10].to_owned();
    assert_eq!(date("Due"), day(6));
    world.settle();
    world.patch_task("Due", json!({ "title": "Due still" }));
    world.eventually("the title is there", || world.record_of("Task", &id)["name"] == "Due still");
    assert_eq!(world.record_of("Task", &id)["dateEnd"], espo(at(5, 12)));
    // Another hour of the same day there changes nothing in To Do.
    let mark = world.mark();
    world.change("Task", &id, json!({ "dateEnd": espo(at(5, 20)) }));
    world.settle();
    world.no_writes_since(mark);
    // Another day in To Do is a date in EspoCRM.
    world.patch_task(
        "Due still",
        json!({ "dueDateTime": { "dateTime": format!("{}T00:00:00", day(9)), "timeZone": "UTC" } }),
    );
    world.eventually("the date is there", || world.record_of("Task", &id)["dateEndDate"] == day(9));
    world.is_at_rest();
    assert_eq!(world.record_of("Task", &id)["dateEndDate"], day(9));
}

#[test]
fn due_and_start_dates_come_and_go_on_both_sides() {
    let world = World::start();
    let id = world.make("Task", "anna", "Dates", json!({}));
    let of = |name: &str| world.one_task("Dates")[name]["dateTime"].as_str().map(|text| text[..10].to_owned());
    assert_eq!(of("dueDateTime"), None);
    let on = |days: i64| json!({ "dateTime": format!("{}T00:00:00", day(days)), "timeZone": "UTC" });
    world.patch_task("Dates", json!({ "dueDateTime": on(5), "startDateTime": on(3) }));
    let dates =
        || (world.record_of("Task", &id)["dateStartDate"].clone(), world.record_of("Task", &id)["dateEndDate"].clone());
    world.eventually("both are there", || dates() == (day(3).into(), day(5).into()));
    world.settle();
    world.patch_task("Dates", json!({ "dueDateTime": null }));
    world.eventually("the due date is gone", || dates() == (day(3).into(), Value::Null));
    world.settle();
    world.change("Task", &id, json!({ "dateStartDate": null, "dateStart": null, "dateEndDate": day(8) }));
    world.eventually("To Do follows", || (of("startDateTime"), of("dueDateTime")) == (None, Some(day(8))));
    world.is_at_rest();
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
    world.is_at_rest();
    assert_eq!(names(), ["Mine"]);
}

#[test]
fn a_chosen_list_takes_part_by_its_name_and_the_default_one_does_not() {
    let world = Setup::default().bound(&[]).start();
    let lists = world.person("anna").lists();
    let binding = format!("/users/{}/binding", world.id("anna"));
    world.put(&binding, &json!({ "todo_list": lists[1].1 }));
    world.bind("anna");
    world.person("anna").create_task(json!({ "title": "In the default list" })).unwrap();
    world.person("anna").create_task_in(&lists[1].0, json!({ "title": "In the chosen one" })).unwrap();
    let id = world.make("Task", "anna", "From EspoCRM", json!({}));
    assert_eq!(world.one_task("From EspoCRM")["listId"], lists[1].0.as_str());
    let names = || {
        let mut names: Vec<String> =
            world.espo.records("Task").iter().map(|t| t["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    world.eventually("both are in EspoCRM", || names() == ["From EspoCRM", "In the chosen one"]);
    world.is_at_rest();
    assert_eq!(names(), ["From EspoCRM", "In the chosen one"]);
    world.patch_task("From EspoCRM", json!({ "status": "completed" }));
    world.eventually("it is done", || world.record_of("Task", &id)["status"] == "Completed");
}

#[test]
fn a_task_that_repeats_keeps_its_due_date_says_so_and_everything_else_travels() {
    let world = World::start();
    let on = |days: i64| json!({ "dateTime": format!("{}T00:00:00", day(days)), "timeZone": "UTC" });
    let weekly =
        json!({ "pattern": { "type": "daily", "interval": 3 }, "range": { "type": "noEnd", "startDate": day(5) } });
    world.person("anna").create_task(json!({ "title": "Water", "dueDateTime": on(5), "recurrence": weekly })).unwrap();
    let made = world.eventually_some("the record", || world.espo.records("Task").into_iter().next());
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!(made["dateEndDate"], day(5));
    world.settle();
    let none = json!({ "dateEnd": null, "dateEndDate": null });
    world.change("Task", &id, none.clone());
    world.is_at_rest();
    let due = || world.person("anna").tasks()[0]["dueDateTime"]["dateTime"].as_str().map(|at| at[..10].to_owned());
    assert_eq!(due(), Some(day(5)));
    assert!(world.reasons("task", &id).contains("repeats"), "{}", world.reasons("task", &id));
    // Alone, together with the date, and from the other side.
    world.change("Task", &id, json!({ "name": "Water the plants" }));
    assert_eq!(world.one_task("Water the plants")["dueDateTime"]["dateTime"].as_str().unwrap()[..10], day(5));
    world.settle();
    world.change("Task", &id, json!({ "dateStartDate": day(3), "priority": "High" }));
    world.eventually("both are there", || {
        let task = world.one_task("Water the plants");
        task["importance"] == "high" && task["startDateTime"]["dateTime"].as_str().is_some_and(|at| at[..10] == day(3))
    });
    world.settle();
    assert_eq!(due(), Some(day(5)));
    world.patch_task("Water the plants", json!({ "status": "inProgress" }));
    world.eventually("it is started", || world.record_of("Task", &id)["status"] == "Started");
    world.is_at_rest();
    assert_eq!(world.record_of("Task", &id)["dateEndDate"], Value::Null, "it has none in EspoCRM");
    // Whichever side names a date next is followed.
    world.change("Task", &id, json!({ "dateEndDate": day(8) }));
    world.eventually("a date from EspoCRM", || due() == Some(day(8)));
    world.settle();
    world.change("Task", &id, none);
    world.settle();
    world.patch_task("Water the plants", json!({ "dueDateTime": on(11) }));
    world.eventually("a date from To Do", || world.record_of("Task", &id)["dateEndDate"] == day(11));
    world.is_at_rest();
    assert!(!world.reasons("task", &id).contains("repeats"));
}

#[test]
fn a_task_takes_part_from_the_start_date_by_when_it_is_due_or_else_by_when_it_was_made() {
    let world = Setup::default().sync_from(-2).start();
    world.make("Task", "anna", "Due before", json!({ "dateEnd": espo(at(-5, 9)) }));
    world.make("Task", "anna", "Due after", json!({ "dateEnd": espo(at(1, 9)) }));
    world.make("Task", "anna", "Made today", json!({}));
    world.one_task("Due after");
    world.one_task("Made today");
    world.is_at_rest();
    let titles: Vec<String> = world.person("anna").tasks().iter().map(|task| task["title"].to_string()).collect();
    assert_eq!(titles.len(), 2, "{titles:?}");
}
