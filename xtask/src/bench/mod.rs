//! `cargo xtask bench`: a register of benches, each a function that gives figures. Ratios compare what ran in turns in
//! the same session; nothing here quotes a number measured elsewhere.

mod bucket;
mod checkpoint;
mod collective;
mod data;
mod figure;
mod memory;
mod peers;
mod programs;
mod recovery;
mod training;
mod uneven;

use crate::{cluster, screen};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use figure::Figure;
use peers::Python;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct Options {
    /// collective, training, uneven, recovery, engine, checkpoint, data, memory, or all of them
    #[arg(default_value = ALL)]
    name: String,
    /// As a table, or one JSON object a figure
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// A Python that has torch (and torchft): measures the peers in turn with ours
    #[arg(long, value_name = "PYTHON")]
    peers: Option<PathBuf>,
    /// How often each figure is measured. Fewer are for a quick look, not for telling
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// What a bench may use.
pub(crate) struct Bench {
    peers: Option<Python>,
    runs: u32,
    figures: Vec<Figure>,
    output: Output,
}

impl Bench {
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

type Run = fn(&mut Bench) -> Result<()>;

const ALL: &str = "all";

/// Name, what it measures, how.
const BENCHES: &[(&str, &str, Run)] = &[
    ("collective", "one exchange of a vector between workers of this host, against Gloo's all-reduce", collective::run),
    ("training", "steps a second of whole jobs, against DDP on Gloo and against plain PyTorch", training::run),
    ("uneven", "steps a second with a worker at a quarter of its speed, against all at full speed", uneven::run),
    (
        "recovery",
        "the pause after a worker is killed, after it is evicted with notice, and for a joiner",
        recovery::run,
    ),
    ("engine", "the elastic machinery's share of a step, against a bare loop of the same model", programs::engine),
    (
        "checkpoint",
        "what a save stops, takes and moves, against torch's async_save and tools that copy files",
        checkpoint::run,
    ),
    ("data", "training on data in a bucket, against the same data on disk", data::run),
    ("memory", "a worker's memory for each parameter", memory::run),
];

/// Runs one bench or all. An error where a target was missed, after all have run.
pub(crate) fn run(options: &Options) -> Result<()> {
    let chosen: Vec<_> = BENCHES.iter().filter(|(name, ..)| options.name == ALL || options.name == *name).collect();
    if chosen.is_empty() {
        let names: Vec<_> = BENCHES.iter().map(|(name, ..)| *name).collect();
        bail!("no bench {:?}\nhint: there are {}, and {ALL}", options.name, names.join(", "));
    }
    cluster::catch_interrupts()?;
    let peers = options.peers.as_deref().map(Python::check).transpose()?;
    let mut bench = Bench { peers, runs: options.runs, figures: Vec::new(), output: options.output };
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
