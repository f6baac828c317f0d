//! Priorities and queues: who comes first when capacity is short.

use super::{Story, spec};
use crate::{Event, JobId};
use trainctl_jobs::JobSpec;

fn of(name: &str, workers: (u32, u32), priority: i32, queue: &str) -> JobSpec {
    let mut spec = spec(name, workers, &["local"]);
    spec.policy.priority = priority;
    spec.policy.queue = (!queue.is_empty()).then(|| queue.to_owned());
    spec
}

#[test]
fn the_higher_priority_is_served_first() {
    let mut story = Story::new();
    story.submit_spec(of("low", (1, 2), 0, "")).submit_spec(of("job", (1, 2), 5, "")).skip();
    story.pool("local", 3).expect(["launch w1 local", "launch w2 local", "launch w3 local"]);
    let jobs: Vec<String> = story.core.workers().into_iter().map(|worker| worker.job.0).collect();
    assert_eq!(jobs, ["job", "job", "low"]);
}

#[test]
fn one_that_trains_yields_what_it_can_spare_to_a_higher_priority() {
    let mut story = Story::running(4);
    story.pool("local", 4).submit_spec(of("urgent", (2, 8), 1, ""));
    let spared = "w1 <- assign 2 planned w1:0-4 w2:4-8";
    story.expect([
        spared,
        &spared.replace("w1 <-", "w2 <-"),
        &spared.replace("w1 <-", "w3 <-"),
        &spared.replace("w1 <-", "w4 <-"),
    ]);
    assert_eq!(story.last_decision("job"), "wait for capacity: it lacks 2 workers and its pools have nothing free");
    story.resumed(1, 2, 12).left(3, 2, 12).left(4, 2, 12).skip();
    story.down(3, crate::DownCause::Exited(0)).down(4, crate::DownCause::Exited(0));
    story.expect(["launch w5 local", "launch w6 local"]);
}

#[test]
fn an_equal_one_of_the_same_queue_waits() {
    let mut story = Story::running(4);
    story.pool("local", 4).submit_spec(of("next", (2, 8), 0, "")).expect([]);
    assert_eq!(story.job("next").reason, "it lacks 2 workers and its pools have nothing free");
}

#[test]
fn what_was_kept_for_one_that_ends_is_had_by_the_next_at_once() {
    let mut story = Story::new();
    story.pool("local", 4).submit_spec(of("job", (1, 1), 0, "")).expect(["launch w1 local"]);
    story.submit_spec(of("large", (4, 4), 0, "")).submit_spec(of("small", (1, 1), 0, "")).expect([]);
    assert!(story.job("small").reason.contains("large"), "{}", story.job("small").reason);
    story.tell(Event::CancelRequested { job: JobId::from("large") }).expect(["launch w2 local"]);
}

fn w4_is_spared_a_second_later(story: &mut Story) {
    assert_eq!(story.core.next_deadline(), Some(story.now.plus_ms(1_000)));
    story.after(1_000).tell(Event::Tick).expect([
        "w1 <- assign 2 planned w1:0-3 w2:3-6 w3:6-8",
        "w2 <- assign 2 planned w1:0-3 w2:3-6 w3:6-8",
        "w3 <- assign 2 planned w1:0-3 w2:3-6 w3:6-8",
        "w4 <- assign 2 planned w1:0-3 w2:3-6 w3:6-8",
    ]);
}

#[test]
fn who_lacks_workers_hears_of_what_others_came_to_have_to_spare_within_a_second() {
    let mut story = Story::new();
    story.pool("local", 4).submit_spec(of("job", (1, 4), 0, "red")).skip();
    story.attach(1).attach(2).attach(3).attach(4).skip();
    // Nothing can be spared before it trains.
    story.submit_spec(of("other", (1, 4), 0, "blue")).expect([]);
    story.resumed(1, 1, 10).expect([]);
    w4_is_spared_a_second_later(&mut story);
}

#[test]
fn one_that_trains_gets_what_others_can_spare_within_a_second_and_not_with_each_event() {
    let mut story = Story::new();
    story.pool("local", 5).submit_spec(of("job", (1, 4), 0, "red")).skip();
    story.attach(1).attach(2).attach(3).attach(4).resumed(1, 1, 10).skip();
    story.submit_spec(of("other", (1, 4), 0, "blue")).expect(["launch w5 local"]);
    story.attach(5).skip();
    story.resumed(5, 1, 10).expect([]);
    assert_eq!(story.job("other").reason, "it lacks 3 workers and its pools have nothing free");
    w4_is_spared_a_second_later(&mut story);
}

#[test]
fn queues_share_what_there_is() {
    let mut story = Story::new();
    story.submit_spec(of("job", (1, 4), 0, "red")).submit_spec(of("two", (1, 4), 0, "red"));
    story.submit_spec(of("other", (1, 4), 0, "blue")).skip();
    story.pool("local", 6).skip();
    let mut jobs: Vec<String> = story.core.workers().into_iter().map(|worker| worker.job.0).collect();
    jobs.sort();
    assert_eq!(jobs, ["job", "job", "job", "other", "other", "other"]);
}

#[test]
fn a_queue_with_more_yields_until_both_have_the_same() {
    let mut story = Story::running(7);
    story.pool("local", 7).submit_spec(of("other", (1, 8), 0, "blue"));
    let staying: Vec<String> =
        story.core.workers().into_iter().filter(|w| w.state != "draining").map(|w| w.worker.0).collect();
    // One goes at first, so that the other can start.
    assert_eq!(staying.len(), 6);
    let mut gone = 0;
    for _ in 0..6 {
        let leaving: Vec<_> = story.core.workers().into_iter().filter(|w| w.state == "draining").collect();
        for view in leaving {
            let n: u32 = view.worker.0[1..].parse().unwrap();
            let generation = story.job("job").generation.0;
            let first = story.core.workers().into_iter().find(|w| w.state == "training" && w.job.0 == "job").unwrap();
            let first: u32 = first.worker.0[1..].parse().unwrap();
            story.resumed(first, generation, 20).left(n, generation, 20).down(n, crate::DownCause::Exited(0));
            gone += 1;
        }
        let new: Vec<u32> = story
            .core
            .workers()
            .into_iter()
            .filter(|w| w.state == "launching")
            .map(|w| w.worker.0[1..].parse().unwrap())
            .collect();
        for n in new {
            story.attach(n);
            let generation = story.job("other").generation.0;
            let _ = story.try_tell(crate::Event::Resumed {
                worker: super::worker(n),
                generation: crate::Generation(generation),
                step: 5,
                pause_ms: 1.0,
                steps_repeated: 0,
            });
        }
        // Who can spare any is looked for within a second.
        story.after(1_000).tell(Event::Tick).skip();
        for view in story.core.workers() {
            let generation = story.job(&view.job.0).generation.0;
            story.heartbeat(view.worker.0[1..].parse().unwrap(), generation, Some(20));
        }
    }
    let count = |story: &Story, job: &str| {
        story
            .core
            .workers()
            .into_iter()
            .filter(|w| w.job.0 == job && w.state != "gone" && w.state != "draining")
            .count()
    };
    assert_eq!((count(&story, "job"), count(&story, "other"), gone), (4, 3, 3));
}
