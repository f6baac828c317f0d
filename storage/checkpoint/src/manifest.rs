//! `manifest.json`: what a committed checkpoint consists of. It alone says which files there must be,
//! what is in them, and which state they make.

use crate::digest::{Digest, Leaf, combine};
use crate::error::{CheckpointError, Damage};
use crate::names;
use crate::tensor::{Group, TensorInfo};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The newest manifest format that this program reads, and the one that it writes.
pub const MANIFEST_FORMAT_VERSION: u32 = 2;

/// A committed checkpoint.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_FORMAT_VERSION`] of the program that wrote it.
    pub format_version: u32,
    /// Whose state it is.
    pub job: String,
    /// Updates applied.
    pub step: u64,
    /// Training loss of the newest of them; absent before the first.
    pub loss: Option<f64>,
    /// Workers in the group that saved it.
    pub world_size: u32,
    /// The group's generation.
    pub generation: u64,
    /// Audits of the run that had passed by then: logical shards that were computed twice, to the same bits. Absent: 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub audits_passed: u64,
    /// `every 500 steps`, `drain`, `final`.
    pub why: String,
    /// [`state_digest`](crate::state_digest) of the whole state.
    pub state_digest: Digest,
    /// When it was committed, Unix milliseconds.
    pub created_ms: i64,
    /// By name.
    pub files: Vec<FileEntry>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// One safetensors file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileEntry {
    /// Beside the manifest, or in the folder of `step`.
    pub name: String,
    /// The earlier step that wrote it, if this one didn't: its tensors haven't changed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// What its tensors are.
    pub group: Group,
    /// Its size.
    pub bytes: u64,
    /// Of all its bytes.
    pub digest: Digest,
    /// In the order of the file.
    pub tensors: Vec<TensorEntry>,
}

/// One tensor in a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TensorEntry {
    /// Unique within its group, over all files.
    pub name: String,
    /// Its dimensions; empty for a scalar.
    pub shape: Vec<usize>,
    /// Of its values, little-endian f32.
    pub digest: Digest,
}

impl TensorEntry {
    /// Size of its values; `None` if no file could hold it.
    pub(crate) fn bytes(&self) -> Option<u64> {
        let elements = self.shape.iter().try_fold(1_u64, |n, &dim| n.checked_mul(dim as u64))?;
        elements.checked_mul(4)
    }
}

impl FileEntry {
    /// Relative to the manifest's folder: `../400/model-00001-of-00012.safetensors`.
    fn place(&self) -> String {
        self.step.map_or_else(|| self.name.clone(), |step| format!("../{step}/{}", self.name))
    }
}

impl Manifest {
    /// Size of all its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    /// `model.safetensors.index.json`, in which loaders of the Python ecosystem find the file of each tensor. It says
    /// nothing that the manifest doesn't.
    pub fn index_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Index<'a> {
            metadata: Metadata,
            weight_map: BTreeMap<&'a str, String>,
        }
        #[derive(Serialize)]
        struct Metadata {
            total_size: u64,
        }
        let model = || self.files.iter().filter(|file| file.group == Group::Model);
        let tensors = || model().flat_map(|file| file.tensors.iter().map(move |tensor| (tensor, file)));
        let index = Index {
            metadata: Metadata { total_size: tensors().filter_map(|(tensor, _)| tensor.bytes()).sum() },
            weight_map: tensors().map(|(tensor, file)| (tensor.name.as_str(), file.place())).collect(),
        };
        to_json(&index)
    }

    /// What this checkpoint really added: the size of the files that no earlier one had.
    pub fn added_bytes(&self) -> u64 {
        let own = self.files.iter().filter(|file| file.step.is_none());
        own.fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    /// As it is with all files beside it.
    pub(crate) fn gathered(mut self) -> Self {
        for file in &mut self.files {
            file.step = None;
        }
        self
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Parses what the store holds as `object`, for `step`, and checks all that can be checked without the files.
    pub(crate) fn parse(object: &str, bytes: &[u8], step: u64) -> Result<Self, CheckpointError> {
        let manifest: Self = parse_versioned(object, bytes, MANIFEST_FORMAT_VERSION, "a checkpoint manifest")?;
        let foreign =
            |found: String| Damage::Foreign { object: object.to_owned(), expected: "a checkpoint manifest", found };
        if manifest.step != step {
            return Err(foreign(format!("one of step {}", manifest.step)).into());
        }
        check_files(&manifest.files).map_err(foreign)?;
        if let Some(file) = manifest.files.iter().find(|file| file.step.is_some_and(|other| other >= step)) {
            return Err(foreign(format!("{} of the later step {}", file.name, file.step.unwrap_or_default())).into());
        }
        let found = files_digest(step, &manifest.files);
        if found != manifest.state_digest {
            let expected = manifest.state_digest;
            return Err(Damage::State { object: object.to_owned(), expected, found }.into());
        }
        Ok(manifest)
    }

    /// Where each of `tensors` is: for each file, the index into `tensors` of each of its tensors. Those that a checkpoint
    /// may lack ([`TensorInfo::absent`]) need not be in any.
    pub(crate) fn place(&self, object: &str, tensors: &[TensorInfo]) -> Result<Vec<Vec<usize>>, CheckpointError> {
        let absent = || "no such tensor".to_owned();
        let differs = |group, tensor: &str, expected, found| CheckpointError::Tensor {
            object: object.to_owned(),
            group,
            tensor: tensor.to_owned(),
            expected,
            found,
        };
        let mut wanted: BTreeMap<(Group, &str), usize> =
            tensors.iter().enumerate().map(|(at, tensor)| ((tensor.group, tensor.name.as_str()), at)).collect();
        let mut places = Vec::with_capacity(self.files.len());
        for file in &self.files {
            let mut place = Vec::with_capacity(file.tensors.len());
            for entry in &file.tensors {
                let found = format!("shape {:?}", entry.shape);
                let Some(at) = wanted.remove(&(file.group, entry.name.as_str())) else {
                    return Err(differs(file.group, &entry.name, absent(), found));
                };
                if tensors[at].shape != entry.shape {
                    return Err(differs(file.group, &entry.name, format!("shape {:?}", tensors[at].shape), found));
                }
                place.push(at);
            }
            places.push(place);
        }
        match wanted.into_iter().find(|(_, at)| tensors[*at].absent.is_none()) {
            None => Ok(places),
            Some(((group, name), at)) => Err(differs(group, name, format!("shape {:?}", tensors[at].shape), absent())),
        }
    }
}

/// Names that can be joined to a folder, each tensor once, sizes that can be. The error is what was found.
pub(crate) fn check_files(files: &[FileEntry]) -> Result<(), String> {
    let mut names = BTreeSet::new();
    let mut tensors = BTreeSet::new();
    for file in files {
        if !names::is_tensors_file(&file.name) {
            return Err(format!("a file named {:?}", file.name));
        }
        if !names.insert(&file.name) {
            return Err(format!("file {} twice", file.name));
        }
        let mut data_bytes = 0_u64;
        for tensor in &file.tensors {
            if !tensors.insert((file.group, &tensor.name)) {
                return Err(format!("{} tensor {:?} twice", file.group, tensor.name));
            }
            let sum = tensor.bytes().and_then(|bytes| data_bytes.checked_add(bytes));
            data_bytes = sum.filter(|&sum| sum < file.bytes).ok_or_else(|| {
                format!("tensor {:?} of shape {:?} in {} of {} bytes", tensor.name, tensor.shape, file.name, file.bytes)
            })?;
        }
    }
    Ok(())
}

/// The digest of the state that these files make.
pub(crate) fn files_digest(step: u64, files: &[FileEntry]) -> Digest {
    let leaves = files.iter().flat_map(|file| {
        file.tensors.iter().map(|tensor| Leaf {
            group: file.group,
            name: &tensor.name,
            shape: &tensor.shape,
            values: tensor.digest,
        })
    });
    combine(step, leaves.collect())
}

/// Pretty, with a final newline: people read these files too.
pub(crate) fn to_json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("structs with text keys always serialize");
    bytes.push(b'\n');
    bytes
}

/// Looks at `format_version` first: what a newer program wrote must not be called damaged.
pub(crate) fn parse_versioned<T: DeserializeOwned>(
    object: &str,
    bytes: &[u8],
    supported: u32,
    expected: &'static str,
) -> Result<T, CheckpointError> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u64,
    }
    let foreign = |error: serde_json::Error| {
        let found = if bytes.is_empty() { "an empty file".to_owned() } else { error.to_string() };
        Damage::Foreign { object: object.to_owned(), expected, found }
    };
    let Version { format_version } = serde_json::from_slice(bytes).map_err(foreign)?;
    if format_version > u64::from(supported) {
        return Err(CheckpointError::FormatVersion { object: object.to_owned(), supported, found: format_version });
    }
    Ok(serde_json::from_slice(bytes).map_err(foreign)?)
}
