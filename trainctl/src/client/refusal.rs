//! What a coordinator's refusal means for its user: the exit class, the words, what to do.

use super::Coordinator;
use crate::failure::{Class, Failure, Report};
use crate::nearest::nearest;
use tonic::{Code, Status};

impl Coordinator {
    /// A reply about a job: one that is not known gets the nearest name.
    pub(super) async fn about_job<T>(&mut self, job: &str, reply: Result<T, Status>) -> Result<T, Failure> {
        match reply {
            Ok(value) => Ok(value),
            Err(status) if status.code() == Code::NotFound => {
                let jobs = self.list().await?;
                Err(unknown("job", job, jobs.iter().map(|job| job.job.as_str()), &self.url, "trainctl ls"))
            }
            Err(status) => Err(self.refusal(&status)),
        }
    }

    /// A reply about a worker, the same.
    pub(super) async fn about_worker<T>(&mut self, worker: &str, reply: Result<T, Status>) -> Result<T, Failure> {
        match reply {
            Ok(value) => Ok(value),
            Err(status) if status.code() == Code::NotFound => Err(self.unknown_worker(worker).await),
            Err(status) => Err(self.refusal(&status)),
        }
    }

    /// A worker that is not known.
    pub(super) async fn unknown_worker(&mut self, worker: &str) -> Failure {
        match self.workers(None).await {
            Ok(workers) => {
                let names = workers.iter().map(|worker| worker.worker.as_str());
                unknown("worker", worker, names, &self.url, "trainctl worker ls")
            }
            Err(failure) => failure,
        }
    }

    /// A job whose name another has.
    pub(super) async fn name_taken(&mut self, job: &str) -> Failure {
        let state = match self.show(job).await {
            Ok(status) => status.state,
            Err(failure) => return failure,
        };
        let failure =
            Failure::new(Class::Refused, format!("a job named {job:?} exists already at {} ({state})", self.url));
        let again = match state.as_str() {
            "failed" => {
                ", but by a job that its budget ended, with a larger one and the same data, model, train and \
                 checkpoint.root"
            }
            _ => "",
        };
        failure.hint(format!(
            "names are never used twice{again}; submit it under another with --set name={job}-2, or see it with \
             `trainctl show {job}`"
        ))
    }

    /// A status that no command gives a meaning of its own.
    pub(crate) fn refusal(&self, status: &Status) -> Failure {
        let Report { message, hint } = Report::of_text(status.message());
        let failure = match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => {
                let path = self.token_file.display();
                Failure::new(Class::Refused, format!("coordinator at {} refused the token in {path}", self.url))
                    .hint("`trainctl up` prints the path of its token file; give it with --token-file")
            }
            Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => {
                Failure::new(Class::Unreachable, format!("coordinator at {} stopped answering: {message}", self.url))
                    .hint("workers train on without it; see whether it runs, or start it again with `trainctl up`")
            }
            Code::Unknown | Code::Internal if is_transport(status) => {
                Failure::new(Class::Unreachable, format!("connection to the coordinator at {} broke", self.url))
                    .hint("workers train on without it; see whether it runs, or start it again with `trainctl up`")
            }
            Code::Internal | Code::DataLoss | Code::Unknown => {
                Failure::new(Class::Local, format!("coordinator at {} failed: {message}", self.url))
            }
            _ => Failure::new(Class::Refused, format!("coordinator at {} refused: {message}", self.url)),
        };
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// Something that the coordinator doesn't know, with the nearest that it does.
pub(super) fn unknown<'a>(
    what: &str,
    name: &str,
    known: impl Iterator<Item = &'a str>,
    url: &str,
    list_command: &str,
) -> Failure {
    let failure = Failure::new(Class::Refused, format!("{what} {name:?} not found at {url}"));
    match nearest(name, known) {
        Some(near) => failure.hint(format!("did you mean {near:?}? `{list_command}` lists them")),
        None => failure.hint(format!("`{list_command}` lists what there is")),
    }
}

/// Made on this side, because the connection broke: what a coordinator says itself arrives without a source.
fn is_transport(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}
