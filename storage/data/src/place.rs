//! Where the objects of a manifest are.

use crate::error::DataError;
use crate::manifest::Manifest;
use object_store::path::PathPart;
use object_store::{ObjectMeta, ObjectStore};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use trainctl_objects::{Bucket, Cloud};

/// How long a bucket that can't be reached or throttles is tried again while somebody waits for an answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The folder or the place in a bucket that a manifest lies in: where its relative root starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Base(String);

impl Base {
    /// Of the manifest that `uri` names: a path, `file:///path`, `s3://bucket/path` or `gs://bucket/path`.
    #[must_use]
    pub fn of_manifest(uri: &str) -> Self {
        if is_bucket(uri) {
            let folder = uri.rsplit_once('/').map_or(uri, |(folder, _)| folder);
            return Self(folder.to_owned());
        }
        let path = trainctl_objects::local_path(uri).unwrap_or_else(|_| PathBuf::from(uri));
        Self(path.parent().unwrap_or(Path::new("/")).display().to_string())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Base {
    /// A local folder.
    fn from(folder: &P) -> Self {
        Self(folder.as_ref().display().to_string())
    }
}

/// Whether a URI names a place in a bucket rather than on this machine.
pub(crate) fn is_bucket(uri: &str) -> bool {
    Bucket::parse(uri).is_some()
}

/// An opened root.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) root: object_store::path::Path,
    cloud: Option<Cloud>,
    /// For messages: `/data/digits` or `s3://bucket/prefix`.
    shown: String,
}

impl Place {
    /// The place that a URI names.
    pub(crate) fn open(uri: &str, patience: Duration) -> Result<Self, DataError> {
        let (store, root) = trainctl_objects::open_with(uri, patience)?;
        let cloud = Bucket::parse(uri).transpose()?.map(|bucket| bucket.cloud);
        let shown =
            trainctl_objects::local_path(uri).map_or_else(|_| uri.to_owned(), |path| path.display().to_string());
        Ok(Self { store, root, cloud, shown: shown.trim_end_matches('/').to_owned() })
    }

    /// The root of `manifest`, which lies in `base`.
    pub(crate) fn of(manifest: &Manifest, base: &Base, patience: Duration) -> Result<Self, DataError> {
        if manifest.root.contains("://") {
            return Self::open(&manifest.root, patience);
        }
        if is_bucket(base.as_str()) {
            return Self::open(&below_bucket(base.as_str(), &manifest.root), patience);
        }
        let base = Path::new(base.as_str());
        let failed = |source| DataError::File { path: base.display().to_string(), done: "read", source };
        let root = without_dots(&std::path::absolute(base.join(&manifest.root)).map_err(failed)?);
        Self::open(&trainctl_objects::file_uri(&root), patience)
    }

    /// Whether it takes a network to get there.
    pub(crate) fn is_remote(&self) -> bool {
        self.cloud.is_some()
    }

    /// How many objects are best read at a time: over a network, more than there are processors.
    pub(crate) fn objects_at_once(&self) -> usize {
        if self.is_remote() { 16 } else { std::thread::available_parallelism().map_or(1, usize::from).min(16) }
    }

    /// The location of an object below the root, its name taken as it stands.
    pub(crate) fn location(&self, path: &str) -> object_store::path::Path {
        path.split('/').fold(self.root.clone(), |location, name| {
            location.join(PathPart::parse(name).unwrap_or_else(|_| PathPart::from(name)))
        })
    }

    /// The object's whole path, for messages.
    pub(crate) fn shown(&self, path: &str) -> String {
        format!("{}/{path}", self.shown)
    }

    /// The store's own mark of an object's bytes, which other bytes never have: a generation, or an entity tag. None
    /// of a folder: a file can be written over within the resolution of its clock.
    pub(crate) fn version(&self, meta: &ObjectMeta) -> Option<String> {
        match self.cloud? {
            Cloud::Gcs => meta.version.clone(),
            Cloud::S3 => meta.e_tag.clone(),
        }
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

/// `relative` as seen from a place in a bucket; `..` ends at the bucket.
fn below_bucket(base: &str, relative: &str) -> String {
    let (scheme, rest) = base.split_once("://").unwrap_or_default();
    let mut parts = rest.trim_end_matches('/').split('/');
    let bucket = parts.next().unwrap_or_default();
    let mut folders: Vec<&str> = parts.collect();
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(folders.pop()),
            part => folders.push(part),
        }
    }
    [format!("{scheme}://{bucket}")]
        .into_iter()
        .chain(folders.into_iter().map(str::to_owned))
        .collect::<Vec<_>>()
        .join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_root_starts_where_the_manifest_is() {
        for (manifest, root, expected) in [
            ("s3://data/sets/x.manifest.json", ".", "s3://data/sets"),
            ("s3://data/x.manifest.json", ".", "s3://data"),
            ("s3://data/sets/x.manifest.json", "day one/ü", "s3://data/sets/day one/ü"),
            ("gs://data/sets/x.manifest.json", "../../../up", "gs://data/up"),
        ] {
            assert_eq!(below_bucket(Base::of_manifest(manifest).as_str(), root), expected, "{manifest} {root}");
        }
        assert_eq!(Base::of_manifest("/data/x.manifest.json"), Base::from("/data"));
        assert_eq!(Base::of_manifest("file:///data%20sets/x.manifest.json"), Base::from("/data sets"));
    }
}
