//! Gives machines back when their time is up. An end that the API refuses or doesn't hear is asked for again until it
//! works: a machine that is forgotten is paid for.

use crate::books::Books;
use crate::errors;
use crate::region::{Inner, Region};
use coordinator_core::{DownCause, InstanceId};
use std::future;
use tokio::time::Instant;

/// Machines that one call ends.
const AT_ONCE: usize = 50;

/// A machine to end.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Due {
    /// Absent: it is stopped, and nobody's any more.
    instance: Option<InstanceId>,
    machine: String,
    /// It may still be invisible.
    fresh: bool,
}

impl Inner {
    /// Ends a region's machines, each in its time.
    pub(crate) async fn reap(&self, region: &Region) {
        let mut pauses = None;
        loop {
            let (due, next) = self.due(&region.name);
            let mut all_ended = true;
            for chunk in due.chunks(AT_ONCE) {
                all_ended &= self.end(region, chunk).await;
            }
            if !all_ended {
                let pauses = pauses.get_or_insert_with(|| backon::BackoffBuilder::build(self.pace.pauses()));
                tokio::time::sleep(pauses.next().unwrap_or(self.pace.look)).await;
                continue;
            }
            pauses = None;
            if due.is_empty() {
                tokio::select! {
                    () = region.ends.notified() => {}
                    () = at(next) => {}
                }
            }
        }
    }

    fn due(&self, region: &str) -> (Vec<Due>, Option<Instant>) {
        let books = self.lock();
        let now = Instant::now();
        let leftovers = books.leftovers.iter().filter(|(of, _)| of == region);
        let mut due: Vec<Due> =
            leftovers.map(|(_, machine)| Due { instance: None, machine: machine.clone(), fresh: false }).collect();
        let mut next = None;
        for (instance, owned) in books.owned.iter().filter(|(_, owned)| owned.region == region) {
            let (Some(end), Some(bought)) = (&owned.end, &owned.machine) else { continue };
            if end.at <= now {
                let fresh = owned.seen.elapsed() < self.pace.visible;
                due.push(Due { instance: Some(instance.clone()), machine: bought.machine.clone(), fresh });
            } else {
                next = Some(next.map_or(end.at, |next: Instant| next.min(end.at)));
            }
        }
        (due, next)
    }

    /// Whether all of them are ended.
    async fn end(&self, region: &Region, due: &[Due]) -> bool {
        let machines: Vec<String> = due.iter().map(|due| due.machine.clone()).collect();
        match region.others.make("terminate", || region.ec2.terminate(&machines)).await {
            Ok(()) => {
                self.mend(region, "ends");
                due.iter().for_each(|due| self.lock().ended_by_us(&region.name, due));
                true
            }
            // One that does not exist lets the others live as well.
            Err(error) if errors::is_unknown_instance(&error) && due.len() > 1 => {
                let mut all_ended = true;
                for one in due {
                    all_ended &= Box::pin(self.end(region, std::slice::from_ref(one))).await;
                }
                all_ended
            }
            Err(error) if errors::is_unknown_instance(&error) && due.iter().all(|due| !due.fresh) => {
                due.iter().for_each(|due| self.lock().ended_by_us(&region.name, due));
                true
            }
            Err(error) => {
                self.trouble(region, "ends", &error);
                false
            }
        }
    }
}

impl Books {
    fn ended_by_us(&mut self, region: &str, due: &Due) {
        match &due.instance {
            Some(instance) => self.gone(instance, DownCause::Terminated),
            None => self.leave_over(region, &due.machine, false),
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => future::pending().await,
    }
}
