//! Launches one instance: a version of the template with its user data, and an instant fleet of one.
//!
//! What is asked for twice, after an answer was lost or the coordinator was killed, is bought once: the fleet carries a
//! token made of cluster, instance and offer.

use crate::api::{ApiError, Bought, Fleet, FleetAnswer, Template};
use crate::books::Owned;
use crate::errors;
use crate::offers::Offer;
use crate::region::{Inner, Region};
use crate::tags;
use coordinator_core::{DownCause, Event, InstanceId, LaunchError, LaunchErrorKind, Scope};
use coordinator_provider::{LaunchRequest, UnknownPool};
use std::sync::Arc;
use tokio::time::Instant;

impl Inner {
    /// Starts buying, unless the instance is there or on its way.
    pub(crate) fn launch(self: &Arc<Self>, request: &LaunchRequest) {
        let mut books = self.lock();
        if let Some(owned) = books.owned.get(&request.instance) {
            if owned.machine.is_some() {
                books.tell_up(&request.instance);
            }
            return;
        }
        let offer = match books.offers.get(&request.pool) {
            _ if books.stopping => Err(failure(LaunchErrorKind::NoCapacity, Scope::Provider, "the coordinator stops")),
            None if !books.unplaced.is_empty() => Err(failure(
                LaunchErrorKind::Transient,
                Scope::Pool,
                "EC2 has not told yet in which zones the subnets are",
            )),
            None => {
                let error = UnknownPool::new(&request.pool, books.offers.keys());
                Err(failure(LaunchErrorKind::Configuration, Scope::Zone, &error.to_string()))
            }
            Some(offer) if books.pools.get(&offer.pool).is_none_or(|pool| books.free(pool) == 0) => {
                let text = format!("pool {} holds as many machines as its `max` says", offer.pool);
                Err(failure(LaunchErrorKind::Quota, Scope::Pool, &text))
            }
            Some(offer) if books.held(&offer.name) >= offer.limit => {
                Err(failure(LaunchErrorKind::NoCapacity, Scope::Zone, "the offer holds as many machines as was set"))
            }
            Some(offer) => Ok(offer.clone()),
        };
        match offer {
            Ok(offer) => {
                let owned = Owned::new(&offer.region, &offer.zone, offer.market, Some(offer.name.clone()));
                books.enter(request.instance.clone(), owned);
                tokio::spawn(Arc::clone(self).buy(request.clone(), offer));
            }
            Err(error) => books.tell(Event::LaunchFailed { instance: request.instance.clone(), error }),
        }
    }

    async fn buy(self: Arc<Self>, request: LaunchRequest, offer: Offer) {
        let outcome = match self.regions.get(&offer.region) {
            Some(region) => self.purchase(region, &request, &offer).await,
            None => Err(failure(LaunchErrorKind::Configuration, Scope::Region, "the region is not configured")),
        };
        self.bought(&request.instance, outcome);
        if let Some(region) = self.regions.get(&offer.region) {
            // Its end may have been asked for meanwhile.
            region.ends.notify_one();
        }
    }

    fn bought(&self, instance: &InstanceId, outcome: Result<Bought, LaunchError>) {
        let mut books = self.lock();
        let Some(owned) = books.owned.get_mut(instance) else { return };
        match outcome {
            Ok(bought) => {
                tracing::info!(%instance, machine = %bought.machine, kind = %bought.instance_type, "bought");
                owned.machine = Some(bought);
                owned.seen = Instant::now();
                books.tell_up(instance);
            }
            Err(error) => {
                let ending = owned.end.is_some();
                tracing::info!(%instance, kind = ?error.kind, scope = ?error.scope, error = %error.message, "not bought");
                if ending {
                    books.gone(instance, DownCause::Terminated);
                } else {
                    books.strike(instance);
                    books.tell(Event::LaunchFailed { instance: instance.clone(), error });
                }
            }
        }
    }

    async fn purchase(&self, region: &Region, request: &LaunchRequest, offer: &Offer) -> Result<Bought, LaunchError> {
        let token = tags::token(&self.cluster, request);
        let (template, types) = self.wares(offer)?;
        let version = self.version(region, &template, request, &token).await?;
        let fleet = Fleet {
            token,
            template: version.clone().unwrap_or_else(|| template.clone()),
            types,
            subnets: offer.subnets.clone(),
            market: offer.market,
            tags: tags::of(&self.cluster, request),
        };
        let answer = region.launches.make("create fleet", || region.ec2.create_fleet(&fleet)).await;
        if let Some(version) = version {
            region.spend(template, version.version);
        }
        match answer {
            Ok(FleetAnswer { bought: Some(bought), .. }) => Ok(bought),
            Ok(FleetAnswer { bought: None, errors }) => Err(errors::launch_error_of_all(&errors)
                .unwrap_or_else(|| failure(LaunchErrorKind::NoCapacity, Scope::Zone, "the fleet has no instance"))),
            Err(error) if errors::is_asked_before(&error) => self.bought_before(region, request, &error).await,
            Err(error) => Err(errors::launch_error(&error)),
        }
    }

    /// What the offer's pool buys there, and of what.
    fn wares(&self, offer: &Offer) -> Result<(Template, Vec<String>), LaunchError> {
        let books = self.lock();
        let pool = books.pools.get(&offer.pool);
        let wares = pool.and_then(|pool| Some((pool, pool.regions.get(&offer.region)?)));
        let (pool, region) =
            wares.ok_or_else(|| failure(LaunchErrorKind::Configuration, Scope::Pool, "the pool is not configured"))?;
        Ok((region.template.clone(), pool.types.iter().map(|kind| kind.name.clone()).collect()))
    }

    /// A version of the template that tells the machine who it is: a fleet can't carry user data itself.
    async fn version(
        &self,
        region: &Region,
        template: &Template,
        request: &LaunchRequest,
        token: &str,
    ) -> Result<Option<Template>, LaunchError> {
        let Some(user_data) = &self.user_data else { return Ok(None) };
        let user_data = user_data(&region.name, request);
        // Another text under the same token would be refused: after a restart the coordinator may be elsewhere.
        let digest = blake3::hash([token, user_data.as_str()].concat().as_bytes()).to_hex();
        let remark = format!("trainctl {} {}", self.cluster, request.instance);
        let add = || region.ec2.add_version(template, &user_data, &digest[..48], &remark);
        match region.launches.make("add version", add).await {
            Ok(version) => Ok(Some(Template { name: template.name.clone(), version })),
            Err(error) => Err(errors::launch_error(&error)),
        }
    }

    /// The API knows the token from a request that was not quite this one: before a restart the job's generation, or the
    /// pool, was another. What came of that is found by its tag, once it is visible.
    async fn bought_before(
        &self,
        region: &Region,
        request: &LaunchRequest,
        refused: &ApiError,
    ) -> Result<Bought, LaunchError> {
        let tag = (tags::INSTANCE, request.instance.0.as_str());
        let deadline = Instant::now() + self.pace.visible;
        loop {
            let found = region.others.make("find", || region.ec2.instances(tag)).await;
            let found = found.map_err(|error| errors::launch_error(&error))?;
            let found = found.into_iter().find(|found| tags::is_ours(&self.cluster, &found.tags) && found.is_alive());
            if let Some(found) = found {
                return Ok(Bought { machine: found.machine, instance_type: found.instance_type });
            }
            if Instant::now() >= deadline {
                let text = format!("{refused}; nothing came of the earlier request");
                return Err(failure(LaunchErrorKind::Transient, Scope::Zone, &text));
            }
            tokio::time::sleep(self.pace.look).await;
        }
    }
}

fn failure(kind: LaunchErrorKind, scope: Scope, message: &str) -> LaunchError {
    LaunchError { kind, scope, message: message.to_owned() }
}
