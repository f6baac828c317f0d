//! A job spec as written: values with their places, before any of it is believed.

use std::ops::Range;
use toml::Spanned;
use toml::de::{DeInteger, DeString, DeTable, DeValue};

/// A value and where it stands, in bytes.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Node {
    pub(crate) span: Range<usize>,
    pub(crate) value: Value,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Value {
    Flag(bool),
    /// With its digits, where it is too large to be a number.
    Integer(Result<i128, String>),
    Number(f64),
    Text(String),
    Moment(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
}

/// One key of a table.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Range<usize>,
    pub(crate) node: Node,
}

impl Node {
    /// The document, and what is wrong with its syntax.
    pub(crate) fn parse(text: &str) -> (Self, Vec<toml::de::Error>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let span = table.span();
        (Self { span, value: Value::Table(entries(table.get_ref())) }, errors)
    }

    /// The entry that a path leads to; where it ends early, the deepest that is there.
    pub(crate) fn deepest(&self, path: &[Step]) -> (Option<&Entry>, &Node) {
        let (mut entry, mut node) = (None, self);
        for step in path {
            match (step, &node.value) {
                (Step::Key(key), Value::Table(entries)) => {
                    let Some(next) = entries.iter().find(|entry| entry.key == *key) else { break };
                    (entry, node) = (Some(next), &next.node);
                }
                (Step::Index(index), Value::List(items)) => {
                    let Some(next) = items.get(*index) else { break };
                    node = next;
                }
                _ => break,
            }
        }
        (entry, node)
    }
}

impl Value {
    /// As it stands after "found".
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Flag(flag) => flag.to_string(),
            Self::Integer(Ok(number)) => number.to_string(),
            Self::Integer(Err(digits)) => digits.clone(),
            Self::Number(number) if number.is_nan() => "nan".to_owned(),
            Self::Number(number) => format!("{number:?}"),
            Self::Text(text) if text.chars().count() > 80 => {
                format!("a text of {} characters", text.chars().count())
            }
            Self::Text(text) => format!("{text:?}"),
            Self::Moment(text) => format!("the date {text}"),
            Self::List(items) if items.is_empty() => "an empty list".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::Table(_) => "a table".to_owned(),
        }
    }
}

/// One step into a tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// `model.hidden[1]`.
pub(crate) fn path_text(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.extend([".", key]),
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

/// The path of a dotted key.
pub(crate) fn keys(text: &str) -> Vec<Step> {
    text.split('.').map(|key| Step::Key(key.to_owned())).collect()
}

fn entries(table: &DeTable<'_>) -> Vec<Entry> {
    let entry = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| Entry {
        key: key.get_ref().to_string(),
        key_span: key.span(),
        node: node(value),
    };
    let mut entries: Vec<Entry> = table.iter().map(entry).collect();
    entries.sort_by_key(|entry| entry.key_span.start);
    entries
}

fn node(value: &Spanned<DeValue<'_>>) -> Node {
    let converted = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => Value::Integer(integer(number)),
        DeValue::Float(number) => Value::Number(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(moment) => Value::Moment(moment.to_string()),
        DeValue::Array(items) => Value::List(items.iter().map(node).collect()),
        DeValue::Table(table) => Value::Table(entries(table)),
    };
    Node { span: value.span(), value: converted }
}

fn integer(number: &DeInteger<'_>) -> Result<i128, String> {
    i128::from_str_radix(number.as_str(), number.radix()).map_err(|_| number.to_string())
}

impl From<&serde_json::Value> for Node {
    /// A spec that was not read from a text. What JSON can't say of a number (not finite) it says by null.
    fn from(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        let value = match json {
            Json::Null => Value::Number(f64::NAN),
            Json::Bool(flag) => Value::Flag(*flag),
            Json::Number(number) => match (number.as_i128(), number.as_f64()) {
                (Some(number), _) => Value::Integer(Ok(number)),
                (None, number) => Value::Number(number.unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::Text(text.clone()),
            Json::Array(items) => Value::List(items.iter().map(Self::from).collect()),
            Json::Object(table) => Value::Table(
                table
                    .iter()
                    .map(|(key, value)| Entry { key: key.clone(), key_span: 0..0, node: value.into() })
                    .collect(),
            ),
        };
        Self { span: 0..0, value }
    }
}
