//! What a worker decides, as plain functions over plain data: which sums make a step exact ([`tree`]), which round
//! comes next ([`rounds`]), which generation it belongs to ([`membership`]), how a group that just met gets to one
//! state ([`catch_up`]), whether all hold the same ([`replicas`]) and compute the same ([`audit`]), and when to save
//! ([`saving`]). No clock, socket, thread or random source.

pub mod assignment;
pub mod audit;
pub mod catch_up;
pub mod membership;
pub mod replicas;
pub mod rounds;
pub mod saving;
pub mod shard_time;
pub mod tree;

pub use assignment::{Assignment, AssignmentError, Member};
pub use rounds::{Phase, Round, Rounds};
