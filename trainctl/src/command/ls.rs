//! `ls`: all jobs, one a line.

use crate::cli::Session;
use crate::failure::Failure;
use crate::format;
use crate::printer::Printer;
use crate::table::{Rows, plain, toned};
use crate::tell;
use crate::view::Job;
use clap::Args;
use std::time::SystemTime;
use trainctl_proto::v1::JobStatus;

/// Arguments of `ls`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  trainctl ls\n  trainctl ls --output json | jq -r '.[].job'")]
pub(crate) struct LsArgs {}

/// Lists.
pub(crate) async fn run(session: &Session, _args: LsArgs) -> Result<(), Failure> {
    let jobs = session.reach.connect().await?.list().await?;
    if session.printer.json() {
        let views: Vec<Job> = jobs.into_iter().map(Job::from).collect();
        return session.printer.emit(&views, |_| String::new());
    }
    if jobs.is_empty() {
        session.printer.note("no jobs yet; submit one with `trainctl submit JOB.toml`");
        return Ok(());
    }
    session.printer.out(&table(&session.printer, &jobs, SystemTime::now()))
}

fn table(printer: &Printer, jobs: &[JobStatus], now: SystemTime) -> String {
    let headings = ["JOB", "STATE", ">STEP", ">WORKERS", ">LOSS", ">EVICTED", "SUBMITTED"];
    let mut rows = Rows::new(printer, &headings);
    for job in jobs {
        rows.push([
            plain(&job.job),
            toned(&job.state, tell::state_tone(&job.state)),
            plain(format!("{}/{}", job.step, job.steps)),
            plain(format!("{}/{}", job.world_size, job.workers_max)),
            plain(job.loss.map_or_else(|| "-".to_owned(), format::figure)),
            plain(job.evictions),
            plain(format::ago(job.submitted_ms, now)),
        ]);
    }
    rows.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::{ColourChoice, Format};
    use std::time::Duration;

    #[test]
    fn jobs_are_listed_one_a_line_within_80_columns() {
        let jobs = [
            JobStatus {
                job: "digits".into(),
                state: "running".into(),
                step: 1234,
                steps: 2000,
                world_size: 3,
                workers_max: 4,
                loss: Some(0.031_24),
                evictions: 2,
                submitted_ms: 1_700_000_000_000,
                ..Default::default()
            },
            JobStatus {
                job: "shakespeare-long".into(),
                state: "provisioning".into(),
                steps: 100_000,
                ..Default::default()
            },
        ];
        let printer = Printer::new(Format::Text, ColourChoice::Never, false);
        let now = format::time_of_ms(1_700_000_000_000).unwrap() + Duration::from_secs(185);
        let text = table(&printer, &jobs, now);
        insta::assert_snapshot!(text, @"
        JOB               STATE              STEP  WORKERS     LOSS  EVICTED  SUBMITTED
        digits            running       1234/2000      3/4  0.03124        2  3 min ago
        shakespeare-long  provisioning   0/100000      0/0        -        0  -
        ");
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    }
}
