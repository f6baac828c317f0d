//! What killed writers leave in a local folder. The store hides its half-written files, so nothing but the folder
//! itself can tell of them.

use crate::error::CheckpointError;
use crate::folder::RunFolder;
use crate::names;
use std::io;

impl RunFolder {
    /// Steps that have a folder, where the store is a local one: it doesn't list what killed writers left in them.
    pub(crate) fn local_steps(&self) -> Result<Vec<u64>, CheckpointError> {
        let Some(folder) = self.local_checkpoints_folder() else { return Ok(Vec::new()) };
        let steps = || -> io::Result<Vec<u64>> {
            let mut steps = Vec::new();
            for entry in folder.read_dir()? {
                steps.extend(entry?.file_name().to_str().and_then(names::parse_step));
            }
            Ok(steps)
        };
        match steps() {
            Ok(steps) => Ok(steps),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(CheckpointError::io("list", folder.display(), error)),
        }
    }

    /// What killed writers left, and the folder itself if nothing else is in it.
    pub(crate) fn remove_local_step(&self, step: u64) -> Result<(), CheckpointError> {
        let Some(folder) = self.local_checkpoints_folder().map(|folder| folder.join(step.to_string())) else {
            return Ok(());
        };
        let remove = || -> io::Result<()> {
            for entry in folder.read_dir()? {
                let entry = entry?;
                if entry.file_name().to_str().is_some_and(names::is_staged) {
                    std::fs::remove_file(entry.path())?;
                }
            }
            std::fs::remove_dir(&folder)
        };
        match remove() {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
                Err(CheckpointError::io("remove", folder.display(), error))
            }
            _ => Ok(()),
        }
    }
}
