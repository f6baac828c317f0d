//! A job's status as it changes: the newest one, at most ten times a second, never a backlog.

use super::Answers;
use crate::driver::DriverHandle;
use crate::refusal::Refusal;
use crate::views;
use coordinator_core::{JobId, Rejection};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use trainctl_proto::v1::JobStatus;

const BETWEEN: Duration = Duration::from_millis(100);

/// Starts with the status now; the last message is an ended job's.
pub(super) async fn watch(
    driver: DriverHandle,
    job: JobId,
    stopping: CancellationToken,
) -> Result<Answers<JobStatus>, Refusal> {
    // Noted before the first look, so that no change falls between.
    let mut revision = driver.revision();
    revision.borrow_and_update();
    let first = look(&driver, &job).await?;
    // One waits for the client; while it does, nothing more is looked at.
    let (answers, stream) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut last = first;
        if answers.send(Ok(last.clone())).await.is_err() {
            return;
        }
        while last.ended_ms == 0 {
            tokio::select! {
                changed = revision.changed() => if changed.is_err() { break },
                () = stopping.cancelled() => break,
                () = answers.closed() => return,
            }
            revision.borrow_and_update();
            let Ok(status) = look(&driver, &job).await else { break };
            if status != last {
                last = status.clone();
                if answers.send(Ok(status)).await.is_err() {
                    return;
                }
                tokio::time::sleep(BETWEEN).await;
            }
        }
        if last.ended_ms == 0 {
            // Nobody listens if this can't be sent.
            let _ = answers.send(Err(Status::from(Refusal::Stopping))).await;
        }
    });
    Ok(Box::pin(ReceiverStream::new(stream)))
}

async fn look(driver: &DriverHandle, job: &JobId) -> Result<JobStatus, Refusal> {
    let id = job.clone();
    let status = driver.read(move |core| core.job(&id).map(|view| views::job(core, view))).await?;
    status.ok_or_else(|| Refusal::from(Rejection::UnknownJob(job.clone())))
}
