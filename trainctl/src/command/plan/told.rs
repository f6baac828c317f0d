//! What `plan` prints.

use super::on_demand;
use crate::format;
use crate::printer::Printer;
use crate::table::{self, Rows, Tone, plain, toned};
use coordinator_simulation::{Buyer, Conditions, Format, PolicySummary, Spread, Study, Trace, Workload};
use serde::Serialize;
use std::time::Duration;
use trainctl_jobs::OnDemandSpec;

/// A job's plan.
#[derive(Serialize)]
pub(super) struct Plan {
    job: String,
    steps: u64,
    workers: u32,
    /// On all workers.
    step_seconds: f64,
    deadline_seconds: Option<f64>,
    on_demand: OnDemandSpec,
    spot_usd_per_hour: f64,
    on_demand_usd_per_hour: f64,
    start_delay_seconds: f64,
    notice_seconds: f64,
    traces: Vec<TraceRow>,
    #[serde(flatten)]
    study: Study,
}

#[derive(Serialize)]
struct TraceRow {
    path: String,
    format: &'static str,
    seconds: f64,
    zones: Vec<String>,
    /// Most nodes at a time.
    peak: usize,
}

impl Plan {
    pub(super) fn new(workload: &Workload, conditions: &Conditions, traces: &[Trace], study: Study) -> Self {
        let row = |trace: &Trace| TraceRow {
            path: trace.source.display().to_string(),
            format: format_name(trace.format),
            seconds: trace.length_ms as f64 / 1e3,
            zones: trace.zones.iter().map(|zone| zone.name.clone()).collect(),
            peak: trace.peak(),
        };
        Self {
            job: workload.spec.name.clone(),
            steps: workload.steps,
            workers: workload.workers,
            step_seconds: workload.step_ms / 1e3,
            deadline_seconds: workload.deadline_ms.map(|ms| ms as f64 / 1e3),
            on_demand: workload.spec.policy.on_demand,
            spot_usd_per_hour: conditions.prices.spot_usd_per_hour,
            on_demand_usd_per_hour: conditions.prices.on_demand_usd_per_hour,
            start_delay_seconds: conditions.start_ms as f64 / 1e3,
            notice_seconds: conditions.notice_ms as f64 / 1e3,
            traces: traces.iter().map(row).collect(),
            study,
        }
    }

    /// What a reader of the figures should know.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        match (self.deadline_seconds, self.on_demand) {
            (None, _) => notes.push(
                "the job has no deadline, so nothing can be missed: greedy spot and uniform progress wait for spot as \
                 long as it takes"
                    .to_owned(),
            ),
            (Some(_), OnDemandSpec::Never) => notes.push(
                "policy.on_demand is never, so trainctl uses spot only and may miss the deadline; the other policies \
                 buy on demand"
                    .to_owned(),
            ),
            _ => {}
        }
        let longest =
            self.study.windows.iter().flat_map(|window| &window.outcomes).filter_map(|run| run.finish_seconds);
        let longest = longest.fold(0.0, f64::max);
        for trace in self.traces.iter().filter(|trace| trace.seconds < longest) {
            let hours = hours(trace.seconds);
            notes.push(format!("{} is {hours} long: after its end it goes on with its begin", trace.path));
        }
        for trace in self.traces.iter().filter(|trace| trace.peak < self.workers as usize) {
            let (peak, workers) = (trace.peak, self.workers);
            let path = &trace.path;
            notes.push(format!("{path} never has {workers} nodes at a time, only {peak}: policies that move all workers together find no spot there"));
        }
        notes
    }

    pub(super) fn text(&self, printer: &Printer) -> String {
        let work = format::duration(Duration::from_secs_f64(self.steps as f64 * self.step_seconds));
        let deadline = self.deadline_seconds.map_or_else(
            || "no deadline".to_owned(),
            |seconds| {
                let deadline = format::duration(Duration::from_secs_f64(seconds));
                format!("deadline {deadline}, {}", on_demand(self.on_demand))
            },
        );
        let workers = format::count(self.workers.into(), "worker");
        let job = format!(
            "{}: {} of {}, {work} on {workers}; {deadline}",
            self.job,
            format::count(self.steps, "step"),
            format::span(self.step_seconds)
        );
        let traces = format::count(self.traces.len() as u64, "trace");
        let windows = format::count(self.study.windows.len() as u64, "window");
        let market = format!(
            "{windows} over {traces}; {:.2} USD an hour on spot, {:.2} on demand; {} to start, {} of notice",
            self.spot_usd_per_hour,
            self.on_demand_usd_per_hour,
            format::duration(Duration::from_secs_f64(self.start_delay_seconds)),
            format::duration(Duration::from_secs_f64(self.notice_seconds)),
        );
        let mut text = table::pairs(printer, &[("job", job), ("market", market)]);
        text.push('\n');
        let late = if self.deadline_seconds.is_some() { ">MISSED" } else { ">UNDONE" };
        let headings = ["POLICY", ">USD", ">5 TO 95 %", ">DONE AFTER", ">5 TO 95 %", ">ON DEMAND", ">EVICTED", late];
        let mut rows = Rows::new(printer, &headings);
        for policy in &self.study.policies {
            rows.push(cells(policy));
        }
        text.push_str(&rows.render());
        text
    }
}

fn cells(policy: &PolicySummary) -> [comfy_table::Cell; 8] {
    let finish = |show: fn(&Spread) -> String| policy.finish_seconds.as_ref().map_or_else(|| "-".to_owned(), show);
    let late = policy.missed + policy.unfinished;
    let evicted = match policy.policy {
        Buyer::Bound => plain("-"),
        _ => plain(format!("{:.1}", policy.evictions)),
    };
    [
        plain(name(policy.policy)),
        plain(format!("{:.2}", policy.cost_usd.median)),
        plain(format!("{:.2}-{:.2}", policy.cost_usd.p5, policy.cost_usd.p95)),
        plain(finish(|spread| hours(spread.median))),
        plain(finish(|spread| format!("{:.1}-{}", spread.p5 / 3_600.0, hours(spread.p95)))),
        plain(format!("{:.0} %", policy.on_demand_share * 100.0)),
        evicted,
        if late > 0 { toned(late, Tone::Bad) } else { plain(late) },
    ]
}

fn hours(seconds: f64) -> String {
    format!("{:.1} h", seconds / 3_600.0)
}

fn name(buyer: Buyer) -> &'static str {
    match buyer {
        Buyer::Trainctl => "trainctl",
        Buyer::OnDemand => "always on demand",
        Buyer::GreedySpot => "greedy spot",
        Buyer::UniformProgress => "uniform progress",
        Buyer::Bound => "knows the future",
    }
}

fn format_name(format: Format) -> &'static str {
    match format {
        Format::Bamboo => "bamboo",
        Format::Lifetimes => "lifetimes",
        Format::Counts => "counts",
    }
}
