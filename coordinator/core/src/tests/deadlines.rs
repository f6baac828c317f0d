//! A job with a deadline: when it buys on demand, and when it goes back to spot.

use super::{Story, instance, spec, worker};
use crate::{DownCause, Event, Generation, Progress, ProviderName};
use trainctl_jobs::{JobSpec, OnDemandSpec};

/// Wants four workers and 100 steps done by then.
fn by(deadline: &str) -> JobSpec {
    let mut spec = spec("job", (1, 4), &["aws"]);
    spec.policy.deadline = Some(deadline.to_owned());
    spec.policy.on_demand = OnDemandSpec::ToMeetDeadline;
    spec
}

impl Story {
    /// All members say so, at this pace: 64 samples are a step.
    fn at(&mut self, workers: &[u32], step: u64, steps_per_s: f64) -> &mut Self {
        let generation = self.job("job").generation;
        for n in workers {
            let progress = Progress {
                generation: Generation(generation.0),
                step: Some(step),
                loss: None,
                samples_per_s: 64.0 * steps_per_s,
                skipped_steps: 0,
                audits_passed: 0,
                state_digest: None,
                shard_time: None,
            };
            self.tell(Event::Heartbeat { worker: worker(*n), progress });
        }
        self
    }

    fn kinds(&self) -> Vec<&'static str> {
        self.core.decisions(&"job".into()).map(crate::Decision::kind).collect()
    }

    fn launched(&mut self) -> Vec<String> {
        let left = std::mem::take(&mut self.left);
        left.into_iter().filter(|action| action.starts_with("launch")).collect()
    }

    /// Ticks, with heartbeats of these members, which train at one step in 36 seconds: 100 steps are an hour.
    fn minutes(&mut self, minutes: u64, members: &[u32], step: u64) -> &mut Self {
        for _ in 0..minutes * 30 {
            self.after(2_000);
            if members.is_empty() {
                self.tell(Event::Tick);
            } else {
                self.at(members, step, 1.0 / 36.0);
            }
        }
        self
    }
}

#[test]
fn before_anything_was_measured_it_waits_for_a_fiftieth_of_the_time() {
    let mut story = Story::new();
    story.spot("aws/us-1a", 0.3, 0).on_demand("aws/us-1a", 9).submit_spec(by("5h")).expect([]);
    story.minutes(5, &[], 0).expect([]);
    story.minutes(1, &[], 0);
    assert_eq!(story.launched().len(), 4);
    assert_eq!(story.kinds()[..3], ["queue", "wait", "hurry"]);
    let hurry = story.decisions("job")[2].clone();
    let why =
        "buy on demand what the job lacks: 294 min are left to the deadline and nothing of the work was measured yet";
    assert_eq!(hurry, why);
    assert!(story.last_decision("job").ends_with("; the deadline can't wait for what may be taken away"));
}

#[test]
fn it_waits_for_spot_as_long_as_the_deadline_allows_and_no_longer() {
    let mut story = Story::new();
    story.spot("aws/us-1a", 0.3, 4).on_demand("aws/us-1a", 9).submit_spec(by("3h"));
    // What starts on demand will take as long as these.
    story.after(100_000);
    (1..=4).for_each(|n| {
        story.attach(n);
    });
    story.resumed(1, 1, 1).minutes(1, &[1, 2, 3, 4], 2).skip();
    // Everything is taken after a minute: an hour's work is left, in three.
    story.spot("aws/us-1a", 0.3, 0);
    for n in 1..=4 {
        story.down(n, DownCause::Evicted);
    }
    story.skip();
    let mut waited = 0;
    while story.launched().is_empty() {
        story.minutes(1, &[], 0);
        waited += 1;
        assert!(waited < 180, "it waits for ever");
    }
    // 177 minutes without 63 of work and margin, twice 100 s to start each of four, and what evictions at that rate
    // are expected to cost.
    assert!((60..112).contains(&waited), "it waited {waited} minutes");
    assert_eq!(story.kinds().into_iter().filter(|kind| *kind == "hurry").count(), 1);
    assert_eq!(story.core.instances().len(), 4);
    // A restarted coordinator knows that it hurries, and buys nothing twice.
    story.reload();
    story.spot("aws/us-1a", 0.3, 0).on_demand("aws/us-1a", 9);
    for provider in ["local", "aws"] {
        let instances = if provider == "aws" { (5..=8).map(|n| (instance(n), None)).collect() } else { Vec::new() };
        story.tell(Event::InstancesListed { provider: ProviderName::from(provider), instances });
    }
    assert_eq!(story.launched(), Vec::<String>::new());
}

#[test]
fn spot_takes_over_when_the_deadline_allows_it_again_and_what_is_spare_is_given_back() {
    let mut story = Story::new();
    story.spot("aws/us-1a", 0.3, 0).on_demand("aws/us-1a", 9).submit_spec(by("10h"));
    story.minutes(13, &[], 0);
    assert_eq!(story.launched().len(), 4);
    (1..=4).for_each(|n| {
        story.attach(n);
    });
    // It turns out to take an hour of ten: it can wait, and what was bought stays until spot can take over.
    story.resumed(1, 1, 1).minutes(2, &[1, 2, 3, 4], 3);
    assert_eq!(story.kinds().last(), Some(&"relax"));
    story.skip();
    story.minutes(10, &[1, 2, 3, 4], 5).expect([]);
    story.spot("aws/us-1a", 0.3, 2);
    assert_eq!(story.launched(), ["launch w5 aws/us-1a", "launch w6 aws/us-1a"]);
    story.attach(5).attach(6).skip();
    story.ready(5, 5);
    let told = story.last_decision("job");
    assert!(told.contains("take in w5") && told.contains("w5 takes the place of w1, $0.30 an hour"), "{told}");
    story.resumed(2, 2, 6).left(1, 2, 6).down(1, DownCause::Exited(0));
    // With one on spot and so much time to spare, the others need not be paid for.
    let told = story.decisions("job").join("\n");
    assert!(told.contains("let w2, w3 and w4 leave") && told.contains("the deadline is met without w3"), "{told}");
}

#[test]
fn what_the_market_means_to_a_deadline_is_looked_at_within_a_quarter_of_a_minute() {
    let mut story = Story::new();
    story.spot("aws/us-1a", 0.3, 4).on_demand("aws/us-1a", 9).submit_spec(by("3h"));
    (1..=4).for_each(|n| {
        story.attach(n);
    });
    story.resumed(1, 1, 1).minutes(1, &[1, 2, 3, 4], 2).skip();
    let (now, review_ms) = (story.now, story.core.settings().review_ms);
    // With one on demand instead of four, an hour's work would take too long.
    story.on_demand("aws/us-1a", 1);
    assert_ne!(story.kinds().last(), Some(&"hurry"));
    assert!(story.core.next_deadline().is_some_and(|at| at <= now.plus_ms(review_ms)));
    // Heartbeats don't put it off.
    for _ in 0..review_ms / 1_000 {
        story.after(1_000).at(&[1, 2, 3, 4], 2, 1.0 / 36.0);
    }
    assert_eq!(story.kinds().last(), Some(&"hurry"));
}

#[test]
fn without_a_deadline_or_anything_on_demand_nothing_hurries() {
    let mut story = Story::new();
    story.spot("aws/us-1a", 0.3, 0).submit_spec(by("1h")).minutes(90, &[], 0).expect([]);
    assert_eq!(story.kinds(), ["queue", "wait"]);
}
