//! The screen while the demo runs: lines of what happened above, the running job's progress below. Without a terminal
//! only the lines.

use crate::cluster::Status;
use crate::screen;
use console::{StyledObject, style};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// Where the story is shown.
pub(crate) struct Stage {
    bar: ProgressBar,
    began: Instant,
    step: u64,
}

/// What kind of line it is.
#[derive(Clone, Copy)]
pub(crate) enum Mark {
    /// The job goes on.
    Going,
    /// Something is taken.
    Taken,
    /// Something is given.
    Given,
    /// The end of a run.
    Done,
}

impl Mark {
    fn sign(self) -> StyledObject<&'static str> {
        match self {
            Self::Going => style("·").dim(),
            Self::Taken => style("▼").yellow(),
            Self::Given => style("▲").cyan(),
            Self::Done => style("✓").green(),
        }
    }
}

impl Stage {
    /// With a title.
    pub(crate) fn open(title: &str) -> Self {
        screen::say(&format!("\n{}", style(title).bold()));
        let bar = ProgressBar::new(1);
        let style = "  {bar:20.cyan/dim}  {wide_msg}";
        bar.set_style(ProgressStyle::with_template(style).expect("a constant template").progress_chars("━━─"));
        Self { bar, began: Instant::now(), step: 0 }
    }

    /// A new run begins.
    pub(crate) fn scene(&mut self, heading: &str) {
        self.began = Instant::now();
        self.step = 0;
        self.bar.suspend(|| screen::say(&format!("\n{}", style(heading).bold())));
        self.bar.reset();
        self.bar.set_length(1);
        self.bar.set_message("workers start");
        self.bar.enable_steady_tick(Duration::from_millis(100));
    }

    /// The progress line follows the job.
    pub(crate) fn progress(&mut self, status: &Status) {
        self.step = status.step;
        if status.world_size == 0 {
            return;
        }
        self.bar.set_length(status.steps);
        self.bar.set_position(status.step);
        let plural = if status.world_size == 1 { "" } else { "s" };
        let mut line = format!("step {:>4} / {}  {} worker{plural}", status.step, status.steps, status.world_size);
        if let Some(loss) = status.loss {
            line += &format!("  loss {loss:.4}");
        }
        if status.samples_per_s > 0.0 {
            line += &format!("  {} samples/s", HumanCount(status.samples_per_s.round() as u64));
        }
        self.bar.set_message(line);
    }

    /// One line of the story, with the time and step that it was seen at.
    pub(crate) fn tell(&self, mark: Mark, line: &str) {
        let at = format!("{:5.1} s   step {:>5}", self.began.elapsed().as_secs_f64(), self.step);
        self.bar.suspend(|| screen::say(&format!("  {}   {} {line}", style(at).dim(), mark.sign())));
    }

    /// Since the run began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Takes the progress line away.
    pub(crate) fn close(&self) {
        self.bar.finish_and_clear();
    }
}
