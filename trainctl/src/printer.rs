//! The one way out: data on stdout, everything else on stderr, JSON when asked, colours when they can be seen, and
//! lines that never tear a live display apart.

use crate::failure::Failure;
use crate::table::Tone;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

const SPINNER_TICK: Duration = Duration::from_millis(100);

/// What goes to stdout.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: one value, or one a line where values keep coming.
    Json,
}

/// Whether to colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub(crate) enum ColourChoice {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Writes for every command.
#[derive(Clone)]
pub(crate) struct Printer {
    format: Format,
    quiet: bool,
    stdout_colour: bool,
    stderr_colour: bool,
    live: MultiProgress,
}

impl Printer {
    /// For this process's streams.
    pub(crate) fn new(format: Format, choice: ColourChoice, quiet: bool) -> Self {
        let wanted = |terminal: bool| match choice {
            ColourChoice::Always => true,
            ColourChoice::Never => false,
            ColourChoice::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        let live = MultiProgress::with_draw_target(if quiet || !io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(12)
        });
        Self {
            format,
            quiet,
            stdout_colour: wanted(io::stdout().is_terminal()),
            stderr_colour: wanted(io::stderr().is_terminal()),
            live,
        }
    }

    /// Whether JSON was asked for.
    pub(crate) fn json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether tables and text on stdout may be coloured.
    pub(crate) fn colour(&self) -> bool {
        self.stdout_colour
    }

    /// Columns of the terminal that stdout is; nothing when it is a file or a pipe, where lines are never wrapped.
    pub(crate) fn width(&self) -> Option<u16> {
        io::stdout().is_terminal().then(|| console::Term::stdout().size().1)
    }

    /// Whether only data and errors are wanted.
    pub(crate) fn quiet(&self) -> bool {
        self.quiet
    }

    /// Whether text on stderr may be coloured.
    pub(crate) fn stderr_colour(&self) -> bool {
        self.stderr_colour
    }

    /// Where live displays are drawn; hidden when stderr is no terminal or the user wants quiet.
    pub(crate) fn live(&self) -> &MultiProgress {
        &self.live
    }

    /// Whether a live display would be seen.
    pub(crate) fn is_live(&self) -> bool {
        !self.live.is_hidden()
    }

    /// A spinner, seen where one can be, for work that takes a while.
    pub(crate) fn spinner(&self, what: &str) -> ProgressBar {
        let spinner = self.live.add(ProgressBar::new_spinner().with_message(what.to_owned()));
        spinner.enable_steady_tick(SPINNER_TICK);
        spinner
    }

    /// The value as JSON, or what `text` makes of it.
    pub(crate) fn emit<T: Serialize>(&self, value: &T, text: impl FnOnce(&Self) -> String) -> Result<(), Failure> {
        if !self.json() {
            return self.out(&text(self));
        }
        let mut json = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
        json.push('\n');
        self.out(&json)
    }

    /// One JSON value on a line of its own: for values that keep coming.
    pub(crate) fn emit_line<T: Serialize>(&self, value: &T) -> Result<(), Failure> {
        let mut json = serde_json::to_string(value).map_err(io::Error::from)?;
        json.push('\n');
        self.out(&json)
    }

    /// Data, as it is, at once.
    pub(crate) fn out(&self, text: &str) -> Result<(), Failure> {
        self.live.suspend(|| {
            let mut stdout = io::stdout().lock();
            stdout.write_all(text.as_bytes())?;
            stdout.flush()
        })?;
        Ok(())
    }

    /// Something worth knowing beside the data; quiet drops it.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            self.err(text);
        }
    }

    /// A line of this process's own log, which has its filter before it.
    pub(crate) fn log(&self, line: &str) {
        self.err(line);
    }

    /// All errors of a failure with their hints, or one JSON object.
    pub(crate) fn failure(&self, failure: &Failure) {
        if failure.reports.is_empty() {
            return;
        }
        if self.json() {
            let object = serde_json::json!({
                "class": failure.class, "exit_code": failure.exit_code(), "errors": failure.reports,
            });
            return self.err(&object.to_string());
        }
        for (index, report) in failure.reports.iter().enumerate() {
            if index > 0 {
                self.err("");
            }
            self.err(&format!("{} {}", self.paint_err("error:", "1;31"), report.message));
            if let Some(hint) = &report.hint {
                self.err(&format!("{} {hint}", self.paint_err("hint:", "1;36")));
            }
        }
    }

    /// A line on stderr. Nobody is left to tell when that fails.
    fn err(&self, text: &str) {
        self.live.suspend(|| {
            let mut stderr = io::stderr().lock();
            drop(writeln!(stderr, "{text}"));
        });
    }

    /// Bold, on stdout.
    pub(crate) fn bold(&self, text: &str) -> String {
        paint(text, "1", self.stdout_colour)
    }

    /// Faint, on stdout.
    pub(crate) fn faint(&self, text: &str) -> String {
        paint(text, "2", self.stdout_colour)
    }

    /// In the colour of its tone, on stdout.
    pub(crate) fn tone(&self, text: &str, tone: Tone) -> String {
        paint(text, tone_code(tone), self.stdout_colour)
    }

    /// In the colour of its tone, on stderr, where live displays are.
    pub(crate) fn tone_live(&self, text: &str, tone: Tone) -> String {
        paint(text, tone_code(tone), self.stderr_colour)
    }

    /// With this ANSI style, on stderr.
    pub(crate) fn paint_err(&self, text: &str, code: &str) -> String {
        paint(text, code, self.stderr_colour)
    }
}

fn tone_code(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "32",
        Tone::Busy => "33",
        Tone::Bad => "31",
        Tone::Faint => "2",
    }
}

fn paint(text: &str, code: &str, colour: bool) -> String {
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
