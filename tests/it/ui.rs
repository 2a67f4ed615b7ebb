//! The web pages over plain HTTP: who gets in, what is refused, what is shown.

use serde_json::json;

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
    let database = std::fs::read(world.folder().join("espo-outlook.db")).unwrap();
    let journal = std::fs::read(world.folder().join("espo-outlook.db-wal")).unwrap_or_default();
    for secret in ["anna-Pass1", "guessed", site.cookies[SESSION].as_str()] {
        assert!(!log.contains(secret), "{secret} is in the log");
        let is_in = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!is_in(&database) && !is_in(&journal), "{secret} is in the database");
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
    let entry = list.split("href=\"/history/").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let text = site.page(&format!("/history/{entry}"));
    assert!(text.contains("<pre>Before</pre>") && text.contains("<pre>After</pre>"), "{text}");
    site.does(&format!("/history/{entry}"), &[]);
    world.one_event("anna", "Before");
    let again = site.submit(&format!("/history/{entry}"), &[]);
    assert_eq!(again.status, 409, "{}", again.text);
    assert!(site.page("/history?kind=call").contains("No change fits this filter."));
    assert_eq!(site.get("/history?kind=lunch").status, 400);
}

#[test]
fn markup_in_what_either_system_sends_stays_text() {
    const MARKUP: &str = "<script>alert('x')</script><b onclick=\"y\">";
    let world = Setup::default()
        .seeds(|espo, graph| {
            let name = "<script>alert('x')</script><b onclick=\"y\">";
            espo.seed_user("mallory", name, "mallory@contoso.example");
            graph.add_mailbox("mallory@contoso.example", name, "UTC");
        })
        .start();
    // EspoCRM refuses angle brackets in names, and takes them in descriptions.
    let (id, _) = world.pair("\"Plain' & simple", json!({ "description": MARKUP }));
    world.espo_update(&id, json!({ "description": format!("{MARKUP}2") }));
    world.settle();
    world.outlook_create("anna", &format!("{MARKUP}3"), json!({ "location": { "displayName": MARKUP } }));
    world.settle();
    let mut site = world.admin_site();
    let mut pages =
        vec!["/".to_owned(), "/users".to_owned(), "/history".to_owned(), format!("/users/{}", world.id("anna"))];
    let list = site.page("/history");
    pages.extend(
        list.split("href=\"/history/").skip(1).map(|rest| format!("/history/{}", rest.split('"').next().unwrap())),
    );
    assert!(pages.len() > 6, "{pages:?}");
    for path in &pages {
        let text = site.page(path);
        assert!(!text.contains("<script>alert") && !text.contains("<b onclick"), "{path}: {text}");
    }
    assert!(site.page("/users").contains("&#60;script&#62;") || site.page("/users").contains("&lt;script&gt;"));
    let text = site.submit("/sign-out", &[("x", MARKUP)]);
    assert_eq!(text.status, 303);
    let back = world.site().post("/sign-in", &[("user", MARKUP), ("password", "x")]);
    assert!(!back.text.contains("<script>alert"), "{}", back.text);
}
