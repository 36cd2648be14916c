//! Passes headers through `AuthenticateLayer`, with every kind of source.
//!
//! This target looks for a panic; a request that is admitted although the first source that is present does not hold
//! exactly the issued key, or refused although it does; and a key that is left readable in the headers.
//!
//! Each line of the input is one header line: a byte that selects the header, then the value, in which `\x01` is
//! replaced by the key and `\x02` by `Bearer `.

#![no_main]

use std::{convert::Infallible, sync::LazyLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use libfuzzer_sys::fuzz_target;
use tower::{ServiceBuilder, ServiceExt as _, service_fn};
use tower_authz::{
    ApiKey, AuthenticateLayer, Directory, KeyFile, KeyFormat, KeyRecord, Source, Sources, store::MemoryStore,
};

const KEY: &str = "l64_abc12345_0123456789abcdef0123456789abcdef";
/// The names are in order of precedence.
const NAMES: [&str; 4] = ["authorization", "x-api-key", "x-access-token", "x-acme-key"];

static LAYER: LazyLock<AuthenticateLayer> = LazyLock::new(|| {
    let record = KeyRecord::builder("l64_abc12345".parse().unwrap(), ApiKey::new(KEY).digest()).build();
    let format = KeyFormat::opaque(16, 128).unwrap();
    let store = MemoryStore::from_file(KeyFile::new([record], Directory::default()), format).unwrap();
    let plain = |name| Source::header(HeaderName::from_static(name));
    AuthenticateLayer::new(store).with_sources(Sources::from([
        Source::bearer(),
        plain(NAMES[1]),
        plain(NAMES[2]).deprecated(std::time::UNIX_EPOCH),
        plain(NAMES[3]),
    ]))
});

fn should_admit(headers: &HeaderMap) -> bool {
    let Some(name) = NAMES.into_iter().find(|name| headers.contains_key(*name)) else { return false };
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    let [line] = *lines else { return false };
    let key = match name {
        "authorization" if line.len() > 7 && line[..7].eq_ignore_ascii_case(b"bearer ") => &line[7..],
        "authorization" => return false,
        _ => line,
    };
    key == KEY.as_bytes()
}

fuzz_target!(|data: &[u8]| {
    let mut request = Request::new(());
    for line in data.split(|&byte| byte == b'\n').take(64) {
        let Some((&choice, text)) = line.split_first() else { continue };
        let name = NAMES.get(usize::from(choice) % 5).copied().unwrap_or("x-other");
        let mut value = Vec::new();
        for &byte in text {
            match byte {
                1 => value.extend(KEY.as_bytes()),
                2 => value.extend(b"Bearer "),
                byte => value.push(byte),
            }
        }
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            request.headers_mut().append(name, value);
        }
    }
    let expected = if should_admit(request.headers()) { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
    let service = ServiceBuilder::new().layer(LAYER.clone()).service(service_fn(async |request: Request<()>| {
        for name in NAMES {
            assert!(request.headers().get_all(name).iter().all(HeaderValue::is_sensitive));
        }
        Ok::<_, Infallible>(Response::new(Bytes::new()))
    }));
    let response = futures::executor::block_on(service.oneshot(request)).unwrap();
    assert_eq!(response.status(), expected);
});
