//! Who trains together: for each job the next change of its group, or its end.

use super::balance::rebalance;
use super::{Choice, Outcome};
use crate::decision::DrainCause;
use crate::ids::{PoolName, Timestamp, WorkerId};
use crate::ledger;
use crate::membership::rank_order;
use crate::numerics::most_frequent;
use crate::state::{
    Breakage, Departure, Doom, Finish, Group, Job, JobState, Pool, Standing, State, StopPurpose, Submission, Wish,
    Worker,
};
use std::collections::{BTreeMap, BTreeSet};

/// At most one change for each job.
pub(super) fn changes(state: &State, now: Timestamp, jobs: &[(&Job, &Submission)]) -> Vec<Choice> {
    let view = |(job, submission): &(&Job, &Submission)| {
        View { state, now, job, submission, team: state.team(&job.id) }.next()
    };
    jobs.iter().filter_map(view).collect()
}

/// One job and its workers.
struct View<'s> {
    state: &'s State,
    now: Timestamp,
    job: &'s Job,
    submission: &'s Submission,
    team: Vec<&'s Worker>,
}

impl<'s> View<'s> {
    fn next(&self) -> Option<Choice> {
        if self.job.ended().is_some() {
            return None;
        }
        if let Some(doom) = &self.job.doom {
            return Some(self.end(Outcome::Failed(doom.clone())));
        }
        match &self.job.state {
            JobState::Running { group } => self.running(group),
            JobState::Stopping { group, purpose } => self.stopping(group, *purpose),
            JobState::Suspended { .. } => match self.job.wish {
                Some(Wish::Cancel) => Some(self.end(Outcome::Cancelled)),
                Some(Wish::Suspend) | None => None,
            },
            _ => self.groupless(),
        }
    }

    fn end(&self, outcome: Outcome) -> Choice {
        Choice::End { job: self.job.id.clone(), outcome }
    }

    fn workers(&self, pick: impl Fn(&Worker) -> bool) -> Vec<&'s Worker> {
        self.team.iter().copied().filter(|worker| pick(worker)).collect()
    }

    fn max(&self) -> usize {
        self.submission.workers_max() as usize
    }

    /// Joiners that hold the state and may become members.
    fn ready(&self) -> Vec<&'s Worker> {
        self.workers(|worker| {
            worker.attached() && worker.departure.is_none() && matches!(worker.standing, Standing::Ready { .. })
        })
    }

    fn unfinished(&self) -> Vec<&'s Worker> {
        self.workers(|worker| worker.takes_part() && !self.job.finishes.contains_key(&worker.id))
    }

    fn groupless(&self) -> Option<Choice> {
        match self.job.wish {
            Some(Wish::Cancel) => return Some(self.end(Outcome::Cancelled)),
            Some(Wish::Suspend) => return Some(self.end(Outcome::Suspended)),
            None => {}
        }
        let doom = self.no_trusted_pool().or_else(|| self.no_matching_numerics()).or_else(|| self.no_usable_pool());
        if let Some(doom) = doom {
            return Some(self.end(Outcome::Failed(doom)));
        }
        let holders = self.ready();
        if !holders.is_empty() {
            return Some(self.form(&holders, &holders, true));
        }
        if ledger::must_stop(self.state, self.now, self.job) {
            return Some(self.out_of_budget());
        }
        let launched = self.workers(Worker::counts);
        let waiting =
            self.workers(|worker| worker.counts() && worker.attached() && matches!(worker.standing, Standing::Waiting));
        let enough = waiting.len() >= self.submission.workers_min() as usize;
        let waited = self.waited_ms() >= self.state.settings.first_group_wait_ms;
        if !enough || (waiting.len() < launched.len() && !waited) {
            return None;
        }
        if self.submission.exact() && self.job.numerics.is_none() {
            let numerics = most_frequent(&waiting)?;
            return Some(Choice::ChooseNumerics { job: self.job.id.clone(), numerics });
        }
        Some(self.form(&waiting, &launched, false))
    }

    fn waited_ms(&self) -> u64 {
        match &self.job.state {
            JobState::Rendezvous { first_attached }
            | JobState::Recovering { first_attached: Some(first_attached), .. } => self.now.since_ms(*first_attached),
            _ => 0,
        }
    }

    fn form(&self, members: &[&Worker], launched: &[&Worker], held: bool) -> Choice {
        let workers = members.iter().take(self.max()).map(|worker| worker.id.clone()).collect();
        let missing = u32::try_from(launched.len() - members.len()).unwrap_or(u32::MAX);
        Choice::FormGroup { job: self.job.id.clone(), workers, missing, waited_ms: self.waited_ms(), held }
    }

    fn out_of_budget(&self) -> Choice {
        self.end(Outcome::Failed(ledger::doom(self.state, self.now, self.job)))
    }

    /// Too few workers are left to start, and every pool is given up on, one at least for wrong states.
    fn no_trusted_pool(&self) -> Option<Doom> {
        let settings = &self.state.settings;
        let too_few = self.workers(Worker::counts).len() < self.submission.workers_min() as usize;
        let distrusted = self.submission.pools().any(|pool| self.job.distrusts(&pool, settings));
        let given_up = self.submission.pools().all(|pool| self.job.given_up(&pool, settings));
        (too_few && distrusted && given_up).then_some(Doom::NoTrustedPool)
    }

    /// It never trained, too few workers are left to start, and every place that it may use says that it can't start
    /// any. A job that has trained waits: someone may put it right, and its state is worth that.
    fn no_usable_pool(&self) -> Option<Doom> {
        let newest = self.job.rejected.last().filter(|_| self.job.generation.0 == 0)?;
        let too_few = self.workers(Worker::counts).len() < self.submission.workers_min() as usize;
        let listed: BTreeSet<PoolName> = self.submission.pools().collect();
        let settings = &self.state.settings;
        let may = |pool: &&Pool| listed.contains(&pool.spec.of) && self.submission.may_be_in(&pool.spec.place);
        let gives = |pool: &Pool| {
            !self.job.given_up(&pool.spec.of, settings) && self.job.rejects(&pool.spec, self.now, settings).is_none()
        };
        let (pool, reason) = (newest.pool.clone(), newest.reason.clone());
        let none_left = too_few && !self.state.pools().filter(may).any(gives);
        none_left.then_some(Doom::LaunchRejected { pool, reason })
    }

    /// Every pool of the job was given up on and too few are left to start.
    fn no_matching_numerics(&self) -> Option<Doom> {
        let numerics = self.job.numerics.as_ref()?;
        let refused = |pool| self.job.refusals.get(&pool).is_some_and(|n| *n >= self.state.settings.refusal_limit);
        let too_few = self.workers(Worker::counts).len() < self.submission.workers_min() as usize;
        (too_few && self.submission.pools().all(refused))
            .then(|| Doom::NoMatchingNumerics { expected: numerics.detail.clone() })
    }

    fn running(&self, group: &Group) -> Option<Choice> {
        if let Some(end) = self.completion() {
            return Some(end);
        }
        if let Some(breakage) = &group.broken {
            return Some(self.regroup(group, breakage));
        }
        let settled = group.settled(self.now, self.state.settings.settle_ms);
        if let Some(wish) = self.job.wish {
            let purpose = match wish {
                Wish::Cancel => StopPurpose::Cancel,
                Wish::Suspend => StopPurpose::Suspend,
            };
            return settled.then(|| self.stop(purpose));
        }
        if !self.job.finishes.is_empty() {
            return None;
        }
        if ledger::must_stop(self.state, self.now, self.job) {
            return settled.then(|| self.stop(StopPurpose::Budget));
        }
        self.drain(group, settled)
            .or_else(|| self.take_in(group, settled))
            .or_else(|| self.join(group))
            .or_else(|| rebalance(self.state, self.now, self.job, self.submission, group))
    }

    /// Every member that is left has finished: the final checkpoint is committed.
    fn completion(&self) -> Option<Choice> {
        let finishes = &self.job.finishes;
        let (_, first) = finishes.first_key_value()?;
        let waits = self.unfinished().iter().any(|worker| worker.standing == Standing::Member);
        if waits {
            return None;
        }
        let digests: BTreeSet<&str> = finishes.values().map(|finish| finish.digest.as_str()).collect();
        // With `fast` numerics too: all apply the same sums, in the same arithmetic.
        if digests.len() > 1 {
            let digest = |(worker, finish): (&WorkerId, &Finish)| (worker.clone(), finish.digest.clone());
            let digests: BTreeMap<WorkerId, String> = finishes.iter().map(digest).collect();
            return Some(self.end(Outcome::Failed(Doom::UnequalDigests { digests })));
        }
        let workers = u32::try_from(finishes.len()).unwrap_or(u32::MAX);
        Some(self.end(Outcome::Succeeded { workers, digest: first.digest.clone() }))
    }

    /// After a loss: those who stay; else joiners that hold the state; else those who are to leave, who regroup
    /// first so that what they save is one state.
    fn regroup(&self, group: &Group, breakage: &Breakage) -> Choice {
        let staying = |worker: &Worker| worker.standing == Standing::Member && worker.departure.is_none();
        let candidates = [
            self.workers(staying),
            self.ready().into_iter().take(self.max()).collect(),
            self.workers(Worker::may_regroup).into_iter().take(self.max()).collect(),
        ];
        let Some(next) = candidates.into_iter().find(|workers: &Vec<&Worker>| !workers.is_empty()) else {
            let (job, why) = (self.job.id.clone(), breakage.why.clone());
            return Choice::Recover { job, why, saved: false };
        };
        let stay: BTreeSet<WorkerId> = next.iter().map(|worker| worker.id.clone()).collect();
        let newcomers: Vec<WorkerId> = next.iter().map(|worker| worker.id.clone()).collect();
        let workers = rank_order(&group.members, &stay, &newcomers);
        let alive =
            |worker: &WorkerId| self.team.iter().any(|one| one.id == *worker && !one.is_lost() && !one.is_done());
        let mut lost: Vec<WorkerId> =
            group.members.iter().map(|member| member.worker.clone()).filter(|worker| !alive(worker)).collect();
        if lost.is_empty() && !alive(&breakage.worker) {
            lost.push(breakage.worker.clone());
        }
        Choice::Regroup { job: self.job.id.clone(), workers, lost, why: breakage.why.clone() }
    }

    fn stop(&self, purpose: StopPurpose) -> Choice {
        Choice::Stop { job: self.job.id.clone(), purpose }
    }

    fn staying(&self, group: &Group) -> BTreeSet<WorkerId> {
        let stays = |worker: &Worker| worker.departure.is_none() && group.has(&worker.id);
        self.workers(stays).into_iter().map(|worker| worker.id.clone()).collect()
    }

    /// Members that are to leave do so at the next step boundary; ready joiners come in with the same change. A
    /// generation that was dropped into must train first: there is no boundary to agree on before.
    fn drain(&self, group: &Group, settled: bool) -> Option<Choice> {
        let leaving: Vec<(WorkerId, DrainCause)> = self
            .workers(|worker| group.has(&worker.id))
            .into_iter()
            .filter_map(|worker| Some((worker.id.clone(), self.drain_cause(worker.departure.as_ref()?))))
            .collect();
        if leaving.is_empty() || (group.immediate && !settled) {
            return None;
        }
        let stay = self.staying(group);
        let room = self.max().saturating_sub(stay.len());
        let added: Vec<WorkerId> = self.ready().iter().take(room).map(|worker| worker.id.clone()).collect();
        if stay.is_empty() && added.is_empty() {
            return settled.then(|| self.stop(StopPurpose::Relocate));
        }
        let workers = rank_order(&group.members, &stay, &added);
        Some(Choice::Change { job: self.job.id.clone(), workers, leaving, added })
    }

    fn drain_cause(&self, departure: &Departure) -> DrainCause {
        match departure {
            Departure::Notice { deadline } => DrainCause::Notice { left_ms: deadline.since_ms(self.now) },
            Departure::Drain | Departure::OtherNumerics | Departure::TooLate => DrainCause::Asked,
            Departure::GiveBack { to } => DrainCause::GiveBack { to: to.clone() },
            Departure::Replaced { by, cause } => DrainCause::Replaced { by: by.clone(), why: cause.clone() },
            Departure::NotNeeded { slack_ms } => DrainCause::NotNeeded { slack_ms: *slack_ms },
        }
    }

    /// Ready joiners become members together: the first waits a little for those on their way.
    fn take_in(&self, group: &Group, settled: bool) -> Option<Choice> {
        let room = self.max().saturating_sub(group.members.len());
        let ready = self.ready();
        let since = ready.iter().filter_map(|worker| match worker.standing {
            Standing::Ready { since, .. } => Some(since),
            _ => None,
        });
        let first = since.min()?;
        let coming = self.workers(|worker| {
            worker.counts() && worker.attached() && matches!(worker.standing, Standing::Joining { .. })
        });
        let batched = coming.is_empty() || self.now >= first.plus_ms(self.state.settings.join_batch_ms);
        if room == 0 || !settled || !batched {
            return None;
        }
        let added: Vec<WorkerId> = ready.iter().take(room).map(|worker| worker.id.clone()).collect();
        let workers = rank_order(&group.members, &self.staying(group), &added);
        Some(Choice::Change { job: self.job.id.clone(), workers, leaving: Vec::new(), added })
    }

    /// Workers that come on top of the most, since each takes another's place as soon as it is ready.
    fn replacing(&self) -> usize {
        let counted = |id: &WorkerId| self.team.iter().any(|worker| worker.id == *id && worker.counts());
        self.workers(|worker| worker.counts() && worker.replaces.as_ref().is_some_and(counted)).len()
    }

    /// A waiting worker fetches the state once the group trains; one whose donor is gone gets another.
    fn join(&self, group: &Group) -> Option<Choice> {
        if !group.effective {
            return None;
        }
        let donors = self.workers(|worker| worker.standing == Standing::Member && worker.departure.is_none());
        let served = |donor: &Worker| self.team.iter().filter(|worker| worker.donor() == Some(&donor.id)).count();
        let donor = donors.iter().min_by_key(|donor| (served(donor), group.rank(&donor.id)))?;
        let holds = |worker: &WorkerId| group.has(worker);
        let on_their_way =
            self.workers(|worker| matches!(worker.standing, Standing::Joining { .. } | Standing::Ready { .. }));
        let room = self.max() + self.replacing() > group.members.len() + on_their_way.len();
        let wants = |worker: &&&Worker| match (&worker.standing, worker.donor()) {
            (Standing::Waiting, _) => room,
            (Standing::Joining { .. } | Standing::Ready { .. }, Some(donor)) => !holds(donor),
            _ => false,
        };
        let worker = self.team.iter().filter(|worker| worker.counts() && worker.attached()).find(wants)?;
        let instead_of = worker.donor().cloned();
        Some(Choice::Join { worker: worker.id.clone(), donor: donor.id.clone(), instead_of })
    }

    fn stopping(&self, group: &Group, purpose: StopPurpose) -> Option<Choice> {
        let rescued = group.broken.is_some() && self.team.iter().any(|worker| worker.standing == Standing::Aside);
        if self.unfinished().is_empty() && !rescued {
            let stopped = match purpose {
                StopPurpose::Cancel => self.end(Outcome::Cancelled),
                StopPurpose::Suspend => self.end(Outcome::Suspended),
                StopPurpose::Budget => self.out_of_budget(),
                StopPurpose::Relocate => {
                    let why = group.broken.as_ref().map_or_else(String::new, |breakage| breakage.why.clone());
                    Choice::Recover { job: self.job.id.clone(), why, saved: group.broken.is_none() }
                }
            };
            return Some(self.completion().unwrap_or(stopped));
        }
        group.broken.as_ref().map(|breakage| self.regroup(group, breakage))
    }
}
