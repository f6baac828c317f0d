//! What jobs cost: which instance was paid for from when to when, at which price, and what the same machine would have
//! cost on demand. Pure arithmetic over what is told; nothing here decides but [`budget`], which says when a job must
//! stop so that it doesn't pass its budget.
//!
//! Every change is a record in the batch of the event that caused it, so a coordinator that is killed between any two
//! events finds the ledger as it was after the first.

mod account;
mod bill;
mod budget;
mod shared;
mod stored;
mod view;

pub(crate) use account::Account;
pub use bill::Sum;
pub(crate) use bill::{Bill, Origin};
pub(crate) use budget::{affords, doom, must_stop, outlook, stops_at};
pub(crate) use shared::Shared;
pub use view::{CostReport, CostView, InstanceCost, PricePeriod};
pub(crate) use view::{report, summary};

use crate::event::{Checkpoint, Machine, Price};
use crate::ids::{Generation, InstanceId, JobId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use stored::kept_bytes;
use trainctl_jobs::CheckpointSpec;

/// The accounts of all jobs that ever paid.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    accounts: BTreeMap<JobId, Account>,
    shared: Shared,
}

/// What must be written down after a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Touched {
    pub(crate) account: bool,
    pub(crate) bill: bool,
}

impl Touched {
    const NOTHING: Self = Self { account: false, bill: false };
    const BILL: Self = Self { account: false, bill: true };
    const ACCOUNT: Self = Self { account: true, bill: false };
    const BOTH: Self = Self { account: true, bill: true };

    fn account_if(changed: bool) -> Self {
        if changed { Self::ACCOUNT } else { Self::NOTHING }
    }

    fn bill_if(changed: bool) -> Self {
        if changed { Self::BILL } else { Self::NOTHING }
    }
}

impl Price {
    /// Both figures are ones that a person could be asked for.
    pub(crate) fn is_sound(&self) -> bool {
        let sound = |usd: f64| usd.is_finite() && usd >= 0.0;
        sound(self.usd_per_hour) && sound(self.on_demand_usd_per_hour)
    }
}

impl Ledger {
    pub(crate) fn account(&self, job: &JobId) -> Option<&Account> {
        self.accounts.get(job)
    }

    pub(crate) fn bill(&self, job: &JobId, instance: &InstanceId) -> Option<&Bill> {
        self.accounts.get(job)?.bill(instance)
    }

    pub(crate) fn accounts(&self) -> impl Iterator<Item = (&JobId, &Account)> {
        self.accounts.iter()
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// All that the job has paid.
    pub(crate) fn paid_usd(&self, job: &JobId, now: Timestamp) -> f64 {
        self.accounts.get(job).map_or(0.0, |account| account.paid_usd(&self.shared, now))
    }

    /// The coordinator costs something, or has.
    pub(crate) fn shares(&self) -> bool {
        self.shared != Shared::default()
    }

    /// From the records; an account comes before its bills.
    pub(crate) fn insert_account(&mut self, job: JobId, account: Account) {
        self.accounts.insert(job, account);
    }

    /// From the records.
    pub(crate) fn insert_bill(&mut self, job: JobId, bill: Bill) {
        self.accounts.entry(job).or_default().insert(bill);
    }

    /// From the records.
    pub(crate) fn insert_shared(&mut self, shared: Shared) {
        self.shared = shared;
    }

    /// An instance costs from now on, or goes on costing, and this is known of it. With no price it costs nothing.
    pub(crate) fn open(&mut self, now: Timestamp, job: &JobId, instance: Opening<'_>) -> Touched {
        let Opening { id, bill, price, machine } = instance;
        let machine = machine.filter(|machine| machine.price.is_sound());
        if let Some(known) = self.accounts.get_mut(job).and_then(|account| account.bill_mut(id)) {
            return Touched::bill_if(machine.is_some_and(|machine| known.identify(now, machine)));
        }
        let Some(price) = machine.map(|machine| machine.price).or(price).filter(Price::is_sound) else {
            return Touched::NOTHING;
        };
        let mut bill = bill(price);
        let account = self.accounts.entry(job.clone()).or_default();
        bill.replaces = account.replaces();
        if let Some(machine) = machine {
            bill.identify(now, machine);
        }
        account.insert(bill);
        Touched::BOTH
    }

    /// The price of an instance that is paid for has moved.
    pub(crate) fn move_price(&mut self, now: Timestamp, job: &JobId, id: &InstanceId, price: Price) -> Touched {
        let bill = self.accounts.get_mut(job).and_then(|account| account.bill_mut(id));
        Touched::bill_if(price.is_sound() && bill.is_some_and(|bill| bill.move_price(now, price)))
    }

    /// The instance is gone. With it may go the bill that is listed no longer.
    pub(crate) fn close(
        &mut self,
        now: Timestamp,
        job: &JobId,
        id: &InstanceId,
        bills_max: usize,
    ) -> (Touched, Option<InstanceId>) {
        let Some(account) = self.accounts.get_mut(job) else { return (Touched::NOTHING, None) };
        if !account.close(now, id) {
            return (Touched::NOTHING, None);
        }
        (Touched::BOTH, account.drop_oldest(bills_max))
    }

    /// The instance is a member of its job's group.
    pub(crate) fn joined(&mut self, now: Timestamp, job: &JobId, id: &InstanceId) -> Touched {
        let joined = self.accounts.get_mut(job).is_some_and(|account| account.joined(now, id));
        if joined { Touched::BOTH } else { Touched::NOTHING }
    }

    /// An instance of the job was taken.
    pub(crate) fn evicted(&mut self, job: &JobId) -> Touched {
        let account = self.accounts.get_mut(job);
        Touched::account_if(account.map(|account| account.evictions.evicted()).is_some())
    }

    /// The job's group lost a member: the next one bears what that costs.
    pub(crate) fn lost(&mut self, job: &JobId) -> Touched {
        let account = self.accounts.get_mut(job);
        Touched::account_if(account.map(|account| account.evictions.lost()).is_some())
    }

    /// A group was handed out.
    pub(crate) fn handed_out(&mut self, job: &JobId, generation: Generation) -> Touched {
        let account = self.accounts.get_mut(job);
        Touched::account_if(account.is_some_and(|account| account.evictions.handed_out(generation)))
    }

    /// A member says for how long its generation's begin held these instances up.
    pub(crate) fn held_up(&mut self, job: &JobId, generation: Generation, ms: u64, members: &[InstanceId]) -> Touched {
        let Some(account) = self.accounts.get_mut(job) else { return Touched::NOTHING };
        let prices = members.iter().filter_map(|id| account.bill(id)).filter(|bill| bill.end.is_none());
        let usd_per_hour: f64 = prices.map(|bill| bill.price().usd_per_hour).sum();
        Touched::account_if(account.evictions.held_up(generation, ms, usd_per_hour))
    }

    /// The job's checkpoints are these now; with no price they cost nothing.
    pub(crate) fn stored(
        &mut self,
        now: Timestamp,
        job: &JobId,
        checkpoints: &[Checkpoint],
        spec: &CheckpointSpec,
        usd_per_gb_month: f64,
    ) -> Touched {
        if usd_per_gb_month <= 0.0 && self.accounts.get(job).is_none_or(|account| account.stored.is_free()) {
            return Touched::NOTHING;
        }
        let account = self.accounts.entry(job.clone()).or_default();
        Touched::account_if(account.stored.keep(now, kept_bytes(checkpoints, spec), usd_per_gb_month))
    }

    /// The job has ended: what is kept of it is nobody's cost that is counted.
    pub(crate) fn stored_no_more(&mut self, now: Timestamp, job: &JobId) -> Touched {
        let account = self.accounts.get_mut(job);
        Touched::account_if(account.is_some_and(|account| account.stored.keep(now, 0, 0.0)))
    }

    /// These jobs share the coordinator from now on. Returns whose account changed, and whether the shared costs did.
    pub(crate) fn share(&mut self, now: Timestamp, jobs: &BTreeSet<JobId>, usd_per_hour: f64) -> (Vec<JobId>, bool) {
        let changed = self.shared.share(now, u32::try_from(jobs.len()).unwrap_or(u32::MAX), usd_per_hour);
        let each_usd = self.shared.each_usd(now);
        let mut touched = Vec::new();
        for (job, account) in &mut self.accounts {
            if account.bears_coordinator() && !jobs.contains(job) {
                account.release_coordinator(each_usd);
                touched.push(job.clone());
            }
        }
        for job in jobs {
            let account = self.accounts.entry(job.clone()).or_default();
            if !account.bears_coordinator() {
                account.bear_coordinator(each_usd);
                touched.push(job.clone());
            }
        }
        (touched, changed)
    }

    /// # Panics
    /// When an account does not add up, or one is paid for that is not there.
    pub(crate) fn check(&self, is_there: impl Fn(&JobId, &InstanceId) -> bool) {
        for (job, account) in &self.accounts {
            account.check();
            for bill in account.open() {
                assert!(is_there(job, &bill.instance), "{job}: {} is paid for and is not there", bill.instance);
            }
        }
    }
}

/// An instance that is up.
pub(crate) struct Opening<'a> {
    pub(crate) id: &'a InstanceId,
    /// Makes its bill at this price, if it has none.
    pub(crate) bill: &'a dyn Fn(Price) -> Bill,
    /// Of its pool.
    pub(crate) price: Option<Price>,
    /// What its provider says of it.
    pub(crate) machine: Option<&'a Machine>,
}
