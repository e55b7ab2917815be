//! What can be read: one object, a list of a kind, a list inside an object.

use serde_json::{Value, json};

use super::answer::Refusal;
use super::list::{CREATED, PAGING, is_created_within, page, reference};
use super::params::Params;
use super::world::{Realm, World};

/// Events are listed for this long.
const EVENTS_S: i64 = 30 * 24 * 60 * 60;

/// Types that one list of events can be narrowed to.
const TYPES_MAX: usize = 20;

/// Invoice payments exist since this version.
const BASIL: &str = "2025-03-31";

/// A kind of object that can be read.
pub(super) struct Resource {
    /// Its path below `/v1`.
    pub(super) path: &'static str,
    /// Its `object`.
    pub(super) kind: &'static str,
    /// What its list can be narrowed by, besides its time.
    filters: &'static [&'static str],
    /// What can be expanded in one.
    expands: &'static [&'static str],
}

/// Everything that can be read under `/v1`, apart from events.
pub(super) const RESOURCES: [Resource; 12] = [
    Resource {
        path: "subscriptions",
        kind: "subscription",
        filters: &["status", "customer", "price"],
        expands: &["latest_invoice", "customer", "items.data.price.product"],
    },
    Resource { path: "customers", kind: "customer", filters: &["email"], expands: &[] },
    Resource {
        path: "invoices",
        kind: "invoice",
        filters: &["subscription", "status", "customer", "collection_method"],
        expands: &["payments", "subscription", "customer", "charge", "payment_intent"],
    },
    Resource {
        path: "invoice_payments",
        kind: "invoice_payment",
        filters: &["invoice", "status", "payment[type]", "payment[payment_intent]", "payment[charge]"],
        expands: &["invoice", "payment.charge", "payment.payment_intent"],
    },
    Resource {
        path: "checkout/sessions",
        kind: "checkout.session",
        filters: &["payment_intent", "subscription", "customer", "status"],
        expands: &["line_items", "payment_intent", "subscription", "invoice", "customer"],
    },
    Resource {
        path: "charges",
        kind: "charge",
        filters: &["customer", "payment_intent"],
        expands: &["payment_intent"],
    },
    Resource { path: "payment_intents", kind: "payment_intent", filters: &["customer"], expands: &["latest_charge"] },
    Resource {
        path: "refunds",
        kind: "refund",
        filters: &["charge", "payment_intent"],
        expands: &["charge", "payment_intent"],
    },
    Resource {
        path: "disputes",
        kind: "dispute",
        filters: &["charge", "payment_intent"],
        expands: &["charge", "payment_intent"],
    },
    Resource { path: "prices", kind: "price", filters: &["product", "active"], expands: &["product"] },
    Resource { path: "products", kind: "product", filters: &["active"], expands: &["default_price"] },
    Resource { path: "plans", kind: "plan", filters: &["product", "active"], expands: &["product"] },
];

/// Who asks, and when.
pub(super) struct Asked<'a> {
    pub(super) world: &'a World,
    pub(super) realm: &'a Realm,
    pub(super) now: i64,
    /// `Stripe-Version`.
    pub(super) version: &'a str,
    pub(super) params: &'a Params,
}

impl Asked<'_> {
    /// One object.
    pub(super) fn one(&self, resource: &Resource, id: &str) -> Result<Value, Refusal> {
        self.params.only(&["expand[]"])?;
        self.exists_in_version(resource)?;
        let missing = || Refusal::missing(resource.kind, id, "id");
        if resource.kind == "invoice_payment" {
            let found = self.world.invoice_payments(self.realm).into_iter().find(|payment| payment["id"] == id);
            return found.ok_or_else(missing);
        }
        let mut object = self.world.object(self.realm, resource.kind, id).ok_or_else(missing)?;
        for path in self.params.list("expand") {
            self.expand(resource, &mut object, path)?;
        }
        Ok(object)
    }

    /// A list of a kind.
    pub(super) fn list(&self, resource: &Resource) -> Result<Value, Refusal> {
        let known: Vec<&str> = [&PAGING[..], &CREATED[..], resource.filters].concat();
        self.params.only(&known)?;
        self.exists_in_version(resource)?;
        let all = match resource.kind {
            "invoice_payment" => self.world.invoice_payments(self.realm),
            kind => self.world.all(self.realm, kind),
        };
        // A parameter that cannot be is refused even where the list is empty.
        is_created_within(&Value::Null, self.params)?;
        self.check_filters(resource)?;
        let url = format!("/v1/{}", resource.path);
        let wanted = |object: &Value| {
            is_created_within(object, self.params).unwrap_or(false)
                && resource.filters.iter().all(|filter| self.is_wanted(resource, object, filter))
        };
        let mut found = page(all, self.params, &url, wanted)?;
        for path in self.params.list("expand") {
            let inner = path.strip_prefix("data.").ok_or_else(|| cannot_expand(path))?;
            for object in found["data"].as_array_mut().into_iter().flatten() {
                self.expand(resource, object, inner)?;
            }
        }
        Ok(found)
    }

    /// A list inside an object: `lines` of an invoice, `line_items` of a session.
    pub(super) fn inner(&self, resource: &Resource, id: &str, name: &str) -> Result<Value, Refusal> {
        self.params.only(&PAGING)?;
        let elements = self.world.list(self.realm, resource.kind, id, name);
        let elements = elements.ok_or_else(|| Refusal::missing(resource.kind, id, "id"))?;
        page(elements, self.params, &format!("/v1/{}/{id}/{name}", resource.path), |_| true)
    }

    /// `GET /v1/subscription_items?subscription=`
    pub(super) fn subscription_items(&self) -> Result<Value, Refusal> {
        self.params.only(&[&PAGING[..], &["subscription"]].concat())?;
        let needed =
            || Refusal::parameter("parameter_missing", "subscription", "Missing required param: subscription.");
        let id = self.params.get("subscription").ok_or_else(needed)?;
        let items = self.world.list(self.realm, "subscription", id, "items");
        let items =
            items.ok_or_else(|| Refusal { status: 400, ..Refusal::missing("subscription", id, "subscription") })?;
        page(items, self.params, "/v1/subscription_items", |_| true)
    }

    /// `GET /v1/events`
    pub(super) fn events(&self) -> Result<Value, Refusal> {
        let own = ["type", "types[]", "delivery_success"];
        self.params.only(&[&PAGING[..], &CREATED[..], &own[..]].concat())?;
        is_created_within(&Value::Null, self.params)?;
        let types = self.params.list("types");
        let one = self.params.get("type");
        if one.is_some() && !types.is_empty() {
            let message = "You may only specify one of these parameters: type, types.";
            return Err(Refusal::parameter("parameters_exclusive", "type", message));
        }
        if types.len() > TYPES_MAX || types.iter().any(|kind| kind.contains('*')) {
            let message = format!("At most {TYPES_MAX} types, and none with a wildcard.");
            return Err(Refusal::parameter("parameter_invalid", "types", message));
        }
        let success = self.params.flag("delivery_success")?;
        let listed: Vec<_> =
            self.world.events(self.realm).into_iter().filter(|(event, _)| self.is_recent(event)).collect();
        let delivered: Vec<bool> = listed.iter().map(|(_, delivered)| *delivered).collect();
        let ids: Vec<Value> = listed.iter().map(|(event, _)| event["id"].clone()).collect();
        let all = listed.into_iter().map(|(event, _)| event.clone()).collect();
        page(all, self.params, "/v1/events", |event| {
            let kind = event["type"].as_str().unwrap_or_default();
            let named = one.is_none_or(|pattern| is_kind(pattern, kind)) && (types.is_empty() || types.contains(&kind));
            let place = ids.iter().position(|id| *id == event["id"]);
            let as_delivered = success.is_none() || place.and_then(|at| delivered.get(at).copied()) == success;
            named && as_delivered && is_created_within(event, self.params).unwrap_or(false)
        })
    }

    /// `GET /v1/events/:id`
    pub(super) fn event(&self, id: &str) -> Result<Value, Refusal> {
        self.params.only(&["expand[]"])?;
        let found = self.world.event(self.realm, id).filter(|event| self.is_recent(event));
        found.cloned().ok_or_else(|| Refusal::missing("event", id, "id"))
    }

    /// `GET /v2/core/events/:id`
    pub(super) fn thin_event(&self, id: &str) -> Result<Value, Refusal> {
        self.params.only(&[])?;
        let found = self.world.thin_event(self.realm, id).cloned();
        found.ok_or_else(|| Refusal { code: Some("not_found"), ..Refusal::missing("event", id, "id") })
    }

    fn is_recent(&self, event: &Value) -> bool {
        event["created"].as_i64().is_some_and(|created| created >= self.now - EVENTS_S)
    }

    fn exists_in_version(&self, resource: &Resource) -> Result<(), Refusal> {
        if resource.kind == "invoice_payment" && self.version < BASIL {
            return Err(Refusal::no_such_call("GET", "/v1/invoice_payments"));
        }
        Ok(())
    }

    fn check_filters(&self, resource: &Resource) -> Result<(), Refusal> {
        if resource.filters.contains(&"active") {
            self.params.flag("active")?;
        }
        let (kind, named) = (self.params.get("payment[type]"), ["payment[payment_intent]", "payment[charge]"]);
        if kind.is_none() && named.iter().any(|name| self.params.get(name).is_some()) {
            return Err(Refusal::parameter(
                "parameter_missing",
                "payment[type]",
                "Missing required param: payment[type].",
            ));
        }
        let Some(status) = self.params.get("status") else { return Ok(()) };
        let known: &[&str] = match resource.kind {
            "invoice" => &["draft", "open", "paid", "uncollectible", "void"],
            "checkout.session" => &["open", "complete", "expired"],
            "invoice_payment" => &["open", "paid", "canceled"],
            _ => &[
                "active",
                "past_due",
                "unpaid",
                "canceled",
                "incomplete",
                "incomplete_expired",
                "trialing",
                "paused",
                "all",
                "ended",
            ],
        };
        let bad = || Refusal::parameter("parameter_invalid", "status", format!("Invalid status: {status}"));
        if known.contains(&status) { Ok(()) } else { Err(bad()) }
    }

    fn is_wanted(&self, resource: &Resource, object: &Value, filter: &str) -> bool {
        let wanted = self.params.get(filter);
        if (resource.kind, filter) == ("subscription", "status") {
            return has_status(object, wanted);
        }
        let Some(wanted) = wanted else { return true };
        let found = match (resource.kind, filter) {
            ("invoice", "subscription") => reference(&object["parent"]["subscription_details"]["subscription"])
                .or(reference(&object["subscription"])),
            ("invoice_payment", "payment[type]") => object["payment"]["type"].as_str(),
            ("invoice_payment", "payment[payment_intent]") => reference(&object["payment"]["payment_intent"]),
            ("invoice_payment", "payment[charge]") => reference(&object["payment"]["charge"]),
            ("subscription", "price") => {
                let items = object["items"]["data"].as_array();
                return items.into_iter().flatten().any(|item| reference(&item["price"]) == Some(wanted));
            }
            (_, "active") => return object["active"] == (wanted == "true"),
            _ => reference(&object[filter]),
        };
        found == Some(wanted)
    }

    fn expand(&self, resource: &Resource, object: &mut Value, path: &str) -> Result<(), Refusal> {
        if !resource.expands.contains(&path) {
            return Err(cannot_expand(path));
        }
        let id = object["id"].as_str().unwrap_or_default().to_owned();
        match (resource.kind, path) {
            ("invoice", "payments") if self.version >= BASIL => {
                let all = self.world.invoice_payments(self.realm);
                let own: Vec<Value> = all.into_iter().filter(|payment| payment["invoice"] == *id).collect();
                let shown = &own[..own.len().min(10)];
                object["payments"] = json!({"object": "list", "data": shown, "has_more": own.len() > 10,
                    "url": "/v1/invoice_payments"});
            }
            ("invoice", "payments") => return Err(cannot_expand(path)),
            ("checkout.session", "line_items") => {
                let all = self.world.list(self.realm, resource.kind, &id, path).unwrap_or_default();
                object["line_items"] = json!({"object": "list", "data": all[..all.len().min(10)],
                    "has_more": all.len() > 10, "url": format!("/v1/checkout/sessions/{id}/line_items")});
            }
            _ => self.embed(object, path),
        }
        Ok(())
    }

    /// Puts the object in the place of its id, where both are known.
    fn embed(&self, object: &mut Value, path: &str) {
        let mut place = object;
        for name in path.split('.') {
            match place {
                Value::Object(fields) => match fields.get_mut(name) {
                    Some(inner) => place = inner,
                    None => return,
                },
                // `items.data.price.product`: of each.
                Value::Array(elements) => {
                    let rest = path.split_once(".data.").map_or(path, |(_, rest)| rest);
                    for element in elements {
                        self.embed(element, rest);
                    }
                    return;
                }
                _ => return,
            }
        }
        let Some(id) = place.as_str() else { return };
        let known = RESOURCES.iter().find_map(|resource| self.world.object(self.realm, resource.kind, id));
        if let Some(known) = known {
            *place = known;
        }
    }
}

fn cannot_expand(path: &str) -> Refusal {
    Refusal::parameter("parameter_invalid", "expand", format!("This property cannot be expanded ({path})."))
}

/// Without a status, canceled subscriptions are left out.
fn has_status(object: &Value, wanted: Option<&str>) -> bool {
    let status = object["status"].as_str().unwrap_or_default();
    match wanted {
        None => status != "canceled",
        Some("all") => true,
        Some("ended") => ["canceled", "incomplete_expired"].contains(&status),
        Some(wanted) => status == wanted,
    }
}

fn is_kind(pattern: &str, kind: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == kind, |prefix| kind.starts_with(prefix))
}
