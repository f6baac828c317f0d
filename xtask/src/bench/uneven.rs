//! What a slow worker costs: the gpt job on two workers of which one takes four times as long for each logical shard, with
//! shards by measured speed and with even ones, against two that are not slowed.

use super::Bench;
use super::figure::{Better, Figure};
use super::training::{Model, steps_per_s};
use crate::cluster::Programs;
use crate::screen;
use anyhow::Result;
use std::time::Duration;

/// Enough to be divided.
const SHARDS: &str = "train.logical_shards=16";
const SLOW: (&str, &str) = ("TRAINCTL_SLOW", "w2=4");
/// Until shards have moved, which takes some measured steps.
const WARM_UP: Duration = Duration::from_secs(12);
const GPT: Model = Model { name: "gpt", warm_up: WARM_UP, window: Duration::from_secs(16) };
/// Of full speed. The best there is with whole shards: 3 on the slow worker, 13 on the fast one, whose times a step then
/// takes instead of 8. That is 0.615; evenly divided it is 0.25.
const SPEED_MIN: f64 = 0.5;

/// Two figures.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let programs = Programs::build(true)?;
    let slow = [(SLOW.0.to_owned(), SLOW.1.to_owned())];
    let sides = [("even", &slow[..]), ("by-speed", &slow[..]), ("by-speed", &[])];
    let mut speeds = [const { Vec::new() }; 3];
    for run in 0..bench.runs {
        screen::note(&format!("a worker at a quarter of its speed, run {} of {}", run + 1, bench.runs));
        let mut order = [0, 1, 2];
        if run % 2 == 1 {
            order.reverse();
        }
        for side in order {
            let (shards, environment) = sides[side];
            let shards = format!("resources.shards={shards}");
            speeds[side].push(steps_per_s(&programs, &GPT, 2, &[SHARDS, &shards], environment)?);
        }
    }
    let [even, by_speed, full] = &speeds;
    let figure = |name: &str, ours: &[f64]| {
        Figure::new(&format!("uneven_gpt_{name}"), "steps/s", Better::More, ours).against("full_speed", ours, full)
    };
    bench.tell(figure("even", even))?;
    bench.tell(figure("by_speed", by_speed).ratio_within(SPEED_MIN))
}
