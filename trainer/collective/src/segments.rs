//! How a vector is cut for the exchange. Segments are counted from the vector's end to its beginning, the order in
//! which a backward pass finishes gradients, and owned by the members in turns.

use std::ops::Range;

/// A long vector's segments: small enough that what a peer sent is still in the cache when it is added, and goes out
/// again from there.
const FLOATS_MAX: usize = 64 * 1024;
/// Segments begin at multiples of so many floats: a cache line.
const GRAIN: usize = 16;
/// Segments that each member of a group owns of a vector that is not long, so that there is something to overlap.
const TURNS: usize = 2;

/// The cut of one vector among the members of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segments {
    length: usize,
    floats: usize,
    members: usize,
}

impl Segments {
    pub(crate) fn new(length: usize, members: usize) -> Self {
        let floats = length.div_ceil(members * TURNS).next_multiple_of(GRAIN).clamp(GRAIN, FLOATS_MAX);
        Self { length, floats, members }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.length.div_ceil(self.floats)
    }

    /// Floats of the largest.
    pub(crate) fn floats(&self) -> usize {
        self.floats
    }

    /// Where one lies in the vector.
    pub(crate) fn range(&self, segment: usize) -> Range<usize> {
        let start = (self.count() - 1 - segment) * self.floats;
        start..(start + self.floats).min(self.length)
    }

    /// How many a member owns.
    pub(crate) fn owned(&self, member: usize) -> usize {
        self.owned_before(member, self.count())
    }

    /// How many of them are among the first so many segments of all.
    pub(crate) fn owned_before(&self, member: usize, segments: usize) -> usize {
        (segments + self.members - 1 - member) / self.members
    }

    /// The member's segment of that number, counting from 0.
    pub(crate) fn of(&self, member: usize, number: usize) -> usize {
        member + number * self.members
    }

    /// The member's number of its segment; `None` if another owns it.
    pub(crate) fn number(&self, member: usize, segment: usize) -> Option<usize> {
        (segment < self.count() && segment % self.members == member).then_some(segment / self.members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_cover_the_vector_from_its_end() {
        for length in [0, 1, 15, 16, 17, 1000, FLOATS_MAX, 5 * FLOATS_MAX + 3] {
            for members in 1..9 {
                let segments = Segments::new(length, members);
                let mut end = length;
                for segment in 0..segments.count() {
                    let range = segments.range(segment);
                    assert!(range.end == end && range.start < end && range.start.is_multiple_of(GRAIN));
                    assert!(range.len() <= segments.floats());
                    end = range.start;
                    let owner = segment % members;
                    let number = segments.number(owner, segment).unwrap();
                    assert!(number < segments.owned(owner));
                    assert_eq!(segments.of(owner, number), segment);
                    assert!(members == 1 || segments.number((owner + 1) % members, segment).is_none());
                }
                assert_eq!(end, 0);
                assert_eq!((0..members).map(|m| segments.owned(m)).sum::<usize>(), segments.count());
                assert!(segments.number(0, segments.count()).is_none());
            }
        }
    }
}
