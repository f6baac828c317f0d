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
    /// Which way is better.
    #[serde(default)]
    better: Better,
    /// `ours / peer`: the median over the runs, each taken within one run.
    ratio: Option<f64>,
    /// What our runs, or the ratio, must keep to. Absent: measured for its own sake.
    target: Option<f64>,
    /// What the target is for.
    #[serde(default)]
    target_of: TargetOf,
    /// Whether the target was kept to; absent also where a target is for a ratio and no peer ran.
    pub(crate) met: Option<bool>,
    /// Of ours.
    runs: usize,
    /// The best of our runs and the worst.
    spread: [f64; 2],
    /// The best of the peer's runs and the worst.
    #[serde(default)]
    peer_spread: Option<[f64; 2]>,
    /// The best ratio of a run and the worst.
    #[serde(default)]
    ratio_spread: Option<[f64; 2]>,
}

#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    #[default]
    Less,
    More,
}

#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TargetOf {
    /// Each of our runs.
    #[default]
    Ours,
    /// The median ratio: a run of the peer can be a bad one as well.
    Ratio,
}

impl Better {
    fn keeps(self, value: f64, target: f64) -> bool {
        match self {
            Self::Less => value <= target,
            Self::More => value >= target,
        }
    }

    fn sign(self) -> char {
        match self {
            Self::Less => '≤',
            Self::More => '≥',
        }
    }

    /// The median, and the best and the worst. At least one run.
    fn summary(self, runs: &[f64]) -> (f64, [f64; 2]) {
        assert!(!runs.is_empty(), "a figure needs a run");
        let mut sorted = runs.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (least, most, middle) = (sorted[0], sorted[sorted.len() - 1], sorted.len() / 2);
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        (median, if self == Self::Less { [least, most] } else { [most, least] })
    }
}

impl Figure {
    /// From our runs. At least one.
    pub(crate) fn new(name: &str, unit: &str, better: Better, runs: &[f64]) -> Self {
        let (ours, spread) = better.summary(runs);
        Self {
            name: name.to_owned(),
            ours,
            peer: None,
            unit: unit.to_owned(),
            better,
            ratio: None,
            target: None,
            target_of: TargetOf::Ours,
            met: None,
            runs: runs.len(),
            spread,
            peer_spread: None,
            ratio_spread: None,
        }
    }

    /// Each run must keep to this.
    pub(crate) fn within(mut self, target: f64) -> Self {
        self.target = Some(target);
        self.target_of = TargetOf::Ours;
        self.met = Some(self.better.keeps(self.spread[1], target));
        self
    }

    /// Beside a peer's runs, the n-th of which was made in turn with our n-th.
    pub(crate) fn against(mut self, peer_name: &str, runs: &[f64], peer_runs: &[f64]) -> Self {
        let ratios: Vec<f64> = runs.iter().zip(peer_runs).map(|(ours, peer)| ours / peer).collect();
        let (ratio, ratio_spread) = self.better.summary(&ratios);
        let (peer, peer_spread) = self.better.summary(peer_runs);
        self.name = format!("{}_vs_{peer_name}", self.name);
        (self.ratio, self.ratio_spread) = (Some(ratio), Some(ratio_spread));
        (self.peer, self.peer_spread) = (Some(peer), Some(peer_spread));
        self
    }

    /// The ratio must keep to this.
    pub(crate) fn ratio_within(mut self, target: f64) -> Self {
        self.target = Some(target);
        self.target_of = TargetOf::Ratio;
        self.met = self.ratio.map(|ratio| self.better.keeps(ratio, target));
        self
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
        let times = if self.target_of == TargetOf::Ratio { "x" } else { "" };
        let target = self.target.map(|target| format!("{}{}{times}", self.better.sign(), short(Some(target))));
        let mut spread = range(self.spread);
        if let Some(ratios) = self.ratio_spread {
            spread += &format!(", ratio {}", range(ratios));
        }
        line([
            self.name.clone(),
            short(Some(self.ours)),
            short(self.peer),
            self.unit.clone(),
            short(self.ratio),
            target.unwrap_or_else(|| "-".to_owned()),
            met.to_owned(),
            self.runs.to_string(),
            spread,
        ])
    }
}

fn line([name, ours, peer, unit, ratio, target, met, runs, spread]: [String; 9]) -> String {
    format!("{name:<54} {ours:>9} {peer:>9} {unit:<7} {ratio:>7} {target:>8} {met:<3} {runs:>4}  {spread}")
}

fn range([best, worst]: [f64; 2]) -> String {
    format!("{} to {}", short(Some(best)), short(Some(worst)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_told_and_the_worst_run_decides() {
        let figure = Figure::new("pause", "ms", Better::Less, &[30.0, 10.0, 20.0]).within(25.0);
        assert_eq!((figure.ours, figure.spread, figure.met), (20.0, [10.0, 30.0], Some(false)));
        let figure = Figure::new("speed", "steps/s", Better::More, &[10.0, 20.0]).within(10.0);
        assert_eq!((figure.ours, figure.spread, figure.met), (15.0, [20.0, 10.0], Some(true)));
        assert_eq!(Figure::new("pause", "ms", Better::Less, &[10.0]).met, None);
    }

    #[test]
    fn a_ratio_is_taken_within_each_run() {
        // A busy moment of the machine slowed both in the second run.
        let (ours, theirs) = ([300.0, 30.0, 290.0], [100.0, 10.0, 100.0]);
        let figure = Figure::new("speed", "steps/s", Better::More, &ours).against("them", &ours, &theirs);
        assert_eq!((figure.name.as_str(), figure.peer), ("speed_vs_them", Some(100.0)));
        assert_eq!((figure.ratio, figure.ratio_spread), (Some(3.0), Some([3.0, 2.9])));
        assert_eq!(figure.clone().ratio_within(3.0).met, Some(true));
        assert_eq!(figure.ratio_within(3.1).met, Some(false));
    }

    #[test]
    fn a_ratio_is_not_judged_without_a_peer() {
        let figure = Figure::new("speed", "steps/s", Better::More, &[1.0]).ratio_within(1.5);
        assert_eq!((figure.target, figure.met), (Some(1.5), None));
    }
}
