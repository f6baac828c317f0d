//! One exchange of a vector of float32 between workers of this host, against Gloo's all-reduce of the same size. In each
//! run every transport and mode of ours has its turn beside Gloo's; only the run's own numbers make a ratio.

use super::figure::{Better, Figure};
use super::peers::Ranks;
use super::{Bench, programs};
use crate::cluster::check_interrupted;
use crate::screen;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const KIB_4: f64 = 4.0 / 1024.0;

/// So many workers, these sizes.
const GROUPS: [(u32, &[f64]); 2] = [(2, &[KIB_4, 1.0, 4.0, 25.0, 100.0]), (4, &[1.0, 25.0])];

/// How ours exchanges.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    transport: &'static str,
    mode: &'static str,
    encrypted: bool,
}

const WAYS: [Way; 5] = [
    Way { transport: "tcp", mode: "exact", encrypted: false },
    Way { transport: "shared", mode: "exact", encrypted: false },
    Way { transport: "tcp", mode: "fast", encrypted: false },
    Way { transport: "shared", mode: "fast", encrypted: false },
    Way { transport: "tcp", mode: "exact", encrypted: true },
];

impl Way {
    /// What the ratio to Gloo has to be: a part of its time, or a multiple of its bandwidth. Gloo encrypts nothing, and
    /// the fast mode is beside the exact one for comparison.
    fn target(self, world: u32, mib: f64) -> Option<f64> {
        match (self.mode, self.transport) {
            _ if self.encrypted => None,
            ("exact", "tcp" | "shared") if is_latency(mib) => Some(0.25),
            ("exact", "tcp" | "shared") if world > 2 => Some(2.0),
            ("exact", "tcp") => Some(1.5),
            ("exact", "shared") => Some(3.0),
            _ => None,
        }
    }
}

/// A vector so short that its time, not its bandwidth, tells.
fn is_latency(mib: f64) -> bool {
    mib < 1.0
}

/// Milliseconds of one exchange in each run.
#[derive(Default)]
struct Times {
    ours: BTreeMap<Way, Vec<f64>>,
    gloo: Vec<f64>,
}

#[derive(Deserialize)]
struct Ours {
    /// Milliseconds.
    ours: f64,
}

#[derive(Deserialize)]
struct Gloo {
    ms: f64,
}

/// All sizes and ways.
pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let program = programs::build_bench("trainer-collective", "allreduce")?;
    for (world, sizes) in GROUPS {
        let start = |python| Ranks::start(python, "gloo_allreduce.py", &[], world);
        let mut gloo = bench.peers.as_ref().map(start).transpose()?;
        for mib in sizes {
            screen::note(&format!("{world} workers, {}", size(*mib)));
            let mut times = Times::default();
            for _ in 0..bench.runs {
                for way in WAYS {
                    check_interrupted()?;
                    times.ours.entry(way).or_default().push(ours(&program, way, world, *mib)?);
                }
                if let Some(gloo) = &mut gloo {
                    times.gloo.push(gloo.ask::<Gloo>(&mib.to_string())?.ms);
                }
            }
            for (way, ours) in &times.ours {
                bench.tell(figure(*way, world, *mib, ours, &times.gloo))?;
            }
        }
    }
    Ok(())
}

fn ours(program: &Path, way: Way, world: u32, mib: f64) -> Result<f64> {
    let mut command = Command::new(program);
    command.args(["--world", &world.to_string(), "--mib", &mib.to_string()]).args([
        "--transport",
        way.transport,
        "--mode",
        way.mode,
        "--runs",
        "1",
        "--output",
        "json",
    ]);
    if way.encrypted {
        command.arg("--tls");
    }
    let line = programs::output(&mut command)?;
    Ok(serde_json::from_str::<Ours>(&line).with_context(|| format!("read the time {line}"))?.ours)
}

/// A time for a short vector, bytes of the vector divided by the time for others.
fn figure(way: Way, world: u32, mib: f64, ours_ms: &[f64], gloo_ms: &[f64]) -> Figure {
    let (transport, mode, tls) = (way.transport, way.mode, if way.encrypted { "_tls" } else { "" });
    let name = format!("allreduce_{transport}{tls}_{mode}_{world}_workers_{}", size(mib).replace(' ', "_"));
    let (unit, better) = if is_latency(mib) { ("ms", Better::Less) } else { ("GiB/s", Better::More) };
    let told = |ms: &f64| if is_latency(mib) { *ms } else { mib / 1024.0 / (ms / 1e3) };
    let (ours, gloo): (Vec<f64>, Vec<f64>) = (ours_ms.iter().map(told).collect(), gloo_ms.iter().map(told).collect());
    let mut figure = Figure::new(&name, unit, better, &ours);
    if !gloo.is_empty() {
        figure = figure.against("gloo", &ours, &gloo);
    }
    way.target(world, mib).map_or(figure.clone(), |target| figure.ratio_within(target))
}

fn size(mib: f64) -> String {
    if mib < 1.0 { format!("{} kib", mib * 1024.0) } else { format!("{mib} mib") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidth_is_told_for_long_vectors_and_time_for_short_ones() {
        let way = WAYS[0];
        let long = figure(way, 2, 4.0, &[2.0], &[3.2]);
        assert_eq!(long.name, "allreduce_tcp_exact_2_workers_4_mib_vs_gloo");
        assert_eq!(long.met, Some(true), "1.6 times the bandwidth");
        let short = figure(way, 2, KIB_4, &[0.5], &[1.0]);
        assert_eq!(short.name, "allreduce_tcp_exact_2_workers_4_kib_vs_gloo");
        assert_eq!(short.met, Some(false), "half the time");
    }
}
