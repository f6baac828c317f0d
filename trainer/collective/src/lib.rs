//! The data plane between workers: the exact exchange of a round's vectors, and the transfer of state to joiners,
//! over TCP that the workers open to each other.
//!
//! In a [`Meeting`] the members of one generation connect, each with each, to a [`Mesh`]. An [`Exchange`] sums what
//! all members hold in the tree's order, so the result has the same bits for any number of members. Everything waits in
//! one place ([`Poller`]) that another thread can interrupt, and any error ends the mesh: the next generation gets a new
//! one.

mod ask;
mod buffers;
mod donor;
mod door;
mod exchange;
mod follow;
mod handshake;
mod inbox;
mod lane;
mod links;
mod meeting;
mod mesh;
mod order;
mod poller;
mod pulse;
mod segments;
mod shared;
mod sharing;
mod socket;
mod spread;
mod stream;
mod tls;
mod transport;
mod wire;

pub use ask::{Ask, DONORS_MAX};
pub use buffers::Buffers;
pub use donor::Donor;
pub use door::listen;
pub use exchange::{Context, Exchange, Point};
pub use follow::{Destination, Follow, FollowError, Followed};
pub use handshake::{HandshakeError, Identity, Purpose};
pub use inbox::Inbox;
pub use links::{Encryption, Links};
pub use meeting::Meeting;
pub use mesh::{Mesh, MeshError};
pub use order::Numerics;
pub use poller::{Bell, Poller};
pub use tls::{Credentials, CredentialsError};
pub use transport::{Aborter, Host, Memory, MemoryError, Part, Tcp, Transport};

#[cfg(target_endian = "big")]
compile_error!("vectors travel as the little-endian bytes of their memory");
