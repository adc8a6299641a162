//! Student's distribution: how probable a t is, and which t has a probability.

/// How often |T| is at least |t| by chance, with `freedom` degrees of freedom (above 0, also broken).
pub(super) fn two_sided(t: f64, freedom: f64) -> f64 {
    incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t))
}

/// The t that |T| reaches with the probability `p`, above 0 and below 1: by bisection.
pub(super) fn critical(p: f64, freedom: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while two_sided(high, freedom) > p && high < 1e12 {
        high *= 2.0;
    }
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        if two_sided(middle, freedom) > p {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The regularised incomplete beta function (Press et al., "Numerical Recipes", 3rd ed. 2007, 6.4).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    let beta = libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b);
    let front = libm::exp(beta + a * libm::log(x) + b * libm::log1p(-x));
    // The fraction converges fast on this side, and the function is symmetric.
    if x < (a + 1.0) / (a + b + 2.0) {
        front * fraction(a, b, x) / a
    } else {
        1.0 - front * fraction(b, a, 1.0 - x) / b
    }
}

/// The continued fraction of it, by Lentz's method.
#[expect(clippy::many_single_char_names, reason = "as in the book")]
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    let off_zero = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / off_zero(1.0 - (a + b) * x / (a + 1.0));
    let mut value = d;
    for step in 1..500_u32 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = value;
        for term in [even, odd] {
            d = 1.0 / off_zero(1.0 + term * d);
            c = off_zero(1.0 + term / c);
            value *= c * d;
        }
        if ((value - before) / value).abs() < 1e-15 {
            break;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_t_of_printed_tables_have_their_probability() {
        // Two-sided 5 % and 1 % of any table.
        for (freedom, five, one) in [
            (1.0, 12.706, 63.657),
            (2.0, 4.303, 9.925),
            (5.0, 2.571, 4.032),
            (10.0, 2.228, 3.169),
            (30.0, 2.042, 2.750),
            (120.0, 1.980, 2.617),
        ] {
            for (p, t) in [(0.05, five), (0.01, one)] {
                let found = critical(p, freedom);
                assert!((found - t).abs() < 0.001, "{freedom}, {p}: {found}");
                assert!((two_sided(t, freedom) - p).abs() < p / 100.0, "{freedom}, {p}");
                assert!((two_sided(-t, freedom) - p).abs() < p / 100.0, "{freedom}, {p}");
            }
        }
    }

    #[test]
    fn no_difference_is_certain_and_a_huge_one_impossible() {
        assert!((two_sided(0.0, 4.0) - 1.0).abs() < 1e-12);
        assert!(two_sided(1e9, 4.0) < 1e-12);
        // Cauchy's distribution, which has a closed form.
        assert!((two_sided(1.0, 1.0) - 0.5).abs() < 1e-12);
    }
}
