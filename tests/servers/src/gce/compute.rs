//! The API's methods, as they look on the wire. 64-bit numbers are texts there.

use super::cloud::{Cloud, Effect, Fault, How};
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

const WAIT_LONGEST: Duration = Duration::from_secs(20);
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

type Shared = State<Arc<Cloud>>;
type Answer = Result<Json<Value>, Refusal>;

pub(super) fn routes(cloud: Arc<Cloud>) -> Router {
    let zone = "/compute/v1/projects/{project}/zones/{zone}";
    Router::new()
        .route("/compute/v1/projects/{project}/aggregated/instances", get(aggregated))
        .route(&format!("{zone}/instances"), get(list).post(insert))
        .route(&format!("{zone}/instances/{{name}}"), get(read).delete(delete))
        .route(&format!("{zone}/operations"), get(operations))
        .route(&format!("{zone}/operations/{{name}}"), get(operation))
        .route(&format!("{zone}/operations/{{name}}/wait"), post(wait))
        .with_state(cloud)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    request_id: Option<String>,
    filter: Option<String>,
    max_results: Option<usize>,
    page_token: Option<String>,
}

/// An error as the API puts it.
#[derive(Debug)]
struct Refusal {
    status: u16,
    reason: String,
    message: String,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { status, reason, message } = self;
        let domain = if status == 403 { "usageLimits" } else { "global" };
        let errors = json!([{ "message": message, "domain": domain, "reason": reason }]);
        let error = json!({ "error": { "code": status, "message": message, "errors": errors } });
        (StatusCode::from_u16(status).expect("a status"), Json(error)).into_response()
    }
}

fn refusal(status: u16, reason: &str, message: &str) -> Refusal {
    Refusal { status, reason: reason.to_owned(), message: message.to_owned() }
}

fn no_such(what: &str) -> Refusal {
    refusal(404, "notFound", &format!("The resource '{what}' was not found"))
}

async fn insert(
    State(cloud): Shared,
    Path((project, zone)): Path<(String, String)>,
    Query(asked): Query<Asked>,
    Json(resource): Json<Value>,
) -> Response {
    let answer = inserted(&cloud, &project, &zone, &asked, resource).into_response();
    let mut books = cloud.lock();
    if books.lost_answers == 0 {
        return answer;
    }
    books.lost_answers -= 1;
    let cut =
        futures::stream::iter([Ok(Bytes::from_static(b"{")), Err(io::Error::from(io::ErrorKind::ConnectionReset))]);
    Body::from_stream(cut).into_response()
}

fn inserted(cloud: &Arc<Cloud>, project: &str, zone: &str, asked: &Asked, resource: Value) -> Answer {
    let mut books = cloud.lock();
    books.insertions += 1;
    if let Some(earlier) = asked.request_id.as_ref().and_then(|id| books.requests.get(id)) {
        return Ok(Json(books.operations[earlier].clone()));
    }
    let Some(name) = resource["name"].as_str().filter(|name| is_name(name)).map(str::to_owned) else {
        return Err(refusal(400, "invalid", "Invalid value for field 'resource.name'"));
    };
    for (key, value) in resource["labels"].as_object().into_iter().flatten() {
        if !is_label(key) || !value.as_str().is_some_and(|value| value.is_empty() || is_label(value)) {
            return Err(refusal(400, "invalid", &format!("Invalid value for field 'resource.labels': '{key}'")));
        }
    }
    if asked.request_id.as_ref().is_some_and(|id| id.len() != 36) {
        return Err(refusal(400, "invalid", "Invalid value for field 'requestId'"));
    }
    let fault = books.fault(zone, &resource);
    if let Some(Fault { how: How::Request(status), code, message, .. }) = &fault {
        return Err(refusal(*status, code, message));
    }
    let key = (project.to_owned(), zone.to_owned(), name.clone());
    if books.vm(&key).is_some() {
        let message = format!("The resource 'projects/{project}/zones/{zone}/instances/{name}' already exists");
        return Err(refusal(409, "alreadyExists", &message));
    }
    let effect = match fault {
        Some(fault) => Effect::Fail { code: fault.code, message: fault.message },
        None => {
            books.enter(project, zone, resource, "PROVISIONING");
            Effect::Run
        }
    };
    let operation = books.operation(project, zone, "insert", &name, "RUNNING");
    books.requests.extend(asked.request_id.clone().map(|id| (id, operation.clone())));
    let answer = books.operations[&operation].clone();
    drop(books);
    cloud.go_on(operation, key, effect);
    Ok(Json(answer))
}

async fn read(State(cloud): Shared, Path(key): Path<(String, String, String)>) -> Answer {
    let books = cloud.lock();
    books
        .vm(&key)
        .cloned()
        .map(Json)
        .ok_or_else(|| no_such(&format!("projects/{}/zones/{}/instances/{}", key.0, key.1, key.2)))
}

async fn delete(State(cloud): Shared, Path(key): Path<(String, String, String)>) -> Answer {
    let mut books = cloud.lock();
    let (project, zone, name) = &key;
    if books.vm(&key).is_none() {
        return Err(no_such(&format!("projects/{project}/zones/{zone}/instances/{name}")));
    }
    books.stopping(&key);
    let operation = books.operation(project, zone, "delete", name, "RUNNING");
    let answer = books.operations[&operation].clone();
    drop(books);
    cloud.go_on(operation, key, Effect::Remove);
    Ok(Json(answer))
}

/// The page that was asked for, and where the next begins.
fn page<'v>(found: Vec<&'v Value>, asked: &Asked, longest: usize) -> (Vec<&'v Value>, Option<String>) {
    let from = asked.page_token.as_ref().and_then(|token| token.parse().ok()).unwrap_or(0usize);
    let length = asked.max_results.unwrap_or(longest).min(longest).max(1);
    let next = (from + length < found.len()).then(|| (from + length).to_string());
    (found.into_iter().skip(from).take(length).collect(), next)
}

async fn aggregated(State(cloud): Shared, Path(project): Path<String>, Query(asked): Query<Asked>) -> Answer {
    let books = cloud.lock();
    let filter = Filter::parse(&asked)?;
    let found = books.of_project(&project).filter(|vm| filter.fits(vm)).collect();
    let (found, next) = page(found, &asked, books.page);
    let mut zones: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for vm in found {
        let zone = vm["zone"].as_str().and_then(|zone| zone.rsplit('/').next()).unwrap_or_default();
        zones.entry(format!("zones/{zone}")).or_default().push(vm);
    }
    let mut items: BTreeMap<String, Value> =
        zones.into_iter().map(|(zone, vms)| (zone, json!({ "instances": vms }))).collect();
    items.entry("zones/us-west9-x".to_owned()).or_insert_with(|| {
        json!({ "warning": { "code": "NO_RESULTS_ON_PAGE", "message": "There are no results for scope 'zones/us-west9-x' on this page.",
            "data": [{ "key": "scope", "value": "zones/us-west9-x" }] } })
    });
    Ok(Json(json!({ "kind": "compute#instanceAggregatedList", "id": "list", "items": items, "nextPageToken": next })))
}

async fn list(
    State(cloud): Shared,
    Path((project, zone)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Answer {
    let books = cloud.lock();
    let filter = Filter::parse(&asked)?;
    let in_zone = |vm: &&Value| vm["zone"].as_str().is_some_and(|of| of.ends_with(&format!("/zones/{zone}")));
    let found = books.of_project(&project).filter(in_zone).filter(|vm| filter.fits(vm)).collect();
    let (items, next) = page(found, &asked, books.page);
    Ok(Json(json!({ "kind": "compute#instanceList", "id": "list", "items": items, "nextPageToken": next })))
}

async fn operations(
    State(cloud): Shared,
    Path((_, zone)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Answer {
    let books = cloud.lock();
    let filter = Filter::parse(&asked)?;
    let in_zone =
        |operation: &&Value| operation["zone"].as_str().is_some_and(|of| of.ends_with(&format!("/zones/{zone}")));
    let found = books.operations.values().filter(in_zone).filter(|operation| filter.fits(operation)).collect();
    let (items, next) = page(found, &asked, books.page);
    Ok(Json(json!({ "kind": "compute#operationList", "id": "list", "items": items, "nextPageToken": next })))
}

async fn operation(State(cloud): Shared, Path((_, _, name)): Path<(String, String, String)>) -> Answer {
    cloud.lock().operations.get(&name).cloned().map(Json).ok_or_else(|| no_such(&name))
}

async fn wait(State(cloud): Shared, Path((_, _, name)): Path<(String, String, String)>) -> Answer {
    let found = async {
        loop {
            let found = cloud.lock().operations.get(&name).cloned();
            match found {
                Some(operation) if operation["status"] != "DONE" => tokio::time::sleep(BETWEEN_LOOKS).await,
                found => return found,
            }
        }
    };
    let found = tokio::time::timeout(WAIT_LONGEST, found).await;
    let found = found.unwrap_or_else(|_| cloud.lock().operations.get(&name).cloned());
    found.map(Json).ok_or_else(|| no_such(&name))
}

/// `field = value` or `field:value`, the only filters that are asked with.
struct Filter(Option<(Vec<String>, String)>);

impl Filter {
    fn parse(asked: &Asked) -> Result<Self, Refusal> {
        let Some(text) = asked.filter.as_deref().filter(|text| !text.is_empty()) else { return Ok(Self(None)) };
        let wrong = || refusal(400, "invalid", &format!("Invalid value for field 'filter': '{text}'"));
        let (field, value) = text.split_once(['=', ':']).ok_or_else(wrong)?;
        let field = field.trim().split('.').map(str::to_owned).collect();
        Ok(Self(Some((field, value.trim().trim_matches('"').to_owned()))))
    }

    fn fits(&self, resource: &Value) -> bool {
        let Some((field, value)) = &self.0 else { return true };
        field.iter().fold(resource, |inner, part| &inner[part]) == value.as_str()
    }
}

fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(fits)
}

fn is_label(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    text.len() <= 63 && text.chars().all(fits)
}
