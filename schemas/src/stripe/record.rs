//! How a Stripe event becomes an event of the log: a pure function of its header, the same however it reached us.

use crate::envelope::{Delivery, IdReuse, NewEvent, partition_of};
use crate::ids::{EventId, Scope, SourceName, StreamId};
use crate::stripe::Header;

/// Version of the data's schema: a Stripe body, exactly as delivered.
const SCHEMA_VERSION: u32 = 1;

/// The event to append for a delivery: `body` verbatim, and around it what `header` says.
///
/// Its id is `source:account:mode:evt_…:api_version`. The version is part of it because two endpoints pinned to
/// different versions deliver two renderings of one event, and either may hold the only link that is needed.
pub fn event_of(source: &SourceName, header: Header, delivery: Delivery, body: Vec<u8>) -> NewEvent {
    let rendering = match &header.api_version {
        _ if header.thin => "thin",
        Some(version) => version,
        None => "-",
    };
    let kind = if header.thin { format!("stripe.thin.{}", header.kind) } else { format!("stripe.{}", header.kind) };
    let scope = Scope { source: source.clone(), account: header.account, mode: header.mode };
    let id = EventId::new(format!("{scope}:{}:{rendering}", header.id));
    let object = header.object.as_deref().unwrap_or(header.id.as_str());
    let partition_key = header.customer.as_deref().unwrap_or(object);
    NewEvent {
        kind,
        stream: StreamId::new(format!("stripe:{scope}:{object}")),
        occurred_at: header.created.unwrap_or(delivery.received_at),
        causation_id: None,
        correlation_id: Some(id.clone()),
        schema_version: SCHEMA_VERSION,
        actor: None,
        partition: partition_of(partition_key),
        delivery: Some(delivery),
        data: body,
        // A second delivery differs in `pending_webhooks`; the first is kept.
        on_reuse: IdReuse::FirstWins,
        id,
        scope,
    }
}

#[cfg(test)]
mod tests {
    use crate::ids::Mode;
    use jiff::Timestamp;

    use super::*;

    fn header() -> Header {
        Header {
            id: "evt_1".into(),
            api_version: Some("2024-06-20".to_owned()),
            kind: "invoice.paid".to_owned(),
            created: Some(Timestamp::UNIX_EPOCH),
            mode: Mode::Live,
            account: None,
            object: Some("in_1".to_owned()),
            customer: Some("cus_1".to_owned()),
            thin: false,
        }
    }

    fn event(header: Header) -> NewEvent {
        let received_at = Timestamp::from_second(100).unwrap();
        let delivery = Delivery { signature: "t=1".to_owned(), secret: "secret-1".to_owned(), received_at };
        event_of(&SourceName::default(), header, delivery, b"{}".to_vec())
    }

    #[test]
    fn the_id_names_source_account_mode_event_and_version() {
        let own = event(header());
        assert_eq!(own.id.as_str(), "default:-:live:evt_1:2024-06-20");
        assert_eq!(own.stream.as_str(), "stripe:default:-:live:in_1");
        assert_eq!(own.kind, "stripe.invoice.paid");
        assert_eq!(own.correlation_id, Some(own.id));
        let connected = event(Header { account: Some("acct_9".into()), mode: Mode::Test, ..header() });
        assert_eq!(connected.id.as_str(), "default:acct_9:test:evt_1:2024-06-20");
        assert_eq!(connected.stream.as_str(), "stripe:default:acct_9:test:in_1");
    }

    #[test]
    fn a_thin_event_is_named_apart_from_its_snapshot() {
        let thin = Header {
            thin: true,
            api_version: None,
            kind: "v1.invoice.paid".to_owned(),
            object: None,
            customer: None,
            ..header()
        };
        let thin = event(thin);
        assert_eq!(thin.id.as_str(), "default:-:live:evt_1:thin");
        assert_eq!(thin.kind, "stripe.thin.v1.invoice.paid");
        assert_eq!(thin.stream.as_str(), "stripe:default:-:live:evt_1");
        assert_eq!(thin.partition, partition_of("evt_1"));
    }

    #[test]
    fn a_null_version_and_an_absent_time_have_a_place() {
        let event = event(Header { api_version: None, created: None, ..header() });
        assert_eq!(event.id.as_str(), "default:-:live:evt_1:-");
        assert_eq!(event.occurred_at, Timestamp::from_second(100).unwrap());
    }

    #[test]
    fn all_events_of_a_customer_share_a_partition() {
        let invoice = event(header());
        let charge = event(Header { object: Some("ch_1".to_owned()), ..header() });
        assert_eq!(invoice.partition, charge.partition);
        let product = event(Header { customer: None, object: Some("prod_1".to_owned()), ..header() });
        assert_eq!(product.partition, partition_of("prod_1"));
    }
}
