//! `plan`: what it prints of a market that is always the same, and what it says of input that does not hold. What comes
//! of real traces is checked where the figures are made.

use crate::place::{Place, Ran, told};

/// Ten hours on four workers, thirteen to do it in.
const JOB: &str = r#"name = "points"

[data]
manifest = "nowhere.manifest.json"
digest = "blake3:0000000000000000000000000000000000000000000000000000000000000000"

[model]
kind = "mlp"
hidden = [8]

[train]
steps = 3600
global_batch = 8
logical_shards = 4

[resources]
workers = { min = 1, max = 4 }

[policy]
deadline = "13h"
on_demand = "to-meet-deadline"
"#;

/// Six instances in every ten minutes of a day.
fn steady() -> String {
    let counts = vec!["6"; 144].join(", ");
    format!("{{\"metadata\": {{\"gap_seconds\": 600}}, \"data\": [{counts}]}}\n")
}

fn place() -> Place {
    let place = Place::new();
    place.write("job.toml", JOB);
    place.write("steady.json", &steady());
    place
}

fn plan(place: &Place, more: &[&str]) -> Ran {
    let usual = ["plan", "job.toml", "--trace", "steady.json", "--step-seconds", "10", "--windows", "4"];
    place.run(&[&usual, more].concat())
}

#[test]
fn a_market_in_which_nothing_happens() {
    insta::assert_snapshot!(told(&plan(&place(), &["--price", "0.92/3.06"])));
}

#[test]
fn a_job_without_a_deadline_is_told_what_is_compared() {
    let place = place();
    place.write("job.toml", &JOB.replace("deadline = \"13h\"\n", "").replace("to-meet-deadline", "never"));
    insta::assert_snapshot!(told(&plan(&place, &[])));
}

#[test]
fn every_figure_is_in_the_json() {
    let place = place();
    let plan = place.json(&["plan", "job.toml", "--trace", "steady.json", "--step-seconds", "10", "--windows", "3"]);
    assert_eq!(plan["job"], "points");
    assert_eq!((&plan["workers"], &plan["deadline_seconds"]), (&4.into(), &46_800.0.into()));
    assert_eq!(plan["traces"][0]["format"], "counts");
    let names: Vec<&str> =
        plan["policies"].as_array().unwrap().iter().map(|row| row["policy"].as_str().unwrap()).collect();
    assert_eq!(names, ["trainctl", "on-demand", "greedy-spot", "uniform-progress", "bound"]);
    let windows = plan["windows"].as_array().unwrap();
    assert_eq!(windows.len(), 3);
    assert_eq!(windows[1]["offset_seconds"], 43_200.0);
    let on_demand = &windows[1]["outcomes"][1];
    assert_eq!(on_demand["in_time"], true);
    assert_eq!(on_demand["cost_usd"], 4.0 * 10.05);
}

#[test]
fn the_speed_may_have_been_measured_on_other_workers() {
    let place = place();
    let args = ["--trace", "steady.json", "--windows", "1", "--step-seconds", "40", "--workers", "1"];
    let plan = place.json(&[&["plan", "job.toml"][..], &args].concat());
    assert_eq!(plan["step_seconds"], 10.0);
}

#[test]
fn traces_that_do_not_hold() {
    let place = place();
    place.write("bad.csv", "0,add,node1\n60000,take,node1\n");
    place.write("bad.json", "{\"metadata\": {\"gap_seconds\": 600}, \"data\": [4, \"many\"]}");
    for (name, file) in [("row", "bad.csv"), ("count", "bad.json"), ("missing", "nowhere.csv")] {
        let ran = place.run(&["plan", "job.toml", "--trace", file, "--step-seconds", "10"]);
        insta::assert_snapshot!(format!("trace_{name}"), told(&ran));
    }
}

#[test]
fn a_deadline_that_cannot_be_met_is_refused_at_once() {
    insta::assert_snapshot!(told(&plan(&place(), &["--set", "policy.deadline=9h"])));
}

#[test]
fn a_speed_has_to_be_given() {
    insta::assert_snapshot!(told(&place().run(&["plan", "job.toml", "--trace", "steady.json"])));
}

#[test]
fn a_price_that_is_none() {
    insta::assert_snapshot!(told(&plan(&place(), &["--price", "0.3"])));
}

#[test]
fn a_step_that_takes_no_time() {
    let place = place();
    insta::assert_snapshot!(told(&place.run(&["plan", "job.toml", "--trace", "steady.json", "--step-seconds", "0"])));
}

#[test]
fn the_traces_of_the_repository_are_read() {
    let place = place();
    let traces = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../jobs/traces");
    for (file, format, peak) in [
        ("bamboo-p3.csv", "bamboo", 32),
        ("bamboo-g4dn.csv", "bamboo", 24),
        ("gcp-lifetimes.json", "lifetimes", 8),
        ("p3-counts.json", "counts", 32),
    ] {
        let path = traces.join(file);
        let plan = place.json(&[
            "plan",
            "job.toml",
            "--step-seconds",
            "5",
            "--windows",
            "2",
            "--trace",
            path.to_str().unwrap(),
        ]);
        let trace = &plan["traces"][0];
        assert_eq!((&trace["format"], &trace["peak"]), (&format.into(), &peak.into()), "{file}");
    }
}
