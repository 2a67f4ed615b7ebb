//! Against an identity platform that answers as it is told and counts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::web::{self, Data, Form};
use actix_web::{App as ActixApp, HttpResponse, HttpServer};
use futures::future::join_all;
use serde_json::json;
use store::bindings::Binding;

use super::*;
use crate::app::{App, BuildOptions};
use crate::clock::ManualClock;
use crate::config::Config;

#[derive(Default)]
struct Platform {
    asked: AtomicUsize,
    refuse_with: Mutex<Option<&'static str>>,
}

/// Every refresh spends its refresh token: `r0` gives `a1` and `r1`, and so on.
async fn token(platform: Data<Platform>, form: Form<HashMap<String, String>>) -> HttpResponse {
    let n = platform.asked.fetch_add(1, Ordering::SeqCst) + 1;
    // Long enough for others to arrive meanwhile.
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    if let Some(error) = *platform.refuse_with.lock().unwrap() {
        return HttpResponse::BadRequest()
            .json(json!({ "error": error, "error_codes": [1], "error_description": "no" }));
    }
    match form.get("grant_type").map(String::as_str) {
        Some("refresh_token") if form.get("refresh_token") == Some(&format!("r{}", n - 1)) => {
            let (access, refresh) = (format!("a{n}"), format!("r{n}"));
            HttpResponse::Ok().json(json!({
                "token_type": "Bearer", "access_token": access, "refresh_token": refresh, "expires_in": 3600,
            }))
        }
        Some("client_credentials") => {
            HttpResponse::Ok().json(json!({ "token_type": "Bearer", "access_token": "app", "expires_in": 3600 }))
        }
        _ => HttpResponse::BadRequest().json(json!({ "error": "invalid_grant", "error_codes": [70000] })),
    }
}

struct World {
    app: App,
    platform: Data<Platform>,
    clock: ManualClock,
    mailbox: Mailbox,
    _dir: tempfile::TempDir,
}

async fn world(mode: Mode) -> World {
    let platform = Data::new(Platform::default());
    let shared = platform.clone();
    let server = HttpServer::new(move || {
        ActixApp::new().app_data(shared.clone()).route("/contoso/oauth2/v2.0/token", web::post().to(token))
    });
    let server = server.workers(1).disable_signals().bind("127.0.0.1:0").unwrap();
    let address = server.addrs()[0];
    tokio::spawn(server.run());
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::defaults().unwrap();
    config.database.url = SecretString::from(format!("sqlite://{}/t.db?mode=rwc", dir.path().display()));
    config.microsoft.authority = format!("http://{address}").parse().unwrap();
    config.microsoft.tenant = Some("contoso".to_owned());
    config.microsoft.client_id = Some("app".to_owned());
    config.microsoft.client_secret = Some(SecretString::from("hush"));
    config.microsoft.mode = Some(mode);
    let clock = ManualClock::at(DateTime::from_timestamp_millis(1_800_000_000_000).unwrap());
    let app = App::build_with(config, Clock::Manual(clock.clone()), BuildOptions::default()).await.unwrap();
    let call_category = "Call".to_owned();
    let mailbox = Mailbox {
        user: "anna".to_owned(),
        address: "anna@x.example".to_owned(),
        zone: None,
        call_category,
        pairs: std::sync::Arc::default(),
    };
    let world = World { app, platform, clock, mailbox, _dir: dir };
    world.bind().await;
    world
}

impl World {
    async fn bind(&self) {
        let now = self.app.clock().now();
        let binding = Binding {
            user_id: "anna".to_owned(),
            user_name: "anna".to_owned(),
            email: None,
            enabled: true,
            mailbox: Some("anna@x.example".to_owned()),
            graph_user_id: None,
            zone: None,
            sync_from: now.date_naive(),
            todo_list: None,
            state: BindingState::Active,
            reason: "In step.".to_owned(),
            next_try: None,
            last_sync: None,
            first_sync_done: true,
            created: now,
            updated: now,
        };
        store::bindings::upsert(self.app.store().write(), &binding, now).await.unwrap();
    }

    async fn signed_in(&self) {
        let tokens = TokenSet {
            access: SecretString::from("a0"),
            refresh: Some(SecretString::from("r0")),
            expires_in: std::time::Duration::from_secs(3600),
            scopes: Vec::new(),
        };
        let token = self.app.connections().purse().seal("anna", &tokens).unwrap();
        store::tokens::put(self.app.store().write(), "anna", &token, self.app.clock().now()).await.unwrap();
    }

    fn tokens(&self) -> TokenStore {
        let microsoft = self.app.connections().microsoft().unwrap();
        TokenStore::new(
            self.app.connections().purse().clone(),
            microsoft.authority.clone(),
            microsoft.mode,
            "contoso",
            "app",
        )
    }

    async fn access(&self) -> Result<String, AuthError> {
        self.tokens().access(&self.mailbox).await.map(|token| token.expose_secret().to_owned())
    }

    fn asked(&self) -> usize {
        self.platform.asked.load(Ordering::SeqCst)
    }

    async fn state(&self) -> BindingState {
        store::bindings::by_user(self.app.store().read(), "anna").await.unwrap().unwrap().state
    }
}

#[tokio::test]
async fn a_fresh_token_is_used_without_asking() {
    let world = world(Mode::Delegated).await;
    world.signed_in().await;
    assert_eq!(world.access().await.unwrap(), "a0");
    assert_eq!(world.asked(), 0);
}

#[tokio::test]
async fn many_that_need_a_token_at_once_make_one_refresh() {
    let world = world(Mode::Delegated).await;
    world.signed_in().await;
    world.clock.advance(TimeDelta::hours(2));
    let all = join_all((0..10).map(|_| world.access())).await;
    assert!(all.iter().all(|token| token.as_ref().is_ok_and(|token| token == "a1")), "{all:?}");
    assert_eq!(world.asked(), 1);
    // The new refresh token is the one that is used next.
    world.clock.advance(TimeDelta::hours(2));
    assert_eq!(world.access().await.unwrap(), "a2");
}

#[tokio::test]
async fn a_refused_token_is_renewed_unless_somebody_has_done_so_already() {
    let world = world(Mode::Delegated).await;
    world.signed_in().await;
    let refused = SecretString::from("a0");
    let tokens = world.tokens();
    let (first, second) = tokio::join!(tokens.renew(&world.mailbox, &refused), tokens.renew(&world.mailbox, &refused));
    assert_eq!([first.unwrap().expose_secret(), second.unwrap().expose_secret()], ["a1", "a1"]);
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn tokens_lie_sealed_in_the_database() {
    let world = world(Mode::Delegated).await;
    world.signed_in().await;
    world.clock.advance(TimeDelta::hours(2));
    world.access().await.unwrap();
    let kept = store::tokens::get(world.app.store().read(), "anna").await.unwrap().unwrap().token;
    assert!(kept.access.starts_with("1.") && kept.refresh.is_some_and(|refresh| refresh.starts_with("1.")));
}

#[tokio::test]
async fn a_spent_grant_asks_the_user_to_sign_in_again() {
    let world = world(Mode::Delegated).await;
    world.signed_in().await;
    world.clock.advance(TimeDelta::hours(2));
    *world.platform.refuse_with.lock().unwrap() = Some("invalid_grant");
    assert!(matches!(world.access().await, Err(AuthError::SignIn(_))));
    assert_eq!(world.state().await, BindingState::NeedsAuthorization);
    assert!(world.app.connections().purse().alarm().is_none());
}

#[tokio::test]
async fn an_expired_client_secret_is_the_operators_alarm_and_no_users() {
    let world = world(Mode::Delegated).await;
    world.signed_in().await;
    world.clock.advance(TimeDelta::hours(2));
    *world.platform.refuse_with.lock().unwrap() = Some("invalid_client");
    assert!(matches!(world.access().await, Err(AuthError::Operator(_))));
    assert_eq!(world.state().await, BindingState::Active);
    assert!(world.app.connections().purse().alarm().is_some());
    // The refusals have spent no refresh token.
    *world.platform.refuse_with.lock().unwrap() = None;
    world.platform.asked.store(0, Ordering::SeqCst);
    assert_eq!(world.access().await.unwrap(), "a1");
    assert!(world.app.connections().purse().alarm().is_none());
}

#[tokio::test]
async fn in_application_mode_one_token_serves_all_mailboxes() {
    let mut world = world(Mode::Application).await;
    assert_eq!(world.access().await.unwrap(), "app");
    world.mailbox.user = "boris".to_owned();
    assert_eq!(world.access().await.unwrap(), "app");
    assert_eq!(world.asked(), 1);
}

#[tokio::test]
async fn a_missing_consent_of_the_organisation_is_the_operators_business() {
    let world = world(Mode::Application).await;
    *world.platform.refuse_with.lock().unwrap() = Some("invalid_grant");
    assert!(matches!(world.access().await, Err(AuthError::Operator(_))));
    assert_eq!(world.state().await, BindingState::Active);
}
