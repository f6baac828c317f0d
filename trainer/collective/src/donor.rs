//! Giving the state to joiners while training goes on. All donors of a request copy their share of the state at one
//! step boundary, and a thread sends it while the next steps are computed; the first of them also sends the sum of each
//! round that follows. Which boundary that is, they agree on in-band: each shows the request that it would serve next
//! with every round, and the first round in which all donors of a request show it is the one. A request to one donor
//! alone needs no agreement.
//!
//! A joiner that can't keep up, or goes away, is dropped; it costs a donor one copy of a share and nothing else.

use crate::ask::Ask;
use crate::inbox::{Inbox, Joiner};
use crate::stream::Stream;
use crate::wire::{Head, Kind};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use trainer_core::Round;
use trainer_core::membership::Header;

/// Rounds that a joiner may be behind before it is dropped: this many, or as many as fit into [`BEHIND_BYTES`].
const BEHIND_MOST: usize = 4096;
const BEHIND_LEAST: usize = 4;
const BEHIND_BYTES: usize = 256 << 20;
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// A request that was shown so often, and waited so long, lacks a donor for good: the smallest number goes first, so it
/// would keep others from being served.
const SHOWN_LEAST: u32 = 4;
const REQUEST_PATIENCE: Duration = Duration::from_secs(30);
/// Joiners beyond so many are turned away, the newest first; they ask again.
const WAITING_MAX: usize = 64;
/// Shares up to here are copied into memory that is new at the boundary; room for longer ones is made beforehand.
const INLINE: usize = 1 << 18;
/// Floats of a page.
const PAGE: usize = 1024;

type Frame = (Kind, Round, Arc<Vec<f32>>);

/// The joiners that wait for this worker's state, and those that follow it.
#[derive(Debug, Default)]
pub struct Donor {
    waiting: Vec<Waiting>,
    /// What this round's header shows, with the room to copy it.
    offer: Option<(Ask, Vec<f32>)>,
    room: Room,
    followers: Vec<(String, SyncSender<Frame>)>,
}

#[derive(Debug)]
struct Waiting {
    joiner: Joiner,
    since: Instant,
    shown: u32,
}

/// Memory for a share, made in the background: new pages cost several times what copying into them does, and the
/// group waits for the copy.
#[derive(Debug, Default)]
enum Room {
    #[default]
    None,
    Making(usize, Receiver<Vec<f32>>),
    Ready(Vec<f32>),
}

impl Donor {
    /// Before a round: the number for [`Header::joiner`], of the request that is served if all its donors show it.
    /// `length` floats make the state.
    pub fn offer(&mut self, inbox: &Inbox, length: usize) -> u64 {
        let came = inbox.take_joiners().into_iter();
        self.waiting.extend(came.map(|joiner| Waiting { joiner, since: Instant::now(), shown: 0 }));
        self.waiting.retain(Waiting::stays);
        self.waiting.truncate(WAITING_MAX);
        if let Some((_, room)) = self.offer.take() {
            self.room = Room::Ready(room);
        }
        let Some(ask) = self.next() else {
            self.room = Room::None;
            return 0;
        };
        let Some(room) = self.room.take(ask.share(length).len()) else { return 0 };
        self.offer = Some((ask, room));
        if ask.count() == 1 {
            return 0;
        }
        for waiting in self.waiting.iter_mut().filter(|w| w.joiner.ask.number() == ask.number()) {
            waiting.shown += 1;
        }
        ask.number()
    }

    /// Those that need no agreement first, then the smallest number: the same choice at all donors.
    fn next(&self) -> Option<Ask> {
        self.waiting.iter().map(|w| w.joiner.ask).min_by_key(|ask| (ask.count() > 1, ask.number()))
    }

    /// At the step boundary after the round with these headers: copies the share that was offered, if all its donors
    /// showed it. `next` is the round that comes. `vector_length` floats make a training round's vector. `at` is
    /// called for each joiner, once it is admitted.
    pub fn admit(
        &mut self,
        headers: &[Header],
        next: Round,
        state: &[f32],
        vector_length: usize,
        at: &mut dyn FnMut(),
    ) {
        let agreed = |ask: Ask| {
            let shown = headers.iter().filter(|h| h.joiner == ask.number()).count();
            ask.count() == 1 || shown == ask.count()
        };
        let Some((ask, mut room)) = self.offer.take_if(|(ask, _)| agreed(*ask)) else { return };
        let began = Instant::now();
        let share = &state[ask.share(state.len())];
        room.truncate(share.len());
        room.copy_from_slice(share);
        let copy = Arc::new(room);
        let stall_ms = began.elapsed().as_secs_f64() * 1e3;
        let behind = (BEHIND_BYTES / (vector_length.max(1) * size_of::<f32>())).clamp(BEHIND_LEAST, BEHIND_MOST);
        let alike = |w: &mut Waiting| match ask.count() {
            1 => w.joiner.ask.count() == 1,
            _ => w.joiner.ask == ask,
        };
        for Waiting { joiner: Joiner { worker, ask, stream }, .. } in self.waiting.extract_if(.., alike) {
            let donors = ask.count();
            tracing::info!(joiner = worker, step = next.step, donors, stall_ms, "gives its state to a joiner");
            let (sender, frames) = sync_channel(behind);
            // A new channel has room for its first frame.
            let _ = sender.try_send((Kind::State, next, copy.clone()));
            at();
            let name = worker.clone();
            thread::spawn(move || {
                if let Err(error) = serve(stream, &frames) {
                    tracing::info!(joiner = name, %error, "stops following");
                }
            });
            if ask.is_first() {
                self.followers.push((worker, sender));
            }
        }
    }

    /// After a round: passes its sum on.
    pub fn publish(&mut self, round: Round, sum: &[f32]) {
        if self.followers.is_empty() {
            return;
        }
        let copy = Arc::new(sum.to_vec());
        self.followers.retain(|(worker, follower)| {
            let kept = follower.try_send((Kind::Sum, round, copy.clone())).is_ok();
            if !kept {
                tracing::info!(joiner = worker, step = round.step, "left, or fell too far behind");
            }
            kept
        });
    }

    /// A round ended for some members and not for others: what these agreed to serve, others may not have. Who waits
    /// for that asks again.
    pub fn disagree(&mut self) {
        self.waiting.retain(|w| w.joiner.ask.count() == 1);
        self.offer = None;
    }

    /// Lets all followers go.
    pub fn close(&mut self) {
        self.followers.clear();
    }
}

impl Waiting {
    fn stays(&self) -> bool {
        let overdue = self.shown >= SHOWN_LEAST && self.since.elapsed() > REQUEST_PATIENCE;
        !overdue && !has_ended(&self.joiner.stream)
    }
}

/// A joiner sends nothing after its greeting, so whatever can be read is the end of its connection.
fn has_ended(stream: &Stream) -> bool {
    let socket = stream.socket();
    let look = || {
        socket.set_nonblocking(true)?;
        let seen = socket.peek(&mut [0]);
        socket.set_nonblocking(false)?;
        seen
    };
    !matches!(look(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

impl Room {
    /// Room for so many floats, if it is there; otherwise it will be.
    fn take(&mut self, length: usize) -> Option<Vec<f32>> {
        if length <= INLINE {
            return Some(vec![0.0; length]);
        }
        if let Self::Making(_, made) = self
            && let Ok(room) = made.try_recv()
        {
            *self = Self::Ready(room);
        }
        match std::mem::take(self) {
            Self::Ready(room) if room.len() >= length => return Some(room),
            Self::Making(coming, made) if coming >= length => *self = Self::Making(coming, made),
            Self::None | Self::Ready(_) | Self::Making(..) => {
                let (sender, made) = sync_channel(1);
                thread::spawn(move || {
                    let mut room = vec![0.0; length];
                    // The system gives a page when it is first written to.
                    room.iter_mut().step_by(PAGE).for_each(|float| *float = 1.0);
                    // Nobody may want it any more.
                    let _ = sender.send(room);
                });
                *self = Self::Making(length, made);
            }
        }
        None
    }
}

fn serve(mut stream: Stream, frames: &Receiver<Frame>) -> io::Result<()> {
    stream.socket().set_write_timeout(Some(WRITE_PATIENCE))?;
    for (sequence, (kind, round, vector)) in frames.iter().enumerate() {
        let bytes: &[u8] = bytemuck::cast_slice(&vector);
        let head = Head { kind, sequence: sequence as u64, round, length: bytes.len() as u64 };
        stream.write_all(&head.to_bytes())?;
        stream.write_all(bytes)?;
        stream.flush()?;
    }
    Ok(())
}
