//! Reading a data set through the cache, block by block: a block is loaded when a row of it is asked for, or before.
//!
//! Where the cache has room for the whole data set, all of it is loaded from the start on, in order; else what
//! [`Streaming::read_ahead`] is told of. Blocks stay open while they fit into the cache's bound, the longest unused go
//! first. A block that could not be written (a full disk) is held in memory, within a bound of its own.

use crate::block::Block;
use crate::cache::Cache;
use crate::error::DataError;
use crate::manifest::{Manifest, Object};
use crate::place::Place;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Blocks loaded at a time, ahead of their use. Each is in memory while it is decoded.
const LOADERS: usize = 4;
/// Blocks to load ahead that are remembered.
const AHEAD_MAX: usize = 4096;
/// Of blocks that the disk had no room for.
const BYPASS_MAX_BYTES: u64 = 1 << 30;

/// A data set that is being read.
pub(crate) struct Streaming {
    shared: Arc<Shared>,
}

struct Shared {
    place: Place,
    manifest: Manifest,
    /// Of each block: its objects' range in the manifest.
    objects: Vec<std::ops::Range<usize>>,
    cache: Cache,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    slots: Vec<Slot>,
    /// Blocks to load, soonest first.
    ahead: VecDeque<usize>,
    /// Grows with each use.
    clock: u64,
    on_disk_bytes: u64,
    in_memory_bytes: u64,
    ended: bool,
}

enum Slot {
    Absent,
    Loading,
    Ready {
        block: Arc<Block>,
        used: u64,
    },
    /// Told to whoever asks first.
    Failed(DataError),
}

impl Streaming {
    pub(crate) fn start(manifest: Manifest, place: Place, cache: Cache) -> Self {
        let mut objects = Vec::new();
        let mut next = 0;
        for block in manifest.blocks() {
            objects.push(next..next + block.len());
            next += block.len();
        }
        let whole_fits = manifest.memory_bytes() <= cache.bound_bytes();
        let state = State {
            slots: objects.iter().map(|_| Slot::Absent).collect(),
            ahead: if whole_fits { (0..objects.len()).collect() } else { VecDeque::new() },
            clock: 0,
            on_disk_bytes: 0,
            in_memory_bytes: 0,
            ended: false,
        };
        let shared =
            Arc::new(Shared { place, manifest, objects, cache, state: Mutex::new(state), changed: Condvar::new() });
        for _ in 0..LOADERS.min(shared.objects.len()) {
            let shared = shared.clone();
            std::thread::spawn(move || shared.load_ahead());
        }
        Self { shared }
    }

    /// A block, waited for if it must be.
    pub(crate) fn block(&self, number: usize) -> Result<Arc<Block>, DataError> {
        self.shared.block(number)
    }

    /// Whether the cache is too small to load all from the start on.
    pub(crate) fn loads_as_told(&self) -> bool {
        self.shared.manifest.memory_bytes() > self.shared.cache.bound_bytes()
    }

    /// Blocks that will be asked for soon, in this order.
    pub(crate) fn read_ahead(&self, blocks: impl Iterator<Item = usize>) {
        let mut state = self.shared.lock();
        let mut added = false;
        for number in blocks {
            if matches!(state.slots[number], Slot::Absent)
                && state.ahead.len() < AHEAD_MAX
                && !state.ahead.contains(&number)
            {
                state.ahead.push_back(number);
                added = true;
            }
        }
        drop(state);
        if added {
            self.shared.changed.notify_all();
        }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        // They end by themselves: one may be waiting for a store that is away.
        self.shared.changed.notify_all();
    }
}

impl fmt::Debug for Streaming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streaming").field("blocks", &self.shared.objects.len()).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// A loader's life.
    fn load_ahead(&self) {
        let mut state = self.lock();
        while !state.ended {
            let Some(number) = state.ahead.pop_front() else {
                state = self.wait(state);
                continue;
            };
            if !matches!(state.slots[number], Slot::Absent) {
                continue;
            }
            state.slots[number] = Slot::Loading;
            drop(state);
            let loaded = self.load(number);
            state = self.lock();
            match loaded {
                Ok(block) => state.keep(number, block, self.cache.bound_bytes()),
                Err(error) => {
                    state.slots[number] = Slot::Failed(error);
                    // Whoever asks for it stops the job: nothing more is needed.
                    state.ahead.clear();
                }
            }
            self.changed.notify_all();
        }
    }

    fn block(&self, number: usize) -> Result<Arc<Block>, DataError> {
        let mut state = self.lock();
        loop {
            state.clock += 1;
            let now = state.clock;
            match &mut state.slots[number] {
                Slot::Ready { block, used } => {
                    *used = now;
                    return Ok(block.clone());
                }
                Slot::Loading => state = self.wait(state),
                slot @ Slot::Failed(_) => {
                    if let Slot::Failed(error) = std::mem::replace(slot, Slot::Absent) {
                        return Err(error);
                    }
                }
                slot @ Slot::Absent => {
                    *slot = Slot::Loading;
                    break;
                }
            }
        }
        drop(state);
        let loaded = self.load(number);
        let mut state = self.lock();
        let result = match loaded {
            Ok(block) => {
                state.keep(number, block.clone(), self.cache.bound_bytes());
                Ok(block)
            }
            Err(error) => {
                state.slots[number] = Slot::Absent;
                Err(error)
            }
        };
        self.changed.notify_all();
        result
    }

    fn load(&self, number: usize) -> Result<Arc<Block>, DataError> {
        let objects: &[Object] = &self.manifest.objects[self.objects[number].clone()];
        let read = || Block::read(&self.place, &self.manifest, objects);
        self.cache.get(&self.manifest, objects, read).map(Arc::new)
    }
}

impl State {
    /// Keeps a loaded block, and lets go of the longest unused ones while all are more than the bounds.
    fn keep(&mut self, number: usize, block: Arc<Block>, bound_bytes: u64) {
        *self.total(&block) += block.bytes();
        self.clock += 1;
        self.slots[number] = Slot::Ready { block, used: self.clock };
        while self.on_disk_bytes > bound_bytes || self.in_memory_bytes > BYPASS_MAX_BYTES {
            let in_memory = self.in_memory_bytes > BYPASS_MAX_BYTES;
            let of_this_kind = |block: &Block| matches!(block, Block::Held { .. }) == in_memory;
            let oldest = self.slots.iter().enumerate().filter_map(|(other, slot)| match slot {
                Slot::Ready { block, used } if other != number && of_this_kind(block) => Some((*used, other)),
                _ => None,
            });
            let Some((_, oldest)) = oldest.min() else { break };
            if let Slot::Ready { block, .. } = std::mem::replace(&mut self.slots[oldest], Slot::Absent) {
                *self.total(&block) -= block.bytes();
            }
        }
    }

    /// The sum that a block counts in.
    fn total(&mut self, block: &Block) -> &mut u64 {
        match block {
            Block::Held { .. } => &mut self.in_memory_bytes,
            Block::Mapped { .. } => &mut self.on_disk_bytes,
        }
    }
}
