//! Serves one of the routers on loopback for a load generator: `.ci/load` starts one server for each router.
//!
//! `server <variant> <port>` speaks HTTP/1, and HTTP/2 to clients that start with its preface. As everywhere in this
//! crate, an unexpected result may panic.

use std::{
    env,
    net::{Ipv4Addr, SocketAddr},
    num::NonZero,
    process::ExitCode,
};

use axum::{Router, serve::ListenerExt as _};
use peers::{
    gates,
    request::{FOREIGN_PATH, KNOWN, PATH, UNKNOWN, key, networks_with_loopback},
};
use tokio::{net::TcpListener, runtime};
use tower_authz::{Authenticate, Guarded, reject::Empty};

const USAGE: &str = "\
usage: server bare|ours|hand-rolled|bearer PORT   answers on 127.0.0.1:PORT
       server requests                            tells what to ask: name, path and key of each request";

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [word] if word == "requests" => requests(),
        [variant, port] => match (application(variant), port.parse::<NonZero<u16>>()) {
            (Some(application), Ok(port)) => serve(application, port.get()),
            _ => return usage(),
        },
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

enum Application {
    Router(Router),
    /// One list of routes, as the README shows it.
    OneList(Guarded<Authenticate<Router, Empty>>),
}

fn application(variant: &str) -> Option<Application> {
    let networks = networks_with_loopback();
    Some(Application::Router(match variant {
        "ours" => return Some(Application::OneList(gates::ours::one_list(&networks))),
        "bare" => gates::bare(),
        "hand-rolled" => gates::hand_rolled::router(&networks),
        "bearer" => gates::bearer::router(),
        _ => return None,
    }))
}

fn requests() {
    let requests = [("admitted", PATH, KNOWN), ("unknown-key", PATH, UNKNOWN), ("foreign-shop", FOREIGN_PATH, KNOWN)];
    for (name, path, number) in requests {
        println!("{name} {path} {}", key(number));
    }
}

/// Serves on one thread, so that the CPU time of the process is the CPU time of the requests.
fn serve(application: Application, port: u16) {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("the runtime starts");
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("the port is free");
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("the option can be set"));
        println!("listening");
        let served = match application {
            Application::Router(router) => {
                axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await
            }
            Application::OneList(routes) => {
                axum::serve(listener, routes.into_make_service_with_connect_info::<SocketAddr>()).await
            }
        };
        served.expect("it goes on for ever");
    });
}
