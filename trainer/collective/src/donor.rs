//! Giving the state to joiners while training goes on: a copy at a step boundary, then the sum of each round that
//! follows. A joiner that can't keep up, or goes away, is dropped; it costs the donor one copy and nothing else.

use crate::inbox::Inbox;
use crate::wire::{Head, Kind};
use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;
use trainer_core::Round;

/// Rounds that a joiner may be behind before it is dropped: this many, or as many as fit into [`BEHIND_BYTES`].
const BEHIND_MOST: usize = 4096;
const BEHIND_LEAST: usize = 4;
const BEHIND_BYTES: usize = 256 << 20;
const WRITE_PATIENCE: Duration = Duration::from_secs(10);

type Frame = (Kind, Round, Arc<[f32]>);

/// The joiners that follow this worker.
#[derive(Debug, Default)]
pub struct Donor {
    followers: Vec<(String, SyncSender<Frame>)>,
}

impl Donor {
    /// At a step boundary: gives the state to joiners that asked since the last one. `next` is the round that comes.
    /// `vector_length` floats make a training round's vector. `at` is called for each, once it is admitted.
    pub fn admit(&mut self, inbox: &Inbox, next: Round, state: &[f32], vector_length: usize, at: &mut dyn FnMut()) {
        let joiners = inbox.take_joiners();
        if joiners.is_empty() {
            return;
        }
        let copy: Arc<[f32]> = state.into();
        let behind = (BEHIND_BYTES / (vector_length.max(1) * size_of::<f32>())).clamp(BEHIND_LEAST, BEHIND_MOST);
        for (worker, stream) in joiners {
            tracing::info!(joiner = worker, step = next.step, "gives its state to a joiner");
            let (sender, frames) = sync_channel(behind);
            // A new channel has room for its first frame.
            let _ = sender.try_send((Kind::State, next, copy.clone()));
            at();
            let name = worker.clone();
            thread::spawn(move || {
                if let Err(error) = serve(stream, &frames) {
                    tracing::info!(joiner = name, %error, "stops following");
                }
            });
            self.followers.push((worker, sender));
        }
    }

    /// After a round: passes its sum on.
    pub fn publish(&mut self, round: Round, sum: &[f32]) {
        if self.followers.is_empty() {
            return;
        }
        let copy: Arc<[f32]> = sum.into();
        self.followers.retain(|(worker, follower)| {
            let kept = follower.try_send((Kind::Sum, round, copy.clone())).is_ok();
            if !kept {
                tracing::info!(joiner = worker, step = round.step, "left, or fell too far behind");
            }
            kept
        });
    }

    /// Lets all followers go.
    pub fn close(&mut self) {
        self.followers.clear();
    }
}

fn serve(mut stream: TcpStream, frames: &Receiver<Frame>) -> io::Result<()> {
    stream.set_write_timeout(Some(WRITE_PATIENCE))?;
    for (sequence, (kind, round, vector)) in frames.iter().enumerate() {
        let bytes: &[u8] = bytemuck::cast_slice(&vector);
        let head = Head { kind, sequence: sequence as u64, round, length: bytes.len() as u64 };
        stream.write_all(&head.to_bytes())?;
        stream.write_all(bytes)?;
    }
    Ok(())
}
