//! A run's folder: where its objects are, which steps it holds, and how single objects are read, written and removed.

use crate::error::CheckpointError;
use crate::manifest::Manifest;
use crate::names;
use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::{Path, PathPart};
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The folder of one job's run below a checkpoint root. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct RunFolder {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) base: Path,
    pub(crate) job: String,
    /// Set where the store is a local folder: interrupted writes leave files behind there that the store hides.
    local: Option<PathBuf>,
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
        let (store, root) = trainctl_objects::open(root_uri).map_err(CheckpointError::Open)?;
        let mut folder = Self::new(store, &root, job)?;
        folder.local = trainctl_objects::local_path(root_uri).ok().map(|root| root.join(job));
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
        Ok(Self { store, base: root.clone().join(part), job: job.to_owned(), local: None })
    }

    /// The job.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// Where it is in its store.
    pub fn path(&self) -> &Path {
        &self.base
    }

    /// A path as people write it: local ones are absolute.
    pub(crate) fn shown(&self, path: &Path) -> String {
        if self.local.is_some() { format!("/{path}") } else { path.to_string() }
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
        let mut listed = Vec::new();
        for step in self.steps().await? {
            listed.push(Listed { step, manifest: self.read_manifest(step).await });
        }
        Ok(listed)
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

    /// A small object, whole; `None` if it is absent.
    pub(crate) async fn get(&self, path: &Path) -> Result<Option<Bytes>, CheckpointError> {
        let read = async { self.store.get(path).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
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

    /// Writes a small object. `false`: [`PutMode::Create`] found one there.
    pub(crate) async fn put(&self, path: &Path, bytes: Vec<u8>, mode: PutMode) -> Result<bool, CheckpointError> {
        let len = bytes.len() as u64;
        match self.store.put_opts(path, PutPayload::from(bytes), PutOptions::from(mode)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
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
