//! The driver over a store in memory: records come before effects, and without records there are no effects.

use super::*;
use crate::auth::Keys;
use crate::pools::Pools;
use crate::providers::Site;
use crate::refusal::Refusal;
use crate::store::MemoryStore;
use coordinator_core::{Generation, InstanceId, PoolName, Progress, ProviderName, Settings, Timestamp};
use coordinator_provider::{PoolView, Provider};
use std::sync::Mutex;
use tokio_util::sync::CancellationToken;
use trainctl_proto::v1::CoordinatorMessage;

/// Notes at each commit what it held and how many processes ran; refuses after so many.
struct Watching {
    inner: MemoryStore,
    seen: Mutex<Vec<(Vec<String>, usize)>>,
    provider: Mutex<Option<Arc<Providers>>>,
    refuse_after: usize,
    /// The next commit takes so long.
    stall: Mutex<Duration>,
}

impl Store for Watching {
    fn with_prefix(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.inner.with_prefix(prefix)
    }

    fn commit(&self, batch: &[Record]) -> Result<(), StoreError> {
        std::thread::sleep(std::mem::take(&mut *self.stall.lock().expect("lock")));
        let mut seen = self.seen.lock().expect("lock");
        if seen.len() >= self.refuse_after {
            return Err(StoreError::Write { path: PathBuf::from("db"), source: "no space left on device".into() });
        }
        let running = self.provider.lock().expect("lock").as_ref().map_or(0, |provider| provider.running());
        seen.push((batch.iter().map(|record| record.key.clone()).collect(), running));
        self.inner.commit(batch)
    }

    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

struct Bench {
    folder: tempfile::TempDir,
    store: Arc<Watching>,
    providers: Arc<Providers>,
    handle: DriverHandle,
    task: tokio::task::JoinHandle<Result<(), DriverError>>,
}

fn bench(refuse_after: usize) -> Bench {
    bench_with(refuse_after, Core::new(Settings::default()), |providers| providers)
}

fn bench_with(refuse_after: usize, core: Core, more: impl FnOnce(Providers) -> Providers) -> Bench {
    let folder = tempfile::tempdir().expect("temp folder");
    let site = Site {
        cluster: folder.path().display().to_string(),
        address: String::new(),
        worker_program: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/workers/stands.sh"),
        certificate: None,
        coordinator_file: folder.path().join("coordinator.json"),
        logs: folder.path().join("logs"),
        keys: Keys::new("secret"),
        running_for: BTreeMap::new(),
        awaited: false,
    };
    let (providers, provider_events) = Providers::start(Pools::without_file(), site).expect("start the providers");
    let providers = Arc::new(more(providers));
    let store = Arc::new(Watching {
        inner: MemoryStore::default(),
        seen: Mutex::default(),
        provider: Mutex::new(Some(Arc::clone(&providers))),
        refuse_after,
        stall: Mutex::default(),
    });
    let (driver, handle) = Driver::new(Parts {
        core,
        store: store.clone(),
        providers: Arc::clone(&providers),
        provider_events,
        job_keys: BTreeMap::new(),
        clock: Clock::start(),
        logs: folder.path().join("logs"),
        orphan_s: 60,
        unowned_grace: Duration::ZERO,
    });
    Bench { folder, store, providers, handle, task: tokio::spawn(driver.run()) }
}

fn submission() -> (JobId, Event) {
    submission_from("")
}

fn submission_from(resources: &str) -> (JobId, Event) {
    let text = format!(
        "name = 'digits'\n[data]\nmanifest = '/m.json'\ndigest = 'blake3:{}'\n[model]\nkind = 'mlp'\nhidden = [4]\n\
         [train]\nsteps = 9\nglobal_batch = 8\nlogical_shards = 8\n[resources]\nworkers = {{ min = 1, max = 2 }}\n{resources}\n",
        "0".repeat(64)
    );
    let spec = trainctl_jobs::parse(&text, "job.toml").expect("a good job");
    let job = JobId::from("digits");
    (job.clone(), Event::JobSubmitted { job, spec: Box::new(spec), manifest_json: "{}".to_owned() })
}

#[tokio::test]
async fn all_records_of_an_event_are_committed_in_one_batch_before_anything_is_done() {
    let bench = bench(usize::MAX);
    let (job, event) = submission();
    bench.handle.submit(job.clone(), event).await.expect("submit");
    assert_eq!(bench.providers.running(), 2);
    let seen = bench.store.seen.lock().expect("lock").clone();
    let with_spec: Vec<_> = seen.iter().filter(|(keys, _)| keys.contains(&"spec/digits".to_owned())).collect();
    let [(keys, running)] = with_spec[..] else { panic!("expected one batch with the spec: {seen:?}") };
    assert_eq!(*running, 0, "something was started before it was written down");
    for key in ["server/secret/digits", "server/authority/digits", "job/digits", "instance/i1", "instance/i2"] {
        assert!(keys.contains(&key.to_owned()), "{key} is not in {keys:?}");
    }

    let (_, again) = submission();
    let refused = bench.handle.submit(job, again).await.expect_err("the name is taken");
    assert!(matches!(refused, Refusal::Rejected(Rejection::JobExists(_))));
    let secrets = bench.store.with_prefix("server/secret/").expect("read");
    assert_eq!(secrets.len(), 1);
    bench.end().await;
}

#[tokio::test]
async fn what_can_not_be_written_down_is_not_done_and_ends_the_driver() {
    // The pools are written down, the submission is not.
    let bench = bench(2);
    let capacity = |core: &Core| core.pools().iter().map(|pool| pool.spec.capacity).sum::<u32>();
    assert_eq!(bench.handle.read(capacity).await.expect("an answer"), 16);
    let (job, event) = submission();
    let refused = bench.handle.submit(job, event).await.expect_err("no store");
    assert!(matches!(refused, Refusal::Stopping));
    assert_eq!(bench.providers.running(), 0);
    let ended = bench.task.await.expect("no panic");
    assert!(matches!(ended, Err(DriverError::Store(StoreError::Write { .. }))), "{ended:?}");
    let late = bench.handle.request(Event::CancelRequested { job: JobId::from("digits") }).await;
    assert!(matches!(late, Err(Refusal::Stopping)));
}

/// A provider whose API does not answer: it never says what it runs.
struct Silent(Mutex<Vec<InstanceId>>);

#[async_trait::async_trait]
impl Provider for Silent {
    fn name(&self) -> ProviderName {
        ProviderName::from("cloud")
    }

    fn launch(&self, request: &LaunchRequest) {
        self.0.lock().expect("lock").push(request.instance.clone());
    }

    fn terminate(&self, _instance: &InstanceId, _grace: Duration) {}

    fn evict(&self, _instance: &InstanceId, _notice: Duration) {}

    fn pools(&self) -> Vec<PoolView> {
        Vec::new()
    }

    fn set_capacity(&self, pool: &PoolName, _capacity: u32) -> Result<PoolView, UnknownPool> {
        Err(UnknownPool::new(pool, []))
    }

    fn running(&self) -> usize {
        0
    }

    fn pause(&self) {}

    async fn stop(&self, _grace: Duration) {}
}

#[tokio::test]
async fn a_provider_that_does_not_answer_holds_up_nobody() {
    let silent = Arc::new(Silent(Mutex::default()));
    // An earlier start left records, so nothing is bought before it is known what runs.
    let core = Core::load(Settings::default(), [], Timestamp(0)).expect("no records");
    let bench = bench_with(usize::MAX, core, |providers| providers.and(silent.clone(), &["cloud"]));
    let (job, event) = submission_from("pools = ['cloud', 'local']");
    bench.handle.submit(job, event).await.expect("submit");
    let instances = |core: &Core| core.instances().into_iter().map(|view| view.pool.0).collect::<Vec<_>>();
    assert_eq!(bench.handle.read(instances).await.expect("an answer"), ["local", "local"]);
    assert_eq!(bench.providers.running(), 2);
    assert_eq!(*silent.0.lock().expect("lock"), []);
    bench.end().await;
}

#[tokio::test]
async fn a_pool_that_changes_is_known_before_the_next_question() {
    let bench = bench(usize::MAX);
    let spot = PoolName::from("local-spot");
    bench.providers.set_capacity(&spot, 3).expect("the pool is there");
    let mut revision = bench.handle.revision();
    loop {
        let name = spot.clone();
        let known =
            move |core: &Core| core.pools().iter().any(|pool| pool.spec.name == name && pool.spec.capacity == 3);
        if bench.handle.read(known).await.expect("an answer") {
            break;
        }
        revision.changed().await.expect("the driver lives");
    }
    bench.end().await;
}

#[tokio::test]
async fn workers_are_not_blamed_for_a_disk_that_stalls() {
    let bench = bench(usize::MAX);
    let (job, event) = submission();
    bench.handle.submit(job.clone(), event).await.expect("submit");
    let silence = Duration::from_millis(Settings::default().silence_ms());
    let mut inboxes = Vec::new();
    let mut sessions = Vec::new();
    for number in 1..=2 {
        let (outbox, inbox) = mpsc::channel(64);
        inboxes.push(inbox);
        let attachment = attachment(number, outbox);
        let worker = attachment.worker.clone();
        sessions.push((bench.handle.attach(attachment).await.expect("attach"), worker));
    }
    *bench.store.stall.lock().expect("lock") = silence + Duration::from_secs(1);
    let stalled = bench.handle.request(Event::DrainRequested { worker: sessions[1].1.clone() });
    let beats = async {
        for (session, worker) in &sessions {
            let progress = Progress {
                generation: Generation(1),
                step: None,
                loss: None,
                samples_per_s: 0.0,
                skipped_steps: 0,
                audits_passed: 0,
                state_digest: None,
                shard_time: None,
            };
            let beat = Event::Heartbeat { worker: worker.clone(), progress };
            bench.handle.say(*session, worker.clone(), beat).await.expect("the driver lives");
        }
    };
    let (drained, ()) = tokio::join!(stalled, beats);
    drained.expect("a drain");
    let kinds = move |core: &Core| core.decisions(&job).map(|decision| decision.kind()).collect::<Vec<_>>();
    let kinds = bench.handle.read(kinds).await.expect("an answer");
    assert!(kinds.contains(&"form_group") && !kinds.contains(&"give_up"), "{kinds:?}");
    bench.end().await;
}

fn attachment(number: u32, outbox: mpsc::Sender<Result<CoordinatorMessage, tonic::Status>>) -> Attachment {
    let (worker, instance) = (WorkerId(format!("w{number}")), InstanceId(format!("i{number}")));
    let event = Event::WorkerAttached {
        worker: worker.clone(),
        instance: instance.clone(),
        pid: number,
        address: format!("127.0.0.1:{number}"),
        fingerprint: "f".to_owned(),
        fingerprint_detail: "by hand".to_owned(),
        holding: None,
    };
    Attachment { worker, instance, event, outbox, over: CancellationToken::new() }
}

impl Bench {
    async fn end(self) {
        self.handle.close().await;
        self.task.await.expect("no panic").expect("a clean end");
        self.providers.stop(Duration::ZERO).await;
        self.store.provider.lock().expect("lock").take();
        drop(self.folder);
    }
}
