//! Objects as they are now, for what happened before the list of events begins.

use std::collections::BTreeSet;

use futures::FutureExt;
use jiff::Timestamp;
use keyledger_schemas::stripe::fact::{Fact, SubscriptionSeen};
use keyledger_schemas::stripe::fetched::{Fetched, is_whole};
use keyledger_schemas::stripe::{facts, news};
use serde_json::Value;

use super::{Missing, ReconcileError, Run, Step, patiently};
use crate::stripe::client::Want;

/// A list of objects to look through.
struct Listed {
    step: Step,
    /// Stripe's word for one.
    object: &'static str,
    path: &'static str,
    /// What narrows the list, besides time.
    query: &'static [(&'static str, &'static str)],
    /// Narrowed to what was made in the time that is looked at. Subscriptions live long, and change all their lives.
    by_time: bool,
}

const LISTS: [Listed; 5] = [
    Listed {
        step: Step::Subscriptions,
        object: "subscription",
        path: "/v1/subscriptions",
        query: &[("status", "all")],
        by_time: false,
    },
    Listed {
        step: Step::Invoices,
        object: "invoice",
        path: "/v1/invoices",
        query: &[("status", "paid"), ("expand[]", "data.payments")],
        by_time: true,
    },
    Listed {
        step: Step::Sessions,
        object: "checkout.session",
        path: "/v1/checkout/sessions",
        query: &[],
        by_time: true,
    },
    Listed { step: Step::Refunds, object: "refund", path: "/v1/refunds", query: &[], by_time: true },
    Listed { step: Step::Disputes, object: "dispute", path: "/v1/disputes", query: &[], by_time: true },
];

impl Run<'_> {
    /// Looks at everything that was made before `until`.
    pub(super) async fn objects(&mut self, until: Timestamp) -> Result<(), ReconcileError> {
        for list in &LISTS {
            self.list(list, until).await?;
        }
        Ok(())
    }

    async fn list(&mut self, list: &Listed, until: Timestamp) -> Result<(), ReconcileError> {
        let mut query: Vec<_> = list.query.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        if list.by_time {
            query.push(("created[gte]", self.options.since.as_second().max(0).to_string()));
            query.push(("created[lt]", until.as_second().max(0).to_string()));
        }
        let asked: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let path = if asked.is_empty() { list.path.to_owned() } else { format!("{}?{}", list.path, asked.join("&")) };
        let (mut after, mut looked) = (None::<String>, 0);
        loop {
            let page = patiently(|| self.client.page_after(list.path, &query, after.as_deref()).boxed()).await?;
            let mut back_to = None;
            for object in page.values()? {
                self.source.holds(&object)?;
                looked += 1;
                self.report.objects_seen += 1;
                back_to = object["created"].as_i64().and_then(|at| Timestamp::from_second(at).ok()).or(back_to);
                let Some(about) = object["id"].as_str().map(str::to_owned) else { continue };
                let object_kind = list.object.to_owned();
                let shown = Fetched { object: object_kind, about, at: page.at, path: path.clone(), answer: object };
                self.look_at(list, shown).await?;
            }
            self.tell(list.step, looked, back_to);
            after = page.cursor()?;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn look_at(&mut self, list: &Listed, shown: Fetched) -> Result<(), ReconcileError> {
        let stated = facts(&shown.encode());
        if !stated.iter().any(|fact| self.matters(fact)) {
            return Ok(());
        }
        let Some(shown) = self.saying_more(list, shown, stated).await? else { return Ok(()) };
        self.report.objects_missing += 1;
        let event = shown.event(&self.scope(), None);
        let made = shown.answer["created"].as_i64().and_then(|at| Timestamp::from_second(at).ok());
        self.found(Missing {
            account: self.account.clone(),
            kind: event.kind.clone(),
            id: shown.about.clone(),
            at: made.unwrap_or(shown.at),
        });
        self.report.objects_appended += self.append(vec![event]).await?;
        Ok(())
    }

    /// Whether a fact could change what is owed in the time that is looked at: a subscription that was over before is history,
    /// and a session that nobody completed never was a sale.
    fn matters(&self, fact: &Fact) -> bool {
        match fact {
            Fact::SubscriptionSeen(seen) => SubscriptionSeen::ended(seen).is_none_or(|at| at >= self.options.since),
            Fact::SessionSeen(seen) => seen.payment_status.settles(),
            Fact::InvoiceSeen(seen) => seen.paid,
            Fact::ChargeSeen(_)
            | Fact::RefundSeen(_)
            | Fact::DisputeSeen(_)
            | Fact::CustomerSeen(_)
            | Fact::PriceSeen(_)
            | Fact::ProductSeen(_) => true,
            Fact::Linked(_) => false,
        }
    }

    /// The object, or all of it where the list shows a part, if it says anything that the log does not.
    async fn saying_more(
        &mut self,
        list: &Listed,
        shown: Fetched,
        stated: Vec<Fact>,
    ) -> Result<Option<Fetched>, ReconcileError> {
        let scope = self.scope();
        let mut streams = BTreeSet::from([shown.about.clone()]);
        let own = self.known.facts(&scope, &streams).await?;
        let want = whole(list, &shown).filter(|_| !knows_whole(&own, &shown.about));
        if !news(&own, &stated) && want.is_none() {
            return Ok(None);
        }
        let (shown, stated) = match want {
            Some(want) => {
                let all = patiently(|| self.client.fetch(&want).boxed()).await?;
                self.source.holds(&all.answer)?;
                let stated = facts(&all.encode());
                (all, stated)
            }
            None => (shown, stated),
        };
        // What belongs to what may be said by others: a payment by its charge, its intent, or itself.
        streams.extend(others(&shown.answer, &stated));
        let known = self.known.facts(&scope, &streams).await?;
        Ok(news(&known, &stated).then_some(shown))
    }
}

/// How to ask for all of an object of which the list shows a part.
fn whole(list: &Listed, shown: &Fetched) -> Option<Want> {
    let id = shown.about.as_str();
    match list.step {
        Step::Subscriptions if !is_whole(&shown.answer, "items") => Some(Want::Subscription(id.into())),
        Step::Invoices if !is_whole(&shown.answer, "lines") => Some(Want::Invoice(id.into())),
        Step::Sessions if shown.answer["mode"] == "payment" => Some(Want::Session(id.into())),
        _ => None,
    }
}

/// Whether the log has seen all of it before, so that a part says nothing that it lacks.
fn knows_whole(known: &[Fact], id: &str) -> bool {
    known.iter().any(|fact| match fact {
        Fact::SubscriptionSeen(seen) => seen.id.as_str() == id && !seen.items_truncated,
        Fact::InvoiceSeen(seen) => seen.id.as_str() == id && seen.paid && !seen.lines_truncated,
        Fact::SessionSeen(seen) => seen.id.as_str() == id && seen.lines.is_some(),
        _ => false,
    })
}

/// Other objects whose streams may say what belongs to what here.
fn others(object: &Value, stated: &[Fact]) -> BTreeSet<String> {
    let payments = object["payments"]["data"].as_array().into_iter().flatten();
    let mut ids: BTreeSet<String> = payments.filter_map(|payment| payment["id"].as_str()).map(str::to_owned).collect();
    for fact in stated {
        if let Fact::Linked(link) = fact {
            ids.extend([link.child.id().to_owned(), link.parent.id().to_owned()]);
        }
    }
    ids
}
