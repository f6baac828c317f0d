//! What a person sees: results on stdout, remarks on stderr, colour only where `console` finds it wanted (a terminal,
//! no NO_COLOR).

use anyhow::Error;
use console::style;
use std::io::{self, Write};

/// A line of result. A closed pipe is the reader's choice, not an error.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// A remark beside the result.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "  {}", style(line).for_stderr().dim());
}

/// An error with its causes on one line, hints below.
pub(crate) fn print_error(error: &Error) {
    let mut err = io::stderr();
    let (message, hints) = told(error);
    let _ = writeln!(err, "{} {message}", style("error:").for_stderr().red().bold());
    for hint in hints {
        let _ = writeln!(err, "{} {hint}", style("hint:").for_stderr().cyan());
    }
}

/// Each link of the chain may carry `hint: ` lines of its own.
fn told(error: &Error) -> (String, Vec<String>) {
    let mut messages = Vec::new();
    let mut hints = Vec::new();
    for link in error.chain() {
        let text = link.to_string();
        let (hint, message): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("hint: "));
        messages.push(message.join("\n"));
        hints.extend(hint.iter().map(|line| line.trim_start_matches("hint: ").to_owned()));
    }
    (messages.join(": "), hints)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn hints_come_after_all_causes() {
        let error = anyhow!("no such file").context("read the folder\nhint: make it").context("set up");
        let (message, hints) = told(&error);
        assert_eq!(message, "set up: read the folder: no such file");
        assert_eq!(hints, ["make it"]);
    }
}
