//! Integration with axum: [`Principal`] and [`Scope`] are extractors, and [`Denial`] and
//! [`StoreError`](crate::store::StoreError) are responses.

mod guarded;
mod store_error;
pub mod testing;

use std::convert::Infallible;

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::request::Parts,
    response::{IntoResponse, Response},
};

pub use self::guarded::{Guarded, GuardedRouter, RouteRules};
use crate::{
    client_address::ClientAddress,
    denial::{Cause, Denial},
    principal::{Principal, Scope},
    reject::{self, HandlerDenial, Problem, Reject},
};

/// Refuses with 500 and a message for the developer if no key was authenticated, because the route is public or has no
/// layer of this crate.
impl<S: Sync> FromRequestParts<S> for Principal {
    type Rejection = Denial;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Denial> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            Cause::Misconfigured(
                "a handler extracts Principal, but no key was authenticated: the route is public, or has no \
                 AuthenticateLayer or Authz around it; where a key may be there or not, give the route a rule that is \
                 `optional`, and take Option<Principal>",
            )
            .into()
        })
    }
}

/// Extracts `None` if no key was authenticated: always on public routes, where no key is looked at, and for requests without
/// one where the rule is [`optional`](crate::Rule::optional). `None` never means an invalid key: a request with one was
/// refused before.
impl<S: Sync> OptionalFromRequestParts<S> for Principal {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

/// Extracts the address of the client, on public routes as well. It never refuses: an unknown address is
/// [`ClientAddress::UNKNOWN`].
impl<S: Sync> FromRequestParts<S> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let known = parts.extensions.get::<Principal>().map(Principal::client_address);
        let known = known.or_else(|| parts.extensions.get::<Self>().copied());
        Ok(known.unwrap_or_else(|| Self::from_peer(&parts.extensions)))
    }
}

/// Extracts the scope of the one dimension that the rule of the route declares as filtered.
impl<S: Sync> FromRequestParts<S> for Scope {
    type Rejection = Denial;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Denial> {
        let principal = <Principal as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        Self::from_route(&principal)
    }
}

/// Extracts `None` if no key was authenticated. A route that filters nothing is still refused.
impl<S: Sync> OptionalFromRequestParts<S> for Scope {
    type Rejection = Denial;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Denial> {
        parts.extensions.get::<Principal>().map(Self::from_route).transpose()
    }
}

/// Renders the denial with [`Problem`]. A [`RequireLayer`](crate::RequireLayer) or [`Authz`](crate::Authz) around the
/// handler renders it again in the dialect of the API.
impl IntoResponse for Denial {
    fn into_response(self) -> Response {
        let mut response: Response = Problem.reject(&self);
        reject::complete(&mut response, &self);
        response.extensions_mut().insert(HandlerDenial);
        response.extensions_mut().insert(self);
        response
    }
}
