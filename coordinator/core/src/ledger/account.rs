//! All that one job pays: its instances, its part of the coordinator, its checkpoints, and what evictions cost it.

use super::bill::{Bill, Sum, usd};
use super::shared::Shared;
use super::stored::Stored;
use crate::ids::{Generation, InstanceId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One job's account. Its bills are records of their own.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Ended instances that are not listed any more.
    dropped: Dropped,
    pub(super) evictions: EvictionCost,
    pub(super) stored: Stored,
    coordinator: CoordinatorPart,
    #[serde(skip)]
    bills: BTreeMap<InstanceId, Bill>,
    /// Those of `bills` that have not ended.
    #[serde(skip)]
    open: BTreeSet<InstanceId>,
    /// Of all ended instances, listed or not. Kept, not added up again: so it is the same bits after a restart.
    ended: Sum,
}

/// Ended instances that are kept as a sum only.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Dropped {
    instances: u64,
    sum: Sum,
}

/// What evictions cost, apart from the replacements that are on their way now.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct EvictionCost {
    /// Instances that were taken and have no replacement yet.
    owed: u32,
    /// Replacements, from their start until they became members, or ended.
    joining_usd: f64,
    /// Members, while a step was repeated or none was done.
    repeating_usd: f64,
    /// A loss that the next group bears.
    lost: bool,
    /// The newest generation that a loss led to.
    disturbed: Option<Generation>,
    /// What is in `repeating_usd` for it: the most that a member said.
    disturbed_usd: f64,
}

/// The job's part of the coordinator's price.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
struct CoordinatorPart {
    /// Shared costs when the present stretch began; absent: the job bears none now.
    from_usd: Option<f64>,
    /// Of earlier stretches.
    before_usd: f64,
}

impl Account {
    /// Every instance that is listed, in the order of their start.
    pub(super) fn bills(&self) -> Vec<&Bill> {
        let mut bills: Vec<&Bill> = self.bills.values().collect();
        bills.sort_by_key(|bill| (bill.start, &bill.instance));
        bills
    }

    pub(super) fn bill(&self, instance: &InstanceId) -> Option<&Bill> {
        self.bills.get(instance)
    }

    pub(super) fn bill_mut(&mut self, instance: &InstanceId) -> Option<&mut Bill> {
        self.bills.get_mut(instance)
    }

    pub(super) fn open(&self) -> impl Iterator<Item = &Bill> {
        self.open.iter().filter_map(|instance| self.bills.get(instance))
    }

    /// How many ended instances are not listed, and what they cost.
    pub(super) fn dropped(&self) -> (u64, Sum) {
        (self.dropped.instances, self.dropped.sum)
    }

    /// Takes a bill in, new or from the records.
    pub(super) fn insert(&mut self, bill: Bill) {
        if bill.end.is_none() {
            self.open.insert(bill.instance.clone());
        }
        self.bills.insert(bill.instance.clone(), bill);
    }

    /// A new bill takes the place of one that was taken, if there is such.
    pub(super) fn replaces(&mut self) -> bool {
        let owed = self.evictions.owed > 0;
        self.evictions.owed -= u32::from(owed);
        owed
    }

    /// The instance is a member of the group. False: it was before, or is not paid for.
    pub(super) fn joined(&mut self, now: Timestamp, instance: &InstanceId) -> bool {
        let Some(bill) = self.bills.get_mut(instance).filter(|bill| bill.end.is_none() && bill.joined.is_none()) else {
            return false;
        };
        bill.joined = Some(now);
        if bill.replaces {
            self.evictions.joining_usd += bill.sum(now).paid_usd;
        }
        true
    }

    /// The instance has ended. False: it was not paid for.
    pub(super) fn close(&mut self, now: Timestamp, instance: &InstanceId) -> bool {
        let Some(bill) = self.bills.get_mut(instance).filter(|bill| bill.end.is_none()) else { return false };
        bill.close(now);
        let sum = bill.sum(now);
        if bill.replaces && bill.joined.is_none() {
            self.evictions.joining_usd += sum.paid_usd;
        }
        self.ended += sum;
        self.open.remove(instance);
        true
    }

    /// The bill that is listed no longer, when there are more than `max` ended ones: the first to have ended.
    pub(super) fn drop_oldest(&mut self, max: usize) -> Option<InstanceId> {
        if self.bills.len() - self.open.len() <= max {
            return None;
        }
        let ended = self.bills.values().filter_map(|bill| Some((bill.end?, &bill.instance)));
        let (end, instance) = ended.min()?;
        let instance = instance.clone();
        let bill = self.bills.remove(&instance)?;
        self.dropped.instances += 1;
        self.dropped.sum += bill.sum(end);
        Some(instance)
    }

    /// All instances so far.
    pub(super) fn instances(&self, now: Timestamp) -> Sum {
        self.ended + self.open().map(|bill| bill.sum(now)).sum()
    }

    /// All that ever cost.
    pub(super) fn count(&self) -> u64 {
        self.dropped.instances + self.bills.len() as u64
    }

    /// Of the instances that run.
    pub(super) fn instances_usd_per_hour(&self) -> f64 {
        self.open().map(|bill| bill.price().usd_per_hour).sum()
    }

    /// All in all, up to now.
    pub(super) fn paid_usd(&self, shared: &Shared, now: Timestamp) -> f64 {
        self.instances(now).paid_usd + self.coordinator_usd(shared, now) + self.stored.usd(now)
    }

    /// All that it pays now.
    pub(super) fn usd_per_hour(&self, shared: &Shared) -> f64 {
        let coordinator = if self.bears_coordinator() { shared.each_usd_per_hour() } else { 0.0 };
        self.instances_usd_per_hour() + coordinator + self.stored.usd_per_hour()
    }

    /// Replacements on their way, those of now included.
    pub(super) fn joining_usd(&self, now: Timestamp) -> f64 {
        let coming = self.open().filter(|bill| bill.replaces && bill.joined.is_none());
        self.evictions.joining_usd + coming.map(|bill| bill.sum(now).paid_usd).sum::<f64>()
    }

    pub(super) fn bear_coordinator(&mut self, each_usd: f64) {
        self.coordinator.from_usd.get_or_insert(each_usd);
    }

    pub(super) fn bears_coordinator(&self) -> bool {
        self.coordinator.from_usd.is_some()
    }

    pub(super) fn release_coordinator(&mut self, each_usd: f64) {
        if let Some(from_usd) = self.coordinator.from_usd.take() {
            self.coordinator.before_usd += each_usd - from_usd;
        }
    }

    pub(super) fn coordinator_usd(&self, shared: &Shared, now: Timestamp) -> f64 {
        let running = self.coordinator.from_usd.map_or(0.0, |from_usd| shared.each_usd(now) - from_usd);
        self.coordinator.before_usd + running
    }

    /// Nothing was ever to be paid.
    pub(super) fn is_empty(&self) -> bool {
        let coordinator = self.coordinator == CoordinatorPart::default();
        self.bills.is_empty() && self.dropped.instances == 0 && coordinator && self.stored.is_free()
    }

    /// # Panics
    /// When what is kept of the bills does not add up to them.
    pub(super) fn check(&self) {
        let ended: Sum = self.bills.values().filter_map(|bill| Some(bill.sum(bill.end?))).sum();
        assert_eq!(self.ended.ms, self.dropped.sum.ms + ended.ms, "milliseconds of ended instances");
        let open: BTreeSet<&InstanceId> =
            self.bills.values().filter(|bill| bill.end.is_none()).map(|bill| &bill.instance).collect();
        assert_eq!(open, self.open.iter().collect(), "instances that run");
        for bill in self.bills.values() {
            let end = bill.end.unwrap_or(Timestamp(i64::MAX));
            assert_eq!(bill.sum(end).ms, end.since_ms(bill.start), "{}: its periods leave a gap", bill.instance);
        }
    }
}

impl EvictionCost {
    pub(super) fn evicted(&mut self) {
        self.owed += 1;
    }

    pub(super) fn lost(&mut self) {
        self.lost = true;
    }

    /// A new group was handed out. False: no loss led to it.
    pub(super) fn handed_out(&mut self, generation: Generation) -> bool {
        let lost = std::mem::take(&mut self.lost);
        if lost {
            self.disturbed = Some(generation);
            self.disturbed_usd = 0.0;
        }
        lost
    }

    /// A member says what the generation's begin cost; members of so much an hour were held up by it. The most that
    /// one says counts. False: no loss led to it, or another said as much.
    pub(super) fn held_up(&mut self, generation: Generation, ms: u64, usd_per_hour: f64) -> bool {
        let cost = usd(ms, usd_per_hour);
        if self.disturbed != Some(generation) || cost <= self.disturbed_usd {
            return false;
        }
        self.repeating_usd += cost - self.disturbed_usd;
        self.disturbed_usd = cost;
        true
    }

    pub(super) fn repeating_usd(&self) -> f64 {
        self.repeating_usd
    }
}
