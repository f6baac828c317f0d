//! The data plane between workers: the exact exchange of a round's vectors, and the transfer of state to joiners,
//! over TCP that the workers open to each other.
//!
//! In a [`Meeting`] the members of one generation connect, each with each, to a [`Mesh`]. [`Mesh::exchange`] sums what
//! all members hold in the tree's order, so the result has the same bits for any number of members. Everything waits in
//! one place ([`Poller`]) that another thread can interrupt, and any error ends the mesh: the next generation gets a new
//! one.

mod donor;
mod exchange;
mod follow;
mod handshake;
mod inbox;
mod meeting;
mod mesh;
mod poller;
mod wire;

pub use donor::Donor;
pub use exchange::{Buffers, Point};
pub use follow::{Destination, Follow, FollowError, Followed};
pub use handshake::{HandshakeError, Identity, Purpose};
pub use inbox::{Inbox, listen};
pub use meeting::Meeting;
pub use mesh::{Mesh, MeshError};
pub use poller::{Bell, Poller};

#[cfg(target_endian = "big")]
compile_error!("vectors travel as the little-endian bytes of their memory");
