//! What may be removed: checkpoints that newer whole ones have made superfluous, and what abandoned saves left behind.
//! Never a file that another checkpoint names, or a save under way. Why that holds while others save, prune and load at
//! the same time is argued in `docs/decisions/2026-11-24-unchanged-files-are-referenced.md`.

use crate::error::CheckpointError;
use crate::folder::RunFolder;
use crate::manifest::{FileEntry, Manifest};
use crate::names;
use crate::record::PartRecord;
use futures::{StreamExt as _, TryStreamExt as _};
use std::collections::{BTreeMap, BTreeSet};

/// Objects read or removed at a time.
const REQUESTS_MAX: usize = 16;

/// Which checkpoints stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retention {
    /// How many of the newest; at least one.
    pub keep_last: u32,
    /// The first checkpoint of each period of this many steps, for ever. `None`: none for this reason.
    pub keep_every: Option<u64>,
    /// A checkpoint that the caller saw committed a moment ago: its files are looked for, not read again.
    pub just_saved: Option<u64>,
}

impl From<u32> for Retention {
    fn from(keep_last: u32) -> Self {
        Self { keep_last, ..Self::default() }
    }
}

impl Retention {
    /// Which of these steps, ascending, may go.
    fn superfluous(&self, steps: &[u64]) -> Vec<u64> {
        let older = steps.len().saturating_sub(self.keep_last.max(1) as usize);
        let mut period_before = 0;
        let mut first_of_its_period = |step: u64| {
            let period = self.keep_every.map_or(0, |every| step / every.max(1));
            let is_first = period > period_before;
            period_before = period;
            is_first
        };
        steps[..older].iter().copied().filter(|&step| !first_of_its_period(step)).collect()
    }
}

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
struct Scan {
    /// Our files and others', by step.
    folders: BTreeMap<u64, Vec<String>>,
    /// Checkpoints whose manifest can be read, ascending.
    readable: Vec<u64>,
    /// Checkpoints whose manifest can't.
    unreadable: Vec<u64>,
    /// Steps with something else in them.
    unfinished: BTreeSet<u64>,
}

/// A file: the step whose folder it is in, and its name.
type StepFile = (u64, String);

impl RunFolder {
    /// Removes the checkpoints that `retention` (or a number: that many are kept) doesn't keep, but never the newest
    /// whole one. Before anything goes, checkpoints are read from the newest on until one proves whole; if none does,
    /// all stay. Checkpoints whose manifest can't be read stay, and so do files of removed ones that others name.
    /// Unfinished saves older than the newest whole checkpoint are cleared away, and what other saves left in its own
    /// folder; newer ones may still be under way and stay. Files that no save makes are never touched.
    ///
    /// # Errors
    /// [`CheckpointError::FormatVersion`] if a newer program's checkpoint is there, whose files may lie in other
    /// steps' folders, and [`CheckpointError::Io`] while looking: nothing was removed. [`CheckpointError::Io`] with
    /// the action "remove": going on another time is fine.
    pub async fn prune(&self, retention: impl Into<Retention>) -> Result<Pruned, CheckpointError> {
        let (pruned, remove) = self.decide(retention.into()).await?;
        if let Some((whole, folders)) = remove {
            self.remove_steps(&whole, &folders, &pruned).await?;
        }
        Ok(pruned)
    }

    /// What [`prune`](Self::prune) would do now. Nothing is removed.
    ///
    /// # Errors
    /// As [`prune`](Self::prune) while it looks.
    pub async fn would_prune(&self, retention: impl Into<Retention>) -> Result<Pruned, CheckpointError> {
        Ok(self.decide(retention.into()).await?.0)
    }

    /// What goes, and if anything does, the newest whole checkpoint and what is there.
    async fn decide(
        &self,
        retention: Retention,
    ) -> Result<(Pruned, Option<(Manifest, BTreeMap<u64, Vec<String>>)>), CheckpointError> {
        let Scan { folders, readable, unreadable, mut unfinished } = self.scan().await?;
        let superfluous = retention.superfluous(&readable);
        unfinished.retain(|step| readable.last().is_some_and(|newest| step < newest));

        let mut pruned = Pruned::default();
        let mut remove = None;
        if (!superfluous.is_empty() || !unfinished.is_empty())
            && let Some(whole) = self.newest_whole(&readable, retention.just_saved).await?
        {
            pruned.removed = superfluous.into_iter().filter(|&step| step < whole.step).collect();
            pruned.cleared = unfinished.into_iter().filter(|&step| step < whole.step).collect();
            remove = Some((whole, folders));
        }
        pruned.kept = readable.into_iter().chain(unreadable).filter(|step| !pruned.removed.contains(step)).collect();
        pruned.kept.sort_unstable();
        Ok((pruned, remove))
    }

    async fn scan(&self) -> Result<Scan, CheckpointError> {
        let folders = self.step_folders().await?;
        let (mut readable, mut unreadable) = (Vec::new(), Vec::new());
        let mut used: BTreeSet<StepFile> = BTreeSet::new();
        let with_manifest = |names: &[String]| names.iter().any(|name| name == names::MANIFEST);
        let committed = folders.iter().filter(|(_, names)| with_manifest(names)).map(|(&step, _)| step);
        for (step, manifest) in self.manifests(committed).await {
            match manifest {
                Ok(manifest) => {
                    readable.push(step);
                    used.extend(step_files(step, &manifest.files));
                }
                Err(CheckpointError::Damaged(_)) => unreadable.push(step),
                // Someone else prunes as well.
                Err(CheckpointError::NotCommitted { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let is_left = |step: u64, names: &[String]| {
            !with_manifest(names)
                && names.iter().any(|name| names::is_ours(name) && !used.contains(&(step, name.clone())))
        };
        let mut unfinished: BTreeSet<u64> = self.local_steps()?.into_iter().collect();
        unfinished.retain(|step| !folders.contains_key(step));
        unfinished.extend(folders.iter().filter(|(step, names)| is_left(**step, names)).map(|(&step, _)| step));
        Ok(Scan { folders, readable, unreadable, unfinished })
    }

    /// The manifests of these steps, in their order.
    async fn manifests(&self, steps: impl Iterator<Item = u64>) -> Vec<(u64, Result<Manifest, CheckpointError>)> {
        let steps: Vec<u64> = steps.collect();
        let read = |step| async move { (step, self.read_manifest(step).await) };
        futures::stream::iter(steps).map(read).buffered(REQUESTS_MAX).collect().await
    }

    async fn newest_whole(&self, steps: &[u64], just_saved: Option<u64>) -> Result<Option<Manifest>, CheckpointError> {
        for &step in steps.iter().rev() {
            let manifest =
                if just_saved == Some(step) { self.look_at(step).await } else { self.read_files(step).await };
            match manifest {
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

    async fn look_at(&self, step: u64) -> Result<Manifest, CheckpointError> {
        let manifest = self.read_manifest(step).await?;
        self.check_there(step, &manifest.files).await?;
        Ok(manifest)
    }

    async fn remove_steps(
        &self,
        whole: &Manifest,
        folders: &BTreeMap<u64, Vec<String>>,
        pruned: &Pruned,
    ) -> Result<(), CheckpointError> {
        let names = |step: u64| folders.get(&step).map(Vec::as_slice).unwrap_or_default();
        let steps: Vec<u64> = pruned.removed.iter().chain(&pruned.cleared).copied().collect();
        // First what makes a checkpoint of them, so that no save that begins now names their files, and one half
        // removed is an unfinished save, not a damaged checkpoint. Records are gone before it is asked what others use.
        let is_first = |name: &str| name == names::MANIFEST || names::is_record(name);
        for &step in &steps {
            self.remove(&self.step_path(step, names::MANIFEST)).await?;
        }
        // Of checkpoints removed before, files may be left that only those removed now still named.
        let is_left = |step: &u64| *step < whole.step && !names(*step).iter().any(|name| name == names::MANIFEST);
        let left = folders.keys().copied().filter(|step| is_left(step) && !pruned.cleared.contains(step));
        let steps: Vec<u64> = steps.into_iter().chain(left).collect();
        let (first, then): (Vec<StepFile>, Vec<StepFile>) = steps
            .iter()
            .flat_map(|&step| names(step).iter().map(move |name| (step, name.clone())))
            .chain(strays(whole, names(whole.step)))
            .filter(|(_, name)| names::is_ours(name))
            .partition(|(_, name)| is_first(name));
        self.remove_files(first).await?;

        let used = self.used().await?;
        self.remove_files(then.into_iter().filter(|file| !used.contains(file)).collect()).await?;
        for step in steps {
            self.remove_incomplete(step).await?;
            self.remove_local_step(step)?;
        }
        Ok(())
    }

    /// All that checkpoints, and saves under way, name. Records are read before manifests: a record that is gone by
    /// then has become one.
    async fn used(&self) -> Result<BTreeSet<StepFile>, CheckpointError> {
        let mut used = BTreeSet::new();
        let folders = self.step_folders().await?.into_iter();
        let records = folders.flat_map(|(step, names)| names.into_iter().map(move |name| (step, name)));
        for (step, name) in records.filter(|(_, name)| names::is_record(name)) {
            let path = self.step_path(step, &name);
            let Some(bytes) = self.get(&path).await? else { continue };
            if let Ok(record) = PartRecord::parse(&self.shown(&path), &bytes, step, &name) {
                used.extend(step_files(step, &record.files));
            }
        }
        for (step, manifest) in self.manifests(self.steps().await?.into_iter()).await {
            match manifest {
                Ok(manifest) => used.extend(step_files(step, &manifest.files)),
                Err(CheckpointError::NotCommitted { .. } | CheckpointError::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(used)
    }

    /// The manifest of a commit that came while its files were removed.
    async fn remove_incomplete(&self, step: u64) -> Result<(), CheckpointError> {
        let manifest = match self.read_manifest(step).await {
            Ok(manifest) => manifest,
            Err(CheckpointError::NotCommitted { .. } | CheckpointError::Damaged(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        match self.check_there(step, &manifest.files).await {
            Err(CheckpointError::Damaged(damage)) => {
                tracing::warn!(step, %damage, "removes a commit that came too late");
                self.remove(&self.step_path(step, names::MANIFEST)).await
            }
            there => there,
        }
    }

    async fn remove_files(&self, files: Vec<StepFile>) -> Result<(), CheckpointError> {
        let remove = |(step, name): StepFile| async move { self.remove(&self.step_path(step, &name)).await };
        futures::stream::iter(files).map(remove).buffer_unordered(REQUESTS_MAX).try_collect().await
    }
}

fn step_files(step: u64, files: &[FileEntry]) -> impl Iterator<Item = StepFile> {
    files.iter().map(move |file| (file.step.unwrap_or(step), file.name.clone()))
}

/// Files and records of other saves of a step that is whole without them.
fn strays(whole: &Manifest, names: &[String]) -> impl Iterator<Item = StepFile> {
    let needed: BTreeSet<StepFile> = step_files(whole.step, &whole.files).collect();
    let step = whole.step;
    let is_needed = move |file: &StepFile| file.1 == names::MANIFEST || file.1 == names::INDEX || needed.contains(file);
    names.iter().map(move |name| (step, name.clone())).filter(move |file| !is_needed(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_of_each_period_stays_for_ever() {
        let retention = Retention { keep_last: 2, keep_every: Some(100), just_saved: None };
        let steps = [30, 60, 90, 120, 150, 180, 210, 240, 400, 401, 402];
        assert_eq!(retention.superfluous(&steps), [30, 60, 90, 150, 180, 240]);
        assert_eq!(Retention::from(1).superfluous(&steps), steps[..10]);
        assert_eq!(Retention::from(0).superfluous(&[7]), [] as [u64; 0]);
    }

    proptest! {
        #[test]
        fn what_is_kept_once_is_kept_as_the_run_goes_on(
            gaps in prop::collection::vec(1_u64..40, 1..60), keep_last in 0_u32..5, every in 1_u64..100,
        ) {
            let retention = Retention { keep_last, keep_every: Some(every), just_saved: None };
            let mut there: Vec<u64> = Vec::new();
            let mut all: Vec<u64> = Vec::new();
            for gap in gaps {
                let step = all.last().unwrap_or(&0) + gap;
                all.push(step);
                there.push(step);
                let gone = retention.superfluous(&there);
                there.retain(|step| !gone.contains(step));
                let at_once = retention.superfluous(&all);
                let kept: Vec<u64> = all.iter().copied().filter(|step| !at_once.contains(step)).collect();
                prop_assert_eq!(&there, &kept, "pruning after each save keeps what pruning once would");
            }
            prop_assert!(there.len() >= all.len().min(keep_last.max(1) as usize));
        }
    }
}
