//! A coordinator inside this process: started in the home, asked through its own front door like any other, and ended
//! so that no worker stays behind.

use crate::cli::Session;
use crate::client::{Coordinator, Reach};
use crate::failure::{Class, Failure, Report, chain};
use crate::interrupts::Interrupts;
use crate::view;
use coordinator_server::{Options, Problem, Problems, Running, ServeError, Tls, serve};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use trainctl_proto::v1::JobStatus;

/// A running coordinator of this process.
pub(crate) struct Embedded {
    running: Running,
    reach: Reach,
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// Jobs are saved, their workers have ended.
    Suspended,
    /// Workers were killed.
    Killed,
}

impl Embedded {
    /// Starts it; when this returns it answers.
    pub(crate) async fn start(
        session: &Session,
        listen: SocketAddr,
        tls: Tls,
        pools: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        let home = session.reach.home.clone();
        let options = Options { listen, tls, pools_file: pools, ..Options::new(&home) };
        let running = serve(options).await.map_err(failure)?;
        let reach = Reach { home, url: None, token_file: None };
        Ok(Self { running, reach })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        self.running.address()
    }

    /// The token that it takes.
    pub(crate) fn token_file(&self) -> &Path {
        self.running.token_file()
    }

    /// A connection to it.
    pub(crate) async fn connect(&self) -> Result<Coordinator, Failure> {
        self.reach.connect().await
    }

    /// The jobs that have not ended; none when it doesn't answer.
    pub(crate) async fn unfinished(&self) -> Vec<JobStatus> {
        let Ok(mut coordinator) = self.connect().await else { return Vec::new() };
        let jobs = coordinator.list().await.unwrap_or_default();
        jobs.into_iter().filter(|job| !view::ended(&job.state)).collect()
    }

    /// Until it has ended without [`end`](Self::end): somebody stopped it, or it can't go on.
    pub(crate) async fn stopped(&self) {
        self.running.stopped().await;
    }

    /// Why it ended, if that was nobody's wish.
    pub(crate) async fn outcome(self) -> Result<(), Failure> {
        self.running.wait().await.map_err(failure)
    }

    /// Saves all jobs and ends their workers; on another Ctrl-C kills them.
    pub(crate) async fn end(self, interrupts: &mut Interrupts) -> Result<Ending, Failure> {
        let ending = tokio::select! {
            () = self.running.suspend() => Ending::Suspended,
            () = interrupts.next() => {
                self.running.kill().await;
                Ending::Killed
            }
        };
        self.outcome().await.map(|()| ending)
    }
}

/// A coordinator's error in this command line's words; pools that don't hold are the user's to mend.
fn failure(error: ServeError) -> Failure {
    let ServeError::Pools(Problems(problems)) = error else {
        return Failure { class: Class::Local, reports: vec![Report::of_text(&chain(&error))] };
    };
    let report =
        |problem: Problem| Report { message: format!("{}: {}", problem.place, problem.message), hint: problem.hint };
    Failure { class: Class::Usage, reports: problems.into_iter().map(report).collect() }
}
