//! How jobs end: well, badly, on request, or for now.

use super::{LAST_STEP, Story, spec, worker};
use crate::{DownCause, Event, JobId, Rejection};

fn cancel(story: &mut Story) -> &mut Story {
    story.tell(Event::CancelRequested { job: JobId::from("job") })
}

#[test]
fn all_finish_with_the_same_state() {
    let mut story = Story::running(2);
    story.finished(1, "d").expect([]);
    story.finished(2, "d").expect(["w1 <- exit", "w2 <- exit", "end i1 5000", "end i2 5000"]);
    let job = story.job("job");
    assert_eq!((job.state, job.step, job.ended), ("succeeded", LAST_STEP, Some(story.now)));
    assert_eq!(job.state_digest, Some(("d".to_owned(), LAST_STEP)));
    assert_eq!(
        story.last_decision("job"),
        "end the job as succeeded: all 2 workers finished the last step with state d"
    );
    story.down(1, DownCause::Exited(0)).down(2, DownCause::Exited(0)).expect([]);
    assert!(story.core.instances().is_empty());
    assert_eq!(story.worker_state(1), "gone");
}

#[test]
fn different_ends_fail_the_job() {
    let mut story = Story::running(2);
    story.finished(1, "d").finished(2, "e");
    let job = story.job("job");
    assert_eq!((job.state, job.reason.as_str()), ("failed", "its workers finished with different states: w1 d, w2 e"));
}

#[test]
fn one_that_finished_stands_for_those_that_die_then() {
    let mut story = Story::running(3);
    story.finished(1, "d").down(2, DownCause::Killed(9)).skip();
    story.peer_lost(1, 2, 3).unwrap();
    assert_eq!(story.state("job"), "succeeded");
}

#[test]
fn a_finished_worker_is_no_more_drained() {
    let mut story = Story::running(2);
    story.finished(1, "d").notice(1, 5_000).expect([]);
    story.down(1, DownCause::Evicted).expect(["w2 <- assign 2 now w2:0-8"]);
    story.finished(2, "d");
    assert_eq!(story.state("job"), "succeeded");
}

#[test]
fn those_that_do_not_follow_the_first_that_finished_are_given_up() {
    let mut story = Story::running(2);
    story.finished(1, "d").wait(120_000, &[1, 2]);
    assert_eq!(story.state("job"), "succeeded");
    story.expect(["w1 <- exit", "end i1 5000", "kill i2"]);
}

#[test]
fn an_end_before_the_last_step_is_refused() {
    let mut story = Story::running(1);
    let digest = "d".to_owned();
    let early =
        Event::WorkerFinished { worker: worker(1), step: 99, loss: None, evaluation: None, state_digest: digest };
    let refused = Rejection::WrongLastStep { worker: worker(1), expected: LAST_STEP, found: 99 };
    assert_eq!(story.refused(early), refused);
}

#[test]
fn a_worker_that_says_nobody_can_fails_the_job() {
    let mut story = Story::running(2);
    let reason = "step 12: the loss is not finite".to_owned();
    story.tell(Event::WorkerFailed { worker: worker(2), job_fails: true, reason });
    story.expect(["w1 <- exit", "end i1 5000", "kill i2"]);
    let words = "w2 says that no worker can do it: step 12: the loss is not finite";
    assert_eq!((story.state("job"), story.job("job").reason.as_str()), ("failed", words));
}

#[test]
fn cancel_while_queued() {
    let mut story = Story::new();
    story.submit("job", (1, 1), &["local"]);
    cancel(&mut story).expect([]);
    assert_eq!(story.state("job"), "cancelled");
    let again = story.refused(Event::CancelRequested { job: JobId::from("job") });
    assert_eq!(again, Rejection::JobEnded(JobId::from("job")));
    let unknown = story.refused(Event::CancelRequested { job: JobId::from("nobody") });
    assert_eq!(unknown, Rejection::UnknownJob(JobId::from("nobody")));
}

#[test]
fn cancel_while_workers_arrive() {
    let mut story = Story::new();
    story.pool("local", 2).submit("job", (2, 2), &["local"]).attach(1).skip();
    cancel(&mut story).expect(["w1 <- exit", "end i1 5000", "kill i2"]);
    assert_eq!(story.state("job"), "cancelled");
    // One that attaches only now is told so.
    story.attach(2).expect(["w2 <- welcome", "w2 <- exit"]);
}

#[test]
fn cancel_while_training_saves_first() {
    let mut story = Story::running(2);
    cancel(&mut story).expect(["w1 <- assign 2 planned", "w2 <- assign 2 planned"]);
    assert_eq!((story.state("job"), story.job("job").world_size), ("running", 2));
    story.left(1, 2, 30).expect(["end i1 5000"]);
    story.left(2, 2, 30).expect(["end i2 5000"]);
    assert_eq!(story.state("job"), "cancelled");
}

#[test]
fn cancel_while_the_group_meets_waits_for_its_first_step() {
    let mut story = Story::new();
    story.pool("local", 1).submit("job", (1, 1), &["local"]).attach(1).skip();
    cancel(&mut story).expect([]);
    story.resumed(1, 1, 1).expect(["w1 <- assign 2 planned"]);
}

#[test]
fn cancel_while_members_die_saves_with_those_left() {
    let mut story = Story::running(2);
    cancel(&mut story).skip().down(2, DownCause::Killed(9)).expect(["w1 <- assign 3 now w1:0-8"]);
    story.resumed(1, 3, 11).expect(["w1 <- assign 4 planned"]);
    story.left(1, 4, 12);
    assert_eq!(story.state("job"), "cancelled");
}

#[test]
fn cancel_of_those_that_never_leave_takes_them() {
    let mut story = Story::running(1);
    cancel(&mut story).skip().wait(120_000, &[1]);
    assert_eq!(story.state("job"), "cancelled");
    story.expect(["kill i1"]);
}

#[test]
fn cancel_that_comes_after_the_last_step_changes_nothing() {
    let mut story = Story::running(2);
    cancel(&mut story).skip();
    story.finished(1, "d").finished(2, "d");
    assert_eq!(story.state("job"), "succeeded");
}

#[test]
fn cancel_while_recovering() {
    let mut story = Story::running(1);
    story.pool("local", 0).down(1, DownCause::Evicted).skip();
    cancel(&mut story).expect([]);
    assert_eq!(story.state("job"), "cancelled");
}

#[test]
fn suspended_jobs_go_on_when_the_coordinator_starts_again() {
    let mut story = Story::running(1);
    story.submit("next", (1, 1), &["local"]).skip();
    story.tell(Event::SuspendRequested).expect(["w1 <- assign 2 planned", "kill i2"]);
    assert_eq!(story.state("next"), "suspended");
    story.left(1, 2, 30).down(1, DownCause::Exited(0)).down(2, DownCause::Terminated).expect(["end i1 5000"]);
    assert_eq!(story.state("job"), "suspended");
    let late = spec("late", (1, 1), &["local"]);
    story.submit_spec(late).expect([]);
    assert_eq!(story.state("late"), "suspended");
    story.restart(&[]).expect(["launch w3 local", "launch w4 local", "launch w5 local"]);
    assert_eq!((story.state("job"), story.state("next")), ("recovering", "provisioning"));
    story.attach(3).expect(["w3 <- welcome a", "w3 <- assign 3 now w3:0-8"]);
}

#[test]
fn a_suspended_job_can_be_cancelled() {
    let mut story = Story::new();
    story.submit("job", (1, 1), &["local"]).tell(Event::SuspendRequested);
    cancel(&mut story);
    assert_eq!(story.state("job"), "cancelled");
}
