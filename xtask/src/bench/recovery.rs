//! How long training stands still when one of two workers goes: killed outright, and evicted with notice. Real
//! processes, from outside, as a cloud would do it.

use super::figure::Figure;
use super::{Bench, peers};
use crate::cluster::{Cluster, Programs, Status, Watch, kill_outright};
use anyhow::{Context, Result, bail, ensure};
use std::time::{Duration, Instant};

const RUNS: usize = 5;
const STEPS_BEFORE: u64 = 100;
const WAIT_MAX: Duration = Duration::from_secs(60);
/// A notice costs no step; what remains is one rendezvous.
const PAUSE_WITH_NOTICE_MS_MAX: f64 = 200.0;
const PAUSE_AFTER_KILL_MS_MAX: f64 = 500.0;

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

#[derive(Clone, Copy)]
enum Taking {
    Killed,
    WithNotice,
}

/// Both ways of losing a worker, and the peers' where asked for.
pub(crate) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let programs = Programs::build(true)?;

    let killed = measure(&programs, Taking::Killed)?;
    let told = figure("pause_after_kill", &killed, |pause| pause.told_ms, Some(PAUSE_AFTER_KILL_MS_MAX));
    let seen = figure("pause_after_kill_seen_by_watch", &killed, |pause| pause.seen_ms, None);
    bench.tell(told.clone())?;
    bench.tell(seen.clone())?;

    let noticed = measure(&programs, Taking::WithNotice)?;
    bench.tell(figure("pause_with_notice", &noticed, |pause| pause.told_ms, Some(PAUSE_WITH_NOTICE_MS_MAX)))?;
    let repeated: Vec<f64> = noticed.iter().map(|pause| pause.steps_repeated as f64).collect();
    bench.tell(Figure::less_is_better("steps_repeated_with_notice", "steps", &repeated, Some(0.0)))?;

    if let Some(python) = bench.peers {
        for (name, pauses) in peers::recovery(python)? {
            bench.tell(told.against(name, &pauses))?;
            bench.tell(seen.against(name, &pauses))?;
        }
    }
    Ok(())
}

fn figure(name: &str, pauses: &[Pause], of: fn(&Pause) -> f64, target: Option<f64>) -> Figure {
    let runs: Vec<f64> = pauses.iter().map(of).collect();
    Figure::less_is_better(name, "ms", &runs, target)
}

fn measure(programs: &Programs, taking: Taking) -> Result<Vec<Pause>> {
    (0..RUNS).map(|_| one(programs, taking)).collect()
}

/// A fresh coordinator for each run: `longest_pause_ms` is over a job's life.
fn one(programs: &Programs, taking: Taking) -> Result<Pause> {
    let cluster = Cluster::start(programs, POOLS)?;
    let job = "recovery";
    cluster.submit(&["name=recovery", "resources.workers.max=2", "train.steps=1000000"])?;
    let mut watch = cluster.watch(job)?;
    until(&mut watch, "two workers train", |status| status.world_size == 2 && status.step >= STEPS_BEFORE)?;
    let mut workers = cluster.workers()?.into_iter().filter(|worker| worker.state == "training");
    let victim = workers.nth(1).context("find the second worker")?;

    let taken = Instant::now();
    match taking {
        Taking::Killed => kill_outright(&victim)?,
        Taking::WithNotice => {
            cluster.ask::<serde_json::Value>(&["worker", "evict", &victim.worker, "--notice", "5"])?;
        }
    }
    let (_, alone) = until(&mut watch, "the other goes on alone", |status| status.world_size == 1)?;
    let (went_on_at, _) = until(&mut watch, "a newer step", |status| status.step > alone.step)?;
    let (_, status) = until(&mut watch, "the pause is told", |status| status.longest_pause_ms > 0.0)?;
    cluster.ask::<serde_json::Value>(&["cancel", job])?;
    Ok(Pause {
        told_ms: status.longest_pause_ms,
        seen_ms: (went_on_at - taken).as_secs_f64() * 1e3,
        steps_repeated: status.steps_repeated,
    })
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
