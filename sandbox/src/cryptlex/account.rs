//! The account: what it holds, and what each call does to it. Every call is done whole or not at all.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::fields::{self, Refusal};
use super::query::Query;
use super::record::{License, Record, User};
use super::settings::{
    Duplicate, EmailComparison, ExpiryStopped, MetadataPatch, Missing, NullExpiry, RenewStopped, Settings, Template,
};

/// Effective creates: by key and value of the metadata that they brought.
pub type Creates = BTreeMap<String, BTreeMap<String, u64>>;

#[derive(Debug)]
pub(super) struct Account {
    pub(super) settings: Settings,
    users: Vec<User>,
    licenses: Vec<License>,
    pub(super) creates: Creates,
    pub(super) users_made: u64,
    pub(super) licenses_made: u64,
    /// Ids differ from one account to the next: a restarted stand-in does not give out ids that were of another.
    seed: u64,
    ids: u64,
}

impl Account {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            users: Vec::new(),
            licenses: Vec::new(),
            creates: Creates::new(),
            users_made: 0,
            licenses_made: 0,
            seed: RandomState::new().hash_one(0),
            ids: 0,
        }
    }

    pub(super) fn create_user(&mut self, body: &Value) -> Result<Value, Refusal> {
        let mut required = vec!["email", "firstName", "password", "role"];
        if self.settings.last_name_missing == Missing::Refused {
            required.push("lastName");
        }
        let mut given = fields::new(body, fields::USER, &required)?;
        given.remove("password");
        self.check_email(given.get("email"), None)?;
        let mut record = self.record();
        self.fill(&mut record, given, MetadataPatch::Replace);
        let user = User(record);
        let shown = user.json();
        self.users.push(user);
        self.users_made += 1;
        Ok(shown)
    }

    pub(super) fn change_user(&mut self, id: &str, body: &Value) -> Result<Value, Refusal> {
        let at = position(&self.users, id, |user| user.0.id).ok_or_else(|| Refusal::unknown("user"))?;
        let given = fields::patch(body, fields::USER)?;
        self.check_email(given.get("email"), Some(self.users[at].0.id))?;
        let mut record = self.users[at].0.clone();
        self.fill(&mut record, given, self.settings.metadata_patch);
        self.users[at] = User(record);
        Ok(self.users[at].json())
    }

    pub(super) fn read_user(&self, id: &str) -> Result<Value, Refusal> {
        let at = position(&self.users, id, |user| user.0.id).ok_or_else(|| Refusal::unknown("user"))?;
        Ok(self.users[at].json())
    }

    pub(super) fn delete_user(&mut self, id: &str) -> Result<(), Refusal> {
        let at = position(&self.users, id, |user| user.0.id).ok_or_else(|| Refusal::unknown("user"))?;
        self.users.remove(at);
        Ok(())
    }

    pub(super) fn users(&self, parameters: &[(String, String)], lag: Duration) -> Result<Value, Refusal> {
        let query = Query::read::<User>(parameters, &self.settings)?;
        let visible = self.users.iter().filter(|user| seen(&user.0, lag));
        Ok(query.page(visible, &self.settings).into_iter().map(User::json).collect())
    }

    pub(super) fn create_license(&mut self, body: &Value) -> Result<Value, Refusal> {
        let given = fields::new(body, fields::LICENSE, &["productId"])?;
        let template = self.template(&given)?;
        self.check_owner(&given)?;
        self.check_entitlements(&given)?;
        self.check_key(given.get("key"))?;
        let mut record = self.record();
        record.fields = defaults(&template, &self.key());
        self.fill(&mut record, given, MetadataPatch::Replace);
        if let Some(missing) = template.required_metadata.iter().find(|key| record.value(key).is_none()) {
            return Err(Refusal::bad(format!("the template requires the metadata `{missing}`")));
        }
        let mut license = License { record, expires_at: None, renewals: 0, extended_s: 0, email: None, expired: false };
        if license.record.fields["subscriptionStartTrigger"] == "creation" {
            license.expires_at = after(license.record.created_at, &license)?;
        }
        self.licenses_made += 1;
        for entry in given_metadata(body) {
            *self.creates.entry(entry.0).or_default().entry(entry.1).or_default() += 1;
        }
        self.licenses.push(license);
        Ok(self.shown(self.licenses.len() - 1))
    }

    pub(super) fn change_license(&mut self, id: &str, body: &Value) -> Result<Value, Refusal> {
        let at = self.license(id)?;
        let given = fields::patch(body, fields::LICENSE)?;
        self.check_owner(&given)?;
        self.check_entitlements(&given)?;
        let mut record = self.licenses[at].record.clone();
        self.fill(&mut record, given, self.settings.metadata_patch);
        self.licenses[at].record = record;
        Ok(self.shown(at))
    }

    pub(super) fn set_expiry(&mut self, id: &str, body: &Value) -> Result<Value, Refusal> {
        let at = self.license(id)?;
        let wanted = match fields::only(body, "expiresAt")? {
            Value::Null if self.settings.expiry_null == NullExpiry::Refused => {
                return Err(Refusal::bad("`expiresAt` is required"));
            }
            Value::Null => None,
            time => Some(fields::moment(time)?),
        };
        let license = &mut self.licenses[at];
        if license.is("suspended") || license.is("revoked") {
            match self.settings.expiry_stopped {
                ExpiryStopped::Set => {}
                ExpiryStopped::Reinstates => {
                    license.record.fields.insert("suspended".to_owned(), json!(false));
                }
                ExpiryStopped::Unchanged => return Ok(self.shown(at)),
                ExpiryStopped::Refused => return Err(Refusal::bad("the license is suspended or revoked")),
            }
        }
        self.licenses[at].expires_at = wanted;
        Ok(self.shown(at))
    }

    /// From the old expiry, not from today.
    pub(super) fn renew(&mut self, id: &str) -> Result<Value, Refusal> {
        let at = self.license(id)?;
        let now = self.now();
        let license = &self.licenses[at];
        let stopped = license.is("suspended") || license.is("revoked") || license.expires_at.is_none();
        match self.settings.renew_stopped {
            RenewStopped::Unchanged if stopped => return Ok(self.shown(at)),
            RenewStopped::Refused if stopped => return Err(Refusal::bad("the license cannot be renewed")),
            RenewStopped::Unchanged | RenewStopped::Refused | RenewStopped::Extended => {}
        }
        let later = after(license.expires_at.unwrap_or(now), license)?;
        let license = &mut self.licenses[at];
        license.renewals += 1;
        license.expires_at = later;
        Ok(self.shown(at))
    }

    pub(super) fn extend(&mut self, id: &str, body: &Value) -> Result<Value, Refusal> {
        let at = self.license(id)?;
        let length = fields::only(body, "extensionLength")?.as_i64();
        let length = length.ok_or_else(|| Refusal::bad("`extensionLength` is not a number of seconds"))?;
        let license = &mut self.licenses[at];
        let before = license.expires_at.ok_or_else(|| Refusal::bad("the license never expires"))?;
        let later = before.checked_add(SignedDuration::from_secs(length));
        license.expires_at = Some(later.map_err(|_| Refusal::bad("`extensionLength` is too long"))?);
        license.extended_s += length;
        Ok(self.shown(at))
    }

    pub(super) fn delete_license(&mut self, id: &str) -> Result<(), Refusal> {
        let at = self.license(id)?;
        self.licenses.remove(at);
        Ok(())
    }

    pub(super) fn delete_metadata(&mut self, id: &str) -> Result<(), Refusal> {
        let entry = Uuid::parse_str(id).map_err(|_| Refusal::unknown("metadata"))?;
        let removed = self.licenses.iter_mut().any(|license| license.record.remove_entry(entry));
        if removed { Ok(()) } else { Err(Refusal::unknown("metadata")) }
    }

    pub(super) fn read_license(&self, id: &str) -> Result<Value, Refusal> {
        Ok(self.shown(self.license(id)?))
    }

    pub(super) fn licenses(&self, parameters: &[(String, String)], lag: Duration) -> Result<Value, Refusal> {
        let query = Query::read::<License>(parameters, &self.settings)?;
        let now = self.now();
        let visible: Vec<License> =
            self.licenses.iter().filter(|license| seen(&license.record, lag)).cloned().collect();
        let visible: Vec<License> = visible
            .into_iter()
            .map(|license| {
                let email = self.owner(&license).map(User::email);
                License { email, expired: license.expires_at.is_some_and(|end| end <= now), ..license }
            })
            .collect();
        let page = query.page(visible.iter(), &self.settings);
        Ok(page.into_iter().map(|license| license.json(self.owner(license))).collect())
    }

    /// Everything, for whoever inspects.
    pub(super) fn state(&self) -> Value {
        let licenses: Vec<Value> = (0..self.licenses.len())
            .map(|at| {
                let mut shown = self.shown(at);
                shown["renewals"] = json!(self.licenses[at].renewals);
                shown["extendedSeconds"] = json!(self.licenses[at].extended_s);
                shown
            })
            .collect();
        json!({
            "licenses": licenses,
            "users": self.users.iter().map(User::json).collect::<Vec<_>>(),
            "licenses_made": self.licenses_made,
            "users_made": self.users_made,
            "creates_by_metadata": self.creates,
        })
    }

    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "a server has a clock of its own; tests stop it by a setting")]
        self.settings.now.unwrap_or_else(Timestamp::now)
    }

    fn shown(&self, at: usize) -> Value {
        let license = &self.licenses[at];
        license.json(self.owner(license))
    }

    fn owner(&self, license: &License) -> Option<&User> {
        let owner = license.user()?;
        self.users.iter().find(|user| user.0.id == owner)
    }

    fn license(&self, id: &str) -> Result<usize, Refusal> {
        position(&self.licenses, id, |license| license.record.id).ok_or_else(|| Refusal::unknown("license"))
    }

    fn record(&mut self) -> Record {
        let now = self.now();
        let id = self.id();
        Record { id, fields: Map::new(), metadata: Vec::new(), created_at: now, updated_at: now, since: Instant::now() }
    }

    fn fill(&mut self, record: &mut Record, given: Map<String, Value>, way: MetadataPatch) {
        let now = self.now();
        record.take(given, way, now, || self.id());
    }

    fn id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::new_v5(&Uuid::from_u64_pair(self.seed, self.seed), &self.ids.to_be_bytes())
    }

    /// Six groups of six hexadecimal digits.
    fn key(&mut self) -> String {
        let digits = format!("{}{}", self.id().simple(), self.id().simple()).to_uppercase();
        let groups: Vec<_> = (0..6).map(|group| &digits[group * 6..][..6]).collect();
        groups.join("-")
    }

    fn template(&self, given: &Map<String, Value>) -> Result<Template, Refusal> {
        let id = |name: &str| given.get(name).and_then(Value::as_str).and_then(|id| Uuid::parse_str(id).ok());
        let products = &self.settings.products;
        let product = products.iter().find(|product| Some(product.id) == id("productId"));
        if !products.is_empty() && product.is_none() {
            return Err(Refusal::bad("no such product"));
        }
        let Some(wanted) = id("licenseTemplateId").or(product.map(|product| product.template)) else {
            return Ok(self.settings.templates.first().cloned().unwrap_or_default());
        };
        let template = self.settings.templates.iter().find(|template| template.id == wanted);
        match template {
            Some(template) => Ok(template.clone()),
            None if self.settings.templates.is_empty() => Ok(Template { id: wanted, ..Template::default() }),
            None => Err(Refusal::bad("no such license template")),
        }
    }

    fn check_owner(&self, given: &Map<String, Value>) -> Result<(), Refusal> {
        let Some(owner) = given.get("userId").and_then(Value::as_str) else { return Ok(()) };
        let known = position(&self.users, owner, |user| user.0.id).is_some();
        if known { Ok(()) } else { Err(Refusal::bad("no such user")) }
    }

    fn check_entitlements(&self, given: &Map<String, Value>) -> Result<(), Refusal> {
        let Some(wanted) = given.get("entitlementSetId").and_then(Value::as_str) else { return Ok(()) };
        let sets = &self.settings.entitlement_sets;
        let known = sets.is_empty() || position(sets, wanted, |set| *set).is_some();
        if known { Ok(()) } else { Err(Refusal::bad("no such entitlement set")) }
    }

    fn check_key(&self, key: Option<&Value>) -> Result<(), Refusal> {
        let taken = key.is_some_and(|key| self.licenses.iter().any(|license| &license.record.fields["key"] == key));
        taken_or_not(taken, self.settings.duplicate_key, "a license has this key")
    }

    fn check_email(&self, email: Option<&Value>, except: Option<Uuid>) -> Result<(), Refusal> {
        let Some(email) = email.and_then(Value::as_str) else { return Ok(()) };
        if !email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty()) {
            return Err(Refusal::bad("`email` is not an address"));
        }
        let same = |user: &User| match self.settings.email_comparison {
            EmailComparison::Exact => user.email() == email,
            EmailComparison::IgnoringCase => user.email().to_lowercase() == email.to_lowercase(),
        };
        let taken = self.users.iter().any(|user| Some(user.0.id) != except && same(user));
        taken_or_not(taken, self.settings.duplicate_email, "a user has this address")
    }
}

fn taken_or_not(taken: bool, way: Duplicate, message: &str) -> Result<(), Refusal> {
    let refused = |status| Err(Refusal { status, code: "DUPLICATE", message: message.to_owned() });
    match way {
        Duplicate::Refused400 if taken => refused(StatusCode::BAD_REQUEST),
        Duplicate::Refused409 if taken => refused(StatusCode::CONFLICT),
        Duplicate::Refused400 | Duplicate::Refused409 | Duplicate::Allowed => Ok(()),
    }
}

fn defaults(template: &Template, key: &str) -> Map<String, Value> {
    let fields = json!({
        "key": key,
        "licenseTemplateId": template.id,
        "userId": null,
        "subscriptionInterval": template.interval,
        "subscriptionStartTrigger": template.trigger,
        "entitlementSetId": null,
        "allowedActivations": template.allowed_activations,
        "allowedDeactivations": -1,
        "type": template.kind,
        "allowedFloatingClients": template.allowed_floating_clients,
        "suspended": false,
        "revoked": false,
        "maxAllowedReleaseVersion": null,
        "notes": null,
        "tags": [],
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// One interval after `start`, by the calendar; `None` without an interval.
fn after(start: Timestamp, license: &License) -> Result<Option<Timestamp>, Refusal> {
    let text = license.record.fields["subscriptionInterval"].as_str().unwrap_or_default();
    let Some(interval) = fields::interval(text) else { return Ok(None) };
    let end = start.to_zoned(TimeZone::UTC).checked_add(interval);
    end.map(|end| Some(end.timestamp())).map_err(|_| Refusal::bad("the interval is too long"))
}

fn given_metadata(body: &Value) -> impl Iterator<Item = (String, String)> {
    let entries = body["metadata"].as_array().map(Vec::as_slice).unwrap_or_default();
    entries.iter().filter_map(|entry| Some((entry["key"].as_str()?.to_owned(), entry["value"].as_str()?.to_owned())))
}

fn position<T>(all: &[T], id: &str, of: impl Fn(&T) -> Uuid) -> Option<usize> {
    let wanted = Uuid::parse_str(id).ok()?;
    all.iter().position(|one| of(one) == wanted)
}

fn seen(record: &Record, lag: Duration) -> bool {
    record.since.elapsed() >= lag
}
