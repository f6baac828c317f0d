//! Compares the books with what the API lists, again and again: what came, what went and why, what nobody knows of.

use crate::api::{Bought, Found, MachineState};
use crate::books::{Books, Owned};
use crate::region::{Inner, Region};
use crate::tags;
use coordinator_core::{DownCause, InstanceId};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

impl Inner {
    /// Looks at a region's instances again and again.
    pub(crate) async fn watch(&self, region: &Region) {
        let mut pauses = None;
        let mut zones_known = false;
        loop {
            zones_known = zones_known || self.find_zones(region).await;
            let answered = self.look(region).await;
            if answered {
                pauses = None;
                region.clear().await;
                region.looked.send_modify(|looked| *looked += 1);
            }
            let pause = if answered && zones_known {
                self.pace.look
            } else {
                let pauses = pauses.get_or_insert_with(|| backon::BackoffBuilder::build(self.pace.pauses()));
                pauses.next().unwrap_or(self.pace.look)
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = region.looks.notified() => {}
            }
        }
    }

    /// One look. Whether the API answered.
    async fn look(&self, region: &Region) -> bool {
        let began = Instant::now();
        match region.ec2.instances((tags::CLUSTER, &self.cluster)).await {
            Ok(found) => {
                let news = {
                    let mut books = self.lock();
                    books.unlisted.remove(&region.name);
                    let strangers = books.compare(&self.cluster, &region.name, &found, began, self.pace.visible);
                    books.tell_list(self.pace.list, strangers);
                    books.stopping || !books.leftovers.is_empty()
                };
                if news {
                    region.ends.notify_one();
                }
                self.mend(region, "instances");
                true
            }
            Err(error) => {
                self.trouble(region, "instances", &error);
                false
            }
        }
    }
}

impl Books {
    /// Enters what a look that began then has found in a region. Whether there are instances that were not known.
    fn compare(&mut self, cluster: &str, region: &str, found: &[Found], began: Instant, visible: Duration) -> bool {
        let mut strangers = false;
        let mut there: BTreeSet<InstanceId> = BTreeSet::new();
        for machine in found.iter().filter(|machine| tags::is_ours(cluster, &machine.tags)) {
            if self.is_buried(&machine.machine) {
                continue;
            }
            let instance = self.instance_of(machine);
            match machine.state {
                MachineState::Pending | MachineState::Running => {
                    strangers |= self.alive(&instance, region, machine);
                    there.insert(instance);
                }
                MachineState::Stopped => {
                    self.ended(&instance, machine);
                    self.leave_over(region, &machine.machine, true);
                }
                MachineState::Ended => self.ended(&instance, machine),
            }
        }
        let missing = self.owned.iter().filter(|(instance, owned)| {
            let overdue = began.checked_duration_since(owned.seen).is_some_and(|since| since >= visible);
            owned.region == region && owned.machine.is_some() && overdue && !there.contains(instance)
        });
        for instance in missing.map(|(instance, _)| instance.clone()).collect::<Vec<_>>() {
            self.gone(&instance, DownCause::Vanished);
        }
        strangers
    }

    /// As which instance a machine stands in the books. One that carries no instance's tag, or that of an instance which
    /// has another machine, goes by its own id: the scheduler does not know it and has it ended.
    fn instance_of(&self, found: &Found) -> InstanceId {
        if let Some((instance, _)) = self.owned.iter().find(|(_, owned)| owned.is(&found.machine)) {
            return instance.clone();
        }
        let own_id = || InstanceId::from(found.machine.as_str());
        let Some(tagged) = tags::instance(&found.tags) else { return own_id() };
        let taken = self.owned.get(&tagged).is_some_and(|owned| owned.machine.is_some());
        if taken { own_id() } else { tagged }
    }

    /// Whether it was not known.
    fn alive(&mut self, instance: &InstanceId, region: &str, found: &Found) -> bool {
        if let Some(owned) = self.owned.get_mut(instance) {
            // While it is being bought, whoever buys it tells.
            owned.seen = Instant::now();
            return false;
        }
        let offer = tags::pool(&found.tags).filter(|offer| self.offers.contains_key(offer));
        let mut owned = Owned::new(region, &found.zone, found.market, offer);
        owned.machine = Some(Bought { machine: found.machine.clone(), instance_type: found.instance_type.clone() });
        owned.since = found.launched;
        if self.stopping {
            owned.end(DownCause::Terminated, Duration::ZERO);
        }
        tracing::info!(%instance, machine = %found.machine, "found a running instance");
        self.enter(instance.clone(), owned);
        true
    }

    fn ended(&mut self, instance: &InstanceId, found: &Found) {
        if self.owned.get(instance).is_some_and(|owned| owned.is(&found.machine)) {
            self.gone(instance, cause(&found.state_reason));
        }
    }
}

/// What a state reason tells of an end that nobody here asked for.
///
/// Codes are those of `StateReason` in the EC2 API reference.
fn cause(state_reason: &str) -> DownCause {
    match state_reason {
        "Server.SpotInstanceTermination" | "Server.SpotInstanceShutdown" | "Server.InsufficientInstanceCapacity" => {
            DownCause::Evicted
        }
        // The machine powered itself off: its worker had ended.
        "Client.InstanceInitiatedShutdown" => DownCause::Exited(0),
        // It could not start, and others like it can't either.
        "Client.InternalError" | "Client.VolumeLimitExceeded" | "Client.InvalidSnapshot.NotFound" => {
            DownCause::Exited(1)
        }
        _ => DownCause::Vanished,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offers;
    use coordinator_core::{Event, Market, PoolName};
    use tokio::sync::{mpsc, watch};

    const VISIBLE: Duration = Duration::from_secs(60);

    struct Story {
        books: Books,
        events: mpsc::UnboundedReceiver<Event>,
    }

    impl Story {
        fn new() -> Self {
            let (sender, events) = mpsc::unbounded_channel();
            let pool = offers::tests::pool();
            let mut books = Books::new(vec![pool.clone()], sender, watch::Sender::new(0));
            let offers = offers::of_region(&pool, "us-east-1", &offers::tests::subnets());
            books.offers.extend(offers.into_iter().map(|offer| (offer.name.clone(), offer)));
            books.unlisted.clear();
            Self { books, events }
        }

        /// A list of these, told to the scheduler if there is someone new.
        fn look(&mut self, found: &[Found]) -> &mut Self {
            let strangers = self.books.compare("c", "us-east-1", found, Instant::now(), VISIBLE);
            self.books.tell_list(Duration::MAX, strangers);
            self
        }

        fn told(&mut self) -> Vec<String> {
            let mut told = Vec::new();
            while let Ok(event) = self.events.try_recv() {
                told.push(match event {
                    Event::InstancesListed { instances, .. } => {
                        let ids: Vec<_> = instances.into_iter().map(|(id, _)| id.0).collect();
                        format!("listed {}", ids.join(" "))
                    }
                    Event::InstanceUp { instance, machine, .. } => {
                        format!("up {instance} {}", machine.expect("a machine").id)
                    }
                    Event::InstanceDown { instance, cause } => format!("down {instance} {cause:?}"),
                    Event::PoolChanged { .. } => continue,
                    other => format!("{other:?}"),
                });
            }
            told
        }
    }

    fn found(machine: &str, instance: Option<&str>, state: MachineState, state_reason: &str) -> Found {
        let mut tags = vec![(tags::CLUSTER.to_owned(), "c".to_owned())];
        tags.extend(instance.map(|id| ("trainctl:instance".to_owned(), id.to_owned())));
        tags.push(("trainctl:pool".to_owned(), "aws/us-east-1a".to_owned()));
        Found {
            machine: machine.to_owned(),
            instance_type: "small".to_owned(),
            zone: "us-east-1a".to_owned(),
            market: Market::Spot,
            launched: None,
            state,
            state_reason: state_reason.to_owned(),
            tags,
        }
    }

    fn running(machine: &str, instance: Option<&str>) -> Found {
        found(machine, instance, MachineState::Running, "")
    }

    fn ended(machine: &str, instance: Option<&str>, reason: &str) -> Found {
        found(machine, instance, MachineState::Ended, reason)
    }

    #[tokio::test(start_paused = true)]
    async fn what_runs_is_listed_and_told_with_its_machine() {
        let mut story = Story::new();
        story.look(&[running("i-1", Some("i7")), ended("i-0", Some("i6"), "Client.UserInitiatedShutdown")]);
        assert_eq!(story.told(), ["listed i7", "up i7 i-1"]);
        assert_eq!(story.books.use_of(&PoolName::from("aws/us-east-1a")), (1, 0));
        assert_eq!(story.look(&[running("i-1", Some("i7"))]).told(), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reclaimed_one_is_told_as_evicted_at_once() {
        for (reason, cause) in [
            ("Server.SpotInstanceTermination", "Evicted"),
            ("Server.SpotInstanceShutdown", "Evicted"),
            ("Client.InstanceInitiatedShutdown", "Exited(0)"),
            ("Client.VolumeLimitExceeded", "Exited(1)"),
            ("Client.UserInitiatedShutdown", "Vanished"),
        ] {
            let mut story = Story::new();
            story.look(&[running("i-1", Some("i7"))]).told();
            story.look(&[ended("i-1", Some("i7"), reason)]);
            assert_eq!(story.told(), [format!("down i7 {cause}")]);
            // A list that was made before may still show it as running.
            assert_eq!(story.look(&[running("i-1", Some("i7"))]).told(), [""; 0]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_one_may_be_invisible_for_a_while() {
        let mut story = Story::new();
        story.look(&[]).told();
        let mut bought = Owned::new("us-east-1", "us-east-1a", Market::Spot, None);
        bought.machine = Some(Bought { machine: "i-1".to_owned(), instance_type: "small".to_owned() });
        story.books.enter(InstanceId::from("i7"), bought);
        tokio::time::advance(VISIBLE - Duration::from_secs(1)).await;
        assert_eq!(story.look(&[]).told(), [""; 0]);
        assert_eq!(story.look(&[running("i-1", Some("i7"))]).told(), [""; 0]);
        tokio::time::advance(VISIBLE).await;
        assert_eq!(story.look(&[]).told(), ["down i7 Vanished"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_is_listed_at_once_and_a_double_goes_by_its_own_id() {
        let mut story = Story::new();
        story.look(&[running("i-1", Some("i7"))]).told();
        story.look(&[running("i-1", Some("i7")), running("i-2", Some("i7")), running("i-3", None)]);
        assert_eq!(story.told(), ["listed i-2 i-3 i7"]);
    }

    #[tokio::test(start_paused = true)]
    async fn anothers_machine_is_not_seen() {
        let mut story = Story::new();
        let mut foreign = running("i-9", Some("i7"));
        foreign.tags[0].1 = "another".to_owned();
        assert_eq!(story.look(&[foreign]).told(), ["listed "]);
        assert!(story.books.owned.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopped_one_is_gone_and_still_to_be_ended() {
        let mut story = Story::new();
        story.look(&[running("i-1", Some("i7"))]).told();
        story.look(&[found("i-1", Some("i7"), MachineState::Stopped, "Server.SpotInstanceShutdown")]);
        assert_eq!(story.told(), ["down i7 Evicted"]);
        assert_eq!(story.books.leftovers.len(), 1);
        story.books.leave_over("us-east-1", "i-1", false);
        assert!(story.books.leftovers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_asked_for_before_the_first_list_waits_for_it() {
        let mut story = Story::new();
        story.books.terminate(&InstanceId::from("i7"), Duration::ZERO);
        story.books.terminate(&InstanceId::from("i8"), Duration::ZERO);
        assert_eq!(story.told(), [""; 0]);
        story.look(&[running("i-1", Some("i7"))]);
        assert_eq!(story.told(), ["listed i7", "up i7 i-1", "down i8 Vanished"]);
        assert!(story.books.owned[&InstanceId::from("i7")].end.is_some());
    }
}
