//! Whether a stream on JetStream may be the log's mirror: [`judge`]. Pure.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Info, PersistenceMode, RetentionPolicy, State, StorageType,
};
use keyledger_schemas::envelope::Position;
use uuid::Uuid;

use super::{FORMAT, FORMAT_KEY, LOG_ID_KEY, SUBJECTS};

/// How long the server remembers ids. The position that every message expects is what keeps doubles out; this only
/// spares an error where a relay is not sure.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(10);

/// What a stream is to this log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is this log's mirror, without holes. Whether it holds the log's bytes is another question.
    Ours {
        /// Its last position.
        last: Position,
    },
    /// It mirrors this log, and messages are missing in it.
    Holes {
        /// The first position that is missing.
        first: Position,
        /// Its last position.
        last: Position,
    },
    /// It mirrors this log, with settings that would lose messages or take others.
    Unsafe {
        /// Which, and what to do about it.
        reason: String,
        /// Its last position.
        last: Position,
    },
    /// It belongs to another log, or to nobody that we know.
    Foreign {
        /// What it is, and what to do about it.
        reason: String,
    },
}

/// The stream that mirrors the log `log_id`.
pub fn wanted(stream: &str, replicas: usize, log_id: Uuid) -> Config {
    Config {
        name: stream.to_owned(),
        description: Some("The event log of keyledger, mirrored: do not publish here, do not change".to_owned()),
        subjects: vec![SUBJECTS.to_owned()],
        retention: RetentionPolicy::Limits,
        max_consumers: -1,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_bytes: -1,
        max_message_size: -1,
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        num_replicas: replicas.max(1),
        duplicate_window: DUPLICATE_WINDOW,
        deny_delete: true,
        deny_purge: true,
        allow_direct: true,
        metadata: HashMap::from([
            (LOG_ID_KEY.to_owned(), log_id.to_string()),
            (FORMAT_KEY.to_owned(), FORMAT.to_owned()),
        ]),
        ..Config::default()
    }
}

/// What the stream that the server describes so is to the log `log_id`.
pub fn judge(info: &Info, log_id: Uuid) -> Judgement {
    let (config, last) = (&info.config, info.state.last_sequence);
    if let Some(reason) = foreign(config, log_id) {
        return Judgement::Foreign { reason };
    }
    let faults = faults(config);
    if !faults.is_empty() {
        let (name, faults) = (&config.name, faults.join(", "));
        let reason = format!("stream {name} has {faults}; mend it with `nats stream edit {name}`, or remove it");
        return Judgement::Unsafe { reason, last };
    }
    match first_hole(&info.state) {
        None => Judgement::Ours { last },
        Some(first) => Judgement::Holes { first, last },
    }
}

fn foreign(config: &Config, log_id: Uuid) -> Option<String> {
    let name = &config.name;
    let Some(found) = config.metadata.get(LOG_ID_KEY) else {
        return Some(format!(
            "stream {name} says of no log that it mirrors it (metadata `{LOG_ID_KEY}`): name another in `[nats] stream`, \
             remove it if nobody needs it, or use nats-server 2.10 or newer"
        ));
    };
    if found.parse() != Ok(log_id) {
        return Some(format!(
            "stream {name} mirrors the log {found}, and this is the log {log_id}: name another in `[nats] stream`, or \
             remove it if that log is gone"
        ));
    }
    let format = config.metadata.get(FORMAT_KEY).map_or("", String::as_str);
    (format != FORMAT).then(|| {
        format!("stream {name} is written as `{format}` and not as `{FORMAT}`: a newer keyledger made it, use that one")
    })
}

/// Settings that would lose messages, change them, or take others. The server writes -1 or 0 for no limit.
fn faults(config: &Config) -> Vec<&'static str> {
    let all = [
        (config.subjects != [SUBJECTS], "other subjects than `kl.v1.>`"),
        (config.retention != RetentionPolicy::Limits, "another retention than `limits`"),
        (config.max_messages > 0, "a limit of messages"),
        (config.max_messages_per_subject > 0, "a limit of messages per subject"),
        (config.max_bytes > 0, "a limit of bytes"),
        (config.max_message_size > 0, "a limit of message size"),
        (!config.max_age.is_zero(), "a limit of age"),
        (config.discard != DiscardPolicy::New, "another discard policy than `new`"),
        (config.storage != StorageType::File, "another storage than `file`"),
        (config.persist_mode == Some(PersistenceMode::Async), "persist mode `async`"),
        (config.no_ack, "acknowledgements switched off"),
        (config.sealed, "its seal"),
        (config.allow_rollup, "roll-ups allowed"),
        (!config.deny_delete, "deleting messages allowed"),
        (!config.deny_purge, "purging allowed"),
        (config.mirror.is_some(), "another stream that it mirrors"),
        (config.sources.as_ref().is_some_and(|sources| !sources.is_empty()), "sources"),
        (config.subject_transform.is_some(), "a subject transform"),
        (config.allow_message_ttl, "messages that expire"),
        (config.subject_delete_marker_ttl.is_some(), "delete markers"),
        (config.allow_message_schedules, "scheduled messages"),
        (config.allow_message_counter, "counters"),
    ];
    all.into_iter().filter_map(|(is_fault, words)| is_fault.then_some(words)).collect()
}

/// The first position that the stream has passed and does not hold. Which of several inner ones are missing, it does
/// not say here; then it is the first that may be.
fn first_hole(state: &State) -> Option<Position> {
    let State { first_sequence, last_sequence, messages, .. } = *state;
    if last_sequence == 0 || messages == last_sequence {
        return None;
    }
    Some(if messages == 0 || first_sequence > 1 { 1 } else { first_sequence + 1 })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const LOG: Uuid = Uuid::from_u128(7);

    /// What a server answers about the stream it made of [`wanted`], with `config` and `state` merged in.
    fn answer(config: &Value, state: &Value) -> Info {
        let mut made = serde_json::to_value(wanted("KL_LOG", 1, LOG)).unwrap();
        merge(&mut made, config);
        let mut full = json!({"messages": 3, "bytes": 9, "first_seq": 1, "last_seq": 3, "consumer_count": 0,
            "first_ts": "2026-11-20T00:00:00Z", "last_ts": "2026-11-20T00:00:00Z"});
        merge(&mut full, state);
        serde_json::from_value(json!({"config": made, "created": "2026-11-20T00:00:00Z", "state": full})).unwrap()
    }

    fn merge(into: &mut Value, from: &Value) {
        into.as_object_mut().unwrap().extend(from.as_object().unwrap().clone());
    }

    fn of_config(config: &Value) -> Judgement {
        judge(&answer(config, &json!({})), LOG)
    }

    fn of_state(messages: u64, first: u64, last: u64) -> Judgement {
        judge(&answer(&json!({}), &json!({"messages": messages, "first_seq": first, "last_seq": last})), LOG)
    }

    #[test]
    fn what_we_make_is_ours() {
        assert_eq!(of_config(&json!({})), Judgement::Ours { last: 3 });
        assert_eq!(of_state(0, 0, 0), Judgement::Ours { last: 0 });
        let compressed = json!({"compression": "s2", "num_replicas": 3, "allow_direct": false});
        assert_eq!(of_config(&compressed), Judgement::Ours { last: 3 });
    }

    #[test]
    fn a_stream_of_another_log_or_of_nobody_is_foreign() {
        for metadata in [json!({}), json!({LOG_ID_KEY: Uuid::from_u128(8)}), json!({LOG_ID_KEY: LOG})] {
            let judged = of_config(&json!({"metadata": metadata}));
            assert!(matches!(judged, Judgement::Foreign { .. }), "{metadata}: {judged:?}");
        }
    }

    #[test]
    fn every_setting_that_loses_or_takes_others_is_unsafe() {
        let source = json!({"name": "OTHER"});
        for config in [
            json!({"subjects": ["kl.v1.>", "more.>"]}),
            json!({"subjects": ["kl.v1.default.>"]}),
            json!({"retention": "workqueue"}),
            json!({"max_msgs": 1_000_000}),
            json!({"max_msgs_per_subject": 1}),
            json!({"max_bytes": 1_000_000}),
            json!({"max_msg_size": 1000}),
            json!({"max_age": 1_000_000_000}),
            json!({"discard": "old"}),
            json!({"storage": "memory"}),
            json!({"persist_mode": "async"}),
            json!({"no_ack": true}),
            json!({"sealed": true}),
            json!({"allow_rollup_hdrs": true}),
            json!({"deny_delete": false}),
            json!({"deny_purge": false}),
            json!({"mirror": source}),
            json!({"sources": [source]}),
            json!({"subject_transform": {"src": "a", "dest": "b"}}),
            json!({"allow_msg_ttl": true}),
            json!({"subject_delete_marker_ttl": 1_000_000_000}),
            json!({"allow_msg_schedules": true}),
            json!({"allow_msg_counter": true}),
        ] {
            let judged = of_config(&config);
            assert!(matches!(judged, Judgement::Unsafe { .. }), "{config}: {judged:?}");
        }
    }

    #[test]
    fn a_foreign_stream_is_not_told_to_be_mended() {
        let judged = of_config(&json!({"metadata": {}, "max_age": 1}));
        assert!(matches!(judged, Judgement::Foreign { .. }), "{judged:?}");
    }

    #[test]
    fn missing_messages_are_holes() {
        assert_eq!(of_state(2, 1, 3), Judgement::Holes { first: 2, last: 3 });
        assert_eq!(of_state(2, 2, 3), Judgement::Holes { first: 1, last: 3 });
        assert_eq!(of_state(0, 4, 3), Judgement::Holes { first: 1, last: 3 });
    }
}
