//! What users read when a job file is wrong.

use proptest::prelude::*;
use trainctl_jobs::{AuditSpec, JobSpec, ModelSpec, SpecErrors, apply_set, parse};

const GOOD: &str = r#"name = "digits"

[data]
manifest = "data/digits.manifest.json"
digest = "blake3:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

[model]
kind = "mlp"
hidden = [128, 64]

[train]
steps = 2000
global_batch = 256
logical_shards = 8
optimizer = { kind = "adamw", lr = 1e-3 }

[resources]
workers = { min = 1, max = 4 }
"#;

fn errors(text: &str) -> SpecErrors {
    parse(text, "job.toml").expect_err("a job that is wrong")
}

/// The only error, after one change to a good job.
fn error(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    let errors = errors(&GOOD.replace(from, to));
    assert_eq!(errors.errors.len(), 1, "{errors}");
    errors.to_string()
}

#[test]
fn a_good_job_parses_and_checks_and_survives_json() {
    let job = parse(GOOD, "job.toml").unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(job.micro_batch(), 32);
    assert_eq!(job.model, ModelSpec::Mlp { hidden: vec![128, 64], dropout: 0.0 });
    job.check().unwrap();
    let json = serde_json::to_string(&job).unwrap();
    assert_eq!(serde_json::from_str::<JobSpec>(&json).unwrap(), job);
}

#[test]
fn an_error_shows_its_place_what_was_expected_and_found_and_what_to_do() {
    assert_eq!(
        error("global_batch = 256", "global_batch = 250"),
        "\
job.toml:13:16: train.global_batch: expected a multiple of logical_shards (8), found 250
 13 | global_batch = 250
    |                ^^^
hint: 248 and 256 are the nearest"
    );
}

#[test]
fn all_errors_come_at_once_in_the_order_of_the_file() {
    let text = r#"name = "My digits"

[data]
manifest = "data/digits.manifest.json"

[model]
kind = "mlp"
hiden = [128, 64]
dropout = 1.5

[train]
steps = "2000"
global_batch = 250
logical_shards = 8
optimizer = { kind = "adam", lr = 1e-3 }

[resources]
workers = { min = 9, max = 12 }

[check]
every = "auto"
"#;
    assert_eq!(
        errors(text).to_string(),
        "\
job.toml: 9 problems

job.toml:1:8: name: expected a name of up to 63 lower-case letters, digits and inner `-`, found \"My digits\"
 1 | name = \"My digits\"
   |        ^^^^^^^^^^^
hint: \"my-digits\" would do

job.toml:3:2: data.digest: expected \"blake3:\" and 64 hex digits, found no such key
 3 | [data]
   |  ^^^^
hint: Of the manifest's bytes; `trainctl data pin` prints it, `trainctl data show` again.

job.toml:8:1: model.hiden: expected a key of [model], found `hiden`
 8 | hiden = [128, 64]
   | ^^^^^
hint: did you mean `hidden`?

job.toml:9:11: model.dropout: expected a number from 0 to below 1, found 1.5
 9 | dropout = 1.5
   |           ^^^

job.toml:12:9: train.steps: expected a whole number from 1, found \"2000\"
 12 | steps = \"2000\"
    |         ^^^^^^
hint: write 2000 without quotes

job.toml:13:16: train.global_batch: expected a multiple of logical_shards (8), found 250
 13 | global_batch = 250
    |                ^^^
hint: 248 and 256 are the nearest

job.toml:15:22: train.optimizer.kind: expected \"adamw\" or \"sgd\", found \"adam\"
 15 | optimizer = { kind = \"adam\", lr = 1e-3 }
    |                      ^^^^^^
hint: did you mean \"adamw\"?

job.toml:18:28: resources.workers.max: expected at most train.logical_shards (8), found 12
 18 | workers = { min = 9, max = 12 }
    |                            ^^
hint: a worker needs a shard of its own: lower max, or raise logical_shards to 12

job.toml:20:2: check: expected a key of a job, found `check`
 20 | [check]
    |  ^^^^^
hint: did you mean `checkpoint`?"
    );
}

#[test]
fn each_wrong_value_names_its_key() {
    for (from, to, expected) in [
        ("steps = 2000", "steps = 0", "train.steps: expected a whole number from 1, found 0"),
        ("steps = 2000", "steps = -5", "found -5"),
        ("steps = 2000", "steps = 2e3", "hint: write 2000 without a point or exponent"),
        ("steps = 2000", "steps = 99999999999999999999", "train.steps: expected a whole number from 1, found 9999999"),
        ("steps = 2000", "epochs = nan", "train.epochs: expected a number above 0, up to 1000000, found nan"),
        ("steps = 2000", "epochs = inf", "found inf"),
        ("steps = 2000", "epochs = 0", "found 0"),
        ("lr = 1e-3", "lr = 1e400", "train.optimizer.lr: expected a number above 0, up to 1000, found inf"),
        ("lr = 1e-3", "lr = 0", "found 0"),
        ("lr = 1e-3", "lr = true", "found true"),
        ("lr = 1e-3", "lr = 0.1, beta1 = 1", "train.optimizer.beta1: expected a number from 0 to below 1, found 1"),
        ("lr = 1e-3", "lr = 0.1, momentum = 0.9", "hint: only kind = \"sgd\" has it"),
        (
            "kind = \"adamw\", lr = 1e-3",
            "lr = 1e-3",
            "train.optimizer.kind: expected \"adamw\" or \"sgd\", found no such key",
        ),
        (
            "kind = \"mlp\"",
            "kind = 3",
            "model.kind: expected \"mlp\", \"convnet\", \"gpt\" or \"torchscript\", found 3",
        ),
        ("[128, 64]", "[128, 0]", "model.hidden[1]: expected a whole number from 1 to 65536, found 0"),
        ("[128, 64]", "128", "hint: put it in brackets"),
        ("[128, 64]", "\"big\"", "model.hidden: expected a list of whole numbers from 1 to 65536, found \"big\""),
        ("global_batch = 256", "global_batch = 4", "hint: 8 is the least"),
        ("logical_shards = 8", "logical_shards = 0", "train.logical_shards: expected a whole number from 1 to 1024"),
        ("min = 1", "min = 5", "resources.workers.min: expected at most max (4), found 5"),
        ("max = 4", "max = 9", "resources.workers.max: expected at most train.logical_shards (8), found 9"),
        (
            "[resources]",
            "[resources]\nbackend = \"nccl\"",
            "resources.backend: expected encryption = \"never\" beside \"nccl\", which encrypts nothing, found encryption = \
             \"between-hosts\"",
        ),
        ("min = 1, ", "", "resources.workers.min: expected a whole number from 1 to 1024, found no such key"),
        ("steps = 2000", "steps = 2000\nepochs = 1", "train.epochs: expected either `steps` or `epochs`, found both"),
        ("steps = 2000\n", "", "train.steps: expected either `steps` or `epochs`, found neither"),
        ("steps = 2000", "steps = 2000\nseed = 2020-01-01", "found the date 2020-01-01"),
        (
            "steps = 2000",
            "steps = 2000\nschedule = { kind = \"constant\", warmup_steps = 2001 }",
            "at most train.steps (2000)",
        ),
        ("steps = 2000", "steps = 2000\nlearning_rate = 1", "hint: [train] has seed, steps"),
        ("steps = 2000", "steps = 2000\nbatch = 1", "hint: did you mean `global_batch`?"),
        ("steps = 2000", "steps = 2000\nhidden = [1]", "hint: `hidden` belongs to [model]"),
        ("name = \"digits\"", "name = 7", "hint: write it in quotes"),
        ("name = \"digits\"", "name = \"\"", "name: expected a name of up to 63"),
        (
            "[resources]",
            "[policy]\ndeadline = \"soon\"\n[resources]",
            "policy.deadline: expected a time such as \"6h\"",
        ),
        (
            "[resources]",
            "[policy]\nbudget_usd = -1\n[resources]",
            "policy.budget_usd: expected a number above 0, found -1",
        ),
        (
            "[resources]",
            "[policy]\non_demand = \"to-meet-deadline\"\n[resources]",
            "expected a deadline to meet, found none",
        ),
        (
            "[resources]",
            "[policy]\non_demand = \"sometimes\"\n[resources]",
            "expected \"never\", \"to-meet-deadline\" or \"always\"",
        ),
        ("[resources]", "[checkpoint]\nevery = \"500\"\n[resources]", "hint: 500 of what? write \"500 steps\""),
        ("[resources]", "[checkpoint]\nevery = 500\n[resources]", "hint: write it in quotes"),
        (
            "[resources]",
            "[checkpoint]\nkeep_last = 0\n[resources]",
            "checkpoint.keep_last: expected a whole number from 1",
        ),
        (
            "[resources]",
            "[checkpoint]\nkeep_every = 0\n[resources]",
            "checkpoint.keep_every: expected a whole number from 1",
        ),
        (
            "[resources]",
            "[resources]\npools = []",
            "resources.pools: expected a non-empty list of text, found an empty list",
        ),
        ("[resources]", "[resources]\npools = [\"a\", \"a\"]", "expected each pool once, found \"a\" again"),
        ("[data]", "[data]\nheld_out = 1.0", "data.held_out: expected a number from 0 to below 1, found 1.0"),
    ] {
        let message = error(from, to);
        assert!(message.contains(expected), "{to}: expected {expected:?} in\n{message}");
    }
}

#[test]
fn audits_are_a_number_of_steps_or_one_of_two_words() {
    let with = |audit: &str| GOOD.replace("[train]\n", &format!("[train]\naudit = {audit}\n"));
    for (written, audit, json) in [
        ("\"auto\"", AuditSpec::Auto, "\"auto\""),
        ("\"off\"", AuditSpec::Off, "\"off\""),
        ("50", AuditSpec::Steps(50), "50"),
        ("\"1_000 steps\"", AuditSpec::Steps(1_000), "1000"),
    ] {
        let job = parse(&with(written), "job.toml").unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!((job.train.audit, job.train.audits()), (audit, audit));
        assert_eq!(serde_json::to_string(&job.train.audit).unwrap(), json);
        assert_eq!(serde_json::from_str::<AuditSpec>(json).unwrap(), audit);
        job.check().unwrap_or_else(|errors| panic!("{errors}"));
    }
    assert_eq!(parse(GOOD, "job.toml").unwrap().train.audit, AuditSpec::Auto);
    assert!(serde_json::from_str::<AuditSpec>("0").is_err() && serde_json::from_str::<AuditSpec>("\"x\"").is_err());

    let expected = "train.audit: expected \"auto\", \"off\" or a number of steps such as 50, found";
    let hint = "hint: 50 checks a shard of one step in 50, \"off\" of none";
    for (audit, found, hint) in [
        ("\"never\"", "\"never\"", hint),
        ("0", "0", hint),
        ("-5", "-5", hint),
        ("2_000_000_000_000", "2000000000000", hint),
        ("false", "false", hint),
        ("[50]", "a list", hint),
        ("\"0 steps\"", "\"0 steps\"", hint),
        ("\"5 min\"", "\"5 min\"", hint),
        ("\"50\"", "\"50\"", "hint: write 50 without quotes"),
        ("50.0", "50.0", "hint: write 50 without a point or exponent"),
    ] {
        let message = errors(&with(audit)).to_string();
        assert!(message.contains(&format!("{expected} {found}\n")) && message.contains(hint), "{audit}: {message}");
    }
}

#[test]
fn fast_numerics_are_not_audited() {
    let with = |audit: &str| GOOD.replace("[train]\n", &format!("[train]\nnumerics = \"fast\"\n{audit}\n"));
    for audit in ["", "audit = \"auto\"", "audit = \"off\""] {
        let job = parse(&with(audit), "job.toml").unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(job.train.audits(), AuditSpec::Off, "{audit}");
    }
    let message = errors(&with("audit = 50")).to_string();
    let expected = "train.audit: expected \"auto\" or \"off\" beside numerics = \"fast\", found 50";
    assert!(message.contains(expected), "{message}");
    let hint = "hint: kinds of machines give other gradients there: use \"exact\", or leave audit out";
    assert!(message.contains(hint), "{message}");
}

#[test]
fn a_gpt_whose_heads_do_not_divide_its_width_is_told_which_would() {
    let gpt = "kind = \"gpt\"\nlayers = 2\nheads = 5\nwidth = 48\ncontext = 16";
    let message = error("kind = \"mlp\"\nhidden = [128, 64]", gpt);
    assert!(message.contains("job.toml:10:9: model.heads: expected a divisor of width (48), found 5"), "{message}");
    assert!(message.contains("hint: such as 1, 2, 3, 4, 6, 8, 12, 16, 24, 48"), "{message}");
}

#[test]
fn broken_syntax_is_shown_where_it_breaks() {
    let message = errors("name = \"digits\n[data]\n").to_string();
    assert!(message.starts_with("job.toml:1:"), "{message}");
    let message = errors("name = \"a\"\nname = \"b\"\n").to_string();
    assert!(message.contains("job.toml:2:1"), "{message}");
    let message = errors("steps = \n\nx y\n").to_string();
    assert!(message.starts_with("job.toml: 2 problems"), "{message}");
}

#[test]
fn an_empty_file_lacks_everything_once() {
    let errors = errors("");
    let keys: Vec<&str> = errors.errors.iter().map(|error| error.key.as_str()).collect();
    assert_eq!(keys, ["name", "data", "model", "train"]);
}

#[test]
fn a_job_that_was_not_read_from_a_file_is_checked_as_well() {
    let mut job = parse(GOOD, "job.toml").unwrap();
    job.train.global_batch = 250;
    job.data.held_out = f64::NAN;
    job.name = "../x".to_owned();
    let errors = job.check().unwrap_err();
    let keys: Vec<&str> = errors.errors.iter().map(|error| error.key.as_str()).collect();
    assert_eq!(keys, ["name", "data.held_out", "train.global_batch"]);
    assert!(errors.to_string().contains("job \"../x\": train.global_batch: expected a multiple of"), "{errors}");
}

/// What a user may type where something else belongs.
fn fragments() -> impl Strategy<Value = String> {
    let words = [
        "[",
        "]",
        "{ kind = \"gpt\" }",
        "=",
        "\"",
        "'''",
        "[[train]]",
        "[data.x]",
        "name",
        "kind",
        "-1",
        "1e999",
        "nan",
        "é\n",
        "0x7fffffffffffffffffff",
        "true",
        "1979-05-27",
        ".",
        "\0",
        "\r\n",
        "# ü",
    ];
    prop_oneof![prop::sample::select(words.to_vec()).prop_map(str::to_owned), "\\PC{0,12}"]
}

proptest! {
    #[test]
    fn whatever_is_typed_into_a_job_gets_an_answer_with_places_in_the_text(
        at in 0..GOOD.len(), cut in 0_usize..40, fragment in fragments(),
    ) {
        let text = format!("{}{fragment}{}", &GOOD[..at], &GOOD[(at + cut).min(GOOD.len())..]);
        match parse(&text, "job.toml") {
            Ok(job) => prop_assert!(job.check().is_ok()),
            Err(errors) => {
                prop_assert!(!errors.errors.is_empty());
                for error in &errors.errors {
                    let place = error.place.as_ref().expect("a place");
                    prop_assert!(place.line <= text.lines().count() + 1, "{}", errors);
                    prop_assert!(place.column <= place.text.chars().count() + 2, "{}", errors);
                }
            }
        }
    }

    #[test]
    fn whatever_is_set_gets_an_answer(key in "[a-z_.]{0,20}", value in fragments()) {
        for key in [key.as_str(), "train.steps", "name", "model.hidden", "train.optimizer", "resources.workers.max"] {
            if let Ok(text) = apply_set(GOOD, &format!("{key}={value}")) {
                let _ = parse(&text, "job.toml");
            }
        }
    }
}
