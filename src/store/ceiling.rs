//! Bounds an actor: nothing that it issues or changes goes beyond a ceiling.

use std::{sync::Arc, time::SystemTime};

use crate::{
    key::{Digest, Excess, Grant, GrantFile, KeyId, KeyRecord, Status},
    store::{
        StoreError, StoreSettings,
        audit::Edit,
        change::{ActorInfo, Change},
        lifecycle::{self, Plan, unknown},
        source::{KeySource, Row},
        validate::invalid,
    },
};

/// The most that a bound [`Actor`](crate::store::Actor) may hand out; see [`Actor::within`](crate::store::Actor::within).
///
/// It is a key of the store, which is read anew inside of each change: once it is revoked, suspended, expired or deleted,
/// the actor may do nothing, and once it is narrowed, only what is left. Or it is a grant, for whoever has no key in the
/// store: a person who has signed in, or a program with a key of another store.
///
/// A key is within the ceiling if
/// - its grant is [covered](Grant::covers);
/// - it has the tenant of the ceiling, or none if the ceiling has none: a key with a tenant is let in at the hosts of the
///   tenant, where a key without one is not;
/// - it has the kind of the ceiling, one that was [added](Self::kind), or none: no kind contains another;
/// - it ends when the ceiling does, or before;
/// - it has no list of networks with a resource for which the settings of the store
///   [require](StoreSettings::with_networks_required_for) one, if the ceiling has no list: the ceiling itself is refused
///   there.
///
/// # Example
/// ```
/// # futures::executor::block_on(async {
/// use tower_authz::{Grant, store::{Ceiling, KeyAdmin, MemoryStore, NewKey, StoreErrorKind}};
///
/// let store = MemoryStore::new();
/// let grant = Grant::builder().write("orders").only("shop", ["de", "ch"]).build()?;
/// let own = store.as_actor("anna").issue(NewKey::new("anna's", grant)).await?.record;
///
/// let bound = store.as_actor("anna").within(&*own);
/// let narrower = own.grant().to_builder().only("shop", ["de"]).build()?;
/// bound.issue(NewKey::new("for the shop in Germany", narrower)).await?;
///
/// let wider = own.grant().to_builder().write("customers").build()?;
/// let error = bound.issue(NewKey::new("wider", wider)).await.unwrap_err();
/// assert_eq!(error.kind(), StoreErrorKind::Forbidden);
///
/// // For a person who has no key:
/// let signed_in = Ceiling::from_grant(Grant::builder().read("orders").build()?).tenant("acme");
/// # drop(signed_in);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
#[must_use = "a ceiling bounds an actor"]
pub struct Ceiling {
    top: Top,
    tenant: Option<String>,
    kinds: Vec<String>,
    expires_at: Option<SystemTime>,
}

#[derive(Clone, Debug)]
enum Top {
    /// The digest tells the key from another one that has got its id later.
    Key(KeyId, Option<Digest>),
    Grant(Arc<Grant>),
}

impl Ceiling {
    /// A key of the store, by its id. Prefer the [record](From), whose digest is compared as well.
    pub fn from_key(id: KeyId) -> Self {
        Self::new(Top::Key(id, None))
    }

    /// A grant, without a tenant, a kind or an end.
    pub fn from_grant(grant: impl Into<Arc<Grant>>) -> Self {
        Self::new(Top::Grant(grant.into()))
    }

    const fn new(top: Top) -> Self {
        Self { top, tenant: None, kinds: Vec::new(), expires_at: None }
    }

    /// Only keys of this tenant. With a key that has another tenant itself, nothing is within the ceiling.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Keys of this kind as well: an `admin` may issue `runtime` keys, say, although it cannot act as one.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kinds.push(kind.into());
        self
    }

    /// Only keys that end by then. The end of a key that is the ceiling holds as well.
    pub fn expires_at(mut self, time: SystemTime) -> Self {
        self.expires_at = Some(self.expires_at.map_or(time, |own| own.min(time)));
        self
    }

    /// The key that has to be read before a change is planned.
    pub(crate) fn key(&self) -> Option<&KeyId> {
        match &self.top {
            Top::Key(id, _) => Some(id),
            Top::Grant(_) => None,
        }
    }

    fn limits(&self, table: &impl KeySource, settings: &StoreSettings, now: SystemTime) -> Result<Limits, StoreError> {
        let Self { top, tenant, kinds, expires_at } = self.clone();
        let (id, digest) = match top {
            Top::Grant(grant) => return Limits::new(&grant, settings, tenant, kinds, expires_at),
            Top::Key(id, digest) => (id, digest),
        };
        let gone = |why: &str| StoreError::forbidden(format!("the key that bounds this actor {why}"));
        let record = match table.by_id(&id)? {
            Row::Found(record) if digest.is_none_or(|digest| digest == *record.digest()) => record,
            Row::Found(_) | Row::Absent => return Err(gone("does not exist any more")),
            Row::Unreadable(..) => return Err(gone("cannot be read")),
        };
        match record.status(now) {
            Status::Active => {}
            status => return Err(gone(&format!("is {status}"))),
        }
        let own = record.tenant().map(str::to_owned);
        if own.is_some() && tenant.is_some() && own != tenant {
            return Err(gone("belongs to another tenant"));
        }
        let kinds = kinds.into_iter().chain(record.kind().map(str::to_owned)).collect();
        let end = [record.expires_at(), expires_at].into_iter().flatten().min();
        Limits::new(record.grant(), settings, own.or(tenant), kinds, end)
    }
}

impl From<KeyId> for Ceiling {
    fn from(id: KeyId) -> Self {
        Self::from_key(id)
    }
}

/// The key of this record, not the record: a change reads it anew, and compares the digest.
impl From<&KeyRecord> for Ceiling {
    fn from(record: &KeyRecord) -> Self {
        Self::new(Top::Key(record.id().clone(), Some(*record.digest())))
    }
}

impl From<Grant> for Ceiling {
    fn from(grant: Grant) -> Self {
        Self::from_grant(grant)
    }
}

/// A ceiling at the moment of a change.
struct Limits {
    grant: Grant,
    tenant: Option<String>,
    kinds: Vec<String>,
    end: Option<SystemTime>,
}

impl Limits {
    fn new(
        grant: &Grant,
        settings: &StoreSettings,
        tenant: Option<String>,
        kinds: Vec<String>,
        end: Option<SystemTime>,
    ) -> Result<Self, StoreError> {
        Ok(Self { grant: as_stored(grant, settings)?, tenant, kinds, end })
    }

    /// The first thing in which the key goes beyond the ceiling, apart from its end.
    fn excess(&self, record: &KeyRecord, settings: &StoreSettings) -> Result<Option<String>, StoreError> {
        if record.tenant() != self.tenant.as_deref() {
            return Ok(Some(
                record.tenant().map_or("a key without tenant".to_owned(), |name| format!("the tenant {name}")),
            ));
        }
        if let Some(kind) = record.kind().filter(|kind| !self.kinds.iter().any(|known| known == kind)) {
            return Ok(Some(format!("the kind {kind}")));
        }
        let grant = as_stored(record.grant(), settings)?;
        let what = self.grant.excess(&grant, None).map(|excess| match excess {
            Excess::Permission(permission) => format!("the permission {permission}"),
            Excess::Dimension(dimension) => format!("what the key would reach of {dimension}"),
            Excess::Networks => "the list of networks".to_owned(),
            Excess::Origins => "the list of origins".to_owned(),
        });
        let confined = self.grant.networks().is_none() && grant.networks().is_some();
        let demanding = settings.networks_required_for.iter().filter(|_| confined);
        let mut reached = demanding.filter(|name| grant.permissions().iter().any(|held| held.resource() == **name));
        Ok(what
            .or_else(|| reached.next().map(|name| format!("the resource {name}, which demands a key with networks,"))))
    }

    /// Whether a key of this end outlives the ceiling. A change of a key that outlived it before may leave it so.
    fn is_outlived(&self, before: Option<&KeyRecord>, after: &KeyRecord) -> bool {
        let is_later = |limit: Option<SystemTime>| match (after.expires_at(), limit) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(end), Some(limit)) => end > limit,
        };
        is_later(self.end) && before.is_none_or(|before| is_later(before.expires_at()))
    }
}

/// The grant as a store with these settings reads it, so that all stores compare the same spellings.
fn as_stored(grant: &Grant, settings: &StoreSettings) -> Result<Grant, StoreError> {
    GrantFile::from_grant(grant).read_stored(&settings.dimensions).map_err(invalid)
}

/// Plans a change of a bound actor, and refuses it if anything in it is beyond one of the ceilings.
pub(crate) fn plan_within(
    ceilings: &[Ceiling],
    who: &ActorInfo,
    change: Change,
    table: &impl KeySource,
    settings: &StoreSettings,
    now: SystemTime,
) -> Result<Plan, StoreError> {
    let limits = ceilings.iter().map(|ceiling| ceiling.limits(table, settings, now));
    let limits = limits.collect::<Result<Vec<Limits>, _>>()?;
    // INVARIANT: every change is named here, so that a new one cannot be left unbound.
    let target = match &change {
        Change::Issue(_) | Change::Import(_) => None,
        Change::Rename { id, .. }
        | Change::Metadata { id, .. }
        | Change::Grant { id, .. }
        | Change::Roles { id, .. }
        | Change::Expiry { id, .. }
        | Change::Rotate { id, .. }
        | Change::Suspend { id, .. }
        | Change::Resume { id }
        | Change::Revoke { id, .. }
        | Change::Delete { id } => Some(id),
        Change::RevokeOwner { .. }
        | Change::Purge { .. }
        | Change::PruneAudit { .. }
        | Change::Settings(_)
        | Change::Role { .. }
        | Change::Within { .. } => {
            return Err(StoreError::forbidden("this actor is bound to a ceiling, and may only change single keys"));
        }
    };
    // A key beyond the ceiling is as if it were not there: an error that depends on it would disclose it.
    if let Some(id) = target {
        match table.by_id(id)? {
            Row::Found(record) if is_within(&limits, &record, settings) => {}
            _ => return Err(unknown(id)),
        }
    }
    let plan = lifecycle::plan(who, change, table, settings, now)?;
    plan.edits.iter().try_for_each(|edit| check_edit(edit, &limits, settings))?;
    Ok(plan)
}

fn is_within(limits: &[Limits], record: &KeyRecord, settings: &StoreSettings) -> bool {
    limits.iter().all(|limits| matches!(limits.excess(record, settings), Ok(None)))
}

/// Checks both states of a key. The change has been planned, so that whatever it does is seen.
fn check_edit(edit: &Edit, limits: &[Limits], settings: &StoreSettings) -> Result<(), StoreError> {
    let beyond =
        |what: &str| StoreError::forbidden(format!("{what} is beyond the ceiling that this actor is bound to"));
    let Edit { action: _, key, digest: _, before, after, note: _, settings: changed } = edit;
    if changed.is_some() || (before.is_none() && after.is_none()) {
        return Err(beyond("this change"));
    }
    if let Some(id) = key
        && before.as_ref().is_some_and(|before| !is_within(limits, before, settings))
    {
        return Err(beyond(&format!("the key {id}, which it would change as well,")));
    }
    let Some(after) = after else { return Ok(()) };
    for limits in limits {
        if let Some(what) = limits.excess(after, settings)? {
            return Err(beyond(&what));
        }
        if limits.is_outlived(before.as_deref(), after) {
            return Err(beyond(after.expires_at().map_or("a key without an end", |_| "the end of the key")));
        }
    }
    Ok(())
}
