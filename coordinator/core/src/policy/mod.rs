//! How capacity is bought, as pure functions of figures: what an offer is worth, how often it is taken away, how fast a
//! job goes on how many workers, and when a deadline leaves no time to wait for spot. `plan` feeds them with what the
//! scheduler knows; a simulation can feed them with anything else.
//! `docs/decisions/2026-11-24-buying.md` says why they are as they are.

mod deadline;
mod hazard;
mod pace;
mod score;

pub use deadline::{Margins, Outlook};
pub use hazard::{Hazard, Prior};
pub use pace::Pace;
pub use score::{Candidate, Terms, choose, score};
