//! Random numbers that are the same on every machine, for ever: golden hashes depend on them.

use rand_pcg::{Pcg64, rand_core::Rng};

/// Chooses the sequence among those of one seed.
const STREAM: u128 = 0xc1b1_9a7e_ed6e_0001;

/// A sequence of random numbers.
#[derive(Clone, Debug)]
pub struct Random(Pcg64);

impl Random {
    /// The sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Pcg64::new(u128::from(seed), STREAM))
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `n`, by the high half of a product; the bias is below n / 2^64.
    pub fn below(&mut self, n: u64) -> u64 {
        let product = u128::from(self.bits()) * u128::from(n);
        u64::try_from(product >> 64).expect("the high half")
    }

    /// A number above 0 and at most 1, in steps of 2^-53.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// A number of the standard normal distribution (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let (length, turn) = (self.unit(), self.unit());
        libm::sqrt(-2.0 * libm::log(length)) * libm::cos(std::f64::consts::TAU * turn)
    }
}
