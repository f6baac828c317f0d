//! `explain`: what was decided about a job and why, oldest first.

use crate::cli::Session;
use crate::failure::Failure;
use crate::format;
use crate::printer::Printer;
use crate::table::{Rows, Tone, plain, toned};
use crate::tell;
use crate::view::{Decision, Explained, Job};
use clap::Args;
use trainctl_proto::v1;

/// Arguments of `explain`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  trainctl explain digits\n  \
                        trainctl explain digits --output json | jq -r '.decisions[].kind'")]
pub(crate) struct ExplainArgs {
    /// Name of the job
    #[arg(value_name = "JOB")]
    job: String,
}

/// Explains.
pub(crate) async fn run(session: &Session, args: ExplainArgs) -> Result<(), Failure> {
    let reply = session.reach.connect().await?.explain(&args.job).await?;
    let explained = Explained {
        job: Job::from(reply.job.clone().unwrap_or_default()),
        decisions: reply.decisions.iter().cloned().map(Decision::from).collect(),
    };
    session.printer.emit(&explained, |printer| text(printer, &reply))
}

fn text(printer: &Printer, reply: &v1::ExplainReply) -> String {
    let mut text = reply.job.as_ref().map(|job| format!("{}\n", tell::headline(printer, job))).unwrap_or_default();
    if reply.decisions.is_empty() {
        text.push_str("nothing has been decided yet\n");
        return text;
    }
    let mut rows = Rows::new(printer, &["AT (UTC)", ">GEN", ">STEP", "DECIDED", "BECAUSE"]);
    for decision in &reply.decisions {
        rows.push([
            toned(format::clock(decision.at_ms), Tone::Faint),
            plain(decision.generation),
            plain(decision.step),
            plain(&decision.what),
            plain(tell::first_line(&decision.why)),
        ]);
    }
    text.push('\n');
    text.push_str(&rows.render());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::{ColourChoice, Format};

    #[test]
    fn each_decision_has_its_reason_beside_it() {
        let decision = |at_ms, generation, step, what: &str, why: &str| v1::Decision {
            at_ms,
            generation,
            step,
            kind: String::new(),
            what: what.into(),
            why: why.into(),
        };
        let reply = v1::ExplainReply {
            job: Some(v1::JobStatus {
                job: "digits".into(),
                state: "running".into(),
                step: 812,
                steps: 2000,
                ..Default::default()
            }),
            decisions: vec![
                decision(1_700_000_000_250, 1, 0, "start with w1, w2", "all launched workers are attached"),
                decision(1_700_000_007_100, 2, 812, "go on without w2", "its instance got an eviction notice of 5 s"),
            ],
        };
        let printer = Printer::new(Format::Text, ColourChoice::Never, false);
        insta::assert_snapshot!(text(&printer, &reply), @"
        digits  running  step 812 of 2000

        AT (UTC)      GEN  STEP  DECIDED            BECAUSE
        22:13:20.250    1     0  start with w1, w2  all launched workers are attached
        22:13:27.100    2   812  go on without w2   its instance got an eviction notice of 5 s
        ");
    }
}
