//! What tests see of an account, and what people do in it by hand.

use super::Server;
use super::account::{Customer, DataObject, License};
use super::keys::ByHand;

impl Server {
    /// All licenses, in the order in which they were made.
    pub fn licenses(&self) -> Vec<License> {
        self.lock().account.licenses.clone()
    }

    /// One license of a product.
    pub fn license(&self, product: u64, id: u64) -> Option<License> {
        let found = |license: &&License| license.product_id == product && license.id == id;
        self.lock().account.licenses.iter().find(found).cloned()
    }

    /// All customers, in the order in which they were made.
    pub fn customers(&self) -> Vec<Customer> {
        self.lock().account.customers.clone()
    }

    /// The data objects of the account itself.
    pub fn data_objects(&self) -> Vec<DataObject> {
        self.lock().account.data_objects.clone()
    }

    /// How many licenses were made with this text in their notes, whatever has become of the notes since.
    pub fn creates_with(&self, text: &str) -> usize {
        self.lock().account.licenses.iter().filter(|license| license.notes_at_first.contains(text)).count()
    }

    /// Customers that have no license: what a lost answer leaves behind.
    pub fn customers_without_license(&self) -> Vec<u64> {
        let held = self.lock();
        let has = |id: u64| held.account.licenses.iter().any(|license| license.customer_id == Some(id));
        held.account.customers.iter().map(|customer| customer.id).filter(|id| !has(*id)).collect()
    }

    /// A person makes a license. `None` if its period reaches beyond all dates.
    pub fn make_by_hand(&self, new: ByHand) -> Option<License> {
        self.act(|call| {
            let at = call.made(new).ok()?;
            call.account.licenses[at].by_hand = true;
            Some(call.account.licenses[at].clone())
        })
    }

    /// A person makes a customer and has its id.
    pub fn add_customer_by_hand(&self, name: &str, email: &str) -> u64 {
        self.act(|call| {
            let id = call.account.numbered_customer();
            let customer = Customer {
                id,
                name: name.to_owned(),
                email: email.to_owned(),
                company_name: String::new(),
                notes: String::new(),
                created: call.now,
                secret: call.account.letters(24),
                link: None,
                allow_activation_management: false,
                allow_multiple_user_association: false,
                max_no_of_devices: 0,
                made: call.instant,
            };
            call.account.customers.push(customer);
            id
        })
    }

    /// A person changes a license as they like.
    pub fn edit_by_hand(&self, product: u64, id: u64, edit: impl FnOnce(&mut License)) {
        let mut held = self.lock();
        let mut licenses = held.account.licenses.iter_mut();
        if let Some(license) = licenses.find(|license| license.product_id == product && license.id == id) {
            edit(license);
        }
    }

    /// A person, or another integration, puts a data object on a license.
    pub fn add_data_object_by_hand(&self, product: u64, id: u64, name: &str, text: &str) {
        self.act(|call| {
            let (name, string_value) = (name.to_owned(), text.to_owned());
            let object = DataObject { id: call.account.numbered_data_object(), name, string_value, int_value: 0 };
            let mut licenses = call.account.licenses.iter_mut();
            if let Some(license) = licenses.find(|license| license.product_id == product && license.id == id) {
                license.data_objects.push(object);
            }
        });
    }

    /// A person deletes a license.
    pub fn delete_by_hand(&self, product: u64, id: u64) {
        self.lock().account.licenses.retain(|license| license.product_id != product || license.id != id);
    }
}
