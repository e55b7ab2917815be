//! How a stand-in misbehaves: a script, a seeded mix, and habits.
//!
//! `PUT /control/faults` replaces all of it with a body such as
//!
//! ```json
//! {"script": [{"operation": "create", "count": 1, "fault": {"kind": "commit_then_drop"}},
//!             {"operation": "any", "about": "pro", "fault": {"kind": "fail", "status": 422}}],
//!  "mix": {"seed": 7, "faults": [{"operation": "create", "probability": 0.2, "fault": {"kind": "commit_then_hang"}},
//!                                {"operation": "any", "probability": 0.1, "fault": {"kind": "fail", "status": 503}}]},
//!  "search_lag_ms": 500}
//! ```
//!
//! The first rule of the script that fits a call and is not used up decides it; the mix is rolled only when none fits.
//! Faults are kept in memory: a restarted stub behaves well until told otherwise.

use serde::{Deserialize, Serialize};

/// In a rule: every call.
pub const ANY: &str = "any";

fn covers(rule: &str, operation: &str) -> bool {
    rule == ANY || rule == operation
}

/// One way to misbehave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Does it, then never answers.
    CommitThenHang,
    /// Does it, then closes the connection: the reply is lost.
    CommitThenDrop,
    /// Does it, then answers with an error.
    CommitThenFail {
        /// 400 to 599.
        status: u16,
    },
    /// Does it, then answers success with half a body.
    CommitThenGarble,
    /// Does nothing and closes the connection. To the caller this looks like `commit_then_drop`.
    Drop,
    /// Does nothing and answers with an error: 500, 503, 429, 401 …
    Fail {
        /// 400 to 599.
        status: u16,
        /// Sent as `Retry-After`.
        #[serde(default)]
        retry_after_s: Option<u64>,
    },
    /// Waits, then does it and answers; it is done even if the caller has left by then.
    Slow {
        /// How long.
        delay_ms: u64,
    },
}

impl Fault {
    /// Its name, as in JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::CommitThenHang => "commit_then_hang",
            Self::CommitThenDrop => "commit_then_drop",
            Self::CommitThenFail { .. } => "commit_then_fail",
            Self::CommitThenGarble => "commit_then_garble",
            Self::Drop => "drop",
            Self::Fail { .. } => "fail",
            Self::Slow { .. } => "slow",
        }
    }

    fn check(&self) -> Result<(), BadFaults> {
        match self {
            Self::CommitThenFail { status } | Self::Fail { status, .. } if !(400..=599).contains(status) => {
                Err(BadFaults::Status(*status))
            }
            _ => Ok(()),
        }
    }
}

/// A rule of the script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which calls: an operation of the server's, or `any`.
    pub operation: String,
    /// Only those about this: a product, an id, whatever the server says its calls are about.
    #[serde(default)]
    pub about: Option<String>,
    /// How many calls are left for it; `None` for all.
    #[serde(default)]
    pub count: Option<u32>,
    /// What happens to them.
    pub fault: Fault,
}

/// Random faults that are the same for the same seed and order of calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mix {
    /// Where the sequence starts.
    pub seed: u64,
    /// Of those that fit a call at most one happens, each with its probability.
    pub faults: Vec<Chance>,
}

/// A fault of the mix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chance {
    /// Which calls: an operation of the server's, or `any`.
    pub operation: String,
    /// 0 to 1; those that fit one operation add up to at most 1.
    pub probability: f64,
    /// What happens to them.
    pub fault: Fault,
}

/// Everything that can be asked for. The default is good behavior.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// Tried in order.
    pub script: Vec<Rule>,
    /// Rolled when the script has nothing.
    pub mix: Option<Mix>,
    /// How long what is new stays invisible to searches, in milliseconds. By its id it can be read at once.
    pub search_lag_ms: u64,
}

/// Faults that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BadFaults {
    /// Not an error status.
    #[error("status {0} is not from 400 to 599")]
    Status(u16),
    /// Not a probability.
    #[error("probability {0} is not from 0 to 1")]
    Probability(f64),
    /// More than always.
    #[error("the probabilities of `{operation}` add up to {sum}, which is above 1")]
    Sum {
        /// Of these calls.
        operation: String,
        /// What they add up to.
        sum: f64,
    },
}

impl Faults {
    /// Checks what the types cannot.
    ///
    /// # Errors
    ///
    /// [`BadFaults`] names the first value that cannot be.
    pub fn check(&self) -> Result<(), BadFaults> {
        for rule in &self.script {
            rule.fault.check()?;
        }
        let chances = self.mix.as_ref().map_or(&[][..], |mix| &mix.faults);
        for chance in chances {
            chance.fault.check()?;
            if !(0.0..=1.0).contains(&chance.probability) {
                return Err(BadFaults::Probability(chance.probability));
            }
        }
        for operation in chances.iter().map(|chance| &chance.operation) {
            let fitting = chances.iter().filter(|chance| covers(&chance.operation, operation));
            let sum: f64 = fitting.map(|chance| chance.probability).sum();
            // Decimal fractions such as 0.1 do not add up exactly.
            if sum > 1.0 + 1e-9 {
                return Err(BadFaults::Sum { operation: operation.clone(), sum });
            }
        }
        Ok(())
    }

    /// What happens to the next call. Uses up the script and moves the mix on.
    pub(crate) fn draw(&mut self, operation: &str, about: Option<&str>) -> Option<Fault> {
        let fits = |rule: &&mut Rule| {
            covers(&rule.operation, operation)
                && rule.count != Some(0)
                && rule.about.as_deref().is_none_or(|wanted| Some(wanted) == about)
        };
        if let Some(rule) = self.script.iter_mut().find(fits) {
            rule.count = rule.count.map(|left| left - 1);
            return Some(rule.fault.clone());
        }
        self.mix.as_mut()?.roll(operation)
    }
}

impl Mix {
    fn roll(&mut self, operation: &str) -> Option<Fault> {
        let mut rest = self.next_fraction();
        for chance in self.faults.iter().filter(|chance| covers(&chance.operation, operation)) {
            if rest < chance.probability {
                return Some(chance.fault.clone());
            }
            rest -= chance.probability;
        }
        None
    }

    /// The next number from 0 to below 1: `SplitMix64`, with the seed as its state.
    fn next_fraction(&mut self) -> f64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
        let fraction = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
        fraction
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(status: u16) -> Fault {
        Fault::Fail { status, retry_after_s: None }
    }

    fn rule(operation: &str, count: Option<u32>, fault: Fault) -> Rule {
        Rule { operation: operation.to_owned(), about: None, count, fault }
    }

    fn chance(operation: &str, probability: f64, fault: Fault) -> Chance {
        Chance { operation: operation.to_owned(), probability, fault }
    }

    #[test]
    fn rules_are_used_in_order_and_used_up() {
        let mut faults = Faults {
            script: vec![rule("create", Some(1), Fault::CommitThenDrop), rule("any", Some(1), fail(503))],
            ..Faults::default()
        };
        assert_eq!(faults.draw("create", None), Some(Fault::CommitThenDrop));
        assert_eq!(faults.draw("create", None), Some(fail(503)));
        assert_eq!(faults.draw("create", None), None);
    }

    #[test]
    fn a_rule_for_a_product_leaves_others_alone() {
        let rule = Rule { about: Some("pro".to_owned()), ..rule("create", None, fail(500)) };
        let mut faults = Faults { script: vec![rule], ..Faults::default() };
        assert_eq!(faults.draw("create", Some("basic")), None);
        assert_eq!(faults.draw("find", None), None);
        for _ in 0..3 {
            assert_eq!(faults.draw("create", Some("pro")), Some(fail(500)));
        }
    }

    #[test]
    fn a_mix_is_the_same_for_the_same_seed_and_near_its_probabilities() {
        let mix = Mix { seed: 7, faults: vec![chance("create", 0.2, Fault::Drop), chance("any", 0.3, fail(503))] };
        let draw = |mut faults: Faults| -> Vec<_> { (0..2000).map(|_| faults.draw("create", None)).collect() };
        let faults = Faults { mix: Some(mix), ..Faults::default() };
        let drawn = draw(faults.clone());
        assert_eq!(drawn, draw(faults));
        let count = |fault: &Option<Fault>| drawn.iter().filter(|drawn| *drawn == fault).count();
        assert!((340..=460).contains(&count(&Some(Fault::Drop))), "{}", count(&Some(Fault::Drop)));
        assert!((520..=680).contains(&count(&Some(fail(503)))), "{}", count(&Some(fail(503))));
    }

    #[test]
    fn impossible_faults_are_refused() {
        let mix = |faults| Faults { mix: Some(Mix { seed: 1, faults }), ..Faults::default() };
        let script = Faults { script: vec![rule("any", None, fail(200))], ..Faults::default() };
        assert_eq!(script.check(), Err(BadFaults::Status(200)));
        assert_eq!(mix(vec![chance("any", 1.5, fail(500))]).check(), Err(BadFaults::Probability(1.5)));
        assert!(mix(vec![chance("any", f64::NAN, fail(500))]).check().is_err());
        let twice = vec![chance("any", 0.6, fail(500)), chance("create", 0.6, fail(500))];
        assert!(matches!(mix(twice).check(), Err(BadFaults::Sum { .. })));
        let apart = vec![chance("find", 0.6, fail(500)), chance("create", 0.6, fail(500))];
        assert_eq!(mix(apart).check(), Ok(()));
    }

    #[test]
    fn the_documented_script_is_read() {
        let text = r#"{"script": [{"operation": "create", "count": 1, "fault": {"kind": "commit_then_drop"}},
            {"operation": "any", "about": "pro", "fault": {"kind": "fail", "status": 422}}],
            "mix": {"seed": 7, "faults": [{"operation": "create", "probability": 0.2, "fault": {"kind": "commit_then_hang"}},
                                          {"operation": "any", "probability": 0.1, "fault": {"kind": "fail", "status": 503}}]},
            "search_lag_ms": 500}"#;
        let faults: Faults = serde_json::from_str(text).unwrap();
        assert_eq!(faults.check(), Ok(()));
        assert_eq!(faults.script[0].fault, Fault::CommitThenDrop);
        assert!(serde_json::from_str::<Faults>(r#"{"scripts": []}"#).is_err());
    }
}
