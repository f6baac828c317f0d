//! `--set key.path=value`: a change to a job's text, so that everything after it sees one job file.

use crate::error::{SpecError, SpecErrors};
use crate::schema::{self, Field, Shape, Variant};
use crate::structure::{Unknown, unknown_key};
use serde_json::Value as Json;
use toml_edit::{DocumentMut, Item, Table, TableLike, Value};

/// Sets one key of a job file's text; the rest, comments too, stays as it is. The value is TOML; where it is none, or
/// where the key wants text, it is taken as text, so that `--set checkpoint.every="5 min"` needs no second pair of
/// quotes. A text that is no TOML comes back as it is: [`crate::parse`] says why.
///
/// # Errors
/// [`SpecErrors`] about `--set` when there is no `=` or no such key. Whether the value fits is for `parse` to say.
pub fn apply_set(text: &str, assignment: &str) -> Result<String, SpecErrors> {
    let Some((key, value)) = assignment.split_once('=') else {
        return Err(wrong(
            "",
            "key.path=value".to_owned(),
            format!("{assignment:?}"),
            "such as train.steps=100".to_owned(),
        ));
    };
    let Ok(mut document) = text.parse::<DocumentMut>() else { return Ok(text.to_owned()) };
    let key = key.trim();
    let path: Vec<&str> = key.split('.').map(str::trim).collect();
    let (last, tables) = path.split_last().expect("split gives one part at least");
    let mut table: &mut dyn TableLike = document.as_table_mut();
    let mut known = Known { fields: schema::job().iter().collect(), kinds: &[] };
    for (depth, name) in tables.iter().enumerate() {
        let at = tables[..depth].join(".");
        let field = known.field(name, key, &at)?;
        let below = match &field.shape {
            Shape::Table(fields) => Known { fields: fields.iter().collect(), kinds: &[] },
            Shape::Tagged(variants) => Known { fields: Vec::new(), kinds: variants },
            other => {
                let hint = format!("set {} itself", tables[..=depth].join("."));
                return Err(wrong(
                    key,
                    "a key that is there".to_owned(),
                    format!("`{name}`, {}", other.describe()),
                    hint,
                ));
            }
        };
        table = enter(table, field).ok_or_else(|| {
            let hint = format!("set {} as a whole", tables[..=depth].join("."));
            wrong(key, "a table in the job file".to_owned(), format!("something else at `{name}`"), hint)
        })?;
        let kind = table.get("kind").and_then(Item::as_str);
        known = below.of_kind(kind);
    }
    let is_kind = *last == "kind" && !known.kinds.is_empty();
    let wants_text = is_kind || {
        let field = known.field(last, key, &tables.join("."))?;
        matches!(field.shape, Shape::Text { .. } | Shape::Choice(_))
    };
    put(table, last, parse_value(value.trim(), wants_text));
    Ok(document.to_string())
}

/// The keys that a table may have.
struct Known<'a> {
    fields: Vec<&'a Field>,
    kinds: &'a [Variant],
}

impl<'a> Known<'a> {
    /// With the fields of this kind; where it is not known, of all kinds.
    fn of_kind(mut self, kind: Option<&str>) -> Self {
        let is_known = self.kinds.iter().any(|variant| Some(variant.kind.as_str()) == kind);
        let kinds = self.kinds.iter().filter(|variant| !is_known || Some(variant.kind.as_str()) == kind);
        self.fields.extend(kinds.flat_map(|variant| &variant.fields));
        self
    }

    fn field(&self, name: &str, key: &str, table: &str) -> Result<&'a Field, SpecErrors> {
        self.fields.iter().find(|field| field.name == name).copied().ok_or_else(|| {
            let fields: Vec<Field> = self.fields.iter().map(|field| (*field).clone()).collect();
            let Unknown { expected, found, hint, .. } = unknown_key(name, table, &fields, self.kinds);
            wrong(key, expected, found, hint)
        })
    }
}

fn wrong(key: &str, expected: String, found: String, hint: String) -> SpecErrors {
    SpecErrors::one("--set", SpecError { key: key.to_owned(), place: None, expected, found, hint: Some(hint) })
}

/// The table of this field. One that is not there yet gets what its default has and it can't be without.
fn enter<'t>(table: &'t mut dyn TableLike, field: &Field) -> Option<&'t mut dyn TableLike> {
    let name = field.name.as_str();
    if !table.contains_key(name) {
        let mut new = Item::Table(Table::new());
        for (key, value) in required_defaults(field) {
            new.as_table_like_mut()?.insert(key, Item::Value(value));
        }
        table.insert(name, new);
    }
    table.get_mut(name)?.as_table_like_mut()
}

fn required_defaults(field: &Field) -> Vec<(&str, Value)> {
    let Some(Json::Object(defaults)) = &field.default else { return Vec::new() };
    let kind = defaults.get("kind").and_then(Json::as_str);
    let required = |key: &str| match &field.shape {
        Shape::Table(fields) => fields.iter().any(|field| field.required && field.name == key),
        Shape::Tagged(variants) => {
            let mut variants = variants.iter().filter(|variant| Some(variant.kind.as_str()) == kind);
            key == "kind"
                || variants.any(|variant| variant.fields.iter().any(|field| field.required && field.name == key))
        }
        _ => false,
    };
    let value = |json: &Json| json.to_string().parse::<Value>().ok();
    defaults
        .iter()
        .filter(|(key, _)| required(key))
        .filter_map(|(key, json)| Some((key.as_str(), value(json)?)))
        .collect()
}

fn parse_value(text: &str, wants_text: bool) -> Value {
    match text.parse::<Value>() {
        Ok(value) if value.is_str() || !wants_text => value.decorated(" ", ""),
        _ => Value::from(text).decorated(" ", ""),
    }
}

fn put(table: &mut dyn TableLike, key: &str, mut value: Value) {
    if let Some(item) = table.get_mut(key) {
        // The comment at the end of the line is the old value's decoration.
        if let Some(old) = item.as_value() {
            *value.decor_mut() = old.decor().clone();
        }
        *item = Item::Value(value);
    } else {
        table.insert(key, Item::Value(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str =
        "name = \"digits\" # mine\n\n[train]\nsteps = 10 # few\noptimizer = { kind = \"sgd\", lr = 0.1 }\n";

    fn set(assignment: &str) -> String {
        apply_set(JOB, assignment).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn refused(assignment: &str) -> String {
        apply_set(JOB, assignment).unwrap_err().to_string()
    }

    #[test]
    fn a_value_changes_and_its_comment_stays() {
        assert!(set("train.steps=20").contains("steps = 20 # few"));
        assert!(set("name=other").contains("name = \"other\" # mine"));
        assert!(set("train.optimizer.lr = 0.5").contains("optimizer = { kind = \"sgd\", lr = 0.5 }"));
    }

    #[test]
    fn text_needs_no_quotes_and_may_look_like_a_number() {
        assert!(set("name=2024").contains("name = \"2024\""));
        assert!(set("name=\"a-b\"").contains("name = \"a-b\""));
        assert!(set("checkpoint.every=500 steps").ends_with("[checkpoint]\nevery = \"500 steps\"\n"));
        assert!(set("train.audit=off").contains("audit = \"off\""));
        assert!(set("train.audit=50 steps").contains("audit = \"50 steps\""));
        assert!(set("train.audit=50").contains("audit = 50\n"));
        assert!(set("train.optimizer.kind=adamw").contains("kind = \"adamw\""));
        assert!(set("data.digest=blake3:00").contains("digest = \"blake3:00\""));
    }

    #[test]
    fn lists_and_tables_are_toml() {
        assert!(set("resources.pools=[\"a\", \"b\"]").contains("pools = [\"a\", \"b\"]"));
        let whole = set("train.schedule={ kind = \"cosine\" }");
        assert!(whole.contains("schedule = { kind = \"cosine\" }"), "{whole}");
    }

    #[test]
    fn a_table_that_is_not_there_gets_what_it_needs() {
        assert!(set("resources.workers.max=4").ends_with("[resources.workers]\nmin = 1\nmax = 4\n"));
        assert!(
            set("train.schedule.warmup_steps=5").ends_with("[train.schedule]\nkind = \"constant\"\nwarmup_steps = 5\n")
        );
    }

    #[test]
    fn a_key_that_is_not_known_gets_the_nearest() {
        assert_eq!(
            refused("train.stpes=5"),
            "--set: train.stpes: expected a key of [train], found `stpes`\nhint: did you mean `steps`?"
        );
        assert!(
            refused("trian.steps=5").contains("expected a key of a job, found `trian`\nhint: did you mean `train`?")
        );
        assert!(refused("train.optimizer.beta1=0").contains("only kind = \"adamw\" has it"));
        assert!(refused("steps=5").contains("`steps` belongs to [train]"));
        assert!(refused("train.steps.x=5").contains("hint: set train.steps itself"));
        assert!(refused("train.steps").contains("expected key.path=value, found \"train.steps\""));
        assert!(refused("=5").contains("expected a key of a job"));
    }

    #[test]
    fn broken_text_is_left_for_the_parser() {
        assert_eq!(apply_set("name = ", "name=x").unwrap(), "name = ");
    }
}
