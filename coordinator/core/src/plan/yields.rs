//! Who gives capacity up for whom. Jobs that wait with workers and can't start yield them to jobs that come first. Jobs
//! that train yield what they have beyond their least number, which costs them a change at a step boundary: to jobs of
//! a higher priority, and to queues that have fewer workers than theirs.

use super::Choice;
use super::capacity::Order;
use super::offers::{Offers, Usable};
use crate::ids::JobId;
use crate::state::{Departure, Job, JobState, Shortage, State, Submission, Worker};
use std::cell::OnceCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

/// What the plan has given to queues, and who could yield.
pub(super) struct Yields<'s> {
    state: &'s State,
    /// For each queue.
    bought: BTreeMap<&'s str, u32>,
    idle: OnceCell<Vec<Idle<'s>>>,
    spare: OnceCell<Spares<'s>>,
}

/// By priority and queue.
type Spares<'s> = BTreeMap<(Reverse<i32>, &'s str), Vec<Spare<'s>>>;

/// A worker of a job that has no group.
struct Idle<'s> {
    worker: &'s Worker,
    rank: (Reverse<i32>, u64),
    /// Its job is too large for its pools.
    too_large: bool,
}

/// What a job that trains has beyond its least number.
struct Spare<'s> {
    job: &'s JobId,
    /// The newest first.
    workers: Vec<&'s Worker>,
}

impl<'s> Yields<'s> {
    pub(super) fn new(state: &'s State) -> Self {
        Self { state, bought: BTreeMap::new(), idle: OnceCell::new(), spare: OnceCell::new() }
    }

    /// The queue with the fewest workers; of equal ones, that of the earlier job.
    pub(super) fn next_queue(&self, queues: &BTreeMap<&'s str, VecDeque<Order<'s>>>) -> Option<&'s str> {
        if queues.len() < 2 {
            return queues.keys().next().copied();
        }
        let rank = |(name, orders): &(&&'s str, &VecDeque<Order<'s>>)| {
            (self.workers_of(name), orders.front().map(|order| order.fleet.submission.order))
        };
        queues.iter().min_by_key(rank).map(|(name, _)| *name)
    }

    /// So many were bought for the queue.
    pub(super) fn used(&mut self, queue: &'s str, bought: u32) {
        *self.bought.entry(queue).or_insert(0) += bought;
    }

    fn workers_of(&self, queue: &str) -> u32 {
        self.state.tally().queue(queue) + self.bought.get(queue).copied().unwrap_or(0)
    }

    /// Workers that go so that a job can start with `needed` more: all that it takes, or none. What is on its way out
    /// already counts as free.
    pub(super) fn for_start(&self, offers: &Offers<'s>, order: &Order<'s>, needed: u32) -> Vec<Choice> {
        let places = unclaimed(offers, order);
        let lacking = needed.saturating_sub(free_in_the_end(offers, &places)) as usize;
        if lacking == 0 {
            return Vec::new();
        }
        let mut going = self.idle_behind(offers, order, &places);
        going.truncate(lacking);
        let more = lacking - going.len();
        if more > 0 {
            going.extend(self.spare_behind(offers, order, &places, 0, more));
        }
        if going.len() < lacking { Vec::new() } else { give_back(order, going) }
    }

    /// Workers that go so that a job that trains gets more of what it lacks.
    pub(super) fn for_growth(&self, offers: &Offers<'s>, order: &Order<'s>, lacking: u32) -> Vec<Choice> {
        if !matches!(&order.fleet.job.state, JobState::Running { group } if group.effective) {
            return Vec::new();
        }
        let places = unclaimed(offers, order);
        let coming = free_in_the_end(offers, &places);
        let wanted = lacking.saturating_sub(coming) as usize;
        give_back(order, self.spare_behind(offers, order, &places, coming, wanted))
    }

    /// Workers that wait, in jobs that come later or that are too large for their pools: the newest first.
    fn idle_behind(&self, offers: &Offers<'s>, order: &Order<'s>, places: &[Usable]) -> Vec<&'s Worker> {
        let idle = self.idle.get_or_init(|| {
            let waiting = self.state.queue().into_iter().filter(|(job, _)| job.groupless());
            let of_job = |(job, submission): (&'s Job, &'s Submission)| {
                let too_large = matches!(job.shortage, Some(Shortage::TooSmall { .. }));
                let counted = self.state.team(&job.id).into_iter().filter(|worker| worker.counts());
                counted.map(move |worker| Idle { worker, rank: submission.rank(), too_large }).collect::<Vec<_>>()
            };
            let mut idle: Vec<Idle> = waiting.flat_map(of_job).collect();
            idle.sort_by_key(|idle| Reverse(idle.worker.number));
            idle
        });
        let (job, rank) = (&order.fleet.job.id, order.fleet.submission.rank());
        let yields = |idle: &&Idle| idle.worker.job != *job && (idle.rank > rank || idle.too_large);
        let there = |idle: &&Idle| self.is_in(idle.worker, offers, places);
        idle.iter().filter(yields).filter(there).map(|idle| idle.worker).collect()
    }

    /// Workers beyond their jobs' least numbers, up to `most`: of jobs of a lower priority, then of queues that have
    /// more than one worker more than the job's own, which has `coming` more on their way.
    fn spare_behind(
        &self,
        offers: &Offers<'s>,
        order: &Order<'s>,
        places: &[Usable],
        coming: u32,
        most: usize,
    ) -> Vec<&'s Worker> {
        let (submission, mut going) = (order.fleet.submission, Vec::new());
        let (Reverse(priority), queue) = (submission.rank().0, submission.queue());
        for ((Reverse(other), other_queue), jobs) in self.spare().iter().rev() {
            let lower = *other < priority;
            if *other > priority || (*other == priority && *other_queue == queue) {
                continue;
            }
            let lead = self.workers_of(other_queue).saturating_sub(self.workers_of(queue) + coming);
            // Each that goes makes the difference smaller by two, so it never turns round.
            let fair = if lower { usize::MAX } else { lead as usize / 2 };
            // No further than there is room: there may be thousands.
            let room = most.saturating_sub(going.len()).min(fair);
            let there = |worker: &&&'s Worker| self.is_in(worker, offers, places);
            let of_queue = jobs.iter().filter(|spare| *spare.job != order.fleet.job.id);
            going.extend(of_queue.flat_map(|spare| spare.workers.iter()).filter(there).take(room).copied());
        }
        going
    }

    fn spare(&self) -> &BTreeMap<(Reverse<i32>, &'s str), Vec<Spare<'s>>> {
        self.spare.get_or_init(|| {
            let mut spare: BTreeMap<_, Vec<Spare>> = BTreeMap::new();
            for (job, submission) in self.state.queue() {
                let trains = matches!(&job.state, JobState::Running { group } if group.effective);
                if !trains || !job.hungry() {
                    continue;
                }
                let team = self.state.team(&job.id);
                let counted: Vec<&Worker> = team.into_iter().filter(|worker| worker.counts()).collect();
                let beyond = counted.len().saturating_sub(submission.workers_min() as usize);
                if beyond > 0 {
                    let workers = counted.into_iter().rev().take(beyond).collect();
                    let key = (submission.rank().0, submission.queue());
                    spare.entry(key).or_default().push(Spare { job: &job.id, workers });
                }
            }
            spare
        })
    }

    fn is_in(&self, worker: &Worker, offers: &Offers<'s>, places: &[Usable]) -> bool {
        let pool = self.state.instance(&worker.instance).map(|instance| &instance.pool);
        let name = |one: &Usable| &offers.get(one.at).pool.spec.name;
        pool.is_some_and(|pool| places.iter().any(|one| name(one) == pool))
    }
}

/// What the places have free once all that are on their way out are gone.
fn free_in_the_end(offers: &Offers<'_>, places: &[Usable]) -> u32 {
    let free = |one: &Usable| {
        let pool = offers.get(one.at).pool;
        pool.spec.capacity.saturating_sub(pool.staying)
    };
    places.iter().map(free).fold(0, u32::saturating_add)
}

/// Offers that no job before this one waits for.
fn unclaimed(offers: &Offers<'_>, order: &Order<'_>) -> Vec<Usable> {
    order.usable.iter().filter(|one| offers.get(one.at).claimed.is_none()).copied().collect()
}

fn give_back(order: &Order<'_>, going: Vec<&Worker>) -> Vec<Choice> {
    let to = &order.fleet.job.id;
    let choice = |worker: &Worker| Choice::Depart {
        worker: worker.id.clone(),
        departure: Departure::GiveBack { to: to.clone() },
    };
    going.into_iter().map(choice).collect()
}
