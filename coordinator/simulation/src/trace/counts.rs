//! Available instances at fixed intervals, `{"metadata": {"gap_seconds": ..}, "data": [n, ..]}`: the format of the
//! traces of "Can't Be Late" (Wu et al., NSDI 2024). A count has no names, so it is read as nodes 1 to n: the last that
//! came is the first to go, and the first are there longest.

use super::{File, Format, Presence, Trace, TraceError, Zone, brief};
use serde_json::{Map, Value};

/// More instances than any trace counts: beyond it a figure means something else.
const COUNT_MAX: u64 = 100_000;

pub(super) fn read(object: &Map<String, Value>, file: &File<'_>) -> Result<Trace, TraceError> {
    let gap = object.get("metadata").and_then(|metadata| metadata.get("gap_seconds"));
    let gap_s = gap.and_then(Value::as_f64).filter(|gap_s| (0.001..=31_536_000.0).contains(gap_s));
    let Some(gap_s) = gap_s else {
        return Err(file.wrong(": metadata.gap_seconds", "seconds above 0", &brief(gap)));
    };
    let Some(data) = object.get("data").and_then(Value::as_array).filter(|data| !data.is_empty()) else {
        return Err(file.wrong(": data", "a list of counts of available instances", &brief(object.get("data"))));
    };
    let at = |index: usize| (index as f64 * gap_s * 1e3).round() as u64;
    let mut nodes: Vec<Presence> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    for (index, value) in data.iter().enumerate() {
        let Some(count) = value.as_u64().filter(|count| *count <= COUNT_MAX) else {
            let place = format!(": data[{index}]");
            return Err(file.wrong(&place, "a whole number from 0 to 100000", &brief(Some(value))));
        };
        let count = count as usize;
        for gone in open.drain(count.min(open.len())..) {
            nodes[gone].until_ms = at(index);
        }
        while open.len() < count {
            open.push(nodes.len());
            nodes.push(Presence { from_ms: at(index), until_ms: at(data.len()) });
        }
    }
    Ok(file.trace(Format::Counts, vec![Zone { name: "spot".to_owned(), nodes }], at(data.len())))
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;

    #[test]
    fn the_last_that_came_goes_first() {
        let trace = parse(r#"{"metadata": {"gap_seconds": 600}, "data": [2, 3, 1, 2]}"#).unwrap();
        let node = |from: u64, until: u64| Presence { from_ms: from * 600_000, until_ms: until * 600_000 };
        assert_eq!(trace.length_ms, 4 * 600_000);
        assert_eq!(trace.zones[0].nodes, [node(0, 4), node(0, 2), node(1, 2), node(3, 4)]);
    }

    #[test]
    fn what_is_no_count_is_named() {
        let expect = |text, expected| {
            let told = parse(text).unwrap_err().to_string();
            assert!(told.starts_with(expected), "{told}");
        };
        expect(r#"{"data": [1]}"#, "trace t: metadata.gap_seconds: expected seconds above 0, found nothing");
        expect(
            r#"{"metadata": {"gap_seconds": 0}, "data": [1]}"#,
            "trace t: metadata.gap_seconds: expected seconds above 0, found 0",
        );
        expect(
            r#"{"metadata": {"gap_seconds": 60}, "data": []}"#,
            "trace t: data: expected a list of counts of available instances, found []",
        );
        expect(
            r#"{"metadata": {"gap_seconds": 60}, "data": [1, -2]}"#,
            "trace t: data[1]: expected a whole number from 0 to 100000, found -2",
        );
    }
}
