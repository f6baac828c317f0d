//! Rows `ms,add|remove,node` in order of time: <https://github.com/uclasystem/bamboo>. The trace begins with its first
//! row and ends with its last; a node that was there at the end was not taken.

use super::{File, Format, Presence, Trace, TraceError, Zone};
use std::collections::BTreeMap;

pub(super) fn read(text: &str, file: &File<'_>) -> Result<Trace, TraceError> {
    let mut nodes: Vec<Presence> = Vec::new();
    let mut present: BTreeMap<&str, usize> = BTreeMap::new();
    let mut span: Option<(u64, u64)> = None;
    for (index, row) in text.lines().enumerate() {
        let row = row.trim();
        if row.is_empty() || row.starts_with('#') {
            continue;
        }
        let wrong = |expected: &str| file.wrong(&format!(":{}", index + 1), expected, &format!("{row:?}"));
        let mut columns = row.split(',').map(str::trim);
        let (Some(ms), Some(what), Some(node), None) = (columns.next(), columns.next(), columns.next(), columns.next())
        else {
            return Err(wrong("three columns \"ms,add|remove,node\""));
        };
        let ms: u64 = ms.parse().map_err(|_| wrong("milliseconds in the first column"))?;
        let (first, last) = span.unwrap_or((ms, ms));
        if ms < last {
            return Err(wrong("a time no earlier than the row's before"));
        }
        span = Some((first, ms));
        match what {
            "add" if !present.contains_key(node) => {
                present.insert(node, nodes.len());
                nodes.push(Presence { from_ms: ms - first, until_ms: u64::MAX });
            }
            "add" => return Err(wrong("a node that is not there yet")),
            "remove" => match present.remove(node) {
                Some(at) => nodes[at].until_ms = ms - first,
                None => return Err(wrong("a node that was added before")),
            },
            _ => return Err(wrong("add or remove in the second column")),
        }
    }
    let Some((first, last)) = span else { return Err(file.wrong("", "rows \"ms,add|remove,node\"", "none")) };
    let length_ms = last - first;
    for node in &mut nodes {
        node.until_ms = node.until_ms.min(length_ms);
    }
    nodes.retain(|node| node.from_ms < node.until_ms);
    Ok(file.trace(Format::Bamboo, vec![Zone { name: "spot".to_owned(), nodes }], length_ms))
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;

    #[test]
    fn rows_become_presences_from_the_first_row_on() {
        let trace = parse("# fleet\n1000,add,a\r\n1000,add,b\n\n3000,remove,a\n3000,add,a\n9000,remove,a\n").unwrap();
        let node = |from_ms, until_ms| Presence { from_ms, until_ms };
        assert_eq!(trace.length_ms, 8_000);
        assert_eq!(trace.zones[0].nodes, [node(0, 2_000), node(0, 8_000), node(2_000, 8_000)]);
    }

    #[test]
    fn a_row_that_does_not_hold_is_named() {
        let said = |text| parse(text).unwrap_err().to_string();
        let expect = |text, expected| {
            let told = said(text);
            assert!(told.starts_with(expected), "{told}");
        };
        expect("0,add,a\nx,add,b", "trace t:2: expected milliseconds in the first column, found \"x,add,b\"");
        expect("5,add,a\n4,add,b", "trace t:2: expected a time no earlier than the row's before, found");
        expect("0,add,a\n1,add,a", "trace t:2: expected a node that is not there yet, found");
        expect("0,remove,a", "trace t:1: expected a node that was added before, found");
        expect("0,add", "trace t:1: expected three columns \"ms,add|remove,node\", found \"0,add\"");
        expect("0,take,a", "trace t:1: expected add or remove in the second column, found");
        expect("\n", "trace t: expected rows \"ms,add|remove,node\", found none");
    }
}
