//! Takes facts in: checks each against what is known, refuses what can't be, and notes the rest. What follows from
//! a fact is planned afterwards; only an answer that the sender waits for is given here.

mod attach;
mod corruption;
mod providers;
mod requests;
mod workers;

use crate::action::Action;
use crate::event::Event;
use crate::ids::Timestamp;
use crate::rejection::Rejection;
use crate::state::State;

/// Notes one fact.
pub(crate) fn observe(state: &mut State, now: Timestamp, event: Event, out: &mut Vec<Action>) -> Result<(), Rejection> {
    match event {
        Event::JobSubmitted { job, spec, manifest_json } => requests::submit(state, now, &job, *spec, manifest_json),
        Event::CancelRequested { job } => requests::cancel(state, &job),
        Event::SuspendRequested => {
            requests::suspend(state);
            Ok(())
        }
        Event::DrainRequested { worker } => requests::drain(state, &worker),
        Event::EvictRequested { worker, notice_ms } => requests::evict(state, now, &worker, notice_ms, out),
        Event::PoolChanged { pool } => providers::pool(state, now, pool),
        Event::InstanceUp { instance, pid, machine } => {
            providers::up(state, now, &instance, (pid, machine.as_ref()), out)
        }
        Event::PriceMoved { instance, price } => providers::price_moved(state, now, &instance, price),
        Event::InstanceDown { instance, cause } => providers::down(state, now, &instance, &cause),
        Event::LaunchFailed { instance, error } => providers::launch_failed(state, now, &instance, error),
        Event::EvictionNotice { instance, deadline } => providers::notice(state, now, &instance, deadline),
        Event::RebalanceRecommended { instance } => providers::rebalance(state, &instance),
        Event::InstancesListed { provider, instances } => {
            providers::listed(state, now, provider, &instances, out);
            Ok(())
        }
        Event::Awoke => {
            state.listen_anew(now);
            Ok(())
        }
        Event::WorkerAttached { worker, instance, pid, address, fingerprint, fingerprint_detail, holding } => {
            let hello = crate::state::Hello { pid, address, fingerprint, fingerprint_detail };
            attach::attached(state, now, &worker, &instance, hello, holding, out)
        }
        Event::WorkerDetached { worker } => workers::detached(state, now, &worker),
        Event::Heartbeat { worker, progress } => workers::heartbeat(state, now, &worker, progress),
        Event::PeerLost { worker, generation, peer, detail, unsure } => {
            workers::peer_lost(state, &worker, generation, &peer, detail, unsure)
        }
        Event::JoinerReady { worker, step } => workers::ready(state, now, &worker, step),
        Event::Resumed { worker, generation, step, pause_ms, steps_repeated } => {
            workers::resumed(state, now, &worker, generation, workers::Resumption { step, pause_ms, steps_repeated })
        }
        Event::Evaluated { worker, evaluation } => workers::evaluated(state, &worker, evaluation),
        Event::CheckpointCommitted { worker, checkpoint } => workers::checkpoint(state, now, &worker, checkpoint),
        Event::StatesDiffer { worker, generation, differing } => {
            corruption::corrupt(state, now, &worker, generation, differing)
        }
        Event::StatesAgree { worker, generation, step, subject, digest } => {
            corruption::settled(state, now, &worker, generation, (step, subject), &digest)
        }
        Event::SaveFailed { worker, step, reason } => corruption::save_failed(state, now, &worker, step, reason),
        Event::NcclFailed { worker, generation, reason } => {
            corruption::nccl_failed(state, now, &worker, generation, reason)
        }
        Event::WorkerAside { worker, generation, step } => workers::aside(state, now, &worker, generation, step),
        Event::WorkerLeft { worker, generation, step } => workers::left(state, now, &worker, generation, step),
        Event::WorkerFinished { worker, step, loss, evaluation, state_digest } => {
            let end = workers::End { step, loss, evaluation, state_digest };
            workers::finished(state, now, &worker, end)
        }
        Event::WorkerFailed { worker, job_fails, reason } => workers::failed(state, &worker, job_fails, reason),
        Event::WorkerLogged { worker, lines } => workers::logged(state, &worker, lines),
        Event::Tick => Ok(()),
    }
}
