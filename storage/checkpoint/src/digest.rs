//! What "the same bits" means: a BLAKE3 digest, and the digest of a whole state.
//!
//! A state's digest is made of its tensors' digests, ordered by group and name. So it does not depend on where the
//! tensors lie in memory or in which file they are saved, and it follows from a checkpoint, or from a manifest
//! alone, as well as from a running worker.

use crate::tensor::{Group, TensorInfo};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const _: () = assert!(cfg!(target_endian = "little"), "files hold little-endian values, taken straight from memory");

/// A BLAKE3 digest, written as `blake3:` and 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from(blake3::hash(bytes))
    }

    /// The digest itself.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blake3:{}", blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no digest.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected \"blake3:\" and 64 lower-case hex digits, found {found:?}")]
pub struct DigestError {
    /// The text.
    pub found: String,
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let parse = || {
            let hex = text.strip_prefix("blake3:")?;
            let canonical = hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            blake3::Hash::from_hex(hex).ok().filter(|_| canonical)
        };
        parse().map(Self::from).ok_or_else(|| DigestError { found: text.to_owned() })
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// The digest of a whole state after `step` updates, over every tensor's group, name, shape and values.
///
/// Two workers hold the same state exactly if this is equal; a worker that reads it off a checkpoint gets the same.
///
/// # Panics
/// If a tensor lies outside of `state` (see [`check_layout`](crate::check_layout)).
pub fn state_digest(tensors: &[TensorInfo], state: &[f32], step: u64) -> Digest {
    StateDigests::of(tensors, state, step).state
}

/// The digest of a state, and of each of its tensors.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateDigests {
    state: Digest,
    values: Vec<Digest>,
}

impl StateDigests {
    /// Of the state after `step` updates.
    ///
    /// # Panics
    /// As [`state_digest`].
    pub fn of(tensors: &[TensorInfo], state: &[f32], step: u64) -> Self {
        let values: Vec<Digest> = tensors.iter().map(|tensor| values_digest(tensor.values(state))).collect();
        let leaves = tensors.iter().zip(&values).map(|(tensor, &values)| Leaf {
            group: tensor.group,
            name: &tensor.name,
            shape: &tensor.shape,
            values,
        });
        Self { state: combine(step, leaves.collect()), values }
    }

    /// [`state_digest`].
    pub fn state(&self) -> Digest {
        self.state
    }

    /// Of each tensor's values, in the order of the tensors.
    pub(crate) fn values(&self) -> &[Digest] {
        &self.values
    }
}

/// What a tensor adds to the state's digest.
pub(crate) struct Leaf<'a> {
    pub(crate) group: Group,
    pub(crate) name: &'a str,
    pub(crate) shape: &'a [usize],
    pub(crate) values: Digest,
}

/// Of the values as files hold them: little-endian f32.
pub(crate) fn values_digest(values: &[f32]) -> Digest {
    Digest::of(bytemuck::cast_slice(values))
}

/// Lengths come before what they measure, so that no two states are written the same.
pub(crate) fn combine(step: u64, mut leaves: Vec<Leaf<'_>>) -> Digest {
    leaves.sort_by_key(|leaf| (leaf.group, leaf.name));
    let mut hasher = blake3::Hasher::new_derive_key("trainctl training state, version 1");
    hasher.update(&step.to_le_bytes());
    hasher.update(&(leaves.len() as u64).to_le_bytes());
    for leaf in leaves {
        for text in [leaf.group.as_str(), leaf.name] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.update(&(leaf.shape.len() as u64).to_le_bytes());
        for &dim in leaf.shape {
            hasher.update(&(dim as u64).to_le_bytes());
        }
        hasher.update(leaf.values.as_bytes());
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors() -> Vec<TensorInfo> {
        let tensor = |name: &str, group, shape: &[usize], offset| {
            let len = shape.iter().product();
            TensorInfo {
                name: name.to_owned(),
                group,
                shape: shape.to_vec(),
                offset,
                len,
                constant: false,
                absent: None,
            }
        };
        vec![tensor("w", Group::Model, &[2, 2], 0), tensor("w", Group::Optimizer, &[2, 2], 16)]
    }

    fn state() -> Vec<f32> {
        (0..32_u8).map(f32::from).collect()
    }

    #[test]
    fn never_changes_between_releases() {
        let digest = state_digest(&tensors(), &state(), 7);
        assert_eq!(digest.to_string(), "blake3:10830373c16f3b906345eb7f4174950f0f7aaec39f472bd48f3fcdd1d1ae49d4");
    }

    #[test]
    fn each_input_counts() {
        let base = state_digest(&tensors(), &state(), 7);
        assert_ne!(state_digest(&tensors(), &state(), 8), base, "step");

        let mut changed = state();
        changed[19] = -changed[19];
        assert_ne!(state_digest(&tensors(), &changed, 7), base, "a value");

        let mut renamed = tensors();
        renamed[0].name = "v".to_owned();
        assert_ne!(state_digest(&renamed, &state(), 7), base, "a name");

        let mut reshaped = tensors();
        reshaped[0].shape = vec![4, 1];
        assert_ne!(state_digest(&reshaped, &state(), 7), base, "a shape");
    }

    #[test]
    fn place_order_and_padding_do_not_count() {
        let base = state_digest(&tensors(), &state(), 7);

        let mut padded = state();
        padded[5] = f32::NAN;
        assert_eq!(state_digest(&tensors(), &padded, 7), base);

        let mut reversed = tensors();
        reversed.reverse();
        assert_eq!(state_digest(&reversed, &state(), 7), base);

        let mut moved = tensors();
        moved[0].offset = 4;
        let mut elsewhere = state();
        elsewhere.copy_within(0..4, 4);
        assert_eq!(state_digest(&moved, &elsewhere, 7), base);
    }

    #[test]
    fn text_form_is_canonical() {
        let digest = Digest::of(b"x");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for bad in [digest.to_string().to_uppercase(), digest.to_string()[7..].to_owned(), "blake3:0".to_owned()] {
            assert_eq!(bad.parse::<Digest>(), Err(DigestError { found: bad }));
        }
    }
}
