//! A temporary folder with data in it.

use flate2::{Compression, write::GzEncoder};
use std::io::Write as _;
use std::path::PathBuf;
use tempfile::TempDir;
use trainctl_data::{DataError, Dataset, Manifest, PinOptions, pin, pin_reported};

pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn with(name: &str, bytes: impl AsRef<[u8]>) -> Self {
        let folder = Self::new();
        folder.write(name, bytes);
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub(crate) fn pin(&self, name: &str, options: &PinOptions) -> Result<Manifest, DataError> {
        pin(self.path(name).to_str().unwrap(), options)
    }

    /// What pinning notes of the data set, as people read it.
    pub(crate) fn notes(&self, name: &str, options: &PinOptions) -> Vec<String> {
        let report = pin_reported(self.path(name).to_str().unwrap(), options, &|_| {});
        report.unwrap_or_else(|error| panic!("{error}")).notes.iter().map(ToString::to_string).collect()
    }

    /// Pins with options that fit, and reads the data set back through its written manifest.
    pub(crate) fn pinned(&self, name: &str, options: &PinOptions) -> (Manifest, Dataset) {
        let pinned = self.pin(name, options).unwrap_or_else(|error| panic!("{error}"));
        let path = self.path("x.manifest.json");
        pinned.write(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let manifest = Manifest::parse(&bytes, "x.manifest.json").unwrap();
        assert_eq!(manifest.to_bytes(), bytes);
        assert!(!manifest.root.contains("://"), "{} can move", manifest.root);
        let data = self.open(&manifest).unwrap_or_else(|error| panic!("{error}"));
        (manifest, data)
    }

    pub(crate) fn open(&self, manifest: &Manifest) -> Result<Dataset, DataError> {
        Dataset::open(manifest, self.0.path())
    }

    /// The message of a refusal, without the folder's own name.
    pub(crate) fn refusal(&self, name: &str, options: &PinOptions) -> String {
        let error = self.pin(name, options).expect_err("data that can't be pinned");
        error.to_string().replace(&format!("{}/", self.0.path().display()), "")
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// All features of a data set, row after row.
pub(crate) fn features(data: &Dataset) -> Vec<f32> {
    let rows: Vec<u64> = (0..data.rows()).collect();
    let mut out = vec![f32::NAN; rows.len() * data.sample_elements()];
    data.fill_features(&rows, &mut out).unwrap();
    out
}

pub(crate) fn classes(data: &Dataset) -> Vec<i64> {
    let rows: Vec<u64> = (0..data.rows()).collect();
    let mut out = vec![-1; rows.len()];
    data.fill_classes(&rows, &mut out).unwrap();
    out
}

pub(crate) fn numbers(data: &Dataset) -> Vec<f32> {
    let rows: Vec<u64> = (0..data.rows()).collect();
    let mut out = vec![f32::NAN; rows.len()];
    data.fill_numbers(&rows, &mut out).unwrap();
    out
}
