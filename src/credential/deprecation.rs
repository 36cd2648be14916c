use std::sync::{Arc, LazyLock};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CACHE_CONTROL, VARY},
};

/// The headers of responses to users of a source that is deprecated, or that shared caches do not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(super) deprecation: Option<HeaderValue>,
    pub(super) sunset: Option<HeaderValue>,
    /// The names of all headers that hold keys and that caches do not know.
    pub(super) vary: Option<HeaderValue>,
}

const PRIVATE: HeaderValue = HeaderValue::from_static("private");

impl Notice {
    /// Tells of the deprecation.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let named = [("deprecation", &self.deprecation), ("sunset", &self.sunset)];
        for (name, value) in named {
            if let Some(value) = value {
                // A header that the handler has set for its own route takes precedence.
                headers.entry(HeaderName::from_static(name)).or_insert_with(|| value.clone());
            }
        }
    }

    /// For an answer to somebody who was authenticated otherwise: it varies by what nobody here knows.
    pub(crate) fn of_others() -> Arc<Self> {
        static OTHERS: LazyLock<Arc<Notice>> =
            LazyLock::new(|| Arc::new(Notice { vary: Some(HeaderValue::from_static("*")), ..Notice::default() }));
        Arc::clone(&OTHERS)
    }

    /// Keeps the answer of a handler from whoever asks a shared cache without the key.
    pub(crate) fn keep_from_caches(&self, headers: &mut HeaderMap) {
        let Some(names) = &self.vary else { return };
        vary(headers, names);
        headers.entry(CACHE_CONTROL).or_insert(PRIVATE);
    }
}

/// Tells caches that the answer is another with other values of these headers.
pub(crate) fn vary(headers: &mut HeaderMap, names: &HeaderValue) {
    // `*` says all there is to say, and a cache may know it only where nothing stands beside it.
    let all = |line: &HeaderValue| line.as_bytes().split(|byte| *byte == b',').any(|name| name.trim_ascii() == b"*");
    if !headers.get_all(VARY).iter().any(all) {
        headers.append(VARY, names.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_handler_says_to_caches_stays() {
        let ours = "x-api-key, x-access-token";
        let notice = Notice { vary: Some(HeaderValue::from_static(ours)), ..Notice::default() };
        let marked = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, HeaderValue::from_static(value));
            }
            notice.keep_from_caches(&mut headers);
            let of = |name: &str| headers.get_all(name).iter().map(|line| line.to_str().unwrap()).collect::<Vec<_>>();
            format!("{} | {}", of("vary").join("; "), of("cache-control").join("; "))
        };
        assert_eq!(marked(&[]), format!("{ours} | private"));
        assert_eq!(marked(&[("cache-control", "public, max-age=60")]), format!("{ours} | public, max-age=60"));
        assert_eq!(marked(&[("vary", "accept"), ("vary", "x*y")]), format!("accept; x*y; {ours} | private"));
        for all in ["*", "accept, *", "* ,accept"] {
            assert_eq!(marked(&[("vary", all)]), format!("{all} | private"));
        }
    }
}
