//! The metadata server as one VM sees it, as far as preemption goes.

use crate::web::{Misbehaviour, Mood, Web};
use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

const FLAVOR: (&str, &str) = ("metadata-flavor", "Google");

/// A running metadata server of a VM that nobody takes yet.
#[derive(Debug)]
pub struct GceMetadata {
    web: Web,
    mood: Mood,
    preempted: watch::Sender<bool>,
}

impl GceMetadata {
    /// Starts one.
    ///
    /// # Panics
    /// When it doesn't start.
    #[must_use]
    pub fn start() -> Self {
        let (preempted, mood) = (watch::Sender::new(false), Mood::default());
        let routes =
            Router::new().route("/computeMetadata/v1/instance/preempted", get(ask)).with_state(preempted.clone());
        Self { web: Web::serve(mood.over(routes)), mood, preempted }
    }

    /// `HOST:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        self.web.address().to_string()
    }

    /// What a process needs in its environment to ask it.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![("GCE_METADATA_HOST", self.host())]
    }

    /// Says that the VM is taken, to those who wait as well.
    pub fn preempt(&self) {
        self.preempted.send_replace(true);
    }

    /// Those who wait for a change now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.preempted.receiver_count()
    }

    /// Fails at everything from now on; `None`: behaves again.
    pub fn misbehave(&self, misbehaviour: Option<Misbehaviour>) {
        self.mood.set(misbehaviour);
    }
}

#[derive(Deserialize)]
struct Question {
    #[serde(default)]
    wait_for_change: bool,
    last_etag: Option<String>,
    timeout_sec: Option<u64>,
}

async fn ask(
    State(preempted): State<watch::Sender<bool>>,
    Query(question): Query<Question>,
    headers: HeaderMap,
) -> Response {
    if headers.get(FLAVOR.0).is_none_or(|flavor| flavor != FLAVOR.1) {
        return (StatusCode::FORBIDDEN, "Missing Metadata-Flavor:Google header.").into_response();
    }
    let known = question.last_etag.unwrap_or_else(|| etag(*preempted.borrow()).to_owned());
    if question.wait_for_change {
        let mut receiver = preempted.subscribe();
        let changed = receiver.wait_for(|now| etag(*now) != known);
        let _ = match question.timeout_sec {
            Some(seconds) => timeout(Duration::from_secs(seconds), changed).await.map(|_| ()),
            None => changed.await.map(|_| ()).or(Ok(())),
        };
    }
    let now = *preempted.borrow();
    ([FLAVOR, ("etag", etag(now))], if now { "TRUE" } else { "FALSE" }).into_response()
}

fn etag(preempted: bool) -> &'static str {
    if preempted { "5d2a8b61c0e94f37" } else { "9c41f0d2b7a3e658" }
}
