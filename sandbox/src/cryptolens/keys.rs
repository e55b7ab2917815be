//! `key/…`

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::account::License;
use super::answer::{Done, No};
use super::call::Call;
use super::customers::DESCRIBING;
use super::form::Form;
use super::settings::{Algorithm, TimeOfDay};

const NOTES_CHARS_MAX: usize = 500;

/// An SKGL key holds its period in three digits.
const SKGL_DAYS_MAX: i64 = 999;

const FEATURES: [&str; 8] = ["F1", "F2", "F3", "F4", "F5", "F6", "F7", "F8"];

const CREATING: [&str; 15] = [
    "ProductId",
    "Period",
    "Notes",
    "Block",
    "CustomerId",
    "NewCustomer",
    "AddOrUseExistingCustomer",
    "Name",
    "Email",
    "CompanyName",
    "TrialActivation",
    "MaxNoOfMachines",
    "AllowedMachines",
    "NoOfKeys",
    "ResellerId",
];

/// A license that a person makes by hand.
#[derive(Clone, Debug, Default)]
pub struct ByHand {
    /// The product it is of.
    pub product_id: u64,
    /// How many days from now.
    pub period: u32,
    /// F1 to F8.
    pub features: [bool; 8],
    /// What is noted.
    pub notes: String,
    /// Whose it is.
    pub customer_id: Option<u64>,
    /// 0 for unlimited.
    pub max_no_of_machines: u32,
}

impl Call<'_> {
    pub(super) fn create_key(&mut self, form: &Form) -> Done {
        form.only(&[&CREATING[..], &FEATURES, &DESCRIBING].concat())?;
        let product = self.product(form)?;
        let period = form.count("Period")?.unwrap_or(0);
        let longest = match self.product_settings(product).algorithm {
            Algorithm::Skgl => Some(SKGL_DAYS_MAX),
            Algorithm::Skm15 => self.settings.period_days_max,
        };
        if longest.is_some_and(|longest| i64::from(period) > longest) {
            return Err(No::refused(&format!(
                "The period cannot be longer than {} days.",
                longest.unwrap_or_default()
            )));
        }
        let notes = form.limited("Notes", NOTES_CHARS_MAX)?.unwrap_or_default().to_owned();
        let mut features = [false; 8];
        for (on, name) in features.iter_mut().zip(FEATURES) {
            *on = form.flag(name)?;
        }
        let (block, trial_activation) = (form.flag("Block")?, form.flag("TrialActivation")?);
        let max_no_of_machines = form.count("MaxNoOfMachines")?.unwrap_or(0);
        if form.id("ResellerId")?.is_some() {
            return Err(No::incorrect("resellers are not imitated"));
        }
        let count = form.count("NoOfKeys")?.unwrap_or(1);
        if !(1..=1000).contains(&count) {
            return Err(No::incorrect("`NoOfKeys` is not from 1 to 1000"));
        }
        let customer_id = self.customer_of_new_key(form)?;
        let mut keys = Vec::new();
        for _ in 0..count {
            let by_hand =
                ByHand { product_id: product, period, features, notes: notes.clone(), customer_id, max_no_of_machines };
            let at = self.made(by_hand)?;
            let license = &mut self.account.licenses[at];
            (license.block, license.trial_activation) = (block, trial_activation);
            form.text("AllowedMachines").unwrap_or_default().clone_into(&mut license.allowed_machines);
            keys.push(license.key.clone());
        }
        let mut answer = json!({ "key": keys[0] });
        if let Some(id) = customer_id {
            answer["customerId"] = json!(id);
        }
        if count > 1 {
            answer["keys"] = json!(keys);
        }
        Ok(answer)
    }

    fn customer_of_new_key(&mut self, form: &Form) -> Result<Option<u64>, No> {
        if let Some(id) = form.id("CustomerId")? {
            return self.account.customer(id).map(|customer| Some(customer.id)).ok_or_else(No::no_customer);
        }
        if form.flag("AddOrUseExistingCustomer")? {
            let email = form.needed("Email")?;
            let mut customers = self.account.customers.iter();
            if let Some(present) = customers.find(|customer| customer.email.eq_ignore_ascii_case(email)) {
                return Ok(Some(present.id));
            }
            return self.new_customer(form, "CustomerNotes").map(Some);
        }
        if form.flag("NewCustomer")? {
            return self.new_customer(form, "CustomerNotes").map(Some);
        }
        Ok(None)
    }

    /// Makes a license and says its place.
    pub(super) fn made(&mut self, new: ByHand) -> Result<usize, No> {
        let expires = later(self.today(), new.period.into())?;
        let (id, global_id) = self.account.numbered_license(new.product_id);
        let key = self.account.new_key();
        self.account.licenses.push(License {
            product_id: new.product_id,
            id,
            global_id,
            key,
            created: self.now,
            expires,
            period: new.period,
            features: new.features,
            notes_at_first: new.notes.clone(),
            notes: new.notes,
            block: false,
            trial_activation: false,
            max_no_of_machines: new.max_no_of_machines,
            allowed_machines: String::new(),
            customer_id: new.customer_id,
            data_objects: Vec::new(),
            days_added: 0,
            extensions: 0,
            blocks: 0,
            by_hand: false,
            made: self.instant,
        });
        Ok(self.account.licenses.len() - 1)
    }

    pub(super) fn get_key(&self, form: &Form) -> Done {
        form.only(&["ProductId", "Key", "Sign", "SignMethod", "FieldsToReturn", "Metadata"])?;
        if form.int("SignMethod")?.is_some_and(|method| method != 0) {
            return Err(No::incorrect("only `SignMethod` 0 is imitated"));
        }
        let license = &self.account.licenses[self.at(form)?];
        Ok(json!({ "licenseKey": self.shown(license, form)?, "metadata": self.status(license, form)? }))
    }

    fn status(&self, license: &License, form: &Form) -> Result<Value, No> {
        if !form.flag("Metadata")? {
            return Ok(Value::Null);
        }
        let limited = license.features[0];
        let left = license.expires.duration_since(self.now).as_secs().max(0);
        let reason = match (license.block, limited && left == 0) {
            (true, _) => 2,
            (false, true) => 1,
            (false, false) => 0,
        };
        Ok(json!({ "licenseStatus": {
            "isValid": reason == 0, "reasonForInvalidity": reason,
            "trial": license.features[1], "timeLimited": limited, "timeLeft": left,
        }}))
    }

    /// Adds days to the expiry, or to today where it is past.
    pub(super) fn extend_license(&mut self, form: &Form) -> Done {
        form.only(&["ProductId", "Key", "NoOfDays"])?;
        let at = self.at(form)?;
        let days = form.int("NoOfDays")?.ok_or_else(|| No::incorrect("`NoOfDays` is missing"))?;
        let skgl = self.product_settings(self.account.licenses[at].product_id).algorithm == Algorithm::Skgl;
        if skgl && days > SKGL_DAYS_MAX {
            return Err(No::refused("The period cannot be longer than 999 days."));
        }
        let old = self.account.licenses[at].expires;
        let expires = later(if old > self.now { old } else { self.today() }, days)?;
        let new_key = skgl.then(|| self.account.new_key());
        let license = &mut self.account.licenses[at];
        license.expires = expires;
        license.days_added += days;
        license.extensions += 1;
        Ok(self.rekeyed(at, new_key))
    }

    /// The text of an SKGL key says what the license is like: another license is another key.
    fn rekeyed(&mut self, at: usize, new_key: Option<String>) -> Value {
        match new_key {
            Some(key) => {
                self.account.licenses[at].key.clone_from(&key);
                json!({ "message": key })
            }
            None => json!({}),
        }
    }

    pub(super) fn set_block(&mut self, form: &Form, wanted: bool) -> Done {
        form.only(&["ProductId", "Key"])?;
        let at = self.at(form)?;
        let license = &mut self.account.licenses[at];
        let changed = license.block != wanted;
        license.block = wanted;
        license.blocks += u32::from(changed && wanted);
        Ok(json!({ "message": if changed { "The license key was changed." } else { "Not changed." } }))
    }

    /// An id that is nobody's takes the present customer away and is an error all the same.
    pub(super) fn change_customer(&mut self, form: &Form) -> Done {
        form.only(&["ProductId", "Key", "CustomerId"])?;
        let at = self.at(form)?;
        let wanted = form.id("CustomerId")?.unwrap_or(0);
        let known = self.account.customer(wanted).map(|customer| customer.id);
        self.account.licenses[at].customer_id = known;
        known.map(|_| json!({})).ok_or_else(No::no_customer)
    }

    pub(super) fn change_notes(&mut self, form: &Form) -> Done {
        form.only(&["ProductId", "Key", "Notes"])?;
        let at = self.at(form)?;
        let notes = form.limited("Notes", NOTES_CHARS_MAX)?.unwrap_or_default();
        notes.clone_into(&mut self.account.licenses[at].notes);
        Ok(json!({}))
    }

    pub(super) fn machine_lock_limit(&mut self, form: &Form) -> Done {
        form.only(&["ProductId", "Key", "NumberOfMachines"])?;
        let at = self.at(form)?;
        let machines = form.count("NumberOfMachines")?;
        let machines = machines.ok_or_else(|| No::incorrect("`NumberOfMachines` is missing"))?;
        self.account.licenses[at].max_no_of_machines = machines;
        Ok(json!({}))
    }

    pub(super) fn set_feature(&mut self, form: &Form, on: bool) -> Done {
        form.only(&["ProductId", "Key", "Feature"])?;
        let at = self.at(form)?;
        let feature = form.count("Feature")?.unwrap_or(0);
        let place = usize::try_from(feature).unwrap_or(0).wrapping_sub(1);
        let skgl = self.product_settings(self.account.licenses[at].product_id).algorithm == Algorithm::Skgl;
        let new_key = skgl.then(|| self.account.new_key());
        let slot = self.account.licenses[at].features.get_mut(place);
        *slot.ok_or_else(|| No::incorrect("a feature is from 1 to 8"))? = on;
        Ok(self.rekeyed(at, new_key))
    }

    /// The place of the license that `ProductId` and `Key` name.
    pub(super) fn at(&self, form: &Form) -> Result<usize, No> {
        let product = self.product(form)?;
        let key = form.needed("Key")?;
        let fits = |license: &License| license.product_id == product && license.key == key;
        self.account.licenses.iter().position(fits).ok_or_else(No::no_key)
    }

    /// What counts as today: the moment, or the midnight before it.
    fn today(&self) -> Timestamp {
        match self.settings.time_of_day {
            TimeOfDay::Kept => self.now,
            TimeOfDay::Midnight => {
                let past = self.now.as_second().rem_euclid(86_400);
                Timestamp::from_second(self.now.as_second() - past).unwrap_or(self.now)
            }
        }
    }
}

fn later(from: Timestamp, days: i64) -> Result<Timestamp, No> {
    let days = SignedDuration::from_hours(days.saturating_mul(24));
    let later = from.checked_add(days).ok().filter(|later| later.as_second() < LAST_SECOND);
    later.ok_or_else(|| No::incorrect("there is no such day"))
}

/// The service's dates have years of four digits.
const LAST_SECOND: i64 = 253_402_300_800;
