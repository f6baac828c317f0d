//! `plan`: what a job would cost and when it would be done, by running the scheduler on recorded traces of spot
//! capacity. It needs no coordinator, unless a job's measured speed is asked of one.

mod told;

use crate::cli::Session;
use crate::command::submit;
use crate::failure::{Class, Failure, Report};
use clap::Args;
use coordinator_simulation::{Conditions, Prices, Trace, TraceError, Workload, WorkloadError};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use trainctl_jobs::{JobSpec, OnDemandSpec};

/// Arguments of `plan`.
#[derive(Args, Debug)]
#[command(after_help = "\
Each window is a stretch of a trace in which the job is run in virtual time: by the scheduler that the coordinator \
uses, and by simpler policies to compare it with. Traces are read in three formats; docs/guides/plan.md says which, \
and what is assumed.

Example:
  trainctl plan jobs/digits.toml --trace jobs/traces/bamboo-p3.csv --step-seconds 12 --set policy.deadline=10h \
--set policy.on_demand=to-meet-deadline")]
pub(crate) struct PlanArgs {
    /// The job
    #[arg(value_name = "JOB.toml")]
    file: PathBuf,
    /// A trace of spot capacity; may be given again
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    trace: Vec<PathBuf>,
    /// What a step takes
    #[arg(long, value_name = "SECONDS", required_unless_present = "like", conflicts_with = "like")]
    step_seconds: Option<f64>,
    /// Workers that a step of --step-seconds is shared by [default: as many as the job takes]
    #[arg(long, value_name = "COUNT", requires = "step_seconds", value_parser = clap::value_parser!(u32).range(1..))]
    workers: Option<u32>,
    /// Take the speed from a job that trains now
    #[arg(long, value_name = "JOB")]
    like: Option<String>,
    /// Windows, spread evenly over the traces
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    windows: u32,
    /// US dollars for a worker and an hour, on spot and on demand
    #[arg(long, value_name = "SPOT/ON_DEMAND", default_value = "0.3/1")]
    price: PriceArg,
    /// From the request for an instance to its first step
    #[arg(long, value_name = "TIME", default_value = "3 min", value_parser = humantime::parse_duration)]
    start_delay: Duration,
    /// How long before it is taken a spot instance hears of it
    #[arg(long, value_name = "TIME", default_value = "2 min", value_parser = humantime::parse_duration)]
    notice: Duration,
    /// Change the job as if its file said so; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// `SPOT/ON_DEMAND`.
#[derive(Clone, Copy, PartialEq, Debug)]
struct PriceArg(Prices);

impl FromStr for PriceArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let price = |text: &str| text.trim().parse::<f64>().ok().filter(|usd| usd.is_finite() && *usd >= 0.0);
        let pair = text.split_once('/').and_then(|(spot, on_demand)| Some((price(spot)?, price(on_demand)?)));
        let (spot_usd_per_hour, on_demand_usd_per_hour) =
            pair.ok_or_else(|| "expected two prices of 0 or more, such as 0.92/3.06".to_owned())?;
        Ok(Self(Prices { spot_usd_per_hour, on_demand_usd_per_hour }))
    }
}

/// Plans.
pub(crate) async fn run(session: &Session, args: PlanArgs) -> Result<(), Failure> {
    let spec = submit::planned(&args.file, &args.set).await?;
    let speed = speed(session, &args, &spec).await?;
    let traces = args.trace.iter().map(|path| Trace::load(path).map_err(untraceable)).collect::<Result<Vec<_>, _>>()?;
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 4);
    let usual = Conditions::default();
    let start_ms = ms(args.start_delay);
    let conditions = Conditions {
        prices: args.price.0,
        start_ms,
        transfer_ms: usual.transfer_ms.min(start_ms),
        notice_ms: ms(args.notice),
        ..usual
    };
    let workload = Workload::new(&spec, speed.step_seconds, speed.workers.unwrap_or(workers(&spec)), &conditions);
    let workload = workload.map_err(|error| unplannable(&args.file, &error))?;
    let windows = args.windows as usize;
    let bar = session.printer.spinner("running windows");
    let progress = bar.clone();
    let told = move |done: usize| progress.set_message(format!("running windows: {done} of {windows}"));
    let work = tokio::task::spawn_blocking(move || {
        let study = coordinator_simulation::study(&traces, windows, &workload, &conditions, &told);
        told::Plan::new(&workload, &conditions, &traces, study)
    });
    let plan = work.await.map_err(|error| Failure::new(Class::Local, format!("run the windows: {error}")))?;
    bar.finish_and_clear();
    for note in plan.notes() {
        session.printer.note(&note);
    }
    session.printer.emit(&plan, |printer| plan.text(printer))
}

/// How fast it trains.
struct Speed {
    step_seconds: f64,
    /// On so many; absent: on all.
    workers: Option<u32>,
}

async fn speed(session: &Session, args: &PlanArgs, spec: &JobSpec) -> Result<Speed, Failure> {
    let Some(like) = &args.like else {
        return Ok(Speed { step_seconds: args.step_seconds.unwrap_or_default(), workers: args.workers });
    };
    let job = session.reach.connect().await?.show(like).await?;
    if job.samples_per_s > 0.0 && job.world_size > 0 {
        let step_seconds = f64::from(spec.train.global_batch) / job.samples_per_s;
        return Ok(Speed { step_seconds, workers: Some(job.world_size) });
    }
    let message = format!("--like {like}: expected a job that trains now, found one that is {}", job.state);
    Err(Failure::new(Class::Refused, message).hint("give what a step takes with --step-seconds"))
}

fn workers(spec: &JobSpec) -> u32 {
    spec.resources.workers.max.min(spec.train.logical_shards)
}

fn untraceable(error: TraceError) -> Failure {
    match &error {
        TraceError::Read { path, source } => {
            Failure { class: Class::Usage, ..Failure::file("read trace", path, source) }
        }
        TraceError::Content { .. } => {
            Failure { class: Class::Usage, reports: vec![Report::of_text(&error.to_string())] }
        }
    }
}

fn unplannable(file: &Path, error: &WorkloadError) -> Failure {
    let of_job = || Failure::new(Class::Usage, format!("{}: {error}", file.display()));
    match error {
        WorkloadError::Deadline { .. } => of_job().hint("more workers, a faster step, or a later deadline"),
        WorkloadError::NoSteps => of_job(),
        WorkloadError::StepTime(seconds) => {
            let message = format!("--step-seconds: expected seconds above 0, found {seconds}");
            Failure::new(Class::Usage, message).hint("how long a step takes when all workers share it, or a guess")
        }
    }
}

/// Whether the job may use on-demand capacity, in words.
fn on_demand(spec: OnDemandSpec) -> &'static str {
    match spec {
        OnDemandSpec::Never => "never on demand",
        OnDemandSpec::ToMeetDeadline => "on demand to meet it",
        OnDemandSpec::Always => "always on demand",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_two_figures() {
        let prices = |text: &str| text.parse::<PriceArg>().map(|price| price.0);
        let found = prices("0.92/3.06").unwrap();
        assert_eq!((found.spot_usd_per_hour, found.on_demand_usd_per_hour), (0.92, 3.06));
        for wrong in ["1", "1/", "-1/2", "1/nan", "a/b", "inf/1"] {
            assert!(prices(wrong).is_err(), "{wrong}");
        }
    }
}
