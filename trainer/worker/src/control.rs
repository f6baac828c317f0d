//! What the training thread knows of the coordinator: assignments, requests to join, save or exit; and what it tells
//! it. The attachment (a thread of its own) fills and empties it; training never waits for either.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use trainctl_proto::v1::worker_message::Body;
use trainctl_proto::v1::{Finished, Heartbeat, Notice, Rollback, Welcome};
use trainer_collective::{Bell, Inbox};
use trainer_core::membership::{Agreement, Header, Membership};
use trainer_core::{Assignment, Member};

/// Messages that wait while there is no coordinator. More than this many mean hours without one; the newest are
/// dropped then, and what must not be lost is told again on attaching.
const WAITING: usize = 4096;

/// The place of [`Body::Aside`] among what is told again.
const ASIDE: u8 = 9;

#[derive(Default)]
struct Shared {
    welcome: Option<(Welcome, Inbox)>,
    membership: Membership,
    /// From whom, and how many roll-backs what they give has seen.
    join: Option<(Vec<Member>, u64)>,
    exit: Option<String>,
    save: Option<String>,
    /// The newest roll-back, and the first generation after it.
    rollback: Option<(u64, Rollback)>,
    progress: Heartbeat,
    finished: Option<Finished>,
    /// The newest of each kind that a new coordinator must hear.
    retold: BTreeMap<u8, Body>,
    alone_since: Option<Instant>,
}

/// Shared between the training thread and the attachment.
#[derive(Clone)]
pub(crate) struct Control {
    shared: Arc<Mutex<Shared>>,
    attention: Arc<AtomicBool>,
    bell: Bell,
    outbox: Sender<Body>,
}

impl Control {
    /// And the messages to the coordinator, for the attachment.
    pub(crate) fn new(bell: Bell) -> (Self, Receiver<Body>) {
        let (outbox, messages) = channel(WAITING);
        let shared = Shared { alone_since: Some(Instant::now()), ..Shared::default() };
        (Self { shared: Arc::new(Mutex::new(shared)), attention: Arc::default(), bell, outbox }, messages)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self, shared: MutexGuard<'_, Shared>) {
        drop(shared);
        self.attention.store(true, Ordering::Release);
        self.bell.ring();
    }

    // The attachment's side.

    pub(crate) fn welcomed(&self, welcome: Welcome, inbox: Inbox) {
        let mut shared = self.lock();
        shared.welcome = Some((welcome, inbox));
        self.ring(shared);
    }

    pub(crate) fn offer(&self, assignment: Assignment) {
        let mut shared = self.lock();
        shared.membership.offer(assignment);
        self.ring(shared);
    }

    /// This generation comes after this roll-back; to be told before the assignment.
    pub(crate) fn rolled_back(&self, generation: u64, rollback: Rollback) {
        let newest = &mut self.lock().rollback;
        match newest {
            Some((_, known)) if rollback.number < known.number => {}
            Some((_, known)) if rollback.number == known.number => *known = rollback,
            _ => *newest = Some((generation, rollback)),
        }
    }

    pub(crate) fn ask_to_join(&self, donors: Vec<Member>, rollbacks: u64) {
        let mut shared = self.lock();
        shared.join = Some((donors, rollbacks));
        self.ring(shared);
    }

    pub(crate) fn ask_to_save(&self, why: String) {
        let mut shared = self.lock();
        shared.save = Some(why);
        self.ring(shared);
    }

    pub(crate) fn ask_to_exit(&self, reason: String) {
        let mut shared = self.lock();
        shared.exit.get_or_insert(reason);
        self.ring(shared);
    }

    pub(crate) fn connected(&self, connected: bool) {
        let mut shared = self.lock();
        shared.alone_since = if connected { None } else { shared.alone_since.or_else(|| Some(Instant::now())) };
        self.ring(shared);
    }

    /// What Hello and heartbeats say: progress, the newest generation heard of, whether it is at the end.
    pub(crate) fn standing(&self) -> (Heartbeat, u64, bool) {
        let shared = self.lock();
        (shared.progress.clone(), shared.membership.newest_generation(), shared.finished.is_some())
    }

    /// What a coordinator that may have forgotten it must hear again.
    pub(crate) fn retold(&self) -> Vec<Body> {
        let shared = self.lock();
        let finished = shared.finished.iter().map(|f| Body::Finished(f.clone()));
        shared.retold.values().cloned().chain(finished).collect()
    }

    pub(crate) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// The cloud takes this instance; every coordinator must hear of it.
    pub(crate) fn noticed(&self, notice: Notice) {
        self.tell(Body::Notice(notice));
    }

    // The training thread's side.

    pub(crate) fn welcome(&self) -> Option<(Welcome, Inbox)> {
        self.lock().welcome.clone()
    }

    pub(crate) fn exit(&self) -> Option<String> {
        self.lock().exit.clone()
    }

    pub(crate) fn take_join(&self) -> Option<(Vec<Member>, u64)> {
        self.lock().join.take()
    }

    pub(crate) fn take_save(&self) -> Option<String> {
        self.lock().save.take()
    }

    /// Whether anything came since the last call: cheap, for between two logical shards.
    pub(crate) fn attention(&self) -> bool {
        self.attention.swap(false, Ordering::Acquire)
    }

    /// Whether what this thread does in its generation is to be dropped.
    pub(crate) fn interrupts(&self) -> bool {
        let shared = self.lock();
        shared.exit.is_some() || shared.membership.interrupts()
    }

    /// Whether there is a newer assignment, of any kind, or nothing left to do.
    pub(crate) fn overtaken(&self) -> bool {
        let shared = self.lock();
        shared.exit.is_some() || shared.membership.next().is_some()
    }

    pub(crate) fn newest_generation(&self) -> u64 {
        self.lock().membership.newest_generation()
    }

    pub(crate) fn agree(&self, headers: &[Header]) -> Agreement {
        self.lock().membership.agree(headers)
    }

    pub(crate) fn switch_to(&self, generation: u64) -> Option<Assignment> {
        let mut shared = self.lock();
        // A member holds the state; a donor named to it before would make it fetch that again.
        shared.join = None;
        shared.membership.switch_to(generation)
    }

    pub(crate) fn enter_newest(&self) -> Option<Assignment> {
        let mut shared = self.lock();
        let assignment = shared.membership.enter_newest()?;
        shared.join = None;
        Some(assignment)
    }

    /// It is a member: what it said of standing aside holds no longer.
    pub(crate) fn takes_part(&self) {
        self.lock().retold.remove(&ASIDE);
    }

    /// The newest roll-back.
    pub(crate) fn rollback(&self) -> Option<Rollback> {
        self.lock().rollback.as_ref().map(|(_, rollback)| rollback.clone())
    }

    /// How many roll-backs a state of this generation has seen; `None` for one from before the newest.
    pub(crate) fn rollbacks_at(&self, generation: u64) -> Option<u64> {
        match &self.lock().rollback {
            Some((since, rollback)) => (generation >= *since).then_some(rollback.number),
            None => Some(0),
        }
    }

    /// The training thread has no state any more, not even the last.
    pub(crate) fn dropped(&self) {
        let mut shared = self.lock();
        shared.finished = None;
        shared.progress.has_state = false;
    }

    /// Since when there has been no coordinator.
    pub(crate) fn alone_since(&self) -> Option<Instant> {
        self.lock().alone_since
    }

    pub(crate) fn progress(&self, change: impl FnOnce(&mut Heartbeat)) {
        change(&mut self.lock().progress);
    }

    pub(crate) fn finished(&self, finished: Finished) {
        self.lock().finished = Some(finished.clone());
        self.tell(Body::Finished(finished));
    }

    /// Tells the coordinator, now or when it is there again.
    pub(crate) fn tell(&self, body: Body) {
        let key = match &body {
            Body::Saved(_) => Some(0),
            Body::Evaluated(_) => Some(1),
            Body::Resumed(_) => Some(2),
            Body::PeerLost(_) => Some(3),
            Body::Notice(_) => Some(4),
            Body::Left(_) | Body::Failed(_) => Some(5),
            Body::Corrupt(_) => Some(6),
            Body::Settled(_) => Some(7),
            Body::RebalanceRecommended(_) => Some(8),
            Body::Aside(_) => Some(ASIDE),
            Body::NcclFailed(_) => Some(10),
            _ => None,
        };
        if let Some(key) = key {
            self.lock().retold.insert(key, body.clone());
        }
        if self.outbox.try_send(body).is_err() {
            tracing::warn!("dropped a message: no coordinator has taken any for long");
        }
    }
}
