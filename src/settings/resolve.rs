//! From the layers to [`Settings`]: reads each table, then checks what must hold between them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::value::{Dict, Value};
use keyledger_issuer::provider::stub;
use keyledger_issuer::{effects, stripe};
use keyledger_schemas::ids::{Mode, SourceName};
use keyledger_schemas::secret::Secret;
use keyledger_schemas::settings::{CatalogEntry, Grace, Policy};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::database::{Database, Server};
use super::layers::{Environment, Layers};
use super::read::{Problem, Reader};
use super::{Account, Api, BadSettings, Issuer, Projector, Providers, Settings, Source};
use super::{nats, secrets};

/// How often Stripe is looked at for what was not delivered, where nothing is said.
const RECONCILE_EVERY_S: i64 = 3600;

/// The settings outside of every table.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Top {
    data_dir: Option<PathBuf>,
    log: Option<String>,
    log_password: Option<Secret>,
    log_password_file: Option<PathBuf>,
    views: Option<String>,
    views_password: Option<Secret>,
    views_password_file: Option<PathBuf>,
    keys_dir: Option<PathBuf>,
    stop_timeout_s: Option<u64>,
}

/// Their names.
const TOP: [&str; 9] = [
    "data_dir",
    "log",
    "log_password",
    "log_password_file",
    "views",
    "views_password",
    "views_password_file",
    "keys_dir",
    "stop_timeout_s",
];

/// The names of the tables.
const TABLES: [&str; 9] = ["nats", "ingest", "api", "stripe", "catalog", "policy", "issuer", "projector", "provider"];

/// `[api]` as it is written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ApiTable {
    listen: Option<SocketAddr>,
    token: Option<Secret>,
    token_file: Option<PathBuf>,
    allow_loopback_without_token: bool,
}

/// `[issuer]` as it is written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct IssuerTable {
    listen: Option<SocketAddr>,
    call_timeout_ms: Option<u64>,
    lease_ms: Option<u64>,
    connect_timeout_ms: Option<u64>,
    mark_after_s: Option<u64>,
    fetch_after_s: Option<u64>,
}

/// `[projector]` as it is written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ProjectorTable {
    listen: Option<SocketAddr>,
}

/// `[stripe.<name>]` as it is written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StripeTable {
    mode: Mode,
    webhook_secrets: Option<SecretList>,
    webhook_secrets_file: Option<PathBuf>,
    api_key: Option<Secret>,
    api_key_file: Option<PathBuf>,
    api_base: Option<String>,
    timeout_ms: Option<u64>,
    requests_per_second: Option<u32>,
    requests_at_once: Option<u32>,
    write_back: Option<bool>,
    fetch: Option<bool>,
    reconcile_every: Option<Grace>,
}

/// Secrets as a list, or as one text separated by commas, as a variable has them.
#[derive(Deserialize)]
#[serde(untagged)]
enum SecretList {
    List(Vec<Secret>),
    Text(Secret),
}

impl SecretList {
    fn secrets(self) -> Vec<Secret> {
        match self {
            Self::List(secrets) => secrets,
            Self::Text(text) => text.expose().split(',').map(|secret| Secret::new(secret.trim())).collect(),
        }
    }
}

pub(super) fn load(file: Option<&Path>, environment: &Environment) -> Result<Settings, BadSettings> {
    let layers = Layers::new(file, environment);
    let mut reader = Reader::new(&layers, environment);
    let settings = match layers.table() {
        Ok(table) => read(&mut reader, table),
        Err(error) => {
            // The file cannot be read at all: nothing else can be told yet.
            for error in *error {
                let at = layers.file.as_deref().map_or_else(String::new, |file| format!("{}: ", file.display()));
                reader.problem(format!("{at}{}", where_and_why(&error.kind.to_string())));
            }
            Settings::default()
        }
    };
    let problems = std::mem::take(&mut reader.problems);
    if problems.is_empty() { Ok(Settings { file: layers.file, ..settings }) } else { Err(BadSettings { problems }) }
}

/// What the parser of TOML says, without the line that it shows: there may be a secret in it.
fn where_and_why(said: &str) -> String {
    let mut lines = said.lines();
    match lines.next().and_then(|first| first.strip_prefix("TOML parse error at ")) {
        // The line stands between two that point at it.
        Some(place) => format!("{place}: {}", lines.skip(3).collect::<Vec<_>>().join(", ")),
        None => said.to_owned(),
    }
}

fn read(reader: &mut Reader<'_>, mut table: Dict) -> Settings {
    let known: Vec<&str> = TOP.into_iter().chain(TABLES).collect();
    reader.refuse_unknown(&[], &table, &known);
    let mut top_table: Dict = TOP.iter().filter_map(|key| table.remove_entry(*key)).collect();
    for key in ["log_password", "views_password"] {
        reader.choose_twin(&[], &mut top_table, key);
    }
    let top: Top = reader.section(&[], top_table).unwrap_or_default();

    let defaults = top.data_dir.as_deref().map_or_else(Settings::default, Settings::in_dir);
    let log = database(reader, "log", top.log, (top.log_password, top.log_password_file), defaults.log);
    let views = database(reader, "views", top.views, (top.views_password, top.views_password_file), defaults.views);
    let views = with_password_of(views, &log);
    let nats = nats::read(reader, table.remove("nats"));
    let ingest = reader.table(&["ingest"], table.remove("ingest"));
    let ingest: keyledger_ingest::options::Options = reader.section(&["ingest"], ingest).unwrap_or_default();
    for problem in ingest.problems() {
        reader.problem(problem);
    }
    let api = api(reader, table.remove("api"), defaults.api);
    let sources = sources(reader, table.remove("stripe"));
    let catalog = catalog(reader, table.remove("catalog"));
    let policy = reader.table(&["policy"], table.remove("policy"));
    let policy: Policy = reader.section(&["policy"], policy).unwrap_or_default();
    let issuer = issuer(reader, table.remove("issuer"), &defaults.issuer);
    let projector = reader.table(&["projector"], table.remove("projector"));
    let projector: ProjectorTable = reader.section(&["projector"], projector).unwrap_or_default();
    let projector = Projector { listen: projector.listen.unwrap_or(defaults.projector.listen) };
    let providers = providers(reader, table.remove("provider"));

    let settings = Settings {
        file: None,
        data_dir: defaults.data_dir,
        log,
        views,
        keys_dir: top.keys_dir.unwrap_or(defaults.keys_dir),
        stop_timeout_s: top.stop_timeout_s.unwrap_or(defaults.stop_timeout_s),
        nats,
        ingest,
        api,
        sources,
        catalog,
        policy,
        issuer,
        projector,
        providers,
    };
    reader.problems.extend(contradictions(&settings));
    settings
}

/// The database that a URL names, with its password.
fn database(
    reader: &mut Reader<'_>,
    name: &str,
    url: Option<String>,
    (password, password_file): (Option<Secret>, Option<PathBuf>),
    default: Database,
) -> Database {
    let is_set = password.is_some() || password_file.is_some();
    let password = match password_file.map(|file| secrets::read_token(&file)) {
        None => password,
        Some(Ok(password)) => Some(password),
        Some(Err(error)) => {
            reader.problem(format!("`{name}_password_file`: {error}"));
            None
        }
    };
    if password.as_ref().is_some_and(Secret::is_blank) {
        reader.problem(format!("`{name}_password` is blank: leave it out to go without"));
    }
    let database = match url.map(|url| Database::parse(&url)) {
        None => default,
        Some(Ok(database)) => database,
        Some(Err(reason)) => {
            reader.problem(format!("`{name}` {reason}"));
            return default;
        }
    };
    match database {
        Database::File(_) if is_set => {
            reader.problem(format!("`{name}_password` is for PostgreSQL, and `{name}` is a file: leave it out"));
            database
        }
        Database::Server(server) if server.password().is_some() && is_set => {
            reader.problem(format!("`{name}` and `{name}_password` both have a password: leave one out"));
            Database::Server(server)
        }
        Database::Server(server) => Database::Server(password.iter().fold(server, Server::with_password)),
        Database::File(_) => database,
    }
}

/// Log and views are mostly one user's on one server: then one password is enough.
fn with_password_of(views: Database, log: &Database) -> Database {
    match (views, log.server()) {
        (Database::Server(views), Some(log)) => Database::Server(views.or_password_of(log)),
        (views, _) => views,
    }
}

fn issuer(reader: &mut Reader<'_>, value: Option<Value>, defaults: &Issuer) -> Issuer {
    let table = reader.table(&["issuer"], value);
    let read: IssuerTable = reader.section(&["issuer"], table).unwrap_or_default();
    Issuer {
        listen: read.listen.unwrap_or(defaults.listen),
        options: keyledger_issuer::Options {
            call_timeout_ms: read.call_timeout_ms.unwrap_or(defaults.options.call_timeout_ms),
            lease_ms: read.lease_ms.unwrap_or(defaults.options.lease_ms),
            connect_timeout_ms: read.connect_timeout_ms.unwrap_or(defaults.options.connect_timeout_ms),
        },
        effects: effects::Options {
            mark_after_s: read.mark_after_s.unwrap_or(defaults.effects.mark_after_s),
            fetch_after_s: read.fetch_after_s.unwrap_or(defaults.effects.fetch_after_s),
        },
    }
}

fn api(reader: &mut Reader<'_>, value: Option<Value>, defaults: Api) -> Api {
    let mut table = reader.table(&["api"], value);
    reader.choose_twin(&["api"], &mut table, "token");
    let read: ApiTable = reader.section(&["api"], table).unwrap_or_default();
    if read.token.as_ref().is_some_and(Secret::is_blank) {
        reader.problem("`api.token` is blank: write a long random text, or leave it out to have one made");
    }
    let token_file = read.token_file.unwrap_or(defaults.token_file);
    if read.token.is_none() && secrets::is_blank(&token_file) {
        reader.problem(format!(
            "`api.token_file`: {} is blank: write a long random text into it, or delete it to have one made",
            token_file.display()
        ));
    }
    Api {
        listen: read.listen.unwrap_or(defaults.listen),
        token: read.token,
        token_file,
        allow_loopback_without_token: read.allow_loopback_without_token,
    }
}

fn sources(reader: &mut Reader<'_>, value: Option<Value>) -> BTreeMap<SourceName, Source> {
    let mut sources = BTreeMap::new();
    for (name, value) in reader.table(&["stripe"], value) {
        let path = ["stripe", name.as_str()];
        let source_name: SourceName = match name.parse() {
            Ok(source_name) => source_name,
            Err(error) => {
                let hint = if matches!(value, Value::Dict(..)) {
                    String::new()
                } else {
                    format!("; should it be `stripe.default.{name}`?")
                };
                reader.problem(format!("{error}{hint}"));
                continue;
            }
        };
        if !matches!(value, Value::Dict(..)) {
            reader.problem(format!("`stripe.{name}` must be a table; should it be `stripe.default.{name}`?"));
            continue;
        }
        let mut table = reader.table(&path, Some(value));
        reader.choose_twin(&path, &mut table, "webhook_secrets");
        reader.choose_twin(&path, &mut table, "api_key");
        let read: StripeTable = reader.section(&path, table).unwrap_or_default();
        sources.insert(source_name, source(reader, &format!("stripe.{name}"), read));
    }
    sources
}

/// One source with its secrets, those in files included.
fn source(reader: &mut Reader<'_>, at: &str, read: StripeTable) -> Source {
    let mut webhook_secrets = read.webhook_secrets.map(SecretList::secrets).unwrap_or_default();
    if let Some(file) = read.webhook_secrets_file {
        match secrets::read_lines(&file) {
            Ok(secrets) => webhook_secrets = secrets,
            Err(error) => reader.problem(format!("`{at}.webhook_secrets_file`: {error}")),
        }
    }
    if webhook_secrets.iter().any(Secret::is_blank) {
        reader.problem(format!("`{at}.webhook_secrets` has a blank secret: anyone could sign with it"));
    }
    let api_key = match read.api_key_file {
        None => read.api_key,
        Some(file) => match secrets::read_token(&file) {
            Ok(key) => Some(key),
            Err(error) => {
                reader.problem(format!("`{at}.api_key_file`: {error}"));
                None
            }
        },
    };
    if api_key.as_ref().is_some_and(Secret::is_blank) {
        reader.problem(format!("`{at}.api_key` is blank: leave it out to go without"));
    }
    let defaults = stripe::Options::default();
    let stripe = stripe::Options {
        api_base: read.api_base.unwrap_or(defaults.api_base),
        timeout_ms: read.timeout_ms.unwrap_or(defaults.timeout_ms),
        requests_per_second: read.requests_per_second.unwrap_or(defaults.requests_per_second),
        requests_at_once: read.requests_at_once.unwrap_or(defaults.requests_at_once),
    };
    let reconcile_every_s = read.reconcile_every.map_or(RECONCILE_EVERY_S, Grace::seconds);
    Source {
        mode: read.mode,
        webhook_secrets,
        api_key,
        stripe,
        write_back: read.write_back.unwrap_or(true),
        fetch: read.fetch.unwrap_or(true),
        reconcile_every: Duration::from_secs(u64::try_from(reconcile_every_s).unwrap_or_default()),
    }
}

fn catalog(reader: &mut Reader<'_>, value: Option<Value>) -> Vec<CatalogEntry> {
    let entries = match value {
        None => return Vec::new(),
        Some(Value::Array(_, entries)) => entries,
        Some(_) => {
            reader.problem("`catalog` must be a list of tables: write [[catalog]] above each");
            return Vec::new();
        }
    };
    let mut catalog = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        // People count from 1.
        let number = (index + 1).to_string();
        let path = ["catalog", number.as_str()];
        let table = reader.table(&path, Some(entry));
        catalog.extend(reader.section::<CatalogEntry>(&path, table));
    }
    catalog
}

fn providers(reader: &mut Reader<'_>, value: Option<Value>) -> Providers {
    let mut providers = Providers::default();
    for (name, value) in reader.table(&["provider"], value) {
        let path = ["provider", name.as_str()];
        match name.as_str() {
            "builtin" => {
                let table = reader.table(&path, Some(value));
                reader.refuse_unknown(&path, &table, &[]);
            }
            "stub" => {
                let table = reader.table(&path, Some(value));
                providers.stub = reader.section::<stub::Options>(&path, table);
            }
            "cryptlex" => providers.cryptlex = account(reader, &path, value, "access_token"),
            "cryptolens" => providers.cryptolens = account(reader, &path, value, "access_token"),
            "keygen" => providers.keygen = account(reader, &path, value, "token"),
            other => reader.problem(format!(
                "`[provider.{other}]` is no license engine; here are builtin, cryptlex, cryptolens, keygen and stub"
            )),
        }
    }
    providers
}

/// An account at an engine: its secret, under `key` or in a file, and how it is called.
fn account<O: DeserializeOwned + Serialize + Default>(
    reader: &mut Reader<'_>,
    path: &[&str; 2],
    value: Value,
    key: &str,
) -> Option<Account<O>> {
    let mut table = reader.table(path, Some(value));
    reader.choose_twin(path, &mut table, key);
    let file_key = format!("{key}_file");
    let fields = serde_json::to_value(O::default()).unwrap_or_default();
    let fields = fields.as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let known: Vec<&str> = [key, &file_key].into_iter().chain(fields.iter().map(String::as_str)).collect();
    reader.refuse_unknown(path, &table, &known);
    table.retain(|name, _| known.contains(&name.as_str()));
    let secrets: Dict = [key, &file_key].into_iter().filter_map(|name| table.remove_entry(name)).collect();
    let at = path.join(".");
    let token = token(reader, path, secrets, key);
    let options = reader.section::<O>(path, table);
    if token.as_ref().is_some_and(Secret::is_blank) {
        reader.problem(format!("`{at}.{key}` is blank: nothing could be made with it"));
    }
    Some(Account { options: options?, token: token? })
}

/// The secret of an account.
fn token(reader: &mut Reader<'_>, path: &[&str; 2], mut secrets: Dict, key: &str) -> Option<Secret> {
    let (at, file_key) = (path.join("."), format!("{key}_file"));
    if let Some(file) = secrets.remove(&file_key) {
        let Value::String(_, file) = file else {
            reader.problem(format!("`{at}.{file_key}` must be the path of a file, in quotes"));
            return None;
        };
        return match secrets::read_token(Path::new(&file)) {
            Ok(token) => Some(token),
            Err(error) => {
                reader.problem(format!("`{at}.{file_key}`: {error}"));
                None
            }
        };
    }
    match secrets.remove(key) {
        Some(Value::String(_, token)) => Some(Secret::new(token)),
        // A variable is text: a token of digits alone looks like a number.
        Some(_) => {
            let token = reader.text_of_variable(path, key).map(Secret::new);
            if token.is_none() {
                reader.problem(format!("`{at}.{key}` must be text in quotes"));
            }
            token
        }
        None => {
            reader.problem(format!("`{at}.{key}` is not set: make a token at the engine, and put it there or into a file named by `{file_key}`"));
            None
        }
    }
}

/// What is well written but cannot work together.
fn contradictions(settings: &Settings) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut problem = |text: String| problems.push(Problem(text));
    let api = &settings.api;
    if api.listen == settings.ingest.listen && api.listen.port() != 0 {
        problem(format!("`ingest.listen` and `api.listen` are both {}: the API belongs on a private one", api.listen));
    }
    let listens = [
        ("ingest.listen", settings.ingest.listen),
        ("api.listen", settings.api.listen),
        ("issuer.listen", settings.issuer.listen),
        ("projector.listen", settings.projector.listen),
    ];
    // Of the first two it is said above.
    for (index, (name, listen)) in listens.iter().enumerate().skip(2) {
        let twin = listens[..index].iter().find(|(_, other)| other == listen && listen.port() != 0);
        if let Some((twin, _)) = twin {
            problem(format!("`{twin}` and `{name}` are both {listen}: give each its own"));
        }
    }
    if api.allow_loopback_without_token && !api.listen.ip().is_loopback() {
        problem(format!("`api.allow_loopback_without_token` needs a loopback address, not {}", api.listen));
    }
    if settings.log.file().is_some() && settings.log == settings.views {
        problem(format!("`log` and `views` are both {}: views may be deleted at any time", settings.log));
    }
    if let Some((one, other)) = shared_secret(&settings.sources) {
        problem(format!(
            "`stripe.{one}` and `stripe.{other}` have a webhook secret in common: then nobody can tell them apart"
        ));
    }
    let providers = settings.deciding().providers;
    for (index, entry) in settings.catalog.iter().enumerate() {
        let number = index + 1;
        if !providers.contains(&entry.provider) {
            problem(format!("`catalog.{number}.provider`: `{}` is not configured under [provider]", entry.provider));
        }
        if entry.skip && entry.addon_of.is_some() {
            problem(format!(
                "`catalog.{number}` has both `skip` and `addon_of`: it either sells nothing or adds to something"
            ));
        }
        let twin = settings.catalog[..index]
            .iter()
            .position(|other| other.price == entry.price && other.matched_product() == entry.matched_product());
        if let Some(twin) = twin {
            let twin = twin + 1;
            problem(format!("`catalog.{number}` matches what `catalog.{twin}` matches: only the first would count"));
        }
    }
    for (name, source) in &settings.sources {
        if !source.stripe.api_base.starts_with("https://") && !source.stripe.api_base.starts_with("http://") {
            problem(format!("`stripe.{name}.api_base` must begin with https://"));
        }
        let stripe::Options { timeout_ms, requests_per_second, requests_at_once, .. } = source.stripe;
        for (key, value) in [
            ("timeout_ms", timeout_ms),
            ("requests_per_second", requests_per_second.into()),
            ("requests_at_once", requests_at_once.into()),
        ] {
            if value == 0 {
                problem(format!("`stripe.{name}.{key}` must be at least 1"));
            }
        }
    }
    let issuer = &settings.issuer.options;
    if issuer.call_timeout_ms == 0 {
        problem("`issuer.call_timeout_ms` must be at least 1".to_owned());
    }
    if issuer.connect_timeout_ms == 0 {
        problem("`issuer.connect_timeout_ms` must be at least 1".to_owned());
    }
    if issuer.lease_ms <= issuer.call_timeout_ms.saturating_mul(4) {
        problem("`issuer.lease_ms` must be more than four times `issuer.call_timeout_ms`".to_owned());
    }
    for (name, base_url) in settings.providers.addresses() {
        if !base_url.starts_with("http://") && !base_url.starts_with("https://") {
            problem(format!("`provider.{name}.base_url` must begin with https://"));
        }
    }
    if settings.providers.stub.as_ref().is_some_and(|stub| stub.timeout_ms == 0) {
        problem("`provider.stub.timeout_ms` must be at least 1".to_owned());
    }
    if settings.stop_timeout_s == 0 {
        problem("`stop_timeout_s` must be at least 1".to_owned());
    }
    problems
}

/// Two sources that one secret belongs to.
fn shared_secret(sources: &BTreeMap<SourceName, Source>) -> Option<(&SourceName, &SourceName)> {
    for (one, first) in sources {
        for (other, second) in sources.iter().filter(|(other, _)| *other > one) {
            let shared = |secret: &Secret| second.webhook_secrets.iter().any(|it| it.expose() == secret.expose());
            if first.webhook_secrets.iter().any(shared) {
                return Some((one, other));
            }
        }
    }
    None
}
