//! The open streams of workers. A worker that does not read can't hold up the driver: its queue is bounded, and when it
//! is full its stream is closed. What matters is told again when it attaches again.

use coordinator_core::{Event, InstanceId, WorkerId};
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use trainctl_proto::v1::CoordinatorMessage;

/// One stream of one worker; a later stream has a greater one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SessionId(u64);

/// A worker that opens its stream.
pub(crate) struct Attachment {
    pub(crate) worker: WorkerId,
    /// Where it runs, as its token proves.
    pub(crate) instance: InstanceId,
    /// What it said of itself.
    pub(crate) event: Event,
    /// Where it is told things.
    pub(crate) outbox: mpsc::Sender<Result<CoordinatorMessage, Status>>,
    /// Cancelled when the session is over.
    pub(crate) over: CancellationToken,
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    /// It waits for the worker to read it.
    Queued,
    /// The worker is not attached.
    Absent,
    /// Its queue was full or its stream gone: the session is over.
    CutOff,
}

struct Session {
    id: SessionId,
    outbox: mpsc::Sender<Result<CoordinatorMessage, Status>>,
    over: CancellationToken,
}

/// All open sessions.
#[derive(Default)]
pub(crate) struct Sessions {
    open: BTreeMap<WorkerId, Session>,
    newest: u64,
}

impl Sessions {
    /// An earlier session of the worker is over.
    pub(crate) fn open(&mut self, attachment: Attachment) -> SessionId {
        self.newest += 1;
        let id = SessionId(self.newest);
        let Attachment { worker, outbox, over, .. } = attachment;
        if let Some(earlier) = self.open.insert(worker, Session { id, outbox, over }) {
            earlier.over.cancel();
        }
        id
    }

    pub(crate) fn is_open(&self, worker: &WorkerId) -> bool {
        self.open.contains_key(worker)
    }

    pub(crate) fn is_current(&self, id: SessionId, worker: &WorkerId) -> bool {
        self.open.get(worker).is_some_and(|session| session.id == id)
    }

    /// `false`: it was over already.
    pub(crate) fn close(&mut self, id: SessionId, worker: &WorkerId) -> bool {
        if !self.is_current(id, worker) {
            return false;
        }
        if let Some(session) = self.open.remove(worker) {
            session.over.cancel();
        }
        true
    }

    pub(crate) fn tell(&mut self, worker: &WorkerId, message: CoordinatorMessage) -> Told {
        let Some(session) = self.open.get(worker) else { return Told::Absent };
        match session.outbox.try_send(Ok(message)) {
            Ok(()) => Told::Queued,
            Err(_full_or_closed) => {
                let id = session.id;
                self.close(id, worker);
                Told::CutOff
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attach(
        sessions: &mut Sessions,
        queue: usize,
    ) -> (SessionId, mpsc::Receiver<Result<CoordinatorMessage, Status>>, CancellationToken) {
        let (outbox, inbox) = mpsc::channel(queue);
        let over = CancellationToken::new();
        let worker = WorkerId::from("w1");
        let attachment =
            Attachment { worker, instance: InstanceId::from("i1"), event: Event::Tick, outbox, over: over.clone() };
        (sessions.open(attachment), inbox, over)
    }

    #[test]
    fn a_worker_that_does_not_read_is_cut_off() {
        let worker = WorkerId::from("w1");
        let mut sessions = Sessions::default();
        assert_eq!(sessions.tell(&worker, CoordinatorMessage::default()), Told::Absent);
        let (_, _inbox, over) = attach(&mut sessions, 1);
        assert_eq!(sessions.tell(&worker, CoordinatorMessage::default()), Told::Queued);
        assert_eq!(sessions.tell(&worker, CoordinatorMessage::default()), Told::CutOff);
        assert!(over.is_cancelled());
        assert_eq!(sessions.tell(&worker, CoordinatorMessage::default()), Told::Absent);
    }

    #[test]
    fn a_new_stream_ends_the_old_one_and_not_the_other_way_round() {
        let worker = WorkerId::from("w1");
        let mut sessions = Sessions::default();
        let (first, _inbox, over) = attach(&mut sessions, 1);
        let (second, _other, still) = attach(&mut sessions, 1);
        assert!(over.is_cancelled() && !still.is_cancelled());
        assert!(!sessions.close(first, &worker), "the end of the old stream is no end of the worker's session");
        assert!(sessions.is_current(second, &worker));
        assert!(sessions.close(second, &worker));
    }
}
