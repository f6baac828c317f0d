//! What is measured.

use coordinator_certificates::Authority;

/// What certificates are issued for.
const JOB: &str = "allreduce";

/// From the command line.
pub(crate) struct Options {
    pub(crate) world: usize,
    pub(crate) mib: Vec<f64>,
    pub(crate) transport: String,
    pub(crate) mode: String,
    pub(crate) runs: usize,
    pub(crate) json: bool,
    /// Who signs for the members, when the connections are encrypted.
    pub(crate) authority: Option<Authority>,
    /// Given to the processes that this program starts.
    pub(crate) rank: Option<usize>,
}

impl Options {
    pub(crate) fn parse() -> Self {
        let mut options = Self {
            world: 2,
            mib: vec![0.003_906_25, 0.25, 1.0, 4.0, 25.0, 100.0],
            transport: "shared".to_owned(),
            mode: "exact".to_owned(),
            runs: 5,
            json: false,
            authority: None,
            rank: None,
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = |what: &str| args.next().unwrap_or_else(|| panic!("{arg} takes {what}"));
            match arg.as_str() {
                "--bench" => {}
                "--world" => options.world = value("a count").parse().expect("--world takes a count"),
                "--mib" => {
                    let sizes = value("sizes in MiB");
                    options.mib = sizes.split(',').map(|s| s.parse().expect("--mib takes sizes in MiB")).collect();
                }
                "--transport" => options.transport = one_of(value("a transport"), &["tcp", "shared"]),
                "--mode" => options.mode = one_of(value("a mode"), &["exact", "fast"]),
                "--runs" => options.runs = value("a count").parse().expect("--runs takes a count"),
                "--output" => options.json = value("a format") == "json",
                "--tls" => options.authority = Some(Authority::new(JOB).expect("make an authority")),
                "--authority" => {
                    let key = unhex(&value("a key"));
                    options.authority = Some(Authority::from_key(JOB, &key).expect("make an authority"));
                }
                "--rank" => options.rank = Some(value("a rank").parse().expect("--rank takes a rank")),
                other => panic!("unknown option {other}"),
            }
        }
        options
    }

    /// For one of the processes of a run.
    pub(crate) fn of_member(&self, rank: usize, mib: f64) -> Vec<String> {
        let pairs = [
            ("--rank", rank.to_string()),
            ("--world", self.world.to_string()),
            ("--mib", mib.to_string()),
            ("--transport", self.transport.clone()),
            ("--mode", self.mode.clone()),
        ];
        let authority = self.authority.iter().map(|authority| ("--authority", hex(&authority.key())));
        pairs.into_iter().chain(authority).flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("--authority takes hex digits");
    (0..text.len()).step_by(2).map(byte).collect()
}

fn one_of(value: String, of: &[&str]) -> String {
    assert!(of.contains(&value.as_str()), "expected one of {of:?}, found {value}");
    value
}
