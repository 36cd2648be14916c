use http::{HeaderMap, HeaderValue, Method, Request, header::CONTENT_TYPE};

/// The form that the response to a request must have, whatever its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    #[default]
    Usual,
    /// A response to `HEAD` has no body.
    Head,
    /// The client accepts nothing but gRPC.
    Grpc,
}

impl Form {
    /// The number of forms.
    pub(crate) const COUNT: usize = 3;

    #[inline]
    pub(crate) fn from_request<B>(request: &Request<B>) -> Self {
        let method = request.method();
        if *method == Method::HEAD {
            Self::Head
        } else if *method == Method::POST && is_grpc(request.headers()) {
            // A gRPC call is always a POST. For a CONNECT, the 200 of a gRPC refusal would open a tunnel.
            Self::Grpc
        } else {
            Self::Usual
        }
    }
}

/// Whether the content type is `application/grpc`, alone or followed by the encoding of messages (`+proto`), `-web`,
/// or parameters.
fn is_grpc(headers: &HeaderMap) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let value = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let Some((name, rest)) = value.split_at_checked(GRPC.len()) else { return false };
    name.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b'-' | b';' | b' ' | b'\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_call_is_a_post_of_its_content_type() {
        let form = |method: &str, kind: &str| {
            let request = Request::builder().method(method).header("content-type", kind);
            Form::from_request(&request.body(()).unwrap())
        };
        for kind in
            ["application/grpc", "application/grpc+proto", "Application/GRPC;x=y", "application/grpc-web-text+proto"]
        {
            assert_eq!(form("POST", kind), Form::Grpc, "{kind}");
            assert_eq!(form("HEAD", kind), Form::Head, "{kind}");
            for method in ["GET", "CONNECT", "PUT", "OPTIONS"] {
                assert_eq!(form(method, kind), Form::Usual, "{method} {kind}");
            }
        }
        for kind in ["", "application/json", "application/grpcx", "application/grp", "text/application/grpc"] {
            assert_eq!(form("POST", kind), Form::Usual, "{kind}");
        }
        assert_eq!(Form::from_request(&Request::post("/").body(()).unwrap()), Form::Usual);
    }
}
