//! Between the wire and the scheduler: what workers say becomes events, what they are told becomes messages.

use coordinator_core::{
    Checkpoint, Corruption, Differing, Evaluation, Event, Generation, Holding, InstanceId, JobId, Member, Progress,
    ShardTime, Subject, Timestamp, ToWorker, WorkerId,
};
use trainctl_proto::v1::coordinator_message::Body as ToBody;
use trainctl_proto::v1::worker_message::Body as FromBody;
use trainctl_proto::v1::{self, CoordinatorMessage};

/// What a worker of a job needs beside its place in the group.
pub(crate) struct JobInputs {
    pub(crate) spec_json: String,
    pub(crate) manifest_json: String,
    /// Proves membership of the job to peers.
    pub(crate) secret: [u8; 32],
    /// Who signs for the job's workers, and what it signed for this one, with its key.
    pub(crate) authority: Vec<u8>,
    pub(crate) certificate: Vec<u8>,
    pub(crate) certificate_key: Vec<u8>,
    pub(crate) heartbeat_ms: u64,
    pub(crate) orphan_s: u32,
}

/// The worker's first message.
pub(crate) fn attached(hello: v1::Hello) -> Event {
    let holding = (!hello.job.is_empty()).then(|| Holding {
        job: JobId(hello.job),
        generation: Generation(hello.generation),
        step: hello.has_state.then_some(hello.step),
        finished: hello.finished,
    });
    Event::WorkerAttached {
        worker: WorkerId(hello.worker),
        instance: InstanceId(hello.instance),
        pid: hello.pid,
        address: hello.data_address,
        fingerprint: hello.fingerprint,
        fingerprint_detail: hello.fingerprint_detail,
        holding,
    }
}

/// A later message of the worker. `None`: it says hello again, which is out of turn, or what can't be read.
pub(crate) fn event(worker: &WorkerId, instance: &InstanceId, body: FromBody) -> Option<Event> {
    let worker = worker.clone();
    Some(match body {
        FromBody::Hello(_) => return None,
        FromBody::Heartbeat(beat) => Event::Heartbeat { worker, progress: progress(beat) },
        FromBody::Notice(notice) => {
            Event::EvictionNotice { instance: instance.clone(), deadline: Timestamp(notice.deadline_ms) }
        }
        FromBody::RebalanceRecommended(_) => Event::RebalanceRecommended { instance: instance.clone() },
        FromBody::PeerLost(lost) => Event::PeerLost {
            worker,
            generation: Generation(lost.generation),
            peer: WorkerId(lost.worker),
            detail: lost.detail,
            unsure: lost.unsure,
        },
        FromBody::Ready(ready) => Event::JoinerReady { worker, step: ready.step },
        FromBody::Resumed(resumed) => Event::Resumed {
            worker,
            generation: Generation(resumed.generation),
            step: resumed.step,
            pause_ms: resumed.pause_ms,
            steps_repeated: resumed.steps_repeated,
        },
        FromBody::Evaluated(evaluated) => Event::Evaluated { worker, evaluation: evaluation(&evaluated) },
        FromBody::Saved(saved) => Event::CheckpointCommitted {
            worker,
            checkpoint: Checkpoint {
                step: saved.step,
                bytes: saved.bytes,
                seconds: saved.seconds,
                stall_ms: saved.stall_ms,
                why: saved.why,
                state_digest: saved.state_digest,
                committed: Timestamp(saved.committed_ms),
            },
        },
        FromBody::Corrupt(corrupt) => Event::StatesDiffer {
            worker,
            generation: Generation(corrupt.generation),
            differing: differing(corrupt.differing?)?,
        },
        FromBody::Settled(settled) => Event::StatesAgree {
            worker,
            generation: Generation(settled.generation),
            step: settled.step,
            subject: Subject::from_name(&settled.subject)?,
            digest: settled.digest,
        },
        FromBody::SaveFailed(failed) => Event::SaveFailed { worker, step: failed.step, reason: failed.reason },
        FromBody::NcclFailed(failed) => {
            Event::NcclFailed { worker, generation: Generation(failed.generation), reason: failed.reason }
        }
        FromBody::Aside(aside) => {
            Event::WorkerAside { worker, generation: Generation(aside.generation), step: aside.step }
        }
        FromBody::Left(left) => Event::WorkerLeft { worker, generation: Generation(left.generation), step: left.step },
        FromBody::Finished(finished) => Event::WorkerFinished {
            worker,
            step: finished.step,
            loss: finished.loss,
            evaluation: finished.eval.as_ref().map(evaluation),
            state_digest: finished.state_digest,
        },
        FromBody::Failed(failed) => {
            let hint = if failed.hint.is_empty() { String::new() } else { format!("\nhint: {}", failed.hint) };
            Event::WorkerFailed { worker, job_fails: failed.job, reason: failed.reason + &hint }
        }
    })
}

fn progress(beat: v1::Heartbeat) -> Progress {
    Progress {
        generation: Generation(beat.generation),
        step: beat.has_state.then_some(beat.step),
        loss: beat.loss,
        samples_per_s: beat.samples_per_s,
        state_digest: (!beat.state_digest.is_empty()).then_some((beat.state_digest, beat.state_digest_step)),
        shard_time: (beat.shard_seconds > 0.0)
            .then_some(ShardTime { seconds: beat.shard_seconds, timed: beat.shards_timed }),
        skipped_steps: beat.skipped_steps,
        audits_passed: beat.audits_passed,
    }
}

fn evaluation(evaluated: &v1::Evaluated) -> Evaluation {
    Evaluation { step: evaluated.step, loss: evaluated.loss, accuracy: evaluated.accuracy }
}

/// What a worker is told. `inputs` gives what only a welcome carries; `None`: its job is not known.
pub(crate) fn message(
    message: ToWorker,
    inputs: impl FnOnce(&JobId) -> Option<JobInputs>,
) -> Option<CoordinatorMessage> {
    let body = match message {
        ToWorker::Welcome { job, expect_fingerprint } => {
            let inputs = inputs(&job)?;
            ToBody::Welcome(v1::Welcome {
                job: job.0,
                spec_json: inputs.spec_json,
                manifest_json: inputs.manifest_json,
                secret: inputs.secret.to_vec(),
                authority: inputs.authority,
                certificate: inputs.certificate,
                certificate_key: inputs.certificate_key,
                heartbeat_ms: u32::try_from(inputs.heartbeat_ms).unwrap_or(u32::MAX),
                orphan_s: inputs.orphan_s,
                expect_fingerprint: expect_fingerprint.unwrap_or_default(),
            })
        }
        ToWorker::Assign { generation, immediate, members, reason, rollback } => ToBody::Assign(v1::Assign {
            generation: generation.0,
            immediate,
            members: members.into_iter().map(member).collect(),
            reason,
            rollback: rollback.map(to_rollback),
        }),
        ToWorker::Join { donor, others, rollbacks } => {
            let others = others.into_iter().map(member).collect();
            ToBody::Join(v1::Join { donor: Some(member(donor)), others, rollbacks })
        }
        ToWorker::Exit { reason } => ToBody::Exit(v1::Exit { reason }),
    };
    Some(CoordinatorMessage { body: Some(body) })
}

fn differing(from: v1::Differing) -> Option<Differing> {
    let digests = from.digests.into_iter().map(|(worker, digest)| (WorkerId(worker), digest)).collect();
    let (subject, right) = (Subject::from_name(&from.subject)?, Some(from.right).filter(|right| !right.is_empty()));
    Some(Differing { step: from.step, subject, shard: from.shard, digests, right })
}

fn to_rollback(corruption: Corruption) -> v1::Rollback {
    let Differing { step, subject, shard, digests, right } = corruption.differing;
    let digests = digests.into_iter().map(|(worker, digest)| (worker.0, digest)).collect();
    let (subject, right) = (subject.name().to_owned(), right.unwrap_or_default());
    v1::Rollback {
        number: corruption.number,
        differing: Some(v1::Differing { step, subject, digests, shard, right }),
        quarantined: corruption.quarantined.into_iter().map(|worker| worker.0).collect(),
    }
}

fn member(member: Member) -> v1::Member {
    v1::Member {
        worker: member.worker.0,
        address: member.address,
        first_shard: member.first_shard,
        end_shard: member.end_shard,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_without_state_holds_no_step() {
        let hello = v1::Hello { worker: "w1".to_owned(), job: "digits".to_owned(), step: 9, ..v1::Hello::default() };
        let Event::WorkerAttached { holding: Some(holding), .. } = attached(hello) else { panic!("an attach") };
        assert_eq!((holding.step, holding.finished), (None, false));
        let fresh = v1::Hello { worker: "w1".to_owned(), ..v1::Hello::default() };
        assert!(matches!(attached(fresh), Event::WorkerAttached { holding: None, .. }));
    }

    #[test]
    fn a_second_hello_is_out_of_turn() {
        let said = FromBody::Hello(v1::Hello::default());
        assert!(event(&WorkerId::from("w1"), &InstanceId::from("i1"), said).is_none());
    }

    #[test]
    fn what_an_audit_found_arrives_as_said_and_is_handed_on_with_the_roll_back() {
        let digests = [("w1", "00aa"), ("w2", "00ab")].map(|(worker, digest)| (worker.to_owned(), digest.to_owned()));
        let (subject, right) = ("gradient".to_owned(), "00aa".to_owned());
        let said = v1::Differing { step: 12, subject, digests: digests.into(), shard: Some(0), right };
        let corrupt = FromBody::Corrupt(v1::Corrupt { generation: 3, differing: Some(said.clone()) });
        let event = event(&WorkerId::from("w1"), &InstanceId::from("i1"), corrupt);
        let Some(Event::StatesDiffer { differing, .. }) = event else { panic!("a dispute") };
        assert_eq!((differing.subject, differing.shard), (Subject::Gradient, Some(0)));
        assert_eq!(differing.right.as_deref(), Some("00aa"));

        let (at, quarantined) = (Timestamp(1), vec![WorkerId::from("w2")]);
        let rollback = to_rollback(Corruption { number: 1, at, differing, quarantined, open: false, back_to: None });
        assert_eq!(rollback.differing, Some(said));
    }

    #[test]
    fn what_no_repetition_has_shown_is_absent_both_ways() {
        let subject = "model".to_owned();
        let said = v1::Differing { step: 12, subject, digests: [].into(), shard: None, right: String::new() };
        let read = differing(said).expect("a subject that is known");
        assert_eq!((read.shard, read.right), (None, None));
        let unknown = v1::Differing { subject: "weights".to_owned(), ..v1::Differing::default() };
        assert_eq!(differing(unknown), None);
    }

    #[test]
    fn a_failure_keeps_its_hint() {
        let failed = v1::Failed { job: true, reason: "shard 3: loss is NaN".to_owned(), hint: "lower lr".to_owned() };
        let event = event(&WorkerId::from("w1"), &InstanceId::from("i1"), FromBody::Failed(failed));
        let Some(Event::WorkerFailed { job_fails: true, reason, .. }) = event else { panic!("a failure") };
        assert_eq!(reason, "shard 3: loss is NaN\nhint: lower lr");
    }
}
