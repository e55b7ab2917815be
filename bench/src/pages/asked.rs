//! What is asked for.

use super::sample::{Sample, encoded};

/// One kind of request.
pub struct Asked {
    pub name: String,
    /// Asked in turn.
    pub paths: Vec<String>,
    /// A query in the boolean language.
    pub is_query: bool,
}

/// Lists with filters that are the same in every request.
const LISTS: [(&str, &str); 20] = [
    ("customers", "/customers?"),
    ("subscriptions", "/subscriptions?"),
    ("subscriptions that are active", "/subscriptions?status=active&"),
    ("subscriptions that are canceled", "/subscriptions?status=canceled&"),
    ("subscriptions past due, of which there are few", "/subscriptions?status=past_due&"),
    ("licenses", "/licenses?"),
    ("cases", "/cases?"),
    ("open cases", "/cases?status=open&"),
    ("closed cases", "/cases?status=closed&"),
    ("cases without a key", "/cases?kind=no_key&"),
    ("open cases without a key, of which there are few", "/cases?kind=no_key&status=open&"),
    ("open disputes", "/cases?kind=disputed&status=open&"),
    ("waived cases, of which there are none", "/cases?status=waived&"),
    ("customers by name", "/customers?name=Jenny&"),
    ("customers by a name that nobody has", "/customers?name=Zacharias&"),
    ("status", "/status?"),
    ("sold without a mapping", "/catalog/unmapped?"),
    ("licenses of another account", "/licenses?mode=test&"),
    ("customers of another account", "/customers?mode=test&"),
    ("cases of another account", "/cases?mode=test&"),
];

/// Filters of the log.
const EVENTS: [(&str, &str); 5] = [
    ("events", "/events?"),
    ("events that pay an invoice", "/events?type=stripe.invoice.paid&"),
    ("events of licenses", "/events?type=license.*&"),
    ("events of disputes, of which there are few", "/events?type=stripe.charge.dispute.*&"),
    ("events of a type of which there is one", "/events?type=settings.changed&"),
];

/// Things by what a list says of them: the list, what of it, and the path.
const THINGS: [(&str, &str, &str, &str); 29] = [
    ("a customer", "customers", "/id", "/customers/{}"),
    ("customers by address", "customers", "/email", "/customers?email={}"),
    ("a subscription", "subscriptions", "/id", "/subscriptions/{}"),
    ("subscriptions of a customer", "customers", "/id", "/subscriptions?customer={}"),
    ("a license", "licenses", "/id", "/licenses/{}"),
    ("a license's file", "licenses", "/id", "/licenses/{}/file"),
    ("licenses of a subscription", "subscriptions", "/id", "/licenses?subscription={}"),
    ("licenses of a customer", "customers", "/id", "/licenses?customer={}"),
    ("licenses by address", "customers", "/email", "/licenses?email={}"),
    ("licenses by the engine's id", "licenses", "/provider_id", "/licenses?provider_id={}"),
    ("a case", "cases", "/id", "/cases/{}"),
    ("cases of a customer", "customers", "/id", "/cases?customer={}"),
    ("cases of a purchase", "cases", "/purchase/stripe_id", "/cases?purchase={}"),
    ("an event", "events", "/id", "/events/{}"),
    ("an event's bytes", "events", "/id", "/events/{}/raw"),
    ("events of a stream", "events", "/stream", "/events?stream={}"),
    ("search: customer", "customers", "/id", "/search?q={}"),
    ("search: subscription", "subscriptions", "/id", "/search?q={}"),
    ("search: subscription item", "subscriptions", "/items/0/id", "/search?q={}"),
    ("search: invoice", "payments", "/id", "/search?q={}"),
    ("search: invoice number", "payments", "/number", "/search?q={}"),
    ("search: price, which everybody bought", "subscriptions", "/items/0/price", "/search?q={}"),
    ("search: address", "customers", "/email", "/search?q={}"),
    ("search: license", "licenses", "/id", "/search?q={}"),
    ("search: case", "cases", "/id", "/search?q={}"),
    ("search: event", "events", "/id", "/search?q={}"),
    ("search: Stripe event", "stripe_events", "/stripe_id", "/search?q={}"),
    ("search: name", "customers", "/name", "/search?q={}"),
    ("search: key", "revealed", "/key", "/search?q={}"),
];

/// Queries in the boolean language.
const QUERIES: [&str; 7] = [
    "is:no-key",
    "is:disputed amount>=10",
    "status:grace expires<=+3d",
    "email~\"@acme.com\" -is:test",
    "created:-7d",
    "is:no-key amount>=50 created:-7d",
    "status:active seats>=3",
];

/// All of it.
pub fn all(sample: &Sample) -> Vec<Asked> {
    let page = |name: String, paths: Vec<String>| Asked { name, paths, is_query: false };
    let mut all = Vec::new();
    for (name, path) in LISTS {
        all.push(page(name.to_owned(), vec![path.trim_end_matches(['?', '&']).to_owned()]));
        let list = path.trim_start_matches('/').split('?').next().unwrap_or_default();
        if path.ends_with('?') && !sample.middle(list).is_empty() {
            let after = sample.middle(list);
            all.push(page(format!("{name}, in the middle"), vec![format!("{path}after={after}")]));
            all.push(page(format!("{name}, in the middle, 200 rows"), vec![format!("{path}limit=200&after={after}")]));
        }
    }
    for (name, path) in EVENTS {
        let after = sample.middle_position();
        all.push(page(name.to_owned(), vec![path.trim_end_matches(['?', '&']).to_owned()]));
        all.push(page(format!("{name}, in the middle"), vec![format!("{path}after={after}")]));
    }
    for (name, list, pointer, path) in THINGS {
        all.push(page(name.to_owned(), sample.paths(list, pointer, path)));
    }
    all.push(page("search: end of a key".to_owned(), sample.ends("licenses", "/key", 4, "/search?q={}")));
    for query in QUERIES {
        let paths = vec![format!("/search?q={}", encoded(query))];
        all.push(Asked { name: format!("query: {query}"), paths, is_query: true });
    }
    all.retain(|asked| !asked.paths.is_empty());
    all
}
