//! What the pages tell and let people do: administrators about everything, users about their own, in both languages.

use serde_json::{Value, json};

use crate::support::{Setup, Site, World, day, mail};

/// A browser that asks for German.
fn in_german<'a>(world: &'a World, mut site: Site<'a>) -> Site<'a> {
    site.headers = vec![("Origin", world.url.clone()), ("Accept-Language", "de".to_owned())];
    site
}

/// What a page says, without its markup's escapes.
fn plain(text: &str) -> String {
    let escapes = [("&#38;", "&"), ("&#39;", "'"), ("&#34;", "\""), ("&#60;", "<"), ("&#62;", ">")];
    escapes.iter().fold(text.to_owned(), |text, (escape, letter)| text.replace(escape, letter))
}

#[test]
fn german_pages_say_in_german_what_the_service_says_in_english() {
    let world = World::start();
    let (id, _) = world.pair("Paar", json!({}));
    let mut site = in_german(&world, world.admin_site());
    // The check-up: every sentence of it, and every remedy.
    let report = world.get("/doctor");
    let page = plain(&site.page("/doctor/report"));
    for check in report["checks"].as_array().unwrap() {
        for sentence in [&check["detail"], &check["remedy"]].into_iter().filter_map(Value::as_str) {
            // Where only names differ there is nothing to translate; waiting times and counts change meanwhile.
            assert!(!page.contains(&format!(">{sentence}<")), "{sentence} stands in a German page");
        }
    }
    assert!(page.contains("Im Abgleich") || page.contains("aktiv"), "{page}");
    // Why a record is synchronised, how a user stands, what a refused form says, what a missing page says.
    let told = world.get(&format!("/records/meeting/{id}"));
    let page = plain(&site.page(&format!("/records/meeting/{id}")));
    assert!(page.contains("Abgeglichen: beide Enden sind, wie sie sein sollen."), "{page}");
    assert!(!page.contains(told["summary"].as_str().unwrap()), "{page}");
    let page = plain(&site.page(&format!("/users/{}", world.id("anna"))));
    assert!(page.contains(">Im Abgleich<") && !page.contains("In step."), "{page}");
    let refused = site.submit("/schedules", &[("meeting", "whenever")]);
    assert_eq!(refused.status, 400);
    assert!(plain(&refused.text).contains("erwartet wird ein Cron-Ausdruck wie */10 * * * *"), "{}", refused.text);
    let missing = site.get("/history/nothing");
    assert_eq!(missing.status, 404);
    assert!(plain(&missing.text).contains("es gibt keine Änderung `nothing`"), "{}", missing.text);
    let mut anna = in_german(&world, world.user_site("anna"));
    let forbidden = anna.get("/users");
    assert_eq!(forbidden.status, 403);
    assert!(forbidden.text.contains("Diese Seite ist für Administratoren."), "{}", forbidden.text);
}

#[test]
fn the_check_up_shows_every_check_with_its_remedy() {
    let world = Setup::default().unreachable().start();
    let mut site = world.admin_site();
    assert!(site.page("/doctor").contains("hx-get=\"/doctor/report\""), "the page comes at once");
    let page = plain(&site.page("/doctor/report"));
    let report = world.get("/doctor");
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.len() > 10);
    let count = |verdict: &str| checks.iter().filter(|check| check["verdict"] == verdict).count();
    assert_eq!(page.matches("class=\"pill warn\"").count(), count("warning"), "{page}");
    assert_eq!(page.matches("class=\"pill bad\"").count(), count("failed"), "{page}");
    let remedies: Vec<&str> = checks.iter().filter_map(|check| check["remedy"].as_str()).collect();
    assert!(!remedies.is_empty());
    for remedy in remedies {
        assert!(page.contains(remedy), "{remedy}: {page}");
    }
}

#[test]
fn a_user_lets_the_own_first_synchronisation_happen_and_nobody_elses() {
    let world = Setup::default().bound(&[]).start();
    world.espo_create("anna", "With guests", json!({ "usersIds": [world.id("anna"), world.id("boris")] }));
    let wanted = json!({ "enabled": true, "mailbox": mail("anna"), "sync_from": day(-60) });
    world.put(&format!("/users/{}/binding", world.id("anna")), &wanted);
    assert_eq!(world.sign_in("anna", "anna").status, 200);
    let hold = world.eventually_some("a hold", || world.items("/holds").first().cloned());
    let hold = hold["id"].as_str().unwrap();
    let confirm = format!("/holds/{hold}/confirm");
    let mut boris = world.user_site("boris");
    assert_eq!(boris.api("GET", "/holds", None, None).json()["items"], json!([]), "not his");
    let csrf = boris.csrf();
    assert_eq!(boris.api("POST", &confirm, Some(&csrf), Some(&json!({}))).status, 403);
    assert_eq!(boris.submit(&format!("/me/holds/{hold}"), &[("decision", "confirm")]).status, 403);
    assert!(world.events("anna", "With guests").is_empty());
    let mut anna = world.user_site("anna");
    assert_eq!(anna.api("GET", "/holds", None, None).json()["items"][0]["id"], hold);
    let page = anna.page("/me");
    assert!(page.contains("invitations") && page.contains(&format!("/me/holds/{hold}")), "{page}");
    anna.does(&format!("/me/holds/{hold}"), &[("decision", "confirm")]);
    world.one_event("anna", "With guests");
    assert_eq!(world.items("/holds?state=all")[0]["decided_by"], "anna");
}

#[test]
fn the_lists_of_the_mailbox_are_there_to_choose_from() {
    let world = World::start();
    let anna = world.id("anna");
    let lists = world.items(&format!("/users/{anna}/lists"));
    let default = lists.iter().find(|list| list["is_default"] == true).expect("a default list");
    let name = default["name"].as_str().unwrap();
    let mut site = world.user_site("anna");
    assert!(site.page("/me").contains("hx-get=\"/me/lists\""));
    let part = site.page("/me/lists");
    assert!(part.starts_with("<select id=\"todo_list\" name=\"todo_list\"") && part.contains(name), "{part}");
    site.does("/me", &[("todo_list", name)]);
    assert_eq!(world.user("anna")["todo_list"], name);
    assert!(site.page("/me/lists").contains(&format!("value=\"{name}\" selected")));
    assert_eq!(site.api("GET", &format!("/users/{}/lists", world.id("boris")), None, None).status, 403);
    // Of who has not signed in there are none, and the field for a name stays.
    let dora = world.id("boris");
    world.put(&format!("/users/{dora}/binding"), &json!({ "enabled": false }));
    assert_eq!(world.admin_site().get(&format!("/users/{dora}/lists")).status, 204);
}

#[test]
fn users_find_their_own_records_and_switch_them() {
    let world = World::start();
    let (id, _) = world.pair("Mine alone", json!({}));
    let mut anna = world.user_site("anna");
    let page = anna.page("/me/records");
    assert!(page.contains("Mine alone") && page.contains(&format!("/records/meeting/{id}")), "{page}");
    assert!(!anna.page("/me/records?kind=task").contains("Mine alone"));
    let listed = anna.api("GET", "/records?limit=1", None, None).json();
    assert_eq!(
        (&listed["items"][0]["record_id"], &listed["items"][0]["owner"]),
        (&json!(id), &json!(world.id("anna")))
    );
    assert!(!world.user_site("boris").page("/me/records").contains("Mine alone"));
    let others = format!("/records?user_id={}", world.id("anna"));
    assert_eq!(world.user_site("boris").api("GET", &others, None, None).status, 403);
    assert!(anna.does(&format!("/records/meeting/{id}"), &[]).contains("Switched off."));
    assert_eq!(world.get(&format!("/records/meeting/{id}"))["enabled"], false);
}

#[test]
fn administrators_see_who_is_signed_in_and_end_it() {
    let world = World::start();
    let mut anna = world.user_site("anna");
    let mut site = world.admin_site();
    let page = site.page("/sessions");
    let row = page.split("Others who are signed in").nth(1).expect("others");
    assert!(row.contains("Anna Test"), "{row}");
    let id = row.split("name=\"id\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    site.does("/sessions", &[("id", &id)]);
    assert_eq!(anna.get("/me").status, 303, "she has to sign in again");
    assert!(!world.user_site("anna").page("/sessions").contains("Others who are signed in"));
}

#[test]
fn a_schedule_is_told_in_words_while_it_is_typed_and_what_is_wrong_is_explained() {
    let world = World::start();
    let mut site = world.admin_site();
    let part = site.page("/schedules/meeting?meeting=30+7+*+*+1-5");
    assert!(part.contains("07:30") && part.contains("<time") && part.contains("id=\"meeting-words\""), "{part}");
    let part = site.page("/schedules/meeting?meeting=99+*+*+*+*");
    assert!(part.contains("class=\"bad\"") && part.contains("expected a cron expression"), "{part}");
    assert_eq!(site.get("/schedules/lunch?lunch=1").status, 404);
    assert_eq!(world.user_site("anna").get("/schedules/meeting?meeting=1").status, 403);
}

#[test]
fn what_ends_soon_stands_on_the_front_page() {
    let world = World::start();
    let mut site = world.admin_site();
    let page = site.page("/");
    assert!(page.contains("Client secret") && page.contains("unknown"), "{page}");
    assert!(page.contains("Microsoft Graph") && page.contains("Throttled"), "{page}");
    site.does("/settings", &[("microsoft.secret_expires", &day(3)), ("events_per_iteration", "10")]);
    let page = site.page("/");
    assert!(page.contains("Client secret ends in ") && page.contains("class=\"warn\""), "{page}");
    let ends = world.get("/overview")["expiring"][0].clone();
    assert_eq!((&ends["what"], &ends["is_over"]), (&json!("client_secret"), &json!(false)));
    let checks = world.get("/doctor");
    let secret = checks["checks"].as_array().unwrap().iter().find(|check| check["name"] == "client_secret").unwrap();
    assert_eq!(secret["verdict"], "warning", "{secret}");
}

#[test]
fn a_certificate_is_entered_in_the_pages_and_kept_to_itself() {
    let world = Setup::default().bound(&[]).start();
    let mut site = world.admin_site();
    let wrong = site.submit("/settings", &[("microsoft.client_certificate", "no certificate")]);
    assert_eq!(wrong.status, 400);
    assert!(wrong.text.contains("expected PEM text"), "{}", wrong.text);
    let file = format!("{}/tests/it/fixtures/expired.test.pem", env!("CARGO_MANIFEST_DIR"));
    let pem = std::fs::read_to_string(file).unwrap();
    site.does("/settings", &[("microsoft.client_certificate", &pem)]);
    assert_eq!(world.get("/settings")["secrets"]["microsoft.client_certificate"], true);
    assert_eq!(world.get("/overview")["expiring"][0]["what"], "certificate");
    assert_eq!(world.get("/overview")["expiring"][0]["is_over"], true, "it is long over");
    let key: String = pem.lines().rfind(|line| !line.starts_with('-')).unwrap().to_owned();
    for page in ["/settings", "/setup", "/audit"] {
        assert!(!site.page(page).contains(&key), "{page} shows the private key");
    }
    assert!(!world.product.log().contains(&key));
    site.does("/settings", &[("remove.microsoft.client_certificate", "on")]);
    assert_eq!(world.get("/settings")["secrets"]["microsoft.client_certificate"], false);
}

#[test]
fn the_first_user_is_bound_in_the_set_up() {
    let world = Setup::default().bound(&[]).start();
    let mut site = world.admin_site();
    let page = site.page("/setup");
    assert!(page.contains("/adminconsent?client_id="), "{page}");
    let fields = [("user_id", world.id("anna")), ("sync_from", day(-60))];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let page = site.submit("/setup/user", &fields);
    assert_eq!(page.status, 200, "{}", page.text);
    let link = page
        .text
        .split("value=\"http")
        .find(|rest| rest.split('"').next().is_some_and(|link| link.contains("ticket=")))
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    world.graph.sign_in_as(Some("anna@contoso.example"));
    assert_eq!(world.browser().open(&format!("http{link}")).status, 200);
    world.becomes("anna", "active");
    assert_eq!(world.user("anna")["sync_from"], day(-60));
}

#[test]
fn several_changes_that_cannot_be_taken_back_are_named_with_the_reason_before_anything_is_done() {
    let world = World::start();
    let (id, _) = world.pair("One", json!({}));
    world.espo_update(&id, json!({ "name": "Two" }));
    world.one_event("anna", "Two");
    world.settle();
    let entry = world.history(&format!("record_id={id}&type=update"))[0].clone();
    let since = entry["at"].as_str().unwrap();
    world.post(&format!("/history/{}/revert", entry["id"].as_str().unwrap()), &json!({}));
    let mut site = world.admin_site();
    let page = site.page(&format!("/history/revert?record_id={id}&since={since}"));
    assert!(page.contains("would be left as they are") && page.contains("taken back already"), "{page}");
}

#[test]
fn how_a_sign_in_at_microsoft_ended_is_told_in_the_readers_language() {
    let world = Setup::default().bound(&[]).start();
    let mut site = world.site();
    let strange = "/oauth/microsoft/callback?state=strange";
    let english = site.get(strange).text;
    assert!(english.contains("lang=\"en\"") && english.contains("This answer does not belong"), "{english}");
    site.headers = vec![("Accept-Language", "de".to_owned())];
    let german = site.get(strange).text;
    assert!(german.contains("lang=\"de\"") && german.contains("Diese Antwort gehört zu keiner Anmeldung"), "{german}");
    assert!(german.contains("Die Anmeldung hat nicht geklappt") && german.contains("Zur Startseite"), "{german}");
}

/// Everything that a user may ask for, and that is about the user alone.
const OPEN_TO_USERS: [&str; 3] = ["/history", "/records", "/holds"];

#[test]
fn no_route_of_the_api_lets_a_user_at_what_is_not_the_users_own() {
    let world = World::start();
    let (id, _) = world.pair("Anna's", json!({}));
    let entry = world.history(&format!("record_id={id}"))[0]["id"].as_str().unwrap().to_owned();
    world.settle();
    let (anna, before) = (world.id("anna"), world.user("anna"));
    let mut boris = world.user_site("boris");
    let csrf = boris.csrf();
    let document: Value = serde_json::from_str(&world.http("GET", "/api/openapi.json", &[], None).2).unwrap();
    let mut asked = 0;
    for (pattern, operations) in document["paths"].as_object().unwrap() {
        // Probes, receivers and the sign-in are everybody's.
        let Some(path) = pattern.strip_prefix("/api/v1") else { continue };
        let thing = if path.starts_with("/history") { &entry } else { &anna };
        let path = match path.starts_with("/records/") {
            true => path.replace("{kind}", "meeting").replace("{id}", &id),
            false => path.replace("{user_id}", &anna).replace("{id}", thing),
        };
        for method in operations.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            let body = json!({ "enabled": true });
            let body = Some(&body).filter(|_| method == "PUT").cloned().or((method == "POST").then(|| json!({})));
            let answer = boris.api(&method, &path, Some(&csrf), body.as_ref());
            asked += 1;
            if method == "GET" && OPEN_TO_USERS.contains(&path.as_str()) {
                assert_eq!(answer.json()["items"], json!([]), "{path} shows what is not his");
                continue;
            }
            assert!([403, 404].contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.text);
        }
    }
    assert!(asked > 40, "{asked}");
    assert_eq!(world.user("anna"), before, "nothing of all that was done");
    // Nor do the pages.
    for path in ["/", "/me"] {
        assert!(!boris.page(if path == "/" { "/me" } else { path }).contains("Anna's"));
    }
    for path in ["/users", "/holds", "/history", "/records", "/sync", "/messages", "/subscriptions", "/audit", "/log"]
        .into_iter()
        .chain(["/log/stream", "/setup", "/doctor", "/doctor/report", "/settings", "/rules", "/schedules", "/roles"])
    {
        assert_eq!(boris.get(path).status, 403, "{path}");
    }
    for path in ["/sync", "/messages", "/subscriptions", "/settings", "/rules", "/schedules", "/roles", "/setup/user"] {
        assert_eq!(boris.submit(path, &[]).status, 403, "{path}");
    }
    assert_eq!(boris.get(&format!("/records/meeting/{id}")).status, 404);
    assert_eq!(boris.get(&format!("/me/history/{entry}")).status, 403);
    assert_eq!(boris.submit(&format!("/me/history/{entry}"), &[]).status, 403);
}

#[test]
fn without_an_administrators_account_ones_own_page_says_what_is_missing() {
    for (setup, says) in [(Setup::default(), true), (Setup::default().admin_account(), false)] {
        let world = setup.start();
        let page = world.user_site("anna").page("/me");
        assert_eq!(page.contains("reminders that you set in Outlook do not reach EspoCRM"), says, "{page}");
    }
}
