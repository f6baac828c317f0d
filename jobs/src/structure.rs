//! Checking a tree against the types: keys, types, bounds, forms. What hangs on several keys at once is in `rules`.

use crate::schema::{Field, Shape, Variant, one_of};
use crate::text_format;
use crate::tree::{Entry, Node, Step, Value, path_text};
use serde_json::Value as Json;

/// A fault, before it is known where in a file it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Problem {
    pub(crate) path: Vec<Step>,
    /// The key itself is meant, not its value.
    pub(crate) at_key: bool,
    pub(crate) expected: String,
    pub(crate) found: String,
    pub(crate) hint: Option<String>,
}

/// What was found in a tree.
#[derive(Default)]
pub(crate) struct Checked {
    pub(crate) problems: Vec<Problem>,
    /// Keys whose values were faulty or missing, and are samples now.
    pub(crate) replaced: Vec<String>,
    path: Vec<Step>,
}

impl Checked {
    /// Checks a table and returns it as JSON in which every fault is replaced by a sample, so that it can be
    /// deserialized whatever was wrong with it.
    pub(crate) fn table(&mut self, entries: &[Entry], fields: &[Field], kinds: &[Variant]) -> Json {
        let mut sound = serde_json::Map::new();
        let mut misspelt = Vec::new();
        for entry in entries {
            self.path.push(Step::Key(entry.key.clone()));
            match fields.iter().find(|field| field.name == entry.key) {
                Some(field) => {
                    sound.insert(field.name.clone(), self.value(&entry.node, field));
                }
                None if entry.key == "kind" && !kinds.is_empty() => {}
                None => {
                    let table = path_text(&self.path[..self.path.len() - 1]);
                    let Unknown { expected, found, hint, meant } = unknown_key(&entry.key, &table, fields, kinds);
                    self.problem(true, expected, &found, Some(hint));
                    misspelt.extend(meant);
                }
            }
            self.path.pop();
        }
        let given = |field: &&Field| entries.iter().any(|entry| entry.key == field.name);
        for field in fields.iter().filter(|field| field.required).filter(|field| !given(field)) {
            self.path.push(Step::Key(field.name.clone()));
            // Under a misspelt name it is there, and that was said already.
            if !misspelt.contains(&field.name) {
                self.problem(true, field.shape.describe(), "no such key", Some(field.doc.clone()));
            }
            self.replaced.push(path_text(&self.path));
            self.path.pop();
            sound.insert(field.name.clone(), field.shape.sample());
        }
        Json::Object(sound)
    }

    fn problem(&mut self, at_key: bool, expected: String, found: &str, hint: Option<String>) {
        let path = self.path.clone();
        self.problems.push(Problem { path, at_key, expected, found: found.to_owned(), hint });
    }

    fn value(&mut self, node: &Node, field: &Field) -> Json {
        self.shape(node, &field.shape).unwrap_or_else(|| {
            self.replaced.push(path_text(&self.path));
            field.default.clone().unwrap_or_else(|| field.shape.sample())
        })
    }

    /// The value as JSON, or nothing when it is faulty.
    fn shape(&mut self, node: &Node, shape: &Shape) -> Option<Json> {
        match (shape, &node.value) {
            (Shape::Table(fields), Value::Table(entries)) => return Some(self.table(entries, fields, &[])),
            (Shape::Tagged(variants), Value::Table(entries)) => return self.tagged(entries, variants),
            (Shape::Choice(words), Value::Text(text)) if words.iter().any(|(word, _)| word == text) => {
                return Some(text.clone().into());
            }
            (Shape::Choice(words), Value::Text(text)) => {
                let near = nearest(text, words.iter().map(|(word, _)| word.as_str()));
                self.wrong(node, shape, near.map(|near| format!("did you mean \"{near}\"?")));
            }
            (Shape::Integer { min, max }, Value::Integer(Ok(number))) if (min..=max).contains(&number) => {
                return i64::try_from(*number).ok().map(Json::from);
            }
            (Shape::Integer { .. } | Shape::IntegerOrText { .. }, Value::Number(number))
                if number.is_finite() && number.fract() == 0.0 =>
            {
                self.wrong(node, shape, Some(format!("write {number} without a point or exponent")));
            }
            #[expect(clippy::cast_precision_loss, reason = "a whole number where a real one is meant")]
            (Shape::Number(interval), Value::Integer(Ok(number))) if interval.contains(*number as f64) => {
                return Some((*number as f64).into());
            }
            (Shape::Number(interval), Value::Number(number)) if interval.contains(*number) => {
                return Some((*number).into());
            }
            (Shape::Integer { .. } | Shape::Number(_) | Shape::Flag, Value::Text(text)) => {
                let fits = text.parse::<f64>().is_ok() || matches!(text.as_str(), "true" | "false");
                self.wrong(node, shape, fits.then(|| format!("write {text} without quotes")));
            }
            (Shape::Text { format: None, may_be_empty }, Value::Text(text)) if *may_be_empty || !text.is_empty() => {
                return Some(text.clone().into());
            }
            (Shape::Text { format: Some(format), .. }, Value::Text(text)) => {
                let Err(hint) = text_format::check(format, text) else { return Some(text.clone().into()) };
                self.wrong(node, shape, hint);
            }
            (Shape::Text { .. }, Value::Integer(_) | Value::Number(_) | Value::Flag(_) | Value::Moment(_)) => {
                self.wrong(node, shape, Some("write it in quotes".to_owned()));
            }
            (Shape::IntegerOrText { min, max, .. }, Value::Integer(Ok(number))) if (min..=max).contains(&number) => {
                return i64::try_from(*number).ok().map(Json::from);
            }
            (Shape::IntegerOrText { format, .. }, Value::Text(text)) => {
                let Err(hint) = text_format::check(format, text) else { return Some(text.clone().into()) };
                self.wrong(node, shape, hint);
            }
            (Shape::IntegerOrText { format, .. }, _) => {
                self.wrong(node, shape, text_format::hint(format).map(str::to_owned));
            }
            (Shape::Flag, Value::Flag(flag)) => return Some((*flag).into()),
            (Shape::List { items, min, max }, Value::List(nodes)) if (min..=max).contains(&&nodes.len()) => {
                return Some(self.list(nodes, items));
            }
            (Shape::List { max, .. }, Value::List(nodes)) if nodes.len() > *max => {
                let found = format!("{} of them", nodes.len());
                self.problem(false, format!("a list of at most {max}"), &found, None);
            }
            (Shape::List { items, .. }, Value::Integer(_) | Value::Text(_)) if self.silently(node, items) => {
                self.wrong(node, shape, Some("put it in brackets: [ ]".to_owned()));
            }
            _ => self.wrong(node, shape, None),
        }
        None
    }

    fn wrong(&mut self, node: &Node, shape: &Shape, hint: Option<String>) {
        self.problem(false, shape.describe(), &node.value.describe(), hint);
    }

    /// Whether a value is sound, without a word about it.
    fn silently(&self, node: &Node, shape: &Shape) -> bool {
        Self::default().shape(node, shape).is_some()
    }

    fn list(&mut self, nodes: &[Node], items: &Shape) -> Json {
        let mut sound = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            self.path.push(Step::Index(index));
            sound.push(self.shape(node, items).unwrap_or_else(|| {
                self.replaced.push(path_text(&self.path));
                items.sample()
            }));
            self.path.pop();
        }
        Json::Array(sound)
    }

    fn tagged(&mut self, entries: &[Entry], variants: &[Variant]) -> Option<Json> {
        let kinds = || variants.iter().map(|variant| variant.kind.as_str());
        let Some(kind) = entries.iter().find(|entry| entry.key == "kind") else {
            self.path.push(Step::Key("kind".to_owned()));
            self.problem(true, one_of(kinds()), "no such key", Some("it says which other keys there are".to_owned()));
            self.path.pop();
            return None;
        };
        let known = match &kind.node.value {
            Value::Text(text) => variants.iter().find(|variant| variant.kind == *text),
            _ => None,
        };
        let Some(variant) = known else {
            let near = match &kind.node.value {
                Value::Text(text) => nearest(text, kinds()),
                _ => None,
            };
            self.path.push(Step::Key("kind".to_owned()));
            let hint = near.map(|near| format!("did you mean \"{near}\"?"));
            self.problem(false, one_of(kinds()), &kind.node.value.describe(), hint);
            self.path.pop();
            return None;
        };
        let mut table = self.table(entries, &variant.fields, variants);
        table["kind"] = variant.kind.clone().into();
        Some(table)
    }
}

/// What to say of a key that a table doesn't have.
pub(crate) struct Unknown {
    pub(crate) expected: String,
    pub(crate) found: String,
    pub(crate) hint: String,
    /// The key that was most likely meant.
    pub(crate) meant: Option<String>,
}

/// `fields` are the table's, without `kind`; `kinds` are all kinds that it may be of.
pub(crate) fn unknown_key(key: &str, table: &str, fields: &[Field], kinds: &[Variant]) -> Unknown {
    let kind = (!kinds.is_empty()).then_some("kind");
    let known: Vec<&str> = kind.into_iter().chain(fields.iter().map(|field| field.name.as_str())).collect();
    let place = if table.is_empty() { "a job".to_owned() } else { format!("[{table}]") };
    let meant = nearest(key, known.iter().copied());
    let other_kind = kinds.iter().find(|variant| variant.fields.iter().any(|field| field.name == key));
    let hint = match (meant, other_kind) {
        (Some(meant), _) => format!("did you mean `{meant}`?"),
        (None, Some(variant)) => format!("only kind = {:?} has it", variant.kind),
        (None, None) => match elsewhere(key) {
            Some(path) => format!("`{key}` belongs to [{path}]"),
            None => format!("{place} has {}", known.join(", ")),
        },
    };
    Unknown { expected: format!("a key of {place}"), found: format!("`{key}`"), hint, meant: meant.map(str::to_owned) }
}

/// The known word that was most likely meant.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase().replace('-', "_");
    let score = |candidate: &str| {
        let candidate = candidate.replace('-', "_");
        let edits = strsim::damerau_levenshtein(&word, &candidate);
        let close = edits <= candidate.chars().count().max(word.chars().count()).div_ceil(3);
        // `batch` for `global_batch`, `check` for `checkpoint`: far in edits, near in meaning.
        let part = word.len() >= 3 && (candidate.starts_with(&word) || candidate.split('_').any(|part| part == word));
        (close || part).then_some(if part { edits.min(2) } else { edits })
    };
    known.filter_map(|candidate| Some((score(candidate)?, candidate))).min().map(|(_, candidate)| candidate)
}

/// The table in which a key of this name would be right, when there is just one.
fn elsewhere(key: &str) -> Option<String> {
    fn search(path: &str, fields: &[Field], key: &str, found: &mut Vec<String>) {
        for field in fields {
            let below = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
            if field.name == key && !path.is_empty() && !found.iter().any(|known| known == path) {
                found.push(path.to_owned());
            }
            match &field.shape {
                Shape::Table(fields) => search(&below, fields, key, found),
                Shape::Tagged(variants) => {
                    variants.iter().for_each(|variant| search(&below, &variant.fields, key, found));
                }
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    search("", crate::schema::job(), key, &mut found);
    match found.as_slice() {
        [path] => Some(path.clone()),
        _ => None,
    }
}
