//! Tests policies that are replaced while services run: which requests a new policy is in force for, that no request is
//! judged by two, and which policies are refused.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, executor::block_on};
use http::{Method, Request, Response, StatusCode, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, Full};
use tokio::sync::Notify;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};
use tower_authz::{
    Access, Authz, ConfigError, Denial, Digest, Dimension, Grant, Head, IdGrammar, KeyFormats, Policy, PolicyBuilder,
    PolicyHandle, Principal, Rule,
    store::{KeyAdmin as _, KeyStore, Lookup, MemoryStore, NewKey, StoreSettings},
};

use crate::support::{Handler, KEY, Mood, MoodyStore, find, format, get, products_reader, send, store};

fn products() -> Rule {
    Rule::resource("products").unscoped()
}

/// A policy with one rule, for `/products`.
fn one(rule: Rule) -> Policy {
    Policy::builder().route("/products", rule).build().unwrap()
}

/// A policy that refuses the key of these tests, whose kind is not this.
fn closed() -> Policy {
    one(products().kind("admin"))
}

fn public() -> Policy {
    Policy::builder().public("/products").build().unwrap()
}

fn anonymous(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).body(Full::default()).unwrap()
}

async fn status<S>(service: &S, request: Request<Full<Bytes>>) -> u16
where
    S: Service<Request<Full<Bytes>>, Response = Response<Full<Bytes>>, Error = Infallible> + Clone,
{
    send(service.clone(), request).await.0.as_u16()
}

#[test]
fn a_handle_goes_everywhere() {
    fn check<T: Clone + Send + Sync + std::fmt::Debug + 'static>(_: T) {}
    check(PolicyHandle::new(closed()));
}

/// Services that were cloned before, and other threads, see a new policy as soon as `replace` has returned.
#[test]
fn a_policy_is_in_force_when_replace_has_returned() {
    let handle = PolicyHandle::new(one(products()));
    let service = Authz::new(store(products_reader()), &handle).layer(Handler::default());
    let (ask, asked) = mpsc::sync_channel::<()>(0);
    let (answer, answered) = mpsc::sync_channel(0);
    let elsewhere = service.clone();
    let other = thread::spawn(move || {
        asked.iter().for_each(|()| answer.send(block_on(status(&elsewhere, get("/products")))).unwrap());
    });
    for round in 0..200 {
        let (policy, expected) = if round % 2 == 0 { (closed(), 403) } else { (one(products()), 200) };
        handle.replace(policy).unwrap();
        ask.send(()).unwrap();
        assert_eq!(block_on(status(&service, get("/products"))), expected);
        assert_eq!(answered.recv().unwrap(), expected);
    }
    drop(ask);
    other.join().unwrap();
}

#[tokio::test]
async fn a_route_becomes_public_and_is_closed_again() {
    let handle = PolicyHandle::new(one(products()));
    let service = Authz::new(store(products_reader()), handle.clone()).layer(Handler::default());
    for (policy, without_key, with_key, elsewhere) in [
        (public(), 200, 200, 401),
        (one(products()), 401, 200, 401),
        (one(products().optional()), 200, 200, 401),
        (public(), 200, 200, 401),
        (closed(), 401, 403, 401),
        (Policy::builder().public("/other").build().unwrap(), 401, 404, 200),
        (Policy::builder().build().unwrap(), 401, 404, 401),
    ] {
        handle.replace(policy).unwrap();
        assert_eq!(status(&service, anonymous("/products")).await, without_key);
        assert_eq!(status(&service, get("/products")).await, with_key);
        assert_eq!(status(&service, anonymous("/other")).await, elsewhere);
    }
}

/// A store whose look-ups wait until they are released.
#[derive(Clone)]
struct SlowStore {
    keys: MemoryStore,
    release: Arc<Notify>,
}

impl KeyStore for SlowStore {
    fn lookup(&self, digest: &Digest) -> Lookup {
        let (release, found) = (Arc::clone(&self.release), find(&self.keys, digest));
        Lookup::pending(async move {
            release.notified().await;
            found.await
        })
    }

    fn formats(&self) -> KeyFormats {
        format().into()
    }
}

/// A policy whose own check demands that the principal is there and the credential gone.
fn with_user_code() -> Policy {
    one(products().check(|head: &Head<'_>| {
        let is_prepared = head.extensions().get::<Principal>().is_some() && !head.headers().contains_key(AUTHORIZATION);
        if is_prepared { Ok(()) } else { Err(Denial::refused("the request is not prepared for checks")) }
    }))
}

#[tokio::test]
async fn a_request_that_waits_for_its_store_is_judged_by_the_policy_that_it_began_with() {
    let elsewhere = || Policy::builder().route("/elsewhere", products()).build().unwrap();
    for (began_with, replaced_by, expected) in [
        (one(products()), closed(), 200),
        (closed(), one(products()), 403),
        (one(products()), elsewhere(), 200),
        (elsewhere(), one(products()), 404),
        (one(products()), with_user_code(), 200),
        (with_user_code(), one(products()), 200),
        (closed(), public(), 403),
    ] {
        let store = SlowStore { keys: store(products_reader()), release: Arc::default() };
        let handle = PolicyHandle::new(began_with);
        let service = Authz::new(store.clone(), &handle).remove_credential().layer(Handler::default());
        let mut waiting = Box::pin(service.clone().oneshot(get("/products")));
        assert!((&mut waiting).now_or_never().is_none());
        handle.replace(replaced_by.clone()).unwrap();
        let mut next = Box::pin(service.oneshot(get("/products")));
        let answered = (&mut next).now_or_never();
        store.release.notify_waiters();
        assert_eq!(waiting.await.unwrap().status(), expected, "{replaced_by:?}");
        // The next request is judged by the new policy.
        let next = match answered {
            Some(answer) => answer.unwrap(),
            None => next.await.unwrap(),
        };
        let service = Authz::new(store.keys, replaced_by).remove_credential().layer(Handler::default());
        assert_eq!(next.status().as_u16(), status(&service, get("/products")).await);
    }
}

/// The policy that a request began with also says whether its handler runs to its end.
#[tokio::test]
async fn requests_in_flight_are_ended_by_the_policy_that_they_began_with() {
    let with = |finishes: bool| {
        let builder = Policy::builder().route("/wait", Rule::authenticated()).route("/stream", Rule::authenticated());
        if finishes { builder.finish_in_flight().build().unwrap() } else { builder.build().unwrap() }
    };
    for finishes in [true, false] {
        let store = MemoryStore::new();
        let key = store.as_actor("test").issue(NewKey::new("k", Grant::default())).await.unwrap();
        let handle = PolicyHandle::new(with(finishes));
        let release = Arc::new(Notify::new());
        let handler = {
            let release = Arc::clone(&release);
            service_fn(move |request: Request<axum::body::Body>| {
                let release = Arc::clone(&release);
                async move {
                    if request.uri().path() == "/wait" {
                        release.notified().await;
                        return Ok::<_, Infallible>(Response::new(axum::body::Body::from("done")));
                    }
                    let chunks = futures::stream::unfold(release, async |release| {
                        release.notified().await;
                        Some((Ok::<_, Infallible>("chunk"), release))
                    });
                    Ok(Response::new(axum::body::Body::from_stream(chunks)))
                }
            })
        };
        let service = Authz::new(store.clone(), &handle).layer(handler);
        let begin = |path: &str| {
            let request = Request::get(path).header("x-api-key", key.api_key.expose());
            tokio::spawn(service.clone().oneshot(request.body(axum::body::Body::empty()).unwrap()))
        };
        let first = begin("/wait");
        let mut first_stream = begin("/stream").await.unwrap().unwrap().into_body();
        tokio::time::sleep(Duration::from_millis(30)).await;
        handle.replace(with(!finishes)).unwrap();
        let second = begin("/wait");
        let mut second_stream = begin("/stream").await.unwrap().unwrap().into_body();
        tokio::time::sleep(Duration::from_millis(30)).await;
        store.as_actor("test").revoke(key.record.id(), "lost").await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
        let releasing = tokio::spawn(async move {
            loop {
                release.notify_waiters();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        for (waiting, stream, runs_on) in
            [(first, &mut first_stream, finishes), (second, &mut second_stream, !finishes)]
        {
            assert_eq!(waiting.await.unwrap().unwrap().status(), if runs_on { 200 } else { 401 });
            assert_eq!(stream.frame().await.unwrap().is_ok(), runs_on);
        }
        releasing.abort();
    }
}

/// Everything else that a policy says of requests is replaced as well.
#[tokio::test]
async fn nothing_of_the_old_policy_stays() {
    let preflight = || {
        let request = Request::options("/products").header("origin", "https://a.example");
        request.header("access-control-request-method", "GET").body(Full::default()).unwrap()
    };
    let shadowed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&shadowed);
    let with_shadow = one(products()).with_shadow(closed(), move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let allowing = Policy::builder().route("/products", products()).allow_preflight().build().unwrap();
    let handle = PolicyHandle::new(one(products()));
    let service = Authz::new(store(products_reader()), &handle).remove_credential().layer(Handler::default());
    assert_eq!(status(&service, preflight()).await, 401);
    handle.replace(allowing).unwrap();
    assert_eq!(status(&service, preflight()).await, 200);
    handle.replace(with_shadow).unwrap();
    assert_eq!(status(&service, preflight()).await, 401);
    assert_eq!(status(&service, get("/products")).await, 200);
    assert_eq!(shadowed.load(Ordering::SeqCst), 1);
    // The keys are in memory: the request is changed before it is judged only if the policy runs code of the user's own.
    handle.replace(with_user_code()).unwrap();
    assert_eq!(status(&service, get("/products")).await, 200);
    assert_eq!(shadowed.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn checks_of_the_users_own_find_a_principal_after_a_replacement() {
    let sees_principal = one(products().check(|head: &Head<'_>| match head.extensions().get::<Principal>() {
        Some(_) => Ok(()),
        None => Err(Denial::refused("no principal")),
    }));
    let handle = PolicyHandle::new(one(products()));
    let service = Authz::new(store(products_reader()), &handle).layer(Handler::default());
    assert_eq!(status(&service, get("/products")).await, 200);
    handle.replace(sees_principal).unwrap();
    assert_eq!(status(&service, get("/products")).await, 200);
}

#[tokio::test]
async fn exceptions_from_https_follow() {
    let both = || Policy::builder().public("/products").public("/health").build().unwrap();
    let handle = PolicyHandle::new(both());
    let authz = Authz::new(store(products_reader()), &handle).https_only_except(["/health", "/new"]);
    let service = authz.layer(Handler::default());
    let asked = async |path: &str| (status(&service, anonymous(path)).await, status(&service, get(path)).await);
    assert_eq!(asked("/health").await, (200, 200));
    assert_eq!(asked("/products").await, (403, 403));
    assert_eq!(asked("/new").await, (403, 403));
    // The rule does not admit plain HTTP, whatever the key.
    let closed = Policy::builder().route("/health", products()).public("/new").build().unwrap();
    handle.replace(closed).unwrap();
    assert_eq!(asked("/health").await, (403, 403));
    assert_eq!(asked("/new").await, (200, 200));
    handle.replace(both()).unwrap();
    assert_eq!(asked("/health").await, (200, 200));
    assert_eq!(asked("/new").await, (403, 403));
}

/// Each of two policies denies a request that half of one and half of the other would admit: by plain HTTP, which the first
/// exempts, though its public route knows no such method, and which the second does not, though its rule knows the method.
#[test]
fn no_request_is_judged_by_a_mixture() {
    let first = || Policy::builder().public("/probe").route("/products", products().kind("admin")).build().unwrap();
    let second = || {
        let purge = products().method("PURGE".parse::<Method>().unwrap(), Access::Read);
        Policy::builder()
            .route("/probe", purge)
            .route("/products", Rule::resource("orders").unscoped())
            .build()
            .unwrap()
    };
    let request = |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).header(AUTHORIZATION, format!("Bearer {KEY}"));
        request.body(Full::<Bytes>::default()).unwrap()
    };
    for mood in [Mood::AtOnce, Mood::Later] {
        let store = MoodyStore { mood, keys: store(products_reader()) };
        let handle = PolicyHandle::new(first());
        let authz = Authz::new(store, &handle);
        let plain = authz.clone().https_only_except(["/probe"]).layer(Handler::default());
        let open = authz.layer(Handler::default());
        let done = AtomicBool::new(false);
        let seen = Mutex::new(std::collections::BTreeSet::new());
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        handle.replace(second()).unwrap();
                        handle.replace(first()).unwrap();
                    }
                });
            }
            let asking: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut answers = std::collections::BTreeSet::new();
                        for _ in 0..4000 {
                            answers.insert(("plain", block_on(status(&plain, request("PURGE", "/probe")))));
                            answers.insert(("open", block_on(status(&open, request("GET", "/products")))));
                        }
                        seen.lock().unwrap().extend(answers);
                    })
                })
                .collect();
            asking.into_iter().for_each(|asking| asking.join().unwrap());
            done.store(true, Ordering::Relaxed);
        });
        let seen = seen.into_inner().unwrap();
        let expected = [("open", 403), ("plain", 403), ("plain", 405)];
        assert!(seen.iter().all(|answer| expected.contains(answer)), "{mood:?}: {seen:?}");
        assert!(
            seen.contains(&("plain", 403)) && seen.contains(&("plain", 405)),
            "{mood:?}: both were in force: {seen:?}"
        );
    }
}

#[tokio::test]
async fn a_policy_that_the_callback_refuses_changes_nothing() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&calls);
    let handle = PolicyHandle::with_callback(one(products()), move |old, new| {
        log.lock().unwrap().push((old.export()?, new.export()?));
        match new.audit(["/products"]) {
            audit if audit.is_complete() => Ok(()),
            audit => Err(ConfigError::new(audit.to_string())),
        }
    });
    let service = Authz::new(store(products_reader()), &handle).layer(Handler::default());
    assert!(calls.lock().unwrap().is_empty(), "the first policy is none that replaces another");
    let before = handle.current();
    let other = || Policy::builder().public("/other").build().unwrap();
    let error = handle.replace(other()).unwrap_err();
    assert!(error.to_string().contains("the route /products has no rule"), "{error}");
    assert!(Arc::ptr_eq(&before, &handle.current()));
    assert_eq!(status(&service, get("/products")).await, 200);
    assert_eq!(status(&service, anonymous("/other")).await, 401);
    handle.replace(closed()).unwrap();
    assert_eq!(status(&service, get("/products")).await, 403);
    handle.replace(before).unwrap();
    assert_eq!(status(&service, get("/products")).await, 200);
    let export = |policy: Policy| policy.export().unwrap();
    let [open, closed] = [one(products()), closed()].map(export);
    let expected = [(open.clone(), export(other())), (open.clone(), closed.clone()), (closed, open)];
    assert_eq!(*calls.lock().unwrap(), expected);
}

/// Each callback is called with the policy that the one before has put in force, and is not run beside another.
#[test]
fn replacements_are_serialised() {
    let numbered = |number: usize| Policy::builder().public(&format!("/{number}")).build().unwrap();
    let name = |policy: &Policy| policy.patterns().next().unwrap().to_owned();
    let (last, inside) = (Mutex::new("/0".to_owned()), AtomicBool::new(false));
    let handle = PolicyHandle::with_callback(numbered(0), move |old, new| {
        assert!(!inside.swap(true, Ordering::SeqCst), "two at a time");
        let previous = std::mem::replace(&mut *last.lock().unwrap(), name(new));
        thread::yield_now();
        inside.store(false, Ordering::SeqCst);
        assert_eq!(previous, name(old));
        Ok(())
    });
    thread::scope(|scope| {
        for thread in 1..=4 {
            let handle = &handle;
            scope.spawn(move || (0..50).for_each(|n| handle.replace(numbered(thread * 100 + n)).unwrap()));
        }
    });
}

#[test]
fn a_callback_that_replaces_or_panics_locks_nobody_out() {
    let own = Arc::new(Mutex::new(None::<PolicyHandle>));
    let inner = Arc::clone(&own);
    let handle = PolicyHandle::with_callback(public(), move |_, new| {
        assert!(new.patterns().next().is_some(), "a callback that panics");
        let handle = inner.lock().unwrap().clone().unwrap();
        // A service that is made meanwhile does not wait for the callback.
        drop(Authz::new(MemoryStore::new(), &handle));
        handle.replace(public())
    });
    *own.lock().unwrap() = Some(handle.clone());
    let before = handle.current();
    let error = handle.replace(closed()).unwrap_err();
    assert!(error.to_string().contains("must not replace the policy itself"), "{error}");
    let empty = Policy::builder().build().unwrap();
    let panics = std::panic::AssertUnwindSafe(|| handle.replace(empty));
    assert!(std::panic::catch_unwind(panics).is_err());
    assert!(handle.replace(closed()).is_err(), "and the turn is not taken for ever");
    assert!(Arc::ptr_eq(&before, &handle.current()));
}

/// A check of a policy that is dropped, and one that runs, may replace the policy.
#[tokio::test]
async fn checks_may_replace_the_policy_that_they_belong_to() {
    let own = Arc::new(Mutex::new(None::<PolicyHandle>));
    let inner = Arc::clone(&own);
    let replacing = products().check(move |_: &Head<'_>| {
        let handle = inner.lock().unwrap().clone().unwrap();
        handle.replace(closed()).map_err(|_| Denial::refused("it could not be replaced"))
    });
    let handle = PolicyHandle::new(one(replacing));
    *own.lock().unwrap() = Some(handle.clone());
    let service = Authz::new(store(products_reader()), &handle).layer(Handler::default());
    assert_eq!(status(&service, get("/products")).await, 200);
    assert_eq!(status(&service, get("/products")).await, 403);
}

const PROJECT: Dimension = Dimension::new("project", IdGrammar::Number);

fn projects(dimension: Dimension) -> Policy {
    let project = tower_authz::check::EntityRef::from_path(dimension, "project");
    Policy::builder().route("/projects/{project}", products().scoped(project)).build().unwrap()
}

/// An exclude list of a key cannot be kept by a policy that spells its ids otherwise than the store.
#[tokio::test]
async fn a_policy_that_does_not_fit_the_store_of_a_service_is_refused() {
    let store = || MemoryStore::with_settings(StoreSettings::new().with_dimension(PROJECT));
    let slugs = || projects(Dimension::named("project"));
    let handle = PolicyHandle::new(projects(PROJECT));
    let service = Authz::try_new(store(), &handle).unwrap().layer(Handler::default());
    let error = handle.replace(slugs()).unwrap_err();
    assert!(error.to_string().contains("/projects/{project}"), "{error}");
    assert_eq!(status(&service, anonymous("/projects/7")).await, 401);
    // What a service requires is forgotten with the service, and not before.
    let clone = service.clone();
    drop(service);
    assert!(handle.replace(slugs()).is_err());
    drop(clone);
    handle.replace(slugs()).unwrap();

    // The other way round: a policy that does not fit from the beginning refuses everything, until one that fits replaces it.
    assert!(Authz::try_new(store(), &handle).is_err());
    let service = Authz::new(store(), &handle).layer(Handler::default());
    assert_eq!(status(&service, anonymous("/projects/7")).await, 500);
    assert!(handle.replace(handle.current()).is_err());
    assert_eq!(status(&service, anonymous("/projects/7")).await, 500);
    handle.replace(projects(PROJECT)).unwrap();
    assert_eq!(status(&service, anonymous("/projects/7")).await, 401);
}

/// A service that a callback makes has requirements, too.
#[test]
fn a_service_that_is_made_during_a_replacement_counts() {
    let own = Arc::new(Mutex::new(None::<PolicyHandle>));
    let (made, inner) = (Arc::new(Mutex::new(None)), Arc::clone(&own));
    let keep = Arc::clone(&made);
    let handle = PolicyHandle::with_callback(projects(PROJECT), move |_, _| {
        let handle = inner.lock().unwrap().clone().unwrap();
        let store = MemoryStore::with_settings(StoreSettings::new().with_dimension(PROJECT));
        *keep.lock().unwrap() = Some(Authz::try_new(store, handle)?);
        Ok(())
    });
    *own.lock().unwrap() = Some(handle.clone());
    let before = handle.current();
    assert!(handle.replace(projects(Dimension::named("project"))).is_err());
    assert!(Arc::ptr_eq(&before, &handle.current()));
    drop(made);
}

mod guarded {
    use axum::{Router, body::Body, routing::get};
    use tower_authz::GuardedRouter;

    use super::*;

    fn routes(with_fallback: bool) -> GuardedRouter {
        let files = Router::new().fallback(async || "a file");
        let routes = GuardedRouter::new()
            .route("/products", products(), get(async || "products"))
            .route("/products/{id}", products(), get(async || "a product"))
            .public_tree("/assets", files);
        if with_fallback { routes.public_fallback(async || "the fallback") } else { routes }
    }

    /// A policy for all routes of the router but the one that is named.
    fn without(route: &str) -> PolicyBuilder {
        ["/products", "/products/{id}", "/assets", "/assets/", "/assets/{*rest}"]
            .into_iter()
            .filter(|known| *known != route)
            .fold(Policy::builder(), |policy, pattern| policy.route(pattern, products().kind("admin")))
    }

    #[tokio::test]
    async fn the_rules_of_a_router_are_replaced_for_the_same_routes_only() {
        let routes = routes(false);
        let handle = PolicyHandle::new(routes.policy().unwrap());
        let app = routes.guard(Authz::new(store(products_reader()), &handle)).unwrap();
        let ask = async |path: &str, key: &str| {
            let request = Request::get(path).header(AUTHORIZATION, format!("Bearer {key}"));
            app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status()
        };
        assert_eq!(ask("/products/7", KEY).await, StatusCode::OK);
        assert_eq!(ask("/assets/logo", "").await, StatusCode::OK);
        for (policy, message) in [
            (without("/products/{id}"), "the route /products/{id} has no rule"),
            (without("/assets/{*rest}"), "the route /assets/{*rest} has no rule"),
            (without("").public("/other"), "the rule for /other matches no route"),
            (without("/products/{id}").public("/products/{sku}"), "the rule for /products/{sku} matches no route"),
            (without("").public_fallback(), "the rule for the fallback has no handler"),
        ] {
            let error = handle.replace(policy.build().unwrap()).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
            assert_eq!(ask("/products/7", KEY).await, StatusCode::OK);
            assert_eq!(ask("/other", KEY).await, StatusCode::NOT_FOUND);
        }
        handle.replace(without("").build().unwrap()).unwrap();
        assert_eq!(ask("/products/7", KEY).await, StatusCode::FORBIDDEN);
        assert_eq!(ask("/assets/logo", "").await, StatusCode::UNAUTHORIZED);
    }

    #[test]
    fn so_is_the_rule_of_its_fallback() {
        let routes = routes(true);
        let handle = PolicyHandle::new(routes.policy().unwrap());
        let app = routes.guard(Authz::new(store(products_reader()), &handle)).unwrap();
        let error = handle.replace(without("").build().unwrap()).unwrap_err().to_string();
        assert!(error.contains("the fallback has no rule"), "{error}");
        handle.replace(without("").fallback(products()).build().unwrap()).unwrap();
        drop(app);
        handle.replace(Policy::default()).unwrap();
    }

    #[test]
    fn a_handle_whose_policy_does_not_cover_the_routes_is_refused_at_once() {
        let handle = PolicyHandle::new(without("/products").build().unwrap());
        let error = routes(false).guard(Authz::new(store(products_reader()), &handle)).unwrap_err().to_string();
        assert!(error.contains("the route /products has no rule"), "{error}");
        // What was required by the router that could not be made is forgotten.
        handle.replace(Policy::default()).unwrap();
        // A handle whose policy does not fit the store is an error here, and not a 500 for every request.
        let routes = || {
            let handlers = get(async || "a project");
            let project = tower_authz::check::EntityRef::from_path(Dimension::named("project"), "project");
            GuardedRouter::new().route("/projects/{project}", products().scoped(project), handlers)
        };
        let store = MemoryStore::with_settings(StoreSettings::new().with_dimension(PROJECT));
        let handle = PolicyHandle::new(routes().policy().unwrap());
        let authz = Authz::new(store, &handle);
        assert!(routes().guard(authz.clone()).is_err());
        // A policy for the same routes that fits the store makes it one that can be guarded, and nothing is refused.
        handle.replace(projects(PROJECT)).unwrap();
        let app = routes().guard(authz).unwrap();
        let answer = block_on(app.oneshot(Request::get("/projects/7").body(Body::empty()).unwrap())).unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }
}
