//! Recorded traces of spot capacity in three formats, read into one form: which nodes were there when, by zone. What
//! the formats leave open is decided in the module of each.

mod bamboo;
mod counts;
mod lifetimes;

use std::path::{Path, PathBuf};

/// A recorded history of spot capacity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    /// Where it was read from.
    pub source: PathBuf,
    /// How it was written.
    pub format: Format,
    /// What is taken away apart.
    pub zones: Vec<Zone>,
    /// From its begin to its end. After that it goes on with its begin.
    pub length_ms: u64,
}

/// How a trace is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Rows `ms,add|remove,node`, as the Bamboo project recorded fleets on AWS.
    Bamboo,
    /// Lives of single VMs, as `goog-preemption-data` has them of Google Cloud.
    Lifetimes,
    /// Available instances at fixed intervals, as in "Can't Be Late" (NSDI 2024).
    Counts,
}

/// Where instances live and are taken away apart from those of other zones.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Zone {
    /// As the trace calls it; `spot` where it has one zone without a name.
    pub name: String,
    /// Nodes in the order in which they came.
    pub nodes: Vec<Presence>,
}

/// A node was there from one time to another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Presence {
    /// Since the begin of the trace.
    pub from_ms: u64,
    /// When it was taken; the trace's end for one that was there still.
    pub until_ms: u64,
}

/// Why a trace can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file can't be read.
    #[error("read trace {path}: {source}", path = .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Something in it is not what it should be.
    #[error("trace {path}{place}: expected {expected}, found {found}\nhint: {hint}", path = .path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// Where in it: `:17`, or `: data[3]`; nothing for all of it.
        place: String,
        /// What would have been right.
        expected: String,
        /// What stands there.
        found: String,
        /// What to do about it.
        hint: &'static str,
    },
}

const FORMATS: &str = "a trace is Bamboo's CSV (ms,add|remove,node), the JSON of goog-preemption-data, or \
                       {\"metadata\": {\"gap_seconds\": ..}, \"data\": [available instances, ..]}";

impl Trace {
    /// Reads a trace; its content says which format it is in.
    ///
    /// # Errors
    /// The file can't be read, or something in it does not hold.
    pub fn load(path: &Path) -> Result<Self, TraceError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| TraceError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Reads the text of a trace; `path` names it in errors.
    ///
    /// # Errors
    /// Something in it does not hold.
    pub fn parse(text: &str, path: &Path) -> Result<Self, TraceError> {
        let file = File { path };
        let trace =
            if text.trim_start().starts_with(['{', '[']) { json(text, &file)? } else { bamboo::read(text, &file)? };
        if trace.zones.iter().all(|zone| zone.nodes.is_empty()) {
            return Err(file.wrong("", "capacity at some time", "none at any"));
        }
        Ok(trace)
    }

    /// Most nodes that were there at a time, over all zones.
    #[must_use]
    pub fn peak(&self) -> usize {
        let nodes = || self.zones.iter().flat_map(|zone| &zone.nodes);
        let mut changes: Vec<(u64, i64)> = nodes().flat_map(|node| [(node.from_ms, 1), (node.until_ms, -1)]).collect();
        // At one time first those that go.
        changes.sort_unstable();
        let mut present = 0;
        let peak = changes.iter().map(|(_, change)| {
            present += change;
            present
        });
        usize::try_from(peak.max().unwrap_or(0)).unwrap_or(0)
    }
}

fn json(text: &str, file: &File<'_>) -> Result<Trace, TraceError> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| {
        let place = format!(":{}:{}", error.line(), error.column());
        file.wrong(&place, "JSON", &error.to_string())
    })?;
    let serde_json::Value::Object(object) = value else {
        return Err(file.wrong("", "an object", "a list"));
    };
    if object.contains_key("metadata") || object.contains_key("data") {
        counts::read(&object, file)
    } else {
        lifetimes::read(&object, file)
    }
}

/// The file that is being read, for errors.
struct File<'p> {
    path: &'p Path,
}

impl File<'_> {
    fn wrong(&self, place: &str, expected: &str, found: &str) -> TraceError {
        TraceError::Content {
            path: self.path.to_owned(),
            place: place.to_owned(),
            expected: expected.to_owned(),
            found: found.to_owned(),
            hint: FORMATS,
        }
    }

    fn trace(&self, format: Format, zones: Vec<Zone>, length_ms: u64) -> Trace {
        Trace { source: self.path.to_owned(), format, zones, length_ms }
    }
}

/// A JSON value in few words.
fn brief(value: Option<&serde_json::Value>) -> String {
    let Some(value) = value else { return "nothing".to_owned() };
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn parse(text: &str) -> Result<Trace, TraceError> {
        Trace::parse(text, Path::new("t"))
    }

    #[test]
    fn the_content_says_the_format() {
        let format = |text| parse(text).unwrap().format;
        assert_eq!(format("0,add,a\n5,remove,a\n"), Format::Bamboo);
        assert_eq!(format(r#"{"metadata": {"gap_seconds": 600}, "data": [1, 0]}"#), Format::Counts);
    }

    #[test]
    fn what_is_no_trace_is_told_with_place_and_hint() {
        let said = |text| parse(text).unwrap_err().to_string();
        assert!(said("{\"a\": ").starts_with("trace t:1:6: expected JSON, found"), "{}", said("{\"a\": "));
        assert!(said("[1]").starts_with("trace t: expected an object, found a list\nhint: a trace is"));
        let empty = r#"{"metadata": {"gap_seconds": 600}, "data": [0, 0]}"#;
        assert!(said(empty).starts_with("trace t: expected capacity at some time, found none at any"));
    }

    #[test]
    fn the_peak_counts_all_zones() {
        let node = |from_ms, until_ms| Presence { from_ms, until_ms };
        let zone = |nodes| Zone { name: String::new(), nodes };
        let zones = vec![zone(vec![node(0, 10), node(10, 20)]), zone(vec![node(5, 20)])];
        let trace = Trace { source: PathBuf::new(), format: Format::Bamboo, zones, length_ms: 20 };
        assert_eq!(trace.peak(), 2);
    }
}
