//! Lives of single VMs, as <https://github.com/kadupitiya/goog-preemption-data> has them of preemptible VMs on Google
//! Cloud. Such a file tells how long VMs lived, not how many could have been had: nobody asked for more. So each zone
//! becomes slots, and lives follow each other in them:
//!
//! - In the order in which they were launched, each life goes to the slot that is free first.
//! - One that ended in a preemption takes its node away; the slot gives the next one after [`RETURNS_AFTER_MS`].
//! - One that its owner stopped was not taken: the node goes on with the next life.
//! - A zone has a slot for each [`LIVES_PER_SLOT`] lives, at most [`SLOTS_MAX`]; zones with fewer lives are left out.
//! - The trace ends with the first slot that has no life left.

use super::{File, Format, Presence, Trace, TraceError, Zone, brief};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// How long after a preemption its slot has capacity again. The data does not say; the probes of other traces are ten
/// minutes apart.
pub(crate) const RETURNS_AFTER_MS: u64 = 600_000;
/// Lives that a slot needs to be like the zone's others.
const LIVES_PER_SLOT: usize = 10;
/// Of a zone.
const SLOTS_MAX: usize = 16;

struct Life {
    launched_ms: i64,
    ms: u64,
    preempted: bool,
}

pub(super) fn read(object: &Map<String, Value>, file: &File<'_>) -> Result<Trace, TraceError> {
    let mut zones: BTreeMap<String, Vec<Life>> = BTreeMap::new();
    for (name, vm) in object {
        let (zone, life) = life(name, vm, file)?;
        zones.entry(zone).or_default().push(life);
    }
    zones.retain(|_, lives| lives.len() >= LIVES_PER_SLOT);
    if zones.is_empty() {
        let found = format!("{} in all", object.len());
        return Err(file.wrong("", "10 lives of VMs in one zone, or more", &found));
    }
    let mut length_ms = u64::MAX;
    let mut dealt: Vec<Zone> = Vec::new();
    for (name, lives) in zones {
        let (nodes, until_ms) = deal(lives);
        length_ms = length_ms.min(until_ms);
        dealt.push(Zone { name, nodes });
    }
    for zone in &mut dealt {
        for node in &mut zone.nodes {
            node.until_ms = node.until_ms.min(length_ms);
        }
        zone.nodes.retain(|node| node.from_ms < node.until_ms);
    }
    Ok(file.trace(Format::Lifetimes, dealt, length_ms))
}

fn life(name: &str, vm: &Value, file: &File<'_>) -> Result<(String, Life), TraceError> {
    let zone = vm.pointer("/instance_data/ZONE");
    let Some(zone) = zone.and_then(Value::as_str) else {
        return Err(file.wrong(&format!(": {name}.instance_data.ZONE"), "a zone's name", &brief(zone)));
    };
    let lived = vm.get("time_in_sec");
    let Some(seconds) = lived.and_then(Value::as_f64).filter(|seconds| (0.0..=1e9).contains(seconds)) else {
        return Err(file.wrong(&format!(": {name}.time_in_sec"), "seconds that it lived", &brief(lived)));
    };
    let launched = vm.pointer("/insert/insertTime");
    let time = launched.and_then(Value::as_str).and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
    let Some(time) = time else {
        let place = format!(": {name}.insert.insertTime");
        return Err(file.wrong(&place, "a time such as \"2019-03-25T12:22:36.614-07:00\"", &brief(launched)));
    };
    let preempted = vm.get("compute.instances.preempted").is_some();
    let life = Life { launched_ms: time.timestamp_millis(), ms: (seconds * 1e3).round() as u64, preempted };
    Ok((zone.to_owned(), life))
}

/// The nodes of a zone, and when its first slot runs out.
fn deal(mut lives: Vec<Life>) -> (Vec<Presence>, u64) {
    lives.sort_by_key(|life| life.launched_ms);
    let count = (lives.len() / LIVES_PER_SLOT).clamp(1, SLOTS_MAX);
    // Of each slot: when it is free, and the node that goes on there.
    let mut slots: Vec<(u64, Option<usize>)> = vec![(0, None); count];
    let mut nodes: Vec<Presence> = Vec::new();
    for life in &lives {
        let Some((free_ms, node)) = slots.iter_mut().min_by_key(|(free_ms, _)| *free_ms) else { break };
        let end_ms = *free_ms + life.ms;
        let at = *node.get_or_insert_with(|| {
            nodes.push(Presence { from_ms: *free_ms, until_ms: end_ms });
            nodes.len() - 1
        });
        nodes[at].until_ms = end_ms;
        *free_ms = if life.preempted { end_ms + RETURNS_AFTER_MS } else { end_ms };
        if life.preempted {
            *node = None;
        }
    }
    let until_ms = slots.iter().map(|(free_ms, _)| *free_ms).min().unwrap_or(0);
    nodes.sort();
    (nodes, until_ms)
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;

    /// So many VMs of one zone, launched a second apart; each lived for an hour, those that `taken` names were taken.
    fn vms(count: usize, taken: impl Fn(usize) -> bool) -> String {
        let vm = |n: usize| {
            let end = if taken(n) { "compute.instances.preempted" } else { "stop" };
            format!(
                r#""vm{n}": {{"instance_data": {{"ZONE": "z"}}, "time_in_sec": 3600, "{end}": {{}},
                   "insert": {{"insertTime": "2019-03-25T12:00:{n:02}-07:00"}}}}"#
            )
        };
        format!("{{{}}}", (0..count).map(vm).collect::<Vec<_>>().join(","))
    }

    #[test]
    fn a_preemption_takes_the_node_and_a_stop_does_not() {
        let trace = parse(&vms(10, |n| n == 3 || n == 9)).unwrap();
        let hour = 3_600_000;
        let node = |from_ms, until_ms| Presence { from_ms, until_ms };
        let second = 4 * hour + RETURNS_AFTER_MS;
        assert_eq!(trace.zones[0].name, "z");
        assert_eq!(trace.zones[0].nodes, [node(0, 4 * hour), node(second, second + 6 * hour)]);
        assert_eq!(trace.length_ms, second + 6 * hour + RETURNS_AFTER_MS);
    }

    #[test]
    fn lives_are_dealt_to_the_slot_that_is_free_first() {
        let trace = parse(&vms(25, |_| true)).unwrap();
        assert_eq!(trace.peak(), 2);
        assert_eq!(trace.zones[0].nodes.len(), 25 - 1, "the thirteenth life of the fuller slot is beyond the end");
    }

    #[test]
    fn what_is_missing_of_a_vm_is_named() {
        let expect = |text: &str, expected: &str| {
            let told = parse(text).unwrap_err().to_string();
            assert!(told.starts_with(expected), "{told}");
        };
        expect(r#"{"a": 1}"#, "trace t: a.instance_data.ZONE: expected a zone's name, found nothing");
        expect(
            &vms(10, |_| true).replacen("3600", "-1", 1),
            "trace t: vm0.time_in_sec: expected seconds that it lived, found -1",
        );
        expect(
            &vms(10, |_| true).replacen("2019-03-25T", "", 1),
            "trace t: vm0.insert.insertTime: expected a time such as",
        );
        expect(&vms(9, |_| true), "trace t: expected 10 lives of VMs in one zone, or more, found 9 in all");
    }
}
