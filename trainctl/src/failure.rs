//! How a command fails: the class that scripts act on (the exit code) and what a person reads. Other crates' errors
//! become failures here or at the call that knows the place; nothing else decides exit codes.

use serde::Serialize;
use std::fmt;
use std::io::ErrorKind;

/// What kind of failure it was. Its code is the process's exit code; `trainctl --help` lists them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Class {
    /// The job ended otherwise than succeeded.
    JobFailed,
    /// What was compared is not equal.
    Differs,
    /// The command line, or a file that it names, is not what it should be.
    Usage,
    /// No coordinator answers, or no store.
    Unreachable,
    /// The coordinator refused, or what was asked for does not exist.
    Refused,
    /// Data or a checkpoint doesn't match its manifest.
    Damaged,
    /// This machine stood in the way: a file, a port, a full disk.
    Local,
    /// Ctrl-C, or the coordinator was stopped: what was waited for has not ended.
    Interrupted,
}

impl Class {
    /// The process's exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::JobFailed | Self::Differs => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Refused => 4,
            Self::Damaged => 5,
            Self::Local => 6,
            Self::Interrupted => 130,
        }
    }
}

/// One error, as it is shown.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Report {
    /// Names the place, what was expected and what was found.
    pub(crate) message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

impl Report {
    /// Of an error that writes its own hint after a line break.
    pub(crate) fn of_text(text: &str) -> Self {
        match text.rsplit_once("\nhint: ") {
            Some((message, hint)) => Self { message: message.to_owned(), hint: Some(hint.to_owned()) },
            None => Self { message: text.to_owned(), hint: None },
        }
    }
}

/// Why a command ends with another code than 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    /// The exit code's name.
    pub(crate) class: Class,
    /// All errors that were found; none when everything has been said already.
    pub(crate) reports: Vec<Report>,
}

impl Failure {
    /// With one error and no hint.
    pub(crate) fn new(class: Class, message: impl fmt::Display) -> Self {
        Self { class, reports: vec![Report { message: message.to_string(), hint: None }] }
    }

    /// The command has said all itself; only the exit code is left.
    pub(crate) fn silent(class: Class) -> Self {
        Self { class, reports: Vec::new() }
    }

    /// The same with a hint on its last error.
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        if let Some(report) = self.reports.last_mut() {
            report.hint = Some(hint.to_string());
        }
        self
    }

    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        self.class.code()
    }

    /// A command line that doesn't hold, from what the parser says: the error's paragraph, then a tip or the usage.
    pub(crate) fn command_line(rendered: &str) -> Self {
        let one_line = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        let paragraphs: Vec<String> = rendered.split("\n\n").map(one_line).collect();
        let message = paragraphs.first().map_or("", |paragraph| paragraph.trim_start_matches("error: "));
        let tip = paragraphs.iter().find_map(|paragraph| paragraph.strip_prefix("tip: "));
        let usage = paragraphs.iter().find(|paragraph| paragraph.starts_with("Usage: "));
        let failure = Self::new(Class::Usage, message);
        match tip.or(usage.map(String::as_str)) {
            Some(hint) => failure.hint(hint.replacen("Usage: ", "usage: ", 1)),
            None => failure,
        }
    }

    /// A file that could not be read or written.
    pub(crate) fn file(action: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        let failure = Self::new(Class::Local, format!("{action} {}: {}", path.display(), Plain(error)));
        match error.kind() {
            ErrorKind::NotFound => failure.hint("look at the path; a relative one starts at the current folder"),
            ErrorKind::PermissionDenied => failure.hint("run it as a user who may, or change the permissions there"),
            ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
                failure.hint("a file is where a folder should be: remove it, or name another place")
            }
            ErrorKind::IsADirectory => failure.hint("name a file in it"),
            ErrorKind::InvalidData => failure.hint("it has to be UTF-8 text"),
            ErrorKind::StorageFull => failure.hint("free some space there, or name another place"),
            _ => failure,
        }
    }
}

impl From<std::io::Error> for Failure {
    /// Only output to our own streams comes here. A reader that went away (`| head`) is no error worth words.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe {
            return Self::silent(Class::Local);
        }
        Self::new(Class::Local, format!("write output: {}", Plain(&error)))
    }
}

/// An IO error without the `(os error 2)` that helps nobody.
pub(crate) struct Plain<'a>(pub(crate) &'a std::io::Error);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let text = text.split(" (os error").next().unwrap_or(&text);
        let mut chars = text.chars();
        match chars.next() {
            Some(first) => write!(f, "{}{}", first.to_lowercase(), chars.as_str()),
            None => f.write_str("unknown error"),
        }
    }
}

/// An error and its sources on one line, without a source that its parent has quoted already.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let words = inner.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_belongs_to_the_last_error() {
        let failure = Failure::new(Class::Refused, "job \"a\" not found").hint("did you mean \"b\"?");
        assert_eq!(failure.exit_code(), 4);
        assert_eq!(failure.reports[0].hint.as_deref(), Some("did you mean \"b\"?"));
        assert_eq!(Failure::silent(Class::Interrupted).hint("lost").reports, vec![]);
    }

    #[test]
    fn a_broken_command_line_is_told_as_any_other_error() {
        let missing = "error: the following required arguments were not provided:\n  <JOB>\n\nUsage: trainctl show <JOB>\n\n\
                       For more information, try '--help'.\n";
        let failure = Failure::command_line(missing);
        assert_eq!(failure.reports[0].message, "the following required arguments were not provided: <JOB>");
        assert_eq!(failure.reports[0].hint.as_deref(), Some("usage: trainctl show <JOB>"));
        let slip =
            "error: unrecognized subcommand 'wacth'\n\n  tip: a similar subcommand exists: 'watch'\n\nUsage: x\n";
        let hint = Failure::command_line(slip).reports[0].hint.clone();
        assert_eq!(hint.as_deref(), Some("a similar subcommand exists: 'watch'"));
    }

    #[test]
    fn io_errors_read_as_words() {
        let error = std::fs::read("/no/such/file").unwrap_err();
        assert_eq!(Plain(&error).to_string(), "no such file or directory");
    }
}
