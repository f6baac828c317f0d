//! What a checkpoint costs: how long training stands still, what it takes in memory, and how fast it goes to a bucket and
//! back. Beside it torch's own asynchronous save to the same disk, and the copying of as many bytes in files of the same
//! sizes by tools that do nothing else.

use super::Bench;
use super::bucket::Server;
use super::figure::{Better, Figure};
use super::peers::{Copier, Ranks};
use super::programs::{build_bench, output, pass_on};
use crate::cluster::check_interrupted;
use crate::{screen, setup};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// A state of 1 GB.
const STATE_BYTES: u64 = 1_000_000_000;
/// What goes to the bucket and back.
const BUCKET_BYTES: u64 = 512 << 20;
const STALL_MAX_MS: f64 = 400.0;
/// Beside one copy of the state.
const MEMORY_MAX_MIB: f64 = 64.0;
/// Of the faster copier's throughput.
const THROUGHPUT_MIN: f64 = 0.9;
const MIB: f64 = (1 << 20) as f64;

/// As the bench `turn` of the checkpoint crate prints it.
#[derive(Deserialize)]
struct Turn {
    stall_ms: f64,
    save_s: f64,
    save_mib_per_s: f64,
    load_mib_per_s: f64,
    memory_mib: f64,
    files: Vec<u64>,
}

/// As `dcp_save.py` prints it.
#[derive(Deserialize)]
struct PeerTurn {
    stall_ms: f64,
    save_s: f64,
    memory_mib: f64,
}

/// All of it.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    setup::for_tests()?;
    let turn = build_bench("trainctl-checkpoint", "turn")?;
    to_disk(bench, &turn)?;
    to_a_bucket(bench, &turn)?;
    pass_on(bench, &["bench", "--quiet", "-p", "trainctl-checkpoint", "--bench", "store", "--"])
}

/// The stall, the time and the memory of a save of 1 GB, against `async_save`.
fn to_disk(bench: &mut Bench, turn: &Path) -> Result<()> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let theirs = folder.path().join("dcp");
    let args = [STATE_BYTES.to_string(), theirs.display().to_string()];
    let args = args.each_ref().map(String::as_str);
    let mut peer = match &bench.peers {
        Some(python) => Some(Ranks::start(python, "dcp_save.py", &args, 1)?),
        None => None,
    };
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for run in 0..bench.runs {
        screen::note(&format!("1 GB to disk, run {} of {}", run + 1, bench.runs));
        let root = folder.path().join(format!("ours-{run}"));
        let mut take_ours = || -> Result<()> {
            ours.push(take(turn, STATE_BYTES, &root.display().to_string(), &[])?);
            std::fs::remove_dir_all(&root).context("remove what was saved")
        };
        // Odd runs go backwards: a machine that grows busier slows no side more than the other.
        if run % 2 == 0 {
            take_ours()?;
        }
        if let Some(peer) = &mut peer {
            peers.push(peer.ask::<PeerTurn>("1")?);
        }
        if run % 2 == 1 {
            take_ours()?;
        }
    }
    let of_ours = |what: fn(&Turn) -> f64| ours.iter().map(what).collect::<Vec<f64>>();
    let of_peers = |what: fn(&PeerTurn) -> f64| peers.iter().map(what).collect::<Vec<f64>>();
    let beside = |name: &str, unit: &str, ours: &[f64], theirs: &[f64]| {
        let figure = Figure::new(name, unit, Better::Less, ours);
        if theirs.is_empty() { figure } else { figure.against("dcp", ours, theirs) }
    };
    let (stalls, their_stalls) = (of_ours(|it| it.stall_ms), of_peers(|it| it.stall_ms));
    bench.tell(Figure::new("checkpoint_1gb_stall", "ms", Better::Less, &stalls).within(STALL_MAX_MS))?;
    bench.tell(beside("checkpoint_1gb_stall", "ms", &stalls, &their_stalls).ratio_within(1.0))?;
    let (saves, their_saves) = (of_ours(|it| it.save_s), of_peers(|it| it.save_s));
    bench.tell(beside("checkpoint_1gb_save", "s", &saves, &their_saves))?;
    let (memory, their_memory) = (of_ours(|it| it.memory_mib), of_peers(|it| it.memory_mib));
    let most = STATE_BYTES as f64 / MIB + MEMORY_MAX_MIB;
    bench.tell(Figure::new("checkpoint_1gb_memory", "MiB", Better::Less, &memory).within(most))?;
    bench.tell(beside("checkpoint_1gb_memory", "MiB", &memory, &their_memory))
}

/// Throughput to and from SeaweedFS, against each tool that is there.
fn to_a_bucket(bench: &mut Bench, turn: &Path) -> Result<()> {
    let server = Server::build()?;
    let copiers = bench.peers.as_ref().map(Copier::all).transpose()?.unwrap_or_default();
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let (mut peers_up, mut peers_down) = (vec![Vec::new(); copiers.len()], vec![Vec::new(); copiers.len()]);
    for run in 0..bench.runs {
        screen::note(&format!("512 MiB to SeaweedFS and back, run {} of {}", run + 1, bench.runs));
        let server = server.start("bench", &[])?;
        let environment = server.environment();
        let ours = take(turn, BUCKET_BYTES, "s3://bench/ours", &environment)?;
        up.push(ours.save_mib_per_s);
        down.push(ours.load_mib_per_s);
        // In memory where that can be: only the bucket's way is measured.
        let base = Path::new("/dev/shm");
        let folder = if base.is_dir() { tempfile::tempdir_in(base) } else { tempfile::tempdir() };
        let folder = folder.context("make a folder")?;
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        write_files(&from, &ours.files)?;
        let mib = ours.files.iter().sum::<u64>() as f64 / MIB;
        for (at, copier) in copiers.iter().enumerate() {
            let bucket = format!("s3://bench/{}/", copier.name);
            let endpoint = server.endpoint();
            let time = |mut command: Command| -> Result<f64> {
                check_interrupted()?;
                let began = Instant::now();
                output(command.envs(environment.iter().cloned()))?;
                Ok(mib / began.elapsed().as_secs_f64())
            };
            peers_up[at].push(time(copier.upload(endpoint, &from, &bucket))?);
            std::fs::create_dir(&to).context("make a folder")?;
            peers_down[at].push(time(copier.download(endpoint, &bucket, &to))?);
            std::fs::remove_dir_all(&to).context("remove what was copied")?;
        }
    }
    for (name, ours, peers) in [("checkpoint_s3_save", &up, &peers_up), ("checkpoint_s3_load", &down, &peers_down)] {
        let figure = Figure::new(name, "MiB/s", Better::More, ours);
        if copiers.is_empty() {
            bench.tell(figure.clone())?;
        }
        for (copier, theirs) in copiers.iter().zip(peers) {
            bench.tell(figure.clone().against(copier.name, ours, theirs).ratio_within(THROUGHPUT_MIN))?;
        }
    }
    Ok(())
}

fn take(turn: &Path, bytes: u64, root: &str, environment: &[(String, String)]) -> Result<Turn> {
    check_interrupted()?;
    let mut command = Command::new(turn);
    command.args([&bytes.to_string(), root]).envs(environment.iter().cloned());
    let line = output(&mut command)?;
    serde_json::from_str(&line).with_context(|| format!("read the turn {line}"))
}

/// Files of these sizes. What is in them makes no difference to who copies them.
fn write_files(folder: &Path, sizes: &[u64]) -> Result<()> {
    std::fs::create_dir(folder).context("make a folder")?;
    for (at, &size) in sizes.iter().enumerate() {
        let bytes: Vec<u8> = (0..size).map(|byte| (byte.wrapping_mul(2_654_435_761) >> 16) as u8 ^ at as u8).collect();
        std::fs::write(folder.join(format!("{at:05}")), bytes).context("write a file to copy")?;
    }
    Ok(())
}
