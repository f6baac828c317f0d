//! Columns by their names, headers and what only looks like one, and what a user says of a table. Expected values are
//! those that pandas 3.1.1 reads, unless the data is refused.

use crate::folder::{Folder, classes, features, numbers};
use trainctl_data::{
    Column, HeaderLine, Manifest, Missing, MissingValues, PinOptions, TableLayout, Target, TargetKind,
};

const ROWS: &str = "1.5,2,0\n3,4.5,1\n5,6,2\n7,8.25,1\n";
const FEATURES: [f32; 8] = [1.5, 2.0, 3.0, 4.5, 5.0, 6.0, 7.0, 8.25];
const CLASSES: [i64; 4] = [0, 1, 2, 1];

fn options() -> PinOptions {
    PinOptions::default()
}

fn column(name: &str) -> Column {
    name.parse().unwrap()
}

fn target(name: &str) -> PinOptions {
    PinOptions { target: Some(column(name)), ..options() }
}

/// Pins one table that holds the rows above, whatever stands around them.
fn holds_the_rows(text: &str, options: &PinOptions) -> Manifest {
    let (manifest, data) = Folder::with("a.csv", text).pinned("a.csv", options);
    assert_eq!((features(&data), classes(&data)), (FEATURES.to_vec(), CLASSES.to_vec()), "{text:?}");
    manifest
}

fn refused(text: &str, options: &PinOptions) -> String {
    Folder::with("a.csv", text).refusal("a.csv", options)
}

#[test]
fn columns_of_all_files_are_found_by_name() {
    let folder = Folder::new();
    folder.write("set/1.csv", format!("a,b,y\n{ROWS}"));
    folder.write("set/2.csv", "y,b,a\n0,2,1.5\n1,4.5,3\n");
    folder.write("set/3.csv", "");
    for options in [options(), target("y")] {
        let (manifest, data) = folder.pinned("set", &options);
        let table = manifest.table.unwrap();
        assert_eq!((table.features, table.target), (vec!["a".to_owned(), "b".to_owned()], "y".to_owned()));
        assert_eq!(features(&data), [&FEATURES[..], &FEATURES[..4]].concat());
        assert_eq!(classes(&data), [0, 1, 2, 1, 0, 1]);
    }
    // A first part without a row says nothing.
    folder.write("set/0.csv", "\n");
    assert_eq!(features(&folder.pinned("set", &options()).1)[..4], FEATURES[..4]);
    folder.write("set/0.csv", "b,a,y\n");
    assert_eq!(features(&folder.pinned("set", &options()).1)[..4], FEATURES[..4]);
}

#[test]
fn other_columns_are_refused_and_both_objects_named() {
    for (second, expected) in [
        ("a,c,y\n1,2,0\n", "2.csv: line 1: expected the columns a, b, y, as in 1.csv, found a, c, y"),
        ("a,y\n1,0\n", "2.csv: line 1: expected the columns a, b, y, as in 1.csv, found a, y"),
        ("a,b,y,z\n1,2,0,3\n", "2.csv: line 1: expected the columns a, b, y, as in 1.csv, found a, b, y, z"),
        (ROWS, "2.csv: line 1: expected the columns a, b, y, as in 1.csv, found 1.5, 2, 0"),
        ("a,b,y,a\n1,2,0,3\n", "2.csv: line 1: expected the columns a, b, y, as in 1.csv, found a, b, y, a.1"),
    ] {
        let folder = Folder::with("1.csv", format!("a,b,y\n{ROWS}"));
        folder.write("2.csv", second);
        assert_eq!(folder.refusal(".", &options()), expected);
    }
    let wide = |first: &str| {
        format!(
            "{first},{},y\n{}0\n",
            (0..20).map(|i| format!("c{i}")).collect::<Vec<_>>().join(","),
            "1.5,".repeat(21)
        )
    };
    let folder = Folder::with("1.csv", wide("a"));
    folder.write("2.csv", wide("b"));
    let expected = "2.csv: line 1: expected the columns of 1.csv, with a, found b as well";
    assert_eq!(folder.refusal(".", &options()), expected);
    let headless = Folder::with("1.csv", ROWS);
    headless.write("2.csv", format!("a,b,y\n{ROWS}"));
    assert_eq!(headless.refusal(".", &options()), "2.csv: line 1, column 1: expected a finite number, found \"a\"");
}

#[test]
fn names_may_have_line_ends_and_rows_may_have_names() {
    let manifest = holds_the_rows(&format!("\"len\n(cm)\",\"wid\n(cm)\",y\n{ROWS}"), &options());
    assert_eq!(manifest.table.unwrap().features, ["len\n(cm)", "wid\n(cm)"]);
    let numbered: String = ROWS.lines().zip(1..).map(|(row, at)| format!("\"{at}\",{row}\n")).collect();
    // As R writes it, with and without a place for the rows' names, and as pandas does.
    holds_the_rows(&format!("\"a\",\"b\",\"y\"\n{numbered}"), &target("y"));
    let notes = Folder::with("a.csv", format!("\"a\",\"b\",\"y\"\n{numbered}")).notes("a.csv", &options());
    let expected = "left out as names of rows: the first column, which the header has no name for";
    assert!(notes.contains(&expected.to_owned()), "{notes:?}");
    for first in ["\"\"", "", "Unnamed: 0"] {
        let manifest = holds_the_rows(&format!("{first},a,b,y\n{numbered}"), &options());
        assert_eq!(manifest.table.unwrap().left_out, ["Unnamed: 0"]);
    }
    let notes = Folder::with("a.csv", format!(",a,b,y\n{numbered}")).notes("a.csv", &options());
    assert!(notes.contains(&"left out as names of rows: Unnamed: 0; `--columns` takes them".to_owned()), "{notes:?}");
    let asked = PinOptions { columns: Some(vec![column("Unnamed: 0"), column("b")]), ..options() };
    let (_, data) = Folder::with("a.csv", format!(",a,b,y\n{numbered}")).pinned("a.csv", &asked);
    assert_eq!(features(&data)[..4], [1.0, 2.0, 2.0, 4.5]);
    let expected = "a.csv: line 1: expected 5 names, as line 2 has 5 columns, found 3";
    assert_eq!(refused("a,b,y\n1,2,3,4,0\n", &options()), expected);
    let expected = "a.csv: line 1: expected 4 names, as line 2 has 4 columns, found 3";
    assert_eq!(refused("a,b,y\n1,2,0,\n", &options()), expected);
}

#[test]
fn a_first_row_never_vanishes() {
    for (first, column, found) in [
        ("nan,2,0", 1, "nan"),
        ("1.5,,0", 2, ""),
        ("1.5,2,NA", 3, "NA"),
        ("?,2,0", 1, "?"),
        ("1.5,-inf,0", 2, "-inf"),
        ("1e999,2,0", 1, "1e999"),
        ("O.2,2,0", 1, "O.2"),
        ("id,2019,2020", 1, "id"),
    ] {
        let expected = format!("a.csv: line 1, column {column}: expected a finite number, found {found:?}");
        assert_eq!(refused(&format!("{first}\n{ROWS}"), &options()), expected);
        let named = PinOptions { header: Some(HeaderLine::Yes), ..options() };
        holds_the_rows(&format!("{first}\n{ROWS}"), &named);
    }
    let numbers = format!("0,1,2\n{ROWS}");
    holds_the_rows(&numbers, &options());
    let folder = Folder::with("a.csv", &numbers);
    let note = "the first line counts 0 to 2: taken for names; `--header no` if it is a row";
    assert!(folder.notes("a.csv", &options()).contains(&note.to_owned()));
    let rows = PinOptions { header: Some(HeaderLine::No), ..options() };
    assert_eq!(features(&folder.pinned("a.csv", &rows).1)[..4], [0.0, 1.0, 1.5, 2.0]);
    // Two columns of a class each are rows.
    assert_eq!(classes(&Folder::with("a.csv", "0,1\n1,0\n").pinned("a.csv", &options()).1), [1, 0]);
}

#[test]
fn titles_separators_and_skipped_lines() {
    let title = format!("All of 2024\na,b,y\n{ROWS}");
    assert_eq!(refused(&title, &options()), "a.csv: line 1: expected 3 names, as line 2 has 3 columns, found 1");
    holds_the_rows(&title, &PinOptions { skip: Some(1), ..options() });
    holds_the_rows(&title, &PinOptions { header: Some(HeaderLine::At(2)), ..options() });
    assert_eq!(
        refused(&format!("All of 2024,,\na,b,y\n{ROWS}"), &options()),
        "a.csv: line 2, column 1: expected a finite number, found \"a\""
    );
    holds_the_rows(&format!("sep=;\na;b;y\n{}", ROWS.replace(',', ";")), &options());
    holds_the_rows(&format!("\u{feff}sep=|\r\na|b|y\r\n{}", ROWS.replace(',', "|")), &options());
    holds_the_rows(&format!("a b y\n{}", ROWS.replace(',', " ")), &PinOptions { delimiter: Some(' '), ..options() });
    holds_the_rows(&format!("\u{feff}\"a,1\"|b|y\n{}", ROWS.replace(',', "|")), &options());
    let expected = "a.csv: skip: expected more than 9 lines, found 6";
    assert_eq!(refused(&title, &PinOptions { skip: Some(9), ..options() }), expected);
}

#[test]
fn names_win_over_places() {
    let folder = Folder::with("a.csv", "2,x,0\n0.5,7,3\n");
    let named = |name: &str| PinOptions { header: Some(HeaderLine::Yes), ..target(name) };
    assert_eq!(numbers(&folder.pinned("a.csv", &named("2")).1), [0.5]);
    assert_eq!(classes(&folder.pinned("a.csv", &named("1")).1), [7]);
}

#[test]
fn decimal_commas_by_an_option() {
    let text = "a;b;y\n1,5;2,25;0\n3,5;4,5;1\n";
    assert!(refused(text, &options()).contains("line 2, column 1: expected a finite number, found \"1,5\""));
    let comma = PinOptions { decimal: Some(','), ..options() };
    for text in [text, "1,5;2,25;0\n3,5;4,5;1\n"] {
        let (manifest, data) = Folder::with("a.csv", text).pinned("a.csv", &comma);
        assert_eq!((features(&data), classes(&data)), (vec![1.5, 2.25, 3.5, 4.5], vec![0, 1]));
        assert_eq!(manifest.table.unwrap().decimal, Some(','));
    }
}

#[test]
fn classes_may_have_names() {
    let text = "a,b,kind\n5.1,3.5,setosa\n6.2,2.9, virginica\n5.9,3,\"setosa\"\n";
    let (manifest, data) = Folder::with("a.csv", text).pinned("a.csv", &options());
    assert_eq!(manifest.class_names, Some(vec!["setosa".to_owned(), "virginica".to_owned()]));
    assert_eq!(manifest.target, Target::Class { classes: 2, column: Some(2) });
    assert_eq!(classes(&data), [0, 1, 0]);
    // Without a header, and in several files: all names are known before any is numbered.
    let folder = Folder::with("1.csv", "5.1,3.5,b\n6.2,2.9,c\n");
    folder.write("2.csv", "5.9,3,a\n");
    let (manifest, data) = folder.pinned(".", &PinOptions { name: Some("x".to_owned()), ..options() });
    assert_eq!((manifest.table, classes(&data)), (None, vec![1, 2, 0]));

    let typo = "a,b,y\n1,2,0\n3,4,O\n";
    assert_eq!(refused(typo, &options()), "a.csv: line 3, column 3: expected a finite number, found \"O\"");
    let mixed = "a,b,y\n1,2,x\n3,4,0\n";
    assert_eq!(
        refused(mixed, &options()),
        "a.csv: line 3: expected the name of a class, as in the first row, found \"0\""
    );
    let label = PinOptions { kind: Some(TargetKind::Label), ..options() };
    for (text, names, expected) in [(mixed, ["0", "x"], [1, 0]), (typo, ["0", "O"], [0, 1])] {
        let (manifest, data) = Folder::with("a.csv", text).pinned("a.csv", &label);
        assert_eq!(
            (manifest.class_names.unwrap(), classes(&data)),
            (names.map(str::to_owned).to_vec(), expected.to_vec())
        );
    }
    let message = refused("a,y\n1,x\n2,\n", &options());
    assert_eq!(message, "a.csv: line 3, column 2: expected the name of a class, found none");
    let open = "a,y\n1,x\n2,\"z\n3,x\n4,x\n";
    assert!(refused(open, &options()).contains("expected a class's name of one line"), "{}", refused(open, &options()));
}

#[test]
fn truth_values_are_one_and_zero() {
    let text = "a,b,y\nTrue,1.5,FALSE\nfalse,2.5,TRUE\n";
    let (manifest, data) = Folder::with("a.csv", text).pinned("a.csv", &options());
    assert_eq!((features(&data), classes(&data)), (vec![1.0, 1.5, 0.0, 2.5], vec![0, 1]));
    assert_eq!(manifest.class_names, None);
}

#[test]
fn what_stands_in_place_of_a_number_is_refused_with_the_option_for_it() {
    for (text, place, hint) in [
        ("a;b;y\n1,5;2,25;0\n", "line 2, column 1", "`--decimal ,` where the comma is before a number's fraction; "),
        ("a;b;y\n1;2;0,5\n3;4;1,5\n", "line 2", "`--decimal ,` where the comma is before a number's fraction; "),
        ("1,5;2,25;0,5\n3;4;1\n", "line 1, column 2", "`--delimiter ;` cuts lines there; "),
        ("1,5\t2,25\n3,5\t4\n", "line 1, column 2", "`--delimiter tab` cuts lines there; "),
        ("id,a,y\nu1,1,0\nu2,2,1\n", "line 2, column 1", "`--drop id` leaves the column out"),
        ("0.5,x,1\n1.5,y,0\n", "line 1, column 2", "`--drop 1` leaves the column out"),
        ("a,y\n1,0\n2,O\n", "line 3, column 2", "`--kind label` takes all targets for names of classes"),
    ] {
        let error = Folder::with("a.csv", text).pin("a.csv", &options()).unwrap_err();
        assert!(error.to_string().contains(&format!("a.csv: {place}: expected a")), "{text}: {error}");
        assert!(error.hint().is_some_and(|found| found.starts_with(hint)), "{text}: {:?}", error.hint());
    }
    let (manifest, data) = Folder::with("a.csv", "id,a,y\nu1,1,0\nu2,2,1\n")
        .pinned("a.csv", &PinOptions { drop: vec![Column::Name("id".to_owned())], ..options() });
    assert_eq!((manifest.table.unwrap().features, features(&data)), (vec!["a".to_owned()], vec![1.0, 2.0]));
    // Names with commas, where commas are no part of numbers.
    let named = "a;y\n1;north, east\n2;south\n";
    assert_eq!(Folder::with("a.csv", named).pinned("a.csv", &options()).0.class_names.unwrap().len(), 2);
}

#[test]
fn missing_values_are_refused_dropped_or_filled() {
    let folder = Folder::with("a.csv", "a,b,y\n1,,0\n2,3,1\nNA,5,0\n4,7,\n");
    let error = folder.pin("a.csv", &options()).unwrap_err();
    assert!(error.to_string().ends_with("line 2, column 2: expected a finite number, found \"\""), "{error}");
    assert!(error.hint().unwrap().starts_with("`--missing drop`"));
    let with = |missing| PinOptions { missing: Some(missing), ..options() };
    let (manifest, data) = folder.pinned("a.csv", &with(MissingValues::Drop));
    assert_eq!((manifest.rows, features(&data), classes(&data)), (1, vec![2.0, 3.0], vec![1]));
    assert_eq!(
        folder.notes("a.csv", &with(MissingValues::Drop)).last().unwrap(),
        "3 rows lack a value and were left out"
    );
    let message = folder.refusal("a.csv", &with(MissingValues::Fill(0.0)));
    assert!(message.ends_with("line 5, column 3: expected a finite number, found \"\""), "{message}");

    folder.write("a.csv", "a,b,y\n1,,0\n2,3,1\nNA,5,0\n");
    let (_, data) = folder.pinned("a.csv", &with(MissingValues::Fill(-1.0)));
    assert_eq!(features(&data), [1.0, -1.0, 2.0, 3.0, -1.0, 5.0]);
    let (manifest, data) = folder.pinned("a.csv", &with(MissingValues::FillMean));
    assert_eq!(manifest.table.unwrap().missing, Some(Missing::Fill(vec![1.5, 4.0])));
    assert_eq!(features(&data), [1.0, 4.0, 2.0, 3.0, 1.5, 5.0]);
    assert_eq!(folder.notes("a.csv", &with(MissingValues::FillMean)).last().unwrap(), "2 missing values were filled");
    // The mean is over all files.
    folder.write("b.csv", "b,a,y\n13,,1\n");
    let (_, data) = folder.pinned(".", &PinOptions { name: Some("x".to_owned()), ..with(MissingValues::FillMean) });
    assert_eq!(features(&data), [1.0, 7.0, 2.0, 3.0, 1.5, 5.0, 1.5, 13.0]);
    folder.write("b.csv", "a,b,y\n,1,1\n");
    let message = folder.refusal("b.csv", &with(MissingValues::FillMean));
    assert_eq!(message, "missing: expected columns with values, for fill=mean, found none in a");
    let message = folder.refusal("b.csv", &with(MissingValues::Drop));
    assert!(message.ends_with("expected at least one row, found none"), "{message}");
}

#[test]
fn columns_are_chosen_and_dropped() {
    let folder = Folder::with("a.csv", "id,a,b,y\nx1,1,5.5,0\nx2,2,6.5,1\n");
    assert!(folder.refusal("a.csv", &options()).ends_with("line 2, column 1: expected a finite number, found \"x1\""));
    let dropped = PinOptions { drop: vec![column("id")], ..options() };
    let (manifest, data) = folder.pinned("a.csv", &dropped);
    assert_eq!(features(&data), [1.0, 5.5, 2.0, 6.5]);
    assert_eq!(manifest.table.unwrap().left_out, ["id"]);
    let chosen = PinOptions { columns: Some(vec![column("b"), column("1")]), ..options() };
    assert_eq!(features(&folder.pinned("a.csv", &chosen).1), [5.5, 1.0, 6.5, 2.0]);
    let named = PinOptions { columns: Some(vec![column("a"), column("y")]), ..options() };
    let (_, data) = folder.pinned("a.csv", &named);
    assert_eq!((features(&data), classes(&data)), (vec![1.0, 2.0], vec![0, 1]));
    let last = PinOptions { drop: vec![column("id"), column("y")], ..options() };
    assert_eq!(numbers(&folder.pinned("a.csv", &last).1), [5.5, 6.5]);
    for (options, expected) in [
        (PinOptions { drop: vec![column("z")], ..options() }, "drop: expected one of id, a, b, y, found \"z\""),
        (
            PinOptions { columns: Some(vec![column("y")]), ..options() },
            "columns: expected at least one column beside the target",
        ),
        (
            PinOptions { drop: vec![column("y")], ..target("y") },
            "drop: expected columns other than the target, found y",
        ),
    ] {
        let message = folder.refusal("a.csv", &options);
        assert!(message.starts_with(expected), "{message}");
    }
    // Without names, by place.
    let folder = Folder::with("a.csv", "x1,1.5,0\nx2,2.5,1\n");
    let (manifest, data) = folder.pinned("a.csv", &PinOptions { drop: vec![column("0")], ..options() });
    assert_eq!(features(&data), [1.5, 2.5]);
    let table = TableLayout {
        features: vec!["1".to_owned()],
        target: "2".to_owned(),
        left_out: vec!["0".to_owned()],
        missing: None,
        skip: 0,
        decimal: None,
    };
    assert_eq!(manifest.table, Some(table));
}

#[test]
fn options_of_tables_fit_tables_only() {
    let folder = Folder::with("a.txt", "text");
    let message = folder.refusal("a.txt", &PinOptions { skip: Some(1), ..options() });
    assert_eq!(message, "skip: expected none for text, found one");
}

#[test]
fn digits_that_float32_has_no_room_for_are_noted() {
    let folder = Folder::with("a.csv", "t,y\n1700000000,0.5\n1700000001,1.5\n");
    let expected = "column t: whole numbers beyond 2^24 lose digits in float32: 1700000001 becomes 1700000000";
    assert_eq!(folder.notes("a.csv", &options()), [expected]);
    let target = Folder::with("a.csv", "0.5,16777217\n1.5,3\n");
    let expected = "column 1: whole numbers beyond 2^24 lose digits in float32: 16777217 becomes 16777216";
    assert_eq!(target.notes("a.csv", &options()), [expected]);
}

#[test]
fn manifests_whose_tables_do_not_hold_are_refused() {
    let manifest = holds_the_rows(&format!("a,b,y\n{ROWS}"), &options());
    let refused = |change: fn(&mut Manifest)| {
        let mut changed = manifest.clone();
        change(&mut changed);
        Manifest::parse(&changed.to_bytes(), "m.json").unwrap_err().to_string()
    };
    fn table(manifest: &mut Manifest) -> &mut TableLayout {
        manifest.table.as_mut().unwrap()
    }
    for (message, expected) in [
        (
            refused(|manifest| table(manifest).target = "a".to_owned()),
            "m.json: table: expected each column once, found \"a\" again",
        ),
        (
            refused(|manifest| table(manifest).features.clear()),
            "m.json: table.features: expected at least one column, found none",
        ),
        (
            refused(|manifest| table(manifest).missing = Some(Missing::Fill(vec![1.0]))),
            "m.json: table.missing.fill: expected a number for each of 2 features, found 1",
        ),
        (
            refused(|manifest| table(manifest).decimal = Some(',')),
            "m.json: table.decimal: expected a mark other than the delimiter, for csv, found ','",
        ),
        (
            refused(|manifest| manifest.class_names = Some(vec!["x".to_owned()])),
            "m.json: class_names: expected names of 3 classes, found 1",
        ),
    ] {
        assert_eq!(message, expected);
    }
}
