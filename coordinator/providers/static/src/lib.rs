//! One's own machines: nobody starts or ends them here. A trainer on each of them joins a pool by itself and waits; a
//! launch gives a waiting one a worker to be, and when that has ended it waits again. A machine that is taken away, or
//! whose trainer is killed, is gone until it joins again.
//!
//! How machines speak to the coordinator is left to the server: it hands what they say to a [`Seat`], and what they are
//! told comes out of a channel.

mod books;
mod pools;
mod provider;
mod seat;

pub use pools::{PoolConfig, parse};
pub use provider::{NAME, StaticConfig, StaticProvider};
pub use seat::{Hello, Order, Seat};
