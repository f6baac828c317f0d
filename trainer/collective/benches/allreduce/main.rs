//! The exact sum over several processes of this host: how long an exchange takes, and bytes of the vector divided by
//! that time.
//!
//! `cargo bench -p trainer-collective --bench allreduce -- [--world N] [--mib A,B,..] [--transport tcp|shared]
//! [--mode exact|fast] [--tls] [--runs N] [--output json]`

mod member;
mod options;

use options::Options;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

fn main() {
    let options = Options::parse();
    if let Some(rank) = options.rank {
        member::run(&options, rank);
        return;
    }
    let mut out = std::io::stdout().lock();
    for mib in &options.mib {
        let mut ms: Vec<f64> = (0..options.runs).map(|_| group(&options, *mib)).collect();
        ms.sort_by(f64::total_cmp);
        let line = if options.json { json(&options, *mib, &ms) } else { text(&options, *mib, &ms) };
        writeln!(out, "{line}").expect("write to stdout");
    }
}

/// One run: the median of its exchanges in milliseconds.
fn group(options: &Options, mib: f64) -> f64 {
    let program = std::env::current_exe().expect("find this program");
    let mut members: Vec<Child> = (0..options.world)
        .map(|rank| {
            Command::new(&program)
                .args(options.of_member(rank, mib))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("start a member")
        })
        .collect();
    let mut said: Vec<_> =
        members.iter_mut().map(|m| BufReader::new(m.stdout.take().expect("a member's output")).lines()).collect();
    let mut next = |rank: usize| said[rank].next().expect("a member ended early").expect("read from a member");
    let addresses: Vec<String> = (0..options.world).map(&mut next).collect();
    for member in &mut members {
        let input = member.stdin.as_mut().expect("a member's input");
        writeln!(input, "{}", addresses.join(" ")).expect("write to a member");
    }
    let ms = next(0).parse().expect("a time in milliseconds");
    for mut member in members {
        assert!(member.wait().expect("wait for a member").success(), "a member failed");
    }
    ms
}

fn name(options: &Options, mib: f64) -> String {
    let tls = if options.authority.is_some() { "_tls" } else { "" };
    format!("allreduce_{}{tls}_{}_{}_workers_{mib}_mib", options.transport, options.mode, options.world)
}

fn gib_per_s(mib: f64, ms: f64) -> f64 {
    mib / 1024.0 / (ms / 1e3)
}

fn json(options: &Options, mib: f64, ms: &[f64]) -> String {
    let (best, middle, worst) = (ms[0], ms[ms.len() / 2], ms[ms.len() - 1]);
    serde_json::json!({
        "name": name(options, mib),
        "ours": middle,
        "unit": "ms",
        "gib_per_s": gib_per_s(mib, middle),
        "runs": ms.len(),
        "spread": [best, worst],
    })
    .to_string()
}

fn text(options: &Options, mib: f64, ms: &[f64]) -> String {
    let (best, middle, worst) = (ms[0], ms[ms.len() / 2], ms[ms.len() - 1]);
    let (name, speed) = (name(options, mib), gib_per_s(mib, middle));
    format!("{name:<48} {middle:9.3} ms  {speed:7.3} GiB/s  from {best:.3} to {worst:.3} in {} runs", ms.len())
}
