//! Which route a path belongs to, and where the parameters of the route stand in it.

pub(crate) mod matched;
mod params;
mod pattern;
mod tree;

pub(crate) use self::{params::PathParams, pattern::Pattern, tree::RouteTree};
