//! The web pages over plain HTTP: who gets in, what is refused, what is shown.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use simulators::plumbing::Fault;

use crate::support::{Setup, World};

/// Nobody is bound; EspoCRM's second factor and roles are played by the simulator.
fn fresh() -> World {
    Setup::default().bound(&[]).start()
}

const SESSION: &str = "espo_outlook_session";

#[test]
fn who_has_not_signed_in_is_sent_to_the_sign_in_and_from_there_to_the_page() {
    let world = fresh();
    let mut site = world.site();
    for path in ["/", "/users", "/holds", "/history", "/sessions"] {
        let answer = site.get(path);
        assert_eq!(answer.status, 303, "{path}");
        assert!(answer.location().starts_with("/sign-in"), "{path}: {}", answer.location());
    }
    assert_eq!(site.get("/history?kind=call").location(), "/sign-in?to=%2Fhistory%3Fkind%3Dcall");
    let fields = [("token", world.token.as_str()), ("to", "/history?kind=call")];
    assert_eq!(site.post("/sign-in", &fields).location(), "/history?kind=call");
    let away = [("token", world.token.as_str()), ("to", "//evil.example/")];
    assert_eq!(world.site().post("/sign-in", &away).location(), "/");
}

#[test]
fn the_password_of_espocrm_signs_in_and_a_wrong_one_does_not() {
    let world = fresh();
    let mut site = world.site();
    let wrong = site.post("/sign-in", &[("user", "anna"), ("password", "guessed")]);
    assert_eq!(wrong.status, 401, "{}", wrong.text);
    assert!(wrong.text.contains("role=\"alert\"") && !site.cookies.contains_key(SESSION));
    let answer = site.post("/sign-in", &[("user", "anna"), ("password", "anna-Pass1")]);
    assert_eq!(answer.status, 303, "{}", answer.text);
    let cookie = answer.headers["set-cookie"].clone();
    for part in ["HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(site.page("/sessions").contains("Anna Test"));
    // Neither the password nor the cookie is in the log or the database.
    let log = world.product.log();
    let kept = world.database.contents(world.folder());
    assert!(kept.windows(9).any(|window| window == b"Anna Test"), "the session is not in what was looked at");
    for secret in ["anna-Pass1", "guessed", site.cookies[SESSION].as_str()] {
        assert!(!log.contains(secret), "{secret} is in the log");
        let is_kept = kept.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!is_kept, "{secret} is in the database");
    }
}

#[test]
fn a_second_factor_is_asked_for_and_honoured() {
    let world = fresh();
    world.espo.set_second_factor("anna", Some("123456"));
    let mut site = world.site();
    let asked = site.post("/sign-in", &[("user", "anna"), ("password", "anna-Pass1")]);
    assert_eq!(asked.status, 401);
    assert!(asked.text.contains("name=\"code\""), "{}", asked.text);
    assert!(!asked.text.contains("anna-Pass1"), "the password is in the page");
    let wrong = site.post("/sign-in", &[("user", "anna"), ("password", "anna-Pass1"), ("code", "000000")]);
    assert_eq!(wrong.status, 401);
    let right = site.post("/sign-in", &[("user", "anna"), ("password", "anna-Pass1"), ("code", "123456")]);
    assert_eq!(right.status, 303, "{}", right.text);
}

#[test]
fn failed_sign_ins_of_all_users_together_never_lock_the_connector_out() {
    let world = World::start();
    let mut site = world.site();
    let statuses: Vec<u16> =
        (0..8).map(|n| site.post("/sign-in", &[("user", &format!("user{n}")), ("password", "wrong")]).status).collect();
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429, 429]);
    let late = site.post("/sign-in", &[("user", "anna"), ("password", "anna-Pass1")]);
    assert_eq!(late.status, 429, "not even the right password is tried");
    assert!(late.headers.contains_key("retry-after"));
    // The connector goes on, and the admin token still lets its holder in.
    world.espo_create("anna", "Meanwhile", json!({}));
    world.one_event("anna", "Meanwhile");
    world.admin_site().page("/");
}

#[test]
fn what_changes_something_needs_the_token_and_its_own_origin() {
    let world = fresh();
    let mut site = world.admin_site();
    let csrf = site.csrf();
    let id = world.id("anna");
    let path = format!("/users/{id}");
    let body = json!({ "enabled": false });
    let api = format!("/users/{id}/binding");
    assert_eq!(site.post(&path, &[("enabled", "on")]).status, 403, "a form without the token");
    assert_eq!(site.post(&path, &[("enabled", "on"), ("csrf", "guessed")]).status, 403);
    assert_eq!(site.api("PUT", &api, None, Some(&body)).status, 403, "the API without the token");
    assert_eq!(site.api("PUT", &api, Some("guessed"), Some(&body)).status, 403);
    let own = std::mem::replace(&mut site.headers, vec![("Origin", "https://evil.example".to_owned())]);
    assert_eq!(site.post(&path, &[("enabled", "on"), ("csrf", &csrf)]).status, 403, "from elsewhere");
    assert_eq!(site.api("PUT", &api, Some(&csrf), Some(&body)).status, 403);
    site.headers = vec![("Origin", "null".to_owned())];
    assert_eq!(site.post(&path, &[("enabled", "on"), ("csrf", &csrf)]).status, 403);
    site.headers = vec![("Sec-Fetch-Site", "cross-site".to_owned())];
    assert_eq!(site.post(&path, &[("enabled", "on"), ("csrf", &csrf)]).status, 403);
    site.headers = vec![("Origin", "https://evil.example".to_owned())];
    assert_eq!(site.post("/sign-in", &[("token", &world.token)]).status, 403, "nor signing in");
    site.headers = own;
    assert_eq!(world.user("anna")["state"], "unbound", "nothing of all that was done");
    assert_eq!(site.api("PUT", &api, Some(&csrf), Some(&body)).status, 200);
    assert_eq!(site.post(&path, &[("enabled", "on"), ("csrf", &csrf)]).status, 303);
}

/// Paths of forms, as the sources register them.
fn forms() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/ui");
    let mut found = BTreeSet::new();
    for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).filter(|path| path.is_file()) {
        for line in std::fs::read_to_string(&file).unwrap().lines().map(str::trim) {
            let is_route =
                ["admin!(routes", "own!(routes", "resource(\"", ".service(resource(", "let sessions = resource("]
                    .iter()
                    .any(|start| line.starts_with(start));
            let path = line.split('"').nth(1).filter(|_| is_route && line.contains("POST"));
            found.extend(path.map(|path| path.replace("{kind}", "meeting").replace("{id}", "some-id")));
        }
    }
    found
}

#[test]
fn no_form_and_no_route_of_the_api_changes_anything_without_the_token_or_from_elsewhere() {
    let world = fresh();
    let mut site = world.admin_site();
    let csrf = site.csrf();
    let own = site.headers.clone();
    let elsewhere = vec![("Origin", "https://evil.example".to_owned())];
    let forms = forms();
    assert!(forms.len() > 28, "{forms:?}");
    for path in &forms {
        // These two are for everybody, signed in or not: only from elsewhere nobody may use them.
        let is_open = ["/sign-in", "/preferences"].contains(&path.as_str());
        if !is_open {
            assert_eq!(site.post(path, &[]).status, 403, "{path} without the token");
            assert_eq!(site.post(path, &[("csrf", "guessed")]).status, 403, "{path} with another token");
        }
        site.headers.clone_from(&elsewhere);
        assert_eq!(site.post(path, &[("csrf", &csrf)]).status, 403, "{path} from elsewhere");
        site.headers = vec![("Sec-Fetch-Site", "cross-site".to_owned())];
        assert_eq!(site.post(path, &[("csrf", &csrf)]).status, 403, "{path} from another site");
        site.headers.clone_from(&own);
    }
    let document: Value = serde_json::from_str(&world.http("GET", "/api/openapi.json", &[], None).2).unwrap();
    let mut asked = 0;
    for (pattern, operations) in document["paths"].as_object().unwrap() {
        let Some(path) = pattern.strip_prefix("/api/v1") else { continue };
        let path = path.replace("{kind}", "meeting").replace("{user_id}", "some-id").replace("{id}", "some-id");
        for method in operations.as_object().unwrap().keys().filter(|method| *method != "get") {
            let method = method.to_uppercase();
            let body = Some(json!({})).filter(|_| method != "DELETE");
            let mut refused = |csrf: Option<&str>, headers: &[(&'static str, String)], how: &str| {
                site.headers = headers.to_vec();
                let answer = site.api(&method, &path, csrf, body.as_ref());
                assert_eq!(answer.status, 403, "{method} {path} {how}: {}", answer.text);
            };
            refused(None, &own, "without the token");
            refused(Some("guessed"), &own, "with another token");
            refused(Some(&csrf), &elsewhere, "from elsewhere");
            asked += 1;
        }
    }
    assert!(asked > 20, "{asked}");
    // Neither was the session ended by any of that.
    site.headers = own;
    assert_eq!(site.page("/sessions").matches("Sign out").count(), 1);
}

#[test]
fn a_session_ends_when_it_is_ended_here_or_elsewhere() {
    let world = fresh();
    let (mut here, mut there) = (world.user_site("anna"), world.user_site("anna"));
    assert_eq!(here.page("/sessions").matches("name=\"id\"").count(), 1, "the other one can be ended");
    // Nobody ends somebody else's.
    let mut boris = world.user_site("boris");
    let text = here.page("/sessions");
    let id = text.split("name=\"id\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert_eq!(boris.submit("/sessions", &[("id", &id)]).status, 404);
    here.does("/sessions", &[("id", &id)]);
    assert_eq!(there.get("/sessions").status, 303);
    let kept = here.cookies[SESSION].clone();
    assert_eq!(here.submit("/sign-out", &[]).location(), "/sign-in");
    assert!(!here.cookies.contains_key(SESSION));
    here.cookies.insert(SESSION.to_owned(), kept);
    assert_eq!(here.get("/sessions").status, 303, "the cookie is worth nothing any more");
}

#[test]
fn administrators_of_espocrm_are_administrators_here_and_others_are_not() {
    let world = fresh();
    let admin = world.espo.admin();
    let mut site = world.site();
    let answer = site.post("/sign-in", &[("user", &admin.user_name), ("password", &admin.password)]);
    assert_eq!(answer.status, 303, "{}", answer.text);
    site.page("/users");
    assert_eq!(site.api("GET", "/settings", None, None).json()["enabled"], true);
    let mut anna = world.user_site("anna");
    for path in ["/users", "/holds", "/history"] {
        assert_eq!(anna.get(path).status, 403, "{path}");
    }
    assert_eq!(anna.api("GET", "/settings", None, None).status, 403);
    // Who comes with a wrong token is not let in for a session's sake.
    anna.headers.push(("Authorization", "Bearer wrong".to_owned()));
    assert_eq!(anna.api("GET", "/settings", None, None).status, 401);
}

#[test]
fn every_page_has_strict_headers_and_nothing_inline() {
    let world = World::start();
    let mut site = world.admin_site();
    for path in ["/", "/users", "/holds", "/history", "/sessions", "/api/docs", "/sign-in?with=token"] {
        let answer = site.get(path);
        let policy = &answer.headers["content-security-policy"];
        for part in ["default-src 'none'", "script-src 'self';", "style-src 'self';", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["cache-control"], "no-store");
        let text = answer.text;
        for inline in ["<style", " style=", "<script>", " onclick=", " onchange=", "javascript:"] {
            assert!(!text.contains(inline), "{path} has {inline}");
        }
    }
    let css = site.get("/assets/app.css");
    assert_eq!((css.status, css.headers["content-type"].as_str()), (200, "text/css; charset=utf-8"));
}

#[test]
fn pages_speak_the_language_of_the_browser_and_the_chosen_one_before_it() {
    let world = fresh();
    let mut site = world.admin_site();
    assert!(site.page("/users").contains("<html lang=\"en\""));
    site.headers = vec![("Origin", world.url.clone()), ("Accept-Language", "de-AT,de;q=0.9,en;q=0.5".to_owned())];
    let text = site.page("/users");
    assert!(text.contains("<html lang=\"de\"") && text.contains("Benutzer"), "{text}");
    assert_eq!(site.post("/preferences", &[("lang", "en"), ("theme", "dark"), ("to", "/users")]).location(), "/users");
    let text = site.page("/users");
    assert!(text.contains("<html lang=\"en\" data-theme=\"dark\""), "{text}");
}

#[test]
fn a_user_is_bound_in_the_pages_and_the_link_signs_in() {
    let world = fresh();
    let mut site = world.admin_site();
    let path = format!("/users/{}", world.id("anna"));
    assert!(site.page("/users").contains("Anna Test"));
    site.does(&path, &[("enabled", "on"), ("mailbox", "anna@contoso.example"), ("sync_from", "2026-11-01")]);
    assert_eq!(world.user("anna")["state"], "needs_authorization");
    let page = site.submit(&format!("{path}/link"), &[]);
    assert_eq!(page.status, 200);
    let link = page.text.split("value=\"http").nth(1).unwrap().split('"').next().unwrap();
    world.graph.sign_in_as(Some("anna@contoso.example"));
    assert_eq!(world.browser().open(&format!("http{link}")).status, 200);
    world.becomes("anna", "active");
    let wrong = site.submit(&path, &[("enabled", "on"), ("mailbox", "no address")]);
    assert_eq!(wrong.status, 400, "{}", wrong.text);
    assert!(wrong.text.contains("expected an address"), "{}", wrong.text);
    let text = site.does(&format!("{path}/unbind"), &[]);
    assert!(text.contains("class=\"flash ok\""), "{text}");
    assert_eq!(world.user("anna")["state"], "unbound");
}

#[test]
fn history_shows_old_and_new_and_takes_back() {
    let world = World::start();
    let (id, _) = world.pair("Before", json!({}));
    world.espo_update(&id, json!({ "name": "After" }));
    world.one_event("anna", "After");
    world.settle();
    let mut site = world.admin_site();
    let list = site.page(&format!("/history?record_id={id}&type=update"));
    let rows = list.split("<tbody>").nth(1).unwrap();
    let entry = rows.split("href=\"/history/").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let text = site.page(&format!("/history/{entry}"));
    assert!(text.contains("<pre>Before</pre>") && text.contains("<pre>After</pre>"), "{text}");
    site.does(&format!("/history/{entry}"), &[]);
    world.one_event("anna", "Before");
    let again = site.submit(&format!("/history/{entry}"), &[]);
    assert_eq!(again.status, 409, "{}", again.text);
    assert!(site.page("/history?kind=call").contains("No change fits this filter."));
    assert_eq!(site.get("/history?kind=lunch").status, 400);
}

/// Would be a script and an element, if it were not text.
const MARKUP: &str = "<script>alert('x')</script><b onclick=\"y\">";

/// People, records, items and refusals that bring markup along, in every field that takes it.
fn full_of_markup() -> World {
    let world = Setup::default()
        .seeds(|espo, graph| {
            espo.seed_user("mallory", MARKUP, "mallory@contoso.example");
            graph.add_mailbox("mallory@contoso.example", MARKUP, "UTC");
            espo.set_role(MARKUP, &json!({}), "all");
            espo.assign_role("mallory", MARKUP);
            espo.seed("Contact", &json!({ "name": MARKUP, "lastName": MARKUP, "emailAddress": "c@else.example" }));
        })
        .users(&["anna", "boris"])
        .start();
    // EspoCRM refuses angle brackets in names, and takes them in descriptions.
    let (id, _) = world.pair("\"Plain' & simple", json!({ "description": MARKUP }));
    world.espo_update(&id, json!({ "description": format!("{MARKUP}2") }));
    world.settle();
    let people = [world.attendee("c@else.example", MARKUP), world.attendee("unknown@else.example", MARKUP)];
    let body = json!({ "contentType": "text", "content": MARKUP });
    let event =
        json!({ "location": { "displayName": MARKUP }, "attendees": people, "categories": [MARKUP], "body": body });
    world.outlook_create("anna", &format!("{MARKUP}3"), event);
    world.person("anna").create_task(json!({ "title": MARKUP, "body": body, "categories": [MARKUP] })).unwrap();
    world.settle();
    let refusal = json!({ "error": { "code": MARKUP, "message": MARKUP } });
    world.graph.wire().push(Fault::status("POST", "/events", 400).body(refusal).times(-1));
    let refused = world.espo_create("anna", "Refused", json!({ "description": MARKUP }));
    world.eventually("a dead letter", || world.dead().iter().any(|one| one["target"]["id"] == refused.as_str()));
    world.graph.wire().clear();
    world.put("/roles", &json!({ MARKUP: { "fields": { "sync_from": "read", "token": "no", "direction": "no" } } }));
    // A first synchronisation that waits, with a preview.
    world.espo_create("boris", "With guests", json!({ "usersIds": [world.id("anna"), world.id("boris")] }));
    world.outlook_create("boris", MARKUP, json!({}));
    let bound = json!({ "enabled": true, "mailbox": "boris@contoso.example" });
    world.put(&format!("/users/{}/binding", world.id("boris")), &bound);
    assert_eq!(world.sign_in("boris", "boris").status, 200);
    world.eventually("Boris's first synchronisation waits", || !world.items("/holds").is_empty());
    world
}

#[test]
fn markup_in_what_either_system_sends_stays_text() {
    let world = full_of_markup();
    let mut site = world.admin_site();
    let mallory = world.espo.user_id("mallory").unwrap();
    site.does(&format!("/users/{mallory}"), &[("enabled", "on")]);
    let job = site.submit("/sync", &[("dry_run", "on")]).location().to_owned();
    world.eventually("the preview ends", || site.page(&job).contains("Nothing was changed."));
    let mut pages: Vec<String> = ADMIN_PAGES.iter().map(|page| (*page).to_owned()).collect();
    pages.extend([job, format!("/users/{mallory}"), format!("/users/{mallory}/rules")]);
    for (list, link) in [("/history", "/history/"), ("/messages", "/messages/")] {
        let text = site.page(list);
        let link_to = format!("href=\"{link}");
        let ids = text.split("<tbody>").nth(1).unwrap().split(&link_to).skip(1);
        pages.extend(ids.map(|rest| format!("{link}{}", rest.split('"').next().unwrap())));
    }
    for (kind, entity) in [("meeting", "Meeting"), ("task", "Task")] {
        let ids = world.espo.records(entity).into_iter().map(|record| record["id"].as_str().unwrap().to_owned());
        pages.extend(ids.map(|id| format!("/records/{kind}/{id}")));
    }
    assert!(pages.len() > 30, "{pages:?}");
    let mut shown = 0;
    for path in &pages {
        let text = site.page(path);
        assert!(!text.contains("<script>alert") && !text.contains("<b onclick"), "{path}: {text}");
        shown += usize::from(text.contains("&#60;script&#62;") || text.contains("&lt;script&gt;"));
    }
    assert!(shown > 10, "the markup is on {shown} pages only");
    for path in ["/holds", "/roles", "/users", "/messages", "/audit", &format!("/users/{mallory}")] {
        assert!(site.page(path).contains("&#60;script&#62;"), "{path} does not show what is to be looked at here");
    }
    for name in ["mallory", "anna", "boris"] {
        let mut own = world.user_site(name);
        for path in OWN_PAGES {
            let text = own.page(path);
            assert!(!text.contains("<script>alert") && !text.contains("<b onclick"), "{path}: {text}");
            let is_told = name == "mallory" && ["/me", "/me/rules"].contains(&path);
            assert!(!is_told || text.contains("By the role"), "{path} does not name the role: {text}");
        }
    }
    // What is refused names the role.
    let refused = world.user_site("mallory").submit("/me/token", &[]);
    assert_eq!(refused.status, 403, "{}", refused.text);
    assert!(refused.text.contains("&#60;script&#62;") && !refused.text.contains("<script>alert"), "{}", refused.text);
    let text = site.submit("/sign-out", &[("x", MARKUP)]);
    assert_eq!(text.status, 303);
    let back = world.site().post("/sign-in", &[("user", MARKUP), ("password", "x")]);
    assert!(!back.text.contains("<script>alert"), "{}", back.text);
    let refused =
        "/oauth/microsoft/callback?state=%3Cscript%3Ealert&error=%3Cscript%3Ealert&error_description=%3Cscript%3Ealert";
    assert!(!world.site().get(refused).text.contains("<script>alert"));
}

/// Every page that an administrator has.
const ADMIN_PAGES: [&str; 20] = [
    "/",
    "/users",
    "/holds",
    "/history",
    "/records",
    "/sync",
    "/messages",
    "/messages?state=dead",
    "/subscriptions",
    "/log",
    "/audit",
    "/setup",
    "/settings",
    "/rules",
    "/schedules",
    "/roles",
    "/sessions",
    "/holds?state=all",
    "/doctor",
    "/doctor/report",
];

/// Every page that a user has.
const OWN_PAGES: [&str; 5] = ["/me", "/me/rules", "/me/records", "/me/history", "/sessions"];

#[test]
fn every_page_answers_in_both_languages_and_users_get_their_own_only() {
    let world = World::start();
    let (id, _) = world.pair("Shown everywhere", json!({}));
    let mut site = world.admin_site();
    let job = site.submit("/sync", &[("dry_run", "on")]).location().to_owned();
    let message = world.items("/messages?state=done")[0]["id"].as_str().unwrap().to_owned();
    let entry = world.history(&format!("record_id={id}"))[0]["id"].as_str().unwrap().to_owned();
    let anna = world.id("anna");
    let more = [
        job,
        format!("/messages/{message}"),
        format!("/history/{entry}"),
        format!("/records/meeting/{id}"),
        format!("/users/{anna}"),
        format!("/users/{anna}/rules"),
    ];
    let mut user = world.user_site("anna");
    for lang in ["en", "de"] {
        for browser in [&mut site, &mut user] {
            browser.headers = vec![("Origin", world.url.clone()), ("Accept-Language", lang.to_owned())];
        }
        for path in ADMIN_PAGES.into_iter().chain(more.iter().map(String::as_str)) {
            let text = site.page(path);
            assert!(text.contains(&format!("<html lang=\"{lang}\"")), "{path}");
            assert!(text.contains("<h1>") && !text.contains(">?<"), "{path}: a message is missing: {text}");
        }
        for path in OWN_PAGES {
            let text = user.page(path);
            assert!(text.contains("<h1>") && !text.contains(">?<"), "{path}: {text}");
        }
    }
    for path in ADMIN_PAGES.into_iter().filter(|path| !["/", "/sessions"].contains(path)) {
        assert_eq!(user.get(path).status, 403, "{path}");
    }
    assert_eq!(user.get("/").location(), "/me");
    assert_eq!(user.get(&format!("/records/meeting/{id}")).status, 200, "her own record");
    assert_eq!(world.user_site("boris").get(&format!("/records/meeting/{id}")).status, 404, "not his");
}

#[test]
fn settings_are_entered_in_the_pages_and_those_of_the_configuration_are_read_only() {
    let world = fresh();
    let mut site = world.admin_site();
    let text = site.page("/settings");
    assert!(text.contains("Given by the configuration."), "{text}");
    assert!(!text.contains(&world.espo.api_key()) && !text.contains(&world.graph.client_secret()), "a secret is shown");
    site.does("/settings", &[("events_per_iteration", "7")]);
    let settings = world.get("/settings");
    assert_eq!((&settings["events_per_iteration"], &settings["enabled"]), (&json!(7), &json!(false)));
    site.does("/settings", &[("events_per_iteration", "7"), ("enabled", "on")]);
    assert_eq!(world.get("/settings")["enabled"], true);
    let refused = site.submit("/settings", &[("espocrm.url", "https://other.example")]);
    assert_eq!(refused.status, 409, "{}", refused.text);
    site.does("/schedules", &[("meeting", "0 3 * * *"), ("call", "*/5 * * * *"), ("task", "*/5 * * * *")]);
    assert_eq!(world.get("/schedules")["meeting"], "0 3 * * *");
    assert!(site.page("/schedules").contains("03:00"));
    assert_eq!(site.submit("/schedules", &[("meeting", "whenever")]).status, 400);
}

#[test]
fn rules_are_set_for_all_and_for_one_and_inherited_again() {
    let world = World::start();
    let mut site = world.admin_site();
    site.does("/rules", &[("meeting.direction", "espo_to_outlook"), ("own_domains", "a.example, b.example")]);
    let rules = world.get("/rules");
    assert_eq!(rules["meeting"]["direction"], "espo_to_outlook");
    assert_eq!(rules["own_domains"], json!(["a.example", "b.example"]));
    let own = format!("/users/{}/rules", world.id("anna"));
    assert!(site.page(&own).contains("Inherited: EspoCRM → Outlook only"));
    site.does(&own, &[("meeting.direction", "both"), ("call.priority", "espo")]);
    let rules = world.get(&own);
    assert_eq!(rules["effective"]["meeting"]["direction"], "both");
    assert_eq!(rules["sources"]["call.priority"], "user");
    site.does(&own, &[("meeting.direction", ""), ("call.priority", "espo")]);
    let rules = world.get(&own);
    assert_eq!(rules["sources"]["meeting.direction"], "organisation");
    assert_eq!(rules["sources"]["call.priority"], "user");
}

#[test]
fn messages_are_looked_at_again_and_discarded() {
    let world = World::start();
    world.pair("Told", json!({}));
    let mut site = world.admin_site();
    let id = world.items("/messages?state=done")[0]["id"].as_str().unwrap().to_owned();
    let text = site.does(&format!("/messages/{id}"), &[("do", "replay")]);
    assert!(text.contains("class=\"flash ok\""), "{text}");
    site.does("/messages", &[("id", &id), ("do", "replay")]);
    assert_eq!(site.submit("/messages", &[("do", "replay")]).status, 400, "none was chosen");
    world.settle();
    site.does("/messages", &[("id", &id), ("do", "discard")]);
    assert_eq!(site.get(&format!("/messages/{id}")).status, 404);
    site.does("/subscriptions", &[]);
}

#[test]
fn a_user_signs_in_with_microsoft_synchronises_and_takes_back_alone() {
    let world = fresh();
    let mut site = world.user_site("anna");
    assert!(site.page("/me").contains("Generate token"));
    // With a script the browser is led on; without one there is a link.
    let page = site.submit("/me/token", &[]);
    let link = page.text.split("href=\"http").nth(1).unwrap().split('"').next().unwrap().replace("&#38;", "&");
    world.graph.sign_in_as(Some("anna@contoso.example"));
    assert_eq!(world.browser().open(&format!("http{link}")).status, 200);
    world.becomes("anna", "active");
    let (id, _) = world.pair("Mine", json!({}));
    world.espo_update(&id, json!({ "name": "Mine too" }));
    world.one_event("anna", "Mine too");
    world.settle();
    let list = site.page(&format!("/me/history?record_id={id}&type=update"));
    let entry = list.split("href=\"/me/history/").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert_eq!(world.user_site("boris").get(&format!("/me/history/{entry}")).status, 403, "not his");
    assert_eq!(world.user_site("boris").submit(&format!("/me/history/{entry}"), &[]).status, 403);
    site.does(&format!("/me/history/{entry}"), &[]);
    world.one_event("anna", "Mine");
    let job = site.submit("/me/sync", &[("dry_run", "on")]).location().to_owned();
    world.eventually("the preview ends", || site.page(&job).contains("Nothing was changed."));
    assert_eq!(world.user_site("boris").get(&job).status, 403, "not his");
    site.does(&format!("/records/meeting/{id}"), &[]);
    assert_eq!(world.get(&format!("/records/meeting/{id}"))["enabled"], false);
    site.does("/me", &[("has_enabled", "on")]);
    assert_eq!(world.user("anna")["state"], "paused");
}

#[test]
fn roles_close_preferences_in_the_pages_and_in_the_api_and_say_why() {
    let world = World::start();
    let mut admin = world.admin_site();
    let text = admin.page("/roles");
    let role = text.split("name=\"role\" value=\"").nth(1).expect("a role").split('"').next().unwrap().to_owned();
    assert!(text.contains("Sales rep"), "{text}");
    let field = |name: &str| format!("{role}.{name}");
    admin.does(
        "/roles",
        &[("role", &role), (&field("sync_from"), "read"), (&field("todo_list"), "no"), (&field("direction"), "no")],
    );
    let roles = world.items("/roles");
    assert_eq!(roles[0]["fields"], json!({ "sync_from": "read", "todo_list": "no", "direction": "no" }));
    let mut site = world.user_site("anna");
    let text = site.page("/me");
    assert!(text.contains("Closed by your role “Sales rep”") && !text.contains("name=\"todo_list\""), "{text}");
    // What is not shown at all is named too.
    assert!(text.contains("To Do list</th>") && text.contains("“Sales rep”</td>"), "{text}");
    let rules = site.page("/me/rules");
    assert!(!rules.contains("name=\"meeting.direction\"") && rules.contains("Meetings · Direction</th>"), "{rules}");
    site.headers.retain(|(name, _)| *name != "Accept-Language");
    site.headers.push(("Accept-Language", "de".to_owned()));
    let german = site.page("/me");
    let refused = site.get("/me/lists").text;
    assert!(refused.contains("Ihre Rollen in EspoCRM (Sales rep) sperren „To-Do-Liste“"), "{refused}");
    assert!(german.contains("Durch Ihre Rolle „Sales rep“ in EspoCRM gesperrt"), "{german}");
    let told = site.api("GET", &format!("/users/{}", world.id("anna")), None, None).json();
    let closed = |field: &str, access: &str| json!({ "field": field, "access": access, "roles": ["Sales rep"] });
    let all = json!([closed("sync_from", "read"), closed("todo_list", "no"), closed("direction", "no")]);
    assert_eq!(told["closed"], all);
    assert_eq!(world.user("anna")["closed"], all, "administrators see it as well");
    let csrf = site.csrf();
    let path = format!("/users/{}", world.id("anna"));
    for (what, body) in
        [("sync_from", json!({ "sync_from": "2020-01-01" })), ("todo_list", json!({ "todo_list": "Mine" }))]
    {
        let answer = site.api("PUT", &format!("{path}/binding"), Some(&csrf), Some(&body));
        assert_eq!(answer.status, 403, "{}", answer.text);
        assert!(answer.text.contains(what) && answer.text.contains("roles in EspoCRM (Sales rep)"), "{}", answer.text);
    }
    let form = site.submit("/me", &[("sync_from", "2020-01-01")]);
    assert_eq!(form.status, 403, "{}", form.text);
    let rules = json!({ "meeting": { "direction": "disabled" } });
    assert_eq!(site.api("PUT", &format!("{path}/rules"), Some(&csrf), Some(&rules)).status, 403);
    assert_eq!(site.submit("/me/rules", &[("meeting.direction", "disabled")]).status, 403);
    let open = json!({ "meeting": { "priority": "espo" } });
    assert_eq!(site.api("PUT", &format!("{path}/rules"), Some(&csrf), Some(&open)).status, 200);
    // Other people's things and the mailbox are never theirs.
    let boris = world.id("boris");
    let bind = json!({ "enabled": true });
    assert_eq!(site.api("PUT", &format!("/users/{boris}/binding"), Some(&csrf), Some(&bind)).status, 403);
    assert_eq!(site.api("GET", &format!("/users/{boris}"), None, None).status, 403);
    let mailbox = json!({ "mailbox": "boss@contoso.example" });
    assert_eq!(site.api("PUT", &format!("{path}/binding"), Some(&csrf), Some(&mailbox)).status, 403);
    assert_eq!(site.api("POST", "/sync", Some(&csrf), Some(&json!({}))).status, 403);
    assert_eq!(site.api("GET", "/history", None, None).status, 200);
    assert_eq!(site.api("GET", &format!("/history?user_id={boris}"), None, None).status, 403);
    // The whole closed: nothing is open.
    admin.does("/roles", &[("role", &role), (&field("*"), "no")]);
    assert_eq!(site.submit("/me/token", &[]).status, 403);
    assert_eq!(site.get("/me/history").status, 403);
}

#[test]
fn a_fresh_service_is_set_up_in_the_browser_without_a_restart() {
    let blank =
        ["ESPOCRM__URL", "ESPOCRM__API_KEY", "MICROSOFT__TENANT", "MICROSOFT__CLIENT_ID", "MICROSOFT__CLIENT_SECRET"];
    let setup = blank.into_iter().fold(Setup::default().bound(&[]), |setup, key| setup.env(key, ""));
    let world = setup.start_unprepared();
    let mut site = world.site();
    assert!(site.get("/").location().starts_with("/sign-in"));
    assert!(site.page("/sign-in").contains("name=\"token\""), "only the token lets anybody in");
    let mut site = world.admin_site();
    assert!(site.page("/").contains("href=\"/setup\""));
    let (url, key) = (world.espo.url().unwrap(), world.espo.api_key());
    let wrong = site.submit("/setup/espocrm", &[("espocrm.url", &url), ("espocrm.api_key", "wrong")]);
    assert_eq!(wrong.status, 200, "{}", wrong.text);
    assert!(wrong.text.contains("refuses the API key"), "{}", wrong.text);
    let right = site.submit("/setup/espocrm", &[("espocrm.url", &url), ("espocrm.api_key", &key)]);
    assert!(right.text.contains("lets connector in"), "{}", right.text);
    let made = site.submit("/setup/provision", &[]);
    assert!(made.text.contains("Meeting.create"), "{}", made.text);
    let (tenant, client) = (world.graph.tenant_id(), world.graph.client_id());
    let fields = [("microsoft.tenant", tenant.as_str()), ("microsoft.client_id", client.as_str())];
    let with = |secret: &str, site: &mut crate::support::Site<'_>| {
        let fields: Vec<(&str, &str)> = fields.iter().copied().chain([("microsoft.client_secret", secret)]).collect();
        site.submit("/setup/microsoft", &fields).text
    };
    let text = with("wrong", &mut site);
    assert!(text.contains("pill bad"), "{text}");
    let text = with(&world.graph.client_secret(), &mut site);
    assert!(text.contains("Microsoft accepts the app registration."), "{text}");
    site.does("/rules", &[("meeting.direction", "both"), ("to", "/setup")]);
    world.bind("anna");
    world.espo_create("anna", "The first", json!({}));
    world.one_event("anna", "The first");
    assert!(world.user_site("anna").page("/me").contains("In step"));
}

#[test]
fn several_changes_are_previewed_and_taken_back() {
    let world = World::start();
    let (id, _) = world.pair("One", json!({}));
    for name in ["Two", "Three"] {
        world.espo_update(&id, json!({ "name": name }));
        world.one_event("anna", name);
        world.settle();
    }
    let mut site = world.admin_site();
    assert_eq!(site.get("/history/revert").status, 400, "not everything at once");
    let list = site.page(&format!("/history?record_id={id}"));
    let offer = list.split("href=\"/history/revert?").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let first = world.history(&format!("record_id={id}&type=update")).pop().unwrap()["at"].as_str().unwrap().to_owned();
    let preview = site.page(&format!("/history/revert?{}&since={first}", offer.replace("&#38;", "&")));
    assert!(preview.contains("<dt>changed ones to put back</dt><dd>2</dd>"), "{preview}");
    assert_eq!(world.espo.get_record("Meeting", &id).unwrap()["name"], "Three", "a preview does nothing");
    let done = site.submit("/history/revert", &[("record_id", &id), ("since", &first)]);
    assert!(done.text.contains("class=\"flash ok\"") && !done.text.contains("were not taken back"), "{}", done.text);
    world.one_event("anna", "One");
    assert_eq!(world.espo.get_record("Meeting", &id).unwrap()["name"], "One");
    // All of it is noted.
    let audit = site.page("/audit");
    assert!(audit.contains("/history/revert") && audit.contains("administrator"), "{audit}");
}
