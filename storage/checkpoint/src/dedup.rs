//! Which files of a save an earlier checkpoint has already. A save names such a file instead of writing it.
//!
//! Damage must not spread: a file is named only if its bytes were read or written by this process and it is still
//! there with its size; the first time after a start it is read.

use crate::digest::Digest;
use crate::error::CheckpointError;
use crate::folder::RunFolder;
use crate::manifest::{FileEntry, Manifest};
use crate::names;
use crate::pack::Packed;
use crate::write::State;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files whose bytes this process knows: the step whose folder they are in, name and digest.
#[derive(Clone, Debug, Default)]
pub(crate) struct VerifiedFiles(Arc<Mutex<BTreeSet<(u64, String, Digest)>>>);

impl VerifiedFiles {
    fn files(&self) -> MutexGuard<'_, BTreeSet<(u64, String, Digest)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunFolder {
    /// This process has read or written these files of a step's checkpoint.
    pub(crate) fn mark_verified<'a>(&self, files: impl IntoIterator<Item = (u64, &'a FileEntry)>) {
        self.verified_files.files().extend(files.into_iter().map(|(step, file)| key(step, file)));
    }

    /// A file is not what it was.
    pub(crate) fn mark_damaged(&self, step: u64, file: &FileEntry) {
        self.verified_files.files().remove(&key(step, file));
    }

    /// The newest checkpoint before `step` whose manifest can be read.
    pub(crate) async fn newest_before(&self, step: u64) -> Result<Option<Manifest>, CheckpointError> {
        // The folders alone: a run can have thousands of files.
        let prefix = self.checkpoints_path();
        let listed = self.store.list_with_delimiter(Some(&prefix)).await;
        let listed = listed.map_err(|source| CheckpointError::io("list", self.shown(&prefix), source))?;
        let folders = listed.common_prefixes.iter().filter_map(|folder| names::parse_step(folder.filename()?));
        let mut steps: Vec<u64> = folders.filter(|&earlier| earlier < step).collect();
        steps.sort_unstable();
        for earlier in steps.into_iter().rev() {
            match self.read_manifest(earlier).await {
                Ok(manifest) => return Ok(Some(manifest)),
                Err(CheckpointError::NotCommitted { .. } | CheckpointError::Damaged(_)) => {}
                Err(CheckpointError::FormatVersion { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Those of `files` that the earlier checkpoint has with the same values, by name, as a later manifest names them.
    pub(crate) async fn unchanged(
        &self,
        earlier: Option<&Manifest>,
        state: &State<'_>,
        files: &[&Packed],
    ) -> Result<BTreeMap<String, FileEntry>, CheckpointError> {
        let mut unchanged = BTreeMap::new();
        let Some(earlier) = earlier else { return Ok(unchanged) };
        self.forget_all_but(earlier);
        for file in files {
            let Some(same) = earlier.files.iter().find(|earlier| earlier.name == file.name) else { continue };
            if same.group != file.group || same.tensors != state.entries(file) {
                continue;
            }
            match self.check_file(earlier.step, same).await {
                Ok(()) => {
                    let step = Some(same.step.unwrap_or(earlier.step));
                    unchanged.insert(same.name.clone(), FileEntry { step, ..same.clone() });
                }
                Err(CheckpointError::Damaged(damage)) => {
                    tracing::warn!(step = earlier.step, %damage, "an earlier checkpoint is damaged: writes the file anew");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(unchanged)
    }

    /// Stops a save that would overwrite a file with other values than another checkpoint has it for: then two states
    /// claim to be the same step.
    pub(crate) async fn check_in_use(
        &self,
        state: &State<'_>,
        files: &[&Packed],
        there: &BTreeMap<String, u64>,
    ) -> Result<(), CheckpointError> {
        if !files.iter().any(|file| there.contains_key(&file.name)) {
            return Ok(());
        }
        for step in self.steps().await?.into_iter().filter(|&step| step > state.step) {
            let Ok(manifest) = self.read_manifest(step).await else { continue };
            for used in manifest.files.iter().filter(|used| used.step == Some(state.step)) {
                let ours = files.iter().find(|file| file.name == used.name);
                if ours.is_some_and(|file| state.entries(file) != used.tensors) {
                    return Err(CheckpointError::StateDiffers {
                        object: self.shown(&self.step_path(step, names::MANIFEST)),
                        expected: state.digests.state(),
                        found: manifest.state_digest,
                    });
                }
            }
        }
        Ok(())
    }

    async fn check_file(&self, step: u64, file: &FileEntry) -> Result<(), CheckpointError> {
        if self.verified_files.files().contains(&key(step, file)) {
            return self.check_size(&self.file_path(step, file), file.bytes).await;
        }
        self.read_file(step, file, |_, _, _| ()).await
    }

    /// So that it doesn't grow with the run.
    fn forget_all_but(&self, earlier: &Manifest) {
        let keys: BTreeSet<_> = earlier.files.iter().map(|file| key(earlier.step, file)).collect();
        self.verified_files.files().retain(|key| keys.contains(key));
    }
}

fn key(step: u64, file: &FileEntry) -> (u64, String, Digest) {
    (file.step.unwrap_or(step), file.name.clone(), file.digest)
}
