//! `worker ls|drain|evict`: who trains, and drills in taking workers away.

use crate::cli::Session;
use crate::client::Coordinator;
use crate::failure::{Class, Failure};
use crate::format;
use crate::printer::Printer;
use crate::table::{Rows, plain, toned};
use crate::tell;
use crate::view::Worker;
use clap::{Args, Subcommand};
use std::time::{Duration, SystemTime};
use trainctl_proto::v1::WorkerStatus;

/// Arguments of `worker`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  trainctl worker ls\n  trainctl worker evict w3 --notice 5")]
pub(crate) struct WorkerArgs {
    #[command(subcommand)]
    command: WorkerCommand,
}

#[derive(Subcommand, Debug)]
enum WorkerCommand {
    /// List workers that are up or coming up
    #[command(after_help = "Example:\n  trainctl worker ls --job digits\n  \
                            trainctl worker ls --output json | jq -r '.[0].worker'")]
    Ls {
        /// Only of this job
        #[arg(long, value_name = "JOB")]
        job: Option<String>,
    },
    /// Let a worker leave at a step boundary; no step is lost and its instance is given back
    #[command(after_help = "Example:\n  trainctl worker drain w3")]
    Drain {
        /// Which one, as `worker ls` names it
        #[arg(value_name = "WORKER")]
        worker: String,
    },
    /// A drill: let the pool take the worker's instance as a cloud would
    #[command(after_help = "Without --notice or --now the pool's own notice is given.\n\n\
                            Example:\n  trainctl worker evict w3 --notice 5\n  trainctl worker evict w3 --now")]
    Evict {
        /// Which one, as `worker ls` names it
        #[arg(value_name = "WORKER")]
        worker: String,
        /// How long before it is taken it is told
        #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with = "now")]
        notice: Option<Duration>,
        /// Take it without a word
        #[arg(long)]
        now: bool,
    },
}

/// Seconds with a fraction; 0 is what `--now` is for.
fn seconds(text: &str) -> Result<Duration, String> {
    let value: f64 = text.parse().map_err(|_| format!("expected seconds such as 5 or 0.5, found {text:?}"))?;
    match Duration::try_from_secs_f64(value) {
        Ok(notice) if notice >= Duration::from_millis(1) && notice <= Duration::from_secs(86_400) => Ok(notice),
        _ => Err("expected more than 0 and at most 86400 seconds; no notice at all is --now".to_owned()),
    }
}

/// Lists, drains or evicts.
pub(crate) async fn run(session: &Session, args: WorkerArgs) -> Result<(), Failure> {
    let mut coordinator = session.reach.connect().await?;
    let printer = &session.printer;
    match args.command {
        WorkerCommand::Ls { job } => list(printer, &mut coordinator, job.as_deref()).await,
        WorkerCommand::Drain { worker } => {
            let status = coordinator.drain(&worker).await?;
            printer.emit(&Worker::from(status.clone()), |_| {
                format!("{} leaves {} at the next step boundary\n", status.worker, status.job)
            })
        }
        WorkerCommand::Evict { worker, notice, now } => {
            let notice_ms = match notice {
                _ if now => 0,
                Some(notice) => u64::try_from(notice.as_millis()).unwrap_or(u64::MAX),
                None => pool_notice_ms(&mut coordinator, &worker).await?,
            };
            let status = coordinator.evict(&worker, notice_ms).await?;
            printer.emit(&Worker::from(status.clone()), |_| {
                let how = match notice_ms {
                    0 => "now, without notice".to_owned(),
                    ms => format!("in {}, and the worker knows", format::duration(Duration::from_millis(ms))),
                };
                format!("{} takes {} ({}) {how}\n", status.pool, status.worker, status.instance)
            })
        }
    }
}

/// The notice of the pool that the worker came from. An unknown worker is left to the coordinator to refuse.
async fn pool_notice_ms(coordinator: &mut Coordinator, worker: &str) -> Result<u64, Failure> {
    let workers = coordinator.workers(None).await?;
    let Some(status) = workers.iter().find(|status| status.worker == worker) else { return Ok(0) };
    let pools = coordinator.pools().await?;
    pools.iter().find(|pool| pool.pool == status.pool).map(|pool| pool.notice_ms).ok_or_else(|| {
        Failure::new(
            Class::Refused,
            format!("worker {worker} comes from pool {:?}, which is not there any more", status.pool),
        )
        .hint("say how it is taken with --notice SECONDS or --now")
    })
}

async fn list(printer: &Printer, coordinator: &mut Coordinator, job: Option<&str>) -> Result<(), Failure> {
    let workers = coordinator.workers(job).await?;
    if printer.json() {
        let views: Vec<Worker> = workers.into_iter().map(Worker::from).collect();
        return printer.emit(&views, |_| String::new());
    }
    if workers.is_empty() {
        printer.note("no workers");
        return Ok(());
    }
    printer.out(&table(printer, &workers, SystemTime::now()))
}

fn table(printer: &Printer, workers: &[WorkerStatus], now: SystemTime) -> String {
    let headings = ["WORKER", "JOB", "STATE", "SHARDS", ">EACH", ">STEP", "POOL", ">PID", "LAUNCHED"];
    let mut rows = Rows::new(printer, &headings);
    for worker in workers {
        let ranked = |text: String| if worker.has_rank { text } else { "-".to_owned() };
        rows.push([
            plain(&worker.worker),
            plain(&worker.job),
            toned(&worker.state, tell::worker_tone(&worker.state)),
            plain(ranked(tell::shards(worker.first_shard, worker.end_shard))),
            plain(each(worker.shard_seconds)),
            plain(worker.step),
            plain(&worker.pool),
            plain(if worker.pid == 0 { "-".to_owned() } else { worker.pid.to_string() }),
            plain(format::ago(worker.launched_ms, now)),
        ]);
    }
    rows.render()
}

/// What a shard takes the worker.
fn each(shard_seconds: f64) -> String {
    if shard_seconds > 0.0 { format::span(shard_seconds) } else { "-".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::{ColourChoice, Format};

    #[test]
    fn workers_fit_80_columns() {
        let workers = [
            WorkerStatus {
                worker: "w1".into(),
                job: "digits".into(),
                pool: "local-spot".into(),
                instance: "i1".into(),
                state: "training".into(),
                has_rank: true,
                first_shard: 0,
                end_shard: 4,
                shard_seconds: 0.0123,
                generation: 3,
                step: 812,
                pid: 41_235,
                launched_ms: 1_700_000_000_000,
                ..Default::default()
            },
            WorkerStatus {
                worker: "w12".into(),
                job: "digits".into(),
                state: "launching".into(),
                ..Default::default()
            },
        ];
        let printer = Printer::new(Format::Text, ColourChoice::Never, false);
        let now = format::time_of_ms(1_700_000_000_000).unwrap() + Duration::from_secs(72);
        let text = table(&printer, &workers, now);
        insta::assert_snapshot!(text, @"
        WORKER  JOB     STATE      SHARDS   EACH  STEP  POOL          PID  LAUNCHED
        w1      digits  training   0-3     12 ms   812  local-spot  41235  1 min ago
        w12     digits  launching  -           -     0                  -  -
        ");
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    }

    #[test]
    fn a_notice_is_a_positive_number_of_seconds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "soon", "1e9", "NaN"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
