//! NCCL as a [`Transport`] of device memory.
//!
//! The communicator is a non-blocking one: no call into NCCL waits, so the thread that waits for the device can always
//! be interrupted, and another thread can abort at any moment. A lock is held during each call, never while waiting.
//! After an error the communicator is aborted, which ends its kernels on the device as well.

use crate::device::Device;
use crate::device_memory::{DeviceMemory, address};
use crate::error::NcclError;
use crate::library::{Library, UniqueId, of_code};
use crate::settle::{Progress, settle};
use cudarc::nccl::sys;
use std::ffi::{c_int, c_uint, c_void};
use std::ops::Range;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use trainer_collective::{Aborter, Part, Transport};

/// How long the members may take to find each other, and to take leave.
const MEETING_PATIENCE: Duration = Duration::from_secs(60);
/// The structure's own mark and "not set", from nccl.h.
const CONFIG_MAGIC: c_uint = 0xcafe_beef;
const UNSET: c_int = c_int::MIN;
/// The version whose structure this is.
const CONFIG_VERSION: c_uint = 23000;

/// This member's place in the group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// From 0 on.
    pub rank: usize,
    /// How many members there are.
    pub world_size: usize,
}

/// Tells whether the thread is wanted elsewhere.
type Interrupted = Box<dyn Fn() -> bool + Send>;

/// The members of one generation, connected by NCCL.
pub struct Communicator {
    shared: Arc<Shared>,
    device: Device,
    place: Place,
    interrupted: Interrupted,
}

/// What an aborting thread needs.
#[derive(Debug)]
struct Shared {
    /// Where NCCL puts the communicator, at the latest once it is built.
    comm: AtomicPtr<sys::ncclComm>,
    /// Whether it may be used. Held during each call.
    open: Mutex<bool>,
}

impl std::fmt::Debug for Communicator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Communicator").field("device", &self.device).field("place", &self.place).finish_non_exhaustive()
    }
}

impl Communicator {
    /// Builds a generation's communicator with all other members, who have the same `id`. `interrupted` is asked again
    /// and again while this thread waits, here and in every operation.
    ///
    /// # Errors
    /// [`NcclError::Interrupted`], [`NcclError::Patience`] when members don't come, [`NcclError::PeerLost`],
    /// [`NcclError::Failed`].
    #[expect(unsafe_code, reason = "NCCL is called")]
    pub fn build(
        _: &Library,
        device: &Device,
        id: UniqueId,
        place: Place,
        interrupted: impl Fn() -> bool + Send + 'static,
    ) -> Result<Self, NcclError> {
        const DOING: &str = "build an NCCL communicator";
        device.bind()?;
        let shared = Arc::new(Shared { comm: AtomicPtr::new(null_mut()), open: Mutex::new(true) });
        let this = Self { shared, device: device.clone(), place, interrupted: Box::new(interrupted) };
        let mut config = config();
        // SAFETY: the pointer that NCCL fills is in `shared`, which outlives the building (see `Shared::abort`); the
        // configuration is read within the call.
        let code = unsafe {
            let (rank, world_size) = (as_int(place.rank), as_int(place.world_size));
            sys::ncclCommInitRankConfig(this.shared.comm.as_ptr(), world_size, id.to_nccl(), rank, &raw mut config)
        };
        accepted(DOING, code, null_mut())?;
        this.wait(DOING, Some(MEETING_PATIENCE), None)?;
        Ok(this)
    }

    /// Ends it together with the others, who do the same: nothing that this member sent is lost. Whoever can't wait
    /// for them drops it.
    ///
    /// # Errors
    /// As [`Communicator::build`]; it is aborted then.
    #[expect(unsafe_code, reason = "NCCL is called")]
    pub fn close(self) -> Result<(), NcclError> {
        const DOING: &str = "close an NCCL communicator";
        self.device.bind()?;
        // SAFETY: the communicator is open, which the lock keeps so.
        self.shared.call(|comm| accepted(DOING, unsafe { sys::ncclCommFinalize(comm) }, comm))?;
        self.wait(DOING, Some(MEETING_PATIENCE), None)?;
        let mut open = self.shared.lock();
        if !std::mem::replace(&mut *open, false) {
            return Err(NcclError::Interrupted);
        }
        let comm = self.shared.comm.load(Ordering::Acquire);
        // SAFETY: it is finalized, and nobody uses it after: it is not open any more.
        accepted(DOING, unsafe { sys::ncclCommDestroy(comm) }, null_mut())
    }

    /// Puts something on the memory's stream and waits until it is done.
    fn run<M: DeviceMemory>(
        &self,
        doing: &'static str,
        memory: &M,
        enqueue: &mut dyn FnMut(sys::ncclComm_t, sys::cudaStream_t) -> sys::ncclResult_t,
    ) -> Result<(), NcclError> {
        let expected = self.device.ordinal();
        match memory.device() {
            Ok(device) if device == expected => {}
            Ok(device) => {
                return Err(NcclError::WrongMemory { expected, found: format!("on CUDA device {device}") });
            }
            Err(found) => return Err(NcclError::WrongMemory { expected, found }),
        }
        self.device.bind()?;
        let stream = memory.stream();
        let enqueued = self.shared.call(|comm| accepted(doing, enqueue(comm, stream.cast()), comm));
        let result = enqueued.and_then(|()| self.wait(doing, None, Some(stream)));
        if result.is_err() {
            self.shared.abort();
        }
        result
    }

    /// Waits until NCCL has nothing underway and the stream, if any, is empty.
    fn wait(
        &self,
        doing: &'static str,
        patience: Option<Duration>,
        stream: Option<*mut c_void>,
    ) -> Result<(), NcclError> {
        settle(doing, patience, &self.interrupted, &mut || match (
            self.shared.call(|comm| progress(doing, comm))?,
            stream,
        ) {
            (Progress::Done, Some(stream)) => Device::progress(doing, stream.cast()),
            (progress, _) => Ok(progress),
        })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call into NCCL, none of which waits.
    fn call<T>(&self, call: impl FnOnce(sys::ncclComm_t) -> Result<T, NcclError>) -> Result<T, NcclError> {
        let open = self.lock();
        if !*open {
            return Err(NcclError::Interrupted);
        }
        call(self.comm.load(Ordering::Acquire))
    }

    #[expect(unsafe_code, reason = "NCCL is called")]
    fn abort(self: &Arc<Self>) {
        let mut open = self.lock();
        if !std::mem::replace(&mut *open, false) {
            return;
        }
        let comm = self.comm.load(Ordering::Acquire);
        if comm.is_null() {
            // NCCL may still be about to write it: the place must stay.
            std::mem::forget(Arc::clone(self));
            return;
        }
        // SAFETY: it is NCCL's, and nobody uses it after: `open` is false from here on.
        let code = unsafe { sys::ncclCommAbort(comm) };
        if code != sys::ncclResult_t::ncclSuccess && code != sys::ncclResult_t::ncclInProgress {
            tracing::warn!("abort an NCCL communicator: {code:?}");
        }
    }
}

impl Drop for Communicator {
    /// Ends it without waiting for peers, who may see a lost one.
    fn drop(&mut self) {
        self.shared.abort();
    }
}

impl<M: DeviceMemory> Transport<M> for Communicator {
    type Error = NcclError;

    fn rank(&self) -> usize {
        self.place.rank
    }

    fn world_size(&self) -> usize {
        self.place.world_size
    }

    #[expect(unsafe_code, reason = "NCCL is called")]
    fn swap(&mut self, memory: &mut M, sends: &[Part], receives: &[Part]) -> Result<(), NcclError> {
        let address = |part: &Part| address(memory, &part.range);
        let sends: Vec<_> = sends.iter().map(|part| (address(part), part.range.len(), as_int(part.peer))).collect();
        let receives: Vec<_> =
            receives.iter().map(|part| (address(part), part.range.len(), as_int(part.peer))).collect();
        self.run("swap partial sums", memory, &mut |comm, stream| {
            // SAFETY: the addresses lie within the memory, which is borrowed until the stream is done with it; the
            // group is ended whatever happens within it.
            unsafe {
                let mut code = sys::ncclGroupStart();
                for (from, floats, peer) in &sends {
                    code = first(code, || sys::ncclSend(*from, *floats, FLOAT, *peer, comm, stream));
                }
                for (into, floats, peer) in &receives {
                    code = first(code, || sys::ncclRecv(*into, *floats, FLOAT, *peer, comm, stream));
                }
                let ended = sys::ncclGroupEnd();
                first(code, || ended)
            }
        })
    }

    #[expect(unsafe_code, reason = "NCCL is called")]
    fn all_gather(&mut self, memory: &mut M, range: Range<usize>) -> Result<(), NcclError> {
        let Place { rank, world_size } = self.place;
        assert!(range.len().is_multiple_of(world_size), "{range:?} is cut into {world_size} equal chunks");
        let chunk = range.len() / world_size;
        let into = address(memory, &range);
        let own = range.start + rank * chunk;
        let from = address(memory, &(own..own + chunk));
        self.run("gather a sum", memory, &mut |comm, stream| {
            // SAFETY: as above; NCCL gathers in place when each sends from where its chunk belongs.
            unsafe { sys::ncclAllGather(from, into, chunk, FLOAT, comm, stream) }
        })
    }

    #[expect(unsafe_code, reason = "NCCL is called")]
    fn all_reduce(&mut self, memory: &mut M, range: Range<usize>) -> Result<(), NcclError> {
        let at = address(memory, &range);
        self.run("sum in any order", memory, &mut |comm, stream| {
            // SAFETY: as above; NCCL reduces in place.
            unsafe { sys::ncclAllReduce(at, at, range.len(), FLOAT, sys::ncclRedOp_t::ncclSum, comm, stream) }
        })
    }

    fn aborter(&self) -> Aborter {
        let shared = Arc::clone(&self.shared);
        Aborter::new(move || shared.abort())
    }
}

const FLOAT: sys::ncclDataType_t = sys::ncclDataType_t::ncclFloat32;

fn as_int(number: usize) -> c_int {
    c_int::try_from(number).unwrap_or(c_int::MAX)
}

/// The first refusal of a sequence of calls.
fn first(code: sys::ncclResult_t, next: impl FnOnce() -> sys::ncclResult_t) -> sys::ncclResult_t {
    match code {
        sys::ncclResult_t::ncclSuccess | sys::ncclResult_t::ncclInProgress => next(),
        refused => refused,
    }
}

/// What a non-blocking call returns when it is done or goes on in the background.
fn accepted(doing: &'static str, code: sys::ncclResult_t, comm: sys::ncclComm_t) -> Result<(), NcclError> {
    match code {
        sys::ncclResult_t::ncclSuccess | sys::ncclResult_t::ncclInProgress => Ok(()),
        code => Err(of_code(doing, code, comm)),
    }
}

/// How far the communicator is with what it was told last.
#[expect(unsafe_code, reason = "NCCL is called")]
fn progress(doing: &'static str, comm: sys::ncclComm_t) -> Result<Progress, NcclError> {
    if comm.is_null() {
        return Ok(Progress::Underway);
    }
    let mut state = sys::ncclResult_t::ncclInProgress;
    // SAFETY: the communicator is NCCL's and open, which the caller's lock keeps so.
    let asked = unsafe { sys::ncclCommGetAsyncError(comm, &raw mut state) };
    accepted(doing, asked, comm)?;
    match state {
        sys::ncclResult_t::ncclSuccess => Ok(Progress::Done),
        sys::ncclResult_t::ncclInProgress => Ok(Progress::Underway),
        code => Err(of_code(doing, code, comm)),
    }
}

/// Non-blocking; all else as NCCL chooses.
fn config() -> sys::ncclConfig_t {
    sys::ncclConfig_t {
        size: size_of::<sys::ncclConfig_t>(),
        magic: CONFIG_MAGIC,
        version: CONFIG_VERSION,
        blocking: 0,
        cgaClusterSize: UNSET,
        minCTAs: UNSET,
        maxCTAs: UNSET,
        netName: std::ptr::null(),
        splitShare: UNSET,
        trafficClass: UNSET,
        commName: std::ptr::null(),
        collnetEnable: UNSET,
        CTAPolicy: UNSET,
        shrinkShare: UNSET,
        nvlsCTAs: UNSET,
        nChannelsPerNetPeer: UNSET,
        nvlinkCentricSched: UNSET,
        graphUsageMode: UNSET,
        numRmaCtx: UNSET,
        maxP2pPeers: UNSET,
    }
}
