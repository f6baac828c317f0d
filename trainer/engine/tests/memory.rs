//! Bytes that a worker holds for each parameter while it trains: parameters and AdamW's two slots once, the gradient
//! once, the sum, and one partial sum for each level of the tree over its shards. And that it keeps them: a step asks the
//! system for no memory.

mod common;

use common::{Fixture, in_another_process, report};
use trainctl_jobs::ModelSpec;
use trainer_collective::{Buffers, Context, Exchange, Identity, Inbox, Links, Meeting, Numerics, Poller};
use trainer_core::membership::Header;
use trainer_core::{Assignment, Member, Phase, Round};
use trainer_engine::Wanted;

/// Where a round's vectors are not shared with peers: parameters 4, slots 8, gradient 4, sum 4.
const TARGET_BYTES: f64 = 20.0;
/// For each doubling of the logical shards.
const LEVEL_BYTES: f64 = 4.0;
/// What is not counted by parameter: activations, one layer's gradient on its way, and a handful of such that the
/// allocator keeps, how many depends on what its threads did when. So the layers are many and small.
const SLACK: f64 = 1.05;
/// That are trained.
const STEPS: u64 = 10;
/// Those in which everything is allocated once.
const WARM_UP: u64 = 3;
/// Pages of new memory in the others. Each step would clear nearly a thousand if its activations went and came.
const NEW_PAGES: u64 = 100;

#[test]
fn parameters_slots_and_gradients_exist_once_and_a_partial_sum_for_each_level() {
    for shards in [1u32, 2, 8] {
        let measured = as_a_worker("train_a_large_model", &[("SHARDS", &shards.to_string())]);
        let bytes: f64 = measured.parse().expect("bytes a parameter");
        let target = TARGET_BYTES + LEVEL_BYTES * f64::from(shards.ilog2());
        report(&format!("{shards} shards: {bytes:.2} bytes a parameter, {target} aimed at"));
        assert!(bytes < target * SLACK, "{shards} shards: {bytes} bytes a parameter, expected {target}");
    }
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn train_a_large_model() {
    let Ok(shards) = std::env::var("SHARDS") else { return };
    let shards: u32 = shards.parse().expect("a count");
    find_cpu();
    // What libtorch allocates once, and the pages of its code.
    train(&[64, 64], shards, 4, || {});
    let before = memory("VmRSS:") - memory("RssFile:");
    let parameters = train(&[512; 65], shards, 4, || {});
    // The code that was used by now is no part of it: how much of it is mapped along with what is used depends on what
    // the system has in its cache.
    let peak = memory("VmHWM:") - memory("RssFile:");
    report(&((peak - before) / parameters as f64).to_string());
}

#[test]
fn a_step_takes_no_memory_that_an_earlier_one_gave_back() {
    let measured = as_a_worker("count_new_pages", &[("COUNT", "1")]);
    let pages: u64 = measured.parse().expect("a count of pages");
    report(&format!("{pages} new pages in {} steps", STEPS - WARM_UP));
    assert!(pages < NEW_PAGES, "{pages} new pages in {} steps", STEPS - WARM_UP);
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn count_new_pages() {
    if std::env::var_os("COUNT").is_none() {
        return;
    }
    find_cpu();
    let mut faults = Vec::new();
    train(&[1024, 1024], 1, 2048, || faults.push(minor_faults()));
    report(&(faults[STEPS as usize - 1] - faults[WARM_UP as usize - 1]).to_string());
}

/// In a process of its own, where this test's thread allocates as a worker's main thread does.
fn as_a_worker(test: &str, variables: &[(&str, &str)]) -> String {
    in_another_process(test, &[variables, &[("MALLOC_ARENA_MAX", "1")]].concat())
}

/// What a worker does first.
fn find_cpu() {
    "cpu".parse::<Wanted>().expect("a device").find().expect("the CPU");
}

/// Pages that this thread was the first to touch, so far.
fn minor_faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("read this thread's figures");
    let after_name = stat.rsplit_once(')').expect("a name in parentheses").1;
    after_name.split_whitespace().nth(7).expect("the kernel's figure").parse().expect("a count")
}

/// Trains some steps in a group of one, as a worker does, and returns the count of parameters.
fn train(hidden: &[u32], shards: u32, micro_batch: u32, mut after_step: impl FnMut()) -> usize {
    let mut fixture = Fixture::new("mlp");
    fixture.spec.model = ModelSpec::Mlp { hidden: hidden.to_vec(), dropout: 0.0 };
    fixture.spec.train.logical_shards = shards;
    fixture.spec.train.global_batch = micro_batch * shards;
    let mut engine = fixture.engine();
    let mut poller = Poller::new().expect("set up polling");
    let me = Identity { worker: "w1".to_owned(), secret: [0; 32] };
    let inbox = Inbox::new(me, Links::default(), poller.bell()).expect("set up connections");
    let members = vec![Member { worker: "w1".to_owned(), address: String::new(), shards: 0..shards }];
    let assignment = Assignment { generation: 1, immediate: true, members, reason: String::new() };
    let mut meeting = Meeting::start(&inbox, &assignment).expect("be a member");
    assert!(meeting.advance(&mut poller, &inbox).expect("meet nobody"));
    let mut mesh = meeting.complete();
    let mut buffers = Buffers::new(engine.train_len(), Numerics::Exact).expect("make vectors");
    for step in 0..STEPS {
        let cx = &mut Context {
            mesh: &mut mesh,
            poller: &mut poller,
            buffers: &mut buffers,
            interrupted: &|| false,
            at: &mut |_| {},
        };
        let mut exchange = Exchange::begin(cx, Round { step, phase: Phase::Train }).expect("begin an exchange");
        for shard in 0..shards {
            exchange.shard(cx, shard, |vector, ready| {
                engine.train_shard(step, shard, vector, ready).expect("train a shard");
            });
        }
        exchange.finish(cx, Header::default()).expect("exchange with nobody");
        engine.apply(step, buffers.sum()).expect("apply the sum");
        after_step();
    }
    engine.train_len() - 16
}

/// A line of this process's status, in bytes.
fn memory(line: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("read the process's status");
    let found = status.lines().find_map(|l| l.strip_prefix(line)).expect("the kernel's figure");
    let kib: f64 = found.trim().trim_end_matches(" kB").trim().parse().expect("a count of KiB");
    kib * 1024.0
}
