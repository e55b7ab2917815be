//! Making a license: the parameters of the one call that cannot be repeated, and what follows it.

use keyledger_schemas::secret::Secret;

use super::client::Form;
use super::{Cryptolens, licenses, notes, terms, wire};
use crate::provider::{CallError, Create, Held, ProviderError};

impl Cryptolens {
    /// Makes a license.
    pub(super) async fn make(&self, product: u64, request: &Create) -> Result<Held, ProviderError> {
        let period = terms::period(request.terms.expires_at, self.clock.now(), self.never());
        let form = parameters(request, product, period)?;
        self.refuse_skgl(product).await?;
        let answer: wire::MadeKey = self.client.change("key", "CreateKey", form).await?;
        self.finish(product, &Secret::new(answer.key), request).await
    }

    /// Reads what the create call made. From here on every error leaves a license behind, which the next look-up finds.
    async fn finish(&self, product: u64, key: &Secret, request: &Create) -> Result<Held, ProviderError> {
        let license = licenses::read(&self.client, product, key).await.map_err(|failure| made(failure.into()))?;
        if !notes::references(license.notes()).any(|reference| reference == request.reference) {
            let reason = "the notes of the new license are not those that were sent".to_owned();
            return Err(ProviderError::Indeterminate { source: CallError::Unreadable { reason } });
        }
        let held = self.held(&license, &request.reference);
        if self.options.data_objects {
            licenses::try_second_place(&self.client, &license, &request.reference).await;
        }
        let terms = &request.terms;
        licenses::set_terms(&self.client, &self.memory, license, terms, self.calendar()).await.map_err(made)?;
        Ok(held)
    }
}

/// After the create call was answered, no error may say that nothing was done.
fn made(error: ProviderError) -> ProviderError {
    match error {
        ProviderError::Refused { reason } => ProviderError::Indeterminate { source: CallError::Unreadable { reason } },
        ProviderError::Unavailable { source, .. } => ProviderError::Indeterminate { source },
        unknown @ ProviderError::Indeterminate { .. } => unknown,
    }
}

/// The parameters of a create call. Those of `skm` are taken over as far as they do not contradict what was paid.
fn parameters(request: &Create, product: u64, period: i64) -> Result<Form<'static>, ProviderError> {
    let refused = |reason: String| Err(ProviderError::Refused { reason });
    let switches = terms::switches(&request.terms.features)?;
    let mut seats = request.terms.seats;
    let mut noted = "";
    let mut form = Form::new();
    for (name, value) in &request.options {
        let is_on = value.eq_ignore_ascii_case("true");
        match name.to_ascii_lowercase().as_str() {
            "notes" => noted = value,
            "allowedmachines" => form.push(("AllowedMachines", value.clone())),
            "resellerid" => form.push(("ResellerId", value.clone())),
            "maxnoofmachines" if value.trim() == "0" => seats = 0,
            "block" if is_on => return refused("`Block` in `skm` would sell a key that does not work".to_owned()),
            "trialactivation" if is_on => {
                return refused("`TrialActivation` in `skm` would move the dates that were paid for".to_owned());
            }
            "noofkeys" if value.trim() != "1" => {
                return refused("`NoOfKeys` in `skm` must be 1: one unit is one key".to_owned());
            }
            // Dates come from what was paid, and seats from what was bought.
            "period" | "maxnoofmachines" | "block" | "trialactivation" | "noofkeys" => {}
            _ => return refused(format!("`{name}` in `skm` is not a parameter that is passed on")),
        }
    }
    form.push(("ProductId", product.to_string()));
    form.push(("Period", period.to_string()));
    form.push(("MaxNoOfMachines", seats.to_string()));
    let marks = notes::marks(&request.reference, &request.sale, request.customer.as_deref());
    form.push(("Notes", notes::of_new(&marks, noted)));
    for (name, on) in ["F1", "F2", "F3", "F4", "F5", "F6", "F7", "F8"].into_iter().zip(switches) {
        form.push((name, on.to_string()));
    }
    if let Some(owner) = &request.owner {
        let owner: u64 = owner.trim().parse().map_err(|_| ProviderError::Refused {
            reason: format!("`{owner}` is not a customer of Cryptolens: its customers have whole numbers"),
        })?;
        form.push(("CustomerId", owner.to_string()));
    }
    Ok(form)
}
