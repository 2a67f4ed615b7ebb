//! A service that has been in use for some days: people in every state, changes of all kinds, and something of everything that
//! waits for somebody.

use chrono::Duration;
use sea_orm::{ActiveModelTrait as _, ConnectOptions, EntityTrait as _, IntoActiveModel as _, QueryOrder as _, Set};
use serde_json::{Value, json};
use simulators::espocrm::EspoSim;
use simulators::microsoft::GraphSim;
use simulators::plumbing::Fault;

use crate::support::{Setup, World, at, day, espo, graph_time, mail};

const PEOPLE: [(&str, &str); 6] = [
    ("anna", "Anna Albrecht"),
    ("boris", "Boris Berger"),
    ("carla", "Carla Conti"),
    ("david", "David Okafor"),
    ("emma", "Emma Lindqvist"),
    ("felix", "Felix Moreau"),
];

fn contacts(espo: &EspoSim, _: &GraphSim) {
    for (first, last, address) in [
        ("Dora", "Dietrich", "dora@fabrikam.example"),
        ("Hugo", "Hansen", "hugo@fabrikam.example"),
        ("Ines", "Ibarra", "ines@northwind.example"),
    ] {
        espo.seed("Contact", &json!({ "firstName": first, "lastName": last, "name": format!("{first} {last}"), "emailAddress": address }));
    }
    // David's first synchronisation would invite somebody.
    let david = espo.user_id("david").unwrap();
    let boris = espo.user_id("boris").unwrap();
    for (name, days) in
        [("Contract renewal with Northwind", 5), ("Onboarding of the new depot", 6), ("Pipeline review", 8)]
    {
        let users = if days == 8 { json!([david]) } else { json!([david, boris]) };
        espo.seed(
            "Meeting",
            &json!({
                "name": name, "status": "Planned", "assignedUserId": david, "usersIds": users,
                "dateStart": espo_time(days, 9), "dateEnd": espo_time(days, 10),
            }),
        );
    }
}

fn espo_time(days: i64, hour: u32) -> String {
    espo(at(days, hour))
}

/// Somebody's work of some days. Gives the id of the meeting that had a conflict.
pub fn lively() -> (World, String) {
    let names: Vec<&str> = PEOPLE.iter().map(|(name, _)| *name).collect();
    let mut setup = Setup::default().users(&names).bound(&["anna", "boris", "carla"]).seeds(contacts).admin_account();
    for (name, full) in PEOPLE {
        setup = setup.full_name(name, full);
    }
    let mut world = setup.start();
    many_deletions(&world);
    both_ways(&world);
    let conflict = conflict(&mut world);
    bindings(&world);
    administered(&world);
    refused(&world);
    world.settle();
    world.wait_for(days_pass(&world.database.url));
    (world, conflict)
}

/// Meetings, calls and tasks, made and changed on both sides.
fn both_ways(world: &World) {
    let meeting = |user: &str, name: &str, days: i64, hour: u32, more: Value| {
        let mut fields = json!({ "dateStart": espo_time(days, hour), "dateEnd": espo_time(days, hour + 1) });
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.espo_create(user, name, fields)
    };
    let kickoff =
        meeting("anna", "Kick-off: new order portal", 1, 9, json!({ "description": "Scope, people, first dates." }));
    let visit =
        meeting("anna", "Site visit Fabrikam", 2, 13, json!({ "description": "Bring the samples of last week." }));
    meeting("boris", "Weekly sales round", 1, 8, json!({}));
    meeting("carla", "Interview: field engineer", 3, 14, json!({}));
    let gone = meeting("boris", "Trade fair: booth planning", 4, 10, json!({}));
    let task = json!({
        "name": "Send the revised offer to Northwind", "assignedUserId": world.id("anna"), "status": "Not Started",
        "priority": "High", "dateEnd": espo_time(2, 15),
    });
    world.espo.write_as("anna", "POST", "Task", None, &task).unwrap();
    let call = json!({
        "name": "Call back: Ines Ibarra", "assignedUserId": world.id("anna"), "status": "Planned",
        "dateStart": espo_time(1, 15), "dateEnd": espo_time(1, 16), "direction": "Outbound",
    });
    world.espo.write_as("anna", "POST", "Call", None, &call).unwrap();
    let timed = |days, hour| json!({ "start": graph_time(at(days, hour)), "end": graph_time(at(days, hour + 1)) });
    let dentist = world.outlook_create("anna", "Budget talk with finance", timed(2, 9));
    world.outlook_create("boris", "Call with Hugo Hansen", {
        let mut event = timed(3, 11);
        event["categories"] = json!(["Call"]);
        event
    });
    world.outlook_create("carla", "Workshop: safety on site", timed(5, 9));
    world.person("boris").create_task(json!({ "title": "Order name badges", "importance": "high" })).unwrap();
    world.person("anna").invited("Steering committee", "ines@northwind.example", at(6, 13), at(6, 14), &[]).unwrap();
    world.settle();
    world.espo_update(&kickoff, json!({ "dateStart": espo_time(1, 10), "dateEnd": espo_time(1, 11) }));
    world.espo_update(&visit, json!({ "description": "Bring the samples of last week, and the measuring tape.", "name": "Site visit at Fabrikam" }));
    world.outlook_update("anna", &dentist, json!({ "location": { "displayName": "Room 2.11" }, "importance": "high" }));
    world.espo.write_as("boris", "DELETE", "Meeting", Some(&gone), &Value::Null).unwrap();
    world.settle();
}

/// The same title is changed on both sides while the service does not look.
fn conflict(world: &mut World) -> String {
    let (id, event) = world.pair("Roadmap talk", json!({}));
    world.product.pause();
    world.outlook_update("anna", &event, json!({ "subject": "Roadmap talk (online)" }));
    world.espo_update(&id, json!({ "name": "Roadmap talk at Fabrikam" }));
    world.product.resume();
    world.settle();
    id
}

/// Something fails for good, and would again.
fn refused(world: &World) {
    let refusal = json!({ "error": { "code": "ErrorInvalidRequest", "message": "Your request can't be completed. The request is invalid." } });
    world.graph.wire().push(Fault::status("POST", "/events", 400).body(refusal).times(-1));
    let id = world.espo_create("carla", "Factory acceptance test", json!({}));
    world.eventually("a dead letter", || world.dead().iter().any(|one| one["target"]["id"] == id.as_str()));
    world.settle();
}

/// David waits for a word, Emma has to sign in, Felix has no mailbox.
fn bindings(world: &World) {
    for name in ["david", "emma", "felix"] {
        let wanted = json!({ "enabled": true, "mailbox": mail(name), "sync_from": day(-30) });
        world.put(&format!("/users/{}/binding", world.id(name)), &wanted);
    }
    assert_eq!(world.sign_in("david", "david").status, 200);
    world.eventually("David's first synchronisation waits", || world.items("/holds").len() == 2);
    world.sign_in("felix", "felix");
    world.eventually("Felix's first synchronisation ends", || world.user("felix")["first_sync_done"] == true);
    let check = world.espo_create("felix", "Annual check of the forklifts", json!({}));
    world.one_event("felix", "Annual check of the forklifts");
    world.settle();
    world.graph.set_mailbox_enabled(&mail("felix"), false);
    world.espo_update(&check, json!({ "name": "Yearly check of the forklifts" }));
    world.becomes("felix", "error");
}

/// What administrators have set.
fn administered(world: &World) {
    world.put("/rules", &json!({ "create_participant_as": "contact", "own_domains": ["contoso.example"] }));
    world.put("/schedules", &json!({ "meeting": "0 */4 * * *", "call": "15 5 * * *", "task": "30 6 * * 1-5" }));
    let own = json!({ "meeting": { "priority": "outlook" }, "private_events": "busy" });
    world.put(&format!("/users/{}/rules", world.id("anna")), &own);
    let mut site = world.admin_site();
    let page = site.page("/roles");
    let role = page.split("name=\"role\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    site.does("/roles", &[("role", &role), (&format!("{role}.todo_list"), "read")]);
    site.does("/sync", &[("dry_run", "on")]);
    drop(world.user_site("boris"));
}

/// Boris has emptied his calendar.
fn many_deletions(world: &World) {
    let name = |n: usize| format!("{} {}", ["Depot tour", "Price talk", "Training", "Handover"][n % 4], n / 4 + 1);
    let ids: Vec<String> = (0..12)
        .map(|n| {
            world.espo_create("boris", &name(n), json!({ "dateStart": espo_time(9, 9), "dateEnd": espo_time(9, 10) }))
        })
        .collect();
    for n in 0..12 {
        world.one_event("boris", &name(n));
    }
    world.settle();
    for id in ids {
        world.espo.write_as("boris", "DELETE", "Meeting", Some(&id), &Value::Null).unwrap();
    }
    world.eventually("a hold", || world.items("/holds").len() == 1);
    world.settle();
}

/// Spreads history over some days and what is done with over the last hour, in the order that they have. Times are in milliseconds.
async fn days_pass(url: &str) {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    let database = sea_orm::Database::connect(options).await.unwrap();
    let entries = entity::history::Entity::find().order_by_desc(entity::history::Column::Id);
    let entries = entries.all(&database).await.unwrap();
    for (row, earlier) in entries.into_iter().zip(steps(Duration::minutes(47))) {
        let at = row.at - earlier;
        let mut row = row.into_active_model();
        row.at = Set(at);
        row.update(&database).await.unwrap();
    }
    let messages = entity::messages::Entity::find().order_by_desc(entity::messages::Column::Id);
    let messages = messages.all(&database).await.unwrap();
    let done = messages.into_iter().filter(|row| row.state == "done");
    for (row, earlier) in done.zip(steps(Duration::seconds(31))) {
        let (received, finished) = (row.received - earlier, row.finished.map(|at| at - earlier));
        let mut row = row.into_active_model();
        (row.received, row.finished) = (Set(received), Set(finished));
        row.update(&database).await.unwrap();
    }
}

/// How much earlier than it was the n-th newest is to have been: uneven steps of so much on the average.
fn steps(step: Duration) -> impl Iterator<Item = i64> {
    (0..).scan(0, move |sum, n: i64| {
        *sum += step.num_milliseconds() * (n * n * 7 % 13) / 6;
        Some(*sum)
    })
}
