//! From a job file's text to a job, or to everything that is wrong with it.

use crate::error::{Place, SpecError, SpecErrors};
use crate::rules;
use crate::schema;
use crate::spec::JobSpec;
use crate::structure::{Checked, Problem};
use crate::tree::{Node, Step, Value, keys, path_text};

/// A job file of more is not one.
const JOB_MAX_BYTES: usize = 1 << 20;

/// Parses and checks a job file. `source_name` is what errors call it: its path as the user gave it.
///
/// # Errors
/// All that can be found without reading another file, in the order of the text. Where the syntax is broken, that
/// alone: what stands behind it can't be trusted.
pub fn parse(text: &str, source_name: &str) -> Result<JobSpec, SpecErrors> {
    if text.len() > JOB_MAX_BYTES {
        let expected = format!("at most {JOB_MAX_BYTES} bytes");
        let found = format!("{} bytes", text.len());
        let error = SpecError { key: String::new(), place: None, expected, found, hint: None };
        return Err(SpecErrors::one(source_name, error));
    }
    let (tree, syntax) = Node::parse(text);
    if !syntax.is_empty() {
        let errors = syntax.iter().map(|error| syntax_error(text, error)).collect();
        return Err(SpecErrors { source_name: source_name.to_owned(), errors });
    }
    check(&tree).map_err(|problems| {
        let errors = problems.into_iter().map(|problem| located(problem, text, &tree)).collect();
        let mut errors = SpecErrors { source_name: source_name.to_owned(), errors };
        errors.errors.sort_by_key(|error| error.place.as_ref().map(|place| (place.line, place.column)));
        errors
    })
}

impl JobSpec {
    /// Checks a job that was not read from a job file: all that [`parse`] checks.
    ///
    /// # Errors
    /// All that is wrong, without places.
    ///
    /// # Panics
    /// Never: every job can be written as JSON.
    pub fn check(&self) -> Result<(), SpecErrors> {
        let json = serde_json::to_value(self).expect("a job is tables, lists, texts and numbers");
        check(&Node::from(&json)).map(drop).map_err(|problems| SpecErrors {
            source_name: format!("job {:?}", self.name),
            errors: problems.into_iter().map(|problem| problem.error(None)).collect(),
        })
    }

    /// Samples of one logical shard's share of a step.
    #[must_use]
    pub fn micro_batch(&self) -> u32 {
        self.train.global_batch / self.train.logical_shards
    }
}

impl SpecErrors {
    /// The same, with the place in the job file that each key has. For errors that come up after parsing.
    #[must_use]
    pub fn locate(mut self, text: &str, source_name: &str) -> Self {
        source_name.clone_into(&mut self.source_name);
        let (tree, _) = Node::parse(text);
        for error in self.errors.iter_mut().filter(|error| error.place.is_none()) {
            error.place = Some(place(&keys(&error.key), false, text, &tree));
        }
        self
    }
}

impl Problem {
    pub(crate) fn error(self, place: Option<Place>) -> SpecError {
        let Self { path, expected, found, hint, .. } = self;
        SpecError { key: path_text(&path), place, expected, found, hint }
    }
}

fn check(tree: &Node) -> Result<JobSpec, Vec<Problem>> {
    let mut checked = Checked::default();
    let entries = match &tree.value {
        Value::Table(entries) => entries.as_slice(),
        _ => &[],
    };
    let sound = checked.table(entries, schema::job(), &[]);
    let mut problems = checked.problems;
    let job: JobSpec = match serde_json::from_value(sound) {
        Ok(job) => job,
        // The structure check knows all that deserializing does; what it misses must still be no panic.
        Err(error) => {
            let hint = None;
            problems.push(Problem {
                path: Vec::new(),
                at_key: false,
                expected: "a job".to_owned(),
                found: error.to_string(),
                hint,
            });
            return Err(problems);
        }
    };
    let replaced = checked.replaced;
    let touches = |key: &str| {
        replaced
            .iter()
            .any(|replaced| key.strip_prefix(replaced.as_str()).is_some_and(|rest| !rest.starts_with(is_inner)))
    };
    let broken = rules::broken(&job).into_iter().filter(|broken| !broken.about.iter().any(|key| touches(key)));
    problems.extend(broken.map(|broken| broken.problem));
    if problems.is_empty() { Ok(job) } else { Err(problems) }
}

/// Whether a key's name goes on: `train.steps` is no part of `train.steps_max`, but all of `train.steps.x` is.
fn is_inner(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn located(problem: Problem, text: &str, tree: &Node) -> SpecError {
    let place = place(&problem.path, problem.at_key, text, tree);
    problem.error(Some(place))
}

/// Where a key or its value stands; for one that is missing, the table in which it should be.
fn place(path: &[Step], at_key: bool, text: &str, tree: &Node) -> Place {
    let (entry, node) = tree.deepest(path);
    let whole = entry.is_some_and(|entry| {
        matches!(path.last(), Some(Step::Index(_))) || path.last() == Some(&Step::Key(entry.key.clone()))
    });
    let span = match entry {
        Some(entry) if !whole || at_key || matches!(node.value, Value::Table(_)) => entry.key_span.clone(),
        Some(_) => node.span.clone(),
        None => 0..0,
    };
    Place::of(text, span)
}

fn syntax_error(text: &str, error: &toml::de::Error) -> SpecError {
    let place = Place::of(text, error.span().unwrap_or(0..0));
    let message = error.message();
    let (found, expected) = message.split_once(", expected ").unwrap_or((message, "TOML"));
    SpecError {
        key: String::new(),
        place: Some(place),
        expected: if expected == "nothing" { "the end of the line".to_owned() } else { expected.to_owned() },
        found: found.to_owned(),
        hint: None,
    }
}
