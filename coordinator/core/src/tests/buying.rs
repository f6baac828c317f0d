//! Offers, zones, regions and errors: what is bought where, and what is left alone.

use super::{Story, instance, spec};
use crate::{Event, LaunchError, LaunchErrorKind, Market, Place, PoolName, PoolSpec, Price, ProviderName, Scope};
use trainctl_jobs::{JobSpec, OnDemandSpec};

/// `aws/us-east-1a`: a place of the pool `aws`, in its region, at this price where on demand costs 1.
pub(super) fn offer(name: &str, market: Market, usd_per_hour: f64, capacity: u32) -> PoolSpec {
    let (of, zone) = name.split_once('/').expect("a pool and a zone");
    let zone = zone.trim_end_matches("/on-demand");
    let region = zone.trim_end_matches(|letter: char| letter.is_ascii_lowercase());
    PoolSpec {
        name: PoolName::from(name),
        of: PoolName::from(of),
        place: Place { provider: ProviderName::from(of), region: Some(region.to_owned()), zone: Some(zone.to_owned()) },
        market,
        price: Some(Price { usd_per_hour, on_demand_usd_per_hour: 1.0 }),
        capacity,
        capacity_told: false,
        notice_ms: 120_000,
    }
}

impl Story {
    pub(super) fn spot(&mut self, name: &str, usd_per_hour: f64, capacity: u32) -> &mut Self {
        self.tell(Event::PoolChanged { pool: offer(name, Market::Spot, usd_per_hour, capacity) })
    }

    pub(super) fn on_demand(&mut self, name: &str, capacity: u32) -> &mut Self {
        self.tell(Event::PoolChanged { pool: offer(&format!("{name}/on-demand"), Market::OnDemand, 1.0, capacity) })
    }

    pub(super) fn fails(&mut self, n: u32, kind: LaunchErrorKind, scope: Scope) -> &mut Self {
        let error = LaunchError { kind, scope, message: "no".to_owned() };
        self.tell(Event::LaunchFailed { instance: instance(n), error })
    }
}

fn with(mut spec: JobSpec, change: impl Fn(&mut JobSpec)) -> JobSpec {
    change(&mut spec);
    spec
}

#[test]
fn the_cheapest_is_taken_whatever_the_order_of_pools() {
    let mut story = Story::new();
    story.spot("aws/us-1a", 0.4, 2).spot("gcp/us-1b", 0.3, 1).submit("job", (1, 2), &["aws", "gcp"]);
    story.expect(["launch w1 gcp/us-1b", "launch w2 aws/us-1a"]);
    assert_eq!(
        story.last_decision("job"),
        "start w2 on i2 from aws/us-1a: the job has 1 of its 2 workers and aws/us-1a has 2 free at $0.40 an hour \
        instead of $1.00, taken 0.10 times an hour, and gcp/us-1b has nothing to give now"
    );
}

#[test]
fn nearly_equal_zones_share_the_workers() {
    let mut story = Story::new();
    story.spot("aws/us-1a", 0.30, 9).spot("aws/us-1b", 0.31, 9).spot("aws/us-1c", 0.32, 9).spot("aws/us-1d", 0.5, 9);
    story.submit("job", (1, 4), &["aws"]);
    story.expect(["launch w1 aws/us-1a", "launch w2 aws/us-1b", "launch w3 aws/us-1c", "launch w4 aws/us-1a"]);
    let second = &story.decisions("job")[2];
    let reason = "; aws/us-1a is better by less than it is worth: it has 1 of the job's workers, this zone 0";
    assert!(second.ends_with(reason), "{second}");
}

#[test]
fn a_zone_that_takes_its_instances_is_left_for_another_and_comes_back_with_time() {
    let mut story = Story::new();
    story.spot("aws/us-1a", 0.30, 1).spot("aws/us-1b", 0.36, 1).submit("job", (1, 1), &["aws"]);
    story.expect(["launch w1 aws/us-1a"]);
    story.after(600_000).attach(1).skip();
    // Three are taken within an hour.
    for n in 1..4 {
        let zone = if n < 4 { "aws/us-1b" } else { "aws/us-1a" };
        story.down(n, crate::DownCause::Evicted);
        let left = story.left.clone();
        assert!(left.iter().any(|action| action.ends_with(zone) || action.ends_with("aws/us-1a")), "{left:?}");
        story.after(60_000).attach(n + 1).skip();
    }
    let rates =
        |story: &Story| story.core.pools().into_iter().map(|pool| pool.evictions_per_hour).collect::<Vec<f64>>();
    let before = rates(&story);
    assert!(before[0] > 0.5, "{before:?}");
    // The rate outlives the coordinator, and fades.
    story.reload();
    assert!((rates(&story)[0] - before[0]).abs() < 1e-6);
    story.spot("aws/us-1a", 0.30, 1).after(8 * 3_600_000).tell(Event::Tick);
    assert!(rates(&story)[0] < before[0] / 2.0);
}

#[test]
fn a_job_never_leaves_its_regions() {
    let mut story = Story::new();
    story.spot("aws/us-1a", 0.1, 9).spot("aws/eu-2a", 0.9, 9).pool("own", 1);
    let in_eu = with(spec("job", (1, 3), &["aws", "own"]), |spec| spec.resources.regions = vec!["eu-2".to_owned()]);
    story.submit_spec(in_eu).expect(["launch w1 own", "launch w2 aws/eu-2a", "launch w3 aws/eu-2a"]);
    let nowhere = with(spec("far", (1, 1), &["aws"]), |spec| spec.resources.regions = vec!["ap-3".to_owned()]);
    story.submit_spec(nowhere).expect([]);
    assert_eq!(story.job("far").reason, "none of its pools is in ap-3");
}

#[test]
fn a_quota_rests_one_market_of_a_region_until_something_is_given_back() {
    let mut story = Story::new();
    story.spot("aws/us-1a", 0.3, 2).spot("aws/us-1b", 0.31, 2).spot("aws/eu-2a", 0.5, 9).on_demand("aws/us-1a", 9);
    story.submit("job", (1, 4), &["aws"]);
    story.expect(["launch w1 aws/us-1a", "launch w2 aws/us-1b", "launch w3 aws/us-1a", "launch w4 aws/us-1b"]);
    story.fails(3, LaunchErrorKind::Quota, Scope::Region).expect(["launch w5 aws/eu-2a"]);
    story.fails(4, LaunchErrorKind::Quota, Scope::Region).expect(["launch w6 aws/eu-2a"]);
    let rests: Vec<String> = story.decisions("job").into_iter().filter(|what| what.starts_with("leave")).collect();
    let rest = "leave spot in us-1 of aws alone until something is given back there, 10 min at most: \
        the account may not have more: no";
    assert_eq!(rests, [rest]);
    // What is given back there has room for another.
    story.spot("aws/eu-2a", 0.5, 2).expect([]);
    story.down(2, crate::DownCause::Terminated).expect(["launch w7 aws/us-1b"]);
}

#[test]
fn a_provider_that_does_not_answer_is_left_alone_and_others_go_on() {
    let mut story = Story::new();
    story.spot("aws/us-1a", 0.3, 9).spot("aws/eu-2a", 0.3, 9).spot("gcp/us-1b", 0.9, 1);
    story.submit("job", (1, 2), &["aws", "gcp"]).expect(["launch w1 aws/eu-2a", "launch w2 aws/us-1a"]);
    story.fails(1, LaunchErrorKind::Transient, Scope::Provider).expect(["launch w3 gcp/us-1b"]);
    story.fails(2, LaunchErrorKind::Transient, Scope::Provider).expect([]);
    assert!(
        story.decisions("job").contains(&"leave all of aws alone for 1 s: it did not do what was asked: no".into())
    );
    story.after(1_000).tell(Event::Tick).expect(["launch w4 aws/eu-2a"]);
    // An instance that comes up shows that it answers again.
    story.fails(4, LaunchErrorKind::Transient, Scope::Provider).expect([]);
    let resting = |story: &Story| story.core.pools().iter().filter(|pool| pool.resting_until.is_some()).count();
    assert_eq!(resting(&story), 2);
    story.after(2_000).tell(Event::Tick).expect(["launch w5 aws/eu-2a"]);
    story.tell(Event::InstanceUp { instance: instance(5), pid: None, machine: None });
    assert_eq!(resting(&story), 0);
}

#[test]
fn what_can_not_work_is_given_up_for_the_job_and_the_others_are_tried() {
    let mut story = Story::new();
    story.spot("aws/us-1a", 0.3, 9).spot("aws/us-1b", 0.3, 9).spot("gcp/us-1b", 0.9, 9);
    story.submit("job", (1, 2), &["aws", "gcp"]).expect(["launch w1 aws/us-1a", "launch w2 aws/us-1b"]);
    story.fails(1, LaunchErrorKind::Configuration, Scope::Pool).expect(["launch w3 gcp/us-1b"]);
    story.fails(2, LaunchErrorKind::Configuration, Scope::Pool).expect(["launch w4 gcp/us-1b"]);
    assert!(
        story
            .decisions("job")
            .contains(&"ask aws for nothing more for this job: aws/us-1a can't start workers: no".to_owned())
    );
    // Another job finds out by itself.
    story.submit("next", (1, 1), &["aws"]).expect(["launch w5 aws/us-1a"]);
    story.fails(3, LaunchErrorKind::Configuration, Scope::Provider).expect([]);
    assert_eq!(story.state("job"), "provisioning");
    story.fails(4, LaunchErrorKind::Configuration, Scope::Provider).expect([]);
    assert_eq!(story.state("job"), "failed");
    assert_eq!(story.job("job").reason, "gcp/us-1b can't start workers: no");
}

#[test]
fn a_job_that_has_trained_waits_until_someone_renews_the_credentials() {
    let mut story = Story::new();
    story.spot("aws/us-1a", 0.3, 2).submit("job", (1, 2), &["aws"]).attach(1).attach(2).resumed(1, 1, 10).skip();
    story.down(2, crate::DownCause::Evicted).expect(["w1 <- assign 2 now w1:0-8", "launch w3 aws/us-1a"]);
    story.fails(3, LaunchErrorKind::Configuration, Scope::Provider).expect([]);
    story.down(1, crate::DownCause::Evicted).expect([]);
    assert!(story.job("job").reason.ends_with("aws/us-1a can't start workers: no"), "{}", story.job("job").reason);
    story.after(600_000).tell(Event::Tick).expect(["launch w4 aws/us-1a", "launch w5 aws/us-1a"]);
}

#[test]
fn what_may_be_taken_before_long_is_replaced_first() {
    let mut story = Story::new();
    story.spot("aws/us-1a", 0.3, 2).submit("job", (1, 2), &["aws"]).attach(1).attach(2).resumed(1, 1, 10).skip();
    story.spot("aws/us-1a", 0.3, 9).spot("aws/us-1b", 0.4, 9);
    story.tell(Event::RebalanceRecommended { instance: instance(2) }).expect(["launch w3 aws/us-1b"]);
    let why = "the job has"; // of the launch before it: this one says whose place it takes
    assert!(!story.last_decision("job").contains(why), "{}", story.last_decision("job"));
    // Said twice, or planned again, nothing more happens.
    story.tell(Event::RebalanceRecommended { instance: instance(2) }).expect([]);
    story.attach(3).expect(["w3 <- welcome a", "w3 <- join w1 w2"]);
    story.ready(3, 12).expect([
        "w1 <- assign 2 planned w1:0-4 w3:4-8",
        "w2 <- assign 2 planned w1:0-4 w3:4-8",
        "w3 <- assign 2 planned w1:0-4 w3:4-8",
    ]);
    assert_eq!(
        story.last_decision("job"),
        "let w2 leave at the next step boundary, take in w3 and go on with 2 workers: \
        w3 takes the place of w2, its provider may take that one before long"
    );
    story.left(2, 2, 13).expect(["end i2 5000"]);
}

#[test]
fn when_the_one_at_risk_goes_first_its_replacement_is_an_ordinary_joiner() {
    let mut story = Story::new();
    story.spot("aws/us-1a", 0.3, 2).submit("job", (1, 2), &["aws"]).attach(1).attach(2).resumed(1, 1, 10).skip();
    story.spot("aws/us-1b", 0.4, 9);
    story.tell(Event::RebalanceRecommended { instance: instance(2) }).expect(["launch w3 aws/us-1b"]);
    story.notice(2, 120_000).expect(["w1 <- assign 2 planned w1:0-8", "w2 <- assign 2 planned w1:0-8"]);
    story.left(2, 2, 13).down(2, crate::DownCause::Exited(0)).expect(["end i2 5000"]);
}

#[test]
fn on_demand_is_bought_where_spot_has_nothing_and_goes_when_spot_is_back() {
    let mut story = Story::new();
    story.spot("aws/us-1a", 0.3, 1).on_demand("aws/us-1a", 9);
    let always = with(spec("job", (1, 2), &["aws"]), |spec| {
        spec.policy.on_demand = OnDemandSpec::Always;
        spec.train.steps = Some(1_000_000);
    });
    story.submit_spec(always).expect(["launch w1 aws/us-1a", "launch w2 aws/us-1a/on-demand"]);
    story.attach(1).attach(2).resumed(1, 1, 10).skip();
    story.spot("aws/us-1a", 0.3, 2).expect(["launch w3 aws/us-1a"]);
    let why = story.last_decision("job");
    assert!(why.contains("it is to take the place of w2: $0.30 an hour instead of $1.00"), "{why}");
    story.attach(3).ready(3, 12).skip();
    assert!(story.last_decision("job").contains("w3 takes the place of w2"), "{}", story.last_decision("job"));
    story.left(2, 2, 13).down(2, crate::DownCause::Exited(0)).expect(["end i2 5000"]);
    assert_eq!(story.core.instances().len(), 2);
}

#[test]
fn spot_only_never_buys_on_demand() {
    let mut story = Story::new();
    story.spot("aws/us-1a", 0.3, 1).on_demand("aws/us-1a", 9);
    story.submit("job", (1, 2), &["aws"]).expect(["launch w1 aws/us-1a"]);
    assert_eq!(story.job("job").reason, "it lacks 1 worker and its pools have nothing free");
}
