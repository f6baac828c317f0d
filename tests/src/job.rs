//! Small jobs on the digits that the repository holds.

use crate::programs::program;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A job file to be.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// Body of `[model]`.
    pub model: String,
    /// Updates.
    pub steps: u64,
    /// How many workers, least and most.
    pub workers: (u32, u32),
    /// Body of `[checkpoint]` beside the root.
    pub checkpoint: String,
    /// Further lines of `[train]`.
    pub train: String,
    /// Further lines of `[resources]`.
    pub resources: String,
    /// Where checkpoints go.
    pub root: PathBuf,
}

/// The repository's folder.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap_or_default()
}

impl Job {
    /// A convnet with BatchNorm and dropout, so that buffers and random numbers matter, over 8 logical shards.
    #[must_use]
    pub fn convnet(name: &str, root: &Path) -> Self {
        Self {
            name: name.to_owned(),
            model: "kind = \"convnet\"\nchannels = [8]\ndropout = 0.2".to_owned(),
            steps: 60,
            workers: (1, 4),
            checkpoint: "every = \"20 steps\"".to_owned(),
            train: "eval_every = 25".to_owned(),
            resources: String::new(),
            root: root.to_owned(),
        }
    }

    /// The job file.
    #[must_use]
    pub fn toml(&self) -> String {
        self.toml_for(&repository().join("jobs/data/digits.manifest.json"))
    }

    /// The job file for another data set's manifest.
    ///
    /// # Panics
    /// When `trainctl` can't read it.
    #[must_use]
    pub fn toml_for(&self, manifest: &Path) -> String {
        let shown = Command::new(program("trainctl")).args(["--output", "json", "data", "show"]).arg(manifest).output();
        let json: Option<Value> = shown.ok().and_then(|out| serde_json::from_slice(&out.stdout).ok());
        let digest = json.as_ref().and_then(|json| json["digest"].as_str());
        self.toml_with(manifest, digest.unwrap_or_else(|| panic!("no digest for {}", manifest.display())))
    }

    /// The job file for this manifest and digest.
    #[must_use]
    pub fn toml_with(&self, manifest: &Path, digest: &str) -> String {
        let Self { name, model, steps, workers: (min, max), checkpoint, train, resources, root } = self;
        let mut text = format!("name = \"{name}\"\n[data]\nmanifest = {manifest:?}\ndigest = \"{digest}\"\n");
        let _ = write!(text, "[model]\n{model}\n[train]\nseed = 7\nsteps = {steps}\nglobal_batch = 64\n");
        let _ = write!(text, "logical_shards = 8\noptimizer = {{ kind = \"adamw\", lr = 1e-3 }}\n{train}\n");
        let _ = write!(
            text,
            "[resources]\nworkers = {{ min = {min}, max = {max} }}\npools = [\"local-spot\"]\n{resources}\n"
        );
        let _ = write!(text, "[checkpoint]\nroot = \"file://{}\"\n{checkpoint}\n", root.display());
        text
    }
}
