//! What a run was made from and keeps in its folder: its data manifest, its module. What is still where the job found it
//! is used from there.

use super::{Place, failure};
use crate::failure::{Class, Failure};
use std::path::Path;
use trainctl_checkpoint::{Digest, RunInput};
use trainctl_jobs::ModelSpec;

/// The data manifest; `None` of a run that keeps none.
pub(crate) async fn manifest(place: &Place) -> Result<Option<Vec<u8>>, Failure> {
    let kept = place.folder.read_input(RunInput::DataManifest).await.map_err(|error| failure(&error))?;
    Ok(kept.map(|bytes| bytes.to_vec()))
}

/// Has a model of the user's own in a file on this machine: where the job found it, else a copy of the run's in `folder`.
/// Where neither is the pinned one, the path stays, and whoever reads it says what is wrong.
pub(crate) async fn bring_module(place: &Place, model: &mut ModelSpec, folder: &Path) -> Result<(), Failure> {
    let ModelSpec::Torchscript { path, digest, .. } = model else { return Ok(()) };
    let copy = folder.join(format!("{}.pt", digest.trim_start_matches("blake3:")));
    let is_pinned = |there: &Path| std::fs::read(there).is_ok_and(|bytes| Digest::of(&bytes).to_string() == *digest);
    if is_pinned(Path::new(path.as_str())) {
        return Ok(());
    }
    if is_pinned(&copy) {
        *path = copy.display().to_string();
        return Ok(());
    }
    let Some(bytes) = place.folder.read_input(RunInput::Module).await.map_err(|error| failure(&error))? else {
        return Ok(());
    };
    let found = Digest::of(&bytes).to_string();
    if found != *digest {
        let message = format!("{}/module.pt: expected {digest}, found {found}", place.shown);
        return Err(
            Failure::new(Class::Damaged, message).hint(format!("put the module that the job trained back to {path}"))
        );
    }
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&copy, &bytes));
    written.map_err(|error| Failure::file("write", &copy, &error))?;
    *path = copy.display().to_string();
    Ok(())
}
