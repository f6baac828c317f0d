//! How long training stands still when one of two workers goes, killed outright or evicted with notice, and when one
//! joins another. Real processes, from outside, as a cloud would do it.

use super::Bench;
use super::figure::{Better, Figure};
use super::peers::Python;
use super::peers::recovery::Peer;
use crate::cluster::{Cluster, Programs, Status, Watch, Worker, check_interrupted, kill_outright};
use crate::screen;
use anyhow::{Context, Result, bail, ensure};
use std::time::{Duration, Instant};

const STEPS_BEFORE: u64 = 100;
const WAIT_MAX: Duration = Duration::from_secs(60);
/// A notice costs no step, nor does a joiner; what remains is one rendezvous.
const WITH_NOTICE_MS_MAX: f64 = 100.0;
const FOR_A_JOIN_MS_MAX: f64 = 100.0;
const AFTER_KILL_MS_MAX: f64 = 300.0;

const POOL: &str = "local-spot";

/// The taken worker's place stays empty, so that the pause measured is this one and no joiner's.
const POOLS: &str = r#"
[pools.local-spot]
kind = "local"
spot = true
capacity = 2
notice = "5s"
capacity_returns_after = "1h"
"#;

/// What one run showed.
struct Pause {
    /// As the workers measured it, between their last step before and their first after.
    told_ms: f64,
    /// From the moment that the worker was taken to the first newer step that `watch` showed: an upper bound, as steps
    /// come to `watch` with heartbeats.
    seen_ms: f64,
    steps_repeated: u64,
}

/// What happens to the group.
#[derive(Clone, Copy, PartialEq)]
enum Change {
    /// One of two is killed outright.
    Killed,
    /// One of two leaves.
    WithNotice,
    /// A second comes to the first.
    Joined,
}

/// All changes of ours, and the peers' recovery where asked for, in turns.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let programs = Programs::build(true)?;
    let peers = match &bench.peers {
        Some(python) => Peer::all(python)?,
        None => Vec::new(),
    };
    let [mut killed, mut noticed, mut joined] = [const { Vec::new() }; 3];
    let mut theirs = vec![Vec::new(); peers.len()];
    for _ in 0..bench.runs {
        killed.push(one(&programs, Change::Killed)?);
        noticed.push(one(&programs, Change::WithNotice)?);
        joined.push(one(&programs, Change::Joined)?);
        for (peer, pauses) in peers.iter().zip(&mut theirs) {
            let python = bench.peers.as_ref().context("have a Python")?;
            pauses.push(pause_of(peer, python)?);
        }
    }

    let told = |pauses: &[Pause]| pauses.iter().map(|pause| pause.told_ms).collect::<Vec<_>>();
    let seen = |pauses: &[Pause]| pauses.iter().map(|pause| pause.seen_ms).collect::<Vec<_>>();
    let repeated: Vec<f64> = noticed.iter().map(|pause| pause.steps_repeated as f64).collect();
    let figure = |name, runs: &[f64]| Figure::new(name, "ms", Better::Less, runs);
    let (killed_ms, seen_ms) = (told(&killed), seen(&killed));
    let figures = [
        figure("pause_after_kill", &killed_ms).within(AFTER_KILL_MS_MAX),
        figure("pause_after_kill_seen_by_watch", &seen_ms),
        figure("pause_with_notice", &told(&noticed)).within(WITH_NOTICE_MS_MAX),
        Figure::new("steps_repeated_with_notice", "steps", Better::Less, &repeated).within(0.0),
        figure("pause_for_a_join", &told(&joined)).within(FOR_A_JOIN_MS_MAX),
    ];
    for figure in figures {
        bench.tell(figure)?;
    }
    for (peer, pauses) in peers.iter().zip(&theirs) {
        // Each of ours beside what the same turn gave.
        let with_theirs = |ours: &[f64]| -> (Vec<f64>, Vec<f64>) {
            ours.iter().zip(pauses).filter_map(|(ours, theirs)| Some((*ours, (*theirs)?))).unzip()
        };
        let ((killed_ms, pauses), (seen_ms, _)) = (with_theirs(&killed_ms), with_theirs(&seen_ms));
        ensure!(!pauses.is_empty(), "{} went on in none of {} runs", peer.name, bench.runs);
        bench.tell(figure("pause_after_kill", &killed_ms).against(peer.name, &killed_ms, &pauses).ratio_within(1.0))?;
        bench.tell(figure("pause_after_kill_seen_by_watch", &seen_ms).against(peer.name, &seen_ms, &pauses))?;
    }
    Ok(())
}

/// `None`: the peer did not go on, which is said and has no length.
fn pause_of(peer: &Peer, python: &Python) -> Result<Option<f64>> {
    let pause = peer.pause(python);
    check_interrupted()?;
    Ok(pause.inspect_err(|error| screen::note(&format!("{error:#}; this run has no ratio"))).ok())
}

/// A fresh coordinator for each run: `longest_pause_ms` is over a job's life.
fn one(programs: &Programs, change: Change) -> Result<Pause> {
    let cluster = Cluster::start(programs, POOLS)?;
    let job = "recovery";
    let before = if change == Change::Joined { 1 } else { 2 };
    if change == Change::Joined {
        cluster.ask::<serde_json::Value>(&["pool", "set", POOL, "--capacity", "1"])?;
    }
    cluster.submit("jobs/digits.toml", &["name=recovery", "resources.workers.max=2", "train.steps=1000000"])?;
    let mut watch = cluster.watch(job)?;
    until(&mut watch, "the workers train", |status| status.world_size == before && status.step >= STEPS_BEFORE)?;

    let victim = (change != Change::Joined).then(|| second(&cluster)).transpose()?;
    let changed = Instant::now();
    match (change, &victim) {
        (Change::Killed, Some(victim)) => kill_outright(victim)?,
        (Change::WithNotice, Some(victim)) => {
            cluster.ask::<serde_json::Value>(&["worker", "evict", &victim.worker, "--notice", "5"])?;
        }
        _ => {
            cluster.ask::<serde_json::Value>(&["pool", "set", POOL, "--capacity", "2"])?;
        }
    }
    let (_, status) = until(&mut watch, "the group changes", |status| status.world_size == 3 - before)?;
    let (went_on_at, _) = until(&mut watch, "a newer step", |newer| newer.step > status.step)?;
    let (_, status) = until(&mut watch, "the pause is told", |status| status.longest_pause_ms > 0.0)?;
    cluster.ask::<serde_json::Value>(&["cancel", job])?;
    Ok(Pause {
        told_ms: status.longest_pause_ms,
        seen_ms: (went_on_at - changed).as_secs_f64() * 1e3,
        steps_repeated: status.steps_repeated,
    })
}

fn second(cluster: &Cluster) -> Result<Worker> {
    let mut workers = cluster.workers()?.into_iter().filter(|worker| worker.state == "training");
    workers.nth(1).context("find the second worker")
}

/// The first status that fits. The job must not end before.
fn until(watch: &mut Watch, what: &str, fits: impl Fn(&Status) -> bool) -> Result<(Instant, Status)> {
    let began = Instant::now();
    while let Some((at, status)) = watch.next()? {
        ensure!(!status.ended(), "the job {} before {what}: {}", status.state, status.reason.unwrap_or_default());
        if fits(&status) {
            return Ok((at, status));
        }
        ensure!(began.elapsed() < WAIT_MAX, "not within {} s: {what}; the job: {status:?}", WAIT_MAX.as_secs());
    }
    bail!("`trainctl watch` ended before {what}")
}
