//! `watch`: follows a job until it ends.

use crate::cli::Session;
use crate::failure::{Class, Failure, Report};
use crate::follow::{End, Follower, Show};
use crate::tell;
use crate::view::succeeded;
use clap::Args;
use trainctl_proto::v1::JobStatus;

/// Arguments of `watch`.
#[derive(Args, Debug)]
#[command(after_help = "Ctrl-C ends the watching, not the job. With --output json each change is one line.\n\n\
                        Example:\n  trainctl watch digits\n  \
                        trainctl watch digits --output json | jq -c '[.step, .loss]'")]
pub(crate) struct WatchArgs {
    /// Name of the job
    #[arg(value_name = "JOB")]
    job: String,
}

/// Watches; fails if the job does.
pub(crate) async fn run(session: &Session, args: WatchArgs) -> Result<(), Failure> {
    let mut coordinator = session.reach.connect().await?;
    let printer = &session.printer;
    let show = if printer.json() { Show::JsonLines } else { Show::Text };
    let mut follower = Follower::new(printer, &session.reach, &args.job, show);
    let end = tokio::select! {
        end = follower.run_patiently(&mut coordinator) => Some(end?),
        _ = tokio::signal::ctrl_c() => None,
    };
    follower.clear();
    match end {
        None | Some(End::Lost) => {
            session.printer.note(&format!("stopped watching; {} goes on", args.job));
            Err(Failure::silent(Class::Interrupted))
        }
        Some(End::Suspended(status)) => {
            session.printer.note(&suspended(&status));
            Err(Failure::silent(Class::Interrupted))
        }
        Some(End::Ended(status)) => {
            if !printer.json() {
                printer.out(&tell::job(printer, &status))?;
            }
            outcome(&status)
        }
    }
}

/// A job that was kept for later.
pub(crate) fn suspended(status: &JobStatus) -> String {
    format!(
        "{} is suspended at step {} of {}; it goes on when its coordinator does",
        status.job, status.step, status.steps
    )
}

/// Fails unless the ended job succeeded.
pub(crate) fn outcome(status: &JobStatus) -> Result<(), Failure> {
    if succeeded(&status.state) {
        return Ok(());
    }
    let reason = Report::of_text(&status.reason);
    let mut message = format!("job {} {} at step {} of {}", status.job, status.state, status.step, status.steps);
    if !reason.message.is_empty() {
        message.push_str(&format!(": {}", tell::first_line(&reason.message)));
    }
    let look =
        format!("`trainctl explain {0}` says what was decided, `trainctl logs {0}` what its workers wrote", status.job);
    Err(Failure::new(Class::JobFailed, message).hint(reason.hint.unwrap_or(look)))
}
