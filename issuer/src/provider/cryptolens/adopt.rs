//! Making a license ours that somebody else made. Everything is checked before anything is changed, and the reference is
//! written last: a license that carries it is taken for one of ours that needs nothing but its terms.

use super::named::named;
use super::wire::License;
use super::{Cryptolens, customers, licenses, notes};
use crate::provider::{Adopt, CallError, Held, ProviderError};

impl Cryptolens {
    /// Takes a license over.
    pub(super) async fn take_over(&self, product: u64, request: &Adopt) -> Result<Held, ProviderError> {
        let license = licenses::of_name(&self.client, &self.memory, product, named(&request.named)?, false).await?;
        if let Some(owner) = self.refuse_foreign(&license, request).await? {
            self.give(&license, owner).await?;
        }
        let held = self.held(&license, &request.reference);
        if license.block {
            licenses::change(&self.client, &license, "UnblockKey", None).await?;
        }
        licenses::set_terms(&self.client, &self.memory, license.clone(), &request.terms, self.calendar()).await?;
        // Notes are written as a whole: what somebody noted meanwhile stays too.
        let license = licenses::again(&self.client, &license).await?;
        refuse_other_references(&license, request)?;
        self.claim(&license, request).await?;
        Ok(held)
    }

    /// Gives a license to a customer. One that is somebody's already is left to them.
    async fn give(&self, license: &License, owner: u64) -> Result<(), ProviderError> {
        let is_theirs = |license: &License| license.customer.as_ref().is_some_and(|customer| customer.id == owner);
        if is_theirs(license) {
            return Ok(());
        }
        licenses::change(&self.client, license, "ChangeCustomer", Some(("CustomerId", owner.to_string()))).await?;
        if is_theirs(&licenses::again(&self.client, license).await?) {
            return Ok(());
        }
        let reason = format!("license {} has another customer than the one that it was given", license.id);
        Err(ProviderError::Indeterminate { source: CallError::Unreadable { reason } })
    }

    /// What keeps a license from becoming ours.
    async fn refuse_foreign(&self, license: &License, request: &Adopt) -> Result<Option<u64>, ProviderError> {
        let refused = |reason: String| Err(ProviderError::Refused { reason });
        let id = license.id;
        refuse_other_references(license, request)?;
        // What their own receiver made for this very sale is its buyer's, whoever that is there.
        let theirs = |made_for: &str| made_for == request.sale.item || made_for == request.sale.purchase;
        if license.customer.is_some() && license.texts(notes::THEIR_ITEM).any(theirs) {
            return Ok(None);
        }
        let Some(owner) = &request.owner else { return Ok(None) };
        let Ok(owner) = owner.trim().parse::<u64>() else {
            return refused(format!("`{owner}` is not a customer of Cryptolens: its customers have whole numbers"));
        };
        match &license.customer {
            Some(customer) if customer.id != owner => {
                let present = customer.id;
                refused(format!("license {id} belongs to customer {present}, not to customer {owner} who paid"))
            }
            Some(_) => Ok(Some(owner)),
            None if customers::exists(&self.client, owner).await? => Ok(Some(owner)),
            None => refused(format!("there is no customer {owner} at Cryptolens to give license {id} to")),
        }
    }

    /// Writes the reference beside what stands there. Where the notes have no room for it, the data object alone holds it.
    async fn claim(&self, license: &License, request: &Adopt) -> Result<(), ProviderError> {
        let marks = notes::marks(&request.reference, &request.sale, None);
        let Some(whole) = notes::taken_over(&marks, &request.reference, license.notes()) else {
            return licenses::write_second_place(&self.client, license, &request.reference).await;
        };
        if whole != license.notes() {
            licenses::change(&self.client, license, "ChangeNotes", Some(("Notes", whole))).await?;
        }
        if self.options.data_objects {
            licenses::try_second_place(&self.client, license, &request.reference).await;
        }
        Ok(())
    }
}

fn refuse_other_references(license: &License, request: &Adopt) -> Result<(), ProviderError> {
    let other = notes::carried(license).find(|carried| *carried != request.reference);
    other.map_or(Ok(()), |other| {
        let reason = format!("license {} is another sale's: it carries the reference `{other}`", license.id);
        Err(ProviderError::Refused { reason })
    })
}
