use std::task::{Context, Poll};

use axum::{
    Router,
    extract::{Request, connect_info::IntoMakeServiceWithConnectInfo},
};
use tower::Service;
use tower_layer::Layer;

use crate::{gate::Authenticate, reject::Problem};

/// The gate and the router in it, made by [`GuardedRouter::guard`](crate::GuardedRouter::guard): a service to be served,
/// tested, or nested in another router by `nest_service`.
///
/// # Example
/// ```no_run
/// use std::net::SocketAddr;
///
/// use tower_authz::{Authz, GuardedRouter, store::MemoryStore};
///
/// # async fn serve(routes: GuardedRouter) -> Result<(), Box<dyn std::error::Error>> {
/// let app = routes.guard(Authz::from_store(MemoryStore::new()))?;
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
/// axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Guarded<T = Authenticate<Router, Problem>>(pub(super) T);

impl<T> Guarded<T> {
    /// Wraps the gate: the layer sees every request before it is decided, and every refusal.
    pub fn layer<L: Layer<T>>(self, layer: L) -> Guarded<L::Service> {
        Guarded(layer.layer(self.0))
    }

    /// What `axum::serve` takes, without the address of the peer: every key that is bound to networks is refused then.
    pub fn into_make_service(self) -> axum::routing::IntoMakeService<Self>
    where
        Self: Service<Request>,
    {
        axum::ServiceExt::<Request>::into_make_service(self)
    }

    /// What `axum::serve` takes, with the address of the peer: `into_make_service_with_connect_info::<SocketAddr>()`.
    pub fn into_make_service_with_connect_info<C>(self) -> IntoMakeServiceWithConnectInfo<Self, C>
    where
        Self: Service<Request>,
    {
        axum::ServiceExt::<Request>::into_make_service_with_connect_info(self)
    }
}

impl<T, Q> Service<Q> for Guarded<T>
where
    T: Service<Q>,
{
    type Response = T::Response;
    type Error = T::Error;
    type Future = T::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Q) -> T::Future {
        self.0.call(request)
    }
}
