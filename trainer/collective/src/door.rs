//! Where a worker's connections begin: it dials one peer, or opens to whoever dials it. Whoever can't show that it
//! belongs to the job is refused.

use crate::handshake::{HandshakeError, Identity, Purpose, greet, welcome};
use crate::inbox::Inbox;
use crate::links::Links;
use crate::stream::Stream;
use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use trainer_core::Member;

/// Connections that have not shown yet who they are. For one more the oldest goes: peers say at once who they are.
const GREETING_MAX: usize = 128;
const DIAL_PATIENCE: Duration = Duration::from_secs(3);
/// Without descriptors or memory for another connection, the next try is made after this time.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Dials a peer. The error names its address.
pub(crate) fn connect(member: &Member, me: &Identity, links: &Links, purpose: Purpose) -> Result<Stream, String> {
    let address = &member.address;
    let socket = address
        .to_socket_addrs()
        .map_err(|e| format!("{address}: {e}"))?
        .next()
        .ok_or_else(|| format!("{address}: no such host"))?;
    let socket = TcpStream::connect_timeout(&socket, DIAL_PATIENCE).map_err(|e| format!("{address}: {e}"))?;
    greet(socket, me, links, &member.worker, purpose).map_err(|e| format!("{address}: {}", chain(&e)))
}

/// Connections whose greeting is not over, the oldest first.
#[derive(Clone, Default)]
struct Guests(Arc<Mutex<VecDeque<Arc<TcpStream>>>>);

impl Guests {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<TcpStream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, socket: Arc<TcpStream>) {
        let mut guests = self.lock();
        if guests.len() >= GREETING_MAX
            && let Some(oldest) = guests.pop_front()
        {
            tracing::info!("sends a connection away: {GREETING_MAX} have not said who they are");
            // Its greeting ends with that; a connection that is over already needs no end.
            let _ = oldest.shutdown(Shutdown::Both);
        }
        guests.push_back(socket);
    }

    /// Whether this one was still there.
    fn leave(&self, socket: &Arc<TcpStream>) -> bool {
        let mut guests = self.lock();
        let place = guests.iter().position(|guest| Arc::ptr_eq(guest, socket));
        place.and_then(|place| guests.remove(place)).is_some()
    }
}

/// Takes connections from peers until the process ends, and only so many may be busy showing who they are at once.
pub fn listen(listener: TcpListener, inbox: Inbox) {
    let guests = Guests::default();
    thread::spawn(move || {
        let mut exhausted = false;
        loop {
            let socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if is_exhausted(&error) => {
                    // The connection stays in the queue, so that the next call would fail at once, over and over.
                    if !std::mem::replace(&mut exhausted, true) {
                        tracing::warn!(%error, "can't take connections from peers; tries again and again");
                    }
                    thread::sleep(EXHAUSTED_PAUSE);
                    continue;
                }
                // The dialer is gone already.
                Err(_) => continue,
            };
            exhausted = false;
            let socket = Arc::new(socket);
            guests.enter(Arc::clone(&socket));
            let (inbox, host, guest) = (inbox.clone(), guests.clone(), Arc::clone(&socket));
            let greeting = thread::Builder::new().name("greeting".to_owned());
            if let Err(error) = greeting.spawn(move || admit(&inbox, &host, guest)) {
                guests.leave(&socket);
                tracing::warn!(%error, "refused a connection");
            }
        }
    });
}

fn admit(inbox: &Inbox, guests: &Guests, socket: Arc<TcpStream>) {
    let from = socket.peer_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string());
    let welcomed = welcome(Arc::clone(&socket), inbox.me(), inbox.links());
    let stayed = guests.leave(&socket);
    drop(socket);
    match welcomed {
        Ok((worker, purpose, stream)) if stayed => inbox.admit(worker, purpose, stream),
        Ok(_) => {}
        Err(error) => tracing::info!(from, "refused a connection: {}", chain(&error)),
    }
}

/// Whether the system has no room for another connection, as opposed to this connection having failed.
fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn chain(error: &HandshakeError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
