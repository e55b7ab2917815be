//! What to do about a case, in plain words.

use keyledger_schemas::ids::CaseId;

use super::CaseStatus;

/// What a person should do next. Names the command where there is one.
pub(super) fn next(kind: &str, status: CaseStatus, cause: Option<&str>, id: CaseId) -> String {
    match status {
        CaseStatus::Closed => return "Nothing: its fact changed.".to_owned(),
        CaseStatus::Waived => return "Nothing: a person waived it.".to_owned(),
        CaseStatus::Open => {}
    }
    match (kind, cause.unwrap_or_default()) {
        ("no_key" | "free_without_key" | "not_extended", cause) => unmet(cause, id),
        ("surplus_key", _) => {
            format!("Two licenses exist for one paid unit. Delete one at its engine, then: {}", waive(id))
        }
        ("unrouted", _) => {
            format!(
                "Money moved that no sale is known for. Resend the payment's events from Stripe's dashboard (payment \
                 intent, charge, invoice). If it is no license sale: {}",
                waive(id)
            )
        }
        ("unknown_status", _) => "Stripe shows a status that this version does not know. Update keyledger; until then \
             the last known status counts."
            .to_owned(),
        ("disputed", _) => "Answer the dispute at Stripe. The case closes when the dispute does.".to_owned(),
        ("mapping_error", _) => "Correct the metadata named here at Stripe, or the [[catalog]] entry (then restart \
             keyledger); it is tried again by itself."
            .to_owned(),
        ("no_email", _) => no_email(id),
        ("not_adopted", _) => format!(
            "A license was taken before its engine could be asked, and the engine does not give it. Mend what it names, then: \
             keyledger cases retry {id}"
        ),
        ("metadata_refused", _) => format!(
            "Stripe did not take what keyledger wrote back. See that the API key may write subscriptions and customers and \
             that the object is still there; keys are issued without it. Then: {}",
            waive(id)
        ),
        ("fetch_refused", _) => format!(
            "Stripe did not show what keyledger asked for. See that the API key may read it and belongs to this account and \
             mode. It is asked for again a day later; what it would have said stays unknown until then. Then: {}",
            waive(id)
        ),
        ("body_refused", _) => format!(
            "Bodies over the size limit were refused. If they were Stripe's, raise body_bytes_max under [ingest], restart \
             ingest, and resend them from Stripe's dashboard. Then: {}",
            waive(id)
        ),
        ("mirror_diverged", fault) => mirror(fault, id),
        _ => format!("Look at it, then: {}", waive(id)),
    }
}

/// What to do about a mirror, by what is wrong with it. The log is right in every case, and licenses are issued from it.
fn mirror(fault: &str, id: CaseId) -> String {
    let delete = "delete the stream (nats stream rm, with its name); it is made anew from the log by itself";
    match fault {
        "other_bytes" => format!(
            "Nothing, if it closes by itself: what the log lacked was appended to it, and the mirror is made anew. If it \
             stays, keyledger may not delete the stream, or something else writes to it: see that nothing does, and {delete}."
        ),
        "cannot_import" => format!(
            "The log was restored from a backup older than the mirror. If you have a newer log, stop keyledger and put it \
             in place. Else keep a copy of the stream (nats stream backup), start once with --accept-loss, and {delete}."
        ),
        "holes" => format!(
            "The stream was purged, or has limits. See that nobody may purge it and that it has no limits on age, size \
             and number, and {delete}."
        ),
        "foreign" => {
            "The stream belongs to another log. Name another one in [nats] stream, or find out which keyledger \
             writes to it; then restart keyledger."
                .to_owned()
        }
        "unsafe_settings" => format!(
            "Set what the detail names as it should be (nats stream edit); it is looked at again by itself. What cannot \
             be changed: {delete}."
        ),
        _ => format!("Look at what the detail names, then: {}", waive(id)),
    }
}

fn no_email(id: CaseId) -> String {
    format!(
        "This engine makes no license for somebody without an address. Write one to the customer at Stripe: it is issued by \
         itself then. Or: {}",
        waive(id)
    )
}

/// The command that closes a case. A reason must be given.
fn waive(id: CaseId) -> String {
    format!("keyledger cases waive {id} --reason \"…\"")
}

fn unmet(cause: &str, id: CaseId) -> String {
    match cause {
        "provider_refused" => format!("Mend what the provider names, then: keyledger cases retry {id}"),
        "provider_unavailable" => format!("Nothing: it is tried again by itself. At once: keyledger cases retry {id}"),
        "indeterminate" => format!(
            "Nothing: the provider is asked whether it made the license before another is made, once the last call \
             can no longer come to light. As soon as that is so: keyledger cases retry {id}"
        ),
        "left_by_other_system" => format!(
            "Another system was to make the key of this sale, and none is named. Name the key it made in Stripe's \
             metadata (skm_key_id) or attach it; if there is none, {}. To have keyledger make one: keyledger cases retry {id}",
            waive(id)
        ),
        "no_email" => no_email(id),
        "waiting_for_link" => "What was bought is not known yet. Subscribe the endpoint to invoice.paid and \
             customer.subscription.*, and resend the events from Stripe's dashboard."
            .to_owned(),
        "unmapped_price" => {
            "Add a [[catalog]] entry for the price named here, then restart keyledger: it is issued by \
             itself then."
                .to_owned()
        }
        "lines_unknown" => {
            "What the session sold is not known. Put metadata on the session that names the product, or add \
             a default [[catalog]] entry and restart keyledger."
                .to_owned()
        }
        "issuer_behind" => {
            "Nothing while the issuer catches up; if it stays, see that it runs: keyledger up".to_owned()
        }
        _ => "Nothing: it is being issued. If it stays, see: keyledger doctor".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_one_that_works_as_it_stands() {
        let id = CaseId::derive("no_key", "a unit");
        let causes = [
            "provider_refused",
            "provider_unavailable",
            "indeterminate",
            "left_by_other_system",
            "waiting_for_link",
            "unmapped_price",
            "no_email",
            "lines_unknown",
            "issuer_behind",
            "issuing",
        ];
        let faults = ["other_bytes", "cannot_import", "holes", "foreign", "unsafe_settings"];
        let of_faults = faults.map(|fault| next("mirror_diverged", CaseStatus::Open, Some(fault), id));
        let of_causes = causes.map(|cause| next("no_key", CaseStatus::Open, Some(cause), id));
        let of_kinds = super::super::CASE_KINDS.map(|kind| next(kind, CaseStatus::Open, None, id));
        for advice in of_causes.iter().chain(&of_kinds).chain(&of_faults) {
            let Some((_, command)) = advice.split_once(": keyledger ") else { continue };
            let works =
                [format!("cases waive {id} --reason \"…\""), format!("cases retry {id}"), "up".into(), "doctor".into()];
            assert!(works.contains(&command.to_owned()), "{advice}");
        }
    }
}
