//! Parquet files that another implementation wrote (`fixtures/make.py`).

use crate::folder::{Folder, classes, features, numbers};
use proptest::prelude::*;
use trainctl_data::{MissingValues, PinOptions, Target};

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

#[test]
fn columns_of_all_files_are_found_by_name_and_pandas_index_is_none() {
    let expected = ([1.5, 2.0, 3.0, 4.5, 5.0, 6.0, 7.0, 8.25], [0, 1, 2, 1]);
    for other in ["columns", "columns-turned", "index"] {
        let folder = Folder::with("set/1.parquet", fixture("columns"));
        folder.write("set/2.parquet", fixture(other));
        let (manifest, data) = folder.pinned("set", &PinOptions::default());
        assert_eq!(manifest.table.unwrap().features, ["a", "b"]);
        assert_eq!(features(&data), [expected.0, expected.0].concat(), "{other}");
        assert_eq!(classes(&data), [expected.1, expected.1].concat(), "{other}");
    }
    for name in ["columns", "index"] {
        let (manifest, data) = folder(name).pinned("a.parquet", &PinOptions::default());
        assert_eq!((features(&data), classes(&data)), (expected.0.to_vec(), expected.1.to_vec()), "{name}");
        let left_out = manifest.table.unwrap().left_out;
        assert_eq!(left_out, if name == "index" { vec!["__index_level_0__".to_owned()] } else { Vec::new() });
    }
    let (_, data) = folder("index-named").pinned("a.parquet", &PinOptions::default());
    assert_eq!((features(&data), classes(&data)), (vec![2.0, 4.5, 6.0, 8.25], expected.1.to_vec()));
    let (_, data) = folder("index-named").pinned("a.parquet", &target("a"));
    assert_eq!(numbers(&data), [1.5, 3.0, 5.0, 7.0]);

    let folder = Folder::with("set/1.parquet", fixture("columns"));
    folder.write("set/2.parquet", fixture("columns-other"));
    let expected = "set/2.parquet: schema: expected the columns a, b, y, as in 1.parquet, found a, c, y";
    assert_eq!(folder.refusal("set", &PinOptions::default()), expected);
}

#[test]
fn integers_that_are_times_and_structs_are_refused_unless_left_out() {
    for (name, found) in [
        ("timestamp-s", "a TIMESTAMP"),
        ("timestamp-ms", "a TIMESTAMP"),
        ("timestamp-us", "a TIMESTAMP"),
        ("timestamp-ns", "a TIMESTAMP"),
        ("time", "a TIME"),
        ("date", "a DATE"),
    ] {
        let message = folder(name).refusal("a.parquet", &PinOptions::default());
        assert_eq!(message, format!("a.parquet: column t: expected numbers, found {found}"), "{name}");
    }
    let message = folder("one-struct").refusal("a.parquet", &PinOptions::default());
    assert_eq!(message, "a.parquet: column t.u: expected numbers, found a struct");
    let dropped = PinOptions { drop: vec!["t".parse().unwrap()], ..PinOptions::default() };
    assert_eq!(features(&folder("one-struct").pinned("a.parquet", &dropped).1), [1.0, 2.0]);
    let message = folder("struct").refusal("a.parquet", &PinOptions::default());
    assert_eq!(message, "a.parquet: column t.u: expected numbers, found a struct");
}

#[test]
fn targets_that_no_worker_could_read_are_refused_with_their_row() {
    for (name, found) in [("target-nan", "NaN"), ("target-inf", "inf"), ("target-large", "1e300")] {
        let message = folder(name).refusal("a.parquet", &PinOptions::default());
        assert_eq!(message, format!("a.parquet: row 1: expected a target within float32, found {found}"));
    }
}

#[test]
fn text_is_the_name_of_a_class() {
    let (manifest, data) = folder("species").pinned("a.parquet", &PinOptions::default());
    assert_eq!(manifest.class_names, Some(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!((features(&data), classes(&data)), (vec![1.0, 2.0, 3.0], vec![1, 0, 1]));
}

#[test]
fn missing_values_are_refused_dropped_or_filled() {
    let with = |missing| PinOptions { missing: Some(missing), ..PinOptions::default() };
    let message = folder("gaps").refusal("a.parquet", &PinOptions::default());
    assert!(message.contains("column x: expected a number in each row, found 1 missing values"), "{message}");
    let (_, data) = folder("gaps").pinned("a.parquet", &with(MissingValues::Drop));
    assert_eq!((features(&data), classes(&data)), (vec![1.0, 1.0], vec![0]));
    let (_, data) = folder("gaps").pinned("a.parquet", &with(MissingValues::Fill(-9.0)));
    assert_eq!(features(&data), [1.0, 1.0, -9.0, 2.0, 3.0, -9.0, -9.0, 4.0]);
    let (_, data) = folder("gaps").pinned("a.parquet", &with(MissingValues::FillMean));
    assert_eq!(features(&data), [1.0, 1.0, 2.0, 2.0, 3.0, 7.0 / 3.0, 2.0, 4.0]);
}

#[test]
fn integers_that_lose_digits_are_noted() {
    let expected = "column t: whole numbers beyond 2^24 lose digits in float32: 1700000001 becomes 1700000000";
    assert_eq!(folder("wide-integers").notes("a.parquet", &PinOptions::default()), [expected]);
}

#[test]
fn a_very_long_list_is_refused_from_the_file_s_own_counts() {
    let message = folder("long-list").refusal("a.parquet", &PinOptions::default());
    let expected = "expected lists of one length, found another length: 30000001 values in 2 rows";
    assert!(message.ends_with(expected), "{message}");
}

#[test]
fn pages_whose_checksum_is_wrong_are_refused() {
    let mut bytes = fixture("checksum");
    assert_eq!(folder("checksum").pinned("a.parquet", &PinOptions::default()).0.rows, 500);
    // Within the first column's values, which nothing else proves.
    let at = bytes.windows(8).position(|value| value == 3.0_f64.to_le_bytes()).unwrap();
    bytes[at + 6] ^= 1;
    let message = Folder::with("a.parquet", bytes).refusal("a.parquet", &PinOptions::default());
    assert!(message.contains("a.parquet: ") && message.to_lowercase().contains("crc"), "{message}");
}
