//! Calls about licenses.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::account::{Account, License};
use super::call::Call;
use super::document::{self, Document, Kind, Relationship, Shape};
use super::metadata;
use super::pages::page;
use super::problem::{self, Problem};
use super::render::{self, Style};
use super::settings::RenewalBasis;

const NAME_BYTES_MAX: usize = 1024;
const KEY_BYTES_MAX: usize = 16 * 1024;
const KEY_CHARS_MIN: usize = 6;

const LICENSE: [&str; 2] = ["license", "licenses"];
const USER: [&str; 2] = ["user", "users"];
const POLICY: [&str; 2] = ["policy", "policies"];
const ENTITLEMENT: [&str; 2] = ["entitlement", "entitlements"];

const NEW: Shape = Shape {
    kinds: LICENSE,
    id: true,
    attributes_required: false,
    attributes: &[
        ("name", Kind::TextOrNull),
        ("key", Kind::Text),
        ("expiry", Kind::TimeOrNull),
        ("suspended", Kind::Bool),
        ("protected", Kind::Bool),
        ("max_machines", Kind::CountOrNull),
        ("max_cores", Kind::CountOrNull),
        ("max_memory", Kind::CountOrNull),
        ("max_disk", Kind::CountOrNull),
        ("max_uses", Kind::CountOrNull),
        ("max_processes", Kind::CountOrNull),
        ("max_users", Kind::CountOrNull),
        ("metadata", Kind::Metadata),
    ],
    relationships: &[
        Relationship { name: "policy", alias: "policy", kinds: POLICY, required: true },
        Relationship { name: "owner", alias: "user", kinds: USER, required: false },
    ],
};

const PATCH: Shape = Shape { id: false, attributes_required: true, relationships: &[], ..NEW };

const LIMITS: [&str; 7] =
    ["max_machines", "max_cores", "max_memory", "max_disk", "max_uses", "max_processes", "max_users"];

pub(super) fn list(account: &Account, call: &Call, style: &Style, lag: Duration) -> Result<Response, Problem> {
    let licenses: Vec<License> = account
        .licenses
        .iter()
        .filter(|license| account.sees(license.policy) && Account::is_visible(license, lag))
        .filter(|license| is_wanted(account, license, call))
        .cloned()
        .collect();
    let path = format!("{}/licenses", style.base);
    let show = |license: &License| render::license(account, license, style);
    let body = page(&licenses, |license| license.id, show, &path, &call.query)?;
    Ok(problem::document(StatusCode::OK, &body))
}

/// All filters that are known; like the real one it passes over others.
fn is_wanted(account: &Account, license: &License, call: &Call) -> bool {
    let is = |name: &str, value: String| call.query.get(name).is_none_or(|wanted| wanted == value);
    let owner = account.users.iter().find(|user| Some(user.id) == license.owner);
    let of_owner = |wanted: &str| owner.is_some_and(|user| user.id.to_string() == wanted || user.email == wanted);
    let product = account.policy(license.policy).map(|policy| policy.product.to_string()).unwrap_or_default();
    call.query.metadata().all(|(key, wanted)| metadata::matches(&license.metadata, key, wanted))
        && ["owner", "user"].into_iter().all(|name| call.query.get(name).is_none_or(of_owner))
        && is("policy", license.policy.to_string())
        && is("product", product)
        && is("suspended", license.suspended.to_string())
        && is("assigned", license.owner.is_some().to_string())
        && is("status", account.status(license).to_owned())
        && is("expired", (account.status(license) == "EXPIRED").to_string())
}

pub(super) fn read(account: &Account, id: &str, style: &Style) -> Result<Response, Problem> {
    Ok(shown(account, place(account, id)?, style))
}

pub(super) fn create(account: &mut Account, call: &Call, style: &Style) -> Result<Response, Problem> {
    let wanted = Document::read(&call.body, &NEW)?;
    let policy = wanted.relationship("policy").unwrap_or_default();
    check_policy(account, policy)?;
    if let Some(id) = wanted.id {
        check_id(account, id)?;
    }
    let owner = wanted.relationship("owner");
    check_owner(account, owner)?;
    check(account, policy, &wanted)?;
    let key = match wanted.text("key") {
        Some(key) => {
            check_key(account, policy, key)?;
            key.to_owned()
        }
        None => account.next_key(),
    };
    let now = account.now();
    // Null is as good as nothing here: the policy's duration counts.
    let expiry = match wanted.time("expiry") {
        Some(at) => Some(at),
        None => first_expiry(account, policy, now),
    };
    let id = wanted.id.unwrap_or_else(|| account.next_id());
    let mut license = License {
        id,
        key,
        name: wanted.text("name").map(str::to_owned),
        policy,
        owner,
        expiry,
        suspended: wanted.bool("suspended").unwrap_or_default(),
        protected: wanted.bool("protected").unwrap_or_default(),
        limits: BTreeMap::new(),
        metadata: wanted.metadata().cloned().unwrap_or_default(),
        entitlements: std::collections::BTreeSet::new(),
        created: now,
        updated: now,
        renewed_s: 0,
        made: Some(Instant::now()),
    };
    set_limits(&mut license, &wanted);
    account.made.push(license.metadata.clone());
    account.licenses.push(license);
    let answer = document_of(account, account.licenses.len() - 1, style, StatusCode::CREATED);
    Ok(super::located(answer, &format!("{}/licenses/{id}", style.base)))
}

pub(super) fn update(account: &mut Account, call: &Call, id: &str, style: &Style) -> Result<Response, Problem> {
    let at = place(account, id)?;
    let wanted = Document::read(&call.body, &PATCH)?;
    if wanted.attributes.contains_key("key") {
        return Err(Problem::bad_request("unpermitted parameter").at("/data/attributes/key"));
    }
    check(account, account.licenses[at].policy, &wanted)?;
    let now = account.now();
    let license = &mut account.licenses[at];
    if let Some(name) = wanted.attributes.get("name") {
        license.name = name.as_str().map(str::to_owned);
    }
    if wanted.says("expiry") {
        license.expiry = wanted.time("expiry");
    }
    license.suspended = wanted.bool("suspended").unwrap_or(license.suspended);
    license.protected = wanted.bool("protected").unwrap_or(license.protected);
    if let Some(metadata) = wanted.metadata() {
        license.metadata.clone_from(metadata);
    }
    set_limits(license, &wanted);
    license.updated = now;
    Ok(shown(account, at, style))
}

pub(super) fn destroy(account: &mut Account, id: &str) -> Result<Response, Problem> {
    let at = place(account, id)?;
    account.licenses.remove(at);
    let mut answer = Response::default();
    *answer.status_mut() = StatusCode::NO_CONTENT;
    Ok(answer)
}

pub(super) fn suspend(account: &mut Account, id: &str, wanted: bool, style: &Style) -> Result<Response, Problem> {
    let at = place(account, id)?;
    let license = &mut account.licenses[at];
    if license.suspended == wanted {
        let (code, detail) =
            if wanted { ("SUSPENDED_ALREADY", "is already suspended") } else { ("NOT_SUSPENDED", "is not suspended") };
        return Err(Problem::unprocessable(code, "/data/attributes/suspended", detail));
    }
    license.suspended = wanted;
    Ok(shown(account, at, style))
}

pub(super) fn renew(account: &mut Account, id: &str, style: &Style) -> Result<Response, Problem> {
    let at = place(account, id)?;
    let now = account.now();
    let policy = account.policy(account.licenses[at].policy).cloned();
    let Some((duration_s, basis)) =
        policy.and_then(|policy| policy.duration_s.map(|duration_s| (duration_s, policy.renewal_basis)))
    else {
        let detail = "cannot be renewed because the policy does not have a duration";
        return Err(Problem::unprocessable("RENEW_NOT_SUPPORTED", "/data/attributes/expiry", detail));
    };
    let license = &mut account.licenses[at];
    let Some(expiry) = license.expiry else { return Err(Problem::unprocessable_and_silent()) };
    let from = match basis {
        RenewalBasis::FromExpiry => expiry,
        RenewalBasis::FromNow => now,
        RenewalBasis::FromNowIfExpired => expiry.max(now),
    };
    license.expiry = Some(later(from, duration_s));
    license.renewed_s += duration_s;
    Ok(shown(account, at, style))
}

pub(super) fn set_owner(account: &mut Account, call: &Call, id: &str, style: &Style) -> Result<Response, Problem> {
    let at = place(account, id)?;
    let owner = document::linkage(&call.body, USER)?;
    check_owner(account, owner)?;
    account.licenses[at].owner = owner;
    Ok(shown(account, at, style))
}

pub(super) fn set_policy(account: &mut Account, call: &Call, id: &str, style: &Style) -> Result<Response, Problem> {
    let at = place(account, id)?;
    let wanted =
        document::linkage(&call.body, POLICY)?.ok_or_else(|| Problem::bad_request("is missing").at("/data"))?;
    check_policy(account, wanted)?;
    let scheme = |id| account.policy(id).and_then(|policy| policy.scheme.clone());
    if scheme(wanted) != scheme(account.licenses[at].policy) {
        let detail = "cannot change to a policy with a different scheme";
        return Err(Problem::unprocessable("POLICY_NOT_COMPATIBLE", "/data/relationships/policy", detail));
    }
    let resets = account.policy(wanted).is_some_and(|policy| policy.resets_expiry);
    let anew = first_expiry(account, wanted, account.now());
    let license = &mut account.licenses[at];
    license.policy = wanted;
    if resets {
        license.expiry = anew;
    }
    Ok(shown(account, at, style))
}

pub(super) fn entitlements(account: &Account, call: &Call, id: &str, style: &Style) -> Result<Response, Problem> {
    let license = &account.licenses[place(account, id)?];
    let all: Vec<Uuid> = account.entitlements(license).into_iter().collect();
    let path = format!("{}/licenses/{id}/entitlements", style.base);
    let body = page(&all, |id| *id, |id| render::entitlement(account, *id, style), &path, &call.query)?;
    Ok(problem::document(StatusCode::OK, &body))
}

pub(super) fn entitlement(account: &Account, id: &str, style: &Style) -> Result<Response, Problem> {
    let known = account.settings.entitlements.iter().find(|known| known.id.to_string() == id);
    let known = known.ok_or_else(|| Problem::not_found("entitlement", id))?;
    Ok(problem::document(StatusCode::OK, &json!({ "data": render::entitlement(account, known.id, style) })))
}

pub(super) fn of_policy(account: &Account, call: &Call, id: &str, style: &Style) -> Result<Response, Problem> {
    let policy = document::hyphenated(id).filter(|id| account.sees(*id)).and_then(|id| account.policy(id));
    let policy = policy.ok_or_else(|| Problem::not_found("policy", id))?;
    let all: Vec<Uuid> = policy.entitlements.iter().copied().collect();
    let path = format!("{}/policies/{id}/entitlements", style.base);
    let body = page(&all, |id| *id, |id| render::entitlement(account, *id, style), &path, &call.query)?;
    Ok(problem::document(StatusCode::OK, &body))
}

pub(super) fn attach(account: &mut Account, call: &Call, id: &str) -> Result<Response, Problem> {
    let at = place(account, id)?;
    let wanted = document::linkages(&call.body, ENTITLEMENT)?;
    let of_policy =
        account.policy(account.licenses[at].policy).map(|policy| policy.entitlements.clone()).unwrap_or_default();
    for (number, id) in wanted.iter().enumerate() {
        let pointer = format!("/data/{number}/relationships/entitlement");
        let problem = |code, detail: &str| Err(Problem::unprocessable(code, &pointer, detail));
        if !account.settings.entitlements.iter().any(|known| known.id == *id) {
            return problem("ENTITLEMENT_NOT_FOUND", "must exist");
        }
        if of_policy.contains(id) {
            return problem("ENTITLEMENT_CONFLICT", "already exists (entitlement is attached through policy)");
        }
        if account.licenses[at].entitlements.contains(id) || wanted[..number].contains(id) {
            return problem("ENTITLEMENT_TAKEN", "already exists");
        }
    }
    account.licenses[at].entitlements.extend(&wanted);
    let data: Vec<Value> = wanted
        .iter()
        .map(|id| json!({ "type": "license-entitlements", "relationships": { "entitlement": { "data": { "type": "entitlements", "id": id } } } }))
        .collect();
    Ok(problem::document(StatusCode::OK, &json!({ "data": data })))
}

pub(super) fn detach(account: &mut Account, call: &Call, id: &str) -> Result<Response, Problem> {
    let at = place(account, id)?;
    let wanted = document::linkages(&call.body, ENTITLEMENT)?;
    let of_policy =
        account.policy(account.licenses[at].policy).map(|policy| policy.entitlements.clone()).unwrap_or_default();
    for (number, id) in wanted.iter().enumerate() {
        if of_policy.contains(id) {
            return Err(Problem::forbidden("cannot detach entitlement that comes from the policy"));
        }
        if !account.licenses[at].entitlements.contains(id) {
            let detail = "cannot detach entitlement (entitlement is not attached)";
            return Err(Problem::unprocessable("ENTITLEMENT_NOT_ATTACHED", &format!("/data/{number}"), detail));
        }
    }
    account.licenses[at].entitlements.retain(|id| !wanted.contains(id));
    let mut answer = Response::default();
    *answer.status_mut() = StatusCode::NO_CONTENT;
    Ok(answer)
}

fn place(account: &Account, id: &str) -> Result<usize, Problem> {
    account.find_license(id).ok_or_else(|| Problem::not_found("license", id))
}

fn shown(account: &Account, at: usize, style: &Style) -> Response {
    document_of(account, at, style, StatusCode::OK)
}

fn document_of(account: &Account, at: usize, style: &Style, status: StatusCode) -> Response {
    problem::document(status, &json!({ "data": render::license(account, &account.licenses[at], style) }))
}

fn check_policy(account: &Account, policy: Uuid) -> Result<(), Problem> {
    if account.settings.token_product.is_some() {
        if account.sees(policy) {
            Ok(())
        } else {
            Err(Problem::forbidden("You do not have permission to complete the request"))
        }
    } else if account.policy(policy).is_some() {
        Ok(())
    } else {
        Err(Problem::unprocessable("POLICY_NOT_FOUND", "/data/relationships/policy", "must exist"))
    }
}

fn check_id(account: &Account, id: Uuid) -> Result<(), Problem> {
    if account.settings.ids_elsewhere.contains(&id) {
        return Err(Problem::conflict());
    }
    if account.licenses.iter().any(|license| license.id == id) {
        if account.settings.races {
            return Err(Problem::conflict());
        }
        return Err(Problem::unprocessable("ID_CONFLICT", "/data/id", "must not conflict with another license"));
    }
    Ok(())
}

fn check_owner(account: &Account, owner: Option<Uuid>) -> Result<(), Problem> {
    if owner.is_none_or(|owner| account.users.iter().any(|user| user.id == owner)) {
        return Ok(());
    }
    Err(Problem::unprocessable("OWNER_NOT_FOUND", "/data/relationships/owner", "must exist"))
}

fn check_key(account: &Account, policy: Uuid, key: &str) -> Result<(), Problem> {
    let pointer = "/data/attributes/key";
    let signed = account.policy(policy).is_some_and(|policy| policy.scheme.is_some());
    if key.is_empty() || (!signed && key.chars().count() < KEY_CHARS_MIN) {
        return Err(Problem::unprocessable("KEY_TOO_SHORT", pointer, "is too short (minimum is 6 characters)"));
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(Problem::unprocessable("KEY_TOO_LONG", pointer, "is too long"));
    }
    if document::hyphenated(key).is_some_and(|id| account.licenses.iter().any(|license| license.id == id)) {
        return Err(Problem::unprocessable(
            "KEY_CONFLICT",
            pointer,
            "must not conflict with another license's identifier",
        ));
    }
    if account.licenses.iter().any(|license| license.key == key) {
        return Err(Problem::unprocessable("KEY_TAKEN", pointer, "has already been taken"));
    }
    Ok(())
}

/// What holds for new licenses and for changes alike.
fn check(account: &Account, policy: Uuid, wanted: &Document) -> Result<(), Problem> {
    if wanted.text("name").is_some_and(|name| name.len() > NAME_BYTES_MAX) {
        return Err(Problem::unprocessable("NAME_TOO_LONG", "/data/attributes/name", "is too long"));
    }
    let floating = account.policy(policy).is_some_and(|policy| policy.floating);
    let pointer = "/data/attributes/maxMachines";
    let (fits, detail) = if floating {
        (1..=2_147_483_647, "must be greater than or equal to 1 for floating policy")
    } else {
        (1..=1, "must be equal to 1 for non-floating policy")
    };
    match wanted.attributes.get("max_machines") {
        None | Some(Value::Null) => Ok(()),
        Some(count) if count.as_u64().is_some_and(|count| fits.contains(&count)) => Ok(()),
        Some(_) => Err(Problem::unprocessable("MAX_MACHINES_INVALID", pointer, detail)),
    }
}

fn set_limits(license: &mut License, wanted: &Document) {
    for name in LIMITS {
        match wanted.count(name) {
            Some(count) => _ = license.limits.insert(name.to_owned(), count),
            None if wanted.says(name) => _ = license.limits.remove(name),
            None => {}
        }
    }
}

fn first_expiry(account: &Account, policy: Uuid, now: Timestamp) -> Option<Timestamp> {
    let policy = account.policy(policy).filter(|policy| policy.from_creation)?;
    policy.duration_s.map(|duration_s| later(now, duration_s))
}

fn later(from: Timestamp, seconds: u64) -> Timestamp {
    let duration = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    from.checked_add(duration).unwrap_or(Timestamp::MAX)
}
