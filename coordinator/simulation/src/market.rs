//! A spot market in virtual time: a window of a trace, in which nodes come and go whatever anybody buys. An instance
//! sits on a node and is taken with it. On-demand capacity is always there and needs no market.

use crate::trace::{Presence, Trace};

/// One node's time in a window.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NodeId(usize);

/// A window of a trace, from its start on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Market {
    zones: Vec<String>,
    nodes: Vec<Node>,
    /// When anything changes, in order, and the nodes that are there from then on.
    changes: Vec<(u64, Vec<NodeId>)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Node {
    zone: usize,
    presence: Presence,
}

impl Market {
    /// What the trace holds from `offset_ms` on for `horizon_ms`, times from the window's start. A trace that ends
    /// before goes on with its begin, and as many nodes as are there at both stay on.
    ///
    /// # Panics
    /// When the trace has no length; [`Trace::parse`] gives none such.
    #[must_use]
    pub fn window(trace: &Trace, offset_ms: u64, horizon_ms: u64) -> Self {
        assert!(trace.length_ms > 0, "a trace has a length");
        let (begin, end) = (offset_ms, offset_ms.saturating_add(horizon_ms));
        let clip = |presence: Presence| Presence {
            from_ms: presence.from_ms.max(begin) - begin,
            until_ms: presence.until_ms.min(end).saturating_sub(begin),
        };
        let mut nodes: Vec<Node> = Vec::new();
        for (zone, of_zone) in trace.zones.iter().enumerate() {
            let unrolled = unroll(&of_zone.nodes, trace.length_ms, end);
            let within = unrolled.into_iter().map(clip).filter(|presence| presence.from_ms < presence.until_ms);
            nodes.extend(within.map(|presence| Node { zone, presence }));
        }
        nodes.sort_by_key(|node| (node.presence, node.zone));
        let changes = changes(&nodes);
        Self { zones: trace.zones.iter().map(|zone| zone.name.clone()).collect(), nodes, changes }
    }

    /// Zones by name; nodes name them by their place here.
    #[must_use]
    pub fn zones(&self) -> &[String] {
        &self.zones
    }

    /// When nodes come or go next, after `now_ms`.
    #[must_use]
    pub fn next_change(&self, now_ms: u64) -> Option<u64> {
        let next = self.changes.partition_point(|(at_ms, _)| *at_ms <= now_ms);
        self.changes.get(next).map(|(at_ms, _)| *at_ms)
    }

    /// Nodes that are there.
    #[must_use]
    pub fn present(&self, now_ms: u64) -> usize {
        self.at(now_ms).count()
    }

    /// Most nodes that are ever there, in one zone.
    #[must_use]
    pub fn peak(&self, zone: usize) -> usize {
        let in_zone = |there: &[NodeId]| there.iter().filter(|node| self.nodes[node.0].zone == zone).count();
        self.changes.iter().map(|(_, there)| in_zone(there)).max().unwrap_or(0)
    }

    /// When the node is taken.
    #[must_use]
    pub fn until_ms(&self, node: NodeId) -> u64 {
        self.nodes[node.0].presence.until_ms
    }

    /// All times in which nodes are there, the first that came first.
    pub fn presences(&self) -> impl Iterator<Item = Presence> {
        self.nodes.iter().map(|node| node.presence)
    }

    /// In the order in which they came.
    fn at(&self, now_ms: u64) -> impl Iterator<Item = (NodeId, &Node)> {
        let next = self.changes.partition_point(|(at_ms, _)| *at_ms <= now_ms);
        let there = next.checked_sub(1).map_or(&[][..], |at| &self.changes[at].1);
        there.iter().map(|node| (*node, &self.nodes[node.0]))
    }
}

/// Sweeps over the nodes, which are in the order in which they came.
fn changes(nodes: &[Node]) -> Vec<(u64, Vec<NodeId>)> {
    let mut times: Vec<u64> = nodes.iter().flat_map(|node| [node.presence.from_ms, node.presence.until_ms]).collect();
    times.sort_unstable();
    times.dedup();
    let mut coming = nodes.iter().enumerate().peekable();
    let mut there: Vec<NodeId> = Vec::new();
    let at = |at_ms: u64| {
        there.retain(|node| at_ms < nodes[node.0].presence.until_ms);
        while let Some((node, _)) = coming.next_if(|(_, node)| node.presence.from_ms <= at_ms) {
            there.push(NodeId(node));
        }
        (at_ms, there.clone())
    };
    times.into_iter().map(at).collect()
}

/// The presences of a zone up to `end_ms`, the trace repeated as often as it takes.
fn unroll(zone: &[Presence], length_ms: u64, end_ms: u64) -> Vec<Presence> {
    let mut unrolled: Vec<Presence> = Vec::new();
    // Of the cycle before: those that are there at its end.
    let mut staying: Vec<usize> = Vec::new();
    let mut cycle_ms = 0;
    while cycle_ms < end_ms {
        let mut before = std::mem::take(&mut staying).into_iter();
        for presence in zone {
            let (from_ms, until_ms) = (cycle_ms + presence.from_ms, cycle_ms + presence.until_ms);
            let goes_on = if presence.from_ms == 0 { before.next() } else { None };
            let at = goes_on.unwrap_or_else(|| {
                unrolled.push(Presence { from_ms, until_ms });
                unrolled.len() - 1
            });
            unrolled[at].until_ms = until_ms;
            if presence.until_ms == length_ms {
                staying.push(at);
            }
        }
        cycle_ms += length_ms;
    }
    unrolled
}

/// Who sits on which node.
#[derive(Clone, Debug)]
pub(crate) struct Fleet<'m> {
    market: &'m Market,
    taken: Vec<bool>,
}

impl<'m> Fleet<'m> {
    pub(crate) fn new(market: &'m Market) -> Self {
        Self { market, taken: vec![false; market.nodes.len()] }
    }

    /// Nodes that nobody sits on.
    pub(crate) fn free(&self, now_ms: u64) -> usize {
        self.market.at(now_ms).filter(|(node, _)| !self.taken[node.0]).count()
    }

    /// A free node of the zone, or of any, that is there for longer than `lasting_ms`: the one that came first.
    pub(crate) fn take(&mut self, zone: Option<usize>, now_ms: u64, lasting_ms: u64) -> Option<NodeId> {
        let fits = |(id, node): &(NodeId, &Node)| {
            let lasts = node.presence.until_ms > now_ms.saturating_add(lasting_ms);
            !self.taken[id.0] && lasts && zone.is_none_or(|zone| node.zone == zone)
        };
        let (node, _) = self.market.at(now_ms).find(fits)?;
        self.taken[node.0] = true;
        Some(node)
    }

    pub(crate) fn release(&mut self, node: NodeId) {
        self.taken[node.0] = false;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::trace::{Format, Zone};

    /// Of one zone in which these nodes are there, and nothing is repeated.
    pub(crate) fn market(nodes: &[(u64, u64)], horizon_ms: u64) -> Market {
        Market::window(&trace(nodes, 2 * horizon_ms), 0, horizon_ms)
    }

    fn trace(nodes: &[(u64, u64)], length_ms: u64) -> Trace {
        let nodes = nodes.iter().map(|(from_ms, until_ms)| Presence { from_ms: *from_ms, until_ms: *until_ms });
        let zones = vec![Zone { name: "z".to_owned(), nodes: nodes.collect() }];
        Trace { source: "t".into(), format: Format::Bamboo, zones, length_ms }
    }

    fn presences(market: &Market) -> Vec<(u64, u64)> {
        market.presences().map(|presence| (presence.from_ms, presence.until_ms)).collect()
    }

    #[test]
    fn a_window_begins_with_what_is_there() {
        let trace = trace(&[(0, 30), (10, 60), (70, 80)], 100);
        let market = Market::window(&trace, 20, 55);
        assert_eq!(presences(&market), [(0, 10), (0, 40), (50, 55)]);
        assert_eq!((market.present(0), market.present(10), market.present(45), market.present(50)), (2, 1, 0, 1));
        assert_eq!(market.next_change(10), Some(40));
        assert_eq!(market.peak(0), 2);
    }

    #[test]
    fn a_trace_goes_on_with_its_begin_and_nodes_stay_on() {
        let trace = trace(&[(0, 30), (0, 100), (90, 100)], 100);
        let market = Market::window(&trace, 50, 300);
        // Two are there at the seam and two at the begin: the one that is there throughout becomes the one that
        // leaves at 30, and the late one the one that stays.
        assert_eq!(presences(&market), [(0, 80), (40, 180), (140, 280), (240, 300)]);
        let always = Market::window(&self::trace(&[(0, 100)], 100), 50, 300);
        assert_eq!(presences(&always), [(0, 300)]);
    }

    #[test]
    fn a_node_holds_one_instance() {
        let market = Market::window(&trace(&[(0, 30), (10, 60)], 100), 0, 100);
        let mut fleet = Fleet::new(&market);
        let first = fleet.take(None, 10, 0).unwrap();
        assert_eq!((market.until_ms(first), fleet.free(10)), (30, 1));
        assert_eq!(fleet.take(Some(0), 10, 50), None, "it is gone too soon");
        let second = fleet.take(Some(0), 10, 20).unwrap();
        assert_eq!(fleet.take(None, 10, 0), None);
        fleet.release(second);
        assert_eq!(fleet.take(None, 10, 0), Some(second));
    }
}
