//! What happens in the demo: four workers on a spot pool, one evicted with notice, one killed outright, capacity that
//! returns; then one worker, left alone.

use super::stage::{Mark, Stage};
use crate::cluster::{Cluster, Decision, Status, Worker, kill_outright};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

const POOL: &str = "local-spot";
/// Enough for a joiner's start, a second or two, to be a small part of the run on a fast machine too.
const STEPS: u32 = 4000;

/// A run, when it is over.
pub(crate) struct Run {
    /// Its last status.
    pub(crate) status: Status,
    /// How many workers trained together, one entry for each change.
    pub(crate) world_sizes: Vec<u32>,
    /// From the submission to the end.
    pub(crate) took: Duration,
    /// What the coordinator decided.
    pub(crate) decisions: Vec<Decision>,
}

/// Something done to the job.
struct Act {
    /// It doesn't come before this share of all steps.
    percent_min: u64,
    /// Nor before so many workers train together: the act before has shown its effect by then.
    world_size: u32,
    what: What,
}

enum What {
    Evict,
    Kill,
    GiveBack,
}

const ACTS: [Act; 3] = [
    Act { percent_min: 10, world_size: 4, what: What::Evict },
    Act { percent_min: 25, world_size: 3, what: What::Kill },
    Act { percent_min: 40, world_size: 3, what: What::GiveBack },
];

/// The job with all its trouble.
pub(crate) fn disturbed(cluster: &Cluster, stage: &mut Stage) -> Result<Run> {
    stage.scene("Run 1: four workers on a spot pool, and trouble");
    let mut acts = ACTS.iter().peekable();
    let run = follow(cluster, stage, "digits-disturbed", 4, |status, stage| {
        let now =
            |act: &&Act| status.world_size == act.world_size && status.step * 100 >= status.steps * act.percent_min;
        match acts.next_if(now) {
            Some(act) => perform(&act.what, cluster, stage),
            None => Ok(()),
        }
    })?;
    if acts.next().is_some() || run.world_sizes.last() != Some(&4) {
        stage.tell(Mark::Going, "this machine is quick: the job was done before the last joiner had caught up");
    }
    Ok(run)
}

/// The job with nothing in its way.
pub(crate) fn undisturbed(cluster: &Cluster, stage: &mut Stage) -> Result<Run> {
    stage.scene("Run 2: the same job on one worker, left alone");
    follow(cluster, stage, "digits-undisturbed", 1, |_, _| Ok(()))
}

fn perform(what: &What, cluster: &Cluster, stage: &Stage) -> Result<()> {
    match what {
        What::Evict => {
            stage.tell(Mark::Taken, "the pool shrinks to three and takes a worker, with 5 s of notice");
            resize_pool(cluster, 3)?;
        }
        What::Kill => {
            let worker = some_worker(cluster)?;
            stage.tell(Mark::Taken, &format!("kill -9 of {} (pid {})", worker.worker, worker.pid.unwrap_or_default()));
            kill_outright(&worker)?;
        }
        What::GiveBack => {
            stage.tell(Mark::Given, "capacity returns: the pool has room for four again");
            resize_pool(cluster, 4)?;
        }
    }
    Ok(())
}

fn resize_pool(cluster: &Cluster, capacity: u32) -> Result<()> {
    let capacity = capacity.to_string();
    cluster.ask::<serde_json::Value>(&["pool", "set", POOL, "--capacity", &capacity])?;
    Ok(())
}

/// The second in the list: nothing about the first is special, and this shows it less.
fn some_worker(cluster: &Cluster) -> Result<Worker> {
    let mut training = cluster.workers()?.into_iter().filter(|worker| worker.state == "training");
    training.nth(1).context("find a second worker that trains")
}

/// Submits the job under a name of its own and follows it to its end, telling each change of the group.
fn follow(
    cluster: &Cluster,
    stage: &mut Stage,
    name: &str,
    workers: u32,
    mut meanwhile: impl FnMut(&Status, &Stage) -> Result<()>,
) -> Result<Run> {
    let settings = [
        format!("name={name}"),
        format!("train.steps={STEPS}"),
        format!("resources.workers.max={workers}"),
        format!("resources.pools=[\"{POOL}\"]"),
    ];
    cluster.submit("jobs/digits.toml", &settings.each_ref().map(String::as_str))?;

    let mut watch = cluster.watch(name)?;
    let mut world_sizes: Vec<u32> = Vec::new();
    let mut repeated = 0;
    let mut last = None;
    while let Some((_, status)) = watch.next()? {
        stage.progress(&status);
        let before = world_sizes.last().copied().unwrap_or(0);
        if status.world_size != before && status.world_size > 0 && !status.ended() {
            world_sizes.push(status.world_size);
            let mark = if before == 0 || status.world_size < before { Mark::Going } else { Mark::Given };
            stage.tell(mark, &change(before, status.world_size));
        }
        if status.steps_repeated > repeated {
            stage.tell(Mark::Going, &format!("{} computed again", steps(status.steps_repeated - repeated)));
            repeated = status.steps_repeated;
        }
        meanwhile(&status, stage)?;
        last = Some(status);
    }
    let status = cluster.show(name).ok().or(last).context("see the job's end")?;
    ensure!(status.state == "succeeded", "{name} {}: {}", status.state, status.reason.unwrap_or_default());
    let took = stage.elapsed();
    stage.progress(&status);
    stage.tell(Mark::Done, "done");
    let decisions = decisions(cluster, name)?;
    Ok(Run { status, world_sizes, took, decisions })
}

fn decisions(cluster: &Cluster, name: &str) -> Result<Vec<Decision>> {
    #[derive(serde::Deserialize)]
    struct Explanation {
        decisions: Vec<Decision>,
    }
    Ok(cluster.ask::<Explanation>(&["explain", name])?.decisions)
}

fn change(before: u32, now: u32) -> String {
    match (before, now) {
        (0, 1) => "one worker trains".to_owned(),
        (0, now) => format!("{now} workers train together"),
        (before, now) if now > before => format!("a joiner has caught up: {now} workers"),
        (_, 1) => "the last worker goes on".to_owned(),
        (_, now) => format!("{now} workers go on"),
    }
}

fn steps(count: u64) -> String {
    if count == 1 { "1 step".to_owned() } else { format!("{count} steps") }
}
