//! What a rented machine is told at its first boot. The text is cloud-init's: user data on EC2, the metadata key
//! `user-data` on GCE. The files that it brings are those in `infra/vm`.
//!
//! The machine fetches the bundle from a bucket with its own role, checks its digest, and starts one worker. It powers
//! itself off when the worker has ended, when it can't get so far, and when no coordinator has answered for a while: whoever starts machines must have set that a machine which is off is not paid for (EC2: its shutdown behavior
//! is to terminate; GCE: the coordinator deletes what has stopped).
//!
//! User data can be read by every process on the machine, and by everyone who may describe it. So there is no secret in
//! it but the join token, which holds for one instance only. The coordinator's certificate is none.

mod config;
mod quote;

pub use config::cloud_config;

use coordinator_core::{InstanceId, WorkerId};

/// The longest user data that EC2 takes, in bytes, before it is encoded in base64.
pub const USER_DATA_BYTES_MAX: usize = 16 * 1024;

/// Where peers reach the worker of a machine: a port of its private address.
pub const PEER_PORT: u16 = 7071;

/// What one machine is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Boot {
    /// Id of the coordinator's cluster.
    pub cluster: String,
    /// The instance that the machine is.
    pub instance: InstanceId,
    /// The worker on it.
    pub worker: WorkerId,
    /// Where the machine reaches the coordinator: `https://10.0.0.5:7070`.
    pub coordinator_url: String,
    /// By which it knows it, on one line: needed for `https`, and for nothing else.
    pub certificate: Option<String>,
    /// The worker's token. Good for this instance alone.
    pub join_token: String,
    /// The bundle that `cargo xtask dist` made: `s3://BUCKET/KEY` on EC2, `gs://BUCKET/OBJECT` on GCE.
    pub bundle_uri: String,
    /// Of the bundle's bytes: `sha256:` and 64 hex digits.
    pub bundle_digest: String,
    /// Where the machine hears that it will be taken.
    pub notices: Notices,
    /// The machine powers itself off when the coordinator hasn't answered for so long; at least 1. A worker that trains
    /// is told to save first.
    pub orphan_minutes: u32,
}

/// Who tells a machine that it will be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notices {
    /// EC2's instance metadata.
    Ec2,
    /// GCE's metadata server.
    Gce,
}

impl Notices {
    /// As the worker reads it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::Gce => "gce",
        }
    }
}
