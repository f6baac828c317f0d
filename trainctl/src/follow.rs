//! Follows a job to its end: reads its statuses, shows them, and bears with a coordinator that is away for a while,
//! because the workers train on without it.

use crate::client::{Coordinator, Reach};
use crate::failure::{Class, Failure};
use crate::live;
use crate::printer::Printer;
use crate::view::{self, Job};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};
use tonic::Streaming;
use trainctl_proto::v1::{Decision, JobStatus};

/// How long a coordinator may be away before the follower gives up.
const AWAY_MAX: Duration = Duration::from_secs(60);
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Where the lines and values of a followed job go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Show {
    /// Each status as a JSON line on stdout.
    JsonLines,
    /// A live block on stderr if it is a terminal, else change lines on stdout.
    Text,
    /// The same, but change lines on stderr: stdout is for the final object.
    Aside,
}

/// Why following ended.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum End {
    /// The job has ended.
    Ended(JobStatus),
    /// The coordinator was stopped and keeps the job for later.
    Suspended(JobStatus),
    /// The connection broke, and nothing is known of why.
    Lost,
}

/// Follows one job.
pub(crate) struct Follower {
    printer: Printer,
    reach: Reach,
    job: String,
    show: Show,
    bar: Option<ProgressBar>,
    last: Option<JobStatus>,
    decisions: Vec<Decision>,
    told: usize,
}

impl Follower {
    /// Of this job; nothing is drawn before the first status.
    pub(crate) fn new(printer: &Printer, reach: &Reach, job: &str, show: Show) -> Self {
        let drawn = printer.is_live() && show != Show::JsonLines;
        let bar = drawn.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())
                .with_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar()));
            printer.live().add(bar)
        });
        Self {
            printer: printer.clone(),
            reach: reach.clone(),
            job: job.to_owned(),
            show,
            bar,
            last: None,
            decisions: Vec::new(),
            told: 0,
        }
    }

    /// The newest status, if there was one.
    pub(crate) fn last(&self) -> Option<&JobStatus> {
        self.last.as_ref()
    }

    /// Takes the live block away.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            self.printer.live().remove(&bar);
        }
    }

    /// Until the job has ended or is suspended, through absences of the coordinator. Dropping the future is safe.
    pub(crate) async fn run_patiently(&mut self, coordinator: &mut Coordinator) -> Result<End, Failure> {
        let mut statuses = coordinator.watch(&self.job).await?;
        loop {
            match self.read(coordinator, &mut statuses).await? {
                End::Lost => (*coordinator, statuses) = self.find_again().await?,
                end => return Ok(end),
            }
        }
    }

    /// Until the job has ended or is suspended, or the coordinator goes away. Dropping the future is safe.
    pub(crate) async fn run(&mut self, coordinator: &mut Coordinator) -> Result<End, Failure> {
        let mut statuses = coordinator.watch(&self.job).await?;
        self.read(coordinator, &mut statuses).await
    }

    async fn read(
        &mut self,
        coordinator: &mut Coordinator,
        statuses: &mut Streaming<JobStatus>,
    ) -> Result<End, Failure> {
        while let Ok(Some(status)) = statuses.message().await {
            self.decide(coordinator, &status).await;
            self.tell(&status)?;
            self.last = Some(status.clone());
            if view::ended(&status.state) {
                return Ok(End::Ended(status));
            }
        }
        match &self.last {
            Some(last) if last.state == "suspended" => Ok(End::Suspended(last.clone())),
            _ => Ok(End::Lost),
        }
    }

    /// Waits for the coordinator to come back, perhaps on another port.
    async fn find_again(&self) -> Result<(Coordinator, Streaming<JobStatus>), Failure> {
        let lost = Instant::now();
        self.printer.note("the coordinator went away; workers train on without it, waiting for its return");
        loop {
            let failure = match self.reach.connect().await {
                Ok(mut coordinator) => match coordinator.watch(&self.job).await {
                    Ok(statuses) => {
                        self.printer.note(&format!("the coordinator is back at {}", coordinator.url()));
                        return Ok((coordinator, statuses));
                    }
                    Err(failure) => failure,
                },
                Err(failure) => failure,
            };
            if failure.class != Class::Unreachable || lost.elapsed() > AWAY_MAX {
                return Err(failure);
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    /// Asks for decisions when there may be new ones. A coordinator that can't say now is asked at the next change.
    async fn decide(&mut self, coordinator: &mut Coordinator, status: &JobStatus) {
        let shown = self.show != Show::JsonLines;
        let changed = self.last.as_ref().is_none_or(|last| live::change(Some(last), status).is_some());
        if shown
            && changed
            && let Ok(reply) = coordinator.explain(&self.job).await
        {
            self.decisions = reply.decisions;
        }
    }

    fn tell(&mut self, status: &JobStatus) -> Result<(), Failure> {
        if self.show == Show::JsonLines {
            return self.printer.emit_line(&Job::from(status.clone()));
        }
        if let Some(bar) = &self.bar {
            let width = usize::from(console::Term::stderr().size().1);
            bar.set_message(live::frame(&self.printer, status, &self.decisions, width));
            return Ok(());
        }
        let told = self.told.min(self.decisions.len());
        let mut lines: Vec<String> = self.decisions[told..].iter().map(live::decided).collect();
        self.told = self.decisions.len();
        lines.extend(live::change(self.last.as_ref(), status));
        for line in lines {
            match self.show {
                Show::Text => self.printer.out(&format!("{line}\n"))?,
                Show::Aside | Show::JsonLines => self.printer.note(&line),
            }
        }
        Ok(())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.clear();
    }
}
