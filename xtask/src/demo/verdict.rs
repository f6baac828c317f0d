//! The demo's end: both runs side by side, what was decided, and whether the promise held.

use super::story::Run;
use crate::cluster::Decision;
use crate::screen;
use anyhow::{Result, ensure};
use console::{measure_text_width, style};

/// Share of the held-out digits that the model must get right.
const ACCURACY_MIN: f64 = 0.97;
const LINE_WIDTH: usize = 110;
/// What a digest starts with.
const DIGEST: &str = "blake3:";

/// Prints what was decided and how both runs ended.
pub(crate) fn tell(disturbed: &Run, undisturbed: &Run) {
    screen::say(&format!("\n{}", style("What was decided in run 1, and why").bold()));
    disturbed.decisions.iter().for_each(decided);

    screen::say("");
    row("", "Run 1", "Run 2", "");
    rule();
    row("workers", &worlds(disturbed), &worlds(undisturbed), "");
    row("evicted or killed", &disturbed.status.evictions.to_string(), &undisturbed.status.evictions.to_string(), "");
    row("steps", &disturbed.status.step.to_string(), &undisturbed.status.step.to_string(), "");
    row(
        "steps repeated",
        &disturbed.status.steps_repeated.to_string(),
        &undisturbed.status.steps_repeated.to_string(),
        "",
    );
    row("longest pause", &pause(disturbed), &pause(undisturbed), "");
    row("took", &took(disturbed), &took(undisturbed), "");
    row("held-out accuracy", &percent(disturbed), &percent(undisturbed), "");
    let verdict = match same_bits(disturbed, undisturbed) {
        true => style("bitwise equal").green().bold().to_string(),
        false => style("DIFFERENT").red().bold().to_string(),
    };
    row("state digest", &short_digest(disturbed), &short_digest(undisturbed), &verdict);
    rule();
    screen::say("");
}

/// On one line if it fits, else the reason below.
fn decided(decision: &Decision) {
    let step = format!("step {:>5}   ", decision.step);
    let (what, why) = (&decision.what, without_digits(&decision.why));
    let fits = measure_text_width(&step) + measure_text_width(what) + measure_text_width(&why) + 5 <= LINE_WIDTH;
    let gap = if fits { " · ".to_owned() } else { format!("\n  {}· ", " ".repeat(step.len())) };
    screen::say(&format!("  {}{what}{}", style(step).dim(), style(format!("{gap}{why}")).dim()));
}

/// Digests in full are for `trainctl explain`.
fn without_digits(text: &str) -> String {
    text.split(' ')
        .map(|word| if word.starts_with(DIGEST) { short(word) } else { word.to_owned() })
        .collect::<Vec<_>>()
        .join(" ")
}

/// An error where the promise didn't hold.
pub(crate) fn judge(disturbed: &Run, undisturbed: &Run) -> Result<()> {
    for run in [disturbed, undisturbed] {
        let accuracy = accuracy(run);
        ensure!(
            accuracy >= ACCURACY_MIN,
            "the model is right on {:.2} % of the held-out digits, expected {:.0} % or more",
            accuracy * 100.0,
            ACCURACY_MIN * 100.0
        );
    }
    ensure!(
        same_bits(disturbed, undisturbed),
        "the runs ended with different bits: {} and {}",
        disturbed.status.state_digest.as_deref().unwrap_or("no digest"),
        undisturbed.status.state_digest.as_deref().unwrap_or("no digest")
    );
    Ok(())
}

/// Two absent digests are not equal ones.
fn same_bits(a: &Run, b: &Run) -> bool {
    let digest = |run: &Run| run.status.state_digest.clone().filter(|digest| !digest.is_empty());
    digest(a).is_some() && digest(a) == digest(b)
}

fn accuracy(run: &Run) -> f64 {
    run.status.eval.as_ref().and_then(|eval| eval.accuracy).unwrap_or(0.0)
}

fn percent(run: &Run) -> String {
    format!("{:.2} %", accuracy(run) * 100.0)
}

fn worlds(run: &Run) -> String {
    run.world_sizes.iter().map(u32::to_string).collect::<Vec<_>>().join(" → ")
}

fn pause(run: &Run) -> String {
    match run.status.longest_pause_ms {
        0.0 => "none".to_owned(),
        pause_ms => format!("{pause_ms:.0} ms"),
    }
}

fn took(run: &Run) -> String {
    format!("{:.1} s", run.took.as_secs_f64())
}

fn short_digest(run: &Run) -> String {
    run.status.state_digest.as_deref().map_or_else(|| "none".to_owned(), short)
}

/// Enough to tell two apart; `show` has all of it.
fn short(digest: &str) -> String {
    digest.chars().take(DIGEST.len() + 12).collect()
}

fn row(name: &str, first: &str, second: &str, remark: &str) {
    let pad =
        |text: &str, width: usize| format!("{text}{}", " ".repeat(width.saturating_sub(measure_text_width(text))));
    let line = format!("  {}{}{}{remark}", style(pad(name, 20)).dim(), pad(first, 24), pad(second, 24));
    screen::say(line.trim_end());
}

fn rule() {
    screen::say(&format!("  {}", style("─".repeat(80)).dim()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Evaluation, Status};
    use std::time::Duration;

    fn run(digest: Option<&str>, accuracy: Option<f64>) -> Run {
        let status = Status {
            state: "succeeded".to_owned(),
            step: 10,
            steps: 10,
            world_size: 1,
            loss: Some(0.1),
            eval: Some(Evaluation { accuracy }),
            state_digest: digest.map(str::to_owned),
            evictions: 0,
            steps_repeated: 0,
            longest_pause_ms: 0.0,
            samples_per_s: 0.0,
            reason: None,
        };
        Run { status, world_sizes: vec![1], took: Duration::from_secs(1), decisions: Vec::new() }
    }

    #[test]
    fn equal_bits_and_a_good_model_pass() {
        let good = || run(Some("blake3:aa"), Some(0.98));
        judge(&good(), &good()).expect("the promise held");
    }

    #[test]
    fn other_bits_no_bits_and_a_poor_model_fail() {
        let good = || run(Some("blake3:aa"), Some(0.98));
        for bad in [
            run(Some("blake3:ab"), Some(0.98)),
            run(None, Some(0.98)),
            run(Some("blake3:aa"), Some(0.9)),
            run(Some("blake3:aa"), None),
        ] {
            judge(&good(), &bad).expect_err("the promise didn't hold");
        }
        judge(&run(None, Some(0.98)), &run(None, Some(0.98))).expect_err("two absent digests aren't equal");
    }
}
