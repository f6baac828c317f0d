//! EC2's instance metadata service, version 2: a token first, then two documents that are not there until they matter.
//! [Interruption notices](https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html) name
//! a time up to two minutes ahead; a
//! [recommendation](https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/rebalance-recommendations.html) may come before,
//! with it, or never.

use crate::Warning;
use crate::http::{AskError, Client};
use crate::trouble::Trouble;
use http::{Method, StatusCode};
use serde::Deserialize;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

const TOKEN: &str = "/latest/api/token";
const INSTANCE_ACTION: &str = "/latest/meta-data/spot/instance-action";
const REBALANCE: &str = "/latest/meta-data/events/recommendations/rebalance";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
const TOKEN_LIFE_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
/// The longest that is granted.
const TOKEN_LIFE_S: &str = "21600";
/// AWS advises five seconds; with half a one a replacement is on its way within a second of the notice.
const BETWEEN_POLLS: Duration = Duration::from_millis(500);
/// The service is on the same host and answers within milliseconds, unless it throttles.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a notice leaves at most; for one whose time can't be read.
const LONGEST_NOTICE: Duration = Duration::from_secs(120);

/// Polls until nobody listens. A notice is told again when its time changes.
pub(crate) async fn watch(client: &Client, tell: &mpsc::Sender<Warning>) {
    let mut service = Service { client, token: None };
    let mut trouble = Trouble::default();
    let mut action_told = None;
    let mut rebalance_told = false;
    let mut poll = interval(BETWEEN_POLLS);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        poll.tick().await;
        let Some((action, recommended)) = trouble.note(service.look().await) else { continue };
        if let Some(action) = action
            && action_told.as_ref() != Some(&action)
        {
            let warning = action.warning(SystemTime::now());
            action_told = Some(action);
            if tell.send(warning).await.is_err() {
                return;
            }
        }
        if recommended && !std::mem::replace(&mut rebalance_told, true) {
            let source = "EC2 rebalance recommendation".to_owned();
            if tell.send(Warning::Rebalance { source }).await.is_err() {
                return;
            }
        }
    }
}

struct Service<'a> {
    client: &'a Client,
    token: Option<String>,
}

impl Service<'_> {
    /// The notice, and whether there is a recommendation.
    async fn look(&mut self) -> Result<(Option<Action>, bool), AskError> {
        let action = self.read(INSTANCE_ACTION, Action::parse).await?;
        // Nothing that comes of a recommendation would come before what comes of the notice.
        let recommended = action.is_none() && self.read(REBALANCE, recommendation).await?.is_some();
        Ok((action, recommended))
    }

    /// A document, or `None` while there is none. A token that is not accepted is replaced once: the service forgets
    /// them when it restarts.
    async fn read<T>(&mut self, path: &str, parse: fn(&str) -> Option<T>) -> Result<Option<T>, AskError> {
        let mut fresh = false;
        loop {
            let token = match &self.token {
                Some(token) => token.clone(),
                None => {
                    fresh = true;
                    self.fetch_token().await?
                }
            };
            let answer = self.client.ask(Method::GET, path, Some((TOKEN_HEADER, &token)), PATIENCE).await?;
            match answer.status {
                StatusCode::OK => {
                    let unexpected = || answer.unexpected(path, "a JSON document");
                    return parse(&answer.body).map(Some).ok_or_else(unexpected);
                }
                StatusCode::NOT_FOUND => return Ok(None),
                StatusCode::UNAUTHORIZED if !fresh => self.token = None,
                _ => {
                    self.token = None;
                    return Err(answer.unexpected(path, "200 or 404"));
                }
            }
        }
    }

    async fn fetch_token(&mut self) -> Result<String, AskError> {
        let life = Some((TOKEN_LIFE_HEADER, TOKEN_LIFE_S));
        let answer = self.client.ask(Method::PUT, TOKEN, life, PATIENCE).await?;
        let readable = !answer.body.is_empty() && answer.body.bytes().all(|byte| byte.is_ascii_graphic());
        if answer.status != StatusCode::OK || !readable {
            return Err(answer.unexpected(TOKEN, "a token"));
        }
        Ok(self.token.insert(answer.body).clone())
    }
}

/// The notice, as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Action {
    kind: Kind,
    /// `None` when it can't be read: the action is what matters.
    time: Option<SystemTime>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Terminate,
    Stop,
    Hibernate,
}

impl Action {
    fn parse(document: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Document {
            action: Kind,
            time: Option<String>,
        }
        let Document { action: kind, time } = serde_json::from_str(document).ok()?;
        Some(Self { kind, time: time.and_then(|time| humantime::parse_rfc3339(&time).ok()) })
    }

    fn warning(&self, now: SystemTime) -> Warning {
        let kind = match self.kind {
            Kind::Terminate => "terminate",
            Kind::Stop => "stop",
            Kind::Hibernate => "hibernate",
        };
        let deadline = self.time.unwrap_or(now + LONGEST_NOTICE).max(now);
        Warning::Eviction { deadline, source: format!("EC2 spot interruption: {kind}") }
    }
}

/// Whether this is a recommendation; its time is when it was given, which nothing follows from.
fn recommendation(document: &str) -> Option<()> {
    #[derive(Deserialize)]
    struct Document {
        #[serde(rename = "noticeTime")]
        _given: String,
    }
    serde_json::from_str::<Document>(document).ok().map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deadline(document: &str) -> Option<u64> {
        let now = humantime::parse_rfc3339("2026-11-24T08:20:00Z").unwrap();
        let Warning::Eviction { deadline, .. } = Action::parse(document)?.warning(now) else { panic!("an eviction") };
        Some(deadline.duration_since(now).unwrap().as_secs())
    }

    #[test]
    fn a_notices_time_holds() {
        assert_eq!(deadline(r#"{"action":"terminate","time":"2026-11-24T08:21:40Z"}"#), Some(100));
        assert_eq!(deadline(r#"{"action":"stop","time":"2026-11-24T08:20:07Z","more":[1]}"#), Some(7));
        assert_eq!(deadline(r#"{"action":"hibernate","time":"2026-11-24T08:19:00Z"}"#), Some(0), "it is over already");
        assert_eq!(deadline(r#"{"action":"terminate","time":"soon"}"#), Some(120));
        assert_eq!(deadline(r#"{"action":"terminate"}"#), Some(120));
    }

    #[test]
    fn what_is_no_notice_is_none() {
        for document in
            ["", "null", "<html></html>", "{}", r#"{"action":"none"}"#, r#"{"time":"1970-01-01T00:00:00Z"}"#]
        {
            assert_eq!(Action::parse(document), None, "{document}");
            assert_eq!(recommendation(document), None, "{document}");
        }
        assert_eq!(recommendation(r#"{"noticeTime":"2026-11-24T08:22:00Z"}"#), Some(()));
    }
}
