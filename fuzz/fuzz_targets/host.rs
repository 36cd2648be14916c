//! Passes request targets and `Host` headers through `TenantHosts`.
//!
//! This target looks for a panic; a tenant that is not the text before the fixed labels of the host; a host whose
//! spelling (case, port, final dot) changes the tenant; and a target and a header that disagree and are accepted.
//!
//! The first line is the request target, and every other line is a `Host` header.

#![no_main]

use http::{HeaderValue, Request, Uri, header::HOST};
use libfuzzer_sys::fuzz_target;
use tower_authz::{Head, TenantHosts};

const PATTERNS: [(&str, &str); 3] = [
    ("{tenant}.{sector}.example.com", ".example.com"),
    ("{tenant}-{space}.admin.example.com", ".admin.example.com"),
    ("t-{tenant}.example.com", ".example.com"),
];

fn tenant(hosts: &TenantHosts, target: &Uri, lines: &[HeaderValue]) -> Option<String> {
    let mut request = Request::new(());
    *request.uri_mut() = target.clone();
    for line in lines {
        request.headers_mut().append(HOST, line.clone());
    }
    // No proxy is trusted to forward a host, so this header must have no effect.
    request.headers_mut().insert("x-forwarded-host", HeaderValue::from_static("evil-live.admin.example.com"));
    hosts.tenant(&Head::new(&request)).ok()
}

fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|&byte| byte == b'\n');
    let Ok(target) = Uri::try_from(lines.next().unwrap_or_default()) else { return };
    let lines: Vec<HeaderValue> = lines.take(3).filter_map(|line| HeaderValue::from_bytes(line).ok()).collect();
    for (pattern, end) in PATTERNS {
        let hosts = TenantHosts::new(pattern).unwrap();
        let Some(found) = tenant(&hosts, &target, &lines) else { continue };
        assert!(lines.len() <= 1, "one Host header at most");
        assert!(!found.is_empty() && found.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)));
        assert_eq!(found, found.to_ascii_lowercase());

        // The host in its plainest spelling names the same tenant, and so does each other spelling of it.
        let host = format!("{found}{end}");
        let spellings = [host.clone(), host.to_ascii_uppercase(), format!("{host}."), format!("{host}:8443")];
        for spelling in spellings {
            let line = HeaderValue::try_from(spelling).unwrap();
            assert_eq!(tenant(&hosts, &Uri::from_static("/"), &[line]).as_ref(), Some(&found));
        }
        let given = match (target.authority(), lines.first()) {
            (Some(authority), _) => authority.as_str().as_bytes(),
            (None, line) => line.unwrap().as_bytes(),
        };
        assert!(given.to_ascii_lowercase().starts_with(host.as_bytes()), "{found} of {target}");
        if target.authority().is_some() {
            let other = HeaderValue::try_from(format!("other-{host}")).unwrap();
            assert_eq!(tenant(&hosts, &target, &[other]), None, "target and header disagree");
        }

        assert_eq!(tenant(&hosts.clone().known([&*found]), &target, &lines).as_ref(), Some(&found));
        assert_eq!(tenant(&hosts.known(["somebody-else"]), &target, &lines).filter(|one| one != "somebody-else"), None);
    }
});
