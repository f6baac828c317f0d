//! Reading checkpoints. Every byte is checked against the manifest while it is read, in bounded memory.

use crate::digest::Digest;
use crate::error::{CheckpointError, Damage};
use crate::folder::RunFolder;
use crate::manifest::{FileEntry, Manifest};
use crate::names;
use crate::tensor::{TensorInfo, check_layout};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use safetensors::tensor::Metadata;

/// Files read at a time; each has two requests of 4 MiB under way.
pub(crate) const FILES_MAX: usize = 6;

/// What [`RunFolder::load_newest`] loaded.
#[derive(Debug)]
pub struct Loaded {
    /// Of the checkpoint loaded.
    pub manifest: Manifest,
    /// The newer checkpoints that could not be loaded, newest first.
    pub skipped: Vec<Skipped>,
}

/// A checkpoint that could not be loaded.
#[derive(Debug)]
pub struct Skipped {
    /// Its step.
    pub step: u64,
    /// Why.
    pub reason: CheckpointError,
}

impl RunFolder {
    /// Reads all of a step's checkpoint: that every file is there, has its size and digest, holds the tensors that the
    /// manifest says, and that loaders which go by the index find them.
    ///
    /// # Errors
    /// As [`read_manifest`](Self::read_manifest), and [`CheckpointError::Damaged`] with the first thing wrong.
    pub async fn verify(&self, step: u64) -> Result<Manifest, CheckpointError> {
        let manifest = self.read_files(step).await?;
        let path = self.step_path(step, names::INDEX);
        let expected = manifest.index_json();
        let Some(found) = self.get(&path).await? else {
            return Err(Damage::Missing { object: self.shown(&path), expected_bytes: expected.len() as u64 }.into());
        };
        if found != expected {
            let (expected, found) = (Digest::of(&expected), Digest::of(&found));
            return Err(Damage::Digest { object: self.shown(&path), expected, found }.into());
        }
        Ok(manifest)
    }

    /// Loads a step's checkpoint into `out`. Elements between tensors are left as they are.
    ///
    /// # Errors
    /// As [`read_manifest`](Self::read_manifest), and [`CheckpointError::Damaged`], [`CheckpointError::Tensor`],
    /// [`CheckpointError::Layout`]. What `out` holds then is unspecified.
    pub async fn load(&self, step: u64, tensors: &[TensorInfo], out: &mut [f32]) -> Result<Manifest, CheckpointError> {
        check_layout(tensors, out.len())?;
        let shares = self.shares(step, tensors, 1).await?;
        self.load_share(&shares, 0, tensors, out).await?;
        Ok(shares.manifest)
    }

    /// Loads the newest checkpoint that is whole. `None` if no step was ever committed; `out` is untouched then.
    ///
    /// # Errors
    /// [`CheckpointError::NoneWhole`] if there are checkpoints and none can be loaded: what `out` holds is
    /// unspecified, and starting over is for the caller to decide. [`CheckpointError::Io`] if the steps can't be
    /// listed, [`CheckpointError::Layout`].
    pub async fn load_newest(
        &self,
        tensors: &[TensorInfo],
        out: &mut [f32],
    ) -> Result<Option<Loaded>, CheckpointError> {
        check_layout(tensors, out.len())?;
        let mut skipped: Vec<Skipped> = Vec::new();
        loop {
            // A worker that goes on saving may prune what was listed before it could be read; then there is a newer one.
            let newest_seen = skipped.first().map(|skipped| skipped.step);
            let mut steps = self.steps().await?;
            steps.retain(|&step| newest_seen.is_none_or(|seen| step > seen));
            if steps.is_empty() {
                break;
            }
            let mut newer = Vec::new();
            for step in steps.into_iter().rev() {
                match self.load(step, tensors, out).await {
                    Ok(manifest) => return Ok(Some(Loaded { manifest, skipped: newer })),
                    Err(reason) => newer.push(Skipped { step, reason }),
                }
            }
            newer.append(&mut skipped);
            skipped = newer;
        }
        if skipped.is_empty() {
            return Ok(None);
        }
        Err(CheckpointError::NoneWhole { run: self.shown(&self.base), skipped })
    }

    /// Reads and checks all files of tensors, as [`load`](Self::load) does, for no state in particular.
    pub(crate) async fn read_files(&self, step: u64) -> Result<Manifest, CheckpointError> {
        let manifest = self.read_manifest(step).await?;
        let read = |file| self.read_file(step, file, |_, _, _| ());
        let reads: Vec<_> = manifest.files.iter().map(read).collect();
        futures::stream::iter(reads).buffered(FILES_MAX).try_collect::<()>().await?;
        Ok(manifest)
    }

    /// Whether a file is there and has the size that the manifest says.
    pub(crate) async fn check_size(&self, path: &Path, expected_bytes: u64) -> Result<(), CheckpointError> {
        let object = || self.shown(path);
        match self.size(path).await? {
            None => Err(Damage::Missing { object: object(), expected_bytes }.into()),
            Some(found_bytes) if found_bytes != expected_bytes => {
                Err(Damage::Size { object: object(), expected_bytes, found_bytes }.into())
            }
            Some(_) => Ok(()),
        }
    }

    /// The bytes of an object in order.
    pub(crate) fn chunks(
        &self,
        path: &Path,
        bytes: u64,
    ) -> impl Stream<Item = Result<Bytes, CheckpointError>> + Send + 'static {
        self.range(path, bytes, 0..bytes)
    }

    /// Gives `sink` the values: which tensor of the file, at which of its bytes, and the bytes.
    pub(crate) async fn read_file(
        &self,
        step: u64,
        file: &FileEntry,
        mut sink: impl FnMut(usize, usize, &[u8]),
    ) -> Result<(), CheckpointError> {
        let path = self.file_path(step, file);
        let read = async {
            self.check_size(&path, file.bytes).await?;
            let mut reader = FileReader::new(file);
            let mut chunks = self.chunks(&path, file.bytes);
            while let Some(chunk) = chunks.try_next().await? {
                reader.push(&chunk, &mut sink);
            }
            Ok(reader.finish(&self.shown(&path))?)
        };
        let read = read.await;
        match &read {
            Ok(()) => self.mark_verified([(step, file)]),
            Err(_) => self.mark_damaged(step, file),
        }
        read
    }
}

/// Takes a safetensors file apart as its bytes come in.
struct FileReader<'a> {
    file: &'a FileEntry,
    digest: blake3::Hasher,
    header: Vec<u8>,
    /// Set once the header is whole, or can't be.
    at: Option<Result<Place, String>>,
    /// A tensor whose values aren't what the manifest says, and what they are.
    differs: Option<(usize, Digest)>,
}

/// Where in the values it is.
struct Place {
    tensor: usize,
    done_bytes: usize,
    values: blake3::Hasher,
}

impl<'a> FileReader<'a> {
    fn new(file: &'a FileEntry) -> Self {
        Self { file, digest: blake3::Hasher::new(), header: Vec::new(), at: None, differs: None }
    }

    fn push(&mut self, mut bytes: &[u8], sink: &mut impl FnMut(usize, usize, &[u8])) {
        self.digest.update(bytes);
        if self.at.is_none() {
            self.push_header(&mut bytes);
        }
        if let Some(Ok(_)) = self.at {
            self.push_values(bytes, sink);
        }
    }

    fn push_header(&mut self, bytes: &mut &[u8]) {
        self.take_header(bytes, 8);
        let Some(length) = self.header.first_chunk::<8>() else { return };
        let end = u64::from_le_bytes(*length).saturating_add(8);
        if end > self.file.bytes {
            self.at = Some(Err(format!("a header that ends at byte {end} of {}", self.file.bytes)));
            return;
        }
        let end = usize::try_from(end).expect("files of a state in memory are no larger than memory");
        self.take_header(bytes, end);
        if self.header.len() == end {
            let place = || Place { tensor: 0, done_bytes: 0, values: blake3::Hasher::new() };
            self.at = Some(check_header(&self.header[8..], self.file, end).map(|()| place()));
        }
    }

    fn take_header(&mut self, bytes: &mut &[u8], end: usize) {
        let wanted = end.saturating_sub(self.header.len());
        let (now, later) = bytes.split_at(wanted.min(bytes.len()));
        self.header.extend_from_slice(now);
        *bytes = later;
    }

    fn push_values(&mut self, mut bytes: &[u8], sink: &mut impl FnMut(usize, usize, &[u8])) {
        let Some(Ok(place)) = &mut self.at else { return };
        while let Some(entry) = self.file.tensors.get(place.tensor) {
            let len = tensor_bytes(entry);
            let (now, later) = bytes.split_at(bytes.len().min(len - place.done_bytes));
            sink(place.tensor, place.done_bytes, now);
            place.values.update(now);
            place.done_bytes += now.len();
            bytes = later;
            if place.done_bytes < len {
                return;
            }
            let found = Digest::from(place.values.finalize());
            if found != entry.digest && self.differs.is_none() {
                self.differs = Some((place.tensor, found));
            }
            *place = Place { tensor: place.tensor + 1, done_bytes: 0, values: blake3::Hasher::new() };
        }
    }

    /// The digest goes first: whatever else is wrong with other bytes than were written says nothing.
    fn finish(self, object: &str) -> Result<(), Damage> {
        let found = Digest::from(self.digest.finalize());
        if found != self.file.digest {
            return Err(Damage::Digest { object: object.to_owned(), expected: self.file.digest, found });
        }
        let foreign = |found| Damage::Foreign {
            object: object.to_owned(),
            expected: "a safetensors file as in the manifest",
            found,
        };
        match self.at {
            None => return Err(foreign("a header without an end".to_owned())),
            Some(Err(found)) => return Err(foreign(found)),
            Some(Ok(place)) if place.tensor < self.file.tensors.len() => {
                return Err(foreign(format!("{} whole tensors", place.tensor)));
            }
            Some(Ok(_)) => {}
        }
        if let Some((at, found)) = self.differs {
            let entry = &self.file.tensors[at];
            let object = format!("{object}: tensor {:?}", entry.name);
            return Err(Damage::Digest { object, expected: entry.digest, found });
        }
        Ok(())
    }
}

/// The bytes of each tensor, in the order of the tensors.
pub(crate) fn split<'a>(tensors: &[TensorInfo], state: &'a mut [f32]) -> Vec<&'a mut [u8]> {
    let mut order: Vec<usize> = (0..tensors.len()).filter(|&at| tensors[at].len > 0).collect();
    order.sort_by_key(|&at| tensors[at].offset);
    let mut values: Vec<&mut [u8]> = tensors.iter().map(|_| <&mut [u8]>::default()).collect();
    let (mut rest, mut done) = (state, 0);
    for at in order {
        let TensorInfo { offset, len, .. } = tensors[at];
        let (ours, later) = std::mem::take(&mut rest)[offset - done..].split_at_mut(len);
        values[at] = bytemuck::cast_slice_mut(ours);
        (rest, done) = (later, offset + len);
    }
    values
}

fn tensor_bytes(entry: &crate::manifest::TensorEntry) -> usize {
    let bytes = entry.bytes().expect("a parsed manifest has possible shapes");
    usize::try_from(bytes).expect("files of a state in memory are no larger than memory")
}

/// Whether a header says what the manifest does. The error is what was found.
fn check_header(json: &[u8], file: &FileEntry, values_start: usize) -> Result<(), String> {
    let metadata: Metadata = serde_json::from_slice(json).map_err(|error| format!("a bad header: {error}"))?;
    let count = metadata.offset_keys().len();
    if count != file.tensors.len() {
        return Err(format!("{count} tensors instead of {}", file.tensors.len()));
    }
    let mut start = 0;
    for entry in &file.tensors {
        let end = start + tensor_bytes(entry);
        let Some(info) = metadata.info(&entry.name) else { return Err(format!("no tensor {:?}", entry.name)) };
        let is_same = info.dtype == safetensors::Dtype::F32 && info.shape == entry.shape;
        if !is_same || info.data_offsets != (start, end) {
            let found = (&info.dtype, &info.shape, info.data_offsets);
            return Err(format!("tensor {:?} as {found:?}", entry.name));
        }
        start = end;
    }
    if (values_start + start) as u64 != file.bytes {
        return Err(format!("values that end at byte {} of {}", values_start + start, file.bytes));
    }
    Ok(())
}
