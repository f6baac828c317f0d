//! The joiner's side: takes a share of the state from each of several peers at once, all of one step boundary, then
//! from the first of them the sum of each round after it, until it stands where the group does and can switch with it.

use crate::ask::{Ask, DONORS_MAX};
use crate::inbox::{Arrival, Inbox};
use crate::poller::Poller;
use crate::stream::Stream;
use crate::wire::{HEAD, Head, Kind};
use mio::Interest;
use std::io::{self, Read};
use std::time::{Duration, Instant};
use thiserror::Error;
use trainer_core::{Member, Round};

/// How long all donors, once connected, may take to agree on a boundary. Steps can be long; one donor alone is asked
/// then, and waited for.
const AGREEMENT_PATIENCE: Duration = Duration::from_secs(600);
/// While one share comes, no other donor may be silent for longer.
const SHARE_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes taken from one donor before it is the next one's turn.
const TURN: usize = 256 << 10;
/// Turns taken before the caller may look at something else.
const TURNS: usize = 64;

/// Why following ended.
#[derive(Debug, Error)]
pub enum FollowError {
    /// A donor can't be reached, went away, dropped this worker for being too slow, or sent what it should not.
    #[error("follow {donor}: {detail}")]
    Lost {
        /// Whom.
        donor: String,
        /// What was seen.
        detail: String,
    },
    /// The donors were all reached and did not agree on a boundary in time.
    #[error("follow {donors} donors: they did not agree within {} s", AGREEMENT_PATIENCE.as_secs())]
    NoAgreement {
        /// How many.
        donors: usize,
    },
    /// The system refused random numbers, or to register the socket.
    #[error("follow peers")]
    Io(#[from] io::Error),
}

/// What came from the donors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Followed {
    /// Nothing more is there: wait.
    Nothing,
    /// Part of the state, and more is there: call again.
    Part,
    /// The state is in place; this round comes next.
    State(Round),
    /// The sum of this round is in place.
    Sum(Round),
}

/// Where what comes from the donors is put.
pub trait Destination {
    /// Parameters, buffers and slots; what was there is gone.
    fn state(&mut self) -> &mut [f32];
    /// The sum of this round; the one before it is gone.
    fn sum(&mut self, round: Round) -> &mut [f32];
}

#[derive(Debug)]
enum Stage {
    Head([u8; HEAD], usize),
    Body(Head, usize),
    /// This donor's share is in place.
    Done(Round),
}

#[derive(Debug)]
struct Source {
    donor: Member,
    ask: Ask,
    /// None while it is dialed.
    stream: Option<Stream>,
    stage: Stage,
    sequence: u64,
    heard: Instant,
}

/// One joiner's connections to its donors.
#[derive(Debug)]
pub struct Follow {
    /// By share; only the first once the state is whole.
    sources: Vec<Source>,
    connected: Option<Instant>,
    whole: bool,
    inbox: Inbox,
    request: u64,
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.inbox.forget_donors(self.request);
    }
}

impl Follow {
    /// Dials these donors in the background, of which the first [`DONORS_MAX`] share the work.
    ///
    /// # Errors
    /// When there are no donors, or the system has no random numbers.
    pub fn start(inbox: &Inbox, donors: &[Member]) -> Result<Self, FollowError> {
        let donors = &donors[..donors.len().min(DONORS_MAX)];
        if donors.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a donor, found none").into());
        }
        let number = getrandom::u64().map_err(|e| io::Error::other(e.to_string()))?.max(1);
        let source = |(index, donor): (usize, &Member)| {
            let ask = Ask::new(number, index, donors.len())?;
            inbox.dial_donor(donor, ask);
            let stage = Stage::Head([0; HEAD], 0);
            Some(Source { donor: donor.clone(), ask, stream: None, stage, sequence: 0, heard: Instant::now() })
        };
        let sources = donors.iter().enumerate().filter_map(source).collect();
        Ok(Self { sources, connected: None, whole: false, inbox: inbox.clone(), request: number })
    }

    /// Whom it takes the state from; only the first of them once it has that.
    pub fn donors(&self) -> impl Iterator<Item = &Member> {
        self.sources.iter().map(|source| &source.donor)
    }

    /// Whether the state is whole, and sums follow.
    #[must_use]
    pub fn has_state(&self) -> bool {
        self.whole
    }

    /// When to call [`Follow::advance`] again though nothing came.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.whole || self.sources.len() == 1 {
            return None;
        }
        if self.sources.iter().any(Source::has_begun) {
            let waited_for = self.sources.iter().filter(|source| !source.is_done());
            return waited_for.map(|source| source.heard + SHARE_PATIENCE).min();
        }
        Some(self.connected? + AGREEMENT_PATIENCE)
    }

    /// Reads what is there without waiting: up to the end of the state or of one sum, and not for long.
    ///
    /// # Errors
    /// See [`FollowError`].
    pub fn advance(
        &mut self,
        poller: &mut Poller,
        inbox: &Inbox,
        destination: &mut dyn Destination,
    ) -> Result<Followed, FollowError> {
        if self.whole {
            let Some(first) = self.sources.first_mut() else { return Ok(Followed::Nothing) };
            return Ok(first.sum(destination)?.map_or(Followed::Nothing, Followed::Sum));
        }
        for source in &mut self.sources {
            source.connect(poller, inbox)?;
        }
        if self.connected.is_none() && self.sources.iter().all(|source| source.stream.is_some()) {
            self.connected = Some(Instant::now());
            // From here on a donor is silent if it says nothing.
            self.sources.iter_mut().for_each(|source| source.heard = Instant::now());
        }
        let mut more = true;
        for _ in 0..TURNS {
            more = false;
            for source in &mut self.sources {
                more |= source.share(destination)?;
            }
            if !more {
                break;
            }
        }
        if let Some(round) = self.agreed()? {
            self.whole = true;
            self.sources.truncate(1);
            if let Some(first) = self.sources.first_mut() {
                first.stage = Stage::Head([0; HEAD], 0);
            }
            return Ok(Followed::State(round));
        }
        self.overdue()?;
        Ok(if more { Followed::Part } else { Followed::Nothing })
    }

    /// The round that comes after the state, once all shares are there; they must be of one boundary.
    fn agreed(&self) -> Result<Option<Round>, FollowError> {
        let mut agreed = None;
        let mut all = true;
        for source in &self.sources {
            let round = match &source.stage {
                Stage::Head(..) => None,
                Stage::Body(head, _) => Some(head.round),
                Stage::Done(round) => Some(*round),
            };
            if let (Some(agreed), Some(round)) = (agreed, round)
                && agreed != round
            {
                return Err(source.lost(format!("gave its share at {round:?}, expected {agreed:?} like the others")));
            }
            agreed = agreed.or(round);
            all &= source.is_done();
        }
        Ok(agreed.filter(|_| all))
    }

    fn overdue(&self) -> Result<(), FollowError> {
        if self.deadline().is_none_or(|deadline| Instant::now() < deadline) {
            return Ok(());
        }
        let begun = self.sources.iter().any(Source::has_begun);
        let silent = self.sources.iter().filter(|source| !source.is_done()).min_by_key(|source| source.heard);
        match silent.filter(|_| begun) {
            Some(silent) => Err(silent.lost(format!("sent nothing for {} s", SHARE_PATIENCE.as_secs()))),
            None => Err(FollowError::NoAgreement { donors: self.sources.len() }),
        }
    }
}

impl Source {
    fn lost(&self, detail: String) -> FollowError {
        FollowError::Lost { donor: self.donor.worker.clone(), detail }
    }

    fn has_begun(&self) -> bool {
        self.sequence > 0
    }

    fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done(_))
    }

    fn connect(&mut self, poller: &mut Poller, inbox: &Inbox) -> Result<(), FollowError> {
        if self.stream.is_some() {
            return Ok(());
        }
        match inbox.take_donor(self.ask) {
            None => {}
            Some(Arrival::Unreachable(detail)) => return Err(self.lost(detail)),
            Some(Arrival::Link(stream)) => {
                let token = poller.token();
                stream.register(poller.registry(), token, Interest::READABLE)?;
                self.stream = Some(stream);
            }
        }
        Ok(())
    }

    /// One turn at this donor's share; whether there may be more at once.
    fn share(&mut self, destination: &mut dyn Destination) -> Result<bool, FollowError> {
        if self.is_done() {
            return Ok(false);
        }
        let Some(head) = self.head(Kind::State)? else { return Ok(false) };
        let state = destination.state();
        let share = self.ask.share(state.len());
        let (more, whole) = self.body(&head, bytemuck::cast_slice_mut(&mut state[share]), TURN)?;
        if whole {
            self.stage = Stage::Done(head.round);
        }
        Ok(more && !whole)
    }

    /// The next sum, if the rest of it is there.
    fn sum(&mut self, destination: &mut dyn Destination) -> Result<Option<Round>, FollowError> {
        let Some(head) = self.head(Kind::Sum)? else { return Ok(None) };
        let (_, whole) = self.body(&head, bytemuck::cast_slice_mut(destination.sum(head.round)), usize::MAX)?;
        if !whole {
            return Ok(None);
        }
        self.stage = Stage::Head([0; HEAD], 0);
        Ok(Some(head.round))
    }

    /// The head of the frame that comes, once it is there.
    fn head(&mut self, kind: Kind) -> Result<Option<Head>, FollowError> {
        let lost = |donor: &Member, detail: String| FollowError::Lost { donor: donor.worker.clone(), detail };
        let Some(stream) = self.stream.as_mut() else { return Ok(None) };
        loop {
            let (bytes, seen) = match &mut self.stage {
                Stage::Head(bytes, seen) => (bytes, seen),
                Stage::Body(head, _) => return Ok(Some(*head)),
                Stage::Done(_) => return Ok(None),
            };
            match read(stream, &mut bytes[*seen..]).map_err(|e| lost(&self.donor, e.to_string()))? {
                None => return Ok(None),
                Some(read) => *seen += read,
            }
            if *seen < HEAD {
                continue;
            }
            let expected = |head: &Head| head.kind == kind && head.sequence == self.sequence;
            let Some(head) = Head::from_bytes(bytes).filter(expected) else {
                let detail = format!("expected the head of {kind:?} {}, found another", self.sequence);
                return Err(lost(&self.donor, detail));
            };
            self.sequence += 1;
            self.heard = Instant::now();
            self.stage = Stage::Body(head, 0);
        }
    }

    /// Reads into the rest of `target`, at most so many bytes: whether there may be more, and whether it is full.
    fn body(&mut self, head: &Head, target: &mut [u8], at_most: usize) -> Result<(bool, bool), FollowError> {
        if target.len() as u64 != head.length {
            let expected = target.len();
            return Err(self.lost(format!("expected {expected} bytes of {:?}, found {}", head.kind, head.length)));
        }
        let (Some(stream), Stage::Body(_, seen)) = (self.stream.as_mut(), &mut self.stage) else {
            return Ok((false, false));
        };
        let stop = target.len().min(seen.saturating_add(at_most));
        while *seen < stop {
            let read = match read(stream, &mut target[*seen..stop]) {
                Ok(Some(read)) => read,
                Ok(None) => return Ok((false, false)),
                Err(error) => {
                    let detail = format!("{error} after {seen} of {} bytes", target.len());
                    return Err(self.lost(detail));
                }
            };
            *seen += read;
            self.heard = Instant::now();
        }
        Ok((true, stop == target.len()))
    }
}

fn read(stream: &mut Stream, target: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match stream.read(target) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed the connection")),
            Ok(read) => return Ok(Some(read)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
