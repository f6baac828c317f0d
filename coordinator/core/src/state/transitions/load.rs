//! What changes when a coordinator starts again from its records: nothing was heard yet, pools are announced anew,
//! and suspended jobs go on.

use crate::decision::{Decision, Reason};
use crate::ids::{JobId, ProviderName, Timestamp};
use crate::ledger::{Account, Bill, Shared};
use crate::settings::Settings;
use crate::state::{
    Departure, Instance, Job, JobState, Link, Pool, Standing, State, StopPurpose, Submission, Wish, Worker,
};

/// One record, parsed.
#[derive(Debug)]
pub(crate) enum Loaded {
    Submission { job: JobId, submission: Box<Submission> },
    Job(Box<Job>),
    Instance { instance: Instance, worker: Box<Worker> },
    Pool(Pool),
    Decision { job: JobId, decision: Box<Decision> },
    NextNumber(u64),
    Account { job: JobId, account: Box<Account> },
    Bill { job: JobId, bill: Box<Bill> },
    SharedCosts(Shared),
}

impl State {
    /// Takes one record in. Decisions of a job come in the order of their numbers.
    pub(crate) fn insert(&mut self, record: Loaded) {
        match record {
            Loaded::Submission { job, submission } => {
                self.order.insert(submission.order, job.clone());
                self.submissions.insert(job, *submission);
            }
            Loaded::Job(job) => {
                if job.shortage.is_some() {
                    self.short.insert(job.id.clone());
                }
                self.jobs.insert(job.id.clone(), *job);
            }
            Loaded::Instance { instance, worker } => {
                self.insert_pair(*worker, instance);
            }
            Loaded::Pool(pool) => {
                self.pools.insert(pool.spec.name.clone(), pool);
            }
            Loaded::Decision { job, decision } => self.decisions.entry(job).or_default().push_back(*decision),
            Loaded::NextNumber(number) => self.next_number = number,
            Loaded::Account { job, account } => self.ledger.insert_account(job, *account),
            Loaded::Bill { job, bill } => self.ledger.insert_bill(job, *bill),
            Loaded::SharedCosts(shared) => self.ledger.insert_shared(shared),
        }
    }

    /// An empty state that waits for the list of what the providers run.
    pub(crate) fn empty_for_load(settings: Settings) -> Self {
        Self { settings, next_number: 1, ..Self::default() }
    }

    /// After the last record. A wait can't have begun later than now, whatever was done to the machine's clock.
    pub(crate) fn wake(&mut self, now: Timestamp) {
        for worker in self.pairs.workers_mut() {
            if let Standing::Leaving { since } | Standing::Ready { since, .. } = &mut worker.standing {
                *since = now.min(*since);
            }
            worker.link = match worker.hello {
                None => Link::Never { since: now },
                Some(_) => Link::Detached { since: now },
            };
            if worker.hello.is_some() && !worker.is_done() && !worker.is_lost() {
                self.to_adopt.insert(worker.id.clone());
            }
        }
        for pool in self.pools.values_mut() {
            pool.spec.capacity = 0;
            self.unannounced.insert(pool.spec.name.clone());
        }
        for instance in self.pairs.instances() {
            if let Some(pool) = self.pools.get_mut(&instance.pool) {
                pool.in_use += 1;
            }
        }
        let mut resumed = Vec::new();
        for job in self.jobs.values_mut() {
            job.first_finish = job.first_finish.map(|at| now.min(at));
            job.moved = job.moved.map(|at| now.min(at));
            job.counters.last_death = job.counters.last_death.map(|at| now.min(at));
            if let Some(group) = job.group_mut() {
                group.assigned = now.min(group.assigned);
            }
            if job.wish == Some(Wish::Suspend) {
                job.wish = None;
                self.changes.jobs.insert(job.id.clone());
            }
            match &mut job.state {
                JobState::Stopping { purpose, .. } if *purpose == StopPurpose::Suspend => {
                    *purpose = StopPurpose::Relocate;
                    // They were told to leave; should one die first, the others must not be taken for new ones.
                    let leaving = self.pairs.workers_mut().filter(|worker| worker.job == job.id && worker.takes_part());
                    leaving.for_each(|worker| {
                        worker.departure.get_or_insert(Departure::Drain);
                        self.changes.instances.insert(worker.instance.clone());
                    });
                }
                JobState::Suspended { .. } => {
                    job.state = match job.generation.0 {
                        0 => JobState::Queued,
                        _ => JobState::Recovering { first_attached: None, cause: "it was suspended".to_owned() },
                    };
                    resumed.push(job.id.clone());
                }
                _ => {}
            }
        }
        for job in resumed {
            self.decide(now, &job, Reason::Resume);
        }
        self.touch_all();
        self.settle_phases(now);
        self.charge_anew(now);
    }

    /// What the provider runs is known.
    pub(crate) fn reconcile(&mut self, provider: ProviderName) {
        if self.listed.insert(provider) {
            self.touch_all();
        }
    }
}
