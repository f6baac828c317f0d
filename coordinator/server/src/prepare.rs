//! What must be there before a coordinator can start, in the order in which its lack is best told: its home, its pools, its
//! port, its store. All of it blocks.

use crate::clock::Clock;
use crate::home::{Home, Identity, hex};
use crate::job_keys::JobKeys;
use crate::pools::{Costs, Pools};
use crate::records;
use crate::serve::{Options, ServeError};
use crate::store::{FAIL_AT_VARIABLE, FailAt, SledStore, Store};
use coordinator_core::{Core, JobId, PoolName, Record, Settings};
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// All that was opened and read.
pub(crate) struct Prepared {
    pub(crate) home: Home,
    pub(crate) token: String,
    /// Calls are answered over TLS only.
    pub(crate) identity: Option<Identity>,
    pub(crate) listener: TcpListener,
    pub(crate) local: SocketAddr,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) core: Core,
    pub(crate) cluster: String,
    pub(crate) job_keys: BTreeMap<JobId, JobKeys>,
    pub(crate) pools: Pools,
    pub(crate) running_for: BTreeMap<PoolName, Duration>,
}

pub(crate) fn prepare(options: Options, clock: Clock) -> Result<Prepared, ServeError> {
    let home = Home::enter(&options.home)?;
    let token = home.token()?;
    let encrypted = options.tls.applies_to(options.listen.ip());
    let identity = encrypted.then(|| home.identity()).transpose()?;
    let pools = match &options.pools_file {
        Some(path) => Pools::load(path, encrypted)?,
        None => Pools::without_file(),
    };
    let (listener, local) = listen(options.listen)?;
    if !encrypted && !local.ip().is_loopback() {
        tracing::warn!(%local, "calls are not encrypted, as --tls never says: tokens and data can be read on the way");
    }
    home.hand_out(&token, identity.as_ref())?;
    let store = open_store(&home.store())?;
    let loaded = records::load(store.as_ref())??;

    let (running_for, mut first) = loaded.traces(&pools.local, clock.now());
    let cluster = loaded.cluster.unwrap_or_else(|| new_cluster(&mut first));
    if !first.is_empty() {
        store.commit(&first)?;
    }
    let Costs { coordinator_usd_per_hour, storage_usd_per_gb_month } = pools.costs;
    let settings = Settings { coordinator_usd_per_hour, storage_usd_per_gb_month, ..options.settings };
    let core = Core::load(settings, loaded.core, clock.now())?;
    let job_keys = loaded.job_keys;
    Ok(Prepared { home, token, identity, listener, local, store, core, cluster, job_keys, pools, running_for })
}

fn new_cluster(first: &mut Vec<Record>) -> String {
    let cluster = format!("c{}", hex(&rand::random::<[u8; 8]>()));
    first.push(records::cluster(&cluster));
    cluster
}

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => ServeError::PortTaken { address },
        _ => ServeError::Listen { address, source },
    };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    Ok((listener, local))
}

fn open_store(path: &Path) -> Result<Arc<dyn Store>, ServeError> {
    let store = SledStore::open(path)?;
    match std::env::var(FAIL_AT_VARIABLE) {
        Err(_) => Ok(Arc::new(store)),
        Ok(text) => match text.parse() {
            Ok(at) if at > 0 => Ok(Arc::new(FailAt::new(store, at))),
            _ => Err(ServeError::FailAt { found: text }),
        },
    }
}
