//! The two simulated systems, with people, contacts and meetings, and the configuration that joins the service to them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use serde_json::{Value, json};
use simulators::espocrm::EspoSim;
use simulators::microsoft::{GraphSim, Mode};
use simulators::plumbing::SimClock;
use tempfile::TempDir;

use super::api::Api;
use crate::clock::Clock;
use crate::id::Ids;

pub(super) const ANNA: &str = "anna@contoso.example";
pub(super) const BORIS: &str = "boris@contoso.example";
const CARLA: &str = "carla@contoso.example";
/// Anna's meeting with Boris and Dora.
pub(super) const CONTRACT: &str = "Contract with Fabrikam";
pub(super) const DORA: &str = "dora@fabrikam.example";
/// Where Microsoft answers a sign-in.
const CALLBACK: &str = "/oauth/microsoft/callback";
/// Three kinds with three events each.
const WEBHOOKS: usize = 9;

/// How fast the service goes about things.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub poll_interval: &'static str,
    pub log: &'static str,
}

impl Pace {
    pub const DEMO: Self = Self { poll_interval: "3s", log: "warn" };
    /// Webhooks and notifications alone bring the news: so nothing happens while the tour holds them back.
    pub const HINTS_ALONE: Self = Self { poll_interval: "10m", log: "info" };
    pub const POLLING: Self = Self { poll_interval: "1s", log: "info" };
}

/// The simulated systems.
pub(super) struct World {
    pub espo: EspoSim,
    pub graph: GraphSim,
    pub clock: SimClock,
    pub folder: TempDir,
    pub espo_url: String,
    pub graph_url: String,
    pub admin_token: String,
    /// EspoCRM ids.
    pub anna: String,
    pub boris: String,
    /// A contact with an address outside.
    pub dora: String,
}

impl World {
    /// Starts both systems on the given ports or, where they are taken, on any.
    pub async fn start((espo_port, graph_port): (u16, u16)) -> anyhow::Result<Self> {
        let clock = SimClock::system();
        let seed = u64::try_from(clock.now().timestamp_millis()).unwrap_or_default();
        let (espo, graph) = (EspoSim::new(clock.clone(), seed), GraphSim::new(clock.clone(), seed + 1));
        let espo_url = match espo.start(espo_port).await {
            Ok(url) => url,
            Err(_) => espo.start(0).await.context("no port for the simulated EspoCRM")?,
        };
        let graph_url = match graph.start(graph_port).await {
            Ok(url) => url,
            Err(_) => graph.start(0).await.context("no port for the simulated Microsoft")?,
        };
        let folder = tempfile::Builder::new().prefix("espo-outlook-demo-").tempdir().context("no temporary folder")?;
        let admin_token = Ids::system(Clock::System).secret();
        let (anna, boris) = people(&espo, &graph);
        let day = Days::new(1);
        let tomorrow = clock.now().date_naive().checked_add_days(day).context("the calendar has ended")?;
        let dora = calendars(&espo, &graph, [&anna, &boris], tomorrow)?;
        Ok(Self { espo, graph, clock, folder, espo_url, graph_url, admin_token, anna, boris, dora })
    }

    /// Ends both systems; the folder goes with the world.
    pub async fn stop(&self) {
        self.espo.stop().await;
        self.graph.stop().await;
    }

    /// Microsoft answers sign-ins to registered addresses only.
    pub fn expect_service_at(&self, base: &str) {
        self.graph.allow_redirect(&format!("{base}{CALLBACK}"));
    }

    /// The configuration of the service, as variables of its environment.
    pub fn variables(&self, address: SocketAddr, pace: Pace) -> Vec<(String, String)> {
        let admin = self.espo.admin();
        let database = self.folder.path().join("espo-outlook.db");
        [
            ("SERVER__BIND", address.to_string()),
            ("SERVER__PUBLIC_URL", format!("http://{address}")),
            ("SERVER__ADMIN_TOKEN", self.admin_token.clone()),
            ("DATABASE__URL", format!("sqlite://{}?mode=rwc", database.display())),
            ("ESPOCRM__URL", self.espo_url.clone()),
            ("ESPOCRM__API_KEY", self.espo.api_key()),
            ("ESPOCRM__ADMIN_USERNAME", admin.user_name),
            ("ESPOCRM__ADMIN_PASSWORD", admin.password),
            ("MICROSOFT__TENANT", self.graph.tenant_id()),
            ("MICROSOFT__CLIENT_ID", self.graph.client_id()),
            ("MICROSOFT__CLIENT_SECRET", self.graph.client_secret()),
            ("MICROSOFT__MODE", "delegated".to_owned()),
            ("MICROSOFT__AUTHORITY", self.graph_url.clone()),
            ("MICROSOFT__GRAPH_URL", format!("{}/v1.0", self.graph_url)),
            ("SYNC__POLL_INTERVAL", pace.poll_interval.to_owned()),
            ("SYNC__DELETION_GRACE", "1s".to_owned()),
            ("LOG__FILTER", pace.log.to_owned()),
            ("LOG__FORMAT", "text".to_owned()),
        ]
        .map(|(name, value)| (format!("ESPO_OUTLOOK_{name}"), value))
        .into()
    }

    /// Waits for the service and its webhooks, binds anna and boris as an administrator and they themselves would, and
    /// waits for their first synchronisation.
    pub async fn settle_in(&self, api: &Api) -> anyhow::Result<()> {
        api.ready().await?;
        let provisioned = async || (self.espo.webhooks().len() >= WEBHOOKS).then_some(());
        let patience = Duration::from_secs(15);
        super::pair::until(patience, provisioned).await.context("the webhooks in EspoCRM were not made")?;
        for (id, mailbox) in [(&self.anna, ANNA), (&self.boris, BORIS)] {
            let link = api.bind(id, mailbox).await?;
            self.graph.sign_in_as(Some(mailbox));
            api.browse(&link).await.with_context(|| format!("{mailbox} could not sign in"))?;
        }
        api.first_syncs_done(&[&self.anna, &self.boris]).await?;
        let subscribed = async || (self.graph.subscriptions().len() >= 2).then_some(());
        super::pair::until(patience, subscribed).await.context("the subscriptions at Microsoft were not made")
    }
}

fn people(espo: &EspoSim, graph: &GraphSim) -> (String, String) {
    espo.allow_internal_webhooks(true);
    espo.set_webhook_retry(chrono::Duration::seconds(1));
    graph.set_notifications(Mode::Normal, 1, false, Duration::ZERO);
    let anna = espo.seed_user("anna", "Anna Albrecht", ANNA);
    let boris = espo.seed_user("boris", "Boris Berger", BORIS);
    espo.seed_user("carla", "Carla Conti", CARLA);
    graph.add_mailbox(ANNA, "Anna Albrecht", "W. Europe Standard Time");
    graph.add_mailbox(BORIS, "Boris Berger", "UTC");
    graph.add_mailbox(CARLA, "Carla Conti", "Pacific Standard Time");
    for entity in ["Meeting", "Call", "Task"] {
        espo.add_field(entity, "cSyncWithOutlook", "bool", &Value::Bool(true));
        espo.add_field(entity, "cOutlookMarker", "varchar", &Value::Null);
    }
    for entity in ["Meeting", "Call"] {
        espo.add_field(entity, "cLocation", "varchar", &Value::Null);
    }
    (anna, boris)
}

/// Contacts and the meetings of the next days. Gives the contact Dora.
fn calendars(espo: &EspoSim, graph: &GraphSim, [anna, boris]: [&String; 2], day: NaiveDate) -> anyhow::Result<String> {
    let later = |days| day.checked_add_days(Days::new(days)).unwrap_or(day);
    let contact = |first: &str, last: &str, address: &str| {
        let body = json!({"firstName": first, "lastName": last, "emailAddress": address});
        espo.write_as("anna", "POST", "Contact", None, &body)
    };
    let dora = text(&contact("Dora", "Diallo", DORA)?, "id");
    contact("Emil", "Ekberg", "emil@fabrikam.example")?;
    let meeting = |entity: &str, user: &str, id: &str, name: &str, day, hour, place: &str| {
        let body = record(name, (at(day, hour), at(day, hour + 1)), id);
        let body = with(body, "cLocation", json!(Some(place).filter(|place| !place.is_empty())));
        espo.write_as(user, "POST", entity, None, &body)
    };
    // With people: its first synchronisation would send invitations, which somebody has to confirm.
    let body = record(CONTRACT, (at(day, 9), at(day, 10)), anna);
    let body = with(with(body, "usersIds", json!([anna, boris])), "contactsIds", json!([dora]));
    espo.write_as("anna", "POST", "Meeting", None, &with(body, "cLocation", json!("Room 1.02")))?;
    meeting("Meeting", "anna", anna, "Weekly with the team", later(1), 13, "")?;
    meeting("Call", "anna", anna, "Call Dora about the offer", later(2), 10, "")?;
    meeting("Meeting", "boris", boris, "Warehouse tour", later(1), 8, "Gate 4")?;
    let outlook = |user: &str, subject: &str, day, hour| {
        graph.person(user).create_event(event(subject, (at(day, hour), at(day, hour + 1)))).map_err(refused)
    };
    outlook(ANNA, "Dentist", later(3), 7)?;
    outlook(ANNA, "Budget 2027", later(2), 14)?;
    outlook(BORIS, "Forklift licence", later(4), 9)?;
    Ok(dora)
}

/// The simulated Microsoft says no as an answer, not as an error.
pub(super) fn refused(refusal: simulators::microsoft::Refusal) -> anyhow::Error {
    anyhow::anyhow!("Microsoft answers {}: {} {}", refusal.status, refusal.code, refusal.message)
}

pub(super) fn at(day: NaiveDate, hour: u32) -> DateTime<Utc> {
    day.and_time(NaiveTime::from_hms_opt(hour % 24, 0, 0).unwrap_or_default()).and_utc()
}

/// A meeting as EspoCRM's web client would send it.
pub(super) fn record(name: &str, (start, end): (DateTime<Utc>, DateTime<Utc>), user: &str) -> Value {
    const FORM: &str = "%Y-%m-%d %H:%M:%S";
    json!({
        "name": name, "status": "Planned", "dateStart": start.format(FORM).to_string(),
        "dateEnd": end.format(FORM).to_string(), "assignedUserId": user, "usersIds": [user],
    })
}

/// An event as Outlook would send it.
pub(super) fn event(subject: &str, (start, end): (DateTime<Utc>, DateTime<Utc>)) -> Value {
    let time = |at: DateTime<Utc>| json!({"dateTime": at.format("%Y-%m-%dT%H:%M:%S").to_string(), "timeZone": "UTC"});
    json!({"subject": subject, "start": time(start), "end": time(end)})
}

pub(super) fn with(mut body: Value, name: &str, value: Value) -> Value {
    if let Some(body) = body.as_object_mut() {
        body.insert(name.to_owned(), value);
    }
    body
}

pub(super) fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}
