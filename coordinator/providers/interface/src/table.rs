//! `pools.toml`, read table by table: each provider takes the keys of its own kind. All that is wrong with a file is told
//! at once, each with its line, what was expected and what was found.
//!
//! A [`Table`] notes which keys it was asked for; [`Table::finish`] then tells of those that nobody asked for. A value that
//! is absent or of a wrong kind is given as `None`, and the latter noted as a problem, so a caller fills in its defaults and
//! goes on:
//!
//! ```
//! use coordinator_provider::table::{self, Table};
//!
//! fn parse(table: &mut Table<'_>) -> Option<(String, u32)> {
//!     table.require("zones", "a list of zones");
//!     let zones = table.texts("zones", "a list of zones such as [\"us-east-1a\"]");
//!     let capacity = table.count("capacity", 0..=1024).unwrap_or(8);
//!     table.finish()?;
//!     Some((zones?.join(" "), capacity))
//! }
//!
//! let text = "[pools.a]\nzones = ['z1', 'z2']\n";
//! let read = table::read(text, "pools.toml", "".as_ref(), |root| root.entries("pools").iter_mut().filter_map(parse).collect());
//! let read: Vec<_> = read.unwrap();
//! assert_eq!(read, [("z1 z2".to_owned(), 8)]);
//!
//! let error = table::read("[pools.a]\nzone = 1\n", "pools.toml", "".as_ref(), |root| {
//!     let _: Vec<_> = root.entries("pools").iter_mut().filter_map(parse).collect();
//! });
//! let error = error.unwrap_err().to_string();
//! assert!(error.contains("pools.toml:2:1: expected zones, capacity, found the unknown key zone\nhint: did you mean zones?"));
//! ```

use std::cell::RefCell;
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Everything that is wrong with a file of pools.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// `pools.toml:3:12`, or the file alone.
    pub place: String,
    /// What was expected and what was found.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// Reads a file's text. `source` names it in problems; paths in it are relative to `base`.
///
/// # Errors
/// Everything that was noted while it was read, in the order of the file.
pub fn read<T>(text: &str, source: &str, base: &Path, take: impl FnOnce(&mut Table<'_>) -> T) -> Result<T, Problems> {
    let file = File { text, source, base, problems: RefCell::default() };
    match DeTable::parse(text) {
        Ok(document) => {
            let mut root = Table::new(&file, String::new(), "", 0..0, document.get_ref());
            let taken = take(&mut root);
            let problems = file.told();
            if problems.is_empty() { Ok(taken) } else { Err(Problems(problems)) }
        }
        Err(error) => {
            let at = error.span().unwrap_or(0..0);
            file.problem(at, format!("expected TOML, found: {}", error.message()), None);
            Err(Problems(file.told()))
        }
    }
}

/// One table of the file.
pub struct Table<'a> {
    file: &'a File<'a>,
    /// `pools.a`; empty: the whole file.
    place: String,
    name: String,
    at: Range<usize>,
    table: &'a DeTable<'a>,
    /// Keys that somebody asked for, in that order.
    asked: Vec<&'static str>,
    /// Problems that the file had when this table began.
    before: usize,
}

struct File<'a> {
    text: &'a str,
    source: &'a str,
    base: &'a Path,
    /// With where each stands.
    problems: RefCell<Vec<(usize, Problem)>>,
}

impl File<'_> {
    fn problem(&self, at: Range<usize>, message: String, hint: Option<String>) {
        let before = &self.text[..at.start.min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        let place = format!("{}:{line}:{column}", self.source);
        self.problems.borrow_mut().push((at.start, Problem { place, message, hint }));
    }

    fn count(&self) -> usize {
        self.problems.borrow().len()
    }

    fn told(&self) -> Vec<Problem> {
        let mut problems = self.problems.take();
        problems.sort_by_key(|(at, _)| *at);
        problems.into_iter().map(|(_, problem)| problem).collect()
    }
}

impl<'a> Table<'a> {
    fn new(file: &'a File<'a>, place: String, name: &str, at: Range<usize>, table: &'a DeTable<'a>) -> Self {
        Self { file, place, name: name.to_owned(), at, table, asked: Vec::new(), before: file.count() }
    }

    /// The last part of its name: `a` of `[pools.a]`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the key is there, whatever its value.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Notes a problem if the key is not there.
    pub fn require(&mut self, key: &'static str, expected: &str) {
        if self.value(key).is_none() {
            let message = format!("{}: expected {expected}, found nothing", self.place_of(key));
            self.file.problem(self.at.clone(), message, None);
        }
    }

    /// A text.
    pub fn text(&mut self, key: &'static str, expected: &str) -> Option<String> {
        self.parsed(key, expected, |value| value.as_str().map(str::to_owned))
    }

    /// A text that is one of these.
    pub fn one_of(&mut self, key: &'static str, known: &[&str]) -> Option<String> {
        let expected = known.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" or ");
        self.parsed(key, &expected, |value| value.as_str().filter(|found| known.contains(found)).map(str::to_owned))
    }

    /// A list of texts, none of them empty.
    pub fn texts(&mut self, key: &'static str, expected: &str) -> Option<Vec<String>> {
        self.parsed(key, expected, |value| texts_of(value.as_array()?.iter().map(Spanned::get_ref)))
    }

    /// A text, or a list of some; none is empty.
    pub fn one_or_more(&mut self, key: &'static str, expected: &str) -> Option<Vec<String>> {
        self.parsed(key, expected, |value| {
            let texts = match value {
                DeValue::Array(items) => texts_of(items.iter().map(Spanned::get_ref)),
                one => texts_of([one].into_iter()),
            };
            texts.filter(|texts| !texts.is_empty())
        })
    }

    /// True or false.
    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        self.parsed(key, "true or false", |value| value.as_bool())
    }

    /// A whole number within these bounds.
    pub fn count(&mut self, key: &'static str, within: RangeInclusive<u32>) -> Option<u32> {
        let expected = format!("a count from {} to {}", within.start(), within.end());
        self.parsed(key, &expected, |value| {
            let found = value.as_integer().and_then(|n| u32::from_str_radix(n.as_str(), n.radix()).ok());
            found.filter(|count| within.contains(count))
        })
    }

    /// A finite number for which `holds`.
    pub fn number(&mut self, key: &'static str, expected: &str, holds: impl Fn(f64) -> bool) -> Option<f64> {
        self.parsed(key, expected, |value| {
            let text = match value {
                DeValue::Integer(n) if n.radix() == 10 => n.as_str(),
                DeValue::Float(n) => n.as_str(),
                _ => "",
            };
            text.parse::<f64>().ok().filter(|number| number.is_finite() && holds(*number))
        })
    }

    /// US dollars an hour.
    pub fn usd_per_hour(&mut self, key: &'static str) -> Option<f64> {
        self.number(key, "US dollars an hour, 0 or more", |usd| usd >= 0.0)
    }

    /// A time such as "5s".
    pub fn duration(&mut self, key: &'static str) -> Option<Duration> {
        self.parsed(key, "a time such as \"5s\"", |value| humantime::parse_duration(value.as_str()?).ok())
    }

    /// A path; a relative one starts at the folder of the file.
    pub fn path(&mut self, key: &'static str, expected: &str) -> Option<PathBuf> {
        let base = self.file.base;
        self.parsed(key, expected, |value| value.as_str().map(|path| base.join(path)))
    }

    /// The table under this key.
    pub fn table(&mut self, key: &'static str) -> Option<Table<'a>> {
        let value = self.value(key)?;
        self.inner(self.place_of(key), key, value)
    }

    /// The tables of `[[key]]`, or a list of inline ones.
    pub fn tables(&mut self, key: &'static str) -> Vec<Table<'a>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong(key, "a list of tables");
            return Vec::new();
        };
        items.iter().filter_map(|item| self.inner(self.place_of(key), key, item)).collect()
    }

    /// The tables below this key, each with a name of the user's: `[key.NAME]`.
    pub fn entries(&mut self, key: &'static str) -> Vec<Table<'a>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(key, &format!("tables [{}.NAME]", self.place_of(key)));
            return Vec::new();
        };
        let place = self.place_of(key);
        let mut tables = Vec::new();
        for (name, value) in table.iter() {
            let name = name.get_ref();
            tables.extend(self.inner(format!("{place}.{name}"), name, value));
        }
        tables
    }

    /// The numbers below this key, each with a name of the user's.
    pub fn numbers(&mut self, key: &'static str, expected: &str, holds: impl Fn(f64) -> bool) -> Vec<(String, f64)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(key, &format!("a table of {expected}"));
            return Vec::new();
        };
        let mut numbers = Vec::new();
        for (name, value) in table.iter() {
            let text = match value.get_ref() {
                DeValue::Integer(n) if n.radix() == 10 => n.as_str(),
                DeValue::Float(n) => n.as_str(),
                _ => "",
            };
            match text.parse::<f64>().ok().filter(|number| number.is_finite() && holds(*number)) {
                Some(number) => numbers.push((name.get_ref().to_string(), number)),
                None => self.wrong_value(&format!("{}.{}", self.place_of(key), name.get_ref()), value, expected),
            }
        }
        numbers
    }

    /// Notes that the value of this key is not what it must be; that the key is missing, if it is.
    pub fn wrong(&mut self, key: &'static str, expected: &str) {
        match self.value(key) {
            Some(value) => self.wrong_value(&self.place_of(key), value, expected),
            None => self.require(key, expected),
        }
    }

    /// Notes any other problem with a key, or with the table if it has no such key. `message` says what was expected and
    /// what was found.
    pub fn problem(&mut self, key: &'static str, message: &str, hint: Option<&str>) {
        let at = self.table.get(key).map_or_else(|| self.at.clone(), Spanned::span);
        self.file.problem(at, format!("{}: {message}", self.place_of(key)), hint.map(str::to_owned));
    }

    /// Whether nothing is wrong with this table so far.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.file.count() == self.before
    }

    /// Notes the keys that nobody asked for. `None`: something is wrong with this table.
    pub fn finish(&mut self) -> Option<()> {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if !self.asked.contains(&name) {
                let hint = nearest(name, &self.asked).map(|known| format!("did you mean {known}?"));
                let message = format!("expected {}, found the unknown key {name}", self.asked.join(", "));
                self.file.problem(key.span(), message, hint);
            }
        }
        self.is_sound().then_some(())
    }

    fn place_of(&self, key: &str) -> String {
        if self.place.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place) }
    }

    fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.table.get(key)
    }

    fn parsed<T>(&mut self, key: &'static str, expected: &str, parse: impl Fn(&DeValue<'_>) -> Option<T>) -> Option<T> {
        let value = self.value(key)?;
        let parsed = parse(value.get_ref());
        if parsed.is_none() {
            self.wrong_value(&self.place_of(key), value, expected);
        }
        parsed
    }

    fn inner(&self, place: String, name: &str, value: &'a Spanned<DeValue<'a>>) -> Option<Table<'a>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_value(&place, value, "a table");
        }
        Some(Table::new(self.file, place, name, value.span(), table?))
    }

    fn wrong_value(&self, place: &str, value: &Spanned<DeValue<'_>>, expected: &str) {
        let found = if value.get_ref().is_table() { "a table" } else { &self.file.text[value.span()] };
        self.file.problem(value.span(), format!("{place}: expected {expected}, found {found}"), None);
    }
}

fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let likeness = known.iter().map(|candidate| (strsim::jaro_winkler(word, candidate), *candidate));
    let near = likeness.filter(|(likeness, _)| *likeness > 0.75).max_by(|a, b| a.0.total_cmp(&b.0));
    near.map(|(_, candidate)| candidate)
}

/// `None`: one of them is no text, or is empty.
fn texts_of<'v>(values: impl Iterator<Item = &'v DeValue<'v>>) -> Option<Vec<String>> {
    values.map(|value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(root: &mut Table<'_>) {
        root.text("text", "a text");
        root.texts("texts", "a list of texts");
        root.boolean("boolean");
        root.count("count", 1..=3);
        root.usd_per_hour("price");
        root.duration("duration");
        root.numbers("numbers", "numbers above 0", |number| number > 0.0);
        for mut table in root.tables("tables").into_iter().chain(root.entries("entries")) {
            table.require("needed", "something");
            let _ = table.finish();
        }
        let _ = root.finish();
    }

    #[test]
    fn each_kind_of_value_is_told_with_its_place() {
        let text = "text = 1\ntexts = ['a', '']\nboolean = 'x'\ncount = 4\nprice = -1\nduration = 5\n\
                    numbers = { a = 1, b = 0 }\ntables = [{ other = 1 }]\nentries.b.needed = 1\nentries.c = 2\n";
        let errors = read(text, "p.toml", Path::new(""), all).expect_err("wrong in each line").to_string();
        let expected = "\
            p.toml:1:8: text: expected a text, found 1\n\
            p.toml:2:9: texts: expected a list of texts, found ['a', '']\n\
            p.toml:3:11: boolean: expected true or false, found 'x'\n\
            p.toml:4:9: count: expected a count from 1 to 3, found 4\n\
            p.toml:5:9: price: expected US dollars an hour, 0 or more, found -1\n\
            p.toml:6:12: duration: expected a time such as \"5s\", found 5\n\
            p.toml:7:24: numbers.b: expected numbers above 0, found 0\n\
            p.toml:8:11: tables.needed: expected something, found nothing\n\
            p.toml:8:13: expected needed, found the unknown key other\n\
            p.toml:10:13: entries.c: expected a table, found 2";
        assert_eq!(errors, expected);
    }

    #[test]
    fn what_is_absent_is_no_problem_until_it_is_required() {
        assert!(read("", "p.toml", Path::new(""), all).is_ok());
        let error = read("", "p.toml", Path::new(""), |root| root.require("a", "b")).expect_err("required");
        assert_eq!(error.to_string(), "p.toml:1:1: a: expected b, found nothing");
    }

    #[test]
    fn broken_toml_is_told_with_its_line() {
        let error = read("[a", "p.toml", Path::new(""), |_| ()).expect_err("no TOML").to_string();
        assert!(error.starts_with("p.toml:1:"), "{error}");
    }

    #[test]
    fn paths_start_at_the_file() {
        let path = read("a = 'b.csv'", "p.toml", Path::new("/c"), |root| root.path("a", "a path"));
        assert_eq!(path, Ok(Some(PathBuf::from("/c/b.csv"))));
    }
}
