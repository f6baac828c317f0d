//! Traces of spot fleets: which nodes were there when. Rows are `ms,add|remove,node`, as the Bamboo project recorded
//! them on AWS (<https://github.com/uclasystem/bamboo>), in order of time.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// A whole trace, in order of time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    /// Where it was read from.
    pub path: PathBuf,
    /// Its rows.
    pub steps: Vec<TraceStep>,
}

/// One row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceStep {
    /// Since the start of the trace, as recorded.
    pub at: Duration,
    /// What happened to the fleet.
    pub change: NodeChange,
}

/// What happens to a fleet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodeChange {
    /// A node of this name came.
    Add(String),
    /// It was taken.
    Remove(String),
}

/// Why a trace can't be replayed.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file can't be read.
    #[error("trace {path}: expected a readable file", path = .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A row is not one.
    #[error("trace {path}:{line}: expected {expected}, found {found:?}", path = .path.display())]
    Row {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What would have been right.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// There is no row at all.
    #[error("trace {path}: expected rows \"ms,add|remove,node\", found none", path = .path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
}

impl Trace {
    /// Reads and checks a trace file.
    ///
    /// # Errors
    /// The file can't be read, or a row does not hold.
    pub fn load(path: &Path) -> Result<Self, TraceError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| TraceError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Checks the text of a trace; `path` names it in errors. Lines that begin with `#` are for people.
    ///
    /// # Errors
    /// A row does not hold: three columns, times that never fall, nodes added before they are removed.
    pub fn parse(text: &str, path: &Path) -> Result<Self, TraceError> {
        let mut steps: Vec<TraceStep> = Vec::new();
        let mut present = std::collections::BTreeSet::new();
        for (index, row) in text.lines().enumerate() {
            let row = row.trim();
            if row.is_empty() || row.starts_with('#') {
                continue;
            }
            let wrong =
                |expected| TraceError::Row { path: path.to_owned(), line: index + 1, expected, found: row.to_owned() };
            let mut columns = row.split(',').map(str::trim);
            let (Some(ms), Some(what), Some(node), None) =
                (columns.next(), columns.next(), columns.next(), columns.next())
            else {
                return Err(wrong("three columns \"ms,add|remove,node\""));
            };
            let at = Duration::from_millis(ms.parse().map_err(|_| wrong("milliseconds in the first column"))?);
            if steps.last().is_some_and(|last| at < last.at) {
                return Err(wrong("a time no earlier than the row's before"));
            }
            let change = match what {
                "add" if present.insert(node.to_owned()) => NodeChange::Add(node.to_owned()),
                "add" => return Err(wrong("a node that is not there yet")),
                "remove" if present.remove(node) => NodeChange::Remove(node.to_owned()),
                "remove" => return Err(wrong("a node that was added before")),
                _ => return Err(wrong("add or remove in the second column")),
            };
            steps.push(TraceStep { at, change });
        }
        if steps.is_empty() {
            return Err(TraceError::Empty { path: path.to_owned() });
        }
        Ok(Self { path: path.to_owned(), steps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Trace, TraceError> {
        Trace::parse(text, Path::new("t.csv"))
    }

    #[test]
    fn reads_rows_in_order() {
        let trace = parse("0,add,node1\r\n60000,add,node2\n60000,remove,node1\n").expect("a good trace");
        assert_eq!(trace.steps.len(), 3);
        assert_eq!(
            trace.steps[2],
            TraceStep { at: Duration::from_secs(60), change: NodeChange::Remove("node1".to_owned()) }
        );
    }

    #[test]
    fn names_the_line_and_what_was_expected() {
        let message = |text| parse(text).expect_err("a bad trace").to_string();
        assert_eq!(
            message("0,add,a\nx,add,b"),
            "trace t.csv:2: expected milliseconds in the first column, found \"x,add,b\""
        );
        assert_eq!(
            message("5,add,a\n4,add,b"),
            "trace t.csv:2: expected a time no earlier than the row's before, found \"4,add,b\""
        );
        assert_eq!(message("0,remove,a"), "trace t.csv:1: expected a node that was added before, found \"0,remove,a\"");
        assert_eq!(message("0,add"), "trace t.csv:1: expected three columns \"ms,add|remove,node\", found \"0,add\"");
        assert_eq!(message("\n"), "trace t.csv: expected rows \"ms,add|remove,node\", found none");
    }
}
