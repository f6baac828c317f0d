//! Which run's folder is meant: a path or URI names it, a job's name is asked of the coordinator, and with no
//! coordinator the home's own folder of runs is looked at.

use super::failure;
use crate::cli::Session;
use crate::failure::{Class, Failure};
use crate::home;
use trainctl_checkpoint::RunFolder;

/// A run's folder, found.
pub(super) struct Place {
    pub(super) folder: RunFolder,
    /// For messages.
    pub(super) shown: String,
}

impl Place {
    /// Finds the folder that the user means.
    pub(super) async fn find(session: &Session, place: &str) -> Result<Self, Failure> {
        if place.contains('/') {
            return Self::at(place);
        }
        let unreachable = match session.reach.connect().await {
            Ok(mut coordinator) => {
                let status = coordinator.show(place).await?;
                let runs = trainctl_objects::file_uri(&home::runs(&session.reach.home));
                let root = Some(status.checkpoint_root).filter(|root| !root.is_empty()).unwrap_or(runs);
                return Self::open(&root, place);
            }
            Err(failure) if failure.class == Class::Unreachable => failure,
            Err(failure) => return Err(failure),
        };
        let runs = home::runs(&session.reach.home);
        if !runs.join(place).is_dir() {
            return Err(unreachable.hint(format!(
                "a run's folder needs no coordinator: `trainctl ckpt ls /path/to/{place}` (not in {})",
                runs.display()
            )));
        }
        session.printer.note(&format!("no coordinator answers; looking into {}", runs.display()));
        Self::open(&trainctl_objects::file_uri(&runs), place)
    }

    /// The folder that a path or URI names.
    fn at(place: &str) -> Result<Self, Failure> {
        let trimmed = place.trim_end_matches('/');
        let uri = if trimmed.contains("://") {
            trimmed.to_owned()
        } else {
            let path = std::path::absolute(trimmed)
                .map_err(|error| Failure::file("resolve", std::path::Path::new(trimmed), &error))?;
            trainctl_objects::file_uri(&path)
        };
        if let Ok(path) = trainctl_objects::local_path(&uri)
            && !path.is_dir()
        {
            return Err(Failure::new(Class::Refused, format!("{place}: expected a run's folder, found none"))
                .hint("name the folder that holds run.json and checkpoints/, or a job"));
        }
        let (root, job) = uri.rsplit_once('/').unwrap_or_default();
        let root = if root.ends_with("//") { format!("{root}/") } else { root.to_owned() };
        Self::open(&root, job)
    }

    fn open(root: &str, job: &str) -> Result<Self, Failure> {
        let folder = RunFolder::open(root, job).map_err(|error| failure(&error))?;
        Ok(Self { folder, shown: format!("{}/{job}", root.trim_end_matches('/')) })
    }

    /// The step asked for, else the newest.
    pub(super) async fn step(&self, asked: Option<u64>) -> Result<u64, Failure> {
        if let Some(step) = asked {
            return Ok(step);
        }
        let steps = self.folder.steps().await.map_err(|error| failure(&error))?;
        steps.last().copied().ok_or_else(|| {
            Failure::new(Class::Refused, format!("{}: no checkpoint has been committed yet", self.shown))
        })
    }
}
