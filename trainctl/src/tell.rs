//! How jobs and workers are put into words, the same in every command.

use crate::format;
use crate::home;
use crate::printer::Printer;
use crate::table::{self, Tone};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use trainctl_jobs::{AuditSpec, JobSpec};
use trainctl_proto::v1::{Corruption, Cost, Evaluation, JobStatus, NcclFailure, SaveFailure, Share};

/// What a job's state means for its reader.
pub(crate) fn state_tone(state: &str) -> Tone {
    match state {
        "running" | "succeeded" => Tone::Good,
        "failed" => Tone::Bad,
        "cancelled" | "suspended" => Tone::Faint,
        _ => Tone::Busy,
    }
}

/// What a worker's state means for its reader.
pub(crate) fn worker_tone(state: &str) -> Tone {
    match state {
        "training" => Tone::Good,
        "gone" => Tone::Faint,
        _ => Tone::Busy,
    }
}

/// Logical shards as a closed range: `0-3`, or `5` for one.
pub(crate) fn shards(first: u32, end: u32) -> String {
    match end.saturating_sub(first) {
        0 => "none".to_owned(),
        1 => first.to_string(),
        _ => format!("{first}-{}", end - 1),
    }
}

/// `accuracy 97.8 %, loss 0.08123`.
pub(crate) fn evaluation(eval: &Evaluation) -> String {
    match eval.accuracy {
        Some(accuracy) => format!("accuracy {:.2} %, loss {}", accuracy * 100.0, format::figure(eval.loss)),
        None => format!("loss {}", format::figure(eval.loss)),
    }
}

/// `digits  running  step 812 of 2000`.
pub(crate) fn headline(printer: &Printer, job: &JobStatus) -> String {
    let state = printer.tone(&job.state, state_tone(&job.state));
    format!("{}  {state}  step {} of {}", printer.bold(&job.job), job.step, job.steps)
}

/// How suspended jobs go on: `a, b go on with `trainctl up``, in the home if it isn't the usual one, with the pools
/// that the jobs were given to.
pub(crate) fn goes_on(jobs: &[String], home: &Path, pools: Option<&Path>) -> String {
    let verb = if jobs.len() == 1 { "goes" } else { "go" };
    let mut command = "trainctl up".to_owned();
    if !home::is_usual(home) {
        command.push_str(&format!(" --home {}", home.display()));
    }
    if let Some(pools) = pools {
        command.push_str(&format!(" --pools {}", pools.display()));
    }
    format!("{} {verb} on with `{command}`", jobs.join(", "))
}

/// `a is`, `a, b are`.
pub(crate) fn names_are(jobs: &[String]) -> String {
    format!("{} {}", jobs.join(", "), if jobs.len() == 1 { "is" } else { "are" })
}

/// Reasons can quote a worker's log; in full they are for `show`.
pub(crate) fn first_line(reason: &str) -> &str {
    reason.lines().next().unwrap_or_default()
}

/// A job in full.
pub(crate) fn job(printer: &Printer, job: &JobStatus) -> String {
    let mut rows: Vec<(&str, String)> = Vec::new();
    if !job.reason.is_empty() {
        rows.push(("reason", job.reason.clone()));
    }
    rows.push(("workers", workers(job)));
    if !job.shares.is_empty() {
        rows.push(("shards", shares(&job.shares)));
    }
    if let Some(loss) = job.loss {
        rows.push(("loss", format::figure(loss)));
    }
    if let Some(eval) = &job.eval {
        rows.push(("eval", format!("{} at step {}", evaluation(eval), eval.step)));
    }
    if job.skipped_steps > 0 {
        let counted = format::count(job.skipped_steps, "step");
        rows.push(("skipped", format!("{counted} with NaN or infinity, as train.on_nonfinite says")));
    }
    if job.audits_passed > 0 || is_audited(job) {
        let yet = if job.audits_passed == 0 && job.ended_ms == 0 { " yet" } else { "" };
        rows.push(("audits", format!("{}{yet}", audits(job.audits_passed))));
    }
    for reason in without_nccl(&job.nccl_failures) {
        rows.push(("gradients", reason));
    }
    rows.push(("evictions", evictions(job)));
    if let Some(total) = &job.cost {
        rows.push(("cost", cost(total)));
    }
    if job.samples_per_s > 0.0 {
        rows.push(("speed", speed(job)));
    }
    rows.push(("time", times(job)));
    rows.push(("checkpoints", checkpoints(job)));
    if let Some(failure) = &job.save_failure {
        let SaveFailure { step, worker, reason, .. } = failure;
        rows.push(("not saved", format!("step {step}, on {worker}: {}", first_line(reason))));
    }
    for one in &job.corruptions {
        rows.push(("corruption", corruption(one)));
    }
    if !job.state_digest.is_empty() {
        rows.push(("state", format!("{} at step {}", job.state_digest, job.state_digest_step)));
    }
    if !job.data_digest.is_empty() {
        rows.push(("data", job.data_digest.clone()));
    }
    match job.numerics.as_str() {
        "fast" => rows.push(("numerics", "fast: computed again, the job would give other bits".to_owned())),
        _ if !job.fingerprint.is_empty() => rows.push(("numerics", job.fingerprint.clone())),
        _ => {}
    }
    format!("{}\n{}", headline(printer, job), table::pairs(printer, &rows))
}

/// `41 passed`.
pub(crate) fn audits(passed: u64) -> String {
    if passed == 0 { "none".to_owned() } else { format!("{passed} passed") }
}

/// Whether its shards are computed twice now and then, where the status says it: only `Show` fills the spec.
fn is_audited(job: &JobStatus) -> bool {
    serde_json::from_str(&job.spec_json).is_ok_and(|spec: JobSpec| spec.train.audits() != AuditSpec::Off)
}

fn workers(job: &JobStatus) -> String {
    let now = job.world_size;
    format!("{now} now, {} to {} wanted; generation {}", job.workers_min, job.workers_max, job.generation)
}

/// `w1 6 of 10 ms, w2 2 of 40 ms`.
fn shares(shares: &[Share]) -> String {
    let one = |share: &Share| match share.shard_seconds {
        seconds if seconds > 0.0 => format!("{} {} of {}", share.worker, share.shards, format::span(seconds)),
        _ => format!("{} {}", share.worker, share.shards),
    };
    shares.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// `over TCP: w1, w2 can't use NCCL: no CUDA device 0`, for each reason.
fn without_nccl(failures: &[NcclFailure]) -> Vec<String> {
    let mut by_reason: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for NcclFailure { worker, reason, .. } in failures {
        by_reason.entry(first_line(reason)).or_default().insert(worker);
    }
    let told = |(reason, workers): (&str, BTreeSet<&str>)| {
        let workers: Vec<&str> = workers.into_iter().collect();
        format!("over TCP: {} can't use NCCL: {reason}", workers.join(", "))
    };
    by_reason.into_iter().map(told).collect()
}

/// `different states at step 12: w1 00ab, w2 00ac; w2 was wrong and is quarantined; 2 steps repeated from step 10`, or
/// `different gradients of shard 3 at step 12: w1 00ab, w2 00ac; 00ab is right; ...`.
fn corruption(corruption: &Corruption) -> String {
    let mut digests: Vec<String> =
        corruption.digests.iter().map(|(worker, digest)| format!("{worker} {digest}")).collect();
    digests.sort();
    let blamed = match corruption.quarantined.as_slice() {
        [] => "who was wrong is not known".to_owned(),
        [worker] => format!("{worker} was wrong and is quarantined"),
        workers => format!("{} were wrong and are quarantined", workers.join(", ")),
    };
    let repeated = corruption.back_to.map_or(String::new(), |step| {
        format!("; {} repeated from step {step}", format::count(corruption.steps_repeated, "step"))
    });
    let what = match corruption.shard {
        None => "different states".to_owned(),
        Some(shard) => format!("different gradients of shard {shard}"),
    };
    let right = match corruption.right.as_str() {
        "" => String::new(),
        right => format!("; {right} is right"),
    };
    format!("{what} at step {}: {}{right}; {blamed}{repeated}", corruption.step, digests.join(", "))
}

/// `$0.42 paid, $1.03 on demand, saved $0.61 (59 %); $0.00052 a step`.
fn cost(total: &Cost) -> String {
    let (paid, on_demand) = (format::money(total.paid_usd), format::money(total.on_demand_usd));
    let step = total.usd_per_step.map_or_else(String::new, |usd| format!("; {} a step", format::money(usd)));
    format!("{paid} paid, {on_demand} on demand, {}{step}", saved(total))
}

/// `saved $0.61 (59 %)`.
pub(crate) fn saved(total: &Cost) -> String {
    let saved = format!("saved {}", format::money(total.saved_usd));
    if total.on_demand_usd > 0.0 {
        format!("{saved} ({:.0} %)", 100.0 * total.saved_usd / total.on_demand_usd)
    } else {
        saved
    }
}

fn evictions(job: &JobStatus) -> String {
    format!(
        "{}; {} repeated; longest pause {}",
        job.evictions,
        format::count(job.steps_repeated, "step"),
        format::duration_ms(job.longest_pause_ms)
    )
}

fn speed(job: &JobStatus) -> String {
    let speed = format!("{} samples/s", format::rate(job.samples_per_s));
    if job.eta_s > 0.0 {
        format!("{speed}, {} to go", format::duration(Duration::from_secs_f64(job.eta_s)))
    } else {
        speed
    }
}

fn times(job: &JobStatus) -> String {
    let at = |ms: i64| format::rfc3339(ms).map(|text| text[..19].replace('T', " "));
    match (at(job.started_ms), at(job.ended_ms)) {
        (None, None) => format!("submitted {} UTC", at(job.submitted_ms).unwrap_or_else(|| "-".to_owned())),
        (Some(started), None) => format!("started {started} UTC"),
        (None, Some(ended)) => format!("ended {ended} UTC, never started"),
        (Some(started), Some(_)) => {
            let took = u64::try_from(job.ended_ms - job.started_ms).unwrap_or(0);
            format!("started {started} UTC, took {}", format::duration(Duration::from_millis(took)))
        }
    }
}

fn checkpoints(job: &JobStatus) -> String {
    match job.checkpoints.last() {
        None => format!("none yet, below {}", job.checkpoint_root),
        Some(newest) => format!(
            "{}, newest at step {} ({}), below {}",
            job.checkpoints.len(),
            newest.step,
            format::bytes(newest.bytes),
            job.checkpoint_root
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::{ColourChoice, Format};
    use trainctl_proto::v1::Checkpoint;

    #[test]
    fn shards_are_closed_ranges() {
        assert_eq!([shards(0, 4), shards(5, 6), shards(3, 3)], ["0-3", "5", "none"]);
    }

    #[test]
    fn shares_say_how_many_shards_and_what_one_takes() {
        let share = |worker: &str, shards, shard_seconds| Share { worker: worker.into(), shards, shard_seconds };
        let text = shares(&[share("w1", 6, 0.01), share("w2", 2, 0.04), share("w3", 1, 0.0)]);
        assert_eq!(text, "w1 6 of 10 ms, w2 2 of 40 ms, w3 1");
    }

    #[test]
    fn workers_that_cannot_use_nccl_are_told_by_reason() {
        let failure =
            |worker: &str, reason: &str| NcclFailure { worker: worker.into(), reason: reason.into(), at_ms: 1 };
        let told = without_nccl(&[failure("w2", "no GPU"), failure("w3", "too old"), failure("w1", "no GPU")]);
        assert_eq!(told, ["over TCP: w1, w2 can't use NCCL: no GPU", "over TCP: w3 can't use NCCL: too old"]);
        assert!(without_nccl(&[]).is_empty());
    }

    #[test]
    fn a_corruption_names_step_digests_blame_and_cost() {
        let digests = [("w2", "01"), ("w1", "00")].map(|(worker, digest)| (worker.to_owned(), digest.to_owned()));
        let mut one = Corruption { step: 12, digests: digests.into(), ..Default::default() };
        assert_eq!(corruption(&one), "different states at step 12: w1 00, w2 01; who was wrong is not known");
        one.quarantined = vec!["w2".into()];
        (one.back_to, one.steps_repeated) = (Some(10), 2);
        assert_eq!(
            corruption(&one),
            "different states at step 12: w1 00, w2 01; w2 was wrong and is quarantined; 2 steps repeated from step 10"
        );
    }

    #[test]
    fn a_wrong_gradient_names_the_shard_and_what_is_right() {
        let digests = [("w2", "01"), ("w1", "00")].map(|(worker, digest)| (worker.to_owned(), digest.to_owned()));
        let of_shard = Corruption { step: 12, shard: Some(3), digests: digests.into(), ..Default::default() };
        assert_eq!(
            corruption(&of_shard),
            "different gradients of shard 3 at step 12: w1 00, w2 01; who was wrong is not known"
        );
        let told = Corruption { right: "00".into(), quarantined: vec!["w2".into()], ..of_shard };
        let text =
            "different gradients of shard 3 at step 12: w1 00, w2 01; 00 is right; w2 was wrong and is quarantined";
        assert_eq!(corruption(&told), text);
    }

    #[test]
    fn audits_are_told_where_there_were_any_or_the_job_has_them() {
        let printer = Printer::new(Format::Text, ColourChoice::Never, false);
        let told = |job: &JobStatus| {
            let text = self::job(&printer, job);
            text.lines().find_map(|line| line.strip_prefix("audits")).map(|said| said.trim().to_owned())
        };
        let spec = |audit: &str, numerics: &str| {
            format!(
                r#"{{"name": "digits", "data": {{"manifest": "x", "digest": "x"}}, "model": {{"kind": "mlp", "hidden": [8]}},
                "train": {{"steps": 9, "global_batch": 8, "logical_shards": 8, "audit": {audit}, "numerics": {numerics:?}}}}}"#
            )
        };
        for (audits_passed, spec_json, ended_ms, expected) in [
            (0, String::new(), 0, None),
            (41, String::new(), 0, Some("41 passed")),
            (41, spec("\"off\"", "exact"), 1, Some("41 passed")),
            (0, spec("\"auto\"", "exact"), 0, Some("none yet")),
            (0, spec("50", "exact"), 1, Some("none")),
            (0, spec("\"off\"", "exact"), 0, None),
            (0, spec("\"auto\"", "fast"), 0, None),
        ] {
            let job = JobStatus { audits_passed, spec_json: spec_json.clone(), ended_ms, ..Default::default() };
            assert_eq!(told(&job).as_deref(), expected, "{audits_passed} {spec_json}");
        }
    }

    #[test]
    fn a_job_is_told_in_full() {
        let status = JobStatus {
            job: "digits".into(),
            state: "succeeded".into(),
            step: 2000,
            steps: 2000,
            generation: 7,
            loss: Some(0.031_24),
            eval: Some(Evaluation { step: 2000, loss: 0.0812, accuracy: Some(0.978) }),
            state_digest: "blake3:0123".into(),
            state_digest_step: 2000,
            evictions: 2,
            steps_repeated: 1,
            audits_passed: 41,
            longest_pause_ms: 212.4,
            checkpoints: vec![Checkpoint { step: 2000, bytes: 123_456, ..Default::default() }],
            started_ms: 1_700_000_000_000,
            ended_ms: 1_700_000_014_000,
            workers_min: 1,
            workers_max: 4,
            checkpoint_root: "file:///runs".into(),
            cost: Some(Cost {
                paid_usd: 0.42,
                on_demand_usd: 1.03,
                saved_usd: 0.61,
                usd_per_step: Some(0.000_21),
                ..Default::default()
            }),
            ..Default::default()
        };
        let printer = Printer::new(Format::Text, ColourChoice::Never, false);
        insta::assert_snapshot!(job(&printer, &status), @"
        digits  succeeded  step 2000 of 2000
        workers      0 now, 1 to 4 wanted; generation 7
        loss         0.03124
        eval         accuracy 97.80 %, loss 0.08120 at step 2000
        audits       41 passed
        evictions    2; 1 step repeated; longest pause 212 ms
        cost         $0.42 paid, $1.03 on demand, saved $0.61 (59 %); $0.00021 a step
        time         started 2023-11-14 22:13:20 UTC, took 14 s
        checkpoints  1, newest at step 2000 (120.6 KiB), below file:///runs
        state        blake3:0123 at step 2000
        ");
    }
}
