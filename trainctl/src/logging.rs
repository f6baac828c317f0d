//! Where a coordinator inside this process logs to: stderr, around a live display, never stdout.

use crate::printer::Printer;
use std::io;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// What a command says of its coordinator by itself, before any `-v`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Base {
    /// Only what a person must look at.
    Warnings,
    /// What it does.
    Actions,
}

/// Starts logging. `TRAINCTL_LOG` has tracing's own filter syntax and wins over `-q` and `-v`.
pub(crate) fn start(printer: &Printer, base: Base, verbose: u8) {
    let filter = std::env::var("TRAINCTL_LOG").unwrap_or_else(|_| directives(base, verbose, printer.quiet()));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_target(false)
        .with_ansi(printer.stderr_colour())
        .with_writer(Lines(printer.clone()))
        .finish();
    // A second start in one process would be a test's: the first one's subscriber stays.
    drop(tracing::subscriber::set_global_default(subscriber));
}

/// Our own crates at the level that was asked for, libraries at warnings.
fn directives(base: Base, verbose: u8, quiet: bool) -> String {
    const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
    let start = match (quiet, base) {
        (true, _) => 0,
        (false, Base::Warnings) => 1,
        (false, Base::Actions) => 2,
    };
    let level = LEVELS[(start + usize::from(verbose)).min(LEVELS.len() - 1)];
    let libraries = if start == 0 { "error" } else { "warn" };
    const OWN: [&str; 8] = [
        "coordinator_server",
        "coordinator_core",
        "coordinator_local",
        "coordinator_static",
        "coordinator_aws",
        "coordinator_ec2",
        "coordinator_gcp",
        "trainctl",
    ];
    OWN.iter().fold(libraries.to_owned(), |directives, of| format!("{directives},{of}={level}"))
}

/// Hands whole log lines to the printer.
struct Lines(Printer);

/// One event's text, printed when it is complete.
struct Line {
    printer: Printer,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { printer: self.0.clone(), text: Vec::new() }
    }
}

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.text);
        if !text.is_empty() {
            self.printer.log(text.trim_end_matches('\n'));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_v_is_one_level_more_for_our_own_crates() {
        assert!(directives(Base::Actions, 0, false).starts_with("warn,coordinator_server=info,"));
        assert!(directives(Base::Warnings, 1, false).contains("coordinator_core=info"));
        assert!(directives(Base::Warnings, 9, false).contains("trainctl=trace"));
        assert!(directives(Base::Actions, 0, true).starts_with("error,coordinator_server=error"));
    }
}
