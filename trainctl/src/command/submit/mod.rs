//! `submit`: checks a job on this side, hands it over, and waits for it where that was asked for.

mod local;
mod module;
mod preflight;
mod store;

use crate::cli::Session;
use crate::client::Coordinator;
use crate::command::watch::{outcome, suspended};
use crate::failure::{Class, Failure};
use crate::follow::{End, Follower, Show};
use crate::nearest::nearest;
use crate::printer::Printer;
use crate::tell;
use crate::view::Job;
use clap::Args;
pub(crate) use preflight::{Checked, check_recorded, planned};
use std::path::PathBuf;
use trainctl_proto::v1::JobStatus;

/// Arguments of `submit`.
#[derive(Args, Debug)]
#[command(after_help = "\
All is checked before anything starts: the job file, the data manifest and its digest, that all data objects are \
there, the pools, that a bucket for checkpoints keeps conditions. A TorchScript module is loaded and trained on one micro-batch, where a worker program is at hand. \
With --local and no coordinator running, one runs inside this command; other commands find it. \
Ctrl-C then saves the job and ends its workers, and `trainctl up` goes on. With --watch Ctrl-C ends the watching \
only.

Example:
  trainctl submit jobs/digits.toml --watch
  trainctl submit jobs/digits.toml --local --set name=digits-2 --set train.seed=8")]
pub(crate) struct SubmitArgs {
    /// The job
    #[arg(value_name = "JOB.toml")]
    file: PathBuf,
    /// Follow it until it ends
    #[arg(long)]
    watch: bool,
    /// Run it here, with local processes, and wait for its end
    #[arg(long)]
    local: bool,
    /// Change the job as if its file said so; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Pools of the coordinator that --local starts
    #[arg(long, value_name = "FILE", requires = "local")]
    pools: Option<PathBuf>,
}

/// Submits; with `--watch` or `--local` waits, and fails if the job does.
pub(crate) async fn run(session: &Session, args: SubmitArgs) -> Result<(), Failure> {
    let checked = preflight::check(&args.file, &args.set).await?;
    let printer = &session.printer;
    module::check(printer, &checked).await?;
    store::check(&checked).await?;
    let ended = if args.local {
        local::run(session, checked, args.pools).await?
    } else {
        let mut coordinator = session.reach.connect().await?;
        let status = hand_over(&mut coordinator, &checked).await?;
        if !args.watch {
            return printer.emit(&Job::from(status.clone()), |printer| submitted(printer, &status));
        }
        wait(session, &mut coordinator, &status.job).await?
    };
    show_end(printer, &ended)?;
    outcome(&ended)
}

/// Runs a checked job here to its end, whatever that is.
pub(crate) async fn run_here(
    session: &Session,
    checked: Checked,
    pools: Option<PathBuf>,
) -> Result<JobStatus, Failure> {
    local::run(session, checked, pools).await
}

fn submitted(printer: &Printer, status: &JobStatus) -> String {
    let watch = printer.faint(&format!("trainctl watch {}", status.job));
    let workers = match (status.workers_min, status.workers_max) {
        (min, max) if min == max => crate::format::count(max.into(), "worker"),
        (min, max) => format!("{min} to {max} workers"),
    };
    format!("submitted {}: {} steps, {workers}\n{watch}\n", printer.bold(&status.job), status.steps)
}

/// Checks the job's pools against the coordinator's, then submits.
async fn hand_over(coordinator: &mut Coordinator, checked: &Checked) -> Result<JobStatus, Failure> {
    let names = coordinator.pool_names().await?;
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    if let Some(unknown) = checked.spec.resources.pools.iter().find(|pool| !known.contains(&pool.as_str())) {
        let message = format!(
            "{}: resources.pools: expected pools of the coordinator at {} ({}), found {unknown:?}",
            checked.source.display(),
            coordinator.url(),
            known.join(", ")
        );
        let failure = Failure::new(Class::Refused, message);
        return Err(match nearest(unknown, known.iter().copied()) {
            Some(near) => failure.hint(format!("did you mean {near:?}?")),
            None => {
                failure.hint("`trainctl pool ls` lists them; new ones go into the file given to `trainctl up --pools`")
            }
        });
    }
    coordinator.submit(&checked.spec.name, checked.request()?).await
}

/// Follows a job that some coordinator runs to its end. Ctrl-C ends the following only.
async fn wait(session: &Session, coordinator: &mut Coordinator, job: &str) -> Result<JobStatus, Failure> {
    let printer = &session.printer;
    let show = if printer.json() { Show::Aside } else { Show::Text };
    let mut follower = Follower::new(printer, &session.reach, job, show);
    let end = tokio::select! {
        end = follower.run_patiently(coordinator) => Some(end?),
        _ = tokio::signal::ctrl_c() => None,
    };
    follower.clear();
    match end {
        None | Some(End::Lost) => {
            printer.note(&format!("stopped watching; {job} goes on: `trainctl watch {job}`, `trainctl cancel {job}`"));
            Err(Failure::silent(Class::Interrupted))
        }
        Some(End::Suspended(status)) => {
            printer.note(&suspended(&status));
            Err(Failure::silent(Class::Interrupted))
        }
        Some(End::Ended(_)) => coordinator.show(job).await,
    }
}

/// The job as `show` has it.
fn show_end(printer: &Printer, status: &JobStatus) -> Result<(), Failure> {
    printer.emit(&Job::from(status.clone()), |printer| tell::job(printer, status))
}
