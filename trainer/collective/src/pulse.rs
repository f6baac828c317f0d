//! Who is alive: a light connection to each peer of a generation, over which both ends say so many times a second, on
//! a thread of its own. A step may take as long as it likes; a process that stopped, a host that vanished and a
//! half-open connection are found within the bound all the same, and without a coordinator.
//!
//! A peer that leaves a generation says farewell. Whose connection ends without one is dead, and that is known at once.

use crate::poller::Bell;
use crate::stream::Stream;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use trainer_core::Member;

const BEAT: u8 = b'.';
const FAREWELL: u8 = b'!';
/// Beats within the time after which a peer counts as silent.
const BEATS: u32 = 4;
/// Beyond the bound of silence, what a first connection may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// Peers of all generations together.
const PEERS_MAX: usize = 2048;
const WAKER: Token = Token(usize::MAX);

/// What a peer is known by: its generation and its name.
type Key = (u64, String);

/// The pulse of this worker; its thread ends with the last handle.
#[derive(Clone, Debug)]
pub(crate) struct Pulse(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    waker: Waker,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        // Without it the thread sees that at its next beat.
        let _ = self.waker.wake();
    }
}

#[derive(Debug)]
struct Shared {
    silence: Duration,
    bell: Bell,
    registry: Registry,
    peers: Mutex<Peers>,
    /// Somebody is lost: cheap to ask.
    alarm: AtomicBool,
    over: AtomicBool,
}

#[derive(Debug, Default)]
struct Peers {
    known: BTreeMap<Key, Peer>,
    tokens: BTreeMap<usize, Key>,
    next_token: usize,
    /// Generations before it are over.
    oldest_generation: u64,
}

#[derive(Debug)]
struct Peer {
    state: State,
    /// When it was heard last, or expected first.
    heard: Instant,
    watched: bool,
}

#[derive(Debug)]
enum State {
    /// Its connection isn't there yet.
    Expected,
    Connected(Stream, usize),
    /// It said farewell.
    Gone,
    /// Why it is taken for dead.
    Lost(String),
}

/// A mesh's interest in its peers; when it is dropped, this worker says farewell to them.
#[derive(Debug)]
pub(crate) struct Watch {
    pulse: Pulse,
    generation: u64,
}

impl Pulse {
    /// Starts it; `bell` is rung when somebody is lost.
    ///
    /// # Errors
    /// When the system gives no more descriptors or threads.
    pub(crate) fn start(silence: Duration, bell: Bell) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let shared = Arc::new(Shared {
            silence,
            bell,
            registry: poll.registry().try_clone()?,
            peers: Mutex::default(),
            alarm: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let beating = Arc::clone(&shared);
        thread::Builder::new().name("pulse".to_owned()).spawn(move || beating.beat(poll))?;
        Ok(Self(Arc::new(Handle { shared, waker })))
    }

    /// A connection to this peer is there, whoever dialed.
    pub(crate) fn connected(&self, generation: u64, worker: String, stream: Stream) {
        let shared = &self.0.shared;
        let mut peers = shared.lock();
        if generation < peers.oldest_generation {
            return;
        }
        let token = peers.next_token;
        peers.next_token += 1;
        let key = (generation, worker);
        let fresh = !peers.known.contains_key(&key);
        if fresh && peers.known.len() >= PEERS_MAX {
            return;
        }
        let state = match stream.register(&shared.registry, Token(token), Interest::READABLE) {
            Ok(()) => State::Connected(stream, token),
            Err(error) => State::Lost(format!("pulse: {error}")),
        };
        peers.tokens.insert(token, key.clone());
        let watched = peers.known.get(&key).is_some_and(|peer| peer.watched);
        peers.known.insert(key, Peer { state, heard: Instant::now(), watched });
        shared.raise(&peers);
    }

    /// A connection to this peer can't be made.
    pub(crate) fn unreachable(&self, generation: u64, worker: String, detail: &str) {
        let shared = &self.0.shared;
        let mut peers = shared.lock();
        if generation < peers.oldest_generation {
            return;
        }
        let fresh = Peer { state: State::Expected, heard: Instant::now(), watched: false };
        peers.known.entry((generation, worker)).or_insert(fresh).state = State::Lost(format!("pulse: {detail}"));
        shared.raise(&peers);
    }

    /// From now on the loss of any of these is an alarm.
    pub(crate) fn watch<'a>(&self, generation: u64, workers: impl IntoIterator<Item = &'a Member>) -> Watch {
        let shared = &self.0.shared;
        let mut peers = shared.lock();
        for member in workers {
            let fresh = Peer { state: State::Expected, heard: Instant::now(), watched: false };
            peers.known.entry((generation, member.worker.clone())).or_insert(fresh).watched = true;
        }
        shared.raise(&peers);
        Watch { pulse: self.clone(), generation }
    }

    /// Says farewell to the peers of generations before this one.
    pub(crate) fn forget_before(&self, generation: u64) {
        let shared = &self.0.shared;
        let mut peers = shared.lock();
        peers.oldest_generation = peers.oldest_generation.max(generation);
        drop(peers);
        shared.leave(0..generation);
    }

    /// A peer of this generation that is lost, and what was seen of it.
    pub(crate) fn lost(&self, generation: u64) -> Option<(String, String)> {
        let shared = &self.0.shared;
        if !shared.alarm.load(Ordering::Acquire) {
            return None;
        }
        let peers = shared.lock();
        let of_generation = (generation, String::new())..;
        peers.known.range(of_generation).take_while(|((of, _), _)| *of == generation).find_map(|((_, worker), peer)| {
            match &peer.state {
                State::Lost(detail) => Some((worker.clone(), detail.clone())),
                _ => None,
            }
        })
    }
}

impl Watch {
    /// A peer that is lost, and what was seen of it.
    pub(crate) fn lost(&self) -> Option<(String, String)> {
        self.pulse.lost(self.generation)
    }

    /// For as long as this is not dropped: whether a peer is lost.
    pub(crate) fn alarm(&self) -> impl Fn() -> bool + Send + use<> {
        let (pulse, generation) = (self.pulse.clone(), self.generation);
        move || pulse.lost(generation).is_some()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.pulse.0.shared.leave(self.generation..self.generation + 1);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the training thread when somebody who is watched is lost.
    fn raise(&self, peers: &Peers) {
        let lost = peers.known.values().any(|peer| peer.watched && matches!(peer.state, State::Lost(_)));
        if self.alarm.swap(lost, Ordering::AcqRel) != lost && lost {
            self.bell.ring();
        }
    }

    fn leave(&self, generations: Range<u64>) {
        let mut peers = self.lock();
        let Peers { known, tokens, .. } = &mut *peers;
        known.retain(|(generation, _), peer| {
            let leaves = generations.contains(generation);
            if leaves && let State::Connected(stream, token) = &mut peer.state {
                // What is unread when a connection closes makes the system reset it.
                let _ = hear(stream);
                let _ = stream.write(&[FAREWELL]);
                tokens.remove(token);
            }
            !leaves
        });
        self.raise(&peers);
    }

    fn beat(&self, mut poll: Poll) {
        let every = self.silence / BEATS;
        let mut events = Events::with_capacity(256);
        let mut due = Instant::now();
        while !self.over.load(Ordering::Acquire) {
            let left = due.saturating_duration_since(Instant::now());
            match poll.poll(&mut events, Some(left)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
                Err(error) => {
                    tracing::error!(%error, "can't wait for peers' pulse; their silence goes unnoticed from now on");
                    return;
                }
                Ok(()) => {}
            }
            let now = Instant::now();
            let held_up = now.saturating_duration_since(due) > every;
            let mut peers = self.lock();
            for event in &events {
                peers.heard_on(event.token().0, now);
            }
            if now >= due {
                due = now + every;
                peers.say_and_judge(now, self.silence, held_up);
            }
            self.raise(&peers);
        }
    }
}

impl Peers {
    fn heard_on(&mut self, token: usize, now: Instant) {
        let Some(peer) = self.tokens.get(&token).and_then(|key| self.known.get_mut(key)) else { return };
        let State::Connected(stream, _) = &mut peer.state else { return };
        match hear(stream) {
            Ok(Heard::Nothing) => {}
            Ok(Heard::Beat) => peer.heard = now,
            Ok(Heard::Farewell) => peer.state = State::Gone,
            Err(error) => peer.state = State::Lost(error.to_string()),
        }
    }

    /// `held_up`: this thread itself was, so that what it did not hear says nothing about others.
    fn say_and_judge(&mut self, now: Instant, silence: Duration, held_up: bool) {
        for peer in self.known.values_mut() {
            if held_up {
                peer.heard = peer.heard.max(now);
            }
            let patience = match &mut peer.state {
                State::Expected => silence + CONNECT_PATIENCE,
                State::Connected(stream, _) => {
                    match stream.write(&[BEAT]) {
                        // A peer that takes nothing any more says nothing any more either.
                        Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                            peer.state = State::Lost(error.to_string());
                            continue;
                        }
                        _ => silence,
                    }
                }
                State::Gone | State::Lost(_) => continue,
            };
            let silent = now.saturating_duration_since(peer.heard);
            if silent > patience {
                peer.state = State::Lost(format!("silent for {:.1} s", silent.as_secs_f64()));
            }
        }
        let Self { known, tokens, .. } = self;
        tokens.retain(|_, key| known.get(key).is_some_and(|peer| matches!(peer.state, State::Connected(..))));
    }
}

enum Heard {
    Nothing,
    Beat,
    Farewell,
}

/// Reads all that is there.
fn hear(stream: &mut Stream) -> io::Result<Heard> {
    let mut heard = Heard::Nothing;
    let mut bytes = [0; 64];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed the connection")),
            Ok(read) if bytes[..read].contains(&FAREWELL) => return Ok(Heard::Farewell),
            Ok(read) if bytes[..read].iter().all(|byte| *byte == BEAT) => heard = Heard::Beat,
            Ok(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "sent something that is not a pulse")),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(heard),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poller::Poller;
    use crate::socket::Socket;
    use std::net::{TcpListener, TcpStream};

    const SOON: Duration = Duration::from_secs(30);

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let dialed = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (dialed, listener.accept().unwrap().0)
    }

    fn stream(socket: TcpStream) -> Stream {
        let mut socket = Socket::new(socket, Instant::now() + SOON).unwrap();
        socket.settle().unwrap();
        Stream::Plain(socket)
    }

    fn member(worker: &str) -> Member {
        Member { worker: worker.to_owned(), address: String::new(), shards: 0..1 }
    }

    struct Observer {
        poller: Poller,
        pulse: Pulse,
        watch: Watch,
    }

    /// Watches w2 in generation 3.
    fn observer(silence: Duration) -> Observer {
        let poller = Poller::new().unwrap();
        let pulse = Pulse::start(silence, poller.bell()).unwrap();
        let watch = pulse.watch(3, [&member("w2")]);
        Observer { poller, pulse, watch }
    }

    impl Observer {
        fn connect(&self) -> TcpStream {
            let (ours, theirs) = pair();
            self.pulse.connected(3, "w2".to_owned(), stream(ours));
            theirs
        }

        /// What was seen of w2 once the bell rang, or nothing within this time.
        fn loss(&mut self, within: Duration) -> Option<String> {
            let deadline = Instant::now() + within;
            loop {
                if let Some((worker, detail)) = self.watch.lost() {
                    assert_eq!(worker, "w2");
                    return Some(detail);
                }
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return None;
                }
                self.poller.wait(Some(left)).unwrap();
            }
        }
    }

    #[test]
    fn two_that_hear_each_other_stay_together_until_one_says_farewell() {
        let silence = Duration::from_millis(400);
        let (mut here, mut there) = (observer(silence), observer(silence));
        let (one, other) = pair();
        here.pulse.connected(3, "w2".to_owned(), stream(one));
        there.pulse.connected(3, "w2".to_owned(), stream(other));
        assert_eq!(here.loss(silence * 4), None);
        drop(here);
        assert_eq!(there.loss(silence * 4), None, "a farewell is no loss");
    }

    #[test]
    fn a_peer_that_says_nothing_is_lost_within_the_bound() {
        let silence = Duration::from_millis(400);
        let mut observer = observer(silence);
        let began = Instant::now();
        let _mute = observer.connect();
        let detail = observer.loss(SOON).unwrap();
        assert!(detail.starts_with("silent for 0."), "{detail}");
        assert!(began.elapsed() >= silence);
    }

    #[test]
    fn a_process_that_dies_is_lost_at_once() {
        let mut observer = observer(Duration::from_secs(600));
        drop(observer.connect());
        assert_eq!(observer.loss(SOON).unwrap(), "closed the connection");
    }

    #[test]
    fn a_connection_that_is_reset_is_lost_at_once() {
        let mut observer = observer(Duration::from_secs(600));
        let theirs = observer.connect();
        rustix::net::sockopt::set_socket_linger(&theirs, Some(Duration::ZERO)).unwrap();
        drop(theirs);
        assert!(observer.loss(SOON).unwrap().contains("reset"));
    }

    #[test]
    fn a_peer_that_talks_nonsense_is_lost() {
        let mut observer = observer(Duration::from_secs(600));
        let mut theirs = observer.connect();
        theirs.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        assert_eq!(observer.loss(SOON).unwrap(), "sent something that is not a pulse");
    }

    #[test]
    fn a_peer_that_can_not_be_reached_is_lost() {
        let mut observer = observer(Duration::from_secs(600));
        observer.pulse.unreachable(3, "w2".to_owned(), "127.0.0.1:1: refused");
        assert_eq!(observer.loss(SOON).unwrap(), "pulse: 127.0.0.1:1: refused");
    }

    #[test]
    fn a_peer_that_was_lost_before_anyone_watched_is_lost() {
        let poller = Poller::new().unwrap();
        let pulse = Pulse::start(Duration::from_secs(600), poller.bell()).unwrap();
        pulse.unreachable(3, "w2".to_owned(), "refused");
        let watch = pulse.watch(3, [&member("w2")]);
        assert!(watch.lost().is_some());
        drop(watch);
        assert!(pulse.watch(4, [&member("w2")]).lost().is_none(), "another generation");
    }

    #[test]
    fn connections_of_generations_that_are_over_are_closed_with_a_farewell() {
        let pulse = Pulse::start(Duration::from_secs(600), Poller::new().unwrap().bell()).unwrap();
        let (early, mut early_end) = pair();
        pulse.connected(3, "w2".to_owned(), stream(early));
        pulse.forget_before(4);
        let (late, mut late_end) = pair();
        pulse.connected(3, "w2".to_owned(), stream(late));
        let mut said = Vec::new();
        early_end.read_to_end(&mut said).unwrap();
        assert_eq!(said.last(), Some(&FAREWELL));
        assert_eq!(late_end.read(&mut [0; 8]).unwrap(), 0);
    }

    fn judge(state: State, since: Duration, held_up: bool) -> State {
        let now = Instant::now() + SOON;
        let mut peers = Peers::default();
        peers.known.insert((3, "w2".to_owned()), Peer { state, heard: now - since, watched: true });
        peers.say_and_judge(now, Duration::from_secs(2), held_up);
        peers.known.remove(&(3, "w2".to_owned())).unwrap().state
    }

    #[test]
    fn who_was_held_up_itself_blames_nobody() {
        let (ours, _theirs) = pair();
        let ours = stream(ours);
        ours.socket().set_nonblocking(true).unwrap();
        let State::Connected(ours, _) = judge(State::Connected(ours, 1), Duration::from_secs(3), true) else {
            panic!("blamed")
        };
        assert!(matches!(judge(State::Connected(ours, 1), Duration::from_secs(3), false), State::Lost(_)));
    }

    #[test]
    fn a_first_connection_has_more_time() {
        assert!(matches!(judge(State::Expected, Duration::from_secs(4), false), State::Expected));
        assert!(matches!(judge(State::Expected, Duration::from_secs(6), false), State::Lost(_)));
    }
}
