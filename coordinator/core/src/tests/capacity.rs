//! What is bought, from where, and for whom first.

use super::{Story, instance, launch_error};
use crate::{DownCause, Event, LaunchError, LaunchErrorKind};

fn no_capacity(story: &mut Story, n: u32) {
    story.tell(Event::LaunchFailed { instance: instance(n), error: launch_error(LaunchErrorKind::NoCapacity) });
}

#[test]
fn the_preferred_pool_is_filled_before_the_next() {
    let mut story = Story::new();
    story.pool("cheap", 2).pool("dear", 8).submit("job", (1, 3), &["cheap", "dear"]);
    story.expect(["launch w1 cheap", "launch w2 cheap", "launch w3 dear"]);
    assert_eq!(
        story.last_decision("job"),
        "start w3 on i3 from dear: the job has 2 of its 3 workers and dear has 8 free, and cheap has nothing to give now"
    );
}

#[test]
fn a_pool_with_nothing_is_left_alone_for_longer_and_longer() {
    let mut story = Story::new();
    story.pool("cheap", 1).submit("job", (1, 1), &["cheap", "dear"]).expect(["launch w1 cheap"]);
    no_capacity(&mut story, 1);
    story.expect([]);
    for (n, wait_ms) in [(2, 1_000), (3, 2_000), (4, 4_000)] {
        assert_eq!(story.core.next_deadline(), Some(story.now.plus_ms(wait_ms)));
        story.after(wait_ms).tell(Event::Tick).expect([&format!("launch w{n} cheap")]);
        no_capacity(&mut story, n);
    }
    assert!(
        story.decisions("job").contains(&"leave cheap alone for 4 s: it had no capacity 3 times in a row".to_owned())
    );
    story.pool("dear", 1).expect(["launch w5 dear"]);
    assert_eq!(story.state("job"), "provisioning");
}

#[test]
fn more_capacity_ends_the_wait() {
    let mut story = Story::new();
    story.pool("cheap", 1).submit("job", (1, 1), &["cheap"]).skip();
    no_capacity(&mut story, 1);
    story.pool("cheap", 2).expect(["launch w2 cheap"]);
}

#[test]
fn a_bound_that_moves_does_not_end_the_wait() {
    let mut story = Story::new();
    story.spot("aws/us-1a", 0.3, 6).submit("job", (1, 1), &["aws"]).expect(["launch w1 aws/us-1a"]);
    no_capacity(&mut story, 1);
    story.spot("aws/us-1a", 0.3, 8).expect([]);
    story.after(1_000).tell(Event::Tick).expect(["launch w2 aws/us-1a"]);
    no_capacity(&mut story, 2);
    story.spot("aws/us-1a", 0.3, 7).spot("aws/us-1a", 0.3, 8).after(1_000).tell(Event::Tick).expect([]);
    story.after(1_000).tell(Event::Tick).expect(["launch w3 aws/us-1a"]);
}

#[test]
fn a_launch_that_can_never_work_fails_the_job() {
    let mut story = Story::new();
    story.pool("local", 2).submit("job", (2, 2), &["local"]).attach(2).skip();
    let error = LaunchError {
        message: "no such program: trainctl-worker".to_owned(),
        ..launch_error(LaunchErrorKind::Configuration)
    };
    story.tell(Event::LaunchFailed { instance: instance(1), error }).expect(["w2 <- exit", "end i2 5000"]);
    assert_eq!(story.job("job").reason, "local can't start workers: no such program: trainctl-worker");
    assert_eq!(story.state("job"), "failed");
}

#[test]
fn jobs_take_their_turn_at_a_shared_pool() {
    let mut story = Story::new();
    story.pool("local", 4).submit("job", (1, 3), &["local"]).submit("next", (2, 2), &["local"]);
    story.expect(["launch w1 local", "launch w2 local", "launch w3 local"]);
    assert_eq!(story.state("next"), "queued");
    assert_eq!(story.job("next").reason, "it lacks 2 workers to start and its pools have 1 free");
    // A third one needs no more than what is free, but it came later.
    story.submit("small", (1, 1), &["local"]).expect([]);
    assert_eq!(story.job("small").reason, "next comes first and waits for the same pools");
    story.pool("local", 6).expect(["launch w4 local", "launch w5 local", "launch w6 local"]);
}

#[test]
fn a_job_too_large_for_its_pools_blocks_nobody() {
    let mut story = Story::new();
    story.pool("local", 2).submit("large", (4, 4), &["local"]).submit("job", (1, 1), &["local"]);
    story.expect(["launch w1 local"]);
    assert_eq!(story.job("large").reason, "it starts with 4 workers and its pools hold 2 in all");
}

#[test]
fn a_younger_job_that_waits_gives_its_instances_to_an_older_one() {
    let mut story = Story::new();
    story.pool("local", 2).submit("job", (1, 2), &["local"]).attach(1).attach(2).resumed(1, 1, 1);
    story.pool("local", 4).submit("next", (2, 2), &["local"]).skip();
    story.attach(3).expect(["w3 <- welcome"]);
    // Everybody of the older job dies and a node is gone: one is free and it takes two to start... which it has
    // not, as it may start with one.
    story.down(1, DownCause::Evicted).down(2, DownCause::Evicted).expect([
        "w2 <- assign 2 now w2:0-8",
        "launch w5 local",
        "launch w6 local",
    ]);
}

#[test]
fn an_older_job_that_starts_whole_is_served_by_a_younger_one_that_waits() {
    let mut story = Story::new();
    story.pool("local", 2).submit("job", (2, 2), &["local"]).attach(1).attach(2).resumed(1, 1, 1);
    story.pool("local", 4).submit("next", (2, 2), &["local"]).attach(3).skip();
    story.pool("local", 3);
    story.down(1, DownCause::Evicted).down(2, DownCause::Evicted).expect(["w2 <- assign 2 now w2:0-8", "kill i4"]);
    assert_eq!(story.last_decision("next"), "wait for capacity: job comes first and waits for the same pools");
    story.down(4, DownCause::Terminated).expect(["launch w5 local", "launch w6 local"]);
    assert_eq!(story.core.instances().len(), 3);
}

#[test]
fn what_is_on_its_way_out_still_takes_its_place() {
    let mut story = Story::running(2);
    story.pool("local", 2).notice(2, 5_000).skip();
    story.left(2, 2, 11).expect(["end i2 5000"]);
    story.down(2, DownCause::Exited(0)).expect(["launch w3 local"]);
    assert_eq!(story.core.pools()[0].in_use, 2);
}
