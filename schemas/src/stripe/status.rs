//! Stripe's statuses: closed enums with an open end, because Stripe's lists grow.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! status {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(from = "String", into = "String")]
        #[schemars(with = "String")]
        pub enum $name {
            /// A word this build does not know, as Stripe wrote it. The least of all: where the greatest word counts,
            /// it never overrules one that is understood.
            Unknown(String),
            $($(#[$vdoc])* $variant,)*
        }

        impl $name {
            /// Stripe's word.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Unknown(text) => text,
                }
            }

            /// The one that got further. Any known word is further than an unknown one.
            #[must_use]
            pub fn furthest(self, other: Self) -> Self {
                self.max(other)
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                match text.as_str() {
                    $($text => Self::$variant,)*
                    _ => Self::Unknown(text),
                }
            }
        }

        impl From<$name> for String {
            fn from(status: $name) -> Self {
                status.as_str().to_owned()
            }
        }
    };
}

status! {
    /// A subscription's `status`.
    SubscriptionStatus {
        /// The first payment has not succeeded yet.
        Incomplete = "incomplete",
        /// The first payment never succeeded. Terminal.
        IncompleteExpired = "incomplete_expired",
        /// In a trial.
        Trialing = "trialing",
        /// Running. Not proof of payment.
        Active = "active",
        /// A payment is due and was not made.
        PastDue = "past_due",
        /// Payment was given up on; invoices stay open.
        Unpaid = "unpaid",
        /// Stopped, on demand or for want of a payment method.
        Paused = "paused",
        /// Over. Terminal.
        Canceled = "canceled",
    }
}

impl SubscriptionStatus {
    /// Whether the word alone says that it is over.
    pub fn is_ended(&self) -> bool {
        match self {
            Self::Canceled | Self::IncompleteExpired => true,
            Self::Incomplete
            | Self::Trialing
            | Self::Active
            | Self::PastDue
            | Self::Unpaid
            | Self::Paused
            | Self::Unknown(_) => false,
        }
    }

    /// Whether this build does not know the word.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

status! {
    /// An invoice's `status`.
    InvoiceStatus {
        /// Not final.
        Draft = "draft",
        /// Waiting for money.
        Open = "open",
        /// Paid. Terminal.
        Paid = "paid",
        /// Withdrawn. Terminal.
        Void = "void",
        /// Given up on, may still be paid.
        Uncollectible = "uncollectible",
    }
}

status! {
    /// A Checkout session's `payment_status`. Greater wins.
    PaymentStatus {
        /// No money yet.
        Unpaid = "unpaid",
        /// Nothing was due.
        NoPaymentRequired = "no_payment_required",
        /// Money came.
        Paid = "paid",
    }
}

impl PaymentStatus {
    /// Whether a payment-mode sale may be delivered.
    pub fn settles(&self) -> bool {
        matches!(self, Self::Paid | Self::NoPaymentRequired)
    }
}

status! {
    /// A Checkout session's `status`.
    SessionStatus {
        /// The buyer may still pay.
        Open = "open",
        /// The buyer is done; the money may still be on its way.
        Complete = "complete",
        /// Abandoned.
        Expired = "expired",
    }
}

status! {
    /// A Checkout session's `mode`.
    SessionMode {
        /// A one-off sale.
        Payment = "payment",
        /// The start of a subscription.
        Subscription = "subscription",
        /// Saves a payment method; sells nothing.
        Setup = "setup",
    }
}

status! {
    /// A refund's `status`, by how far it got: the greatest seen counts.
    RefundStatus {
        /// On its way.
        Pending = "pending",
        /// Waiting for the customer.
        RequiresAction = "requires_action",
        /// The money went back.
        Succeeded = "succeeded",
        /// Called off: the money stays.
        Canceled = "canceled",
        /// Did not arrive: the money is back with the seller.
        Failed = "failed",
    }
}

impl RefundStatus {
    /// Whether the money did not go back after all.
    pub fn came_to_nothing(&self) -> bool {
        matches!(self, Self::Canceled | Self::Failed)
    }
}

status! {
    /// A dispute's `status`, by rank: the greatest seen counts.
    DisputeStatus {
        /// Prevented before it became one.
        Prevented = "prevented",
        /// An inquiry; no money moved.
        WarningNeedsResponse = "warning_needs_response",
        /// An inquiry under review.
        WarningUnderReview = "warning_under_review",
        /// An inquiry that ended without a dispute.
        WarningClosed = "warning_closed",
        /// Open: waiting for evidence.
        NeedsResponse = "needs_response",
        /// Open: evidence is with the bank.
        UnderReview = "under_review",
        /// The buyer got the money.
        Lost = "lost",
        /// Open again: an appeal waits for evidence.
        AppealNeedsResponse = "appeal_needs_response",
        /// Open again: an appeal is under review.
        AppealUnderReview = "appeal_under_review",
        /// The seller kept the money.
        Won = "won",
    }
}

impl DisputeStatus {
    /// Whether money is being fought over, which suspends.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::NeedsResponse | Self::UnderReview | Self::AppealNeedsResponse | Self::AppealUnderReview)
    }

    /// Whether a person should know: everything that is not settled one way or the other.
    pub fn concerns(&self) -> bool {
        !matches!(self, Self::Won | Self::Lost | Self::WarningClosed)
    }
}
