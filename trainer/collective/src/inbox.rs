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
    /// Of the newest [`Inbox::dial_donor`] alone.
    donor: Option<Arrival>,
    donor_dials: u64,
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
                self.dial(member, Purpose::Mesh { generation }, move |inbox, worker, arrival| {
                    inbox.put(generation, worker, arrival);
                });
            }
        }
    }

    /// Asks this peer for its state; [`Inbox::take_donor`] gives the connection for the number returned. What comes of
    /// earlier calls is dropped.
    pub(crate) fn dial_donor(&self, donor: &Member) -> u64 {
        let mut waiting = self.lock();
        waiting.donor = None;
        waiting.donor_dials += 1;
        let dial = waiting.donor_dials;
        drop(waiting);
        self.dial(donor, Purpose::State, move |inbox, _, arrival| {
            let mut waiting = inbox.lock();
            if waiting.donor_dials == dial {
                waiting.donor = Some(arrival);
            }
        });
        dial
    }

    fn dial(&self, member: &Member, purpose: Purpose, put: impl FnOnce(&Self, String, Arrival) + Send + 'static) {
        let (inbox, member) = (self.clone(), member.clone());
        thread::spawn(move || {
            let arrival = match connect(&member, &inbox.me, purpose) {
                Ok(stream) => Arrival::Link(stream),
                Err(detail) => Arrival::Unreachable(detail),
            };
            put(&inbox, member.worker, arrival);
            inbox.bell.ring();
        });
    }

    fn put(&self, generation: u64, worker: String, arrival: Arrival) {
        let mut waiting = self.lock();
        if generation < waiting.oldest_generation || waiting.links.len() >= KEPT {
            waiting.dropped += 1;
        } else {
            waiting.links.insert((generation, worker), arrival);
        }
    }

    fn admit(&self, mut stream: TcpStream) {
        match welcome(&mut stream, &self.me) {
            Ok((worker, Purpose::State)) => {
                let mut waiting = self.lock();
                if waiting.joiners.len() < JOINERS_MAX {
                    waiting.joiners.push((worker, stream));
                }
            }
            Ok((worker, Purpose::Mesh { generation })) => self.put(generation, worker, Arrival::Link(stream)),
            Err(error) => tracing::info!("refused a connection: {error}"),
        }
        self.bell.ring();
    }

    /// The link to this peer in this generation, once it is there.
    pub(crate) fn take_link(&self, generation: u64, worker: &str) -> Option<Arrival> {
        self.lock().links.remove(&(generation, worker.to_owned()))
    }

    /// What came of this [`Inbox::dial_donor`], once it is there and if it is the newest.
    pub(crate) fn take_donor(&self, dial: u64) -> Option<Arrival> {
        let mut waiting = self.lock();
        if waiting.donor_dials == dial { waiting.donor.take() } else { None }
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

fn connect(member: &Member, me: &Identity, purpose: Purpose) -> Result<TcpStream, String> {
    use std::net::ToSocketAddrs;
    let address = &member.address;
    let socket = address
        .to_socket_addrs()
        .map_err(|e| format!("{address}: {e}"))?
        .next()
        .ok_or_else(|| format!("{address}: no such host"))?;
    let mut stream = TcpStream::connect_timeout(&socket, DIAL_PATIENCE).map_err(|e| format!("{address}: {e}"))?;
    greet(&mut stream, me, &member.worker, purpose).map_err(|e| format!("{address}: {e}"))?;
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
