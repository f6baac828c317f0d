//! `submit --local`: a coordinator inside this command for as long as the job takes. Whatever happens, no worker is
//! left behind.

use super::preflight::Checked;
use super::{hand_over, show_end, wait};
use crate::cli::Session;
use crate::client::Coordinator;
use crate::embedded::{Embedded, Ending};
use crate::failure::{Class, Failure};
use crate::follow::{End, Follower, Show};
use crate::interrupts::Interrupts;
use crate::logging::{self, Base};
use crate::runs::Place;
use crate::tell;
use crate::view;
use coordinator_server::Tls;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use trainctl_proto::v1::JobStatus;

/// How far the job came.
enum Progress {
    /// It has ended.
    Ended(Box<JobStatus>),
    /// Ctrl-C.
    Interrupted,
    /// The coordinator was stopped from elsewhere, or can't go on.
    Stopped,
}

/// Runs the job here to its end, whatever that is; with a coordinator that serves this home already, there.
pub(super) async fn run(session: &Session, checked: Checked, pools: Option<PathBuf>) -> Result<JobStatus, Failure> {
    if let Some(url) = &session.reach.url {
        return Err(Failure::new(
            Class::Usage,
            format!("--local runs a job here, but the coordinator at {url} was named"),
        )
        .hint("leave out --coordinator and unset TRAINCTL_COORDINATOR, or leave out --local"));
    }
    match session.reach.connect().await {
        Ok(coordinator) => return elsewhere(session, coordinator, checked, pools).await,
        Err(failure) if failure.class == Class::Unreachable => {}
        Err(failure) if no_token_yet(session) => drop(failure),
        Err(failure) => return Err(failure),
    }
    logging::start(&session.printer, Base::Warnings, session.verbose);
    let mut interrupts = Interrupts::catch()?;
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let embedded = Embedded::start(session, listen, Tls::Auto, pools.clone()).await?;
    let here = Here { session, checked: &checked, pools: pools.as_deref() };
    here.run(embedded, &mut interrupts).await
}

/// A home in which no coordinator has ever run.
fn no_token_yet(session: &Session) -> bool {
    !crate::home::coordinator_file(&session.reach.home).exists()
}

/// A coordinator serves this home already: the job is its.
async fn elsewhere(
    session: &Session,
    mut coordinator: Coordinator,
    checked: Checked,
    pools: Option<PathBuf>,
) -> Result<JobStatus, Failure> {
    let url = coordinator.url().to_owned();
    if let Some(pools) = pools {
        let message =
            format!("--pools {}: the coordinator at {url} serves this home and has its pools", pools.display());
        return Err(Failure::new(Class::Refused, message)
            .hint("stop it with `trainctl stop`, use another --home, or leave out --pools"));
    }
    session.printer.note(&format!("a coordinator serves this home already; using it: {url}"));
    let status = hand_over(&mut coordinator, &checked).await?;
    wait(session, &mut coordinator, &status.job).await
}

/// A job in a coordinator of this process.
struct Here<'a> {
    session: &'a Session,
    checked: &'a Checked,
    /// What the coordinator has its pools from; whoever goes on needs them too.
    pools: Option<&'a Path>,
}

impl Here<'_> {
    fn job(&self) -> &str {
        &self.checked.spec.name
    }

    async fn run(&self, embedded: Embedded, interrupts: &mut Interrupts) -> Result<JobStatus, Failure> {
        let printer = &self.session.printer;
        let show = if printer.json() { Show::Aside } else { Show::Text };
        let mut follower = Follower::new(printer, &self.session.reach, self.job(), show);
        let progress = tokio::select! {
            progress = self.to_the_end(&embedded, &mut follower) => progress,
            () = interrupts.next() => Ok(Progress::Interrupted),
            () = embedded.stopped() => Ok(Progress::Stopped),
        };
        match progress {
            Ok(Progress::Ended(status)) => {
                follower.clear();
                let others = embedded.unfinished().await;
                embedded.end(interrupts).await?;
                self.tell_others(&others);
                Ok(*status)
            }
            Ok(Progress::Interrupted) => self.interrupted(embedded, follower, interrupts).await,
            Ok(Progress::Stopped) => {
                follower.clear();
                embedded.outcome().await?;
                printer.note("the coordinator was stopped");
                self.tell_where_it_stands(&follower, Ending::Suspended).await
            }
            Err(failure) => {
                follower.clear();
                embedded.end(interrupts).await?;
                Err(failure)
            }
        }
    }

    async fn to_the_end(&self, embedded: &Embedded, follower: &mut Follower) -> Result<Progress, Failure> {
        let mut coordinator = embedded.connect().await?;
        let status = hand_over(&mut coordinator, self.checked).await?;
        match follower.run(&mut coordinator).await? {
            End::Ended(_) => Ok(Progress::Ended(Box::new(coordinator.show(&status.job).await?))),
            End::Suspended(_) | End::Lost => {
                embedded.stopped().await;
                Ok(Progress::Stopped)
            }
        }
    }

    /// Ctrl-C: saves the job, ends its workers, says where it stands and how to go on.
    async fn interrupted(
        &self,
        embedded: Embedded,
        mut follower: Follower,
        interrupts: &mut Interrupts,
    ) -> Result<JobStatus, Failure> {
        let printer = &self.session.printer;
        let job = self.job();
        let submitted = embedded.unfinished().await.iter().any(|status| status.job == job);
        if submitted {
            printer.note(&format!("stopping: {job} is saved and its workers end; Ctrl-C again kills them at once"));
        }
        let ending = match embedded.connect().await {
            Ok(mut coordinator) if submitted => {
                let (ending, _) = tokio::join!(embedded.end(interrupts), follower.run(&mut coordinator));
                ending?
            }
            Ok(_) | Err(_) => embedded.end(interrupts).await?,
        };
        follower.clear();
        if follower.last().is_none() {
            printer.note("stopped before the job was submitted; nothing was started");
            return Err(Failure::silent(Class::Interrupted));
        }
        self.tell_where_it_stands(&follower, ending).await
    }

    /// The step is the newest checkpoint's: that is what the job goes on from, and the coordinator that could be asked
    /// is gone.
    async fn tell_where_it_stands(&self, follower: &Follower, ending: Ending) -> Result<JobStatus, Failure> {
        let printer = &self.session.printer;
        let mut status = follower.last().cloned().unwrap_or_default();
        if view::ended(&status.state) {
            return Ok(status);
        }
        let saved = saved_step(&status.checkpoint_root, self.job()).await;
        status.state = "suspended".to_owned();
        status.step = saved.unwrap_or(0);
        status.world_size = 0;
        if printer.json() {
            show_end(printer, &status)?;
        }
        let go_on = tell::goes_on(&[self.job().to_owned()], &self.session.reach.home, self.pools);
        printer.note(&match (saved, ending) {
            (None, _) => format!("nothing was saved yet; {go_on} from the start"),
            (Some(step), Ending::Suspended) => format!("saved at step {step} of {}; {go_on}", status.steps),
            (Some(step), Ending::Killed) => format!("workers killed; {go_on} from step {step} of {}", status.steps),
        });
        Err(Failure::silent(Class::Interrupted))
    }

    /// Jobs that others gave to this coordinator while it ran.
    fn tell_others(&self, others: &[JobStatus]) {
        if others.is_empty() {
            return;
        }
        let names: Vec<String> = others.iter().map(|status| status.job.clone()).collect();
        let go_on = tell::goes_on(&names, &self.session.reach.home, self.pools);
        self.session.printer.note(&format!("suspended with this command's end: {go_on}"));
    }
}

async fn saved_step(root: &str, job: &str) -> Option<u64> {
    Place::open(root, job).ok()?.folder.steps().await.ok()?.last().copied()
}
