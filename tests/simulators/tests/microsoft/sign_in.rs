use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use serde_json::Value;
use sha2::{Digest, Sha256};
use simulators::plumbing::Request;
use url::form_urlencoded;

use crate::support::*;

const CALLBACK: &str = "http://127.0.0.1:9/cb";
const VERIFIER: &str = "a-verifier-that-is-long-enough-to-be-accepted-by-everybody";
const SCOPE: &str = "openid offline_access User.Read Calendars.ReadWrite Tasks.ReadWrite";

fn encode(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// Visits the authorize page: the status, and what came back in the redirect.
async fn authorize(g: &Graph, changes: &[(&str, &str)]) -> (u16, String, std::collections::BTreeMap<String, String>) {
    g.sim.allow_redirect(CALLBACK);
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
    let client = g.sim.client_id();
    let mut fields = vec![
        ("client_id", client.as_str()),
        ("response_type", "code"),
        ("redirect_uri", CALLBACK),
        ("scope", SCOPE),
        ("state", "a state&more"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
        ("login_hint", BORIS),
    ];
    for (name, value) in changes {
        fields.retain(|(n, _)| n != name);
        if !value.is_empty() {
            fields.push((name, value));
        }
    }
    let answer = g.ask(Request::new("GET", &format!("/common/oauth2/v2.0/authorize?{}", encode(&fields)))).await;
    let location = answer.response.get_header("Location").unwrap_or_default().to_owned();
    let back = location.split_once('?').map(|(_, q)| form_urlencoded::parse(q.as_bytes()).into_owned().collect());
    (answer.status, String::from_utf8(answer.response.body).unwrap(), back.unwrap_or_default())
}

async fn token(g: &Graph, tenant: &str, fields: &[(&str, &str)]) -> Answer {
    let (client, secret) = (g.sim.client_id(), g.sim.client_secret());
    let mut all = vec![("client_id", client.as_str()), ("client_secret", secret.as_str())];
    for (name, value) in fields {
        all.retain(|(n, _)| n != name);
        all.push((name, value));
    }
    let mut request = Request::new("POST", &format!("/{tenant}/oauth2/v2.0/token"))
        .with_header("Content-Type", "application/x-www-form-urlencoded");
    request.body = encode(&all).into_bytes();
    g.ask(request).await
}

async fn signed_in(g: &Graph) -> Value {
    let (_, _, back) = authorize(g, &[]).await;
    redeem(g, &back["code"], VERIFIER).await.ok(200).body
}

async fn redeem(g: &Graph, code: &str, verifier: &str) -> Answer {
    let fields =
        [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", CALLBACK), ("code_verifier", verifier)];
    token(g, "common", &fields).await
}

async fn refresh(g: &Graph, token_text: &str) -> Answer {
    token(g, "common", &[("grant_type", "refresh_token"), ("refresh_token", token_text)]).await
}

async fn me(g: &Graph, access: &str) -> u16 {
    g.ask(Request::new("GET", "/v1.0/me").with_header("Authorization", &format!("Bearer {access}"))).await.status
}

fn number(answer: &Answer) -> i64 {
    answer.body["error_codes"][0].as_i64().unwrap_or_default()
}

#[tokio::test]
async fn without_a_hint_the_page_lists_the_mailboxes_and_a_link_completes_the_sign_in() {
    let g = Graph::new();
    let (status, page, _) = authorize(&g, &[("login_hint", "")]).await;
    assert_eq!(status, 200);
    let link = page.split("href=\"").find(|l| l.contains("login_hint=carla")).unwrap().split('"').next().unwrap();
    let answer = g.ask(Request::new("GET", &link.replace("&amp;", "&"))).await.ok(302);
    assert!(answer.response.get_header("Location").unwrap().starts_with(&format!("{CALLBACK}?code=")));
    g.sim.sign_in_as(Some(ANNA));
    assert_eq!(authorize(&g, &[("login_hint", "")]).await.0, 302);
}

#[tokio::test]
async fn the_redirect_uri_is_exact_and_other_mistakes_are_told_to_it() {
    let g = Graph::new();
    assert_eq!(authorize(&g, &[("redirect_uri", "http://127.0.0.1:9/cb/")]).await.0, 400);
    assert_eq!(authorize(&g, &[("client_id", "other")]).await.0, 400);
    let (status, _, back) = authorize(&g, &[("scope", "Bogus.All")]).await;
    assert_eq!((status, back["error"].as_str(), back["state"].as_str()), (302, "invalid_scope", "a state&more"));
    assert_eq!(authorize(&g, &[("code_challenge_method", "plain")]).await.2["error"], "invalid_request");
    assert_eq!(authorize(&g, &[("login_hint", "nobody@else.example")]).await.2["error"], "access_denied");
    g.sim.refuse_next_sign_in("consent_required");
    assert_eq!(authorize(&g, &[]).await.2["error"], "consent_required");
    let (status, page, _) = authorize(&g, &[("response_mode", "form_post")]).await;
    assert!(status == 200 && page.contains("name=\"code\""));
}

#[tokio::test]
async fn a_code_needs_its_verifier_works_once_and_dies_after_ten_minutes() {
    let g = Graph::new();
    let (_, _, back) = authorize(&g, &[]).await;
    assert_eq!(back["state"], "a state&more");
    assert_eq!(number(&redeem(&g, &back["code"], "x".repeat(50).as_str()).await), 501_481);
    let wrong_secret = token(&g, "common", &[("grant_type", "authorization_code"), ("client_secret", "bad")]).await;
    assert_eq!((wrong_secret.status, wrong_secret.body["error"].as_str()), (401, Some("invalid_client")));
    let tokens = redeem(&g, &back["code"], VERIFIER).await.ok(200).body;
    assert!(tokens["id_token"].is_string() && tokens["refresh_token"].is_string());
    assert_eq!(number(&redeem(&g, &back["code"], VERIFIER).await), 54_005);
    assert_eq!(me(&g, tokens["access_token"].as_str().unwrap()).await, 200);
    let (_, _, late) = authorize(&g, &[]).await;
    g.clock.advance(TimeDelta::minutes(11));
    assert_eq!(number(&redeem(&g, &late["code"], VERIFIER).await), 70_008);
}

#[tokio::test]
async fn access_tokens_expire_by_the_clock_and_refresh_tokens_after_ninety_days() {
    let g = Graph::new();
    let tokens = signed_in(&g).await;
    let (access, renewal) = (tokens["access_token"].as_str().unwrap(), tokens["refresh_token"].as_str().unwrap());
    g.clock.advance(TimeDelta::seconds(3600));
    assert_eq!(me(&g, access).await, 401);
    let fresh = refresh(&g, renewal).await.ok(200).body;
    assert_eq!(me(&g, fresh["access_token"].as_str().unwrap()).await, 200);
    g.clock.advance(TimeDelta::days(91));
    assert_eq!(number(&refresh(&g, fresh["refresh_token"].as_str().unwrap()).await), 700_082);
}

#[tokio::test]
async fn a_refresh_token_rotates_and_the_old_one_works_once_more_unless_rotation_is_strict() {
    let g = Graph::new();
    let old = signed_in(&g).await["refresh_token"].as_str().unwrap().to_owned();
    let new = refresh(&g, &old).await.ok(200).body["refresh_token"].clone();
    assert_ne!(new, Value::String(old.clone()));
    refresh(&g, &old).await.ok(200);
    assert_eq!(refresh(&g, &old).await.body["error"], "invalid_grant");
    g.sim.set_refresh_token_uses(Some(1));
    let strict = signed_in(&g).await["refresh_token"].as_str().unwrap().to_owned();
    refresh(&g, &strict).await.ok(200);
    assert_eq!(number(&refresh(&g, &strict).await), 70_000);
}

#[tokio::test]
async fn revoking_a_user_kills_all_tokens_with_50173() {
    let g = Graph::new();
    let tokens = signed_in(&g).await;
    g.sim.revoke(BORIS);
    assert_eq!(me(&g, tokens["access_token"].as_str().unwrap()).await, 401);
    assert_eq!(number(&refresh(&g, tokens["refresh_token"].as_str().unwrap()).await), 50_173);
    let tokens = signed_in(&g).await;
    g.sim.expire_refresh_tokens(BORIS);
    assert_eq!(number(&refresh(&g, tokens["refresh_token"].as_str().unwrap()).await), 700_082);
}

#[tokio::test]
async fn client_credentials_need_a_named_tenant_and_default_and_know_no_me() {
    let g = Graph::new();
    let tenant = g.sim.tenant_id();
    let ask = |tenant: String, scope: &'static str| {
        let g = &g;
        async move { token(g, &tenant, &[("grant_type", "client_credentials"), ("scope", scope)]).await }
    };
    assert_eq!(ask(tenant.clone(), "Calendars.ReadWrite").await.body["error"], "invalid_scope");
    assert_eq!(ask("common".to_owned(), "https://graph.microsoft.com/.default").await.status, 400);
    let app = ask(tenant, "https://graph.microsoft.com/.default").await.ok(200).body;
    assert!(app.get("refresh_token").is_none());
    let bearer = format!("Bearer {}", app["access_token"].as_str().unwrap());
    let get = |path: &str| g.ask(Request::new("GET", path).with_header("Authorization", &bearer));
    assert_eq!(get("/v1.0/me/events").await.status, 400);
    get(&format!("/v1.0/users/{ANNA}/events")).await.ok(200);
    assert_eq!(get("/v1.0/users?$top=2").await.rows().len(), 2);
    g.sim.set_client_secret("another");
    let old = token(&g, "common", &[("grant_type", "refresh_token"), ("client_secret", "s~old")]).await;
    assert_eq!(number(&old), 7_000_215);
}

#[tokio::test]
async fn missing_scopes_are_403() {
    let g = Graph::new();
    let (_, _, back) = authorize(&g, &[("scope", "openid User.Read Calendars.Read")]).await;
    let tokens = redeem(&g, &back["code"], VERIFIER).await.ok(200).body;
    assert!(tokens.get("refresh_token").is_none(), "no offline_access, no refresh token");
    let bearer = format!("Bearer {}", tokens["access_token"].as_str().unwrap());
    let request = |method: &str, path: &str| Request::new(method, path).with_header("Authorization", &bearer);
    g.ask(request("GET", "/v1.0/me/events")).await.ok(200);
    g.ask(request("POST", "/v1.0/me/events").with_json(&event("E"))).await.ok(403);
    g.ask(request("GET", "/v1.0/me/todo/lists")).await.ok(403);
    g.ask(request("GET", "/v1.0/me/mailboxSettings")).await.ok(403);
}

#[tokio::test]
async fn admin_consent_comes_back_with_the_tenant() {
    let g = Graph::new();
    g.sim.allow_redirect(CALLBACK);
    let client = g.sim.client_id();
    let query = encode(&[("client_id", client.as_str()), ("redirect_uri", CALLBACK), ("state", "s")]);
    let answer = g.ask(Request::new("GET", &format!("/common/adminconsent?{query}"))).await.ok(302);
    let wanted = format!("{CALLBACK}?tenant={}&state=s&admin_consent=True", g.sim.tenant_id());
    assert_eq!(answer.response.get_header("Location"), Some(wanted.as_str()));
    let refused = g.ask(Request::new("POST", "/nowhere/oauth2/v2.0/token")).await;
    assert_eq!(number(&refused), 90_002);
}
