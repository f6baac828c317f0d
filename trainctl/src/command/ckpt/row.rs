//! One checkpoint as `ls` and `show` have it in JSON.

use crate::failure::chain;
use crate::format;
use serde::Serialize;
use trainctl_checkpoint::{Listed, Manifest};

/// What its manifest says.
#[derive(Serialize)]
pub(super) struct Row {
    step: u64,
    bytes: Option<u64>,
    /// Of these, what no earlier checkpoint holds.
    added_bytes: Option<u64>,
    loss: Option<f64>,
    world_size: Option<u32>,
    generation: Option<u64>,
    /// Audits of the run that had passed by then.
    audits_passed: Option<u64>,
    why: Option<String>,
    state_digest: Option<String>,
    /// RFC 3339.
    committed: Option<String>,
    /// Why its manifest can't be read.
    damage: Option<String>,
}

impl From<&Listed> for Row {
    fn from(listed: &Listed) -> Self {
        match &listed.manifest {
            Ok(manifest) => manifest.into(),
            Err(error) => Self {
                step: listed.step,
                bytes: None,
                added_bytes: None,
                loss: None,
                world_size: None,
                generation: None,
                audits_passed: None,
                why: None,
                state_digest: None,
                committed: None,
                damage: Some(chain(error)),
            },
        }
    }
}

impl From<&Manifest> for Row {
    fn from(manifest: &Manifest) -> Self {
        Self {
            step: manifest.step,
            bytes: Some(manifest.bytes()),
            added_bytes: Some(manifest.added_bytes()),
            loss: manifest.loss,
            world_size: Some(manifest.world_size),
            generation: Some(manifest.generation),
            audits_passed: Some(manifest.audits_passed),
            why: Some(manifest.why.clone()),
            state_digest: Some(manifest.state_digest.to_string()),
            committed: format::rfc3339(manifest.created_ms),
            damage: None,
        }
    }
}
