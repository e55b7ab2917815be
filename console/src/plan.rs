//! What would repair a case: a pure function of the case, and of the license that Stripe names for it.

use keyledger_projector::read::{Case, CaseStatus};

use crate::model::{Doer, Step, StepAction};

/// A license that Stripe's metadata names and that no unit of the purchase has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The license engine.
    pub provider: String,
    /// The engine's id for it, or another that it has for it: `globalId=…`.
    pub provider_id: String,
}

/// The steps that would repair a case, in order. None for one that is not open.
pub fn steps(case: &Case, named: Option<&Named>) -> Vec<Step> {
    if case.status != CaseStatus::Open {
        return Vec::new();
    }
    let plan = Planning { case };
    match case.kind.as_str() {
        "no_key" | "free_without_key" => plan.unlicensed(named),
        "not_extended" | "not_adopted" => plan.unmet(),
        "unrouted" => vec![plan.reconcile("its sale is not known here"), plan.waive("it is no license sale")],
        "surplus_key" => vec![
            plan.mend("two licenses exist for one paid unit: delete one at its engine"),
            plan.waive("one of them is gone"),
        ],
        "no_email" => vec![plan.address(), plan.waive("nobody is to get a license")],
        "metadata_refused" | "fetch_refused" => {
            vec![plan.mend("Stripe refused it: see what the API key may do"), plan.waive("it is not needed")]
        }
        "body_refused" => vec![
            plan.mend("bodies over the size limit were refused: raise body_bytes_max under [ingest] and restart it"),
            plan.reconcile("what was refused is missing here"),
            plan.waive("they were not Stripe's, or are here now"),
        ],
        "disputed" => vec![plan.wait("it closes when the dispute does; answer it at Stripe")],
        // The case itself says what: unknown_status, mapping_error, mirror_diverged, and what a later build adds.
        _ => vec![plan.mend(&case.next)],
    }
}

struct Planning<'a> {
    case: &'a Case,
}

impl Planning<'_> {
    /// A unit, or a purchase, without any license.
    fn unlicensed(&self, named: Option<&Named>) -> Vec<Step> {
        let cause = self.cause();
        // What was refused stays refused until somebody looks at it.
        let named = named.filter(|_| self.case.unit.is_some() && cause != "provider_refused");
        if let Some(named) = named {
            return vec![self.attach(named)];
        }
        match cause {
            "left_by_other_system" if !self.case.awaits_issuer => vec![self.issue()],
            "unmapped_price" => vec![self.map_price()],
            "no_email" => vec![self.address()],
            "lines_unknown" => vec![
                self.reconcile("what the session sold is not known"),
                self.mend("put metadata that names the product on the session, or add a default [[catalog]] entry"),
            ],
            "waiting_for_link" => vec![self.reconcile("what was bought is not known")],
            _ => self.unmet(),
        }
    }

    /// A unit whose engine did not do what it was asked, or was not asked yet.
    fn unmet(&self) -> Vec<Step> {
        match self.cause() {
            "provider_refused" => vec![
                self.mend(&format!("the license engine refused it: {}", self.detail())),
                self.retry("asks the engine again; while nothing was mended it refuses again"),
            ],
            "provider_unavailable" => vec![self.retry("the license engine could not be reached")],
            // After a day of looking a person is asked.
            "indeterminate" if self.case.next_attempt_at.is_none() => {
                vec![self.retry("whether the engine did it is not known: it is looked up again")]
            }
            "indeterminate" => vec![self.wait("whether the engine did it is not known yet: it is looked up by itself")],
            "unmapped_price" => vec![self.map_price()],
            "issuer_behind" => vec![self.wait("the issuer has not come there yet; see that it runs")],
            _ => vec![self.wait("it is being done")],
        }
    }

    fn cause(&self) -> &str {
        self.case.cause.as_deref().unwrap_or_default()
    }

    fn detail(&self) -> &str {
        self.case.detail.as_deref().unwrap_or("it did not say why")
    }

    fn step(&self, action: StepAction, by: Doer, reason: &str) -> Step {
        Step {
            case: self.case.id.to_string(),
            kind: self.case.kind.clone(),
            about: self.case.subject.clone(),
            action,
            by,
            reason: reason.to_owned(),
            command: None,
            provider: None,
            provider_id: None,
        }
    }

    fn retry(&self, reason: &str) -> Step {
        let command = format!("keyledger cases retry {}", self.case.id);
        Step { command: Some(command), ..self.step(StepAction::Retry, Doer::Keyledger, reason) }
    }

    fn issue(&self) -> Step {
        let reason = "another system was to make the key and named none: keyledger makes one";
        let command = format!("keyledger cases retry {}", self.case.id);
        Step { command: Some(command), ..self.step(StepAction::Issue, Doer::Keyledger, reason) }
    }

    fn attach(&self, named: &Named) -> Step {
        Step {
            provider: Some(named.provider.clone()),
            provider_id: Some(named.provider_id.clone()),
            ..self.step(StepAction::Attach, Doer::Keyledger, "Stripe's metadata names this license for it")
        }
    }

    fn map_price(&self) -> Step {
        let price = self.case.detail.as_deref().unwrap_or("what was bought");
        let reason = format!("nothing says what {price} means: add a [[catalog]] entry for it and restart keyledger");
        let command = Some("keyledger catalog".to_owned());
        Step { command, ..self.step(StepAction::MapPrice, Doer::Person, &reason) }
    }

    fn address(&self) -> Step {
        self.mend("the license engine wants an address: write one to the customer at Stripe")
    }

    fn mend(&self, reason: &str) -> Step {
        self.step(StepAction::Mend, Doer::Person, reason)
    }

    fn reconcile(&self, reason: &str) -> Step {
        let reason = format!("{reason}: Stripe is asked for what is missing");
        let command = Some("keyledger reconcile --apply".to_owned());
        Step { command, ..self.step(StepAction::Reconcile, Doer::Person, &reason) }
    }

    fn wait(&self, reason: &str) -> Step {
        self.step(StepAction::Wait, Doer::Nobody, reason)
    }

    fn waive(&self, when: &str) -> Step {
        let command = Some(format!("keyledger cases waive {} --reason \"…\"", self.case.id));
        Step { command, ..self.step(StepAction::Waive, Doer::Person, &format!("if {when}")) }
    }
}

#[cfg(test)]
mod tests {
    use keyledger_projector::read::CASE_KINDS;
    use keyledger_schemas::ids::{CaseId, Mode, PurchaseId, Scope, SourceName};

    use super::*;

    fn case(kind: &str, cause: Option<&str>) -> Case {
        let scope = Scope::new(SourceName::default(), Mode::Live);
        let purchase = PurchaseId::new(scope.clone(), "sub_1");
        Case {
            id: CaseId::derive(kind, "sub_1"),
            kind: kind.to_owned(),
            status: CaseStatus::Open,
            scope,
            subject: purchase.unit("si_1", 1).to_string(),
            unit: Some(purchase.unit("si_1", 1)),
            stripe_id: Some("sub_1".to_owned()),
            purchase: Some(purchase),
            customer: None,
            amount: None,
            opened_at: jiff::Timestamp::UNIX_EPOCH,
            opened_position: 1,
            closed_at: None,
            cause: cause.map(str::to_owned),
            awaits_issuer: false,
            detail: None,
            attempts: 0,
            next_attempt_at: None,
            waived_by: None,
            waived_reason: None,
            next: "Look at it.".to_owned(),
        }
    }

    fn actions(case: &Case, named: Option<&Named>) -> Vec<(StepAction, Doer)> {
        steps(case, named).iter().map(|step| (step.action, step.by)).collect()
    }

    fn named() -> Named {
        Named { provider: "cryptolens".to_owned(), provider_id: "88121".to_owned() }
    }

    #[test]
    fn every_open_case_has_a_step_and_no_other_has_any() {
        for kind in CASE_KINDS {
            assert!(!steps(&case(kind, None), None).is_empty(), "{kind}");
            for status in [CaseStatus::Closed, CaseStatus::Waived] {
                assert_eq!(steps(&Case { status, ..case(kind, None) }, Some(&named())), [], "{kind}");
            }
        }
    }

    #[test]
    fn a_sale_that_another_system_left_gets_a_key_when_a_person_applies_the_plan() {
        let held = case("no_key", Some("left_by_other_system"));
        assert_eq!(actions(&held, None), [(StepAction::Issue, Doer::Keyledger)]);
        assert_eq!(actions(&held, Some(&named())), [(StepAction::Attach, Doer::Keyledger)]);
        let lifted = Case { awaits_issuer: true, ..held };
        assert_eq!(actions(&lifted, None), [(StepAction::Wait, Doer::Nobody)]);
    }

    #[test]
    fn a_license_that_the_engine_did_not_give_is_not_attached_again() {
        let refused = case("no_key", Some("provider_refused"));
        let expected = [(StepAction::Mend, Doer::Person), (StepAction::Retry, Doer::Keyledger)];
        assert_eq!(actions(&refused, Some(&named())), expected);
        assert_eq!(actions(&case("not_extended", Some("provider_refused")), Some(&named())), expected);
    }

    #[test]
    fn what_only_a_person_can_do_is_left_to_one() {
        for (kind, cause, action) in [
            ("no_key", "unmapped_price", StepAction::MapPrice),
            ("not_extended", "unmapped_price", StepAction::MapPrice),
            ("no_key", "no_email", StepAction::Mend),
            ("no_key", "waiting_for_link", StepAction::Reconcile),
            ("no_key", "lines_unknown", StepAction::Reconcile),
            ("unrouted", "", StepAction::Reconcile),
        ] {
            let steps = steps(&case(kind, Some(cause)), None);
            assert_eq!((steps[0].action, steps[0].by), (action, Doer::Person), "{kind} {cause}");
        }
    }

    #[test]
    fn what_goes_on_by_itself_is_waited_for() {
        for cause in ["issuing", "issuer_behind"] {
            assert_eq!(actions(&case("no_key", Some(cause)), None), [(StepAction::Wait, Doer::Nobody)], "{cause}");
        }
        let given_up = case("no_key", Some("indeterminate"));
        assert_eq!(actions(&given_up, None), [(StepAction::Retry, Doer::Keyledger)]);
        let looked_up = Case { next_attempt_at: Some(jiff::Timestamp::UNIX_EPOCH), ..given_up };
        assert_eq!(actions(&looked_up, None), [(StepAction::Wait, Doer::Nobody)]);
    }
}
