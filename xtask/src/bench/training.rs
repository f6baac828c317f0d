//! Steps a second of whole jobs: a real coordinator, real workers, against DDP on Gloo and, at one worker, plain PyTorch
//! with the same model, batch and optimizer.
//!
//! Ours are read from outside, as `trainctl watch` reports them: a job's step with each heartbeat. The slope of the line
//! through the reports of a window after warm-up is the speed; no single report, late by a hiccup of the machine or
//! rounded down to a whole step, decides it. In each run all sides have their turn; odd runs go backwards, so that a
//! machine that grows busier slows no side more than another.

use super::Bench;
use super::figure::{Better, Figure};
use super::peers::{Python, Ranks};
use crate::cluster::{Cluster, Programs, Watch};
use crate::screen;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::time::{Duration, Instant};

const START_PATIENCE: Duration = Duration::from_secs(60);
const WARM_UP: Duration = Duration::from_secs(2);
/// A line through fewer is none.
const REPORTS_MIN: usize = 6;

/// A model, and how long it is watched after its first steps: the slower its steps, the longer.
pub(super) struct Model {
    pub(super) name: &'static str,
    pub(super) warm_up: Duration,
    pub(super) window: Duration,
}

/// Where computation decides.
pub(super) const GPT: Model = Model { name: "gpt", warm_up: WARM_UP, window: Duration::from_secs(16) };
const MODELS: [Model; 2] = [Model { name: "mlp", warm_up: WARM_UP, window: Duration::from_secs(8) }, GPT];

/// One of those that take turns.
#[derive(Clone, Copy)]
enum Side {
    /// A job with so many workers and these settings.
    Ours { name: &'static str, workers: u32, settings: &'static [&'static str] },
    /// PyTorch with so many ranks.
    Peer { workers: u32 },
}

const EXACT: usize = 0;
const DDP: usize = 1;
const FAST: usize = 2;
const TLS: usize = 3;
const ALONE: usize = 4;
const PLAIN: usize = 5;
const ALONE_2_SHARDS: usize = 6;
const UNAUDITED: usize = 7;
const ALONE_UNAUDITED: usize = 8;

const SIDES: [Side; 9] = [
    Side::Ours { name: "2_workers", workers: 2, settings: &[] },
    Side::Peer { workers: 2 },
    Side::Ours { name: "2_workers_fast", workers: 2, settings: &["train.numerics=fast"] },
    Side::Ours { name: "2_workers_tls", workers: 2, settings: &["resources.encryption=always"] },
    Side::Ours { name: "1_worker", workers: 1, settings: &["train.logical_shards=1"] },
    Side::Peer { workers: 1 },
    Side::Ours { name: "1_worker_2_shards", workers: 1, settings: &[] },
    Side::Ours { name: "2_workers_unaudited", workers: 2, settings: &["train.audit=off"] },
    Side::Ours { name: "1_worker_unaudited", workers: 1, settings: &["train.audit=off", "train.logical_shards=1"] },
];

pub(super) const POOLS: &str = r#"
[pools.local-spot]
kind = "local"
spot = true
capacity = 2
notice = "5s"
"#;

/// Both models.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let programs = Programs::build(true)?;
    for model in MODELS {
        let speeds = measure(bench, &programs, &model)?;
        tell(bench, &model, &speeds)?;
    }
    Ok(())
}

/// Steps a second of each side in each run; none for peers where no Python was given.
fn measure(bench: &Bench, programs: &Programs, model: &Model) -> Result<[Vec<f64>; SIDES.len()]> {
    let mut peers = bench.peers.as_ref().map(|python| Peers::start(python, model)).transpose()?;
    let mut speeds = [const { Vec::new() }; SIDES.len()];
    for run in 0..bench.runs {
        let mut order: Vec<usize> = (0..SIDES.len()).collect();
        if run % 2 == 1 {
            order.reverse();
        }
        screen::note(&format!("{}, run {} of {}", model.name, run + 1, bench.runs));
        for side in order {
            match (SIDES[side], &mut peers) {
                (Side::Ours { name, workers, settings }, _) => {
                    let speed = steps_per_s(programs, model, workers, settings, &[]);
                    speeds[side].push(speed.with_context(|| format!("measure {} with {name}", model.name))?);
                }
                (Side::Peer { workers }, Some(peers)) => speeds[side].push(peers.steps_per_s(workers, model.window)?),
                (Side::Peer { .. }, None) => {}
            }
        }
    }
    Ok(speeds)
}

fn tell(bench: &mut Bench, model: &Model, speeds: &[Vec<f64>]) -> Result<()> {
    // Each side of ours, the peer that it is told beside, and what the ratio to it has to be.
    let comparisons = [
        (EXACT, DDP, "ddp", Some(1.0)),
        (TLS, DDP, "ddp", None),
        (FAST, DDP, "ddp", None),
        (ALONE, PLAIN, "pytorch", Some(1.0)),
        (ALONE_2_SHARDS, PLAIN, "pytorch", None),
        (EXACT, FAST, "fast", Some(0.95)),
        (EXACT, UNAUDITED, "unaudited", Some(0.99)),
        (ALONE, ALONE_UNAUDITED, "unaudited", Some(0.99)),
    ];
    for (ours, theirs, peer_name, target) in comparisons {
        let Side::Ours { name, .. } = SIDES[ours] else { continue };
        let (ours, theirs) = (&speeds[ours], &speeds[theirs]);
        let mut figure = Figure::new(&format!("training_{}_{name}", model.name), "steps/s", Better::More, ours);
        if !theirs.is_empty() {
            figure = figure.against(peer_name, ours, theirs);
        }
        bench.tell(target.map_or(figure.clone(), |target| figure.ratio_within(target)))?;
    }
    Ok(())
}

/// PyTorch's, asleep between turns.
struct Peers {
    ddp: Ranks,
    plain: Ranks,
}

#[derive(Deserialize)]
struct Speed {
    steps_per_s: f64,
}

impl Peers {
    fn start(python: &Python, model: &Model) -> Result<Self> {
        let start = |world| Ranks::start(python, "training.py", &[model.name], world);
        Ok(Self { ddp: start(2)?, plain: start(1)? })
    }

    fn steps_per_s(&mut self, workers: u32, window: Duration) -> Result<f64> {
        let ranks = if workers == 1 { &mut self.plain } else { &mut self.ddp };
        Ok(ranks.ask::<Speed>(&window.as_secs_f64().to_string())?.steps_per_s)
    }
}

/// Of a job with so many workers and these settings; `environment` is the coordinator's and its workers'.
pub(super) fn steps_per_s(
    programs: &Programs,
    model: &Model,
    workers: u32,
    settings: &[&str],
    environment: &[(String, String)],
) -> Result<f64> {
    let cluster = Cluster::start_in(programs, POOLS, environment)?;
    let (min, max) = (format!("resources.workers.min={workers}"), format!("resources.workers.max={workers}"));
    let settings: Vec<&str> = [min.as_str(), max.as_str()].into_iter().chain(settings.iter().copied()).collect();
    cluster.submit(&format!("xtask/benches/jobs/{}.toml", model.name), &settings)?;
    let reports = reports(&mut cluster.watch(model.name)?, workers, model)?;
    cluster.ask::<serde_json::Value>(&["cancel", model.name])?;
    Ok(slope(&reports))
}

/// Seconds and steps of each report of progress within the window.
fn reports(watch: &mut Watch, workers: u32, model: &Model) -> Result<Vec<[f64; 2]>> {
    let began = Instant::now();
    let mut trains_since = None;
    let mut last_step = 0;
    let mut reports = Vec::new();
    while let Some((at, status)) = watch.next()? {
        ensure!(!status.ended(), "the job {}: {}", status.state, status.reason.unwrap_or_default());
        if status.world_size != workers || status.step == 0 {
            ensure!(trains_since.is_none(), "a worker was lost while the job was measured");
            ensure!(began.elapsed() < START_PATIENCE, "no step within {} s: {status:?}", START_PATIENCE.as_secs());
            continue;
        }
        let since = at - *trains_since.get_or_insert(at);
        // What came with no newer step was not sent with a heartbeat.
        if since < model.warm_up || status.step == last_step {
            continue;
        }
        last_step = status.step;
        reports.push([since.as_secs_f64(), status.step as f64]);
        if since > model.warm_up + model.window {
            ensure!(reports.len() >= REPORTS_MIN, "only {} reports of progress in {since:?}", reports.len());
            return Ok(reports);
        }
    }
    bail!("`trainctl watch` ended early")
}

/// Of the line that fits the points best (least squares).
fn slope(points: &[[f64; 2]]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: usize| points.iter().map(|point| point[of]).sum::<f64>() / count;
    let (x, y) = (mean(0), mean(1));
    let covariance: f64 = points.iter().map(|point| (point[0] - x) * (point[1] - y)).sum();
    let variance: f64 = points.iter().map(|point| (point[0] - x).powi(2)).sum();
    covariance / variance
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_steps_of_late_reports_still_give_the_speed() {
        // 5.2 steps a second, told twice a second, rounded down, each third report 80 ms late.
        let report = |i: u32| {
            let sent = f64::from(i) * 0.5;
            [sent + if i.is_multiple_of(3) { 0.08 } else { 0.0 }, (sent * 5.2).floor()]
        };
        let speed = slope(&(0..32).map(report).collect::<Vec<_>>());
        assert!((speed / 5.2 - 1.0).abs() < 0.01, "{speed}");
    }
}
