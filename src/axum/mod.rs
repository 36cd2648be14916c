//! For axum: [`Principal`] and [`Scope`] as extractors, [`Denial`] as a response.

pub mod testing;

use std::convert::Infallible;

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::request::Parts,
    response::{IntoResponse, Response},
};

use crate::{
    client_address::ClientAddress,
    denial::{Cause, Denial},
    principal::{Principal, Scope},
    reject::{self, HandlerDenial, Problem, Reject},
};

/// Refuses with 500 and a message for the developer if no key was authenticated: on a public route,
/// or where no layer of ours stands.
impl<S: Sync> FromRequestParts<S> for Principal {
    type Rejection = Denial;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Denial> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            Cause::Misconfigured(
                "a handler extracts Principal, but no key was authenticated: the route is public, or has no \
                 AuthenticateLayer or Authz around it; take Option<Principal> where a key is not needed",
            )
            .into()
        })
    }
}

/// `None` where no key was authenticated, that is on public routes. It never stands for a bad key: that
/// was refused before.
impl<S: Sync> OptionalFromRequestParts<S> for Principal {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

/// The address of the client, on public routes as well. Never refuses: an address that is not known is
/// [`ClientAddress::UNKNOWN`].
impl<S: Sync> FromRequestParts<S> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let known = parts.extensions.get::<Principal>().map(Principal::client_address);
        let known = known.or_else(|| parts.extensions.get::<Self>().copied());
        Ok(known.unwrap_or_else(|| Self::from_peer(&parts.extensions)))
    }
}

/// The scope of the one dimension that the rule of the route calls filtered.
impl<S: Sync> FromRequestParts<S> for Scope {
    type Rejection = Denial;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Denial> {
        let principal = <Principal as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        Self::from_route(&principal)
    }
}

/// `None` where no key was authenticated; a route that filters nothing is still refused.
impl<S: Sync> OptionalFromRequestParts<S> for Scope {
    type Rejection = Denial;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Denial> {
        parts.extensions.get::<Principal>().map(Self::from_route).transpose()
    }
}

/// As [`Problem`] has it; a [`RequireLayer`](crate::RequireLayer) or [`Authz`](crate::Authz) around the
/// handler says it again in the dialect of the API.
impl IntoResponse for Denial {
    fn into_response(self) -> Response {
        let mut response: Response = Problem.reject(&self);
        reject::complete(&mut response, &self);
        response.extensions_mut().insert(HandlerDenial);
        response.extensions_mut().insert(self);
        response
    }
}
