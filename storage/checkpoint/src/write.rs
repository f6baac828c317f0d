//! Writing one part: safetensors files streamed straight from the state, hashed on the way, with a bounded number of
//! chunks in memory. A file appears whole or not at all.

use crate::deal::deal;
use crate::digest::{Digest, state_digest, values_digest};
use crate::error::CheckpointError;
use crate::folder::RunFolder;
use crate::manifest::{FileEntry, TensorEntry};
use crate::names;
use crate::record::PartRecord;
use crate::tensor::{Group, TensorInfo, check_layout};
use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload};
use safetensors::tensor::Metadata;
use std::collections::HashMap;
use tokio::task::JoinSet;

/// One request of an upload. Stores want all but the last to be equal and 5 MiB or more.
const CHUNK_BYTES: usize = 8 << 20;
/// Requests of one file under way: with the chunk being filled, what a save holds in memory.
const CHUNKS_MAX: usize = 3;
/// Hashed and copied at a time, while it is in the processor's cache.
const BLOCK_BYTES: usize = 256 << 10;

impl RunFolder {
    /// Writes part `part` (counted from 0) of `parts` of the state after `step` updates: the tensors that
    /// [`deal`](crate::deal()) gives it, then the record that says so. The checkpoint exists once
    /// [`try_commit`](Self::try_commit) finds all records.
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
        if part >= parts {
            return Err(CheckpointError::Part { part, parts });
        }
        let mine: Vec<&TensorInfo> = deal(tensors, parts)[part as usize].iter().map(|&at| &tensors[at]).collect();
        let mut groups: Vec<(Group, Vec<&TensorInfo>)> = Vec::new();
        for group in Group::ALL {
            let tensors: Vec<_> = mine.iter().copied().filter(|tensor| tensor.group == group).collect();
            if !tensors.is_empty() {
                groups.push((group, tensors));
            }
        }

        if self.is_saved_whole(step, tensors, state).await? {
            let files = groups.iter().map(|(group, tensors)| describe(*group, part, parts, tensors, state));
            return Ok(PartRecord::new(step, part, parts, files.collect::<Result<_, _>>()?));
        }
        self.forget_other_record(step, part, parts, &mine, state).await?;

        let mut files = Vec::with_capacity(groups.len());
        for (group, tensors) in groups {
            let name = names::tensors_file(group, part, parts);
            files.push(self.write_file(step, name, group, &tensors, state).await?);
        }
        let record = PartRecord::new(step, part, parts, files);
        let path = self.step_path(step, &names::record_file(part, parts));
        self.put(&path, record.to_json(), PutMode::Overwrite).await?;
        Ok(record)
    }

    async fn is_saved_whole(&self, step: u64, tensors: &[TensorInfo], state: &[f32]) -> Result<bool, CheckpointError> {
        let manifest = match self.read_files(step).await {
            Ok(manifest) => manifest,
            Err(CheckpointError::NotCommitted { .. }) => return Ok(false),
            Err(CheckpointError::Damaged(damage)) => {
                tracing::warn!(step, %damage, "this step's checkpoint is damaged, saving it anew");
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let expected = state_digest(tensors, state, step);
        if manifest.state_digest != expected {
            let object = self.shown(&self.step_path(step, names::MANIFEST));
            return Err(CheckpointError::StateDiffers { object, expected, found: manifest.state_digest });
        }
        Ok(true)
    }

    /// A record left by a save of other bits must be gone before its files are overwritten, or a commit in between
    /// would vouch for files that it doesn't describe.
    async fn forget_other_record(
        &self,
        step: u64,
        part: u32,
        parts: u32,
        mine: &[&TensorInfo],
        state: &[f32],
    ) -> Result<(), CheckpointError> {
        let path = self.step_path(step, &names::record_file(part, parts));
        let Some(bytes) = self.get(&path).await? else { return Ok(()) };
        let same = PartRecord::parse(&self.shown(&path), &bytes, step, part, parts).is_ok_and(|record| {
            let mut recorded = HashMap::new();
            for file in &record.files {
                recorded.extend(file.tensors.iter().map(|entry| ((file.group, entry.name.as_str()), entry.digest)));
            }
            recorded.len() == mine.len()
                && mine.iter().all(|tensor| {
                    recorded.get(&(tensor.group, tensor.name.as_str())) == Some(&values_digest(tensor.values(state)))
                })
        });
        if same { Ok(()) } else { self.remove(&path).await }
    }

    async fn write_file(
        &self,
        step: u64,
        name: String,
        group: Group,
        tensors: &[&TensorInfo],
        state: &[f32],
    ) -> Result<FileEntry, CheckpointError> {
        let path = self.step_path(step, &name);
        let (header, bytes) = file_header(tensors)?;
        let failed = |source| CheckpointError::write(&self.shown(&path), bytes, source);

        let mut upload = Upload::start(self.store.as_ref(), path.clone(), bytes).await.map_err(failed)?;
        let mut entries = Vec::with_capacity(tensors.len());
        let written = async {
            upload.write(&header).await?;
            for tensor in tensors {
                let mut hasher = blake3::Hasher::new();
                for block in bytemuck::cast_slice::<f32, u8>(tensor.values(state)).chunks(BLOCK_BYTES) {
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
        Ok(FileEntry { name, group, bytes, digest: finished.map_err(failed)?, tensors: entries })
    }
}

/// What [`RunFolder::write_part`] would write.
fn describe(
    group: Group,
    part: u32,
    parts: u32,
    tensors: &[&TensorInfo],
    state: &[f32],
) -> Result<FileEntry, CheckpointError> {
    let (header, bytes) = file_header(tensors)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&header);
    let mut entries = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let values = tensor.values(state);
        hasher.update(bytemuck::cast_slice(values));
        let digest = values_digest(values);
        entries.push(TensorEntry { name: tensor.name.clone(), shape: tensor.shape.clone(), digest });
    }
    let name = names::tensors_file(group, part, parts);
    Ok(FileEntry { name, group, bytes, digest: hasher.finalize().into(), tensors: entries })
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

/// An object being written: hashed, and sent in chunks. Small ones go in one request.
struct Upload<'a> {
    store: &'a dyn ObjectStore,
    path: Path,
    hasher: blake3::Hasher,
    chunk: Vec<u8>,
    multipart: Option<Box<dyn MultipartUpload>>,
    sending: JoinSet<object_store::Result<()>>,
}

impl<'a> Upload<'a> {
    async fn start(store: &'a dyn ObjectStore, path: Path, bytes: u64) -> object_store::Result<Self> {
        let is_small = bytes <= CHUNK_BYTES as u64;
        let multipart = if is_small { None } else { Some(store.put_multipart(&path).await?) };
        let chunk = Vec::with_capacity(CHUNK_BYTES.min(bytes as usize));
        Ok(Self { store, path, hasher: blake3::Hasher::new(), chunk, multipart, sending: JoinSet::new() })
    }

    async fn write(&mut self, mut bytes: &[u8]) -> object_store::Result<()> {
        self.hasher.update(bytes);
        while !bytes.is_empty() {
            if self.chunk.len() == CHUNK_BYTES {
                self.send().await?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    async fn send(&mut self) -> object_store::Result<()> {
        let Some(multipart) = &mut self.multipart else { return Ok(()) };
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
        self.sending.spawn(multipart.put_part(PutPayload::from(chunk)));
        self.wait_below(CHUNKS_MAX).await
    }

    async fn wait_below(&mut self, count: usize) -> object_store::Result<()> {
        while self.sending.len() >= count {
            match self.sending.join_next().await {
                Some(sent) => sent??,
                None => break,
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> object_store::Result<()> {
        if self.multipart.is_some() {
            self.send().await?;
        }
        self.wait_below(1).await
    }

    /// Makes the object appear, and says which digest its bytes have.
    async fn complete(mut self) -> object_store::Result<Digest> {
        match &mut self.multipart {
            Some(multipart) => {
                if let Err(error) = multipart.complete().await {
                    return Err(self.abort(error).await);
                }
            }
            None => {
                let bytes = Bytes::from(std::mem::take(&mut self.chunk));
                self.store.put(&self.path, PutPayload::from(bytes)).await?;
            }
        }
        Ok(self.hasher.finalize().into())
    }

    /// Frees what was sent. The error that led here is the one to report, whatever becomes of that.
    async fn abort(mut self, error: object_store::Error) -> object_store::Error {
        self.sending.shutdown().await;
        if let Some(multipart) = &mut self.multipart
            && let Err(failed) = multipart.abort().await
        {
            tracing::debug!(path = %self.path, %failed, "abort an upload");
        }
        error
    }
}
