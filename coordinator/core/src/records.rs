//! The state as records of JSON, and back. One key for each thing that changes by itself: `spec/JOB` never changes,
//! `job/JOB` is rewritten at every change of the job, `instance/I` carries the instance with its worker,
//! `decision/JOB/NUMBER` is written once. `account/JOB` and `bill/JOB/INSTANCE` are what the job pays.

use crate::action::{Action, Record};
use crate::decision::Decision;
use crate::ids::{JobId, Timestamp};
use crate::settings::Settings;
use crate::state::transitions::Loaded;
use crate::state::{Decided, Instance, State, Worker};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const NEXT_NUMBER: &str = "meta/next_instance";
const SHARED_COSTS: &str = "meta/shared_costs";

/// Records that don't make a state.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A value is not what its key promises.
    #[error("record {key}: expected {expected}")]
    Value {
        /// Which record.
        key: String,
        /// What it should hold.
        expected: &'static str,
        /// What the parser found.
        #[source]
        source: serde_json::Error,
    },
    /// A key that this version doesn't write.
    #[error(
        "record {key}: expected a key below spec/, job/, instance/, pool/, decision/, account/, bill/ or meta/\n\
         hint: the store may have been written by a newer version"
    )]
    Key {
        /// Which record.
        key: String,
    },
    /// A record names another that is missing.
    #[error("record {key}: expected record {missing} beside it, found none")]
    Missing {
        /// Which record.
        key: String,
        /// What it names.
        missing: String,
    },
}

#[derive(Serialize)]
struct PairOut<'s> {
    instance: &'s Instance,
    worker: &'s Worker,
}

#[derive(Deserialize)]
struct PairIn {
    instance: Instance,
    worker: Worker,
}

/// The records of all that changed since the last call.
pub(crate) fn changed(state: &mut State) -> Vec<Action> {
    let changes = state.take_changes();
    let mut records = Vec::new();
    let mut add = |key: String, value: Option<Vec<u8>>| records.push(Action::Persist(Record { key, value }));
    for job in changes.submissions {
        let value = state.submission(&job).map(json);
        add(format!("spec/{job}"), value);
    }
    for job in changes.jobs {
        add(format!("job/{job}"), state.job(&job).map(json));
    }
    for id in changes.instances {
        let pair = state.instance(&id).and_then(|instance| {
            let worker = state.worker(&instance.worker)?;
            Some(json(&PairOut { instance, worker }))
        });
        add(format!("instance/{id}"), pair);
    }
    for pool in changes.pools {
        add(format!("pool/{pool}"), state.pool(&pool).map(json));
    }
    for decided in changes.decisions {
        match decided {
            Decided::Added { job, number } => {
                let decision = state.decision(&job, number);
                add(decision_key(&job, number), decision.map(json));
            }
            Decided::Dropped { job, number } => add(decision_key(&job, number), None),
        }
    }
    for job in changes.accounts {
        add(format!("account/{job}"), state.ledger().account(&job).map(json));
    }
    for (job, instance) in changes.bills {
        add(format!("bill/{job}/{instance}"), state.ledger().bill(&job, &instance).map(json));
    }
    if changes.shared_costs {
        add(SHARED_COSTS.to_owned(), Some(json(state.ledger().shared())));
    }
    if changes.next_number {
        add(NEXT_NUMBER.to_owned(), Some(json(&state.next_number())));
    }
    records
}

fn decision_key(job: &JobId, number: u64) -> String {
    format!("decision/{job}/{number:08}")
}

/// The state's types have text keys and finite figures, which is all that the encoder can fail on.
fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|error| panic!("encode a record: {error}"))
}

/// The state that the records hold, at the start of a coordinator.
pub(crate) fn load(
    settings: Settings,
    records: impl IntoIterator<Item = (String, Vec<u8>)>,
    now: Timestamp,
) -> Result<State, LoadError> {
    let mut sorted: Vec<(String, Vec<u8>)> = records.into_iter().collect();
    sorted.sort();
    let mut state = State::empty_for_load(settings);
    for (key, value) in sorted {
        state.insert(parse(&key, &value)?);
    }
    check_references(&state)?;
    state.wake(now);
    Ok(state)
}

fn parse(key: &str, value: &[u8]) -> Result<Loaded, LoadError> {
    let (family, rest) = key.split_once('/').unwrap_or((key, ""));
    match family {
        "spec" => {
            let submission = Box::new(value_of(key, value, "a job spec")?);
            Ok(Loaded::Submission { job: JobId::from(rest), submission })
        }
        "job" => Ok(Loaded::Job(Box::new(value_of(key, value, "a job")?))),
        "instance" => {
            let pair: PairIn = value_of(key, value, "an instance with its worker")?;
            Ok(Loaded::Instance { instance: pair.instance, worker: Box::new(pair.worker) })
        }
        "pool" => Ok(Loaded::Pool(value_of(key, value, "a pool")?)),
        "decision" => {
            let decision: Box<Decision> = Box::new(value_of(key, value, "a decision")?);
            let job = rest.rsplit_once('/').map_or(rest, |(job, _)| job);
            Ok(Loaded::Decision { job: JobId::from(job), decision })
        }
        "account" => {
            let account = Box::new(value_of(key, value, "a job's account")?);
            Ok(Loaded::Account { job: JobId::from(rest), account })
        }
        "bill" => {
            let bill = Box::new(value_of(key, value, "an instance's bill")?);
            let job = rest.rsplit_once('/').map_or(rest, |(job, _)| job);
            Ok(Loaded::Bill { job: JobId::from(job), bill })
        }
        _ if key == SHARED_COSTS => Ok(Loaded::SharedCosts(value_of(key, value, "what jobs share")?)),
        _ if key == NEXT_NUMBER => Ok(Loaded::NextNumber(value_of(key, value, "a number")?)),
        _ => Err(LoadError::Key { key: key.to_owned() }),
    }
}

fn value_of<T: DeserializeOwned>(key: &str, value: &[u8], expected: &'static str) -> Result<T, LoadError> {
    serde_json::from_slice(value).map_err(|source| LoadError::Value { key: key.to_owned(), expected, source })
}

fn check_references(state: &State) -> Result<(), LoadError> {
    let missing = |key: String, missing: String| Err(LoadError::Missing { key, missing });
    for job in state.jobs() {
        if state.submission(&job.id).is_none() {
            return missing(format!("job/{}", job.id), format!("spec/{}", job.id));
        }
    }
    for instance in state.instances() {
        if state.job(&instance.job).is_none() {
            return missing(format!("instance/{}", instance.id), format!("job/{}", instance.job));
        }
    }
    for (job, _) in state.ledger().accounts() {
        if state.job(job).is_none() {
            return missing(format!("account/{job}"), format!("job/{job}"));
        }
    }
    Ok(())
}
