//! Where connections wait until the training thread wants them, whoever dialed. Peers need not reach a new
//! generation at the same moment: what comes early is kept, what comes late is dropped and counted.

use crate::ask::Ask;
use crate::door::connect;
use crate::handshake::{Identity, Purpose};
use crate::links::Links;
use crate::poller::Bell;
use crate::pulse::Pulse;
use crate::stream::Stream;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use trainer_core::Member;

/// Connections kept for generations that have not begun.
const KEPT: usize = 1024;
/// Workers that wait for this one's state.
const JOINERS_MAX: usize = 64;

/// What came in for one link of a mesh.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// Connected, and the peer is who it should be.
    Link(Stream),
    /// Dialing failed: why.
    Unreachable(String),
}

/// A worker that wants a share of this one's state.
#[derive(Debug)]
pub(crate) struct Joiner {
    /// Who.
    pub(crate) worker: String,
    /// Which share, in which request.
    pub(crate) ask: Ask,
    /// It sends nothing on it; what can be read from it is its end.
    pub(crate) stream: Stream,
}

#[derive(Debug, Default)]
struct Waiting {
    oldest_generation: u64,
    links: BTreeMap<(u64, String), Arrival>,
    dialing: BTreeSet<(u64, String)>,
    joiners: Vec<Joiner>,
    /// The newest request of [`Inbox::dial_donor`], 0 for none, and what came of it, by share.
    request: u64,
    donors: BTreeMap<Ask, Arrival>,
}

/// Shared by the listener, the dialers and the training thread.
#[derive(Clone, Debug)]
pub struct Inbox {
    me: Identity,
    links: Arc<Links>,
    pulse: Pulse,
    bell: Bell,
    waiting: Arc<Mutex<Waiting>>,
}

impl Inbox {
    /// For this worker; `bell` wakes its training thread.
    ///
    /// # Errors
    /// When the system gives no more descriptors or threads.
    pub fn new(me: Identity, links: Links, bell: Bell) -> io::Result<Self> {
        let pulse = Pulse::start(links.silence, bell.clone())?;
        Ok(Self { me, links: Arc::new(links), pulse, bell, waiting: Arc::default() })
    }

    /// What it wants of its connections.
    pub(crate) fn links(&self) -> &Links {
        &self.links
    }

    pub(crate) fn pulse(&self) -> &Pulse {
        &self.pulse
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
            if !self.lock().dialing.insert((generation, member.worker.clone())) {
                continue;
            }
            self.dial(member, Purpose::Mesh { generation }, move |inbox, member, link| {
                let reached = matches!(link, Arrival::Link(_));
                inbox.put(generation, member.worker.clone(), link);
                inbox.bell.ring();
                // Not before: the pulse has time, the group waits for the link.
                match reached.then(|| connect(member, &inbox.me, &inbox.links, Purpose::Pulse { generation })) {
                    Some(Ok(stream)) => inbox.pulse.connected(generation, member.worker.clone(), stream),
                    Some(Err(detail)) => inbox.pulse.unreachable(generation, member.worker.clone(), &detail),
                    None => {}
                }
            });
        }
    }

    /// Asks this peer for a share of its state; [`Inbox::take_donor`] gives the connection. What comes of other
    /// requests is dropped from now on.
    pub(crate) fn dial_donor(&self, donor: &Member, ask: Ask) {
        let mut waiting = self.lock();
        if waiting.request != ask.number() {
            waiting.request = ask.number();
            waiting.donors.clear();
        }
        drop(waiting);
        self.dial(donor, Purpose::State(ask), move |inbox, _, arrival| {
            let mut waiting = inbox.lock();
            if waiting.request == ask.number() {
                waiting.donors.insert(ask, arrival);
            }
            drop(waiting);
            inbox.bell.ring();
        });
    }

    /// Nobody waits for what comes of this request any more. Its connections are closed: as long as they are there, the
    /// donors think that it still wants to be served.
    pub(crate) fn forget_donors(&self, request: u64) {
        let mut waiting = self.lock();
        if waiting.request == request {
            waiting.request = 0;
            waiting.donors.clear();
        }
    }

    /// Dials in the background, and lets `put` do the rest.
    fn dial(&self, member: &Member, purpose: Purpose, put: impl FnOnce(&Self, &Member, Arrival) + Send + 'static) {
        let (inbox, member) = (self.clone(), member.clone());
        thread::spawn(move || {
            let arrival = match connect(&member, &inbox.me, &inbox.links, purpose) {
                Ok(stream) => Arrival::Link(stream),
                Err(detail) => Arrival::Unreachable(detail),
            };
            put(&inbox, &member, arrival);
        });
    }

    fn put(&self, generation: u64, worker: String, arrival: Arrival) {
        let mut waiting = self.lock();
        if generation < waiting.oldest_generation || waiting.links.len() >= KEPT {
            tracing::info!(generation, worker, "dropped a connection that nobody waits for any more");
        } else {
            waiting.links.insert((generation, worker), arrival);
        }
    }

    /// Takes in somebody who dialed and has shown who it is.
    pub(crate) fn admit(&self, worker: String, purpose: Purpose, stream: Stream) {
        match purpose {
            Purpose::State(ask) => {
                let mut waiting = self.lock();
                if waiting.joiners.len() < JOINERS_MAX {
                    waiting.joiners.push(Joiner { worker, ask, stream });
                }
            }
            Purpose::Mesh { generation } => self.put(generation, worker, Arrival::Link(stream)),
            Purpose::Pulse { generation } => self.pulse.connected(generation, worker, stream),
        }
        self.bell.ring();
    }

    /// The link to this peer in this generation, once it is there.
    pub(crate) fn take_link(&self, generation: u64, worker: &str) -> Option<Arrival> {
        self.lock().links.remove(&(generation, worker.to_owned()))
    }

    /// What came of [`Inbox::dial_donor`] for this share, once it is there.
    pub(crate) fn take_donor(&self, ask: Ask) -> Option<Arrival> {
        self.lock().donors.remove(&ask)
    }

    /// Workers that want this one's state, since the last call.
    pub(crate) fn take_joiners(&self) -> Vec<Joiner> {
        std::mem::take(&mut self.lock().joiners)
    }

    /// Connections of generations before this one that nobody took are closed, and dropped from now on. Their other ends
    /// may be in use: who waits there for this worker learns that it doesn't come.
    pub fn forget_before(&self, generation: u64) {
        let mut waiting = self.lock();
        waiting.oldest_generation = waiting.oldest_generation.max(generation);
        let keep = (generation, String::new());
        let kept = waiting.links.split_off(&keep);
        waiting.links = kept;
        waiting.dialing = waiting.dialing.split_off(&keep);
        drop(waiting);
        self.pulse.forget_before(generation);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
