//! The figures of docs/guides/plan.md: `cargo run --release -p coordinator-simulation --example study -- HOURS WORKERS
//! DEADLINE_HOURS WINDOWS TRACE..`. With `SHARDS=n`: so many logical shards, else one a worker. With `WINDOW=n` in the environment: what was decided in that window of the first
//! trace, and why.

use coordinator_simulation::{Conditions, Market, Trace, Workload, explain_scheduler, study};
use std::error::Error;
use std::io::Write as _;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [hours, workers, deadline, windows, paths @ ..] = args.as_slice() else {
        return Err("expected HOURS WORKERS DEADLINE_HOURS WINDOWS TRACE..".into());
    };
    let (hours, workers): (f64, u32) = (hours.parse()?, workers.parse()?);
    let traces = paths.iter().map(|path| Trace::load(Path::new(path))).collect::<Result<Vec<_>, _>>()?;
    let spec = trainctl_jobs::parse(&job((hours * 360.0) as u64, workers, deadline.parse()?), "job.toml")?;
    let conditions = Conditions::default();
    let workload = Workload::new(&spec, 10.0, workers, &conditions)?;
    let mut out = std::io::stdout().lock();
    if let Ok(window) = std::env::var("WINDOW") {
        let (windows, window): (f64, f64) = (windows.parse()?, window.parse()?);
        let offset_ms = ((window + 0.5) / windows * traces[0].length_ms as f64) as u64;
        let horizon_ms = 2 * workload.deadline_ms.unwrap_or(3_600_000);
        let market = Market::window(&traces[0], offset_ms, horizon_ms);
        let (outcome, decisions) = explain_scheduler(&market, &workload, &conditions, horizon_ms);
        for (at_ms, what, why) in decisions {
            writeln!(out, "{:>8.1} min  {what}: {why}", at_ms as f64 / 60e3)?;
        }
        return Ok(writeln!(out, "{outcome:?}")?);
    }
    let started = std::time::Instant::now();
    let found = study(&traces, windows.parse()?, &workload, &conditions, &|_| ());
    for row in &found.policies {
        let (cost, finish) = (row.cost_usd, row.finish_seconds.map_or((0.0, 0.0), |at| (at.median, at.p95)));
        writeln!(
            out,
            "{:<16} {:>7.2} {:>7.2}-{:<7.2} {:>5.1} h, 95 % {:>5.1} h  on demand {:>3.0} %  evicted {:>5.1}  missed {}",
            format!("{:?}", row.policy),
            cost.median,
            cost.p5,
            cost.p95,
            finish.0 / 3.6e3,
            finish.1 / 3.6e3,
            row.on_demand_share * 100.0,
            row.evictions,
            row.missed + row.unfinished
        )?;
    }
    let dearer =
        |other: usize| found.windows.iter().filter(move |row| row.outcomes[0].cost_usd > row.outcomes[other].cost_usd);
    let worst = found.windows.iter().enumerate().max_by(|(_, a), (_, b)| {
        let ratio = |row: &coordinator_simulation::WindowRow| row.outcomes[0].cost_usd / row.outcomes[3].cost_usd;
        ratio(a).total_cmp(&ratio(b))
    });
    if let Some((at, row)) = worst {
        let [ours, _, greedy, uniform, bound] = &row.outcomes;
        writeln!(
            out,
            "dearer than uniform progress in {}, than greedy in {}; worst against uniform: window {at}: {:.2}, greedy {:.2}, uniform {:.2}, bound {:.2}",
            dearer(3).count(),
            dearer(2).count(),
            ours.cost_usd,
            greedy.cost_usd,
            uniform.cost_usd,
            bound.cost_usd
        )?;
    }
    for (at, row) in found.windows.iter().enumerate().filter(|(_, row)| !row.outcomes[0].in_time).take(3) {
        writeln!(out, "missed: window {at}, trace {}, {:?}", row.trace, row.outcomes[0])?;
    }
    Ok(writeln!(out, "{:.1} s", started.elapsed().as_secs_f64())?)
}

fn job(steps: u64, workers: u32, deadline_hours: f64) -> String {
    let zeros = "0".repeat(64);
    let shards = std::env::var("SHARDS").ok().and_then(|text| text.parse().ok()).unwrap_or(workers);
    let policy = match deadline_hours {
        0.0 => String::new(),
        hours => format!("deadline = \"{} min\"\non_demand = \"to-meet-deadline\"\n", (hours * 60.0) as u64),
    };
    format!(
        "name = \"job\"\n[data]\nmanifest = \"m.json\"\ndigest = \"blake3:{zeros}\"\n[model]\nkind = \"mlp\"\nhidden = [8]\n\
         [train]\nsteps = {steps}\nglobal_batch = {}\nlogical_shards = {shards}\n[resources]\n\
         workers = {{ min = 1, max = {workers} }}\n[policy]\n{policy}",
        shards * 8
    )
}
