//! Random numbers as pure functions of what they are for. Parameters start from streams made here, in plain
//! arithmetic, so that they depend neither on libtorch's generator nor on the CPU; libtorch draws dropout itself, from
//! a seed made here.

/// What a seed is for, so that no two uses share a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// The first value of a tensor.
    Initial = 1,
    /// Dropout in one shard of one step.
    Dropout = 2,
    /// The fixed inputs of the fingerprint.
    Fingerprint = 3,
    /// Which logical shard of a step is computed a second time.
    Audit = 4,
}

/// The output function of SplitMix64 (Steele, Lea and Flood, 2014).
fn finalize(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// One seed from the job's and from where it is used.
pub(crate) fn mix(seed: u64, purpose: Purpose, a: u64, b: u64) -> u64 {
    [purpose as u64, a, b].into_iter().fold(finalize(seed.wrapping_add(GOLDEN_GAMMA)), |hash, word| {
        finalize(hash.wrapping_add(GOLDEN_GAMMA) ^ finalize(word.wrapping_add(GOLDEN_GAMMA)))
    })
}

/// A SplitMix64 stream.
pub(crate) struct Stream {
    at: u64,
}

impl Stream {
    pub(crate) fn new(seed: u64) -> Self {
        Self { at: seed }
    }

    fn next(&mut self) -> u64 {
        self.at = self.at.wrapping_add(GOLDEN_GAMMA);
        finalize(self.at)
    }

    /// Uniform in [0, 1), 53 bits.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Standard normal (Box and Muller, 1958; one of the pair). `libm`, because the system's own differs between
    /// machines.
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * libm::log(1.0 - self.uniform())).sqrt();
        radius * libm::cos(std::f64::consts::TAU * self.uniform())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn seeds_differ_wherever_an_input_does() {
        let mut seen = BTreeSet::new();
        for seed in 0..4 {
            for purpose in [Purpose::Initial, Purpose::Dropout, Purpose::Fingerprint] {
                for a in 0..8 {
                    for b in 0..8 {
                        assert!(seen.insert(mix(seed, purpose, a, b)), "{seed} {purpose:?} {a} {b} repeats a seed");
                    }
                }
            }
        }
    }

    #[test]
    fn the_streams_have_the_moments_of_their_distributions() {
        let mut stream = Stream::new(1);
        let n = 100_000;
        let uniform: Vec<f64> = (0..n).map(|_| stream.uniform()).collect();
        let normal: Vec<f64> = (0..n).map(|_| stream.normal()).collect();
        let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
        let variance = |x: &[f64]| x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64 - mean(x) * mean(x);
        assert!((mean(&uniform) - 0.5).abs() < 0.005 && (variance(&uniform) - 1.0 / 12.0).abs() < 0.002);
        assert!(mean(&normal).abs() < 0.02 && (variance(&normal) - 1.0).abs() < 0.02);
    }

    #[test]
    fn the_first_values_never_change() {
        // Old runs could not be reproduced if they did.
        assert_eq!(mix(7, Purpose::Initial, 0, 0), FIRST_SEED);
        assert_eq!(Stream::new(0).next(), 0xE220_A839_7B1D_CDAF);
    }

    const FIRST_SEED: u64 = 0xAC7B_BF29_5B8D_4CB3;
}
