//! Draws numbers by weight, in constant time (Walker 1977, as Vose 1991 builds it).

use super::random::Random;

/// Below 2^32 numbers, each with its weight. Eight bytes a number.
pub(super) struct Alias {
    /// Of each number: how much of its column is its own, in 2^-32, and whose the rest is.
    columns: Vec<(u32, u32)>,
}

impl Alias {
    /// `weights` are finite, not negative, not all zero.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "shares of a column are in 0..=1, numbers below 2^32"
    )]
    pub(super) fn new(weights: &[f64]) -> Self {
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        let mut shares: Vec<f64> = weights.iter().map(|weight| weight / mean).collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) =
            (0..weights.len() as u32).partition(|&i| shares[i as usize] < 1.0);
        let mut columns: Vec<(u32, u32)> =
            (0..weights.len() as u32).map(|i| (u32::MAX, i)).collect();
        while let (Some(less), Some(&more)) = (small.pop(), large.last()) {
            let share = shares[less as usize];
            columns[less as usize] = ((share * 4_294_967_296.0) as u32, more);
            shares[more as usize] -= 1.0 - share;
            if shares[more as usize] < 1.0 {
                large.pop();
                small.push(more);
            }
        }
        Self { columns }
    }

    /// One number: the high half of 64 random bits chooses the column, the low half who gets it.
    #[expect(clippy::cast_possible_truncation, reason = "halves")]
    pub(super) fn draw(&self, random: &mut Random) -> u32 {
        let bits = random.bits();
        let column = ((bits >> 32) * self.columns.len() as u64) >> 32;
        let (own, other) = self.columns[column as usize];
        if (bits as u32) < own { column as u32 } else { other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_as_often_as_they_weigh() {
        let weights = [0.0, 1.0, 2.0, 5.0, 8.0];
        let alias = Alias::new(&weights);
        let mut random = Random::new(1);
        let mut counts = [0_u32; 5];
        for _ in 0..160_000 {
            counts[alias.draw(&mut random) as usize] += 1;
        }
        for (weight, count) in weights.iter().zip(counts) {
            let expected = weight * 10_000.0;
            assert!((f64::from(count) - expected).abs() <= 400.0, "{weight}: {count}");
        }
    }
}
