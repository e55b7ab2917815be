//! `data/…`: texts and numbers under names, at a license and at the account.

use serde_json::json;

use super::account::DataObject;
use super::answer::{Done, No};
use super::call::Call;
use super::form::Form;
use super::settings::Duplicates;

const TEXT_CHARS_MAX: usize = 10_000;

/// In `ReferencerType`: the account itself. Others are not imitated.
const ACCOUNT: i64 = 0;

impl Call<'_> {
    pub(super) fn add_data_object_to_key(&mut self, form: &Form) -> Done {
        form.only(&["ProductId", "Key", "Name", "StringValue", "IntValue", "CheckForDuplicates"])?;
        let at = self.unlocked(form)?;
        let object = self.new_data_object(form)?;
        if form.flag("CheckForDuplicates")? {
            let mut present = self.account.licenses[at].data_objects.iter();
            if let Some(present) = present.find(|present| present.name == object.name) {
                return self.duplicate(present);
            }
        }
        let id = object.id;
        self.account.licenses[at].data_objects.push(object);
        Ok(json!({ "id": id }))
    }

    pub(super) fn list_data_objects_to_key(&self, form: &Form) -> Done {
        form.only(&["ProductId", "Key", "Contains"])?;
        let at = self.unlocked(form)?;
        Ok(listed(&self.account.licenses[at].data_objects, form))
    }

    pub(super) fn set_string_value_to_key(&mut self, form: &Form) -> Done {
        form.only(&["ProductId", "Key", "Id", "Name", "StringValue"])?;
        let at = self.unlocked(form)?;
        set_text(&mut self.account.licenses[at].data_objects, form)
    }

    pub(super) fn remove_data_object_to_key(&mut self, form: &Form) -> Done {
        form.only(&["ProductId", "Key", "Id", "Name"])?;
        let at = self.unlocked(form)?;
        let objects = &mut self.account.licenses[at].data_objects;
        let object = named(objects, form)?;
        objects.remove(object);
        Ok(json!({}))
    }

    pub(super) fn add_data_object(&mut self, form: &Form) -> Done {
        form.only(&["ReferencerType", "ReferencerId", "Name", "StringValue", "IntValue", "CheckForDuplicates"])?;
        of_account(form)?;
        let object = self.new_data_object(form)?;
        if form.flag("CheckForDuplicates")?
            && let Some(present) = self.account.data_objects.iter().find(|present| present.name == object.name)
        {
            return self.duplicate(present);
        }
        let id = object.id;
        self.account.data_objects.push(object);
        Ok(json!({ "id": id }))
    }

    pub(super) fn list_data_objects(&self, form: &Form) -> Done {
        form.only(&["ReferencerType", "ReferencerId", "Contains", "ShowAll"])?;
        of_account(form)?;
        Ok(listed(&self.account.data_objects, form))
    }

    pub(super) fn set_string_value(&mut self, form: &Form) -> Done {
        form.only(&["Id", "StringValue"])?;
        set_text(&mut self.account.data_objects, form)
    }

    /// A token that is locked to some keys, or to none, may not touch what hangs at them; so says a wrong key too.
    fn unlocked(&self, form: &Form) -> Result<usize, No> {
        let at = self.at(form).map_err(|_| No::locked())?;
        if self.settings.key_lock == -1 { Ok(at) } else { Err(No::locked()) }
    }

    fn new_data_object(&mut self, form: &Form) -> Result<DataObject, No> {
        let name = form.limited("Name", self.settings.data_object_name_chars_max)?;
        let name = name.ok_or_else(|| No::incorrect("`Name` is missing"))?.to_owned();
        let string_value = form.limited("StringValue", TEXT_CHARS_MAX)?.unwrap_or_default().to_owned();
        let int_value = form.int("IntValue")?.unwrap_or(0);
        Ok(DataObject { id: self.account.numbered_data_object(), name, string_value, int_value })
    }

    fn duplicate(&self, present: &DataObject) -> Done {
        match self.settings.duplicates {
            Duplicates::Success => Ok(json!({ "id": present.id })),
            Duplicates::Error => Err(No::refused("A data object with that name exists already.")),
        }
    }
}

fn of_account(form: &Form) -> Result<(), No> {
    match form.int("ReferencerType")? {
        Some(ACCOUNT) => Ok(()),
        _ => Err(No::incorrect("only `ReferencerType` 0 is imitated")),
    }
}

fn listed(objects: &[DataObject], form: &Form) -> serde_json::Value {
    let part = form.text("Contains").unwrap_or_default();
    let shown: Vec<_> = objects.iter().filter(|object| object.name.contains(part)).map(DataObject::json).collect();
    json!({ "dataObjects": shown })
}

/// The place of the one that `Id` or `Name` says.
fn named(objects: &[DataObject], form: &Form) -> Result<usize, No> {
    let place = match (form.id("Id")?, form.text("Name")) {
        (Some(id), _) => objects.iter().position(|object| object.id == id),
        (None, Some(name)) => objects.iter().position(|object| object.name == name),
        (None, None) => return Err(No::incorrect("neither `Id` nor `Name`")),
    };
    place.ok_or_else(|| No::refused("Could not find the data object."))
}

fn set_text(objects: &mut [DataObject], form: &Form) -> Done {
    let text = form.limited("StringValue", TEXT_CHARS_MAX)?.unwrap_or_default().to_owned();
    let place = named(objects, form)?;
    objects[place].string_value = text;
    Ok(json!({}))
}
