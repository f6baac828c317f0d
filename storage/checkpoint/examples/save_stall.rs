//! What a checkpoint of a 100 MB state costs: how long training stands still for it (the copy), and how long and how
//! much memory the rest takes in the background.
//!
//! `cargo run --release -p trainctl-checkpoint --example save_stall -- [--output json] [FOLDER]`
//!
//! Medians; the spread is the fastest and the slowest run. FOLDER decides which disk is measured.

use serde_json::{Value, json};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;
use trainctl_checkpoint::{CommitInfo, Group, RunFolder, StateCopy, TensorInfo, state_digest};

const STATE_BYTES: usize = 100 * 1000 * 1000;
const TENSORS: usize = 60;
const RUNS: usize = 15;
const STALL_TARGET_MS: f64 = 100.0;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let is_json = args.windows(2).any(|pair| pair == ["--output", "json"]);
    args.retain(|arg| arg != "--output" && arg != "json");
    let parent = args.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = parent.join(format!("trainctl-save-stall-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let measured = runtime.block_on(measure(folder.to_str().ok_or("a folder whose name is no text")?));
    std::fs::remove_dir_all(&folder)?;

    let mut stdout = std::io::stdout().lock();
    for figure in measured? {
        if is_json {
            writeln!(stdout, "{figure}")?;
        } else {
            let [name, unit] = ["name", "unit"].map(|key| figure[key].as_str().unwrap_or_default());
            let number = |value: &serde_json::Value| value.as_f64().unwrap_or_default();
            let [ours, best, worst] = [&figure["ours"], &figure["spread"][0], &figure["spread"][1]].map(number);
            writeln!(stdout, "{name:<36} {ours:>8.2} {unit:<4} {best:.2} to {worst:.2}")?;
        }
    }
    Ok(())
}

async fn measure(root: &str) -> Result<Vec<Value>, Box<dyn std::error::Error>> {
    let len = STATE_BYTES / size_of::<f32>() / TENSORS / 16 * 16 * TENSORS;
    let tensors = tensors(len);
    let mut state: Vec<f32> = (0..len).map(|at| at as f32).collect();
    let mut figures = Vec::new();

    let fresh = sample(|| {
        let mut copy = StateCopy::default();
        timed_ms(|| copy.copy_from(&state))
    });
    figures.push(figure("checkpoint.stall.first_unprepared", &fresh, "ms", None));
    let prepared = sample(|| {
        let mut copy = StateCopy::new(len);
        timed_ms(|| copy.copy_from(&state))
    });
    figures.push(figure("checkpoint.stall.first", &prepared, "ms", Some(STALL_TARGET_MS)));
    let mut copy = StateCopy::new(len);
    let reused = sample(|| timed_ms(|| copy.copy_from(&state)));
    figures.push(figure("checkpoint.stall.reused", &reused, "ms", Some(STALL_TARGET_MS)));
    let digests = sample(|| timed_ms(|| std::hint::black_box(state_digest(&tensors, &state, 1))));
    figures.push(figure("checkpoint.state_digest", &digests, "ms", None));

    let run = RunFolder::open(root, "bench")?;
    let (mut stalls, mut saves, mut memory_mb) = (Vec::new(), Vec::new(), Vec::new());
    for step in 1..=RUNS as u64 {
        state[0] += 1.0;
        stalls.push(timed_ms(|| copy.copy_from(&state)));
        let before_kb = resident_kb("VmRSS:", true);
        let start = Instant::now();
        run.write_part(step, 0, 1, &tensors, copy.state()).await?;
        let info = CommitInfo {
            loss: None,
            world_size: 1,
            generation: 1,
            why: "bench".to_owned(),
            state_digest: state_digest(&tensors, copy.state(), step),
            created_ms: 0,
        };
        run.try_commit(step, 1, &info).await?.ok_or("the only part is there")?;
        saves.push(start.elapsed().as_secs_f64() * 1e3);
        if let (Some(before), Some(peak)) = (before_kb, resident_kb("VmHWM:", false)) {
            memory_mb.push(peak.saturating_sub(before) as f64 / 1024.0);
        }
        run.prune(1).await?;
    }
    figures.push(figure("checkpoint.stall.between_saves", &stalls, "ms", Some(STALL_TARGET_MS)));
    figures.push(figure("checkpoint.save", &saves, "ms", None));
    if !memory_mb.is_empty() {
        figures.push(figure("checkpoint.save.memory", &memory_mb, "MiB", None));
    }

    let mut loads = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        run.load_newest(&tensors, &mut state).await?.ok_or("a checkpoint was just saved")?;
        loads.push(start.elapsed().as_secs_f64() * 1e3);
    }
    figures.push(figure("checkpoint.load", &loads, "ms", None));
    Ok(figures)
}

/// As an optimizer with two slots has them: a third is the model.
fn tensors(len: usize) -> Vec<TensorInfo> {
    let each = len / TENSORS;
    let tensor = |at: usize| TensorInfo {
        name: format!("layers.{}.{}", at / 3, ["weight", "weight.exp_avg", "weight.exp_avg_sq"][at % 3]),
        group: if at.is_multiple_of(3) { Group::Model } else { Group::Optimizer },
        shape: vec![each / 16, 16],
        offset: at * each,
        len: each,
    };
    (0..TENSORS).map(tensor).collect()
}

fn sample(run: impl FnMut() -> f64) -> Vec<f64> {
    std::iter::repeat_with(run).take(RUNS).collect()
}

fn timed_ms<T>(run: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    std::hint::black_box(run());
    start.elapsed().as_secs_f64() * 1e3
}

/// A line of the process's memory status, where the system has one; the peak starts anew first if asked to.
fn resident_kb(line: &str, reset_peak: bool) -> Option<u64> {
    if reset_peak {
        std::fs::write("/proc/self/clear_refs", "5").ok()?;
    }
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|text| text.strip_prefix(line))?.split_whitespace().next()?.parse().ok()
}

fn figure(name: &str, runs: &[f64], unit: &str, target: Option<f64>) -> Value {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    let ours = sorted[sorted.len() / 2];
    json!({
        "name": name, "ours": ours, "peer": null, "unit": unit, "ratio": null, "target": target,
        "met": target.map(|target| ours < target), "runs": runs.len(), "spread": [sorted[0], sorted[sorted.len() - 1]],
    })
}
