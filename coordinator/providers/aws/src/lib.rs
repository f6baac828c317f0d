//! EC2 as a provider: spot and on-demand instances over types, zones and regions.
//!
//! [`pools`] says what is configured, [`offers`] what of it can be bought; [`buying`] launches, [`watching`] compares the
//! books with what the API lists, [`ending`] gives back, [`region`] follows prices. All of them write into one set
//! of books, behind one lock, so what is told comes in the order in which it happened.
//!
//! The API is behind the trait [`Ec2`]. The crate `coordinator-ec2` has the SDK behind it, which takes minutes to build;
//! nothing here needs it.

mod api;
mod books;
mod buying;
mod calls;
mod ending;
mod errors;
mod offers;
pub mod pools;
mod provider;
mod region;
mod tags;
mod telling;
mod watching;

pub use api::{ApiError, Bought, Cause, Ec2, Fleet, FleetAnswer, Found, MachineState, SpotPrice, Subnet, Template};
pub use calls::Pace;
pub use errors::is_renewable;
pub use pools::{PoolConfig, RegionConfig, TypeConfig, parse};
pub use provider::{AwsConfig, AwsProvider, UserData};
