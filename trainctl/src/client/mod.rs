//! A coordinator, as the commands see it: each call, bounded in time, its refusals put into words.

mod reach;
mod refusal;

pub(crate) use reach::Reach;

use crate::failure::Failure;
use reach::Bearer;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Response, Status, Streaming};
use trainctl_proto::v1::{self, jobs_client::JobsClient};

const CALL_MAX: Duration = Duration::from_secs(30);

/// An open connection.
#[derive(Clone)]
pub(crate) struct Coordinator {
    jobs: JobsClient<InterceptedService<Channel, Bearer>>,
    url: String,
    token_file: PathBuf,
}

impl Coordinator {
    /// Where it is, for messages.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What it is.
    pub(crate) async fn info(&mut self) -> Result<v1::InfoReply, Failure> {
        let reply = bounded(self.jobs.info(v1::InfoRequest {})).await;
        reply.map_err(|status| self.refusal(&status))
    }

    /// Submits a job that passed every check on this side.
    pub(crate) async fn submit(&mut self, job: &str, request: v1::SubmitRequest) -> Result<v1::JobStatus, Failure> {
        match bounded(self.jobs.submit(request)).await {
            Ok(status) => Ok(status),
            Err(status) if status.code() == Code::AlreadyExists => Err(self.name_taken(job).await),
            Err(status) => Err(self.refusal(&status)),
        }
    }

    /// All jobs.
    pub(crate) async fn list(&mut self) -> Result<Vec<v1::JobStatus>, Failure> {
        let reply = bounded(self.jobs.list(v1::ListRequest {})).await;
        reply.map(|reply| reply.jobs).map_err(|status| self.refusal(&status))
    }

    /// One job.
    pub(crate) async fn show(&mut self, job: &str) -> Result<v1::JobStatus, Failure> {
        let reply = bounded(self.jobs.show(v1::JobRef { job: job.to_owned() })).await;
        self.about_job(job, reply).await
    }

    /// A job's status now and at each change.
    pub(crate) async fn watch(&mut self, job: &str) -> Result<Streaming<v1::JobStatus>, Failure> {
        let reply = bounded(self.jobs.watch(v1::JobRef { job: job.to_owned() })).await;
        self.about_job(job, reply).await
    }

    /// What was decided about a job, oldest first.
    pub(crate) async fn explain(&mut self, job: &str) -> Result<v1::ExplainReply, Failure> {
        let reply = bounded(self.jobs.explain(v1::JobRef { job: job.to_owned() })).await;
        self.about_job(job, reply).await
    }

    /// What a job has cost.
    pub(crate) async fn cost(&mut self, job: &str) -> Result<v1::CostReply, Failure> {
        let reply = bounded(self.jobs.cost(v1::JobRef { job: job.to_owned() })).await;
        self.about_job(job, reply).await
    }

    /// Ends a job; its workers save and leave.
    pub(crate) async fn cancel(&mut self, job: &str) -> Result<v1::JobStatus, Failure> {
        let reply = bounded(self.jobs.cancel(v1::JobRef { job: job.to_owned() })).await;
        self.about_job(job, reply).await
    }

    /// Output of a job's workers.
    pub(crate) async fn logs(&mut self, request: v1::LogsRequest) -> Result<Streaming<v1::LogChunk>, Failure> {
        let (job, worker) = (request.job.clone(), request.worker.clone());
        let reply = bounded(self.jobs.logs(request)).await;
        if let Err(status) = &reply
            && status.code() == Code::NotFound
            && !worker.is_empty()
        {
            self.show(&job).await?;
            return Err(self.unknown_worker(&worker).await);
        }
        self.about_job(&job, reply).await
    }

    /// Workers, of one job or of all.
    pub(crate) async fn workers(&mut self, job: Option<&str>) -> Result<Vec<v1::WorkerStatus>, Failure> {
        let request = v1::ListWorkersRequest { job: job.unwrap_or_default().to_owned() };
        let reply = bounded(self.jobs.list_workers(request)).await.map(|reply| reply.workers);
        self.about_job(job.unwrap_or_default(), reply).await
    }

    /// A planned departure.
    pub(crate) async fn drain(&mut self, worker: &str) -> Result<v1::WorkerStatus, Failure> {
        let reply = bounded(self.jobs.drain(v1::WorkerRef { worker: worker.to_owned() })).await;
        self.about_worker(worker, reply).await
    }

    /// A drill: the pool takes the worker's instance.
    pub(crate) async fn evict(&mut self, worker: &str, notice_ms: u64) -> Result<v1::WorkerStatus, Failure> {
        let reply = bounded(self.jobs.evict(v1::EvictRequest { worker: worker.to_owned(), notice_ms })).await;
        self.about_worker(worker, reply).await
    }

    /// All pools.
    pub(crate) async fn pools(&mut self) -> Result<Vec<v1::PoolStatus>, Failure> {
        let reply = bounded(self.jobs.list_pools(v1::ListPoolsRequest {})).await;
        reply.map(|reply| reply.pools).map_err(|status| self.refusal(&status))
    }

    /// Names of all pools, as jobs list them.
    pub(crate) async fn pool_names(&mut self) -> Result<Vec<String>, Failure> {
        let reply = bounded(self.jobs.list_pools(v1::ListPoolsRequest {})).await;
        reply.map(|reply| reply.names).map_err(|status| self.refusal(&status))
    }

    /// A token by which machines join the pool; 0 s: for good.
    pub(crate) async fn pool_token(&mut self, pool: &str, valid_s: u64) -> Result<v1::PoolTokenReply, Failure> {
        let reply = bounded(self.jobs.pool_token(v1::PoolTokenRequest { pool: pool.to_owned(), valid_s })).await;
        self.about_pool(pool, reply).await
    }

    /// A drill: the pool's capacity becomes this.
    pub(crate) async fn set_pool(&mut self, pool: &str, capacity: u32) -> Result<v1::PoolStatus, Failure> {
        let reply = bounded(self.jobs.set_pool(v1::SetPoolRequest { pool: pool.to_owned(), capacity })).await;
        self.about_pool(pool, reply).await
    }

    async fn about_pool<T>(&mut self, pool: &str, reply: Result<T, Status>) -> Result<T, Failure> {
        match reply {
            Ok(status) => Ok(status),
            Err(status) if status.code() == Code::NotFound => {
                let pools = self.pools().await?;
                Err(refusal::unknown(
                    "pool",
                    pool,
                    pools.iter().map(|pool| pool.pool.as_str()),
                    &self.url,
                    "trainctl pool ls",
                ))
            }
            Err(status) => Err(self.refusal(&status)),
        }
    }

    /// Ends the coordinator itself.
    pub(crate) async fn stop(&mut self, suspend_jobs: bool) -> Result<(), Failure> {
        let reply = self.jobs.stop(v1::StopRequest { suspend_jobs }).await;
        reply.map(|_| ()).map_err(|status| self.refusal(&status))
    }
}

async fn bounded<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(CALL_MAX, call).await {
        Ok(reply) => reply.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!("no answer within {} s", CALL_MAX.as_secs()))),
    }
}
