//! `pools.toml`: which pools there are. All that is wrong with a file is told at once, each with its line, what was
//! expected and what was found.

use crate::trace::{Trace, TraceError};
use coordinator_core::PoolName;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A pool of local processes.
#[derive(Clone, PartialEq, Debug)]
pub struct PoolConfig {
    /// Its name, as jobs list it.
    pub name: PoolName,
    /// Taken away at the pool's will.
    pub spot: bool,
    /// The most instances that it holds.
    pub capacity: u32,
    /// Between SIGTERM and SIGKILL of an eviction.
    pub notice: Duration,
    /// How long a drill keeps the capacity after its instance has gone.
    pub capacity_returns_after: Duration,
    /// Replayed, it makes nodes come and go.
    pub trace: Option<TraceConfig>,
}

/// A trace to replay.
#[derive(Clone, PartialEq, Debug)]
pub struct TraceConfig {
    /// The checked rows.
    pub trace: Trace,
    /// Seconds of the trace in one second.
    pub speed: f64,
}

/// Everything that is wrong with a file of pools.
#[derive(Debug, thiserror::Error)]
pub struct PoolsErrors(pub Vec<PoolsProblem>);

impl fmt::Display for PoolsErrors {
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
pub struct PoolsProblem {
    /// `pools.toml:3:12`, or the file alone.
    pub place: String,
    /// What was expected and what was found.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for PoolsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

const KEYS: [&str; 7] = ["kind", "spot", "capacity", "notice", "capacity_returns_after", "trace", "trace_speed"];
const CAPACITY_MAX: u32 = 1024;
const NOTICE_DEFAULT: Duration = Duration::from_secs(5);
const RETURNS_AFTER_DEFAULT: Duration = Duration::from_secs(2);

/// The pools without a file: `local-spot`, that takes instances with a notice, and `local`, that does not.
#[must_use]
pub fn default_pools() -> Vec<PoolConfig> {
    ["local-spot", "local"]
        .into_iter()
        .map(|name| PoolConfig {
            name: PoolName::from(name),
            spot: name == "local-spot",
            capacity: 8,
            notice: NOTICE_DEFAULT,
            capacity_returns_after: RETURNS_AFTER_DEFAULT,
            trace: None,
        })
        .collect()
}

/// Reads a file of pools; paths of traces are relative to it.
///
/// # Errors
/// The file can't be read or does not hold.
pub fn load_pools(path: &Path) -> Result<Vec<PoolConfig>, PoolsErrors> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        PoolsErrors(vec![PoolsProblem {
            place: path.display().to_string(),
            message: format!("expected a readable file of pools, found: {error}"),
            hint: Some("leave it out to have the pools local-spot and local".to_owned()),
        }])
    })?;
    parse_pools(&text, &path.display().to_string(), path.parent().unwrap_or(Path::new("")))
}

/// Parses a file of pools. `source` names it in errors, paths of traces are relative to `base`.
///
/// # Errors
/// Every key that is unknown, missing or of a wrong value, and every trace that can't be replayed.
pub fn parse_pools(text: &str, source: &str, base: &Path) -> Result<Vec<PoolConfig>, PoolsErrors> {
    let mut reader = Reader { text, source, base, problems: Vec::new() };
    let pools = reader.document();
    if reader.problems.is_empty() { Ok(pools) } else { Err(PoolsErrors(reader.problems)) }
}

struct Reader<'a> {
    text: &'a str,
    source: &'a str,
    base: &'a Path,
    problems: Vec<PoolsProblem>,
}

impl Reader<'_> {
    fn document(&mut self) -> Vec<PoolConfig> {
        let document = match DeTable::parse(self.text) {
            Ok(document) => document,
            Err(error) => {
                self.problem(error.span().unwrap_or(0..0), format!("expected TOML, found: {}", error.message()), None);
                return Vec::new();
            }
        };
        let mut pools = Vec::new();
        for (key, value) in document.get_ref().iter() {
            if key.get_ref() != "pools" {
                self.unknown(key.span(), key.get_ref(), &["pools"]);
                continue;
            }
            let Some(table) = self.table(value, "pools", "tables [pools.NAME]") else { continue };
            for (name, value) in table.iter() {
                let name = name.get_ref();
                if let Some(table) = self.table(value, &format!("pools.{name}"), "a table") {
                    pools.extend(self.pool(name, value.span(), table));
                }
            }
        }
        if pools.is_empty() && self.problems.is_empty() {
            let hint = Some("[pools.local-spot]\n      kind = \"local\"\n      capacity = 8".to_owned());
            self.problem(0..0, "expected at least one table [pools.NAME], found none".to_owned(), hint);
        }
        pools
    }

    fn pool(&mut self, name: &str, at: Range<usize>, table: &DeTable<'_>) -> Option<PoolConfig> {
        for key in table.keys() {
            if !KEYS.contains(&key.get_ref().as_ref()) {
                self.unknown(key.span(), key.get_ref(), &KEYS);
            }
        }
        let before = self.problems.len();
        let place = |key: &str| format!("pools.{name}.{key}");
        match table.get("kind") {
            Some(kind) if kind.get_ref().as_str() == Some("local") => {}
            Some(kind) => self.wrong(kind, &place("kind"), "\"local\""),
            None => self.problem(at.clone(), format!("{}: expected \"local\", found nothing", place("kind")), None),
        }
        let spot = table.get("spot").map_or(Some(false), |value| self.boolean(value, &place("spot")));
        let capacity = match table.get("capacity") {
            Some(value) => self.capacity(value, &place("capacity")),
            None => {
                self.problem(at, format!("{}: expected a count of instances, found nothing", place("capacity")), None);
                None
            }
        };
        let notice = self.duration(table, "notice", &place("notice"), NOTICE_DEFAULT);
        let returns = place("capacity_returns_after");
        let returns = self.duration(table, "capacity_returns_after", &returns, RETURNS_AFTER_DEFAULT);
        let trace = self.trace(table, &place("trace"), &place("trace_speed"));
        if self.problems.len() > before {
            return None;
        }
        Some(PoolConfig {
            name: PoolName::from(name),
            spot: spot?,
            capacity: capacity?,
            notice: notice?,
            capacity_returns_after: returns?,
            trace,
        })
    }

    fn trace(&mut self, table: &DeTable<'_>, place: &str, speed_place: &str) -> Option<TraceConfig> {
        let Some(value) = table.get("trace") else {
            if let Some(speed) = table.get("trace_speed") {
                let message = format!("{speed_place}: expected a trace beside it, found none");
                self.problem(speed.span(), message, None);
            }
            return None;
        };
        let speed = table.get("trace_speed").map_or(Some(1.0), |value| self.speed(value, speed_place));
        let Some(path) = value.get_ref().as_str() else {
            self.wrong(value, place, "the path of a trace file");
            return None;
        };
        match Trace::load(&self.base.join(path)) {
            Ok(trace) => Some(TraceConfig { trace, speed: speed? }),
            Err(error) => {
                let found = match &error {
                    TraceError::Read { source, .. } => format!("{error}, found: {source}"),
                    TraceError::Row { .. } | TraceError::Empty { .. } => error.to_string(),
                };
                let hint = "rows are \"ms,add|remove,node\"; a relative path starts at the file of pools";
                self.problem(value.span(), format!("{place}: {found}"), Some(hint.to_owned()));
                None
            }
        }
    }

    fn table<'t, 'i>(
        &mut self,
        value: &'t Spanned<DeValue<'i>>,
        place: &str,
        expected: &str,
    ) -> Option<&'t DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong(value, place, expected);
        }
        table
    }

    fn boolean(&mut self, value: &Spanned<DeValue<'_>>, place: &str) -> Option<bool> {
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.wrong(value, place, "true or false");
        }
        found
    }

    fn capacity(&mut self, value: &Spanned<DeValue<'_>>, place: &str) -> Option<u32> {
        let found = value.get_ref().as_integer().and_then(|n| u32::from_str_radix(n.as_str(), n.radix()).ok());
        let found = found.filter(|count| *count <= CAPACITY_MAX);
        if found.is_none() {
            self.wrong(value, place, &format!("a count from 0 to {CAPACITY_MAX}"));
        }
        found
    }

    fn speed(&mut self, value: &Spanned<DeValue<'_>>, place: &str) -> Option<f64> {
        let text = match value.get_ref() {
            DeValue::Integer(n) if n.radix() == 10 => n.as_str(),
            DeValue::Float(n) => n.as_str(),
            _ => "",
        };
        let found = text.parse::<f64>().ok().filter(|speed| speed.is_finite() && *speed > 0.0);
        if found.is_none() {
            self.wrong(value, place, "a number above 0");
        }
        found
    }

    fn duration(&mut self, table: &DeTable<'_>, key: &str, place: &str, default: Duration) -> Option<Duration> {
        let Some(value) = table.get(key) else { return Some(default) };
        let found = value.get_ref().as_str().and_then(|text| humantime::parse_duration(text).ok());
        if found.is_none() {
            self.wrong(value, place, "a time such as \"5s\"");
        }
        found
    }

    fn wrong(&mut self, value: &Spanned<DeValue<'_>>, place: &str, expected: &str) {
        let found = &self.text[value.span()];
        let found = if value.get_ref().is_table() { "a table" } else { found };
        self.problem(value.span(), format!("{place}: expected {expected}, found {found}"), None);
    }

    fn unknown(&mut self, at: Range<usize>, key: &str, known: &[&str]) {
        let nearest = known
            .iter()
            .map(|candidate| (strsim::jaro_winkler(key, candidate), candidate))
            .filter(|(likeness, _)| *likeness > 0.75)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let hint = nearest.map(|(_, candidate)| format!("did you mean {candidate}?"));
        self.problem(at, format!("expected {}, found the unknown key {key}", known.join(", ")), hint);
    }

    fn problem(&mut self, at: Range<usize>, message: String, hint: Option<String>) {
        let before = &self.text[..at.start.min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        self.problems.push(PoolsProblem { place: format!("{}:{line}:{column}", self.source), message, hint });
    }
}

impl PoolConfig {
    /// In words, what makes this pool's capacity move; empty: nothing.
    #[must_use]
    pub fn note(&self) -> String {
        self.trace.as_ref().map_or_else(String::new, |replay| {
            let name = replay.trace.path.file_name().map_or_else(PathBuf::new, PathBuf::from);
            format!("replays {} at {}x", name.display(), replay.speed)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<PoolConfig>, PoolsErrors> {
        parse_pools(text, "pools.toml", Path::new("/nowhere"))
    }

    #[test]
    fn reads_every_key() {
        let folder = tempfile::tempdir().expect("temp folder");
        std::fs::write(folder.path().join("t.csv"), "0,add,node1\n").expect("write");
        let text = "[pools.a]\nkind = 'local'\nspot = true\ncapacity = 3\nnotice = '30s'\n\
                    capacity_returns_after = '100ms'\ntrace = 't.csv'\ntrace_speed = 600\n\
                    [pools.b]\nkind = 'local'\ncapacity = 0x10\n";
        let pools = parse_pools(text, "pools.toml", folder.path()).expect("good pools");
        assert_eq!(pools[0].name, PoolName::from("a"));
        assert!(pools[0].spot && !pools[1].spot);
        assert_eq!((pools[0].capacity, pools[1].capacity), (3, 16));
        assert_eq!(pools[0].notice, Duration::from_secs(30));
        assert_eq!(pools[0].capacity_returns_after, Duration::from_millis(100));
        assert_eq!(pools[0].note(), "replays t.csv at 600x");
        assert_eq!(pools[1].notice, NOTICE_DEFAULT);
    }

    #[test]
    fn tells_all_that_is_wrong_with_lines_and_hints() {
        let text = "[pools.a]\nkind = 'cloud'\ncapcity = 3\nnotice = 5\n[pools.b]\nkind = 'local'\ncapacity = -1\n\
                    trace_speed = 2\n[pool.c]\n";
        let errors = parse(text).expect_err("bad pools").to_string();
        for expected in [
            "pools.toml:3:1: expected kind, spot, capacity, notice, capacity_returns_after, trace, trace_speed, \
             found the unknown key capcity\nhint: did you mean capacity?",
            "pools.toml:2:8: pools.a.kind: expected \"local\", found 'cloud'",
            "pools.toml:4:10: pools.a.notice: expected a time such as \"5s\", found 5",
            "pools.toml:7:12: pools.b.capacity: expected a count from 0 to 1024, found -1",
            "pools.toml:8:15: pools.b.trace_speed: expected a trace beside it, found none",
            "pools.toml:9:2: expected pools, found the unknown key pool\nhint: did you mean pools?",
        ] {
            assert!(errors.contains(expected), "{expected:?} is not in:\n{errors}");
        }
    }

    #[test]
    fn a_missing_trace_is_named() {
        let errors = parse("[pools.a]\nkind='local'\ncapacity=1\ntrace='none.csv'").expect_err("no such trace");
        let text = errors.to_string();
        assert!(text.contains("pools.toml:4:7: pools.a.trace: trace /nowhere/none.csv: expected"), "{text}");
        assert!(text.contains("No such file"), "{text}");
    }

    #[test]
    fn an_empty_file_and_broken_toml_are_errors() {
        assert!(parse("").expect_err("no pools").to_string().contains("at least one table [pools.NAME]"));
        assert!(parse("[pools.a").expect_err("no TOML").to_string().starts_with("pools.toml:1:"));
    }
}
