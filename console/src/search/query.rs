//! The boolean query language as data: fields, flags and terms.

use std::ops::Bound;

use jiff::Timestamp;

/// A query: terms joined by AND, OR and NOT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// All of these.
    And(Vec<Query>),
    /// Any of these.
    Or(Vec<Query>),
    /// Not this.
    Not(Box<Query>),
    /// One condition.
    Term(Term),
}

/// One condition, and the column it was written at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// Where it begins, from 1, in characters.
    pub column: usize,
    /// What it asks.
    pub condition: Condition,
}

/// What one term asks. `!=` is a [`Query::Not`] around one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// A text field has this value, or contains it; case does not matter.
    Text {
        /// The field.
        field: TextField,
        /// Whether containing it is enough.
        contains: bool,
        /// The text as typed.
        text: String,
    },
    /// A key in the metadata of the subscription has this value, or contains it.
    Metadata {
        /// The metadata key, as written.
        key: String,
        /// Whether containing it is enough.
        contains: bool,
        /// The text as typed.
        text: String,
    },
    /// A number lies within.
    Number {
        /// The field.
        field: NumberField,
        /// The bounds.
        within: (Bound<i64>, Bound<i64>),
    },
    /// An amount of money lies within, in thousandths of the major unit.
    Amount {
        /// The bounds.
        within: (Bound<i64>, Bound<i64>),
    },
    /// A time lies within.
    Time {
        /// The field.
        field: TimeField,
        /// From this moment on.
        from: Option<Timestamp>,
        /// Before this moment.
        before: Option<Timestamp>,
    },
    /// A flag is set.
    Flag(Flag),
    /// A name, a company, a product or a note begins with this word, in lower case.
    Word(String),
}

macro_rules! names {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $type {
            /// All of them with the name people write.
            pub const ALL: &[(&str, Self)] = &[$(($name, Self::$variant),)*];

            /// The name people write.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

names! {
    /// Fields that hold text.
    TextField {
        /// A license's id: ours, or its provider's.
        Id = "id",
        /// A license's account-wide Cryptolens id.
        GlobalId = "globalid",
        /// Any id that a license engine has for a license.
        ProviderId = "provider_id",
        /// A license's Cryptolens id.
        CryptolensKey = "skm_key_id",
        /// A license's account-wide Cryptolens id.
        CryptolensGlobalKey = "skm_key_globalid",
        /// A customer's Cryptolens id.
        CryptolensCustomer = "skm_customer_id",
        /// A license key.
        Key = "key",
        /// A customer's address.
        Email = "email",
        /// A customer's name.
        Name = "name",
        /// A customer's company.
        Company = "company",
        /// The provider's product.
        Product = "product",
        /// The Stripe price.
        Plan = "plan",
        /// The Stripe price.
        Price = "price",
        /// The license engine.
        Provider = "provider",
        /// Stripe's status of the subscription, or the state of the license.
        Status = "status",
        /// The state of the license.
        State = "state",
        /// The Stripe customer.
        Customer = "customer",
        /// The Stripe customer.
        CustomerId = "customer.id",
        /// A customer's address.
        CustomerEmail = "customer.email",
        /// The Stripe subscription.
        Sub = "sub",
        /// The Stripe invoice.
        Invoice = "invoice",
        /// The Stripe charge.
        Charge = "charge",
        /// The currency paid in.
        Currency = "currency",
        /// A customer's country.
        Country = "country",
        /// An operator's note.
        Note = "note",
        /// An operator's note.
        Notes = "notes",
        /// Who did something.
        Actor = "actor",
        /// The kind of a case.
        Case = "case",
    }
}

names! {
    /// Fields that hold whole numbers.
    NumberField {
        /// Seats of a license.
        Seats = "seats",
    }
}

names! {
    /// Fields that hold times.
    TimeField {
        /// When the license was made, or the case opened.
        Created = "created",
        /// When the license stops working.
        Expires = "expires",
        /// What is paid until.
        PaidUntil = "paid_until",
    }
}

/// The one field that holds money.
pub const AMOUNT: &str = "amount";

/// What the field of a subscription's metadata begins with.
pub const METADATA: &str = "metadata.";

names! {
    /// `is:` and `has:` flags.
    Flag {
        /// Charged without a key.
        NoKey = "is:no-key",
        /// The key has not reached the buyer.
        Undelivered = "is:undelivered",
        /// The license works beyond what is paid.
        Grace = "is:grace",
        /// A dispute is open.
        Disputed = "is:disputed",
        /// Money was given back.
        Refunded = "is:refunded",
        /// A license exists that nobody paid for.
        Surplus = "is:surplus",
        /// In test mode.
        Test = "is:test",
        /// A case is open.
        HasCase = "has:case",
        /// A device is activated.
        HasDevice = "has:device",
        /// A device was activated without internet.
        HasOffline = "has:offline",
    }
}

impl Query {
    /// Every term, in the order written.
    pub fn terms(&self) -> Vec<&Term> {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().flat_map(Self::terms).collect(),
            Self::Not(part) => part.terms(),
            Self::Term(term) => vec![term],
        }
    }
}
