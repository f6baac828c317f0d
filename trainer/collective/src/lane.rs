//! One link's part in one exchange: which frames go to the peer as soon as they can, which come from it, and where they
//! are put. A peer on the same host, whose memory is read here, sends heads alone.
//!
//! Frames of one kind come in the order of their segments; kinds come in any order. So at any time a few heads are
//! possible, each known to the last bit, and a peer that sends another is out of step.

use crate::buffers::Buffers;
use crate::mesh::Link;
use crate::order::{Program, Put};
use crate::segments::Segments;
use crate::shared::{Arena, Foreign};
use crate::wire::{HEAD, Head, Kind};
use std::io::{self, IoSlice, Read, Write};
use std::ops::Range;
use trainer_core::Round;
use trainer_core::membership::Header;

/// Segments of a peer that wait here for those of other peers.
const DEPTH: usize = 4;
/// Partial sums that a worker has at most: two for each level of the tree.
const PARTIALS_MAX: usize = 64;
/// Body of [`Kind::Open`]: the stamp, then the vectors.
const OPEN: usize = 8 + PARTIALS_MAX;

/// What all lanes of an exchange share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) rank: usize,
    pub(crate) round: Round,
    pub(crate) sequence: u64,
    pub(crate) segments: Segments,
    pub(crate) program: Program,
    /// This worker's partial sums; empty until all their places are known.
    pub(crate) slots: Vec<usize>,
    /// Given to them for the exchange.
    pub(crate) stamp: u64,
    /// Segments whose partial sums are final here.
    pub(crate) ready: usize,
    /// This worker's own segments that are summed.
    pub(crate) summed: usize,
    /// Once it is known.
    pub(crate) header: Option<Header>,
}

/// A frame on its way out.
#[derive(Debug)]
struct Outgoing {
    kind: Kind,
    head: [u8; HEAD],
    small: Vec<u8>,
    sent: usize,
    length: usize,
}

/// A frame on its way in, after its head.
#[derive(Debug)]
struct Incoming {
    kind: Kind,
    seen: usize,
    length: usize,
}

/// The state of one link in one exchange. Counts are of segments that one side owns, in their order.
#[derive(Debug)]
pub(crate) struct Lane {
    peer: usize,
    /// The peer's memory, if it is read here.
    pub(crate) foreign: Option<Foreign>,
    /// Whether the peer reads this worker's memory.
    read_by_peer: bool,
    outgoing: Option<Outgoing>,
    opened: bool,
    header_sent: bool,
    pieces_sent: usize,
    sums_sent: usize,
    head: [u8; HEAD],
    head_seen: usize,
    incoming: Option<Incoming>,
    small: [u8; OPEN],
    /// The peer's partial sums in its memory, and their stamp.
    slots: Vec<usize>,
    stamp: u64,
    /// The peer's.
    pub(crate) header: Option<Header>,
    /// Of this worker's segments: those of which the peer's partial sums are here, or announced.
    pub(crate) pieces: usize,
    sums_announced: usize,
    sums: usize,
}

impl Common {
    fn head(&self, kind: Kind, length: usize) -> Head {
        Head { kind, sequence: self.sequence, round: self.round, length: length as u64 }
    }

    fn bytes(&self, segment: usize) -> usize {
        self.segments.range(segment).len() * size_of::<f32>()
    }
}

impl Lane {
    pub(crate) fn new(peer: usize, foreign: Option<Foreign>, read_by_peer: bool) -> Self {
        Self {
            peer,
            foreign,
            read_by_peer,
            outgoing: None,
            opened: !read_by_peer,
            header_sent: false,
            pieces_sent: 0,
            sums_sent: 0,
            head: [0; HEAD],
            head_seen: 0,
            incoming: None,
            small: [0; OPEN],
            slots: Vec::new(),
            stamp: 0,
            header: None,
            pieces: 0,
            sums_announced: 0,
            sums: 0,
        }
    }

    /// What it has beyond the exchange: the peer's memory, and whether the peer reads this worker's.
    pub(crate) fn into_sharing(self) -> (Option<Foreign>, bool) {
        (self.foreign, self.read_by_peer)
    }

    /// Floats that [`Buffers::received`] holds for this peer.
    pub(crate) fn received_floats(&self, common: &Common) -> usize {
        if self.foreign.is_some() {
            return 0;
        }
        let most = common.segments.owned(common.rank).min(DEPTH);
        most * common.program.partials()[self.peer] * common.segments.floats()
    }

    /// Where in [`Buffers::received`] the partial sum of that number lies, of a segment of this worker.
    fn place(&self, common: &Common, own: usize, partial: usize) -> Range<usize> {
        let partials = common.program.partials()[self.peer];
        let floats = common.segments.range(common.segments.of(common.rank, own)).len();
        let start = own % DEPTH * partials * common.segments.floats() + partial * floats;
        start..start + floats
    }

    /// Whether nothing is left to send or to come.
    pub(crate) fn is_done(&self, common: &Common) -> bool {
        let (mine, theirs) = (common.segments.owned(common.rank), common.segments.owned(self.peer));
        self.outgoing.is_none()
            && self.opened
            && self.header_sent
            && (self.pieces_sent, self.sums_sent) == (theirs, mine)
            && !self.expects(common)
            && self.sums == theirs
    }

    fn expects(&self, common: &Common) -> bool {
        self.header.is_none()
            || (self.foreign.is_some() && self.slots.is_empty())
            || self.pieces < common.segments.owned(common.rank)
            || self.sums_announced < common.segments.owned(self.peer)
    }

    /// Sends what can go now, up to the end of one frame; the frame of which something went.
    pub(crate) fn send(&mut self, link: &mut Link, common: &Common, arena: &Arena) -> io::Result<Option<Kind>> {
        if self.outgoing.is_none() {
            self.outgoing = self.next(common);
        }
        let Some(frame) = self.outgoing.as_mut() else {
            link.flush()?;
            return Ok(None);
        };
        let mut moved = None;
        while link.writable {
            let slices = frame.rest(common, arena);
            if slices.is_empty() {
                let frame = self.outgoing.take();
                self.sent(common, frame.map(|f| f.kind));
                return Ok(moved);
            }
            match link.stream.write_vectored(&slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    frame.sent += written;
                    moved = Some(frame.kind);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => link.writable = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(moved)
    }

    fn next(&self, common: &Common) -> Option<Outgoing> {
        let frame = |kind, small: Vec<u8>, length: usize| {
            let head = common.head(kind, length).to_bytes();
            Some(Outgoing { kind, head, small, sent: 0, length })
        };
        if !self.opened && !common.slots.is_empty() {
            let mut open = vec![0; OPEN];
            open[..8].copy_from_slice(&common.stamp.to_le_bytes());
            open[8..].iter_mut().zip(&common.slots).for_each(|(byte, slot)| *byte = *slot as u8);
            return frame(Kind::Open, open, OPEN);
        }
        if let Some(header) = common.header.filter(|_| !self.header_sent) {
            return frame(Kind::Header, header.to_bytes().to_vec(), Header::BYTES);
        }
        let upto = |have: usize, sent: usize| if self.read_by_peer { have } else { have.min(sent + 1) };
        let sums = upto(common.summed, self.sums_sent);
        if sums > self.sums_sent {
            let segment = common.segments.of(common.rank, sums - 1);
            let length = if self.read_by_peer { 0 } else { common.bytes(segment) };
            return frame(Kind::Finished(segment as u32), Vec::new(), length);
        }
        let pieces = upto(common.segments.owned_before(self.peer, common.ready), self.pieces_sent);
        if pieces > self.pieces_sent {
            let segment = common.segments.of(self.peer, pieces - 1);
            let length = if self.read_by_peer { 0 } else { common.slots.len() * common.bytes(segment) };
            return frame(Kind::Piece(segment as u32), Vec::new(), length);
        }
        None
    }

    fn sent(&mut self, common: &Common, kind: Option<Kind>) {
        let after = |owner, segment: u32| common.segments.number(owner, segment as usize).map_or(0, |n| n + 1);
        match kind {
            Some(Kind::Open) => self.opened = true,
            Some(Kind::Header) => self.header_sent = true,
            Some(Kind::Finished(segment)) => self.sums_sent = after(common.rank, segment),
            Some(Kind::Piece(segment)) => self.pieces_sent = after(self.peer, segment),
            _ => {}
        }
    }

    /// Takes what is there, up to the end of one frame; whether there was anything.
    pub(crate) fn receive(&mut self, link: &mut Link, common: &Common, buffers: &mut Buffers) -> io::Result<bool> {
        let mut moved = false;
        while link.readable && (self.incoming.is_some() || self.expects(common)) {
            let target = match &self.incoming {
                None => &mut self.head[self.head_seen..],
                Some(frame) => match frame.kind {
                    Kind::Piece(_) if self.pieces - common.summed >= DEPTH => return Ok(moved),
                    Kind::Piece(_) => {
                        let place = self.place(common, self.pieces, 0);
                        let whole = &mut buffers.received[self.peer][place.start..][..frame.length / size_of::<f32>()];
                        &mut bytemuck::cast_slice_mut::<f32, u8>(whole)[frame.seen..]
                    }
                    Kind::Finished(segment) => {
                        let range = common.segments.range(segment as usize);
                        let place = buffers.arena.slice_mut(common.slots[0], range);
                        &mut bytemuck::cast_slice_mut::<f32, u8>(place)[frame.seen..]
                    }
                    _ => &mut self.small[frame.seen..frame.length],
                },
            };
            let read = if target.is_empty() { 0 } else { read(link, target)? };
            if read == 0 && !target.is_empty() {
                break;
            }
            moved = true;
            match &mut self.incoming {
                None => {
                    self.head_seen += read;
                    if self.head_seen == HEAD {
                        self.head_seen = 0;
                        self.incoming = Some(self.expected(common)?);
                    }
                }
                Some(frame) => frame.seen += read,
            }
            if self.incoming.as_ref().is_some_and(|frame| frame.seen == frame.length)
                && let Some(frame) = self.incoming.take()
            {
                self.received(common, frame.kind)?;
                return Ok(true);
            }
        }
        Ok(moved)
    }

    /// The frame whose head just came, if it is one of those that can come.
    fn expected(&self, common: &Common) -> io::Result<Incoming> {
        let found =
            Head::from_bytes(&self.head).ok_or_else(|| invalid("sent something that is not a frame".to_owned()))?;
        let out_of_step = || {
            let Common { sequence, round, .. } = common;
            invalid(format!("out of step: expected a frame of operation {sequence}, {round:?}, found {found:?}"))
        };
        let shared = self.foreign.is_some();
        // In shared memory one head announces several; it may not skip backwards, nor go beyond what can be there.
        let announces = |owner: usize, segment: u32, have: usize, most: usize| {
            let number = common.segments.number(owner, segment as usize)?;
            (number >= have && (number == have || shared) && number < most).then_some(segment as usize)
        };
        let body = |segment: usize, partials: usize| if shared { 0 } else { partials * common.bytes(segment) };
        let length = match found.kind {
            Kind::Open if shared && self.slots.is_empty() => Some(OPEN),
            Kind::Header if self.header.is_none() => Some(Header::BYTES),
            Kind::Piece(segment) if !shared || !self.slots.is_empty() => {
                announces(common.rank, segment, self.pieces, common.segments.owned(common.rank))
                    .map(|segment| body(segment, common.program.partials()[self.peer]))
            }
            // A sum can't be there before this worker's part of it was sent.
            Kind::Finished(segment) if !shared || !self.slots.is_empty() => {
                announces(self.peer, segment, self.sums_announced, self.pieces_sent).map(|segment| body(segment, 1))
            }
            _ => None,
        };
        let length = length.filter(|length| found == common.head(found.kind, *length)).ok_or_else(out_of_step)?;
        Ok(Incoming { kind: found.kind, seen: 0, length })
    }

    fn received(&mut self, common: &Common, kind: Kind) -> io::Result<()> {
        let after = |owner, segment: u32| common.segments.number(owner, segment as usize).map_or(0, |n| n + 1);
        match kind {
            Kind::Open => {
                let Some((stamp, slots)) = self.small.split_first_chunk::<8>() else { return Ok(()) };
                self.stamp = u64::from_le_bytes(*stamp);
                let count = common.program.partials()[self.peer];
                self.slots = slots[..count].iter().copied().map(usize::from).collect();
                for slot in &self.slots {
                    self.foreign.as_mut().map_or(Ok(()), |foreign| foreign.map(*slot))?;
                }
            }
            Kind::Header => {
                let bytes = self.small.first_chunk().and_then(Header::from_bytes);
                self.header = Some(bytes.ok_or_else(|| invalid("sent a header that is none".to_owned()))?);
            }
            Kind::Piece(segment) => self.pieces = after(common.rank, segment),
            Kind::Finished(segment) => {
                self.sums_announced = after(self.peer, segment);
                if self.foreign.is_none() {
                    self.sums = self.sums_announced;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Copies the next sum that lies ready in the peer's memory; whether there was one.
    pub(crate) fn take_sum(&mut self, common: &Common, arena: &mut Arena) -> io::Result<bool> {
        let Some(foreign) = self.foreign.as_ref().filter(|_| self.sums < self.sums_announced) else {
            return Ok(false);
        };
        let range = common.segments.range(common.segments.of(self.peer, self.sums));
        foreign.put(self.slots[0], range.clone(), Put::Over(arena.slice_mut(common.slots[0], range)));
        self.sums += 1;
        // The peer may be in its next round already, which leaves this sum alone.
        self.still_of(1)?;
        Ok(true)
    }

    /// Puts a block of the peer's partial sum of that number, of this worker's own segment: good only if
    /// [`Lane::still`] afterwards.
    pub(crate) fn put(
        &self,
        common: &Common,
        own: usize,
        partial: usize,
        block: Range<usize>,
        received: &[Vec<f32>],
        put: Put<'_>,
    ) {
        if let Some(foreign) = &self.foreign {
            foreign.put(self.slots[partial], block, put);
        } else {
            let segment = common.segments.range(common.segments.of(common.rank, own));
            let start = self.place(common, own, partial).start + block.start - segment.start;
            put.take(&received[self.peer][start..start + block.len()]);
        }
    }

    /// Whether the partial sums that were read from the peer's memory were what it announced.
    pub(crate) fn still(&self) -> io::Result<()> {
        self.still_of(self.slots.len())
    }

    fn still_of(&self, vectors: usize) -> io::Result<()> {
        match &self.foreign {
            Some(foreign) if !self.slots[..vectors].iter().all(|slot| foreign.still(*slot, self.stamp)) => {
                Err(invalid("gave up the round while its memory was read".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

impl Outgoing {
    /// What is left of it.
    fn rest<'a>(&'a self, common: &'a Common, arena: &'a Arena) -> Vec<IoSlice<'a>> {
        let slots = match self.kind {
            _ if self.length == 0 => &[],
            Kind::Piece(_) => common.slots.as_slice(),
            Kind::Finished(_) => &common.slots[..1],
            _ => &[],
        };
        let floats = slots.iter().map(|slot| match self.kind {
            Kind::Piece(segment) | Kind::Finished(segment) => {
                bytemuck::cast_slice(arena.slice(*slot, common.segments.range(segment as usize)))
            }
            _ => &[],
        });
        let mut skip = self.sent;
        let mut slices = Vec::with_capacity(2 + slots.len());
        for piece in [self.head.as_slice(), self.small.as_slice()].into_iter().chain(floats) {
            if skip < piece.len() {
                slices.push(IoSlice::new(&piece[skip..]));
            }
            skip = skip.saturating_sub(piece.len());
        }
        slices
    }
}

/// Reads what is there; 0 when nothing is.
fn read(link: &mut Link, target: &mut [u8]) -> io::Result<usize> {
    loop {
        match link.stream.read(target) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed the connection")),
            Ok(read) => return Ok(read),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                link.readable = false;
                return Ok(0);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
