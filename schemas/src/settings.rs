//! Settings that decide, as they stand in the log: catalog, policy, sources and configured providers. No secrets.
//!
//! When they differ from the last recorded ones, start-up appends `settings.changed`; folds read them from the log
//! only, so that a replay decides what was decided then.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp, tz::TimeZone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{Mode, PriceId, ProductId, ProviderName, SourceName};

/// Everything that decisions are made with, apart from facts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DecidingSettings {
    /// The rules.
    #[serde(default, deserialize_with = "lenient::policy")]
    pub policy: Policy,
    /// What is sold, in order: the first match wins.
    #[serde(default, deserialize_with = "lenient::catalog")]
    pub catalog: Vec<CatalogEntry>,
    /// The sources and the one mode that each issues in.
    #[serde(default)]
    pub sources: BTreeMap<SourceName, SourceSettings>,
    /// The license engines that are configured and so may be called.
    #[serde(default)]
    pub providers: BTreeSet<ProviderName>,
}

impl DecidingSettings {
    /// Whether purchases of this source and mode get licenses. Those of the other mode are kept and shown.
    pub fn issues(&self, source: &SourceName, mode: Mode) -> bool {
        self.sources.get(source).is_some_and(|settings| settings.mode == mode)
    }
}

/// What decides about a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceSettings {
    /// The mode that issues.
    pub mode: Mode,
}

/// The rules of design §5, each with its default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// How long a license works beyond what is paid. Default `3d`. Zero only when written so.
    pub grace: Grace,
    /// What a trial gets. Default `issue`: a license to the trial's end.
    pub trial: TrialPolicy,
    /// When no paid period is left after refunds. Default `revoke`.
    pub refund_full: MoneyGone,
    /// When a dispute is lost. Default `revoke`: the money counts as refunded.
    pub dispute_lost: MoneyGone,
    /// While a dispute is open. Default `suspend`.
    pub dispute_open: StopOrKeep,
    /// While the subscription is `paused`. Default `suspend`.
    pub paused: StopOrKeep,
    /// While the subscription is `unpaid`. Default `suspend`.
    pub unpaid: StopOrKeep,
    /// When the subscription is set to end with its period. Default `paid_until`: no grace then.
    pub cancel_scheduled: CancelPolicy,
    /// When the subscription has ended. Default `ended_at`: never beyond that moment.
    pub ended: EndedPolicy,
    /// A sale that another system left marked as charged without a key (`skm_temp_var`). Default `issue`.
    pub left_by_other_system: LeftPolicy,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            grace: Grace::days(3),
            trial: TrialPolicy::default(),
            refund_full: MoneyGone::default(),
            dispute_lost: MoneyGone::default(),
            dispute_open: StopOrKeep::default(),
            paused: StopOrKeep::default(),
            unpaid: StopOrKeep::default(),
            cancel_scheduled: CancelPolicy::default(),
            ended: EndedPolicy::default(),
            left_by_other_system: LeftPolicy::default(),
        }
    }
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $(#[$first_doc:meta])* $first:ident, $($(#[$vdoc:meta])* $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $(#[$first_doc])*
            #[default]
            $first,
            $($(#[$vdoc])* $variant,)*
        }
    };
}

choice! {
    /// What a trial gets.
    TrialPolicy {
        /// A license to the trial's end.
        Issue,
        /// Nothing until money comes.
        Ignore,
    }
}

choice! {
    /// What happens when the money for a license is gone.
    MoneyGone {
        /// The period no longer counts; with none left the license is revoked.
        Revoke,
        /// The period counts all the same.
        Keep,
    }
}

choice! {
    /// Whether a state of the purchase stops its licenses.
    StopOrKeep {
        /// Suspended for as long as it lasts.
        Suspend,
        /// Left alone.
        Keep,
    }
}

choice! {
    /// How long a license lives that is set to end with its period.
    CancelPolicy {
        /// To paid-until, without grace.
        PaidUntil,
        /// To paid-until plus grace.
        Grace,
    }
}

choice! {
    /// How long a license lives when its subscription has ended.
    EndedPolicy {
        /// Never beyond the moment it ended.
        EndedAt,
        /// To paid-until, as if it had run on.
        PaidUntil,
    }
}

choice! {
    /// What to do with a sale that another system left without a key.
    LeftPolicy {
        /// Issue the license that was paid for.
        Issue,
        /// Open a case and leave it to a person.
        Case,
    }
}

/// A length of time in whole seconds, written like `3d`, `36h` or `0s`. A day is 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Grace(i64);

/// Text that is not a length of time of 0 to 10 years.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a length of time such as 3d, 36h or 0s (at most 3660d)")]
pub struct BadGrace(String);

impl Grace {
    /// `days` times 24 hours.
    pub fn days(days: u32) -> Self {
        Self(i64::from(days) * 86_400)
    }

    /// As seconds.
    pub fn seconds(self) -> i64 {
        self.0
    }

    /// `at` plus this, not beyond the end of time.
    pub fn after(self, at: Timestamp) -> Timestamp {
        at.saturating_add(SignedDuration::from_secs(self.0)).unwrap_or(Timestamp::MAX)
    }
}

impl FromStr for Grace {
    type Err = BadGrace;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadGrace(text.to_owned());
        let span: Span = text.parse().map_err(|_| bad())?;
        let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| bad())?;
        let seconds = length.as_secs();
        if (0..=3660 * 86_400).contains(&seconds) && length.subsec_nanos() == 0 {
            Ok(Self(seconds))
        } else {
            Err(bad())
        }
    }
}

impl TryFrom<String> for Grace {
    type Error = BadGrace;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Grace> for String {
    fn from(grace: Grace) -> Self {
        grace.to_string()
    }
}

impl fmt::Display for Grace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            seconds if seconds != 0 && seconds % 86_400 == 0 => write!(f, "{}d", seconds / 86_400),
            seconds if seconds != 0 && seconds % 3_600 == 0 => write!(f, "{}h", seconds / 3_600),
            seconds => write!(f, "{seconds}s"),
        }
    }
}

/// One entry of `[[catalog]]`: what a price or product of Stripe's means at a license engine.
/// With neither price nor product it is the default entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CatalogEntry {
    /// Matches this Stripe price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<PriceId>,
    /// Matches every price of this Stripe product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe_product: Option<ProductId>,
    /// The license engine. Default `builtin`.
    #[serde(default = "builtin")]
    pub provider: ProviderName,
    /// The engine's product; `prod_…` in an entry without a price matches Stripe's product instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// How many seats each license has. Default `"quantity"`, what was bought; 1 where `units = "quantity"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seats: Option<Count>,
    /// How many licenses. Default 1; `"quantity"` makes one for each that was bought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<Count>,
    /// How long one payment lasts. Default `"subscription"`: its period, and for one-off sales for ever.
    #[serde(default)]
    pub term: Term,
    /// Feature names.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub features: BTreeSet<String>,
    /// Grace for this entry. Default: the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Grace>,
    /// It sells no license here: no unit, no case.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip: bool,
    /// It sells no license of its own, but adds its features, and its seats where `seats` is written, to the license of this
    /// engine's product in the same purchase, for as long as it is paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addon_of: Option<String>,
    /// The greatest release that the license allows, e.g. `2.4`, at engines that know releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_release: Option<String>,
    /// What only the engine understands, e.g. a template.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// The provider of an entry that names none.
fn builtin() -> ProviderName {
    ProviderName::from("builtin")
}

impl CatalogEntry {
    /// Whether it matches everything that nothing else matched.
    pub fn is_default(&self) -> bool {
        self.price.is_none() && self.matched_product().is_none()
    }

    /// Stripe's product that this entry matches. Settings have one key `product` for Stripe's (`prod_…`, where no price
    /// is given) and for the engine's; this tells them apart.
    pub fn matched_product(&self) -> Option<&str> {
        if let Some(product) = &self.stripe_product {
            return Some(product.as_str());
        }
        self.product.as_deref().filter(|product| self.price.is_none() && product.starts_with("prod_"))
    }

    /// The engine's product: as written, else `default`.
    pub fn provider_product(&self) -> &str {
        match &self.product {
            Some(product) => product,
            None => "default",
        }
    }
}

/// A fixed number, or what was bought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "CountText", into = "CountText")]
#[schemars(with = "CountText")]
pub enum Count {
    /// The quantity bought.
    Quantity,
    /// This many, at least 1.
    Fixed(u32),
}

/// How a [`Count`] is written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum CountText {
    Number(u32),
    Word(String),
}

impl TryFrom<CountText> for Count {
    type Error = String;

    fn try_from(text: CountText) -> Result<Self, Self::Error> {
        match text {
            CountText::Number(0) => Err("0 is not a number of seats or units; leave the entry out instead".to_owned()),
            CountText::Number(number) => Ok(Self::Fixed(number)),
            CountText::Word(word) if word == "quantity" => Ok(Self::Quantity),
            CountText::Word(word) => Err(format!("`{word}` is neither \"quantity\" nor a number from 1")),
        }
    }
}

impl From<Count> for CountText {
    fn from(count: Count) -> Self {
        match count {
            Count::Quantity => Self::Word("quantity".to_owned()),
            Count::Fixed(number) => Self::Number(number),
        }
    }
}

/// How long one payment lasts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Term {
    /// The period that was paid; for ever where the sale has no period.
    #[default]
    Subscription,
    /// For ever.
    Perpetual,
    /// This long from the start of the paid period, in calendar units, e.g. `P1Y`.
    Lasting(Iso8601),
}

/// An ISO 8601 duration as it was written, known to be valid and positive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Iso8601(String);

/// Text that is not a term.
#[derive(Debug, thiserror::Error)]
#[error("term `{0}` is neither \"subscription\", \"perpetual\" nor an ISO 8601 duration such as P1Y")]
pub struct BadTerm(String);

impl Term {
    /// The end of a payment for `start` to `end`; `None` is for ever.
    pub fn end(&self, start: Timestamp, end: Option<Timestamp>) -> Option<Timestamp> {
        match self {
            Self::Subscription => end,
            Self::Perpetual => None,
            Self::Lasting(length) => Some(length.after(start)),
        }
    }
}

impl Iso8601 {
    /// `start` plus the duration by the UTC calendar, not beyond the end of time.
    fn after(&self, start: Timestamp) -> Timestamp {
        let span: Span = self.0.parse().unwrap_or_default();
        start.to_zoned(TimeZone::UTC).checked_add(span).map_or(Timestamp::MAX, |end| end.timestamp())
    }
}

impl TryFrom<String> for Term {
    type Error = BadTerm;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "subscription" => return Ok(Self::Subscription),
            "perpetual" => return Ok(Self::Perpetual),
            _ => {}
        }
        let positive = text.parse::<Span>().is_ok_and(Span::is_positive);
        if text.starts_with('P') && positive { Ok(Self::Lasting(Iso8601(text))) } else { Err(BadTerm(text)) }
    }
}

impl From<Term> for String {
    fn from(term: Term) -> Self {
        match term {
            Term::Subscription => "subscription".to_owned(),
            Term::Perpetual => "perpetual".to_owned(),
            Term::Lasting(Iso8601(text)) => text,
        }
    }
}

/// Reads recorded settings of other builds: what this one does not know has no effect. Files are read strictly instead, where
/// an unknown key is a typing error.
mod lenient {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer};
    use serde_json::{Map, Value};

    use super::{CatalogEntry, Policy};

    /// The keys of a catalog entry.
    const ENTRY: [&str; 13] = [
        "price",
        "stripe_product",
        "provider",
        "product",
        "seats",
        "units",
        "term",
        "features",
        "grace",
        "skip",
        "addon_of",
        "max_release",
        "options",
    ];

    pub fn policy<'de, D: Deserializer<'de>>(from: D) -> Result<Policy, D::Error> {
        let mut object = Map::deserialize(from)?;
        let known = serde_json::to_value(Policy::default()).unwrap_or_default();
        object.retain(|key, _| known.get(key).is_some());
        serde_json::from_value(Value::Object(object)).map_err(D::Error::custom)
    }

    pub fn catalog<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<CatalogEntry>, D::Error> {
        let entries = Vec::<Map<String, Value>>::deserialize(from)?;
        let known = entries.into_iter().map(|mut entry| {
            entry.retain(|key, _| ENTRY.contains(&key.as_str()));
            serde_json::from_value(Value::Object(entry)).map_err(D::Error::custom)
        });
        known.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_settings_of_a_newer_build_are_read_without_what_is_new() {
        let recorded = r#"{"policy": {"grace": "1d", "future": 1}, "catalog": [{"price": "price_1", "future": 2}]}"#;
        let settings: DecidingSettings = serde_json::from_str(recorded).unwrap();
        assert_eq!((settings.policy.grace, settings.catalog.len()), (Grace::days(1), 1));
        assert!(serde_json::from_str::<Policy>(r#"{"future": 1}"#).is_err());
        assert!(serde_json::from_str::<CatalogEntry>(r#"{"future": 1}"#).is_err());
    }

    #[test]
    fn every_key_of_a_catalog_entry_survives_recording() {
        let full = r#"{"price":"p","stripe_product":"prod_1","provider":"stub","product":"x","seats":2,"units":"quantity",
            "term":"P1Y","features":["f"],"grace":"1d","skip":true,"addon_of":"pro","max_release":"2.4","options":{"a":"b"}}"#;
        let entry: CatalogEntry = serde_json::from_str(full).unwrap();
        let settings = DecidingSettings { catalog: vec![entry], ..DecidingSettings::default() };
        let recorded = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<DecidingSettings>(&recorded).unwrap(), settings);
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn grace_is_written_like_people_write_it() {
        let seconds = |text: &str| text.parse::<Grace>().map(Grace::seconds).ok();
        assert_eq!(seconds("3d"), Some(259_200));
        assert_eq!(seconds("36h"), Some(129_600));
        assert_eq!(seconds("0s"), Some(0));
        for bad in ["", "3", "-3d", "1mo", "4000d", "soon"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
        assert_eq!(Grace::days(3).to_string(), "3d");
    }

    #[test]
    fn a_term_of_a_year_is_a_calendar_year() {
        let year = Term::try_from("P1Y".to_owned()).unwrap();
        assert_eq!(year.end(at("2024-02-29T12:00:00Z"), None), Some(at("2025-02-28T12:00:00Z")));
        assert!(Term::try_from("-P1Y".to_owned()).is_err());
        assert!(Term::try_from("forever".to_owned()).is_err());
    }

    #[test]
    fn zero_seats_are_refused_because_some_engines_read_them_as_unlimited() {
        assert!(serde_json::from_str::<Count>("0").is_err());
        assert_eq!(serde_json::from_str::<Count>("\"quantity\"").unwrap(), Count::Quantity);
        assert_eq!(serde_json::from_str::<Count>("5").unwrap(), Count::Fixed(5));
    }
}
