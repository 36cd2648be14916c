//! Tests hierarchies in key files and settings, and what is refused in them and in code.

use tower_authz::{Dimension, Directory, DirectoryBuilder, IdGrammar, KeyFile, store::StoreSettings};

use super::{ENVIRONMENT, PROJECT, WORKSPACE, directory, settings};

fn parse(directory: &str) -> Result<Directory, String> {
    let text = format!(r#"{{"keys":[],"directory":{directory}}}"#);
    let file = KeyFile::parse_with(&text, "keys.json", &[WORKSPACE, PROJECT, ENVIRONMENT]);
    file.map(|file| file.directory().clone()).map_err(|error| error.to_string())
}

fn written(directory: &Directory) -> serde_json::Value {
    let text = KeyFile::new([], directory.clone()).to_json().unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["directory"].clone()
}

#[test]
fn what_is_written_is_read() {
    let own = written(&directory());
    assert_eq!(own["hierarchies"]["project"]["parent"], "workspace");
    assert_eq!(
        own["hierarchies"]["project"]["entities"],
        serde_json::json!([
            { "id": "apollo", "parent": "nasa", "aliases": ["prj-11"] },
            { "id": "lost" },
            { "id": "soyuz", "parent": "rka" },
        ])
    );
    assert_eq!(written(&parse(&own.to_string()).unwrap()), own);
    let text = settings(directory()).to_json().unwrap();
    assert_eq!(StoreSettings::parse(&text, &[]).unwrap().to_json().unwrap(), text);
    // A declaration without entities is one still.
    let empty = super::levels().build().unwrap();
    let again = parse(&written(&empty).to_string()).unwrap();
    assert_eq!(again.parent_dimension(&ENVIRONMENT), Some(&PROJECT));
    // A parent that was given by an alias is written by its id.
    assert!(own.to_string().contains(r#"{"id":"by-alias","parent":"apollo"}"#), "{own}");
}

/// What has nothing but shops is written as it was before there were hierarchies, so that an older program reads it.
#[test]
fn shops_alone_are_written_as_before() {
    let text = r#"{"shops":[{"key":"ch","countries":[{"code":"ch","id":"7"},{"code":"ch","id":"8"},{"code":"li"}]},{"key":"de","company":"1"}]}"#;
    let directory = parse(text).unwrap();
    assert_eq!(written(&directory), serde_json::from_str::<serde_json::Value>(text).unwrap());
    let text = StoreSettings::new().with_directory(directory).to_json().unwrap();
    assert!(!text.contains("hierarchies"), "{text}");
}

#[test]
fn whatever_is_wrong_in_a_file_is_named_with_its_place() {
    let project = |fields: &str| format!(r#"{{"hierarchies":{{"project":{fields}}}}}"#);
    let entities = |list: &str| project(&format!(r#"{{"parent":"workspace","entities":[{list}]}}"#));
    for (text, place, message) in [
        (r#"{"hierarchy":{}}"#.to_owned(), "directory", "unknown field `hierarchy`"),
        (r#"{"hierarchies":null}"#.to_owned(), "directory.hierarchies", "null"),
        (r#"{"hierarchies":[]}"#.to_owned(), "directory.hierarchies", "expected an object"),
        (project("{}"), "directory.hierarchies.project", "missing field `parent`"),
        (project(r#"{"parent":"workspace"}"#), "directory.hierarchies.project", "missing field `entities`"),
        (project(r#"{"parent":"workspace","entities":[],"of":1}"#), "directory.hierarchies.project", "unknown field `of`"),
        (project(r#"{"parent":"team","entities":[]}"#), "directory.hierarchies.project.parent", "no such dimension is declared: \"team\""),
        (
            r#"{"hierarchies":{"team":{"parent":"project","entities":[]}}}"#.to_owned(),
            "directory.hierarchies.team",
            "no such dimension is declared: \"team\"",
        ),
        (
            r#"{"hierarchies":{"project":{"parent":"workspace","entities":[]},"project":{"parent":"workspace","entities":[]}}}"#.to_owned(),
            "directory.hierarchies",
            "duplicate key \"project\"",
        ),
        (project(r#"{"parent":"project","entities":[]}"#), "directory.hierarchies.project", "a circle: project belongs to project"),
        (
            r#"{"hierarchies":{"shop":{"parent":"workspace","entities":[]}}}"#.to_owned(),
            "directory.hierarchies.shop",
            "add them to `shops`",
        ),
        (entities(r#"{"id":"a","parents":"w"}"#), "directory.hierarchies.project.entities[0]", "unknown field `parents`"),
        (entities(r#"{"parent":"w"}"#), "directory.hierarchies.project.entities[0]", "missing field `id`"),
        (entities(r#"["a","w"]"#), "directory.hierarchies.project.entities[0]", "an object"),
        (entities(r#"{"id":"A"}"#), "directory project \"A\"", "not the canonical spelling of a project id"),
        (entities(r#"{"id":"a","parent":"W"}"#), "directory project \"a\"", "parent: \"W\" is not the canonical spelling of a workspace id"),
        (entities(r#"{"id":"a","aliases":["B"]}"#), "directory project \"a\"", "aliases: \"B\" is not the canonical"),
        (entities(r#"{"id":"a"},{"id":"a","parent":"w"}"#), "directory project \"a\"", "duplicate project"),
        (entities(r#"{"id":"a","aliases":["x","x"]}"#), "directory project \"a\"", "duplicate project id \"x\""),
        (entities(r#"{"id":"a","aliases":["x"]},{"id":"b","aliases":["x"]}"#), "directory project \"b\"", "duplicate project id \"x\""),
        (entities(r#"{"id":"a","aliases":["a"]}"#), "directory project \"a\"", "aliases: \"a\" is the id"),
        (entities(r#"{"id":"a","aliases":["b"]},{"id":"b"}"#), "directory project \"a\"", "aliases: \"b\" is the id"),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(error.starts_with(&format!("keys.json: {place}")) && error.contains(message), "{text}: {error}");
    }
}

/// A key file holds both the lists and the aliases that must not meet.
#[test]
fn a_list_with_an_alias_is_refused_in_a_file() {
    let digest = "0f1f3b1d2ad4ba4d6ba1e1a7fd29d6bcb0c2b0ee3c1a96ba2ba4b61e3c6d1c1c";
    let text = |list: &str| {
        format!(
            r#"{{"keys":[{{"id":"k","digest":"{digest}","restrictions":{{"project":{list}}}}}],
                "directory":{{"hierarchies":{{"project":{{"parent":"workspace","entities":[{{"id":"a","aliases":["x"]}}]}}}}}}}}"#
        )
    };
    let parse = |list: &str| KeyFile::parse_with(&text(list), "keys.json", &[WORKSPACE, PROJECT]);
    for list in [r#"{"include":["x"]}"#, r#"{"exclude":["b","x"]}"#] {
        let error = parse(list).unwrap_err().to_string();
        assert!(error.starts_with(r#"keys.json: key k: restrictions.project: "x" is an alias of "a""#), "{error}");
    }
    assert!(parse(r#"{"include":["a","b"]}"#).is_ok());
}

#[test]
fn a_circle_is_no_hierarchy() {
    let own = |name: &'static str| Dimension::new(name, IdGrammar::Slug);
    let refused = |builder: DirectoryBuilder| builder.build().unwrap_err().to_string();
    let two = Directory::builder().hierarchy(own("a"), own("b")).hierarchy(own("b"), own("a"));
    assert_eq!(refused(two), "directory.hierarchies.a: the dimensions form a circle: a belongs to b belongs to a");
    let three = Directory::builder().hierarchy("a", "b").hierarchy("b", "c").hierarchy("c", "a");
    assert!(refused(three).ends_with("a belongs to b belongs to c belongs to a"));
    // One that hangs from a circle is not the one that is to blame.
    let below = Directory::builder().hierarchy("x", "a").hierarchy("a", "b").hierarchy("b", "a");
    assert!(refused(below).starts_with("directory.hierarchies.a: "));
    let through_shops = Directory::builder().hierarchy(Dimension::COMPANY, "depot").hierarchy("depot", Dimension::SHOP);
    let error = refused(through_shops);
    assert!(error.contains("company belongs to depot belongs to shop belongs to company"), "{error}");
}

#[test]
fn what_is_ambiguous_or_hangs_in_the_air_is_refused_in_code() {
    let own = || Directory::builder().hierarchy(PROJECT, WORKSPACE);
    for (builder, message) in [
        (own().hierarchy(PROJECT, ENVIRONMENT), "it cannot belong to both workspace and environment"),
        (
            own().entity(&ENVIRONMENT, "live", None),
            "directory environment \"live\": what the dimension belongs to is not declared",
        ),
        (own().entity(&WORKSPACE, "nasa", None), "directory workspace \"nasa\": "),
        (
            own().alias(&PROJECT, "x", "apollo"),
            "directory project \"x\": it is to be an alias of \"apollo\", which is not there",
        ),
        (own().alias(&WORKSPACE, "x", "nasa"), "directory workspace \"x\": "),
        (own().entity(&PROJECT, "a", None).entity(&PROJECT, "a", None), "duplicate project"),
        (own().entity(&PROJECT, "a", Some("W")), "parent: \"W\""),
        (
            own().entity(&PROJECT, "a", None).alias(&PROJECT, "b", "a").entity(&PROJECT, "b", None),
            "is the id of another",
        ),
        (Directory::builder().hierarchy(Dimension::SHOP_COUNTRY, PROJECT), "add them to `shops`"),
        (
            Directory::builder().entity(&Dimension::SHOP, "de", None),
            "directory shop \"de\": what the dimension belongs to",
        ),
    ] {
        let error = builder.build().unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    // The same declaration once more is none.
    assert!(own().hierarchy(PROJECT, WORKSPACE).build().is_ok());
}

/// The grammar of a dimension is that of its own entities, whoever names it as a parent.
#[test]
fn ids_are_spelt_as_their_dimension_has_them() {
    let numbers = Dimension::new("project", IdGrammar::Number);
    let own = || Directory::builder().hierarchy(numbers.clone(), WORKSPACE).hierarchy(ENVIRONMENT, "project");
    assert!(own().entity(&ENVIRONMENT, "live", Some("7")).build().is_ok());
    assert!(own().entity(&ENVIRONMENT, "live", Some("07")).build().is_err());
    let wrong = Directory::builder().hierarchy("depot", Dimension::COMPANY).entity(&"depot".into(), "d", Some("01"));
    assert!(wrong.build().is_err());
    let dimensions = [WORKSPACE, numbers, ENVIRONMENT];
    let text = r#"{"keys":[],"directory":{"hierarchies":{"project":{"parent":"workspace","entities":[{"id":7}]}}}}"#;
    assert!(KeyFile::parse_with(text, "f", &dimensions).is_ok());
    assert!(KeyFile::parse_with(&text.replace('7', "\"x\""), "f", &dimensions).is_err());
}

/// Nobody has so many, and one that is too deep would take too long.
#[test]
fn a_hierarchy_has_its_limits() {
    let names: Vec<String> = (0..100).map(|number| format!("d{number}")).collect();
    let own: Vec<Dimension> = names.iter().map(|name| Dimension::read(name, "slug").unwrap()).collect();
    let deep = |levels: usize| {
        let pairs = own.iter().zip(&own[1..]).take(levels);
        pairs.fold(Directory::builder(), |all, (child, parent)| all.hierarchy(child.clone(), parent.clone()))
    };
    assert_eq!(deep(64).entity(&own[0], "a", Some("b")).build().unwrap().parent_of(&own[0], "a"), Some("b"));
    let error = deep(65).build().unwrap_err().to_string();
    assert_eq!(error, "directory.hierarchies: more than 64 dimensions belong to others");
}
