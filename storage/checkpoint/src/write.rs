//! Writing one part: safetensors files straight from the state, several at once, hashed on the way, in bounded memory.
//! A file that hasn't changed since an earlier checkpoint is named, not written.

use crate::digest::{Digest, StateDigests};
use crate::error::CheckpointError;
use crate::folder::RunFolder;
use crate::manifest::{FileEntry, Manifest, TensorEntry};
use crate::names;
use crate::pack::{Packed, pack};
use crate::partition::partition_files;
use crate::record::PartRecord;
use crate::tensor::{TensorInfo, check_layout};
use crate::upload::{Chunks, Upload};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::PutMode;
use safetensors::tensor::Metadata;
use std::collections::{BTreeMap, HashMap};

/// Files on their way at a time.
const FILES_MAX: usize = 4;
/// Chunks of 8 MiB in memory, of all files: what a save holds beside the state, at most 56 MiB.
const CHUNKS_MAX: usize = 7;
/// Hashed and copied at a time, while it is in the processor's cache.
const BLOCK_BYTES: usize = 256 << 10;

/// A state to be saved.
#[derive(Clone, Copy)]
pub(crate) struct State<'a> {
    pub(crate) step: u64,
    pub(crate) tensors: &'a [TensorInfo],
    pub(crate) values: &'a [f32],
    pub(crate) digests: &'a StateDigests,
}

impl State<'_> {
    /// What a file of it holds, by the digests.
    pub(crate) fn entries(&self, file: &Packed) -> Vec<TensorEntry> {
        let entry = |&at: &usize| TensorEntry {
            name: self.tensors[at].name.clone(),
            shape: self.tensors[at].shape.clone(),
            digest: self.digests.values()[at],
        };
        file.tensors.iter().map(entry).collect()
    }
}

impl RunFolder {
    /// Writes part `part` (counted from 0) of `parts` of the state after `step` updates: the tensors that
    /// [`partition`](crate::partition()) gives it, then the record that says so. The checkpoint exists once
    /// [`try_commit`](Self::try_commit) finds all records.
    ///
    /// Files that are there already are not written again: those of this save that another group of workers got
    /// done, and those that an earlier checkpoint has and that hold the same values.
    ///
    /// If the step is committed already and whole, nothing is written; if it is committed and damaged, this part of a
    /// new save replaces it in the end.
    ///
    /// # Errors
    /// [`CheckpointError::Full`] and [`CheckpointError::Io`]: nothing is left that could be taken for whole, and saving
    /// again is fine. [`CheckpointError::StateDiffers`]: the step is committed with another state.
    /// [`CheckpointError::FormatVersion`], [`CheckpointError::Layout`], [`CheckpointError::Part`].
    pub async fn write_part(
        &self,
        step: u64,
        part: u32,
        parts: u32,
        tensors: &[TensorInfo],
        state: &[f32],
    ) -> Result<PartRecord, CheckpointError> {
        check_layout(tensors, state.len())?;
        let digests = StateDigests::of(tensors, state, step);
        self.write_part_of(&digests, step, part, parts, tensors, state).await
    }

    /// As [`write_part`](Self::write_part), of a state whose digests the caller has taken: they are over the same
    /// values, so a value that changes in memory meanwhile shows when the save is to commit.
    ///
    /// # Errors
    /// As [`write_part`](Self::write_part).
    pub async fn write_part_of(
        &self,
        digests: &StateDigests,
        step: u64,
        part: u32,
        parts: u32,
        tensors: &[TensorInfo],
        state: &[f32],
    ) -> Result<PartRecord, CheckpointError> {
        check_layout(tensors, state.len())?;
        if part >= parts {
            return Err(CheckpointError::Part { part, parts });
        }
        let state = State { step, tensors, values: state, digests };
        let files = pack(tensors);
        let mine: Vec<&Packed> = partition_files(&files, parts)[part as usize].iter().map(|&at| &files[at]).collect();

        if let Some(manifest) = self.saved_whole(step, digests.state()).await? {
            let is_mine = |file: &FileEntry| mine.iter().any(|mine| mine.name == file.name);
            let files = manifest.files.into_iter().filter(is_mine).collect();
            return Ok(PartRecord::new(step, part, parts, digests.state(), files));
        }
        let names = self.step_sizes(step).await?;
        let written = self.written_already(&state, &mine, &names, &names::record_file(part, parts)).await?;
        let mut missing = mine;
        missing.retain(|file| !written.contains_key(&file.name));
        self.check_in_use(&state, &missing, &names).await?;
        let earlier = if missing.is_empty() { None } else { self.newest_before(step).await? };
        let unchanged = self.unchanged(earlier.as_ref(), &state, &missing).await?;

        let changed = missing.iter().copied().filter(|file| !unchanged.contains_key(&file.name)).collect();
        let mut files: BTreeMap<String, FileEntry> = written;
        files.extend(self.write_files(&state, changed).await?);
        let with_unchanged = files.clone().into_iter().chain(unchanged.clone());
        let mut record =
            PartRecord::new(step, part, parts, digests.state(), with_unchanged.map(|(_, file)| file).collect());
        self.put_record(&record).await?;
        if !record.confirmed {
            // A worker that removes a checkpoint does so first and then looks for records like the one just written: if the
            // checkpoint is still there, its files will be spared from now on.
            let stays = match &earlier {
                Some(earlier) => self.size(&self.step_path(earlier.step, names::MANIFEST)).await?.is_some(),
                None => false,
            };
            if !stays {
                tracing::info!(step, "the checkpoint before was removed meanwhile: writes what it had");
                let again = missing.into_iter().filter(|file| unchanged.contains_key(&file.name)).collect();
                files.extend(self.write_files(&state, again).await?);
                record.files = files.into_values().collect();
            }
            record.confirmed = true;
            self.put_record(&record).await?;
        }
        Ok(record)
    }

    async fn put_record(&self, record: &PartRecord) -> Result<(), CheckpointError> {
        let path = self.step_path(record.step, &record.file_name());
        self.put(&path, record.to_json(), PutMode::Overwrite).await.map(|_| ())
    }

    /// The step's checkpoint, if it has one of this state and that is whole.
    async fn saved_whole(&self, step: u64, expected: Digest) -> Result<Option<Manifest>, CheckpointError> {
        let manifest = match self.read_files(step).await {
            Ok(manifest) => manifest,
            Err(CheckpointError::NotCommitted { .. }) => return Ok(None),
            Err(CheckpointError::Damaged(damage)) => {
                tracing::warn!(step, %damage, "this step's checkpoint is damaged, saving it anew");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if manifest.state_digest != expected {
            let object = self.shown(&self.step_path(step, names::MANIFEST));
            return Err(CheckpointError::StateDiffers { object, expected, found: manifest.state_digest });
        }
        Ok(Some(manifest))
    }

    /// Which of the files `mine` other saves of this state have written. Records of saves of another state that speak
    /// for these files are removed: before the files are overwritten, or a commit in between would confirm files
    /// that they don't describe.
    async fn written_already(
        &self,
        state: &State<'_>,
        mine: &[&Packed],
        there: &BTreeMap<String, u64>,
        my_record: &str,
    ) -> Result<BTreeMap<String, FileEntry>, CheckpointError> {
        let mut written = BTreeMap::new();
        for name in there.keys().filter(|name| names::is_record(name)) {
            let path = self.step_path(state.step, name);
            let Some(bytes) = self.get(&path).await? else { continue };
            let is_mine = |file: &FileEntry| mine.iter().any(|mine| mine.name == file.name);
            let files = match PartRecord::parse(&self.shown(&path), &bytes, state.step, name) {
                Ok(record) if record.state_digest == state.digests.state() => record.files,
                Ok(record) if name != my_record && !record.files.iter().any(is_mine) => continue,
                _ => {
                    self.remove(&path).await?;
                    continue;
                }
            };
            let is_there = |file: &FileEntry| file.step.is_none() && there.get(&file.name) == Some(&file.bytes);
            let files = files.into_iter().filter(|file| is_mine(file) && is_there(file));
            written.extend(files.map(|file| (file.name.clone(), file)));
        }
        written.retain(|name, file| {
            let packed = mine.iter().find(|mine| mine.name == *name);
            packed.is_some_and(|packed| state.entries(packed) == file.tensors)
        });
        Ok(written)
    }

    async fn write_files(
        &self,
        state: &State<'_>,
        files: Vec<&Packed>,
    ) -> Result<Vec<(String, FileEntry)>, CheckpointError> {
        let chunks = Chunks::new(CHUNKS_MAX);
        let writes: Vec<_> = files.into_iter().map(|file| self.write_file(state, file, chunks.clone())).collect();
        let written: Vec<FileEntry> = futures::stream::iter(writes).buffer_unordered(FILES_MAX).try_collect().await?;
        self.mark_verified(written.iter().map(|file| (state.step, file)));
        Ok(written.into_iter().map(|file| (file.name.clone(), file)).collect())
    }

    async fn write_file(&self, state: &State<'_>, file: &Packed, chunks: Chunks) -> Result<FileEntry, CheckpointError> {
        let Packed { group, name, .. } = file;
        let path = self.step_path(state.step, name);
        let tensors: Vec<&TensorInfo> = file.tensors.iter().map(|&at| &state.tensors[at]).collect();
        let (header, bytes) = file_header(&tensors)?;
        let failed = |source| CheckpointError::write(&self.shown(&path), bytes, source);

        let mut upload = Upload::start(self.store.as_ref(), path.clone(), bytes, chunks).await.map_err(failed)?;
        let mut entries = Vec::with_capacity(tensors.len());
        let written = async {
            upload.write(&header).await?;
            for tensor in tensors {
                let mut hasher = blake3::Hasher::new();
                for block in bytemuck::cast_slice::<f32, u8>(tensor.values(state.values)).chunks(BLOCK_BYTES) {
                    hasher.update(block);
                    upload.write(block).await?;
                }
                let digest = Digest::from(hasher.finalize());
                entries.push(TensorEntry { name: tensor.name.clone(), shape: tensor.shape.clone(), digest });
            }
            upload.flush().await
        };
        let finished = match written.await {
            Ok(()) => upload.complete().await,
            Err(error) => Err(upload.abort(error).await),
        };
        let digest = finished.map_err(failed)?;
        Ok(FileEntry { name: name.clone(), step: None, group: *group, bytes, digest, tensors: entries })
    }
}

/// The head of a safetensors file, its length field included, and the size of the whole file.
fn file_header(tensors: &[&TensorInfo]) -> Result<(Vec<u8>, u64), CheckpointError> {
    let mut end = 0;
    let infos = tensors.iter().map(|tensor| {
        let start = end;
        end += tensor.len * size_of::<f32>();
        let info = safetensors::tensor::TensorInfo {
            dtype: safetensors::Dtype::F32,
            shape: tensor.shape.clone(),
            data_offsets: (start, end),
        };
        (tensor.name.clone(), info)
    });
    // Loaders of the Python ecosystem refuse a file that doesn't name its tensors' convention.
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let infos = infos.collect();
    let metadata = Metadata::new(Some(format), infos).expect("a checked layout makes a valid header");
    let mut json = serde_json::to_vec(&metadata).expect("a header is plain data");
    // The values start at a multiple of 8 bytes, so that readers can map them.
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.append(&mut json);
    let bytes = (header.len() + end) as u64;
    Ok((header, bytes))
}
