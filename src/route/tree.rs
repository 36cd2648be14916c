//! Finds the pattern that a path matches, and the positions of its parameters in the same pass. It must agree with
//! `matchit`, which axum routes with: a property test compares the two.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::{
    params::PathParams,
    pattern::{OwnPart, Segment, measure, parts, segment_length, segments},
};

/// A prefix tree over the segments of all patterns.
#[derive(Clone, Debug, Default)]
pub(crate) struct RouteTree {
    /// The segments up to the first branch or end.
    prefix: Option<Prefix>,
    /// The number of the pattern that ends here, after the prefix.
    pattern: Option<usize>,
    literals: Literals,
    /// Segments such as `x-{id}`, by the text before the parameter, the longest text first.
    prefixed: Vec<(Box<str>, Self)>,
    parameter: Option<Box<Self>>,
    rest: Option<usize>,
}

/// A chain of segments without a branch.
#[derive(Clone, Debug)]
struct Prefix {
    text: String,
    parts: Box<[OwnPart]>,
}

/// Segments without a parameter: searched linearly while they are few, by hash beyond.
#[derive(Clone, Debug, Default)]
struct Literals {
    list: Vec<(Box<str>, RouteTree)>,
    positions: HashMap<Box<[u8]>, usize, RandomState>,
}

const FEW: usize = 4;

impl Literals {
    fn position(&self, segment: &[u8]) -> Option<usize> {
        match self.list.len() {
            0 => None,
            1..=FEW => self.list.iter().position(|(known, _)| known.as_bytes() == segment),
            _ => self.positions.get(segment).copied(),
        }
    }

    fn get(&self, segment: &[u8]) -> Option<&RouteTree> {
        self.list.get(self.position(segment)?).map(|(_, tree)| tree)
    }

    fn entry(&mut self, segment: &str) -> Option<&mut RouteTree> {
        let position = self.position(segment.as_bytes()).unwrap_or(self.list.len());
        if position == self.list.len() {
            self.list.push((segment.into(), RouteTree::default()));
            self.positions.insert(segment.as_bytes().into(), position);
        }
        self.list.get_mut(position).map(|(_, tree)| tree)
    }
}

impl RouteTree {
    /// The caller ensures that no two patterns match the same paths.
    pub(crate) fn add(&mut self, pattern: &str, number: usize) {
        let mut tree = self;
        for segment in segments(pattern) {
            let next = match Segment::parse(segment) {
                None => return, // no pattern
                Some(Segment::Literal) => tree.literals.entry(segment),
                Some(Segment::Rest(_)) => {
                    tree.rest = Some(number);
                    return;
                }
                Some(Segment::Parameter { before: "", .. }) => Some(&mut **tree.parameter.get_or_insert_default()),
                Some(Segment::Parameter { before, .. }) => tree.prefixed_by(before),
            };
            let Some(next) = next else { return };
            tree = next;
        }
        tree.pattern = Some(number);
    }

    /// Joins chains of segments without a branch. Call it after all patterns are added.
    pub(crate) fn compact(&mut self) {
        self.literals.list.iter_mut().for_each(|(_, next)| next.compact());
        self.prefixed.iter_mut().for_each(|(_, next)| next.compact());
        if let Some(next) = &mut self.parameter {
            next.compact();
        }
        let Some((mut text, next)) = self.only_way() else { return };
        *self = next;
        if let Some(prefix) = &self.prefix {
            text += &prefix.text;
        }
        self.prefix = Some(Prefix { parts: parts(&text), text });
    }

    /// The only branch, if there is exactly one and no pattern ends here.
    fn only_way(&mut self) -> Option<(String, Self)> {
        let ways = self.literals.list.len() + self.prefixed.len() + usize::from(self.parameter.is_some());
        if ways != 1 || self.rest.is_some() || self.pattern.is_some() {
            return None;
        }
        // Parameters match whatever their names are.
        if let Some((segment, next)) = self.literals.list.pop() {
            Some((format!("/{segment}"), next))
        } else if let Some((before, next)) = self.prefixed.pop() {
            Some((format!("/{before}{{p}}"), next))
        } else {
            self.parameter.take().map(|next| ("/{p}".to_owned(), *next))
        }
    }

    fn prefixed_by(&mut self, before: &str) -> Option<&mut Self> {
        let known = self.prefixed.iter().position(|(known, _)| **known == *before);
        let position = known.unwrap_or_else(|| self.prefixed.partition_point(|(known, _)| known.len() >= before.len()));
        if known.is_none() {
            self.prefixed.insert(position, (before.into(), Self::default()));
        }
        self.prefixed.get_mut(position).map(|(_, tree)| tree)
    }

    /// The number of the pattern that matches. Records the positions of its parameters.
    pub(crate) fn find(&self, path: &str, params: &mut PathParams) -> Option<usize> {
        self.find_from(path.as_bytes(), 0, params)
    }

    /// Matches from a slash, or the end of the path, on. Descends while only one branch can match;
    /// [`choose`](Self::choose) backtracks.
    fn find_from(&self, path: &[u8], mut at: usize, params: &mut PathParams) -> Option<usize> {
        let mut tree = self;
        loop {
            if let Some(prefix) = &tree.prefix {
                at = measure(&prefix.parts, path, at, params)?;
            }
            match path.get(at) {
                None => return tree.pattern,
                Some(b'/') => {}
                Some(_) => return None,
            }
            let start = at + 1;
            let end = start + segment_length(path.get(start..)?);
            let segment = path.get(start..end)?;
            tree = match (tree.literals.get(segment), &tree.parameter) {
                (Some(next), None) if tree.is_plain() => next,
                (None, Some(next)) if tree.is_plain() && (start < end || end < path.len()) => {
                    params.push(start, end, true);
                    next
                }
                (None, None) if tree.is_plain() => return None,
                (literal, _) => return tree.choose(literal, path, (start, end), params),
            };
            at = end;
        }
    }

    fn is_plain(&self) -> bool {
        self.prefixed.is_empty() && self.rest.is_none()
    }

    /// Tries literals before parameters, and longer prefixes before shorter ones, and backtracks from a branch that
    /// does not match.
    fn choose(
        &self,
        literal: Option<&Self>,
        path: &[u8],
        (start, end): (usize, usize),
        params: &mut PathParams,
    ) -> Option<usize> {
        // A value is never empty at the end of a path. Elsewhere it may be; a whole empty segment does not occur in a
        // clean path.
        let may_begin = |value: usize| value < end || end < path.len();
        let segment = path.get(start..end)?;
        let prefixed = self.prefixed.iter().filter(|(before, _)| segment.starts_with(before.as_bytes()));
        let prefixed = prefixed.map(|(before, tree)| (Some(start + before.len()), tree));
        let ways = literal.map(|tree| (None, tree)).into_iter().chain(prefixed);
        let kept = *params;
        for (value, tree) in ways.chain(self.parameter.as_deref().map(|tree| (Some(start), tree))) {
            *params = kept;
            match value {
                Some(value) if !may_begin(value) => continue,
                Some(value) => params.push(value, end, value == start),
                None => {}
            }
            let found = tree.find_from(path, end, params);
            if found.is_some() {
                return found;
            }
        }
        *params = kept;
        let number = self.rest.filter(|_| start < path.len())?;
        params.push(start, path.len(), true);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::route::{Pattern, params::MOST};

    #[test]
    fn of_many_parameters_the_places_are_not_kept() {
        let mut tree = RouteTree::default();
        let pattern: String = (0..=MOST).map(|number| format!("/{{p{number}}}")).collect();
        tree.add(&pattern, 0);
        tree.compact();
        let mut params = PathParams::default();
        assert_eq!(tree.find(&"/a".repeat(MOST + 1), &mut params), Some(0));
        assert!(!params.are_all(MOST + 1));
        let mut many = RouteTree::default();
        (0..20).for_each(|number| many.add(&format!("/a{number}/{{p}}"), number));
        many.compact();
        assert_eq!(many.find("/a17/x", &mut PathParams::default()), Some(17));
        for none in ["/a20/x", "/a17/", "/a17", "/a17/x/", "/a1", "/", ""] {
            assert_eq!(many.find(none, &mut PathParams::default()), None, "{none}");
        }
    }

    fn segment() -> impl Strategy<Value = String> {
        let texts = ["a", "b", "ab", "abc", "x-", "{p}", "{q}", "a{p}", "ab{q}", "x-{p}", "{*rest}"];
        prop::sample::select(texts.to_vec()).prop_map(str::to_owned)
    }

    fn pattern() -> impl Strategy<Value = String> {
        (prop::collection::vec(segment(), 0..5), any::<bool>()).prop_map(|(segments, slash)| {
            let slash = if slash || segments.is_empty() { "/" } else { "" };
            // Each name once: the parameters of one pattern differ.
            let named = segments.iter().enumerate().map(|(position, segment)| {
                segment.replace("p}", &format!("p{position}}}")).replace("q}", &format!("q{position}}}"))
            });
            named.fold(String::new(), |all, segment| all + "/" + &segment) + slash
        })
    }

    fn path() -> impl Strategy<Value = String> {
        let texts = ["a", "b", "ab", "abc", "abcd", "x-", "x-1", "x", "c", ""];
        let segments = prop::collection::vec(prop::sample::select(texts.to_vec()), 0..6);
        segments.prop_map(|segments| segments.iter().fold(String::new(), |all, segment| all + "/" + segment))
    }

    proptest! {
        /// Of the same patterns, the same is found in every path, with the same parameters.
        #[test]
        fn what_is_found_is_what_matchit_finds(
            patterns in prop::collection::vec(pattern(), 1..12),
            paths in prop::collection::vec(path(), 1..30),
        ) {
            let (mut router, mut tree) = (matchit::Router::new(), RouteTree::default());
            for (number, pattern) in patterns.iter().enumerate() {
                if Pattern::parse(pattern).is_ok() && router.insert(pattern, number).is_ok() {
                    tree.add(pattern, number);
                }
            }
            tree.compact();
            for path in &paths {
                let mut params = PathParams::default();
                let found = tree.find(path, &mut params);
                let expected = router.at(path).ok();
                prop_assert_eq!(found, expected.as_ref().map(|it| *it.value), "{}", path);
                if let Some(expected) = expected {
                    let pattern = Pattern::parse(&patterns[*expected.value]).unwrap();
                    let known = params.are_all(pattern.parameters());
                    prop_assert!(known || path.contains("//"), "{}", path);
                    let mut measured = PathParams::default();
                    pattern.measure(path, &mut measured);
                    prop_assert_eq!(measured.are_all(pattern.parameters()), known, "{}", path);
                    for (position, (name, value)) in expected.params.iter().enumerate() {
                        prop_assert_eq!(pattern.position(name), Some(position));
                        let found = if known { params.get(path, position) } else { pattern.find(path, name) };
                        prop_assert_eq!(found, pattern.find(path, name), "{} {}", path, name);
                        prop_assert_eq!(found, known.then_some(value), "{} {}", path, name);
                        prop_assert!(!known || found == measured.get(path, position), "{} {}", path, name);
                    }
                }
            }
        }
    }
}
