//! Whether a data set's objects are there and as large as they were pinned: what can be told without reading one.

use crate::error::DataError;
use crate::manifest::Manifest;
use crate::place::Place;
use crate::reader::wait;
use object_store::{Error as StoreError, ObjectStoreExt as _};
use std::path::Path;

/// Asks for the size of every object of the manifest that lies in the folder `base`.
///
/// # Errors
/// [`DataError::Missing`] or [`DataError::Changed`] for the first object that is not there or of another size;
/// [`DataError`] when the place can't be asked.
pub fn check_sizes(manifest: &Manifest, base: &Path) -> Result<(), DataError> {
    let place = Place::of(manifest, base)?;
    wait(&place.shown(""), async {
        for object in &manifest.objects {
            let shown = place.shown(&object.path);
            let found = match place.store.head(&place.location(&object.path)).await {
                Ok(found) => found.size,
                Err(StoreError::NotFound { .. }) => return Err(DataError::Missing { object: shown }),
                Err(source) => return Err(DataError::Store { object: shown, source }),
            };
            if found != object.size {
                return Err(DataError::Changed {
                    object: shown,
                    what: "size",
                    expected: object.size.to_string(),
                    found: found.to_string(),
                });
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pin::{PinOptions, pin};

    #[test]
    fn missing_and_resized_objects_are_found_and_others_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("points.csv");
        std::fs::write(&file, "1,2,0\n3,4,1\n").unwrap();
        let manifest = pin(file.to_str().unwrap(), &PinOptions::default()).unwrap();
        check_sizes(&manifest, folder.path()).unwrap();

        std::fs::write(&file, "1,2,0\n3,5,1\n").unwrap();
        check_sizes(&manifest, folder.path()).unwrap();
        std::fs::write(&file, "1,2,0\n").unwrap();
        let error = check_sizes(&manifest, folder.path()).unwrap_err();
        assert!(matches!(error, DataError::Changed { what: "size", .. }), "{error}");
        assert!(error.to_string().ends_with("expected size 12, found 6"), "{error}");
        std::fs::remove_file(&file).unwrap();
        let error = check_sizes(&manifest, folder.path()).unwrap_err();
        assert!(matches!(error, DataError::Missing { .. }), "{error}");
    }
}
