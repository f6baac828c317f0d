//! What runs for each region: a look at its instances, one at its prices, and whoever ends machines there.

use crate::api::{ApiError, Ec2, Template};
use crate::books::Books;
use crate::calls::{Calls, Pace};
use crate::offers::{self, Prices};
use crate::provider::UserData;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// Calls under way at once in a region, beside launches: those that end machines must never wait for those that buy.
const OTHER_CALLS: usize = 4;

/// Shared by the provider and all that runs for it.
pub(crate) struct Inner {
    pub(crate) cluster: String,
    pub(crate) pace: Pace,
    pub(crate) user_data: Option<UserData>,
    pub(crate) regions: BTreeMap<String, Region>,
    /// How many machines there are.
    pub(crate) count: watch::Sender<usize>,
    books: Mutex<Books>,
}

/// One region's API, and what goes on there.
pub(crate) struct Region {
    pub(crate) name: String,
    pub(crate) ec2: Arc<dyn Ec2>,
    pub(crate) launches: Calls,
    pub(crate) others: Calls,
    /// Somebody asked for an end.
    pub(crate) ends: Notify,
    /// Somebody wants to know what there is now.
    pub(crate) looks: Notify,
    /// How often it was looked at.
    pub(crate) looked: watch::Sender<u64>,
    /// Subnets of all pools there.
    subnets: Vec<String>,
    /// Types of all pools there.
    types: Vec<String>,
    /// Versions of templates that have served.
    spent: Mutex<Vec<(Template, String)>>,
}

impl Region {
    pub(crate) fn new(name: &str, ec2: Arc<dyn Ec2>, pace: Pace, subnets: Vec<String>, types: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            ec2,
            launches: Calls::new(name, pace.launches, pace),
            others: Calls::new(name, OTHER_CALLS, pace),
            ends: Notify::new(),
            looks: Notify::new(),
            looked: watch::Sender::new(0),
            subnets,
            types,
            spent: Mutex::default(),
        }
    }

    /// This version is not needed any more.
    pub(crate) fn spend(&self, template: Template, version: String) {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner).push((template, version));
    }

    /// Removes the versions that are not needed any more: user data holds a token, even if only of one instance.
    pub(crate) async fn clear(&self) {
        let spent = std::mem::take(&mut *self.spent.lock().unwrap_or_else(PoisonError::into_inner));
        let mut versions: BTreeMap<Template, Vec<String>> = BTreeMap::new();
        for (template, version) in spent {
            versions.entry(template).or_default().push(version);
        }
        for (template, versions) in versions {
            let removed = self.others.make("remove versions", || self.ec2.remove_versions(&template, &versions)).await;
            if let Err(error) = removed {
                tracing::warn!(region = %self.name, template = %template.name, %error, "versions of a template stay");
            }
        }
    }
}

impl Inner {
    pub(crate) fn new(
        cluster: String,
        pace: Pace,
        user_data: Option<UserData>,
        regions: BTreeMap<String, Region>,
        books: Books,
        count: watch::Sender<usize>,
    ) -> Self {
        Self { cluster, pace, user_data, regions, count, books: Mutex::new(books) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a region for as long as it is polled.
    pub(crate) async fn follow(self: Arc<Self>, name: String) {
        let Some(region) = self.regions.get(&name) else { return };
        // Offers that are told without a price look as dear as on demand.
        self.look_at_prices(region).await;
        tokio::join!(self.watch(region), self.follow_prices(region), self.reap(region));
    }

    async fn follow_prices(&self, region: &Region) {
        loop {
            tokio::time::sleep(self.pace.price).await;
            self.look_at_prices(region).await;
        }
    }

    async fn look_at_prices(&self, region: &Region) {
        match region.ec2.spot_prices(&region.types).await {
            Ok(found) => {
                let prices: Prices =
                    found.into_iter().map(|price| ((price.zone, price.instance_type), price.usd_per_hour)).collect();
                self.lock().price(&region.name, prices);
                self.mend(region, "prices");
            }
            Err(error) => self.trouble(region, "prices", &error),
        }
    }

    /// Learns in which zones the region's subnets are. Whether that is known now.
    pub(crate) async fn find_zones(&self, region: &Region) -> bool {
        match region.ec2.subnets(&region.subnets).await {
            Ok(subnets) => {
                let mut books = self.lock();
                let of_pools = books.pools.values().flat_map(|pool| offers::of_region(pool, &region.name, &subnets));
                let offers: Vec<_> = of_pools.map(|offer| (offer.name.clone(), offer)).collect();
                books.offers.extend(offers);
                books.unplaced.remove(&region.name);
                books.tell_offers();
                drop(books);
                self.mend(region, "subnets");
                true
            }
            Err(error) => {
                self.trouble(region, "subnets", &error);
                false
            }
        }
    }

    /// Notes that something does not work; said once in the log, and for as long as it lasts beside the pool.
    pub(crate) fn trouble(&self, region: &Region, what: &str, error: &ApiError) {
        let text = format!("{what} of {}: {error}", region.name);
        let key = format!("{} {what}", region.name);
        if self.lock().troubles.insert(key, text).is_none() {
            tracing::warn!(region = %region.name, what, %error, "EC2 is asked again and again");
        }
    }

    /// It works (again).
    pub(crate) fn mend(&self, region: &Region, what: &str) {
        if self.lock().troubles.remove(&format!("{} {what}", region.name)).is_some() {
            tracing::info!(region = %region.name, what, "EC2 answers again");
        }
    }
}
