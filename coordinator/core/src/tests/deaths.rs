//! Sudden ends: who notices first, what is too late, and when it is too much.

use super::{Story, worker};
use crate::{DownCause, Event, Generation, Rejection};

fn stale(n: u32, message: &'static str) -> Result<(), Rejection> {
    Err(Rejection::Stale { worker: worker(n), message })
}

#[test]
fn the_provider_is_first_and_the_peers_come_too_late() {
    let mut story = Story::running(3);
    story.down(2, DownCause::Killed(9)).expect([
        "w1 <- assign 2 now w1:0-4 w3:4-8",
        "w3 <- assign 2 now w1:0-4 w3:4-8",
        "launch w4 local",
    ]);
    assert_eq!(story.peer_lost(1, 1, 2), stale(1, "a lost peer"));
    assert_eq!(story.peer_lost(3, 1, 2), stale(3, "a lost peer"));
    story.expect([]);
    let job = story.job("job");
    assert_eq!((job.evictions, job.stale_messages, job.generation), (1, 2, Generation(2)));
}

#[test]
fn a_peer_is_first_and_the_provider_only_confirms() {
    let mut story = Story::running(3);
    story.peer_lost(3, 1, 2).unwrap();
    story.expect([
        "w1 <- assign 2 now w1:0-4 w3:4-8",
        "w3 <- assign 2 now w1:0-4 w3:4-8",
        "kill i2",
        "launch w4 local",
    ]);
    story.down(2, DownCause::Killed(9)).expect([]);
    assert_eq!(story.job("job").evictions, 1);
    assert_eq!(
        story.decisions("job")[5],
        "drop the step in progress and go on without w2, with 2 workers: w3 lost its connection to w2 (reset)"
    );
}

#[test]
fn of_two_that_accuse_each_other_the_first_heard_stays() {
    let mut story = Story::running(2);
    story.pool("local", 2);
    story.peer_lost(1, 1, 2).unwrap();
    story.expect(["w1 <- assign 2 now w1:0-8", "kill i2"]);
    assert_eq!(story.peer_lost(2, 1, 1), stale(2, "a lost peer"));
    story.expect([]);
}

#[test]
fn an_accusation_of_a_generation_that_is_over_is_dropped() {
    let mut story = Story::running(3);
    story.pool("local", 3);
    story.down(3, DownCause::Evicted).skip();
    assert_eq!(story.peer_lost(1, 1, 2), stale(1, "a lost peer"));
    story.expect([]);
    story.peer_lost(1, 2, 2).unwrap();
    story.expect(["w1 <- assign 3 now w1:0-8", "kill i2"]);
}

#[test]
fn an_accusation_of_a_generation_that_never_was_is_refused() {
    let mut story = Story::running(2);
    let refused = story.peer_lost(1, 7, 2);
    let (newest, found) = (Generation(1), Generation(7));
    assert_eq!(refused, Err(Rejection::FutureGeneration { worker: worker(1), newest, found }));
    assert!(matches!(story.peer_lost(1, 1, 1), Err(Rejection::OutOfPlace { .. })));
    story.expect([]);
}

/// A step boundary may have come between: whoever was in the generation before is in the next by then.
#[test]
fn one_that_may_have_gone_on_is_dead_once_its_stream_is_broken_too() {
    let regrouped = ["w1 <- assign 3 now w1:0-8", "w3 <- assign 3 now w1:0-8", "kill i2"];
    let mut story = Story::running(3);
    story.pool("local", 3).notice(3, 5_000).skip();
    story.peer_gone(1, 1, 2, true).unwrap();
    story.expect([]);
    story.tell(Event::WorkerDetached { worker: worker(2) }).expect(regrouped);

    let mut story = Story::running(3);
    story.pool("local", 3).notice(3, 5_000).skip();
    story.tell(Event::WorkerDetached { worker: worker(2) }).expect([]);
    story.peer_gone(3, 1, 2, true).unwrap();
    story.expect(regrouped);
}

#[test]
fn one_that_went_on_is_not_suspected_any_more() {
    let mut story = Story::running(3);
    story.pool("local", 3).notice(3, 5_000).skip();
    story.peer_gone(1, 1, 2, true).unwrap();
    story.resumed(2, 2, 11).tell(Event::WorkerDetached { worker: worker(2) }).expect([]);
    story.peer_gone(3, 1, 2, true).unwrap();
    story.expect([]);
    assert_eq!(story.job("job").stale_messages, 0);
}

#[test]
fn a_coordinator_that_has_only_started_blames_nobody_for_having_no_stream_yet() {
    let mut story = Story::running(3);
    story.pool("local", 3).notice(3, 5_000).restart(&[1, 2, 3]).skip();
    story.attach_holding(1, Some((2, Some(11)))).skip();
    story.peer_gone(1, 1, 2, true).unwrap();
    story.expect([]);
    story.attach_holding(2, Some((2, Some(11)))).tell(Event::WorkerDetached { worker: worker(2) }).skip();
    assert!(!story.core.worker(&worker(2)).unwrap().attached);
}

#[test]
fn a_silent_worker_is_dead_after_eight_heartbeats() {
    let mut story = Story::running(2);
    story.pool("local", 2);
    story.wait(3_999, &[1]).expect([]);
    story.wait(1, &[1]).expect(["w1 <- assign 2 now w1:0-8", "kill i2"]);
    assert!(story.decisions("job").contains(&"treat w2 as dead: nothing was heard from w2 for 4 s".to_owned()));
}

#[test]
fn a_broken_stream_is_no_death_for_half_a_minute() {
    let mut story = Story::running(2);
    story.pool("local", 2);
    story.tell(Event::WorkerDetached { worker: worker(2) }).wait(29_999, &[1]).expect([]);
    assert!(!story.core.worker(&worker(2)).unwrap().attached);
    story.attach_holding(2, Some((1, Some(50)))).expect(["w2 <- welcome a"]);
    story.tell(Event::WorkerDetached { worker: worker(2) }).wait(30_000, &[1]);
    story.expect(["w1 <- assign 2 now w1:0-8", "kill i2"]);
}

#[test]
fn one_that_comes_back_is_told_what_it_missed() {
    let mut story = Story::running(3);
    story.pool("local", 3).tell(Event::WorkerDetached { worker: worker(3) });
    story.down(2, DownCause::Evicted).expect(["w1 <- assign 2 now w1:0-4 w3:4-8", "launch w4 local"]);
    story.attach_holding(3, Some((1, Some(12)))).expect(["w3 <- welcome a", "w3 <- assign 2 now w1:0-4 w3:4-8"]);
}

#[test]
fn one_that_was_written_off_and_speaks_again_goes_home() {
    let mut story = Story::running(2);
    story.peer_lost(1, 1, 2).unwrap();
    story.skip().attach_holding(2, Some((1, Some(12)))).expect(["w2 <- welcome a", "w2 <- exit"]);
}

#[test]
fn one_that_comes_back_as_another_process_has_lost_its_state() {
    let mut story = Story::running(2);
    let mut event = story.attached(2, None);
    if let Event::WorkerAttached { pid, .. } = &mut event {
        *pid += 1;
    }
    story.tell(event).expect([
        "w2 <- welcome a",
        "w2 <- exit",
        "w1 <- assign 2 now w1:0-8",
        "kill i2",
        "launch w3 local",
    ]);
}

#[test]
fn all_are_dead_and_new_ones_start_from_the_newest_checkpoint() {
    let mut story = Story::running(2);
    story.heartbeat(1, 1, Some(40));
    story.down(1, DownCause::Killed(9)).expect(["w2 <- assign 2 now w2:0-8", "launch w3 local"]);
    story.down(2, DownCause::Killed(9)).expect(["launch w4 local"]);
    assert_eq!(story.state("job"), "recovering");
    assert_eq!(
        story.decisions("job").into_iter().rev().nth(1).unwrap(),
        "form a new group from the newest whole checkpoint: nobody who holds the state is left since w2 was killed by signal 9"
    );
    story.attach(3).attach(4).skip();
    story.resumed(3, 3, 26).resumed(4, 3, 26).expect([]);
    let job = story.job("job");
    assert_eq!((job.state, job.step, job.steps_repeated, job.evictions), ("running", 26, 15, 2));
}

#[test]
fn steps_repeated_are_the_most_that_any_member_says() {
    let mut story = Story::running(3);
    story.down(3, DownCause::Killed(9));
    for (n, steps_repeated) in [(1, 1), (2, 2), (1, 1)] {
        let generation = Generation(2);
        story.tell(Event::Resumed { worker: worker(n), generation, step: 11, pause_ms: 90.0, steps_repeated });
    }
    let job = story.job("job");
    assert_eq!((job.steps_repeated, job.longest_pause_ms), (2, 90.0));
}

#[test]
fn a_job_whose_instances_die_again_and_again_fails() {
    let mut story = Story::new();
    story.pool("local", 1).submit("job", (1, 1), &["local"]);
    for n in 1..=5 {
        assert_ne!(story.state("job"), "failed");
        story.after(100).attach(n).skip();
        story.tell(Event::WorkerFailed { worker: worker(n), job_fails: false, reason: "no such device".to_owned() });
        story.tell(Event::WorkerLogged { worker: worker(n), lines: "cuda: not found".to_owned() });
        story.down(n, DownCause::Exited(1));
    }
    let job = story.job("job");
    assert_eq!(job.state, "failed");
    assert_eq!(
        job.reason,
        "its instances died 5 times in a row with no step done; \
         the last: w5 exited with status 1: no such device: cuda: not found"
    );
    assert!(story.core.instances().is_empty());
}

#[test]
fn a_blow_to_all_is_one_death_and_an_eviction_is_none() {
    let mut story = Story::running(8);
    for n in 1..=8 {
        story.after(10).down(n, DownCause::Killed(9));
    }
    assert_eq!(story.state("job"), "recovering");
    for n in 9..=40 {
        story.after(10).down(n, DownCause::Evicted);
    }
    assert_eq!(story.state("job"), "recovering");
}

#[test]
fn a_step_beyond_the_last_ends_a_row_of_deaths() {
    let mut story = Story::running(1);
    for n in 1..=12 {
        story.after(10).down(n, DownCause::Killed(9));
        story.after(10).attach(n + 1);
        let generation = story.job("job").generation.0;
        story.resumed(n + 1, generation, 10 + u64::from(n));
    }
    assert_eq!(story.state("job"), "running");
}

#[test]
fn one_that_never_attaches_is_replaced() {
    let mut story = Story::new();
    story.pool("local", 2).submit("job", (1, 2), &["local"]).attach(1).wait(5_000, &[1]).skip();
    story.wait(115_000, &[1]).expect(["kill i2"]);
    story.down(2, DownCause::Terminated).expect(["launch w3 local"]);
}

#[test]
fn an_instance_that_does_not_end_is_asked_again() {
    let mut story = Story::running(2);
    story.pool("local", 2).peer_lost(1, 1, 2).unwrap();
    story.skip().wait(9_999, &[1]).expect([]);
    story.wait(1, &[1]).expect(["kill i2"]);
}

#[test]
fn a_coordinator_that_was_held_up_blames_nobody_for_what_it_did_not_hear() {
    let mut story = Story::running(2);
    story.after(60_000).tell(Event::Awoke).expect([]);
    story.heartbeat(1, 1, Some(20)).expect([]);
    story.wait(3_999, &[1]).expect([]);
    story.wait(1, &[1]).expect(["w1 <- assign 2 now w1:0-8", "kill i2", "launch w3 local"]);
}
