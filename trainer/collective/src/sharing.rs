//! Which members of a mesh read each other's memory. Each says once where its vectors lie, each tries, and each says
//! what it could open: between two of one host that see each other's processes it works, between others frames carry
//! everything.

use crate::buffers::Buffers;
use crate::lane::Lane;
use crate::mesh::{Mesh, MeshError};
use crate::poller::Poller;
use crate::shared::{ADDRESS, Foreign};
use trainer_core::Round;

/// Members that can say of each other whether they read them; more go over sockets.
const MEMBERS_MAX: usize = 512;

/// What one member has of another's memory, and the other of its.
#[derive(Debug)]
pub(crate) struct Sharing {
    /// Of the vectors of which [`Buffers`].
    of: [u8; 16],
    peers: Vec<(Option<Foreign>, bool)>,
}

impl Mesh {
    /// From now on this worker neither reads its peers' memory nor lets them read its own in this mesh, though they
    /// are on one host. Comes before the first round.
    pub fn avoid_shared_memory(&mut self) {
        self.sockets_only = true;
    }

    /// The lanes of one exchange, by rank.
    pub(crate) fn lanes(
        &mut self,
        poller: &mut Poller,
        round: Round,
        buffers: &Buffers,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Vec<Option<Lane>>, MeshError> {
        let of = buffers.arena.nonce();
        let sharing = match self.sharing.iter().position(|s| s.of == of) {
            Some(known) => self.sharing.swap_remove(known),
            None => self.share(poller, round, buffers, interrupted)?,
        };
        let rank = self.rank();
        let lane = |(peer, (foreign, read_by_peer))| (peer != rank).then(|| Lane::new(peer, foreign, read_by_peer));
        Ok(sharing.peers.into_iter().enumerate().map(lane).collect())
    }

    /// Takes back what lanes had, for the next exchange of the same vectors.
    pub(crate) fn keep(&mut self, of: [u8; 16], lanes: Vec<Option<Lane>>) {
        let peers = lanes.into_iter().map(|lane| lane.map_or((None, false), Lane::into_sharing)).collect();
        self.sharing.push(Sharing { of, peers });
    }

    fn share(
        &mut self,
        poller: &mut Poller,
        round: Round,
        buffers: &Buffers,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Sharing, MeshError> {
        let rank = self.rank();
        let mine = if self.sockets_only { None } else { buffers.arena.address() };
        let addresses = self.notes(poller, round, mine.unwrap_or([0; ADDRESS]), interrupted)?;
        let open = |(peer, address): (usize, &[u8; ADDRESS])| {
            let wanted = mine.is_some() && peer != rank && peer.max(rank) < MEMBERS_MAX;
            if wanted { Foreign::open(address, buffers.length()) } else { None }
        };
        let opened: Vec<Option<Foreign>> = addresses.iter().enumerate().map(open).collect();
        let mut reads = [0_u8; MEMBERS_MAX / 8];
        for peer in (0..opened.len()).filter(|peer| opened[*peer].is_some()) {
            reads[peer / 8] |= 1 << (peer % 8);
        }
        let all = self.notes(poller, round, reads, interrupted)?;
        let reads_mine = |peer: usize| rank < MEMBERS_MAX && all[peer][rank / 8] >> (rank % 8) & 1 == 1;
        let peers: Vec<(Option<Foreign>, bool)> =
            opened.into_iter().enumerate().map(|(peer, foreign)| (foreign, reads_mine(peer))).collect();
        let count = peers.iter().filter(|(foreign, _)| foreign.is_some()).count();
        tracing::debug!(peers = peers.len() - 1, shared = count, floats = buffers.length(), "set up an exchange");
        Ok(Sharing { of: buffers.arena.nonce(), peers })
    }
}
