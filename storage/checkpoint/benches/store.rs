//! What a second checkpoint adds after training the last layer alone, what saving to SeaweedFS takes in memory, and what
//! listing many checkpoints there takes.
//!
//! `cargo bench -p trainctl-checkpoint --bench store [-- --output json]`
//!
//! Medians; the spread is the smallest and the largest run.

use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use std::error::Error;
use std::io::Write as _;
use std::time::Instant;
use trainctl_checkpoint::{CommitInfo, Group, Manifest, Retention, RunFolder, StateDigests, TensorInfo};
use trainctl_test_servers::Seaweed;

const STATE_BYTES: usize = 256 << 20;
const LAYERS: usize = 24;
const RUNS: u64 = 5;
const CHECKPOINTS: u64 = 1000;

/// Names the bucket to the process that measures, whose environment names the server.
const ROOT: &str = "TRAINCTL_BENCH_STORE";

fn main() -> Result<(), Box<dyn Error>> {
    let is_json = std::env::args().any(|arg| arg == "json");
    let Ok(root) = std::env::var(ROOT) else {
        let server = Seaweed::start();
        server.make_bucket("bench");
        let mut again = std::process::Command::new(std::env::current_exe()?);
        again.args(std::env::args().skip(1)).envs(server.environment()).env(ROOT, "s3://bench/runs");
        return if again.status()?.success() { Ok(()) } else { Err("the measuring process failed".into()) };
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut figures = runtime.block_on(saving(&root))?;
    figures.push(runtime.block_on(listing(&root))?);
    let mut stdout = std::io::stdout().lock();
    for figure in figures {
        if is_json {
            writeln!(stdout, "{figure}")?;
        } else {
            writeln!(stdout, "{} {} {} spread {}", figure["name"], figure["ours"], figure["unit"], figure["spread"])?;
        }
    }
    Ok(())
}

async fn saving(root: &str) -> Result<Vec<Value>, Box<dyn Error>> {
    let len = STATE_BYTES / size_of::<f32>() / (3 * LAYERS) / 16 * 16 * 3 * LAYERS;
    let tensors = tensors(len);
    // Small enough that one more is another value.
    let mut state: Vec<f32> = (0..len).map(|at| (at % 4096) as f32).collect();
    let run = RunFolder::open(root, "saving")?;
    let (mut shares, mut memory) = (Vec::new(), Vec::new());
    let mut step = 0;
    for _ in 0..RUNS {
        state.iter_mut().for_each(|value| *value += 1.0);
        step += 1;
        let before = resident_kb("VmRSS:", true);
        let first = save(&run, step, &tensors, &state).await?;
        if let (Some(before), Some(peak)) = (before, resident_kb("VmHWM:", false)) {
            memory.push(peak.saturating_sub(before) as f64 / 1024.0);
        }
        for tensor in tensors.iter().filter(|tensor| tensor.name.ends_with(&format!("layers.{}.weight", LAYERS - 1))) {
            state[tensor.offset..tensor.offset + tensor.len].iter_mut().for_each(|value| *value += 1.0);
        }
        step += 1;
        let second = save(&run, step, &tensors, &state).await?;
        shares.push(second.added_bytes() as f64 / first.added_bytes() as f64);
        run.prune(Retention { keep_last: 1, just_saved: Some(step), ..Retention::default() }).await?;
    }
    Ok(vec![
        figure("checkpoint_s3_save_memory", &memory, "MiB", Some(64.0)),
        figure("checkpoint_second_share", &shares, "", Some(0.1)),
    ])
}

async fn listing(root: &str) -> Result<Value, Box<dyn Error>> {
    let run = RunFolder::open(root, "listing")?;
    let tensors = tensors(3 * LAYERS * 16);
    let saves = (1..=CHECKPOINTS).map(|step| {
        let (run, tensors) = (run.clone(), tensors.clone());
        async move { save(&run, step, &tensors, &vec![step as f32; 3 * LAYERS * 16]).await.map(drop) }
    });
    futures::stream::iter(saves).buffer_unordered(16).try_collect::<()>().await?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let began = Instant::now();
        let listed = run.list().await?;
        times.push(began.elapsed().as_secs_f64());
        if listed.iter().filter(|listed| listed.manifest.is_ok()).count() as u64 != CHECKPOINTS {
            return Err("not all checkpoints are listed".into());
        }
    }
    Ok(figure("checkpoint_list_1000", &times, "s", Some(1.0)))
}

async fn save(run: &RunFolder, step: u64, tensors: &[TensorInfo], state: &[f32]) -> Result<Manifest, Box<dyn Error>> {
    let digests = StateDigests::of(tensors, state, step);
    run.write_part_of(&digests, step, 0, 1, tensors, state).await?;
    let info = CommitInfo {
        loss: None,
        world_size: 1,
        generation: 1,
        audits_passed: 0,
        why: "bench".to_owned(),
        state_digest: digests.state(),
        created_ms: 0,
    };
    Ok(run.try_commit(step, 1, &info).await?.ok_or("the only part is there")?)
}

/// As an optimizer with two slots has them: a third is the model.
fn tensors(len: usize) -> Vec<TensorInfo> {
    let each = len / (3 * LAYERS);
    let mut tensors = Vec::new();
    for (slot, group) in [("", Group::Model), ("exp_avg.", Group::Optimizer), ("exp_avg_sq.", Group::Optimizer)] {
        for layer in 0..LAYERS {
            let offset = tensors.len() * each;
            let name = format!("{slot}layers.{layer}.weight");
            tensors.push(TensorInfo {
                name,
                group,
                shape: vec![each / 16, 16],
                offset,
                len: each,
                constant: false,
                absent: None,
            });
        }
    }
    tensors
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
    let ours = sorted.get(sorted.len() / 2).copied();
    json!({
        "name": name, "ours": ours, "peer": null, "unit": unit, "ratio": null, "target": target,
        "met": target.zip(ours).map(|(target, ours)| ours < target), "runs": runs.len(),
        "spread": [sorted.first(), sorted.last()],
    })
}
