//! A joiner before its first generation: takes the state from several peers at once, applies each round's sum after
//! it, and says when it keeps up. When a donor is lost it begins again with the others, at last with one alone.

use crate::faults::Moment;
use crate::saver::chain;
use crate::setup::Failure;
use crate::trainer::Trainer;
use std::time::{Duration, Instant};
use trainctl_proto::v1::Ready;
use trainctl_proto::v1::worker_message::Body;
use trainer_collective::{Buffers, Destination, Follow, FollowError, Followed};
use trainer_core::{Member, Phase, Round};
use trainer_engine::Engine;

/// Before donors that were all lost are asked again; the coordinator names others if they are gone for good.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Whom this worker follows.
#[derive(Debug)]
pub(crate) struct Following {
    /// As the coordinator named them.
    donors: Vec<Member>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Connected, or dialing; whether readiness was told.
    Live(Follow, bool),
    /// All were lost since then.
    Lost(Instant),
}

impl Following {
    /// Whether something may still come.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.stage, Stage::Live(..))
    }
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
    /// Begins to follow these peers, from their state on. Until that comes this worker keeps the state that it has: it
    /// may be the only one left. What it follows already is kept if all of that is still there to be followed.
    pub(crate) fn follow(&mut self, donors: Vec<Member>) {
        let named = |donor: &Member| donors.contains(donor);
        let stage = match self.following.take() {
            Some(Following { stage: Stage::Live(follow, _), .. }) if follow.donors().all(named) => {
                // The coordinator that asks has not heard it.
                Stage::Live(follow, false)
            }
            _ => self.ask(&donors),
        };
        self.following = Some(Following { donors, stage });
    }

    fn ask(&self, donors: &[Member]) -> Stage {
        let names: Vec<&str> = donors.iter().map(|donor| donor.worker.as_str()).collect();
        tracing::info!("fetches the state from {}", names.join(", "));
        match Follow::start(&self.parts.inbox, donors) {
            Ok(follow) => Stage::Live(follow, false),
            Err(error) => {
                tracing::info!("{}", chain(&error));
                Stage::Lost(Instant::now())
            }
        }
    }

    /// Takes what the followed peers sent. `None`: nothing until the poller wakes; zero: call again at once.
    ///
    /// # Errors
    /// When the state can't be computed.
    pub(crate) fn advance_following(&mut self) -> Result<Option<Duration>, Failure> {
        let Some(Following { donors, stage }) = self.following.take() else { return Ok(None) };
        let (stage, again) = match stage {
            Stage::Lost(since) => {
                let left = ASK_AGAIN.saturating_sub(since.elapsed());
                (if left.is_zero() { self.ask(&donors) } else { Stage::Lost(since) }, Some(left))
            }
            Stage::Live(mut follow, told) => {
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
                    Ok(followed) => self.followed(follow, told, followed)?,
                    Err(error) => self.lost(&follow, &error),
                }
            }
        };
        self.following = Some(Following { donors, stage });
        Ok(again)
    }

    /// Those that are left are asked at once; the first of them alone if they did not agree.
    fn lost(&self, follow: &Follow, error: &FollowError) -> (Stage, Option<Duration>) {
        tracing::info!("{}", chain(error));
        let left: Vec<Member> = match error {
            FollowError::Lost { donor, .. } => follow.donors().filter(|d| d.worker != *donor).cloned().collect(),
            FollowError::NoAgreement { .. } => follow.donors().take(1).cloned().collect(),
            FollowError::Io(_) => Vec::new(),
        };
        if left.is_empty() {
            return (Stage::Lost(Instant::now()), Some(ASK_AGAIN));
        }
        (self.ask(&left), Some(Duration::ZERO))
    }

    fn followed(
        &mut self,
        follow: Follow,
        mut told: bool,
        followed: Followed,
    ) -> Result<(Stage, Option<Duration>), Failure> {
        let again = match followed {
            Followed::Nothing => {
                if let Some(position) = self.position
                    && follow.has_state()
                    && !told
                {
                    let donors: Vec<&str> = follow.donors().map(|donor| donor.worker.as_str()).collect();
                    tracing::info!(step = position.step, "keeps up with {}", donors.join(", "));
                    self.parts.control.tell(Body::Ready(Ready { step: position.step }));
                    told = true;
                }
                follow.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
            }
            Followed::Part => Some(Duration::ZERO),
            Followed::State(round) => {
                self.stand_at(round);
                self.parts.faults.at(round.step, Moment::FetchState);
                Some(Duration::ZERO)
            }
            Followed::Sum(round) if self.position == Some(round) => {
                self.absorb(round)?;
                Some(Duration::ZERO)
            }
            Followed::Sum(_) => {
                tracing::info!("the donor left out a round");
                return Ok((Stage::Lost(Instant::now()), Some(ASK_AGAIN)));
            }
        };
        Ok((Stage::Live(follow, told), again))
    }
}
