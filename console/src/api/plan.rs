//! Plans: what would repair cases, and doing what of it is safe.

use keyledger_projector::read::{self, CaseFilter, CaseStatus, PAGE_MAX, PageRequest, Views};

use super::repair::{Attach, Retry};
use super::{Api, View};
use crate::access::{Caller, Role};
use crate::model::{Applied, Doer, Outcome, Plan, Repaired, Step, StepAction};
use crate::plan::{self, Named};
use crate::problem::Problem;

/// Most cases in one plan.
const CASES_MAX: usize = 10_000;

/// What a license that Stripe names is attached for.
const NAMED_BY_STRIPE: &str = "Stripe's metadata names this license";

impl Api {
    /// What would repair these cases, or all open ones of this mode and source, the oldest first.
    ///
    /// # Errors
    ///
    /// [`Problem::NotFound`], [`Problem::NotReady`].
    pub async fn plan(&self, view: &View, cases: &[String]) -> Result<Plan, Problem> {
        let views = self.views().await?;
        let mut rows = Vec::with_capacity(cases.len());
        for case in cases {
            rows.push(self.case_row(view, case).await?);
        }
        if cases.is_empty() {
            rows = self.open_cases(view).await?;
        }
        let mut plan = Plan::default();
        for case in &rows {
            let named = self.named_for(&views, view, case).await?;
            plan.steps.extend(plan::steps(case, named.as_ref()));
        }
        Ok(plan)
    }

    /// Does the steps of a plan that are safe, and says which are left to a person. Doing them again changes nothing.
    ///
    /// # Errors
    ///
    /// [`Problem::Forbidden`], [`Problem::NotReady`]. What cannot be done any more is no error: it is left.
    pub async fn apply(&self, view: &View, plan: &Plan, caller: &Caller) -> Result<Vec<Applied>, Problem> {
        caller.must_be(Role::Operator)?;
        let mut applied = Vec::with_capacity(plan.steps.len());
        for step in &plan.steps {
            applied.push(match step.by {
                Doer::Keyledger => self.apply_step(view, step, caller).await?,
                Doer::Person | Doer::Nobody => left(step, step.reason.clone()),
            });
        }
        Ok(applied)
    }

    async fn apply_step(&self, view: &View, step: &Step, caller: &Caller) -> Result<Applied, Problem> {
        let done = match step.action {
            StepAction::Retry | StepAction::Issue => {
                self.retry(view, &step.case, &Retry { name: None }, None, caller).await
            }
            StepAction::Attach => {
                let request = Attach {
                    provider: step.provider.clone().unwrap_or_default(),
                    provider_id: step.provider_id.clone().unwrap_or_default(),
                    reason: NAMED_BY_STRIPE.to_owned(),
                    name: None,
                };
                self.attach(view, &step.case, &request, None, caller).await
            }
            StepAction::MapPrice | StepAction::Mend | StepAction::Reconcile | StepAction::Wait | StepAction::Waive => {
                return Ok(left(step, step.reason.clone()));
            }
        };
        match done {
            Ok(repaired) => Ok(recorded(step, &repaired)),
            // Between the plan and its step the case may have closed, or moved on.
            Err(problem @ (Problem::Conflict(_) | Problem::NotFound { .. })) => Ok(left(step, problem.to_string())),
            Err(problem) => Err(problem),
        }
    }

    async fn open_cases(&self, view: &View) -> Result<Vec<read::Case>, Problem> {
        let (views, as_of) = (self.views().await?, self.as_of(view).await?);
        let filter = CaseFilter { status: Some(CaseStatus::Open), ..CaseFilter::default() };
        let mut page = PageRequest { limit: PAGE_MAX, after: None };
        let mut cases = Vec::new();
        loop {
            let read = views.cases(&view.within, &filter, as_of, &page).await?;
            cases.extend(read.data);
            page.after = read.next;
            if page.after.is_none() || cases.len() >= CASES_MAX {
                return Ok(cases);
            }
        }
    }

    /// The license that the metadata of the case's subscription names, unless a unit of it has that one already.
    async fn named_for(&self, views: &Views, view: &View, case: &read::Case) -> Result<Option<Named>, Problem> {
        let Some(purchase) = case.purchase.as_ref().filter(|of| of.object.starts_with("sub_")) else { return Ok(None) };
        let as_of = self.as_of(view).await?;
        let within = read::Within { mode: purchase.scope.mode, source: Some(purchase.scope.source.clone()) };
        let Some(detail) = views.subscription(&within, &purchase.object, as_of).await? else { return Ok(None) };
        Ok(named(&detail))
    }
}

/// The license that the subscription's metadata names and that it does not have.
fn named(detail: &read::SubscriptionDetail) -> Option<Named> {
    let value = |key: &str| detail.subscription.metadata.get(key).map(|value| value.trim()).filter(|id| !id.is_empty());
    let (id, global) = (value("skm_key_id"), value("skm_key_globalid"));
    let is_held = |license: &read::License| {
        let own = license.provider_id.as_deref();
        // One that nobody was asked about is known by the id that named it.
        let of_account = own.map(|own| own.strip_prefix("globalId=").unwrap_or(own));
        let known = own.is_some_and(|own| id == Some(own)) || (global.is_some() && global == of_account);
        known || (global.is_some() && license.also.get("globalId").map(String::as_str) == global)
    };
    if detail.licenses.iter().any(is_held) {
        return None;
    }
    let provider_id = id.map(str::to_owned).or_else(|| global.map(|global| format!("globalId={global}")))?;
    Some(Named { provider: "cryptolens".to_owned(), provider_id })
}

fn recorded(step: &Step, repaired: &Repaired) -> Applied {
    let outcome = if repaired.repeated { Outcome::Repeated } else { Outcome::Recorded };
    let event = Some(repaired.event.clone());
    Applied { case: step.case.clone(), action: step.action, outcome, event, detail: None }
}

fn left(step: &Step, detail: String) -> Applied {
    Applied { case: step.case.clone(), action: step.action, outcome: Outcome::Left, event: None, detail: Some(detail) }
}
