use jiff::Timestamp;
use keyledger_schemas::envelope::Delivery;
use keyledger_schemas::ids::Mode;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

const MIB: usize = 1024 * 1024;

fn event(kind: &str, data: Vec<u8>) -> Recorded {
    let mut event = Recorded {
        position: 7,
        id: "evt_1".into(),
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

fn read(encoded: &Encoded) -> Result<Decoded, DecodeError> {
    decode(&encoded.headers, &encoded.payload)
}

fn header<'m>(encoded: &'m Encoded, name: &'static str) -> Option<&'m str> {
    encoded.headers.get(name).map(async_nats::HeaderValue::as_str)
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let blocks = (0..=length as u64 / 32).flat_map(|block| content_hash(&block.to_be_bytes()));
    blocks.take(length).collect()
}

#[test]
fn a_message_is_a_cloud_event() {
    let mut event = event("license.issued", b"{}".to_vec());
    event.scope.account = Some("acct_9".into());
    event.actor = Some("Zoë at the desk".to_owned());
    let encoded = encode(&event, MIB);
    assert_eq!(encoded.subject, "kl.v1.default.live.07.license.issued");
    assert_eq!(encoded.payload, "{}");
    let expected = [
        ("Nats-Msg-Id", "evt_1"),
        ("Nats-Expected-Last-Sequence", "6"),
        ("ce-specversion", "1.0"),
        ("ce-id", "evt_1"),
        ("ce-type", "license.issued"),
        ("ce-source", "/keyledger/default/live/acct_9"),
        ("ce-subject", "purchase:default:-:live:sub_1"),
        ("ce-time", "2026-11-20T08:09:10Z"),
        ("ce-datacontenttype", "application/json"),
        ("ce-dataschema", "license.issued.json"),
        ("ce-sequence", "7"),
        ("ce-streamversion", "2"),
        ("ce-recordedtime", "2026-11-20T08:09:10.123456789Z"),
        ("ce-partitionkey", "07"),
        ("ce-schemaversion", "1"),
        ("ce-actor", "Zo%C3%AB%20at%20the%20desk"),
        ("kl-source", "default"),
        ("kl-account", "acct_9"),
        ("kl-mode", "live"),
        ("kl-content-sha256", "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"),
    ];
    for (name, value) in expected {
        assert_eq!(header(&encoded, name), Some(value), "{name}");
    }
    let absent = ["kl-data", "content-encoding", "kl-delivery", "ce-causationid", "ce-correlationid", "ce-keyid"];
    assert_eq!(absent.map(|name| header(&encoded, name)), [None; 6]);
}

#[test]
fn a_stripe_body_names_no_schema_of_ours() {
    assert_eq!(header(&encode(&event("stripe.invoice.paid", b"{}".to_vec()), MIB), "ce-dataschema"), None);
}

#[test]
fn a_type_cannot_escape_its_place_in_the_subject() {
    for (kind, end) in [
        ("stripe.invoice.paid", "stripe.invoice.paid"),
        ("v2.core.account[requirements].updated", "v2.core.account_requirements_.updated"),
        ("a..b", "a__b"),
        (".a.", "_a_"),
        ("a.*.>", "a._._"),
        ("a b\r\nPUB x", "a_b__PUB_x"),
        ("ä", "_"),
        ("", "_"),
        (".", "_"),
    ] {
        assert_eq!(subject_type(kind), end, "{kind:?}");
    }
    assert_eq!(subject_type(&"a".repeat(9000)).len(), SUBJECT_TYPE_MAX);
    assert!(!subject_type(&"a.".repeat(SUBJECT_TYPE_MAX / 2)).ends_with('.'));
}

#[test]
fn data_that_does_not_fit_is_compressed_and_reads_back() {
    let event = event("stripe.invoice.paid", "{\"a\": 1}".repeat(MIB / 2).into_bytes());
    let encoded = encode(&event, MIB);
    assert_eq!(header(&encoded, "content-encoding"), Some("gzip"));
    assert!(encoded.payload.len() < MIB);
    assert_eq!(read(&encoded), Ok(Decoded::Whole(Box::new(event))));
}

#[test]
fn data_that_does_not_compress_stays_in_the_log() {
    let event = event("stripe.invoice.paid", noise(MIB));
    let encoded = encode(&event, MIB);
    assert_eq!(encoded.payload, "");
    assert_eq!(header(&encoded, "kl-data"), Some("elsewhere"));
    assert_eq!(header(&encoded, "kl-content-size"), Some("1048576"));
    let Ok(Decoded::Elsewhere(stub)) = read(&encoded) else { panic!("{encoded:?}") };
    let expected = Stub { position: 7, chain: event.chain, content_hash: event.content_hash, id: Some(event.id) };
    assert_eq!(stub, expected);
}

#[test]
fn an_envelope_that_does_not_fit_leaves_what_it_takes_to_find_the_event() {
    let mut event = event("stripe.invoice.paid", b"{}".to_vec());
    event.id = EventId::new("evt_".repeat(20_000));
    event.chain = event.chain_after(&[3; 32]);
    let encoded = encode(&event, MIB);
    assert!(size_of(&encoded.headers) < 2048, "{}", size_of(&encoded.headers));
    let Ok(Decoded::Elsewhere(stub)) = read(&encoded) else { panic!("{encoded:?}") };
    assert_eq!((stub.position, stub.chain, stub.id), (7, event.chain, None));
}

#[test]
fn a_message_never_unpacks_to_more_than_the_limit() {
    let bomb = event("stripe.invoice.paid", vec![b' '; CONTENT_MAX]);
    let mut encoded = encode(&bomb, MIB);
    assert_eq!(read(&encoded), Ok(Decoded::Whole(Box::new(bomb))));
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(&vec![b' '; CONTENT_MAX + 1]).unwrap();
    encoded.payload = packer.finish().unwrap().into();
    let error = read(&encoded).unwrap_err();
    assert!(error.to_string().contains("more than 16777216 bytes"), "{error}");
}

#[test]
fn other_messages_are_told_from_damaged_ones() {
    let encoded = encode(&event("stripe.invoice.paid", b"{}".to_vec()), MIB);
    assert_eq!(decode(&HeaderMap::new(), b"{}"), Err(DecodeError::NotOurs));
    assert!(matches!(decode(&encoded.headers, b"{ }"), Err(DecodeError::Damaged { part: "payload", .. })));
    let broken = [
        ("ce-sequence", "x"),
        ("kl-chain", "00"),
        ("ce-time", "yesterday"),
        ("ce-subject", "%"),
        ("kl-mode", "both"),
        ("content-encoding", "br"),
        ("kl-delivery", "[]"),
        ("ce-partitionkey", "300"),
    ];
    for (name, value) in broken {
        let mut encoded = encoded.clone();
        encoded.headers.insert(name, value);
        let part = match read(&encoded) {
            Err(DecodeError::Damaged { part, .. }) => part,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(part, name);
    }
}

fn time() -> impl Strategy<Value = Timestamp> {
    let nanoseconds = Timestamp::MIN.as_nanosecond()..=Timestamp::MAX.as_nanosecond();
    nanoseconds.prop_map(|nanosecond| Timestamp::from_nanosecond(nanosecond).unwrap())
}

fn delivery() -> impl Strategy<Value = Delivery> {
    (".*", ".*", time()).prop_map(|(signature, secret, received_at)| Delivery { signature, secret, received_at })
}

prop_compose! {
    fn scope()(source in "[a-z0-9_-]{1,32}", account in option::of(".*"), live in any::<bool>()) -> Scope {
        let source = SourceName::try_from(source).unwrap();
        Scope { source, account: account.map(AccountId::new), mode: Mode::of_livemode(live) }
    }
}

prop_compose! {
    fn any_event()(
        (position, version, schema_version, partition) in (1..u64::MAX, any::<u64>(), any::<u32>(), 0_u8..64),
        (id, kind, stream, scope) in (".*", ".*", ".*", scope()),
        (occurred_at, recorded_at) in (time(), time()),
        (causation, correlation, actor, key_id) in
            (option::of(".*"), option::of(".*"), option::of(".*"), option::of(".*")),
        delivery in option::of(delivery()),
        data in vec(any::<u8>(), 0..2000),
        before in any::<Hash>(),
    ) -> (Hash, Recorded) {
        let mut event = Recorded {
            position, id: EventId::new(id), kind, scope, stream: StreamId::new(stream), version, occurred_at,
            recorded_at, causation_id: causation.map(EventId::new), correlation_id: correlation.map(EventId::new),
            schema_version, actor, partition, delivery, content_hash: content_hash(&data), data, chain: [0; 32], key_id,
        };
        event.chain = event.chain_after(&before);
        (before, event)
    }
}

proptest! {
    #[test]
    fn every_event_reads_back_and_hangs_on_the_chain((before, event) in any_event()) {
        let Ok(Decoded::Whole(read)) = read(&encode(&event, MIB)) else { panic!("{event:?}") };
        prop_assert_eq!(read.chain_after(&before), event.chain);
        prop_assert_eq!(*read, event);
    }

    #[test]
    fn no_message_is_larger_than_allowed((_, event) in any_event(), max_payload in 2048_usize..6000) {
        let encoded = encode(&event, max_payload);
        let size = size_of(&encoded.headers) + encoded.payload.len();
        prop_assert!(size <= max_payload, "{} of {}", size, max_payload);
        let decoded = read(&encoded).unwrap();
        prop_assert_eq!((decoded.position(), decoded.chain()), (event.position, event.chain));
    }

    #[test]
    fn headers_hold_one_line_of_printable_text((_, event) in any_event()) {
        let encoded = encode(&event, MIB);
        for value in encoded.headers.iter().flat_map(|(_, values)| values) {
            prop_assert!(value.as_str().bytes().all(|byte| byte.is_ascii_graphic()), "{:?}", value);
        }
        prop_assert!(encoded.subject.split('.').all(|token| !token.is_empty()
            && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')));
    }
}
