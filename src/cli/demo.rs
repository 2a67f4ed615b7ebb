//! `demo`: the whole service beside a simulated EspoCRM and a simulated Microsoft, on loopback addresses, in a temporary
//! folder. Only the two systems are simulated: the service is the real one, with its embedded defaults.
//!
//! - `demo` runs until Ctrl-C, for people to play with;
//! - `demo --tour` plays a script on both sides and says what was expected and what was seen;
//! - `demo --bench N` measures how long a change takes to arrive on the other side.

mod api;
mod bench;
mod pair;
mod service;
mod table;
mod tour;
mod world;

use std::net::TcpListener;

use clap::Args as ClapArgs;
use serde_json::json;

use self::api::Api;
use self::world::{ANNA, BORIS, Pace, World};
use super::say;
use super::serve::terminated;
use crate::app::{self, App, Role};
use crate::clock::Clock;
use crate::config;

const PORTS: (u16, u16) = (8081, 8082);
const SERVICE_PORT: u16 = 8080;

/// Arguments of `demo`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Plays a scripted tour and prints what was expected and seen; succeeds only if all of it held.
    #[arg(long, conflicts_with = "bench")]
    tour: bool,
    /// Measures N creations and N edits in each direction.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    bench: Option<u32>,
    /// Port of the service; 8080 or any free one unless given.
    #[arg(long)]
    port: Option<u16>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the demo.
///
/// # Errors
///
/// When it cannot run, or a step of the tour did not hold.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let script = async {
        match args.bench {
            Some(count) => bench::run(count, args.port, args.json).await,
            None => tour::run(args.port, args.json).await,
        }
    };
    if !args.tour && args.bench.is_none() {
        return play(&args).await;
    }
    tokio::select! {
        played = script => played,
        // What was begun is dropped: the service is killed and its folder removed.
        () = terminated() => anyhow::bail!("stopped before the end"),
    }
}

async fn play(args: &Args) -> anyhow::Result<()> {
    let world = World::start(PORTS).await?;
    let listener = match args.port {
        Some(port) => TcpListener::bind(("127.0.0.1", port))?,
        None => TcpListener::bind(("127.0.0.1", SERVICE_PORT)).or_else(|_| TcpListener::bind(("127.0.0.1", 0)))?,
    };
    let address = listener.local_addr()?;
    world.expect_service_at(&format!("http://{address}"));
    let config = config::load(None, world.variables(address, Pace::DEMO))?;
    crate::telemetry::init(&config.log);
    let service = App::build(config, Clock::System).await?;
    let api = Api::new(&format!("http://{address}"), &world.admin_token)?;
    let player = async {
        let played = wait_for_person(&world, &api, &service, args.json).await;
        service.shutdown().cancel();
        played
    };
    let (served, played) = tokio::join!(app::serve(service.clone(), listener, Role::all()), player);
    world.stop().await;
    served?;
    played
}

async fn wait_for_person(world: &World, api: &Api, service: &App, json: bool) -> anyhow::Result<()> {
    world.settle_in(api).await?;
    world.espo.start_webhook_job(std::time::Duration::from_secs(1));
    if json {
        say(&addresses(world, api).to_string())?
    } else {
        say(&welcome(world, api))?
    }
    tokio::select! {
        () = service.shutdown().cancelled() => {}
        () = terminated() => {}
    }
    Ok(())
}

fn addresses(world: &World, api: &Api) -> serde_json::Value {
    json!({
        "espocrm": {"url": world.espo_url, "admin": world.espo.admin().user_name, "password": world.espo.admin().password},
        "outlook": {"url": world.graph_url, "mailboxes": [ANNA, BORIS]},
        "service": {"url": api.base(), "admin_token": world.admin_token, "docs": format!("{}/api/docs", api.base())},
    })
}

fn welcome(world: &World, api: &Api) -> String {
    let (espo, outlook, service) = (&world.espo_url, &world.graph_url, api.base());
    let (token, admin) = (&world.admin_token, world.espo.admin());
    let docs = format!("{service}/api/docs");
    let history = format!("curl -H 'Authorization: Bearer {token}' {service}/api/v1/history");
    let (user, password) = (admin.user_name, admin.password);
    format!(
        "
  EspoCRM (simulated)   {espo}/?user=anna
  Outlook (simulated)   {outlook}/?user={ANNA}
  espo-outlook          {service}/

  Sign-ins
    the two pages       nobody has to sign in: choose the user at the top
    EspoCRM's REST API  anna / anna-Pass1, boris / boris-Pass1, carla / carla-Pass1, {user} / {password}
    the service's API   {docs}
                        Authorization: Bearer {token}

  anna and boris are bound and their first synchronisation is done; carla is not bound.

  What to try
    1. Open both pages side by side. Create a meeting in EspoCRM as anna; reload Outlook two seconds later.
    2. Move it in Outlook, give it a place there; see it follow in EspoCRM.
    3. Add Boris or a contact as a participant in EspoCRM; the Outlook page shows the invitation.
    4. Decline as Boris in Outlook; see his answer in EspoCRM.
    5. Delete it on either side; the other follows after a second.
    6. See what was done and why: {history}

  Ctrl-C ends it and removes what it has stored."
    )
}
