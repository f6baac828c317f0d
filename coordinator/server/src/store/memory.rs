//! A store that forgets all when the process ends: for tests, and for a coordinator whose jobs end with it.

use super::{Store, StoreError};
use coordinator_core::Record;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Records in memory.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<BTreeMap<String, Vec<u8>>>);

impl Store for MemoryStore {
    fn with_prefix(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from = records.range(prefix.to_owned()..);
        Ok(from
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    fn commit(&self, batch: &[Record]) -> Result<(), StoreError> {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for record in batch {
            match &record.value {
                Some(value) => records.insert(record.key.clone(), value.clone()),
                None => records.remove(&record.key),
            };
        }
        Ok(())
    }

    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
