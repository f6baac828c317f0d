//! One turn of a measurement that others take turns in: a state of so many bytes is saved, and loaded again.
//!
//! `cargo bench -p trainctl-checkpoint --bench turn -- BYTES ROOT`
//!
//! Prints one line of JSON. The first save is not counted; after it all values change, and the second is. The stall is
//! the copy of the state, which is all that training waits for. Memory is what the process had resident at most during
//! the second save beyond the state itself, so the copy is in it.

use serde_json::{Value, json};
use std::error::Error;
use std::io::Write as _;
use std::time::Instant;
use trainctl_checkpoint::{CommitInfo, Group, Manifest, RunFolder, StateCopy, StateDigests, TensorInfo};

/// Of each group a third, as an optimizer with two slots has them.
const LAYERS: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo adds arguments of its own.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let [bytes, root] = args.as_slice() else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let measured = runtime.block_on(measure(bytes.parse()?, root))?;
    Ok(writeln!(std::io::stdout().lock(), "{measured}")?)
}

async fn measure(bytes: usize, root: &str) -> Result<Value, Box<dyn Error>> {
    let tensors = tensors(bytes / size_of::<f32>());
    let len = tensors.last().map_or(0, |tensor| tensor.offset + tensor.len);
    let mut state: Vec<f32> = (0..len).map(|at| (at % 4096) as f32).collect();
    let run = RunFolder::open(root, "turn")?;
    let before_kb = resident_kb("VmRSS:", false);
    let mut copy = StateCopy::new(len);
    copy.copy_from(&state);
    save(&run, 1, &tensors, &copy).await?;
    state.iter_mut().for_each(|value| *value += 1.0);

    resident_kb("VmHWM:", true);
    let began = Instant::now();
    copy.copy_from(&state);
    let stall = began.elapsed();
    let saved = save(&run, 2, &tensors, &copy).await?;
    let save_s = began.elapsed().as_secs_f64();
    let peak_kb = resident_kb("VmHWM:", false);
    drop(copy);

    let began = Instant::now();
    run.load(2, &tensors, &mut state).await?;
    let load_s = began.elapsed().as_secs_f64();
    let mib = saved.bytes() as f64 / (1 << 20) as f64;
    let memory = before_kb.zip(peak_kb).map(|(before, peak)| peak.saturating_sub(before) as f64 / 1024.0);
    Ok(json!({
        "stall_ms": stall.as_secs_f64() * 1e3,
        "save_s": save_s,
        "save_mib_per_s": mib / save_s,
        "load_mib_per_s": mib / load_s,
        "memory_mib": memory,
        "files": saved.files.iter().map(|file| file.bytes).collect::<Vec<_>>(),
    }))
}

async fn save(
    run: &RunFolder,
    step: u64,
    tensors: &[TensorInfo],
    copy: &StateCopy,
) -> Result<Manifest, Box<dyn Error>> {
    let digests = StateDigests::of(tensors, copy.state(), step);
    run.write_part_of(&digests, step, 0, 1, tensors, copy.state()).await?;
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

fn tensors(len: usize) -> Vec<TensorInfo> {
    let each = len / (3 * LAYERS) / 16 * 16;
    let mut tensors = Vec::new();
    for (slot, group) in [("", Group::Model), ("exp_avg.", Group::Optimizer), ("exp_avg_sq.", Group::Optimizer)] {
        for layer in 0..LAYERS {
            let (name, offset) = (format!("{slot}layers.{layer}.weight"), tensors.len() * each);
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
