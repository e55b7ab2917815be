//! `keyledger repair`: the plan of what would repair cases, and doing what of it is safe.

use keyledger_console::api::{Api, View};
use keyledger_console::model::{Applied, Doer, Outcome, Plan};
use serde_json::{Value, json};

use super::args::Repair;
use super::read::{self, Column};
use super::{Context, cases, open};
use crate::output::{Exit, counted};

const STEPS: &[Column] = &[
    ("CASE", "/case"),
    ("KIND", "/kind"),
    ("ABOUT", "/about"),
    ("STEP", "/action"),
    ("BY", "/by"),
    ("WHY", "/reason"),
    ("COMMAND", "/command"),
];

const APPLIED: &[Column] =
    &[("CASE", "/case"), ("STEP", "/action"), ("OUTCOME", "/outcome"), ("EVENT", "/event"), ("WHY", "/detail")];

/// Prints the plan, and does what of it is safe if that is asked for.
///
/// # Errors
///
/// When there is no such case, or the log or the views cannot be reached.
pub async fn run(context: &Context, wanted: &Repair) -> anyhow::Result<Exit> {
    let caller = if wanted.apply { Some(open::caller(context.actor(wanted.by.as_deref())?)) } else { None };
    let api = open::api(context).await?;
    let mut left = false;
    for (view, plan) in plans(&api, wanted).await? {
        show(context, &plan)?;
        let Some(caller) = &caller else {
            left |= plan.steps.iter().any(|step| step.by != Doer::Nobody);
            continue;
        };
        let applied = api.apply(&view, &plan, caller).await.map_err(open::problem)?;
        tell(context, &applied)?;
        left |= is_left(&plan, &applied);
    }
    if caller.is_none() && left {
        context.output.words("Nothing was changed: --apply does the steps that are keyledger's.");
    }
    Ok(if left { Exit::Found } else { Exit::Fine })
}

/// One plan for all open cases, or one for each case that is named: its id says its mode, and nobody types that.
async fn plans(api: &Api, wanted: &Repair) -> anyhow::Result<Vec<(View, Plan)>> {
    let view = read::view(&wanted.scope);
    if wanted.all {
        let plan = api.plan(&view, &[]).await.map_err(open::problem)?;
        return Ok(vec![(view, plan)]);
    }
    let mut plans = Vec::with_capacity(wanted.cases.len());
    for case in &wanted.cases {
        let one = std::slice::from_ref(case);
        let ask = async |view: &View| Ok((view.clone(), api.plan(view, one).await?));
        plans.push(cases::in_its_mode(wanted.scope.at, ask).await?);
    }
    Ok(plans)
}

/// Whether something is still to be done by a person.
fn is_left(plan: &Plan, applied: &[Applied]) -> bool {
    plan.steps.iter().zip(applied).any(|(step, applied)| step.by != Doer::Nobody && applied.outcome == Outcome::Left)
}

fn show(context: &Context, plan: &Plan) -> anyhow::Result<()> {
    if context.output.json {
        for step in &plan.steps {
            context.output.value(step)?;
        }
    } else if plan.steps.is_empty() {
        context.output.words("Nothing is open.");
    } else {
        let rows: Vec<Value> = plan.steps.iter().map(|step| json!(step)).collect();
        read::table(context.output, &rows, STEPS)?;
    }
    Ok(())
}

fn tell(context: &Context, applied: &[Applied]) -> anyhow::Result<()> {
    if context.output.json {
        for one in applied {
            context.output.value(one)?;
        }
        return Ok(());
    }
    if applied.is_empty() {
        return Ok(());
    }
    context.output.line("")?;
    let rows: Vec<Value> = applied.iter().map(|one| json!(one)).collect();
    read::table(context.output, &rows, APPLIED)?;
    let count = |outcome: Outcome| applied.iter().filter(|one| one.outcome == outcome).count();
    context.output.words(format!(
        "{} recorded, {} recorded before, {} left.",
        counted(count(Outcome::Recorded), "step"),
        count(Outcome::Repeated),
        count(Outcome::Left)
    ));
    Ok(())
}
