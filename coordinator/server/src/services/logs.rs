//! Streams the logs of a job to its reader, as fast as the reader takes them.

use super::Answers;
use crate::driver::DriverHandle;
use crate::logs::{self, Follow};
use crate::refusal::Refusal;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use trainctl_proto::v1::LogChunk;

/// Between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const CHUNKS_MAX: usize = 8;

/// With `to_the_end_of_the_job` the stream goes on until the job has ended and all was read.
pub(super) fn stream(
    driver: DriverHandle,
    what: Follow,
    to_the_end_of_the_job: bool,
    stopping: CancellationToken,
) -> Answers<LogChunk> {
    let (answers, stream) = mpsc::channel(CHUNKS_MAX);
    tokio::spawn(async move {
        // Fails when the reader has gone away, and then there is nobody to tell.
        if let Err(refusal) = send_all(&driver, what, to_the_end_of_the_job, &stopping, &answers).await {
            let _ = answers.send(Err(Status::from(refusal))).await;
        }
    });
    Box::pin(ReceiverStream::new(stream))
}

async fn send_all(
    driver: &DriverHandle,
    what: Follow,
    to_the_end_of_the_job: bool,
    stopping: &CancellationToken,
    answers: &mpsc::Sender<Result<LogChunk, Status>>,
) -> Result<(), Refusal> {
    let mut follower = logs::follow();
    loop {
        // Asked before reading: what an ended job's workers wrote is there by then.
        let last = !to_the_end_of_the_job || over(driver, &what).await?;
        let job = what.job.clone();
        let failed = move |reason: String| Refusal::Logs { job, reason };
        let look = {
            let (mut follower, what) = (follower, what.clone());
            tokio::task::spawn_blocking(move || (follower.read(&what, last), follower))
        };
        let (pieces, again) = look.await.map_err(|error| failed.clone()(error.to_string()))?;
        follower = again;
        let pieces = pieces.map_err(|error| failed(error.to_string()))?;
        let nothing = pieces.is_empty();
        for piece in pieces {
            let chunk = LogChunk { worker: piece.worker, text: piece.text };
            if answers.send(Ok(chunk)).await.is_err() {
                return Ok(());
            }
        }
        match (nothing, last) {
            (true, true) => return Ok(()),
            // There may be more already.
            (false, _) => {}
            (true, false) => tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = answers.closed() => return Ok(()),
                () = stopping.cancelled() => return Err(Refusal::Stopping),
            },
        }
    }
}

/// The job has ended and none of its workers can write any more.
async fn over(driver: &DriverHandle, what: &Follow) -> Result<bool, Refusal> {
    let job = what.job.clone();
    driver
        .read(move |core| {
            let ended = core.job(&job).is_none_or(|view| view.ended.is_some());
            ended && !core.instances().iter().any(|instance| instance.job == job)
        })
        .await
}
