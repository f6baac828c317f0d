//! One measured figure, and what it is made from: several runs, never one.

use serde::{Deserialize, Serialize};

/// As `--output json` prints it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// What was measured, and against whom.
    pub(crate) name: String,
    /// Median of our runs.
    ours: f64,
    /// Median of the peer's runs; absent: no peer ran.
    peer: Option<f64>,
    /// Of `ours` and `peer`.
    unit: String,
    /// `ours / peer`.
    ratio: Option<f64>,
    /// The most that our runs may show, or, where a peer's runs are part of the bench, that the ratio may be. Absent:
    /// measured for its own sake.
    target: Option<f64>,
    /// Whether the target was kept to.
    pub(crate) met: Option<bool>,
    /// Of ours.
    runs: usize,
    /// The best of our runs and the worst.
    spread: [f64; 2],
}

impl Figure {
    /// From the runs of a figure where less is better. At least one run.
    pub(crate) fn less_is_better(name: &str, unit: &str, runs: &[f64], target: Option<f64>) -> Self {
        let sorted = sorted(runs);
        let (best, worst) = (sorted[0], sorted[sorted.len() - 1]);
        let met = target.map(|target| worst <= target);
        let ours = median(&sorted);
        let (name, unit, spread) = (name.to_owned(), unit.to_owned(), [best, worst]);
        Self { name, ours, peer: None, unit, ratio: None, target, met, runs: runs.len(), spread }
    }

    /// The same runs beside a peer's.
    pub(crate) fn against(&self, peer_name: &str, peer_runs: &[f64]) -> Self {
        let peer = median(&sorted(peer_runs));
        let name = format!("{}_vs_{peer_name}", self.name);
        Self { name, peer: Some(peer), ratio: Some(self.ours / peer), ..self.clone() }
    }

    /// Above [`Figure::line`]s.
    pub(crate) fn heading() -> String {
        line(["figure", "ours", "peer", "unit", "ratio", "target", "met", "runs", "spread"].map(str::to_owned))
    }

    /// One line for people.
    pub(crate) fn line(&self) -> String {
        let met = match self.met {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        };
        let [best, worst] = self.spread;
        let spread = format!("{} to {}", short(Some(best)), short(Some(worst)));
        line([
            self.name.clone(),
            short(Some(self.ours)),
            short(self.peer),
            self.unit.clone(),
            short(self.ratio),
            short(self.target),
            met.to_owned(),
            self.runs.to_string(),
            spread,
        ])
    }
}

fn line([name, ours, peer, unit, ratio, target, met, runs, spread]: [String; 9]) -> String {
    format!("{name:<54} {ours:>9} {peer:>9} {unit:<5} {ratio:>7} {target:>7} {met:<3} {runs:>4}  {spread}")
}

/// Four digits that count.
fn short(number: Option<f64>) -> String {
    let Some(number) = number else { return "-".to_owned() };
    let decimals = if number >= 1000.0 {
        0
    } else if number >= 10.0 {
        1
    } else {
        3
    };
    format!("{number:.decimals$}")
}

fn sorted(runs: &[f64]) -> Vec<f64> {
    assert!(!runs.is_empty(), "a figure needs a run");
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_told_and_the_worst_run_decides() {
        let figure = Figure::less_is_better("pause", "ms", &[30.0, 10.0, 20.0], Some(25.0));
        assert_eq!((figure.ours, figure.spread, figure.met), (20.0, [10.0, 30.0], Some(false)));
        assert_eq!(Figure::less_is_better("pause", "ms", &[10.0, 20.0], Some(25.0)).ours, 15.0);
        assert_eq!(Figure::less_is_better("pause", "ms", &[10.0], None).met, None);
    }

    #[test]
    fn a_ratio_is_ours_over_the_peers() {
        let figure = Figure::less_is_better("pause", "ms", &[50.0], Some(100.0)).against("them", &[300.0, 100.0]);
        assert_eq!((figure.name.as_str(), figure.peer, figure.ratio), ("pause_vs_them", Some(200.0), Some(0.25)));
        assert_eq!(figure.met, Some(true));
    }
}
