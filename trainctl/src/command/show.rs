//! `show`: one job in full.

use crate::cli::Session;
use crate::failure::Failure;
use crate::tell;
use crate::view::Job;
use clap::Args;

/// Arguments of `show`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  trainctl show digits\n  trainctl show digits --output json | jq -r .state_digest")]
pub(crate) struct ShowArgs {
    /// Name of the job
    #[arg(value_name = "JOB")]
    job: String,
}

/// Shows.
pub(crate) async fn run(session: &Session, args: ShowArgs) -> Result<(), Failure> {
    let status = session.reach.connect().await?.show(&args.job).await?;
    let job = Job::from(status.clone());
    session.printer.emit(&job, |printer| tell::job(printer, &status))
}
