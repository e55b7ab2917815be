//! `keyledger sandbox`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `sandbox`
#[derive(Debug, Args)]
pub struct Sandbox {
    /// What to run.
    #[command(subcommand)]
    pub verb: SandboxVerb,
}

/// What the sandbox has.
#[derive(Debug, Subcommand)]
pub enum SandboxVerb {
    /// A scripted license engine with its own disk, which misbehaves on demand.
    #[command(
        after_help = "Prints one line of JSON on stdout once it is ready: {\"ready\": true, \"url\": \"http://…\"}

Examples:
  keyledger sandbox stub --listen 127.0.0.1:8090 --data ./stub
  curl -X PUT localhost:8090/control/faults -H 'Content-Type: application/json' -d '{\"script\": [{\"operation\": \"create\", \"count\": 1, \"fault\": {\"kind\": \"commit_then_hang\"}}]}'"
    )]
    Stub(Stub),
    /// A stand-in for Cryptlex' Web API v3.
    #[command(
        mut_arg("listen", |listen| listen.required(false).default_value("127.0.0.1:8091")),
        after_help = "Prints one line of JSON on stdout once it is ready:
  {\"ready\": true, \"stands_for\": \"cryptlex\", \"url\": \"http://127.0.0.1:8091\", \"control\": [\"…\"]}

In keyledger.toml:
  [provider.cryptlex]
  base_url = \"http://127.0.0.1:8091\"
  access_token = \"sandbox\"

Control, without a token: GET /control/state (users, licenses, and how often each was really made),
GET and PUT /control/settings (what nobody could verify about the real service is a switch there),
GET and PUT /control/faults, GET /control/calls. Operations of faults: create, find, list, read,
change, delete, user_create, user_find, user_read, user_change, any.

Examples:
  keyledger sandbox cryptlex
  keyledger sandbox cryptlex --fault create=commit_then_drop      the first answer is lost
  keyledger sandbox cryptlex --settings '{\"duplicate_email\": \"allowed\"}'"
    )]
    Cryptlex(StandIn),
    /// A stand-in for Cryptolens' Web API v3.
    #[command(
        mut_arg("listen", |listen| listen.required(false).default_value("127.0.0.1:8092")),
        after_help = "Prints one line of JSON on stdout once it is ready:
  {\"ready\": true, \"stands_for\": \"cryptolens\", \"url\": \"http://127.0.0.1:8092\", \"control\": [\"…\"]}

In keyledger.toml:
  [provider.cryptolens]
  base_url = \"http://127.0.0.1:8092\"
  access_token = \"sandbox\"

Its products are 3349 and 3350, and 3400 with the old kind of key. Control, without a token: GET
/control/state, GET and PUT /control/settings (what nobody could verify about the real service is a
switch there), GET and PUT /control/faults, GET /control/calls. Operations of faults are its
methods: CreateKey, GetKeys, ExtendLicense, AddCustomer …, any.

Examples:
  keyledger sandbox cryptolens
  keyledger sandbox cryptolens --fault CreateKey=commit_then_hang      it is made, and nobody answers
  keyledger sandbox cryptolens --settings '{\"time_of_day\": \"midnight\"}'"
    )]
    Cryptolens(StandIn),
    /// A stand-in for Keygen's API v1.
    #[command(
        mut_arg("listen", |listen| listen.required(false).default_value("127.0.0.1:8093")),
        after_help = "Prints one line of JSON on stdout once it is ready:
  {\"ready\": true, \"stands_for\": \"keygen\", \"url\": \"http://127.0.0.1:8093\", \"control\": [\"…\"]}

In keyledger.toml:
  [provider.keygen]
  base_url = \"http://127.0.0.1:8093\"
  account = \"sandbox\"
  token = \"sandbox\"

Its policies are listed by GET /control/settings. Control, without a token: GET /control/state, GET
and PUT /control/settings, GET and PUT /control/faults, GET /control/calls.

Examples:
  keyledger sandbox keygen
  keyledger sandbox keygen --fault any=fail:503      the first call of all fails
  keyledger sandbox keygen --settings '{\"rate_limit_headers\": false}'"
    )]
    Keygen(StandIn),
    /// A stand-in for Stripe's API, as far as keyledger reads and writes it.
    #[command(
        mut_arg("listen", |listen| listen.required(false).default_value("127.0.0.1:8094")),
        after_help = "Prints one line of JSON on stdout once it is ready:
  {\"ready\": true, \"stands_for\": \"stripe\", \"url\": \"http://127.0.0.1:8094\", \"control\": [\"…\"]}

In keyledger.toml:
  [stripe.default]
  api_base = \"http://127.0.0.1:8094\"
  api_key = \"sandbox\"

Control, without a key: GET /control/state, GET and PUT /control/settings, GET and PUT
/control/faults, GET /control/calls. With `webhook` in its settings it delivers the events that it
makes, signed.

Examples:
  keyledger sandbox stripe
  keyledger sandbox stripe --settings '{\"requests_per_second\": 5}'"
    )]
    Stripe(StandIn),
}

/// `sandbox cryptlex`, `cryptolens`, `keygen`, `stripe`
#[derive(Debug, Args)]
pub struct StandIn {
    /// Where to listen. Port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// What it is like, as JSON: what GET /control/settings shows, as far as it differs.
    #[arg(long, value_name = "JSON")]
    pub settings: Option<String>,
    /// What happens to the next such call, e.g. `create=commit_then_drop`, `any=fail:503`, `find=slow:30000`. May be repeated.
    #[arg(long, value_name = "OPERATION=FAULT")]
    pub fault: Vec<String>,
    /// How it misbehaves, as JSON: what PUT /control/faults takes, e.g. a mix of faults by chance.
    #[arg(long, value_name = "JSON")]
    pub faults: Option<String>,
}

/// `sandbox stub`
#[derive(Debug, Args)]
pub struct Stub {
    /// Where to listen. Port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8090")]
    pub listen: SocketAddr,
    /// Where to keep what it made.
    #[arg(long, default_value = "./stub", value_name = "FOLDER")]
    pub data: PathBuf,
}
