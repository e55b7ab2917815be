//! One call: whether it may be made, and which method does it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::account::Account;
use super::answer::{Done, No};
use super::form::Form;
use super::settings::Settings;

/// One call at work, under the lock.
pub(super) struct Call<'a> {
    pub(super) settings: &'a Settings,
    pub(super) account: &'a mut Account,
    pub(super) now: Timestamp,
    pub(super) instant: Instant,
    pub(super) lag: Duration,
}

/// The methods, by their group and as they are spelled.
const METHODS: [(&str, &[&str]); 4] = [
    (
        "key",
        &[
            "CreateKey",
            "GetKey",
            "ExtendLicense",
            "BlockKey",
            "UnblockKey",
            "ChangeCustomer",
            "ChangeNotes",
            "MachineLockLimit",
            "AddFeature",
            "RemoveFeature",
        ],
    ),
    ("product", &["GetKeys", "GetProducts"]),
    (
        "customer",
        &[
            "AddCustomer",
            "EditCustomer",
            "GetCustomers",
            "GetCustomerLicenses",
            "GetCustomerLicensesBySecret",
            "RemoveCustomer",
        ],
    ),
    (
        "data",
        &[
            "AddDataObjectToKey",
            "ListDataObjectsToKey",
            "SetStringValueToKey",
            "RemoveDataObjectToKey",
            "AddDataObject",
            "ListDataObjects",
            "SetStringValue",
        ],
    ),
];

impl Call<'_> {
    pub(super) fn permitted(&self, method: &str, form: &Form) -> Result<(), No> {
        if form.text("token") != Some(&self.settings.token) {
            return Err(No::unauthenticated());
        }
        if !self.settings.plan_is_active {
            return Err(No::lapsed());
        }
        match &self.settings.permissions {
            Some(permissions) if !permissions.iter().any(|permitted| permitted == method) => Err(No::denied(method)),
            _ => Ok(()),
        }
    }

    pub(super) fn perform(&mut self, group: &str, method: &str, form: &Form) -> Done {
        match (group, method) {
            ("key", "CreateKey") => self.create_key(form),
            ("key", "GetKey") => self.get_key(form),
            ("key", "ExtendLicense") => self.extend_license(form),
            ("key", "BlockKey") => self.set_block(form, true),
            ("key", "UnblockKey") => self.set_block(form, false),
            ("key", "ChangeCustomer") => self.change_customer(form),
            ("key", "ChangeNotes") => self.change_notes(form),
            ("key", "MachineLockLimit") => self.machine_lock_limit(form),
            ("key", "AddFeature") => self.set_feature(form, true),
            ("key", "RemoveFeature") => self.set_feature(form, false),
            ("product", "GetKeys") => self.get_keys(form),
            ("product", "GetProducts") => self.get_products(form),
            ("customer", "AddCustomer") => self.add_customer(form),
            ("customer", "EditCustomer") => self.edit_customer(form),
            ("customer", "GetCustomers") => self.get_customers(form),
            ("customer", "GetCustomerLicenses") => self.get_customer_licenses(form),
            ("customer", "GetCustomerLicensesBySecret") => self.get_customer_licenses_by_secret(form),
            ("customer", "RemoveCustomer") => self.remove_customer(form),
            ("data", "AddDataObjectToKey") => self.add_data_object_to_key(form),
            ("data", "ListDataObjectsToKey") => self.list_data_objects_to_key(form),
            ("data", "SetStringValueToKey") => self.set_string_value_to_key(form),
            ("data", "RemoveDataObjectToKey") => self.remove_data_object_to_key(form),
            ("data", "AddDataObject") => self.add_data_object(form),
            ("data", "ListDataObjects") => self.list_data_objects(form),
            ("data", "SetStringValue") => self.set_string_value(form),
            _ => Err(No::incorrect("there is no such method")),
        }
    }

    /// Whether searches see by now what was made then.
    pub(super) fn is_visible(&self, made: Instant) -> bool {
        self.instant.saturating_duration_since(made) >= self.lag
    }
}

/// The method that a path names, with its group.
pub(super) fn named(path: &str) -> Option<(&'static str, &'static str)> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let [api, group, method] = parts[..] else { return None };
    let (group, methods) = METHODS.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(group))?;
    let method = methods.iter().find(|name| name.eq_ignore_ascii_case(method))?;
    api.eq_ignore_ascii_case("api").then_some((group, *method))
}
