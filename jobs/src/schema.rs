//! The job spec's types as data: made once from their derived JSON schema, so that parser, `--set` and reference know
//! the keys, bounds and documentation that the types have, and no others.

use crate::spec::JobSpec;
use schemars::generate::SchemaSettings;
use serde_json::Value as Json;
use std::fmt;
use std::sync::LazyLock;

/// What may be written in one place.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Shape {
    Table(Vec<Field>),
    /// A table whose `kind` says which fields it has.
    Tagged(Vec<Variant>),
    /// One of some words, each with its documentation.
    Choice(Vec<(String, String)>),
    Integer {
        min: i128,
        max: i128,
    },
    Number(Interval),
    Text {
        /// A format that `text_format` checks.
        format: Option<String>,
        may_be_empty: bool,
    },
    /// A whole number, or a text of a format that `text_format` checks.
    IntegerOrText {
        min: i128,
        max: i128,
        format: String,
    },
    Flag,
    List {
        items: Box<Shape>,
        min: usize,
        max: usize,
    },
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) required: bool,
    pub(crate) default: Option<Json>,
    pub(crate) shape: Shape,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Variant {
    pub(crate) kind: String,
    pub(crate) doc: String,
    /// Without `kind` itself.
    pub(crate) fields: Vec<Field>,
}

/// Bounds of a real number; an open end excludes its bound.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Interval {
    pub(crate) min: Option<f64>,
    pub(crate) above: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) below: Option<f64>,
}

impl Interval {
    pub(crate) fn contains(self, value: f64) -> bool {
        value.is_finite()
            && self.min.is_none_or(|bound| value >= bound)
            && self.above.is_none_or(|bound| value > bound)
            && self.max.is_none_or(|bound| value <= bound)
            && self.below.is_none_or(|bound| value < bound)
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.min, self.above, self.max, self.below) {
            (Some(min), _, Some(max), _) => write!(f, "from {min} to {max}"),
            (Some(min), _, None, Some(below)) => write!(f, "from {min} to below {below}"),
            (Some(min), _, None, None) => write!(f, "from {min}"),
            (None, Some(above), Some(max), _) => write!(f, "above {above}, up to {max}"),
            (None, Some(above), None, Some(below)) => write!(f, "above {above}, below {below}"),
            (None, Some(above), None, None) => write!(f, "above {above}"),
            (None, None, Some(max), _) => write!(f, "up to {max}"),
            (None, None, None, Some(below)) => write!(f, "below {below}"),
            (None, None, None, None) => Ok(()),
        }
    }
}

/// The job spec's own shape.
pub(crate) fn job() -> &'static [Field] {
    static JOB: LazyLock<Vec<Field>> = LazyLock::new(|| {
        let mut settings = SchemaSettings::draft2020_12();
        settings.inline_subschemas = true;
        let schema = settings.into_generator().into_root_schema_for::<JobSpec>();
        fields(schema.as_value())
    });
    &JOB
}

fn fields(schema: &Json) -> Vec<Field> {
    let required = |name: &str| schema["required"].as_array().is_some_and(|names| names.iter().any(|n| n == name));
    let properties = schema["properties"].as_object().into_iter().flatten();
    let field = |(name, schema): (&String, &Json)| Field {
        name: name.clone(),
        doc: doc(schema),
        required: required(name),
        default: schema.get("default").cloned(),
        shape: shape(schema),
    };
    properties.filter(|(name, _)| *name != "kind").map(field).collect()
}

fn doc(schema: &Json) -> String {
    schema["description"].as_str().unwrap_or_default().replace('\n', " ")
}

/// Understands what the derives in `spec` make, and panics on more: that is for a test to find, not for a user.
fn shape(schema: &Json) -> Shape {
    if let Some(choices) = schema["oneOf"].as_array() {
        let text = |schema: &Json| schema["const"].as_str().expect("a word for each choice").to_owned();
        if choices.iter().all(|choice| choice.get("const").is_some()) {
            return Shape::Choice(choices.iter().map(|choice| (text(choice), doc(choice))).collect());
        }
        let variant = |choice: &Json| Variant {
            kind: text(&choice["properties"]["kind"]),
            doc: doc(choice),
            fields: fields(choice),
        };
        return Shape::Tagged(choices.iter().map(variant).collect());
    }
    if let (Some(ways), Some(format)) = (schema["anyOf"].as_array(), schema["format"].as_str()) {
        let way = |kind: &str| ways.iter().find(|way| way["type"] == kind).map(shape);
        if let (Some(Shape::Integer { min, max }), Some(Shape::Text { .. })) = (way("integer"), way("string")) {
            return Shape::IntegerOrText { min, max, format: format.to_owned() };
        }
    }
    // An absent key is written `["integer", "null"]`; TOML has no null to write.
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
    let size = |key: &str| schema[key].as_u64().and_then(|size| usize::try_from(size).ok());
    match kind {
        Some("object") => Shape::Table(fields(schema)),
        Some("integer") => {
            let type_max = if schema["format"] == "uint32" { i128::from(u32::MAX) } else { i128::from(i64::MAX) };
            let bound = |key: &str| schema[key].as_i64().map(i128::from);
            Shape::Integer { min: bound("minimum").unwrap_or(0), max: bound("maximum").unwrap_or(type_max) }
        }
        Some("number") => Shape::Number(Interval {
            min: schema["minimum"].as_f64(),
            above: schema["exclusiveMinimum"].as_f64(),
            max: schema["maximum"].as_f64(),
            below: schema["exclusiveMaximum"].as_f64(),
        }),
        Some("string") => Shape::Text {
            format: schema["format"].as_str().map(str::to_owned),
            may_be_empty: size("minLength").unwrap_or(0) == 0,
        },
        Some("boolean") => Shape::Flag,
        Some("array") => Shape::List {
            items: Box::new(shape(&schema["items"])),
            min: size("minItems").unwrap_or(0),
            max: size("maxItems").unwrap_or(1000),
        },
        _ => panic!("a job spec's type that the parser does not know: {schema}"),
    }
}

impl Shape {
    /// What a user may write, as it stands after "expected".
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Table(_) => "a table".to_owned(),
            Self::Tagged(variants) => {
                let kinds = variants.iter().map(|variant| variant.kind.as_str());
                format!("a table with kind = {}", one_of(kinds))
            }
            Self::Choice(words) => one_of(words.iter().map(|(word, _)| word.as_str())),
            Self::Integer { min, max } if *max >= i128::from(u32::MAX) => format!("a whole number from {min}"),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Number(interval) => format!("a number {interval}").trim_end().to_owned(),
            Self::Text { format, .. } => match format {
                Some(format) => crate::text_format::describe(format).to_owned(),
                None => "text".to_owned(),
            },
            Self::IntegerOrText { format, .. } => crate::text_format::describe(format).to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::List { items, min, .. } => {
                let empty = if *min == 0 { "" } else { "non-empty " };
                let items = items.describe();
                let item = items.strip_prefix("a ").unwrap_or(&items);
                match item.strip_prefix("whole number") {
                    Some(bounds) => format!("a {empty}list of whole numbers{bounds}"),
                    None => format!("a {empty}list of {item}"),
                }
            }
        }
    }

    /// The smallest thing that may be written here. It stands in for a faulty value, so that the rest can be checked.
    pub(crate) fn sample(&self) -> Json {
        match self {
            Self::Table(fields) => sample_fields(fields),
            Self::Tagged(variants) => {
                let mut table = sample_fields(&variants[0].fields);
                table["kind"] = variants[0].kind.clone().into();
                table
            }
            Self::Choice(words) => words[0].0.clone().into(),
            Self::Integer { min, .. } => i64::try_from(*min).unwrap_or(0).into(),
            Self::Number(interval) => interval.min.or(interval.max).unwrap_or(1.0).into(),
            Self::Text { format, .. } => crate::text_format::sample(format.as_deref()).into(),
            Self::IntegerOrText { format, .. } => crate::text_format::sample(Some(format)).into(),
            Self::Flag => false.into(),
            Self::List { items, min, .. } => vec![items.sample(); *min].into(),
        }
    }
}

fn sample_fields(fields: &[Field]) -> Json {
    let required = fields.iter().filter(|field| field.required);
    Json::Object(required.map(|field| (field.name.clone(), field.shape.sample())).collect())
}

/// `"a", "b" or "c"`.
pub(crate) fn one_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.map(|word| format!("{word:?}")).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, first)) => format!("{} or {last}", first.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_documented() {
        fn walk(path: &str, fields: &[Field]) {
            for field in fields {
                let path = format!("{path}{}", field.name);
                assert!(!field.doc.is_empty(), "{path} has no documentation");
                match &field.shape {
                    Shape::Table(fields) => walk(&format!("{path}."), fields),
                    Shape::Tagged(variants) => {
                        for variant in variants {
                            assert!(!variant.doc.is_empty(), "{path} {} has no documentation", variant.kind);
                            walk(&format!("{path}."), &variant.fields);
                        }
                    }
                    Shape::Choice(words) => assert!(words.iter().all(|(_, doc)| !doc.is_empty()), "{path}"),
                    _ => {}
                }
            }
        }
        walk("", job());
    }

    #[test]
    fn the_sample_of_a_job_is_a_job() {
        let sample = sample_fields(job());
        serde_json::from_value::<JobSpec>(sample.clone()).unwrap_or_else(|error| panic!("{sample:#}: {error}"));
    }
}
