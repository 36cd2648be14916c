//! A key file is either understood completely, or refused with the location of the error.

use tower_authz::{Dimension, KeyFile, KeyFormat, Permission, store::MemoryStore};

const DIGEST: &str = "6ca13d52ca70c883e0f0bb101e425a89e8624de51db2d2392593af6a84118090";

/// Returns a file of one key with these fields besides id, name and digest.
fn file(fields: &str) -> String {
    let comma = if fields.is_empty() { "" } else { "," };
    format!(r#"{{"keys":[{{"id":"l64_abc12345","name":"n","digest":"{DIGEST}"{comma}{fields}}}]}}"#)
}

#[test]
fn the_whole_form_is_read_and_written() {
    let text = format!(
        r#"{{
          "keys": [ {{
            "id": "l64_abc12345", "name": "prod-2026-05", "digest": "{DIGEST}",
            "kind": "admin", "tenant": "acme-live",
            "not_before": null, "expires_at": "2027-01-01T00:00:00Z", "revoked_at": null,
            "permissions": {{ "products": "write", "orders": "read" }},
            "restrictions": {{ "company": {{ "include": ["1", 2] }}, "shop": {{ "exclude": ["de"] }}, "shop_country": null }},
            "ip_ranges": ["10.0.0.0/8", "2001:db8::/32"],
            "origins": ["https://shop.example"]
          }} ],
          "directory": {{ "shops": [ {{ "key": "de", "company": 1, "countries": [ {{ "code": "at", "id": "1001" }} ] }} ] }}
        }}"#
    );
    let file = KeyFile::parse(&text, "keys.json").unwrap();
    let record = &file.records()[0];
    assert_eq!((record.kind(), record.tenant()), (Some("admin"), Some("acme-live")));
    assert!(record.grant().permits(&Permission::read("products")));
    assert!(record.grant().restriction(&Dimension::COMPANY).unwrap().allows("2"));
    assert!(record.grant().restriction(&Dimension::SHOP_COUNTRY).is_none());
    assert_eq!(file.directory().company_of("de"), Some("1"));
    let again = KeyFile::parse(&file.to_json().unwrap(), "again").unwrap();
    assert_eq!(again.records(), file.records());
    assert_eq!(again.directory().shop_of_country("1001"), Some("de"));
}

#[test]
fn whatever_is_wrong_is_named_with_its_place() {
    let key = "keys.json: key l64_abc12345: ";
    for (fields, place, message) in [
        (r#""permisions":{}"#, key, "unknown field `permisions`"),
        (r#""permissions":{"products":"admin"}"#, key, "permissions.products: unknown variant `admin`"),
        (r#""permissions":{"a":"read","a":"write"}"#, key, "permissions: duplicate key \"a\""),
        (r#""permissions":["products"]"#, key, "permissions: invalid type"),
        (r#""restrictions":{"shop":{"include":["de"],"exclude":["ch"]}}"#, key, "restrictions.shop: give exactly one"),
        (r#""restrictions":{"shops":{"include":["de"]}}"#, key, "restrictions.shops: no such dimension"),
        (r#""restrictions":{"shop":{}}"#, key, "restrictions.shop: give exactly one"),
        (r#""restrictions":{"shop":{"include":"de"}}"#, key, "restrictions.shop.include: invalid type"),
        (r#""restrictions":{"shop":{"only":["de"]}}"#, key, "restrictions.shop.only: unknown field"),
        (r#""restrictions":{"shop":{"exclude":["DE"]}}"#, key, "restrictions.shop: \"DE\" is not the canonical"),
        (r#""restrictions":{"company":{"include":["03"]}}"#, key, "restrictions.company: \"03\""),
        (r#""restrictions":{"company":{"include":[-3]}}"#, key, "restrictions.company.include[0]"),
        (r#""restrictions":{"company":{"include":[3.5]}}"#, key, "restrictions.company.include[0]"),
        (r#""restrictions":{"shop_country":{"include":["1"]}}"#, key, "restrict the shop"),
        (r#""ip_ranges":["10.0.0.1/8"]"#, key, "ip_ranges[0]: \"10.0.0.1/8\" is not a network: it has host bits"),
        (r#""ip_ranges":"10.0.0.0/8""#, key, "ip_ranges: invalid type"),
        (r#""origins":["null"]"#, key, "origins: \"null\" is not an origin"),
        (r#""expires_at":"tomorrow""#, key, "expires_at: a time is written like"),
        (r#""revoked_at":0"#, key, "revoked_at: invalid type"),
        (
            r#""restrictions":{"shop":[["de"],null]}"#,
            key,
            "restrictions.shop: invalid type: sequence, expected an object",
        ),
        (r#""kind":"""#, key, "kind: leave it out"),
        (r#""kind":["admin"]"#, key, "kind: invalid type"),
        (r#""digest":"a""#, key, "duplicate field `digest`"),
    ] {
        let error = KeyFile::parse(&file(fields), "keys.json").unwrap_err().to_string();
        assert!(error.starts_with(place) && error.contains(message), "{fields}\n  {error}");
        assert!(!error.contains('\n'), "one line: {error}");
    }
    for (text, message) in [
        ("", "keys.json: expected a JSON object"),
        ("{", "keys.json: "),
        ("[]", "keys.json: expected a JSON object"),
        (r#"{"keys":[["a","n","b"]]}"#, "keys.json: keys[0]: expected a JSON object"),
        ("{}", "keys.json: missing field `keys`"),
        (r#"{"keys":[],"key":[]}"#, "unknown field `key`"),
        (r#"{"keys":[{"name":"n"}]}"#, "keys.json: keys[0]: missing field `id`"),
        (r#"{"keys":[{"id":"a","name":"n"}]}"#, "keys.json: key a: missing field `digest`"),
        (r#"{"keys":[{"id":"a","name":"n","digest":"AB"}]}"#, "keys.json: key a: digest: a digest is 64"),
        (r#"{"keys":[{"id":"a b","name":"n","digest":"AB"}]}"#, "keys[0]: id: a key id is"),
        (r#"{"keys":[]} x"#, "trailing characters"),
        (r#"{"keys":[],"directory":[[]]}"#, "directory: invalid type: sequence, expected an object"),
        (r#"{"keys":[],"directory":{"shops":[["de"]]}}"#, "directory.shops[0]: invalid type: sequence"),
        (r#"{"keys":[],"directory":{"shops":[{"key":"de"},{"key":"de"}]}}"#, "directory shop \"de\": duplicate shop"),
    ] {
        let error = KeyFile::parse(text, "keys.json").unwrap_err().to_string();
        assert!(error.contains(message), "{text}\n  {error}");
    }
    let twice = format!(
        r#"{{"keys":[{{"id":"a","name":"n","digest":"{DIGEST}"}},{{"id":"b","name":"n","digest":"{DIGEST}"}}]}}"#
    );
    assert!(KeyFile::parse(&twice, "f").unwrap_err().to_string().contains("key b: digest: another key has the same"));
}

#[test]
fn dimensions_of_ones_own_are_declared() {
    let project = Dimension::new("project", tower_authz::IdGrammar::Number);
    let text = |id: &str| file(&format!(r#""restrictions":{{"project":{{"exclude":["{id}"]}}}}"#));
    assert!(KeyFile::parse(&text("42"), "f").is_err());
    let parsed = KeyFile::parse_with(&text("42"), "f", std::slice::from_ref(&project)).unwrap();
    assert!(!parsed.records()[0].grant().restriction(&project).unwrap().allows("42"));
    let error = KeyFile::parse_with(&text("042"), "f", &[project]).unwrap_err().to_string();
    assert!(error.contains("restrictions.project: \"042\""), "{error}");
}

/// An application may define the dimension `shop` with another grammar.
#[test]
fn shop_keys_can_have_a_grammar_of_their_own() {
    const SHOP: Dimension = Dimension::new(
        "shop",
        tower_authz::IdGrammar::Custom(|key| key.len() == 2 && key.bytes().all(|byte| byte.is_ascii_uppercase())),
    );
    let key = file(r#""restrictions":{"shop":{"exclude":["DE"]}}"#);
    let keys = key.strip_suffix('}').unwrap();
    let text = format!(r#"{keys},"directory":{{"shops":[{{"key":"DE","company":1}}]}}}}"#);
    assert!(KeyFile::parse(&text, "f").is_err());
    let parsed = KeyFile::parse_with(&text, "f", &[SHOP]).unwrap();
    assert!(!parsed.records()[0].grant().restriction(&SHOP).unwrap().allows("DE"));
    assert_eq!(parsed.directory().company_of("DE"), Some("1"));
    assert!(tower_authz::Directory::builder().shop("DE", None).build_with(&SHOP).is_ok());
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_and_no_empty_store() {
    let error = MemoryStore::open("/nowhere/keys.json", KeyFormat::default()).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/keys.json: "), "{error}");
}

#[test]
fn absent_and_null_restrict_nothing_but_grant_nothing_either() {
    for fields in ["", r#""permissions":null,"restrictions":null,"ip_ranges":null,"origins":null,"kind":null"#] {
        let parsed = KeyFile::parse(&file(fields), "f").unwrap();
        let grant = parsed.records()[0].grant();
        assert!(grant.permissions().is_empty() && grant.restrictions().is_empty());
        assert!(grant.networks().is_none() && grant.origins().is_none());
    }
}
