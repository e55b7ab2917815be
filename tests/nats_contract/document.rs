//! `schemas/README.md` says what the code does: every setting of the stream, every header and when it is there, every
//! subject.

use std::collections::{BTreeMap, BTreeSet};

use keyledger_eventlog::jetstream::judgement::wanted;
use keyledger_eventlog::jetstream::message::{Encoded, encode};
use keyledger_schemas::envelope::{Delivery, Hash, Recorded, content_hash, partition_of};
use keyledger_schemas::ids::{EventId, Mode, Scope, SourceName};
use keyledger_schemas::json;
use uuid::Uuid;

const DOCUMENT: &str = include_str!("../../schemas/README.md");

/// What nats-server takes by default.
const MIB: usize = 1024 * 1024;

/// The rows of the table under this heading, as cells.
#[track_caller]
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, section) = DOCUMENT.split_once(&format!("## {heading}\n")).unwrap();
    let rows = section.lines().skip_while(|line| !line.starts_with("| ---")).skip(1);
    let rows = rows.take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// An event with nothing that may be left out.
fn plain(kind: &str, data: Vec<u8>) -> Recorded {
    let mut event = Recorded {
        position: 918_221,
        id: "3f0c1f66-5c8e-5b0e-8a35-0d5d1a3f7c11".into(),
        kind: kind.to_owned(),
        scope: Scope::new(SourceName::default(), Mode::Live),
        stream: "purchase:default:-:live:sub_1".into(),
        version: 2,
        occurred_at: "2026-11-20T08:09:10Z".parse().unwrap(),
        recorded_at: "2026-11-20T08:09:10.123456789Z".parse().unwrap(),
        causation_id: None,
        correlation_id: None,
        schema_version: 1,
        actor: None,
        partition: 7,
        delivery: None,
        content_hash: content_hash(&data),
        data,
        chain: Hash::default(),
        key_id: None,
    };
    event.chain = event.chain_after(&[3; 32]);
    event
}

/// An event with everything that may be there.
fn full(kind: &str, data: Vec<u8>) -> Recorded {
    let mut event = plain(kind, data);
    event.scope.account = Some("acct_9".into());
    event.causation_id = Some("evt_1".into());
    event.correlation_id = Some("evt_0".into());
    event.actor = Some("ana".to_owned());
    event.key_id = Some("person".to_owned());
    event
}

fn stripes(mut event: Recorded) -> Recorded {
    let received_at = event.recorded_at;
    event.delivery = Some(Delivery { signature: "t=1,v1=0".to_owned(), secret: "first".to_owned(), received_at });
    event
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let blocks = (0..=length as u64 / 32).flat_map(|block| content_hash(&block.to_be_bytes()));
    blocks.take(length).collect()
}

/// Messages of every sort: what they are, and the names of their headers.
fn messages() -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut too_much = full("license.issued", b"{}".to_vec());
    too_much.actor = Some("a".repeat(MIB));
    let mut long_id = stripes(full("stripe.invoice.paid", b"{}".to_vec()));
    long_id.id = EventId::new("e".repeat(70_000));
    long_id.kind = "k".repeat(600);
    let small = || b"{}".to_vec();
    let events = [
        ("ours", plain("license.issued", small())),
        ("ours, full", full("license.issued", small())),
        ("Stripe's", stripes(plain("stripe.invoice.paid", small()))),
        ("Stripe's, large", stripes(full("stripe.invoice.paid", vec![b' '; 2 * MIB]))),
        ("Stripe's, very large", stripes(full("stripe.invoice.paid", noise(2 * MIB)))),
        ("too much", too_much),
        ("long id", long_id),
    ];
    events.into_iter().map(|(name, event)| (name, names(&encode(&event, MIB)))).collect()
}

fn names(message: &Encoded) -> BTreeSet<String> {
    message.headers.iter().map(|(name, _)| name.to_string()).collect()
}

#[test]
fn every_header_is_in_the_table_and_is_there_when_the_table_says() {
    let messages = messages();
    let rows = table("Headers");
    let documented: BTreeSet<String> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(messages.values().flatten().cloned().collect::<BTreeSet<_>>(), documented);

    let all = ["ours", "ours, full", "Stripe's", "Stripe's, large", "Stripe's, very large", "too much", "long id"];
    for row in rows {
        let name = row[0].trim_matches('`');
        let expected: &[&str] = match row[2] {
            "always" => &all,
            "always¹" => &all[..6],
            "always²" => &all[..5],
            "ours²" => &["ours", "ours, full"],
            "Stripe's²" => &["Stripe's", "Stripe's, large", "Stripe's, very large"],
            "large data" => &["Stripe's, large"],
            "very large data" | "with `kl-data`" => &["Stripe's, very large", "long id", "too much"],
            "where there is one"
            | "where a person did"
            | "events of Stripe Connect"
            | "where it is (not in this version)" => &["ours, full", "Stripe's, large", "Stripe's, very large"],
            other => panic!("{name}: what is `{other}`?"),
        };
        let there = messages.iter().filter(|(_, names)| names.contains(name)).map(|(message, _)| *message);
        assert_eq!(there.collect::<BTreeSet<_>>(), expected.iter().copied().collect(), "{name}");
    }
}

#[test]
fn the_stream_has_the_settings_in_the_table() {
    let config = serde_json::to_value(wanted("KL_LOG", 1, Uuid::from_u128(7))).unwrap();
    let rows: BTreeMap<&str, &str> = table("The stream").iter().map(|row| (row[0], row[1])).collect();
    let says = |row: &str, text: &str| assert!(rows[row].contains(text), "{row}: {}, not {text}", rows[row]);
    says("name", config["name"].as_str().unwrap());
    says("subjects", config["subjects"][0].as_str().unwrap());
    says("storage, retention", config["storage"].as_str().unwrap());
    says("storage, retention", config["retention"].as_str().unwrap());
    says("discard", config["discard"].as_str().unwrap());
    for (row, key) in [("deny delete", "deny_delete"), ("deny purge", "deny_purge"), ("allow direct", "allow_direct")] {
        let row = rows.keys().find(|name| name.contains(row)).unwrap();
        assert!(rows[row].contains("yes") && config[key] == true, "{row}");
    }
    let metadata = config["metadata"].as_object().unwrap();
    for (key, value) in metadata {
        let row = format!("metadata `{key}`");
        assert!(rows.contains_key(row.as_str()), "{row}");
        if key == "keyledger-mirror" {
            says(&row, value.as_str().unwrap());
        }
    }
    assert_eq!(metadata.len(), rows.keys().filter(|row| row.starts_with("metadata")).count());
    assert!(["max_msgs", "max_bytes", "max_msgs_per_subject"].iter().all(|limit| config[limit] == -1), "{config}");
}

#[test]
fn the_subjects_that_are_shown_are_those_of_their_events() {
    for kind in ["stripe.invoice.paid", "license.issued"] {
        let subject = encode(&plain(kind, b"{}".to_vec()), MIB).subject;
        assert!(DOCUMENT.contains(&format!("\n{subject}\n")), "{subject}");
    }
    for row in table("Subjects") {
        assert!(["source", "mode", "partition", "type"].contains(&row[0]), "{row:?}");
    }
    // "The first byte of the SHA-256 of the customer's id, modulo 64".
    assert_eq!(partition_of("cus_1"), content_hash(b"cus_1")[0] % 64);
}

#[test]
fn every_schema_that_a_header_names_is_a_file() {
    for (file, _) in json::documents() {
        let kind = file.trim_end_matches(".json");
        let message = encode(&plain(kind, b"{}".to_vec()), MIB);
        assert_eq!(message.headers.get("ce-dataschema").unwrap().as_str(), file);
    }
}

#[test]
fn the_chain_is_what_the_document_says() {
    let event = stripes(full("stripe.invoice.paid", b"{}".to_vec()));
    let header = serde_json::json!([
        "3f0c1f66-5c8e-5b0e-8a35-0d5d1a3f7c11",
        "stripe.invoice.paid",
        "default:acct_9:live",
        "purchase:default:-:live:sub_1",
        2,
        "1795162150000000000",
        "1795162150123456789",
        "evt_1",
        "evt_0",
        1,
        "ana",
        7,
        ["t=1,v1=0", "first", "1795162150123456789"],
        "person"
    ]);
    let bytes =
        [&[3; 32][..], &918_221_u64.to_be_bytes(), &content_hash(header.to_string().as_bytes()), &content_hash(b"{}")];
    assert_eq!(event.chain_after(&[3; 32]), content_hash(&bytes.concat()));
}
