//! The joiner's side: takes a peer's state, then the sum of each round after it, until it stands where the group does
//! and can switch with it.

use crate::inbox::{Arrival, Inbox};
use crate::poller::Poller;
use crate::wire::{HEAD, Head, Kind};
use mio::Interest;
use mio::net::TcpStream;
use std::io::{self, Read};
use thiserror::Error;
use trainer_core::{Member, Round};

/// Why following ended.
#[derive(Debug, Error)]
pub enum FollowError {
    /// The donor can't be reached, went away, or dropped this worker for being too slow.
    #[error("follow {donor}: {detail}")]
    Lost {
        /// Whom.
        donor: String,
        /// What was seen.
        detail: String,
    },
    /// The system refused to register the socket.
    #[error("follow a peer")]
    Io(#[from] io::Error),
}

/// What came from the donor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Followed {
    /// Nothing whole yet: wait.
    Nothing,
    /// The state is in place; this round comes next.
    State(Round),
    /// The sum of this round is in place.
    Sum(Round),
}

/// Where what comes from the donor is put.
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
}

/// One joiner's connection to its donor.
#[derive(Debug)]
pub struct Follow {
    donor: Member,
    /// None while it dials.
    stream: Option<TcpStream>,
    stage: Stage,
    sequence: u64,
    dial: u64,
}

impl Follow {
    /// Dials the donor in the background.
    #[must_use]
    pub fn start(inbox: &Inbox, donor: Member) -> Self {
        let dial = inbox.dial_donor(&donor);
        Self { donor, stream: None, stage: Stage::Head([0; HEAD], 0), sequence: 0, dial }
    }

    /// Whom it follows.
    #[must_use]
    pub fn donor(&self) -> &Member {
        &self.donor
    }

    /// Whether the donor's state has begun to come.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.sequence > 0
    }

    /// Reads what is there without waiting, up to the end of one frame.
    ///
    /// # Errors
    /// See [`FollowError`].
    pub fn advance(
        &mut self,
        poller: &mut Poller,
        inbox: &Inbox,
        destination: &mut dyn Destination,
    ) -> Result<Followed, FollowError> {
        let lost = |donor: &Member, detail: String| FollowError::Lost { donor: donor.worker.clone(), detail };
        if self.stream.is_none() {
            match inbox.take_donor(self.dial) {
                None => return Ok(Followed::Nothing),
                Some(Arrival::Unreachable(detail)) => return Err(lost(&self.donor, detail)),
                Some(Arrival::Link(stream)) => {
                    stream.set_nonblocking(true)?;
                    let mut stream = TcpStream::from_std(stream);
                    let token = poller.token();
                    poller.registry().register(&mut stream, token, Interest::READABLE)?;
                    self.stream = Some(stream);
                }
            }
        }
        let Some(stream) = self.stream.as_mut() else { return Ok(Followed::Nothing) };
        loop {
            match &mut self.stage {
                Stage::Head(bytes, seen) => {
                    match read(stream, &mut bytes[*seen..]).map_err(|e| lost(&self.donor, e.to_string()))? {
                        None => return Ok(Followed::Nothing),
                        Some(read) => *seen += read,
                    }
                    if *seen < HEAD {
                        continue;
                    }
                    let kind = if self.sequence == 0 { Kind::State } else { Kind::Sum };
                    let expected = |h: &Head| h.kind == kind && h.sequence == self.sequence;
                    let Some(head) = Head::from_bytes(bytes).filter(expected) else {
                        let detail = format!("expected the head of {kind:?} {}, found another", self.sequence);
                        return Err(lost(&self.donor, detail));
                    };
                    self.sequence += 1;
                    self.stage = Stage::Body(head, 0);
                }
                Stage::Body(head, seen) => {
                    let target =
                        if head.kind == Kind::State { destination.state() } else { destination.sum(head.round) };
                    let target: &mut [u8] = bytemuck::cast_slice_mut(target);
                    if target.is_empty() || target.len() as u64 != head.length {
                        let detail = format!("sent {} bytes where {} were expected", head.length, target.len());
                        return Err(lost(&self.donor, detail));
                    }
                    if fill(stream, target, seen).map_err(|e| lost(&self.donor, e.to_string()))?.is_none() {
                        return Ok(Followed::Nothing);
                    }
                    let followed = match head.kind {
                        Kind::State => Followed::State(head.round),
                        _ => Followed::Sum(head.round),
                    };
                    self.stage = Stage::Head([0; HEAD], 0);
                    return Ok(followed);
                }
            }
        }
    }
}

/// Reads into the rest of `target`; `None` when it isn't full and nothing more is there.
fn fill(stream: &mut TcpStream, target: &mut [u8], seen: &mut usize) -> io::Result<Option<()>> {
    while *seen < target.len() {
        match read(stream, &mut target[*seen..])? {
            None => return Ok(None),
            Some(read) => *seen += read,
        }
    }
    Ok(Some(()))
}

fn read(stream: &mut TcpStream, target: &mut [u8]) -> io::Result<Option<usize>> {
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
