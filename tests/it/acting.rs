//! As whom EspoCRM is written.

use serde_json::{Value, json};

use crate::support::{Setup, World};

fn author(record: &Value, of: &str) -> String {
    record[of].as_str().unwrap_or_default().to_owned()
}

/// Anna may do what her role says with meetings.
fn may(world: &World, create: &str, edit: &str) {
    let levels = |create: &str, edit: &str| json!({ "create": create, "read": "all", "edit": edit, "delete": "all", "stream": "all" });
    let all = levels("yes", "all");
    let scopes = json!({ "Meeting": levels(create, edit), "Call": all, "Task": all, "Contact": all, "Lead": all, "User": { "read": "all" } });
    world.espo.set_role("role-anna", &scopes, "all");
    world.espo.assign_role("anna", "role-anna");
}

#[test]
fn with_an_administrators_account_what_comes_from_outlook_is_written_as_its_owner() {
    let world = Setup::default().bound(&["anna", "boris"]).admin_account().start();
    for (user, subject) in [("anna", "Hers"), ("boris", "His")] {
        let event = world.outlook_create(user, subject, json!({}));
        let record = world.one_record(subject);
        assert_eq!(author(&record, "createdById"), world.id(user));
        world.settle();
        let later = format!("{subject}, edited");
        world.outlook_update(user, &event, json!({ "subject": later }));
        assert_eq!(author(&world.one_record(&later), "modifiedById"), world.id(user));
        world.person(user).create_task(json!({ "title": subject })).unwrap();
        let find = || world.espo.records("Task").into_iter().find(|task| task["name"] == subject);
        assert_eq!(author(&world.eventually_some("the task", find), "createdById"), world.id(user));
    }
}

#[test]
fn without_an_administrators_account_it_is_written_as_the_api_user() {
    let world = World::start();
    world.outlook_create("anna", "Hers", json!({}));
    let record = world.one_record("Hers");
    assert_ne!(author(&record, "createdById"), world.id("anna"));
    assert_eq!(author(&record, "assignedUserId"), world.id("anna"));
}

#[test]
fn what_the_owner_may_not_write_is_written_as_the_api_user_and_said() {
    let world = Setup::default().admin_account().start();
    may(&world, "no", "no");
    let event = world.outlook_create("anna", "Hers", json!({}));
    let record = world.one_record("Hers");
    let maker = author(&record, "createdById");
    assert_ne!(maker, world.id("anna"));
    assert_eq!(author(&record, "assignedUserId"), world.id("anna"));
    world.settle();
    assert!(world.product.log().contains("acted as the API user, because anna may not"), "nothing is said");
    world.outlook_update("anna", &event, json!({ "subject": "Hers, edited" }));
    assert_eq!(author(&world.one_record("Hers, edited"), "modifiedById"), maker);
    world.is_at_rest();
    // As soon as the role allows it, it is the owner again.
    may(&world, "yes", "all");
    world.outlook_update("anna", &event, json!({ "subject": "Hers, allowed" }));
    assert_eq!(author(&world.one_record("Hers, allowed"), "modifiedById"), world.id("anna"));
    world.outlook_create("anna", "Another", json!({}));
    assert_eq!(author(&world.one_record("Another"), "createdById"), world.id("anna"));
}

#[test]
fn without_an_administrators_account_a_reminder_reaches_outlook_as_far_as_webhooks_show_it() {
    let world = World::start();
    let reminders = |minutes: u32| json!([{ "type": "Popup", "seconds": minutes * 60 }]);
    let id = world.espo_create("anna", "Reminded", json!({ "reminders": reminders(10) }));
    let event = world.one_event("anna", "Reminded")["id"].as_str().unwrap().to_owned();
    let shown = || {
        let event = world.event("anna", &event);
        (event["isReminderOn"] == true).then(|| event["reminderMinutesBeforeStart"].as_u64()).flatten()
    };
    world.eventually("the reminder of the creation is in Outlook", || shown() == Some(10));
    let (late, its_event) = world.pair("Reminded later", json!({}));
    world.settle();
    world.espo.write_as("anna", "PUT", "Meeting", Some(&late), &json!({ "reminders": reminders(20) })).unwrap();
    world.eventually("a first reminder is in Outlook", || {
        world.event("anna", &its_event)["reminderMinutesBeforeStart"] == 20
    });
    let edit = |fields: Value| drop(world.espo.write_as("anna", "PUT", "Meeting", Some(&id), &fields).unwrap());
    edit(json!({ "reminders": reminders(30) }));
    world.eventually("another reminder is in Outlook", || shown() == Some(30));
    // What we write ourselves shows what the API user sees: nothing.
    world.outlook_update("anna", &event, json!({ "subject": "Renamed" }));
    world.one_record("Renamed");
    world.settle();
    world.sync();
    world.settle();
    assert_eq!(shown(), Some(30), "a webhook of ours or a sweep took it away");
    // What EspoCRM cannot be told stays as it is in Outlook, whatever else is edited.
    world.outlook_update("anna", &event, json!({ "reminderMinutesBeforeStart": 45 }));
    world.settle();
    edit(json!({ "name": "Renamed again" }));
    world.one_event("anna", "Renamed again");
    world.is_at_rest();
    assert_eq!(shown(), Some(45), "an edit of the title took the reminder back");
    edit(json!({ "reminders": [] }));
    world.eventually("no reminder is in Outlook any more", || shown().is_none());
    assert!(world.dead().is_empty(), "{:?}", world.dead());
}
