//! keyledger's own events: past-tense facts about purchases, settings and intake.
//!
//! They are for ever: fields are only added, a changed meaning is a new kind. They carry ids, never names or
//! addresses, and a license key only sealed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::envelope::Position;
use crate::ids::{LicenseId, ProviderName, SourceName, UnitId};
use crate::mapping::Mapping;
use crate::money::Money;
use crate::settings::DecidingSettings;

macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident($data:ty) = $kind:literal,)*) => {
        /// An event of ours.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Event {
            $($(#[$doc])* $variant($data),)*
        }

        impl Event {
            /// Every kind, in the order of this file.
            pub const KINDS: &[&str] = &[$($kind,)*];

            /// The event's type, dotted and past tense.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $kind,)*
                }
            }

            /// The event's data as JSON bytes.
            pub fn encode(&self) -> Vec<u8> {
                let encoded = match self {
                    $(Self::$variant(data) => serde_json::to_vec(data),)*
                };
                encoded.unwrap_or_else(|error| unreachable!("events are plain data with text keys: {error}"))
            }

            /// Reads an event back. `None` for a kind that is not ours or that this build does not know.
            ///
            /// # Errors
            ///
            /// When the bytes are not what the kind promises: the event was damaged, or written by a newer build.
            pub fn decode(kind: &str, data: &[u8]) -> Result<Option<Self>, serde_json::Error> {
                Ok(match kind {
                    $($kind => Some(Self::$variant(serde_json::from_slice(data)?)),)*
                    _ => None,
                })
            }

            /// The JSON Schema of each kind's data.
            pub fn schemas() -> Vec<(&'static str, schemars::Schema)> {
                vec![$(($kind, schemars::schema_for!($data)),)*]
            }
        }
    };
}

events! {
    /// A unit became owed for the first time.
    ObligationOpened(ObligationOpened) = "obligation.opened",
    /// A unit's license is confirmed to reach what is paid.
    ObligationMet(ObligationMet) = "obligation.met",
    /// A person closed a unit without a license.
    ObligationWaived(ObligationWaived) = "obligation.waived",
    /// A provider is about to be called.
    LicenseRequested(LicenseRequested) = "license.requested",
    /// A provider did not do what was asked.
    LicenseNotDone(LicenseNotDone) = "license.not_done",
    /// A license was made.
    LicenseIssued(LicenseIssued) = "license.issued",
    /// A license that we did not make meets a unit.
    LicenseAdopted(LicenseAdopted) = "license.adopted",
    /// A license's expiry was set.
    LicenseExtended(LicenseExtended) = "license.extended",
    /// A license's seats were set.
    LicenseSeatsChanged(LicenseSeatsChanged) = "license.seats_changed",
    /// A license's features were set.
    LicenseFeaturesChanged(LicenseFeaturesChanged) = "license.features_changed",
    /// A license was stopped for now.
    LicenseSuspended(LicenseSuspended) = "license.suspended",
    /// A license works again.
    LicenseReinstated(LicenseReinstated) = "license.reinstated",
    /// A license was stopped for good.
    LicenseRevoked(LicenseRevoked) = "license.revoked",
    /// A license reached its expiry.
    LicenseLapsed(LicenseLapsed) = "license.lapsed",
    /// A license exists that nobody paid for.
    LicenseSurplusFound(LicenseSurplusFound) = "license.surplus_found",
    /// A person asked to try again at once.
    RetryRequested(RetryRequested) = "operator.retry_requested",
    /// A person revoked a license, which is final.
    RevokeRequested(RevokeRequested) = "operator.revoke_requested",
    /// A person stopped a license for now.
    SuspendRequested(SuspendRequested) = "operator.suspend_requested",
    /// A person let a license work again that a person had stopped.
    ReinstateRequested(ReinstateRequested) = "operator.reinstate_requested",
    /// A person gave a license more time than was paid for.
    ExtendRequested(ExtendRequested) = "operator.extend_requested",
    /// A person had a license replaced by a new one.
    ReissueRequested(ReissueRequested) = "operator.reissue_requested",
    /// A person named the license that meets a unit.
    AttachRequested(AttachRequested) = "operator.attach_requested",
    /// A person closed an advisory case with a reason.
    CaseWaived(CaseWaived) = "operator.case_waived",
    /// A license key was shown to someone.
    KeyRevealed(KeyRevealed) = "operator.key_revealed",
    /// A customer of Stripe's was found or made at a license engine.
    CustomerLinked(CustomerLinked) = "customer.linked",
    /// What an engine holds of a customer was brought up to date, or could not be.
    CustomerSynced(CustomerSynced) = "customer.synced",
    /// Metadata was written to an object of Stripe's.
    MetadataWritten(MetadataWritten) = "metadata.written",
    /// Stripe did not take metadata, and will not.
    MetadataRefused(MetadataRefused) = "metadata.refused",
    /// Something that events do not carry cannot be fetched from Stripe.
    FetchRefused(FetchRefused) = "fetch.refused",
    /// The log was compared with what Stripe holds.
    ReconcileCompleted(ReconcileCompleted) = "reconcile.completed",
    /// Settings that decide differ from the last recorded ones.
    SettingsChanged(SettingsChanged) = "settings.changed",
    /// Bodies over the size limit were refused.
    BodyRefused(BodyRefused) = "ingest.body_refused",
    /// The log's mirror on NATS JetStream is not what the log holds, and is written no further.
    MirrorDiverged(MirrorDiverged) = "mirror.diverged",
    /// The mirror was made anew, or was found to be the log's again.
    MirrorMended(MirrorMended) = "mirror.mended",
}

/// Data of `obligation.opened`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ObligationOpened {
    /// The unit.
    pub unit: UnitId,
    /// The latest end of its counting periods; `None` for ever.
    pub owed_until: Option<Timestamp>,
    /// Whether money was taken for it.
    pub charged: bool,
    /// What was paid for the item, where charged.
    pub amount: Option<Money>,
}

/// Data of `obligation.met`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ObligationMet {
    /// The unit.
    pub unit: UnitId,
    /// The license that meets it.
    pub license: LicenseId,
    /// What it is paid until; `None` for ever.
    pub owed_until: Option<Timestamp>,
}

/// Data of `obligation.waived`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ObligationWaived {
    /// The unit.
    pub unit: UnitId,
    /// Money for periods that end later opens it again; `None` closes it for ever.
    pub through: Option<Timestamp>,
    /// Why.
    pub reason: String,
}

/// What a provider is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Look for a license by reference, and make it if there is none.
    Create,
    /// Look a named license up, check that it may meet the unit, and make it ours.
    Adopt,
    /// Set expiry, seats and features.
    SetTerms,
    /// Stop it for now.
    Suspend,
    /// Let it work again.
    Reinstate,
    /// Stop it for good.
    Revoke,
}

/// What a license should be like, in absolute values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LicenseTerms {
    /// The latest end of what is paid; `None` for ever.
    pub paid_until: Option<Timestamp>,
    /// When the license stops working; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// Seats, at least 1.
    pub seats: u32,
    /// Feature names.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub features: BTreeSet<String>,
}

/// Data of `license.requested`, appended before any call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LicenseRequested {
    /// The unit it is for.
    pub unit: UnitId,
    /// The unit's 1st, 2nd … license.
    pub generation: u32,
    /// The license: a version 5 UUID of unit and generation.
    pub license: LicenseId,
    /// Counts the calls for this unit, from 1.
    pub attempt: u32,
    /// What is asked.
    pub action: Action,
    /// What the license should be like.
    pub terms: LicenseTerms,
    /// What the sale means; the unit keeps it.
    pub mapping: Mapping,
    /// The license to adopt, as it was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<String>,
    /// Before this moment nobody else looks up or creates for the unit.
    pub wait_until: Timestamp,
}

/// Which of the answers other than *done* a provider gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotDone {
    /// A definite no: parked until a person acts or the request changes.
    Refused,
    /// Nothing was done; tried again by the delay table.
    Unavailable,
    /// It may have been done; looked up before anything else.
    Indeterminate,
}

/// Data of `license.not_done`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LicenseNotDone {
    /// The unit.
    pub unit: UnitId,
    /// The license that was asked about.
    pub license: LicenseId,
    /// The attempt that was answered.
    pub attempt: u32,
    /// What was asked.
    pub action: Action,
    /// The answer.
    pub answer: NotDone,
    /// What the provider said, without personal data.
    pub reason: String,
    /// When it is tried again; `None` when it waits for a person.
    pub next_attempt_at: Option<Timestamp>,
    /// The engine was searched and holds no license with our reference.
    #[serde(default)]
    pub nothing_found: bool,
    /// Nobody was asked: the engine is not configured. Asked again by itself once it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unconfigured: bool,
}

/// A license key as an event may carry it: readable only with the deployment's sealing key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SealedKey {
    /// XChaCha20-Poly1305 ciphertext with its nonce in front, base64url without padding.
    pub sealed: String,
    /// Which sealing key opens it.
    pub key_id: String,
    /// Hash of the normalized key, in lower-case hex: search finds a key by it.
    pub hash: String,
    /// Its last four characters.
    pub last4: String,
}

/// Data of `license.issued`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LicenseIssued {
    /// The unit it meets.
    pub unit: UnitId,
    /// The unit's 1st, 2nd … license.
    pub generation: u32,
    /// The license.
    pub license: LicenseId,
    /// The engine that holds it.
    pub provider: ProviderName,
    /// The engine's own id.
    pub provider_id: String,
    /// The engine's product.
    pub product: String,
    /// The key, sealed; `None` where the engine does not show it.
    pub key: Option<SealedKey>,
    /// What it was made with.
    pub terms: LicenseTerms,
    /// It was found by its reference, left by an attempt whose answer was lost.
    #[serde(default)]
    pub found: bool,
    /// Other ids that the engine has for it, by the engine's own words for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub also: BTreeMap<String, String>,
}

/// Data of `license.adopted`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LicenseAdopted {
    /// The unit it meets.
    pub unit: UnitId,
    /// The unit's 1st, 2nd … license.
    pub generation: u32,
    /// Our id for it.
    pub license: LicenseId,
    /// The engine that holds it, configured or not.
    pub provider: ProviderName,
    /// The engine's own id.
    pub provider_id: String,
    /// What it should be like; not confirmed where the engine is not configured.
    pub terms: LicenseTerms,
    /// What named it: a metadata key, `operator`, or `purchase` for one that the engine held for the purchase already.
    pub named_by: String,
    /// What the sale means, where something says; the unit keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<Mapping>,
    /// The engine's product; `None` where the engine is not configured and was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// The key, sealed; `None` where the engine was not asked or does not show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<SealedKey>,
    /// Other ids that the engine has for it, by the engine's own words for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub also: BTreeMap<String, String>,
}

/// Data of `license.extended`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LicenseExtended {
    /// The unit.
    pub unit: UnitId,
    /// The license.
    pub license: LicenseId,
    /// What is paid until; `None` for ever.
    pub paid_until: Option<Timestamp>,
    /// When it stops working now; `None` for never. Earlier than before only by a rule or a person.
    pub expires_at: Option<Timestamp>,
}

/// Data of `license.seats_changed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LicenseSeatsChanged {
    /// The unit.
    pub unit: UnitId,
    /// The license.
    pub license: LicenseId,
    /// Seats now, at least 1.
    pub seats: u32,
}

/// Data of `license.features_changed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LicenseFeaturesChanged {
    /// The unit.
    pub unit: UnitId,
    /// The license.
    pub license: LicenseId,
    /// Features now.
    pub features: BTreeSet<String>,
    /// What the sale means now; the unit keeps it.
    pub mapping: Mapping,
}

/// Why a license was stopped for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SuspendReason {
    /// The subscription is paused.
    Paused,
    /// The subscription is unpaid.
    Unpaid,
    /// A dispute is open.
    Disputed,
    /// Fewer units are bought than there are licenses, or none.
    QuantityReduced,
    /// It expired at an engine that does not enforce expiry.
    Lapsed,
    /// A person did it.
    Operator,
}

/// Data of `license.suspended`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LicenseSuspended {
    /// The unit.
    pub unit: UnitId,
    /// The license.
    pub license: LicenseId,
    /// Why.
    pub reason: SuspendReason,
}

/// Data of `license.reinstated`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LicenseReinstated {
    /// The unit.
    pub unit: UnitId,
    /// The license.
    pub license: LicenseId,
}

/// Why a license was stopped for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RevokeReason {
    /// No paid period is left: refunded, or a dispute was lost.
    MoneyGone,
    /// A later generation took its place.
    Replaced,
    /// A person did it. Final.
    Operator,
}

/// Data of `license.revoked`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LicenseRevoked {
    /// The unit.
    pub unit: UnitId,
    /// The license.
    pub license: LicenseId,
    /// Why.
    pub reason: RevokeReason,
}

/// Data of `license.lapsed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LicenseLapsed {
    /// The unit.
    pub unit: UnitId,
    /// The license.
    pub license: LicenseId,
    /// The expiry that was reached.
    pub expires_at: Timestamp,
}

/// Data of `license.surplus_found`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LicenseSurplusFound {
    /// The unit it would have met.
    pub unit: UnitId,
    /// The engine that holds it.
    pub provider: ProviderName,
    /// The engine's own id.
    pub provider_id: String,
    /// How it came to light.
    pub reason: String,
}

/// Data of `operator.retry_requested`. Who did it is the envelope's actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RetryRequested {
    /// The unit to try again.
    pub unit: UnitId,
}

/// Data of `operator.revoke_requested`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevokeRequested {
    /// The unit whose license is revoked.
    pub unit: UnitId,
    /// Why.
    pub reason: String,
}

/// Data of `operator.suspend_requested`. Who did it is the envelope's actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SuspendRequested {
    /// The unit whose license is stopped.
    pub unit: UnitId,
    /// Why.
    pub reason: String,
}

/// Data of `operator.reinstate_requested`: takes back a person's suspension, revocation or reissue of a revoked license.
/// What Stripe says still holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReinstateRequested {
    /// The unit whose license is to work again.
    pub unit: UnitId,
    /// Why.
    pub reason: String,
}

/// Data of `operator.extend_requested`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExtendRequested {
    /// The unit whose license is extended.
    pub unit: UnitId,
    /// It works at least until this moment, whatever is paid. A later request replaces this one.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
}

/// Data of `operator.reissue_requested`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReissueRequested {
    /// The unit that gets its next license.
    pub unit: UnitId,
    /// The license that is replaced: a repeat of the request replaces nothing more.
    pub license: LicenseId,
    /// Why.
    pub reason: String,
}

/// Data of `operator.attach_requested`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttachRequested {
    /// The unit it meets.
    pub unit: UnitId,
    /// The engine that holds the license.
    pub provider: ProviderName,
    /// The engine's own id.
    pub provider_id: String,
    /// Why.
    pub reason: String,
}

/// Data of `customer.linked`. Ids only: names and addresses stay where they were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CustomerLinked {
    /// The license engine.
    pub provider: ProviderName,
    /// `cus_…`; for a sale without a customer, the purchase.
    pub customer: String,
    /// The engine's own id for them.
    pub provider_customer_id: String,
    /// They were made, not found.
    pub made: bool,
    /// The engine knows this customer by another Stripe customer as well: it tells people apart by address alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
}

/// Data of `customer.synced`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CustomerSynced {
    /// The license engine.
    pub provider: ProviderName,
    /// `cus_…`.
    pub customer: String,
    /// The engine's own id for them.
    pub provider_customer_id: String,
    /// The Stripe event whose name and address the engine holds now.
    pub seen: String,
    /// What the engine said, where it refused; without personal data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Data of `metadata.written`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MetadataWritten {
    /// `sub_…` or `cus_…`.
    pub object: String,
    /// What was written, by key; an empty value takes the key away.
    pub values: BTreeMap<String, String>,
    /// The idempotency key of the write: Stripe's event that echoes it names it.
    pub idempotency_key: String,
}

/// Data of `metadata.refused`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MetadataRefused {
    /// `sub_…` or `cus_…`.
    pub object: String,
    /// What was to be written.
    pub values: BTreeMap<String, String>,
    /// What Stripe said, without personal data.
    pub reason: String,
}

/// Data of `fetch.refused`: it is not asked for again for a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FetchRefused {
    /// What was to be fetched: the path of the request, ids only.
    pub path: String,
    /// What Stripe said, without personal data.
    pub reason: String,
}

/// Data of `reconcile.completed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReconcileCompleted {
    /// From when on Stripe was asked.
    pub since: Timestamp,
    /// Stripe events looked at.
    pub events_seen: u64,
    /// Of these, the log lacked so many, and has them now.
    pub events_appended: u64,
    /// Objects looked at, beyond what the event list reaches.
    pub objects_seen: u64,
    /// Of these, so many said something new, and are in the log now.
    pub objects_appended: u64,
}

/// Data of `operator.case_waived`: closes a case that is not about an open unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CaseWaived {
    /// The case.
    pub case: crate::ids::CaseId,
    /// Its kind.
    pub kind: String,
    /// Why.
    pub reason: String,
}

/// Data of `operator.key_revealed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyRevealed {
    /// The license whose key was shown.
    pub license: LicenseId,
}

/// Data of `settings.changed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SettingsChanged {
    /// The settings from here on.
    pub settings: DecidingSettings,
}

/// Data of `ingest.body_refused`: at most two of these per source and hour, so that strangers cannot flood the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BodyRefused {
    /// The endpoint's source.
    pub source: SourceName,
    /// The start of the hour.
    pub hour: Timestamp,
    /// How many were refused in it so far.
    pub count: u64,
    /// The limit, in bytes.
    pub limit_bytes: u64,
    /// The largest size announced, in bytes, where one was.
    pub largest_bytes: Option<u64>,
}

/// Data of `mirror.diverged`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MirrorDiverged {
    /// The name of the stream on JetStream.
    pub stream: String,
    /// What is wrong with it.
    pub fault: MirrorFault,
    /// The first position known to be wrong, where one is.
    pub position: Option<Position>,
    /// What a person should know, in words: no personal data.
    pub detail: String,
}

/// What is wrong with a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MirrorFault {
    /// It holds other bytes at a position that the log has too.
    OtherBytes,
    /// It is ahead of the log, and what it has more cannot be put into the log as it stands.
    CannotImport,
    /// Messages are missing in it: it was purged, or it has limits.
    Holes,
    /// It belongs to another log, or to nobody that we know.
    Foreign,
    /// Its settings would lose messages or take others.
    UnsafeSettings,
}

/// Data of `mirror.mended`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MirrorMended {
    /// The name of the stream on JetStream.
    pub stream: String,
    /// How far it is the log's.
    pub position: Position,
}

/// The stream of `settings.changed`.
pub const SETTINGS_STREAM: &str = "settings";
