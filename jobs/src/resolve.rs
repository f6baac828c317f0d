//! What only the data set and the place of the job file can tell: absolute paths, steps from epochs, and whether the
//! model fits the data. The caller reads the manifest; here is decided what must hold of it.

use crate::error::{SpecError, SpecErrors};
use crate::spec::{JobSpec, LossSpec, ModelSpec};
use std::path::{Path, PathBuf};

/// A data set, as far as a job depends on it.
#[derive(Clone, PartialEq, Debug)]
pub struct DataFacts {
    /// Where the manifest is: an absolute path or a URI.
    pub manifest: String,
    /// Of the manifest's bytes, `blake3:...`.
    pub digest: String,
    /// Samples to train on, with `data.held_out` kept back. For text, a sample is a window of the model's context.
    pub train_samples: u64,
    /// Of one sample; images are channels, height, width. Empty for text.
    pub sample_shape: Vec<u32>,
    /// What is to be learned.
    pub target: TargetFacts,
}

/// What a data set's target is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TargetFacts {
    /// One of so many classes.
    Classes(u32),
    /// A number.
    Number,
    /// The byte after each byte of a text.
    NextByte,
}

impl TargetFacts {
    fn describe(self) -> String {
        match self {
            Self::Classes(classes) => format!("a data set of {classes} classes"),
            Self::Number => "a data set whose target is a number".to_owned(),
            Self::NextByte => "a text".to_owned(),
        }
    }
}

impl JobSpec {
    /// Where the data manifest is: a URI as it stands; a path relative to the job file's folder, or else to the
    /// current directory, made absolute.
    ///
    /// # Errors
    /// [`SpecErrors`] with both places when it is in neither.
    pub fn find_manifest(&self, job_folder: &Path, current: &Path) -> Result<String, SpecErrors> {
        if self.data.manifest.contains("://") {
            return Ok(self.data.manifest.clone());
        }
        let hint = "`trainctl data pin` writes one; a relative path starts at the job file's folder";
        let found = find(&self.data.manifest, job_folder, current);
        found.map(|path| path.display().to_string()).map_err(|found| {
            self.wrong(vec![problem("data.manifest", "a manifest".to_owned(), found, Some(hint.to_owned()))])
        })
    }

    /// Where the file of the job's own model is, looked for like the manifest; `None` for the built-in models.
    ///
    /// # Errors
    /// [`SpecErrors`] with both places when it is in neither.
    pub fn find_model(&self, job_folder: &Path, current: &Path) -> Result<Option<PathBuf>, SpecErrors> {
        let ModelSpec::Torchscript { path, .. } = &self.model else { return Ok(None) };
        let hint = "export the module with torch.jit.script; a relative path starts at the job file's folder";
        find(path, job_folder, current).map(Some).map_err(|found| {
            self.wrong(vec![problem("model.path", "a TorchScript file".to_owned(), found, Some(hint.to_owned()))])
        })
    }

    /// The job with the place of its own model made absolute. `digest` is of the file's bytes.
    ///
    /// # Errors
    /// [`SpecErrors`] when it is not the digest that the job names.
    pub fn pin_model(mut self, file: &Path, digest: &str) -> Result<Self, SpecErrors> {
        let ModelSpec::Torchscript { path, digest: pinned, .. } = &mut self.model else { return Ok(self) };
        if pinned == digest {
            *path = file.display().to_string();
            return Ok(self);
        }
        let wrong = problem(
            "model.digest",
            format!("{digest}, the digest of {}", file.display()),
            pinned.clone(),
            Some("take the new digest if you know why the model changed; else restore the file".to_owned()),
        );
        Err(self.wrong(vec![wrong]))
    }

    /// The job as the coordinator takes it: paths absolute, `steps` set and `epochs` not.
    ///
    /// # Errors
    /// [`SpecErrors`] with all that does not fit the data set. [`SpecErrors::locate`] puts places to them.
    pub fn resolve(mut self, job_folder: &Path, data: &DataFacts) -> Result<Self, SpecErrors> {
        let mut problems = Vec::new();
        if self.data.digest != data.digest {
            problems.push(problem(
                "data.digest",
                format!("{}, the digest of {}", data.digest, data.manifest),
                self.data.digest.clone(),
                Some("take the new digest if you know why the data changed; else restore the manifest".to_owned()),
            ));
        }
        if data.train_samples == 0 {
            let hint = Some("hold fewer samples out, or pin more data".to_owned());
            problems.push(problem("data.held_out", "samples left to train on".to_owned(), "none".to_owned(), hint));
        }
        problems.extend(self.misfit(data));
        if let Some(epochs) = self.train.epochs.take() {
            let steps = steps_of(epochs, data.train_samples, self.train.global_batch);
            self.train.steps = Some(steps);
            let warmup_steps = self.train.schedule.warmup_steps();
            if warmup_steps > steps {
                let expected = format!("at most {steps}, the steps of {epochs} epochs");
                problems.push(problem("train.schedule.warmup_steps", expected, warmup_steps.to_string(), None));
            }
        }
        self.data.manifest.clone_from(&data.manifest);
        if let Some(root) = self.checkpoint.root.as_mut().filter(|root| !root.contains("://")) {
            match std::path::absolute(job_folder.join(&*root)) {
                Ok(path) => *root = path.display().to_string(),
                Err(error) => {
                    problems.push(problem("checkpoint.root", "a folder".to_owned(), error.to_string(), None));
                }
            }
        }
        if problems.is_empty() { Ok(self) } else { Err(self.wrong(problems)) }
    }

    fn wrong(&self, errors: Vec<SpecError>) -> SpecErrors {
        SpecErrors { source_name: format!("job {:?}", self.name), errors }
    }

    /// Where model, loss and data set contradict each other.
    fn misfit(&self, data: &DataFacts) -> Vec<SpecError> {
        let mut problems = Vec::new();
        let is_text = data.target == TargetFacts::NextByte;
        match &self.model {
            ModelSpec::Gpt { .. } if !is_text => {
                let hint = Some("kind = \"mlp\" or \"convnet\" learns from tables and images".to_owned());
                problems.push(problem("model.kind", "a text for a gpt".to_owned(), data.target.describe(), hint));
            }
            ModelSpec::Mlp { .. } | ModelSpec::Convnet { .. } if is_text => {
                let hint = Some("kind = \"gpt\" learns from text".to_owned());
                problems.push(problem("model.kind", "features and targets".to_owned(), "a text".to_owned(), hint));
            }
            ModelSpec::Convnet { channels, .. } => problems.extend(image_misfit(channels.len(), &data.sample_shape)),
            ModelSpec::Torchscript { context: None, .. } if is_text => {
                let expected = "how many bytes of text the module sees at a time".to_owned();
                let hint = Some("such as context = 64".to_owned());
                problems.push(problem("model.context", expected, "none".to_owned(), hint));
            }
            ModelSpec::Torchscript { context: Some(context), .. } if !is_text => {
                let expected = format!("no such key for {}", data.target.describe());
                problems.push(problem("model.context", expected, context.to_string(), Some("remove it".to_owned())));
            }
            ModelSpec::Mlp { .. } | ModelSpec::Gpt { .. } | ModelSpec::Torchscript { .. } => {}
        }
        let loss = match (self.train.loss, data.target) {
            (LossSpec::CrossEntropy, TargetFacts::Number) => Some(("\"mse\"", "\"cross-entropy\"")),
            (LossSpec::Mse, TargetFacts::Classes(_)) => Some(("\"cross-entropy\"", "\"mse\"")),
            _ => None,
        };
        if let Some((right, wrong)) = loss {
            let expected = format!("{right} for {}", data.target.describe());
            problems.push(problem("train.loss", expected, wrong.to_owned(), None));
        }
        problems
    }
}

/// An existing file: relative to the job file's folder, or else to the current directory. Fails with the places that
/// were tried.
fn find(named: &str, job_folder: &Path, current: &Path) -> Result<PathBuf, String> {
    let named = Path::new(named.strip_prefix("file://").unwrap_or(named));
    let mut tried = vec![current.join(job_folder).join(named), current.join(named)];
    tried.dedup();
    if let Some(found) = tried.iter().find(|path| path.is_file()) {
        return Ok(found.components().collect());
    }
    let tried: Vec<String> = tried.iter().map(|path| path.display().to_string()).collect();
    Err(format!("none at {}", tried.join(" or ")))
}

impl ModelSpec {
    /// As `model.kind` has it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Mlp { .. } => "mlp",
            Self::Convnet { .. } => "convnet",
            Self::Gpt { .. } => "gpt",
            Self::Torchscript { .. } => "torchscript",
        }
    }

    /// How many bytes of text it sees at a time; absent where it does not learn from text.
    #[must_use]
    pub fn context(&self) -> Option<u32> {
        match self {
            Self::Gpt { context, .. } => Some(*context),
            Self::Torchscript { context, .. } => *context,
            Self::Mlp { .. } | Self::Convnet { .. } => None,
        }
    }
}

/// Each block of a convnet halves height and width, and something must be left.
fn image_misfit(blocks: usize, shape: &[u32]) -> Option<SpecError> {
    let [_, height, width] = *shape else {
        let hint = Some("pin the data with a shape such as 1x8x8".to_owned());
        let expected = "samples of channels, height, width for a convnet".to_owned();
        return Some(problem("model.kind", expected, format!("samples of shape {shape:?}"), hint));
    };
    let blocks_max = height.min(width).max(1).ilog2() as usize;
    (blocks > blocks_max).then(|| {
        let expected = format!("at most {blocks_max} blocks, as each halves the {height}x{width} image");
        problem("model.channels", expected, blocks.to_string(), None)
    })
}

/// The fewest steps that see each sample `epochs` times; at least one.
fn steps_of(epochs: f64, train_samples: u64, global_batch: u32) -> u64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "above 0, and a run of 2^53 samples does not end"
    )]
    let steps = (epochs * train_samples as f64 / f64::from(global_batch)).ceil() as u64;
    steps.max(1)
}

fn problem(key: &str, expected: String, found: String, hint: Option<String>) -> SpecError {
    SpecError { key: key.to_owned(), place: None, expected, found, hint }
}
