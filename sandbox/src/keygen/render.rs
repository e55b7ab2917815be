//! Licenses and users as Keygen answers them.

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::account::{Account, License, User};
use super::metadata;

/// How to answer: under which path, in which version.
#[derive(Clone, Debug)]
pub(super) struct Style {
    pub(super) base: String,
    pub(super) version: &'static str,
}

impl Style {
    /// Up to 1.4, nested metadata keys stay as they are stored.
    fn nested_too(&self) -> bool {
        self.version > "1.4"
    }

    /// Up to 1.5 the owner was called the user.
    fn owner(&self) -> &'static str {
        if self.version > "1.5" { "owner" } else { "user" }
    }
}

pub(super) fn license(account: &Account, license: &License, style: &Style) -> Value {
    let policy = account.policy(license.policy);
    let limit = |name: &str| license.limits.get(name);
    let path = format!("{}/licenses/{}", style.base, license.id);
    let attributes = json!({
        "name": license.name,
        "key": license.key,
        "expiry": license.expiry.map(time),
        "status": account.status(license),
        "uses": 0,
        "suspended": license.suspended,
        "scheme": policy.and_then(|policy| policy.scheme.clone()),
        "encrypted": false,
        "strict": false,
        "floating": policy.is_some_and(|policy| policy.floating),
        "protected": license.protected,
        "version": null,
        "maxMachines": account.max_machines(license),
        "maxProcesses": limit("max_processes"),
        "maxUsers": limit("max_users"),
        "maxCores": limit("max_cores"),
        "maxMemory": limit("max_memory"),
        "maxDisk": limit("max_disk"),
        "maxUses": limit("max_uses"),
        "requireHeartbeat": false,
        "requireCheckIn": false,
        "lastValidated": null,
        "lastCheckIn": null,
        "nextCheckIn": null,
        "lastCheckOut": null,
        "metadata": metadata::answered(&license.metadata, style.nested_too()),
        "created": time(license.created),
        "updated": time(license.updated),
    });
    let related = |name: &str, kind: &str, id: Option<Uuid>| {
        json!({
            "links": { "related": format!("{path}/{name}") },
            "data": id.map(|id| json!({ "type": kind, "id": id })),
        })
    };
    let linked = |name: &str| json!({ "links": { "related": format!("{path}/{name}") } });
    let counted = |name: &str, count: usize| json!({ "links": { "related": format!("{path}/{name}") }, "meta": { "count": count } });
    let mut relationships = json!({
        "account": {
            "links": { "related": style.base },
            "data": { "type": "accounts", "id": account.settings.account },
        },
        "product": related("product", "products", policy.map(|policy| policy.product)),
        "policy": related("policy", "policies", Some(license.policy)),
        "group": related("group", "groups", None),
        "users": counted("users", usize::from(license.owner.is_some())),
        "machines": counted("machines", 0),
        "tokens": linked("tokens"),
        "entitlements": linked("entitlements"),
    });
    relationships[style.owner()] = related(style.owner(), "users", license.owner);
    json!({
        "id": license.id,
        "type": "licenses",
        "attributes": attributes,
        "relationships": relationships,
        "links": { "self": path },
    })
}

pub(super) fn user(user: &User, style: &Style) -> Value {
    let full_name: Vec<&str> = [&user.first_name, &user.last_name].into_iter().flatten().map(String::as_str).collect();
    json!({
        "id": user.id,
        "type": "users",
        "attributes": {
            "fullName": (!full_name.is_empty()).then(|| full_name.join(" ")),
            "firstName": user.first_name,
            "lastName": user.last_name,
            "email": user.email,
            "status": if user.banned { "BANNED" } else { "ACTIVE" },
            "role": if user.admin { "admin" } else { "user" },
            "permissions": null,
            "metadata": metadata::answered(&user.metadata, style.nested_too()),
            "created": time(user.created),
            "updated": time(user.updated),
        },
        "relationships": {},
        "links": { "self": format!("{}/users/{}", style.base, user.id) },
    })
}

pub(super) fn entitlement(account: &Account, id: Uuid, style: &Style) -> Value {
    let code = account.settings.entitlements.iter().find(|known| known.id == id).map(|known| known.code.clone());
    json!({
        "id": id,
        "type": "entitlements",
        "attributes": { "name": code, "code": code, "metadata": {} },
        "links": { "self": format!("{}/entitlements/{id}", style.base) },
    })
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
