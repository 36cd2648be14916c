//! Reads the versions from the lock file, so that the table cannot name others than were built.

const LOCK: &str = include_str!("../Cargo.lock");

/// Returns a name and a version, such as `axum 0.8.9`.
pub fn named(package: &str) -> String {
    // If the dependency tree has several versions, the list of this package's own dependencies names the one that is
    // meant.
    let ours =
        block("peers").lines().find_map(|line| line.strip_prefix(" \"")?.strip_prefix(package)?.strip_prefix(' '));
    let only = || block(package).lines().find_map(|line| line.strip_prefix("version = \""));
    let version = ours.or_else(only).and_then(|rest| rest.split('"').next()).expect("a package has a version");
    format!("{package} {version}")
}

fn block(package: &str) -> &'static str {
    let name = format!("\nname = \"{package}\"\n");
    LOCK.split("[[package]]").find(|block| block.starts_with(&name)).expect("the package is in Cargo.lock")
}
