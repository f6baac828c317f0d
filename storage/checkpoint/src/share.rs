//! Loading by several readers: each reads its own files and no others, and they pass on what they read among
//! themselves. So a checkpoint is read from storage once, however many load it, and nothing is passed on that was not
//! verified by its reader.

use crate::error::CheckpointError;
use crate::folder::RunFolder;
use crate::manifest::Manifest;
use crate::names;
use crate::partition::partition_by_size;
use crate::read::{FILES_MAX, split};
use crate::tensor::{TensorInfo, check_layout};
use futures::{StreamExt as _, TryStreamExt as _};
use std::ops::Range;

/// Who reads what of a checkpoint. Every reader that knows the manifest, the tensors and the number of readers has the
/// same.
#[derive(Clone, PartialEq, Debug)]
pub struct Shares {
    /// Of the checkpoint.
    pub manifest: Manifest,
    /// For each reader the indices of its files, ascending.
    files: Vec<Vec<usize>>,
    /// For each file the indices of its tensors.
    places: Vec<Vec<usize>>,
}

impl Shares {
    /// Size of a reader's files.
    ///
    /// # Panics
    /// If there is no such reader.
    pub fn bytes(&self, reader: usize) -> u64 {
        self.files[reader].iter().map(|&file| self.manifest.files[file].bytes).sum()
    }

    /// How many files a reader has.
    ///
    /// # Panics
    /// If there is no such reader.
    pub fn files(&self, reader: usize) -> usize {
        self.files[reader].len()
    }

    /// Where in the state lies what a reader reads: ranges of f32 elements, ascending, none of which touch.
    ///
    /// # Panics
    /// If there is no such reader, or `tensors` are others than those that the shares were made for.
    pub fn ranges(&self, reader: usize, tensors: &[TensorInfo]) -> Vec<Range<usize>> {
        let of_file = |&file: &usize| self.places[file].iter().map(|&at| &tensors[at]);
        let mut ranges: Vec<Range<usize>> = self.files[reader]
            .iter()
            .flat_map(of_file)
            .filter(|tensor| tensor.len > 0)
            .map(|tensor| tensor.offset..tensor.offset + tensor.len)
            .collect();
        ranges.sort_by_key(|range| range.start);
        ranges.dedup_by(|later, earlier| {
            let touches = earlier.end == later.start;
            if touches {
                earlier.end = later.end;
            }
            touches
        });
        ranges
    }
}

impl RunFolder {
    /// Splits the files of a step's checkpoint among this many readers, about as many bytes to each.
    ///
    /// # Errors
    /// As [`read_manifest`](Self::read_manifest), and [`CheckpointError::Tensor`], [`CheckpointError::Layout`].
    ///
    /// # Panics
    /// If `readers` is 0.
    pub async fn shares(&self, step: u64, tensors: &[TensorInfo], readers: usize) -> Result<Shares, CheckpointError> {
        let manifest = self.read_manifest(step).await?;
        let places = manifest.place(&self.shown(&self.step_path(step, names::MANIFEST)), tensors)?;
        let sizes: Vec<usize> =
            manifest.files.iter().map(|file| usize::try_from(file.bytes).unwrap_or(usize::MAX)).collect();
        Ok(Shares { files: partition_by_size(&sizes, readers), places, manifest })
    }

    /// Reads one reader's share into `out`, verified. Tensors that the checkpoint may lack and does get their values of
    /// [`TensorInfo::absent`], for every reader. Other elements are left as they are.
    ///
    /// # Errors
    /// [`CheckpointError::Damaged`], [`CheckpointError::Io`], [`CheckpointError::Layout`]. What `out` holds then is
    /// unspecified.
    ///
    /// # Panics
    /// If there is no such reader, or `tensors` are others than those that the shares were made for.
    pub async fn load_share(
        &self,
        shares: &Shares,
        reader: usize,
        tensors: &[TensorInfo],
        out: &mut [f32],
    ) -> Result<(), CheckpointError> {
        check_layout(tensors, out.len())?;
        let mut values = split(tensors, out);
        let mut present = vec![false; tensors.len()];
        shares.places.iter().flatten().for_each(|&at| present[at] = true);
        for (at, tensor) in tensors.iter().enumerate().filter(|(at, _)| !present[*at]) {
            if let Some(bits) = &tensor.absent {
                values[at].copy_from_slice(bytemuck::cast_slice(bits));
            }
        }
        let mut reads = Vec::with_capacity(shares.files[reader].len());
        for &at in &shares.files[reader] {
            let (file, place) = (&shares.manifest.files[at], &shares.places[at]);
            let mut values: Vec<&mut [u8]> = place.iter().map(|&at| std::mem::take(&mut values[at])).collect();
            reads.push(self.read_file(shares.manifest.step, file, move |at, from, bytes| {
                values[at][from..from + bytes.len()].copy_from_slice(bytes);
            }));
        }
        futures::stream::iter(reads).buffer_unordered(FILES_MAX).try_collect().await
    }
}
