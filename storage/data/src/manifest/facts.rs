//! What a job's own checks need to know about its data.

use super::{Manifest, Target};
use crate::split::Split;
use trainctl_jobs::{DataFacts, JobSpec, TargetFacts};

impl Manifest {
    /// The facts of this manifest that `spec` depends on. `place` is where the manifest is, an absolute path or a URI;
    /// `digest` is of its bytes, as [`manifest_digest`](super::manifest_digest) takes it.
    #[must_use]
    pub fn facts(&self, spec: &JobSpec, place: String, digest: String) -> DataFacts {
        let split = Split::new(self.samples(spec.model.context()), spec.data.held_out, spec.data.held_out_seed);
        DataFacts {
            manifest: place,
            digest,
            train_samples: split.train_len(),
            sample_shape: self.features.shape.clone(),
            target: match self.target {
                Target::Class { classes, .. } => TargetFacts::Classes(classes),
                Target::Number { .. } => TargetFacts::Number,
                Target::NextByte => TargetFacts::NextByte,
            },
        }
    }
}
