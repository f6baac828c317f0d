//! What is left alone for a while because it had nothing to give: one place, or all that the provider's error concerns.

use crate::event::{LaunchErrorKind, Market, PoolSpec, Scope};
use crate::ids::{PoolName, ProviderName, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What an error of a launch concerns.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(tag = "scope", rename_all = "snake_case")]
pub enum Reach {
    /// One place of a pool.
    Place {
        /// Its name.
        pool: PoolName,
    },
    /// All places of a region, of one market.
    Region {
        /// Whose.
        provider: ProviderName,
        /// Which; absent: the provider has no regions.
        region: Option<String>,
        /// On these terms.
        market: Market,
    },
    /// All places of a pool.
    Pool {
        /// As configured.
        pool: PoolName,
    },
    /// All of a provider's pools.
    Provider {
        /// Which.
        provider: ProviderName,
    },
}

impl Reach {
    /// What an error of this scope concerns, that came from this place.
    pub(crate) fn of(spec: &PoolSpec, scope: Scope) -> Self {
        match scope {
            Scope::Zone => Self::Place { pool: spec.name.clone() },
            Scope::Region => Self::Region {
                provider: spec.place.provider.clone(),
                region: spec.place.region.clone(),
                market: spec.market,
            },
            Scope::Pool => Self::Pool { pool: spec.of.clone() },
            Scope::Provider => Self::Provider { provider: spec.place.provider.clone() },
        }
    }

    /// All that concerns this place.
    pub(crate) fn all(spec: &PoolSpec) -> [Self; 4] {
        [Scope::Zone, Scope::Region, Scope::Pool, Scope::Provider].map(|scope| Self::of(spec, scope))
    }

    pub(crate) fn covers(&self, spec: &PoolSpec) -> bool {
        match self {
            Self::Place { pool } => *pool == spec.name,
            Self::Region { provider, region, market } => {
                *provider == spec.place.provider && *region == spec.place.region && *market == spec.market
            }
            Self::Pool { pool } => *pool == spec.of,
            Self::Provider { provider } => *provider == spec.place.provider,
        }
    }
}

/// As words name it: `aws/us-east-1a`, `spot in us-east-1 of aws`, `all of aws`.
impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place { pool } | Self::Pool { pool } => write!(f, "{pool}"),
            Self::Region { provider, region, market } => {
                let market = match market {
                    Market::Own => "own machines",
                    Market::Spot => "spot",
                    Market::OnDemand => "on demand",
                };
                match region {
                    Some(region) => write!(f, "{market} in {region} of {provider}"),
                    None => write!(f, "{market} of {provider}"),
                }
            }
            Self::Provider { provider } => write!(f, "all of {provider}"),
        }
    }
}

/// It had nothing to give, so many times in a row; it is left alone until then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rest {
    pub(crate) kind: LaunchErrorKind,
    pub(crate) failures: u32,
    pub(crate) until: Timestamp,
    /// It was noted that the wait is over; that it failed before is known until it gives something.
    pub(crate) over: bool,
}

/// A job can't use this: it does not get better by itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Rejected {
    pub(crate) reach: Reach,
    /// The place that said so.
    pub(crate) pool: PoolName,
    pub(crate) reason: String,
    pub(crate) at: Timestamp,
}
