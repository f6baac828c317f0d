//! Whether a table's first line has names or is a row, and what the names are.

use super::Bad;
use super::value::{SAY_DECIMAL, Value, has_decimal_comma};

/// What a table's first line is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FirstLine {
    /// Names of the columns; `counts` where they are 0, 1, 2, ..., as pandas names columns that have no names.
    Names { counts: bool },
    /// A row like all others.
    Row,
}

/// What a user may say of a table's first line.
pub(super) struct Asked {
    pub(super) header: Option<bool>,
    pub(super) decimal: u8,
    /// Missing values are allowed.
    pub(super) missing: bool,
}

const SAY_HEADER: &str = "`--header yes` if the line has names, `--header no` if it is a row";

/// Decides from the first line and the one after it. A line that could be either is an error: taken for names, a row
/// with a typo would vanish.
pub(super) fn first_line(
    first: &[String],
    second: Option<&[String]>,
    asked: &Asked,
    line: u64,
) -> Result<FirstLine, Bad> {
    let counts = counts_from_zero(first);
    match asked.header {
        Some(true) => return Ok(FirstLine::Names { counts: false }),
        Some(false) => return Ok(FirstLine::Row),
        None => {}
    }
    let value = |text: &String| Value::of(text.as_bytes(), asked.decimal);
    let is_row_value = |value: Value| match value {
        Value::Number(_) => true,
        Value::Missing => asked.missing,
        Value::NotFinite | Value::Text => false,
    };
    if first.iter().all(|field| is_row_value(value(field))) {
        // Two columns of 0 and 1 may well be a row.
        return Ok(if counts && first.len() > 2 { FirstLine::Names { counts } } else { FirstLine::Row });
    }
    // pandas' index has no name, and is the first column.
    if first.len() > 2 && first[0].trim().is_empty() && counts_from_zero(&first[1..]) {
        return Ok(FirstLine::Names { counts: true });
    }
    let numbers = first.iter().filter(|field| matches!(value(field), Value::Number(_))).count();
    let no_names = |field: &&String| match value(field) {
        Value::Missing => !field.trim().is_empty(),
        Value::Text => asked.decimal == b'.' && has_decimal_comma(field),
        value => value == Value::NotFinite,
    };
    let has_name = first.iter().any(|field| value(field) == Value::Text);
    if numbers == 0 && has_name && !first.iter().any(|field| no_names(&field)) {
        return Ok(FirstLine::Names { counts: false });
    }
    if second.is_some_and(|second| is_row_with_text(first, second, asked)) {
        return Ok(FirstLine::Row);
    }
    let (column, found) = first
        .iter()
        .enumerate()
        .find(|(_, field)| !is_row_value(value(field)))
        .expect("one that is no number: a line of numbers is a row");
    let place = format!("line {line}, column {}", column + 1);
    let hint = match found {
        found if has_decimal_comma(found) => format!("{SAY_DECIMAL}; {SAY_HEADER}"),
        found if found.contains(';') => format!("`--delimiter ;` cuts lines there; {SAY_HEADER}"),
        found if found.trim().contains('\t') => format!("`--delimiter tab` cuts lines there; {SAY_HEADER}"),
        _ => SAY_HEADER.to_owned(),
    };
    let found = format!("{:?}", found.trim().chars().take(40).collect::<String>());
    Err(Bad::new(place, "a finite number", found).hint(&hint))
}

/// A row of numbers with some text, as that of a class: text stands where the next line has text, and a fraction or
/// sign tells its numbers from names such as years.
fn is_row_with_text(first: &[String], second: &[String], asked: &Asked) -> bool {
    let pairs = || {
        first.iter().zip(second).map(|(first, second)| {
            (Value::of(first.as_bytes(), asked.decimal), Value::of(second.as_bytes(), asked.decimal))
        })
    };
    first.len() == second.len()
        && pairs().all(|(first, second)| match first {
            Value::Number(_) => !matches!(second, Value::Text),
            Value::Text => second == Value::Text,
            Value::Missing | Value::NotFinite => asked.missing && first == Value::Missing,
        })
        && first.iter().any(|field| {
            matches!(Value::of(field.as_bytes(), asked.decimal), Value::Number(_))
                && field.trim().contains([char::from(asked.decimal), '-'])
        })
}

fn counts_from_zero(fields: &[String]) -> bool {
    fields.iter().enumerate().all(|(place, field)| field.trim() == place.to_string())
}

/// The columns' names as pandas gives them: without spaces around, a name that comes again with `.1`, and one that is
/// empty by its place.
pub(super) fn names(fields: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    let unique = |(place, field): (usize, String)| {
        let name = if field.trim().is_empty() { format!("Unnamed: {place}") } else { field.trim().to_owned() };
        let again = std::iter::once(name.clone()).chain((1..).map(|count| format!("{name}.{count}")));
        let unique = again.into_iter().find(|name| !seen.contains(name)).unwrap_or(name);
        seen.insert(unique.clone());
        unique
    };
    fields.into_iter().enumerate().map(unique).collect()
}

/// Whether a first column of this name holds the names of rows: pandas and R write no name above it, and pandas reads
/// that as `Unnamed: 0`.
pub(super) fn is_row_names(first_name: &str) -> bool {
    first_name == "Unnamed: 0"
}

/// Whether rows have one value more than there are names: their first is the row's name, as R writes tables.
pub(super) fn has_unnamed_first(names: usize, row: &[String], name_line: u64, row_line: u64) -> Result<bool, Bad> {
    if row.len() == names {
        return Ok(false);
    }
    let has_numbers = row.iter().skip(1).any(|field| matches!(Value::of(field.as_bytes(), b'.'), Value::Number(_)));
    let ends_empty = row.last().is_none_or(|field| field.trim().is_empty());
    if row.len() == names + 1 && has_numbers && !ends_empty {
        return Ok(true);
    }
    let expected = format!("{} names, as line {row_line} has {} columns", row.len(), row.len());
    Err(Bad::new(format!("line {name_line}"), expected, names)
        .hint("`--skip 1` leaves out a title, `--header no` takes the line as a row"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Vec<String> {
        text.split(',').map(str::to_owned).collect()
    }

    fn decided(first: &str, second: &str) -> Result<FirstLine, String> {
        let asked = Asked { header: None, decimal: b'.', missing: false };
        let second = fields(second);
        first_line(&fields(first), Some(&second), &asked, 1).map_err(|bad| format!("{}: {}", bad.place, bad.found))
    }

    #[test]
    fn names_and_rows_are_told_apart_and_what_could_be_either_is_an_error() {
        let names = Ok(FirstLine::Names { counts: false });
        for (first, second, expected) in [
            ("a,b,y", "1,2,0", names.clone()),
            (",a,y", "0,1.5,1", names.clone()),
            ("a,b,species", "5.1,3.5,setosa", names),
            ("0,1,2", "1.5,2,0", Ok(FirstLine::Names { counts: true })),
            (",0,1", "0,1.5,2", Ok(FirstLine::Names { counts: true })),
            ("0,1", "1,0", Ok(FirstLine::Row)),
            ("1.5,2,0", "3,4,1", Ok(FirstLine::Row)),
            ("5.1,3.5,setosa", "6.2,2.9,virginica", Ok(FirstLine::Row)),
            ("nan,2,0", "1.5,2,0", Err("line 1, column 1: \"nan\"".to_owned())),
            ("1.5,,0", "1.5,2,0", Err("line 1, column 2: \"\"".to_owned())),
            ("1.5,2,NA", "1.5,2,0", Err("line 1, column 3: \"NA\"".to_owned())),
            ("inf,2,0", "1.5,2,0", Err("line 1, column 1: \"inf\"".to_owned())),
            ("O.2,2,0", "1.5,2,0", Err("line 1, column 1: \"O.2\"".to_owned())),
            ("country,2019,2020", "Kenya,1,2", Err("line 1, column 1: \"country\"".to_owned())),
            ("nan,NA,?", "1,2,3", Err("line 1, column 1: \"nan\"".to_owned())),
        ] {
            assert_eq!(decided(first, second), expected, "{first}");
        }
    }

    #[test]
    fn names_are_unique_and_never_empty() {
        assert_eq!(names(fields(" a ,,a,a.1")), ["a", "Unnamed: 1", "a.1", "a.1.1"]);
    }

    #[test]
    fn a_row_may_have_a_name_that_the_header_has_none_for() {
        assert!(has_unnamed_first(3, &fields("x,1.5,2,0"), 1, 2).unwrap());
        assert!(!has_unnamed_first(3, &fields("1.5,2,0"), 1, 2).unwrap());
        for row in ["1,2,0,", "a,b,c,d", "1,2,3,4,5"] {
            assert_eq!(has_unnamed_first(3, &fields(row), 1, 2).unwrap_err().place, "line 1", "{row}");
        }
    }
}
