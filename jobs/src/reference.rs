//! The job spec's reference for users, written from the types: nothing in it can be out of date.

use crate::schema::{self, Field, Shape, Variant};
use serde_json::Value as Json;
use std::fmt::Write as _;

const HEAD: &str = "# The job spec

A job is one TOML file. Everything in it is checked before anything starts; a key that is not listed here is an error.
`trainctl submit job.toml --set key.path=value` changes a key for one submission.

<!-- Written from the types in jobs/src/spec by `cargo run -p trainctl-jobs --example reference`. -->
";

/// The reference in Markdown: a table for each table of the spec, and for each kind of one that has kinds.
#[must_use]
pub fn reference_markdown() -> String {
    let mut text = HEAD.to_owned();
    text.push_str("\n## The top level\n\n");
    table(&mut text, "", schema::job());
    sections(&mut text, "", schema::job());
    text
}

/// All that lies below these fields, in order.
fn sections(text: &mut String, path: &str, fields: &[Field]) {
    for field in fields {
        let path = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
        match &field.shape {
            Shape::Table(fields) => {
                heading(text, &path, field);
                text.push('\n');
                table(text, &path, fields);
                sections(text, &path, fields);
            }
            Shape::Tagged(variants) => {
                heading(text, &path, field);
                for Variant { kind, doc, fields } in variants {
                    let _ = write!(text, "\n### `kind = \"{kind}\"`\n\n{doc}\n\n");
                    table(text, &path, fields);
                }
            }
            Shape::Choice(words) => {
                heading(text, &path, field);
                text.push('\n');
                text.push_str("| value | meaning |\n|---|---|\n");
                for (word, doc) in words {
                    let _ = writeln!(text, "| `\"{word}\"` | {doc} |");
                }
            }
            _ => {}
        }
    }
}

fn heading(text: &mut String, path: &str, field: &Field) {
    let _ = write!(text, "\n## `{path}`\n\n{}\n", field.doc);
}

fn table(text: &mut String, path: &str, fields: &[Field]) {
    text.push_str("| key | value | default | meaning |\n|---|---|---|---|\n");
    for field in fields {
        let path = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
        let value = match &field.shape {
            Shape::Table(_) | Shape::Tagged(_) | Shape::Choice(_) => format!("[see below](#{})", anchor(&path)),
            shape => shape.describe().trim_start_matches("a ").to_owned(),
        };
        let default = match &field.default {
            _ if field.required => "required".to_owned(),
            Some(Json::Object(table)) => match table.get("kind") {
                Some(kind) => format!("`kind = {kind}`"),
                None => String::new(),
            },
            Some(default) => format!("`{default}`"),
            None => String::new(),
        };
        let _ = writeln!(text, "| `{}` | {value} | {default} | {} |", field.name, field.doc);
    }
}

/// As Markdown renderers make it from a heading.
fn anchor(path: &str) -> String {
    path.replace('.', "")
}
