//! The jobs that are measured. Time does not depend on what the samples are, so they are made up.

use std::fmt::Write as _;
use tempfile::TempDir;
use trainctl_data::{Dataset, Manifest, PinOptions, Shape, pin};
use trainctl_jobs::JobSpec;

/// A job and its data.
pub(crate) struct Job {
    pub(crate) name: &'static str,
    pub(crate) spec: JobSpec,
    manifest: Manifest,
    _folder: TempDir,
}

impl Job {
    /// The data, read anew.
    pub(crate) fn open(&self) -> Dataset {
        Dataset::open(&self.manifest, std::path::Path::new("/")).expect("open the data")
    }
}

/// The digits job's model and batch, MNIST's, and a small gpt.
pub(crate) fn all() -> [Job; 3] {
    [
        job("mlp", r#"{"kind": "mlp", "hidden": [128, 64], "dropout": 0.2}"#, 256, images(1797, 8)),
        job("convnet", r#"{"kind": "convnet", "channels": [16, 32], "dropout": 0.2}"#, 128, images(2000, 28)),
        job(
            "gpt",
            r#"{"kind": "gpt", "layers": 2, "heads": 4, "width": 128, "context": 64, "dropout": 0.1}"#,
            32,
            ("text.txt", text(200_000), PinOptions::default()),
        ),
    ]
}

fn job(name: &'static str, model: &str, global_batch: u32, data: (&str, String, PinOptions)) -> Job {
    let (file, content, options) = data;
    let folder = tempfile::tempdir().expect("make a folder");
    let path = folder.path().join(file);
    std::fs::write(&path, content).expect("write the data");
    let manifest = pin(path.to_str().expect("a plain path"), &options).expect("pin the data");
    let spec = format!(
        r#"{{"name": "{name}", "data": {{"manifest": "unused", "digest": "unused"}}, "model": {model},
            "train": {{"seed": 1, "steps": 1000000, "global_batch": {global_batch}, "logical_shards": 8,
                       "optimizer": {{"kind": "adamw", "lr": 1e-3, "weight_decay": 0.01}}}}}}"#
    );
    Job { name, spec: serde_json::from_str(&spec).expect("a job spec"), manifest, _folder: folder }
}

fn images(count: u32, side: u32) -> (&'static str, String, PinOptions) {
    let mut csv = String::new();
    for image in 0..count {
        for pixel in 0..side * side {
            write!(csv, "{},", (image * 31 + pixel * 17) % 29).expect("write to memory");
        }
        writeln!(csv, "{}", image % 10).expect("write to memory");
    }
    ("images.csv", csv, PinOptions { shape: Some(Shape(vec![1, side, side])), ..PinOptions::default() })
}

fn text(len: usize) -> String {
    (0..len).map(|i| char::from(b'a' + (i * i % 26) as u8)).collect()
}
