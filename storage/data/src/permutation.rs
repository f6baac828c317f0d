//! A keyed order of `0..len` that is computed, not stored: the same on every platform, O(1) in memory and time.
//!
//! A Feistel network permutes the smallest power of two that holds `len`; a value that falls outside is sent through
//! again until it is inside (cycle walking: Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002, method
//! 2). The power of two is less than twice `len`, so that two passes are the most to expect; only for `len` below
//! 2^[`BITS_MIN`] it is more. Where the bits are odd, the halves differ by one and take turns (an alternating
//! unbalanced Feistel network, as in NIST SP 800-38G).
//!
//! Round keys are drawn from blake3 in its key-derivation mode over purpose, seed and length. The round function is
//! the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014). This
//! orders training samples; it keeps no secrets.

/// As many rounds as NIST's FF1.
const ROUNDS: usize = 10;

/// Fewer bits would leave the halves of a short network too little to mix.
const BITS_MIN: u32 = 8;

/// A bijection of `0..len`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Permutation {
    len: u64,
    /// Width of the half that is mixed in even rounds.
    low_bits: u32,
    /// Width of the half that is mixed in odd rounds: `low_bits` or one less.
    high_bits: u32,
    keys: [u64; ROUNDS],
}

impl Permutation {
    /// The order that belongs to this purpose (so that equal seeds for two purposes give unrelated orders), this
    /// seed of any number of parts, and this length.
    ///
    /// # Panics
    /// When `len` is above 2^63.
    #[must_use]
    pub fn new(purpose: &str, seed: &[u64], len: u64) -> Self {
        assert!(len <= 1 << 63, "a permutation of {len} items");
        let bits = (u64::BITS - len.saturating_sub(1).leading_zeros()).max(BITS_MIN);
        let mut hasher = blake3::Hasher::new_derive_key("trainctl permutation v1");
        hasher.update(&(purpose.len() as u64).to_le_bytes()).update(purpose.as_bytes());
        for part in seed {
            hasher.update(&part.to_le_bytes());
        }
        hasher.update(&len.to_le_bytes());
        let mut stream = hasher.finalize_xof();
        let keys = std::array::from_fn(|_| {
            let mut key = [0; 8];
            stream.fill(&mut key);
            u64::from_le_bytes(key)
        });
        Self { len, low_bits: bits.div_ceil(2), high_bits: bits / 2, keys }
    }

    /// How many items it orders.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing to order.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The item at `position`.
    ///
    /// # Panics
    /// When `position` is not below `len`.
    #[must_use]
    pub fn at(&self, position: u64) -> u64 {
        assert!(position < self.len, "position {position} of {}", self.len);
        let mut value = position;
        loop {
            value = self.pass(value);
            // Ends: the network is a bijection, so the walk is a cycle that comes back to `position` at the latest.
            if value < self.len {
                return value;
            }
        }
    }

    /// Once through the network, over the whole power of two.
    fn pass(&self, value: u64) -> u64 {
        let (low_mask, high_mask) = ((1 << self.low_bits) - 1, (1 << self.high_bits) - 1);
        let (mut low, mut high) = (value & low_mask, value >> self.low_bits);
        for pair in self.keys.chunks_exact(2) {
            low ^= mix(high.wrapping_add(pair[0])) & low_mask;
            high ^= mix(low.wrapping_add(pair[1])) & high_mask;
        }
        high << self.low_bits | low
    }
}

/// The finaliser of SplitMix64.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn order(seed: &[u64], len: u64) -> Vec<u64> {
        let permutation = Permutation::new("test", seed, len);
        (0..len).map(|position| permutation.at(position)).collect()
    }

    fn assert_bijection(seed: &[u64], len: u64) {
        let mut sorted = order(seed, len);
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..len), "seed {seed:?}, length {len}");
    }

    #[test]
    fn every_short_length_is_a_bijection() {
        for len in 0..=1100 {
            assert_bijection(&[len, 7], len);
        }
    }

    #[test]
    fn powers_of_two_their_neighbours_and_primes_are_bijections() {
        for len in [4095, 4096, 4097, 65_535, 65_536, 65_537, 99_991, 131_071] {
            assert_bijection(&[3], len);
        }
    }

    /// Fails when an edit changes the order that existing runs were trained in.
    #[test]
    fn the_order_is_part_of_the_format() {
        assert_eq!(order(&[7, 0], 10), EXPECTED_10);
        let long = Permutation::new("test", &[7, 0], 1 << 40);
        assert_eq!([0, 1, 2].map(|position| long.at(position)), EXPECTED_2_40);
    }

    const EXPECTED_10: [u64; 10] = [9, 8, 7, 4, 1, 5, 6, 0, 3, 2];
    const EXPECTED_2_40: [u64; 3] = [952_858_050_201, 301_054_268_844, 930_719_443_366];

    #[test]
    fn all_orders_of_four_items_are_about_equally_frequent() {
        let keys = 24_000_u64;
        let mut seen: HashMap<Vec<u64>, u64> = HashMap::new();
        for seed in 0..keys {
            *seen.entry(order(&[seed], 4)).or_default() += 1;
        }
        assert_eq!(seen.len(), 24);
        // 1000 expected of each, standard deviation 31: six of them either way.
        assert!(seen.values().all(|&count| (814..=1186).contains(&count)), "{seen:?}");
    }

    #[test]
    fn neighbours_are_torn_apart() {
        let items = order(&[1], 10_000);
        let close = items.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 100).count();
        // A random order has 2 % of them: 199 expected, standard deviation 14.
        assert!((115..=283).contains(&close), "{close}");
    }

    #[test]
    fn purpose_seed_and_length_all_matter() {
        let at = |purpose: &str, seed: &[u64], len| {
            let permutation = Permutation::new(purpose, seed, len);
            (0..64).map(|position| permutation.at(position)).collect::<Vec<_>>()
        };
        let base = at("a", &[1, 2], 1000);
        for other in [at("b", &[1, 2], 1000), at("a", &[2, 2], 1000), at("a", &[1, 3], 1000), at("a", &[1, 2], 1001)] {
            assert_ne!(base, other);
        }
    }

    proptest! {
        #[test]
        fn any_length_is_a_bijection(seed: u64, len in 1_u64..20_000) {
            assert_bijection(&[seed], len);
        }

        #[test]
        fn the_network_is_a_bijection_at_any_width(seed: u64, bits in 1_u32..63, value: u64) {
            let permutation = Permutation::new("test", &[seed], (1 << bits) + 1);
            let domain = 1_u64 << (permutation.low_bits + permutation.high_bits);
            let passed = permutation.pass(value % domain);
            prop_assert!(passed < domain);
            // Undone round by round: what can be undone loses nothing.
            let (low_mask, high_mask) = ((1 << permutation.low_bits) - 1, (1 << permutation.high_bits) - 1);
            let (mut low, mut high) = (passed & low_mask, passed >> permutation.low_bits);
            for pair in permutation.keys.chunks_exact(2).rev() {
                high ^= mix(low.wrapping_add(pair[1])) & high_mask;
                low ^= mix(high.wrapping_add(pair[0])) & low_mask;
            }
            prop_assert_eq!(high << permutation.low_bits | low, value % domain);
        }

        #[test]
        fn huge_lengths_stay_inside(seed: u64, len in 1_u64..=1 << 63, position: u64) {
            prop_assert!(Permutation::new("test", &[seed], len).at(position % len) < len);
        }
    }
}
