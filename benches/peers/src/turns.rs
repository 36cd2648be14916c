//! Three ways to take a turn, each of which times nothing but the contender.

use std::{convert::Infallible, hint::black_box};

use futures::FutureExt as _;
use http::{Request, Response};
use tower::{Service, service_fn};

use crate::measure::Turn;

/// The service is behind a pointer, so that the compiler cannot inline it into the loop that times it.
pub type Boxed<B, R> = Box<dyn FnMut(Request<B>) -> Response<R>>;

pub fn boxed<S, B, R>(mut service: S) -> Boxed<B, R>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible> + 'static,
{
    Box::new(move |request| {
        let answer = service.call(request).now_or_never().expect("nothing here waits");
        answer.unwrap_or_else(|never| match never {})
    })
}

/// Asserts the status of the response once, before anything is timed.
#[track_caller]
pub fn answers<B: Default, R>(service: &mut Boxed<B, R>, request: Request<()>, status: u16) {
    assert_eq!(service(request.map(|()| B::default())).status(), status);
}

/// The request inside of the response.
#[derive(Default)]
pub struct Carried(Option<Request<()>>);

/// Returns the request in the response, as a service that does nothing else would.
pub fn carry_back() -> impl Service<Request<()>, Response = Response<Carried>, Error = Infallible> + Clone {
    service_fn(async |request: Request<()>| Ok(Response::new(Carried(Some(request)))))
}

/// An admitted request comes back in the response and is sent again, so that no clone of it is timed.
pub fn carried(mut service: Boxed<(), Carried>, request: Request<()>) -> Turn {
    let mut next = Some(request);
    Box::new(move |meter, iterations| {
        meter.watch(|| {
            for _ in 0..iterations {
                let response = service(next.take().expect("the request came back"));
                assert_eq!(response.status(), 200, "what is timed was admitted");
                next = response.into_body().0;
            }
        });
    })
}

/// Sends a new request each time, which is dropped with its response. The requests are cloned while the clock is
/// stopped, and few at a time, so that they stay in the cache.
pub fn fresh<B, R>(mut service: Boxed<B, R>, request: Request<()>, status: u16) -> Turn
where
    B: Default + 'static,
    R: 'static,
{
    const BATCH: u32 = 64;
    let mut batch = Vec::with_capacity(BATCH as usize);
    Box::new(move |meter, iterations| {
        let mut left = iterations;
        while left > 0 {
            let size = left.min(BATCH);
            batch.extend((0..size).map(|_| request.clone().map(|()| B::default())));
            meter.watch(|| {
                for request in batch.drain(..) {
                    assert_eq!(service(request).status(), status, "what is timed was answered as it should");
                }
            });
            left -= size;
        }
    })
}

/// Calls a function that knows nothing of HTTP.
#[track_caller]
pub fn asked<Q: 'static>(mut allows: impl FnMut(&Q) -> bool + 'static, allowed: Q, refused: &Q) -> Turn {
    assert!(allows(&allowed), "the request is allowed");
    assert!(!allows(refused), "its twin is refused");
    Box::new(move |meter, iterations| {
        meter.watch(|| {
            for _ in 0..iterations {
                assert!(allows(black_box(&allowed)), "what is timed was allowed");
            }
        });
    })
}
