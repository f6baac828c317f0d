//! What a followed job looks like: a block that is drawn over and over on a terminal, or lines at its changes where
//! there is none. Both are functions of the status alone; drawing is left to the caller.

use crate::format;
use crate::printer::Printer;
use crate::table::Tone;
use crate::tell::{self, first_line};
use std::time::Duration;
use trainctl_proto::v1::{Decision, JobStatus};

/// Decisions that are shown below the figures.
const DECISIONS_SHOWN: usize = 6;
const BAR_WIDTH_MIN: usize = 8;
const BAR_WIDTH_MAX: usize = 40;

/// The block for a terminal this many columns wide; its last line has no end.
pub(crate) fn frame(printer: &Printer, job: &JobStatus, decisions: &[Decision], width: usize) -> String {
    let mut lines = vec![head(printer, job, width), figures(job), troubles(job)];
    let newest = &decisions[decisions.len().saturating_sub(DECISIONS_SHOWN)..];
    if !newest.is_empty() {
        lines.push(String::new());
    }
    for decision in newest {
        let at = printer.tone_live(&time(decision), Tone::Faint);
        let why = printer.tone_live(&because(decision), Tone::Faint);
        lines.push(format!("  {at}  {}{why}", decision.what));
    }
    let cut = |line: &String| console::truncate_str(line, width, "…").into_owned();
    lines.iter().map(cut).collect::<Vec<_>>().join("\n")
}

/// Name, state, bar, step.
fn head(printer: &Printer, job: &JobStatus, width: usize) -> String {
    let share = if job.steps == 0 { 0.0 } else { job.step as f64 / job.steps as f64 };
    let count = format!("{}/{}  {:.0} %", job.step, job.steps, (share * 100.0).floor());
    let taken = job.job.chars().count() + job.state.chars().count() + count.len() + 6;
    let bar_width = width.saturating_sub(taken).min(BAR_WIDTH_MAX);
    let name = printer.paint_err(&job.job, "1");
    let state = printer.tone_live(&job.state, tell::state_tone(&job.state));
    if bar_width < BAR_WIDTH_MIN {
        return format!("{name}  {state}  {count}");
    }
    let (done, rest) = bar(share, bar_width);
    let done = printer.tone_live(&done, tell::state_tone(&job.state));
    format!("{name}  {state}  {done}{}  {count}", printer.tone_live(&rest, Tone::Faint))
}

/// The done and the open part of a bar, together `width` columns.
fn bar(share: f64, width: usize) -> (String, String) {
    let done = ((share.clamp(0.0, 1.0) * width as f64).floor() as usize).min(width);
    ("━".repeat(done), "─".repeat(width - done))
}

fn figures(job: &JobStatus) -> String {
    let mut parts = Vec::new();
    if let Some(loss) = job.loss {
        parts.push(format!("loss {}", format::figure(loss)));
    }
    if job.samples_per_s > 0.0 {
        parts.push(format!("{} samples/s", format::rate(job.samples_per_s)));
    }
    if job.eta_s > 0.0 {
        parts.push(format!("ETA {}", format::duration(Duration::try_from_secs_f64(job.eta_s).unwrap_or_default())));
    }
    if let Some(eval) = &job.eval {
        parts.push(match eval.accuracy {
            Some(accuracy) => format!("accuracy {:.2} %", accuracy * 100.0),
            None => format!("held-out loss {}", format::figure(eval.loss)),
        });
    }
    if let Some(checkpoint) = job.checkpoints.last() {
        parts.push(format!("saved at {}", checkpoint.step));
    }
    if parts.is_empty() && !job.reason.is_empty() {
        parts.push(first_line(&job.reason).to_owned());
    }
    format!("  {}", parts.join("  "))
}

fn troubles(job: &JobStatus) -> String {
    let mut parts = vec![
        format!("{} of {}", job.world_size, format::count(job.workers_max.into(), "worker")),
        format!("gen {}", job.generation),
        format::count(job.evictions.into(), "eviction"),
    ];
    if job.steps_repeated > 0 {
        parts.push(format!("{} repeated", format::count(job.steps_repeated, "step")));
    }
    if job.longest_pause_ms > 0.0 {
        parts.push(format!("longest pause {}", format::duration_ms(job.longest_pause_ms)));
    }
    format!("  {}", parts.join("  "))
}

/// To the second.
fn time(decision: &Decision) -> String {
    format::clock(decision.at_ms).chars().take(8).collect()
}

fn because(decision: &Decision) -> String {
    if decision.why.is_empty() { String::new() } else { format!(", because {}", first_line(&decision.why)) }
}

/// A line when something changed that is worth one: state, members, evictions, an evaluation, a checkpoint, another
/// tenth of the steps.
pub(crate) fn change(before: Option<&JobStatus>, now: &JobStatus) -> Option<String> {
    let tenth = |job: &JobStatus| job.step.saturating_mul(10).checked_div(job.steps).unwrap_or(0);
    let evaluated = |job: &JobStatus| job.eval.as_ref().map(|eval| eval.step);
    let saved = |job: &JobStatus| job.checkpoints.last().map(|checkpoint| checkpoint.step);
    if let Some(before) = before
        && before.state == now.state
        && before.world_size == now.world_size
        && before.generation == now.generation
        && before.evictions == now.evictions
        && tenth(before) == tenth(now)
        && evaluated(before) == evaluated(now)
        && saved(before) == saved(now)
    {
        return None;
    }
    let mut line = format!("{} {}: step {} of {}", now.job, now.state, now.step, now.steps);
    if let Some(loss) = now.loss {
        line.push_str(&format!(", loss {}", format::figure(loss)));
    }
    if now.world_size > 0 {
        let workers = format::count(now.world_size.into(), "worker");
        line.push_str(&format!(", {workers}, generation {}", now.generation));
    }
    if let Some(eval) = &now.eval
        && before.is_none_or(|before| evaluated(before) != evaluated(now))
    {
        line.push_str(&format!(", held out: {}", tell::evaluation(eval)));
    }
    if let Some(step) = saved(now)
        && before.is_none_or(|before| saved(before) != saved(now))
    {
        line.push_str(&format!(", saved at step {step}"));
    }
    if matches!(now.state.as_str(), "failed" | "cancelled") && !now.reason.is_empty() {
        line.push_str(&format!(" ({})", first_line(&now.reason)));
    }
    Some(line)
}

/// A decision as a line.
pub(crate) fn decided(decision: &Decision) -> String {
    format!("  {} {}{}", time(decision), decision.what, because(decision))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::{ColourChoice, Format};
    use trainctl_proto::v1::{Checkpoint, Evaluation};

    fn running() -> JobStatus {
        JobStatus {
            job: "digits".into(),
            state: "running".into(),
            step: 1234,
            steps: 2000,
            world_size: 3,
            generation: 7,
            loss: Some(0.031_24),
            evictions: 2,
            steps_repeated: 1,
            longest_pause_ms: 212.0,
            samples_per_s: 12_430.0,
            workers_min: 1,
            workers_max: 4,
            eta_s: 12.0,
            checkpoints: vec![Checkpoint { step: 1000, ..Default::default() }],
            ..Default::default()
        }
    }

    fn evicted() -> Decision {
        Decision {
            at_ms: 1_700_000_007_100,
            what: "go on without w2".into(),
            why: "its instance got an eviction notice of 5 s, and two more words to make the line long".into(),
            ..Default::default()
        }
    }

    #[test]
    fn the_block_fits_any_terminal() {
        let printer = Printer::new(Format::Text, ColourChoice::Never, false);
        insta::assert_snapshot!(frame(&printer, &running(), &[evicted()], 80), @"
        digits  running  ━━━━━━━━━━━━━━━━━━━━━━━━────────────────  1234/2000  61 %
          loss 0.03124  12.4k samples/s  ETA 12 s  saved at 1000
          3 of 4 workers  gen 7  2 evictions  1 step repeated  longest pause 212 ms

          22:13:27  go on without w2, because its instance got an eviction notice of 5 …
        ");
        for width in [20, 40, 80, 200] {
            for line in frame(&printer, &running(), &[evicted()], width).lines() {
                assert!(console::measure_text_width(line) <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn a_block_before_the_first_step_says_what_it_waits_for() {
        let printer = Printer::new(Format::Text, ColourChoice::Never, false);
        let queued = JobStatus {
            job: "digits".into(),
            state: "queued".into(),
            steps: 0,
            reason: "no pool has capacity".into(),
            workers_max: 1,
            ..Default::default()
        };
        insta::assert_snapshot!(frame(&printer, &queued, &[], 80), @"
            digits  queued  ────────────────────────────────────────  0/0  0 %
              no pool has capacity
              0 of 1 worker  gen 0  0 evictions
            ");
    }

    #[test]
    fn the_figures_of_a_long_run_fit_80_columns() {
        let printer = Printer::new(Format::Text, ColourChoice::Never, false);
        let long = JobStatus {
            loss: Some(5.16e-5),
            samples_per_s: 166_000.0,
            eta_s: 581.0,
            eval: Some(Evaluation { step: 20_000, loss: 0.02, accuracy: Some(0.9944) }),
            checkpoints: vec![Checkpoint { step: 20_500, ..Default::default() }],
            ..running()
        };
        let text = frame(&printer, &long, &[], 80);
        assert!(text.contains("saved at 20500") && !text.contains('…'), "{text}");
    }

    #[test]
    fn a_decision_takes_one_line() {
        let quoting = Decision { why: "w1 says: not enough memory\nframe #0: c10::alloc".into(), ..evicted() };
        assert_eq!(decided(&quoting), "  22:13:27 go on without w2, because w1 says: not enough memory");
        let printer = Printer::new(Format::Text, ColourChoice::Never, false);
        assert_eq!(frame(&printer, &running(), &[quoting], 200).lines().count(), 5);
    }

    #[test]
    fn only_changes_are_worth_a_line() {
        let before = running();
        assert_eq!(change(Some(&before), &JobStatus { step: 1299, loss: Some(0.03), ..before.clone() }), None);
        let smaller = JobStatus { world_size: 2, generation: 8, ..before.clone() };
        assert_eq!(
            change(Some(&before), &smaller).as_deref(),
            Some("digits running: step 1234 of 2000, loss 0.03124, 2 workers, generation 8")
        );
        let ended = JobStatus {
            state: "failed".into(),
            world_size: 0,
            loss: None,
            reason: "loss is not finite\nhint: lower lr".into(),
            eval: Some(Evaluation { step: 1234, loss: 0.5, accuracy: None }),
            ..before.clone()
        };
        assert_eq!(
            change(Some(&before), &ended).as_deref(),
            Some("digits failed: step 1234 of 2000, held out: loss 0.5000 (loss is not finite)")
        );
        assert!(change(None, &before).is_some());
    }
}
