//! What is written reads back exactly, and nothing that was changed, cut or mixed up reads at all.

use std::sync::Arc;

use jiff::Timestamp;
use keyledger_schemas::clock::ManualClock;
use keyledger_schemas::envelope::NewEvent;
use keyledger_schemas::ids::{Mode, Scope};
use proptest::prelude::*;

use super::*;
use crate::log::{Append, EventLog};
use crate::memory::MemoryLog;
use crate::testing;

const LOG_ID: Uuid = Uuid::from_u128(7);

/// The events of a log, from the first on.
async fn recorded(events: Vec<NewEvent>) -> Vec<Recorded> {
    let count = events.len();
    let log = MemoryLog::new(Arc::new(ManualClock::at("2026-03-01T09:14:03.123456789Z".parse().unwrap())));
    log.append(Append::events(events)).await.unwrap();
    log.read_after(0, count.max(1)).await.unwrap()
}

fn head(events: &[Recorded]) -> Head {
    events.last().map_or_else(Head::default, |event| Head { position: event.position, chain: event.chain })
}

/// Everything after `after`, as it is exported.
fn written(events: &[Recorded], after: usize) -> Vec<String> {
    let (before, rest) = events.split_at(after);
    let first = header(&Header { log_id: LOG_ID, after: head(before), head: head(events) });
    let last = trailer(rest.len().try_into().unwrap(), head(events));
    std::iter::once(first).chain(rest.iter().map(event)).chain([last]).collect()
}

fn read(lines: &[String]) -> Result<Vec<Recorded>, Fault> {
    let mut reading = Reading::begin(lines[0].as_bytes())?;
    let mut events = Vec::new();
    for line in &lines[1..] {
        events.extend(reading.line(line.as_bytes())?);
    }
    reading.finish()?;
    Ok(events)
}

/// Three events, the second with all that an envelope can have.
async fn three() -> Vec<Recorded> {
    let mut second = testing::event("evt_2", "b", "{\n  \"pretty\": true\n}");
    second.kind = "stripe.invoice.paid".to_owned();
    let account = Some("acct_1/x y%".into());
    second.scope = Scope { source: "shop-2".parse().unwrap(), account, mode: Mode::Test };
    second.occurred_at = "1969-12-31T23:59:59.000000001Z".parse().unwrap();
    second.causation_id = Some("a \"cause\"".into());
    second.correlation_id = Some("größer\u{2028}".into());
    second.actor = Some("Ana\n".to_owned());
    second.partition = 63;
    second.delivery = Some(keyledger_schemas::envelope::Delivery {
        signature: "t=1,v1=ab".to_owned(),
        secret: "1".to_owned(),
        received_at: Timestamp::MAX,
    });
    recorded(vec![testing::event("evt_1", "a", "{\"n\":1}"), second, testing::event("evt_3", "a", "")]).await
}

fn fault(lines: &[String]) -> String {
    read(lines).unwrap_err().to_string()
}

#[tokio::test]
async fn an_event_reads_back_with_every_field() {
    let events = three().await;
    assert_eq!(read(&written(&events, 0)).unwrap(), events);
    assert_eq!(read(&written(&events, 2)).unwrap(), events[2..]);
    assert_eq!(read(&written(&events, 3)).unwrap(), []);
    assert_eq!(read(&written(&[], 0)).unwrap(), []);
}

#[tokio::test]
async fn a_line_is_an_event_of_cloudevents() {
    let events = three().await;
    assert_eq!(
        event(&events[0]),
        format!(
            "{{\"specversion\":\"1.0\",\"id\":\"evt_1\",\"source\":\"/keyledger/default/live\",\
             \"type\":\"test.happened\",\"subject\":\"a\",\"time\":\"1970-01-01T00:00:00Z\",\"sequence\":\"1\",\
             \"streamversion\":\"1\",\"recordedtime\":\"2026-03-01T09:14:03.123456789Z\",\"partitionkey\":\"00\",\
             \"schemaversion\":1,\"contentsha256\":\"{}\",\"chain\":\"{}\",\"datacontenttype\":\"application/json\",\
             \"dataschema\":\"test.happened.json\",\"data\":{{\"n\":1}}}}",
            data_encoding::HEXLOWER.encode(&events[0].content_hash),
            data_encoding::HEXLOWER.encode(&events[0].chain),
        )
    );
    let second: serde_json::Value = serde_json::from_str(&event(&events[1])).unwrap();
    assert_eq!(second["source"], "/keyledger/shop-2/test/acct_1/x y%");
    assert_eq!(second["deliverysignature"], "t=1,v1=ab");
    assert_eq!(second["data_base64"], "ewogICJwcmV0dHkiOiB0cnVlCn0=");
    assert!(second.get("dataschema").is_none());
}

#[tokio::test]
async fn data_is_kept_byte_for_byte() {
    for (data, as_json) in [
        (&b"{\"b\":1.0,\"a\":1e400,\"a\":-0}"[..], true),
        (b"{ \"spaced\" : [ ] }", true),
        (b"\"\\ud800 \xe2\x80\xa8\"", true),
        (b"18446744073709551616", true),
        (b"null", false),
        (b" {}", false),
        (b"{}\n", false),
        (b"{\r}", false),
        (b"{\"cut", false),
        (b"\xff\x00", false),
        (b"", false),
    ] {
        let events = recorded(vec![testing::event("evt_1", "a", data)]).await;
        let lines = written(&events, 0);
        assert_eq!(read(&lines).unwrap()[0].data, data);
        assert_eq!(lines[1].contains("\"data\":"), as_json, "{}", lines[1]);
        assert!(lines.iter().all(|line| !line.contains('\n')));
    }
}

#[tokio::test]
async fn a_text_that_was_cut_off_is_known_by_its_missing_end() {
    let lines = written(&three().await, 0);
    assert_eq!(fault(&lines[..3]), "line 3: nothing follows: it was cut off at position 2 of 3");
    assert_eq!(fault(&lines[..1]), "line 1: nothing follows: it was cut off at position 0 of 3");
    let mut cut = lines[..4].to_vec();
    cut[3].truncate(80);
    assert!(fault(&cut).starts_with("line 4: it cannot be read: EOF"), "{}", fault(&cut));
}

#[tokio::test]
async fn what_was_changed_names_its_line() {
    let lines = written(&three().await, 0);
    let changed = |line: usize, from: &str, to: &str| {
        let mut lines = lines.clone();
        assert!(lines[line].contains(from), "{}", lines[line]);
        lines[line] = lines[line].replace(from, to);
        fault(&lines)
    };
    assert_eq!(changed(1, "{\"n\":1}", "{\"n\":2}"), "line 2: the data of position 1 does not have its hash");
    assert_eq!(changed(1, "\"subject\":\"a\"", "\"subject\":\"b\""), "line 2: position 1 does not hang on the chain");
    assert_eq!(changed(2, ":\"63\"", ":\"62\""), "line 3: position 2 does not hang on the chain");
    assert_eq!(changed(2, "\"sequence\":\"2\"", "\"sequence\":\"3\""), "line 3: position 3 stands where 2 must be");
    assert_eq!(changed(2, "\"deliverysecret\":\"1\",", ""), "line 3: a part of its delivery is missing");
    assert_eq!(changed(2, "data_base64", "data"), "line 3: the data of position 2 does not have its hash");
}

#[tokio::test]
async fn what_is_unknown_is_not_dropped() {
    let mut lines = written(&three().await, 0);
    lines[1] = lines[1].replace("\"subject\"", "\"traceparent\":\"00-1\",\"subject\"");
    assert!(fault(&lines).contains("line 2: it cannot be read: unknown field `traceparent`"), "{}", fault(&lines));
}

#[tokio::test]
async fn lines_that_are_missing_doubled_or_mixed_up_are_refused() {
    let lines = written(&three().await, 0);
    let picked = |numbers: &[usize]| fault(&numbers.iter().map(|number| lines[*number].clone()).collect::<Vec<_>>());
    assert_eq!(picked(&[0, 1, 3, 4]), "line 3: position 3 stands where 2 must be");
    assert_eq!(picked(&[0, 1, 1, 2, 3, 4]), "line 3: position 1 stands where 2 must be");
    assert_eq!(picked(&[0, 2, 1, 3, 4]), "line 2: position 2 stands where 1 must be");
    assert_eq!(picked(&[0, 1, 2, 4]), "line 4: it says that 3 events end at position 3, and 2 events end at 2");
    assert!(picked(&[0, 1, 2, 3, 4, 0]).starts_with("line 6: there is more after the end"));
    assert_eq!(picked(&[1, 2, 3, 4]), "line 1: this is no export of a log: it does not begin as one");
}

#[tokio::test]
async fn nothing_follows_the_last_position_there_is() {
    let last = Head { position: u64::MAX, chain: [0; 32] };
    let first = header(&Header { log_id: LOG_ID, after: last, head: last });
    let said = fault(&[first, event(&three().await[0])]);
    assert_eq!(said, "line 2: nothing can follow: there is no position after this one");
}

#[tokio::test]
async fn another_version_of_the_format_is_told_apart_from_damage() {
    let lines = written(&three().await, 0);
    let next = lines[0].replace("\"version\":1", "\"version\":2,\"more\":true");
    assert_eq!(fault(&[next]), "line 1: it is in version 2 of the format, and this keyledger reads 1");
    let short = lines[0].replace("\"chain\":\"00", "\"chain\":\"");
    assert!(fault(&[short]).contains("a hash has 64 digits"));
    let backwards = written(&three().await, 3)[0].replacen("\"position\":3", "\"position\":4", 1);
    assert_eq!(fault(&[backwards]), "line 1: it ends before it begins");
}

proptest! {
    #[test]
    fn any_event_reads_back(data: Vec<u8>, id: String, actor: Option<String>, account: Option<String>, ns: i64) {
        let mut new = testing::event(&id, &id, data);
        new.actor = actor;
        new.scope.account = account.map(|account| account.as_str().into());
        new.occurred_at = Timestamp::from_nanosecond(ns.into()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let events = runtime.block_on(recorded(vec![new]));
        prop_assert_eq!(read(&written(&events, 0)).unwrap(), events);
    }

    #[test]
    fn no_line_makes_it_panic(line: Vec<u8>) {
        let _ = Reading::begin(&line);
        let mut reading = Reading::begin(header(&Header { log_id: LOG_ID, after: Head::default(), head: Head::default() }).as_bytes()).unwrap();
        let _ = reading.line(&line);
    }
}
