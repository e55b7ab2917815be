//! A program downstream of keyledger that knows NATS, `schemas/README.md` and `schemas/json`, and nothing else of it.
//!
//! It follows `license.issued` with a durable consumer, which remembers on the server how far it is. What it must get
//! right, as every subscriber must:
//!
//! * **Handle, remember, acknowledge, in this order.** Killed in between, it is given the message again.
//! * **Know what it handled, by `ce-id`.** The same event comes more than once: after a crash, and when the mirror is made
//!   anew. Where handling writes to a database, write the id in the same transaction; here it is a file.
//! * **Make the consumer whenever it is not there.** A mirror that is made anew has no consumers.
//! * **Stop at what it does not understand.** A message that is not what its schema says is for a person to look at.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::{Context, Message};
use futures::StreamExt;
use jsonschema::Validator;
use serde_json::Value;

/// The mirror of keyledger's log.
const STREAM: &str = "KL_LOG";

/// Any source, live money, any partition, one kind of event.
const FILTER: &str = "kl.v1.*.live.*.license.issued";

/// How long to wait before trying again, when the server is away or the stream is being made anew.
const PAUSE: Duration = Duration::from_secs(1);

/// Where NATS is, and who we are.
#[derive(Clone, Debug)]
pub struct Options {
    /// `nats://…`, of one server or of several separated by commas.
    pub url: String,
    /// The user, and the name of the consumer and of the inbox.
    pub user: String,
    /// Its password.
    pub password: String,
    /// The folder of the JSON Schemas.
    pub schemas: PathBuf,
}

/// The ids of the events that were handled, kept in a file, one on each line.
#[derive(Debug)]
pub struct Handled {
    ids: HashSet<String>,
    file: File,
}

impl Handled {
    /// Reads the file, or begins it.
    ///
    /// # Errors
    ///
    /// When it cannot be read or made.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        let ids = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Ok(Self { ids: ids.lines().map(str::to_owned).collect(), file })
    }

    fn add(&mut self, id: &str) -> anyhow::Result<()> {
        writeln!(self.file, "{id}").and_then(|()| self.file.sync_data()).context("remembering what was handled")?;
        self.ids.insert(id.to_owned());
        Ok(())
    }
}

/// Follows for ever, and prints a line for each license. Goes on by itself when the server was away or the stream was
/// made anew.
///
/// # Errors
///
/// When a person is needed: the schemas cannot be read, the login is refused, or a message is not what it should be. That
/// one was not acknowledged, so the next start gets it again.
pub async fn follow(options: &Options, handled: &mut Handled, mut print: impl FnMut(&str)) -> anyhow::Result<()> {
    let schemas = read_schemas(&options.schemas)?;
    // Answers come to an inbox of our own: nobody else may listen to it, and we may listen to no other.
    let client = async_nats::ConnectOptions::with_user_and_password(options.user.clone(), options.password.clone())
        .custom_inbox_prefix(format!("_INBOX.{}", options.user))
        .connect(&options.url)
        .await
        .context("connecting to NATS")?;
    let jetstream = async_nats::jetstream::new(client);
    loop {
        match messages(&jetstream, &options.user).await {
            // They end when the server goes away, or the stream or the consumer do.
            Ok(mut messages) => {
                while let Some(Ok(message)) = messages.next().await {
                    handle(&message, &schemas, handled, &mut print)?;
                    // If this does not reach the server, the message comes again, and its id is known.
                    let _ = message.ack().await;
                }
            }
            Err(error) => complain(&error),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[expect(clippy::print_stderr, reason = "words go to stderr")]
fn complain(error: &async_nats::Error) {
    eprintln!("cannot follow {STREAM} now: {error}; trying again. A server that forbids it does not answer at all");
}

/// Makes the durable consumer if it is not there, and begins to read from where it is.
async fn messages(jetstream: &Context, name: &str) -> Result<pull::Stream, async_nats::Error> {
    let config = pull::Config {
        durable_name: Some(name.to_owned()),
        filter_subject: FILTER.to_owned(),
        ack_policy: AckPolicy::Explicit,
        // Longer than handling one takes: after so long what is not acknowledged is given to whoever asks next.
        ack_wait: Duration::from_secs(5),
        // The next message only when this one is acknowledged: in order, also when one comes again.
        max_ack_pending: 1,
        ..pull::Config::default()
    };
    let consumer = jetstream.create_consumer_on_stream(config, STREAM).await?;
    Ok(consumer.messages().await?)
}

/// Does what is to be done for one message, unless it was done before.
fn handle(
    message: &Message,
    schemas: &HashMap<String, Validator>,
    handled: &mut Handled,
    print: &mut impl FnMut(&str),
) -> anyhow::Result<()> {
    let id = header(message, "ce-id")?;
    if handled.ids.contains(id) {
        return Ok(());
    }
    let license = check(message, schemas).with_context(|| format!("event {id} is not what it should be"))?;
    let position = header(message, "ce-sequence")?;
    let text = |name: &str| license[name].as_str().unwrap_or_default();
    print(&format!("{position} {id} {} {} {}", text("license"), text("product"), license["terms"]["seats"]));
    handled.add(id)
}

/// The data of a message, if it is valid by the schema that the message names.
fn check(message: &Message, schemas: &HashMap<String, Validator>) -> anyhow::Result<Value> {
    // Licenses are small. Who follows Stripe's events must also expect `content-encoding` and `kl-data`.
    let headers = message.headers.as_ref().context("it has no headers")?;
    ensure!(headers.get("content-encoding").is_none(), "it is compressed");
    ensure!(headers.get("kl-data").is_none(), "its data is elsewhere");
    let name = header(message, "ce-dataschema")?;
    let schema = schemas.get(name).with_context(|| format!("there is no schema {name}"))?;
    let data = serde_json::from_slice(&message.payload).context("it is not JSON")?;
    if let Err(error) = schema.validate(&data) {
        anyhow::bail!("{error} (at {})", error.instance_path());
    }
    Ok(data)
}

fn header<'m>(message: &'m Message, name: &str) -> anyhow::Result<&'m str> {
    let value = message.headers.as_ref().and_then(|headers| headers.get(name));
    Ok(value.with_context(|| format!("it has no header {name}"))?.as_str())
}

/// The schemas of events about licenses, by file name.
fn read_schemas(folder: &Path) -> anyhow::Result<HashMap<String, Validator>> {
    let mut schemas = HashMap::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.starts_with("license.") {
            let schema = serde_json::from_slice(&fs::read(&path)?).with_context(|| format!("reading {name}"))?;
            schemas.insert(name.to_owned(), jsonschema::validator_for(&schema).with_context(|| name.to_owned())?);
        }
    }
    Ok(schemas)
}
