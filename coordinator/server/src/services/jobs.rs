//! The service for people: each call checks its request, hands it to the driver and renders what the scheduler knows
//! afterwards.

use super::{Answers, logs, submit, watch};
use crate::auth::Keys;
use crate::clock::Clock;
use crate::driver::DriverHandle;
use crate::logs::Follow;
use crate::providers::Providers;
use crate::refusal::Refusal;
use crate::stop::{StopHandle, StopMode};
use crate::views;
use coordinator_core::{Event, JobId, PoolName, Rejection, Timestamp, WorkerId};
use coordinator_provider::UnknownPool;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use trainctl_proto::v1;
use trainctl_proto::v1::jobs_server::Jobs;

/// All that the calls need.
pub(crate) struct JobsService {
    pub(crate) driver: DriverHandle,
    pub(crate) providers: Arc<Providers>,
    pub(crate) keys: Keys,
    pub(crate) clock: Clock,
    pub(crate) info: v1::InfoReply,
    pub(crate) runs: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) stop: StopHandle,
    /// Ends the streams.
    pub(crate) stopping: CancellationToken,
}

type Answer<T> = Result<Response<T>, Status>;

impl JobsService {
    async fn status(&self, job: JobId) -> Result<v1::JobStatus, Refusal> {
        let id = job.clone();
        let status = self.driver.read(move |core| views::job_with_spec(core, &id)).await?;
        status.ok_or_else(|| Rejection::UnknownJob(job).into())
    }

    async fn worker(&self, worker: WorkerId) -> Result<v1::WorkerStatus, Refusal> {
        let id = worker.clone();
        let status = self.driver.read(move |core| core.worker(&id).map(views::worker)).await?;
        status.ok_or_else(|| Rejection::UnknownWorker(worker).into())
    }

    async fn logs(&self, request: v1::LogsRequest) -> Result<Answers<v1::LogChunk>, Refusal> {
        let job = job_id(request.job)?;
        self.status(job.clone()).await?;
        let worker = Some(request.worker).filter(|worker| !worker.is_empty()).map(WorkerId);
        let tail = usize::try_from(request.tail).unwrap_or(usize::MAX);
        let what = Follow { logs: self.logs.clone(), job, worker, tail };
        Ok(logs::stream(self.driver.clone(), what, request.follow, self.stopping.clone()))
    }

    async fn set_pool(&self, request: v1::SetPoolRequest) -> Result<v1::PoolStatus, Refusal> {
        let view = self.providers.set_capacity(&PoolName(request.pool), request.capacity)?;
        let unowned = self.providers.unowned(&view.spec.place.provider);
        self.driver.read(move |core| views::pool(core, view, unowned)).await
    }

    fn token(&self, request: &v1::PoolTokenRequest) -> Result<v1::PoolTokenReply, Refusal> {
        let pool = PoolName(request.pool.clone());
        let pools = self.providers.pools();
        let Some(view) = pools.iter().find(|view| view.spec.name == pool) else {
            return Err(UnknownPool::new(&pool, pools.iter().map(|view| &view.spec.name)).into());
        };
        let kind = view.spec.place.provider.to_string();
        if kind != coordinator_static::NAME {
            return Err(Refusal::NotJoined { pool: request.pool.clone(), kind });
        }
        let expires = match request.valid_s {
            0 => Timestamp(0),
            seconds => self.clock.now().plus_ms(seconds.saturating_mul(1_000)),
        };
        let token = self.keys.join_token(&pool, expires);
        let coordinator = self.providers.url().to_owned();
        let certificate = self.providers.certificate().unwrap_or_default().to_owned();
        Ok(v1::PoolTokenReply { token, coordinator, expires_ms: expires.0, certificate })
    }
}

#[tonic::async_trait]
impl Jobs for JobsService {
    type WatchStream = Answers<v1::JobStatus>;
    type LogsStream = Answers<v1::LogChunk>;

    async fn info(&self, _request: Request<v1::InfoRequest>) -> Answer<v1::InfoReply> {
        Ok(Response::new(self.info.clone()))
    }

    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Answer<v1::JobStatus> {
        let (job, event) = submit::check(request.into_inner(), &self.runs, self.providers.names())?;
        self.driver.submit(job.clone(), event).await?;
        Ok(Response::new(self.status(job).await?))
    }

    async fn list(&self, _request: Request<v1::ListRequest>) -> Answer<v1::ListReply> {
        let look = self.driver.read(|core| core.jobs().into_iter().map(|view| views::job(core, view)).collect());
        Ok(Response::new(v1::ListReply { jobs: look.await? }))
    }

    async fn show(&self, request: Request<v1::JobRef>) -> Answer<v1::JobStatus> {
        Ok(Response::new(self.status(job_id(request.into_inner().job)?).await?))
    }

    async fn watch(&self, request: Request<v1::JobRef>) -> Answer<Self::WatchStream> {
        let job = job_id(request.into_inner().job)?;
        Ok(Response::new(watch::watch(self.driver.clone(), job, self.stopping.clone()).await?))
    }

    async fn explain(&self, request: Request<v1::JobRef>) -> Answer<v1::ExplainReply> {
        let job = job_id(request.into_inner().job)?;
        let status = self.status(job.clone()).await?;
        let decisions = self.driver.read(move |core| core.decisions(&job).map(views::decision).collect()).await?;
        Ok(Response::new(v1::ExplainReply { job: Some(status), decisions }))
    }

    async fn cost(&self, request: Request<v1::JobRef>) -> Answer<v1::CostReply> {
        let job = job_id(request.into_inner().job)?;
        let id = job.clone();
        let report = self.driver.read(move |core| views::cost(core, &id)).await?;
        Ok(Response::new(report.ok_or_else(|| Refusal::from(Rejection::UnknownJob(job)))?))
    }

    async fn cancel(&self, request: Request<v1::JobRef>) -> Answer<v1::JobStatus> {
        let job = job_id(request.into_inner().job)?;
        self.driver.request(Event::CancelRequested { job: job.clone() }).await?;
        Ok(Response::new(self.status(job).await?))
    }

    async fn logs(&self, request: Request<v1::LogsRequest>) -> Answer<Self::LogsStream> {
        Ok(Response::new(JobsService::logs(self, request.into_inner()).await?))
    }

    async fn list_workers(&self, request: Request<v1::ListWorkersRequest>) -> Answer<v1::ListWorkersReply> {
        let job = request.into_inner().job;
        if !job.is_empty() {
            self.status(JobId(job.clone())).await?;
        }
        let look = self.driver.read(move |core| {
            let all = core.workers().into_iter().filter(|view| job.is_empty() || view.job.0 == job);
            all.map(views::worker).collect()
        });
        Ok(Response::new(v1::ListWorkersReply { workers: look.await? }))
    }

    async fn drain(&self, request: Request<v1::WorkerRef>) -> Answer<v1::WorkerStatus> {
        let worker = worker_id(request.into_inner().worker)?;
        self.driver.request(Event::DrainRequested { worker: worker.clone() }).await?;
        Ok(Response::new(self.worker(worker).await?))
    }

    async fn evict(&self, request: Request<v1::EvictRequest>) -> Answer<v1::WorkerStatus> {
        let v1::EvictRequest { worker, notice_ms } = request.into_inner();
        let worker = worker_id(worker)?;
        self.driver.request(Event::EvictRequested { worker: worker.clone(), notice_ms }).await?;
        Ok(Response::new(self.worker(worker).await?))
    }

    async fn list_pools(&self, _request: Request<v1::ListPoolsRequest>) -> Answer<v1::ListPoolsReply> {
        // Told once for each provider: beside its first pool.
        let mut told = BTreeSet::new();
        let mut pools = Vec::new();
        for view in self.providers.pools() {
            let first = told.insert(view.spec.place.provider.clone());
            let unowned = if first { self.providers.unowned(&view.spec.place.provider) } else { Vec::new() };
            pools.push((view, unowned));
        }
        let look = self
            .driver
            .read(move |core| pools.into_iter().map(|(view, unowned)| views::pool(core, view, unowned)).collect());
        let names = self.providers.names().iter().map(|name| name.0.clone()).collect();
        Ok(Response::new(v1::ListPoolsReply { pools: look.await?, names }))
    }

    async fn set_pool(&self, request: Request<v1::SetPoolRequest>) -> Answer<v1::PoolStatus> {
        Ok(Response::new(JobsService::set_pool(self, request.into_inner()).await?))
    }

    async fn pool_token(&self, request: Request<v1::PoolTokenRequest>) -> Answer<v1::PoolTokenReply> {
        Ok(Response::new(self.token(request.get_ref())?))
    }

    async fn stop(&self, request: Request<v1::StopRequest>) -> Answer<v1::StopReply> {
        let mode = if request.into_inner().suspend_jobs { StopMode::Suspend } else { StopMode::Leave };
        self.stop.stop(mode).await;
        Ok(Response::new(v1::StopReply {}))
    }
}

fn job_id(name: String) -> Result<JobId, Refusal> {
    if name.is_empty() {
        return Err(Refusal::Empty { field: "job", expected: "the name of a job" });
    }
    Ok(JobId(name))
}

fn worker_id(name: String) -> Result<WorkerId, Refusal> {
    if name.is_empty() {
        return Err(Refusal::Empty { field: "worker", expected: "the name of a worker" });
    }
    Ok(WorkerId(name))
}
