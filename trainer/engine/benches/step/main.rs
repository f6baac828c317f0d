//! What the elastic machinery costs at world size 1: a step as a worker does it (all logical shards one after another,
//! their exact sum, the exchange in a group of one, the update) against a step of the bare loop in [`bare`], in turns in
//! one process, one thread.
//!
//! `cargo bench -p trainer-engine -- [mlp|convnet|gpt]... [--runs N] [--output json]`

mod bare;
mod jobs;

use bare::Bare;
use jobs::Job;
use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};
use trainer_collective::{Buffers, Context, Exchange, Identity, Inbox, Links, Meeting, Mesh, Numerics, Poller};
use trainer_core::membership::Header;
use trainer_core::{Assignment, Member, Phase, Round};
use trainer_engine::{Device, Engine};

/// The engine's step may take this many times the bare loop's.
const TARGET: f64 = 1.02;
/// A turn is short, so that both sides see the same machine, whatever else runs on it.
const TURN: Duration = Duration::from_millis(10);
/// Turns of each side in a run.
const TURNS: usize = 25;

struct Measured {
    job: &'static str,
    ours_ms: f64,
    bare_ms: f64,
    ratio: f64,
    spread: [f64; 2],
    runs: usize,
    /// Shares of the engine's step that go to the sum and to the update.
    sum_share: f64,
    apply_share: f64,
}

/// The engine and a group of one, as a worker drives them.
struct Ours {
    engine: Engine,
    poller: Poller,
    mesh: Mesh,
    buffers: Buffers,
    step: u64,
    summing: Duration,
    applying: Duration,
}

impl Ours {
    fn new(job: &Job) -> Self {
        let engine = Engine::new(&job.spec, job.open(), Device::Cpu).expect("make the engine");
        let mut poller = Poller::new().expect("set up polling");
        let me = Identity { worker: "w1".to_owned(), secret: [0; 32] };
        let inbox = Inbox::new(me, Links::default(), poller.bell()).expect("set up connections");
        let shards = 0..job.spec.train.logical_shards;
        let members = vec![Member { worker: "w1".to_owned(), address: String::new(), shards }];
        let assignment = Assignment { generation: 1, immediate: true, members, reason: String::new() };
        let mut meeting = Meeting::start(&inbox, &assignment).expect("be a member");
        assert!(meeting.advance(&mut poller, &inbox).expect("meet nobody"));
        Self {
            buffers: Buffers::new(engine.train_len(), Numerics::Exact).expect("make vectors"),
            engine,
            poller,
            mesh: meeting.complete(),
            step: 0,
            summing: Duration::ZERO,
            applying: Duration::ZERO,
        }
    }

    fn step(&mut self) {
        let cx = &mut Context {
            mesh: &mut self.mesh,
            poller: &mut self.poller,
            buffers: &mut self.buffers,
            interrupted: &|| false,
            at: &mut |_| {},
        };
        let began = Instant::now();
        let mut computing = Duration::ZERO;
        let round = Round { step: self.step, phase: Phase::Train };
        let mut exchange = Exchange::begin(cx, round).expect("begin an exchange with nobody");
        for shard in cx.mesh.shards() {
            exchange.shard(cx, shard, |vector, ready| {
                let began = Instant::now();
                self.engine.train_shard(self.step, shard, vector, ready).expect("train a shard");
                computing += began.elapsed();
            });
        }
        exchange.finish(cx, Header::default()).expect("exchange with nobody");
        self.summing += began.elapsed() - computing;
        let began = Instant::now();
        self.engine.apply(self.step, self.buffers.sum()).expect("apply the sum");
        self.applying += began.elapsed();
        self.step += 1;
    }
}

fn main() {
    let options = Options::parse();
    tch::set_num_threads(1);
    let mut out = std::io::stdout().lock();
    for job in
        jobs::all().iter().filter(|job| options.jobs.is_empty() || options.jobs.iter().any(|name| name == job.name))
    {
        let measured = measure(job, options.runs);
        if options.json { writeln!(out, "{}", measured.json()) } else { writeln!(out, "{}", measured.text()) }
            .expect("write to stdout");
    }
}

fn measure(job: &Job, runs: usize) -> Measured {
    let mut ours = Ours::new(job);
    let mut bare = Bare::new(&job.spec, &job.open());
    // Warm up both, and find how many steps fill a turn.
    for _ in 0..3 {
        ours.step();
        bare.step();
    }
    let steps = (TURN.as_secs_f64() * 1e3 / per_step_ms(3, || ours.step())).ceil() as u32;
    (ours.summing, ours.applying) = (Duration::ZERO, Duration::ZERO);

    let mut ours_ms = Vec::new();
    let mut bare_ms = Vec::new();
    let mut ratios = Vec::new();
    for _ in 0..runs {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            a.push(per_step_ms(steps, || ours.step()));
            b.push(per_step_ms(steps, || _ = black_box(bare.step())));
        }
        ratios.push(median(&mut a) / median(&mut b));
        ours_ms.append(&mut a);
        bare_ms.append(&mut b);
    }
    let total: f64 = ours_ms.iter().sum::<f64>() * f64::from(steps) / 1e3;
    let spread = [ratios.iter().copied().fold(f64::INFINITY, f64::min), ratios.iter().copied().fold(0.0, f64::max)];
    Measured {
        job: job.name,
        ours_ms: median(&mut ours_ms),
        bare_ms: median(&mut bare_ms),
        ratio: median(&mut ratios),
        spread,
        runs,
        sum_share: ours.summing.as_secs_f64() / total,
        apply_share: ours.applying.as_secs_f64() / total,
    }
}

fn per_step_ms(steps: u32, mut step: impl FnMut()) -> f64 {
    let began = Instant::now();
    for _ in 0..steps {
        step();
    }
    began.elapsed().as_secs_f64() * 1e3 / f64::from(steps)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

impl Measured {
    fn met(&self) -> bool {
        self.ratio < TARGET
    }

    fn json(&self) -> String {
        serde_json::json!({
            "name": format!("step of one worker against a bare tch loop, {}", self.job),
            "ours": self.ours_ms,
            "peer": self.bare_ms,
            "unit": "ms",
            "ratio": self.ratio,
            "target": TARGET,
            "target_of": "ratio",
            "met": self.met(),
            "runs": self.runs,
            "spread": self.spread,
        })
        .to_string()
    }

    fn text(&self) -> String {
        format!(
            "{:8} ours {:8.3} ms  bare {:8.3} ms  extra {:+.2} % (from {:+.2} to {:+.2} in {} runs)  \
             of ours: sum {:.2} %, update {:.2} %  {}",
            self.job,
            self.ours_ms,
            self.bare_ms,
            (self.ratio - 1.0) * 100.0,
            (self.spread[0] - 1.0) * 100.0,
            (self.spread[1] - 1.0) * 100.0,
            self.runs,
            self.sum_share * 100.0,
            self.apply_share * 100.0,
            if self.met() { "met" } else { "MISSED" },
        )
    }
}

struct Options {
    jobs: Vec<String>,
    runs: usize,
    json: bool,
}

impl Options {
    fn parse() -> Self {
        let mut options = Self { jobs: Vec::new(), runs: 11, json: false };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--bench" => {}
                "--runs" => options.runs = args.next().and_then(|n| n.parse().ok()).expect("--runs takes a count"),
                "--output" => options.json = args.next().is_some_and(|format| format == "json"),
                name if !name.starts_with('-') => options.jobs.push(name.to_owned()),
                other => panic!("unknown option {other}"),
            }
        }
        options
    }
}
