//! Passes paths through `CleanPath` and a `Policy` whose rules read parameters.
//!
//! This target looks for a panic; a path that is called clean although decoding it yields a dot segment, a slash, a
//! control character or another escape; and a parameter that a rule evaluates and that is not the raw segment,
//! decoded once.

#![no_main]

use std::{
    cell::RefCell,
    sync::{Arc, LazyLock},
};

use http::{Request, Uri};
use libfuzzer_sys::fuzz_target;
use percent_encoding::percent_decode_str;
use tower_authz::{Check as _, CleanPath, ClientAddress, Digest, Directory, Head, KeyRecord, Policy, Principal, Rule};

type Judged = (String, Vec<(&'static str, Option<String>)>);

thread_local!(static JUDGED: RefCell<Vec<Judged>> = const { RefCell::new(Vec::new()) });

const PATTERNS: [(&str, &[&str]); 6] = [
    ("/", &[]),
    ("/a/{one}", &["one"]),
    ("/a/{one}/b/{two}", &["one", "two"]),
    ("/a/{one}/x-{two}", &["one", "two"]),
    ("/f/{*rest}", &["rest"]),
    ("/a/b", &[]),
];

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let rule = |names: &'static [&'static str]| {
        Rule::authenticated().unscoped().check(move |head: &Head<'_>| {
            let values = names.iter().map(|&name| (name, head.parameter(name).map(|value| value.into_owned())));
            let judged = (head.route().unwrap().to_owned(), values.collect());
            JUDGED.with_borrow_mut(|all| all.push(judged));
            Ok(())
        })
    };
    PATTERNS
        .into_iter()
        .fold(Policy::builder(), |all, (pattern, names)| all.route(pattern, rule(names)))
        .build()
        .unwrap()
});

fuzz_target!(|data: &[u8]| {
    let Ok(uri) = Uri::try_from(data) else { return };
    let path = uri.path().to_owned();
    let lax = CleanPath::new().allow_encoded_slash().allow_encoded_dot().allow_encoded_percent().allow_semicolon();
    let clean = CleanPath::new().validate(&path).is_ok();
    if clean || lax.validate(&path).is_ok() {
        let decoded = percent_decode_str(&path).decode_utf8().expect("a clean path is UTF-8");
        assert!(decoded.split('/').all(|segment| !matches!(segment, "." | "..")), "{path}");
        assert!(
            !decoded.contains("//") && !decoded.contains(|one: char| one == '\\' || one.is_ascii_control()),
            "{path}"
        );
        if clean {
            assert!(lax.validate(&path).is_ok());
            assert_eq!(decoded.matches('/').count(), path.matches('/').count(), "{path}");
            assert_eq!(percent_decode_str(&decoded).decode_utf8_lossy(), decoded, "{path} can be decoded twice");
        }
    }

    let mut request = Request::new(());
    *request.uri_mut() = uri;
    let record = KeyRecord::builder("k".parse().unwrap(), Digest::from_key(b"k")).build();
    let principal = Principal::new(Arc::new(record), Directory::default(), ClientAddress::UNKNOWN);
    request.extensions_mut().insert(principal);
    JUDGED.take();
    let admitted = POLICY.evaluate(&Head::new(&request)).is_ok();
    let judged = JUDGED.take();
    assert_eq!(judged.len(), usize::from(admitted), "{path}");
    let Some((route, values)) = judged.into_iter().next() else { return };
    let raw: Vec<&str> = path.split('/').collect();
    for (name, value) in values {
        let raw = match (&*route, name) {
            ("/f/{*rest}", _) => path.strip_prefix("/f/").unwrap(),
            (_, "one") => raw[2],
            ("/a/{one}/x-{two}", _) => raw[3].strip_prefix("x-").unwrap(),
            _ => raw[4],
        };
        assert_eq!(value, percent_decode_str(raw).decode_utf8().ok().map(|text| text.into_owned()), "{name} of {path}");
    }
});
