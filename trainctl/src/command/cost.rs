//! `cost`: what a job has paid, what on-demand would have cost, and for which instances.

use crate::cli::Session;
use crate::failure::Failure;
use crate::format;
use crate::printer::Printer;
use crate::table::{self, Rows, Tone, plain, toned};
use crate::tell;
use crate::view::CostReport;
use clap::Args;
use std::time::Duration;
use trainctl_proto::v1::{Cost, CostReply, InstanceCost};

/// Arguments of `cost`.
#[derive(Args, Debug)]
#[command(after_help = "\
Instances cost from when they are up until they are gone, each second at the price of that time. What an eviction cost \
is what its replacement was paid for before it became a member, and what the other members were paid for while they \
stood still or repeated steps.

Example:
  trainctl cost digits
  trainctl cost digits --output json | jq .total.saved_usd")]
pub(crate) struct CostArgs {
    /// Name of the job
    #[arg(value_name = "JOB")]
    job: String,
}

/// Tells.
pub(crate) async fn run(session: &Session, args: CostArgs) -> Result<(), Failure> {
    let reply = session.reach.connect().await?.cost(&args.job).await?;
    let report = CostReport::from(reply.clone());
    session.printer.emit(&report, |printer| text(printer, &reply))
}

fn text(printer: &Printer, reply: &CostReply) -> String {
    let headline = reply.job.as_ref().map(|job| tell::headline(printer, job)).unwrap_or_default();
    let total = reply.cost.unwrap_or_default();
    if total.paid_usd == 0.0 && reply.instances.is_empty() {
        return format!("{headline}\nit has paid nothing; prices of pools are in the coordinator's pools.toml\n");
    }
    let mut text = format!("{headline}\n{}", table::pairs(printer, &pairs(&total)));
    if !reply.instances.is_empty() {
        text.push('\n');
        text.push_str(&instances(printer, &reply.instances));
    }
    if reply.unlisted > 0 {
        let before = format::count(reply.unlisted, "instance");
        let paid = format::money(reply.unlisted_paid_usd);
        text.push_str(&printer.faint(&format!("and {before} before them, for {paid}")));
        text.push('\n');
    }
    text
}

fn pairs(total: &Cost) -> Vec<(&'static str, String)> {
    let mut pairs = vec![("paid", paid(total))];
    let time = format::duration(Duration::from_millis(total.instance_ms));
    let count = format::count(total.instance_count, "instance");
    pairs.push(("instances", format!("{} for {count}, {time} in all", format::money(total.instances_usd))));
    pairs.push(("on demand", format!("{} for the same; {}", format::money(total.on_demand_usd), tell::saved(total))));
    if total.coordinator_usd > 0.0 {
        pairs.push(("coordinator", format!("{}, its part", format::money(total.coordinator_usd))));
    }
    if total.storage_usd > 0.0 {
        pairs.push(("storage", format::money(total.storage_usd)));
    }
    if let Some(usd) = total.usd_per_step {
        pairs.push(("each step", format::money(usd)));
    }
    if let Some(usd) = total.usd_per_eviction {
        let (joining, repeating) = (format::money(total.joining_usd), format::money(total.repeating_usd));
        let parts = format!("{joining} for replacements to join, {repeating} for steps repeated");
        pairs.push(("evictions", format!("{}, {} each: {parts}", total.evictions, format::money(usd))));
    }
    pairs
}

/// `$1.23 of a budget of $20.00, $0.84 an hour now`.
fn paid(total: &Cost) -> String {
    let mut text = format::money(total.paid_usd);
    if let Some(budget) = total.budget_usd {
        text.push_str(&format!(" of a budget of {}", format::money(budget)));
    }
    if total.usd_per_hour > 0.0 {
        text.push_str(&format!(", {} an hour now", format::money(total.usd_per_hour)));
    }
    text
}

fn instances(printer: &Printer, instances: &[InstanceCost]) -> String {
    let headings =
        ["INSTANCE", "WORKER", "POOL", "TYPE", "MARKET", "STARTED", ">TIME", ">AN HOUR", ">PAID", ">ON DEMAND"];
    let mut rows = Rows::new(printer, &headings);
    for one in instances {
        let tone = if one.end_ms > 0 { Tone::Faint } else { Tone::Good };
        let kind = if one.instance_type.is_empty() { "-" } else { &one.instance_type };
        rows.push([
            toned(&one.instance, tone),
            plain(&one.worker),
            plain(&one.pool),
            plain(kind),
            plain(&one.market),
            toned(format::clock(one.start_ms), Tone::Faint),
            plain(format::duration(Duration::from_millis(one.ms))),
            plain(one.periods.last().map_or_else(String::new, |period| format::money(period.usd_per_hour))),
            plain(format::money(one.paid_usd)),
            plain(format::money(one.on_demand_usd)),
        ]);
    }
    rows.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::{ColourChoice, Format};
    use trainctl_proto::v1::{JobStatus, PricePeriod};

    fn printer() -> Printer {
        Printer::new(Format::Text, ColourChoice::Never, false)
    }

    fn job() -> Option<JobStatus> {
        Some(JobStatus { job: "digits".into(), state: "running".into(), step: 812, steps: 2000, ..Default::default() })
    }

    #[test]
    fn what_was_paid_stands_beside_what_on_demand_would_have_cost() {
        let period = |usd_per_hour| PricePeriod { usd_per_hour, ..Default::default() };
        let instances = vec![
            InstanceCost {
                instance: "i1".into(),
                worker: "w1".into(),
                pool: "aws/us-east-1a".into(),
                instance_type: "g5.xlarge".into(),
                market: "spot".into(),
                start_ms: 1_700_000_000_000,
                end_ms: 1_700_003_600_000,
                ms: 3_600_000,
                paid_usd: 0.41,
                on_demand_usd: 1.006,
                periods: vec![period(0.40), period(0.42)],
                ..Default::default()
            },
            InstanceCost {
                instance: "i2".into(),
                worker: "w2".into(),
                pool: "local-spot".into(),
                market: "spot".into(),
                start_ms: 1_700_003_600_000,
                ms: 90_000,
                paid_usd: 0.01,
                on_demand_usd: 0.025,
                periods: vec![period(0.4)],
                ..Default::default()
            },
        ];
        let cost = Cost {
            paid_usd: 0.4205,
            instances_usd: 0.42,
            on_demand_usd: 1.031,
            saved_usd: 0.611,
            instance_ms: 3_690_000,
            instance_count: 2,
            coordinator_usd: 0.0005,
            usd_per_hour: 0.4,
            budget_usd: Some(20.0),
            usd_per_step: Some(0.000_518),
            evictions: 1,
            repeating_usd: 0.000_21,
            joining_usd: 0.004,
            usd_per_eviction: Some(0.004_21),
            ..Default::default()
        };
        let reply = CostReply { job: job(), cost: Some(cost), instances, ..Default::default() };
        insta::assert_snapshot!(text(&printer(), &reply), @"
        digits  running  step 812 of 2000
        paid         $0.42 of a budget of $20.00, $0.40 an hour now
        instances    $0.42 for 2 instances, 1 h 1 min in all
        on demand    $1.03 for the same; saved $0.61 (59 %)
        coordinator  $0.00050, its part
        each step    $0.00052
        evictions    1, $0.0042 each: $0.0040 for replacements to join, $0.00021 for steps repeated

        INSTANCE  WORKER  POOL            TYPE       MARKET  STARTED             TIME  AN HOUR    PAID  ON DEMAND
        i1        w1      aws/us-east-1a  g5.xlarge  spot    22:13:20.000         1 h    $0.42   $0.41      $1.01
        i2        w2      local-spot      -          spot    23:13:20.000  1 min 30 s    $0.40  $0.010     $0.025
        ");
    }

    #[test]
    fn a_job_that_paid_nothing_says_so() {
        let reply = CostReply { job: job(), cost: Some(Cost::default()), ..Default::default() };
        assert!(text(&printer(), &reply).contains("it has paid nothing"));
    }
}
