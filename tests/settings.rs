//! Where settings come from, and what is said when they are wrong.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use figment::providers::Format;
use keyledger::settings::{EXAMPLE, Environment, Fallback, Providers, Settings};
use keyledger_schemas::ids::{Mode, PriceId, ProviderName, SourceName};
use keyledger_schemas::secret::Secret;

/// What `file` and `environment` come to, or everything that is wrong with them.
fn load<const N: usize>(file: &str, environment: [(&str, &str); N]) -> Result<Settings, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyledger.toml");
    fs::write(&path, file).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    Settings::load(Some(&path), &Environment::of(environment)).map_err(|bad| {
        let folder = format!("{}/", folder.path().display());
        bad.problems.iter().map(|problem| problem.to_string().replace(&folder, "")).collect()
    })
}

#[track_caller]
fn problems<const N: usize>(file: &str, environment: [(&str, &str); N]) -> Vec<String> {
    load(file, environment).unwrap_err()
}

fn default_source(settings: &Settings) -> &keyledger::settings::Source {
    &settings.sources[&SourceName::default()]
}

fn secrets(settings: &Settings) -> Vec<&str> {
    default_source(settings).webhook_secrets.iter().map(Secret::expose).collect()
}

#[test]
fn the_example_file_is_the_defaults() {
    let example = load(EXAMPLE, []).unwrap();
    let example = Settings { file: None, ..example };
    assert_eq!(format!("{example:#?}"), format!("{:#?}", Settings::default()));
}

/// The example with every line that shows a setting brought to life.
fn example_in_full() -> String {
    let shows_setting = |line: &str| {
        let line = line.trim_start_matches('[');
        line.split_once([' ', ']']).is_some_and(|(word, rest)| {
            !word.is_empty()
                && word.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '.')
                && (rest.starts_with('=')
                    || rest.is_empty()
                    || rest.starts_with(']')
                    || rest.trim_start().starts_with('#'))
        })
    };
    let line = |line: &str| match line.strip_prefix("# ") {
        Some(shown) if shows_setting(shown) => shown.to_owned(),
        _ => line.to_owned(),
    };
    EXAMPLE.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_file_shows_every_setting() {
    let full = example_in_full();
    let example: figment::value::Dict =
        figment::Figment::from(figment::providers::Toml::string(&full)).extract().unwrap();
    let keys = |path: &[&str]| -> Vec<String> {
        let mut table = &example;
        for part in path {
            table = match &table[*part] {
                figment::value::Value::Dict(_, table) => table,
                figment::value::Value::Array(_, list) => list[0].as_dict().unwrap(),
                other => panic!("{other:?}"),
            };
        }
        let mut keys: Vec<String> = table.keys().cloned().collect();
        keys.sort();
        keys
    };
    // A wrong key makes the reader list the right ones: that list is the truth the example is held to.
    for path in [
        &["ingest"][..],
        &["api"],
        &["stripe", "default"],
        &["policy"],
        &["issuer"],
        &["projector"],
        &["nats"],
        &["provider", "stub"],
        &["provider", "cryptlex"],
        &["provider", "cryptolens"],
        &["provider", "keygen"],
        &["catalog"],
    ] {
        let table = path.join(".");
        let header = if table == "catalog" { "[[catalog]]".to_owned() } else { format!("[{table}]") };
        let said = problems(&format!("{header}\nqqqqqqqqqqqqqqqqqqqqqq = 1"), []);
        let (_, list) = said[0].split_once("here are ").unwrap();
        let (list, _) = list.split_once(" (in").unwrap();
        let mut known: Vec<String> = list.split(", ").map(str::to_owned).collect();
        known.sort();
        assert_eq!(keys(path), known, "[{table}]");
    }
    let said = problems("qqqqqqqqqqqqqqqqqqqqqqqq = 1", []);
    for key in said[0].split_once("here are ").unwrap().1.split_once(" (in").unwrap().0.split(", ") {
        assert!(example.contains_key(key), "{key} is not in the example");
    }
}

#[test]
fn the_settings_in_the_readme_are_settings() {
    let readme = include_str!("../README.md");
    let blocks: Vec<&str> = readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 2);
    for block in blocks {
        load(block, []).unwrap();
    }
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let file = "[ingest]\nlisten = \"127.0.0.1:1\"\nrequests_max = 7\n[api]\nlisten = \"127.0.0.1:2\"";
    let settings = load(file, [("KEYLEDGER_INGEST__LISTEN", "127.0.0.1:3")]).unwrap();
    assert_eq!(settings.ingest.listen.port(), 3);
    assert_eq!(settings.ingest.requests_max, 7);
    assert_eq!(settings.ingest.headers_max, 100);
    assert_eq!(settings.api.listen.port(), 2);
}

#[test]
fn lists_tables_and_lengths_of_time_can_come_from_the_environment() {
    let environment = [
        ("KEYLEDGER_CATALOG", "[{product=\"pro\", seats=3, features=[f1]}]"),
        ("KEYLEDGER_POLICY__GRACE", "0s"),
        ("KEYLEDGER_POLICY__LEFT_BY_OTHER_SYSTEM", "case"),
        ("KEYLEDGER_STRIPE__EU_SHOP__WEBHOOK_SECRETS", "[whsec_a, whsec_b]"),
    ];
    let settings = load("", environment).unwrap();
    assert_eq!(settings.catalog[0].provider_product(), "pro");
    assert_eq!(settings.policy.grace.seconds(), 0);
    assert_eq!(settings.sources[&"eu_shop".parse::<SourceName>().unwrap()].webhook_secrets.len(), 2);
}

#[test]
fn everything_lies_in_the_data_folder_unless_it_is_named() {
    let settings = load("log = \"sqlite:/precious/log.db\"", [("KEYLEDGER_DATA_DIR", "/var/kl")]).unwrap();
    assert_eq!(settings.log.file(), Some(Path::new("/precious/log.db")));
    assert_eq!(settings.views.file(), Some(Path::new("/var/kl/views.db")));
    assert_eq!(settings.keys_dir, Path::new("/var/kl/keys"));
    assert_eq!(settings.api.token_file, Path::new("/var/kl/api.token"));
}

#[test]
fn well_known_variables_set_the_default_source() {
    let settings = load("", [("STRIPE_WEBHOOK_SECRET", "whsec_a, whsec_b"), ("STRIPE_API_KEY", "rk_1")]).unwrap();
    assert_eq!(secrets(&settings), ["whsec_a", "whsec_b"]);
    assert_eq!(default_source(&settings).mode, Mode::Live);
    assert_eq!(default_source(&settings).api_key.as_ref().unwrap().expose(), "rk_1");
}

#[test]
fn a_variable_of_ours_wins_over_a_well_known_one() {
    let environment = [("STRIPE_WEBHOOK_SECRET", "whsec_a"), ("KEYLEDGER_STRIPE__DEFAULT__WEBHOOK_SECRETS", "whsec_b")];
    assert_eq!(secrets(&load("", environment).unwrap()), ["whsec_b"]);
}

#[test]
fn a_secret_from_the_environment_wins_over_a_file_of_secrets() {
    let file = "[stripe.default]\nwebhook_secrets_file = \"/nowhere\"\nmode = \"test\"";
    let settings = load(file, [("STRIPE_WEBHOOK_SECRET", "whsec_a")]).unwrap();
    assert_eq!(secrets(&settings), ["whsec_a"]);
    assert_eq!(default_source(&settings).mode, Mode::Test);
}

#[test]
fn secrets_may_lie_in_files_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secrets");
    fs::write(&path, "# old and new\nwhsec_a\n\n  whsec_b\n").unwrap();
    let file = format!("[stripe.default]\nwebhook_secrets_file = {path:?}\napi_key_file = {path:?}");
    assert_eq!(secrets(&load(&file, []).unwrap()), ["whsec_a", "whsec_b"]);
}

#[test]
fn a_token_of_digits_alone_is_text_all_the_same() {
    let settings = load("", [("KEYLEDGER_API__TOKEN", "123456789012345678901234")]).unwrap();
    assert_eq!(settings.api.token.unwrap().expose(), "123456789012345678901234");
}

#[test]
fn every_problem_is_told_at_once_with_where_it_comes_from() {
    let file = "
        data_dri = \"x\"
        [ingest]
        lisetn = \"127.0.0.1:1\"
        requests_max = \"many\"
        [policy]
        grace = \"3 parsecs\"
        trial = \"sometimes\"
        [[catalog]]
        prise = \"price_1\"
        seats = 0
        [stripe.default]
        webhook_secrets = [\"\"]
    ";
    let said = problems(file, [("KEYLEDGER_API__LISTEN", "nowhere")]);
    let expected = [
        ("data_dri", "did you mean `data_dir`? (in keyledger.toml)"),
        ("ingest.lisetn", "did you mean `listen`? (in keyledger.toml)"),
        ("ingest.requests_max", "(in keyledger.toml)"),
        ("policy.grace", "3 parsecs"),
        ("policy.trial", "(in keyledger.toml)"),
        ("catalog.1.prise", "did you mean `price`?"),
        ("catalog.1.seats", "leave the entry out instead"),
        ("api.listen", "(from KEYLEDGER_API__LISTEN)"),
        ("stripe.default.webhook_secrets", "blank"),
    ];
    for (name, hint) in expected {
        assert!(said.iter().any(|it| it.contains(name) && it.contains(hint)), "{name}: {hint}\n{said:#?}");
    }
    assert_eq!(said.len(), expected.len(), "{said:#?}");
}

#[test]
fn what_a_problem_says_is_in_words_that_are_not_rusts() {
    let file = "stop_timeout_s = \"ten\"\n[ingest]\nrequests_max = -5\n[stripe.default]\nmode = \"prod\"\n[api]\nallow_loopback_without_token = \"perhaps\"";
    let said = problems(file, []);
    for words in [
        "`stop_timeout_s` must be a whole number of 0 or more, not \"ten\" (in keyledger.toml)",
        "`ingest.requests_max` must be a whole number of 0 or more, not -5 (in keyledger.toml)",
        "`stripe.default.mode` must be \"live\" or \"test\", not \"prod\" (in keyledger.toml)",
        "`api.allow_loopback_without_token` must be true or false, not \"perhaps\" (in keyledger.toml)",
    ] {
        assert!(said.iter().any(|it| it == words), "{words}\n{said:#?}");
    }
}

#[test]
fn a_blank_token_file_is_a_problem_like_every_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, " \n").unwrap();
    let file = format!("data_dri = \"x\"\n[api]\ntoken_file = {path:?}");
    let said = problems(&file, []);
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said.iter().any(|it| it.contains("`api.token_file`") && it.contains("blank")), "{said:#?}");
    load(&format!("[api]\ntoken_file = {path:?}"), [("KEYLEDGER_API__TOKEN", "a long random text of somebody")])
        .unwrap();
}

#[test]
fn what_a_problem_says_never_shows_a_secret() {
    let file = "[stripe.default]\nwebhook_secrets = {planted = \"whsec_planted\"}\napi_key = [\"rk_planted\"]\n[api]\ntoken = [\"planted\"]";
    let said = problems(file, []);
    assert_eq!(said.len(), 3, "{said:#?}");
    assert!(said.iter().all(|it| !it.contains("planted")), "{said:#?}");
}

#[test]
fn a_file_that_is_no_toml_is_told_by_place_and_reason_alone() {
    let said = problems("[api]\ntoken = \"planted\n", []);
    let [said] = &said[..] else { panic!("{said:#?}") };
    assert!(said.starts_with("keyledger.toml: line 2, column 17: ") && !said.contains("planted"), "{said}");
    let said = problems("[api]\ntoken = planted\n", []);
    assert!(said[0].starts_with("keyledger.toml: line 2, column 9: ") && !said[0].contains("planted"), "{said:#?}");
}

#[test]
fn settings_never_show_secrets() {
    let settings = load("", [("STRIPE_WEBHOOK_SECRET", "whsec_planted"), ("KEYLEDGER_API__TOKEN", "planted")]).unwrap();
    assert!(!format!("{settings:?}").contains("planted"));
}

#[test]
fn an_engine_needs_a_secret_which_may_lie_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, "  planted\n").unwrap();
    let file = format!(
        "[provider.cryptlex]\naccess_token_file = {path:?}\nrequests_at_once = 2\n[provider.cryptolens]\naccess_token = \"planted\"\n\
         [provider.keygen]\ntoken_file = {path:?}\naccount = \"acme\""
    );
    let settings = load(&file, []).unwrap();
    let Providers { cryptlex, cryptolens, keygen, .. } = settings.providers.clone();
    let (cryptlex, cryptolens, keygen) = (cryptlex.unwrap(), cryptolens.unwrap(), keygen.unwrap());
    assert_eq!([&cryptlex.token, &cryptolens.token, &keygen.token].map(Secret::expose), ["planted"; 3]);
    assert_eq!((cryptlex.options.requests_at_once, keygen.options.account.as_str()), (2, "acme"));
    assert_eq!(settings.deciding().providers.len(), 4);
    assert!(!format!("{settings:?}").contains("planted"));
    assert!(!serde_json::to_string(&settings.deciding()).unwrap().contains("planted"));
}

#[test]
fn a_secret_of_an_engine_may_come_from_the_environment_and_wins_over_a_file() {
    let file = "[provider.keygen]\ntoken_file = \"/nowhere\"";
    let settings = load(file, [("KEYLEDGER_PROVIDER__KEYGEN__TOKEN", "1234567890")]).unwrap();
    assert_eq!(settings.providers.keygen.unwrap().token.expose(), "1234567890");
}

#[test]
fn an_engine_without_its_secret_or_with_a_blank_one_is_refused_and_told_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, "\n").unwrap();
    for (name, key) in [("cryptlex", "access_token"), ("cryptolens", "access_token"), ("keygen", "token")] {
        for (line, hint) in [
            (String::new(), "is not set: make a token at the engine"),
            (format!("{key} = \" \""), "is blank"),
            (format!("{key}_file = {path:?}"), "is blank"),
            (format!("{key}_file = \"/nowhere\""), "/nowhere"),
            (format!("{key} = [\"planted\"]"), "must be text"),
            (format!("{key} = \"planted\"\n{key}_file = \"x\""), "are both set"),
        ] {
            let said = problems(&format!("[provider.{name}]\n{line}"), []);
            let is_told = said.iter().any(|it| it.contains(&format!("provider.{name}.{key}")) && it.contains(hint));
            assert!(is_told && said.iter().all(|it| !it.contains("planted")), "{name} {line}: {said:#?}");
        }
    }
    let said = problems("[provider.cryptlex]\naccess_tokn = \"planted\"\n[provider.cryptolex]", []);
    assert!(said.iter().any(|it| it.contains("did you mean `access_token`?")), "{said:#?}");
    assert!(said.iter().any(|it| it.contains("here are builtin, cryptlex, cryptolens, keygen and stub")), "{said:#?}");
}

#[test]
fn stripe_is_called_as_the_settings_say() {
    let settings = load("[stripe.default]\napi_key = \"rk_live_1\"", []).unwrap();
    let source = default_source(&settings);
    assert!(source.write_back && source.fetch);
    assert_eq!((source.reconcile_every.as_secs(), source.stripe.requests_per_second), (3600, 8));
    let file = "[stripe.default]\napi_base = \"http://127.0.0.1:1\"\ntimeout_ms = 7\nrequests_per_second = 3\n\
                requests_at_once = 2\nwrite_back = false\nfetch = false\nreconcile_every = \"0s\"";
    let settings = load(file, []).unwrap();
    let source = default_source(&settings);
    assert!(!source.write_back && !source.fetch && source.reconcile_every.is_zero());
    let stripe = &source.stripe;
    assert_eq!((stripe.api_base.as_str(), stripe.timeout_ms, stripe.requests_per_second), ("http://127.0.0.1:1", 7, 3));
    let zero =
        "[stripe.default]\ntimeout_ms = 0\nrequests_per_second = 0\nrequests_at_once = 0\nreconcile_every = \"soon\"";
    assert_eq!(problems(zero, []).len(), 4);
}

#[test]
fn a_catalog_entry_takes_what_engines_need() {
    let file = "[[catalog]]\nprice = \"price_1\"\nskip = true\n[[catalog]]\nprice = \"price_2\"\naddon_of = \"pro\"\nseats = 5\n\
                [[catalog]]\nproduct = \"pro\"\nmax_release = \"2.4\"\noptions = { license_template = \"t\" }";
    let catalog = load(file, []).unwrap().catalog;
    assert!(catalog[0].skip && catalog[1].addon_of.as_deref() == Some("pro"));
    assert_eq!(catalog[2].options["license_template"], "t");
    let both = problems("[[catalog]]\nskip = true\naddon_of = \"pro\"", []);
    assert!(both[0].contains("both `skip` and `addon_of`"), "{both:#?}");
}

#[test]
fn log_and_views_may_be_on_a_server_and_one_password_file_serves_both() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("postgres");
    fs::write(&path, "plan/ted\n").unwrap();
    let file = format!(
        "log = \"postgres://kl@db/keyledger\"\nviews = \"postgresql://kl@db/views\"\nlog_password_file = {path:?}"
    );
    let settings = load(&file, []).unwrap();
    assert_eq!(settings.log.url().expose(), "postgres://kl:plan%2Fted@db/keyledger");
    assert_eq!(settings.views.url().expose(), "postgres://kl:plan%2Fted@db/views");
    assert_eq!(settings.log.to_string(), "postgres://kl@db/keyledger");
    assert!(!format!("{settings:?}").contains("ted"));
}

#[test]
fn a_mirror_is_set_from_the_environment_and_its_defaults_are_those_of_the_example() {
    let settings = load("", [("KEYLEDGER_NATS__URL", "nats://kl:planted@127.0.0.1:4222")]).unwrap();
    assert!(!format!("{settings:?}").contains("planted"));
    let nats = settings.nats.unwrap();
    let server = nats.server;
    assert_eq!((server.stream.as_str(), server.replicas, server.connect_timeout.as_millis()), ("KL_LOG", 1, 5000));
    assert_eq!(nats.fallback, Fallback::Sql);
    assert!(load("", []).unwrap().nats.is_none());
}

#[test]
fn everything_that_is_wrong_with_servers_is_told_at_once() {
    let file = "
        log = \"postgres://planted\"
        views = \"postgres://kl:planted@db/keyledger\"
        views_password = \"planted\"
        [nats]
        url = \"http://nats\"
        stream = \"KL.LOG\"
        replicas = 6
        user = \"kl\"
        token = \"planted\"
        fallback = \"guess\"
        tls_ca_file = \"/nowhere\"
        [issuer]
        listen = \"127.0.0.1:8080\"
    ";
    let said = problems(file, []);
    for hint in [
        "`log` names no user",
        "`views` and `views_password` both",
        "`nats.url` must be",
        "`nats.stream` must be",
        "`nats.replicas` must be from 1 to 5",
        "`nats`: user, token are all set",
        "`nats.fallback` must be \"sql\" or \"wait\", not \"guess\"",
        "`nats.tls_ca_file`: /nowhere",
        "`ingest.listen` and `issuer.listen` are both",
    ] {
        assert!(said.iter().any(|it| it.contains(hint)), "{hint}\n{said:#?}");
    }
    assert_eq!(said.len(), 9, "{said:#?}");
    assert!(said.iter().all(|it| !it.contains("planted")), "{said:#?}");
}

#[test]
fn a_mirror_needs_a_url_and_one_whole_way_to_log_in() {
    assert!(problems("[nats]\nreplicas = 1", [])[0].contains("`nats.url` is not set"));
    assert!(problems("[nats]\nurl = \"nats://x\"\nuser = \"kl\"", [])[0].contains("`nats.user` needs"));
    assert!(problems("[nats]\nurl = \"nats://x\"\npassword = \"kl\"", [])[0].contains("`nats.password` needs"));
    assert!(problems("[nats]\nurl = \"nats://x\"\ntoken = \" \"", [])[0].contains("blank"));
    assert!(problems("[nats]\nurl = \"nats://x\"\nnkey_file = \"/nowhere\"", [])[0].contains("/nowhere"));
    assert!(problems("log_password = \"x\"", [])[0].contains("is a file"));
}

#[test]
fn what_leaves_the_machine_unencrypted_is_warned_of() {
    let file = "
        log = \"postgres://kl@db/keyledger\"
        views = \"postgres://kl@db/keyledger\"
        [nats]
        url = \"nats://a,nats://b\"
        [[catalog]]
    ";
    let warnings = load(file, []).unwrap().warnings();
    for hint in ["sslmode=verify-full", "without TLS", "write 3"] {
        assert!(warnings.iter().any(|it| it.contains(hint)), "{hint}: {warnings:#?}");
    }
    assert_eq!(warnings.len(), 3, "{warnings:#?}");
    let near = "log = \"postgres://kl@localhost/keyledger\"\n[nats]\nurl = \"nats://127.0.0.1\"\n[[catalog]]";
    let settings = load(near, []).unwrap();
    assert_eq!(settings.warnings(), Vec::<String>::new());
    let of_roles = settings.warnings_of_roles();
    assert!(of_roles.len() == 1 && of_roles[0].contains("`views` is the file"), "{of_roles:#?}");
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let bad = Settings::load(Some(Path::new("/nowhere/keyledger.toml")), &Environment::default()).unwrap_err();
    assert!(bad.to_string().contains("/nowhere/keyledger.toml"), "{bad}");
}

#[test]
fn a_file_that_is_no_toml_is_named_with_the_line() {
    let said = problems("a = 1\nb = = 2\n", []);
    assert!(said[0].contains("keyledger.toml") && said[0].contains("line 2"), "{said:#?}");
}

#[test]
fn two_sources_may_not_share_a_secret() {
    let file =
        "[stripe.eu]\nwebhook_secrets = [\"whsec_a\"]\n[stripe.us]\nwebhook_secrets = [\"whsec_b\", \"whsec_a\"]";
    let said = problems(file, []);
    assert!(said[0].contains("stripe.eu") && said[0].contains("stripe.us"), "{said:#?}");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let file = "
        log = \"sqlite:/a.db\"
        views = \"sqlite:/a.db\"
        [ingest]
        listen = \"0.0.0.0:80\"
        [api]
        listen = \"0.0.0.0:80\"
        allow_loopback_without_token = true
        [[catalog]]
        price = \"price_1\"
        [[catalog]]
        price = \"price_1\"
        [[catalog]]
        provider = \"cryptlex\"
    ";
    assert_eq!(problems(file, []).len(), 5);
}

#[test]
fn a_source_without_secrets_is_fine_for_everything_but_taking_webhooks() {
    let nothing = load("", []).unwrap();
    let said = nothing.require_sources().unwrap_err().to_string();
    assert!(said.contains("STRIPE_WEBHOOK_SECRET"), "{said}");
    let half = load("[stripe.eu]\nmode = \"live\"", []).unwrap();
    assert!(half.require_sources().unwrap_err().to_string().contains("stripe.eu.webhook_secrets"));
    load("", [("STRIPE_WEBHOOK_SECRET", "whsec_a")]).unwrap().require_sources().unwrap();
}

#[test]
fn a_blank_secret_in_the_environment_is_refused() {
    assert!(problems("", [("STRIPE_WEBHOOK_SECRET", "")])[0].contains("blank"));
    assert!(problems("", [("STRIPE_WEBHOOK_SECRET", "whsec_a,")])[0].contains("blank"));
}

#[test]
fn what_decides_has_no_secrets_and_names_the_engines() {
    let file = "[stripe.eu]\nmode = \"test\"\nwebhook_secrets = [\"whsec_planted\"]\n[provider.stub]\n[[catalog]]\nprice = \"price_1\"\nprovider = \"stub\"";
    let deciding = load(file, []).unwrap().deciding();
    assert_eq!(deciding.catalog[0].price, Some(PriceId::from("price_1")));
    assert_eq!(deciding.sources[&"eu".parse::<SourceName>().unwrap()].mode, Mode::Test);
    let engines: Vec<&str> = deciding.providers.iter().map(ProviderName::as_str).collect();
    assert_eq!(engines, ["builtin", "stub"]);
    assert!(!serde_json::to_string(&deciding).unwrap().contains("planted"));
}

#[test]
fn legal_but_risky_settings_are_warned_of() {
    let file = "[ingest]\nlisten = \"0.0.0.0:8080\"\n[api]\nlisten = \"0.0.0.0:8081\"\ntoken = \"short\"\n[stripe.default]\nwebhook_secrets = [\"secret\"]\napi_key = \"sk_test_1\"\napi_base = \"http://stripe\"\n[provider.keygen]\ntoken = \"t\"\nbase_url = \"http://keygen.lan\"";
    let warnings = load(file, []).unwrap().warnings();
    for hint in [
        "proxy",
        "token and the keys",
        "guessed",
        "whsec_",
        "may do everything at Stripe",
        "is of test mode",
        "`stripe.default.api_base` is called without TLS",
        "`provider.keygen.base_url` is called without TLS",
        "catalog",
    ] {
        assert!(warnings.iter().any(|it| it.contains(hint)), "{hint}: {warnings:#?}");
    }
    assert_eq!(warnings.len(), 9, "{warnings:#?}");
}

#[test]
fn a_file_that_others_may_read_is_warned_of_only_if_a_secret_stands_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyledger.toml");
    let warned = |text: &str| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let environment = Environment::of([("STRIPE_WEBHOOK_SECRET", "whsec_of_the_environment")]);
        let warnings = Settings::load(Some(&path), &environment).unwrap().warnings();
        warnings.iter().any(|warning| warning.contains("chmod 600"))
    };
    assert!(!warned(""));
    assert!(warned("[stripe.eu]\nwebhook_secrets = [\"whsec_of_the_file\"]"));
}
