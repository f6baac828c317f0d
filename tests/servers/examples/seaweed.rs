//! SeaweedFS for whoever is no test: `seaweed BUCKET... [BUCKET/PATH=FILE]...` starts one with these buckets and objects,
//! prints what a process needs in its environment to use it as one line of JSON, and ends it when its input ends.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use trainctl_test_servers::Seaweed;

fn main() -> std::io::Result<()> {
    let server = Seaweed::start();
    for arg in std::env::args().skip(1) {
        match arg.split_once('=') {
            None => server.make_bucket(&arg),
            Some((object, file)) => {
                let (bucket, path) = object.split_once('/').unwrap_or((object, ""));
                server.put_text(bucket, path, &std::fs::read_to_string(file)?);
            }
        }
    }
    let environment: BTreeMap<&str, String> = server.environment().into_iter().collect();
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", serde_json::json!(environment))?;
    stdout.flush()?;
    std::io::stdin().read_to_end(&mut Vec::new()).map(drop)
}
