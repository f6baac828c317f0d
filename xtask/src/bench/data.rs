//! What it costs to read pinned data from a bucket: steps a second of the gpt job with its text in SeaweedFS, against the
//! same job with its text on this disk.

use super::Bench;
use super::bucket::Server;
use super::figure::{Better, Figure};
use super::programs::output;
use super::training::{GPT, POOLS, steps_per_s};
use crate::cluster::{Cluster, Programs};
use crate::{screen, setup, workspace};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::process::Command;

const WORKERS: u32 = 2;
/// Of the speed on local data.
const SPEED_MIN: f64 = 0.98;
const MANIFEST: &str = "s3://data/sets/shakespeare.manifest.json";

#[derive(Deserialize)]
struct Pinned {
    digest: String,
}

/// One figure.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    setup::for_tests()?;
    let programs = Programs::build(true)?;
    let cache = tempfile::tempdir().context("make a folder")?;
    let text = cache.path().join("text");
    let zipped = workspace::root().join("jobs/data/shakespeare.txt.gz");
    std::fs::write(&text, output(Command::new("gzip").arg("-dc").arg(zipped))?).context("write the text")?;
    let server = Server::build()?.start("data", &[("sets/shakespeare.txt", &text)])?;
    let kept = cache.path().join("cache");
    let mut environment = server.environment();
    environment.push(("TRAINCTL_CACHE".to_owned(), kept.display().to_string()));
    let cluster = Cluster::start_in(&programs, POOLS, &environment)?;
    let Pinned { digest } = cluster.ask(&["data", "pin", "s3://data/sets", "-o", MANIFEST])?;
    drop(cluster);
    let far = [format!("data.manifest={MANIFEST}"), format!("data.digest={digest}")];
    let far = far.each_ref().map(String::as_str);
    let (mut ours, mut local) = (Vec::new(), Vec::new());
    for run in 0..bench.runs {
        screen::note(&format!("gpt on data in a bucket and on disk, run {} of {}", run + 1, bench.runs));
        for is_far in if run % 2 == 0 { [true, false] } else { [false, true] } {
            if is_far {
                // Each run reads it anew.
                let _ = std::fs::remove_dir_all(&kept);
                ours.push(steps_per_s(&programs, &GPT, WORKERS, &far, &environment)?);
            } else {
                local.push(steps_per_s(&programs, &GPT, WORKERS, &[], &environment)?);
            }
        }
    }
    let figure = Figure::new("training_gpt_data_in_bucket", "steps/s", Better::More, &ours);
    bench.tell(figure.against("local_data", &ours, &local).ratio_within(SPEED_MIN))
}
