//! What one instance costs: its time in periods of one price each. A period ends where the next begins, so their
//! milliseconds add up to the time from the start to the end, exactly.

use crate::event::{Machine, Market, Place, Price};
use crate::ids::{InstanceId, PoolName, Timestamp, WorkerId};
use serde::{Deserialize, Serialize};
use std::ops::{Add, AddAssign};

/// The newest periods that a bill lists; what came before is kept as a sum.
const PERIODS_MAX: usize = 256;

const MS_PER_HOUR: f64 = 3_600_000.0;

/// US dollars for so long at so much an hour.
pub(crate) fn usd(ms: u64, usd_per_hour: f64) -> f64 {
    ms as f64 * usd_per_hour / MS_PER_HOUR
}

/// Time of instances, and what it cost.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Sum {
    /// Milliseconds.
    pub ms: u64,
    /// US dollars paid for it.
    pub paid_usd: f64,
    /// US dollars that the same machines would have cost on demand.
    pub on_demand_usd: f64,
}

impl Sum {
    fn of(ms: u64, price: &Price) -> Self {
        Self { ms, paid_usd: usd(ms, price.usd_per_hour), on_demand_usd: usd(ms, price.on_demand_usd_per_hour) }
    }
}

impl Add for Sum {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            ms: self.ms + other.ms,
            paid_usd: self.paid_usd + other.paid_usd,
            on_demand_usd: self.on_demand_usd + other.on_demand_usd,
        }
    }
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::iter::Sum for Sum {
    fn sum<I: Iterator<Item = Self>>(sums: I) -> Self {
        sums.fold(Self::default(), Self::add)
    }
}

/// A price from a moment on, up to the next one's, or to the end.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Period {
    pub(crate) from: Timestamp,
    pub(crate) price: Price,
}

/// One instance that is paid for.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Bill {
    pub(crate) instance: InstanceId,
    pub(crate) worker: WorkerId,
    pub(crate) pool: PoolName,
    pub(crate) place: Place,
    pub(crate) market: Market,
    /// What was got, as the provider said; its price is that of the time.
    pub(crate) machine: Option<Machine>,
    pub(crate) start: Timestamp,
    pub(crate) end: Option<Timestamp>,
    /// Of all periods but the newest.
    before: Sum,
    /// In order, at least one.
    periods: Vec<Period>,
    /// It came in the place of one that was taken.
    pub(crate) replaces: bool,
    /// When it first became a member of its job's group.
    pub(crate) joined: Option<Timestamp>,
}

impl Bill {
    pub(crate) fn new(instance: InstanceId, worker: WorkerId, from: Origin, start: Timestamp, price: Price) -> Self {
        let Origin { pool, place, market } = from;
        Self {
            instance,
            worker,
            pool,
            place,
            market,
            machine: None,
            start,
            end: None,
            before: Sum::default(),
            periods: vec![Period { from: start, price }],
            replaces: false,
            joined: None,
        }
    }

    /// The newest price.
    pub(crate) fn price(&self) -> Price {
        self.newest().price
    }

    fn newest(&self) -> Period {
        *self.periods.last().unwrap_or_else(|| panic!("{}: a bill has a price", self.instance))
    }

    /// Listed periods, each with its end; `None`: it goes on.
    pub(crate) fn periods(&self) -> impl Iterator<Item = (Period, Option<Timestamp>)> {
        let ends = self.periods.iter().skip(1).map(|next| Some(next.from)).chain([self.end]);
        self.periods.iter().copied().zip(ends)
    }

    /// All of it up to the end, or up to now.
    pub(crate) fn sum(&self, now: Timestamp) -> Sum {
        let newest = self.newest();
        let until = self.end.unwrap_or(now);
        self.before + Sum::of(until.since_ms(newest.from), &newest.price)
    }

    /// It costs this from now on. A clock that went back can't move a period's begin back. False: nothing changed.
    pub(crate) fn move_price(&mut self, now: Timestamp, price: Price) -> bool {
        let newest = self.newest();
        if self.end.is_some() || newest.price == price {
            return false;
        }
        let at = now.max(newest.from);
        if at == newest.from {
            self.periods.pop();
        } else {
            self.before += Sum::of(at.since_ms(newest.from), &newest.price);
        }
        self.periods.push(Period { from: at, price });
        if self.periods.len() > PERIODS_MAX {
            self.periods.remove(0);
        }
        true
    }

    /// What the provider says of the machine. The first word replaces what was assumed from its pool, from the start
    /// on; later words move the price. False: nothing changed.
    pub(crate) fn identify(&mut self, now: Timestamp, machine: &Machine) -> bool {
        if self.machine.is_some() || self.end.is_some() || self.periods.len() > 1 {
            let moved = self.move_price(now, machine.price);
            let known = self.machine.replace(machine.clone());
            return moved || known.as_ref() != Some(machine);
        }
        self.machine = Some(machine.clone());
        self.start = machine.since.unwrap_or(self.start).min(now);
        self.periods = vec![Period { from: self.start, price: machine.price }];
        true
    }

    /// It is not paid for any more.
    pub(crate) fn close(&mut self, now: Timestamp) {
        let end = now.max(self.newest().from);
        self.end.get_or_insert(end);
    }
}

/// Where an instance is from.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Origin {
    pub(crate) pool: PoolName,
    pub(crate) place: Place,
    pub(crate) market: Market,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::PoolSpec;
    use proptest::prelude::*;

    fn price(usd_per_hour: f64) -> Price {
        Price { usd_per_hour, on_demand_usd_per_hour: 3.0 * usd_per_hour }
    }

    fn bill(start: i64, usd_per_hour: f64) -> Bill {
        let PoolSpec { of, place, market, .. } = PoolSpec::local("spot", true, 1, 0);
        let from = Origin { pool: of, place, market };
        Bill::new("i1".into(), "w1".into(), from, Timestamp(start), price(usd_per_hour))
    }

    fn machine(usd_per_hour: f64, since: Option<i64>) -> Machine {
        let (id, instance_type) = ("m-1".to_owned(), "small".to_owned());
        Machine { id, instance_type, price: price(usd_per_hour), since: since.map(Timestamp) }
    }

    #[test]
    fn each_millisecond_has_the_price_of_its_time() {
        let mut bill = bill(0, 3.6);
        assert!(bill.move_price(Timestamp(1_000), price(7.2)));
        bill.close(Timestamp(3_000));
        let sum = bill.sum(Timestamp(9_000));
        assert_eq!(sum.ms, 3_000);
        assert!((sum.paid_usd - 0.005).abs() < 1e-12, "{sum:?}");
        assert!((sum.on_demand_usd - 0.015).abs() < 1e-12, "{sum:?}");
        assert!(!bill.move_price(Timestamp(4_000), price(1.0)), "it has ended");
    }

    #[test]
    fn what_was_assumed_is_replaced_from_the_start_by_what_the_provider_says() {
        let mut bill = bill(5_000, 1.0);
        assert!(bill.identify(Timestamp(9_000), &machine(2.0, Some(4_000))));
        assert_eq!((bill.start, bill.sum(Timestamp(9_000)).ms), (Timestamp(4_000), 5_000));
        assert_eq!(bill.periods().count(), 1);
        assert!(!bill.identify(Timestamp(9_500), &machine(2.0, Some(4_000))));
        assert!(bill.identify(Timestamp(10_000), &machine(3.0, Some(4_000))), "the price has moved since");
        assert_eq!(bill.start, Timestamp(4_000));
        assert_eq!(bill.periods().count(), 2);
    }

    proptest! {
        /// Prices move at any time, clocks go back, the program starts again from what it wrote down.
        #[test]
        fn periods_add_up_as_a_naive_recount_does(
            moves in prop::collection::vec((-2_000i64..90_000, 0u32..8, any::<bool>()), 0..600),
            last in 0i64..5_000,
        ) {
            let mut bill = bill(1_000, 2.0);
            let mut naive: Vec<(i64, f64)> = vec![(1_000, 2.0)];
            let mut clock = 1_000i64;
            for (ms, tenths, restart) in moves {
                clock += ms;
                let usd_per_hour = f64::from(tenths) / 10.0;
                bill.move_price(Timestamp(clock), price(usd_per_hour));
                let (newest, before) = naive[naive.len() - 1];
                if usd_per_hour != before {
                    naive.push((clock.max(newest), usd_per_hour));
                }
                if restart {
                    bill = serde_json::from_slice(&serde_json::to_vec(&bill).unwrap()).unwrap();
                }
            }
            let end = naive[naive.len() - 1].0 + last;
            bill.close(Timestamp(end));
            let ends = naive.iter().skip(1).map(|(from, _)| *from).chain([end]);
            let recount: f64 = naive.iter().zip(ends).map(|((from, price), to)| (to - from) as f64 * price / 3.6e6).sum();
            let sum = bill.sum(Timestamp(end + 1_000_000));
            prop_assert_eq!(sum.ms, u64::try_from(end - 1_000).unwrap());
            prop_assert_eq!(bill.end.unwrap().since_ms(bill.start), sum.ms);
            prop_assert!((sum.paid_usd - recount).abs() <= 1e-9 * recount.max(1.0), "{} {recount}", sum.paid_usd);
            prop_assert!((sum.on_demand_usd - 3.0 * recount).abs() <= 1e-9 * recount.max(1.0));
        }
    }
}
