//! Every user of `deploy/nats/permissions.conf` may do what its role needs, and nothing else: each is tried.

use std::collections::BTreeSet;

use keyledger_test_servers::{CURRENT, OLDEST};
use serde_json::{Value, json};

use crate::line::Line;
use crate::server;

/// Where our own processes, and the subscriber, listen for answers.
const OURS: &str = "_INBOX.keyledger.1.2";
const SUBSCRIBERS: &str = "_INBOX.licenses.1.2";

/// Everything that can be asked of JetStream about our stream, other streams, consumers and the account: a name for
/// the lists below, the subject, and a body that would have an effect.
#[rustfmt::skip]
const REQUESTS: &[(&str, &str, &str)] = &[
    ("write", "kl.v1.default.live.07.license.issued", "{}"),
    ("write elsewhere", "somewhere.else", "{}"),
    ("look", "$JS.API.STREAM.INFO.KL_LOG", ""),
    ("make", "$JS.API.STREAM.CREATE.KL_LOG", r#"{"name":"KL_LOG","subjects":["kl.v1.>"]}"#),
    ("read by position", "$JS.API.DIRECT.GET.KL_LOG", r#"{"seq":1}"#),
    ("read by subject", "$JS.API.DIRECT.GET.KL_LOG.kl.v1.default.live.07.license.issued", ""),
    ("read through the leader", "$JS.API.STREAM.MSG.GET.KL_LOG", r#"{"seq":1}"#),
    ("delete a message", "$JS.API.STREAM.MSG.DELETE.KL_LOG", r#"{"seq":1}"#),
    ("purge", "$JS.API.STREAM.PURGE.KL_LOG", ""),
    ("change", "$JS.API.STREAM.UPDATE.KL_LOG", r#"{"name":"KL_LOG","subjects":["kl.v1.>"],"max_msgs":1}"#),
    ("snapshot", "$JS.API.STREAM.SNAPSHOT.KL_LOG", r#"{"deliver_subject":"_INBOX.keyledger.1.3"}"#),
    ("restore", "$JS.API.STREAM.RESTORE.KL_LOG", "{}"),
    ("remove a peer", "$JS.API.STREAM.PEER.REMOVE.KL_LOG", r#"{"peer":"n0"}"#),
    ("move the leader", "$JS.API.STREAM.LEADER.STEPDOWN.KL_LOG", ""),
    ("list streams", "$JS.API.STREAM.LIST", ""),
    ("name streams", "$JS.API.STREAM.NAMES", ""),
    ("make another stream", "$JS.API.STREAM.CREATE.OTHER", r#"{"name":"OTHER","subjects":["other"],"sources":[{"name":"KL_LOG"}]}"#),
    ("look at another stream", "$JS.API.STREAM.INFO.OTHER", ""),
    ("delete another stream", "$JS.API.STREAM.DELETE.OTHER", ""),
    ("look at the account", "$JS.API.INFO", ""),
    ("purge an account", "$JS.API.ACCOUNT.PURGE.KEYLEDGER", ""),
    ("move the meta leader", "$JS.API.META.LEADER.STEPDOWN", ""),
    ("remove a server", "$JS.API.SERVER.REMOVE", r#"{"peer":"n0"}"#),
    ("follow all as issuer", "$JS.API.CONSUMER.CREATE.KL_LOG.keyledger-issuer.kl.v1.>",
        r#"{"stream_name":"KL_LOG","config":{"name":"keyledger-issuer","durable_name":"keyledger-issuer","filter_subject":"kl.v1.>","ack_policy":"explicit"}}"#),
    ("follow all as projector", "$JS.API.CONSUMER.CREATE.KL_LOG.keyledger-projector.kl.v1.>",
        r#"{"stream_name":"KL_LOG","config":{"name":"keyledger-projector","durable_name":"keyledger-projector","filter_subject":"kl.v1.>","ack_policy":"explicit"}}"#),
    ("follow all as somebody", "$JS.API.CONSUMER.CREATE.KL_LOG.somebody.kl.v1.>",
        r#"{"stream_name":"KL_LOG","config":{"name":"somebody","filter_subject":"kl.v1.>"}}"#),
    ("follow licenses", "$JS.API.CONSUMER.CREATE.KL_LOG.licenses.kl.v1.*.*.*.license.>",
        r#"{"stream_name":"KL_LOG","config":{"name":"licenses","durable_name":"licenses","filter_subject":"kl.v1.*.*.*.license.>","ack_policy":"explicit"}}"#),
    ("follow one kind", "$JS.API.CONSUMER.CREATE.KL_LOG.licenses.kl.v1.*.*.*.license.issued",
        r#"{"stream_name":"KL_LOG","config":{"name":"licenses","durable_name":"licenses","filter_subject":"kl.v1.*.*.*.license.issued","ack_policy":"explicit"}}"#),
    ("follow all as licenses", "$JS.API.CONSUMER.CREATE.KL_LOG.licenses.kl.v1.>",
        r#"{"stream_name":"KL_LOG","config":{"name":"licenses","filter_subject":"kl.v1.>"}}"#),
    ("follow Stripe as licenses", "$JS.API.CONSUMER.CREATE.KL_LOG.licenses.kl.v1.*.*.*.stripe.>",
        r#"{"stream_name":"KL_LOG","config":{"name":"licenses","filter_subject":"kl.v1.*.*.*.stripe.>"}}"#),
    ("follow by a wide filter", "$JS.API.CONSUMER.CREATE.KL_LOG.licenses.kl.v1.*.*.*.>",
        r#"{"stream_name":"KL_LOG","config":{"name":"licenses","filter_subject":"kl.v1.*.*.*.>"}}"#),
    ("follow without a filter in the subject", "$JS.API.CONSUMER.CREATE.KL_LOG.licenses",
        r#"{"stream_name":"KL_LOG","config":{"name":"licenses"}}"#),
    ("follow without a name", "$JS.API.CONSUMER.CREATE.KL_LOG", r#"{"stream_name":"KL_LOG","config":{}}"#),
    ("follow by the old way", "$JS.API.CONSUMER.DURABLE.CREATE.KL_LOG.licenses",
        r#"{"stream_name":"KL_LOG","config":{"durable_name":"licenses"}}"#),
    ("take as issuer", "$JS.API.CONSUMER.MSG.NEXT.KL_LOG.keyledger-issuer", "1"),
    ("look as issuer", "$JS.API.CONSUMER.INFO.KL_LOG.keyledger-issuer", ""),
    ("acknowledge as issuer", "$JS.ACK.KL_LOG.keyledger-issuer.1.1.1.1.0", "+ACK"),
    ("acknowledge as issuer the newer way", "$JS.ACK._.AAAA.KL_LOG.keyledger-issuer.1.1.1.1.0", "+ACK"),
    ("take as projector", "$JS.API.CONSUMER.MSG.NEXT.KL_LOG.keyledger-projector", "1"),
    ("look as projector", "$JS.API.CONSUMER.INFO.KL_LOG.keyledger-projector", ""),
    ("acknowledge as projector", "$JS.ACK.KL_LOG.keyledger-projector.1.1.1.1.0", "+ACK"),
    ("acknowledge as projector the newer way", "$JS.ACK._.AAAA.KL_LOG.keyledger-projector.1.1.1.1.0", "+ACK"),
    ("take as licenses", "$JS.API.CONSUMER.MSG.NEXT.KL_LOG.licenses", "1"),
    ("look as licenses", "$JS.API.CONSUMER.INFO.KL_LOG.licenses", ""),
    ("acknowledge as licenses", "$JS.ACK.KL_LOG.licenses.1.1.1.1.0", "+ACK"),
    ("acknowledge as licenses the newer way", "$JS.ACK._.AAAA.KL_LOG.licenses.1.1.1.1.0", "+ACK"),
    ("list consumers", "$JS.API.CONSUMER.LIST.KL_LOG", ""),
    ("name consumers", "$JS.API.CONSUMER.NAMES.KL_LOG", ""),
    ("pause the issuer", "$JS.API.CONSUMER.PAUSE.KL_LOG.keyledger-issuer", r#"{"pause_until":"2099-01-01T00:00:00Z"}"#),
    ("reset the issuer", "$JS.API.CONSUMER.RESET.KL_LOG.keyledger-issuer", "{}"),
    ("unpin the issuer", "$JS.API.CONSUMER.UNPIN.KL_LOG.keyledger-issuer", r#"{"group":"g"}"#),
    ("move the issuer's leader", "$JS.API.CONSUMER.LEADER.STEPDOWN.KL_LOG.keyledger-issuer", ""),
    ("delete the issuer's consumer", "$JS.API.CONSUMER.DELETE.KL_LOG.keyledger-issuer", ""),
    ("delete the projector's consumer", "$JS.API.CONSUMER.DELETE.KL_LOG.keyledger-projector", ""),
    ("delete the consumer of licenses", "$JS.API.CONSUMER.DELETE.KL_LOG.licenses", ""),
    ("delete", "$JS.API.STREAM.DELETE.KL_LOG", ""),
];

/// Everything that can be listened to.
const LISTENING: &[(&str, &str)] = &[
    ("hear everything", ">"),
    ("hear events on their way", "kl.v1.>"),
    ("hear every answer", "_INBOX.>"),
    ("hear our answers", "_INBOX.keyledger.>"),
    ("hear answers to licenses", "_INBOX.licenses.>"),
    ("answer for JetStream", "$JS.API.>"),
    ("take others' acknowledgements", "$JS.ACK.>"),
    ("hear advisories", "$JS.EVENT.ADVISORY.>"),
    ("hear the system", "$SYS.>"),
];

const INGEST: &[&str] = &["write", "look", "make", "read through the leader", "hear our answers"];

const ISSUER: &[&str] = &[
    "look",
    "read through the leader",
    "follow all as issuer",
    "take as issuer",
    "look as issuer",
    "acknowledge as issuer",
    "acknowledge as issuer the newer way",
    "hear our answers",
];

const PROJECTOR: &[&str] = &[
    "look",
    "read through the leader",
    "follow all as projector",
    "take as projector",
    "look as projector",
    "acknowledge as projector",
    "acknowledge as projector the newer way",
    "hear our answers",
];

const CONSOLE: &[&str] = &["look", "read through the leader", "hear our answers"];

const LICENSES: &[&str] = &[
    "follow licenses",
    "follow one kind",
    "take as licenses",
    "look as licenses",
    "acknowledge as licenses",
    "acknowledge as licenses the newer way",
    "hear answers to licenses",
];

/// What `user` may do, of all there is.
fn permitted(port: u16, user: &str) -> BTreeSet<&'static str> {
    let mut line = Line::login(port, user);
    let requests = REQUESTS.iter().filter(|(_, subject, body)| line.may_publish(subject, OURS, body));
    let mut permitted: BTreeSet<_> = requests.map(|(name, ..)| *name).collect();
    permitted.extend(LISTENING.iter().filter(|(_, subject)| line.may_subscribe(subject)).map(|(name, _)| *name));
    permitted
}

/// Makes the stream as keyledger does.
fn make_stream(operator: &mut Line) {
    let config = json!({
        "name": "KL_LOG", "subjects": ["kl.v1.>"], "storage": "file", "allow_direct": true, "num_replicas": 1,
        "discard": "new", "deny_delete": true, "deny_purge": true, "retention": "limits", "max_msgs": -1,
    });
    let answer = ask(operator, OURS, "$JS.API.STREAM.CREATE.KL_LOG", &config.to_string());
    assert!(answer["error"].is_null(), "{answer}");
}

/// Asks, and reads the answer.
fn ask(line: &mut Line, inbox: &str, subject: &str, body: &str) -> Value {
    line.listen_once(inbox);
    assert!(line.may_publish(subject, inbox, body), "{subject} is refused");
    serde_json::from_str(&line.next().body).unwrap()
}

#[test]
fn each_role_may_do_what_it_needs_and_nothing_else() {
    for version in [CURRENT, OLDEST] {
        let nats = server::start(version);
        make_stream(&mut Line::login(nats.port(), "operator"));
        for (user, expected) in [
            ("ingest", INGEST),
            ("issuer", ISSUER),
            ("projector", PROJECTOR),
            ("console", CONSOLE),
            ("licenses", LICENSES),
        ] {
            let expected: BTreeSet<&str> = expected.iter().copied().collect();
            assert_eq!(permitted(nats.port(), user), expected, "{user} on {version}");
        }
        let all: BTreeSet<&str> =
            REQUESTS.iter().map(|(name, ..)| *name).chain(LISTENING.iter().map(|(name, _)| *name)).collect();
        assert_eq!(permitted(nats.port(), "operator"), all, "operator on {version}");
    }
}

#[test]
fn nobody_gets_in_without_a_password() {
    let nats = server::start(CURRENT);
    let url = format!("nats://127.0.0.1:{}", nats.port());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let refused = runtime.block_on(async_nats::ConnectOptions::new().connect(&url)).unwrap_err();
    assert_eq!(refused.kind(), async_nats::ConnectErrorKind::AuthorizationViolation);
    let wrong = async_nats::ConnectOptions::with_user_and_password("ingest".to_owned(), "guessed".to_owned());
    assert!(runtime.block_on(wrong.connect(&url)).is_err());
}

/// A server compares the filter in the subject, which permissions are about, with the one in the body.
#[test]
fn a_subscriber_cannot_ask_for_more_than_its_subject_says() {
    for version in [CURRENT, OLDEST] {
        let nats = server::start(version);
        make_stream(&mut Line::login(nats.port(), "operator"));
        let mut line = Line::login(nats.port(), "licenses");
        let subject = "$JS.API.CONSUMER.CREATE.KL_LOG.licenses.kl.v1.*.*.*.license.>";
        for config in [
            json!({"name": "licenses", "filter_subject": "kl.v1.>"}),
            json!({"name": "licenses"}),
            json!({"name": "licenses", "filter_subjects": ["kl.v1.>"]}),
            json!({"durable_name": "keyledger", "filter_subject": "kl.v1.*.*.*.license.>"}),
        ] {
            let body = json!({"stream_name": "KL_LOG", "config": config}).to_string();
            let answer = ask(&mut line, SUBSCRIBERS, subject, &body);
            assert!(answer["error"].is_object(), "{version}: {config} gave {answer}");
        }
        // Another name in the body is not heeded: the subject's is the one it gets.
        let config = json!({"name": "keyledger", "filter_subject": "kl.v1.*.*.*.license.>"});
        let body = json!({"stream_name": "KL_LOG", "config": config}).to_string();
        assert_eq!(ask(&mut line, SUBSCRIBERS, subject, &body)["name"], "licenses", "{version}");
    }
}

/// A server delivers where it is told, whatever the one who told it may publish to. That must not be a way around.
#[test]
fn a_server_that_delivers_to_a_forbidden_subject_does_nothing_there() {
    for version in [CURRENT, OLDEST] {
        let nats = server::start(version);
        let mut operator = Line::login(nats.port(), "operator");
        make_stream(&mut operator);
        assert!(operator.may_publish("kl.v1.default.live.07.license.issued", OURS, "{}"));
        let mut line = Line::login(nats.port(), "licenses");
        for target in ["$JS.API.STREAM.DELETE.KL_LOG", "$JS.API.STREAM.PURGE.KL_LOG"] {
            let mut witness = Line::login(nats.port(), "operator");
            assert!(witness.may_subscribe(target));

            follow(&mut line, &json!({"deliver_subject": target, "ack_policy": "none"}));
            assert_eq!(witness.next().body, "{}", "the event was pushed there");
            ask(&mut operator, OURS, "$JS.API.CONSUMER.DELETE.KL_LOG.licenses", "");

            follow(&mut line, &json!({"durable_name": "licenses", "ack_policy": "explicit"}));
            line.may_publish("$JS.API.CONSUMER.MSG.NEXT.KL_LOG.licenses", target, "1");
            assert_eq!(witness.next().body, "{}", "the event was sent there as an answer");
            ask(&mut operator, OURS, "$JS.API.CONSUMER.DELETE.KL_LOG.licenses", "");
        }
        let answer = ask(&mut operator, OURS, "$JS.API.STREAM.INFO.KL_LOG", "");
        assert_eq!(answer["state"]["messages"], 1, "{version}: {answer}");
    }
}

/// Makes the subscriber's consumer, with more of its configuration.
fn follow(line: &mut Line, more: &Value) {
    let filter = "kl.v1.*.*.*.license.>";
    let mut config = json!({"name": "licenses", "filter_subject": filter});
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let body = json!({"stream_name": "KL_LOG", "config": config}).to_string();
    let answer = ask(line, SUBSCRIBERS, &format!("$JS.API.CONSUMER.CREATE.KL_LOG.licenses.{filter}"), &body);
    assert!(answer["error"].is_null(), "{answer}");
}
