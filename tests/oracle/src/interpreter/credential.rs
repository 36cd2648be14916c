//! S1 and S2: where a key stands, and how it looks.

use super::Request;
use crate::world::{SourceSet, World, build::OWN_HEADER};

/// How a key stands in its header.
#[derive(Clone, Copy)]
enum Form {
    Whole,
    Bearer,
    ExactBearer,
}

fn sources(world: &World) -> &'static [(&'static str, Form)] {
    match world.sources {
        SourceSet::Usual => {
            &[("authorization", Form::Bearer), ("x-api-key", Form::Whole), ("x-access-token", Form::Whole)]
        }
        SourceSet::Exact => &[("authorization", Form::ExactBearer), ("x-api-key", Form::Whole)],
        SourceSet::Own => &[(OWN_HEADER, Form::Whole)],
    }
}

/// The credential of the first source that is present, if it is a good one. A bad one is not followed by the next.
pub(super) fn find(world: &World, request: &Request<'_>) -> Option<String> {
    for source in sources(world) {
        match request.lines(source.0).as_slice() {
            [] => {}
            [line] => return read(world, source.1, line),
            _ => return None,
        }
    }
    None
}

/// Every credential that stands in the request, whatever source it is from: for the fault of falling back.
pub(crate) fn all(world: &World, request: &Request<'_>) -> Vec<String> {
    let lines =
        sources(world).iter().flat_map(|source| request.lines(source.0).into_iter().map(|line| (source.1, line)));
    lines.filter_map(|(form, line)| read(world, form, line)).collect()
}

fn read(world: &World, form: Form, line: &str) -> Option<String> {
    let key = match form {
        Form::Whole => line,
        Form::ExactBearer => line.strip_prefix("Bearer ")?,
        Form::Bearer => {
            let (scheme, key) = line.split_once(' ')?;
            if !scheme.eq_ignore_ascii_case("bearer") {
                return None;
            }
            key.trim_start_matches(' ')
        }
    };
    has_format(world, key).then(|| key.to_owned())
}

/// S2: prefix, public id and secret, or an opaque token of visible ASCII.
fn has_format(world: &World, key: &str) -> bool {
    if !world.structured {
        return (16..=64).contains(&key.len()) && key.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
    }
    match key.split('_').collect::<Vec<_>>().as_slice() {
        ["l64", id, secret] => {
            let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
            let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
            id.len() == 8 && id.chars().all(lower) && secret.len() == 32 && secret.chars().all(hex)
        }
        _ => false,
    }
}
