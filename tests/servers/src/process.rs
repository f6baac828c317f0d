//! A child process that answers on a port, and doesn't outlive its test.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest time that a server takes to answer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Its output goes into `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let file = File::create(log).expect("create the log");
        let errors = file.try_clone().expect("share the log");
        let child = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn();
        Self(child.unwrap_or_else(|error| panic!("start {:?}: {error}", command.get_program())))
    }

    /// Waits until `ready`.
    pub(crate) fn wait(&mut self, what: &str, log: &Path, mut ready: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !ready() {
            let ended = self.0.try_wait().expect("look at the server");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{what} did not start ({ended:?}): {}",
                std::fs::read_to_string(log).unwrap_or_default()
            );
            std::thread::sleep(BETWEEN_LOOKS);
        }
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Below those that Linux gives to connections on their way out, any of which could take a port before its server does.
const PORTS: RangeInclusive<u16> = 10_000..=32_000;

/// A port of the loopback interface that nobody listened on a moment ago, and that this process was not given before.
///
/// # Panics
/// When the system has none.
#[must_use]
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in PORTS {
        // At random, since other processes look for some as well.
        let random = RandomState::new().build_hasher().finish() % u64::from(PORTS.end() - PORTS.start());
        let port = PORTS.start() + random as u16;
        if given.insert(port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port of {PORTS:?} is free");
}

pub(crate) fn answers(port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_millis(200)).is_ok()
}

/// The whole answer to one request; empty when there is none.
pub(crate) fn http(port: u16, method: &str, path: &str, body: &str) -> String {
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    exchange().unwrap_or_default()
}
