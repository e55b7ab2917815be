//! `keyledger cases`: the queue, one case in full, and the three repairs.

use jiff::Timestamp;
use keyledger_console::access::Caller;
use keyledger_console::api::{Api, Attach, Retry, View, Waive};
use keyledger_console::model::Repaired;
use keyledger_console::problem::Problem;
use keyledger_projector::read::{CaseFilter, PageRequest};
use keyledger_schemas::ids::Mode;
use serde_json::{Value, json};

use super::args::{CaseVerb, Cases, ListCases, OneCase, ShowCase};
use super::read::{self, CASES};
use super::{Context, open};
use crate::output::{Exit, WrongUse};

/// Lists cases, shows one, or repairs one.
///
/// # Errors
///
/// When there is no such case, or the log or the views cannot be reached.
pub async fn run(context: &Context, cases: Cases) -> anyhow::Result<Exit> {
    match cases.verb {
        None => list(context, &cases.list).await,
        Some(CaseVerb::List(cases)) => list(context, &cases).await,
        Some(CaseVerb::Show(one)) => show(context, &one).await,
        Some(CaseVerb::Retry(one)) => {
            let repair = async |api: &Api, view: &View, caller: &Caller| {
                api.retry(view, &one.case, &Retry { name: None }, Some(&caller.request), caller).await
            };
            self::repair(
                context,
                &one,
                "It is tried again at once; where a call's outcome is unknown, as soon as that is settled.",
                repair,
            )
            .await
        }
        Some(CaseVerb::Waive(waive)) => {
            let repair = async |api: &Api, view: &View, caller: &Caller| {
                let request = Waive { name: caller.name.clone(), reason: waive.reason.clone() };
                api.waive(view, &waive.one.case, &request, None, caller).await
            };
            self::repair(context, &waive.one, "Waived. New money opens it again.", repair).await
        }
        Some(CaseVerb::Attach(attach)) => {
            let repair = async |api: &Api, view: &View, caller: &Caller| {
                let named = attach.license.as_ref().or(attach.provider_id.as_ref());
                let request = Attach {
                    provider: attach.provider.clone().unwrap_or_default(),
                    provider_id: named.cloned().unwrap_or_default(),
                    reason: attach.reason.clone(),
                    name: None,
                };
                api.attach(view, &attach.one.case, &request, None, caller).await
            };
            let said = "Attached. The case closes once the issuer has looked it up at its engine, if that is configured; if it \
                        may not be taken, the case shows why.";
            self::repair(context, &attach.one, said, repair).await
        }
    }
}

async fn list(context: &Context, cases: &ListCases) -> anyhow::Result<Exit> {
    let api = open::api(context).await?;
    // Clap has let nothing else through; `all` is no status, and so no filter.
    let filter = CaseFilter { kind: cases.kind.clone(), status: cases.status.parse().ok(), ..CaseFilter::default() };
    let view = read::view(&cases.scope);
    let pages = async |request: PageRequest| api.cases(&view, &filter, &request).await;
    let columns = if filter.status.is_some() { read::cases_of_one_status() } else { CASES.to_vec() };
    read::list(context, &cases.page, &columns, pages).await?;
    Ok(Exit::Fine)
}

async fn show(context: &Context, one: &ShowCase) -> anyhow::Result<Exit> {
    let api = open::api(context).await?;
    let case = in_its_mode(one.at, async |view| api.case(view, &one.case).await).await?;
    let mut shown = json!(case);
    if !context.output.json {
        for_a_person(&mut shown);
    }
    read::detail(context.output, &shown)?;
    Ok(Exit::Fine)
}

/// That nothing more is known, and that it is not tried again by itself, is worth a line too.
fn for_a_person(case: &mut Value) {
    case["purchase"] = case["purchase"]["stripe_id"].clone();
    for field in ["detail", "next_attempt_at"] {
        if case[field].is_null() {
            case[field] = json!("–");
        }
    }
}

async fn repair(
    context: &Context,
    one: &OneCase,
    said: &str,
    repair: impl AsyncFn(&Api, &View, &Caller) -> Result<Repaired, Problem>,
) -> anyhow::Result<Exit> {
    let caller = open::caller(context.actor(one.by.as_deref())?);
    let api = open::api(context).await?;
    let repaired = in_its_mode(None, async |view| repair(&api, view, &caller).await).await?;
    if context.output.json {
        context.output.value(&repaired)?;
    } else {
        context.output.words(said);
    }
    Ok(Exit::Fine)
}

/// Asks about one case. Its id says its mode, but nobody types that: both are tried.
///
/// # Errors
///
/// When there is no such case, or it cannot be asked about.
pub async fn in_its_mode<T>(
    at: Option<Timestamp>,
    ask: impl AsyncFn(&View) -> Result<T, Problem>,
) -> anyhow::Result<T> {
    let mut view = View { at, ..View::default() };
    let mut answer = ask(&view).await;
    if matches!(answer, Err(Problem::NotFound { .. })) {
        view.within.mode = Mode::Test;
        answer = ask(&view).await;
    }
    answer.map_err(|problem| match problem {
        Problem::NotFound { what, id } => WrongUse(format!("there is no {what} `{id}`")).into(),
        other => open::problem(other),
    })
}
