//! Explains whether a request would be admitted, and which checks decide that.

use std::time::SystemTime;

use http::{HeaderName, HeaderValue, Method, Request};
use serde_json::json;
use tower_authz::{Check as _, CleanPath, ClientAddress, Head, KeyId, Policy, Principal};

use crate::{
    Failure,
    args::Check,
    context::Context,
    output::{self, Rows},
};

pub(crate) async fn run(context: &Context, args: &Check) -> Result<(), Failure> {
    let settings = context.store.settings().await?;
    let policy = Policy::read_with(&args.policy, settings.dimensions());
    let policy = policy.map_err(|error| Failure::Other(error.to_string()))?;
    let (record, fits_kind) = context.identify(args.which.key_id.as_ref(), args.which.key_stdin).await?;
    let request = request(args)?;
    let head = Head::new(&request);

    let client = args.from.map_or(ClientAddress::UNKNOWN, ClientAddress::from);
    let principal = Principal::new(record, settings.directory().clone(), client);
    let explanation = policy.explain(&principal, &head, SystemTime::now());
    // The gate checks the path before anything else.
    let path = CleanPath::new().check(&head).map_err(|denial| denial.to_string());
    // Before it looks for a rule, the gate refuses a key with the format of another kind.
    let format = (!fits_kind).then(|| ("key format", Err("the key does not have the format of its kind".to_owned())));
    let verdicts = std::iter::once(("clean path", path)).chain(format).chain(
        explanation.findings().iter().map(|finding| (finding.check(), finding.verdict().map_err(ToString::to_string))),
    );
    let verdicts: Vec<(&str, Result<(), String>)> = verdicts.collect();
    let allowed = verdicts.iter().all(|(_, verdict)| verdict.is_ok());

    let printed = print(context, args, principal.key_id(), explanation.route(), &verdicts, allowed);
    // If the reader closes the pipe early, the exit code must still report a refusal.
    if allowed { printed } else { Err(Failure::Denied) }
}

fn print(
    context: &Context,
    args: &Check,
    key: &KeyId,
    route: Option<&str>,
    verdicts: &[(&str, Result<(), String>)],
    allowed: bool,
) -> Result<(), Failure> {
    if context.json {
        let findings: Vec<_> = verdicts
            .iter()
            .map(|(check, verdict)| json!({ "check": check, "ok": verdict.is_ok(), "why": verdict.as_ref().err() }))
            .collect();
        output::json(&json!({ "allowed": allowed, "route": route, "findings": findings }))
    } else {
        let outcome = if allowed { "allowed" } else { "denied" };
        let rule = route.map_or("no rule".to_owned(), |route| format!("the rule of {route}"));
        output::line(format!("{key} {} {}: {outcome} by {rule}", args.method, args.path))?;
        let mut rows = Rows::new(&["", "CHECK", "WHY"])?;
        for (check, verdict) in verdicts {
            let (word, why) = match verdict {
                Ok(()) => ("ok", String::new()),
                Err(why) => ("DENY", why.clone()),
            };
            rows.push(vec![word.to_owned(), (*check).to_owned(), why])?;
        }
        rows.finish()
    }
}

fn request(args: &Check) -> Result<Request<()>, Failure> {
    let wrong = |what: &str| Failure::Usage(what.to_owned());
    let method: Method = args.method.parse().map_err(|_| wrong("the method is not one; write GET, POST .."))?;
    if !args.path.starts_with('/') {
        return Err(wrong("the path begins with a slash"));
    }
    let mut request = Request::builder().method(method).uri(&args.path);
    for header in &args.headers {
        let parts = header.split_once(':').and_then(|(name, value)| {
            let name: HeaderName = name.trim().parse().ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        });
        let (name, value) = parts.ok_or_else(|| wrong("a header is written like 'X-Company-Id: 1'"))?;
        request = request.header(name, value);
    }
    request.body(()).map_err(|error| Failure::Usage(error.to_string()))
}
