//! One suite that every store passes: the same cases are mounted once for each store, so that a failing test names
//! store and case. A new store implements [`Fixture`] (and [`Durable`], if its data outlive the process) and adds a
//! line at the end of this file.

mod admission;
mod ceilings;
mod ceilings_at_random;
mod changes;
#[cfg(feature = "sqlite")]
mod child;
#[cfg(feature = "postgres")]
mod cluster;
#[cfg(feature = "sqlite")]
mod durable;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod earlier;
#[cfg(all(feature = "file", feature = "sqlite"))]
mod file;
mod formats;
mod hierarchies;
mod history;
mod lists;
mod people;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod postgres_by_hand;
#[cfg(feature = "postgres")]
mod postgres_failover;
#[cfg(feature = "postgres")]
mod postgres_faults;
#[cfg(feature = "postgres")]
mod postgres_operations;
mod roles;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "sqlite")]
mod sqlite_by_hand;
#[cfg(feature = "sqlite")]
mod sqlite_faults;
#[cfg(feature = "sqlite")]
mod sqlite_files;
#[cfg(feature = "sqlite")]
mod sqlite_names;
mod usage;

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response};
use http_body_util::Full;
use tower::{ServiceBuilder, ServiceExt as _, util::BoxCloneSyncService};
#[cfg(feature = "sqlite")]
use tower_authz::store::StoreError;
use tower_authz::{
    AuthenticateLayer, Dimension, Grant, KeyRecord, Principal, RequireLayer, Rule,
    check::EntityRef,
    store::{AuditQuery, AuditRecord, IssuedKey, KeyAdmin, KeyQuery, KeyStore, MemoryStore, NewKey, StoreSettings},
};

use crate::support::Handler;

/// Gives the suite access to a store.
pub trait Fixture: Sized {
    type Store: KeyStore + KeyAdmin + Clone;

    /// Whether the requirements of the store are met on this machine. If not, the skipped tests were reported.
    fn is_there() -> bool {
        true
    }

    /// Creates an empty store that no other test uses; it is removed when the fixture is dropped.
    async fn fresh(settings: StoreSettings) -> Self;

    fn store(&self) -> &Self::Store;

    /// A store may write uses with a delay, at the latest at the end of the process, for which the suite does not
    /// wait here. The fixture must hold the only handle.
    async fn with_uses_written(self) -> Self;
}

/// A store that outlives the process that opened it.
#[cfg(feature = "sqlite")]
pub trait Durable: Fixture {
    /// Names the kind of store to a child process.
    const KIND: &'static str;

    /// Returns the location that a child process needs to open the store.
    fn place(&self) -> String;

    /// Opens the store as another process would.
    async fn open(place: &str) -> Result<Self::Store, StoreError>;

    /// Drops the store as the end of a process would, and opens it as the next one would.
    async fn reopen(self) -> Self;

    /// Runs the integrity check of the database.
    async fn assert_sound(place: &str);
}

/// Mounts each case under its name. A case that is left out here is dead code, which clippy reports.
macro_rules! mount {
    ($fixture:path { $($file:ident: $($case:ident)+;)+ }) => {
        $(mod $file {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if <$fixture as crate::stores::Fixture>::is_there() {
                    crate::stores::$file::$case::<$fixture>().await;
                }
            })+
        })+
    };
}

macro_rules! conformance {
    ($fixture:path) => {
        mount! { $fixture {
            admission:
                only_what_was_issued_is_admitted
                a_new_grant_judges_the_next_request
                a_revoked_key_is_refused_and_the_others_go_on
                a_deleted_key_is_unknown
                a_purge_takes_the_dead_and_leaves_the_living
                a_rotated_key_lives_until_it_is_revoked
                a_rotated_key_lives_for_the_overlap
                of_one_key_at_most_two_secrets_live
                in_whatever_order_a_key_is_revoked_and_rotated_it_is_refused
                an_overlap_never_prolongs_a_life
                dates_hold_to_the_microsecond
                nothing_brings_a_revoked_key_back
                revoked_is_for_good_however_a_key_came_and_went
                a_revocation_holds_for_every_request_that_begins_later
                an_imported_key_is_admitted
                who_belongs_to_whom_is_judged_by_the_newest_settings
                a_use_is_known_at_once_where_it_was_made
                only_an_admitted_request_is_a_use;
            changes:
                a_record_is_kept_as_it_was_given
                every_change_is_one_version
                no_version_is_lost_when_many_change_one_key
                keys_are_issued_and_revoked_at_once
                ids_are_unique_even_where_they_are_short
                what_cannot_be_done_changes_nothing
                no_whole_key_is_kept_in_any_text
                what_never_matches_is_refused
                an_import_is_whole_or_not_at_all
                dimensions_are_declared
                a_dimension_that_keys_are_restricted_over_stays
                settings_that_could_not_be_read_back_are_refused
                a_format_stays
                what_is_hardly_meant_is_told;
            formats:
                a_key_has_the_format_of_its_kind
                a_key_with_the_format_of_another_kind_is_unknown
                an_id_of_another_kind_is_refused
                formats_of_kinds_stay
                no_key_of_any_kind_is_kept_in_a_text;
            ceilings:
                nothing_is_handed_out_beyond_a_ceiling
                what_is_beyond_a_ceiling_is_unknown
                a_key_does_not_outlive_its_ceiling
                a_ceiling_is_read_with_each_change
                a_ceiling_that_is_revoked_meanwhile_admits_nothing
                a_bound_actor_changes_single_keys_only
                roles_and_ends_stay_within_a_ceiling
                a_grant_and_several_ceilings_bound_too
                a_bound_actor_gets_a_free_id;
            ceilings_at_random:
                no_sequence_of_changes_leads_beyond_a_ceiling;
            hierarchies:
                own_hierarchies_are_judged_by_the_newest_settings
                own_hierarchies_are_kept_as_they_were_given
                hierarchies_of_unknown_dimensions_are_refused;
            history:
                every_change_leaves_one_record
                a_directory_is_kept_by_what_changes
                settings_that_are_set_again_are_published_again
                a_log_is_thinned_out
                a_rotation_leaves_two_that_name_each_other
                a_purge_leaves_one_for_each_key
                pages_go_back_in_time
                neither_keys_nor_digests_are_in_it;
            lists:
                filters_find_what_a_naive_search_finds
                pages_are_stable_while_keys_come_and_go
                limits_are_kept
                what_is_exported_can_be_imported;
            people:
                metadata_is_kept_found_and_changed
                what_is_no_metadata_is_refused
                all_keys_of_an_owner_are_revoked_at_once
                a_rotated_key_lives_as_long_as_the_old_one_was_issued_for
                an_end_is_moved_both_ways
                an_expired_key_is_renewed_only_as_the_settings_say
                a_suspended_key_is_refused_until_it_is_resumed;
            roles:
                a_role_is_what_its_keys_may_do
                a_changed_role_changes_all_its_keys
                a_role_in_use_stays
                what_is_no_role_is_refused
                an_export_has_roles_or_what_they_are
                a_key_from_elsewhere_is_not_widened_by_a_role_of_the_same_name
                a_key_may_do_what_a_naive_reading_of_its_roles_says;
            usage:
                decisions_are_counted_by_key_and_cause
                nothing_is_counted_where_nobody_asks_for_it
                the_last_use_says_from_where
                a_day_of_its_own_is_counted_apart
                the_log_is_followed;
        } }
    };
}

#[cfg(feature = "sqlite")]
macro_rules! durability {
    ($fixture:path) => {
        mount! { $fixture {
            durable:
                everything_is_found_again
                uses_are_found_again
                a_use_is_written_within_a_minute
                a_use_is_not_lost_by_a_change
                a_change_through_another_handle_is_in_force_within_a_second
                ids_and_digests_that_change_hands_are_told_apart
                a_role_through_another_handle_is_in_force_within_a_second
                a_hierarchy_through_another_handle_is_in_force_within_a_second
                a_change_by_another_process_is_in_force_within_a_second
                two_processes_that_change_one_key_lose_nothing
                killed_at_any_moment_it_comes_back_whole;
        } }
    };
}

/// The reference store that every other is compared with.
pub struct Memory(MemoryStore);

impl Fixture for Memory {
    type Store = MemoryStore;

    async fn fresh(settings: StoreSettings) -> Self {
        Self(MemoryStore::with_settings(settings))
    }

    fn store(&self) -> &MemoryStore {
        &self.0
    }

    async fn with_uses_written(self) -> Self {
        self
    }
}

/// A service that was built before any change. Requests need `products`, and a header names their shop.
#[derive(Clone)]
pub struct Gate(BoxCloneSyncService<Request<Full<Bytes>>, Response<Full<Bytes>>, Infallible>);

impl Gate {
    pub fn of(store: &(impl KeyStore + Clone)) -> Self {
        Self::new(AuthenticateLayer::new(store.clone()))
    }

    pub fn at(store: &(impl KeyStore + Clone), now: SystemTime) -> Self {
        Self::new(AuthenticateLayer::new(store.clone()).with_clock(move || now))
    }

    fn new(authenticate: AuthenticateLayer) -> Self {
        let shop = EntityRef::from_header(Dimension::SHOP, HeaderName::from_static("x-shop"));
        let rule = Rule::resource("products").scoped(shop).unscoped();
        let layers = ServiceBuilder::new().layer(authenticate).layer(RequireLayer::new(rule));
        Self(BoxCloneSyncService::new(layers.service(Handler::default())))
    }

    pub async fn ask(&self, method: Method, shop: &str, key: &str) -> u16 {
        let request = Request::builder().method(method).header("x-api-key", key).header("x-shop", shop);
        self.0.clone().oneshot(request.body(Full::default()).unwrap()).await.unwrap().status().as_u16()
    }

    /// Sends a request that reads from the shop `de`.
    pub async fn get(&self, key: &IssuedKey) -> u16 {
        self.ask(Method::GET, "de", key.api_key.expose()).await
    }

    /// Sends a request that writes to the shop `de`.
    pub async fn put(&self, key: &IssuedKey) -> u16 {
        self.ask(Method::PUT, "de", key.api_key.expose()).await
    }
}

/// Issues a key that may read products.
pub async fn issue(store: &impl KeyAdmin) -> IssuedKey {
    let grant = Grant::builder().read("products").build().unwrap();
    store.as_actor("test").issue(NewKey::new("k", grant)).await.unwrap()
}

/// The principal of a request in flight, as its handler has it.
pub async fn in_flight(store: &(impl KeyStore + Clone), key: &IssuedKey) -> Principal {
    let (seen, found) = std::sync::mpsc::channel();
    let handler = tower::service_fn(move |request: Request<Full<Bytes>>| {
        seen.send(request.extensions().get::<Principal>().cloned()).unwrap();
        std::future::ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
    });
    let request = Request::builder().header("x-api-key", key.api_key.expose()).body(Full::default()).unwrap();
    let service = ServiceBuilder::new().layer(AuthenticateLayer::new(store.clone())).service(handler);
    service.oneshot(request).await.unwrap();
    found.recv().unwrap().expect("it is admitted")
}

/// Returns every readable record, page by page.
pub async fn all(store: &impl KeyAdmin) -> Vec<Arc<KeyRecord>> {
    let mut query = KeyQuery::new();
    let mut records = Vec::new();
    loop {
        let page = store.list(&query).await.unwrap();
        records.extend(page.records);
        match page.next {
            Some(last) => query = query.after(last),
            None => return records,
        }
    }
}

/// Returns every audit record, from the oldest to the newest.
pub async fn audit(store: &impl KeyAdmin) -> Vec<AuditRecord> {
    let mut query = AuditQuery::new().limit(1000);
    let mut records = Vec::new();
    loop {
        let page = store.audit(&query).await.unwrap();
        let Some(last) = page.last() else { break };
        query = query.before(last.number);
        records.extend(page);
    }
    records.reverse();
    records
}

/// Returns the time this many seconds from now, in whole microseconds, which every store preserves.
pub fn in_seconds(seconds: i64) -> SystemTime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_micros()).unwrap() + seconds * 1_000_000;
    UNIX_EPOCH + Duration::from_micros(now.try_into().unwrap())
}

/// A pseudo-random generator that gives the same numbers in each run.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        // This is xorshift64*, from "An experimental exploration of Marsaglia's xorshift generators".
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len() as u64) as usize]
    }
}

mod memory {
    conformance!(crate::stores::Memory);
}

#[cfg(feature = "postgres")]
mod in_postgres {
    conformance!(crate::stores::postgres::Postgres);
}

#[cfg(feature = "sqlite")]
mod in_sqlite {
    conformance!(crate::stores::sqlite::Sqlite);
    durability!(crate::stores::sqlite::Sqlite);
}
