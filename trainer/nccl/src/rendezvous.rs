//! How the members of a generation come to one communicator: over the TCP mesh that they have anyway, each tells which
//! NCCL it has, and rank 0 the identity that it made. So they either all build, or all know why not; nobody waits in
//! NCCL for one who can't come.

use crate::error::NcclError;
use crate::library::{Offer, UniqueId, Version};
use thiserror::Error;
use trainer_collective::{Mesh, MeshError, Poller};
use trainer_core::Round;

/// A member's note: its NCCL's version, 0 for none, and rank 0's unique id.
const NOTE: usize = 4 + UniqueId::BYTES;

/// Why the members don't build a communicator.
#[derive(Debug, Error)]
pub enum RendezvousError {
    /// The mesh ended.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// This member can't.
    #[error(transparent)]
    Own(NcclError),
    /// Another member can't: its log says why.
    #[error("{worker} has no NCCL that works\nhint: its log says what was looked for")]
    Without {
        /// Who.
        worker: String,
    },
    /// Two members have different ones, which don't work together reliably.
    #[error("{worker} has NCCL {theirs}, this worker has {own}\nhint: install one version on all workers of a job")]
    Differs {
        /// Who.
        worker: String,
        /// Its version.
        theirs: Version,
        /// This worker's.
        own: Version,
    },
}

/// The identity of the generation's communicator, the same on all members. All members call it, whatever came of what
/// they need for an offer.
///
/// # Errors
/// See [`RendezvousError`]; unless the mesh ended, it is an error on all members or on none.
pub fn rendezvous(
    mesh: &mut Mesh,
    poller: &mut Poller,
    round: Round,
    offer: Result<Offer, NcclError>,
    interrupted: &dyn Fn() -> bool,
) -> Result<UniqueId, RendezvousError> {
    let mut note = [0; NOTE];
    if let Ok(Offer { version, id }) = &offer {
        note[..4].copy_from_slice(&version.0.to_le_bytes());
        note[4..].copy_from_slice(&id.to_bytes());
    }
    let notes = mesh.notes(poller, round, note, interrupted)?;
    let own = offer.map_err(RendezvousError::Own)?.version;
    let mut first = [0; UniqueId::BYTES];
    first.copy_from_slice(&notes[0][4..]);
    for (member, note) in mesh.assignment().members.iter().zip(&notes) {
        let theirs = Version(u32::from_le_bytes([note[0], note[1], note[2], note[3]]));
        let worker = member.worker.clone();
        if theirs.0 == 0 {
            return Err(RendezvousError::Without { worker });
        }
        if theirs != own {
            return Err(RendezvousError::Differs { worker, theirs, own });
        }
    }
    Ok(UniqueId::from_bytes(first))
}
