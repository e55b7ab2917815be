//! What a bare token means by its shape alone.
//!
//! Shapes overlap: `F4A1-0007` may be an invoice number or the end of a license key, `Anna` a name or the last four of
//! one. A token therefore means a list of look-ups, the most exact first, and the answer groups what each one found.

use std::fmt;

use keyledger_schemas::ids::PurchaseId;
use keyledger_schemas::secret::Secret;
use uuid::Uuid;

/// Shorter text shows too little of a key to look for it.
const KEY_TAIL_MIN: usize = 4;

/// From this many letters and digits on, text may be a whole key of some engine.
const KEY_SYMBOLS_MIN: usize = 12;

/// One thing a bare token may mean.
#[derive(Clone, PartialEq, Eq)]
pub enum Lookup {
    /// An object of Stripe's, by its id.
    Stripe {
        /// What its prefix says it is.
        kind: StripeKind,
        /// The id as typed.
        id: String,
    },
    /// An event, by its whole id.
    Event(String),
    /// An e-mail address, current or former, in lower case.
    Email(String),
    /// A whole license key of any engine.
    Key(TypedKey),
    /// The last four or more symbols of a license key, in upper case, without dashes.
    KeyTail(TypedKey),
    /// A license by its Cryptolens id, which Cryptolens counts per product.
    CryptolensId {
        /// The id (`skm_key_id`).
        id: String,
        /// The Cryptolens product, where it was given.
        product: Option<String>,
    },
    /// A license by its account-wide Cryptolens id (`skm_key_globalid`).
    CryptolensGlobalId(String),
    /// A customer by its Cryptolens id.
    CryptolensCustomer(String),
    /// A license by any id that its engine has for it.
    ProviderId(String),
    /// An object of keyledger's, or a license of Cryptlex or Keygen.
    Uuid(Uuid),
    /// A case of keyledger's.
    Case(Uuid),
    /// An invoice number as printed on the invoice.
    InvoiceNumber(String),
    /// The beginning of a name.
    Name(String),
}

/// Text that may be (part of) a license key: compared, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct TypedKey(String);

impl TypedKey {
    /// Takes the text as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Search for this word to find every use.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text as a secret.
    pub fn to_secret(&self) -> Secret {
        Secret::new(self.expose())
    }
}

impl fmt::Debug for TypedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Debug for Lookup {
    /// Names the shape only: what was typed may be personal data or a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.meaning())
    }
}

impl Lookup {
    /// What the token was taken for, in words for people.
    pub fn meaning(&self) -> &'static str {
        match self {
            Self::Stripe { kind, .. } => kind.name(),
            Self::Event(_) => "event",
            Self::Email(_) => "e-mail address",
            Self::Key(_) => "license key",
            Self::KeyTail(_) => "end of a license key",
            Self::CryptolensId { .. } => "Cryptolens license id",
            Self::CryptolensGlobalId(_) => "Cryptolens global license id",
            Self::CryptolensCustomer(_) => "Cryptolens customer id",
            Self::ProviderId(_) => "license engine's id",
            Self::Uuid(_) => "license or case id",
            Self::Case(_) => "case id",
            Self::InvoiceNumber(_) => "invoice number",
            Self::Name(_) => "beginning of a name",
        }
    }
}

macro_rules! stripe_kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal: $($prefix:literal)|+;)*) => {
        /// What the prefix of a Stripe id says.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum StripeKind {
            $($(#[$doc])* $variant,)*
        }

        impl StripeKind {
            /// Every prefix with its kind. None is the beginning of another.
            const PREFIXES: &[(&str, Self)] = &[$($(($prefix, Self::$variant),)+)*];

            /// The kind in words.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

stripe_kinds! {
    /// `cus_…`
    Customer = "customer": "cus_";
    /// `sub_…`
    Subscription = "subscription": "sub_";
    /// `si_…`
    SubscriptionItem = "subscription item": "si_";
    /// `in_…`
    Invoice = "invoice": "in_";
    /// `il_…`
    Line = "invoice line": "il_";
    /// `pi_…`
    PaymentIntent = "payment intent": "pi_";
    /// `ch_…`, `py_…`
    Charge = "charge": "ch_" | "py_";
    /// `cs_…`
    Session = "checkout session": "cs_";
    /// `re_…`, `pyr_…`
    Refund = "refund": "re_" | "pyr_";
    /// `dp_…`, `du_…`
    Dispute = "dispute": "dp_" | "du_";
    /// `evt_…`
    Event = "event": "evt_";
    /// `price_…`, `plan_…`
    Price = "price": "price_" | "plan_";
    /// `prod_…`
    Product = "product": "prod_";
}

/// Everything that `text` may mean as a bare token; empty when it is none and must be read as a query.
pub fn recognize(text: &str) -> Vec<Lookup> {
    let text = text.trim();
    if let Some(lookup) = cryptolens(text).or_else(|| provider_id(text)) {
        return vec![lookup];
    }
    if let Some(lookup) = identity(text) {
        return vec![lookup];
    }
    if text.is_empty()
        || text.contains(|c: char| c.is_whitespace() || "()\":=<>~!".contains(c))
        || text.starts_with('-')
    {
        return Vec::new();
    }
    if is_keyword(text) {
        return Vec::new();
    }
    if let Some(kind) = stripe_kind(text) {
        return vec![Lookup::Stripe { kind, id: text.to_owned() }];
    }
    if text.contains('@') {
        return vec![Lookup::Email(text.to_lowercase())];
    }
    if let Some(lookup) = own_id(text) {
        return vec![lookup];
    }
    keys_and_words(text)
}

/// `Id=88121`, `Id=88121 product=3349`, `globalId=812345`, `skm_customer_id=8812`, in any case.
fn cryptolens(text: &str) -> Option<Lookup> {
    let mut pairs = text.split_whitespace().map(|word| {
        let (name, value) = word.split_once('=')?;
        let is_number = !value.is_empty() && value.len() <= 20 && value.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| (name.to_ascii_lowercase(), value.to_owned()))
    });
    let (name, value) = pairs.next()??;
    let second = pairs.next();
    if pairs.next().is_some() {
        return None;
    }
    match (name.as_str(), second) {
        ("id" | "skm_key_id", None) => Some(Lookup::CryptolensId { id: value, product: None }),
        ("id", Some(Some((second, product)))) if second == "product" => {
            Some(Lookup::CryptolensId { id: value, product: Some(product) })
        }
        ("globalid" | "skm_key_globalid", None) => Some(Lookup::CryptolensGlobalId(value)),
        ("skm_customer_id", None) => Some(Lookup::CryptolensCustomer(value)),
        _ => None,
    }
}

/// `provider_id=2c0d…`, whatever the engine's ids look like.
fn provider_id(text: &str) -> Option<Lookup> {
    let (name, id) = text.split_once('=')?;
    let is_one = !id.is_empty() && !id.contains(|c: char| c.is_whitespace() || "()\":=<>~!".contains(c));
    (name.eq_ignore_ascii_case("provider_id") && is_one).then(|| Lookup::ProviderId(id.to_owned()))
}

/// What keyledger shows as an id: `source:account:mode:` and a Stripe id, with the API version for an event.
fn identity(text: &str) -> Option<Lookup> {
    let object = text.parse::<PurchaseId>().ok()?.object;
    if object.chars().any(char::is_whitespace) {
        return None;
    }
    if object.starts_with("evt_") {
        return Some(Lookup::Event(text.to_owned()));
    }
    // Units are written `purchase/item/number`.
    let id = object.split('/').next().unwrap_or_default();
    stripe_kind(id).map(|kind| Lookup::Stripe { kind, id: id.to_owned() })
}

/// A lone operator is a mistake in a query, not a name.
fn is_keyword(text: &str) -> bool {
    ["and", "or", "not"].iter().any(|keyword| text.eq_ignore_ascii_case(keyword))
}

fn stripe_kind(text: &str) -> Option<StripeKind> {
    let fits = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let found = StripeKind::PREFIXES.iter().find(|(prefix, _)| text.strip_prefix(prefix).is_some_and(fits));
    found.map(|(_, kind)| *kind)
}

fn own_id(text: &str) -> Option<Lookup> {
    if let Some(rest) = text.strip_prefix("kl_cas_") {
        return rest.parse().ok().map(Lookup::Case);
    }
    let rest = text.strip_prefix("kl_lic_").unwrap_or(text);
    // `Uuid` reads more forms than anybody pastes; a bare run of hex digits could be a key.
    let plain = rest.len() == 36 || text.starts_with("kl_lic_");
    rest.parse().ok().filter(|_| plain).map(Lookup::Uuid)
}

/// What is left: a key, the end of one, an invoice number, or a name; often several of these.
fn keys_and_words(text: &str) -> Vec<Lookup> {
    let symbols: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    let key_like = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let mut lookups = Vec::new();
    if key_like && symbols.len() >= KEY_SYMBOLS_MIN {
        lookups.push(Lookup::Key(TypedKey::new(text)));
    }
    if is_invoice_number(text) {
        lookups.push(Lookup::InvoiceNumber(text.to_owned()));
    }
    if key_like && symbols.len() >= KEY_TAIL_MIN {
        lookups.push(Lookup::KeyTail(TypedKey::new(symbols.to_ascii_uppercase())));
    }
    lookups.push(Lookup::Name(text.to_owned()));
    lookups
}

/// Stripe prints a prefix of up to 12 letters and digits, a dash, and a number of at least four digits.
/// <https://docs.stripe.com/invoicing/customize#invoice-numbering-schemes>
fn is_invoice_number(text: &str) -> bool {
    let Some((prefix, number)) = text.rsplit_once('-') else { return false };
    let prefix_fits = (1..=12).contains(&prefix.len()) && prefix.bytes().all(|b| b.is_ascii_alphanumeric());
    prefix_fits && (4..=12).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meanings(text: &str) -> Vec<&'static str> {
        recognize(text).iter().map(Lookup::meaning).collect()
    }

    #[test]
    fn every_stripe_id_is_known_by_its_prefix() {
        for (id, meaning) in [
            ("cus_Q1", "customer"),
            ("sub_1w95", "subscription"),
            ("si_fO8U", "subscription item"),
            ("in_1P", "invoice"),
            ("il_1P", "invoice line"),
            ("pi_3", "payment intent"),
            ("ch_3", "charge"),
            ("py_3", "charge"),
            ("cs_test_a1B2", "checkout session"),
            ("re_3", "refund"),
            ("pyr_1", "refund"),
            ("dp_1", "dispute"),
            ("du_1", "dispute"),
            ("evt_1", "event"),
            ("price_1", "price"),
            ("prod_1", "product"),
        ] {
            assert_eq!(meanings(id), [meaning], "{id}");
        }
    }

    #[test]
    fn an_address_keeps_its_tag_and_loses_its_case() {
        assert_eq!(recognize(" Ana+Shop@Example.com "), [Lookup::Email("ana+shop@example.com".to_owned())]);
    }

    #[test]
    fn the_habits_of_cryptolens_work_in_any_case() {
        let id = |product: Option<&str>| Lookup::CryptolensId {
            id: "88121".to_owned(),
            product: product.map(str::to_owned),
        };
        assert_eq!(recognize("Id=88121"), [id(None)]);
        assert_eq!(recognize("id=88121"), [id(None)]);
        assert_eq!(recognize("Id=88121 product=3349"), [id(Some("3349"))]);
        assert_eq!(recognize("globalId=812345"), [Lookup::CryptolensGlobalId("812345".to_owned())]);
        assert_eq!(recognize("skm_customer_id=8812"), [Lookup::CryptolensCustomer("8812".to_owned())]);
        assert_eq!(recognize("Provider_id=2c0d-1"), [Lookup::ProviderId("2c0d-1".to_owned())]);
        assert_eq!(recognize("provider_id=2 status=active"), []);
        assert_eq!(recognize("Id=2 or Id=3"), []);
        assert_eq!(recognize("status=active"), []);
    }

    #[test]
    fn ids_of_our_own_are_known_with_and_without_prefix() {
        let uuid = Uuid::from_u128(7);
        assert_eq!(recognize(&uuid.to_string()), [Lookup::Uuid(uuid)]);
        assert_eq!(recognize(&format!("kl_lic_{}", uuid.simple())), [Lookup::Uuid(uuid)]);
        assert_eq!(recognize(&format!("kl_cas_{}", uuid.simple())), [Lookup::Case(uuid)]);
    }

    #[test]
    fn what_keyledger_shows_as_an_id_can_be_pasted_back() {
        let event = "default:-:live:evt_1:2024-06-20";
        assert_eq!(recognize(event), [Lookup::Event(event.to_owned())]);
        assert_eq!(meanings("default:acct_9:test:sub_1"), ["subscription"]);
        assert_eq!(recognize("default:-:live:sub_1/si_1/1")[0], recognize("sub_1")[0]);
        assert_eq!(recognize("default:-:live:sub_1 ana"), []);
    }

    #[test]
    fn keys_of_every_engine_and_their_ends_are_looked_for() {
        assert_eq!(meanings("ITVBC-GXXNU-GSMTK-NIJBT"), ["license key", "end of a license key", "beginning of a name"]);
        assert_eq!(meanings("9F4C"), ["end of a license key", "beginning of a name"]);
        assert_eq!(recognize("7q2m-9f4c")[0], Lookup::KeyTail(TypedKey::new("7Q2M9F4C")));
        assert_eq!(meanings("F4A1-0007"), ["invoice number", "end of a license key", "beginning of a name"]);
        assert_eq!(meanings("Ana"), ["beginning of a name"]);
        assert_eq!(meanings("Müller"), ["beginning of a name"]);
    }

    #[test]
    fn queries_are_not_tokens() {
        for text in ["", "  ", "is:no-key", "-is:test", "ana ruiz", "(ana)", "amount>=50", "\"ana\"", "or", "NOT"] {
            assert_eq!(recognize(text), [], "{text}");
        }
    }

    #[test]
    fn debug_shows_no_key_and_no_address() {
        let shown = format!("{:?}", [recognize("ITVBC-GXXNU-GSMTK-NIJBT"), recognize("ana@example.com")].concat());
        assert!(!shown.contains("ITVBC") && !shown.contains("ana@"), "{shown}");
    }
}
