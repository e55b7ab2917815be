//! `docs/exchange-format.md` is enough: an export is proved here by what stands there, with none of keyledger's code.

use std::fs;

use data_encoding::{BASE64, HEXLOWER};
use jiff::Timestamp;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::machine::Machine;
use crate::support::setup::Setup;
use crate::support::stories::{VERSIONS, story};

/// A time as a text of nanoseconds since 1970.
fn nanoseconds(time: &Value) -> String {
    let time: Timestamp = time.as_str().unwrap().parse().unwrap();
    time.as_nanosecond().to_string()
}

fn number(text: &Value) -> u64 {
    text.as_str().unwrap().parse().unwrap()
}

/// The bytes of the data.
fn data(line: &str) -> Vec<u8> {
    #[derive(serde::Deserialize)]
    struct Data<'l> {
        #[serde(borrow)]
        data: Option<&'l RawValue>,
        data_base64: Option<String>,
    }
    let line: Data<'_> = serde_json::from_str(line).unwrap();
    match (line.data, line.data_base64) {
        (Some(data), None) => data.get().as_bytes().to_vec(),
        (None, Some(text)) => BASE64.decode(text.as_bytes()).unwrap(),
        _ => panic!("not one of data and data_base64"),
    }
}

/// The header that a chain value covers.
fn header(event: &Value) -> String {
    let source: Vec<&str> = event["source"].as_str().unwrap().split('/').collect();
    let scope = format!("{}:{}:{}", source[2], source.get(4).unwrap_or(&"-"), source[3]);
    let delivery = event
        .get("deliverysignature")
        .map(|signature| json!([signature, event["deliverysecret"], nanoseconds(&event["deliveredtime"])]));
    json!([
        event["id"],
        event["type"],
        scope,
        event["subject"],
        number(&event["streamversion"]),
        nanoseconds(&event["time"]),
        nanoseconds(&event["recordedtime"]),
        event["causationid"],
        event["correlationid"],
        event["schemaversion"],
        event["actor"],
        number(&event["partitionkey"]),
        delivery,
        event["keyid"],
    ])
    .to_string()
}

#[tokio::test]
async fn a_text_can_be_proved_with_what_the_page_says() {
    let machine = Machine::new(Setup::default());
    let service = machine.up().await;
    service.take(&story("a").bodies(VERSIONS[1])).await;
    service.stop().await;
    let (file, report) = machine.export("log.jsonl").await;
    let text = fs::read_to_string(file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let first: Value = serde_json::from_str(lines[0]).unwrap();
    assert_eq!((&first["format"], &first["version"]), (&json!("keyledger-log"), &json!(1)));

    let mut position = first["after"]["position"].as_u64().unwrap();
    let mut chain = HEXLOWER.decode(first["after"]["chain"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!((position, chain.as_slice()), (0, &[0; 32][..]));
    for line in &lines[1..lines.len() - 1] {
        let event: Value = serde_json::from_str(line).unwrap();
        position += 1;
        assert_eq!(number(&event["sequence"]), position);
        let content = Sha256::digest(data(line));
        assert_eq!(event["contentsha256"], HEXLOWER.encode(&content));
        let mut hasher = Sha256::new();
        hasher.update(&chain);
        hasher.update(position.to_be_bytes());
        hasher.update(Sha256::digest(header(&event).as_bytes()));
        hasher.update(content);
        chain = hasher.finalize().to_vec();
        assert_eq!(event["chain"], HEXLOWER.encode(&chain), "{line}");
    }
    let last: Value = serde_json::from_str(lines[lines.len() - 1]).unwrap();
    let head = json!({"position": position, "chain": HEXLOWER.encode(&chain)});
    assert_eq!(last, json!({"format": "keyledger-log-end", "events": position, "head": head}));
    assert_eq!((&first["head"], &report["events"]), (&head, &json!(position)));
}
