//! The server's own records, beside the scheduler's and in the same batches: what must outlive a restart and is none of
//! the scheduler's business. They all lie below `server/`.

use crate::job_keys::JobKeys;
use crate::store::{Store, StoreError};
use coordinator_certificates::Authority;
use coordinator_core::{JobId, PoolName, Record, Timestamp};
use coordinator_local::PoolConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

const OWN: &str = "server/";
const CLUSTER: &str = "server/cluster";
const SECRET: &str = "server/secret/";
const AUTHORITY: &str = "server/authority/";
const POOL: &str = "server/pool/";

/// 32 random bytes that prove membership of a job.
pub(crate) type Secret = [u8; 32];

/// Everything that a store holds.
pub(crate) struct Loaded {
    pub(crate) cluster: Option<String>,
    pub(crate) job_keys: BTreeMap<JobId, JobKeys>,
    pools: BTreeMap<PoolName, Began>,
    /// The scheduler's.
    pub(crate) core: Vec<(String, Vec<u8>)>,
}

/// When a pool's trace began.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Began {
    at: Timestamp,
    trace: PathBuf,
    speed: f64,
}

/// A record of the server's own can't be read.
#[derive(Debug, thiserror::Error)]
#[error("record {key}: expected {expected}, found {found:?}")]
pub struct RecordError {
    key: String,
    expected: &'static str,
    found: String,
}

pub(crate) fn load(store: &dyn Store) -> Result<Result<Loaded, RecordError>, StoreError> {
    let (own, core) = store.with_prefix("")?.into_iter().partition(|(key, _)| key.starts_with(OWN));
    Ok(parse(own, core))
}

fn parse(own: Vec<(String, Vec<u8>)>, core: Vec<(String, Vec<u8>)>) -> Result<Loaded, RecordError> {
    let mut loaded = Loaded { cluster: None, job_keys: BTreeMap::new(), pools: BTreeMap::new(), core };
    let (mut secrets, mut authorities) = (BTreeMap::new(), BTreeMap::new());
    for (key, value) in own {
        let wrong = |expected| {
            let found = String::from_utf8_lossy(&value).chars().take(40).collect();
            RecordError { key: key.clone(), expected, found }
        };
        if key == CLUSTER {
            loaded.cluster = Some(String::from_utf8(value.clone()).map_err(|_| wrong("text"))?);
        } else if let Some(job) = key.strip_prefix(SECRET) {
            let secret = Secret::try_from(value.as_slice()).map_err(|_| wrong("32 bytes"))?;
            secrets.insert(job.to_owned(), secret);
        } else if let Some(job) = key.strip_prefix(AUTHORITY) {
            // Nothing of a key in a message.
            let found = || format!("{} bytes", value.len());
            let wrong = |_| RecordError { key: key.clone(), expected: "a key in PKCS#8", found: found() };
            authorities.insert(job.to_owned(), Authority::from_key(job, &value).map_err(wrong)?);
        } else if let Some(pool) = key.strip_prefix(POOL) {
            let began = serde_json::from_slice(&value).map_err(|_| wrong("when a trace began"))?;
            loaded.pools.insert(PoolName::from(pool), began);
        } else {
            return Err(wrong("a key below server/ that this version writes"));
        }
    }
    for (job, secret) in secrets {
        let Some(authority) = authorities.remove(&job) else {
            let (key, found) = (format!("{AUTHORITY}{job}"), String::new());
            return Err(RecordError { key, expected: "the authority of a job that has a secret", found });
        };
        loaded.job_keys.insert(JobId(job), JobKeys { secret, authority });
    }
    Ok(loaded)
}

pub(crate) fn cluster(cluster: &str) -> Record {
    Record { key: CLUSTER.to_owned(), value: Some(cluster.as_bytes().to_vec()) }
}

pub(crate) fn secret(job: &JobId, secret: &Secret) -> Record {
    Record { key: format!("{SECRET}{job}"), value: Some(secret.to_vec()) }
}

pub(crate) fn authority(job: &JobId, key: &[u8]) -> Record {
    Record { key: format!("{AUTHORITY}{job}"), value: Some(key.to_vec()) }
}

impl Loaded {
    /// For how long each pool has replayed the trace that it is configured with, and what to write down about those that
    /// begin now.
    pub(crate) fn traces(&self, pools: &[PoolConfig], now: Timestamp) -> (BTreeMap<PoolName, Duration>, Vec<Record>) {
        let mut running_for = BTreeMap::new();
        let mut records = Vec::new();
        for pool in pools {
            let Some(replay) = &pool.trace else { continue };
            let begins = Began { at: now, trace: replay.trace.path.clone(), speed: replay.speed };
            let same = |began: &&Began| began.trace == begins.trace && began.speed == begins.speed;
            match self.pools.get(&pool.name).filter(same) {
                Some(began) => {
                    let ms = u64::try_from(now.0.saturating_sub(began.at.0)).unwrap_or(0);
                    running_for.insert(pool.name.clone(), Duration::from_millis(ms));
                }
                // An encoding that failed would only let the trace begin anew at the next start.
                None => records.extend(
                    serde_json::to_vec(&begins)
                        .map(|value| Record { key: format!("{POOL}{}", pool.name), value: Some(value) }),
                ),
            }
        }
        (running_for, records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;
    use coordinator_local::{Trace, TraceConfig};
    use std::path::Path;

    fn load_well(store: &dyn Store) -> Loaded {
        load(store).expect("read").expect("good records")
    }

    #[test]
    fn own_records_are_kept_apart() {
        let store = MemoryStore::default();
        let other = Record { key: "job/a".to_owned(), value: Some(b"{}".to_vec()) };
        let job = JobId::from("a");
        let keys = JobKeys::new(&job).expect("new keys");
        let [secret_record, authority_record] = keys.records(&job);
        store.commit(&[cluster("c1"), secret_record, authority_record, other]).expect("commit");
        let loaded = load_well(&store);
        assert_eq!(loaded.cluster.as_deref(), Some("c1"));
        let again = &loaded.job_keys[&job];
        assert_eq!((again.secret, again.authority.key()), (keys.secret, keys.authority.key()));
        assert_eq!(loaded.core, [("job/a".to_owned(), b"{}".to_vec())]);

        store.commit(&[Record { key: "server/secret/b".to_owned(), value: Some(b"short".to_vec()) }]).expect("commit");
        let error = load(&store).expect("read").err().expect("a bad record");
        assert_eq!(error.to_string(), "record server/secret/b: expected 32 bytes, found \"short\"");

        store.commit(&[secret(&JobId::from("b"), &[7; 32]), authority(&JobId::from("b"), b"hush")]).expect("commit");
        let error = load(&store).expect("read").err().expect("a bad record");
        assert_eq!(error.to_string(), "record server/authority/b: expected a key in PKCS#8, found \"4 bytes\"");
    }

    #[test]
    fn a_trace_goes_on_over_a_restart_and_begins_anew_when_it_is_another() {
        let store = MemoryStore::default();
        let mut pools = coordinator_local::default_pools();
        let trace = Trace::parse("0,add,a\n", Path::new("t.csv")).expect("a good trace");
        pools[0].trace = Some(TraceConfig { trace, speed: 2.0 });
        let (first, records) = load_well(&store).traces(&pools, Timestamp(1_000));
        assert!(first.is_empty());
        store.commit(&records).expect("commit");
        let (again, records) = load_well(&store).traces(&pools, Timestamp(4_000));
        assert_eq!(again[&pools[0].name], Duration::from_secs(3));
        assert!(records.is_empty());
        pools[0].trace.as_mut().expect("a trace").speed = 3.0;
        let (other, records) = load_well(&store).traces(&pools, Timestamp(4_000));
        assert!(other.is_empty() && records.len() == 1);
    }
}
