//! S14 and S15: clean paths, routes, and the rules of a route.

use super::{Reading, Request, Setting, request::decode};
use crate::world::{ROUTE_WITHOUT_RULE, Rule, World};

/// The route that a request has matched.
#[derive(Clone, Debug)]
pub struct Route<'w> {
    /// Its pattern.
    pub pattern: String,
    /// All rules for it; there may be none.
    pub rules: Vec<&'w Rule>,
    /// The parameters, decoded once.
    pub parameters: Vec<(String, String)>,
}

/// S14: whether the path can be read in one way only.
pub(super) fn is_clean(path: &str) -> bool {
    let visible = path.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
    let plain = !path.contains(['\\', ';']);
    let Some(decoded) = decode(path) else { return false };
    let Ok(decoded) = String::from_utf8(decoded) else { return false };
    // An encoded semicolon is refused as well: the documentation of `CleanPath::allow_semicolon`.
    let escapes = path.match_indices('%').filter_map(|(at, _)| path.get(at + 1..at + 3));
    let mut escaped = escapes.filter_map(|digits| u8::from_str_radix(digits, 16).ok());
    let safe = escaped.all(|byte| !b"/\\.%;".contains(&byte) && byte >= 0x20 && byte != 0x7f);
    let segments: Vec<&str> = decoded.split('/').skip(1).collect();
    let (last, others) = segments.split_last().unwrap_or((&"", &[]));
    // A trailing slash makes another route and no doubled slash. Segments that end in two dots are refused by the
    // documentation of `CleanPath`.
    let doubled = others.contains(&"");
    let dots = others.iter().chain([last]).any(|segment| *segment == "." || segment.ends_with(".."));
    path.starts_with('/') && visible && plain && safe && !doubled && !dots
}

/// How well a segment fits: the lower the better.
type Fit = (u8, usize);

/// Names and values of parameters.
type Parameters = Vec<(String, String)>;

/// Matches a raw path with a pattern. Returns how well each segment fits, and the raw parameters.
fn matches(pattern: &str, path: &str) -> Option<(Vec<Fit>, Parameters)> {
    let (mut fits, mut parameters) = (Vec::new(), Vec::new());
    let mut rest = path.strip_prefix('/')?.split('/');
    for segment in pattern.split('/').skip(1) {
        let name = |text: &str| text.trim_end_matches('}').to_owned();
        if let Some(parameter) = segment.strip_prefix("{*") {
            let value = rest.collect::<Vec<_>>().join("/");
            fits.push((3, 0));
            parameters.push((name(parameter), value.clone()));
            return (!value.is_empty()).then_some((fits, parameters));
        }
        let value = rest.next()?;
        match segment.split_once('{') {
            None if segment == value => fits.push((0, 0)),
            None => return None,
            Some((literal, parameter)) => {
                let value = value.strip_prefix(literal).filter(|value| !value.is_empty())?;
                // A parameter behind a literal is nearer to a literal than one that is a whole segment.
                fits.push((if literal.is_empty() { 2 } else { 1 }, usize::MAX - literal.len()));
                parameters.push((name(parameter), value.to_owned()));
            }
        }
    }
    rest.next().is_none().then_some((fits, parameters))
}

/// The pattern that a path belongs to: literals go before parameters, segment by segment from the left.
fn best<'p>(patterns: &[&'p str], path: &str) -> Option<(&'p str, Parameters)> {
    let fitting = patterns.iter().filter_map(|pattern| matches(pattern, path).map(|found| (found, *pattern)));
    fitting
        .min_by(|((one, _), _), ((other, _), _)| one.cmp(other))
        .map(|((_, parameters), pattern)| (pattern, parameters))
}

/// S14 and S15: the route, matched by the raw path.
pub(super) fn route<'w>(world: &'w World, path: &str, setting: Setting) -> Option<Route<'w>> {
    let known = world.rules.iter().map(|rule| rule.pattern.as_str());
    let (pattern, parameters) = match setting {
        Setting::InRouter => {
            let routed = known.filter(|pattern| !world.unrouted.iter().any(|missing| missing == pattern));
            match best(&routed.chain([ROUTE_WITHOUT_RULE]).collect::<Vec<_>>(), path) {
                Some(found) => found,
                None => return fallback(world, path),
            }
        }
        Setting::Plain | Setting::AroundRouter => {
            let patterns: Vec<&str> = known.collect();
            let found = best(&patterns, path)?;
            // The documentation of `Policy`: `/%61dmin` is not `/admin`, and is refused with 404. A service behind may
            // decode the path before it routes, and must not come to another route then.
            let decoded = String::from_utf8(decode(path)?).ok()?;
            best(&patterns, &decoded).filter(|(pattern, _)| *pattern == found.0)?;
            found
        }
    };
    let rules: Vec<&Rule> = world.rules.iter().filter(|rule| rule.pattern == pattern).collect();
    let decoded = |(name, value): (String, String)| Some((name, String::from_utf8(decode(&value)?).ok()?));
    let parameters = parameters.into_iter().filter_map(decoded).collect();
    (!rules.is_empty()).then(|| Route { pattern: pattern.to_owned(), rules, parameters })
}

/// The documentation of `PolicyBuilder::fallback`: the rule for what axum has matched to no route; but not under the path
/// of another rule, however it is spelt.
fn fallback<'w>(world: &'w World, path: &str) -> Option<Route<'w>> {
    let rule = world.fallback.as_ref()?;
    let decoded = String::from_utf8(decode(path)?).ok()?;
    let ruled =
        world.rules.iter().any(|rule| [path, &decoded].iter().any(|path| matches(&rule.pattern, path).is_some()));
    (!ruled).then(|| Route { pattern: String::new(), rules: vec![rule], parameters: Vec::new() })
}

/// S7 and S15: the rule for a method: one of its own, for `HEAD` that for `GET`, else the one for every method.
pub(super) fn rule_for<'w>(route: &Route<'w>, method: &str) -> Option<&'w Rule> {
    let own = |wanted: Option<&str>| route.rules.iter().find(|rule| rule.method.as_deref() == wanted).copied();
    let get = || if method == "HEAD" { own(Some("GET")) } else { None };
    own(Some(method)).or_else(get).or_else(|| own(None))
}

/// S15: a real preflight, about a route and a method that have a rule which is not concealed: `OPTIONS` with one
/// `Origin` and one `Access-Control-Request-Method`.
pub(super) fn is_preflight<R: Reading + ?Sized>(reading: &R, request: &Request<'_>, route: Option<&Route<'_>>) -> bool {
    let origins = request.lines("origin").len();
    let methods = request.lines("access-control-request-method");
    let (Some(route), [method]) = (route, methods.as_slice()) else { return false };
    let rule = reading.rule_for(route, method);
    request.ask.method == "OPTIONS" && origins == 1 && rule.is_some_and(|rule| !rule.concealed)
}
