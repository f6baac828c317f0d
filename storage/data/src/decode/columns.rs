//! What each column of an object is for, found by its name: the objects of a data set may have their columns in any
//! order.

use super::Bad;
use crate::manifest::TableLayout;
use std::collections::BTreeMap;

/// More names are not written out in messages.
const LISTED_MAX: usize = 12;

/// What a column is read for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Use {
    /// The place of its values in a sample.
    Feature(usize),
    Target,
    LeftOut,
}

/// The use of each of an object's columns. Columns that the table doesn't know, or that it misses, are an error;
/// `first` is the object that the table was made from, and `is_index` tells columns that never count.
pub(super) fn uses(
    names: &[String],
    table: &TableLayout,
    first: &str,
    is_index: impl Fn(&str) -> bool,
) -> Result<Vec<Use>, Bad> {
    let features = table.features.iter().enumerate().map(|(place, name)| (name.as_str(), Use::Feature(place)));
    let left_out = table.left_out.iter().map(|name| (name.as_str(), Use::LeftOut));
    let known: BTreeMap<&str, Use> = features.chain(left_out).chain([(table.target.as_str(), Use::Target)]).collect();
    let found: Vec<Option<Use>> = names.iter().map(|name| known.get(name.as_str()).copied()).collect();
    let unknown = names.iter().zip(&found).filter(|(name, found)| found.is_none() && !is_index(name));
    let unknown: Vec<&str> = unknown.map(|(name, _)| name.as_str()).collect();
    let present: std::collections::BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let missing: Vec<&str> = known.keys().copied().filter(|name| !present.contains(name) && !is_index(name)).collect();
    if unknown.is_empty() && missing.is_empty() {
        return Ok(found.into_iter().map(|found| found.unwrap_or(Use::LeftOut)).collect());
    }
    let of_first = |name: &&str| known.contains_key(name);
    let expected = if known.len() <= LISTED_MAX && names.len() <= LISTED_MAX {
        let all = table.features.iter().chain([&table.target]).chain(&table.left_out).map(String::as_str);
        format!("the columns {}, as in {first}", list(all.filter(of_first)))
    } else if missing.is_empty() {
        format!("the {} columns of {first}", known.len())
    } else {
        format!("the columns of {first}, with {}", list(missing.iter().copied()))
    };
    let found = if names.len() <= LISTED_MAX {
        list(names.iter().map(String::as_str))
    } else if unknown.is_empty() {
        "none of these names".to_owned()
    } else {
        format!("{} as well", list(unknown.iter().copied()))
    };
    let hint = if names.iter().all(|name| name.parse::<f64>().is_ok()) {
        "give the file the line of names that the others have, or take it from all and say `--header no`"
    } else {
        "give all files the same columns, or pin those that have others alone"
    };
    Err(Bad::new("", expected, found).hint(hint))
}

/// `a, b, c`, and how many more.
pub(crate) fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    // A name may have line ends.
    let quoted = |name: &&str| if name.contains(char::is_control) { format!("{name:?}") } else { (*name).to_owned() };
    let mut text = names.iter().take(LISTED_MAX).map(quoted).collect::<Vec<_>>().join(", ");
    if names.len() > LISTED_MAX {
        text.push_str(&format!(" and {} more", names.len() - LISTED_MAX));
    }
    text
}
