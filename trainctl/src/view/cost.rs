//! What a job cost: in `show`, and instance by instance in `cost`. Money is US dollars.

use crate::format::rfc3339;
use crate::view::present;
use serde::Serialize;
use trainctl_proto::v1;

/// What a job has cost so far.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Cost {
    /// Instances, coordinator and storage.
    pub(crate) paid_usd: f64,
    /// Instances.
    pub(crate) instances_usd: f64,
    /// The same instances on demand.
    pub(crate) on_demand_usd: f64,
    /// The difference of the two.
    pub(crate) saved_usd: f64,
    /// Instances that were paid for.
    pub(crate) instances: u64,
    /// How long, all together.
    pub(crate) instance_ms: u64,
    /// Its part of the coordinator.
    pub(crate) coordinator_usd: f64,
    /// Its checkpoints, up to its end.
    pub(crate) storage_usd: f64,
    /// Now.
    pub(crate) usd_per_hour: f64,
    /// What it may cost.
    pub(crate) budget_usd: Option<f64>,
    /// Of an update.
    pub(crate) usd_per_step: Option<f64>,
    /// Instances that were taken.
    pub(crate) evictions: u32,
    /// Members that repeated steps or stood still because others were lost.
    pub(crate) repeating_usd: f64,
    /// Replacements, from their start until they became members.
    pub(crate) joining_usd: f64,
    /// Of the two, for each eviction.
    pub(crate) usd_per_eviction: Option<f64>,
}

/// What a job has cost, instance by instance: the object of `cost`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct CostReport {
    /// Its name.
    pub(crate) job: String,
    /// As in `show`.
    pub(crate) state: String,
    /// All in all.
    pub(crate) total: Cost,
    /// In the order of their start.
    pub(crate) instances: Vec<InstanceCost>,
    /// Ended ones beyond the newest, that are not listed.
    pub(crate) unlisted: Unlisted,
}

/// Instances that are not listed.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Unlisted {
    /// How many.
    pub(crate) instances: u64,
    /// How long, all together.
    pub(crate) ms: u64,
    /// For them.
    pub(crate) paid_usd: f64,
    /// The same on demand.
    pub(crate) on_demand_usd: f64,
}

/// What one instance has cost.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct InstanceCost {
    /// Which.
    pub(crate) instance: String,
    /// What ran on it.
    pub(crate) worker: String,
    /// From where.
    pub(crate) pool: String,
    /// Who runs it.
    pub(crate) provider: String,
    /// Where, if it is in a region.
    pub(crate) region: Option<String>,
    /// Where, if it is in a zone.
    pub(crate) zone: Option<String>,
    /// own, spot or on-demand.
    pub(crate) market: String,
    /// The provider's own id.
    pub(crate) machine: Option<String>,
    /// The provider's name for its kind.
    pub(crate) instance_type: Option<String>,
    /// RFC 3339: paid for from here on.
    pub(crate) start: Option<String>,
    /// RFC 3339; null: it runs.
    pub(crate) end: Option<String>,
    /// How long it was paid for.
    pub(crate) ms: u64,
    /// So far.
    pub(crate) paid_usd: f64,
    /// On demand.
    pub(crate) on_demand_usd: f64,
    /// It came in the place of one that was taken.
    pub(crate) replaces: bool,
    /// RFC 3339: when it became a member of the group.
    pub(crate) joined: Option<String>,
    /// Its prices.
    pub(crate) periods: Vec<PricePeriod>,
}

/// A time with one price.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct PricePeriod {
    /// RFC 3339.
    pub(crate) from: Option<String>,
    /// RFC 3339; null: it goes on.
    pub(crate) to: Option<String>,
    /// As it is.
    pub(crate) usd_per_hour: f64,
    /// On demand.
    pub(crate) on_demand_usd_per_hour: f64,
}

impl From<v1::Cost> for Cost {
    fn from(from: v1::Cost) -> Self {
        Self {
            paid_usd: from.paid_usd,
            instances_usd: from.instances_usd,
            on_demand_usd: from.on_demand_usd,
            saved_usd: from.saved_usd,
            instances: from.instance_count,
            instance_ms: from.instance_ms,
            coordinator_usd: from.coordinator_usd,
            storage_usd: from.storage_usd,
            usd_per_hour: from.usd_per_hour,
            budget_usd: from.budget_usd,
            usd_per_step: from.usd_per_step,
            evictions: from.evictions,
            repeating_usd: from.repeating_usd,
            joining_usd: from.joining_usd,
            usd_per_eviction: from.usd_per_eviction,
        }
    }
}

impl From<v1::CostReply> for CostReport {
    fn from(from: v1::CostReply) -> Self {
        let job = from.job.unwrap_or_default();
        Self {
            job: job.job,
            state: job.state,
            total: from.cost.unwrap_or_default().into(),
            instances: from.instances.into_iter().map(InstanceCost::from).collect(),
            unlisted: Unlisted {
                instances: from.unlisted,
                ms: from.unlisted_ms,
                paid_usd: from.unlisted_paid_usd,
                on_demand_usd: from.unlisted_on_demand_usd,
            },
        }
    }
}

impl From<v1::InstanceCost> for InstanceCost {
    fn from(from: v1::InstanceCost) -> Self {
        Self {
            instance: from.instance,
            worker: from.worker,
            pool: from.pool,
            provider: from.provider,
            region: present(from.region),
            zone: present(from.zone),
            market: from.market,
            machine: present(from.machine),
            instance_type: present(from.instance_type),
            start: rfc3339(from.start_ms),
            end: rfc3339(from.end_ms),
            ms: from.ms,
            paid_usd: from.paid_usd,
            on_demand_usd: from.on_demand_usd,
            replaces: from.replaces,
            joined: rfc3339(from.joined_ms),
            periods: from.periods.into_iter().map(PricePeriod::from).collect(),
        }
    }
}

impl From<v1::PricePeriod> for PricePeriod {
    fn from(from: v1::PricePeriod) -> Self {
        Self {
            from: rfc3339(from.from_ms),
            to: rfc3339(from.to_ms),
            usd_per_hour: from.usd_per_hour,
            on_demand_usd_per_hour: from.on_demand_usd_per_hour,
        }
    }
}
