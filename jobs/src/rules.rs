//! What must hold between several keys of a job.

use crate::freeze::{FreezeMisfit, frozen};
use crate::spec::{
    AuditSpec, BackendSpec, ComputeSpec, EncryptionSpec, JobSpec, LossSpec, ModelSpec, NumericsSpec, OnDemandSpec,
    OptimizerSpec, ScheduleSpec,
};
use crate::structure::Problem;
use crate::tree::keys;

/// A broken rule, and the keys that it is about: where one of them is faulty itself, the rule has nothing to say.
pub(crate) struct Broken {
    pub(crate) problem: Problem,
    pub(crate) about: &'static [&'static str],
}

/// All rules that the job breaks. Each bound of a single key holds already.
pub(crate) fn broken(job: &JobSpec) -> Vec<Broken> {
    let mut found = Rules(Vec::new());
    found.duration(job);
    found.shards(job);
    found.model(job);
    found.optimizer(job);
    found.freeze(job);
    found.audit(job);
    found.placement(job);
    found.0
}

struct Rules(Vec<Broken>);

impl Rules {
    /// The first key of `about` is where the user is sent.
    fn add(&mut self, about: &'static [&'static str], expected: String, found: String, hint: Option<String>) {
        let problem = Problem { path: keys(about[0]), at_key: false, expected, found, hint };
        self.0.push(Broken { problem, about });
    }

    fn duration(&mut self, job: &JobSpec) {
        let train = &job.train;
        match (train.steps, train.epochs) {
            (Some(_), Some(_)) => self.add(
                &["train.epochs", "train.steps"],
                "either `steps` or `epochs`".to_owned(),
                "both".to_owned(),
                Some("remove one of them; --set can only change the one that the file has".to_owned()),
            ),
            (None, None) => self.add(
                &["train.steps", "train.epochs"],
                "either `steps` or `epochs`".to_owned(),
                "neither".to_owned(),
                Some("say how long to train: steps = 2000, or epochs = 10".to_owned()),
            ),
            _ => {}
        }
        let warmup_steps = train.schedule.warmup_steps();
        if let Some(steps) = train.steps
            && warmup_steps > steps
        {
            self.add(
                &["train.schedule.warmup_steps", "train.steps"],
                format!("at most train.steps ({steps})"),
                warmup_steps.to_string(),
                None,
            );
        }
        if train.eval_every.is_some() && job.data.held_out == 0.0 {
            self.add(
                &["train.eval_every", "data.held_out"],
                "data.held_out above 0 to evaluate on".to_owned(),
                "data.held_out = 0".to_owned(),
                Some("hold some samples out, or remove eval_every".to_owned()),
            );
        }
    }

    fn shards(&mut self, job: &JobSpec) {
        let (batch, shards) = (job.train.global_batch, job.train.logical_shards);
        if !batch.is_multiple_of(shards) {
            let (lower, upper) = (batch / shards * shards, (batch / shards + 1) * shards);
            let hint = if lower == 0 {
                format!("{upper} is the least")
            } else {
                format!("{lower} and {upper} are the nearest")
            };
            self.add(
                &["train.global_batch", "train.logical_shards"],
                format!("a multiple of logical_shards ({shards})"),
                batch.to_string(),
                Some(hint),
            );
        }
        let workers = job.resources.workers;
        if workers.min > workers.max {
            self.add(
                &["resources.workers.min", "resources.workers.max"],
                format!("at most max ({})", workers.max),
                workers.min.to_string(),
                Some("min is where the job starts, max how far it grows".to_owned()),
            );
        }
        if workers.max > shards {
            self.add(
                &["resources.workers.max", "train.logical_shards"],
                format!("at most train.logical_shards ({shards})"),
                workers.max.to_string(),
                Some(format!(
                    "a worker needs a shard of its own: lower max, or raise logical_shards to {}",
                    workers.max
                )),
            );
        }
    }

    fn model(&mut self, job: &JobSpec) {
        if matches!(job.model, ModelSpec::Torchscript { .. }) && job.train.compute != ComputeSpec::Fp32 {
            self.add(
                &["train.compute", "model.kind"],
                "\"fp32\" for a torchscript module, whose own code says what runs in which type".to_owned(),
                "\"bf16\"".to_owned(),
                Some("cast in the module's forward, and return float32".to_owned()),
            );
        }
        let ModelSpec::Gpt { heads, width, .. } = job.model else { return };
        if !width.is_multiple_of(heads) {
            let divisors: Vec<String> = (1..=width.min(64))
                .filter(|heads| width.is_multiple_of(*heads))
                .map(|heads| heads.to_string())
                .collect();
            self.add(
                &["model.heads", "model.width"],
                format!("a divisor of width ({width})"),
                heads.to_string(),
                Some(format!("such as {}", divisors.join(", "))),
            );
        }
        if job.train.loss == LossSpec::Mse {
            self.add(
                &["train.loss", "model.kind"],
                "\"cross-entropy\" for a gpt, which says how likely each next byte is".to_owned(),
                "\"mse\"".to_owned(),
                None,
            );
        }
    }

    fn optimizer(&mut self, job: &JobSpec) {
        if let OptimizerSpec::Sgd { nesterov: true, momentum: 0.0, .. } = job.train.optimizer {
            self.add(
                &["train.optimizer.nesterov", "train.optimizer.momentum"],
                "a momentum above 0".to_owned(),
                "momentum = 0".to_owned(),
                Some("momentum = 0.9 is usual".to_owned()),
            );
        }
    }

    fn freeze(&mut self, job: &JobSpec) {
        let patterns = &job.train.freeze;
        if patterns.is_empty() {
            return;
        }
        // A module's names are its file's, which workers read.
        let Some(names) = job.model.parameter_names() else { return };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if let Err(FreezeMisfit { expected, found }) = frozen(patterns, &names) {
            let about = &["train.freeze", "model.kind", "model.hidden", "model.channels", "model.layers"];
            self.add(about, expected, found, Some("such as \"layers.0.*\" for all of a layer".to_owned()));
        }
    }

    fn audit(&mut self, job: &JobSpec) {
        if let (NumericsSpec::Fast, AuditSpec::Steps(steps)) = (job.train.numerics, job.train.audit) {
            self.add(
                &["train.audit", "train.numerics"],
                "\"auto\" or \"off\" beside numerics = \"fast\"".to_owned(),
                steps.to_string(),
                Some("kinds of machines give other gradients there: use \"exact\", or leave audit out".to_owned()),
            );
        }
    }

    fn placement(&mut self, job: &JobSpec) {
        let pools = &job.resources.pools;
        if let Some(twice) = pools.iter().enumerate().find(|(at, pool)| pools[..*at].contains(pool)) {
            self.add(&["resources.pools"], "each pool once".to_owned(), format!("{:?} again", twice.1), None);
        }
        let encryption = match job.resources.encryption {
            EncryptionSpec::BetweenHosts => Some("between-hosts"),
            EncryptionSpec::Always => Some("always"),
            EncryptionSpec::Never => None,
        };
        if let (BackendSpec::Nccl, Some(encryption)) = (job.resources.backend, encryption) {
            self.add(
                &["resources.backend", "resources.encryption"],
                "encryption = \"never\" beside \"nccl\", which encrypts nothing".to_owned(),
                format!("encryption = {encryption:?}"),
                Some("say so if nobody else can listen to the network between workers, or use \"tcp\"".to_owned()),
            );
        }
        if job.policy.on_demand == OnDemandSpec::ToMeetDeadline && job.policy.deadline.is_none() {
            self.add(
                &["policy.on_demand", "policy.deadline"],
                "a deadline to meet".to_owned(),
                "none".to_owned(),
                Some("add deadline = \"6h\", or say \"never\" or \"always\"".to_owned()),
            );
        }
    }
}

impl ScheduleSpec {
    /// How many steps the learning rate rises for, from 0.
    #[must_use]
    pub fn warmup_steps(&self) -> u64 {
        match self {
            Self::Constant { warmup_steps } | Self::Cosine { warmup_steps, .. } | Self::Step { warmup_steps, .. } => {
                *warmup_steps
            }
        }
    }
}
