//! Whether a data set's objects are there and as large as they were pinned: what can be told without reading one.

use crate::error::DataError;
use crate::manifest::{Manifest, Object};
use crate::place::{Base, PATIENCE, Place};
use crate::reader::Source;
use crate::waiting::wait;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::{Error as StoreError, ObjectStoreExt as _};

/// Sizes asked for at a time.
const REQUESTS_AT_ONCE: usize = 32;

/// Asks for the size of every object of the manifest that lies in `base`.
///
/// # Errors
/// [`DataError::Missing`] or [`DataError::Changed`] for the first object that is not there or of another size;
/// [`DataError`] when the place can't be asked.
pub fn check_sizes(manifest: &Manifest, base: impl Into<Base>) -> Result<(), DataError> {
    let place = Place::of(manifest, &base.into(), PATIENCE)?;
    wait(&place.shown(""), async {
        let asked: Vec<_> = manifest.objects.iter().map(|object| check_size(&place, object)).collect();
        futures::stream::iter(asked).buffered(REQUESTS_AT_ONCE).try_collect().await
    })
}

async fn check_size(place: &Place, object: &Object) -> Result<(), DataError> {
    let source = Source::pinned(object);
    let shown = source.shown(place);
    match place.store.head(&place.location(source.stored())).await {
        Ok(found) if found.size == object.size => Ok(()),
        Ok(found) => Err(DataError::Changed {
            object: shown,
            what: "size",
            expected: object.size.to_string(),
            found: found.size.to_string(),
        }),
        Err(StoreError::NotFound { .. }) => Err(DataError::Missing { object: shown }),
        Err(source) => Err(DataError::Store { object: shown, source }),
    }
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
