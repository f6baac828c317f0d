//! What the provider needs of EC2, and nothing more: the seam between its decisions and the SDK. One value stands for one
//! region.

use async_trait::async_trait;
use coordinator_core::{Market, Timestamp};

/// EC2 in one region. No call retries by itself: that is decided here, in one place.
#[async_trait]
pub trait Ec2: Send + Sync + 'static {
    /// The zones of these subnets.
    async fn subnets(&self, ids: &[String]) -> Result<Vec<Subnet>, ApiError>;

    /// Makes a version of the template that differs in its user data only; its number.
    async fn add_version(
        &self,
        template: &Template,
        user_data: &str,
        token: &str,
        remark: &str,
    ) -> Result<String, ApiError>;

    /// Removes versions of a template; those that are gone already don't matter.
    async fn remove_versions(&self, template: &Template, versions: &[String]) -> Result<(), ApiError>;

    /// One instance, by an instant fleet.
    async fn create_fleet(&self, fleet: &Fleet) -> Result<FleetAnswer, ApiError>;

    /// Every instance with this tag, whatever its state; all pages.
    async fn instances(&self, tag: (&str, &str)) -> Result<Vec<Found>, ApiError>;

    /// Ends these. One id that does not exist lets the whole call fail.
    async fn terminate(&self, machines: &[String]) -> Result<(), ApiError>;

    /// What each type costs on the spot market now, in each zone; all pages.
    async fn spot_prices(&self, types: &[String]) -> Result<Vec<SpotPrice>, ApiError>;
}

/// A subnet and where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subnet {
    /// `subnet-...`.
    pub id: String,
    /// Such as `us-east-1a`.
    pub zone: String,
}

/// A launch template at one of its versions.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Template {
    /// `lt-...`, or the template's name.
    pub name: String,
    /// A number, or `$Default`.
    pub version: String,
}

impl Template {
    /// Whether it goes by its id; else by its name.
    #[must_use]
    pub fn is_id(&self) -> bool {
        self.name.strip_prefix("lt-").is_some_and(|rest| rest.chars().all(|c| c.is_ascii_hexdigit()))
    }
}

/// A request for one instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fleet {
    /// Asking twice with one token starts one instance. At most 64 ASCII characters.
    pub token: String,
    /// What to start.
    pub template: Template,
    /// Any of these types.
    pub types: Vec<String>,
    /// In any of these subnets.
    pub subnets: Vec<String>,
    /// Spot or on-demand.
    pub market: Market,
    /// Put on the fleet and on the instance when they are made.
    pub tags: Vec<(String, String)>,
}

/// What came of a fleet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FleetAnswer {
    /// What was started, if anything was.
    pub bought: Option<Bought>,
    /// Why others, or all, of the types and subnets gave nothing.
    pub errors: Vec<ApiError>,
}

/// A started instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bought {
    /// `i-...`.
    pub machine: String,
    /// Such as `g5.xlarge`.
    pub instance_type: String,
}

/// An instance as the API lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// `i-...`.
    pub machine: String,
    /// Such as `g5.xlarge`.
    pub instance_type: String,
    /// Such as `us-east-1a`.
    pub zone: String,
    /// Spot or on-demand.
    pub market: Market,
    /// Since when it is paid for.
    pub launched: Option<Timestamp>,
    /// How it is.
    pub state: MachineState,
    /// The code of its state reason, such as `Server.SpotInstanceTermination`; empty while nothing happened.
    pub state_reason: String,
    /// All of its tags.
    pub tags: Vec<(String, String)>,
}

impl Found {
    /// Whether it starts or runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        matches!(self.state, MachineState::Pending | MachineState::Running)
    }
}

/// How an instance is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MachineState {
    /// It starts.
    Pending,
    /// It runs.
    Running,
    /// It is being stopped, or is stopped: not ours any more, but not gone.
    Stopped,
    /// It ends, or has ended.
    Ended,
}

/// What a type costs in a zone.
#[derive(Clone, PartialEq, Debug)]
pub struct SpotPrice {
    /// Such as `g5.xlarge`.
    pub instance_type: String,
    /// Such as `us-east-1a`.
    pub zone: String,
    /// As it is now.
    pub usd_per_hour: f64,
}

/// A call that did not work.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{cause}: {message}")]
pub struct ApiError {
    /// What went wrong.
    pub cause: Cause,
    /// In the API's words, or the library's, one line.
    pub message: String,
}

/// Where a call failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The API answered with this error code.
    Answered {
        /// Such as `InsufficientInstanceCapacity`.
        code: String,
        /// Of HTTP; 200 for an error within a good answer.
        status: u16,
    },
    /// There was no answer, or none that could be read: nobody knows whether it was done.
    Unanswered,
    /// There are no credentials, or they can't be used.
    NoCredentials,
    /// Whoever gives out credentials doesn't answer.
    CredentialsUnanswered,
}

impl ApiError {
    /// An error code of the API.
    #[must_use]
    pub fn answered(code: &str, status: u16, message: &str) -> Self {
        Self { cause: Cause::Answered { code: code.to_owned(), status }, message: message.to_owned() }
    }

    /// The API's error code; empty without one.
    #[must_use]
    pub fn code(&self) -> &str {
        match &self.cause {
            Cause::Answered { code, .. } => code,
            Cause::Unanswered | Cause::NoCredentials | Cause::CredentialsUnanswered => "",
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answered { code, .. } => f.write_str(code),
            Self::Unanswered => f.write_str("no answer from EC2"),
            Self::NoCredentials => f.write_str("no usable AWS credentials"),
            Self::CredentialsUnanswered => f.write_str("no answer from the source of AWS credentials"),
        }
    }
}
