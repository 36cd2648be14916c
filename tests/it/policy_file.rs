//! A policy file is equivalent to a policy in Rust, or is refused with the location of the error.

#[allow(dead_code, reason = "its `main` is for people")]
#[path = "../../examples/scayle.rs"]
mod scayle;

use std::{env, fs, path::Path};

use http::{HeaderName, Method};
use proptest::prelude::*;
use tower_authz::{
    Access, Denial, Dimension, Head, IdGrammar, Policy, Rule,
    check::{EntityRef, Origin},
};

const PROJECT: Dimension = Dimension::new("project", IdGrammar::Number);
const SKU: Dimension = Dimension::new("sku", IdGrammar::Custom(|id| id.len() == 8));

/// A file that uses every field.
const WHOLE: &str = r#"{
  "dimensions": {
    "document": "opaque",
    "project": "number",
    "shop": "opaque"
  },
  "allow_preflight": true,
  "finish_in_flight": true,
  "routes": [
    {
      "path": "/",
      "authenticated": true
    },
    {
      "path": "/health",
      "method": "GET",
      "public": true
    },
    {
      "path": "/health",
      "method": "PURGE",
      "resource": "cache",
      "methods": { "PURGE": "write", "POST": "read" },
      "kind": "admin",
      "unscoped": true,
      "require_networks": true,
      "origin": "normalized",
      "concealed": true
    },
    {
      "path": "/health",
      "resource": "cache",
      "origin": "exact"
    },
    {
      "path": "/shops/{shop}",
      "resource": "shops",
      "scoped": [{ "dimension": "shop", "path": "shop" }, { "dimension": "project", "header": "x-project" }],
      "filtered": ["document"],
      "deferred": ["shop_country"],
      "unscoped_for": ["company"]
    }
  ],
  "fallback": {
    "resource": "files",
    "unscoped_for": ["shop", "company"]
  }
}
"#;

fn whole() -> Policy {
    const SHOP: Dimension = Dimension::new("shop", IdGrammar::Opaque);
    let purge = Rule::resource("cache")
        .method("PURGE".parse().unwrap(), Access::Read)
        .method(Method::POST, Access::Read)
        .method("PURGE".parse().unwrap(), Access::Write)
        .kind("admin")
        .unscoped()
        .require_networks()
        .origin(Origin::normalized())
        .concealed();
    let shop = Rule::resource("shops")
        .unscoped_for("company")
        .scoped(EntityRef::from_path(SHOP, "shop"))
        .scoped(EntityRef::from_header(PROJECT, HeaderName::from_static("x-project")))
        .filtered(Dimension::new("document", IdGrammar::Opaque))
        .deferred(Dimension::SHOP_COUNTRY);
    Policy::builder()
        .fallback(Rule::resource("files").unscoped_for(SHOP).unscoped_for("company"))
        .route("/shops/{shop}", shop)
        .route("/health", Rule::resource("cache").require_origin())
        .allow_preflight()
        .finish_in_flight()
        .method_public(Method::GET, "/health")
        .route("/", Rule::authenticated())
        .method_route("PURGE".parse().unwrap(), "/health", purge)
        .build()
        .unwrap()
}

#[test]
fn the_whole_form_is_written_and_read() {
    assert_eq!(whole().export().unwrap(), WHOLE);
    assert_eq!(Policy::parse(WHOLE, "f").unwrap().export().unwrap(), WHOLE);
    let names = |policy: Policy| policy.dimensions().iter().map(|over| over.name().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(whole()), ["company", "document", "project", "shop", "shop_country"]);
    assert_eq!(names(Policy::parse(WHOLE, "f").unwrap()), names(whole()));
    let empty = Policy::builder().build().unwrap().export().unwrap();
    assert_eq!(empty, "{\n  \"routes\": []\n}\n");
    assert_eq!(Policy::parse(&empty, "f").unwrap().export().unwrap(), empty);
}

#[test]
fn what_says_nothing_says_nothing() {
    let text = r#"{ "dimensions": {}, "allow_preflight": false, "routes": [ {
        "path": "/a", "public": false, "authenticated": true, "methods": {}, "scoped": [], "filtered": [], "deferred": [],
        "unscoped_for": [], "unscoped": false, "require_networks": false, "concealed": false, "checks": 0
    } ] }"#;
    let plain = Policy::builder().route("/a", Rule::authenticated()).build().unwrap();
    assert_eq!(Policy::parse(text, "f").unwrap().export().unwrap(), plain.export().unwrap());
}

/// Each field of the complete file has an effect: without it the policy is a different one, or an error.
#[test]
fn no_field_is_for_show() {
    fn fields(value: &serde_json::Value, location: &str, all: &mut Vec<(String, String)>) {
        let children: Vec<(String, &serde_json::Value)> = match value {
            serde_json::Value::Object(map) => {
                all.extend(map.keys().map(|key| (location.to_owned(), key.clone())));
                map.iter().map(|(key, value)| (key.clone(), value)).collect()
            }
            serde_json::Value::Array(list) => list.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect(),
            _ => Vec::new(),
        };
        children.iter().for_each(|(key, value)| fields(value, &format!("{location}/{key}"), all));
    }
    let value: serde_json::Value = serde_json::from_str(WHOLE).unwrap();
    let mut all = Vec::new();
    fields(&value, "", &mut all);
    assert!(all.len() > 35, "{}", all.len());
    for (location, field) in all {
        let mut without = value.clone();
        without.pointer_mut(&location).unwrap().as_object_mut().unwrap().remove(&field).unwrap();
        if let Ok(policy) = Policy::parse(&without.to_string(), "f") {
            assert_ne!(policy.export().unwrap(), WHOLE, "{location}/{field}");
        }
    }
}

#[test]
fn whatever_is_wrong_is_named_with_its_place() {
    for (fields, message) in [
        // A rule without conditions must not become an open route.
        ("", "give exactly one of"),
        (r#""resorce":"orders""#, "resorce: unknown field `resorce`"),
        (r#""public":false"#, "give exactly one of"),
        (r#""authenticated":false"#, "give exactly one of"),
        (r#""public":true,"resource":"orders""#, "give exactly one of"),
        (r#""public":true,"authenticated":true"#, "give exactly one of"),
        (r#""resource":"orders","authenticated":true"#, "give exactly one of"),
        (r#""resource":null"#, "resource: invalid type: null"),
        (r#""resource":["orders"]"#, "resource: invalid type: sequence"),
        (r#""public":"yes""#, "public: invalid type: string"),
        (r#""public":1"#, "public: invalid type: integer"),
        (r#""public":null"#, "public: invalid type: null"),
        (r#""authenticated":true,"authenticated":true"#, "duplicate field `authenticated`"),
        // A public route requires nothing, so other fields beside it are an error.
        (r#""public":true,"kind":"admin""#, "kind: the route is public"),
        (r#""public":true,"scoped":[{"dimension":"shop","path":"shop"}]"#, "scoped: the route is public"),
        (r#""public":true,"filtered":["shop"]"#, "filtered: the route is public"),
        (r#""public":true,"deferred":["shop"]"#, "deferred: the route is public"),
        (r#""public":true,"unscoped_for":["shop"]"#, "unscoped_for: the route is public"),
        (r#""public":true,"unscoped":true"#, "unscoped: the route is public"),
        (r#""public":true,"methods":{}"#, "methods: the route is public"),
        (r#""public":true,"require_networks":true"#, "require_networks: the route is public"),
        (r#""public":true,"origin":"exact""#, "origin: the route is public"),
        (r#""public":true,"concealed":true"#, "concealed: the route is public"),
        (r#""public":true,"checks":1"#, "checks: the route is public"),
        (r#""public":true,"scoped":[]"#, "scoped: the route is public"),
        (r#""public":true,"kind":false"#, "kind: the route is public"),
        (r#""public":true,"concealed":0"#, "concealed: invalid type"),
        (r#""public":true,"unscoped":null"#, "unscoped: invalid type: null"),
        (r#""authenticated":true,"kind":null"#, "kind: invalid type: null"),
        (r#""authenticated":true,"origin":true"#, "origin: "),
        (r#""authenticated":true,"origin":"Exact""#, "origin: unknown variant `Exact`"),
        (r#""authenticated":true,"require_origin":true"#, "require_origin: unknown field"),
        (r#""authenticated":true,"require_networks":"true""#, "require_networks: invalid type"),
        (r#""authenticated":true,"methods":null"#, "methods: invalid type: null, expected an object"),
        (r#""authenticated":true,"methods":["POST"]"#, "methods: invalid type: sequence, expected an object"),
        (r#""authenticated":true,"methods":{"POST":"reads"}"#, "methods.POST: unknown variant `reads`"),
        (r#""authenticated":true,"methods":{"A B":"read"}"#, "methods: \"A B\" is not a method"),
        (r#""authenticated":true,"methods":{"POST":"read","POST":"write"}"#, "methods: duplicate key \"POST\""),
        (r#""authenticated":true,"scoped":{"dimension":"shop"}"#, "scoped: invalid type: map"),
        (r#""authenticated":true,"scoped":["shop"]"#, "scoped[0]: invalid type: string"),
        (r#""authenticated":true,"scoped":[["shop","shop"]]"#, "scoped[0]: invalid type: sequence, expected an object"),
        (r#""authenticated":true,"scoped":[{"path":"shop"}]"#, "scoped[0]: missing field `dimension`"),
        (r#""authenticated":true,"scoped":[{"dimension":"shop"}]"#, "scoped[0]: give exactly one of"),
        (r#""authenticated":true,"scoped":[{"dimension":"shop","path":null}]"#, "scoped[0].path: invalid type: null"),
        (
            r#""authenticated":true,"scoped":[{"dimension":"shop","path":"a","header":"b"}]"#,
            "scoped[0]: give exactly one of",
        ),
        (
            r#""authenticated":true,"scoped":[{"dimension":"shop","header":"a b"}]"#,
            "scoped[0].header: \"a b\" is not the name of a header",
        ),
        (
            r#""authenticated":true,"scoped":[{"dimension":"shop","query":"a"}]"#,
            "scoped[0].query: unknown field `query`",
        ),
        (
            r#""authenticated":true,"scoped":[{"dimension":"shop","function":true}]"#,
            "scoped[0].function: this is Rust code, which a file cannot hold",
        ),
        (
            r#""authenticated":true,"scoped":[{"dimension":"shops","header":"a"}]"#,
            "scoped[0].dimension: the dimension \"shops\"",
        ),
        (r#""authenticated":true,"filtered":["shops"]"#, "filtered[0]: the dimension \"shops\" is not declared"),
        (r#""authenticated":true,"deferred":["shop","x"]"#, "deferred[1]: the dimension \"x\" is not declared"),
        (r#""authenticated":true,"unscoped_for":["x"]"#, "unscoped_for[0]: the dimension \"x\" is not declared"),
        (r#""authenticated":true,"filtered":"shop""#, "filtered: invalid type: string"),
        (r#""authenticated":true,"checks":1"#, "checks: this is Rust code"),
        (r#""authenticated":true,"checks":-1"#, "checks: invalid value"),
        (r#""authenticated":true,"method":"GE T""#, "routes[0]: method: \"GE T\" is not a method"),
        (r#""authenticated":true,"method":null"#, "method: invalid type: null"),
    ] {
        let comma = if fields.is_empty() { "" } else { "," };
        let error = refused(&format!(r#"{{"routes":[{{"path":"/shops/{{shop}}"{comma}{fields}}}]}}"#));
        let location = if message.starts_with("routes") { "f.json: " } else { "f.json: route /shops/{shop}: " };
        assert!(error.starts_with(&format!("{location}{message}")), "{fields}\n  {error}");
    }
}

/// Returns the error of a text that must be refused. It must be one line that begins with the file.
fn refused(text: &str) -> String {
    let error = Policy::parse(text, "f.json").expect_err(text).to_string();
    assert!(error.starts_with("f.json: ") && !error.contains('\n'), "{text}\n  {error}");
    error
}

#[test]
fn a_file_that_is_no_policy_is_refused() {
    let rule = r#""authenticated":true"#;
    for (text, message) in [
        (String::new(), "expected a JSON object"),
        ("[]".into(), "expected a JSON object"),
        ("{".into(), "EOF"),
        ("{}".into(), "missing field `routes`"),
        (r#"{"routes":[]} {}"#.into(), "trailing characters"),
        (r#"{"routes":[],"routes":[]}"#.into(), "duplicate field `routes`"),
        (r#"{"routes":[],"rotues":[]}"#.into(), "unknown field `rotues`"),
        (r#"{"routes":{}}"#.into(), "routes: invalid type: map"),
        (r#"{"routes":[],"allow_preflight":"no"}"#.into(), "allow_preflight: invalid type"),
        (r#"{"routes":[["/a"]]}"#.into(), "f.json: routes[0]: expected a JSON object"),
        (format!(r#"{{"routes":[{{{rule}}}]}}"#), "f.json: routes[0]: missing field `path`"),
        (r#"{"routes":[{"path":"/a","method":"GET"}]}"#.into(), "f.json: route GET /a: give exactly one of"),
        (r#"{"routes":[{"path":"/a\nb"}]}"#.into(), "f.json: routes[0]: give exactly one of"),
        // These are errors of the builder.
        (
            format!(r#"{{"routes":[{{"path":"/a",{rule}}},{{"path":"/a","public":true}}]}}"#),
            "pattern \"/a\": it has two rules for all methods",
        ),
        (
            format!(
                r#"{{"routes":[{{"path":"/a","method":"GET",{rule}}},{{"path":"/a","method":"GET","public":true}}]}}"#
            ),
            "pattern \"/a\": it has two rules for GET",
        ),
        (format!(r#"{{"routes":[{{"path":"/{{a}}",{rule}}},{{"path":"/{{b}}",{rule}}}]}}"#), "conflict"),
        (format!(r#"{{"routes":[{{"path":"/:a",{rule}}}]}}"#), "pattern \"/:a\": "),
        (
            format!(r#"{{"routes":[{{"path":"/{{a}}",{rule},"scoped":[{{"dimension":"shop","path":"b"}}]}}]}}"#),
            "pattern \"/{a}\": its rule is scoped by the parameter \"b\"",
        ),
        (
            format!(r#"{{"routes":[{{"path":"/a",{rule},"filtered":["shop"],"deferred":["shop"]}}]}}"#),
            "says two things about the dimension shop",
        ),
        (format!(r#"{{"routes":[{{"path":"/a",{rule},"kind":""}}]}}"#), "no key has a kind named \"\""),
        (r#"{"routes":[{"path":"/a","resource":"a b"}]}"#.into(), "no key has a resource named \"a b\""),
        (
            format!(r#"{{"routes":[{{"path":"/a","method":"get",{rule}}}]}}"#),
            "pattern \"/a\": methods are case-sensitive",
        ),
        (format!(r#"{{"routes":[{{"path":"/a",{rule},"methods":{{"Post":"read"}}}}]}}"#), "write POST"),
        (format!(r#"{{"routes":[],"fallback":{{{rule},"methods":{{"Post":"read"}}}}}}"#), "fallback: methods are"),
        // These are errors in the fallback.
        (r#"{"routes":[],"fallback":null}"#.into(), "fallback: expected a JSON object"),
        (r#"{"routes":[],"fallback":{}}"#.into(), "fallback: give exactly one of"),
        (format!(r#"{{"routes":[],"fallback":{{"path":"/a",{rule}}}}}"#), "fallback: path: "),
        (format!(r#"{{"routes":[],"fallback":{{"method":"GET",{rule}}}}}"#), "fallback: method: "),
        (
            format!(r#"{{"routes":[],"fallback":{{{rule},"scoped":[{{"dimension":"shop","path":"b"}}]}}}}"#),
            "fallback: its rule is scoped by the parameter \"b\", and a fallback has no parameters",
        ),
        // These are errors in the dimensions.
        (r#"{"dimensions":null,"routes":[]}"#.into(), "dimensions: invalid type: null"),
        (r#"{"dimensions":["a"],"routes":[]}"#.into(), "dimensions: invalid type: sequence"),
        (r#"{"dimensions":{"a":"slugs"},"routes":[]}"#.into(), "dimensions.a: unknown variant `slugs`"),
        (r#"{"dimensions":{"a":"slug","a":"number"},"routes":[]}"#.into(), "dimensions: duplicate key \"a\""),
        (r#"{"dimensions":{"a":"slug"},"routes":[]}"#.into(), "dimensions.a: no rule names it"),
        (r#"{"dimensions":{"a":"custom"},"routes":[]}"#.into(), "dimensions.a: its grammar is Rust code"),
    ] {
        let error = refused(&text);
        assert!(error.contains(message), "{text}\n  {error}");
    }
    let error = Policy::read("/nowhere/policy.json").unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/policy.json: "), "{error}");
}

#[test]
fn code_is_shown_and_not_read() {
    let scoped = Rule::resource("shops").scoped(EntityRef::from_fn("shop", |_| vec!["de".to_owned()]));
    let check = |_: &Head<'_>| -> Result<(), Denial> { Ok(()) };
    for (rule, shown, refusal) in [
        (
            scoped,
            r#""scoped": [{ "dimension": "shop", "function": true }]"#,
            "route /a: scoped[0].function: this is Rust code",
        ),
        (Rule::resource("shops").check(check), r#""checks": 1"#, "route /a: checks: this is Rust code"),
        (Rule::resource("shops").check(check).check(check), r#""checks": 2"#, "route /a: checks: "),
    ] {
        let text = Policy::builder().route("/a", rule).build().unwrap().export().unwrap();
        assert!(text.contains(shown), "{text}");
        let error = refused(&text);
        assert!(error.contains(refusal), "{error}");
    }
    let shadowed = whole().with_shadow(Policy::builder().build().unwrap(), |_| {});
    assert_eq!(shadowed.export().unwrap(), WHOLE, "a shadow enforces nothing");
}

#[test]
fn a_grammar_of_ones_own_comes_from_code() {
    let policy = Policy::builder().route("/skus/{sku}", Rule::authenticated().scoped(EntityRef::from_path(SKU, "sku")));
    let text = policy.build().unwrap().export().unwrap();
    assert!(text.contains(r#""sku": "custom""#), "{text}");
    refused(&text);
    let with = |dimensions: &[Dimension]| Policy::parse_with(&text, "f.json", dimensions);
    assert_eq!(with(&[PROJECT, SKU]).unwrap().export().unwrap(), text);
    let slugs = Dimension::new("sku", IdGrammar::Slug);
    let error = with(&[slugs]).unwrap_err().to_string();
    assert!(error.contains("dimensions.sku: ids of sku are `slug` in the code and `custom`"), "{error}");
    // A dimension that the file does not declare has its default grammar for every reader.
    let shop = Dimension::new("shop", IdGrammar::Opaque);
    let text = r#"{ "routes": [ { "path": "/shops", "authenticated": true, "filtered": ["shop"] } ] }"#;
    let error = Policy::parse_with(text, "f.json", &[shop]).unwrap_err().to_string();
    assert!(error.contains("filtered[0]: ids of shop are `opaque` in the code and `slug` in the file"), "{error}");
    let text = text.replace("[\"shop\"]", "[\"project\"]");
    let error = Policy::parse_with(&text, "f.json", &[PROJECT]).unwrap_err().to_string();
    assert!(error.contains("filtered[0]: the dimension \"project\" is not declared"), "{error}");
}

/// A file can declare only one grammar for a dimension, so code with several must be refused as well: `export` could
/// not express it.
#[test]
fn rules_that_read_ids_differently_are_refused() {
    let number = || Rule::authenticated().scoped(EntityRef::from_path(PROJECT, "id"));
    let build = |other: Rule| Policy::builder().route("/a/{id}", number()).route("/b/{id}", other).build();
    for other in
        [Rule::authenticated().scoped(EntityRef::from_path("project", "id")), Rule::authenticated().filtered("project")]
    {
        let error = build(other).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "the rule of /b/{id} reads ids of the dimension project by another grammar than that of /a/{id}"
            ),
            "{error}"
        );
    }
    // A dimension that is named without a grammar reads no ids, so it does not conflict.
    let text = build(Rule::authenticated().unscoped_for("project")).unwrap().export().unwrap();
    assert!(text.contains(r#""project": "number""#), "{text}");
    let text = build(Rule::authenticated().deferred("project")).unwrap().export().unwrap();
    assert!(text.contains(r#""project": "number""#), "{text}");
}

/// The exported policy of an example is committed, so that a change of the code shows as a change of the file.
#[test]
fn the_committed_policy_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/scayle.policy.json");
    let exported = scayle::policy().unwrap().export().unwrap();
    if env::var_os("UPDATE_POLICY").is_some() {
        fs::write(&path, &exported).unwrap();
    }
    assert!(
        fs::read_to_string(&path).is_ok_and(|committed| committed == exported),
        "examples/data/scayle.policy.json is not what examples/scayle.rs says; to rewrite it:\n  \
         UPDATE_POLICY=1 cargo test --test it the_committed_policy\nthe code says\n{exported}"
    );
    assert_eq!(Policy::read(&path).unwrap().export().unwrap(), exported);
}

fn spoilt() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "",
        "{",
        "}",
        "[",
        "]",
        "\"",
        ",",
        ":",
        "null",
        "true",
        "-1",
        "1e999",
        "\\u0000",
        "\\ud800",
        "\u{e9}",
        "{}",
        "[]",
        "\"shop\"",
        "\"path\"",
        "\"/{*rest}\"",
        "\"/{shop}\"",
        "\"get\"",
        "\"function\": true",
        "\"custom\"",
        "{{",
        "\n",
    ];
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, prop::sample::select(PIECES)), 1..4);
    edits.prop_map(|edits| {
        let mut text: Vec<char> = WHOLE.chars().collect();
        for (location, length, piece) in edits {
            let start = location.index(text.len());
            let end = (start + length).min(text.len());
            text.splice(start..end, piece.chars());
        }
        text.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in prop_oneof![spoilt(), any::<String>()]) {
        match Policy::parse_with(&text, "f.json", &[SKU]) {
            Err(error) => prop_assert!(error.to_string().starts_with("f.json: ")),
            Ok(policy) => {
                let written = policy.export().unwrap();
                let again = Policy::parse_with(&written, "again", &[SKU]).unwrap();
                prop_assert_eq!(again.export().unwrap(), written);
            }
        }
    }
}
