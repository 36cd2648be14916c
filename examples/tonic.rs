//! Runs a gRPC service behind the gate, and a client that shows its answers. The service is the health service of
//! `tonic-health`, whose `Check` requires read access to the resource `health`. Refusals are gRPC statuses.
//!
//! It is configured by `LISTEN` and `KEYS`. The server keeps running: try it with your own gRPC client.

mod common;

use std::{error::Error, io::Write as _, net::SocketAddr, process::ExitCode};

use http::Request;
use tokio::net::TcpListener;
use tonic::{
    Code, Status,
    metadata::{Ascii, MetadataValue},
    transport::{
        Channel, Endpoint, Server,
        server::{TcpConnectInfo, TcpIncoming},
    },
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::util::MapRequestLayer;
use tower_authz::{
    Authz, ConfigError, KeyFile, KeyFormat, PeerAddress, Policy, Rule,
    reject::{Empty, Grpc},
};

const DEMO: common::Demo =
    common::Demo { file: include_str!("data/tonic.json"), keys: include_str!("data/tonic.keys.txt") };

/// A gRPC method is a path, and always a POST, so the rule must declare whether it reads or writes.
fn authz(file: KeyFile) -> Result<Authz<Grpc<Empty>>, ConfigError> {
    let reads = Rule::resource("health").unscoped().method(http::Method::POST, tower_authz::Access::Read);
    let policy = Policy::builder().route("/grpc.health.v1.Health/Check", reads).build()?;
    Ok(Authz::new(common::store(file, KeyFormat::opaque(8, 512)?)?, policy)
        .with_rejection(Grpc::new().otherwise(Empty)))
}

/// Serves until the listener fails.
pub async fn serve(listener: TcpListener, file: KeyFile) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    Server::builder()
        .layer(MapRequestLayer::new(|mut request: Request<_>| {
            let peer = request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
            if let Some(peer) = peer {
                request.extensions_mut().insert(PeerAddress(peer));
            }
            request
        }))
        .layer(authz(file)?)
        .add_service(health)
        .serve_with_incoming(TcpIncoming::from(listener))
        .await?;
    Ok(())
}

/// Calls `Check` with this key.
pub async fn check(channel: Channel, key: Option<&str>) -> Result<(), Status> {
    let mut client = HealthClient::with_interceptor(channel, |mut request: tonic::Request<()>| {
        if let Some(key) = key {
            let value: MetadataValue<Ascii> =
                format!("Bearer {key}").parse().map_err(|_| Status::invalid_argument("the key is not ASCII"))?;
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    });
    client.check(HealthCheckRequest { service: String::new() }).await.map(drop)
}

async fn run() -> Result<(), Box<dyn Error>> {
    let (file, shown) = common::keys(&DEMO)?;
    let listener = common::listen().await?;
    let address: SocketAddr = listener.local_addr()?;
    common::announce(&listener, &shown)?;
    let server = tokio::spawn(serve(listener, file));
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let mut text = String::from("CALL without a key: ");
    text += &outcome(check(channel.clone(), None).await);
    for (name, key) in shown.lines().filter_map(|line| line.strip_prefix("KEY ")?.split_once(' ')) {
        text += &format!("CALL as {name}: {}", outcome(check(channel.clone(), Some(key)).await));
    }
    let _ = std::io::stdout().write_all(text.as_bytes());
    server.await?.map_err(|error| error.to_string().into())
}

fn outcome(called: Result<(), Status>) -> String {
    match called {
        Ok(()) => format!("{:?}\n", Code::Ok),
        Err(status) => format!("{:?}: {}\n", status.code(), status.message()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    common::finish(run().await)
}
