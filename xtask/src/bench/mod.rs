//! `cargo xtask bench`: a register of benches, each a function that gives figures. Ratios compare what ran in the same
//! session; nothing here quotes a number measured elsewhere.

mod figure;
mod peers;
mod programs;
mod recovery;

use crate::{cluster, screen};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use figure::Figure;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct Options {
    /// Only the bench of this name
    name: Option<String>,
    /// As a table, or one JSON object a figure
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// A Python that has torch (and torchft): measures the peers beside ours
    #[arg(long, value_name = "PYTHON")]
    peers: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// What a bench may use.
pub(crate) struct Bench<'a> {
    peers: Option<&'a PathBuf>,
    figures: Vec<Figure>,
    output: Output,
}

impl Bench<'_> {
    /// Shows a figure as soon as it is known.
    fn tell(&mut self, figure: Figure) -> Result<()> {
        match self.output {
            Output::Text => screen::say(&figure.line()),
            Output::Json => screen::say(&serde_json::to_string(&figure).context("write a figure")?),
        }
        self.figures.push(figure);
        Ok(())
    }
}

type Run = fn(&mut Bench<'_>) -> Result<()>;

/// Name, what it measures, how.
const BENCHES: &[(&str, &str, Run)] = &[
    ("recovery", "the pause after one of two workers is killed, and after it is evicted with notice", recovery::run),
    ("engine", "the elastic machinery's share of a step, against a bare loop of the same model", programs::engine),
    ("checkpoint", "how long a save of a 100 MB state stops training", programs::checkpoint),
];

/// Runs one bench or all. An error where a target was missed, after all have run.
pub(crate) fn run(options: &Options) -> Result<()> {
    let chosen: Vec<_> =
        BENCHES.iter().filter(|(name, ..)| options.name.as_ref().is_none_or(|it| it == name)).collect();
    if chosen.is_empty() {
        let names: Vec<_> = BENCHES.iter().map(|(name, ..)| *name).collect();
        bail!("no bench {:?}\nhint: there are {}", options.name.as_deref().unwrap_or_default(), names.join(", "));
    }
    cluster::catch_interrupts()?;
    let mut bench = Bench { peers: options.peers.as_ref(), figures: Vec::new(), output: options.output };
    if options.output == Output::Text {
        screen::say(&Figure::heading());
    }
    for (name, what, run) in chosen {
        screen::note(&format!("{name}: {what}"));
        run(&mut bench).with_context(|| format!("bench {name}"))?;
    }
    let missed: Vec<_> =
        bench.figures.iter().filter(|figure| figure.met == Some(false)).map(|it| it.name.as_str()).collect();
    if !missed.is_empty() {
        bail!("missed the target: {}", missed.join(", "));
    }
    Ok(())
}
