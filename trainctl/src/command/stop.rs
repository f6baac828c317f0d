//! `stop`: suspends all jobs and ends the coordinator.

use crate::cli::Session;
use crate::client::Coordinator;
use crate::failure::Failure;
use crate::tell;
use crate::view;
use clap::Args;
use serde::Serialize;

/// Arguments of `stop`.
#[derive(Args, Debug)]
#[command(after_help = "Its jobs are saved first and go on with the next `trainctl up` in the same home.\n\n\
                        Example:\n  trainctl stop")]
pub(crate) struct StopArgs {}

/// What `stop` did.
#[derive(Serialize)]
struct Stopped {
    /// Where the coordinator was.
    coordinator: String,
    /// Names of the jobs that go on later.
    suspended: Vec<String>,
}

/// Stops.
pub(crate) async fn run(session: &Session, _args: StopArgs) -> Result<(), Failure> {
    let mut coordinator = session.reach.connect().await?;
    let unfinished = unfinished(&mut coordinator).await?;
    if !unfinished.is_empty() {
        session.printer.note(&format!("suspending {}", unfinished.join(", ")));
    }
    coordinator.stop(true).await?;
    let stopped = Stopped { coordinator: coordinator.url().to_owned(), suspended: unfinished };
    session.printer.emit(&stopped, |_| {
        let mut text = format!("the coordinator at {} is stopped\n", stopped.coordinator);
        if !stopped.suspended.is_empty() {
            text.push_str(&tell::goes_on(&stopped.suspended, &session.reach.home, None));
            text.push('\n');
        }
        text
    })
}

/// Names of the jobs that have not ended.
pub(crate) async fn unfinished(coordinator: &mut Coordinator) -> Result<Vec<String>, Failure> {
    let jobs = coordinator.list().await?;
    Ok(jobs.into_iter().filter(|job| !view::ended(&job.state)).map(|job| job.job).collect())
}
