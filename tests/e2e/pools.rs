//! Pools of several kinds side by side: two zones of local processes, and machines that join by themselves. Some of all
//! of them are killed, and the coordinator is too.

use crate::{digest, undisturbed};
use rustix::process::Signal;
use std::process::{Child, Command, Stdio};
use trainctl_tests::{Cluster, Job, Options, eventually, kill, program};

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

const POOLS: &str = "[pools.east]\nkind = \"local\"\nspot = true\ncapacity = 1\ncapacity_returns_after = \"100ms\"\n\
                     [pools.west]\nkind = \"local\"\nspot = true\ncapacity = 1\ncapacity_returns_after = \"100ms\"\n\
                     [pools.lab]\nkind = \"static\"\nzone = \"rack 7\"\n";

/// A machine of one's own: its trainer, as somebody started it.
pub(crate) struct Machine(Child);

impl Machine {
    /// Runs what `trainctl pool token` prints.
    pub(crate) fn join(cluster: &Cluster) -> Self {
        let log =
            std::fs::File::options().create(true).append(true).open(cluster.folder().join("machines.log")).unwrap();
        let mut command = joining(cluster);
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// What `trainctl pool token` prints.
pub(crate) fn joining(cluster: &Cluster) -> Command {
    let token = cluster.json(&["pool", "token", "lab"]);
    let (variables, arguments) = token["command"].as_str().unwrap().split_once(" trainctl-worker ").unwrap();
    let mut command = Command::new(program("trainctl-worker"));
    command.args(arguments.split(' ')).envs(variables.split(' ').map(|pair| pair.split_once('=').unwrap()));
    command
}

fn cluster() -> Cluster {
    Cluster::up(Options { pools: POOLS.to_owned(), environment: Vec::new() })
}

fn job(cluster: &Cluster, name: &str, pools: &str, workers: (u32, u32), steps: u64) -> String {
    let mut job = Job::convnet(name, &cluster.folder().join("runs"));
    job.workers = workers;
    job.steps = steps;
    job.toml().replace("pools = [\"local-spot\"]", pools)
}

fn lab(cluster: &Cluster) -> (u64, u64) {
    let pools = cluster.json(&["pool", "ls"]);
    let lab = pools.as_array().unwrap().iter().find(|pool| pool["pool"] == "lab").unwrap();
    (lab["capacity"].as_u64().unwrap(), lab["in_use"].as_u64().unwrap())
}

pub(crate) fn wait_for_lab(cluster: &Cluster, expected: (u64, u64)) {
    eventually(format!("the lab has {expected:?}"), PATIENCE, || (lab(cluster) == expected).then_some(()));
}

#[test]
fn a_job_spreads_over_zones_and_own_machines_and_survives_kills_in_all_of_them() {
    let cluster = cluster();
    let mut machines = [Machine::join(&cluster), Machine::join(&cluster)];
    wait_for_lab(&cluster, (2, 0));
    let toml = job(&cluster, "spread", "pools = [\"east\", \"west\", \"lab\"]", (2, 4), 2_500);
    cluster.submit(&toml);
    let _ =
        cluster.wait_for("spread", "at work in all pools", |s| s["world_size"] == 4 && s["step"].as_u64() > Some(20));
    let mut pools: Vec<String> =
        cluster.workers("spread").iter().map(|w| w["pool"].as_str().unwrap().to_owned()).collect();
    pools.sort();
    assert_eq!(pools, ["east", "lab", "lab", "west"]);

    machines[0].0.kill().unwrap();
    let of_west = cluster.workers("spread").into_iter().find(|w| w["pool"] == "west").unwrap();
    kill(u32::try_from(of_west["pid"].as_u64().unwrap()).unwrap(), Signal::KILL);
    let status = cluster.wait_for_success("spread");
    assert_eq!(digest(&status), undisturbed(2_500), "{}", cluster.report("spread"));
    assert!(status["evictions"].as_u64() >= Some(2), "{status:#}");

    // The machine that was killed is gone; the other one waits for more, in the same process.
    wait_for_lab(&cluster, (1, 0));
    assert!(machines[1].lives());
    cluster.submit(&job(&cluster, "again", "pools = [\"lab\"]", (1, 1), 60));
    let status = cluster.wait_for_success("again");
    assert_eq!(digest(&status), undisturbed(60), "{}", cluster.report("again"));
    wait_for_lab(&cluster, (1, 0));
    assert!(machines[1].lives());
}

#[test]
fn machines_come_back_to_a_coordinator_that_was_killed() {
    let mut cluster = cluster();
    cluster.keep_address();
    let machines = [Machine::join(&cluster), Machine::join(&cluster)];
    wait_for_lab(&cluster, (2, 0));
    cluster.submit(&job(&cluster, "kept", "pools = [\"lab\", \"east\"]", (2, 3), 800));
    let _ = cluster.wait_for("kept", "at work", |s| s["world_size"] == 3 && s["step"].as_u64() > Some(20));
    let names = |cluster: &Cluster| -> Vec<String> {
        cluster.workers("kept").iter().map(|w| w["worker"].as_str().unwrap().to_owned()).collect()
    };
    let before = names(&cluster);
    cluster.kill_coordinator();
    cluster.start();
    wait_for_lab(&cluster, (2, 2));
    assert_eq!(names(&cluster), before, "{}", cluster.report("kept"));
    let status = cluster.wait_for_success("kept");
    assert_eq!(digest(&status), undisturbed(800), "{}", cluster.report("kept"));
    assert_eq!(status["evictions"], 0, "{status:#}\n{}", cluster.report("kept"));
    wait_for_lab(&cluster, (2, 0));
    drop(machines);
}

#[test]
fn a_machine_that_is_sent_home_ends_and_one_with_a_bad_token_is_refused() {
    let cluster = cluster();
    let mut machine = Machine::join(&cluster);
    wait_for_lab(&cluster, (1, 0));
    kill(machine.0.id(), Signal::TERM);
    assert!(machine.0.wait().unwrap().success());
    wait_for_lab(&cluster, (0, 0));

    let url = cluster.json(&["pool", "token", "lab"])["coordinator"].as_str().unwrap().to_owned();
    let refused = Command::new(program("trainctl-worker"))
        .args(["run", "--join", "--coordinator", &url])
        .env("TRAINCTL_JOIN_TOKEN", "join:lab:0:00")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("expected a pool's join token"), "{said}");
    let other = cluster.run(&["pool", "token", "east"]);
    assert!(String::from_utf8_lossy(&other.stderr).contains("expected a pool of kind"), "{other:?}");
}
