//! Counts the allocations that an allowed and a refused request cost beyond the bare service.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use http::{Request, Response};
use tower::{Layer as _, Service, service_fn};
use tower_authz::{
    Authz, Dimension, Directory, Grant, Head, PeerAddress, Policy, Rule, check::EntityRef, reject::Empty,
};

use crate::support::{KEY, record, store_of};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

#[allow(unsafe_code, reason = "there is no other way to count allocations; it only forwards")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's guarantees are passed on unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's guarantees are passed on unchanged.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(work: impl FnOnce()) -> usize {
    let before = COUNT.with(Cell::get);
    work();
    COUNT.with(Cell::get) - before
}

fn request(key: &str, path: &str) -> Request<()> {
    let mut request = Request::get(path)
        .header("authorization", format!("Bearer {key}"))
        .header("host", "localhost")
        .body(())
        .unwrap();
    // Every server inserts the peer's address, so the map of extensions is already allocated.
    request.extensions_mut().insert(PeerAddress(([10, 0, 0, 7], 4711).into()));
    request
}

/// Counts the allocations of a call, without those of the request and the response themselves.
fn cost<S>(service: &mut S, request: Request<()>) -> (u16, usize)
where
    S: Service<Request<()>, Response = Response<()>, Error = std::convert::Infallible>,
{
    let mut outcome = None;
    let allocations = count(|| {
        let response = futures::FutureExt::now_or_never(service.call(request)).unwrap().unwrap();
        outcome = Some(response.status().as_u16());
        drop(response);
    });
    (outcome.unwrap(), allocations)
}

#[test]
fn an_allowed_request_costs_one_allocation_and_a_refused_one_few() {
    let bare = || {
        service_fn(|request: Request<()>| async move {
            drop(request);
            Ok::<_, std::convert::Infallible>(Response::new(()))
        })
    };
    let grant = Grant::builder()
        .write("orders")
        .only("shop", ["de", "ch"])
        .except("company", [3])
        .from_networks(["10.0.0.0/8", "192.0.2.0/24"])
        .build()
        .unwrap();
    let directory = Directory::builder().shop("de", Some("1")).shop("us", Some("3")).build().unwrap();
    let rule = Rule::resource("orders").scoped(EntityRef::from_path(Dimension::SHOP, "shop"));
    let policy = Policy::builder().route("/shops/{shop}/countries/{country}/orders/{id}", rule).build().unwrap();
    let authz = Authz::new(store_of([record("k", KEY, grant)], directory), policy).with_rejection(Empty);
    let mut silent = authz.clone().without_principal().layer(bare());
    let checked =
        Policy::builder().route("/{*rest}", Rule::authenticated().check(|_: &Head<'_>| Ok(()))).build().unwrap();
    let mut checked = Authz::new(store_of([], Directory::default()), checked).with_rejection(Empty).layer(bare());
    let mut guarded = authz.layer(bare());
    let path = "/shops/de/countries/at/orders/7";
    // The first request initializes thread-local state, so it is not counted.
    cost(&mut guarded, request(KEY, path));
    assert_eq!(cost(&mut silent, request(KEY, path)), cost(&mut bare(), request(KEY, path)), "none, without principal");
    let (_, without) = cost(&mut bare(), request(KEY, path));
    // Whatever the way to the store.
    cost(&mut checked, request("another-key-altogether", path));
    let (status, with) = cost(&mut checked, request("another-key-altogether", path));
    assert_eq!((status, with - without), (401, 5 + usize::from(cfg!(feature = "metrics"))));
    for (what, key, path, status, beyond) in [
        ("allowed", KEY, path, 200, 1),
        ("unknown key", "another-key-altogether", path, 401, 5),
        ("malformed key", "short", path, 401, 5),
        ("foreign shop", KEY, "/shops/us/countries/at/orders/7", 403, 6),
    ] {
        // The first of a kind is rendered, and those that follow are copies.
        cost(&mut guarded, request(key, path));
        let (got, with) = cost(&mut guarded, request(key, path));
        assert_eq!(got, status, "{what}");
        // The label of a counter is one more allocation.
        let counted = usize::from(cfg!(feature = "metrics") && status != 200);
        assert_eq!(with - without, beyond + counted, "{what}");
    }
}
