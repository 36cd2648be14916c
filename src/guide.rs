//! The guide, chapter by chapter.

#[doc = include_str!("../docs/keys.md")]
pub mod keys {}
