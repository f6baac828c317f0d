//! `cancel`: ends a job for good; what it has learned stays in its checkpoints.

use crate::cli::Session;
use crate::failure::Failure;
use crate::view::Job;
use clap::Args;

/// Arguments of `cancel`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  trainctl cancel digits")]
pub(crate) struct CancelArgs {
    /// Name of the job
    #[arg(value_name = "JOB")]
    job: String,
}

/// Cancels.
pub(crate) async fn run(session: &Session, args: CancelArgs) -> Result<(), Failure> {
    let status = session.reach.connect().await?.cancel(&args.job).await?;
    session.printer.emit(&Job::from(status.clone()), |_| {
        let after = match status.world_size {
            0 => String::new(),
            n => format!("; {} save and leave", crate::format::count(n.into(), "worker")),
        };
        format!("{} is cancelled at step {} of {}{after}\n", status.job, status.step, status.steps)
    })
}
