//! The tables, how a database comes to have them, and which programs may work with them.

use tokio_postgres::{Client, GenericClient, Transaction};

use crate::store::{
    StoreError, StoreSettings,
    postgres::{
        connection::{standby, to_store_error},
        propagation::LEASES,
    },
};

/// The migration from each version of the schema to the next, and the oldest program, by the versions it knows, that can
/// go on beside it. A migration that only adds what older programs need not know leaves that as it was; so replicas
/// are replaced one by one, after the tables.
const MIGRATIONS: [Migration; 7] = [
    Migration { sql: include_str!("schema_1.sql"), oldest: 1, rewrite: None },
    Migration { sql: include_str!("schema_2.sql"), oldest: 1, rewrite: None },
    Migration { sql: include_str!("schema_3.sql"), oldest: 1, rewrite: None },
    Migration { sql: include_str!("schema_4.sql"), oldest: 1, rewrite: None },
    Migration { sql: include_str!("schema_5.sql"), oldest: 1, rewrite: None },
    Migration {
        sql: include_str!("schema_6.sql"),
        oldest: 1,
        rewrite: Some(Rewrite {
            before: include_str!("schema_6_column.sql"),
            // The trigger writes the other form.
            batch: "UPDATE authz_keys SET may = may
                    WHERE id = ANY (ARRAY(SELECT id FROM authz_keys WHERE record IS NULL ORDER BY id LIMIT 2000))",
            after: "ALTER TABLE authz_keys ALTER COLUMN record SET NOT NULL",
        }),
    },
    Migration { sql: include_str!("schema_7.sql"), oldest: 1, rewrite: None },
];

struct Migration {
    sql: &'static str,
    oldest: i32,
    rewrite: Option<Rewrite>,
}

/// A change of every row. It is made before the migration, in transactions of its own, because replicas cannot renew their
/// leases while the migration runs. It may be interrupted, and be made again.
struct Rewrite {
    before: &'static str,
    /// Repeated until it changes no row.
    batch: &'static str,
    after: &'static str,
}

impl Rewrite {
    /// In the transaction of a store that has no rows.
    async fn run_empty(&self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        for sql in [self.before, self.after] {
            transaction.batch_execute(sql).await.map_err(to_store_error)?;
        }
        Ok(())
    }

    async fn run(&self, client: &mut Client) -> Result<(), StoreError> {
        alone(client, self.before).await?;
        loop {
            let transaction = client.transaction().await.map_err(to_store_error)?;
            transaction.batch_execute(&format!("{AS_WRITER}; {SHORT}")).await.map_err(to_store_error)?;
            let changed = transaction.execute(self.batch, &[]).await.map_err(to_store_error)?;
            transaction.commit().await.map_err(to_store_error)?;
            if changed == 0 {
                return alone(client, self.after).await;
            }
        }
    }
}

/// Nothing that a migration writes is a change of a key.
const AS_WRITER: &str = "SET LOCAL authz.writer = 'yes'";

/// A transaction that waits for a lock keeps others waiting, so it does not wait for long.
const SHORT: &str = "SET LOCAL lock_timeout = '1s'; SET LOCAL idle_in_transaction_session_timeout = '10s'";

/// Runs SQL in a transaction of its own.
async fn alone(client: &mut Client, sql: &str) -> Result<(), StoreError> {
    let transaction = client.transaction().await.map_err(to_store_error)?;
    transaction.batch_execute(&format!("{SHORT}; {sql}")).await.map_err(to_store_error)?;
    transaction.commit().await.map_err(to_store_error)
}

/// Confines the functions of the triggers; run after the migrations.
const FUNCTIONS: &str = include_str!("functions.sql");

const NEWEST: i32 = MIGRATIONS.len() as i32;

/// Makes the tables in a database that has none.
pub(super) async fn create(client: &mut Client, settings: &str) -> Result<(), StoreError> {
    let transaction = client.transaction().await.map_err(to_store_error)?;
    let known = "SELECT to_regclass('authz_counter') IS NOT NULL";
    if transaction.query_one(known, &[]).await.map_err(to_store_error)?.get(0) {
        return Err(StoreError::conflict("the database has a key store already"));
    }
    for migration in &MIGRATIONS {
        if let Some(rewrite) = &migration.rewrite {
            rewrite.run_empty(&transaction).await?;
        }
        transaction.batch_execute(migration.sql).await.map_err(to_store_error)?;
    }
    transaction.batch_execute(FUNCTIONS).await.map_err(to_store_error)?;
    let first = "INSERT INTO authz_counter (version, change, settings, schema, oldest, server_since)
                 VALUES (0, '', $1, $2, $3, pg_postmaster_start_time())";
    let oldest = MIGRATIONS.last().map_or(NEWEST, |newest| newest.oldest);
    transaction.execute(first, &[&settings, &NEWEST, &oldest]).await.map_err(to_store_error)?;
    // Nobody has a lease yet. A row that is only inserted would say nothing of that: it may come from a dump.
    transaction
        .batch_execute(&format!("UPDATE authz_counter SET settled_at = clock_timestamp(), leases = {LEASES}"))
        .await
        .map_err(to_store_error)?;
    transaction.commit().await.map_err(to_store_error)
}

/// Brings the tables to the newest schema, while older replicas serve. How many steps that took.
pub(super) async fn migrate(client: &mut Client) -> Result<u32, StoreError> {
    let (found, oldest) = version(client).await?;
    check_oldest(oldest)?;
    for rewrite in missing(found).iter().filter_map(|migration| migration.rewrite.as_ref()) {
        rewrite.run(client).await?;
    }
    let transaction = client.transaction().await.map_err(to_store_error)?;
    // In the order in which renewals take them, and before any row: else each would wait for the other.
    let lock = "LOCK TABLE authz_counter, authz_replicas IN ACCESS EXCLUSIVE MODE;
                LOCK TABLE authz_keys, authz_audit IN SHARE ROW EXCLUSIVE MODE";
    transaction.batch_execute(&format!("{SHORT}; {lock}")).await.map_err(to_store_error)?;
    // Read again: another program may have been faster.
    let (found, oldest) = version(&transaction).await?;
    check_oldest(oldest)?;
    let missing = missing(found);
    for migration in missing {
        transaction.batch_execute(migration.sql).await.map_err(to_store_error)?;
    }
    if let Some(newest) = missing.last() {
        transaction.batch_execute(FUNCTIONS).await.map_err(to_store_error)?;
        let sql = "UPDATE authz_counter SET schema = $1, oldest = $2";
        transaction.execute(sql, &[&NEWEST, &newest.oldest]).await.map_err(to_store_error)?;
    }
    transaction.commit().await.map_err(to_store_error)?;
    Ok(u32::try_from(missing.len()).unwrap_or(u32::MAX))
}

/// The schema of the tables, and the oldest program that can work with it.
async fn version(client: &impl GenericClient) -> Result<(i32, i32), StoreError> {
    let row = client.query_one("SELECT schema, oldest FROM authz_counter", &[]).await.map_err(to_store_error)?;
    Ok((row.get(0), row.get(1)))
}

fn missing(found: i32) -> &'static [Migration] {
    usize::try_from(found).ok().and_then(|found| MIGRATIONS.get(found..)).unwrap_or_default()
}

/// Whether this program can work with the tables as they are.
pub(super) async fn check(client: &Client) -> Result<(), StoreError> {
    let sql = "SELECT schema, oldest, pg_is_in_recovery() FROM authz_counter";
    let row = client.query_one(sql, &[]).await.map_err(to_store_error)?;
    let found: i32 = row.get(0);
    if row.get(2) {
        return Err(standby());
    }
    if found < NEWEST {
        let message = format!("the tables are of version {found}, this program needs {NEWEST}; run `authz migrate`");
        return Err(StoreError::unavailable(message));
    }
    check_oldest(row.get(1))?;
    // A restore in sections makes the triggers last: until then, nothing remembers what is revoked.
    let sql = "SELECT count(*) FROM pg_trigger WHERE tgname::text = ANY($1) AND tgenabled IN ('O', 'A')
                 AND tgrelid IN ('authz_counter'::regclass, 'authz_keys'::regclass, 'authz_audit'::regclass,
                   'authz_replicas'::regclass, 'authz_revoked'::regclass)";
    let enabled: i64 = client.query_one(sql, &[&TRIGGERS.as_slice()]).await.map_err(to_store_error)?.get(0);
    match usize::try_from(enabled) == Ok(TRIGGERS.len()) {
        true => Ok(()),
        false => Err(StoreError::unavailable(
            "triggers of the tables are missing or disabled, so that revocations would be forgotten: is a restore under \
             way? enable them, or restore the whole database",
        )),
    }
}

/// The triggers that the promise depends on.
const TRIGGERS: [&str; 22] = [
    "revoked_is_for_good",
    "revoked_is_never_taken_out",
    "revoked_are_never_taken_out",
    "revoked_is_remembered",
    "revoked_is_not_forgotten",
    "revoked_is_not_forgotten_meanwhile",
    "counter_changes",
    "a_longest_lease",
    "lease_is_lost",
    "lease_is_cut",
    "leases_are_lost",
    "lease_is_false",
    "audit_is_not_changed",
    "audit_is_kept",
    "both_forms",
    "key_is_made",
    "key_changes",
    "record_changes",
    "owner_changes",
    "owner_is_kept",
    "key_is_gone",
    "keys_are_gone",
];

/// Whether a program may still be as old as this one.
pub(super) fn check_oldest(oldest: i32) -> Result<(), StoreError> {
    match oldest > NEWEST {
        true => Err(StoreError::unavailable("the tables are of a newer version, and this program is too old for them")),
        false => Ok(()),
    }
}

/// The settings of a new store, as text that can be read back.
pub(super) fn settings_text(
    settings: &StoreSettings,
    own: &[crate::dimension::Dimension],
) -> Result<String, StoreError> {
    let invalid = |error: crate::error::ConfigError| StoreError::invalid(error.to_string());
    let text = settings.to_json().map_err(invalid)?;
    let _ = StoreSettings::parse(&text, own).map_err(invalid)?;
    Ok(text)
}
