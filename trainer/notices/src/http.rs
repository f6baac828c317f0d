//! A client for metadata servers: plain HTTP, no proxy, no redirect, every answer bounded in time and size. A proxy of the
//! environment would ask for another machine's metadata.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::time::Duration;
use tokio::time::timeout;

/// What is read here is a few dozen bytes.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// Asks one metadata server.
#[derive(Debug)]
pub(crate) struct Client {
    base: String,
    inner: legacy::Client<HttpConnector, Empty<Bytes>>,
}

/// What it answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// It did not answer, or not with anything that can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("make a request for {path}")]
    Request { path: String, source: http::Error },
    #[error("{path}: no answer")]
    NoAnswer { path: String, source: legacy::Error },
    #[error("{path}: no answer within {} ms", after.as_millis())]
    Silent { path: String, after: Duration },
    #[error("{path}: read the answer: {reason}")]
    Unreadable { path: String, reason: String },
    #[error("{path}: expected {expected}, found {found}")]
    Unexpected { path: String, expected: &'static str, found: String },
}

impl Client {
    pub(crate) fn new(base: String) -> Self {
        Self { base, inner: legacy::Client::builder(TokioExecutor::new()).build(HttpConnector::new()) }
    }

    /// The whole answer, whatever its status.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        header: Option<(&'static str, &str)>,
        patience: Duration,
    ) -> Result<Answer, AskError> {
        let silent = |_| AskError::Silent { path: path.to_owned(), after: patience };
        timeout(patience, self.exchange(method, path, header)).await.map_err(silent)?
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        header: Option<(&'static str, &str)>,
    ) -> Result<Answer, AskError> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        let request = match header {
            Some((name, value)) => request.header(name, value),
            None => request,
        };
        let request =
            request.body(Empty::new()).map_err(|source| AskError::Request { path: path.to_owned(), source })?;
        let answer = self.inner.request(request).await;
        let answer = answer.map_err(|source| AskError::NoAnswer { path: path.to_owned(), source })?;
        let (head, body) = answer.into_parts();
        let unreadable = |reason: String| AskError::Unreadable { path: path.to_owned(), reason };
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|e| unreadable(e.to_string()))?;
        let body = String::from_utf8(body.to_bytes().into()).map_err(|e| unreadable(e.to_string()))?;
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

impl Answer {
    /// What to say of an answer that isn't one of those expected.
    pub(crate) fn unexpected(&self, path: &str, expected: &'static str) -> AskError {
        let start: String = self.body.trim().chars().take(60).collect();
        AskError::Unexpected { path: path.to_owned(), expected, found: format!("{} {start:?}", self.status) }
    }
}
