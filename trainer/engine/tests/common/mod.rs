//! Small data sets made on the spot, jobs on them, and a round as workers would run it.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::cell::Cell;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;
use tempfile::TempDir;
use trainctl_checkpoint::state_digest;
use trainctl_data::{Dataset, Manifest, PinOptions, Shape, TargetKind, pin};
use trainctl_jobs::JobSpec;
use trainer_engine::{Device, Engine, Evaluation};

pub(crate) const SHARDS: u32 = 8;

/// A job and its data in a temporary folder. The same name gives the same bytes in every process.
pub(crate) struct Fixture {
    pub(crate) spec: JobSpec,
    manifest: Manifest,
    folder: TempDir,
}

impl Fixture {
    /// `mlp`, `convnet`, `gpt`, each also with `-bf16` after it, `mse`, or a file of `tests/modules`.
    pub(crate) fn new(name: &str) -> Self {
        let (model, compute) = match name.strip_suffix("-bf16") {
            Some(model) => (model, "bf16"),
            None => (name, "fp32"),
        };
        let folder = tempfile::tempdir().expect("make a folder");
        let (manifest, model, loss) = match model {
            "mlp" => (
                digits(folder.path(), None),
                r#"{"kind": "mlp", "hidden": [48, 20], "dropout": 0.1}"#.to_owned(),
                "cross-entropy",
            ),
            "convnet" => (
                digits(folder.path(), Some(Shape(vec![1, 8, 8]))),
                r#"{"kind": "convnet", "channels": [7, 12], "dropout": 0.25}"#.to_owned(),
                "cross-entropy",
            ),
            "gpt" => (
                text(folder.path()),
                r#"{"kind": "gpt", "layers": 2, "heads": 3, "width": 36, "context": 20, "dropout": 0.1}"#.to_owned(),
                "cross-entropy",
            ),
            "mse" => (line(folder.path()), r#"{"kind": "mlp", "hidden": [16]}"#.to_owned(), "mse"),
            "text.pt" => (text(folder.path()), module(model, r#", "context": 20"#), "cross-entropy"),
            "number.pt" => (line(folder.path()), module(model, ""), "mse"),
            name if Path::new(name).extension().is_some() => {
                (digits(folder.path(), None), module(name, ""), "cross-entropy")
            }
            other => panic!("no fixture is named {other}"),
        };
        Self::of(folder, manifest, &model, loss, compute)
    }

    /// A file of `tests/modules` on the tests' text.
    pub(crate) fn of_text(file: &str) -> Self {
        let folder = tempfile::tempdir().expect("make a folder");
        let manifest = text(folder.path());
        Self::of(folder, manifest, &module(file, r#", "context": 20"#), "cross-entropy", "fp32")
    }

    fn of(folder: TempDir, manifest: Manifest, model: &str, loss: &str, compute: &str) -> Self {
        let spec = format!(
            r#"{{"name": "fixture", "data": {{"manifest": "unused", "digest": "unused"}}, "model": {model},
                "train": {{"seed": 7, "steps": 60, "global_batch": {}, "logical_shards": {SHARDS}, "loss": "{loss}",
                           "optimizer": {{"kind": "adamw", "lr": 0.01, "weight_decay": 0.01}},
                           "schedule": {{"kind": "cosine", "warmup_steps": 5}},
                           "clip_norm": 1.0, "compute": "{compute}"}}}}"#,
            13 * SHARDS
        );
        Self { spec: serde_json::from_str(&spec).expect("a fixture's spec"), manifest, folder }
    }

    /// Where its data is.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The data, read anew.
    pub(crate) fn data(&self) -> Dataset {
        Dataset::open(&self.manifest, Path::new("/")).expect("open the data")
    }

    /// An engine in its first state.
    pub(crate) fn engine(&self) -> Engine {
        Engine::new(&self.spec, self.data(), Device::Cpu).expect("make an engine")
    }
}

fn pinned(folder: &Path, file: &str, content: &str, options: &PinOptions) -> Manifest {
    let path = folder.join(file);
    std::fs::write(&path, content).expect("write the data");
    pin(path.to_str().expect("a plain path"), options).expect("pin the data")
}

/// Where the modules are that `tests/modules/export.py` made.
pub(crate) fn module_path(file: &str) -> String {
    format!("{}/tests/modules/{file}", env!("CARGO_MANIFEST_DIR"))
}

/// A model of the user's.
fn module(file: &str, more: &str) -> String {
    let path = module_path(file);
    let digest = blake3::hash(&std::fs::read(&path).expect("read the module")).to_hex();
    format!(r#"{{"kind": "torchscript", "path": "{path}", "digest": "blake3:{digest}"{more}}}"#)
}

/// A generator for data only: what it gives need not be good, just the same everywhere.
fn pseudo(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// 400 noisy 8x8 images of four patterns.
fn digits(folder: &Path, shape: Option<Shape>) -> Manifest {
    let mut state = 1;
    let mut csv = String::new();
    for _ in 0..400 {
        let class = pseudo(&mut state) % 4;
        for pixel in 0..64 {
            let (row, column) = (pixel / 8, pixel % 8);
            let lit = [row % 2 == 0, column % 2 == 0, row == column, row > column][class as usize];
            let value = u64::from(lit) * 8 + pseudo(&mut state) % 8;
            write!(csv, "{value},").expect("write to memory");
        }
        writeln!(csv, "{class}").expect("write to memory");
    }
    let options = PinOptions { scale: Some("1/16".parse().expect("a scale")), shape, ..PinOptions::default() };
    pinned(folder, "digits.csv", &csv, &options)
}

/// 300 points of a plane with a little noise.
fn line(folder: &Path) -> Manifest {
    let mut state = 2;
    let mut csv = String::new();
    for _ in 0..300 {
        let mut at = || pseudo(&mut state) as f64 % 1000.0 / 500.0 - 1.0;
        let (x, y, noise) = (at(), at(), at() * 0.01);
        writeln!(csv, "{x},{y},{}", 0.5 * x - 0.25 * y + 0.1 + noise).expect("write to memory");
    }
    let options = PinOptions { kind: Some(TargetKind::Number), ..PinOptions::default() };
    pinned(folder, "line.csv", &csv, &options)
}

/// Images whose target is taken for a number.
pub(crate) fn numbers_of_64_features(folder: &Path) -> Dataset {
    let row = |i: u32| (0..65).map(|k| (i * 7 + k).to_string()).collect::<Vec<_>>().join(",");
    let csv: String = (0..200).map(|i| row(i) + "\n").collect();
    let options = PinOptions { kind: Some(TargetKind::Number), ..PinOptions::default() };
    Dataset::open(&pinned(folder, "numbers.csv", &csv, &options), Path::new("/")).expect("open the data")
}

/// 20 kB of words.
fn text(folder: &Path) -> Manifest {
    let words = ["spot", "shard", "step", "tree", "worker", "drain", "state", "seed"];
    let mut state = 3;
    let mut text = String::new();
    while text.len() < 20_000 {
        text.push_str(words[pseudo(&mut state) as usize % words.len()]);
        text.push(' ');
    }
    pinned(folder, "words.txt", &text, &PinOptions::default())
}

/// The bits of a vector: NaNs and signs of zero count.
pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// A vector as the engine writes it.
pub(crate) fn cells(vector: &mut [f32]) -> &[Cell<f32>] {
    Cell::from_mut(vector).as_slice_of_cells()
}

/// One shard's vector, from memory that held something else.
pub(crate) fn vector(engine: &mut Engine, step: u64, shard: u32) -> Vec<f32> {
    let mut out = vec![f32::NAN; engine.train_len()];
    engine.train_shard(step, shard, cells(&mut out), &mut |_| {}).expect("train a shard");
    out
}

/// Sums vectors in a binary tree over their index.
pub(crate) fn tree_sum(mut vectors: Vec<Vec<f32>>) -> Vec<f32> {
    while vectors.len() > 1 {
        let mut next = Vec::new();
        let mut pairs = vectors.into_iter();
        while let Some(mut left) = pairs.next() {
            if let Some(right) = pairs.next() {
                left.iter_mut().zip(right).for_each(|(left, right)| *left += right);
            }
            next.push(left);
        }
        vectors = next;
    }
    vectors.pop().expect("at least one vector")
}

/// Trains the updates `steps`; `backwards` computes the shards from the last to the first.
pub(crate) fn train(engine: &mut Engine, steps: Range<u64>, backwards: bool) -> f32 {
    train_shards(engine, SHARDS, steps, backwards)
}

/// The same for any number of shards.
pub(crate) fn train_shards(engine: &mut Engine, shards: u32, steps: Range<u64>, backwards: bool) -> f32 {
    let mut loss = f32::NAN;
    for step in steps {
        let mut vectors = vec![Vec::new(); shards as usize];
        let mut order: Vec<u32> = (0..shards).collect();
        if backwards {
            order.reverse();
        }
        for shard in order {
            vectors[shard as usize] = vector(engine, step, shard);
        }
        loss = engine.apply(step, &tree_sum(vectors)).expect("apply the sum").loss;
    }
    loss
}

/// Evaluates the held-out samples.
pub(crate) fn evaluate(engine: &mut Engine) -> Evaluation {
    evaluate_shards(engine, SHARDS)
}

/// The same for any number of shards.
pub(crate) fn evaluate_shards(engine: &mut Engine, shards: u32) -> Evaluation {
    let vectors = (0..shards).map(|shard| {
        let mut out = vec![f32::NAN; engine.eval_len()];
        engine.eval_shard(shard, cells(&mut out)).expect("evaluate a shard");
        out
    });
    let sum = tree_sum(vectors.collect());
    engine.evaluation(&sum).expect("a finite loss").expect("samples are held out")
}

/// As checkpoints digest it.
pub(crate) fn digest(engine: &Engine, step: u64) -> String {
    state_digest(engine.tensors(), engine.state(), step).to_string()
}

const RESULT: &str = "RESULT ";

/// In the child: hands a line to the parent.
pub(crate) fn report(result: &str) {
    use std::io::Write;
    writeln!(std::io::stdout(), "\n{RESULT}{result}").expect("write to the parent");
}

/// Runs one ignored test of this binary in a process of its own and returns what it reported.
pub(crate) fn in_another_process(test: &str, variables: &[(&str, &str)]) -> String {
    let output = std::process::Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .envs(variables.iter().copied())
        .output()
        .expect("run this binary");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let line = text.lines().find_map(|line| line.strip_prefix(RESULT));
    line.unwrap_or_else(|| panic!("{test} reported nothing:\n{text}")).to_owned()
}
