//! Google Compute Engine's metadata server. `instance/preempted` says FALSE until the machine is taken, and answers a
//! question that asks to [wait for a change](https://cloud.google.com/compute/docs/metadata/querying-metadata) as soon as it
//! says TRUE. From then on a Spot VM has
//! [up to 30 seconds](https://cloud.google.com/compute/docs/instances/spot#preemption-process).

use crate::Warning;
use crate::http::{AskError, Client};
use crate::trouble::Trouble;
use http::{HeaderMap, Method, StatusCode};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

const PREEMPTED: &str = "/computeMetadata/v1/instance/preempted";
/// In every question, and in every answer of the real server.
const FLAVOR_HEADER: &str = "metadata-flavor";
const FLAVOR: &str = "Google";
/// What is left when the server says TRUE.
const NOTICE: Duration = Duration::from_secs(30);
/// How long the server is asked to wait; a half-open connection is noticed after that.
const WAIT_S: u64 = 60;
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two questions of a server that fails, or doesn't wait.
const BETWEEN_QUESTIONS: Duration = Duration::from_secs(1);

/// Asks until the server says that the machine is taken.
pub(crate) async fn watch(client: &Client, tell: &mpsc::Sender<Warning>) {
    let mut trouble = Trouble::default();
    let mut known: Option<Known> = None;
    loop {
        let not_before = Instant::now() + BETWEEN_QUESTIONS;
        match trouble.note(ask(client, known.as_ref()).await) {
            Some((true, _)) => {
                let source = "GCE preemption".to_owned();
                // Nothing can follow, and nobody is left who could be told.
                let _ = tell.send(Warning::Eviction { deadline: SystemTime::now() + NOTICE, source }).await;
                return;
            }
            Some((false, now)) => {
                let first = known.replace(now).is_none();
                if first {
                    continue;
                }
            }
            None => known = None,
        }
        sleep_until(not_before).await;
    }
}

/// That the machine is not taken, as of this version.
struct Known {
    etag: Option<String>,
}

/// Whether the machine is taken: as soon as that differs from what is known.
async fn ask(client: &Client, known: Option<&Known>) -> Result<(bool, Known), AskError> {
    let (path, patience) = match known {
        None => (PREEMPTED.to_owned(), PATIENCE),
        Some(Known { etag }) => {
            let last = etag.as_ref().map(|etag| format!("&last_etag={etag}")).unwrap_or_default();
            let path = format!("{PREEMPTED}?wait_for_change=true&timeout_sec={WAIT_S}{last}");
            (path, PATIENCE + Duration::from_secs(WAIT_S))
        }
    };
    let answer = client.ask(Method::GET, &path, Some((FLAVOR_HEADER, FLAVOR)), patience).await?;
    let from_google = header(&answer.headers, FLAVOR_HEADER) == Some(FLAVOR);
    if answer.status != StatusCode::OK || !from_google {
        return Err(answer.unexpected(&path, "200 with Metadata-Flavor: Google"));
    }
    let etag = header(&answer.headers, "etag").filter(|etag| etag.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let known = Known { etag: etag.map(str::to_owned) };
    match answer.body.trim() {
        "TRUE" => Ok((true, known)),
        "FALSE" => Ok((false, known)),
        _ => Err(answer.unexpected(&path, "TRUE or FALSE")),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
