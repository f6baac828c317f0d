//! Parquet files that another implementation wrote (`fixtures/make.py`).

use crate::folder::{Folder, classes, features, numbers};
use proptest::prelude::*;
use trainctl_data::{PinOptions, Target};

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/fixtures/{name}.parquet", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn folder(name: &str) -> Folder {
    Folder::with("a.parquet", fixture(name))
}

fn target(name: &str) -> PinOptions {
    PinOptions { target: Some(name.parse().unwrap()), ..PinOptions::default() }
}

#[test]
fn every_type_of_number_is_read_over_pages_and_row_groups() {
    let (manifest, data) = folder("table").pinned("a.parquet", &target("label"));
    assert_eq!(manifest.target, Target::Class { classes: 3, column: Some(3) });
    let expected: Vec<f32> = (0..10_u8)
        .flat_map(|i| {
            let row = f32::from(i);
            [row - 5.0, (u32::MAX - u32::from(i)) as f32, row / 4.0, row * 0.5, f32::from(u8::from(i % 2 == 0))]
        })
        .collect();
    assert_eq!(features(&data), expected);
    assert_eq!(classes(&data), [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]);
}

#[test]
fn lists_are_flat_features_whatever_the_compression() {
    for name in ["images-zstd", "images-gzip", "images-lz4", "images-none", "fixed"] {
        let (manifest, data) = folder(name).pinned("a.parquet", &PinOptions::default());
        assert_eq!(manifest.features.shape, [4], "{name}");
        assert_eq!(features(&data)[4..8], [1.0, 2.0, 3.0, 4.0], "{name}");
        assert_eq!(classes(&data)[..4], [0, 1, 2, 0], "{name}");
    }
}

#[test]
fn a_last_column_of_fractions_is_a_number() {
    let (manifest, data) = folder("price").pinned("a.parquet", &PinOptions::default());
    assert_eq!(manifest.target, Target::Number { column: Some(1) });
    assert_eq!(numbers(&data)[..3], [0.0, 1.5, 3.0]);
}

#[test]
fn what_is_no_table_of_numbers_is_refused_with_the_column() {
    for (name, expected) in [
        ("null", "column x: expected a number in each row, found 1 missing values"),
        ("ragged", "expected lists of 2 numbers, as in the first row, found another length"),
        ("empty-list", "expected a number in each row, found 1 missing values"),
        ("text", "column x: expected numbers, found BYTE_ARRAY (UTF8)"),
        ("decimal", "column x: expected numbers, found"),
        ("nested", "expected numbers or lists of numbers, found lists of lists"),
        ("list-label", "row 0: expected a single number as the target, found a list"),
        ("no-rows", "expected at least one row, found none"),
    ] {
        let message = folder(name).refusal("a.parquet", &PinOptions::default());
        assert!(message.contains(expected), "{name}: expected {expected:?} in {message:?}");
    }
    let expected = "target column: expected one of i32, u32, f32, label, f64, flag, found \"Label\"";
    assert_eq!(folder("table").refusal("a.parquet", &target("Label")), expected);
}

#[test]
fn a_truncated_file_is_refused() {
    let whole = fixture("table");
    for len in [0, 3, 8, whole.len() / 2, whole.len() - 1] {
        let message = Folder::with("a.parquet", &whole[..len]).refusal("a.parquet", &PinOptions::default());
        assert!(message.contains("a.parquet: parquet: expected a Parquet file, found"), "{len}: {message}");
    }
}

proptest! {
    #[test]
    fn changed_bytes_are_an_error_or_other_numbers_but_no_crash(at: prop::sample::Index, byte: u8, name in 0_usize..4) {
        let mut bytes = fixture(["table", "images-zstd", "images-gzip", "fixed"][name]);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = Folder::with("a.parquet", bytes).pin("a.parquet", &PinOptions::default());
    }
}
