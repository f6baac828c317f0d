//! Workers that hold different states, and saves that don't work.

use super::{Story, instance, spec, worker};
use crate::{Checkpoint, Differing, DownCause, Event, Generation, JobId, Rejection, Subject};
use trainctl_jobs::NumericsSpec;

fn differing(step: u64, digests: &[(u32, &str)]) -> Differing {
    let digests = digests.iter().map(|(n, digest)| (worker(*n), (*digest).to_owned())).collect();
    Differing { step, subject: Subject::Model, shard: None, digests, right: None }
}

fn differ(n: u32, generation: u64, step: u64, digests: &[(u32, &str)]) -> Event {
    Event::StatesDiffer { worker: worker(n), generation: Generation(generation), differing: differing(step, digests) }
}

/// Of the gradient of shard 3, with what a repetition has shown to be right.
fn miscomputed(n: u32, generation: u64, step: u64, digests: &[(u32, &str)], right: Option<&str>) -> Event {
    let (subject, shard, right) = (Subject::Gradient, Some(3), right.map(str::to_owned));
    let differing = Differing { subject, shard, right, ..differing(step, digests) };
    Event::StatesDiffer { worker: worker(n), generation: Generation(generation), differing }
}

fn agree(n: u32, generation: u64, step: u64, digest: &str) -> Event {
    let (generation, digest) = (Generation(generation), digest.to_owned());
    Event::StatesAgree { worker: worker(n), generation, step, subject: Subject::Model, digest }
}

fn saved(story: &Story, n: u32, step: u64) -> Event {
    let checkpoint = Checkpoint {
        step,
        bytes: 1,
        seconds: 0.1,
        stall_ms: 0.1,
        why: "every 10 steps".to_owned(),
        state_digest: "d".to_owned(),
        committed: story.now,
    };
    Event::CheckpointCommitted { worker: worker(n), checkpoint }
}

fn save_failed(n: u32, step: u64) -> Event {
    Event::SaveFailed { worker: worker(n), step, reason: "write model: no space left".to_owned() }
}

#[test]
fn the_odd_one_of_three_is_quarantined_and_the_rest_go_on_at_once() {
    let mut story = Story::running(3);
    let event = saved(&story, 1, 10);
    story.tell(event);
    story.tell(differ(1, 1, 12, &[(1, "a"), (2, "b"), (3, "a")])).expect([
        "w1 <- assign 2 now after rollback 1 w1:0-4 w3:4-8",
        "w3 <- assign 2 now after rollback 1 w1:0-4 w3:4-8",
        "kill i2",
        "launch w4 local",
    ]);
    assert_eq!(
        story.decisions("job")[5..7],
        [
            "go back to the last agreement and repeat the steps since, without w2: its workers held different models in \
             memory at step 12: w1 a, w2 b and w3 a",
            "drop the step in progress and go on without w2, with 2 workers: its members held different states at step \
             12",
        ]
    );
    assert_eq!(story.state("job"), "recovering");

    // What is lost is replaced as after an eviction, on another instance, and it is nobody's crash.
    story.down(2, DownCause::Terminated).expect([]);
    story.resumed(1, 2, 11);
    let job = story.job("job");
    assert_eq!((job.state, job.evictions, job.steps_repeated), ("running", 0, 0));
    let corruption = &job.corruptions[0];
    assert_eq!((corruption.quarantined.as_slice(), corruption.open), ([worker(2)].as_slice(), false));
    assert_eq!((corruption.back_to, corruption.steps_repeated()), (Some(10), Some(2)));
}

#[test]
fn who_computed_a_shard_wrong_is_quarantined_as_by_a_majority() {
    let mut story = Story::running(3);
    let event = saved(&story, 1, 10);
    story.tell(event);
    story.tell(miscomputed(3, 1, 12, &[(1, "a"), (2, "b")], Some("a"))).expect([
        "w1 <- assign 2 now after rollback 1 w1:0-4 w3:4-8",
        "w3 <- assign 2 now after rollback 1 w1:0-4 w3:4-8",
        "kill i2",
        "launch w4 local",
    ]);
    assert_eq!(
        story.decisions("job")[5..7],
        [
            "go back to the last agreement and repeat the steps since, without w2: w2 gave b as the gradient of \
             shard 3 at step 12, and computing it again gives a; w2 is not used any more",
            "drop the step in progress and go on without w2, with 2 workers: the gradient of shard 3 was computed \
             differently at step 12",
        ]
    );
    story.down(2, DownCause::Terminated).expect([]);
    story.resumed(1, 2, 11);
    let job = story.job("job");
    assert_eq!((job.state, job.evictions, job.steps_repeated), ("running", 0, 0));
    let corruption = &job.corruptions[0];
    assert_eq!((corruption.quarantined.as_slice(), corruption.open), ([worker(2)].as_slice(), false));
    assert_eq!((corruption.back_to, corruption.steps_repeated()), (Some(10), Some(2)));
    // The other members say it too.
    let late = story.refused(miscomputed(1, 1, 12, &[(1, "a"), (2, "b")], Some("a")));
    assert_eq!(late, Rejection::Stale { worker: worker(1), message: "states that differ" });
}

#[test]
fn what_a_repetition_has_shown_decides_a_tie() {
    let mut story = Story::running(2);
    story.tell(miscomputed(1, 1, 12, &[(1, "a"), (2, "b")], Some("b"))).expect([
        "w2 <- assign 2 now after rollback 1 w2:0-8",
        "kill i1",
        "launch w3 local",
    ]);
    assert_eq!(story.job("job").corruptions[0].quarantined, [worker(1)]);
    // Nothing is left to settle.
    let decisions = story.resumed(2, 2, 1).job("job").decisions;
    story.tell(agree(2, 2, 12, "a")).expect([]);
    assert_eq!(story.job("job").decisions, decisions);
}

#[test]
fn a_lone_worker_that_differs_from_itself_is_replaced() {
    let mut story = Story::running(1);
    story.pool("local", 2).skip();
    story.tell(miscomputed(1, 1, 12, &[(1, "b")], Some("a"))).expect(["kill i1", "launch w2 local"]);
    let job = story.job("job");
    assert_eq!((job.state, job.corruptions[0].quarantined.as_slice()), ("recovering", [worker(1)].as_slice()));
    story
        .down(1, DownCause::Terminated)
        .attach(2)
        .expect(["w2 <- welcome a", "w2 <- assign 2 now after rollback 1 w2:0-8"]);
    assert_eq!(story.resumed(2, 2, 1).state("job"), "running");
}

#[test]
fn all_who_differ_from_what_is_right_are_quarantined() {
    let mut story = Story::running(3);
    story.tell(miscomputed(3, 1, 12, &[(1, "b"), (2, "c")], Some("a"))).expect([
        "w3 <- assign 2 now after rollback 1 w3:0-8",
        "kill i1",
        "kill i2",
        "launch w4 local",
        "launch w5 local",
    ]);
    let why = "w1 gave b and w2 gave c as the gradient of shard 3 at step 12, and computing it again gives a; w1 and w2 \
               are not used any more";
    assert!(story.decisions("job").iter().any(|decision| decision.ends_with(why)), "{:#?}", story.decisions("job"));
}

#[test]
fn a_shard_whose_repetition_has_shown_nothing_is_settled_by_the_next_one() {
    let mut story = Story::running(2);
    story.tell(miscomputed(1, 1, 12, &[(1, "a"), (2, "b")], None)).expect([
        "w1 <- assign 2 now after rollback 1 w1:0-4 w2:4-8",
        "w2 <- assign 2 now after rollback 1 w1:0-4 w2:4-8",
    ]);
    let why = "its workers computed different gradients of shard 3 at step 12: w1 a and w2 b";
    assert!(story.decisions("job").iter().any(|decision| decision.ends_with(why)), "{:#?}", story.decisions("job"));
    // That all hold the same model by then tells nothing of the shard.
    story.resumed(1, 2, 1).tell(agree(1, 2, 12, "a")).expect([]);
    let (generation, digest) = (Generation(2), "a".to_owned());
    story
        .tell(Event::StatesAgree { worker: worker(1), generation, step: 12, subject: Subject::Gradient, digest })
        .expect(["w1 <- assign 3 now after rollback 1 w1:0-8", "kill i2", "launch w3 local"]);
}

#[test]
fn where_it_went_on_is_known_also_when_a_heartbeat_comes_first() {
    let mut story = Story::running(3);
    story.tell(differ(1, 1, 12, &[(1, "a"), (2, "b"), (3, "a")]));
    story.heartbeat(1, 2, Some(10)).heartbeat(1, 2, Some(11)).resumed(1, 2, 11);
    assert_eq!(story.job("job").corruptions[0].back_to, Some(10));
}

#[test]
fn each_member_says_it_and_only_the_first_counts() {
    let mut story = Story::running(3);
    let digests = [(1, "a"), (2, "b"), (3, "a")];
    story.tell(differ(3, 1, 12, &digests)).skip();
    let late = story.refused(differ(1, 1, 12, &digests));
    assert_eq!(late, Rejection::Stale { worker: worker(1), message: "states that differ" });
    story.expect([]);
    assert_eq!(story.job("job").corruptions.len(), 1);
}

#[test]
fn what_is_heard_after_a_loss_in_the_same_round_counts() {
    let mut story = Story::running(3);
    story.down(1, DownCause::Evicted).skip();
    let digests = [(1, "a"), (2, "b"), (3, "a")];
    story.tell(differ(3, 1, 12, &digests)).expect([
        "w3 <- assign 3 now after rollback 1 w3:0-8",
        "kill i2",
        "launch w5 local",
    ]);
    let late = story.refused(differ(2, 1, 12, &digests));
    assert_eq!(late, Rejection::Stale { worker: worker(2), message: "states that differ" });
    assert_eq!(story.job("job").corruptions[0].quarantined, [worker(2)]);
}

#[test]
fn at_a_tie_all_repeat_and_who_held_something_else_before_is_quarantined() {
    let mut story = Story::running(2);
    story.tell(differ(1, 1, 12, &[(1, "a"), (2, "b")])).expect([
        "w1 <- assign 2 now after rollback 1 w1:0-4 w2:4-8",
        "w2 <- assign 2 now after rollback 1 w1:0-4 w2:4-8",
    ]);
    let repeats = "go back to the last agreement and repeat the steps since: that may tell who was wrong";
    assert!(story.decisions("job").iter().any(|decision| decision.starts_with(repeats)));
    story.resumed(1, 2, 1).resumed(2, 2, 1).expect([]);
    story.tell(agree(2, 2, 12, "a")).expect([
        "w1 <- assign 3 now after rollback 1 w1:0-8",
        "kill i2",
        "launch w3 local",
    ]);
    let told = "go on without w2: repeated, step 12 gives a, and w2 held something else before";
    assert!(story.decisions("job").contains(&told.to_owned()));
    assert_eq!(story.job("job").corruptions[0].quarantined, [worker(2)]);
    // The state is right: nothing is repeated for this.
    assert_eq!(story.job("job").corruptions.len(), 1);
}

#[test]
fn a_repetition_that_gives_something_new_blames_nobody() {
    let mut story = Story::running(2);
    story.tell(differ(1, 1, 12, &[(1, "a"), (2, "b")])).skip();
    story.resumed(1, 2, 1).tell(agree(1, 2, 12, "c")).expect([]);
    let nobody = "keep all workers: repeated, step 12 gives c, which nobody held before: it doesn't tell who was wrong";
    assert_eq!(story.last_decision("job"), nobody);
    // The other member says it as well.
    let decisions = story.decisions("job").len();
    story.tell(agree(2, 2, 12, "c"));
    assert_eq!(story.decisions("job").len(), decisions);
}

#[test]
fn an_agreement_on_another_step_settles_nothing() {
    let mut story = Story::running(2);
    story.tell(differ(1, 1, 12, &[(1, "a"), (2, "b")])).skip();
    story.resumed(1, 2, 1).tell(agree(1, 2, 11, "a")).expect([]);
    assert!(story.job("job").corruptions[0].open);
}

#[test]
fn states_that_differ_again_and_again_fail_the_job() {
    let mut story = Story::running(2);
    for generation in 1..=3 {
        story.tell(differ(1, generation, 12, &[(1, "a"), (2, "b")])).resumed(1, generation + 1, 1).skip();
    }
    story.tell(differ(1, 4, 12, &[(1, "a"), (2, "b")]));
    let job = story.job("job");
    let reason = "its workers held different models in memory at step 12: w1 a and w2 b, and 3 repetitions of the steps \
                  since the last agreement did not change that";
    assert_eq!((job.state, job.reason.as_str()), ("failed", reason));
}

#[test]
fn a_checkpoint_in_between_starts_the_count_again() {
    let mut story = Story::running(2);
    for generation in 1..=6 {
        let step = 10 * generation + 2;
        story.tell(differ(1, generation, step, &[(1, "a"), (2, "b")])).resumed(1, generation + 1, step - 1);
        let event = saved(&story, 1, step + 8);
        story.tell(event);
    }
    assert_eq!(story.state("job"), "running");
}

#[test]
fn joiners_drop_what_they_fetched_and_fetch_again() {
    let mut story = Story::running(3);
    story.pool("local", 8).down(3, DownCause::Killed(9)).attach(4).resumed(1, 2, 11).skip();
    story.ready(4, 11).skip();
    story.resumed(1, 3, 12).tell(differ(1, 3, 13, &[(1, "a"), (2, "a"), (4, "b")])).skip();
    assert_eq!(story.worker_state(4), "draining");
    story.down(4, DownCause::Terminated).attach(5).skip();
    story.resumed(1, 4, 1).expect(["w5 <- join w1 w2"]);
}

#[test]
fn a_joiner_on_its_way_waits_for_the_group_to_train_again() {
    let mut story = Story::running(3);
    story.down(3, DownCause::Killed(9)).attach(4).resumed(1, 2, 11).skip();
    assert_eq!(story.worker_state(4), "joining");
    story.tell(differ(1, 2, 12, &[(1, "a"), (2, "b")])).skip();
    assert_eq!(story.worker_state(4), "attached");
    story.resumed(1, 3, 1).expect(["w4 <- join w1 w2"]);
}

#[test]
fn a_group_that_was_to_leave_goes_back_first() {
    let mut story = Story::running(2);
    story.tell(Event::CancelRequested { job: JobId::from("job") }).skip();
    story.tell(differ(2, 1, 12, &[(1, "a"), (2, "b")])).expect([
        "w1 <- assign 3 now after rollback 1 w1:0-4 w2:4-8",
        "w2 <- assign 3 now after rollback 1 w1:0-4 w2:4-8",
    ]);
    story
        .resumed(1, 3, 1)
        .expect(["w1 <- assign 4 planned after rollback 1", "w2 <- assign 4 planned after rollback 1"]);
    story.left(1, 4, 1).left(2, 4, 1);
    assert_eq!(story.state("job"), "cancelled");
}

#[test]
fn shards_that_are_about_to_move_stay_where_they_are_when_states_differ() {
    let mut story = Story::running(2);
    story.timed(1, &[(1, 0.04), (2, 0.01)]).skip();
    assert_eq!(story.counts(), [1, 7]);
    // Said of the generation that still trains: the move has no boundary to take effect at.
    story.tell(differ(1, 1, 21, &[(1, "a"), (2, "b")])).expect([
        "w1 <- assign 3 now after rollback 1 w1:0-1 w2:1-8",
        "w2 <- assign 3 now after rollback 1 w1:0-1 w2:1-8",
    ]);
    story.resumed(1, 3, 11);
    assert_eq!(story.job("job").corruptions[0].back_to, Some(10));
}

#[test]
fn shards_may_move_while_steps_are_repeated_and_the_dispute_is_settled_all_the_same() {
    let mut story = Story::running(2);
    story.tell(differ(1, 1, 30, &[(1, "a"), (2, "b")])).resumed(1, 2, 11).resumed(2, 2, 11).skip();
    story.timed(2, &[(1, 0.04), (2, 0.01)]).expect([
        "w1 <- assign 3 planned after rollback 1 w1:0-1 w2:1-8",
        "w2 <- assign 3 planned after rollback 1 w1:0-1 w2:1-8",
    ]);
    // It is said by the generation before, which trains until the next boundary.
    story.tell(agree(1, 2, 30, "b")).expect([
        "w2 <- assign 4 now after rollback 1 w2:0-8",
        "kill i1",
        "launch w3 local",
    ]);
    story.resumed(2, 4, 31).expect([]);
    let job = story.job("job");
    assert_eq!((job.corruptions.len(), job.corruptions[0].back_to), (1, Some(10)));
}

#[test]
fn only_the_newest_of_two_disputes_is_open() {
    let mut story = Story::running(2);
    story.tell(differ(1, 1, 12, &[(1, "a"), (2, "b")])).resumed(1, 2, 1);
    story.tell(differ(1, 2, 12, &[(1, "a"), (2, "c")])).resumed(1, 3, 1);
    story.tell(agree(1, 3, 12, "a"));
    let corruptions = story.job("job").corruptions;
    let told: Vec<_> = corruptions.iter().map(|c| (c.number, c.open, c.quarantined.clone())).collect();
    assert_eq!(told, [(1, false, vec![]), (2, false, vec![worker(2)])]);
}

#[test]
fn fewer_than_the_job_starts_with_go_on_after_a_quarantine() {
    let mut story = Story::new();
    story.pool("local", 3).submit("job", (3, 3), &["local"]).attach(1).attach(2).attach(3).resumed(1, 1, 10).skip();
    story.pool("local", 2).tell(differ(1, 1, 12, &[(1, "a"), (2, "b"), (3, "a")])).expect([
        "w1 <- assign 2 now after rollback 1 w1:0-4 w3:4-8",
        "w3 <- assign 2 now after rollback 1 w1:0-4 w3:4-8",
        "kill i2",
    ]);
    story.down(2, DownCause::Terminated).resumed(1, 2, 11).expect([]);
    assert_eq!(story.state("job"), "running");
    let waits = "wait for capacity: it lacks 1 worker and its pools have nothing free";
    assert_eq!(story.last_decision("job"), waits);
}

#[test]
fn when_all_that_are_left_held_wrong_states_the_job_starts_again_from_its_checkpoint() {
    let mut story = Story::running(3);
    story.tell(differ(1, 1, 12, &[(1, "a"), (2, "b"), (3, "c")])).down(1, DownCause::Killed(9)).resumed(2, 3, 1).skip();
    story.tell(agree(2, 3, 12, "a"));
    assert_eq!((story.state("job"), story.job("job").corruptions[0].quarantined.len()), ("recovering", 2));
}

#[test]
fn what_is_known_outlives_the_coordinator() {
    let mut story = Story::running(2);
    story.tell(differ(1, 1, 12, &[(1, "a"), (2, "b")])).restart(&[1, 2]);
    story
        .attach_holding(1, Some((1, None)))
        .expect(["w1 <- welcome a", "w1 <- assign 2 now after rollback 1 w1:0-4 w2:4-8"]);
    story.attach_holding(2, Some((2, None))).resumed(1, 2, 1).skip();
    let blames = ["w2 <- assign 3 now after rollback 1 w2:0-8", "kill i1", "launch w3 local"];
    story.tell(agree(1, 2, 12, "b")).expect(blames);
}

#[test]
fn a_pool_that_gives_several_wrong_ones_is_not_bought_from_any_more() {
    let mut story = Story::new();
    story.pool("first", 3).submit("job", (1, 3), &["first", "second"]);
    story.attach(1).attach(2).attach(3).resumed(1, 1, 10).skip();
    let (mut third, mut generation) = (3, 1);
    for round in 0..3 {
        let step = 12 + 10 * round;
        story.tell(differ(1, generation, step, &[(1, "a"), (2, "a"), (third, "b")]));
        story.resumed(1, generation + 1, step - 1).down(third, DownCause::Terminated);
        let event = saved(&story, 1, step + 5);
        story.tell(event);
        third += 1;
        generation += 2;
        if round < 2 {
            story.attach(third).ready(third, step).resumed(1, generation, step + 6).skip();
        }
    }
    let distrust = "buy nothing more from first for this job: it gave 3 workers that held wrong states".to_owned();
    assert!(story.decisions("job").contains(&distrust), "{:#?}", story.decisions("job"));
    story.skip().pool("second", 1).expect(["launch w6 second"]);
    assert_eq!(story.state("job"), "running");
}

#[test]
fn what_can_not_be_is_refused() {
    let mut story = Story::running(2);
    let out_of_place = Rejection::OutOfPlace { worker: worker(1), message: "states that differ" };
    assert_eq!(story.refused(differ(1, 1, 12, &[(1, "a"), (2, "a")])), out_of_place);
    assert_eq!(story.refused(differ(1, 1, 12, &[])), out_of_place);
    // Nobody launched the third, and who gets its name some day is not to blame.
    assert_eq!(story.refused(differ(1, 1, 12, &[(1, "a"), (2, "a"), (3, "b")])), out_of_place);
    // Nobody differs from what is right; there is no shard 8, nor one of a model.
    assert_eq!(story.refused(miscomputed(1, 1, 12, &[(1, "a"), (2, "a")], Some("a"))), out_of_place);
    for (subject, shard) in [(Subject::Gradient, Some(8)), (Subject::Gradient, None), (Subject::Model, Some(3))] {
        let differing = Differing { subject, shard, ..differing(12, &[(1, "a"), (2, "b")]) };
        let said = Event::StatesDiffer { worker: worker(1), generation: Generation(1), differing };
        assert_eq!(story.refused(said), out_of_place, "{subject:?} {shard:?}");
    }
    let future = Rejection::FutureGeneration { worker: worker(1), newest: Generation(1), found: Generation(9) };
    assert_eq!(story.refused(differ(1, 9, 12, &[(1, "a"), (2, "b")])), future);
    story.expect([]);
}

#[test]
fn fast_jobs_are_compared_as_well() {
    let mut story = Story::new();
    let mut fast = spec("job", (1, 3), &["local"]);
    fast.train.numerics = NumericsSpec::Fast;
    story.pool("local", 3).submit_spec(fast).attach(1).attach(2).attach(3).resumed(1, 1, 10).skip();
    story.tell(differ(1, 1, 12, &[(1, "a"), (2, "b"), (3, "a")])).expect([
        "w1 <- assign 2 now after rollback 1 w1:0-4 w3:4-8",
        "w3 <- assign 2 now after rollback 1 w1:0-4 w3:4-8",
        "kill i2",
    ]);
}

#[test]
fn of_saves_that_fail_the_first_is_a_decision_and_a_checkpoint_ends_the_row() {
    let mut story = Story::running(2);
    story.tell(save_failed(2, 20)).tell(save_failed(1, 20)).tell(save_failed(1, 30)).expect([]);
    let told = "train on without this checkpoint: w2 could not save step 20: write model: no space left";
    assert_eq!(story.last_decision("job"), told);
    let failure = story.job("job").save_failure.expect("a failure");
    assert_eq!((failure.step, failure.worker), (30, worker(1)));

    let event = saved(&story, 1, 40);
    story.tell(event);
    assert_eq!(story.job("job").save_failure, None);
    story.tell(save_failed(1, 50));
    assert!(story.last_decision("job").contains("step 50"));
    assert!(story.core.instances().iter().all(|view| view.instance != instance(3)));
}

#[test]
fn members_that_cannot_use_nccl_are_told_while_they_are_there() {
    let failed = |n: u32, generation, reason: &str| Event::NcclFailed {
        worker: worker(n),
        generation: Generation(generation),
        reason: reason.to_owned(),
    };
    let told = |story: &Story| -> Vec<_> {
        story.job("job").nccl_failures.into_iter().map(|failure| (failure.worker, failure.reason)).collect()
    };
    let mut story = Story::running(3);
    story.tell(failed(2, 1, "no GPU")).expect([]);
    let words = "exchange gradients over TCP while w2 is a member: w2 can't use NCCL: no GPU";
    assert_eq!(story.last_decision("job"), words);
    let decisions = story.job("job").decisions;
    story.tell(failed(2, 1, "no GPU")).tell(failed(3, 1, "too old"));
    assert_eq!(told(&story), [(worker(2), "no GPU".to_owned()), (worker(3), "too old".to_owned())]);
    assert_eq!(story.job("job").decisions, decisions, "one is enough");

    story.notice(2, 5_000).skip();
    assert_eq!(told(&story), [(worker(3), "too old".to_owned())]);
    story.tell(failed(3, 2, "older still"));
    assert_eq!(told(&story), [(worker(3), "older still".to_owned())]);
    assert!(story.last_decision("job").ends_with("w3 can't use NCCL: older still"));
}
