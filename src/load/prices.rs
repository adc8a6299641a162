//! What a target costs: a file of TOML, as prices change and nobody else knows them.

use serde::Deserialize;

/// Prices. Either all of the target by the hour, or by the core.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// Where they come from, and when.
    pub source: String,
    /// All of the target, in US dollars an hour.
    hour: Option<f64>,
    /// A virtual CPU of the target, in US dollars an hour.
    vcpu_hour: Option<f64>,
    /// How many it has; the cores of the driver's machine, if nothing is said.
    vcpus: Option<f64>,
}

impl Prices {
    /// Reads prices.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(text: &str) -> Result<Self, String> {
        let prices: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        let sound = |price: Option<f64>| price.is_none_or(|p| p.is_finite() && p > 0.0);
        if !sound(prices.hour) || !sound(prices.vcpu_hour) || !sound(prices.vcpus) {
            return Err("a price or a count is not above 0".to_owned());
        }
        if prices.hour.is_some() == prices.vcpu_hour.is_some() {
            return Err("it needs either `hour` or `vcpu_hour`".to_owned());
        }
        if prices.vcpus.is_some() && prices.hour.is_some() {
            return Err("`vcpus` goes with `vcpu_hour`".to_owned());
        }
        if prices.source.trim().is_empty() {
            return Err("`source` says where prices come from, and when".to_owned());
        }
        Ok(prices)
    }

    /// What all of a target costs an hour, on a machine of `cores`.
    #[must_use]
    pub fn hour(&self, cores: usize) -> f64 {
        let by_core = self.vcpu_hour.unwrap_or(0.0) * self.vcpus.unwrap_or(cores as f64);
        self.hour.unwrap_or(by_core)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_of_all_or_of_a_core() {
        let hour = |text: &str| Prices::parse(text).map(|prices| prices.hour(4));
        assert_eq!(hour("source = \"s\"\nhour = 1.5"), Ok(1.5));
        assert_eq!(hour("source = \"s\"\nvcpu_hour = 0.5"), Ok(2.0));
        assert_eq!(hour("source = \"s\"\nvcpu_hour = 0.5\nvcpus = 16"), Ok(8.0));
    }

    #[test]
    fn what_is_wrong_with_prices_is_said() {
        for (text, wanted) in [
            ("hour = 1", "missing field `source`"),
            ("source = \" \"\nhour = 1", "says where"),
            ("source = \"s\"", "either"),
            ("source = \"s\"\nhour = 1\nvcpu_hour = 1", "either"),
            ("source = \"s\"\nhour = 1\nvcpus = 1", "goes with"),
            ("source = \"s\"\nhour = -1", "not above 0"),
            ("source = \"s\"\nhour = 1\nday = 1", "unknown field"),
        ] {
            let error = Prices::parse(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
