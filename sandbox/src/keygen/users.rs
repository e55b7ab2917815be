//! Calls about users.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::account::{Account, User};
use super::call::Call;
use super::document::{Document, Kind, Shape};
use super::metadata;
use super::pages::page;
use super::problem::{Problem, document};
use super::render::{self, Style};

const EMAIL_CHARS_MAX: usize = 255;

const NEW: Shape = Shape {
    kinds: ["user", "users"],
    id: false,
    attributes_required: true,
    attributes: &[
        ("email", Kind::Text),
        ("first_name", Kind::TextOrNull),
        ("last_name", Kind::TextOrNull),
        ("password", Kind::TextOrNull),
        ("metadata", Kind::Metadata),
    ],
    relationships: &[],
};

pub(super) fn list(account: &Account, call: &Call, style: &Style) -> Result<Response, Problem> {
    let fits = |user: &&User| {
        !user.admin && call.query.metadata().all(|(key, wanted)| metadata::matches(&user.metadata, key, wanted))
    };
    let users: Vec<User> = account.users.iter().filter(fits).cloned().collect();
    let path = format!("{}/users", style.base);
    let body = page(&users, |user| user.id, |user| render::user(user, style), &path, &call.query)?;
    Ok(document(StatusCode::OK, &body))
}

pub(super) fn read(account: &Account, id: &str, style: &Style) -> Result<Response, Problem> {
    let user = &account.users[place(account, id)?];
    Ok(document(StatusCode::OK, &json!({ "data": render::user(user, style) })))
}

pub(super) fn create(account: &mut Account, call: &Call, style: &Style) -> Result<Response, Problem> {
    let wanted = Document::read(&call.body, &NEW)?;
    let Some(email) = wanted.text("email") else {
        return Err(Problem::bad_request("is missing").at("/data/attributes/email"));
    };
    let email = email.trim().to_lowercase();
    check_email(&email)?;
    check_names(&wanted)?;
    if wanted.text("password").is_some_and(|password| !(6..=72).contains(&password.len())) {
        let pointer = "/data/attributes/password";
        return Err(Problem::unprocessable("PASSWORD_INVALID", pointer, "is too short or too long"));
    }
    if account.users.iter().any(|user| user.email == email) {
        return Err(taken(account));
    }
    let ordinary = account.users.iter().filter(|user| !user.admin).count();
    if account.settings.users_max.is_some_and(|max| ordinary >= max) {
        return Err(Problem::payment_required());
    }
    let (id, now) = (account.next_id(), account.now());
    let user = User {
        id,
        email,
        first_name: wanted.text("first_name").map(str::to_owned),
        last_name: wanted.text("last_name").map(str::to_owned),
        metadata: wanted.metadata().cloned().unwrap_or_default(),
        banned: false,
        admin: false,
        created: now,
        updated: now,
    };
    let body = json!({ "data": render::user(&user, style) });
    account.users.push(user);
    Ok(super::located(document(StatusCode::CREATED, &body), &format!("{}/users/{id}", style.base)))
}

pub(super) fn update(account: &mut Account, call: &Call, id: &str, style: &Style) -> Result<Response, Problem> {
    let at = place(account, id)?;
    let wanted = Document::read(&call.body, &NEW)?;
    if wanted.text("password").is_some() {
        return Err(Problem::bad_request("unpermitted parameter").at("/data/attributes/password"));
    }
    check_names(&wanted)?;
    let email = wanted.text("email").map(|email| email.trim().to_lowercase());
    if let Some(email) = &email {
        check_email(email)?;
        if account.users.iter().enumerate().any(|(other, user)| other != at && user.email == *email) {
            return Err(taken(account));
        }
    }
    let now = account.now();
    let user = &mut account.users[at];
    user.email = email.unwrap_or_else(|| user.email.clone());
    for (name, field) in [("first_name", &mut user.first_name), ("last_name", &mut user.last_name)] {
        if let Some(value) = wanted.attributes.get(name) {
            *field = value.as_str().map(str::to_owned);
        }
    }
    if let Some(metadata) = wanted.metadata() {
        user.metadata.clone_from(metadata);
    }
    user.updated = now;
    Ok(document(StatusCode::OK, &json!({ "data": render::user(user, style) })))
}

fn place(account: &Account, id: &str) -> Result<usize, Problem> {
    account.find_user(id).ok_or_else(|| Problem::not_found("user", id))
}

fn taken(account: &Account) -> Problem {
    if account.settings.races {
        return Problem::conflict();
    }
    Problem::unprocessable("EMAIL_TAKEN", "/data/attributes/email", "has already been taken")
}

fn check_email(email: &str) -> Result<(), Problem> {
    let pointer = "/data/attributes/email";
    let (name, host) = email.split_once('@').unwrap_or_default();
    let plain = |part: &str| !part.is_empty() && !part.contains(|letter: char| letter.is_whitespace() || letter == '@');
    if !plain(name) || !plain(host) {
        return Err(Problem::unprocessable("EMAIL_INVALID", pointer, "must be a valid email"));
    }
    if email.chars().count() > EMAIL_CHARS_MAX {
        return Err(Problem::unprocessable("EMAIL_TOO_LONG", pointer, "is too long (maximum is 255 characters)"));
    }
    Ok(())
}

fn check_names(wanted: &Document) -> Result<(), Problem> {
    for (name, pointer) in [("first_name", "/data/attributes/firstName"), ("last_name", "/data/attributes/lastName")] {
        if wanted.text(name).is_some_and(|text| text.chars().count() > 255) {
            return Err(Problem::unprocessable("NAME_TOO_LONG", pointer, "is too long (maximum is 255 characters)"));
        }
    }
    Ok(())
}
