//! One handler a route: reads parameters, asks [`crate::api::Api`], and nothing else.

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response};
use data_encoding::HEXLOWER;
use keyledger_projector::read::{CaseFilter, CaseStatus, CustomerFilter, LicenseFilter, SubscriptionFilter};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Console;
use super::body::{Body, idempotency_key};
use super::openapi::{self, Idempotency, Paging, Viewing};
use super::params::Params;
use super::request::ProblemBody;
use crate::access::Caller;
use crate::api::{Act, Attach, EventQuery, Extend, Retry, Waive};
use crate::model::{
    Applied, Case, Customer, Event, License, Page, Plan, Repaired, SearchResults, Status, Subscription, UnmappedPrice,
};
use crate::problem::{CODES, Problem};

type Answer<T> = Result<Json<T>, Problem>;

/// The header that carries the SHA-256 of raw bytes.
const CONTENT_HASH: HeaderName = HeaderName::from_static("keyledger-content-sha256");

/// Every documented route.
pub fn routes() -> OpenApiRouter<Console> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(status))
        .routes(routes!(customers))
        .routes(routes!(customer))
        .routes(routes!(subscriptions))
        .routes(routes!(subscription))
        .routes(routes!(licenses))
        .routes(routes!(license))
        .routes(routes!(license_file))
        .routes(routes!(suspend))
        .routes(routes!(reinstate))
        .routes(routes!(revoke))
        .routes(routes!(extend))
        .routes(routes!(reissue))
        .routes(routes!(cases))
        .routes(routes!(case))
        .routes(routes!(retry))
        .routes(routes!(waive))
        .routes(routes!(attach))
        .routes(routes!(plan))
        .routes(routes!(repair))
        .routes(routes!(unmapped))
        .routes(routes!(events))
        .routes(routes!(event))
        .routes(routes!(raw))
        .routes(routes!(search))
}

/// How far each part has come, and how many cases are open.
#[utoipa::path(get, path = "/api/v1/status", tag = "status", params(Viewing), responses(
    (status = 200, body = Status),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn status(State(console): State<Console>, mut params: Params) -> Answer<Status> {
    let view = params.view();
    params.finish()?;
    console.api.status(&view).await.map(Json)
}

/// Customers, newest first, each with what hangs on them.
#[utoipa::path(get, path = "/api/v1/customers", tag = "customers", params(Viewing, Paging,
    ("email" = Option<String>, Query, description = "That ever showed this address."),
    ("name" = Option<String>, Query, description = "Whose name begins so.")), responses(
    (status = 200, body = Page<Customer>),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn customers(State(console): State<Console>, mut params: Params) -> Answer<Page<Customer>> {
    let (view, page) = (params.view(), params.page());
    let filter = CustomerFilter { email: params.text("email"), name: params.text("name") };
    params.finish()?;
    console.api.customers(&view, &filter, &page).await.map(Json)
}

/// One customer.
#[utoipa::path(get, path = "/api/v1/customers/{id}", tag = "customers",
    params(("id" = String, Path, description = "`cus_…`"), Viewing), responses(
    (status = 200, body = Customer),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn customer(State(console): State<Console>, Path(id): Path<String>, mut params: Params) -> Answer<Customer> {
    let view = params.view();
    params.finish()?;
    console.api.customer(&view, &id).await.map(Json)
}

/// Subscriptions, newest first, each with what hangs on it.
#[utoipa::path(get, path = "/api/v1/subscriptions", tag = "subscriptions", params(Viewing, Paging,
    ("customer" = Option<String>, Query, description = "Of this Stripe customer."),
    ("status" = Option<String>, Query, description = "With this status of Stripe's.")), responses(
    (status = 200, body = Page<Subscription>),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn subscriptions(State(console): State<Console>, mut params: Params) -> Answer<Page<Subscription>> {
    let (view, page) = (params.view(), params.page());
    let filter = SubscriptionFilter { customer: params.text("customer"), status: params.text("status") };
    params.finish()?;
    console.api.subscriptions(&view, &filter, &page).await.map(Json)
}

/// One subscription.
#[utoipa::path(get, path = "/api/v1/subscriptions/{sub}", tag = "subscriptions",
    params(("sub" = String, Path, description = "`sub_…`"), Viewing), responses(
    (status = 200, body = Subscription),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn subscription(
    State(console): State<Console>,
    Path(id): Path<String>,
    mut params: Params,
) -> Answer<Subscription> {
    let view = params.view();
    params.finish()?;
    console.api.subscription(&view, &id).await.map(Json)
}

/// Licenses, newest first. Filters are joined by *and*.
#[utoipa::path(get, path = "/api/v1/licenses", tag = "licenses", params(Viewing, Paging,
    ("subscription" = Option<String>, Query, description = "Of this subscription, `sub_…`."),
    ("customer" = Option<String>, Query, description = "Of this customer, `cus_…`."),
    ("session" = Option<String>, Query, description = "Of the purchase of this Checkout session, `cs_…`."),
    ("email" = Option<String>, Query, description = "Of whoever ever showed this address."),
    ("provider_id" = Option<String>, Query, description = "With this id at its engine."),
    ("reveal" = Option<bool>, Query, description = "Show keys in full. Needs the role, and is recorded.")), responses(
    (status = 200, body = Page<License>),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn licenses(
    State(console): State<Console>,
    Extension(caller): Extension<Caller>,
    mut params: Params,
) -> Answer<Page<License>> {
    let (view, page) = (params.view(), params.page());
    let filter = LicenseFilter {
        subscription: params.text("subscription"),
        customer: params.text("customer"),
        session: params.text("session"),
        email: params.text("email"),
        provider_id: params.text("provider_id"),
        ..LicenseFilter::default()
    };
    let reveal = params.flag("reveal").then_some(&caller);
    params.finish()?;
    console.api.licenses(&view, &filter, &page, reveal).await.map(Json)
}

/// One license.
#[utoipa::path(get, path = "/api/v1/licenses/{id}", tag = "licenses",
    params(("id" = String, Path, description = "The license's id."), Viewing,
    ("reveal" = Option<bool>, Query, description = "Show the key in full. Needs the role, and is recorded.")), responses(
    (status = 200, body = License),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn license(
    State(console): State<Console>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    mut params: Params,
) -> Answer<License> {
    let view = params.view();
    let reveal = params.flag("reveal").then_some(&caller);
    params.finish()?;
    console.api.license(&view, &id, reveal).await.map(Json)
}

/// The license's signed file, which verifies without a network.
#[utoipa::path(get, path = "/api/v1/licenses/{id}/file", tag = "licenses",
    params(("id" = String, Path, description = "The license's id."), Viewing), responses(
    (status = 200, body = String, content_type = "text/plain"),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn license_file(
    State(console): State<Console>,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<Response, Problem> {
    let view = params.view();
    params.finish()?;
    let text = console.api.license_file(&view, &id).await?;
    let headers =
        [(CONTENT_TYPE, "text/plain; charset=utf-8"), (CONTENT_DISPOSITION, "attachment; filename=\"license.txt\"")];
    Ok((headers, text).into_response())
}

/// Stops a license for now, whatever is paid, until a person reinstates it.
#[utoipa::path(post, path = "/api/v1/licenses/{id}/suspend", tag = "licenses",
    params(("id" = String, Path, description = "The license's id."), Viewing, Idempotency), request_body = Act, responses(
    (status = 200, body = Repaired),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn suspend(
    State(console): State<Console>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    mut params: Params,
    headers: HeaderMap,
    Body(body): Body<Act>,
) -> Answer<Repaired> {
    let view = params.view();
    params.finish()?;
    let key = idempotency_key(&headers)?;
    console.api.suspend(&view, &id, &body, key.as_deref(), &caller).await.map(Json)
}

/// Takes back what a person stopped or revoked. What Stripe says still holds.
#[utoipa::path(post, path = "/api/v1/licenses/{id}/reinstate", tag = "licenses",
    params(("id" = String, Path, description = "The license's id."), Viewing, Idempotency), request_body = Act, responses(
    (status = 200, body = Repaired),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn reinstate(
    State(console): State<Console>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    mut params: Params,
    headers: HeaderMap,
    Body(body): Body<Act>,
) -> Answer<Repaired> {
    let view = params.view();
    params.finish()?;
    let key = idempotency_key(&headers)?;
    console.api.reinstate(&view, &id, &body, key.as_deref(), &caller).await.map(Json)
}

/// Stops a license for good, until a person reinstates it.
#[utoipa::path(post, path = "/api/v1/licenses/{id}/revoke", tag = "licenses",
    params(("id" = String, Path, description = "The license's id."), Viewing, Idempotency), request_body = Act, responses(
    (status = 200, body = Repaired),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn revoke(
    State(console): State<Console>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    mut params: Params,
    headers: HeaderMap,
    Body(body): Body<Act>,
) -> Answer<Repaired> {
    let view = params.view();
    params.finish()?;
    let key = idempotency_key(&headers)?;
    console.api.revoke(&view, &id, &body, key.as_deref(), &caller).await.map(Json)
}

/// Gives a license more time than was paid for. A later request replaces this one.
#[utoipa::path(post, path = "/api/v1/licenses/{id}/extend", tag = "licenses",
    params(("id" = String, Path, description = "The license's id."), Viewing, Idempotency), request_body = Extend, responses(
    (status = 200, body = Repaired),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn extend(
    State(console): State<Console>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    mut params: Params,
    headers: HeaderMap,
    Body(body): Body<Extend>,
) -> Answer<Repaired> {
    let view = params.view();
    params.finish()?;
    let key = idempotency_key(&headers)?;
    console.api.extend(&view, &id, &body, key.as_deref(), &caller).await.map(Json)
}

/// Has a license replaced by a new one, and the old one revoked.
#[utoipa::path(post, path = "/api/v1/licenses/{id}/reissue", tag = "licenses",
    params(("id" = String, Path, description = "The license's id."), Viewing, Idempotency), request_body = Act, responses(
    (status = 200, body = Repaired),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn reissue(
    State(console): State<Console>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    mut params: Params,
    headers: HeaderMap,
    Body(body): Body<Act>,
) -> Answer<Repaired> {
    let view = params.view();
    params.finish()?;
    let key = idempotency_key(&headers)?;
    console.api.reissue(&view, &id, &body, key.as_deref(), &caller).await.map(Json)
}

/// Cases, the oldest first.
#[utoipa::path(get, path = "/api/v1/cases", tag = "cases", params(Viewing, Paging,
    ("kind" = Option<String>, Query, description = "Of this kind, such as `no_key`."),
    ("status" = Option<String>, Query, description = "`open`, `closed` or `waived`."),
    ("customer" = Option<String>, Query, description = "Of this customer, `cus_…`."),
    ("purchase" = Option<String>, Query, description = "Of this purchase: `sub_…`, `in_…` or `cs_…`.")), responses(
    (status = 200, body = Page<Case>),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn cases(State(console): State<Console>, mut params: Params) -> Answer<Page<Case>> {
    let (view, page) = (params.view(), params.page());
    let filter = CaseFilter {
        kind: params.text("kind"),
        status: params.parsed("status", "`open`, `closed` or `waived`", |text| text.parse::<CaseStatus>().ok()),
        customer: params.text("customer"),
        purchase: params.text("purchase"),
    };
    params.finish()?;
    console.api.cases(&view, &filter, &page).await.map(Json)
}

/// One case.
#[utoipa::path(get, path = "/api/v1/cases/{id}", tag = "cases",
    params(("id" = String, Path, description = "`kl_cas_…`"), Viewing), responses(
    (status = 200, body = Case),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn case(State(console): State<Console>, Path(id): Path<String>, mut params: Params) -> Answer<Case> {
    let view = params.view();
    params.finish()?;
    console.api.case(&view, &id).await.map(Json)
}

/// Asks for another try at once. Asking twice before there is another answer records once.
#[utoipa::path(post, path = "/api/v1/cases/{id}/retry", tag = "cases",
    params(("id" = String, Path, description = "`kl_cas_…`"), Viewing, Idempotency), request_body = Option<Retry>, responses(
    (status = 200, body = Repaired),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn retry(
    State(console): State<Console>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    mut params: Params,
    headers: HeaderMap,
    Body(body): Body<Retry>,
) -> Answer<Repaired> {
    let view = params.view();
    params.finish()?;
    let key = idempotency_key(&headers)?;
    console.api.retry(&view, &id, &body, key.as_deref(), &caller).await.map(Json)
}

/// Closes a case with a name and a reason. Money for later periods opens a unit's case again.
#[utoipa::path(post, path = "/api/v1/cases/{id}/waive", tag = "cases",
    params(("id" = String, Path, description = "`kl_cas_…`"), Viewing, Idempotency), request_body = Waive, responses(
    (status = 200, body = Repaired),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn waive(
    State(console): State<Console>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    mut params: Params,
    headers: HeaderMap,
    Body(body): Body<Waive>,
) -> Answer<Repaired> {
    let view = params.view();
    params.finish()?;
    let key = idempotency_key(&headers)?;
    console.api.waive(&view, &id, &body, key.as_deref(), &caller).await.map(Json)
}

/// Names the license that meets the case's unit.
#[utoipa::path(post, path = "/api/v1/cases/{id}/attach", tag = "cases",
    params(("id" = String, Path, description = "`kl_cas_…`"), Viewing, Idempotency), request_body = Attach, responses(
    (status = 200, body = Repaired),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn attach(
    State(console): State<Console>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    mut params: Params,
    headers: HeaderMap,
    Body(body): Body<Attach>,
) -> Answer<Repaired> {
    let view = params.view();
    params.finish()?;
    let key = idempotency_key(&headers)?;
    console.api.attach(&view, &id, &body, key.as_deref(), &caller).await.map(Json)
}

/// What would repair a case: steps in order, with reasons. Nothing is done.
#[utoipa::path(get, path = "/api/v1/cases/{id}/plan", tag = "cases",
    params(("id" = String, Path, description = "`kl_cas_…`"), Viewing), responses(
    (status = 200, body = Plan),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn plan(State(console): State<Console>, Path(id): Path<String>, mut params: Params) -> Answer<Plan> {
    let view = params.view();
    params.finish()?;
    console.api.plan(&view, &[id]).await.map(Json)
}

/// Does the steps of a case's plan that are safe, and says which are left to a person. Doing it again changes nothing.
#[utoipa::path(post, path = "/api/v1/cases/{id}/repair", tag = "cases",
    params(("id" = String, Path, description = "`kl_cas_…`"), Viewing), responses(
    (status = 200, body = Vec<Applied>),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn repair(
    State(console): State<Console>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    mut params: Params,
) -> Answer<Vec<Applied>> {
    let view = params.view();
    params.finish()?;
    let plan = console.api.plan(&view, &[id]).await?;
    console.api.apply(&view, &plan, &caller).await.map(Json)
}

/// Prices that were paid for and that neither metadata nor the catalog says anything about.
#[utoipa::path(get, path = "/api/v1/catalog/unmapped", tag = "catalog", params(Viewing), responses(
    (status = 200, body = Vec<UnmappedPrice>),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn unmapped(State(console): State<Console>, mut params: Params) -> Answer<Vec<UnmappedPrice>> {
    let view = params.view();
    params.finish()?;
    console.api.unmapped_prices(&view).await.map(Json)
}

/// The log in order, without data. A page of a rare type may be short or empty and still have a `next`.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", params(Viewing,
    ("limit" = Option<u32>, Query, description = "Rows, 1 to 200. Default 50.", minimum = 1, maximum = 200),
    ("after" = Option<String>, Query, description = "A position: events after it."),
    ("type" = Option<String>, Query, description = "Of this type, or of those that begin so when it ends in `.` or `*`."),
    ("stream" = Option<String>, Query, description = "Of this stream.")), responses(
    (status = 200, body = Page<Event>),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn events(State(console): State<Console>, mut params: Params) -> Answer<Page<Event>> {
    let (view, page) = (params.view(), params.page());
    let query = EventQuery { kind: params.text("type"), stream: params.text("stream") };
    params.finish()?;
    console.api.events(&view, &query, &page).await.map(Json)
}

/// One event with its data.
#[utoipa::path(get, path = "/api/v1/events/{id}", tag = "events",
    params(("id" = String, Path, description = "The event's id."), Viewing), responses(
    (status = 200, body = Event),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn event(State(console): State<Console>, Path(id): Path<String>, mut params: Params) -> Answer<Event> {
    let view = params.view();
    params.finish()?;
    console.api.event(&view, &id).await.map(Json)
}

/// An event's stored bytes, exactly, with their SHA-256 in `Keyledger-Content-Sha256`.
#[utoipa::path(get, path = "/api/v1/events/{id}/raw", tag = "events",
    params(("id" = String, Path, description = "The event's id."), Viewing), responses(
    (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn raw(State(console): State<Console>, Path(id): Path<String>, mut params: Params) -> Result<Response, Problem> {
    let view = params.view();
    params.finish()?;
    let event = console.api.recorded(&view, &id).await?;
    let headers =
        [(CONTENT_TYPE, "application/octet-stream".to_owned()), (CONTENT_HASH, HEXLOWER.encode(&event.content_hash))];
    Ok((headers, event.data).into_response())
}

/// Searches by any id, address, key, invoice number or name, or by a query such as `is:no-key amount>=50`.
#[utoipa::path(get, path = "/api/v1/search", tag = "search",
    params(("q" = String, Query, description = "What to look for."), Viewing), responses(
    (status = 200, body = SearchResults),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn search(State(console): State<Console>, mut params: Params) -> Answer<SearchResults> {
    let view = params.view();
    let text = params.required("q");
    params.finish()?;
    console.api.search(&view, &text).await.map(Json)
}

/// The OpenAPI document. Anybody may read it: it tells nothing about anyone.
pub async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], openapi::document()).into_response()
}

/// What a problem's `type` points to.
pub async fn problem(Path(code): Path<String>) -> Result<String, Problem> {
    let known = CODES.iter().find(|(known, _)| *known == code);
    known.map(|(code, text)| format!("{code}\n\n{text}\n")).ok_or(Problem::NoRoute)
}
