//! From a request to its handler: the bearer, the mailbox, the places at it, and `$batch`.
//!
//! Facts: four concurrent requests per application and mailbox, else 429 ApplicationThrottled; an application token has
//! no `/me` and a delegated one only its own mailbox; a batch has at most twenty steps with unique ids, four of which
//! run at a time, or one after the other when `dependsOn` is used.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use serde_json::{Value, json};

use super::error::{Outcome, Refusal, denied, fail, no_segment};
use super::request::{Call, Grant, Prefer};
use super::state::{Early, Gate, Mailbox, State};
use super::subscriptions::Next;
use super::{GraphSim, browser};
use crate::plumbing::{Logged, Request, Response, lock, percent_decode};

const CONCURRENCY: usize = 4;
/// Requests that come this soon after a refusal were on their way already.
const ON_THE_WAY: TimeDelta = TimeDelta::milliseconds(150);
const CALENDAR: [&str; 2] = ["Calendars.Read", "Calendars.ReadWrite"];
const TASKS: [&str; 4] = ["Tasks.Read", "Tasks.ReadWrite", "Tasks.Read.All", "Tasks.ReadWrite.All"];

/// Decoded path segments; `users('x')` is `users/x`.
pub fn segments(path: &str) -> Vec<String> {
    let mut out = Vec::new();
    for raw in path.split('/').filter(|s| !s.is_empty()) {
        let segment = percent_decode(raw);
        match segment.split_once("('").map(|(name, key)| (name, key.strip_suffix("')"))) {
            Some((name, Some(key))) => out.extend([name.to_owned(), key.to_owned()]),
            _ => out.push(segment),
        }
    }
    out
}

/// A place among the four of a mailbox, given back when dropped.
struct Place {
    sim: GraphSim,
    mailbox: Option<usize>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(index) = self.mailbox else { return };
        if let Some(mailbox) = lock(&self.sim.0.state).mailboxes.get_mut(index) {
            mailbox.gate.in_flight = mailbox.gate.in_flight.saturating_sub(1);
        }
    }
}

impl GraphSim {
    /// The whole simulator as a function, without a socket.
    pub async fn handle(&self, request: Request) -> Response {
        if request.path == "/" || request.path.starts_with("/ui") {
            return browser::handle(self, &request).by_person();
        }
        let client_request_id = request.header("client-request-id").map(str::to_owned);
        let outcome = if request.path.starts_with("/v1.0") {
            self.graph(&request).await
        } else {
            lock(&self.0.state).identity_route(&request)
        };
        self.0.wake.notify_one();
        self.dress(outcome, client_request_id.as_deref())
    }

    fn dress(&self, outcome: Outcome<Response>, client_request_id: Option<&str>) -> Response {
        let (now, ids) = {
            let state = lock(&self.0.state);
            (state.now(), state.ids.clone())
        };
        let mut response = outcome.unwrap_or_else(|refusal| refusal.into_response(now, &ids, client_request_id));
        response.headers.push(("request-id".to_owned(), ids.uuid()));
        if let Some(id) = client_request_id {
            response.headers.push(("client-request-id".to_owned(), id.to_owned()));
        }
        response
    }

    async fn graph(&self, request: &Request) -> Outcome<Response> {
        let grant = {
            let state = lock(&self.0.state);
            state.identity.bearer(request, state.now())?
        };
        let parts = segments(&request.raw_path);
        if parts.get(1).is_some_and(|p| p == "$batch") {
            return self.batch(request, &grant).await;
        }
        self.one(request, grant, &parts).await
    }

    async fn one(&self, request: &Request, grant: Grant, parts: &[String]) -> Outcome<Response> {
        let parts: Vec<&str> = parts.iter().skip(1).map(String::as_str).collect();
        let call = Call { request, grant, prefer: Prefer::read(&request.headers)? };
        match parts.as_slice() {
            [] => Ok(Response::json(200, &json!({"value": []}))),
            ["subscriptions", rest @ ..] => {
                let next = lock(&self.0.state).subscription_route(&call, rest)?;
                match next {
                    Next::Answer(response) => Ok(response),
                    Next::Handshake { urls, then } => {
                        for url in urls {
                            self.handshake(&url).await?;
                        }
                        lock(&self.0.state).finish_subscription(then)
                    }
                }
            }
            ["organization"] => {
                let state = lock(&self.0.state);
                let row = json!({"id": state.tenant_id, "displayName": "Contoso",
                    "verifiedDomains": [{"name": state.domain, "isDefault": true, "isInitial": true}]});
                Ok(Response::json(200, &json!({"value": [row]})))
            }
            [one] if one.starts_with("applications(appId=") => lock(&self.0.state).show_application(&call, one),
            ["users"] => lock(&self.0.state).list_users(&call),
            _ => self.at_mailbox(&call, &parts).await,
        }
    }

    async fn at_mailbox(&self, call: &Call<'_>, parts: &[&str]) -> Outcome<Response> {
        let (index, rest) = lock(&self.0.state).whose(&call.grant, parts)?;
        let upn = lock(&self.0.state).mailbox(index).map(|m| m.upn.clone()).unwrap_or_default();
        if rest.is_empty() {
            return lock(&self.0.state).show_user(call, index).map(|r| r.mailbox(&upn));
        }
        let answer = async {
            let _place = self.enter(call.request, index).await?;
            lock(&self.0.state).mailbox_route(call, index, rest)
        };
        // The log names the mailbox of refused requests too.
        let client = call.request.header("client-request-id");
        let answer = answer.await;
        let (now, ids) = {
            let state = lock(&self.0.state);
            (state.now(), state.ids.clone())
        };
        Ok(answer.unwrap_or_else(|refusal| refusal.into_response(now, &ids, client)).mailbox(&upn))
    }

    /// Takes a place at the mailbox, or answers 429. A person at the keyboard needs none.
    async fn enter(&self, request: &Request, index: usize) -> Outcome<Place> {
        if request.person {
            return Ok(Place { sim: self.clone(), mailbox: None });
        }
        let service_time = lock(&self.0.state).take_place(request, index)?;
        let place = Place { sim: self.clone(), mailbox: Some(index) };
        if service_time.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(service_time).await;
        }
        Ok(place)
    }

    async fn batch(&self, request: &Request, grant: &Grant) -> Outcome<Response> {
        let call = Call { request, grant: grant.clone(), prefer: Prefer::default() };
        call.allow(&["POST"])?;
        let body = call.body()?;
        let refuse = |message: &str| fail(400, "BadRequest", message);
        let rows = body.get("requests").and_then(Value::as_array).filter(|rows| !rows.is_empty());
        let rows = rows.ok_or_else(|| refuse("Invalid batch payload format."))?;
        if rows.len() > 20 {
            return Err(refuse("Number of batch request steps exceeds the maximum value of 20."));
        }
        let ids: Vec<&str> = rows.iter().filter_map(|r| r["id"].as_str()).filter(|id| !id.is_empty()).collect();
        if ids.len() != rows.len() {
            return Err(refuse("Every batch request step needs an id of type string."));
        }
        if ids.iter().collect::<std::collections::BTreeSet<_>>().len() != rows.len() {
            return Err(refuse("Request Id needs to be unique."));
        }
        let depends = |row: &Value| -> Vec<String> {
            let list = row["dependsOn"].as_array().map(Vec::as_slice).unwrap_or_default();
            list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        if rows.iter().flat_map(&depends).any(|id| !ids.contains(&id.as_str())) {
            return Err(refuse("A batch request step depends on an unknown step."));
        }
        let mut answers: BTreeMap<String, Value> = BTreeMap::new();
        let mut out = Vec::new();
        if rows.iter().all(|row| depends(row).is_empty()) {
            let steps: Vec<_> = rows.iter().map(|row| self.step(request, grant, row)).collect();
            out = futures::stream::iter(steps).buffer_unordered(CONCURRENCY).collect().await;
        } else {
            for row in rows {
                let failed = |id: &String| answers.get(id).and_then(|a| a["status"].as_u64()).is_none_or(|s| s >= 400);
                let answer = if depends(row).iter().any(failed) {
                    let error =
                        json!({"error": {"code": "FailedDependency", "message": "A dependency of this step failed."}});
                    json!({"id": row["id"], "status": 424, "headers": {"Content-Type": "application/json"}, "body": error})
                } else {
                    self.step(request, grant, row).await
                };
                answers.insert(row["id"].as_str().unwrap_or_default().to_owned(), answer.clone());
                out.push(answer);
            }
        }
        Ok(Response::json(200, &json!({"responses": out})))
    }

    async fn step(&self, outer: &Request, grant: &Grant, row: &Value) -> Value {
        let inner = step_request(outer, row);
        let client = outer.header("client-request-id");
        let response = match &inner {
            Some(inner) => {
                let parts = segments(&inner.raw_path);
                let outcome = if parts.get(1).is_some_and(|p| p == "$batch") {
                    Err(no_segment("$batch"))
                } else {
                    self.one(inner, grant.clone(), &parts).await
                };
                self.dress(outcome, client)
            }
            None => self.dress(Err(fail(400, "BadRequest", "A batch step needs a method and a relative url.")), client),
        };
        if let Some(inner) = inner {
            let at = lock(&self.0.state).now();
            let body = (!inner.body.is_empty()).then(|| String::from_utf8_lossy(&inner.body).into_owned());
            lock(&self.0.steps).push(Logged {
                at,
                path: inner.target(),
                method: inner.method,
                status: i32::from(response.status),
                body,
                mailbox: response.mailbox.clone(),
                person: outer.person,
                traceparent: outer.header("traceparent").map(str::to_owned),
                fault: false,
                took: Duration::ZERO,
            });
        }
        let headers: BTreeMap<&str, &str> = response.headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let mut out = json!({"id": row["id"], "status": response.status, "headers": headers});
        if let Ok(body) = response.to_json() {
            out["body"] = body;
        }
        out
    }
}

fn step_request(outer: &Request, row: &Value) -> Option<Request> {
    let (method, url) = (row["method"].as_str()?, row["url"].as_str()?);
    if url.is_empty() || url.contains("://") {
        return None;
    }
    let mut inner = Request::new(method, &format!("/v1.0/{}", url.trim_start_matches('/')));
    inner.base.clone_from(&outer.base);
    inner.person = outer.person;
    for (name, value) in row["headers"].as_object().into_iter().flatten() {
        inner.headers.push((name.clone(), value.as_str().unwrap_or_default().to_owned()));
    }
    if !row["body"].is_null() {
        inner.body = row["body"].to_string().into_bytes();
    }
    Some(inner)
}

impl Gate {
    /// Counts a request of the current ten minutes; how long to wait when there were too many.
    fn over_limit(&mut self, now: DateTime<Utc>, limit: Option<u32>) -> Option<TimeDelta> {
        let fresh = |since: DateTime<Utc>| now - since < TimeDelta::minutes(10);
        let (since, count) = self.window.filter(|(since, _)| fresh(*since)).unwrap_or((now, 0));
        self.window = Some((since, count + 1));
        limit.filter(|limit| count >= *limit).map(|_| since + TimeDelta::minutes(10) - now)
    }
}

impl State {
    /// Which mailbox a path means and whether the grant may open it.
    fn whose<'p>(&self, grant: &Grant, parts: &'p [&'p str]) -> Outcome<(usize, &'p [&'p str])> {
        match parts {
            ["me", rest @ ..] => {
                let delegated = "/me request is only valid with delegated authentication flow.";
                let user = grant.user.as_deref().ok_or_else(|| fail(400, "BadRequest", delegated))?;
                Ok((self.resolve(user).ok_or_else(denied)?, rest))
            }
            ["users", key, rest @ ..] => {
                let code = if rest.is_empty() { "Request_ResourceNotFound" } else { "ErrorInvalidUser" };
                let missing = || fail(404, code, format!("The requested user '{key}' is invalid."));
                let index = self.resolve(key).ok_or_else(missing)?;
                let own = grant.user.as_ref().is_none_or(|user| self.resolve(user) == Some(index));
                if own || rest.is_empty() { Ok((index, rest)) } else { Err(denied()) }
            }
            _ => Err(no_segment(parts.first().copied().unwrap_or_default())),
        }
    }

    /// Counts a request in, or refuses it.
    fn take_place(&mut self, request: &Request, index: usize) -> Outcome<Duration> {
        let (now, manual) = (self.now(), self.clock.is_manual());
        let Some(mailbox) = self.mailboxes.get_mut(index) else { return Err(denied()) };
        let gate = &mut mailbox.gate;
        if let Some((since, until)) = gate.blocked
            && now < until
            && (manual || now - since > ON_THE_WAY)
        {
            gate.early.push(Early {
                path: request.target(),
                at: now,
                early_by: (until - now).to_std().unwrap_or_default(),
                after_refusal: (now - since).to_std().unwrap_or_default(),
            });
        }
        gate.max_in_flight = gate.max_in_flight.max(gate.in_flight + 1);
        let throttled = |wait: u64| -> Refusal {
            let message = "Application is over its MailboxConcurrency limit.";
            fail(429, "ApplicationThrottled", message).header("Retry-After", &wait.to_string())
        };
        if gate.forced > 0 {
            gate.forced -= 1;
            gate.refused += 1;
            let wait = gate.retry_after;
            gate.blocked = Some((now, now + TimeDelta::seconds(i64::try_from(wait).unwrap_or(0))));
            return Err(throttled(wait));
        }
        if let Some(wait) = gate.over_limit(now, self.settings.request_limit) {
            gate.refused += 1;
            gate.blocked = Some((now, now + wait));
            let message = "Please retry again later.";
            let wait = wait.num_seconds().max(1).to_string();
            return Err(fail(429, "TooManyRequests", message).header("Retry-After", &wait));
        }
        if gate.in_flight >= CONCURRENCY {
            gate.refused += 1;
            return Err(throttled(1));
        }
        gate.in_flight += 1;
        Ok(self.settings.service_time)
    }

    fn mailbox_route(&mut self, call: &Call, index: usize, rest: &[&str]) -> Outcome<Response> {
        let mailbox = self.mailbox(index).ok_or_else(denied)?;
        if !mailbox.enabled {
            let message = "The mailbox is either inactive, soft-deleted, or is hosted on-premise.";
            return Err(fail(404, "MailboxNotEnabledForRESTAPI", message));
        }
        match rest {
            ["todo", rest @ ..] => {
                call.grant.any(&TASKS)?;
                self.todo_route(call, index, rest)
            }
            ["mailboxSettings", rest @ ..] => {
                call.allow(&["GET"])?;
                call.grant.any(&["MailboxSettings.Read", "MailboxSettings.ReadWrite"])?;
                Ok(settings(mailbox, rest))
            }
            ["outlook", "masterCategories"] => {
                call.allow(&["GET"])?;
                let row = json!({"id": mailbox.calendar_id, "displayName": "Red category", "color": "preset0"});
                Ok(Response::json(200, &json!({"value": [row]})))
            }
            ["calendars"] => {
                call.grant.any(&CALENDAR)?;
                call.allow(&["GET"])?;
                Ok(Response::json(200, &json!({"value": [calendar(mailbox)]})))
            }
            ["calendars", id, ..] if *id != mailbox.calendar_id => {
                call.grant.any(&CALENDAR)?;
                Err(super::error::not_found())
            }
            ["calendar"] | ["calendars", _] => {
                call.grant.any(&CALENDAR)?;
                call.allow(&["GET"])?;
                Ok(Response::json(200, &calendar(mailbox)))
            }
            ["calendar", rest @ ..] | ["calendars", _, rest @ ..] | rest => {
                call.grant.any(&CALENDAR)?;
                self.calendar_route(call, index, rest)
            }
        }
    }

    fn show_user(&self, call: &Call, index: usize) -> Outcome<Response> {
        call.allow(&["GET"])?;
        self.may_read_users(call, &["User.Read", "User.Read.All", "User.ReadBasic.All", "openid"])?;
        let mailbox = self.mailbox(index).ok_or_else(denied)?;
        let mut out = user(mailbox);
        if let (Some(names), Some(map)) = (call.select(), out.as_object_mut()) {
            map.retain(|name, _| names.contains(name));
        }
        out["@odata.context"] = json!(format!("{}/v1.0/$metadata#users/$entity", call.request.base));
        Ok(Response::json(200, &out))
    }

    fn may_read_users(&self, call: &Call, scopes: &[&str]) -> Outcome<()> {
        let message = "Insufficient privileges to complete the operation.";
        call.grant.any(scopes).map_err(|_| fail(403, "Authorization_RequestDenied", message))
    }

    fn list_users(&self, call: &Call) -> Outcome<Response> {
        call.allow(&["GET"])?;
        self.may_read_users(call, &["User.Read.All", "User.ReadBasic.All"])?;
        let mut rows: Vec<&Mailbox> = self.mailboxes.iter().collect();
        if let Some(text) = call.request.query("$filter") {
            match super::calendar::comparison(text) {
                Some((name, op, value, true))
                    if op == "eq" && ["mail", "userPrincipalName"].contains(&name.as_str()) =>
                {
                    rows.retain(|m| m.upn.eq_ignore_ascii_case(&value));
                }
                _ => return Err(fail(400, "Request_UnsupportedQuery", "Unsupported query filter.")),
            }
        }
        let (skip, top) = (call.skip()?, call.top(100, 999)?);
        let value: Vec<Value> = rows.iter().skip(skip).take(top).map(|m| user(m)).collect();
        let mut out = json!({"value": value});
        if rows.len() > skip + top {
            out["@odata.nextLink"] = json!(call.next_link(skip + top));
        }
        Ok(Response::json(200, &out))
    }
}

fn user(mailbox: &Mailbox) -> Value {
    let (given, family) = mailbox.name.split_once(' ').unwrap_or((&mailbox.name, ""));
    json!({"id": mailbox.user_id, "displayName": mailbox.name, "mail": mailbox.upn, "userPrincipalName": mailbox.upn,
        "givenName": given, "surname": family, "businessPhones": [], "jobTitle": null, "preferredLanguage": null})
}

fn calendar(mailbox: &Mailbox) -> Value {
    json!({"id": mailbox.calendar_id, "name": "Calendar", "isDefaultCalendar": true, "canEdit": true, "color": "auto",
        "owner": {"name": mailbox.name, "address": mailbox.upn}})
}

fn settings(mailbox: &Mailbox, rest: &[&str]) -> Response {
    let all = json!({"timeZone": mailbox.zone, "language": {"locale": "en-US", "displayName": "English (United States)"},
        "dateFormat": "yyyy-MM-dd", "timeFormat": "HH:mm", "workingHours": {"timeZone": {"name": mailbox.zone}}});
    match rest {
        ["timeZone"] => Response::json(200, &json!({"value": mailbox.zone})),
        [] => Response::json(200, &all),
        _ => Response::empty(404),
    }
}
