//! Tests which methods and paths reach a handler, and which permissions a key needs for them.

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, any, get},
};
use http::{
    Method, StatusCode,
    header::{ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, ORIGIN},
};
use tower_authz::{
    Access, Authz, Dimension, Directory, Grant, GrantBuilder, IdGrammar, KeyFile, Policy, Rule,
    check::EntityRef,
    store::{MemoryStore, StoreSettings},
};

use crate::{
    cases::{
        Row, Table,
        exchange::{Line, Seen, lines, request, to_service},
        expand::expand,
    },
    support::{KEY, format, record},
};

#[tokio::test]
async fn methods_and_paths_reach_handlers_as_the_table_has_it() {
    Table::read("method_path", &["method", "target", "headers_json"]).run(outcome).await.finish();
}

/// The resources of the fixture.
const RESOURCES: [&str; 5] = ["products", "orders", "shops", "companies", "reports"];
const PRODUCT: Dimension = Dimension::new("product", IdGrammar::Opaque);
/// Unlike the default, the grammar of the fixture has no underscore.
const SHOP: Dimension = Dimension::new("shop", IdGrammar::Custom(is_shop_key));

fn is_shop_key(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

fn policy(allow_preflight: bool) -> Policy {
    let shop = |resource: &'static str| Rule::resource(resource).scoped(EntityRef::from_path(SHOP, "shopKey"));
    let products = || Rule::resource("products").unscoped();
    let policy = Policy::builder()
        .route("/api/admin/v1/products", products())
        .route("/api/admin/v1/products/{id}", products().scoped(EntityRef::from_path(PRODUCT, "id")))
        .route("/api/admin/v1/products/search", products().method(Method::POST, Access::Read))
        .route("/api/admin/v1/shops/{shopKey}/countries/{countryCode}/orders/{id}", shop("orders"))
        .route("/api/admin/v1/shops/{shopKey}", shop("shops"))
        .route(
            "/api/admin/v1/companies/{id}",
            Rule::resource("companies").scoped(EntityRef::from_path(Dimension::COMPANY, "id")),
        )
        .route("/api/admin/v1/reports/run", Rule::resource("reports").unscoped())
        .method_public(Method::GET, "/health")
        .method_public(Method::GET, "/public/{*rest}");
    if allow_preflight { policy.allow_preflight() } else { policy }.build().unwrap()
}

fn router(seen: &Seen) -> Router {
    let handler = |what: &'static str| {
        let seen = seen.clone();
        async move || seen.note(what)
    };
    let on = |methods: &[Method]| {
        methods.iter().fold(MethodRouter::new(), |router, method| {
            router.on(method.clone().try_into().unwrap(), handler("handler"))
        })
    };
    let api = Router::new()
        .route("/products", on(&[Method::GET, Method::POST]))
        .route("/products/{id}", on(&[Method::GET, Method::PUT, Method::PATCH, Method::DELETE]))
        .route("/products/search", on(&[Method::POST]))
        .route("/shops/{shopKey}/countries/{countryCode}/orders/{id}", on(&[Method::GET, Method::PUT]))
        .route("/shops/{shopKey}", on(&[Method::GET, Method::PATCH]))
        .route("/companies/{id}", on(&[Method::GET]))
        .route("/reports/run", any(handler("handler")));
    Router::new()
        .nest("/api/admin/v1", api)
        .route("/health", get(handler("handler")))
        .route("/public/{*rest}", get(handler("handler")))
        .fallback(handler("the fallback"))
}

/// Extracts the layer settings that a row requests by its header `x-test-config`, which is not sent.
fn settings(lines: Vec<Line>) -> Result<(bool, Vec<Line>), String> {
    let (settings, lines): (Vec<Line>, Vec<Line>) =
        lines.into_iter().partition(|(name, _)| name.eq_ignore_ascii_case(b"x-test-config"));
    for (_, value) in &settings {
        if value != b"preflight_passthrough" {
            return Err(format!("the harness does not know the setting {}", String::from_utf8_lossy(value)));
        }
    }
    Ok((!settings.is_empty(), lines))
}

/// Replaces a CORS layer inside of the gate, which an application that lets preflights through would have.
async fn answer_preflight(request: Request, next: Next, seen: Seen) -> Response {
    let names = [ORIGIN, ACCESS_CONTROL_REQUEST_METHOD];
    if request.method() == Method::OPTIONS && names.iter().all(|name| request.headers().contains_key(name)) {
        seen.note("handler");
        return StatusCode::OK.into_response();
    }
    next.run(request).await
}

/// The request of a row, to be sent with several keys.
pub struct Probe {
    pub method: String,
    pub target: String,
    pub lines: Vec<Line>,
    pub allow_preflight: bool,
}

impl Probe {
    /// Returns `ran`, or `deny:STATUS`. It is an error if the handler ran and the request was refused as well.
    pub async fn send(&self, grant: Option<GrantBuilder>) -> Result<String, String> {
        let seen = Seen::default();
        let mut lines = self.lines.clone();
        if grant.is_some() {
            lines.push((AUTHORIZATION.as_str().into(), format!("Bearer {KEY}").into()));
        }
        let grant = grant.unwrap_or_else(everything).build().map_err(|error| error.to_string())?;
        let keys = KeyFile::new([record("test-key", KEY, grant)], Directory::default());
        let settings = StoreSettings::new().with_format(format()).with_dimension(PRODUCT).with_dimension(SHOP);
        let store = MemoryStore::from_file(keys, settings).map_err(|error| error.to_string())?;
        let mut app = router(&seen);
        if self.allow_preflight {
            let seen = seen.clone();
            app = app.layer(from_fn(move |request, next| answer_preflight(request, next, seen.clone())));
        }
        let app: Router = app.layer(Authz::new(store, policy(self.allow_preflight)));
        let answer = to_service(app, request(&self.method, self.target.as_bytes(), &lines)).await;
        match (seen.take().as_slice(), answer.status) {
            ([what], 200) if what == "handler" => Ok("ran".to_owned()),
            ([], status) => Ok(format!("deny:{status}")),
            (what, status) => Err(format!("{what:?} ran, and the status is {status}")),
        }
    }
}

pub fn everything() -> GrantBuilder {
    RESOURCES.iter().fold(Grant::builder(), |grant, resource| grant.write(*resource))
}

async fn outcome(row: &Row) -> Result<String, String> {
    let (allow_preflight, lines) = settings(lines(&row.json("headers_json")?)?)?;
    let target = expand(row.text("target"))?;
    let probe = Probe { method: row.text("method").to_owned(), target, lines, allow_preflight };
    let expected = row.text("expected");
    if let Some(need) = expected.strip_prefix("need:") {
        return needs(&probe, need).await.map(|()| expected.to_owned());
    }
    let keyless = probe.send(None).await?;
    if expected == "deny:401" {
        return Ok(keyless);
    }
    if ["public", "pass", "allow"].contains(&expected.split(':').next().unwrap_or_default()) {
        return Ok(if keyless == "ran" { expected.to_owned() } else { keyless });
    }
    // Any other refusal must also apply to a key that may do everything, and a request without a key must get no
    // further.
    let got = probe.send(Some(everything())).await?;
    match keyless == "deny:401" || keyless == got {
        true => Ok(got),
        false => Err(format!("{keyless} without a key, {got} with one")),
    }
}

/// Checks an expectation `RES:OP[@dim=id]`: a key that grants exactly this is admitted, and keys that lack any part
/// of it are not.
pub async fn needs(probe: &Probe, need: &str) -> Result<(), String> {
    let mut scopes = need.split(['@', ',']);
    let (resource, op) = scopes.next().and_then(|first| first.split_once(':')).ok_or("an odd expectation")?;
    let scopes: Vec<(Dimension, &str)> = scopes
        .map(|scope| scope.split_once('=').ok_or("an odd scope"))
        .map(|scope| {
            scope.map(|(name, id)| {
                ([PRODUCT, SHOP].into_iter().find(|own| own.name() == name).unwrap_or(Dimension::named(name)), id)
            })
        })
        .collect::<Result<_, _>>()?;
    let resource = RESOURCES.into_iter().find(|known| *known == resource).ok_or("an odd resource")?;
    let at_level = || match op {
        "read" => Ok(Grant::builder().read(resource)),
        "write" => Ok(Grant::builder().write(resource)),
        _ => Err(format!("the harness does not know the level {op:?}")),
    };
    let within = |except: Option<&Dimension>, grant: GrantBuilder| {
        let kept = scopes.iter().filter(|(dimension, _)| Some(dimension) != except);
        kept.fold(grant, |grant, (dimension, id)| grant.only(dimension.clone(), [*id]))
    };
    let expect = async |what: &str, grant: Option<GrantBuilder>, wanted: &str| match probe.send(grant).await? {
        got if got == wanted => Ok(()),
        got => Err(format!("{got} for {what}, and not {wanted}")),
    };
    expect("a key that grants exactly that", Some(within(None, at_level()?)), "ran").await?;
    expect("no key", None, "deny:401").await?;
    let others = RESOURCES.into_iter().filter(|other| *other != resource);
    let others = others.fold(Grant::builder(), |grant, other| grant.write(other));
    expect("a key for all other resources", Some(others), "deny:403").await?;
    if op == "write" {
        expect("a key that may only read", Some(within(None, Grant::builder().read(resource))), "deny:403").await?;
    } else {
        expect("a key that may write", Some(within(None, Grant::builder().write(resource))), "ran").await?;
    }
    for (dimension, id) in &scopes {
        let rest = || within(Some(dimension), Grant::builder().write(resource));
        let other = if *id == "1" { "2" } else { "1" };
        let refused = "deny:403";
        expect("an exclude list", Some(rest().except(dimension.clone(), [*id])), refused).await?;
        expect("a list of another", Some(rest().only(dimension.clone(), [other])), refused).await?;
        expect("an empty list", Some(rest().only::<&str>(dimension.clone(), [])), refused).await?;
        expect("all but another", Some(rest().except(dimension.clone(), [other])), "ran").await?;
    }
    Ok(())
}
