//! A proxy before a real S3 server that lacks what some servers lack, or refuses credentials: requests that it lets
//! through are the server's to answer, signatures included.

use crate::web::Web;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the server behind the proxy seems to lack, or refuses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum S3Fault {
    /// Requests with this access key have expired credentials.
    ExpiredKey(String),
    /// Checksum headers are answered with 501.
    NoChecksums,
    /// Conditional puts are answered with 501.
    NoConditions,
    /// A put whose condition doesn't hold is answered as if it had replaced the object.
    IgnoresConditions,
    /// The bucket must be in the host name.
    HostNameOnly {
        /// Its name.
        bucket: String,
    },
    /// All that changes an object is refused.
    ReadOnly,
}

/// The proxy. Ends when it is dropped.
#[derive(Debug)]
pub struct S3Faults {
    web: Web,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    faults: Mutex<Vec<S3Fault>>,
    /// Method, path and query of all requests, and the status of their answers.
    log: Mutex<Vec<(String, u16)>>,
    client: Client<HttpConnector, Body>,
}

impl S3Faults {
    /// Before the server at `endpoint`.
    #[must_use]
    pub fn before(endpoint: &str) -> Self {
        let shared = Arc::new(Shared {
            upstream: endpoint.to_owned(),
            faults: Mutex::default(),
            log: Mutex::default(),
            client: Client::builder(TokioExecutor::new()).build_http(),
        });
        let web = Web::serve(Router::new().fallback(answer).with_state(shared.clone()));
        Self { web, shared }
    }

    /// From now on.
    pub fn set(&self, faults: &[S3Fault]) {
        *lock(&self.shared.faults) = faults.to_vec();
    }

    /// Its endpoint, in place of the server's.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.web.address())
    }

    /// What was requested since the last call, and the status of each answer.
    #[must_use]
    pub fn take_log(&self) -> Vec<(String, u16)> {
        std::mem::take(&mut *lock(&self.shared.log))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let request_line = format!("{} {}", request.method(), request.uri());
    let faults = lock(&shared.faults).clone();
    let refusal = faults.iter().find_map(|fault| refuse(fault, request.method(), request.headers()));
    let response = match refusal {
        Some(response) => response,
        None => pass_on(&shared, request, faults.contains(&S3Fault::IgnoresConditions)).await,
    };
    lock(&shared.log).push((request_line, response.status().as_u16()));
    response
}

fn refuse(fault: &S3Fault, method: &Method, headers: &HeaderMap) -> Option<Response> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_put = *method == Method::PUT;
    let (refused, status, code, message) = match fault {
        S3Fault::ExpiredKey(key) => {
            let credential = format!("Credential={key}/");
            (text(header::AUTHORIZATION).contains(&credential), 400, "ExpiredToken", "The provided token has expired.")
        }
        S3Fault::NoChecksums => {
            let has = headers.keys().any(|name| name.as_str().contains("checksum"));
            (has, 501, "NotImplemented", "Header 'x-amz-checksum' not implemented")
        }
        S3Fault::NoConditions => {
            let has = is_put && (headers.contains_key(header::IF_NONE_MATCH) || headers.contains_key(header::IF_MATCH));
            (has, 501, "NotImplemented", "A header you provided implies functionality that is not implemented")
        }
        S3Fault::IgnoresConditions => return None,
        S3Fault::HostNameOnly { bucket } => {
            let elsewhere = !text(header::HOST).starts_with(&format!("{bucket}."));
            (elsewhere, 403, "SecondLevelDomainForbidden", "Please use virtual hosted style to access.")
        }
        S3Fault::ReadOnly => (![Method::GET, Method::HEAD].contains(method), 403, "AccessDenied", "Access Denied"),
    };
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>");
    let status = StatusCode::from_u16(status).expect("a status");
    refused.then(|| (status, [(header::CONTENT_TYPE, "application/xml")], body).into_response())
}

/// The server's own answer; the host stays as it was signed.
async fn pass_on(shared: &Shared, request: Request, without_conditions: bool) -> Response {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = format!("{}{path}", shared.upstream).parse::<Uri>().expect("an address");
    let Ok(body) = body.collect().await else { return StatusCode::BAD_REQUEST.into_response() };
    let request = Request::from_parts(parts, Body::from(body.to_bytes()));
    match shared.client.request(request).await {
        Ok(response) if without_conditions && response.status() == StatusCode::PRECONDITION_FAILED => {
            [(header::ETAG, "\"replaced\"")].into_response()
        }
        Ok(response) => response.map(Body::new),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
