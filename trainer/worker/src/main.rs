//! `trainctl-worker`: one worker process of a job. It attaches to its coordinator, trains with its peers, and ends
//! when it is told to or when its instance is taken. People don't start it by hand; a pool does.

mod attachment;
mod audit;
mod check_module;
mod control;
mod faults;
mod follow;
mod gpus;
mod group;
mod leave;
mod load;
mod machine;
mod replicas;
mod round;
mod saver;
mod setup;
mod slow;
mod trainer;

use anyhow::Context;
use attachment::{Coordinator, Place};
use check_module::CheckModule;
use clap::{Parser, Subcommand};
use control::Control;
use faults::Faults;
use machine::Machine;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::oneshot;
use trainctl_proto::dial::{Address, AddressError, Certificate};
use trainctl_proto::v1::StartWorker;
use trainer_collective::Poller;
use trainer_engine::{Device, Wanted};
use trainer_notices::{Cloud, Source};

/// Exit code of a worker that could not even attach.
const SETUP_FAILED: u8 = 3;
/// Holds the coordinator's certificate.
const CERTIFICATE_VARIABLE: &str = "TRAINCTL_CERTIFICATE";
const LAST_WORD_PATIENCE: Duration = Duration::from_secs(4);

#[derive(Parser)]
#[command(name = "trainctl-worker", version, about = "One worker process of a trainctl job; started by a pool")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Attach to a coordinator and train until told to stop
    Run(Run),
    /// Measure this machine's numerics fingerprint and print it as JSON, with the versions of program and libtorch
    Fingerprint(Where),
    /// Write a TorchScript module with a checkpoint's parameters and buffers in it
    Export(Export),
    /// Load a TorchScript module as training does, try it on a job's data, and print what it holds, or why it can't be
    /// trained, as JSON
    CheckModule(CheckModule),
}

#[derive(clap::Args)]
struct Where {
    /// What to compute on: cpu, cuda for the first GPU, cuda:1 for the second, or auto, the first GPU if there is one
    /// and this libtorch can use it; cpu-as-gpu does all that a GPU's worker does on the processor, to try it
    #[arg(long, value_name = "DEVICE", env = "TRAINCTL_DEVICE", default_value = "auto")]
    device: Wanted,
}

#[derive(clap::Args)]
struct Export {
    /// The module that the job trained
    #[arg(long, value_name = "FILE")]
    module: String,
    /// Of its bytes
    #[arg(long)]
    digest: String,
    /// The checkpoint's model as one safetensors file
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(clap::Args)]
struct Run {
    /// Join a pool of own machines and be whatever worker is asked for, again and again; the pool's token is in
    /// TRAINCTL_JOIN_TOKEN
    #[arg(long, requires = "coordinator", conflicts_with_all = ["cluster", "instance", "worker"])]
    join: bool,
    /// Id of the coordinator's cluster, by which its processes are found again
    #[arg(long, required_unless_present = "join")]
    cluster: Option<String>,
    /// The instance that this worker runs on
    #[arg(long, required_unless_present = "join")]
    instance: Option<String>,
    /// This worker's name
    #[arg(long, required_unless_present = "join")]
    worker: Option<String>,
    /// JSON file with the coordinator's current address
    #[arg(long, value_name = "FILE", required_unless_present = "coordinator")]
    coordinator_file: Option<PathBuf>,
    /// The coordinator's URL; for https its certificate is in TRAINCTL_CERTIFICATE, in PEM or on one line
    #[arg(long, value_name = "URL")]
    coordinator: Option<String>,
    /// Where peers reach this worker [default: any port; with --coordinator, of the address that it is reached from]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Whose metadata server gives notice before the machine is taken; SIGTERM is a notice always
    #[arg(long, value_name = "none|ec2|gce", default_value = "none", value_parser = notices)]
    notices: Notices,
    #[command(flatten)]
    place: Where,
}

/// Whose metadata server to watch.
#[derive(Clone, Copy)]
struct Notices(Option<Cloud>);

fn notices(text: &str) -> Result<Notices, String> {
    match text {
        "none" => Ok(Notices(None)),
        cloud => cloud.parse().map(|cloud| Notices(Some(cloud))).map_err(|_| "expected none, ec2 or gce".to_owned()),
    }
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("TRAINCTL_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .init();
    let outcome = match Cli::parse().command {
        Command::Fingerprint(Where { device }) => print_fingerprint(device),
        Command::Export(export) => export_module(&export),
        Command::CheckModule(check) => check_module::run(&check),
        Command::Run(run) => run_worker(run),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(SETUP_FAILED)
        }
    }
}

#[allow(clippy::print_stdout)]
fn print_fingerprint(device: Wanted) -> anyhow::Result<ExitCode> {
    let fingerprint = trainer_engine::fingerprint(find(device)?)?;
    let described = serde_json::json!({
        "fingerprint": fingerprint.digest,
        "detail": fingerprint.detail,
        "libtorch_version": trainer_engine::libtorch_version(),
        "program_version": env!("CARGO_PKG_VERSION"),
    });
    println!("{described}");
    Ok(ExitCode::SUCCESS)
}

/// Before anything else is done: see [`Wanted::find`].
pub(crate) fn find(device: Wanted) -> anyhow::Result<Device> {
    device.find().map_err(|error| {
        let hint = error.hint().map_or_else(String::new, |hint| format!("\nhint: {hint}"));
        anyhow::anyhow!("{}{hint}", saver::chain(&error))
    })
}

fn export_module(export: &Export) -> anyhow::Result<ExitCode> {
    let Export { module, digest, weights, output } = export;
    trainer_engine::export_torchscript(module, digest, weights, output)?;
    Ok(ExitCode::SUCCESS)
}

/// Which worker to be.
struct Part {
    cluster: String,
    instance: String,
    worker: String,
    token: String,
}

fn run_worker(run: Run) -> anyhow::Result<ExitCode> {
    let device = find(run.place.device)?;
    match (run.join, &run.coordinator, &run.cluster, &run.instance, &run.worker) {
        (true, Some(url), ..) => {
            let Some((machine, start)) = Machine::join(&address(url)?)? else { return Ok(ExitCode::SUCCESS) };
            let StartWorker { cluster, instance, worker, token } = start;
            let part = Part { cluster, instance: instance.clone(), worker, token };
            let (code, number) = match work(run, part, device) {
                Ok(code) => (code, u8::from(code != ExitCode::SUCCESS)),
                Err(error) => {
                    tracing::error!("{error:#}");
                    (ExitCode::from(SETUP_FAILED), SETUP_FAILED)
                }
            };
            machine.again(&instance, code, number)
        }
        (_, _, Some(cluster), Some(instance), Some(worker)) => {
            let token = std::env::var("TRAINCTL_WORKER_TOKEN").context("read TRAINCTL_WORKER_TOKEN")?;
            let (cluster, instance, worker) = (cluster.clone(), instance.clone(), worker.clone());
            work(run, Part { cluster, instance, worker, token }, device)
        }
        _ => anyhow::bail!("expected --join with --coordinator, or --cluster, --instance and --worker"),
    }
}

/// Where the coordinator is, and the certificate by which it is known.
fn address(url: &str) -> anyhow::Result<Address> {
    let hint = "hint: `trainctl pool token POOL` prints it, for a coordinator that answers over TLS";
    let certificate = std::env::var(CERTIFICATE_VARIABLE).ok().filter(|text| !text.trim().is_empty());
    let certificate = certificate.as_deref().map(Certificate::parse).transpose();
    let certificate = certificate.map_err(|error| anyhow::anyhow!("{CERTIFICATE_VARIABLE}: {error}\n{hint}"))?;
    Address::new(url, certificate).map_err(|error| match &error {
        AddressError::CertificateMissing { .. } => anyhow::anyhow!("{CERTIFICATE_VARIABLE}: {error}\n{hint}"),
        AddressError::Plain { .. } => {
            anyhow::anyhow!("--coordinator: {error}\nhint: say https://, or leave {CERTIFICATE_VARIABLE} away")
        }
        AddressError::Url { .. } => anyhow::anyhow!("--coordinator: {error}"),
    })
}

/// Where peers dial this worker, if nobody says so: at the address from which its packets to the coordinator leave.
fn listen_address(coordinator: Option<&str>) -> String {
    let away = |url: &str| {
        let host = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next().unwrap_or_default();
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
        // Nothing is sent: the system only chooses a way.
        socket.connect(host).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let ip = coordinator.and_then(away).unwrap_or(std::net::Ipv4Addr::LOCALHOST.into());
    std::net::SocketAddr::new(ip, 0).to_string()
}

fn work(run: Run, part: Part, device: Device) -> anyhow::Result<ExitCode> {
    let Part { cluster, instance, worker, token } = part;
    let faults = Faults::from_environment(&worker)?;
    let fingerprint = trainer_engine::fingerprint(device).context("measure the numerics fingerprint")?;
    let listen = run.listen.unwrap_or_else(|| listen_address(run.coordinator.as_deref()));
    let listener = TcpListener::bind(&listen).with_context(|| format!("listen on {listen}"))?;
    let coordinator = match (run.coordinator, run.coordinator_file) {
        (Some(url), _) => Coordinator::At(address(&url)?),
        (None, Some(file)) => Coordinator::File(file),
        (None, None) => anyhow::bail!("expected --coordinator or --coordinator-file"),
    };
    let notices = run.notices.0.map(|cloud| Source::from_environment(cloud, |name| std::env::var(name).ok()));
    tracing::info!(worker, cluster, "starts: {}", fingerprint.detail);
    let place = Place {
        worker,
        instance,
        token,
        coordinator,
        data_address: listener.local_addr().context("read the listening address")?.to_string(),
        fingerprint: fingerprint.digest.clone(),
        fingerprint_detail: fingerprint.detail.clone(),
        notices: notices.transpose().context("find the metadata server")?,
    };
    let poller = Poller::new().context("set up polling")?;
    let (control, messages) = Control::new(poller.bell());
    let closing = attachment::start(place, listener, control.clone(), messages)?;
    let code = setup::train(poller, &control, faults, &fingerprint, device);
    let (done, heard) = oneshot::channel();
    if closing.send(done).is_ok() {
        let waited = tokio::runtime::Builder::new_current_thread().enable_time().build();
        if let Ok(runtime) = waited {
            // A last word that isn't heard in time is told by this process's end.
            let _ = runtime.block_on(async { tokio::time::timeout(LAST_WORD_PATIENCE, heard).await });
        }
    }
    Ok(code)
}
