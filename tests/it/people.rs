//! Participants, answers, invitations, and several mailboxes around one meeting.

use serde_json::{Value, json};

use crate::support::{Setup, World, at, mail};

fn addresses(event: &Value) -> Vec<String> {
    let attendees = event["attendees"].as_array().cloned().unwrap_or_default();
    let mut all: Vec<String> =
        attendees.iter().filter_map(|a| a["emailAddress"]["address"].as_str().map(str::to_lowercase)).collect();
    all.sort();
    all
}

fn ids(record: &Value, name: &str) -> Vec<String> {
    let ids = record[name].as_array().cloned().unwrap_or_default();
    ids.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect()
}

fn person(world: &World, entity: &str, first: &str, last: &str, emails: &[&str]) -> String {
    world.espo.seed(entity, &json!({ "firstName": first, "lastName": last, "emails": emails, "status": "New" }))
}

#[test]
fn participants_of_a_record_are_invited_once_and_counted() {
    let world = World::start();
    let carla = person(&world, "Contact", "Carla", "Client", &["carla@client.example"]);
    let lars = person(&world, "Lead", "Lars", "Lead", &["lars@lead.example"]);
    let fields =
        json!({ "usersIds": [world.id("anna"), world.id("boris")], "contactsIds": [carla], "leadsIds": [lars] });
    let (id, event) = world.pair("Party", fields);
    let invited = ["boris@contoso.example", "carla@client.example", "lars@lead.example"];
    assert_eq!(addresses(&world.event("anna", &event)), invited);
    let mut mails = world.mails();
    mails.sort();
    let wanted: Vec<_> = invited.iter().map(|to| ("invitation".to_owned(), (*to).to_owned())).collect();
    assert_eq!(mails, wanted);
    // What is no matter of the invited tells them nothing by our doing.
    world.espo_update(&id, json!({ "status": "Held" }));
    world.settle();
    assert_eq!(world.mails().len(), 3, "{:?}", world.mails());
    world.espo_update(&id, json!({ "leadsIds": [] }));
    world.eventually("one is taken off", || addresses(&world.event("anna", &event)).len() == 2);
    world.settle();
    assert_eq!(world.mails().iter().filter(|(kind, _)| kind == "invitation").count(), 3, "{:?}", world.mails());
}

#[test]
fn a_contact_is_found_by_a_second_address_in_other_case() {
    let world = World::start();
    let carla = person(&world, "Contact", "Carla", "Client", &["first@client.example", "Carla.Second@Client.example"]);
    let attendees = json!([world.attendee("CARLA.second@client.EXAMPLE", "Carla")]);
    world.outlook_create("anna", "Known", json!({ "attendees": attendees }));
    let record = world.one_record("Known");
    world.settle();
    assert_eq!(ids(&record, "contactsIds"), [carla]);
    assert!(world.espo.records("Lead").is_empty());
    let mark = world.mark();
    world.sync();
    world.settle();
    world.no_writes_since(mark);
}

#[test]
fn an_unknown_person_met_twice_becomes_one_lead() {
    let world = World::start();
    for subject in ["First", "Second", "Third"] {
        let attendees = json!([world.attendee("nina@new.example", "Nina Novak")]);
        world.outlook_create("anna", subject, json!({ "attendees": attendees }));
    }
    for subject in ["First", "Second", "Third"] {
        world.one_record(subject);
    }
    world.settle();
    let leads = world.espo.records("Lead");
    assert_eq!(leads.len(), 1, "{leads:?}");
    assert_eq!((&leads[0]["firstName"], &leads[0]["lastName"]), (&json!("Nina"), &json!("Novak")));
    for subject in ["First", "Second", "Third"] {
        assert_eq!(ids(&world.one_record(subject), "leadsIds"), [leads[0]["id"].as_str().unwrap()], "{subject}");
    }
}

#[test]
fn an_unknown_person_becomes_a_contact_or_nobody_as_the_rule_says() {
    let world = Setup::default().rules(json!({ "create_participant_as": "contact" })).start();
    let attendees = json!([world.attendee("nina@new.example", "Nina Novak")]);
    world.outlook_create("anna", "As contact", json!({ "attendees": attendees }));
    world.one_record("As contact");
    world.settle();
    assert_eq!((world.espo.records("Contact").len(), world.espo.records("Lead").len()), (1, 0));
    world.put("/rules", &json!({ "create_participant_as": "none" }));
    let attendees = json!([world.attendee("otto@new.example", "Otto Other")]);
    let later = json!({ "attendees": attendees, "start": crate::support::graph_time(at(9, 9)), "end": crate::support::graph_time(at(9, 10)) });
    let event = world.outlook_create("anna", "As nobody", later);
    world.one_record("As nobody");
    world.settle();
    assert_eq!((world.espo.records("Contact").len(), world.espo.records("Lead").len()), (1, 0));
    assert_eq!(addresses(&world.event("anna", &event)), ["otto@new.example"], "who is nobody here stays invited");
}

#[test]
fn a_participant_without_an_address_stays_in_espocrm() {
    let world = World::start();
    let silent = person(&world, "Contact", "Silent", "Sam", &[]);
    let carla = person(&world, "Contact", "Carla", "Client", &["carla@client.example"]);
    let (id, event) = world.pair("Mixed", json!({ "contactsIds": [silent, carla] }));
    assert_eq!(addresses(&world.event("anna", &event)), ["carla@client.example"]);
    let attendees = json!([
        world.attendee("carla@client.example", "Carla Client"),
        world.attendee("nina@new.example", "Nina Novak")
    ]);
    world.outlook_update("anna", &event, json!({ "attendees": attendees }));
    world.eventually("the new one is in EspoCRM", || !ids(&world.record(&id), "leadsIds").is_empty());
    world.settle();
    let mut contacts = ids(&world.record(&id), "contactsIds");
    contacts.sort();
    let mut wanted = vec![silent, carla];
    wanted.sort();
    assert_eq!(contacts, wanted);
}

#[test]
fn who_is_taken_off_in_outlook_is_taken_off_in_espocrm() {
    let world = World::start();
    let carla = person(&world, "Contact", "Carla", "Client", &["carla@client.example"]);
    let (id, event) = world.pair("Smaller", json!({ "contactsIds": [carla], "usersIds": [world.id("anna")] }));
    world.outlook_update("anna", &event, json!({ "attendees": [] }));
    world.eventually("she is taken off", || ids(&world.record(&id), "contactsIds").is_empty());
    world.settle();
    assert_eq!(ids(&world.record(&id), "usersIds"), [world.id("anna")]);
}

#[test]
fn an_answer_given_in_outlook_reaches_espocrm() {
    let world = World::start();
    let carla = person(&world, "Contact", "Carla", "Client", &["carla@client.example"]);
    let (id, event) = world
        .pair("Answer", json!({ "contactsIds": [carla.clone()], "usersIds": [world.id("anna"), world.id("boris")] }));
    world.person("anna").attendee_answers(&event, "carla@client.example", "accepted").unwrap();
    let column = |link: &str, of: &str| world.record(&id)[format!("{link}Columns")][of]["status"].clone();
    world.eventually("she has accepted", || column("contacts", &carla) == "Accepted");
    let copy = world.one_event("boris", "Answer")["id"].as_str().unwrap().to_owned();
    world.person("boris").respond(&copy, "decline").unwrap();
    world.eventually("he has declined", || column("users", &world.id("boris")) == "Declined");
    world.settle();
    assert_eq!(world.mails().iter().filter(|(kind, _)| kind == "invitation").count(), 2, "{:?}", world.mails());
}

#[test]
fn two_bound_users_in_one_meeting_have_one_record_and_one_organizer_event() {
    let world = Setup::default().bound(&["anna", "boris"]).start();
    let attendees = json!([world.attendee("boris", "Boris Test")]);
    let event = world.outlook_create("anna", "Together", json!({ "attendees": attendees }));
    world.one_record("Together");
    world.one_event("boris", "Together");
    world.settle();
    world.sync();
    world.settle();
    let record = world.one_record("Together");
    assert_eq!(record["assignedUserId"], world.id("anna").as_str());
    assert!(ids(&record, "usersIds").contains(&world.id("boris")), "{record}");
    assert_eq!(world.one_event("anna", "Together")["id"], event.as_str());
    assert_eq!(world.one_event("boris", "Together")["isOrganizer"], false);
    assert_eq!(world.mails(), [("invitation".to_owned(), mail("boris"))]);
}

#[test]
fn a_record_of_two_bound_users_has_one_organizer_event_and_one_invitation() {
    let world = Setup::default().bound(&["anna", "boris"]).start();
    let people = json!([world.id("anna"), world.id("boris")]);
    let id = world.espo_create("anna", "Ours", json!({ "usersIds": people }));
    world.one_event("boris", "Ours");
    world.settle();
    world.sync();
    world.settle();
    assert_eq!(world.one_record("Ours")["id"], id.as_str());
    assert_eq!(world.one_event("anna", "Ours")["isOrganizer"], true);
    assert_eq!(world.one_event("boris", "Ours")["isOrganizer"], false);
    assert_eq!(world.mails(), [("invitation".to_owned(), mail("boris"))]);
}

#[test]
fn an_invitation_from_outside_becomes_a_record_and_is_not_answered_by_us() {
    let world = World::start();
    world.person("anna").invited("Visit", "boss@partner.example", at(7, 10), at(7, 11), &[]).unwrap();
    let record = world.one_record("Visit");
    assert_eq!(record["assignedUserId"], world.id("anna").as_str());
    world.settle();
    assert!(world.mails().is_empty(), "{:?}", world.mails());
    let mark = world.mark();
    world.espo_delete(record["id"].as_str().unwrap());
    world.settle();
    world.sync();
    world.settle();
    let (_, graph) = world.writes_since(mark);
    assert!(graph.is_empty(), "a meeting that is organised outside leaves the mailbox alone: {graph:?}");
    assert!(world.records("Visit").is_empty(), "it was imported again");
}

#[test]
fn a_past_event_never_gets_attendees() {
    let world = World::start();
    let carla = person(&world, "Contact", "Carla", "Client", &["carla@client.example"]);
    let past = json!({ "contactsIds": [carla], "dateStart": crate::support::espo(at(-3, 10)), "dateEnd": crate::support::espo(at(-3, 11)) });
    let (_, event) = world.pair("Yesterday's", past);
    assert!(addresses(&world.event("anna", &event)).is_empty());
    assert!(world.mails().is_empty(), "{:?}", world.mails());
}

#[test]
fn who_is_left_out_is_said_on_the_records_page() {
    let world = Setup::default().rules(json!({ "own_domains": ["contoso.example"] })).start();
    let mut room = world.attendee("room1@contoso.example", "Room 1");
    room["type"] = json!("resource");
    let attendees = json!([
        room,
        world.attendee("no-reply@shop.example", "Shop"),
        world.attendee("stranger@contoso.example", "Stranger"),
        world.attendee("all-staff@partner.example", "All staff"),
        world.attendee("nina@new.example", "Nina Novak"),
    ]);
    let event = world.outlook_create("anna", "Few", json!({ "attendees": attendees }));
    let id = world.one_record("Few")["id"].as_str().unwrap().to_owned();
    world.settle();
    let leads = world.espo.records("Lead");
    assert_eq!(leads.iter().map(|lead| lead["lastName"].clone()).collect::<Vec<_>>(), ["Novak"]);
    let reasons = |id: &str| world.get(&format!("/records/meeting/{id}"))["reasons"].to_string();
    for who in ["Room 1", "no-reply@shop.example", "stranger@contoso.example", "all-staff@partner.example"] {
        assert!(reasons(&id).contains(who), "{who}: {}", reasons(&id));
    }
    assert!(!reasons(&id).contains("nina@new.example"), "{}", reasons(&id));
    assert_eq!(addresses(&world.event("anna", &event)).len(), 5, "all stay invited");
    world.put("/rules", &json!({ "create_participant_as": "none" }));
    let attendees = json!([world.attendee("otto@new.example", "Otto Other")]);
    world.outlook_update("anna", &event, json!({ "attendees": attendees }));
    world.eventually("the lead is taken off", || ids(&world.record(&id), "leadsIds").is_empty());
    world.settle();
    assert!(reasons(&id).contains("otto@new.example"), "{}", reasons(&id));
}

#[test]
fn a_role_that_may_not_make_leads_leaves_the_person_out_and_makes_the_record() {
    let world = World::start();
    world.espo.set_right("Lead", "create", "no");
    let attendees = json!([world.attendee("nina@new.example", "Nina Novak")]);
    world.outlook_create("anna", "Without her", json!({ "attendees": attendees }));
    let id = world.one_record("Without her")["id"].as_str().unwrap().to_owned();
    world.settle();
    assert!(world.espo.records("Lead").is_empty() && world.dead().is_empty(), "{:?}", world.dead());
    let page = world.get(&format!("/records/meeting/{id}"));
    assert!(page["reasons"].to_string().contains("nina@new.example"), "{page}");
}

#[test]
fn more_people_than_outlook_takes_are_left_out_with_a_reason() {
    let world = World::start();
    let many: Vec<String> = (0..505)
        .map(|n| person(&world, "Contact", "P", &format!("N{n}"), &[&format!("p{n:03}@many.example")]))
        .collect();
    let (id, event) = world.pair("Crowd", json!({ "contactsIds": many }));
    assert_eq!(addresses(&world.event("anna", &event)).len(), 500);
    let page = world.get(&format!("/records/meeting/{id}"));
    assert!(page["reasons"].to_string().contains("505 participants"), "{page}");
    let mark = world.mark();
    world.sync();
    world.settle();
    world.no_writes_since(mark);
    assert_eq!(ids(&world.record(&id), "contactsIds").len(), 505);
}

#[test]
fn an_address_that_several_have_is_the_users_before_the_contacts_before_the_leads() {
    let world = World::start();
    let contact = person(&world, "Contact", "Carla", "Client", &["shared@client.example"]);
    let lead = person(&world, "Lead", "Lars", "Lead", &["shared@client.example", "lars@lead.example"]);
    person(&world, "Contact", "Boris", "Private", &[&mail("boris")]);
    let attendees = json!([
        world.attendee("shared@client.example", "Somebody"),
        world.attendee("lars@lead.example", "Lars"),
        world.attendee("boris", "Boris"),
    ]);
    world.outlook_create("anna", "Who", json!({ "attendees": attendees }));
    let record = world.one_record("Who");
    world.settle();
    assert_eq!((ids(&record, "contactsIds"), ids(&record, "leadsIds")), (vec![contact], vec![lead]));
    assert!(ids(&record, "usersIds").contains(&world.id("boris").to_owned()), "{record}");
}
