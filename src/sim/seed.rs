//! The one number that a simulated run follows from, and the random streams made of it.

use rand_pcg::Pcg64;

/// The number that a run follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// The random stream `name`, number `index` (a node, a client). Streams do not depend on each
    /// other: using one more, or one less, changes none of the others.
    #[must_use]
    pub fn stream(&self, name: &str, index: u64) -> Pcg64 {
        let mut state = mix(self.0 ^ 0x9E37_79B9_7F4A_7C15);
        for byte in name.bytes() {
            state = mix(state ^ u64::from(byte));
        }
        let mut next = || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            u128::from(mix(state ^ index.rotate_left(32)))
        };
        let (a, b, c, d) = (next(), next(), next(), next());
        Pcg64::new((a << 64) | b, (c << 64) | d)
    }
}

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014): every input bit moves half the output's.
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::Rng as _;

    use super::*;

    #[test]
    fn a_stream_is_the_same_each_time_and_differs_from_all_others() {
        let first = |seed, name, index| Seed(seed).stream(name, index).next_u64();
        assert_eq!(first(7, "bus/delay", 3), first(7, "bus/delay", 3));
        let mut seen = BTreeSet::new();
        for seed in 0..10 {
            for name in ["", "a", "b", "ab", "ba"] {
                for index in 0..10 {
                    assert!(seen.insert(first(seed, name, index)), "{seed} {name} {index}");
                }
            }
        }
    }
}
