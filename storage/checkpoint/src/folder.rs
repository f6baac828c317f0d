//! A run's folder: where its objects are, which steps it holds, and how single objects are read, written and removed.

use crate::dedup::VerifiedFiles;
use crate::error::CheckpointError;
use crate::manifest::Manifest;
use crate::names;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::{Path, PathPart};
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, UpdateVersion};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use trainctl_objects::Bucket;

/// Small objects read at a time.
const READS_MAX: usize = 32;

/// The folder of one job's run below a checkpoint root. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct RunFolder {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) base: Path,
    pub(crate) job: String,
    /// Set where the store is a local folder: interrupted writes leave files behind there that the store hides.
    local: Option<PathBuf>,
    /// What makes a path in the store a URI: `s3://bucket/`.
    shown_before: String,
    pub(crate) verified_files: VerifiedFiles,
}

/// One committed step, as [`RunFolder::list`] finds it.
#[derive(Debug)]
pub struct Listed {
    /// The step.
    pub step: u64,
    /// Its manifest, or why that can't be read. Its files were not looked at: [`RunFolder::verify`] does.
    pub manifest: Result<Manifest, CheckpointError>,
}

impl RunFolder {
    /// The folder of `job` below `root_uri`. Nothing is read or made.
    ///
    /// # Errors
    /// [`CheckpointError::Open`] for a root that can't be used, [`CheckpointError::JobName`].
    pub fn open(root_uri: &str, job: &str) -> Result<Self, CheckpointError> {
        Self::open_with(root_uri, job, trainctl_objects::RETRY_TIMEOUT)
    }

    /// [`open`](Self::open) with another time limit for a store that can't be reached.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(root_uri: &str, job: &str, retry_timeout: Duration) -> Result<Self, CheckpointError> {
        let (store, root) = trainctl_objects::open_with(root_uri, retry_timeout).map_err(CheckpointError::Open)?;
        let mut folder = Self::new(store, &root, job)?;
        folder.local = trainctl_objects::local_path(root_uri).ok().map(|root| root.join(job));
        folder.shown_before = match Bucket::parse(root_uri) {
            Some(Ok(bucket)) => format!("{}://{}/", bucket.cloud.scheme(), bucket.name),
            _ => "/".to_owned(),
        };
        Ok(folder)
    }

    /// The folder of `job` below `root` in a store of the caller's.
    ///
    /// # Errors
    /// [`CheckpointError::JobName`].
    pub fn new(store: Arc<dyn ObjectStore>, root: &Path, job: &str) -> Result<Self, CheckpointError> {
        let part = PathPart::from(job);
        if job.is_empty() || job.starts_with('.') || part.as_ref() != job {
            return Err(CheckpointError::JobName { name: job.to_owned() });
        }
        let (local, shown_before, verified_files) = (None, String::new(), VerifiedFiles::default());
        Ok(Self { store, base: root.clone().join(part), job: job.to_owned(), local, shown_before, verified_files })
    }

    /// The job.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// Where it is in its store.
    pub fn path(&self) -> &Path {
        &self.base
    }

    /// A path as people write it: local ones are absolute, those in a bucket name it.
    pub(crate) fn shown(&self, path: &Path) -> String {
        format!("{}{path}", self.shown_before)
    }

    /// The steps committed, ascending.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub async fn steps(&self) -> Result<Vec<u64>, CheckpointError> {
        let folders = self.step_folders().await?.into_iter();
        Ok(folders
            .filter(|(_, names)| names.iter().any(|name| name == names::MANIFEST))
            .map(|(step, _)| step)
            .collect())
    }

    /// The steps committed and their manifests, ascending.
    ///
    /// # Errors
    /// [`CheckpointError::Io`] if the steps can't be listed; what is wrong with one manifest is in its place.
    pub async fn list(&self) -> Result<Vec<Listed>, CheckpointError> {
        let read = |step| async move { Listed { step, manifest: self.read_manifest(step).await } };
        Ok(futures::stream::iter(self.steps().await?).map(read).buffered(READS_MAX).collect().await)
    }

    /// The manifest of a committed step. It is consistent in itself; its files are not looked at.
    ///
    /// # Errors
    /// [`CheckpointError::NotCommitted`], [`CheckpointError::Damaged`], [`CheckpointError::FormatVersion`],
    /// [`CheckpointError::Io`].
    pub async fn read_manifest(&self, step: u64) -> Result<Manifest, CheckpointError> {
        let path = self.step_path(step, names::MANIFEST);
        let object = self.shown(&path);
        match self.get(&path).await? {
            Some(bytes) => Manifest::parse(&object, &bytes, step),
            None => Err(CheckpointError::NotCommitted { run: self.shown(&self.base), step, object }),
        }
    }

    pub(crate) fn checkpoints_path(&self) -> Path {
        self.base.clone().join(names::CHECKPOINTS)
    }

    pub(crate) fn step_path(&self, step: u64, name: &str) -> Path {
        self.checkpoints_path().join(step.to_string()).join(name)
    }

    pub(crate) fn local_checkpoints_folder(&self) -> Option<PathBuf> {
        Some(self.local.as_ref()?.join(names::CHECKPOINTS))
    }

    /// The names in each step's folder, unfinished saves included.
    pub(crate) async fn step_folders(&self) -> Result<BTreeMap<u64, Vec<String>>, CheckpointError> {
        let prefix = self.checkpoints_path();
        let mut objects = self.store.list(Some(&prefix));
        let mut folders: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        while let Some(object) =
            objects.try_next().await.map_err(|source| CheckpointError::io("list", self.shown(&prefix), source))?
        {
            let Some(mut parts) = object.location.prefix_match(&prefix) else { continue };
            if let (Some(folder), Some(name), None) = (parts.next(), parts.next(), parts.next())
                && let Some(step) = names::parse_step(folder.as_ref())
            {
                folders.entry(step).or_default().push(name.as_ref().to_owned());
            }
        }
        Ok(folders)
    }

    /// What is in a step's folder: names and sizes.
    pub(crate) async fn step_sizes(&self, step: u64) -> Result<BTreeMap<String, u64>, CheckpointError> {
        let prefix = self.checkpoints_path().join(step.to_string());
        let failed = |source| CheckpointError::io("list", self.shown(&prefix), source);
        let objects: Vec<_> = self.store.list(Some(&prefix)).try_collect().await.map_err(failed)?;
        Ok(objects.into_iter().filter_map(|o| Some((o.location.filename()?.to_owned(), o.size))).collect())
    }

    /// A small object, whole; `None` if it is absent.
    pub(crate) async fn get(&self, path: &Path) -> Result<Option<Bytes>, CheckpointError> {
        let read = async { self.store.get(path).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(CheckpointError::io("read", self.shown(path), source)),
        }
    }

    /// As [`get`](Self::get), with the version to check whether it has changed since.
    pub(crate) async fn get_version(&self, path: &Path) -> Result<Option<(Bytes, UpdateVersion)>, CheckpointError> {
        let read = async {
            let found = self.store.get(path).await?;
            let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
            Ok((found.bytes().await?, version))
        };
        match read.await {
            Ok(found) => Ok(Some(found)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(CheckpointError::io("read", self.shown(path), source)),
        }
    }

    /// The size of an object; `None` if it is absent.
    pub(crate) async fn size(&self, path: &Path) -> Result<Option<u64>, CheckpointError> {
        match self.store.head(path).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(CheckpointError::io("read", self.shown(path), source)),
        }
    }

    /// Writes a small object. `false`: [`PutMode::Create`] found one there, [`PutMode::Update`] another one.
    pub(crate) async fn put(&self, path: &Path, bytes: Vec<u8>, mode: PutMode) -> Result<bool, CheckpointError> {
        let len = bytes.len() as u64;
        match self.store.put_opts(path, PutPayload::from(bytes), PutOptions::from(mode)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
            Err(source) => Err(CheckpointError::write(&self.shown(path), len, source)),
        }
    }

    /// Removes an object; an absent one is fine.
    pub(crate) async fn remove(&self, path: &Path) -> Result<(), CheckpointError> {
        match self.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(CheckpointError::io("remove", self.shown(path), source)),
        }
    }
}
