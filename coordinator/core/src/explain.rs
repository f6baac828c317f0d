//! Decisions in words. `what` and `why` are one clause each, so that they read as "what: why".

use crate::decision::{DismissCause, DrainCause, LaunchCause, LaunchTerms, Reason, ReplaceCause};
use crate::event::LaunchErrorKind;
use crate::ids::{PoolName, WorkerId};
use crate::policy::Outlook;
use crate::shares::ShardMove;
use crate::state::StopPurpose;
use crate::words::{count, duration, list, money, span};
use std::collections::BTreeMap;

impl Reason {
    /// Its name, in snake_case.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Queue { .. } => "queue",
            Self::Launch { .. } => "launch",
            Self::Wait { .. } => "wait",
            Self::BackOff { .. } => "back_off",
            Self::Hurry { .. } => "hurry",
            Self::Relax { .. } => "relax",
            Self::Reject { .. } => "reject",
            Self::FormGroup { .. } => "form_group",
            Self::Join { .. } => "join",
            Self::AddMembers { .. } => "add_members",
            Self::Drain { .. } => "drain",
            Self::MoveShards { .. } => "move_shards",
            Self::GoOnWithout { .. } => "go_on_without",
            Self::RollBack { .. } => "roll_back",
            Self::Settle { .. } => "settle",
            Self::Distrust { .. } => "distrust",
            Self::SaveFailed { .. } => "save_failed",
            Self::NcclFailed { .. } => "nccl_failed",
            Self::GiveUp { .. } => "give_up",
            Self::SaveAndLeave { .. } => "save_and_leave",
            Self::KeepBudget { .. } => "keep_budget",
            Self::RaiseBudget { .. } => "raise_budget",
            Self::Recover { .. } => "recover",
            Self::RefuseNumerics { .. } => "refuse_numerics",
            Self::StopBuying { .. } => "stop_buying",
            Self::Dismiss { .. } => "dismiss",
            Self::Drill { .. } => "drill",
            Self::Adopt { .. } => "adopt",
            Self::Resume => "resume",
            Self::Succeed { .. } => "succeed",
            Self::Fail { .. } => "fail",
            Self::Cancel => "cancel",
            Self::Suspend => "suspend",
        }
    }

    /// What was decided, one clause.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::Queue { .. } => "queue the job".to_owned(),
            Self::Launch { worker, instance, pool, .. } => format!("start {worker} on {instance} from {pool}"),
            Self::Wait { .. } => "wait for capacity".to_owned(),
            Self::BackOff { pool, wait_ms, reach, error, .. } => {
                let what = reach.as_ref().map_or_else(|| pool.to_string(), ToString::to_string);
                match error.as_ref().map(|error| error.kind) {
                    Some(LaunchErrorKind::Quota) => {
                        format!(
                            "leave {what} alone until something is given back there, {} at most",
                            duration(*wait_ms)
                        )
                    }
                    _ => format!("leave {what} alone for {}", duration(*wait_ms)),
                }
            }
            Self::Hurry { .. } => "buy on demand what the job lacks".to_owned(),
            Self::Relax { .. } => "wait for spot again with what the job lacks".to_owned(),
            Self::Reject { reach, .. } => format!("ask {reach} for nothing more for this job"),
            Self::FormGroup { workers, held: true, .. } => {
                format!("go on with {}: {}", count(workers.len(), "worker"), list(workers))
            }
            Self::FormGroup { workers, recovery: false, .. } => {
                format!("start training with {}: {}", count(workers.len(), "worker"), list(workers))
            }
            Self::FormGroup { workers, recovery: true, .. } => {
                let size = count(workers.len(), "worker");
                format!("go on from the newest whole checkpoint with {size}: {}", list(workers))
            }
            Self::Join { worker, donor, .. } => format!("let {worker} fetch the state from {donor}"),
            Self::AddMembers { workers, world_size } => {
                format!("take in {} at the next step boundary and go on with {}", list(workers), size(*world_size))
            }
            Self::Drain { workers, added, world_size } => {
                let leaving: Vec<&WorkerId> = workers.iter().map(|(worker, _)| worker).collect();
                let added = if added.is_empty() { String::new() } else { format!(", take in {}", list(added)) };
                let size = size(*world_size);
                format!("let {} leave at the next step boundary{added} and go on with {size}", list(&leaving))
            }
            Self::MoveShards { moves, .. } => format!("move {} at the next step boundary", list(&moves_words(moves))),
            Self::GoOnWithout { workers, world_size, .. } => {
                let size = size(*world_size);
                if workers.is_empty() {
                    return format!("drop the step in progress and regroup with {size}");
                }
                format!("drop the step in progress and go on without {}, with {size}", list(workers))
            }
            Self::RollBack { quarantined, .. } if quarantined.is_empty() => {
                "go back to the last agreement and repeat the steps since: that may tell who was wrong".to_owned()
            }
            Self::RollBack { quarantined, .. } => {
                format!("go back to the last agreement and repeat the steps since, without {}", list(quarantined))
            }
            Self::Settle { quarantined, .. } if quarantined.is_empty() => "keep all workers".to_owned(),
            Self::Settle { quarantined, .. } => format!("go on without {}", list(quarantined)),
            Self::Distrust { pool, .. } => format!("buy nothing more from {pool} for this job"),
            Self::SaveFailed { .. } => "train on without this checkpoint".to_owned(),
            Self::NcclFailed { worker, .. } => format!("exchange gradients over TCP while {worker} is a member"),
            Self::GiveUp { worker, .. } => format!("treat {worker} as dead"),
            Self::SaveAndLeave { workers, .. } => format!("let {} save a checkpoint and leave", list(workers)),
            Self::KeepBudget { workers, .. } => format!("let {} save a checkpoint and leave, and fail", list(workers)),
            Self::RaiseBudget { .. } => "go on with the job".to_owned(),
            Self::Recover { .. } => "form a new group from the newest whole checkpoint".to_owned(),
            Self::RefuseNumerics { worker, .. } => format!("send {worker} home"),
            Self::StopBuying { pool, .. } => format!("buy nothing more from {pool} for this job"),
            Self::Dismiss { worker, .. } => format!("send {worker} home"),
            Self::Drill { worker, notice_ms: 0 } => format!("let the pool take {worker} at once"),
            Self::Drill { worker, notice_ms } => {
                format!("let the pool take {worker} with {} notice", duration(*notice_ms))
            }
            Self::Adopt { worker, .. } => format!("keep {worker}"),
            Self::Resume => "go on with the job".to_owned(),
            Self::Succeed { .. } => "end the job as succeeded".to_owned(),
            Self::Fail { .. } => "end the job as failed".to_owned(),
            Self::Cancel => "end the job as cancelled".to_owned(),
            Self::Suspend => "suspend the job".to_owned(),
        }
    }

    /// Why, one clause.
    #[must_use]
    pub fn why(&self) -> String {
        match self {
            Self::Queue { ahead: 0 } => "it was submitted and no other job waits".to_owned(),
            Self::Queue { ahead } => format!("it was submitted after {}", count(*ahead as usize, "unended job")),
            Self::Launch { pool, have, want, free, passed_over, cause, terms, .. } => {
                launch_why(pool, (*have, *want, *free), passed_over, cause, terms.as_ref())
            }
            Self::Wait { shortage } => shortage.words(),
            Self::BackOff { failures, error, .. } => {
                let times = if *failures == 1 { String::new() } else { format!(" {failures} times in a row") };
                match error.as_ref().map(|error| (error.kind, &error.message)) {
                    None | Some((LaunchErrorKind::NoCapacity, _)) => format!("it had no capacity{times}"),
                    Some((LaunchErrorKind::Quota, message)) => format!("the account may not have more: {message}"),
                    Some((LaunchErrorKind::Price, message)) => {
                        format!("its price was above what is bid{times}: {message}")
                    }
                    Some((LaunchErrorKind::Transient | LaunchErrorKind::Configuration, message)) => {
                        format!("it did not do what was asked{times}: {message}")
                    }
                }
            }
            Self::Hurry { outlook } => outlook_words(outlook, outlook.slack_ms() > 0),
            Self::Relax { outlook } => outlook_words(outlook, true),
            Self::Reject { pool, message, .. } => format!("{pool} can't start workers: {message}"),
            Self::FormGroup { held: true, workers, .. } if workers.len() == 1 => {
                "it holds the state and the group that it joined is gone".to_owned()
            }
            Self::FormGroup { held: true, .. } => {
                "they hold the state and the group that they joined is gone".to_owned()
            }
            Self::FormGroup { missing: 0, .. } => "every worker that was started is attached".to_owned(),
            Self::FormGroup { missing, waited_ms, .. } => format!(
                "they are enough to start, and {} did not attach within {} of the first",
                count(*missing as usize, "other"),
                duration(*waited_ms)
            ),
            Self::Join { instead_of: None, donor, .. } => {
                format!("the group trains and {donor} has the fewest to serve")
            }
            Self::Join { instead_of: Some(before), .. } => format!("{before}, which served it before, is gone"),
            Self::AddMembers { workers, .. } if workers.len() == 1 => "it holds the state and keeps up".to_owned(),
            Self::AddMembers { .. } => "they hold the state and keep up".to_owned(),
            Self::Drain { workers, .. } => drain_why(workers),
            Self::MoveShards { moves, seconds, before_seconds, after_seconds } => {
                moves_why(moves, seconds, *before_seconds, *after_seconds)
            }
            Self::GoOnWithout { why, .. } => why.clone(),
            Self::RollBack { differing, quarantined } if differing.right.is_some() => {
                let are = if quarantined.len() == 1 { "is" } else { "are" };
                format!("{}; {} {are} not used any more", differing.words(), list(quarantined))
            }
            Self::RollBack { differing, .. } => differing.words(),
            Self::Settle { step, digest, quarantined } if quarantined.is_empty() => {
                format!("repeated, step {step} gives {digest}, which nobody held before: it doesn't tell who was wrong")
            }
            Self::Settle { step, digest, quarantined } => {
                format!("repeated, step {step} gives {digest}, and {} held something else before", list(quarantined))
            }
            Self::Distrust { quarantined, .. } => format!("it gave {quarantined} workers that held wrong states"),
            Self::SaveFailed { worker, step, reason } => format!("{worker} could not save step {step}: {reason}"),
            Self::NcclFailed { worker, reason } => format!("{worker} can't use NCCL: {reason}"),
            Self::GiveUp { worker, cause } => cause.words(worker),
            Self::SaveAndLeave { purpose: StopPurpose::Cancel, .. } => "someone cancelled the job".to_owned(),
            Self::SaveAndLeave { purpose: StopPurpose::Suspend, .. } => {
                "the coordinator is to stop and keep the job".to_owned()
            }
            Self::SaveAndLeave { purpose: StopPurpose::Relocate, .. } => {
                "all that hold the state are to leave and nobody would be left to fetch it from".to_owned()
            }
            Self::SaveAndLeave { purpose: StopPurpose::Budget, .. } => "its budget covers no more".to_owned(),
            Self::KeepBudget { budget_usd, paid_usd, usd_per_hour, reserve_usd, .. } => format!(
                "of its budget of {} it has paid {}, it pays {} an hour, and saving and leaving can cost {}",
                money(*budget_usd),
                money(*paid_usd),
                money(*usd_per_hour),
                money(*reserve_usd)
            ),
            Self::RaiseBudget { budget_usd: Some(budget_usd), paid_usd } => {
                format!("its budget is {} now, of which {} are paid", money(*budget_usd), money(*paid_usd))
            }
            Self::RaiseBudget { budget_usd: None, .. } => "it has no budget any more".to_owned(),
            Self::Recover { saved: true, .. } => "the last that held the state saved it and left".to_owned(),
            Self::Recover { why, saved: false } => format!("nobody who holds the state is left since {why}"),
            Self::RefuseNumerics { pool, expected, found, .. } => {
                format!("its numerics would change the bits: {pool} gave \"{found}\", the job runs on \"{expected}\"")
            }
            Self::StopBuying { refused, .. } => format!("it gave {refused} workers with other numerics in a row"),
            Self::Dismiss { cause, .. } => cause.words(),
            Self::Drill { .. } => "someone asked for a drill".to_owned(),
            Self::Adopt { step: Some(step), .. } => {
                format!("it attached again after a restart of the coordinator, at step {step}")
            }
            Self::Adopt { step: None, .. } => "it attached again after a restart of the coordinator".to_owned(),
            Self::Resume => "it was suspended and the coordinator runs again".to_owned(),
            Self::Succeed { workers, digest } => {
                let who = if *workers == 1 { "its worker".to_owned() } else { format!("all {workers} workers") };
                format!("{who} finished the last step with state {digest}")
            }
            Self::Fail { doom } => doom.words(),
            Self::Cancel => "someone cancelled it".to_owned(),
            Self::Suspend => "the coordinator is to stop and keep the job".to_owned(),
        }
    }
}

/// The facts that a launch rests on, the job's lack first.
fn launch_why(
    pool: &PoolName,
    (have, want, free): (u32, u32, u32),
    passed_over: &[PoolName],
    cause: &LaunchCause,
    terms: Option<&LaunchTerms>,
) -> String {
    let price = terms.map_or_else(String::new, |terms| {
        let (usd, on_demand) = (terms.usd_per_hour, terms.on_demand_usd_per_hour);
        let cheaper = if usd < on_demand { format!(" instead of {}", money(on_demand)) } else { String::new() };
        let taken = match terms.evictions_per_hour {
            rate if rate > 0.0 => format!(", taken {rate:.2} times an hour"),
            _ => String::new(),
        };
        format!(" at {} an hour{cheaper}{taken}", money(usd))
    });
    let passed = match passed_over {
        [] => String::new(),
        [one] => format!(", and {one} has nothing to give now"),
        [one, two, three, _, ..] => {
            format!(", and {one}, {two}, {three} and {} more have nothing to give now", passed_over.len() - 3)
        }
        some => format!(", and {} have nothing to give now", list(some)),
    };
    let why = match cause {
        LaunchCause::Best => String::new(),
        LaunchCause::Spread { best, there, here } => {
            format!(
                "; {best} is better by less than it is worth: it has {there} of the job's workers, this zone {here}"
            )
        }
        LaunchCause::Deadline => "; the deadline can't wait for what may be taken away".to_owned(),
        LaunchCause::InsteadOf { worker, why } => {
            return format!(
                "it is to take the place of {worker}: {}; {pool} has {free} free{price}{passed}",
                why.words()
            );
        }
    };
    format!("the job has {have} of its {want} workers and {pool} has {free} free{price}{passed}{why}")
}

/// `3 h are left to the deadline and the work takes 2 h on 4 workers, ...`
fn outlook_words(outlook: &Outlook, enough: bool) -> String {
    let span = |ms: u64| duration(ms);
    let left = match u64::try_from(outlook.left_ms) {
        Ok(left_ms) => format!("{} are left to the deadline", span(left_ms)),
        Err(_) => format!("the deadline has passed {} ago", span(outlook.left_ms.unsigned_abs())),
    };
    let cover = span(outlook.cover_ms(outlook.secure));
    match outlook.work_ms {
        None => format!("{left} and nothing of the work was measured yet"),
        Some(work_ms) => {
            let than = if enough { "more than" } else { "no more than" };
            let work = span(work_ms);
            let size = size(outlook.workers);
            format!(
                "{left} and the work takes {work} on {size}: what is spare is {than} the {cover} that replacing lost ones can take"
            )
        }
    }
}

impl ReplaceCause {
    fn words(&self) -> String {
        match self {
            Self::Cheaper { before_usd_per_hour, after_usd_per_hour } => {
                format!("{} an hour instead of {}", money(*after_usd_per_hour), money(*before_usd_per_hour))
            }
            Self::AtRisk => "its provider may take that one before long".to_owned(),
        }
    }
}

fn size(world_size: u32) -> String {
    count(world_size as usize, "worker")
}

/// `2 shards from w1 to w2`, and for those after it `1 from w1 to w3`.
fn moves_words(moves: &[ShardMove]) -> Vec<String> {
    let words = |(n, one): (usize, &ShardMove)| {
        let shards = if n == 0 { count(one.shards as usize, "shard") } else { one.shards.to_string() };
        format!("{shards} from {} to {}", one.from, one.to)
    };
    moves.iter().enumerate().map(words).collect()
}

fn moves_why(moves: &[ShardMove], seconds: &BTreeMap<WorkerId, f64>, before: f64, after: f64) -> String {
    let mut involved: Vec<&WorkerId> = Vec::new();
    for worker in moves.iter().flat_map(|one| [&one.from, &one.to]) {
        if !involved.contains(&worker) {
            involved.push(worker);
        }
    }
    let takes = |worker: &WorkerId| span(seconds.get(worker).copied().unwrap_or_default());
    let words = |(n, worker): (usize, &&WorkerId)| match n {
        0 => format!("{worker} takes {} a shard", takes(worker)),
        _ => format!("{worker} {}", takes(worker)),
    };
    let each: Vec<String> = involved.iter().enumerate().map(words).collect();
    format!("{}; computing a step takes {} and then {}", each.join(", "), span(before), span(after))
}

fn drain_why(workers: &[(WorkerId, DrainCause)]) -> String {
    let each: Vec<String> = workers
        .iter()
        .map(|(worker, cause)| match cause {
            DrainCause::Notice { left_ms } => format!("its pool takes {worker} in {}", duration(*left_ms)),
            DrainCause::Asked => format!("someone asked {worker} to leave"),
            DrainCause::GiveBack { to } => format!("{to} comes first and needs the capacity of {worker}"),
            DrainCause::Replaced { by, why } => format!("{by} takes the place of {worker}, {}", why.words()),
            DrainCause::NotNeeded { slack_ms } => {
                format!("the deadline is met without {worker}, with {} to spare", duration(*slack_ms))
            }
        })
        .collect();
    each.join(" and ")
}

impl DismissCause {
    fn words(&self) -> String {
        match self {
            Self::Notice => "its pool takes it and it is in no group".to_owned(),
            Self::Asked => "someone asked it to leave and it is in no group".to_owned(),
            Self::OtherNumerics => "its numerics are not the group's".to_owned(),
            Self::OlderJob { job } => format!("{job} comes first and needs the capacity"),
            Self::Replaced { by, why } => format!("{by} takes its place, {}", why.words()),
            Self::NotNeeded { slack_ms } => {
                format!("the deadline is met without it, with {} to spare", duration(*slack_ms))
            }
            Self::TooLate => "the deadline can't wait for it to start".to_owned(),
            Self::HandedOver => "the others train without it".to_owned(),
            Self::JobStops => "the job stops".to_owned(),
            Self::JobEnded => "the job has ended".to_owned(),
        }
    }
}
