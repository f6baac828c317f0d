//! Finds this cluster's workers among the processes of the machine, whoever started them: after a restart they are
//! nobody's children. A worker is known by its command line, `... --cluster C ... --instance I ... --worker W ...`.

use coordinator_core::{InstanceId, PoolName};
use rustix::process::Pid;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The variable that names a worker's pool in its environment, so that an adopted worker is counted where it belongs.
pub(crate) const POOL_VARIABLE: &str = "TRAINCTL_POOL";

/// A worker's process, found by its tag.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub(crate) instance: InstanceId,
    pub(crate) pool: Option<PoolName>,
    pub(crate) pid: Pid,
    /// With the pid it names one process for good: a pid alone is used again.
    pub(crate) start_ticks: u64,
}

/// All workers of the cluster that live, oldest first. Only the leaders of a process group count, so that what a worker
/// forked is not taken for it, and only processes of the same user.
pub(crate) fn find(cluster: &str) -> io::Result<Vec<Found>> {
    let user = rustix::process::geteuid().as_raw();
    let mut found: Vec<Found> = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        // Any of these fails when the process ends meanwhile, which is an answer.
        if entry.metadata().is_ok_and(|folder| folder.uid() == user) {
            found.extend(inspect(&entry.path(), pid, cluster));
        }
    }
    found.sort_by_key(|process| (process.start_ticks, process.pid.as_raw_nonzero()));
    Ok(found)
}

/// How long to wait for a program to begin. It takes microseconds, unless the machine is overloaded.
const BEGINS_WITHIN: Duration = Duration::from_secs(1);

/// Waits until a worker that was just spawned can be found: the kernel lets its parent go on before the child has left
/// the parent's memory, and with it the parent's command line.
pub(crate) fn await_begin(pid: Pid, cluster: &str) {
    let folder = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    let deadline = Instant::now() + BEGINS_WITHIN;
    while inspect(&folder, pid, cluster).is_none()
        && Stat::read(pid).is_some_and(|stat| !stat.ended)
        && Instant::now() < deadline
    {
        std::thread::sleep(Duration::from_micros(100));
    }
}

fn inspect(folder: &Path, pid: Pid, cluster: &str) -> Option<Found> {
    let command_line = std::fs::read(folder.join("cmdline")).ok()?;
    let instance = tagged_instance(&command_line, cluster)?;
    let stat = Stat::read(pid)?;
    if stat.ended || stat.group != pid.as_raw_nonzero().get() {
        return None;
    }
    let environment = std::fs::read(folder.join("environ")).unwrap_or_default();
    Some(Found { instance, pool: pool_of(&environment), pid, start_ticks: stat.start_ticks })
}

fn tagged_instance(command_line: &[u8], cluster: &str) -> Option<InstanceId> {
    let words: Vec<&[u8]> = command_line.split(|byte| *byte == 0).collect();
    let value_of = |flag: &[u8]| words.windows(2).find(|pair| pair[0] == flag).map(|pair| pair[1]);
    if value_of(b"--cluster")? != cluster.as_bytes() {
        return None;
    }
    Some(InstanceId::from(std::str::from_utf8(value_of(b"--instance")?).ok()?))
}

fn pool_of(environment: &[u8]) -> Option<PoolName> {
    environment.split(|byte| *byte == 0).find_map(|variable| {
        let value = std::str::from_utf8(variable).ok()?.strip_prefix(POOL_VARIABLE)?.strip_prefix('=')?;
        Some(PoolName::from(value))
    })
}

/// `PF_EXITING` of the kernel's include/linux/sched.h.
const EXITING: u64 = 0x4;

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stat {
    /// Dead, though not yet reaped.
    pub(crate) ended: bool,
    /// Dead, or dying: its connections may be closed already, its memory not yet.
    pub(crate) ending: bool,
    pub(crate) group: i32,
    /// Since the machine started, in clock ticks.
    pub(crate) start_ticks: u64,
}

impl Stat {
    /// `None`: there is no such process any more.
    pub(crate) fn read(pid: Pid) -> Option<Self> {
        let text = std::fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        Self::parse(&String::from_utf8_lossy(&text))
    }

    /// The format is that of proc_pid_stat(5): the second field, the name, is in brackets and may hold any character.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let ended = matches!(*fields.first()?, "Z" | "X" | "x");
        let flags: u64 = fields.get(6)?.parse().ok()?;
        Some(Self {
            ended,
            ending: ended || flags & EXITING != 0,
            group: fields.get(2)?.parse().ok()?,
            start_ticks: fields.get(19)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_with_brackets_in_the_name() {
        let line = "77 (a) b (c) S 1 70 70 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123456 1 1 1";
        assert_eq!(Stat::parse(line), Some(Stat { ended: false, ending: false, group: 70, start_ticks: 123_456 }));
        let dying = Stat::parse(&line.replace("4194560", "4194564")).expect("a stat line");
        assert!(dying.ending && !dying.ended);
        assert_eq!(Stat::parse("77 (a"), None);
    }

    #[test]
    fn this_process_has_a_start() {
        let me = rustix::process::getpid();
        let stat = Stat::read(me).expect("own stat");
        assert!(!stat.ending && stat.start_ticks > 0);
    }

    #[test]
    fn only_the_clusters_own_tag_counts() {
        let line = b"worker\0run\0--cluster\0c1\0--instance\0i7\0--worker\0w7\0";
        assert_eq!(tagged_instance(line, "c1"), Some(InstanceId::from("i7")));
        assert_eq!(tagged_instance(line, "c"), None);
        assert_eq!(tagged_instance(b"grep\0--cluster\0c1\0", "c1"), None);
        assert_eq!(tagged_instance(b"", "c1"), None);
        assert_eq!(pool_of(b"A=1\0TRAINCTL_POOL=local-spot\0"), Some(PoolName::from("local-spot")));
        assert_eq!(pool_of(b"TRAINCTL_POOLS=x\0"), None);
    }
}
