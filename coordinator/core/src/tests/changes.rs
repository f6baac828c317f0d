//! Planned changes: notices, drains, joiners, and how they overlap.

use super::{Story, instance, worker};
use crate::{DownCause, Event, Rejection};

#[test]
fn a_member_with_a_notice_leaves_at_a_step_boundary_and_is_replaced() {
    let mut story = Story::running(3);
    story.notice(2, 5_000).expect([
        "w1 <- assign 2 planned w1:0-4 w3:4-8",
        "w2 <- assign 2 planned w1:0-4 w3:4-8",
        "w3 <- assign 2 planned w1:0-4 w3:4-8",
        "launch w4 local",
    ]);
    assert_eq!(story.worker_state(2), "draining");
    story.resumed(1, 2, 12).left(2, 2, 11).expect(["end i2 5000"]);
    story.down(2, DownCause::Exited(0)).expect([]);
    let job = story.job("job");
    assert_eq!((job.evictions, job.steps_repeated, job.world_size), (1, 0, 2));
    assert_eq!(story.core.pools()[0].evictions, 1);
    assert_eq!(
        story.decisions("job")[5],
        "let w2 leave at the next step boundary and go on with 2 workers: its pool takes w2 in 5 s"
    );
}

#[test]
fn a_second_notice_changes_only_the_deadline() {
    let mut story = Story::running(2);
    let deadline = story.now.plus_ms(5_000);
    story.notice(2, 5_000).skip();
    story.notice(2, 7_000).expect([]);
    assert_eq!(story.core.worker(&worker(2)).unwrap().notice_deadline, Some(deadline));
    story.notice(2, 2_000).expect([]);
    assert_eq!(story.core.worker(&worker(2)).unwrap().notice_deadline, Some(story.now.plus_ms(2_000)));
    assert_eq!(story.job("job").evictions, 1);
}

#[test]
fn someone_asks_a_worker_to_leave() {
    let mut story = Story::running(2);
    story.tell(Event::DrainRequested { worker: worker(1) });
    story.expect(["w1 <- assign 2 planned w2:0-8", "w2 <- assign 2 planned w2:0-8", "launch w3 local"]);
    story.tell(Event::DrainRequested { worker: worker(1) }).expect([]);
    story.left(1, 2, 11).expect(["end i1 5000"]);
    let refused = story.refused(Event::DrainRequested { worker: worker(1) });
    assert_eq!(refused, Rejection::WorkerLeaving(worker(1)));
    assert_eq!(story.job("job").evictions, 0);
}

#[test]
fn a_drill_is_the_pools_to_carry_out() {
    let mut story = Story::running(2);
    story.tell(Event::EvictRequested { worker: worker(2), notice_ms: 3_000 }).expect(["evict i2 3000"]);
    assert_eq!(story.last_decision("job"), "let the pool take w2 with 3 s notice: someone asked for a drill");
    assert_eq!(story.job("job").evictions, 0);
    let unknown = story.refused(Event::EvictRequested { worker: worker(9), notice_ms: 0 });
    assert_eq!(unknown, Rejection::UnknownWorker(worker(9)));
}

#[test]
fn the_last_holders_save_and_the_job_goes_on_from_there() {
    let mut story = Story::running(1);
    story.pool("local", 1);
    story.notice(1, 5_000).expect(["w1 <- assign 2 planned"]);
    assert_eq!(story.job("job").reason, "its last workers are taken and save its state");
    story.left(1, 2, 20).expect(["end i1 5000"]);
    assert_eq!(story.state("job"), "recovering");
    story.down(1, DownCause::Exited(0)).expect(["launch w2 local"]);
    story.attach(2).expect(["w2 <- welcome a", "w2 <- assign 3 now w2:0-8"]);
    assert_eq!(story.state("job"), "recovering");
    story.resumed(2, 3, 21).expect([]);
    assert_eq!((story.state("job"), story.job("job").steps_repeated), ("running", 0));
}

#[test]
fn a_newer_planned_change_replaces_one_that_has_not_taken_effect() {
    let mut story = Story::running(3);
    story.pool("local", 3);
    story.notice(3, 5_000).expect([
        "w1 <- assign 2 planned w1:0-4 w2:4-8",
        "w2 <- assign 2 planned w1:0-4 w2:4-8",
        "w3 <- assign 2 planned w1:0-4 w2:4-8",
    ]);
    story.notice(2, 5_000).expect([
        "w1 <- assign 3 planned w1:0-8",
        "w2 <- assign 3 planned w1:0-8",
        "w3 <- assign 3 planned w1:0-8",
    ]);
    // The generation in between may have taken effect after all, and the first is still known.
    story.resumed(1, 2, 11).left(3, 2, 11).left(2, 3, 12).resumed(1, 3, 13).expect(["end i3 5000", "end i2 5000"]);
    assert_eq!(story.job("job").stale_messages, 0);
}

#[test]
fn no_boundary_is_asked_for_before_a_dropped_step_is_made_good() {
    let mut story = Story::running(3);
    story.pool("local", 2);
    story.down(3, DownCause::Evicted).skip();
    story.notice(2, 5_000).expect([]);
    story.resumed(1, 2, 11).expect(["w1 <- assign 3 planned w1:0-8", "w2 <- assign 3 planned w1:0-8"]);
}

#[test]
fn but_it_is_asked_for_when_the_group_takes_too_long() {
    let mut story = Story::running(3);
    story.pool("local", 2);
    story.down(3, DownCause::Evicted).skip();
    story.notice(2, 9_000).wait(4_999, &[1, 2]).expect([]);
    story.wait(1, &[1, 2]).expect(["w1 <- assign 3 planned w1:0-8", "w2 <- assign 3 planned w1:0-8"]);
}

#[test]
fn one_that_leaves_and_dies_before_the_switch_is_a_loss() {
    let mut story = Story::running(2);
    story.pool("local", 2);
    story.notice(2, 500).skip();
    story.down(2, DownCause::Evicted).expect(["w1 <- assign 3 now w1:0-8", "launch w3 local"]);
    assert_eq!(story.job("job").evictions, 1);
}

#[test]
fn one_that_leaves_and_dies_after_the_switch_is_not() {
    let mut story = Story::running(2);
    story.pool("local", 1);
    story.notice(2, 500).resumed(1, 2, 11).skip();
    story.down(2, DownCause::Evicted).expect([]);
}

#[test]
fn one_that_exits_well_while_leaving_has_left() {
    let mut story = Story::running(2);
    story.pool("local", 1);
    story.notice(2, 500).skip();
    story.down(2, DownCause::Exited(0)).expect([]);
}

#[test]
fn one_that_stands_aside_goes_home_once_the_others_train_without_it() {
    let mut story = Story::running(3);
    story.pool("local", 2);
    story.notice(2, 5_000).aside(2, 2, 11).skip();
    assert_eq!(story.worker_state(2), "draining");
    story.aside(2, 2, 11).heartbeat(2, 1, Some(11)).expect([]);
    story.resumed(1, 2, 12).expect(["w2 <- exit", "end i2 5000"]);
    story.down(2, DownCause::Exited(0)).expect([]);
    let job = story.job("job");
    assert_eq!((job.evictions, job.steps_repeated, job.stale_messages), (1, 0, 0));
    assert!(!story.decisions("job").iter().any(|decision| decision.starts_with("send")), "it needs no words");
}

#[test]
fn nobody_misses_one_that_is_taken_while_it_stands_aside() {
    let mut story = Story::running(2);
    story.pool("local", 1);
    story.notice(2, 500).aside(2, 2, 11).skip();
    story.down(2, DownCause::Evicted).expect([]);
}

#[test]
fn those_who_stood_aside_are_called_back_when_nobody_else_holds_the_state() {
    let mut story = Story::running(3);
    story.pool("local", 3);
    story.notice(1, 5_000).notice(2, 5_000).aside(1, 3, 11).aside(2, 3, 11).skip();
    story.down(3, DownCause::Evicted).expect([
        "w1 <- assign 4 now w1:0-4 w2:4-8",
        "w2 <- assign 4 now w1:0-4 w2:4-8",
        "launch w4 local",
    ]);
    story.resumed(1, 4, 12).expect(["w1 <- assign 5 planned", "w2 <- assign 5 planned"]);
    story.left(1, 5, 13).left(2, 5, 13).expect(["end i1 5000", "end i2 5000"]);
    assert_eq!(story.job("job").steps_repeated, 0);
}

#[test]
fn one_that_stood_aside_is_called_back_when_the_last_dies_while_it_saves() {
    let mut story = Story::running(2);
    story.pool("local", 2);
    story.notice(1, 9_000).aside(1, 2, 11).skip();
    story.notice(2, 9_000).wait(5_000, &[1, 2]).expect(["w2 <- assign 3 planned"]);
    story.down(2, DownCause::Killed(9)).expect(["w1 <- assign 4 now w1:0-8", "launch w3 local"]);
}

#[test]
fn one_that_stands_aside_has_no_place_in_a_job_that_is_over() {
    let mut story = Story::running(2);
    story.pool("local", 1);
    story.notice(2, 5_000).aside(2, 2, 11).skip();
    story.finished(1, "d").expect(["w1 <- exit", "w2 <- exit", "end i1 5000", "end i2 5000"]);
}

#[test]
fn a_joiner_with_a_notice_goes_home_and_is_replaced() {
    let mut story = Story::new();
    story.pool("local", 1).submit("job", (1, 2), &["local"]).attach(1).resumed(1, 1, 1);
    story.pool("local", 3).attach(2).skip();
    story.notice(2, 5_000).expect(["w2 <- exit", "end i2 5000", "launch w3 local"]);
    assert_eq!(story.job("job").evictions, 1);
}

#[test]
fn a_ready_joiner_comes_in_with_the_change_that_lets_another_leave() {
    let mut story = Story::new();
    story.pool("local", 1).submit("job", (1, 3), &["local"]).attach(1).resumed(1, 1, 1);
    story.pool("local", 3).attach(2).attach(3).ready(2, 5).skip();
    story.pool("local", 2).notice(1, 5_000).expect(["w1 <- assign 2 planned w2:0-8", "w2 <- assign 2 planned w2:0-8"]);
    // Its donor leaves with that change: it fetches from one that stays.
    story.resumed(2, 2, 7).expect(["w3 <- join w2"]);
}

#[test]
fn a_joiner_whose_donor_is_lost_gets_another() {
    let mut story = Story::new();
    story.pool("local", 2).submit("job", (1, 3), &["local"]).attach(1).attach(2).resumed(1, 1, 1);
    story.pool("local", 3).attach(3).skip();
    story.pool("local", 2).down(1, DownCause::Killed(9)).expect(["w2 <- assign 2 now w2:0-8"]);
    story.resumed(2, 2, 5).expect(["w3 <- join w2"]);
    assert_eq!(story.last_decision("job"), "let w3 fetch the state from w2: w1, which served it before, is gone");
}

#[test]
fn a_joiner_that_dies_is_only_missed_once_it_is_a_member() {
    let mut story = Story::new();
    story.pool("local", 1).submit("job", (1, 2), &["local"]).attach(1).resumed(1, 1, 1);
    story.pool("local", 2).attach(2).skip();
    story.down(2, DownCause::Killed(9)).expect(["launch w3 local"]);
    story.attach(3).ready(3, 9).skip();
    story.down(3, DownCause::Killed(9)).expect(["w1 <- assign 3 now w1:0-8", "launch w4 local"]);
}

#[test]
fn a_ready_joiner_goes_on_alone_when_all_members_are_lost() {
    let mut story = Story::new();
    story.pool("local", 1).submit("job", (1, 3), &["local"]).attach(1).resumed(1, 1, 1);
    story.pool("local", 3).attach(2).attach(3).ready(3, 5).skip();
    story.pool("local", 2).down(1, DownCause::Killed(9)).expect(["w3 <- assign 2 now w3:0-8"]);
    story.resumed(3, 2, 6).expect(["w2 <- join w3"]);
    assert_eq!(story.state("job"), "running");
}

#[test]
fn those_who_are_to_leave_regroup_before_they_save() {
    let mut story = Story::running(3);
    story.pool("local", 3);
    story.notice(1, 5_000).notice(2, 5_000).notice(3, 5_000).skip();
    // Generation 2 and 3 were to let w1 and w2 go; w3 is the last, and dies before the boundary.
    story.down(3, DownCause::Evicted).expect([
        "w1 <- assign 4 now w1:0-4 w2:4-8",
        "w2 <- assign 4 now w1:0-4 w2:4-8",
        "launch w4 local",
    ]);
    story.resumed(1, 4, 11).expect(["w1 <- assign 5 planned", "w2 <- assign 5 planned"]);
    story.left(1, 5, 12).left(2, 5, 12).expect(["end i1 5000", "end i2 5000"]);
    assert_eq!(story.state("job"), "recovering");
}

#[test]
fn an_unknown_instance_gets_no_notice() {
    let mut story = Story::running(1);
    let deadline = story.now;
    let refused = story.refused(Event::EvictionNotice { instance: instance(7), deadline });
    assert_eq!(refused, Rejection::UnknownInstance(instance(7)));
}
