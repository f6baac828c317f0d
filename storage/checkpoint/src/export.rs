//! One file of a model for serving: all tensors of the group `model` in one safetensors file, whatever number of
//! parts they were saved in.

use crate::error::CheckpointError;
use crate::folder::RunFolder;
use crate::manifest::{FileEntry, Manifest, TensorEntry};
use crate::pull::{Partial, PullProgress};
use crate::tensor::Group;
use safetensors::tensor::{Metadata, TensorInfo};
use std::collections::HashMap;
use std::path::Path;

impl RunFolder {
    /// Writes the model of `step` as the file `dest`, tensors by name, each checked on the way. The file appears when
    /// it is whole; its header names job, step and state digest.
    ///
    /// # Errors
    /// As [`read_manifest`](Self::read_manifest), and [`CheckpointError::Damaged`]; [`CheckpointError::Full`] and
    /// [`CheckpointError::Io`] name the local file.
    pub async fn export_model(
        &self,
        step: u64,
        dest: &Path,
        mut progress: impl FnMut(PullProgress<'_>),
    ) -> Result<Manifest, CheckpointError> {
        let manifest = self.read_manifest(step).await?;
        let mut tensors: Vec<(&FileEntry, &TensorEntry)> = Vec::new();
        for file in manifest.files.iter().filter(|file| file.group == Group::Model) {
            tensors.extend(file.tensors.iter().map(|tensor| (file, tensor)));
        }
        tensors.sort_by_key(|(_, tensor)| &tensor.name);

        let (header, total_bytes) = header(&manifest, &tensors);
        let mut partial = Partial::create(dest, total_bytes).await?;
        partial.write(&header).await?;
        let mut done_bytes = header.len() as u64;
        for (file, tensor) in tensors {
            let mut values = self.tensor(&manifest, file, tensor);
            while let Some(chunk) = values.next().await? {
                partial.write(&chunk).await?;
                done_bytes += chunk.len() as u64;
                progress(PullProgress { file: &file.name, done_bytes, total_bytes });
            }
        }
        partial.publish().await?;
        Ok(manifest)
    }
}

/// The head of the file, its length field included, and the size of the whole file.
fn header(manifest: &Manifest, tensors: &[(&FileEntry, &TensorEntry)]) -> (Vec<u8>, u64) {
    let mut end = 0;
    let infos = tensors.iter().map(|(_, tensor)| {
        let start = end;
        end += usize::try_from(tensor.bytes().expect("a parsed manifest has possible shapes"))
            .expect("the address space holds a model");
        let shape = tensor.shape.clone();
        (tensor.name.clone(), TensorInfo { dtype: safetensors::Dtype::F32, shape, data_offsets: (start, end) })
    });
    let infos = infos.collect();
    let words = HashMap::from([
        // Loaders of the Python ecosystem refuse a file that doesn't name its tensors' convention.
        ("format".to_owned(), "pt".to_owned()),
        ("job".to_owned(), manifest.job.clone()),
        ("step".to_owned(), manifest.step.to_string()),
        ("state_digest".to_owned(), manifest.state_digest.to_string()),
    ]);
    let metadata = Metadata::new(Some(words), infos).expect("a parsed manifest makes a valid header");
    let mut json = serde_json::to_vec(&metadata).expect("a header is plain data");
    // The values start at a multiple of 8 bytes, so that readers can map them.
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.append(&mut json);
    let bytes = (header.len() + end) as u64;
    (header, bytes)
}
