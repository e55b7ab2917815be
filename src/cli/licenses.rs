//! `keyledger licenses`: listing, what a person decides about one, and license files.

use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::Context as _;
use keyledger_console::access::Caller;
use keyledger_console::api::{self, Api, View};
use keyledger_console::model::Repaired;
use keyledger_console::problem::Problem;
use keyledger_engine::file::{self, State, VerifyingKeys};
use keyledger_engine::keys::DeploymentKeys;
use keyledger_projector::read::{LicenseFilter, PageRequest};
use keyledger_schemas::clock::{Clock, SystemClock};
use serde_json::json;

use super::Context;
use super::args::{Act, LicenseFile, LicenseVerb, Licenses, ShowLicense, VerifyLicense};
use super::open;
use super::read::{self, LICENSES};
use crate::output::{Exit, WrongUse};

/// Longer input is no license file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Lists, shows, records what a person decides, writes or verifies.
///
/// # Errors
///
/// When there is no such license, or something it needs cannot be reached.
pub async fn run(context: &Context, licenses: Licenses) -> anyhow::Result<Exit> {
    match licenses.verb {
        None => list(context, &licenses).await,
        Some(LicenseVerb::Show(show)) => self::show(context, &show).await,
        Some(LicenseVerb::Suspend(wanted)) => {
            let act = async |api: &Api, view: &View, wish: &api::Act, caller: &Caller| {
                api.suspend(view, &wanted.id, wish, None, caller).await
            };
            self::act(context, &wanted, "It is suspended, as soon as the issuer has told the license engine.", act)
                .await
        }
        Some(LicenseVerb::Reinstate(wanted)) => {
            let act = async |api: &Api, view: &View, wish: &api::Act, caller: &Caller| {
                api.reinstate(view, &wanted.id, wish, None, caller).await
            };
            let said = "What people stopped is taken back. It works again, unless Stripe says otherwise, as soon as the \
                        issuer has told the license engine.";
            self::act(context, &wanted, said, act).await
        }
        Some(LicenseVerb::Revoke(wanted)) => {
            let act = async |api: &Api, view: &View, wish: &api::Act, caller: &Caller| {
                api.revoke(view, &wanted.id, wish, None, caller).await
            };
            let said = "It is revoked for good, as soon as the issuer has told the license engine.";
            self::act(context, &wanted, said, act).await
        }
        Some(LicenseVerb::Extend(wanted)) => {
            let act = async |api: &Api, view: &View, wish: &api::Act, caller: &Caller| {
                let api::Act { reason, name } = wish.clone();
                let extend = api::Extend { until: wanted.until, reason, name };
                api.extend(view, &wanted.act.id, &extend, None, caller).await
            };
            let said = "It works at least until then, as soon as the issuer has told the license engine.";
            self::act(context, &wanted.act, said, act).await
        }
        Some(LicenseVerb::Reissue(wanted)) => {
            let act = async |api: &Api, view: &View, wish: &api::Act, caller: &Caller| {
                api.reissue(view, &wanted.id, wish, None, caller).await
            };
            self::act(context, &wanted, "A new one is made at once, and then this one is revoked.", act).await
        }
        Some(LicenseVerb::File(file)) => write_file(context, &file).await,
        Some(LicenseVerb::Verify(verify)) => self::verify(context, &verify),
    }
}

async fn list(context: &Context, licenses: &Licenses) -> anyhow::Result<Exit> {
    let api = open::api(context).await?;
    let filter = LicenseFilter {
        subscription: licenses.subscription.clone(),
        customer: licenses.customer.clone(),
        email: licenses.email.clone(),
        ..LicenseFilter::default()
    };
    let view = read::view(&licenses.scope);
    let pages = async |request: PageRequest| api.licenses(&view, &filter, &request, None).await;
    read::list(context, &licenses.page, LICENSES, pages).await?;
    Ok(Exit::Fine)
}

async fn show(context: &Context, show: &ShowLicense) -> anyhow::Result<Exit> {
    let caller = if show.reveal { Some(open::caller(context.actor(show.by.as_deref())?)) } else { None };
    let api = open::api(context).await?;
    let license = api.license(&read::view(&show.scope), &show.id, caller.as_ref()).await;
    read::detail(context.output, &json!(license.map_err(open::problem)?))?;
    Ok(Exit::Fine)
}

/// Records what a person decides about one license. `act` asks the API for it.
async fn act(
    context: &Context,
    wanted: &Act,
    said: &str,
    act: impl AsyncFn(&Api, &View, &api::Act, &Caller) -> Result<Repaired, Problem>,
) -> anyhow::Result<Exit> {
    let caller = open::caller(context.actor(wanted.by.as_deref())?);
    if wanted.reason.trim().is_empty() {
        return Err(WrongUse("--reason must say why".to_owned()).into());
    }
    let api = open::api(context).await?;
    let wish = api::Act { reason: wanted.reason.clone(), name: Some(caller.name.clone()) };
    let repaired = act(&api, &read::view(&wanted.scope), &wish, &caller).await.map_err(open::problem)?;
    if context.output.json {
        context.output.value(&repaired)?;
    } else if repaired.repeated {
        context.output.words("That was asked for before, and still holds: nothing was changed.");
    } else {
        context.output.words(said);
    }
    Ok(Exit::Fine)
}

async fn write_file(context: &Context, wanted: &LicenseFile) -> anyhow::Result<Exit> {
    let api = open::api(context).await?;
    let text = api.license_file(&read::view(&wanted.scope), &wanted.id).await.map_err(open::problem)?;
    if context.output.json {
        context.output.value(&json!({"license": wanted.id, "file": text}))?;
    } else {
        context.output.line(text.trim_end())?;
    }
    Ok(Exit::Fine)
}

fn verify(context: &Context, verify: &VerifyLicense) -> anyhow::Result<Exit> {
    let text = read_bounded(&verify.file)?;
    let mut trusted = VerifyingKeys::default();
    if let Some(path) = &verify.public_key {
        let pem = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        trusted.insert_pem(&pem).with_context(|| format!("reading {}", path.display()))?;
    } else {
        let settings = context.settings()?;
        trusted = VerifyingKeys::of(&DeploymentKeys::load(&settings.keys_dir)?);
    }
    let now = verify.at.unwrap_or_else(|| SystemClock.now());
    match file::verify(&text, &trusted, now) {
        Ok(verified) => {
            let found = if verified.state == State::Expired { Exit::Found } else { Exit::Fine };
            let mut shown = serde_json::to_value(&verified.payload)?;
            shown["genuine"] = json!(true);
            shown["state"] = json!(verified.state);
            shown["signed_with"] = json!(verified.key_id);
            read::detail(context.output, &shown)?;
            Ok(found)
        }
        Err(invalid) => {
            if context.output.json {
                context.output.value(&json!({"genuine": false, "reason": invalid.to_string()}))?;
            } else {
                context.output.line(format!("not genuine: {invalid}"))?;
            }
            Ok(Exit::Found)
        }
    }
}

fn read_bounded(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(FILE_BYTES_MAX).read_to_string(&mut text).context("reading stdin")?;
    } else {
        let file = fs::File::open(path).with_context(|| format!("reading {}", path.display()))?;
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).with_context(|| format!("reading {}", path.display()))?;
    }
    Ok(text)
}
