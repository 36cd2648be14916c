//! Stores that the program of an earlier schema made, with one key of each sort: they open, hold what they held, and an
//! earlier program beside this one reads and writes the same records. `earlier/*.json` is what that program exported.

use tower_authz::{
    Dimension, IdGrammar, KeyFile, KeyId,
    store::{Action, AuditQuery, KeyAdmin, KeyStore, NewKey},
};

use super::{Gate, all};

const LIVE: &str = "l64_abc12345_0123456789abcdef0123456789abcdef";
const REVOKED: &str = "l64_def67890_fedcba9876543210fedcba9876543210";

/// Asserts that a migrated store has the content of the earlier one, and returns the ids of its keys.
async fn assert_is_kept(store: &(impl KeyStore + KeyAdmin + Clone), exported: &str) -> Vec<KeyId> {
    let records = all(store).await;
    let ids = records.iter().map(|record| record.id().clone()).collect();
    let kept = KeyFile::new(records.iter().map(|record| (**record).clone()), store.directory());
    assert_eq!(format!("{}\n", kept.to_json().unwrap()), exported);
    let gate = Gate::of(store);
    assert_eq!(gate.ask(http::Method::GET, "de", LIVE).await, 200);
    assert_eq!(gate.ask(http::Method::GET, "de", REVOKED).await, 401);
    let log = store.audit(&AuditQuery::new()).await.unwrap();
    assert_eq!(log.len(), 14, "the log is what it was");
    // A revocation that only the log and the memory of digests know of holds as well.
    let deleted = log.iter().find(|audit| audit.action == Action::Deleted).unwrap().before.clone().unwrap();
    assert!(deleted.contains("revoked_at"), "{deleted}");
    let keys = KeyFile::parse_with(exported, "earlier", &[Dimension::new("project", IdGrammar::Slug)])
        .unwrap()
        .records()
        .to_vec();
    let back = store.as_actor("test").import(keys).await.unwrap();
    assert_eq!(back.added, 0);
    ids
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_file_of_schema_3_is_kept_as_it_was() {
    use tower_authz::store::SqliteStore;

    use super::sqlite::{Folder, raw};
    let folder = Folder::new();
    let file = raw(&folder.file());
    file.execute_batch(include_str!("earlier/sqlite_3.sql")).unwrap();
    // Rows that nobody could read before are not repaired by chance, and keep the file from nothing.
    file.execute_batch(
        "UPDATE writer SET busy = 1;
         INSERT INTO keys (id, digest, name, may, version) VALUES
           ('twice', randomblob(32), '', '{\"permissions\":{\"products\":\"read\"},\"permissions\":{}}', 1),
           ('garbage', randomblob(32), '', 'garbage', 1), ('list', randomblob(32), '', '[]', 1),
           ('kind', randomblob(32), '', '{\"permissions\":{\"products\":\"read\"},\"kind\":\"admin\"}', 1),
           ('id', randomblob(32), '', '{\"permissions\":{\"products\":\"read\"},\"id\":null}', 1),
           ('nul', randomblob(32), '', CAST(x'7b7d00' || CAST(',\"ip_ranges\":[]}' AS BLOB) AS TEXT), 1),
           ('marked', randomblob(32), 'm', char(65279) || ' {\"permissions\":{\"products\":\"read\"}}', 1),
           ('spaced', randomblob(32), 's', '  { \"permissions\" : { } }  ', 1), ('empty', randomblob(32), 'e', ' { } ', 1);
         PRAGMA ignore_check_constraints = ON;
         INSERT INTO keys (id, digest, name, may, version) VALUES ('short', x'00', '', '{}', 1);
         UPDATE writer SET busy = 0;",
    )
    .unwrap();
    drop(file);
    let store = SqliteStore::open(folder.file()).unwrap();
    let page = store.list(&tower_authz::store::KeyQuery::new()).await.unwrap();
    let unreadable: Vec<_> = page.unreadable.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(unreadable, ["garbage", "id", "kind", "list", "nul", "short", "twice"]);
    for (id, name) in [("spaced", "s"), ("empty", "e"), ("marked", "m")] {
        assert_eq!(store.show(&id.parse().unwrap()).await.unwrap().name(), name);
    }
    for id in unreadable {
        store.as_actor("anna").revoke(&id.parse().unwrap(), "unreadable").await.unwrap();
    }
    drop(store);
    raw(&folder.file())
        .execute_batch(
            "UPDATE writer SET busy = 1; DELETE FROM keys WHERE id NOT LIKE 'l64%';
             DELETE FROM audit WHERE number > 14; UPDATE writer SET busy = 0",
        )
        .unwrap();

    let store = SqliteStore::open(folder.file()).unwrap();
    let ids = assert_is_kept(&store, include_str!("earlier/sqlite_3.json")).await;
    for id in ids.iter().filter(|id| id.as_str() != "l64_def67890") {
        store.as_actor("anna").rename(id, "renamed").await.unwrap();
    }
    store.as_actor("anna").revoke(&"l64_abc12345".parse().unwrap(), "lost").await.unwrap();
    assert_eq!(Gate::of(&store).ask(http::Method::GET, "de", LIVE).await, 401);
    drop(store);
    assert_eq!(
        Gate::of(&SqliteStore::open(folder.file()).unwrap()).ask(http::Method::GET, "de", LIVE).await,
        401,
        "for good"
    );
}

/// A program of before would not notice what is changed after the migration, and an object that uses a column that goes
/// keeps the file as it was.
#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_file_of_schema_3_is_migrated_by_whoever_has_it_alone() {
    use tower_authz::store::SqliteStore;

    use super::sqlite::{Folder, raw};
    let folder = Folder::new();
    let other = raw(&folder.file());
    other.execute_batch(include_str!("earlier/sqlite_3.sql")).unwrap();
    let version = || other.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)).unwrap();
    let refused = || SqliteStore::open(folder.file()).map(drop).unwrap_err().to_string();
    other.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(())).unwrap();
    other.execute_batch("SELECT * FROM keys").unwrap();
    let error = refused();
    assert!(error.contains("another program has it open: stop that program"), "{error}");
    assert_eq!(version(), 3);
    other.execute_batch("CREATE INDEX by_name ON keys (name)").unwrap();
    drop(other);
    let error = refused();
    assert!(error.contains("cannot be brought to the newest schema") && error.contains("by_name"), "{error}");
    raw(&folder.file()).execute_batch("DROP INDEX by_name").unwrap();
    // Two that start together: one migrates, and the other waits, or is told that the file is locked and tries again.
    let both = [0, 1].map(|_| {
        let file = folder.file();
        std::thread::spawn(move || {
            let begin = std::time::Instant::now();
            loop {
                match SqliteStore::open(&file) {
                    Ok(store) => return drop(store),
                    Err(error) => assert!(begin.elapsed() < std::time::Duration::from_secs(30), "{error}"),
                }
            }
        })
    });
    for opened in both {
        opened.join().unwrap();
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use std::time::Duration;

    use http::Method;
    use tower_authz::{
        Grant,
        store::{PostgresOptions, PostgresStore},
    };

    use super::*;
    use crate::stores::{
        all,
        postgres::{address, database, raw, server},
    };

    const LEASE: Duration = Duration::from_millis(600);

    /// The columns that programs before schema 6 read, and how they write a change of a record.
    const COLUMNS: &str = "id, name, kind, tenant, revocation_reason, may, replaces, replaced_by";
    const UPDATE: &str = "UPDATE authz_keys SET name = $2, kind = $3, tenant = $4, revocation_reason = $5, may = $6,
                            replaced_by = $7, version = version + 1 WHERE id = $1";

    async fn client(database: &str) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&address(database), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    async fn earlier() -> (String, PostgresStore) {
        let database = database().await;
        raw(&database, include_str!("earlier/postgres_5.sql")).await;
        assert_eq!(PostgresStore::migrate(&address(&database)).await.unwrap(), 2);
        let store = PostgresOptions::new().lease(LEASE).connect(&address(&database)).await.unwrap();
        (database, store)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn tables_of_schema_5_are_kept_as_they_were() {
        if server().is_none() {
            return;
        }
        let (_database, store) = earlier().await;
        assert_is_kept(&store, include_str!("earlier/postgres_5.json")).await;
        store.as_actor("anna").revoke(&"l64_abc12345".parse().unwrap(), "lost").await.unwrap();
        assert_eq!(Gate::of(&store).ask(Method::GET, "de", LIVE).await, 401);
    }

    /// Text that only this schema gives a meaning to does not keep the migration from its end, nor admit anybody.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_key_that_was_called_unreadable_before_is_migrated() {
        if server().is_none() {
            return;
        }
        let database = database().await;
        raw(&database, include_str!("earlier/postgres_5.sql")).await;
        let off = "INSERT INTO authz_keys (id, digest, name, may, version) VALUES ('off', sha256('off'), '', 'unreadable', 1)";
        raw(&database, off).await;
        let migrated = tokio::time::timeout(Duration::from_secs(20), PostgresStore::migrate(&address(&database))).await;
        assert_eq!(migrated.expect("the migration ends").unwrap(), 2);
        let store = PostgresStore::connect(&address(&database)).await.unwrap();
        let error = store.show(&"off".parse().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), tower_authz::store::StoreErrorKind::Unreadable, "{error}");
    }

    /// An old dump may be restored into new tables; they are migrated once more.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn data_of_schema_5_is_restored_into_tables_of_schema_6() {
        if server().is_none() {
            return;
        }
        let (database, store) = earlier().await;
        drop(store);
        let data = include_str!("earlier/postgres_5.sql").lines().filter(|line| line.starts_with("INSERT INTO"));
        let data: Vec<_> = data.filter(|line| !line.contains("authz_revoked")).collect();
        let restore = format!(
            "BEGIN; SET LOCAL authz.writer = 'yes'; DELETE FROM authz_audit; TRUNCATE authz_replicas, authz_keys;
             DELETE FROM authz_audit; DELETE FROM authz_counter; SET LOCAL search_path = ''; {} COMMIT",
            data.join("\n")
        );
        raw(&database, &restore).await;
        let error = PostgresStore::connect(&address(&database)).await.map(drop).unwrap_err().to_string();
        assert!(error.contains("authz migrate"), "{error}");
        assert_eq!(PostgresStore::migrate(&address(&database)).await.unwrap(), 2);
        let store = PostgresOptions::new().lease(LEASE).connect(&address(&database)).await.unwrap();
        assert_is_kept(&store, include_str!("earlier/postgres_5.json")).await;
    }

    /// Programs before schema 6 have their own columns: what either program writes, the other reads.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_earlier_program_reads_and_writes_the_same_records() {
        if server().is_none() {
            return;
        }
        let (database, store) = earlier().await;
        let client = client(&database).await;
        let grant = Grant::builder().write("products").only("shop", ["de"]).build().unwrap();
        let new = NewKey::new("of the \"new\" {program}", grant).kind("runtime");
        let key = store.as_actor("anna").issue(new).await.unwrap();
        let id = key.record.id();
        store.as_actor("anna").rename(id, "Schlüssel").await.unwrap();

        // The earlier program reads what this one wrote.
        let sql = format!("SELECT {COLUMNS} FROM authz_keys WHERE id = $1");
        let row = client.query_one(&sql, &[&id.as_str()]).await.unwrap();
        let text = |column: usize| row.get::<_, Option<String>>(column);
        assert_eq!((text(1).as_deref(), text(2).as_deref()), (Some("Schlüssel"), Some("runtime")));
        assert_eq!((text(3), text(4), text(6), text(7)), (None, None, None, None));
        let may: serde_json::Value = serde_json::from_str(&text(5).unwrap()).unwrap();
        let wanted = r#"{"permissions":{"products":"write"},"restrictions":{"shop":{"include":["de"]}}}"#;
        assert_eq!(may, serde_json::from_str::<serde_json::Value>(wanted).unwrap());
        let gate = Gate::of(&store);
        assert_eq!((gate.put(&key).await, gate.ask(Method::PUT, "us", key.api_key.expose()).await), (200, 403));

        // A field that the earlier program does not know might restrict the key: it reads nothing then, and changes nothing.
        let color =
            format!("UPDATE authz_keys SET record = record::jsonb || '{{\"color\":\"red\"}}' WHERE id = '{id}'");
        raw(&database, &color).await;
        let none: Option<String> = None;
        let narrower = r#"{"permissions":{"products":"read"},"restrictions":{"shop":{"include":["us"]}}}"#;
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
            [&id.as_str(), &"earlier", &none, &Some("one"), &none, &narrower, &none];
        let error = client.execute(UPDATE, &values).await.unwrap_err();
        let message = error.as_db_error().unwrap().message();
        assert!(message.contains("has fields that `may` cannot hold: change `record`"), "{message}");
        // It can still be revoked.
        client.execute("BEGIN", &[]).await.unwrap();
        let revoked = UPDATE.replace(" WHERE", ", revoked_at = now() WHERE");
        assert_eq!(client.execute(&revoked, &values).await.unwrap(), 1);
        client.execute("ROLLBACK", &[]).await.unwrap();
        let both = "SELECT record, may FROM authz_keys WHERE id = $1";
        let row = client.query_one(both, &[&id.as_str()]).await.unwrap();
        let (record, may): (String, String) = (row.get(0), row.get(1));
        assert!(record.contains(r#""color": "red""#) && record.contains("runtime"), "{record}");
        assert_eq!(may, "unreadable");
        // Without it, this program reads what the earlier one writes.
        raw(&database, &format!("UPDATE authz_keys SET record = record::jsonb - 'color' WHERE id = '{id}'")).await;
        assert_eq!(client.execute(UPDATE, &values).await.unwrap(), 1);
        let reads = |shop| gate.ask(Method::GET, shop, key.api_key.expose());
        let begin = std::time::Instant::now();
        while reads("us").await != 200 {
            assert!(begin.elapsed() < Duration::from_secs(5));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!((reads("de").await, gate.ask(Method::PUT, "us", key.api_key.expose()).await), (403, 403));
        let shown = store.show(id).await.unwrap();
        assert_eq!((shown.name(), shown.kind(), shown.tenant()), ("earlier", None, Some("one")));

        // New rows of the earlier program, and rows that it damages.
        let insert =
            "INSERT INTO authz_keys (id, digest, name, may, version) VALUES ('old', sha256('old'), 'o', '{}', 1)";
        raw(&database, insert).await;
        raw(&database, &format!("UPDATE authz_keys SET may = 'garbage' WHERE id = '{id}'")).await;
        let begin = std::time::Instant::now();
        while reads("us").await != 500 {
            assert!(begin.elapsed() < Duration::from_secs(5));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(store.show(&"old".parse().unwrap()).await.unwrap().name(), "o");
        assert_eq!(all(&store).await.len(), 9);
        store.as_actor("anna").revoke(id, "unreadable").await.unwrap();
    }

    /// The owner is a column of its own, which a program of schema 6 does not know: it leaves it as it is. Labels are a field
    /// of the record that it does not know, so that it refuses the key.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_earlier_program_keeps_the_owner_of_a_key() {
        if server().is_none() {
            return;
        }
        let (database, store) = earlier().await;
        let grant = || Grant::builder().read("products").build().unwrap();
        let owned = store.as_actor("anna").issue(NewKey::new("k", grant()).owner("acct-7")).await.unwrap();
        let labels = tower_authz::Metadata::new().with_label("env", "prod");
        let labelled = store.as_actor("anna").issue(NewKey::new("k", grant()).metadata(labels)).await.unwrap();
        let client = client(&database).await;
        let read = async |column: &str, id: &KeyId| {
            let row =
                client.query_one(&format!("SELECT {column} FROM authz_keys WHERE id = $1"), &[&id.as_str()]).await;
            row.unwrap().get::<_, Option<String>>(0)
        };
        assert!(!read("record", owned.record.id()).await.unwrap().contains("acct-7"));
        assert!(read("record", labelled.record.id()).await.unwrap().contains("labels"));
        assert_eq!(read("may", labelled.record.id()).await.as_deref(), Some("unreadable"));
        // As the program of schema 6 writes a record.
        let renamed = "UPDATE authz_keys SET version = version + 1, record = replace(record, '\"k\"', '\"renamed\"') WHERE id = $1";
        client.execute(renamed, &[&owned.record.id().as_str()]).await.unwrap();
        let record = store.show(owned.record.id()).await.unwrap();
        assert_eq!((record.name(), record.metadata().owner()), ("renamed", Some("acct-7")));
        // And as it writes a key that takes the place of another.
        let rotated = "INSERT INTO authz_keys (id, digest, name, may, version, record)
                       VALUES ('new', sha256('new'), '', '', 1, json_build_object('name', 'k', 'replaces', $1::text))";
        client.execute(rotated, &[&owned.record.id().as_str()]).await.unwrap();
        assert_eq!(store.show(&"new".parse().unwrap()).await.unwrap().metadata().owner(), Some("acct-7"));
        client.execute("DELETE FROM authz_keys WHERE id = 'new'", &[]).await.unwrap();
        // Whoever changes an owner by SQL has changed the key.
        client
            .execute("UPDATE authz_keys SET owner = 'acct-8' WHERE id = $1", &[&owned.record.id().as_str()])
            .await
            .unwrap();
        let log = store.audit(&AuditQuery::new().key(owned.record.id().clone())).await.unwrap();
        assert_eq!(log[0].action, Action::ChangedBySql);
        assert_eq!(store.as_actor("anna").revoke_all_of("acct-8", "").await.unwrap().records.len(), 1);
        assert_eq!(Gate::of(&store).get(&owned).await, 401);
        // A key that nobody can read is revoked with the others of its owner.
        let broken = store.as_actor("anna").issue(NewKey::new("k", grant()).owner("acct-9")).await.unwrap();
        let id = broken.record.id().as_str();
        client.execute("UPDATE authz_keys SET record = 'garbage' WHERE id = $1", &[&id]).await.unwrap();
        let revoked = store.as_actor("anna").revoke_all_of("acct-9", "").await.unwrap();
        assert_eq!((revoked.records.len(), revoked.unreadable), (0, 1));
        let sql = "SELECT revoked_at IS NOT NULL FROM authz_keys WHERE id = $1";
        assert!(client.query_one(sql, &[&id]).await.unwrap().get::<_, bool>(0));
    }

    /// What the earlier program makes of its column: a grant of four fields, none of them twice.
    fn earlier_reads(may: &str) -> Option<Grant> {
        let text = may.strip_prefix('\u{feff}').unwrap_or(may);
        let known = ["permissions", "restrictions", "ip_ranges", "origins"];
        let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).ok()?;
        if !fields.keys().all(|field| known.contains(&&**field)) {
            return None;
        }
        let entry = text.trim().strip_prefix('{')?.trim();
        let comma = if entry == "}" { "" } else { "," };
        let digest = tower_authz::Digest::from_key(b"a key");
        let file = format!(r#"{{"keys":[{{"id":"any","digest":"{digest}"{comma}{entry}]}}"#);
        Some(KeyFile::parse(&file, "may").ok()?.records()[0].grant().clone())
    }

    /// Whatever is written by hand in one form: the other program reads the same, or refuses the key.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_form_of_a_record_is_wider_than_the_other() {
        const TEXTS: [&str; 43] = [
            r#""permissions":{"products":"read"},"ip_ranges":["10.0.0.0/8"]"#,
            "",
            r#""permissions":{"products":"read"},"ip_range":["10.0.0.0/8"]"#,
            r#""permissions":{"products":"read"},"Ip_ranges":["10.0.0.0/8"]"#,
            r#""permissions":{"products":"read"},"ip_ranges":["10.0.0.0/8"],"ip_ranges":null"#,
            r#""permissions":{"products":"read"},"ip_ranges":["10.0.0.0/8"],"ip_ranges":["0.0.0.0/0"]"#,
            r#""permissions":{"products":"read"},"ip_ranges":["10.0.0.0/8"],"ip_\u0072anges":null"#,
            r#""p\u0065rmissions":{"products":"read"},"\u0069p_ranges":["10.0.0.0/8"]"#,
            r#""permissions":{"products":"read","products":"write"}"#,
            r#""permissions":{"products":"read"},"permissions":{}"#,
            r#""permissions":{"products":"read","x":null}"#,
            r#""permissions":null"#,
            r#""permissions":["products"]"#,
            r#""permissions":{"a\u0000b":"read","products":"read"},"ip_ranges":["10.0.0.0/8"]"#,
            r#""permissions":{"products":"read"},"x\u0000":1"#,
            r#""permissions":{"\ud800":"read"}"#,
            r#""permissions":{"products":"read"},"kind":"admin""#,
            r#""permissions":{"products":"read"},"kind":null"#,
            r#""permissions":{"products":"read"},"kind":5"#,
            r#""permissions":{"products":"read"},"name":["x"]"#,
            r#""permissions":{"products":"read"},"name":null"#,
            r#""permissions":{"products":"read"},"tenant":"evil""#,
            r#""permissions":{"products":"read"},"id":null"#,
            r#""permissions":{"products":"read"},"digest":null"#,
            r#""permissions":{"products":"read"},"revoked_at":null"#,
            r#""permissions":{"products":"read"},"revoked_at":"2020-01-01T00:00:00Z""#,
            r#""permissions":{"products":"read"},"expires_at":"2020-01-01T00:00:00Z""#,
            r#""permissions":{"products":"read"},"restrictions":null,"ip_ranges":null,"origins":null"#,
            r#""permissions":{"products":"read"},"restrictions":{"shop":{"include":["de"]}}"#,
            r#""permissions":{"products":"read"},"restrictions":{"shop":null}"#,
            r#""permissions":{"products":"read"},"restrictions":{"shop":{"include":null}}"#,
            r#""permissions":{"products":"read"},"restrictions":{"shop":{"include":["de"],"include":["de","ch"]}}"#,
            r#""permissions":{"products":"read"},"restrictions":{"shop":{"include":["de"]},"shop":{"exclude":[]}}"#,
            r#""permissions":{"products":"read"},"restrictions":{"shop":{"include":[]}}"#,
            r#""permissions":{"products":"read"},"restrictions":{"shop":[["de"],null]}"#,
            r#""permissions":{"products":"read"},"restrictions":{"company":{"include":[1,"2"]}}"#,
            r#""permissions":{"products":"read"},"restrictions":{"company":{"include":[1e0]}}"#,
            r#""permissions":{"products":"read"},"restrictions":{"company":{"exclude":[-0]}}"#,
            r#""permissions":{"products":"read"},"restrictions":{"company":{"include":[18446744073709551616]}}"#,
            r#""permissions":{"products":"read"},"ip_ranges":[]"#,
            r#""permissions":{"products":"read"},"origins":[]"#,
            r#""permissions":{"products":"read"},"color":"red""#,
            r#""permissions":{"a\"}{,\\":"read","}":"write"}"#,
        ];
        if server().is_none() {
            return;
        }
        let (database, store) = earlier().await;
        let client = client(&database).await;
        let deep = format!(r#"{{"permissions":{}{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
        let no_objects = ["", "x", "[]", "null", "{", "{}}", "[{\"products\":\"read\"}]", " { \n } ", "{} x", &deep];
        let objects = TEXTS.map(|members| format!("{{{members}}}"));
        let marked = objects.iter().map(|text| format!("\u{feff}{text}"));
        let all: Vec<String> = objects.iter().cloned().chain(marked).chain(no_objects.map(str::to_owned)).collect();
        let mut agree = 0;
        for (number, text) in all.iter().enumerate() {
            for column in ["record", "may"] {
                let id = format!("{column}-{number}");
                let made = "INSERT INTO authz_keys (id, digest, name, kind, may, version) VALUES ($1, $2, 'n', 'runtime', $3, 1)";
                let digest = tower_authz::Digest::from_key(id.as_bytes());
                let may = r#"{"permissions":{"products":"read"},"ip_ranges":["10.0.0.0/8"]}"#;
                client.execute(made, &[&id, &digest.as_bytes().as_slice(), &may]).await.unwrap();
                let written = format!("UPDATE authz_keys SET {column} = $2 WHERE id = $1");
                client.execute(&written, &[&id, text]).await.unwrap();
                for touched in [false, true] {
                    if touched {
                        client.execute("UPDATE authz_keys SET name = name || '.' WHERE id = $1", &[&id]).await.unwrap();
                    }
                    let row = client.query_one("SELECT may, kind FROM authz_keys WHERE id = $1", &[&id]).await.unwrap();
                    let earlier = earlier_reads(row.get(0)).map(|grant| (grant, row.get::<_, Option<String>>(1)));
                    let record = store.show(&id.parse().unwrap()).await.ok();
                    let newer = record.map(|record| (record.grant().clone(), record.kind().map(str::to_owned)));
                    let writer = if column == "may" { &earlier } else { &newer };
                    let reader = if column == "may" { &newer } else { &earlier };
                    assert!(reader.is_none() || reader == writer, "{column} {text:?} {touched}: {earlier:?} {newer:?}");
                    agree += usize::from(reader.is_some());
                }
                store.as_actor("anna").revoke(&id.parse().unwrap(), "").await.unwrap();
            }
        }
        assert!(agree > 60, "what both can read, both read: {agree}");
    }
}
