//! Reads a fleet's history: rows of `ms,add|remove,nodeN`.

/// A node came or went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    pub(crate) at_ms: u64,
    pub(crate) added: bool,
    pub(crate) node: String,
}

pub(crate) fn parse(text: &str) -> Vec<Row> {
    let rows = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    rows.map(|line| parse_row(line).unwrap_or_else(|| panic!("expected ms,add|remove,node, found {line:?}"))).collect()
}

fn parse_row(line: &str) -> Option<Row> {
    let mut fields = line.split(',');
    let (at_ms, what, node) = (fields.next()?.parse().ok()?, fields.next()?, fields.next()?);
    let added = match what {
        "add" => true,
        "remove" => false,
        _ => return None,
    };
    Some(Row { at_ms, added, node: node.to_owned() })
}

#[test]
fn rows_are_read_and_comments_skipped() {
    let rows = parse("# fleet\n0,add,node1\n60000,remove,node1\n");
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[1], Row { at_ms: 60_000, added: false, node: "node1".to_owned() });
}
