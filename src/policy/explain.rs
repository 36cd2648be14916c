use std::{fmt, time::SystemTime};

use crate::{
    check::Findings,
    denial::{Cause, Denial, status},
    head::Head,
    policy::{Policy, RouteMatch},
    principal::Principal,
    route::PathParams,
};

impl Findings for Vec<Finding> {
    fn record(&mut self, name: impl FnOnce() -> String, verdict: Result<(), Cause>) {
        self.push(Finding { check: name(), verdict });
    }

    fn record_custom(&mut self, verdict: Result<(), Denial>) {
        let name = || "custom check".to_owned();
        match verdict {
            Ok(()) => self.record(name, Ok(())),
            Err(denial) => denial.causes().for_each(|cause| self.record(name, Err(cause.clone()))),
        }
    }
}

/// Every check that a request meets, with its verdict: what a support engineer reads who is asked why a
/// key does not work. Made by [`Policy::explain`], with the code that enforces.
///
/// As text it is one line for each finding.
#[derive(Clone, Debug)]
pub struct Explanation {
    route: Option<String>,
    findings: Vec<Finding>,
}

/// One check and its verdict.
#[derive(Clone, Debug)]
pub struct Finding {
    check: String,
    verdict: Result<(), Cause>,
}

impl Finding {
    /// The name of the check: `permission orders:write`, `networks`, `this shop`.
    #[must_use]
    pub fn check(&self) -> &str {
        &self.check
    }

    /// Nothing, or why the check refuses.
    ///
    /// # Errors
    /// The cause.
    pub const fn verdict(&self) -> Result<(), &Cause> {
        match &self.verdict {
            Ok(()) => Ok(()),
            Err(cause) => Err(cause),
        }
    }
}

impl Explanation {
    /// Whether the request would be let through.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.findings.iter().all(|finding| finding.verdict.is_ok())
    }

    /// The pattern of the rule that decided.
    #[must_use]
    pub fn route(&self) -> Option<&str> {
        self.route.as_deref()
    }

    /// All checks in the order in which they ran.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_allowed() { "allowed" } else { "denied" };
        write!(f, "{verdict} by the rule of {}", self.route().unwrap_or("no route"))?;
        for Finding { check, verdict } in &self.findings {
            match verdict {
                Ok(()) => write!(f, "\n  ok    {check}")?,
                Err(cause) => write!(f, "\n  DENY  {check}: {cause}")?,
            }
        }
        Ok(())
    }
}

impl Policy {
    /// Every check that this key would meet with this request, each with its verdict. Nothing is
    /// enforced, logged or counted.
    ///
    /// # Example
    /// ```
    /// # use std::{sync::Arc, time::SystemTime};
    /// # use tower_authz::*;
    /// let policy = Policy::builder().route("/orders", Rule::resource("orders").unscoped()).build()?;
    /// # let grant = Grant::builder().read("orders").build()?;
    /// # let record = KeyRecord::builder("k".parse()?, Digest::from_key(b"k")).grant(grant).build();
    /// let key = Principal::new(Arc::new(record), Directory::default(), ClientAddress::UNKNOWN);
    /// let request = http::Request::post("/orders").body(())?;
    ///
    /// let explanation = policy.explain(&key, &Head::new(&request), SystemTime::now());
    /// assert!(!explanation.is_allowed());
    /// assert_eq!(explanation.to_string(), "denied by the rule of /orders
    ///   ok    status
    ///   DENY  permission orders:write: the key lacks the permission orders:write
    ///   ok    networks");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn explain(&self, principal: &Principal, head: &Head<'_>, now: SystemTime) -> Explanation {
        let head = head.with_principal(principal).at(Some(now));
        let mut findings = Vec::new();
        if self.is_preflight(&head) {
            return Explanation { route: None, findings };
        }
        if !self.is_public(&head) {
            findings.record(|| "status".to_owned(), status(principal.record().status(now)));
        }
        let mut params = PathParams::default();
        let route = match self.find(&head, &mut params) {
            RouteMatch::Rule { action, pattern } => {
                action.evaluate_all(&head.on(pattern, &params), principal.caller(), &mut findings);
                pattern.map(|pattern| pattern.as_str().to_owned())
            }
            other => {
                findings.record(|| "route".to_owned(), Err(other.cause()));
                None
            }
        };
        Explanation { route, findings }
    }
}
