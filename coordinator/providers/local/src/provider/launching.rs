//! How instances come: started, or found running and adopted.

use super::books::{Inner, State};
use super::{NAME, StartError};
use crate::process::{Process, Start};
use crate::procfs::{self, Found};
use coordinator_core::{Event, LaunchError, LaunchErrorKind, PoolName, ProviderName, Scope};
use coordinator_provider::{LaunchRequest, UnknownPool};
use rustix::io::Errno;
use std::io;
use std::sync::Arc;

impl Inner {
    /// Takes in those that are not in the books yet, and tells of all.
    pub(super) fn adopt_all(self: &Arc<Self>, found: Vec<Found>) -> Result<(), StartError> {
        let mut state = self.lock();
        for process in found {
            if !state.instances.contains_key(&process.instance) {
                self.adopt(&mut state, process)?;
            }
        }
        let listed = state.instances.iter().map(|(id, running)| (id.clone(), Some(running.process.pid()))).collect();
        state.tell(Event::InstancesListed { provider: ProviderName::from(NAME), instances: listed });
        let names: Vec<PoolName> = state.pools.keys().cloned().collect();
        for name in names {
            state.change_pool(&name, |pool| pool.victims());
        }
        Ok(())
    }

    /// `None`: it has ended meanwhile.
    fn adopt(self: &Arc<Self>, state: &mut State, found: Found) -> Result<Option<u32>, StartError> {
        let pid = found.pid.as_raw_nonzero().get();
        let process = Process::adopt(found.pid, found.start_ticks).map_err(|source| StartError::Watch {
            instance: found.instance.clone(),
            pid,
            source,
        })?;
        let Some(process) = process else { return Ok(None) };
        tracing::info!(instance = %found.instance, pid, "adopted a running worker");
        let pool = found.pool.filter(|pool| state.pools.contains_key(pool));
        if let Some(pool) = pool.as_ref().and_then(|pool| state.pools.get_mut(pool)) {
            pool.adopt(&found.instance);
        }
        Ok(Some(self.watch(state, found.instance, process, pool)))
    }

    pub(super) fn launch(self: &Arc<Self>, state: &mut State, request: &LaunchRequest) -> Result<u32, LaunchError> {
        if let Some(running) = state.instances.get(&request.instance) {
            return Ok(running.process.pid());
        }
        if state.stopping {
            return Err(no_capacity());
        }
        if let Some(pid) = self.launched_before(state, request)? {
            return Ok(pid);
        }
        let Some(pool) = state.pools.get_mut(&request.pool) else {
            return Err(rejected(UnknownPool::new(&request.pool, state.pools.keys()).to_string()));
        };
        if !pool.place(&request.instance) {
            return Err(no_capacity());
        }
        let started = Process::start(&Start {
            program: &self.config.program,
            cluster: &self.config.cluster,
            instance: &request.instance.0,
            worker: &request.worker.0,
            pool: &request.pool,
            coordinator_file: &self.config.coordinator_file,
            token: &(self.config.token)(&request.instance),
            log: self.config.logs.join(&request.job.0).join(format!("{}.log", request.worker)),
        });
        match started {
            Ok(process) => Ok(self.watch(state, request.instance.clone(), process, Some(request.pool.clone()))),
            Err(error) => {
                // It was never there, so nothing of its room is withheld.
                let _ = pool.remove(&request.instance);
                Err(self.launch_error(&error))
            }
        }
    }

    /// A coordinator that was killed between starting a process and hearing of it starts it again; it runs already.
    fn launched_before(
        self: &Arc<Self>,
        state: &mut State,
        request: &LaunchRequest,
    ) -> Result<Option<u32>, LaunchError> {
        let failed = |error: StartError| {
            let (StartError::List(source) | StartError::Watch { source, .. }) = &error;
            if passes(source) { no_capacity() } else { rejected(format!("{error}: {source}")) }
        };
        let found = procfs::find(&self.config.cluster).map_err(|error| failed(StartError::List(error)))?;
        match found.into_iter().find(|process| process.instance == request.instance) {
            Some(process) => self.adopt(state, process).map_err(failed),
            None => Ok(None),
        }
    }

    fn launch_error(&self, error: &io::Error) -> LaunchError {
        let program = self.config.program.display();
        match error.kind() {
            _ if passes(error) => no_capacity(),
            io::ErrorKind::NotFound => rejected(format!(
                "worker program {program}: expected an executable file, found none\n\
                 hint: build it with `cargo build -p trainctl-worker`, or name it in TRAINCTL_WORKER"
            )),
            _ => rejected(format!(
                "worker program {program}: expected it to start, found: {error}\n\
                 hint: name the program in TRAINCTL_WORKER, and see that it is executable and its log can be written"
            )),
        }
    }
}

fn no_capacity() -> LaunchError {
    let message = "the machine or the pool is full".to_owned();
    LaunchError { kind: LaunchErrorKind::NoCapacity, scope: Scope::Zone, message }
}

fn rejected(message: String) -> LaunchError {
    LaunchError { kind: LaunchErrorKind::Configuration, scope: Scope::Provider, message }
}

/// Out of processes, memory or descriptors: the machine is full for the moment. The last have no kind of their own.
fn passes(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory)
        || matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_machine_is_no_fault_of_the_job() {
        for full in [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE] {
            assert!(passes(&full.into()), "{full}");
        }
        for wrong in [Errno::NOENT, Errno::ACCESS, Errno::NOEXEC] {
            assert!(!passes(&wrong.into()), "{wrong}");
        }
    }
}
