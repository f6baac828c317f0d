//! A server of our own inside the test's process, and how it can be made to fail.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// How a server fails, whatever it is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Misbehaviour {
    /// It answers with this status, and a page of HTML.
    Status(u16),
    /// It says this, and that all is well.
    Says(String),
    /// It reads the question and never answers.
    Hangs,
    /// It answers, so late.
    Slow(Duration),
    /// Its answer doesn't end.
    Endless,
    /// It cuts the connection in the middle of the answer.
    Cuts,
}

/// Whether a server fails now.
#[derive(Clone, Default, Debug)]
pub(crate) struct Mood(Arc<Mutex<Option<Misbehaviour>>>);

impl Mood {
    pub(crate) fn set(&self, misbehaviour: Option<Misbehaviour>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = misbehaviour;
    }

    fn now(&self) -> Option<Misbehaviour> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same routes, failing when they are to.
    pub(crate) fn over(&self, router: Router) -> Router {
        router.layer(from_fn_with_state(self.clone(), misbehave))
    }
}

async fn misbehave(State(mood): State<Mood>, request: Request, next: Next) -> Response {
    match mood.now() {
        None => next.run(request).await,
        Some(Misbehaviour::Status(status)) => {
            let status = StatusCode::from_u16(status).expect("a status");
            (status, [("content-type", "text/html")], "<html><body>not what was asked for</body></html>")
                .into_response()
        }
        Some(Misbehaviour::Says(text)) => text.into_response(),
        Some(Misbehaviour::Hangs) => pending().await,
        Some(Misbehaviour::Slow(by)) => {
            tokio::time::sleep(by).await;
            next.run(request).await
        }
        Some(Misbehaviour::Endless) => {
            let chunk = Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 1024]));
            Body::from_stream(futures::stream::repeat(chunk)).into_response()
        }
        Some(Misbehaviour::Cuts) => {
            let parts = [Ok(Bytes::from_static(b"{\"act")), Err(io::Error::from(io::ErrorKind::ConnectionReset))];
            Body::from_stream(futures::stream::iter(parts)).into_response()
        }
    }
}

/// Serves until it is dropped; then every connection is cut.
#[derive(Debug)]
pub(crate) struct Web {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    /// On a free port of the loopback interface.
    pub(crate) fn serve(router: Router) -> Self {
        // Bound here, so that the address is known; made asynchronous there, since the caller may be so itself.
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind a port");
        listener.set_nonblocking(true).expect("set up a port");
        let address = listener.local_addr().expect("a bound port has an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("make a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("watch a port");
                tokio::select! {
                    served = async { axum::serve(listener, router).await } => served.expect("serve"),
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
