//! EC2 through the AWS SDK: carries out what `coordinator-aws` asks for, and decides nothing.
//!
//! A crate of its own because the SDK takes minutes and gigabytes to build; whoever changes how the provider decides does
//! not build it again.

mod access;
mod answers;
mod client;
mod errors;
mod start;

pub use access::Access;
pub use client::Client;
pub use start::{Ec2Config, start};
