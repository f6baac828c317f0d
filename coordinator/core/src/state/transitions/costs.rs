//! Changes of what jobs pay, with the records that they need.

use crate::decision::{DrainCause, Reason};
use crate::event::{Machine, Price};
use crate::ids::{Generation, InstanceId, JobId, PoolName, Timestamp};
use crate::ledger::{Bill, Opening, Origin, Touched};
use crate::state::{Instance, InstanceState, State};
use std::collections::BTreeSet;

impl State {
    /// What a job pays decides when its budget ends it, so planning looks at it again.
    fn note_costs(&mut self, job: &JobId, instance: &InstanceId, touched: Touched) {
        self.note_account(job, touched);
        if touched.bill {
            self.changes.bills.insert((job.clone(), instance.clone()));
            self.marks.touch(job);
        }
    }

    fn note_account(&mut self, job: &JobId, touched: Touched) {
        if touched.account {
            self.changes.accounts.insert(job.clone());
            self.marks.touch(job);
        }
    }

    /// The instance is up and is paid for: from what its provider says, or from now on. When nobody heard of its start,
    /// because the coordinator was away, it is taken to have been up since it was asked for.
    pub(crate) fn pay(&mut self, now: Timestamp, id: &InstanceId, told: bool, machine: Option<&Machine>) {
        let Some(instance) = self.pairs.instance(id) else { return };
        let Some(pool) = self.pools.get(&instance.pool) else { return };
        let spec = &pool.spec;
        let since = match instance.state {
            InstanceState::Launching if !told => instance.launched.min(now),
            _ => now,
        };
        let bill = |price: Price| {
            let from = Origin { pool: spec.name.clone(), place: spec.place.clone(), market: spec.market };
            Bill::new(id.clone(), instance.worker.clone(), from, since, price)
        };
        let job = instance.job.clone();
        let opening = Opening { id, bill: &bill, price: spec.price, machine };
        let touched = self.ledger.open(now, &job, opening);
        self.note_costs(&job, id, touched);
    }

    /// The instance is gone.
    pub(crate) fn stop_paying(&mut self, now: Timestamp, instance: &Instance) {
        let (job, id) = (&instance.job, &instance.id);
        let (touched, dropped) = self.ledger.close(now, job, id, self.settings.bills_max);
        self.note_costs(job, id, touched);
        if let Some(dropped) = dropped {
            self.changes.bills.insert((job.clone(), dropped));
        }
    }

    /// Its provider says what it costs from now on.
    pub(crate) fn move_price(&mut self, now: Timestamp, id: &InstanceId, price: Price) {
        let Some(job) = self.pairs.instance(id).map(|instance| instance.job.clone()) else { return };
        let touched = self.ledger.move_price(now, &job, id, price);
        self.note_costs(&job, id, touched);
    }

    /// Instances whose provider said nothing of their own price cost what their pool's do.
    pub(crate) fn follow_pool(&mut self, now: Timestamp, pool: &PoolName) {
        let price = self.pools.get(pool).and_then(|pool| pool.spec.price);
        let free = Price { usd_per_hour: 0.0, on_demand_usd_per_hour: 0.0 };
        let of_pool = self.pairs.instances().filter(|instance| instance.pool == *pool);
        let up = of_pool.filter(|instance| instance.state != InstanceState::Launching);
        let up: Vec<(JobId, InstanceId)> = up.map(|instance| (instance.job.clone(), instance.id.clone())).collect();
        for (job, id) in up {
            match self.ledger.bill(&job, &id).map(|bill| bill.machine.is_some()) {
                Some(true) => {}
                Some(false) => {
                    let touched = self.ledger.move_price(now, &job, &id, price.unwrap_or(free));
                    self.note_costs(&job, &id, touched);
                }
                None => self.pay(now, &id, true, None),
            }
        }
        // What a start costs may have changed for jobs that have nothing yet.
        for (job, submission) in &self.submissions {
            if submission.spec.policy.budget_usd.is_some() {
                self.marks.touch(job);
            }
        }
    }

    pub(super) fn charge_eviction(&mut self, job: &JobId) {
        let touched = self.ledger.evicted(job);
        self.note_account(job, touched);
    }

    /// The job's group lost a member that it did not want to lose.
    pub(crate) fn charge_loss(&mut self, job: &JobId) {
        let touched = self.ledger.lost(job);
        self.note_account(job, touched);
    }

    /// The newest group's members are at work.
    pub(super) fn charge_group(&mut self, now: Timestamp, job: &JobId) {
        let Some(group) = self.jobs.get(job).and_then(|job| job.group()) else { return };
        let generation = group.generation;
        let members = group.members.iter().filter_map(|member| self.pairs.worker(&member.worker));
        let instances: Vec<InstanceId> = members.map(|worker| worker.instance.clone()).collect();
        if instances.is_empty() {
            return;
        }
        let touched = self.ledger.handed_out(job, generation);
        self.note_account(job, touched);
        for id in instances {
            let touched = self.ledger.joined(now, job, &id);
            self.note_costs(job, &id, touched);
        }
    }

    /// A member says how long the begin of its generation took, and how many steps were repeated. A usual step is no
    /// loss; a step that is repeated beyond the first is one.
    pub(crate) fn charge_pause(
        &mut self,
        now: Timestamp,
        job: &JobId,
        generation: Generation,
        pause_ms: f64,
        repeated: u64,
    ) {
        let (entry, submission) = self.job_of(job);
        let Some(group) = entry.group().filter(|group| group.generation == generation) else { return };
        let speed = entry.progress.samples_per_s;
        let step_ms = if speed > 0.0 { 1e3 * f64::from(submission.spec.train.global_batch) / speed } else { 0.0 };
        let lost_ms = (pause_ms - step_ms).max(0.0) + repeated.saturating_sub(1) as f64 * step_ms;
        // Nothing takes longer than the job, whatever a worker says.
        let lost_ms = lost_ms.clamp(0.0, now.since_ms(submission.at) as f64) as u64;
        let members = group.members.iter().filter_map(|member| self.pairs.worker(&member.worker));
        let members: Vec<InstanceId> = members.map(|worker| worker.instance.clone()).collect();
        let touched = self.ledger.held_up(job, generation, lost_ms, &members);
        self.note_account(job, touched);
    }

    /// The job's checkpoints have changed, or what keeping them costs.
    pub(crate) fn charge_storage(&mut self, now: Timestamp, job: &JobId) {
        let Some((entry, submission)) = self.jobs.get(job).zip(self.submissions.get(job)) else { return };
        let price = self.settings.storage_usd_per_gb_month;
        let touched = self.ledger.stored(now, job, &entry.checkpoints, &submission.spec.checkpoint, price);
        self.note_account(job, touched);
    }

    /// The job has ended.
    pub(crate) fn charge_end(&mut self, now: Timestamp, job: &JobId) {
        let touched = self.ledger.stored_no_more(now, job);
        self.note_account(job, touched);
        self.share_coordinator(now);
    }

    /// Jobs that have not ended bear what the coordinator costs.
    pub(crate) fn share_coordinator(&mut self, now: Timestamp) {
        let price = self.settings.coordinator_usd_per_hour;
        if price <= 0.0 && !self.ledger.shares() {
            return;
        }
        let unended = self.jobs.values().filter(|job| job.ended().is_none());
        let unended: BTreeSet<JobId> = unended.map(|job| job.id.clone()).collect();
        let (touched, shared) = self.ledger.share(now, &unended, price);
        self.changes.accounts.extend(touched);
        self.changes.shared_costs |= shared;
        // The parts of all have changed.
        for job in &unended {
            self.marks.touch(job);
        }
    }

    /// Prices may have changed while no coordinator ran.
    pub(super) fn charge_anew(&mut self, now: Timestamp) {
        let unended = self.jobs.values().filter(|job| job.ended().is_none());
        let unended: Vec<JobId> = unended.map(|job| job.id.clone()).collect();
        for job in &unended {
            self.charge_storage(now, job);
        }
        self.share_coordinator(now);
    }
}

impl Reason {
    /// It changes the group because a member was taken.
    pub(crate) fn is_loss(&self) -> bool {
        match self {
            Self::GoOnWithout { .. } | Self::Recover { .. } => true,
            Self::Drain { workers, .. } => workers.iter().any(|(_, cause)| matches!(cause, DrainCause::Notice { .. })),
            _ => false,
        }
    }
}
