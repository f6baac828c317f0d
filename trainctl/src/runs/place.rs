//! Which run's folder is meant: a path or URI names it, a job's name is asked of the coordinator, and with no
//! coordinator the home's own folder of runs is looked at.

use super::failure;
use crate::cli::Session;
use crate::failure::{Class, Failure};
use crate::home;
use std::path::Path;
use std::time::Duration;
use trainctl_checkpoint::RunFolder;

/// How long a bucket that doesn't answer is waited for: somebody sits at the terminal.
const PATIENCE: Duration = Duration::from_secs(10);

/// A run's folder, found.
pub(crate) struct Place {
    pub(crate) folder: RunFolder,
    /// For messages.
    pub(crate) shown: String,
    /// The step that was named with it.
    named: Option<u64>,
}

impl Place {
    /// Finds the folder that the user means. `@STEP` behind it, or `/checkpoints/STEP`, names a checkpoint.
    pub(crate) async fn find(session: &Session, place: &str) -> Result<Self, Failure> {
        let (place, named) = split_step(place);
        let found = if place.contains('/') { Self::at(place)? } else { Self::of_job(session, place).await? };
        Ok(Self { named, ..found })
    }

    async fn of_job(session: &Session, job: &str) -> Result<Self, Failure> {
        let runs = home::runs(&session.reach.home);
        let unreachable = match session.reach.connect().await {
            Ok(mut coordinator) => {
                let status = coordinator.show(job).await?;
                let runs = trainctl_objects::file_uri(&runs);
                let root = Some(status.checkpoint_root).filter(|root| !root.is_empty()).unwrap_or(runs);
                return Self::open(&root, job);
            }
            Err(failure) if failure.class == Class::Unreachable => failure,
            Err(failure) => return Err(failure),
        };
        if !runs.join(job).is_dir() {
            return Err(unreachable.hint(format!(
                "a run's folder needs no coordinator: `trainctl ckpt ls /path/to/{job}` (not in {})",
                runs.display()
            )));
        }
        session.printer.note(&format!("no coordinator answers; looking into {}", runs.display()));
        Self::open(&trainctl_objects::file_uri(&runs), job)
    }

    /// The folder that a path or URI names.
    fn at(place: &str) -> Result<Self, Failure> {
        let trimmed = place.trim_end_matches('/');
        let uri = if trimmed.contains("://") {
            trimmed.to_owned()
        } else {
            let path =
                std::path::absolute(trimmed).map_err(|error| Failure::file("resolve", Path::new(trimmed), &error))?;
            trainctl_objects::file_uri(&path)
        };
        if let Ok(path) = trainctl_objects::local_path(&uri)
            && !path.is_dir()
        {
            return Err(Failure::new(Class::Refused, format!("{place}: expected a run's folder, found none"))
                .hint("name the folder that holds run.json and checkpoints/, or a job"));
        }
        let (root, job) = uri.rsplit_once('/').unwrap_or_default();
        if root.ends_with('/') && !root.starts_with("file:") {
            return Err(Failure::new(Class::Usage, format!("{place}: expected a run's folder, found a whole bucket"))
                .hint(format!("name the folder that holds run.json and checkpoints/: {place}/JOB")));
        }
        let root = if root.ends_with("//") { format!("{root}/") } else { root.to_owned() };
        Self::open(&root, job)
    }

    /// The folder of a job below a root.
    pub(crate) fn open(root: &str, job: &str) -> Result<Self, Failure> {
        let folder = RunFolder::open_with(root, job, PATIENCE).map_err(|error| failure(&error))?;
        Ok(Self { folder, shown: format!("{}/{job}", root.trim_end_matches('/')), named: None })
    }

    /// The step asked for, else the one named with the folder, else the newest.
    pub(crate) async fn step(&self, asked: Option<u64>) -> Result<u64, Failure> {
        if let Some(step) = asked.or(self.named) {
            return Ok(step);
        }
        let steps = self.folder.steps().await.map_err(|error| failure(&error))?;
        steps.last().copied().ok_or_else(|| self.empty())
    }

    /// The step named with the folder, if one was.
    pub(crate) fn named(&self) -> Option<u64> {
        self.named
    }

    /// There is no checkpoint.
    pub(crate) fn empty(&self) -> Failure {
        Failure::new(Class::Refused, format!("{}: expected a checkpoint, found none", self.shown))
            .hint("none has been committed yet, or the folder is another: it holds run.json and checkpoints/")
    }
}

/// `digits@200` and `.../digits/checkpoints/200` name a step.
fn split_step(place: &str) -> (&str, Option<u64>) {
    let trimmed = place.trim_end_matches('/');
    let by_folder = trimmed.rsplit_once('/').and_then(|(run, step)| Some((run.strip_suffix("/checkpoints")?, step)));
    match by_folder.or_else(|| trimmed.rsplit_once('@')) {
        Some((run, step)) if !run.is_empty() => match step.parse() {
            Ok(step) => (run, Some(step)),
            Err(_) => (place, None),
        },
        _ => (place, None),
    }
}

#[cfg(test)]
mod tests {
    use super::split_step;

    #[test]
    fn a_step_is_named_behind_the_run() {
        for (place, run, step) in [
            ("digits", "digits", None),
            ("digits@200", "digits", Some(200)),
            ("s3://runs/team/digits@7", "s3://runs/team/digits", Some(7)),
            ("/runs/digits/checkpoints/7/", "/runs/digits", Some(7)),
            ("/runs/me@home/digits", "/runs/me@home/digits", None),
            ("checkpoints/7", "checkpoints/7", None),
            ("@7", "@7", None),
        ] {
            assert_eq!(split_step(place), (run, step), "{place}");
        }
    }
}
