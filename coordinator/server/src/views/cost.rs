//! What jobs cost, as messages of the wire.

use super::job;
use coordinator_core::{Core, CostView, InstanceCost, JobId, Market, PricePeriod};
use trainctl_proto::v1;

/// A job with what it cost. `None`: it is not known.
pub(crate) fn report(core: &Core, id: &JobId) -> Option<v1::CostReply> {
    let (view, report) = (core.job(id)?, core.cost(id)?);
    Some(v1::CostReply {
        job: Some(job(core, view)),
        cost: Some(total(report.total)),
        instances: report.instances.into_iter().map(instance).collect(),
        unlisted: report.unlisted,
        unlisted_paid_usd: report.unlisted_sum.paid_usd,
        unlisted_on_demand_usd: report.unlisted_sum.on_demand_usd,
        unlisted_ms: report.unlisted_sum.ms,
    })
}

pub(super) fn total(view: CostView) -> v1::Cost {
    v1::Cost {
        paid_usd: view.paid_usd,
        instances_usd: view.instances.paid_usd,
        on_demand_usd: view.instances.on_demand_usd,
        saved_usd: view.saved_usd(),
        instance_ms: view.instances.ms,
        instance_count: view.instance_count,
        coordinator_usd: view.coordinator_usd,
        storage_usd: view.storage_usd,
        usd_per_hour: view.usd_per_hour,
        budget_usd: view.budget_usd,
        usd_per_step: view.usd_per_step(),
        evictions: view.evictions,
        repeating_usd: view.repeating_usd,
        joining_usd: view.joining_usd,
        usd_per_eviction: view.usd_per_eviction(),
    }
}

fn instance(cost: InstanceCost) -> v1::InstanceCost {
    let (machine, instance_type) = cost.machine.map(|machine| (machine.id, machine.instance_type)).unwrap_or_default();
    v1::InstanceCost {
        instance: cost.instance.0,
        worker: cost.worker.0,
        pool: cost.pool.0,
        provider: cost.place.provider.0,
        region: cost.place.region.unwrap_or_default(),
        zone: cost.place.zone.unwrap_or_default(),
        market: market(cost.market).to_owned(),
        machine,
        instance_type,
        start_ms: cost.start.0,
        end_ms: cost.end.unwrap_or_default().0,
        ms: cost.sum.ms,
        paid_usd: cost.sum.paid_usd,
        on_demand_usd: cost.sum.on_demand_usd,
        replaces: cost.replaces,
        joined_ms: cost.joined.unwrap_or_default().0,
        periods: cost.periods.into_iter().map(period).collect(),
    }
}

fn period(period: PricePeriod) -> v1::PricePeriod {
    v1::PricePeriod {
        from_ms: period.from.0,
        to_ms: period.to.unwrap_or_default().0,
        usd_per_hour: period.price.usd_per_hour,
        on_demand_usd_per_hour: period.price.on_demand_usd_per_hour,
    }
}

fn market(market: Market) -> &'static str {
    match market {
        Market::Own => "own",
        Market::Spot => "spot",
        Market::OnDemand => "on-demand",
    }
}
