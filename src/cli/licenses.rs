//! `keyledger licenses`: listing, revoking, and license files.

use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::Context as _;
use jiff::Timestamp;
use keyledger_engine::file::{self, State, VerifyingKeys};
use keyledger_engine::keys::DeploymentKeys;
use keyledger_eventlog::log::Append;
use keyledger_projector::read::{LicenseFilter, PageRequest};
use keyledger_schemas::clock::{Clock, SystemClock};
use keyledger_schemas::envelope::{IdReuse, NewEvent, derived_id, partition_of};
use keyledger_schemas::event::{Event, RevokeRequested};
use keyledger_schemas::ids::UnitId;
use serde_json::json;

use super::Context;
use super::args::{LicenseFile, LicenseVerb, Licenses, Revoke, ShowLicense, VerifyLicense};
use super::open;
use super::read::{self, LICENSES};
use crate::output::{Exit, WrongUse};

/// Longer input is no license file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Lists, shows, revokes, writes or verifies.
///
/// # Errors
///
/// When there is no such license, or something it needs cannot be reached.
pub async fn run(context: &Context, licenses: Licenses) -> anyhow::Result<Exit> {
    match licenses.verb {
        None => list(context, &licenses).await,
        Some(LicenseVerb::Show(show)) => self::show(context, &show).await,
        Some(LicenseVerb::Revoke(revoke)) => self::revoke(context, &revoke).await,
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

async fn revoke(context: &Context, revoke: &Revoke) -> anyhow::Result<Exit> {
    let actor = context.actor(revoke.by.as_deref())?;
    if revoke.reason.trim().is_empty() {
        return Err(WrongUse("--reason must say why".to_owned()).into());
    }
    let api = open::api(context).await?;
    let license = api.license(&read::view(&revoke.scope), &revoke.id, None).await.map_err(open::problem)?;
    let unit: UnitId = license.unit.parse().context("reading the license's unit")?;
    let now = SystemClock.now();
    let event = revoke_requested(&unit, revoke.reason.clone(), actor, now);
    let log = open::log_to_add_to(&context.settings()?).await?;
    log.append(Append::events(vec![event])).await.context("appending to the log")?;
    log.close().await;
    context.output.words("It is revoked for good, as soon as the issuer has told the license engine.");
    Ok(Exit::Fine)
}

/// The event that says that a person revoked the license of a unit. Asking twice is the same event: a revoke is final.
fn revoke_requested(unit: &UnitId, reason: String, actor: String, now: Timestamp) -> NewEvent {
    let event = Event::RevokeRequested(RevokeRequested { unit: unit.clone(), reason });
    NewEvent {
        id: derived_id(&now.to_string(), event.kind(), &unit.to_string()),
        kind: event.kind().to_owned(),
        scope: unit.purchase.scope.clone(),
        stream: unit.purchase.stream(),
        occurred_at: now,
        causation_id: None,
        correlation_id: None,
        schema_version: 1,
        actor: Some(actor),
        partition: partition_of(&unit.purchase.object),
        delivery: None,
        data: event.encode(),
        on_reuse: IdReuse::Refused,
    }
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
