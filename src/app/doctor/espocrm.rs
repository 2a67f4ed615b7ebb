//! EspoCRM: access, rights, fields, webhooks.

use chrono::TimeDelta;
use espocrm::{Me, WebhookSettings};
use sync::{CreateParticipantAs, Kind, Rules};

use super::Report;
use crate::app::provision::{self, Done};
use crate::app::{App, EspoConnection};
use crate::config::parse;
use crate::http::problem::Chain;

/// What a fresh installation does: a run every two minutes.
const USUAL_PAUSE: TimeDelta = TimeDelta::minutes(2);
/// And twenty events a run.
const USUAL_PORTION: u64 = 20;
/// Fields of events that are written.
const WRITTEN: [&str; 8] =
    ["name", "description", "status", "dateStart", "dateEnd", "users", "contacts", "assignedUser"];

pub(super) async fn examine(app: &App, report: &mut Report) {
    let Some(connection) = app.connections().espocrm() else {
        return report.fail("espocrm", "not configured", "set espocrm.url and espocrm.api_key");
    };
    // Not the remembered one: rights may have been granted a moment ago.
    let me = match connection.client.me().await {
        Ok(me) => me,
        Err(error) => {
            let remedy = "check espocrm.url and espocrm.api_key, and that EspoCRM is up and can be reached from here";
            return report.fail("espocrm", Chain(&error).to_string(), remedy);
        }
    };
    let version = me.version.as_deref().unwrap_or("of an unknown version");
    report.ok("espocrm", format!("EspoCRM {version} lets {} in", me.user_name));
    let has_admin = admin(&connection, report).await;
    rights(app, &me, report).await;
    fields(app, &connection, report).await;
    webhooks(app, report).await;
    if !has_admin {
        let why = "only administrators may read it; set espocrm.admin_username and espocrm.admin_password to have it looked at";
        report.skip("webhook_job", why);
        return report.skip("internal_address", why);
    }
    match connection.client.webhook_settings().await {
        Ok(settings) => {
            job(app, &connection, &settings, report).await;
            internal(app, &me, &settings, report).await;
        }
        Err(error) => report.error("webhook_job", &error),
    }
}

async fn admin(connection: &EspoConnection, report: &mut Report) -> bool {
    if !connection.client.can_act_as_users() {
        report.warn(
            "admin",
            "no administrator account: users' reminders cannot be set, and custom fields cannot be made",
            "set espocrm.admin_username and espocrm.admin_password",
        );
        return false;
    }
    match connection.client.admin().await {
        Ok(admin) if admin.kind == "admin" => {
            report.ok("admin", format!("{} may act as users and make custom fields", admin.user_name));
            true
        }
        Ok(admin) => {
            let remedy = "give an administrator's account in espocrm.admin_username and espocrm.admin_password";
            report.fail("admin", format!("{} is no administrator", admin.user_name), remedy);
            false
        }
        Err(error) => {
            report.error("admin", &error);
            false
        }
    }
}

/// What of a scope is lacking altogether, and what is granted for some records only.
fn lacking<'a>(me: &Me, scope: &str, actions: &[&'a str]) -> (Vec<&'a str>, Vec<&'a str>) {
    let level = |action: &str| me.right(scope, action).unwrap_or("no").to_owned();
    let none = actions.iter().copied().filter(|action| ["no", "own"].contains(&level(action).as_str())).collect();
    (none, actions.iter().copied().filter(|action| level(action) == "team").collect())
}

async fn rights(app: &App, me: &Me, report: &mut Report) {
    for (name, scope) in [("rights.meeting", "Meeting"), ("rights.call", "Call"), ("rights.task", "Task")] {
        let (none, some) = lacking(me, scope, &["create", "read", "edit", "delete"]);
        let closed: Vec<&str> = me.closed(scope, "edit").into_iter().filter(|field| WRITTEN.contains(field)).collect();
        if !none.is_empty() {
            let remedy = format!("grant `all` on {scope} in the role of {}", me.user_name);
            report.fail(name, format!("{scope}: no right to {}", none.join(", ")), remedy);
        } else if !closed.is_empty() {
            let detail = format!("{scope}: EspoCRM drops what is written to {}", closed.join(", "));
            report.fail(name, detail, format!("open these fields in the role of {}", me.user_name));
        } else if !some.is_empty() {
            let detail = format!("{scope}: only of its own teams may it {}", some.join(", "));
            report.warn(name, detail, format!("grant `all` on {scope} in the role of {}", me.user_name));
        } else {
            report.ok(name, format!("{scope}: it may create, read, edit and delete all"));
        }
    }
    people(app, me, report).await;
    match me.assignment.as_deref() {
        Some("all") => report.ok("rights.assignment", "it may assign records to everybody"),
        level => report.fail(
            "rights.assignment",
            format!("its assignment permission is `{}`: records of other users are refused", level.unwrap_or("no")),
            format!("set Assignment Permission to `all` in the role of {}", me.user_name),
        ),
    }
    let polled = app.config().server.public_url.is_none();
    match (me.right("Webhook", "create").is_some_and(|level| level != "no"), polled) {
        (true, _) => report.ok("rights.webhook", "it may have webhooks"),
        (false, true) => report.skip("rights.webhook", "not needed: without server.public_url there are no webhooks"),
        (false, false) => report.warn(
            "rights.webhook",
            "it may not have webhooks; EspoCRM is polled instead",
            format!("enable the scope Webhook in the role of {}", me.user_name),
        ),
    }
}

/// Users have to be read; contacts and leads make attendees known.
async fn people(app: &App, me: &Me, report: &mut Report) {
    let rules = store::rules::get(app.store().read(), None).await.ok().flatten().unwrap_or_default();
    let mut wanted = vec![("User", "read"), ("Contact", "read"), ("Lead", "read")];
    match rules.over(&Rules::default()).create_participant_as {
        CreateParticipantAs::Lead => wanted.push(("Lead", "create")),
        CreateParticipantAs::Contact => wanted.push(("Contact", "create")),
        CreateParticipantAs::None => {}
    }
    let missing: Vec<_> =
        wanted.into_iter().filter(|(scope, action)| !lacking(me, scope, &[action]).0.is_empty()).collect();
    let told: Vec<String> = missing.iter().map(|(scope, action)| format!("{action} {scope}")).collect();
    let remedy = format!("grant it in the role of {}", me.user_name);
    if missing.iter().any(|(scope, _)| *scope == "User") {
        report.fail("rights.people", format!("no right to {}: users cannot be bound", told.join(", ")), remedy);
    } else if missing.is_empty() {
        report.ok("rights.people", "users, contacts and leads can be read");
    } else {
        let detail = format!("no right to {}: such attendees stay unknown", told.join(", "));
        report.warn("rights.people", detail, remedy);
    }
}

async fn fields(app: &App, connection: &EspoConnection, report: &mut Report) {
    let schema = match connection.refresh_schema().await {
        Ok(schema) => schema,
        Err(error) => return report.error("fields", &error),
    };
    let absent: Vec<&str> = Kind::ALL.into_iter().filter(|kind| schema.of(*kind).is_err()).map(Kind::entity).collect();
    let mut missing = Vec::new();
    for (kind, one) in &schema.kinds {
        let names =
            [(&one.switch, &app.config().espocrm.switch_field), (&one.marker, &app.config().espocrm.marker_field)];
        missing.extend(
            names.iter().filter(|(found, _)| found.is_none()).map(|(_, name)| format!("{}.{name}", kind.entity())),
        );
    }
    if !absent.is_empty() {
        let detail = format!("EspoCRM has no {}", absent.join(", "));
        report.warn("fields", detail, "switch these entities on in EspoCRM, or set their direction to `disabled`");
    } else if missing.is_empty() {
        report.ok("fields", "the switch and the marker field are there");
    } else {
        let remedy =
            "run `espo-outlook setup espocrm` with the administrator account, or add them in the Entity Manager";
        report.warn("fields", format!("missing: {}", missing.join(", ")), remedy);
    }
    let unusable: Vec<&str> = schema.kinds.values().flat_map(|one| &one.unusable).map(String::as_str).collect();
    match (app.config().pairs.len(), unusable.is_empty()) {
        (0, _) => {}
        (count, true) => report.ok("pairs", format!("{count} configured, all of them usable")),
        (_, false) => report.warn("pairs", unusable.join(" "), "make the attribute, or mend [[pairs]]"),
    }
}

async fn webhooks(app: &App, report: &mut Report) {
    if app.config().server.public_url.is_none() {
        return report.skip("webhooks", "there are none without server.public_url; EspoCRM is polled");
    }
    match provision::webhooks(app, true).await {
        Ok(steps) if steps.iter().all(|step| step.done == Done::Present) => report.ok("webhooks", "all nine are there"),
        Ok(steps) => {
            let amiss = steps.iter().filter(|step| step.done != Done::Present).map(|step| step.what.as_str());
            let detail = format!("to be made or repaired: {}", amiss.collect::<Vec<_>>().join(", "));
            report.warn("webhooks", detail, "run `espo-outlook setup espocrm`; polling serves meanwhile");
        }
        Err(error) => report.error("webhooks", &error),
    }
}

/// How often EspoCRM sends webhooks, and how many at a time. The poll finds what they leave out, so nothing is lost.
async fn job(app: &App, connection: &EspoConnection, settings: &WebhookSettings, report: &mut Report) {
    const NAME: &str = "webhook_job";
    const WHERE: &str = "Administration > Scheduled Jobs > Process Webhook Queue";
    let job = match connection.client.webhook_job().await {
        Ok(job) => job,
        Err(error) => return report.error(NAME, &error),
    };
    let Some(job) = job.filter(|job| job.is_active) else {
        let detail = "EspoCRM sends no webhooks: the job is missing or inactive; polling serves";
        return report.warn(NAME, detail, format!("make it active in {WHERE}"));
    };
    let now = app.clock().now();
    let pause = parse::cron(&job.scheduling).ok().and_then(|cron| {
        let first = cron.find_next_occurrence(&now, false).ok()?;
        Some(cron.find_next_occurrence(&first, false).ok()? - first)
    });
    let Some(pause) = pause else {
        return report.warn(
            NAME,
            format!("its schedule `{}` cannot be read", job.scheduling),
            format!("mend it in {WHERE}"),
        );
    };
    if job.last_run.is_none_or(|last| now - last > pause * 3 + TimeDelta::minutes(5)) {
        let last = job.last_run.map_or("never ran".to_owned(), |last| format!("ran last at {last}"));
        let remedy = "let EspoCRM's cron.php run every minute (Administration > Scheduled Jobs shows the line)";
        return report.warn(NAME, format!("it is active, but {last}: EspoCRM's cron does not run"), remedy);
    }
    let rate = settings.portion as f64 / (pause.num_seconds().max(1) as f64 / 60.0);
    let detail = format!("every {} s up to {} events: {rate:.0} a minute", pause.num_seconds(), settings.portion);
    if pause > USUAL_PAUSE || settings.portion < USUAL_PORTION {
        let remedy = format!(
            "schedule it `* * * * *` in {WHERE}, and set webhookQueueEventPortionSize to 100 in data/config.php; polling serves \
             meanwhile"
        );
        return report.warn(NAME, detail, remedy);
    }
    report.ok(NAME, format!("{detail}; what is more waits in EspoCRM, and polling is faster then"));
}

/// From 9.3.4 on EspoCRM sends webhooks to internal addresses only when they are named.
async fn internal(app: &App, me: &Me, settings: &WebhookSettings, report: &mut Report) {
    const NAME: &str = "internal_address";
    let Some(url) = &app.config().server.public_url else {
        return report.skip(NAME, "not needed: without server.public_url there are no webhooks");
    };
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return };
    let address = format!("{host}:{port}");
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let found = match tokio::net::lookup_host((bare.as_str(), port)).await {
        Ok(found) => found.map(|one| one.ip()).collect::<Vec<_>>(),
        Err(error) => return report.skip(NAME, format!("{host} cannot be resolved here: {error}")),
    };
    if !found.iter().copied().any(is_internal) {
        return report.ok(NAME, format!("{host} is no internal address"));
    }
    if settings.allowed.contains(&address) {
        return report.ok(NAME, format!("{address} is in webhookAllowedAddressList"));
    }
    if me.version.as_deref().and_then(version).is_some_and(|version| version < (9, 3, 4)) {
        return report.ok(NAME, "this version sends webhooks to internal addresses too");
    }
    report.fail(
        NAME,
        format!("{address} is internal for EspoCRM, and not in its webhookAllowedAddressList: it sends no webhooks"),
        format!("add '{address}' to webhookAllowedAddressList in EspoCRM's data/config.php"),
    );
}

fn version(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.split(['.', '-']).map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
}

fn is_internal(ip: std::net::IpAddr) -> bool {
    match ip.to_canonical() {
        std::net::IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified(),
        std::net::IpAddr::V6(ip) => {
            ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(version("9.3.10").unwrap() > version("9.3.4").unwrap());
        assert_eq!(version("9.4.0-beta1"), Some((9, 4, 0)));
        assert_eq!(version("dev"), None);
    }

    #[test]
    fn internal_addresses_are_told_from_public_ones() {
        for text in ["127.0.0.1", "10.1.2.3", "192.168.0.9", "172.20.1.1", "::1", "fd00::1", "::ffff:10.0.0.1"] {
            assert!(is_internal(text.parse().unwrap()), "{text}");
        }
        for text in ["203.0.113.7", "172.32.0.1", "2001:db8::1"] {
            assert!(!is_internal(text.parse().unwrap()), "{text}");
        }
    }
}
