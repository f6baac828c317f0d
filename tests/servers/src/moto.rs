//! EC2: moto's server with what it lacks for tests of spot instances. `python/ec2_server.py` says what it can be asked.

use crate::process::{Process, answers, free_port, http};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// A running EC2 with no instances in it. Credentials are not checked, but that they have not expired.
#[derive(Debug)]
pub struct Moto {
    _process: Process,
    folder: TempDir,
    port: u16,
}

/// What to use of a region.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Network {
    /// One for each zone that was asked for, in that order.
    pub subnets: Vec<String>,
    /// The id of a launch template.
    pub launch_template: String,
}

/// An instance, as the cloud itself knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MotoInstance {
    /// `i-...`.
    pub id: String,
    /// Such as `us-east-1a`.
    pub zone: String,
    /// Such as `m5.large`.
    pub instance_type: String,
    /// `spot` or `on-demand`.
    pub lifecycle: String,
    /// `running`, `terminated`...
    pub state: String,
    /// By key.
    pub tags: BTreeMap<String, String>,
    /// In base64; empty without any.
    pub user_data: String,
}

impl Moto {
    /// Starts one, and waits until it answers.
    ///
    /// # Panics
    /// When it doesn't start.
    #[must_use]
    pub fn start() -> Self {
        let (folder, port) = (TempDir::new().expect("make a folder"), free_port());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/ec2_server.py");
        let mut command = Command::new(crate::program("moto", "python"));
        command.arg("-B").arg(script).arg(port.to_string());
        // Roles may be given what AWS itself manages.
        command.env("MOTO_IAM_LOAD_MANAGED_POLICIES", "true");
        let log = folder.path().join("log");
        let mut process = Process::start(&mut command, &log);
        process.wait("moto", &log, || answers(port) && http(port, "GET", "/_cloud/calls", "").contains(" 200 "));
        Self { _process: process, folder, port }
    }

    /// Its endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The metadata service of one instance, for `AWS_EC2_METADATA_SERVICE_ENDPOINT`.
    #[must_use]
    pub fn metadata(&self, instance: &str) -> String {
        format!("{}/_imds/{instance}", self.endpoint())
    }

    /// What a process needs in its environment to use it.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL_EC2", self.endpoint()),
            ("AWS_ACCESS_KEY_ID", "AKIATESTTESTTEST".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "only-for-tests".to_owned()),
        ]
    }

    /// Where it writes what it does.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Subnets in these zones of a region, and a launch template.
    ///
    /// # Panics
    /// When it refuses, as do all below.
    #[must_use]
    pub fn network(&self, region: &str, zones: &[&str]) -> Network {
        let answer = self.ask("POST", "network", &json!({ "region": region, "zones": zones }));
        let subnets = answer["subnets"].as_array().expect("subnets").iter();
        Network {
            subnets: subnets.map(|subnet| text(Some(subnet))).collect(),
            launch_template: text(answer.get("launch_template")),
        }
    }

    /// All instances, the ended ones too.
    #[must_use]
    pub fn instances(&self) -> Vec<MotoInstance> {
        let answer = self.ask("GET", "instances", &Value::Null);
        let instances = answer.as_array().expect("a list").iter();
        instances
            .map(|instance| MotoInstance {
                id: text(instance.get("id")),
                zone: text(instance.get("zone")),
                instance_type: text(instance.get("instance_type")),
                lifecycle: text(instance.get("lifecycle")),
                state: text(instance.get("state")),
                tags: instance["tags"]
                    .as_object()
                    .expect("tags")
                    .iter()
                    .map(|(key, value)| (key.clone(), text(Some(value))))
                    .collect(),
                user_data: text(instance.get("user_data")),
            })
            .collect()
    }

    /// Those that run.
    #[must_use]
    pub fn running(&self) -> Vec<MotoInstance> {
        self.instances().into_iter().filter(|instance| instance.state == "running").collect()
    }

    /// How often this action was carried out.
    #[must_use]
    pub fn calls(&self, action: &str) -> u64 {
        self.ask("GET", "calls", &Value::Null)[action].as_u64().unwrap_or(0)
    }

    /// How many versions all launch templates have.
    #[must_use]
    pub fn versions(&self) -> usize {
        let answer = self.ask("GET", "versions", &Value::Null);
        answer.as_object().expect("templates").values().map(|versions| versions.as_array().map_or(0, Vec::len)).sum()
    }

    /// Starts somebody's instance; its id.
    #[must_use]
    pub fn run(&self, region: &str, zone: &str, tags: &[(&str, &str)]) -> String {
        let tags: BTreeMap<_, _> = tags.iter().copied().collect();
        text(self.ask("POST", "run", &json!({ "region": region, "zone": zone, "tags": tags })).get("id"))
    }

    /// What can't be had: objects with `instance_type`, `zone`, `lifecycle` (absent: any), `code` and `times`.
    pub fn faults(&self, faults: &Value) {
        self.ask("POST", "faults", faults);
    }

    /// Calls that are refused: objects with `action`, `code`, `status` and `times`.
    pub fn fail(&self, failures: &Value) {
        self.ask("POST", "fail", failures);
    }

    /// So many calls of this action are carried out and not answered.
    pub fn drop_answers(&self, action: &str, times: u32) {
        self.ask("POST", "drop", &json!({ "action": action, "times": times }));
    }

    /// By type, or type and zone (`m5.large/us-east-1a`).
    pub fn price(&self, of: &str, usd_per_hour: f64) {
        self.ask("POST", "prices", &json!({ of: usd_per_hour.to_string() }));
    }

    /// Refuses calls beyond so many; 0: none.
    pub fn throttle(&self, per_second: f64, burst: u32) {
        self.ask("POST", "throttle", &json!({ "per_second": per_second, "burst": burst }));
    }

    /// Whether connections to the API are cut. The metadata services go on.
    pub fn outage(&self, down: bool) {
        self.ask("POST", "outage", &json!({ "down": down }));
    }

    /// Credentials of these access keys have expired, no others.
    pub fn expire(&self, access_keys: &[&str]) {
        self.ask("POST", "credentials", &json!({ "expired": access_keys }));
    }

    /// For so long new instances are not listed.
    pub fn lag(&self, time: Duration) {
        self.ask("POST", "lag", &json!({ "seconds": time.as_secs_f64() }));
    }

    /// No metadata service knows the tokens any more that it gave out.
    pub fn forget_tokens(&self) {
        self.ask("POST", "tokens", &Value::Null);
    }

    /// Will take the instance after this notice; its metadata says so at once.
    pub fn interrupt(&self, instance: &str, notice: Duration) {
        let notice_s = notice.as_secs_f64();
        self.ask("POST", "instance", &json!({ "id": instance, "do": "interrupt", "notice_s": notice_s }));
    }

    /// Recommends to leave the instance; only its metadata says so.
    pub fn rebalance(&self, instance: &str) {
        self.act(instance, "rebalance");
    }

    /// Takes the instance at once.
    pub fn take(&self, instance: &str) {
        self.act(instance, "take");
    }

    /// The API does not know the instance any more.
    pub fn vanish(&self, instance: &str) {
        self.act(instance, "vanish");
    }

    /// The instance powered itself off; it was to be ended by that.
    pub fn power_off(&self, instance: &str) {
        self.act(instance, "power-off");
    }

    /// Somebody stops the instance: it isn't ended.
    pub fn stop(&self, instance: &str) {
        self.act(instance, "stop");
    }

    fn act(&self, instance: &str, what: &str) {
        self.ask("POST", "instance", &json!({ "id": instance, "do": what }));
    }

    fn ask(&self, method: &str, name: &str, body: &Value) -> Value {
        let answer = http(self.port, method, &format!("/_cloud/{name}"), &body.to_string());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let read = head.starts_with("HTTP/1.1 200").then(|| serde_json::from_str(body).ok()).flatten();
        read.unwrap_or_else(|| {
            let log = std::fs::read_to_string(self.log()).unwrap_or_default();
            panic!("{method} /_cloud/{name}: {answer}\n{log}")
        })
    }
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).expect("a text").to_owned()
}
