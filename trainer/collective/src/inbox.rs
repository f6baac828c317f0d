//! Where connections wait until the training thread wants them, whoever dialed. Peers need not reach a new
//! generation at the same moment: what comes early is kept, what comes late is dropped and counted.

use crate::handshake::{Identity, Purpose, greet, welcome};
use crate::poller::Bell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use trainer_core::Member;

/// Connections kept for generations that have not begun.
const KEPT: usize = 1024;
/// Connections that have not shown yet who they are.
const GREETING_MAX: usize = 128;
/// Workers that wait for this one's state.
const JOINERS_MAX: usize = 64;
const DIAL_PATIENCE: Duration = Duration::from_secs(3);

/// What came in for one link of a mesh.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// Connected, and the peer is who it should be.
    Link(TcpStream),
    /// Dialing failed: why.
    Unreachable(String),
}

#[derive(Debug, Default)]
struct Waiting {
    oldest_generation: u64,
    links: BTreeMap<(u64, String), Arrival>,
    dialing: BTreeSet<(u64, String)>,
    joiners: Vec<(String, TcpStream)>,
    donors: Vec<(String, Arrival)>,
    dropped: u64,
}

/// Shared by the listener, the dialers and the training thread.
#[derive(Clone, Debug)]
pub struct Inbox {
    me: Identity,
    bell: Bell,
    waiting: Arc<Mutex<Waiting>>,
}

impl Inbox {
    /// For this worker; `bell` wakes its training thread.
    #[must_use]
    pub fn new(me: Identity, bell: Bell) -> Self {
        Self { me, bell, waiting: Arc::default() }
    }

    /// This worker.
    #[must_use]
    pub fn me(&self) -> &Identity {
        &self.me
    }

    /// Begins to connect to the members of lower rank than this worker's, in the background; those of higher rank dial
    /// it. Calling it again for the same generation does nothing.
    pub fn dial_mesh(&self, generation: u64, members: &[Member]) {
        let Some(rank) = members.iter().position(|m| m.worker == self.me.worker) else { return };
        for member in &members[..rank] {
            if self.lock().dialing.insert((generation, member.worker.clone())) {
                self.dial(member, Purpose::Mesh { generation });
            }
        }
    }

    /// Asks this peer for its state; [`Inbox::take_donor`] gives the connection.
    pub fn dial_donor(&self, donor: &Member) {
        self.dial(donor, Purpose::State);
    }

    fn dial(&self, member: &Member, purpose: Purpose) {
        let (inbox, member) = (self.clone(), member.clone());
        thread::spawn(move || {
            let arrival = match connect(&member.address, &inbox.me, purpose) {
                Ok(stream) => Arrival::Link(stream),
                Err(detail) => Arrival::Unreachable(detail),
            };
            inbox.put(member.worker, purpose, arrival);
        });
    }

    fn put(&self, worker: String, purpose: Purpose, arrival: Arrival) {
        let mut waiting = self.lock();
        match purpose {
            Purpose::Mesh { generation } => {
                if generation < waiting.oldest_generation || waiting.links.len() >= KEPT {
                    waiting.dropped += 1;
                    return;
                }
                waiting.links.insert((generation, worker), arrival);
            }
            Purpose::State => waiting.donors.push((worker, arrival)),
        }
        drop(waiting);
        self.bell.ring();
    }

    fn admit(&self, mut stream: TcpStream) {
        match welcome(&mut stream, &self.me.secret) {
            Ok((worker, Purpose::State)) => {
                let mut waiting = self.lock();
                if waiting.joiners.len() < JOINERS_MAX {
                    waiting.joiners.push((worker, stream));
                }
                drop(waiting);
                self.bell.ring();
            }
            Ok((worker, purpose)) => self.put(worker, purpose, Arrival::Link(stream)),
            Err(error) => tracing::info!("refused a connection: {error}"),
        }
    }

    /// The link to this peer in this generation, once it is there.
    pub(crate) fn take_link(&self, generation: u64, worker: &str) -> Option<Arrival> {
        self.lock().links.remove(&(generation, worker.to_owned()))
    }

    /// The connection to this donor, once it is there.
    pub(crate) fn take_donor(&self, worker: &str) -> Option<Arrival> {
        let mut waiting = self.lock();
        let at = waiting.donors.iter().position(|(w, _)| w == worker)?;
        Some(waiting.donors.swap_remove(at).1)
    }

    /// Workers that want this one's state, since the last call.
    pub(crate) fn take_joiners(&self) -> Vec<(String, TcpStream)> {
        std::mem::take(&mut self.lock().joiners)
    }

    /// Connections of generations before this one are dropped from now on.
    pub(crate) fn forget_before(&self, generation: u64) {
        let mut waiting = self.lock();
        waiting.oldest_generation = waiting.oldest_generation.max(generation);
        let keep = (generation, String::new());
        let kept = waiting.links.split_off(&keep);
        waiting.dropped += waiting.links.len() as u64;
        waiting.links = kept;
        waiting.dialing = waiting.dialing.split_off(&keep);
    }

    /// Connections dropped for belonging to a generation that is over.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connect(address: &str, me: &Identity, purpose: Purpose) -> Result<TcpStream, String> {
    use std::net::ToSocketAddrs;
    let socket = address
        .to_socket_addrs()
        .map_err(|e| format!("{address}: {e}"))?
        .next()
        .ok_or_else(|| format!("{address}: no such host"))?;
    let mut stream = TcpStream::connect_timeout(&socket, DIAL_PATIENCE).map_err(|e| format!("{address}: {e}"))?;
    greet(&mut stream, me, purpose).map_err(|e| format!("{address}: {e}"))?;
    Ok(stream)
}

/// Takes connections from peers until the process ends. Whoever can't show that it belongs to the job is refused, and
/// only so many may be busy showing it at once.
pub fn listen(listener: TcpListener, inbox: Inbox) {
    let greeting = Arc::new(());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            if Arc::strong_count(&greeting) > GREETING_MAX {
                tracing::warn!("refused a connection: {GREETING_MAX} others have not said who they are");
                continue;
            }
            let (inbox, guest) = (inbox.clone(), Arc::clone(&greeting));
            thread::spawn(move || {
                inbox.admit(stream);
                drop(guest);
            });
        }
    });
}
