//! One EC2 instance's metadata service, version 2, as far as notices go.

use crate::web::{Misbehaviour, Mood, Web};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, put};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The endpoint has a path, as one that serves several instances would.
const PREFIX: &str = "/instances/i-0abc";

/// A running metadata service of an instance that nobody takes yet.
#[derive(Debug)]
pub struct Ec2Metadata {
    web: Web,
    mood: Mood,
    books: Shared,
}

#[derive(Clone, Default, Debug)]
struct Shared(Arc<Mutex<Books>>);

#[derive(Default, Debug)]
struct Books {
    action: Option<String>,
    rebalance: Option<String>,
    /// Tokens given; only the newest since [`Ec2Metadata::forget_tokens`] is accepted.
    tokens: u32,
    accepted: Option<u32>,
    polls: u32,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ec2Metadata {
    /// Starts one.
    ///
    /// # Panics
    /// When it doesn't start.
    #[must_use]
    pub fn start() -> Self {
        let (books, mood) = (Shared::default(), Mood::default());
        let routes = Router::new()
            .route("/latest/api/token", put(token))
            .route("/latest/meta-data/spot/instance-action", get(action))
            .route("/latest/meta-data/events/recommendations/rebalance", get(rebalance))
            .with_state(books.clone());
        let web = Web::serve(mood.over(Router::new().nest(PREFIX, routes)));
        Self { web, mood, books }
    }

    /// Its endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}{PREFIX}", self.web.address())
    }

    /// What a process needs in its environment to ask it.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", self.endpoint())]
    }

    /// The notice from now on, such as `{"action":"terminate","time":"2026-11-24T08:22:00Z"}`.
    pub fn interrupt(&self, document: &str) {
        self.books.lock().action = Some(document.to_owned());
    }

    /// The recommendation from now on, such as `{"noticeTime":"2026-11-24T08:22:00Z"}`.
    pub fn recommend(&self, document: &str) {
        self.books.lock().rebalance = Some(document.to_owned());
    }

    /// No token given so far is accepted any more.
    pub fn forget_tokens(&self) {
        self.books.lock().accepted = None;
    }

    /// Tokens given since it started.
    #[must_use]
    pub fn tokens(&self) -> u32 {
        self.books.lock().tokens
    }

    /// How often the notice was asked for with a token that is accepted.
    #[must_use]
    pub fn polls(&self) -> u32 {
        self.books.lock().polls
    }

    /// Fails at everything from now on; `None`: behaves again.
    pub fn misbehave(&self, misbehaviour: Option<Misbehaviour>) {
        self.mood.set(misbehaviour);
    }
}

async fn token(State(books): State<Shared>, headers: HeaderMap) -> Result<String, StatusCode> {
    let life = headers.get("x-aws-ec2-metadata-token-ttl-seconds").and_then(|life| life.to_str().ok()?.parse().ok());
    if !life.is_some_and(|life: u32| (1..=21_600).contains(&life)) || headers.contains_key("x-forwarded-for") {
        return Err(StatusCode::BAD_REQUEST);
    }
    let mut books = books.lock();
    books.tokens += 1;
    books.accepted = Some(books.tokens);
    Ok(format!("token-{}==", books.tokens))
}

async fn action(State(books): State<Shared>, headers: HeaderMap) -> Result<String, StatusCode> {
    let mut books = books.lock();
    admit(&books, &headers)?;
    books.polls += 1;
    books.action.clone().ok_or(StatusCode::NOT_FOUND)
}

async fn rebalance(State(books): State<Shared>, headers: HeaderMap) -> Result<String, StatusCode> {
    let books = books.lock();
    admit(&books, &headers)?;
    books.rebalance.clone().ok_or(StatusCode::NOT_FOUND)
}

fn admit(books: &Books, headers: &HeaderMap) -> Result<(), StatusCode> {
    let shown = headers.get("x-aws-ec2-metadata-token").and_then(|token| token.to_str().ok());
    let accepted = books.accepted.map(|number| format!("token-{number}=="));
    if shown.is_some() && shown == accepted.as_deref() { Ok(()) } else { Err(StatusCode::UNAUTHORIZED) }
}
