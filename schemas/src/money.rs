//! Money as Stripe counts it: whole minor units in 64 bits, and a currency. Never a float.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An ISO 4217 code in lower case, as Stripe writes it: `usd`, `eur`, `jpy`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Currency(String);

impl Currency {
    /// Takes a code in any case.
    pub fn new(code: &str) -> Self {
        Self(code.to_ascii_lowercase())
    }

    /// The code in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How many decimal places the minor unit has (<https://docs.stripe.com/currencies>).
    pub fn decimals(&self) -> u32 {
        match self.0.as_str() {
            "bif" | "clp" | "djf" | "gnf" | "jpy" | "kmf" | "krw" | "mga" | "pyg" | "rwf" | "ugx" | "vnd" | "vuv"
            | "xaf" | "xof" | "xpf" => 0,
            "bhd" | "jod" | "kwd" | "omr" | "tnd" => 3,
            _ => 2,
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An amount in the currency's minor unit. `Display` writes it for people: `49.00 EUR`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Money {
    /// Cents, yen, fils: whatever the smallest unit is.
    pub amount_minor: i64,
    /// The currency the amount is in.
    pub currency: Currency,
}

impl Money {
    /// `amount_minor` of `currency`.
    pub fn new(amount_minor: i64, currency: Currency) -> Self {
        Self { amount_minor, currency }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.currency.0.to_ascii_uppercase();
        let decimals = self.currency.decimals();
        let unit = 10_u64.pow(decimals);
        let sign = if self.amount_minor < 0 { "-" } else { "" };
        let amount = self.amount_minor.unsigned_abs();
        match decimals {
            0 => write!(f, "{sign}{amount} {code}"),
            _ => write!(f, "{sign}{}.{:0width$} {code}", amount / unit, amount % unit, width = decimals as usize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_major_units() {
        let text = |minor, code| Money::new(minor, Currency::new(code)).to_string();
        assert_eq!(text(4900, "EUR"), "49.00 EUR");
        assert_eq!(text(-5, "usd"), "-0.05 USD");
        assert_eq!(text(4900, "jpy"), "4900 JPY");
        assert_eq!(text(1500, "kwd"), "1.500 KWD");
    }
}
