//! A joiner before its first generation: takes a peer's state, applies each round's sum after it, and says when it
//! keeps up.

use crate::faults::Moment;
use crate::saver::chain;
use crate::setup::Failure;
use crate::trainer::Trainer;
use std::time::{Duration, Instant};
use trainctl_proto::v1::Ready;
use trainctl_proto::v1::worker_message::Body;
use trainer_collective::{Buffers, Destination, Follow, Followed};
use trainer_core::{Member, Phase, Round};
use trainer_engine::Engine;

/// Before a donor that was lost is asked again; the coordinator names another one if it is gone for good.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Whom this worker follows.
#[derive(Debug)]
pub(crate) enum Following {
    /// Connected, or dialing.
    Live(Follow, bool),
    /// Lost; ask again then.
    Lost(Member, Instant),
}

struct Into<'a> {
    engine: &'a mut Engine,
    position: &'a mut Option<Round>,
    train: &'a mut Buffers,
    evaluate: &'a mut Buffers,
}

impl Destination for Into<'_> {
    fn state(&mut self) -> &mut [f32] {
        *self.position = None;
        self.engine.state_mut()
    }

    fn sum(&mut self, round: Round) -> &mut [f32] {
        if round.phase == Phase::Evaluate { self.evaluate.sum_mut() } else { self.train.sum_mut() }
    }
}

impl Trainer {
    /// Begins to follow this peer, from its state on. Until that comes this worker keeps the state that it has: it may
    /// be the only one left.
    pub(crate) fn follow(&mut self, donor: Member) {
        tracing::info!(donor = donor.worker, "fetches the state");
        self.following = Some(Following::Live(Follow::start(&self.parts.inbox, donor), false));
    }

    /// Takes what the followed peer sent. `None`: nothing until the poller wakes; zero: call again at once.
    ///
    /// # Errors
    /// When the state can't be computed.
    pub(crate) fn advance_following(&mut self) -> Result<Option<Duration>, Failure> {
        match self.following.take() {
            None => Ok(None),
            Some(Following::Lost(donor, since)) => {
                let left = ASK_AGAIN.saturating_sub(since.elapsed());
                if left.is_zero() {
                    self.follow(donor);
                    return Ok(Some(Duration::ZERO));
                }
                self.following = Some(Following::Lost(donor, since));
                Ok(Some(left))
            }
            Some(Following::Live(mut follow, told)) => {
                let mut into = Into {
                    engine: &mut self.parts.engine,
                    position: &mut self.position,
                    train: &mut self.train,
                    evaluate: &mut self.evaluate,
                };
                let advanced = follow.advance(&mut self.parts.poller, &self.parts.inbox, &mut into);
                let has_state = self.position.is_some();
                self.parts.control.progress(|p| p.has_state = has_state);
                match advanced {
                    Ok(followed) => self.followed(follow, told, followed),
                    Err(error) => Ok(Some(self.lost_donor(&follow, &chain(&error)))),
                }
            }
        }
    }

    fn lost_donor(&mut self, follow: &Follow, why: &str) -> Duration {
        tracing::info!("{why}");
        self.following = Some(Following::Lost(follow.donor().clone(), Instant::now()));
        ASK_AGAIN
    }

    fn followed(&mut self, follow: Follow, told: bool, followed: Followed) -> Result<Option<Duration>, Failure> {
        let mut told = told;
        let again = match followed {
            Followed::Nothing => {
                if let Some(position) = self.position
                    && follow.has_begun()
                    && !told
                {
                    tracing::info!(step = position.step, "keeps up with {}", follow.donor().worker);
                    self.parts.control.tell(Body::Ready(Ready { step: position.step }));
                    told = true;
                }
                None
            }
            Followed::State(round) => {
                self.stand_at(round);
                self.parts.faults.at(round.step, Moment::FetchState);
                Some(Duration::ZERO)
            }
            Followed::Sum(round) => {
                if self.position != Some(round) {
                    return Ok(Some(self.lost_donor(&follow, "the donor left out a round")));
                }
                self.absorb(round)?;
                Some(Duration::ZERO)
            }
        };
        self.following = Some(Following::Live(follow, told));
        Ok(again)
    }
}
