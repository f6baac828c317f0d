//! How the members of a generation find each other. Nobody need be there at the same moment; while it waits, a worker
//! can do something else.

use crate::inbox::{Arrival, Inbox};
use crate::mesh::{Link, Mesh, MeshError};
use crate::poller::Poller;
use crate::pulse::Pulse;
use std::io;
use trainer_core::Assignment;

/// A mesh that is not complete yet.
#[derive(Debug)]
pub struct Meeting {
    assignment: Assignment,
    rank: usize,
    links: Vec<Option<Link>>,
    pulse: Pulse,
}

impl Meeting {
    /// Begins to connect to all other members of `assignment`. Connections of earlier generations that nobody took
    /// are closed.
    ///
    /// # Errors
    /// [`MeshError::NotAMember`].
    pub fn start(inbox: &Inbox, assignment: &Assignment) -> Result<Self, MeshError> {
        let generation = assignment.generation;
        let rank = assignment.rank_of(&inbox.me().worker).ok_or(MeshError::NotAMember { generation })?;
        inbox.forget_before(generation);
        inbox.dial_mesh(generation, &assignment.members);
        let links = assignment.members.iter().map(|_| None).collect();
        Ok(Self { assignment: assignment.clone(), rank, links, pulse: inbox.pulse().clone() })
    }

    /// Takes the connections that are there; whether they are all.
    ///
    /// # Errors
    /// [`MeshError::Lost`], when a peer can't be reached or is gone already.
    pub fn advance(&mut self, poller: &mut Poller, inbox: &Inbox) -> Result<bool, MeshError> {
        let mut complete = true;
        for (rank, member) in self.assignment.members.iter().enumerate() {
            if rank == self.rank || self.links[rank].is_some() {
                continue;
            }
            let worker = &member.worker;
            match inbox.take_link(self.assignment.generation, worker) {
                Some(Arrival::Link(stream)) => {
                    // A peer that died meanwhile leaves a socket that the system refuses to speak of.
                    let lost = |e: io::Error| MeshError::Lost { worker: worker.clone(), detail: e.to_string() };
                    self.links[rank] = Some(Link::new(poller, worker, stream).map_err(lost)?);
                }
                Some(Arrival::Unreachable(detail)) => {
                    return Err(MeshError::Lost { worker: worker.clone(), detail });
                }
                None => complete = false,
            }
        }
        Ok(complete)
    }

    /// A member that is not there yet.
    #[must_use]
    pub fn missing(&self) -> Option<&str> {
        let absent = |(rank, link): (usize, &Option<Link>)| (rank != self.rank && link.is_none()).then_some(rank);
        let rank = self.links.iter().enumerate().find_map(absent)?;
        Some(&self.assignment.members[rank].worker)
    }

    /// The mesh, once all are there.
    ///
    /// # Panics
    /// When somebody is missing.
    #[must_use]
    pub fn complete(self) -> Mesh {
        assert!(self.missing().is_none(), "the meeting is over before {:?} came", self.missing());
        let links = self.links.iter().flatten();
        let (connections, encrypted) = (links.clone().count(), links.filter(|link| link.is_encrypted()).count());
        tracing::info!(generation = self.assignment.generation, connections, encrypted, "all members have met");
        let peers = self.assignment.members.iter().enumerate().filter(|(rank, _)| *rank != self.rank);
        let watch = self.pulse.watch(self.assignment.generation, peers.map(|(_, member)| member));
        Mesh::new(self.assignment, self.rank, self.links, watch)
    }
}
