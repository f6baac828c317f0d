//! The example jobs and their data: current, whole, and fit for each other.

use crate::folder::{classes, features};
use std::path::{Path, PathBuf};
use trainctl_data::{Dataset, Finding, Manifest, PinOptions, Scale, Shape, Target, manifest_digest, pin, verify};
use trainctl_jobs::{JobSpec, parse};

fn jobs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../jobs").canonicalize().unwrap()
}

fn manifest(name: &str) -> (Manifest, Vec<u8>) {
    let path = jobs().join("data").join(format!("{name}.manifest.json"));
    let bytes = std::fs::read(&path).unwrap();
    (Manifest::parse(&bytes, &path.display().to_string()).unwrap(), bytes)
}

fn open(name: &str) -> Dataset {
    Dataset::open(&manifest(name).0, &jobs().join("data")).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_manifests_are_what_pinning_writes() {
    let digits =
        PinOptions { scale: Some(Scale(1.0 / 16.0)), shape: Some(Shape(vec![1, 8, 8])), ..PinOptions::default() };
    for (name, file, options) in [
        ("digits", "digits.csv.gz", digits),
        ("mnist10k", "mnist10k-images-idx3-ubyte.gz", PinOptions::default()),
        ("shakespeare", "shakespeare.txt.gz", PinOptions::default()),
    ] {
        let mut pinned = pin(&jobs().join("data").join(file).display().to_string(), &options).unwrap();
        pinned.root = ".".to_owned();
        let (written, bytes) = manifest(name);
        assert!(
            pinned.to_bytes() == bytes,
            "{name}: out of date\nhint: cargo run -p trainctl-data --example pin_examples"
        );
        let reports = verify(&written, &jobs().join("data")).unwrap();
        assert!(reports.iter().all(|report| report.finding == Finding::Whole), "{reports:?}");
    }
}

#[test]
fn digits_are_digits() {
    let data = open("digits");
    assert_eq!((data.rows(), data.sample_shape()), (1797, &[1, 8, 8][..]));
    // The first line of the file, by hand: a zero.
    assert_eq!(features(&data)[..8], [0.0, 0.0, 5.0 / 16.0, 13.0 / 16.0, 9.0 / 16.0, 1.0 / 16.0, 0.0, 0.0]);
    let mut counts = [0; 10];
    classes(&data).into_iter().for_each(|class| counts[class as usize] += 1);
    assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
}

#[test]
fn mnist_is_mnist() {
    let data = open("mnist10k");
    assert_eq!((data.rows(), data.sample_shape()), (10_000, &[1, 28, 28][..]));
    assert_eq!(data.target(), &Target::Class { classes: 10, column: None });
    let features = features(&data);
    let mean = features.iter().map(|&value| f64::from(value)).sum::<f64>() / features.len() as f64;
    // All of MNIST has 0.1307.
    assert!((0.125..0.137).contains(&mean), "{mean}");
    assert!(features.iter().all(|value| (0.0..=1.0).contains(value)));
}

#[test]
fn shakespeare_speaks() {
    let data = open("shakespeare");
    assert_eq!((data.rows(), data.windows(64)), (5_057_282, 79_020));
    let mut tokens = [0; 26];
    data.fill_tokens(&[0], 25, &mut tokens).unwrap();
    let text: String = tokens.iter().map(|&token| char::from(token as u8)).collect();
    assert_eq!(text, "ALL'S WELL THAT ENDS WELL\n");
}

/// What `trainctl submit` does before anything starts.
fn resolved(file: &str) -> JobSpec {
    let path = jobs().join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let job = parse(&text, file).unwrap_or_else(|errors| panic!("{errors}"));
    let manifest_path = job.find_manifest(&jobs(), Path::new("/")).unwrap_or_else(|errors| panic!("{errors}"));
    let bytes = std::fs::read(&manifest_path).unwrap();
    let manifest = Manifest::parse(&bytes, &job.data.manifest).unwrap();
    let facts = manifest.facts(&job, manifest_path, manifest_digest(&bytes));
    job.resolve(&jobs(), &facts).unwrap_or_else(|errors| panic!("{}", errors.locate(&text, file)))
}

#[test]
fn the_example_jobs_hold() {
    for (file, steps) in [
        ("digits.toml", 2000),
        ("digits-torchscript.toml", 600),
        ("mnist-convnet.toml", 352),
        ("shakespeare-gpt.toml", 3000),
    ] {
        let job = resolved(file);
        assert_eq!(job.train.steps, Some(steps), "{file}");
        assert_eq!(Some(job.name.as_str()), file.strip_suffix(".toml"));
        job.check().unwrap();
    }
}
