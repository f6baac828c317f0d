//! When a save becomes a checkpoint. Each worker asks after its part is written; the one that finds all parts there commits, and any
//! number may do so at once: the first manifest stays.

use crate::digest::Digest;
use crate::error::{CheckpointError, Damage};
use crate::folder::RunFolder;
use crate::manifest::{FileEntry, MANIFEST_FORMAT_VERSION, Manifest, check_files, files_digest};
use crate::names;
use crate::record::PartRecord;
use object_store::PutMode;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// What a manifest says beyond its files.
#[derive(Clone, PartialEq, Debug)]
pub struct CommitInfo {
    /// Training loss of the newest step; `None` before the first. One that is not finite is left out too.
    pub loss: Option<f64>,
    /// Workers in the group.
    pub world_size: u32,
    /// The group's generation.
    pub generation: u64,
    /// Audits of the run that had passed by then.
    pub audits_passed: u64,
    /// `every 500 steps`, `drain`, `final`.
    pub why: String,
    /// [`state_digest`](crate::state_digest) of the caller's whole state.
    pub state_digest: Digest,
    /// Now, Unix milliseconds.
    pub created_ms: i64,
}

impl RunFolder {
    /// Commits the save of `step` in `parts` parts if all of them are there. `None`: not yet, and the worker that writes a
    /// missing part will. `Some`: committed, by this call or before; the manifest is the one that stays, so its
    /// `generation` and `created_ms` can be another group's.
    ///
    /// Every part's writer must hold the caller's whole state, and the parts must make it. A part of a writer that
    /// holds another counts as missing: it was left by an earlier try, and its new writer will replace it, or the
    /// writers differ, and then this save never becomes a checkpoint.
    ///
    /// # Errors
    /// [`CheckpointError::StateDiffers`] if the parts make another state than their writers say, or the step is
    /// committed with another. [`CheckpointError::Damaged`] if a part is not what its record says. [`CheckpointError::Full`],
    /// [`CheckpointError::Io`]: nothing is committed, or all is; asking again is fine.
    pub async fn try_commit(
        &self,
        step: u64,
        parts: u32,
        info: &CommitInfo,
    ) -> Result<Option<Manifest>, CheckpointError> {
        // Records first: a committer removes them after the manifest is there, so a worker that misses one then sees it.
        let files = self.recorded_files(step, parts, info.state_digest).await?;
        let Some(files) = files else {
            return match self.read_manifest(step).await {
                Ok(manifest) => self.same_state(manifest, info.state_digest).map(Some),
                Err(CheckpointError::NotCommitted { .. } | CheckpointError::Damaged(_)) => Ok(None),
                Err(error) => Err(error),
            };
        };
        self.check_recorded(step, parts, &files, info.state_digest).await?;

        let manifest = Manifest {
            format_version: MANIFEST_FORMAT_VERSION,
            job: self.job.clone(),
            step,
            loss: info.loss.filter(|loss| loss.is_finite()),
            world_size: info.world_size,
            generation: info.generation,
            audits_passed: info.audits_passed,
            why: info.why.clone(),
            state_digest: info.state_digest,
            created_ms: info.created_ms,
            files,
        };
        let committed = self.commit(step, manifest).await?;
        self.forget_records(step, parts).await;
        Ok(Some(committed))
    }

    async fn commit(&self, step: u64, ours: Manifest) -> Result<Manifest, CheckpointError> {
        let index_path = self.step_path(step, names::INDEX);
        let manifest_path = self.step_path(step, names::MANIFEST);
        // Only if absent: another group, with another number of parts, may be committing this step as well.
        self.put(&index_path, ours.index_json(), PutMode::Create).await?;
        let committed = if self.put(&manifest_path, ours.to_json(), PutMode::Create).await? {
            self.withdraw_if_incomplete(&ours).await?;
            ours
        } else {
            // Another commit was faster, or what is there is damaged and these parts are its replacement: none are
            // written beside a whole checkpoint.
            match self.read_manifest(step).await {
                // Of the files whose parts were just written.
                Ok(theirs) if theirs.files == ours.files => theirs,
                Ok(_) => match self.read_files(step).await {
                    Ok(theirs) => self.same_state(theirs, ours.state_digest)?,
                    Err(CheckpointError::Damaged(damage)) => self.replace(ours, &damage).await?,
                    Err(error) => return Err(error),
                },
                Err(CheckpointError::Damaged(damage)) => self.replace(ours, &damage).await?,
                Err(error) => return Err(error),
            }
        };
        let index = committed.index_json();
        if self.get(&index_path).await?.as_deref() != Some(index.as_slice()) {
            self.put(&index_path, index, PutMode::Overwrite).await?;
        }
        Ok(committed)
    }

    async fn replace(&self, ours: Manifest, damage: &Damage) -> Result<Manifest, CheckpointError> {
        tracing::warn!(step = ours.step, %damage, "replacing a damaged checkpoint");
        self.put(&self.step_path(ours.step, names::MANIFEST), ours.to_json(), PutMode::Overwrite).await?;
        Ok(ours)
    }

    /// A commit can be late: so late that a newer checkpoint is there and this step's files have been cleared away
    /// since they were looked for. The worker that clears looks for the manifest after that, so one of the two sees it.
    async fn withdraw_if_incomplete(&self, ours: &Manifest) -> Result<(), CheckpointError> {
        let there = self.check_there(ours.step, &ours.files).await;
        if let Err(CheckpointError::Damaged(damage)) = &there {
            tracing::warn!(step = ours.step, %damage, "withdraws a commit that came too late");
            self.remove(&self.step_path(ours.step, names::MANIFEST)).await?;
        }
        there
    }

    /// Whether the files are there and have their sizes.
    pub(crate) async fn check_there(&self, step: u64, files: &[FileEntry]) -> Result<(), CheckpointError> {
        let mut there: BTreeMap<u64, BTreeMap<String, u64>> = BTreeMap::new();
        for file in files {
            let at = file.step.unwrap_or(step);
            let sizes = match there.entry(at) {
                Entry::Occupied(sizes) => sizes.into_mut(),
                Entry::Vacant(none) => none.insert(self.step_sizes(at).await?),
            };
            let (object, expected_bytes) = (|| self.shown(&self.file_path(step, file)), file.bytes);
            match sizes.get(&file.name) {
                None => return Err(Damage::Missing { object: object(), expected_bytes }.into()),
                Some(&found_bytes) if found_bytes != expected_bytes => {
                    return Err(Damage::Size { object: object(), expected_bytes, found_bytes }.into());
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn same_state(&self, committed: Manifest, expected: Digest) -> Result<Manifest, CheckpointError> {
        if committed.state_digest == expected {
            return Ok(committed);
        }
        let object = self.shown(&self.step_path(committed.step, names::MANIFEST));
        Err(CheckpointError::StateDiffers { object, expected, found: committed.state_digest })
    }

    /// The files of all parts by name, or `None` if a record is missing or its writer holds another state.
    async fn recorded_files(
        &self,
        step: u64,
        parts: u32,
        expected: Digest,
    ) -> Result<Option<Vec<FileEntry>>, CheckpointError> {
        let mut files = Vec::new();
        for part in 0..parts {
            let name = names::record_file(part, parts);
            let path = self.step_path(step, &name);
            let Some(bytes) = self.get(&path).await? else { return Ok(None) };
            let record = PartRecord::parse(&self.shown(&path), &bytes, step, &name)?;
            if !record.confirmed {
                return Ok(None);
            }
            if record.state_digest != expected {
                tracing::info!(step, part, found = %record.state_digest, %expected, "a part of another state: no checkpoint");
                return Ok(None);
            }
            files.extend(record.files);
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Some(files))
    }

    /// Whether the parts make one whole state, the caller's, and are still there.
    async fn check_recorded(
        &self,
        step: u64,
        parts: u32,
        files: &[FileEntry],
        expected: Digest,
    ) -> Result<(), CheckpointError> {
        let object = || self.shown(&self.step_path(step, &format!("part-*-of-{parts:05}.json")));
        if let Err(found) = check_files(files) {
            return Err(Damage::Foreign { object: object(), expected: "records of one save", found }.into());
        }
        let found = files_digest(step, files);
        if found != expected {
            return Err(CheckpointError::StateDiffers { object: object(), expected, found });
        }
        self.check_there(step, files).await
    }

    /// The checkpoint is committed: a record left over does no harm, and a later prune clears it away.
    async fn forget_records(&self, step: u64, parts: u32) {
        for part in 0..parts {
            if let Err(error) = self.remove(&self.step_path(step, &names::record_file(part, parts))).await {
                tracing::debug!(step, part, %error, "remove a part record");
            }
        }
    }
}
