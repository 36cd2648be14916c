//! The client's side: to which origins the key is sent, and to which it is not.

#[allow(dead_code, reason = "its `main` is for people")]
#[path = "../../examples/tonic.rs"]
mod tonic_example;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use axum::{Router, extract::Query, response::IntoResponse as _};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, header::AUTHORIZATION};
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::net::TcpListener;
use tower::{Layer as _, Service, ServiceBuilder, ServiceExt as _, service_fn, util::MapRequestLayer};
use tower_authz::{
    ApiKey, KeyFile,
    client::{ApiUrl, AttachLayer},
};
use tower_http::follow_redirect::FollowRedirectLayer;

const KEY: &str = "l64_abc12345_0123456789abcdef0123456789abcdef";
const SECRET: &str = "0123456789abcdef";
const OWN: HeaderName = HeaderName::from_static("x-api-key");

fn layer(url: &str) -> AttachLayer {
    AttachLayer::new(&ApiKey::new(KEY), &ApiUrl::https_or_loopback(url).unwrap()).unwrap()
}

/// Returns the headers that the layer passes on.
async fn through(layer: &AttachLayer, request: Request<()>) -> HeaderMap {
    let show = service_fn(async |request: Request<()>| Ok::<_, Infallible>(request.headers().clone()));
    layer.layer(show).oneshot(request).await.unwrap()
}

#[tokio::test]
async fn the_key_goes_to_its_origin_only() {
    for (api_url, uri, expected) in [
        ("https://api.test", "https://api.test/", true),
        ("https://api.test", "https://api.test", true),
        ("https://api.test", "https://api.test/a/b?c=https://evil.test", true),
        ("https://api.test", "https://API.Test/", true),
        ("https://API.test", "HTTPS://api.TEST/", true),
        ("https://api.test", "https://api.test:443/", true),
        ("https://api.test:443", "https://api.test/", true),
        ("https://api.test:0443", "https://api.test:443/", true),
        ("https://api.test/v1", "https://api.test/v2", true),
        ("https://api.test:8443", "https://api.test:8443/", true),
        ("https://[2001:db8::1]:8443", "https://[2001:DB8::1]:8443/", true),
        ("https://[2001:db8::1]", "https://[2001:db8::1]:443/", true),
        ("http://127.0.0.1", "http://127.0.0.1:80/", true),
        ("http://localhost:3000", "http://LOCALHOST:3000/", true),
        // The scheme differs.
        ("https://api.test", "http://api.test/", false),
        ("https://api.test", "http://api.test:443/", false),
        ("https://api.test", "ws://api.test/", false),
        ("https://api.test", "wss://api.test:443/", false),
        ("http://127.0.0.1:3000", "https://127.0.0.1:3000/", false),
        // The port differs.
        ("https://api.test", "https://api.test:80/", false),
        ("https://api.test", "https://api.test:8443/", false),
        ("https://api.test:8443", "https://api.test/", false),
        ("http://localhost:3000", "http://localhost:3001/", false),
        ("https://api.test", "https://api.test:/", false),
        ("https://api.test", "https://api.test:65979/", false), // the port is 443 + 65536
        ("https://[2001:db8::1]:1", "https://[2001:db8::1]:2/", false),
        // The host differs, though it looks alike.
        ("https://api.test", "https://evil.test/", false),
        ("https://api.test", "https://evil.test/api.test", false),
        ("https://api.test", "https://evil.test/?https://api.test", false),
        ("https://api.test", "https://evil.test/@api.test", false),
        ("https://api.test", "https://api.test.evil.test/", false),
        ("https://api.test", "https://evilapi.test/", false),
        ("https://api.test", "https://sub.api.test/", false),
        ("https://sub.api.test", "https://api.test/", false),
        ("https://api.test", "https://api.tes/", false),
        ("https://api.test", "https://api.test./", false),
        ("https://api.test", "https://api%2Etest/", false),
        ("https://api.test", "https://api.test@evil.test/", false),
        ("https://api.test", "https://api.test:443@evil.test/", false),
        ("https://api.test", "https://evil.test@api.test/", false),
        ("https://api.test", "https://:@api.test/", false),
        ("https://xn--bcher-kva.test", "https://bcher-kva.test/", false),
        ("https://[2001:db8::1]", "https://[2001:db8:0::1]/", false),
        ("https://[2001:db8::1]", "https://2001/", false),
        ("http://127.0.0.1:3000", "http://localhost:3000/", false),
        ("http://localhost:3000", "http://127.0.0.1:3000/", false),
        ("http://[::1]:3000", "http://127.0.0.1:3000/", false),
        // The URI names no origin.
        ("https://api.test", "/orders", false),
        ("https://api.test", "//api.test/orders", false),
        ("https://api.test", "*", false),
        ("https://api.test", "api.test:443", false),
    ] {
        // Some versions of `http` refuse to parse these.
        let Ok(parsed) = uri.parse::<Uri>() else {
            assert!(!expected, "{uri}");
            continue;
        };
        let headers = through(&layer(api_url), Request::get(parsed).body(()).unwrap()).await;
        assert_eq!(headers.contains_key(AUTHORIZATION), expected, "{api_url} and {uri}");
    }
}

#[test]
fn plain_http_is_for_this_machine_and_if_it_is_asked_for() {
    for (url, https, loopback) in [
        ("https://api.test", true, true),
        ("https://api.test/base/", true, true),
        ("https://127.0.0.1:3000", true, true),
        ("http://127.0.0.1:3000", false, true),
        ("http://127.255.0.1", false, true),
        ("http://[::1]:3000", false, true),
        ("http://localhost:3000", false, true),
        ("http://LocalHost", false, true),
        ("http://api.test", false, false),
        ("http://localhost.evil.test", false, false),
        ("http://127.0.0.1.evil.test", false, false),
        ("http://localhost@evil.test", false, false),
        ("http://127.1", false, false),
        ("http://0.0.0.0:3000", false, false),
        ("http://[::]:3000", false, false),
        ("http://[127.0.0.1]", false, false),
        ("http://128.0.0.1", false, false),
        ("https://user@api.test", false, false),
        ("https://api.test:port", false, false),
        ("https://api.test:+443", false, false),
        ("https://api.test:", false, false),
        ("https://:443", false, false),
        ("https://api.test?x=1", false, false),
        ("https://api.test/#x", false, false),
        ("https://", false, false),
        ("ftp://api.test", false, false),
        ("api.test", false, false),
        ("/orders", false, false),
        (" https://api.test", false, false),
        ("", false, false),
        (KEY, false, false),
    ] {
        assert_eq!(ApiUrl::https(url).is_ok(), https, "{url}");
        assert_eq!(ApiUrl::https_or_loopback(url).is_ok(), loopback, "{url}");
        for error in [ApiUrl::https(url).err(), ApiUrl::https_or_loopback(url).err()].into_iter().flatten() {
            assert!(error.to_string().contains("https") && !error.to_string().contains(SECRET), "{error}");
        }
    }
}

#[test]
fn paths_are_joined_and_never_name_a_host() {
    for (base, path, joined) in [
        ("https://api.test", "/orders", "https://api.test/orders"),
        ("https://api.test/", "/orders?page=2", "https://api.test/orders?page=2"),
        ("https://api.test/v1/", "/", "https://api.test/v1/"),
        ("https://api.test", "//evil.test/", "https://api.test//evil.test/"),
    ] {
        assert_eq!(ApiUrl::https(base).unwrap().join(path).unwrap(), joined);
    }
    for path in ["", "orders", "@evil.test/", ".evil.test/", ":8443/", "https://evil.test/", "*", "/a b", "/\n", "/\0"]
    {
        assert!(ApiUrl::https("https://api.test").unwrap().join(path).is_err(), "{path:?}");
    }
}

#[tokio::test]
async fn the_key_replaces_what_stood_there_and_a_copy_is_taken_out() {
    let bearer = format!("Bearer {KEY}");
    for (own_header, uri, before, after) in [
        (false, "https://api.test/", vec!["Basic eDp5"], vec![bearer.as_str()]),
        (false, "https://api.test/", vec!["Basic eDp5", "x"], vec![&bearer]),
        (false, "https://evil.test/", vec![&bearer], vec![]),
        (false, "https://evil.test/", vec!["Basic eDp5", &bearer, "x"], vec!["Basic eDp5", "x"]),
        (false, "https://evil.test/", vec!["Bearer l64_abc12345"], vec!["Bearer l64_abc12345"]),
        (false, "http://api.test/", vec![&bearer], vec![]),
        (true, "https://api.test/", vec![], vec![KEY]),
        (true, "https://evil.test/", vec![KEY, KEY], vec![]),
        (true, "/relative", vec![KEY], vec![]),
    ] {
        let mut layer = layer("https://api.test");
        let mut name = AUTHORIZATION;
        if own_header {
            (layer, name) = (layer.header(OWN), OWN);
        }
        let mut request = Request::get(uri).header("x-other", "kept").body(()).unwrap();
        for value in &before {
            request.headers_mut().append(&name, value.parse().unwrap());
        }
        let headers = through(&layer, request).await;
        let lines: Vec<_> = headers.get_all(&name).iter().map(|line| line.to_str().unwrap()).collect();
        assert_eq!(lines, after, "{uri} {before:?}");
        assert_eq!(headers.len(), after.len() + 1, "{headers:?}");
        assert!(uri != "https://api.test/" || headers[&name].is_sensitive());
        assert!(!format!("{headers:?}").contains(SECRET) || uri != "https://api.test/", "{headers:?}");
    }
}

#[tokio::test]
async fn a_request_that_is_full_of_headers_goes_without_and_nothing_panics() {
    let mut request = Request::get("https://api.test/").body(()).unwrap();
    let filler = (0..).map(|number| format!("x-{number}").parse::<HeaderName>().unwrap());
    for name in filler {
        if request.headers_mut().try_append(name, HeaderValue::from_static("x")).is_err() {
            break;
        }
    }
    assert!(!through(&layer("https://api.test"), request).await.contains_key(AUTHORIZATION));
}

#[tokio::test]
async fn readiness_is_that_of_the_inner_service() {
    let inner = service_fn(async |_: Request<()>| Ok::<_, Infallible>(()));
    let mut service = layer("https://api.test").layer(tower::limit::ConcurrencyLimit::new(inner, 1));
    for _ in 0..2 {
        service.ready().await.unwrap().call(Request::new(())).await.unwrap();
    }
}

/// A server with its own port, and hence its own origin. It redirects to `?to=` and records the keys that it
/// receives.
struct Site {
    url: String,
    seen: Arc<Mutex<Vec<Option<String>>>>,
}

impl Site {
    async fn start() -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let app =
            Router::new().fallback(async move |Query(query): Query<Vec<(String, String)>>, headers: HeaderMap| {
                let lines =
                    [AUTHORIZATION, OWN].map(|name| headers.get(name).map(|line| line.to_str().unwrap().to_owned()));
                log.lock().unwrap().push(lines.into_iter().flatten().reduce(|one, other| one + &other));
                let status = |value: &str| StatusCode::from_bytes(value.as_bytes()).unwrap();
                match &*query {
                    [(name, to), (_, code), rest @ ..] if name == "to" => {
                        let rest: Vec<_> = rest.iter().map(|(name, value)| format!("{name}={value}")).collect();
                        (status(code), [("location", format!("{to}?{}", rest.join("&")))]).into_response()
                    }
                    _ => StatusCode::OK.into_response(),
                }
            });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, seen }
    }

    /// Returns for each request since the last call whether it had a key.
    fn keys(&self) -> Vec<bool> {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        seen.into_iter().map(|line| line.is_some_and(|line| line.contains(KEY))).collect()
    }
}

fn hyper_client() -> Client<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

async fn get<S, B>(client: S, uri: String)
where
    S: Service<Request<Full<Bytes>>, Response = http::Response<B>>,
    S::Error: std::fmt::Debug,
{
    let response = client.oneshot(Request::get(uri).body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn a_redirect_to_another_origin_does_not_carry_the_key() {
    let (ours, foreign) = (Site::start().await, Site::start().await);
    for (status, own_header) in
        [301, 302, 303, 307, 308].into_iter().flat_map(|status| [(status, false), (status, true)])
    {
        let mut layer = layer(&ours.url);
        if own_header {
            layer = layer.header(OWN);
        }
        let client = ServiceBuilder::new().layer(FollowRedirectLayer::new()).layer(layer).service(hyper_client());
        // The redirect goes to another port.
        get(client.clone(), format!("{}/?to={}/&code={status}", ours.url, foreign.url)).await;
        assert_eq!((ours.keys(), foreign.keys()), (vec![true], vec![false]), "{status} {own_header}");
        // The redirect stays within the origin, as an absolute and as a relative URL.
        for to in [format!("{}/next", ours.url), "/next".to_owned()] {
            get(client.clone(), format!("{}/?to={to}&code={status}", ours.url)).await;
            assert_eq!(ours.keys(), [true, true], "{status} {own_header} {to}");
        }
        // The same server under another name is another origin.
        let alias = ours.url.replace("127.0.0.1", "localhost");
        get(client.clone(), format!("{}/?to={alias}/&code={status}", ours.url)).await;
        assert_eq!(ours.keys(), [true, false], "{status} {own_header}");
        // The redirect leaves the origin and returns to it: each hop is checked individually.
        let (a, b) = (&ours.url, &foreign.url);
        get(client, format!("{a}/?to={b}/&code={status}&to={a}/&code={status}")).await;
        assert_eq!((ours.keys(), foreign.keys()), (vec![true, true], vec![false]), "{status} {own_header}");
    }
}

/// Shows why the layer exists: a header that is merely set is also sent to the other origin.
#[tokio::test]
async fn a_naive_client_gives_the_key_away() {
    let (ours, foreign) = (Site::start().await, Site::start().await);
    let uri = format!("{}/?to={}/&code=302", ours.url, foreign.url);
    let naive = MapRequestLayer::new(|mut request: Request<Full<Bytes>>| {
        request.headers_mut().insert(OWN, HeaderValue::from_static(KEY));
        request
    });
    let redirects = FollowRedirectLayer::new();
    let outside = ServiceBuilder::new().layer(naive.clone()).layer(redirects.clone()).service(hyper_client());
    get(outside, uri.clone()).await;
    assert_eq!((ours.keys(), foreign.keys()), (vec![true], vec![true]));
    let inside = ServiceBuilder::new().layer(redirects).layer(naive.clone()).service(hyper_client());
    get(inside, uri.clone()).await;
    assert_eq!((ours.keys(), foreign.keys()), (vec![true], vec![true]));
    // Outside of the redirects our layer cannot see the second hop, as its documentation says.
    let attach = layer(&ours.url).header(OWN);
    let wrong = ServiceBuilder::new().layer(attach.clone()).layer(FollowRedirectLayer::new()).service(hyper_client());
    get(wrong, uri.clone()).await;
    assert_eq!(foreign.keys(), [true]);
    // Inside of the redirects it removes a copied key, whichever layer has set it.
    let mended =
        ServiceBuilder::new().layer(naive).layer(FollowRedirectLayer::new()).layer(attach).service(hyper_client());
    get(mended, uri).await;
    assert_eq!(foreign.keys(), [false]);
}

#[tokio::test]
async fn tonic_clients_that_name_their_origin_carry_the_key() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    let digest = ApiKey::new(KEY).digest();
    let keys = format!(r#"{{"keys":[{{"id":"k","digest":"{digest}","permissions":{{"health":"read"}}}}]}}"#);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(tonic_example::serve(listener, KeyFile::parse(&keys, "keys.json").unwrap()));
    let channel = tonic::transport::Endpoint::from_shared(url.clone()).unwrap().connect().await.unwrap();
    let attached = layer(&url).layer(channel);
    let request = || HealthCheckRequest { service: String::new() };
    let mut client = HealthClient::with_origin(attached.clone(), url.parse().unwrap());
    client.check(request()).await.unwrap();
    let refused = HealthClient::new(attached).check(request()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated, "without an origin nobody can tell where it goes");
}
