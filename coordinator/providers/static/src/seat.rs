//! A machine's place in its pool, for as long as its connection lasts.

use crate::books::Inner;
use coordinator_core::{InstanceId, WorkerId};
use std::sync::Arc;
use std::time::Duration;

/// What a machine says when it joins, and says again when its connection broke.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hello {
    /// Chosen at random by its trainer, and the same until that ends: it outlives broken connections.
    pub machine: String,
    /// What people call it.
    pub host: String,
    /// Its trainer's process.
    pub pid: u32,
    /// The instance that it is now, if it works.
    pub instance: Option<InstanceId>,
    /// The instance that it was before, and how its worker ended.
    pub ended: Option<(InstanceId, i32)>,
}

/// What a machine is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// Be this worker.
    Start {
        /// On which instance.
        instance: InstanceId,
        /// Which one.
        worker: WorkerId,
        /// Proves that it is the instance's.
        token: String,
    },
    /// Stop being the instance's worker after so long, and wait again. One that is another by then does nothing.
    End {
        /// Which instance.
        instance: InstanceId,
        /// 0: at once.
        grace: Duration,
    },
}

/// Dropped when the connection ends. A machine that works has some seconds to come back.
pub struct Seat {
    pub(crate) inner: Arc<Inner>,
    pub(crate) machine: String,
    /// Tells this connection from earlier and later ones of the machine.
    pub(crate) connection: u64,
}

impl Seat {
    /// The machine has become the instance's worker, as it was told.
    pub fn started(&self, instance: &InstanceId) {
        self.inner.started(&self.machine, self.connection, instance);
    }

    /// The machine is taken away; it does not begin anything new.
    pub fn leaving(&self) {
        self.inner.leaving(&self.machine, self.connection);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.inner.disconnected(&self.machine, self.connection);
    }
}
