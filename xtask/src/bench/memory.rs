//! A worker's memory for each parameter, beside activations: the peak resident size of real workers (fp32 AdamW) that
//! train two models of different size, and what a further parameter adds. libtorch, the data and everything else that
//! doesn't grow with the model cancels out; the batch is so small that activations hardly count.

use super::Bench;
use super::figure::{Better, Figure};
use crate::cluster::{Cluster, Programs, Worker};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(120);
const STEPS: u64 = 5;
/// Hidden layers of the two models, all of one width: what is held for one layer at a time hardly counts.
const LAYERS: [usize; 2] = [8, 24];
const WIDTH: u64 = 1024;
/// Parameters and gradient, 4 bytes each, the two slots, and one partial sum.
const BYTES_MAX: f64 = 20.0;
/// For each doubling of the logical shards of a worker: one more level of the sum's tree.
const BYTES_PER_DOUBLING: f64 = 4.0;

const POOLS: &str = r#"
[pools.local-spot]
kind = "local"
spot = true
capacity = 2
notice = "5s"
"#;

/// Logical shards, workers.
const CASES: [(u32, u32); 5] = [(1, 1), (2, 1), (8, 1), (2, 2), (8, 2)];

/// One figure for each case.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let programs = Programs::build(true)?;
    for (shards, workers) in CASES {
        let measure = |_| {
            let [small, large] = LAYERS.map(|layers| peak_bytes(&programs, layers, shards, workers));
            Ok((large? - small?) / parameters_of(LAYERS[1] - LAYERS[0]))
        };
        let runs = (0..bench.runs).map(measure).collect::<Result<Vec<f64>>>()?;
        let (s, plural) = (if shards == 1 { "" } else { "s" }, if workers == 1 { "" } else { "s" });
        let name = format!("memory_{workers}_worker{plural}_{shards}_shard{s}");
        let doublings = f64::from(shards / workers).log2();
        let figure = Figure::new(&name, "B/param", Better::Less, &runs);
        bench.tell(figure.within(BYTES_MAX + BYTES_PER_DOUBLING * doublings))?;
    }
    Ok(())
}

/// Of so many further layers.
fn parameters_of(layers: usize) -> f64 {
    layers as f64 * (WIDTH * WIDTH + WIDTH) as f64
}

/// The most that any worker of the job had resident up to a few steps; what workers share counts in equal parts.
fn peak_bytes(programs: &Programs, layers: usize, shards: u32, workers: u32) -> Result<f64> {
    let cluster = Cluster::start(programs, POOLS)?;
    let settings = [
        format!("model.hidden={:?}", vec![WIDTH; layers]),
        "train.global_batch=8".to_owned(),
        format!("train.logical_shards={shards}"),
        format!("resources.workers.min={workers}"),
        format!("resources.workers.max={workers}"),
    ];
    cluster.submit("xtask/benches/jobs/mlp.toml", &settings.each_ref().map(String::as_str))?;
    let mut watch = cluster.watch("mlp")?;
    let began = Instant::now();
    while let Some((_, status)) = watch.next()? {
        ensure!(!status.ended(), "the job {}: {}", status.state, status.reason.unwrap_or_default());
        if status.step >= STEPS {
            let peaks = cluster.workers()?.iter().map(peak_of).collect::<Result<Vec<f64>>>()?;
            ensure!(peaks.len() == workers as usize, "expected {workers} workers, found {}", peaks.len());
            return Ok(peaks.into_iter().fold(0.0, f64::max));
        }
        ensure!(began.elapsed() < PATIENCE, "not {STEPS} steps within {} s: {status:?}", PATIENCE.as_secs());
    }
    bail!("`trainctl watch` ended early")
}

fn peak_of(worker: &Worker) -> Result<f64> {
    let pid = worker.pid.with_context(|| format!("{} has no process", worker.worker))?;
    let read = |file: &str, key: &str| -> Result<f64> {
        let path = format!("/proc/{pid}/{file}");
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("find {key} in it"))?;
        let kib = line.trim().trim_end_matches(" kB");
        kib.parse::<f64>().map(|kib| kib * 1024.0).with_context(|| format!("read the size {kib:?}"))
    };
    let of_others = read("status", "RssShmem:")? - read("smaps_rollup", "Pss_Shmem:")?;
    Ok(read("status", "VmHWM:")? - of_others)
}
