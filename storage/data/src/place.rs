//! Where the objects of a manifest are.

use crate::error::DataError;
use crate::manifest::Manifest;
use object_store::ObjectStore;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// An opened root.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) root: object_store::path::Path,
    /// For messages: `/data/digits` or `s3://bucket/prefix`.
    shown: String,
}

impl Place {
    /// The place that a URI names.
    pub(crate) fn open(uri: &str) -> Result<Self, DataError> {
        let (store, root) = trainctl_objects::open(uri)?;
        let shown =
            trainctl_objects::local_path(uri).map_or_else(|_| uri.to_owned(), |path| path.display().to_string());
        Ok(Self { store, root, shown: shown.trim_end_matches('/').to_owned() })
    }

    /// The root of `manifest`, which lies in the folder `base`.
    pub(crate) fn of(manifest: &Manifest, base: &Path) -> Result<Self, DataError> {
        if manifest.root.contains("://") {
            return Self::open(&manifest.root);
        }
        let failed = |source| DataError::File { path: base.display().to_string(), done: "read", source };
        let root = without_dots(&std::path::absolute(base.join(&manifest.root)).map_err(failed)?);
        Self::open(&trainctl_objects::file_uri(&root))
    }

    /// The location of an object below the root.
    pub(crate) fn location(&self, path: &str) -> object_store::path::Path {
        path.split('/').fold(self.root.clone(), object_store::path::Path::join)
    }

    /// The object's whole path, for messages.
    pub(crate) fn shown(&self, path: &str) -> String {
        format!("{}/{path}", self.shown)
    }
}

/// The path without `.` and `..`, which no object name may have.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            _ => plain.push(part),
        }
    }
    plain
}
