//! `logs`: what a job's workers wrote, those that are gone included.

use crate::cli::Session;
use crate::failure::{Class, Failure};
use crate::printer::Printer;
use clap::Args;
use std::collections::BTreeMap;
use trainctl_proto::v1::LogsRequest;

/// Arguments of `logs`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  trainctl logs digits --tail 20\n  trainctl logs digits -f --worker w3")]
pub(crate) struct LogsArgs {
    /// Name of the job
    #[arg(value_name = "JOB")]
    job: String,
    /// Go on printing until the job has ended
    #[arg(short, long)]
    follow: bool,
    /// Only of this worker
    #[arg(long, value_name = "WORKER")]
    worker: Option<String>,
    /// Only the last N lines of each worker
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    tail: Option<u32>,
}

/// Prints until the coordinator has no more, or Ctrl-C.
pub(crate) async fn run(session: &Session, args: LogsArgs) -> Result<(), Failure> {
    let mut coordinator = session.reach.connect().await?;
    let worker = args.worker.clone();
    let one_worker = worker.is_some();
    let job = args.job.clone();
    let request = LogsRequest {
        job: args.job,
        follow: args.follow,
        worker: args.worker.unwrap_or_default(),
        tail: args.tail.unwrap_or(0),
    };
    let mut chunks = coordinator.logs(request).await?;
    let mut lines = Lines::default();
    let mut silent = true;
    loop {
        let chunk = tokio::select! {
            chunk = chunks.message() => chunk.map_err(|status| coordinator.refusal(&status))?,
            _ = tokio::signal::ctrl_c() => return print(&session.printer, one_worker, lines.rest()),
        };
        let Some(chunk) = chunk else { break };
        silent = false;
        print(&session.printer, one_worker, lines.add(&chunk.worker, &chunk.text))?;
    }
    match worker {
        Some(worker) if silent => Err(wrote_nothing(&job, &worker)),
        _ => print(&session.printer, one_worker, lines.rest()),
    }
}

/// Workers say how they start, so one without a line was none of the job's, or has only just been launched.
fn wrote_nothing(job: &str, worker: &str) -> Failure {
    Failure::new(Class::Refused, format!("job {job} has no output of a worker {worker:?}"))
        .hint(format!("`trainctl explain {job}` names its workers, `trainctl logs {job}` prints what they all wrote"))
}

/// Joins chunks into whole lines, each worker's apart, so that the lines of two never run into each other.
#[derive(Default)]
struct Lines {
    begun: BTreeMap<String, Vec<u8>>,
}

/// A worker's id and one line without its end.
type Line = (String, String);

impl Lines {
    /// The lines that this chunk completes.
    fn add(&mut self, worker: &str, text: &[u8]) -> Vec<Line> {
        let begun = self.begun.entry(worker.to_owned()).or_default();
        begun.extend_from_slice(text);
        let Some(end) = begun.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let rest = begun.split_off(end + 1);
        let whole = std::mem::replace(begun, rest);
        String::from_utf8_lossy(&whole).lines().map(|line| (worker.to_owned(), line.to_owned())).collect()
    }

    /// What was never ended.
    fn rest(&mut self) -> Vec<Line> {
        let begun = std::mem::take(&mut self.begun);
        begun
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(worker, text)| (worker, String::from_utf8_lossy(&text).into_owned()))
            .collect()
    }
}

/// Lines with their worker before them, unless only one was asked for; as JSON one object a line.
fn print(printer: &Printer, one_worker: bool, lines: Vec<Line>) -> Result<(), Failure> {
    let mut text = String::new();
    for (worker, line) in lines {
        if printer.json() {
            printer.emit_line(&serde_json::json!({ "worker": worker, "line": line }))?;
        } else if one_worker {
            text.push_str(&format!("{line}\n"));
        } else {
            text.push_str(&format!("{} {line}\n", printer.faint(&format!("{worker:>4} |"))));
        }
    }
    if text.is_empty() { Ok(()) } else { printer.out(&text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(worker: &str, line: &str) -> Line {
        (worker.to_owned(), line.to_owned())
    }

    #[test]
    fn lines_of_two_workers_stay_apart() {
        let mut lines = Lines::default();
        assert_eq!(lines.add("w1", b"half"), []);
        assert_eq!(lines.add("w2", b"one\ntwo\nthr"), [pair("w2", "one"), pair("w2", "two")]);
        assert_eq!(lines.add("w1", b" and half\n"), [pair("w1", "half and half")]);
        assert_eq!(lines.rest(), [pair("w2", "thr")]);
        assert_eq!(lines.rest(), []);
    }

    #[test]
    fn a_character_cut_in_two_is_put_together_again() {
        let mut lines = Lines::default();
        assert_eq!(lines.add("w1", &"é\n".as_bytes()[..1]), []);
        assert_eq!(lines.add("w1", &"é\n".as_bytes()[1..]), [pair("w1", "é")]);
    }
}
