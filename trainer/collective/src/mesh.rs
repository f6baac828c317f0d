//! The connections of one generation, each member with each, and the one loop that moves frames over them. All
//! members do the same operations in the same order, so every frame is known before it comes; anything else, a
//! closed connection or an interruption ends the mesh, and the worker waits for its next generation.

use crate::poller::Poller;
use crate::pulse::Watch;
use crate::sharing::Sharing;
use crate::stream::Stream;
use crate::wire::{HEAD, Head, Kind};
use mio::{Interest, Token};
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::time::{Duration, Instant};
use thiserror::Error;
use trainer_core::membership::Header;
use trainer_core::tree::Shards;
use trainer_core::{Assignment, Member, Round};

/// Slices handed to the system in one call.
const SLICES: usize = 16;
/// Bytes that the system keeps for a peer on this host: so few that it reads them out of the processor's cache, and so
/// many that it need not wait for them. Between hosts the system finds a size by itself.
const ON_THE_WAY_WITHIN_HOST: usize = 128 * 1024;

/// Why a mesh ended.
#[derive(Debug, Error)]
pub enum MeshError {
    /// Another thread wants this one's attention.
    #[error("interrupted")]
    Interrupted,
    /// A peer is gone, or speaks nonsense.
    #[error("lost {worker}: {detail}")]
    Lost {
        /// Whom.
        worker: String,
        /// What was seen.
        detail: String,
    },
    /// This worker isn't in the assignment.
    #[error("not a member of generation {generation}")]
    NotAMember {
        /// Which.
        generation: u64,
    },
    /// The system gives no memory for a round's vectors.
    #[error("get memory for a round's vectors")]
    Memory(#[source] io::Error),
    /// The system refused to wait or to register a socket.
    #[error("wait for peers")]
    Io(#[from] io::Error),
}

/// A connection to one peer.
#[derive(Debug)]
pub(crate) struct Link {
    worker: String,
    pub(crate) stream: Stream,
    token: Token,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

/// The members of one generation, connected.
#[derive(Debug)]
pub struct Mesh {
    assignment: Assignment,
    rank: usize,
    links: Vec<Option<Link>>,
    watch: Watch,
    sequence: u64,
    pub(crate) sockets_only: bool,
    pub(crate) sharing: Vec<Sharing>,
}

/// Frames to one peer: bytes in order.
#[derive(Debug, Default)]
pub(crate) struct Sending<'a> {
    pieces: VecDeque<Piece<'a>>,
}

#[derive(Debug)]
enum Piece<'a> {
    Head([u8; HEAD], usize),
    Body(&'a [u8]),
}

/// Frames from one peer: what must come, and where it goes.
#[derive(Debug, Default)]
pub(crate) struct Receiving<'a> {
    frames: VecDeque<Expected<'a>>,
}

#[derive(Debug)]
struct Expected<'a> {
    head: [u8; HEAD],
    seen: [u8; HEAD],
    seen_length: usize,
    bodies: VecDeque<&'a mut [u8]>,
}

impl Piece<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Head(bytes, from) => &bytes[*from..],
            Self::Body(bytes) => bytes,
        }
    }
}

impl<'a> Sending<'a> {
    pub(crate) fn frame(&mut self, head: Head, bodies: impl IntoIterator<Item = &'a [u8]>) {
        self.pieces.push_back(Piece::Head(head.to_bytes(), 0));
        self.pieces.extend(bodies.into_iter().filter(|b| !b.is_empty()).map(Piece::Body));
    }

    fn slices(&self) -> Vec<IoSlice<'_>> {
        self.pieces.iter().take(SLICES).map(|piece| IoSlice::new(piece.bytes())).collect()
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            let left = piece.bytes().len();
            if written < left {
                match piece {
                    Piece::Head(_, from) => *from += written,
                    Piece::Body(bytes) => *bytes = &bytes[written..],
                }
                return;
            }
            written -= left;
            self.pieces.pop_front();
        }
    }
}

impl<'a> Receiving<'a> {
    pub(crate) fn frame(&mut self, head: Head, bodies: impl IntoIterator<Item = &'a mut [u8]>) {
        self.frames.push_back(Expected {
            head: head.to_bytes(),
            seen: [0; HEAD],
            seen_length: 0,
            bodies: bodies.into_iter().filter(|b| !b.is_empty()).collect(),
        });
    }
}

impl Mesh {
    /// `links` by rank; none at this worker's own.
    pub(crate) fn new(assignment: Assignment, rank: usize, links: Vec<Option<Link>>, watch: Watch) -> Self {
        Self { assignment, rank, links, watch, sequence: 0, sockets_only: false, sharing: Vec::new() }
    }

    /// Its members and their shards.
    #[must_use]
    pub fn assignment(&self) -> &Assignment {
        &self.assignment
    }

    /// The logical shards of this worker.
    #[must_use]
    pub fn shards(&self) -> Shards {
        self.assignment.members[self.rank].shards.clone()
    }

    /// This worker's place in it.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many members there are.
    #[must_use]
    pub fn world_size(&self) -> usize {
        self.links.len()
    }

    /// Whether all peers are alive, as far as can be told now: cheap, for between two pieces of a long computation.
    ///
    /// # Errors
    /// [`MeshError::Lost`], when one has been silent for too long or its process is gone.
    pub fn check(&self) -> Result<(), MeshError> {
        self.watch.lost().map_or(Ok(()), |(worker, detail)| Err(MeshError::Lost { worker, detail }))
    }

    /// Asks the same from anywhere, for whatever waits for peers outside of this mesh.
    pub fn alarm(&self) -> impl Fn() -> bool + Send + use<> {
        self.watch.alarm()
    }

    /// Gives each member's note to each: all notes, by rank.
    ///
    /// # Errors
    /// See [`MeshError`].
    pub fn notes<const N: usize>(
        &mut self,
        poller: &mut Poller,
        round: Round,
        mine: [u8; N],
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Vec<[u8; N]>, MeshError> {
        let head = self.head(Kind::Note, round, N);
        let mut all = vec![[0; N]; self.world_size()];
        let mut sends = self.sendings();
        let mut receives = self.receivings();
        for (other, note) in all.iter_mut().enumerate() {
            if other != self.rank {
                sends[other].frame(head, [mine.as_slice()]);
                receives[other].frame(head, [note.as_mut_slice()]);
            }
        }
        self.transfer(poller, sends, receives, interrupted, &mut || {})?;
        all[self.rank] = mine;
        Ok(all)
    }

    /// The headers that all members' notes are, by rank.
    ///
    /// # Errors
    /// [`MeshError::Lost`], for who sent something else.
    pub fn headers(&self, notes: &[[u8; Header::BYTES]]) -> Result<Vec<Header>, MeshError> {
        let parse = |(note, member): (&[u8; Header::BYTES], &Member)| {
            Header::from_bytes(note).ok_or_else(|| MeshError::Lost {
                worker: member.worker.clone(),
                detail: "sent a header that is none".to_owned(),
            })
        };
        notes.iter().zip(&self.assignment.members).map(parse).collect()
    }

    /// Sends the same bytes to some peers: state or a sum, to those that are behind.
    ///
    /// # Errors
    /// See [`MeshError`].
    pub fn send_to(
        &mut self,
        poller: &mut Poller,
        to: &[usize],
        round: Round,
        bytes: &[u8],
        interrupted: &dyn Fn() -> bool,
    ) -> Result<(), MeshError> {
        let head = self.head(Kind::State, round, bytes.len());
        let mut sends = self.sendings();
        for rank in to {
            sends[*rank].frame(head, [bytes]);
        }
        let receives = self.receivings();
        self.transfer(poller, sends, receives, interrupted, &mut || {})
    }

    /// Takes what a peer sends with [`Mesh::send_to`].
    ///
    /// # Errors
    /// See [`MeshError`].
    pub fn receive_from(
        &mut self,
        poller: &mut Poller,
        from: usize,
        round: Round,
        bytes: &mut [u8],
        interrupted: &dyn Fn() -> bool,
    ) -> Result<(), MeshError> {
        let head = self.head(Kind::State, round, bytes.len());
        let sends = self.sendings();
        let mut receives = self.receivings();
        receives[from].frame(head, [bytes]);
        self.transfer(poller, sends, receives, interrupted, &mut || {})
    }

    /// Waits until all peers have closed this mesh, or the time is over: a member that leaves makes sure so that
    /// nothing that it sent is lost with its process.
    pub fn close_after_peers(mut self, poller: &mut Poller, at_most: Duration) {
        let deadline = Instant::now() + at_most;
        loop {
            let mut open = false;
            for link in self.links.iter_mut().flatten() {
                open |= !link.at_end();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if !open || left.is_zero() || poller.wait(Some(left)).is_err() {
                return;
            }
        }
    }

    pub(crate) fn head(&self, kind: Kind, round: Round, length: usize) -> Head {
        Head { kind, sequence: self.sequence, round, length: length as u64 }
    }

    pub(crate) fn sendings<'a>(&self) -> Vec<Sending<'a>> {
        self.links.iter().map(|_| Sending::default()).collect()
    }

    pub(crate) fn receivings<'a>(&self) -> Vec<Receiving<'a>> {
        self.links.iter().map(|_| Receiving::default()).collect()
    }

    /// The number of the operation that begins.
    pub(crate) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence - 1
    }

    pub(crate) fn link(&mut self, rank: usize) -> Option<&mut Link> {
        self.links[rank].as_mut()
    }

    /// Forgets what can't be read or written: whoever waited since the last operation may have taken the events.
    pub(crate) fn retry_all(&mut self) {
        for link in self.links.iter_mut().flatten() {
            (link.readable, link.writable) = (true, true);
        }
    }

    /// Whether the system has not taken all that was written.
    pub(crate) fn has_pending(&self) -> bool {
        self.links.iter().flatten().any(|link| link.stream.has_pending())
    }

    /// Waits until a link can be read or written again, or the bell rings.
    pub(crate) fn wait(&mut self, poller: &mut Poller, at_most: Option<Duration>) -> Result<(), MeshError> {
        for ready in poller.wait_ready(at_most)? {
            if let Some(link) = self.links.iter_mut().flatten().find(|l| l.token == ready.token) {
                link.readable |= ready.read;
                link.writable |= ready.write;
            }
        }
        self.check()
    }

    /// Moves all frames, each link's in order, all links at once. `midway` is called once, when one link has had its
    /// first turn and the others have not.
    pub(crate) fn transfer(
        &mut self,
        poller: &mut Poller,
        mut sends: Vec<Sending<'_>>,
        mut receives: Vec<Receiving<'_>>,
        interrupted: &dyn Fn() -> bool,
        midway: &mut dyn FnMut(),
    ) -> Result<(), MeshError> {
        self.next_sequence();
        self.retry_all();
        let mut first = true;
        loop {
            let mut busy = false;
            for (rank, link) in self.links.iter_mut().enumerate() {
                let Some(link) = link else { continue };
                let lost = |detail| MeshError::Lost { worker: link.worker.clone(), detail };
                let sent = send(&mut link.stream, &mut link.writable, &mut sends[rank]);
                busy |= sent.map_err(|e| lost(e.to_string()))?;
                let received = receive(&mut link.stream, &mut link.readable, &mut receives[rank]);
                busy |= received.map_err(|e| lost(e.to_string()))?;
                if std::mem::take(&mut first) {
                    midway();
                }
            }
            if !busy {
                return Ok(());
            }
            // Before the wait: whoever waited last may have taken the bell's ring.
            if interrupted() {
                return Err(MeshError::Interrupted);
            }
            self.wait(poller, None)?;
        }
    }
}

impl Link {
    /// What became of this peer; without memory for what it sent, the fault is not its.
    pub(crate) fn lost(&self, error: io::Error) -> MeshError {
        match error.kind() {
            io::ErrorKind::OutOfMemory => MeshError::Memory(error),
            _ => MeshError::Lost { worker: self.worker.clone(), detail: error.to_string() },
        }
    }

    /// Gives the system what it did not take yet.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.writable && self.stream.has_pending() {
            match self.stream.flush() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                other => other?,
            }
        }
        Ok(())
    }

    pub(crate) fn new(poller: &mut Poller, worker: &str, stream: Stream) -> io::Result<Self> {
        if stream.is_within_host()? {
            rustix::net::sockopt::set_socket_send_buffer_size(stream.socket(), ON_THE_WAY_WITHIN_HOST)?;
        }
        let token = poller.token();
        stream.register(poller.registry(), token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { worker: worker.to_owned(), stream, token, readable: true, writable: true })
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self.stream, Stream::Encrypted(_))
    }

    fn at_end(&mut self) -> bool {
        let mut rest = [0; 256];
        loop {
            match self.stream.read(&mut rest) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return e.kind() != io::ErrorKind::WouldBlock,
            }
        }
    }
}

/// Writes what goes now; whether there is more.
fn send(stream: &mut Stream, writable: &mut bool, sending: &mut Sending<'_>) -> io::Result<bool> {
    while *writable && !sending.pieces.is_empty() {
        match stream.write_vectored(&sending.slices()) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => sending.advance(written),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => *writable = false,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    if *writable && stream.has_pending() {
        match stream.flush() {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => *writable = false,
            other => other?,
        }
    }
    Ok(!sending.pieces.is_empty() || stream.has_pending())
}

/// Reads what is there now; whether more must come.
fn receive(stream: &mut Stream, readable: &mut bool, receiving: &mut Receiving<'_>) -> io::Result<bool> {
    while let Some(frame) = receiving.frames.front_mut() {
        let target = if frame.seen_length < HEAD {
            &mut frame.seen[frame.seen_length..]
        } else if let Some(body) = frame.bodies.front_mut() {
            body
        } else {
            receiving.frames.pop_front();
            continue;
        };
        if !*readable {
            return Ok(true);
        }
        let read = match stream.read(target) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed the connection")),
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                *readable = false;
                continue;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if frame.seen_length < HEAD {
            frame.seen_length += read;
            if frame.seen_length == HEAD && frame.seen != frame.head {
                return Err(out_of_step(&frame.head, &frame.seen));
            }
        } else if let Some(body) = frame.bodies.pop_front()
            && read < body.len()
        {
            frame.bodies.push_front(&mut body[read..]);
        }
    }
    Ok(false)
}

fn out_of_step(expected: &[u8; HEAD], seen: &[u8; HEAD]) -> io::Error {
    let text = match (Head::from_bytes(expected), Head::from_bytes(seen)) {
        (Some(expected), Some(seen)) => format!("out of step: expected {expected:?}, found {seen:?}"),
        _ => "sent something that is not a frame".to_owned(),
    };
    io::Error::new(io::ErrorKind::InvalidData, text)
}
