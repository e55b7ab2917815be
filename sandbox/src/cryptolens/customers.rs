//! `customer/…`

use serde_json::json;

use super::account::{Customer, License};
use super::answer::{Done, No};
use super::call::Call;
use super::form::Form;
use super::settings::{EmptyFields, Links};

/// Parameters that say what a customer is like.
pub(super) const DESCRIBING: [&str; 7] = [
    "Name",
    "Email",
    "CompanyName",
    "Notes",
    "EnableCustomerAssociation",
    "AllowActivationManagement",
    "AllowMultipleUserAssociation",
];

const NAME_CHARS_MAX: usize = 100;

const NOTES_CHARS_MAX: usize = 1000;

impl Call<'_> {
    pub(super) fn add_customer(&mut self, form: &Form) -> Done {
        form.only(&DESCRIBING)?;
        let id = self.new_customer(form, "Notes")?;
        let link = self.account.customer(id).and_then(link);
        let secret = self.account.customer(id).map(|customer| customer.secret.clone());
        let mut answer = json!({ "customerId": id, "secret": secret });
        if let Some(link) = link {
            answer["portalLink"] = json!(link);
        }
        Ok(answer)
    }

    /// Makes one from the describing parameters. `CreateKey` has another use for `Notes`.
    pub(super) fn new_customer(&mut self, form: &Form, notes: &str) -> Result<u64, No> {
        let text = |name| Ok::<_, No>(form.limited(name, NAME_CHARS_MAX)?.unwrap_or_default().to_owned());
        let (name, email, company_name) = (text("Name")?, text("Email")?, text("CompanyName")?);
        let notes = form.limited(notes, NOTES_CHARS_MAX)?.unwrap_or_default().to_owned();
        let some_empty = name.is_empty() || email.is_empty() || company_name.is_empty();
        if self.settings.empty_customer_fields == EmptyFields::Refused && some_empty {
            return Err(No::incorrect("a customer has a name, an email and a company"));
        }
        let associated = form.flag("EnableCustomerAssociation")?;
        let allow_activation_management = form.flag("AllowActivationManagement")?;
        let allow_multiple_user_association = form.flag("AllowMultipleUserAssociation")?;
        let id = self.account.numbered_customer();
        let customer = Customer {
            id,
            name,
            email,
            company_name,
            notes,
            created: self.now,
            secret: self.account.letters(24),
            link: associated.then(|| self.account.letters(16)),
            allow_activation_management,
            allow_multiple_user_association,
            max_no_of_devices: 0,
            made: self.instant,
        };
        self.account.customers.push(customer);
        Ok(id)
    }

    pub(super) fn edit_customer(&mut self, form: &Form) -> Done {
        form.only(&[&DESCRIBING[..], &["CustomerId", "MaxNoOfDevices", "Secret"]].concat())?;
        let id = form.needed_id("CustomerId")?;
        let text = |name| Ok::<_, No>(form.limited(name, NAME_CHARS_MAX)?.map(ToOwned::to_owned));
        let (name, email, company_name) = (text("Name")?, text("Email")?, text("CompanyName")?);
        let notes = form.limited("Notes", NOTES_CHARS_MAX)?.map(ToOwned::to_owned);
        let devices = form.count("MaxNoOfDevices")?;
        let (wants_link, wants_secret) = (form.flag("EnableCustomerAssociation")?, form.flag("Secret")?);
        let new_link = self.account.letters(16);
        let new_secret = self.account.letters(24);
        let replaced = self.settings.links == Links::Replaced;
        let customers = &mut self.account.customers;
        let customer = customers.iter_mut().find(|customer| customer.id == id).ok_or_else(No::no_customer)?;
        customer.name = name.unwrap_or_else(|| customer.name.clone());
        customer.email = email.unwrap_or_else(|| customer.email.clone());
        customer.company_name = company_name.unwrap_or_else(|| customer.company_name.clone());
        customer.notes = notes.unwrap_or_else(|| customer.notes.clone());
        customer.max_no_of_devices = devices.unwrap_or(customer.max_no_of_devices);
        if form.text("AllowActivationManagement").is_some() {
            customer.allow_activation_management = form.flag("AllowActivationManagement")?;
        }
        if form.text("AllowMultipleUserAssociation").is_some() {
            customer.allow_multiple_user_association = form.flag("AllowMultipleUserAssociation")?;
        }
        if wants_link && (replaced || customer.link.is_none()) {
            customer.link = Some(new_link);
        }
        if wants_secret {
            customer.secret = new_secret;
        }
        let mut answer = json!({});
        if wants_secret {
            answer["secret"] = json!(customer.secret);
        }
        if let Some(link) = link(customer).filter(|_| wants_link) {
            answer["portalLink"] = json!(link);
        }
        Ok(answer)
    }

    /// The newest first.
    pub(super) fn get_customers(&self, form: &Form) -> Done {
        form.only(&["Search", "CustomerId", "Limit"])?;
        let wanted = form.id("CustomerId")?;
        let search = form.text("Search").map(str::to_lowercase);
        let limit = form.count("Limit")?.filter(|limit| *limit > 0);
        let hit = |customer: &&Customer| match &search {
            None => true,
            Some(part) => {
                let shown = [&customer.name, &customer.company_name, &customer.email, &customer.secret];
                self.is_visible(customer.made) && shown.iter().any(|text| text.to_lowercase().contains(part))
            }
        };
        let found = self.account.customers.iter().rev().filter(|customer| wanted.is_none_or(|id| customer.id == id));
        let found = found.filter(hit).take(limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(0)));
        let shown: Vec<_> = found.map(|customer| customer.json(self.settings.customer_notes_shown)).collect();
        Ok(json!({ "customers": shown }))
    }

    pub(super) fn get_customer_licenses(&self, form: &Form) -> Done {
        form.only(&["CustomerId", "Detailed", "Metadata"])?;
        let id = form.needed_id("CustomerId")?;
        self.account.customer(id).ok_or_else(No::no_customer)?;
        self.licenses_of(id, form)
    }

    pub(super) fn get_customer_licenses_by_secret(&self, form: &Form) -> Done {
        form.only(&["Secret", "Detailed", "Metadata"])?;
        let secret = form.needed("Secret")?;
        let customer = self.account.customers.iter().find(|customer| customer.secret == secret);
        self.licenses_of(customer.ok_or_else(No::no_customer)?.id, form)
    }

    /// Those of all products. Without details there are no data objects.
    fn licenses_of(&self, customer: u64, form: &Form) -> Done {
        let detailed = form.flag("Detailed")?;
        let theirs = |license: &&License| license.customer_id == Some(customer) && self.is_visible(license.made);
        let mut shown = Vec::new();
        for license in self.account.licenses.iter().filter(theirs) {
            let mut license = self.shown(license, form)?;
            if let (false, Some(fields)) = (detailed, license.as_object_mut()) {
                fields.retain(|name, _| {
                    !["dataObjects", "activatedMachines", "allowedMachines"].contains(&name.as_str())
                });
            }
            shown.push(license);
        }
        Ok(json!({ "licenseKeys": shown }))
    }

    pub(super) fn remove_customer(&mut self, form: &Form) -> Done {
        form.only(&["CustomerId"])?;
        let id = form.needed_id("CustomerId")?;
        self.account.customer(id).ok_or_else(No::no_customer)?;
        self.account.customers.retain(|customer| customer.id != id);
        for license in self.account.licenses.iter_mut().filter(|license| license.customer_id == Some(id)) {
            license.customer_id = None;
        }
        Ok(json!({}))
    }
}

fn link(customer: &Customer) -> Option<String> {
    let code = customer.link.as_ref()?;
    Some(format!("https://app.cryptolens.io/Portal/@sandbox/Associate?id={}&auth={code}", customer.id))
}
