//! Refusals whose response is the same each time: of a request without a key, or with one that nobody has issued. They are
//! rendered once and copied from then on, so that a flood of bad keys costs less than good ones.

use std::{any::TypeId, sync::OnceLock};

use http::{HeaderMap, Response, StatusCode};

use crate::{
    denial::{Cause, Denial, Form},
    gate::config::Config,
    name::Name,
    reject::{self, Reject},
};

/// Why a request is refused before or after its key is known.
pub(super) enum Refused {
    /// The cause, and the route.
    Constant(Constant, Option<Name>),
    Denied(Denial),
}

/// The causes that say nothing of the key or the route.
#[derive(Clone, Copy)]
pub(super) enum Constant {
    Missing,
    Malformed,
    Duplicate,
    Unknown,
}

impl Constant {
    const COUNT: usize = 4;

    fn cause(self) -> Cause {
        match self {
            Self::Missing => Cause::MissingCredential,
            Self::Malformed => Cause::MalformedCredential,
            Self::Duplicate => Cause::DuplicateCredential,
            Self::Unknown => Cause::UnknownKey,
        }
    }
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl From<Cause> for Refused {
    #[cold]
    fn from(cause: Cause) -> Self {
        let constant = match cause {
            Cause::MissingCredential => Constant::Missing,
            Cause::MalformedCredential => Constant::Malformed,
            Cause::DuplicateCredential => Constant::Duplicate,
            Cause::UnknownKey => Constant::Unknown,
            cause => return Self::Denied(cause.into()),
        };
        Self::Constant(constant, None)
    }
}

impl Refused {
    pub(super) fn into_denial(self) -> Denial {
        match self {
            Self::Constant(constant, route) => Denial::from(constant.cause()).on_route(route),
            Self::Denied(denial) => denial,
        }
    }

    pub(super) fn to_denial(&self) -> Denial {
        match self {
            Self::Constant(constant, route) => Denial::from(constant.cause()).on_route(route.clone()),
            Self::Denied(denial) => denial.clone(),
        }
    }

    /// Names the route that it is about.
    pub(super) fn name(&mut self, found: Option<Name>) {
        match self {
            Self::Constant(_, route) => *route = found,
            Self::Denied(denial) => denial.set_route(found),
        }
    }
}

/// The ready responses of a layer, by cause and by the form that the response must have.
#[derive(Default)]
pub(super) struct ReadyRefusals([[OnceLock<Ready>; Form::COUNT]; Constant::COUNT]);

/// The response without its body, and the denial that rides in its extensions.
struct Ready {
    /// What the body is: the head depends on it.
    body: TypeId,
    status: StatusCode,
    headers: HeaderMap,
    denial: Denial,
}

impl ReadyRefusals {
    /// Refuses for one of the constant causes.
    #[cold]
    pub(super) fn refuse<R: Reject<B>, B: 'static>(
        &self,
        config: &Config<R>,
        (constant, route): (Constant, Option<Name>),
        form: Form,
    ) -> Response<B> {
        let slot = self.0.get(constant as usize).and_then(|forms| forms.get(form as usize));
        if let Some(ready) = slot.and_then(OnceLock::get)
            && ready.body == TypeId::of::<B>()
            && let Some(body) = config.reject.constant_body(&ready.denial)
        {
            let denial = ready.denial.about(route);
            reject::record(&denial);
            let mut response = Response::new(body);
            *response.status_mut() = ready.status;
            *response.headers_mut() = ready.headers.clone();
            response.extensions_mut().insert(denial);
            return response;
        }
        let response = config.refuse(Refused::Constant(constant, route).into_denial(), form);
        if let (Some(slot), Some(denial)) = (slot, response.extensions().get::<Denial>())
            && slot.get().is_none()
            && config.reject.constant_body(denial).is_some()
        {
            let (status, headers) = (response.status(), response.headers().clone());
            // Another thread may have been first, with the same response.
            let denial = denial.about(None);
            let _ = slot.set(Ready { body: TypeId::of::<B>(), status, headers, denial });
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        gate::AuthenticateLayer,
        reject::{Empty, Grpc, Logic64, Logik, Problem, Scayle},
        store::MemoryStore,
    };

    /// The second response is a copy of the first, whatever the dialect and the form; a closure is asked each time.
    #[test]
    fn a_copy_is_what_would_be_rendered() {
        fn check<R: Reject<Bytes> + Clone>(reject: R) {
            let sharded = AuthenticateLayer::new(MemoryStore::new()).with_rejection(reject).sharded();
            let shard = sharded.local();
            for constant in [Constant::Missing, Constant::Malformed, Constant::Duplicate, Constant::Unknown] {
                for form in [Form::Usual, Form::Head, Form::Grpc] {
                    let ready = ReadyRefusals::default();
                    let [first, second]: [Response<Bytes>; 2] =
                        std::array::from_fn(|_| ready.refuse(shard, (constant, None), form));
                    let rendered: Response<Bytes> = shard.refuse(constant.cause().into(), form);
                    for response in [&first, &second] {
                        assert_eq!(response.status(), rendered.status());
                        assert_eq!(response.body(), rendered.body());
                        let headers = |response: &Response<Bytes>| {
                            response.headers().iter().map(|(n, v)| (n.clone(), v.clone())).collect::<Vec<_>>()
                        };
                        assert_eq!(headers(response), headers(&rendered), "in the same order");
                        let denial = response.extensions().get::<Denial>().unwrap();
                        assert_eq!(denial.cause(), &constant.cause());
                    }
                }
            }
        }
        check(Problem);
        check(Empty);
        check(Logic64);
        check(Logik);
        check(Scayle);
        check(Grpc::new());
        check(Grpc::new().otherwise(Empty));
        let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = std::sync::Arc::clone(&count);
        check(move |denial: &Denial| {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Problem.reject(denial)
        });
        assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 4 * 3 * 3);
    }
}
