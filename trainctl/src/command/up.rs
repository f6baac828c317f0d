//! `up`: a coordinator in this terminal, with its state in the home and a pool of local processes.

use crate::cli::Session;
use crate::embedded::{Embedded, Ending};
use crate::failure::{Class, Failure};
use crate::interrupts::Interrupts;
use crate::logging::{self, Base};
use crate::table;
use crate::tell;
use crate::view;
use clap::{Args, ValueEnum};
use coordinator_server::Tls;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use trainctl_proto::v1::JobStatus;

/// Arguments of `up`.
#[derive(Args, Debug)]
#[command(after_help = "Ctrl-C once: jobs are saved and suspended, workers end, and the next `up` goes on.\n\
                        Ctrl-C twice: workers are killed at once; jobs go on from their newest checkpoint.\n\n\
                        Example:\n  trainctl up\n  trainctl up --listen 127.0.0.1:7070 --pools pools.toml")]
pub(crate) struct UpArgs {
    /// Where to listen; port 0: any that is free
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0", value_parser = address)]
    listen: SocketAddr,
    /// Whether calls are encrypted: auto (all where it listens beyond this machine), always or never
    #[arg(long, value_enum, default_value = "auto", value_name = "WHEN", hide_possible_values = true)]
    tls: Encrypted,
    /// Pools to take instances from [default: local-spot and local, 8 processes each]
    #[arg(long, value_name = "FILE")]
    pools: Option<PathBuf>,
}

/// [`Tls`], as it is typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Encrypted {
    Auto,
    Always,
    Never,
}

impl From<Encrypted> for Tls {
    fn from(encrypted: Encrypted) -> Self {
        match encrypted {
            Encrypted::Auto => Self::Auto,
            Encrypted::Always => Self::Always,
            Encrypted::Never => Self::Never,
        }
    }
}

/// An IP address and a port; names of hosts can stand for several addresses.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("expected an IP address and a port such as 127.0.0.1:7070, found {text:?}"))
}

/// What a started coordinator tells.
#[derive(Serialize)]
struct Started {
    address: String,
    home: PathBuf,
    token_file: PathBuf,
    pid: u32,
    cluster: String,
    version: String,
    /// Names of the jobs that go on.
    jobs: Vec<String>,
}

/// Runs until Ctrl-C or `trainctl stop`.
pub(crate) async fn run(session: &Session, args: UpArgs) -> Result<(), Failure> {
    let UpArgs { listen, tls, pools } = args;
    if session.reach.url.is_some() {
        return Err(Failure::new(
            Class::Usage,
            "--coordinator names a coordinator that runs already; `up` starts one here",
        )
        .hint("leave out --coordinator and unset TRAINCTL_COORDINATOR"));
    }
    logging::start(&session.printer, Base::Actions, session.verbose);
    let mut interrupts = Interrupts::catch()?;
    let embedded = Embedded::start(session, listen, tls.into(), pools.clone()).await?;
    let told = tell_start(session, &embedded).await;
    if told.is_ok() {
        tokio::select! {
            () = interrupts.next() => {}
            () = embedded.stopped() => {
                embedded.outcome().await?;
                session.printer.note("stopped");
                return Ok(());
            }
        }
    }
    let unfinished = names(&embedded.unfinished().await);
    let printer = &session.printer;
    if !unfinished.is_empty() {
        let jobs = tell::names_are(&unfinished);
        printer.note(&format!("stopping: {jobs} saved, workers end; Ctrl-C again kills them at once"));
    }
    let ending = embedded.end(&mut interrupts).await?;
    let go_on = tell::goes_on(&unfinished, &session.reach.home, pools.as_deref());
    printer.note(&match ending {
        _ if unfinished.is_empty() => "stopped".to_owned(),
        Ending::Suspended => format!("stopped; {go_on}"),
        Ending::Killed => format!("killed all workers; {go_on}, from the newest checkpoint"),
    });
    told
}

fn names(jobs: &[JobStatus]) -> Vec<String> {
    jobs.iter().map(|job| job.job.clone()).collect()
}

async fn tell_start(session: &Session, embedded: &Embedded) -> Result<(), Failure> {
    let mut coordinator = embedded.connect().await?;
    let info = coordinator.info().await?;
    let jobs = coordinator.list().await?;
    let jobs = jobs.into_iter().filter(|job| !view::ended(&job.state)).map(|job| job.job).collect();
    let started = Started {
        address: embedded.address().to_owned(),
        home: session.reach.home.clone(),
        token_file: embedded.token_file().to_owned(),
        pid: info.pid,
        cluster: info.cluster,
        version: info.version,
        jobs,
    };
    let printer = &session.printer;
    if printer.json() {
        return printer.emit_line(&started);
    }
    let pools = coordinator.pools().await?;
    let pools: Vec<String> = pools.iter().map(|pool| format!("{} ({})", pool.pool, pool.capacity)).collect();
    let mut rows = vec![
        ("address", started.address),
        ("home", started.home.display().to_string()),
        ("token file", started.token_file.display().to_string()),
        ("pools", pools.join(", ")),
    ];
    if !started.jobs.is_empty() {
        rows.push(("goes on with", started.jobs.join(", ")));
    }
    printer.out(&format!("{}\n{}", printer.bold("the coordinator is up"), table::pairs(printer, &rows)))?;
    printer.note("Ctrl-C suspends its jobs and ends it");
    Ok(())
}
