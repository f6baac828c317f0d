//! What pinning says of a data set beside its manifest.

use crate::folder::Folder;
use crate::idx::idx;
use crate::tar::{archive, png, text};
use trainctl_data::{PinOptions, TargetKind};

fn notes(folder: &Folder, name: &str) -> Vec<String> {
    folder.notes(name, &PinOptions::default())
}

#[test]
fn whole_numbers_taken_as_classes_are_named_in_every_format() {
    let four = "4 classes: 0 to 3; `--kind number` for a regression";
    let table = Folder::with("a.csv", "1.5,0\n2.5,1\n3.5,2\n4.5,3\n");
    assert_eq!(notes(&table, "a.csv"), [four]);

    let digits = Folder::with("s-images-idx2-ubyte", idx(8, &[4, 1], &[9, 8, 7, 6]));
    digits.write("s-labels-idx1-ubyte", idx(8, &[4], &[3, 2, 1, 0]));
    assert_eq!(notes(&digits, "s-images-idx2-ubyte"), [four]);

    let names = ["0", "1", "2", "3"].map(|class| (format!("{class}.png"), format!("{class}.cls"), class));
    let members = names.iter().flat_map(|(image, label, class)| [(image.as_str(), png(1)), (label, text(class))]);
    let shard = Folder::with("a.tar", archive(&members.collect::<Vec<_>>()));
    assert_eq!(notes(&shard, "a.tar"), [four]);

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/images-zstd.parquet");
    let columns = Folder::with("a.parquet", std::fs::read(path).unwrap());
    assert_eq!(notes(&columns, "a.parquet"), ["3 classes: 0 to 2; `--kind number` for a regression"]);
}

#[test]
fn one_class_only_and_classes_without_rows_are_named() {
    let one = Folder::with("a.csv", "1.5,0\n2.5,0\n");
    let nothing = "every row is of one class, 0: there is nothing to tell apart";
    assert_eq!(notes(&one, "a.csv"), ["1 class: 0; `--kind number` for a regression", nothing]);

    let from_one = Folder::with("a.csv", "1.5,1\n2.5,2\n");
    let expected = ["3 classes: 1 to 2; `--kind number` for a regression", "class 0 has no row"];
    assert_eq!(notes(&from_one, "a.csv"), expected);

    let sparse = Folder::with("a.csv", "1.5,3\n2.5,900\n");
    assert_eq!(notes(&sparse, "a.csv")[1], "899 classes have no row: 0, 1, 2, 4, 5, ...");
}

#[test]
fn what_the_user_asked_for_needs_no_note() {
    let folder = Folder::with("a.csv", "1.5,0\n2.5,1\n");
    for kind in [TargetKind::Number, TargetKind::Class] {
        assert_eq!(folder.notes("a.csv", &PinOptions { kind: Some(kind), ..PinOptions::default() }), [""; 0]);
    }
    let prices = Folder::with("a.csv", "1.5,0.5\n2.5,1\n");
    assert_eq!(notes(&prices, "a.csv"), [""; 0]);
}
