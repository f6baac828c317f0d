//! What may be removed: checkpoints that newer whole ones have made superfluous, and what abandoned saves left behind.

use crate::error::CheckpointError;
use crate::folder::RunFolder;
use crate::manifest::Manifest;
use crate::names;
use std::collections::{BTreeMap, BTreeSet};

/// What [`RunFolder::prune`] did. Steps ascend.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pruned {
    /// Checkpoints removed.
    pub removed: Vec<u64>,
    /// Abandoned saves cleared away.
    pub cleared: Vec<u64>,
    /// Checkpoints still there.
    pub kept: Vec<u64>,
}

/// What is there, before anything is done about it.
struct Survey {
    /// Our files and others', by step.
    folders: BTreeMap<u64, Vec<String>>,
    /// Checkpoints whose manifest can be read, ascending.
    readable: Vec<u64>,
    /// Checkpoints whose manifest can't.
    unreadable: Vec<u64>,
    /// Steps with something else in them.
    unfinished: BTreeSet<u64>,
}

impl RunFolder {
    /// Keeps the newest `keep_last` checkpoints and the newest whole one, whichever that is, and removes the others.
    /// Before anything goes, checkpoints are read from the newest on until one proves whole; if none does, all stay.
    /// Checkpoints whose manifest can't be read stay. Unfinished saves older than the newest whole checkpoint are
    /// cleared away, and what other saves left in its own folder; newer ones may still be under way and stay. Files
    /// that no save makes are never touched.
    ///
    /// # Errors
    /// [`CheckpointError::FormatVersion`] if a newer program's checkpoint is there, whose files may lie in other
    /// steps' folders, and [`CheckpointError::Io`] while looking: nothing was removed. [`CheckpointError::Io`] with
    /// the action "remove": going on another time is fine.
    pub async fn prune(&self, keep_last: u32) -> Result<Pruned, CheckpointError> {
        let Survey { folders, readable, unreadable, mut unfinished } = self.survey().await?;
        let superfluous = &readable[..readable.len().saturating_sub(keep_last.max(1) as usize)];
        unfinished.retain(|step| readable.last().is_some_and(|newest| step < newest));

        let mut pruned = Pruned::default();
        if (!superfluous.is_empty() || !unfinished.is_empty())
            && let Some(whole) = self.newest_whole(&readable).await?
        {
            pruned.removed = superfluous.iter().copied().filter(|&step| step < whole.step).collect();
            pruned.cleared = unfinished.into_iter().filter(|&step| step < whole.step).collect();
            let names = |step| folders.get(&step).map(Vec::as_slice).unwrap_or_default();
            self.remove_strays(&whole, names(whole.step)).await?;
            for &step in pruned.removed.iter().chain(&pruned.cleared) {
                self.remove_step(step, names(step)).await?;
            }
        }
        pruned.kept = readable.into_iter().chain(unreadable).filter(|step| !pruned.removed.contains(step)).collect();
        pruned.kept.sort_unstable();
        Ok(pruned)
    }

    async fn survey(&self) -> Result<Survey, CheckpointError> {
        let folders = self.step_folders().await?;
        let (mut readable, mut unreadable) = (Vec::new(), Vec::new());
        let mut unfinished: BTreeSet<u64> = self.local_steps()?.into_iter().chain(folders.keys().copied()).collect();
        for (&step, names) in &folders {
            if !names.iter().any(|name| name == names::MANIFEST) {
                continue;
            }
            unfinished.remove(&step);
            match self.read_manifest(step).await {
                Ok(_) => readable.push(step),
                Err(CheckpointError::Damaged(_)) => unreadable.push(step),
                // Someone else prunes as well.
                Err(CheckpointError::NotCommitted { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Survey { folders, readable, unreadable, unfinished })
    }

    async fn newest_whole(&self, steps: &[u64]) -> Result<Option<Manifest>, CheckpointError> {
        for &step in steps.iter().rev() {
            match self.read_files(step).await {
                Ok(manifest) => return Ok(Some(manifest)),
                Err(CheckpointError::Damaged(damage)) => {
                    tracing::warn!(step, %damage, "a damaged checkpoint: older ones are kept for it");
                }
                // Someone else prunes as well.
                Err(CheckpointError::NotCommitted { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Parts and records of other saves of a step that is whole without them.
    async fn remove_strays(&self, whole: &Manifest, names: &[String]) -> Result<(), CheckpointError> {
        let is_needed = |name: &str| {
            name == names::MANIFEST || name == names::INDEX || whole.files.iter().any(|file| file.name == name)
        };
        for name in names.iter().filter(|name| names::is_ours(name) && !is_needed(name)) {
            self.remove(&self.step_path(whole.step, name)).await?;
        }
        Ok(())
    }

    /// The manifest goes first: a checkpoint half removed is an unfinished save, not a damaged checkpoint.
    async fn remove_step(&self, step: u64, names: &[String]) -> Result<(), CheckpointError> {
        self.remove(&self.step_path(step, names::MANIFEST)).await?;
        for name in names.iter().filter(|name| names::is_ours(name)) {
            self.remove(&self.step_path(step, name)).await?;
        }
        self.remove_local_step(step)
    }
}
