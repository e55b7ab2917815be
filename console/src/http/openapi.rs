//! The OpenAPI 3.1 document, made from the handlers. A copy is committed as `console/openapi.json`.

use keyledger_schemas::ids::Mode;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Info, OpenApi, OpenApiBuilder, SecurityRequirement};
use utoipa::{IntoParams, ToSchema};

use super::handlers;

/// Which rows, and as of when.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what `Params::view` reads")]
pub struct Viewing {
    /// Live or test. Default live.
    #[param(inline)]
    mode: Option<ModeParam>,
    /// One source. Default all.
    source: Option<String>,
    /// The time to show states at, RFC 3339. Default now.
    at: Option<jiff::Timestamp>,
}

/// Which page.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what `Params::page` reads")]
pub struct Paging {
    /// Rows, 1 to 200. Default 50.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// `next` of the page before.
    after: Option<String>,
}

/// What makes a repair safe to repeat.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes what `idempotency_key` reads")]
pub struct Idempotency {
    /// The same key and body record once, whenever they come again; another body is refused with 422.
    #[param(rename = "Idempotency-Key", max_length = 255)]
    idempotency_key: Option<String>,
}

/// Stripe's two worlds.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes keyledger_schemas::ids::Mode")]
enum ModeParam {
    Live,
    Test,
}

const _: [Mode; 2] = [Mode::Live, Mode::Test];

/// What the document says before any route.
pub fn base() -> OpenApi {
    let mut info = Info::new("keyledger", env!("CARGO_PKG_VERSION"));
    info.description = Some("Who was charged and has no key: views of the log, and the repairs of cases.".to_owned());
    let mut document = OpenApiBuilder::new().info(info).build();
    document.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    document
        .components
        .get_or_insert_default()
        .add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    document
}

/// The document as JSON, with a line break at the end.
pub fn document() -> String {
    let (_, document) = handlers::routes().split_for_parts();
    let mut text =
        document.to_pretty_json().unwrap_or_else(|error| unreachable!("the document is plain data: {error}"));
    text.push('\n');
    text
}
