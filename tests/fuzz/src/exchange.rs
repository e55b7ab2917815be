//! The exchange format: any text is read to its end or to a fault, and no event is read that was not written.
//!
//! The input is read as a text, and is also made into events that are written, read back, and damaged.

use jiff::Timestamp;
use keyledger_eventlog::exchange::{Fault, Header, Reading, event as written, header, trailer};
use keyledger_eventlog::log::Head;
use keyledger_schemas::envelope::{Delivery, Recorded, content_hash};
use keyledger_schemas::ids::{AccountId, EventId, Mode, Scope, SourceName, StreamId};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// How many bits of a written text are turned, one at a time.
const FLIPS: usize = 8;

/// Reads any bytes as a text of the format, and writes any bytes into one.
pub fn exchange(data: &[u8]) {
    let read = read_lines(data);
    assert_eq!(read, read_lines(data), "the same is read alike");
    if let Err(fault) = &read {
        assert!(fault.line >= 1 && !fault.reason.is_empty());
    }
    what_is_written_reads_back(data);
}

/// The events of a text that is whole.
fn read_lines(data: &[u8]) -> Result<Vec<Recorded>, Fault> {
    let mut lines = data.strip_suffix(b"\n").unwrap_or(data).split(|&byte| byte == b'\n');
    let mut reading = Reading::begin(lines.next().unwrap_or_default())?;
    let first = *reading.header();
    let mut events: Vec<Recorded> = Vec::new();
    for line in lines {
        events.extend(reading.line(line)?);
        assert_eq!(reading.events(), u64::try_from(events.len()).unwrap());
    }
    reading.finish()?;
    assert_eq!(reading.head(), first.head, "a whole text ends where it said");
    let mut head = first.after;
    for event in &events {
        assert_eq!(event.position, head.position + 1);
        assert_eq!(event.chain, event.chain_after(&head.chain));
        assert_eq!(event.content_hash, content_hash(&event.data));
        head = Head { position: event.position, chain: event.chain };
    }
    assert_eq!(text(&first, &events).parse(), Ok(events.clone()), "what was read is written and reads back");
    Ok(events)
}

/// A whole text.
struct Text(Vec<String>);

impl Text {
    /// Reads it without [`read_lines`], which writes what it reads.
    fn parse(&self) -> Result<Vec<Recorded>, Fault> {
        let mut reading = Reading::begin(self.0[0].as_bytes())?;
        let mut events = Vec::new();
        for line in &self.0[1..] {
            events.extend(reading.line(line.as_bytes())?);
        }
        reading.finish()?;
        Ok(events)
    }
}

fn text(first: &Header, events: &[Recorded]) -> Text {
    let count = u64::try_from(events.len()).unwrap();
    let mut lines = vec![header(first)];
    lines.extend(events.iter().map(written));
    lines.push(trailer(count, first.head));
    Text(lines)
}

fn what_is_written_reads_back(data: &[u8]) {
    let digest: [u8; 32] = Sha256::digest(data).into();
    let after = Head { position: u64::from(digest[0]), chain: digest };
    let events = events(data, &digest, after);
    let head = events.last().map_or(after, |event| Head { position: event.position, chain: event.chain });
    let first = Header { log_id: Uuid::from_bytes([digest[1]; 16]), after, head };
    let text = text(&first, &events);
    for line in &text.0 {
        assert!(!line.contains(['\n', '\r']), "a line is one line: {line:?}");
    }
    assert_eq!(text.parse(), Ok(events.clone()));
    assert!(Text(text.0[..text.0.len() - 1].to_vec()).parse().is_err(), "what was cut off is not whole");
    for place in digest.chunks_exact(4).take(FLIPS) {
        let place = usize::try_from(u32::from_be_bytes(place.try_into().unwrap())).unwrap();
        flipped(&text, place, &events);
    }
}

/// With one bit turned it is refused, or says the same: names of fields that are not there say nothing.
fn flipped(text: &Text, place: usize, events: &[Recorded]) {
    let number = 1 + place % (text.0.len() - 1);
    let line = text.0[number].as_bytes();
    let bit = place % (line.len() * 8);
    let mut changed = line.to_vec();
    changed[bit / 8] ^= 1 << (bit % 8);
    let Ok(changed) = String::from_utf8(changed) else { return };
    let mut damaged = Text(text.0.clone());
    damaged.0[number] = changed;
    if let Ok(read) = damaged.parse() {
        assert_eq!(read, events, "{}", damaged.0[number]);
    }
}

/// One event for each part of the input, on the chain after `after`.
fn events(data: &[u8], digest: &[u8; 32], after: Head) -> Vec<Recorded> {
    let mut head = after;
    let mut events = Vec::new();
    for (index, part) in data.chunks(data.len().div_ceil(3).max(1)).enumerate() {
        let text = String::from_utf8_lossy(part);
        let mut words = text.split('\n');
        let mut word = || words.next().unwrap_or_default().to_owned();
        let has = |bit: usize| digest[2 + index] & (1 << bit) != 0;
        let seconds = i64::from(u32::from_be_bytes([digest[8], digest[9], digest[10], digest[11 + index]]));
        let at = Timestamp::new(seconds - 1_000_000_000, i32::from(digest[12 + index])).unwrap();
        let mut event = Recorded {
            position: head.position + 1,
            id: EventId::new(word()),
            kind: word(),
            scope: Scope {
                source: SourceName::default(),
                account: has(0).then(|| AccountId::new(word())),
                mode: if has(1) { Mode::Live } else { Mode::Test },
            },
            stream: StreamId::new(word()),
            version: u64::from(digest[20]) << 56,
            occurred_at: at,
            recorded_at: if has(2) { Timestamp::MAX } else { Timestamp::MIN },
            causation_id: has(3).then(|| EventId::new(word())),
            correlation_id: has(4).then(|| EventId::new(word())),
            schema_version: u32::from(digest[21]),
            actor: has(5).then(&mut word),
            partition: digest[22],
            delivery: has(6).then(|| Delivery { signature: word(), secret: word(), received_at: at }),
            data: part.to_vec(),
            content_hash: content_hash(part),
            chain: [0; 32],
            key_id: has(7).then(&mut word),
        };
        event.chain = event.chain_after(&head.chain);
        head = Head { position: event.position, chain: event.chain };
        events.push(event);
    }
    events
}
