//! The authenticated caller, as handlers see it.

mod obligation;
mod scope;

use std::{fmt, sync::Arc, time::SystemTime};

pub(crate) use self::obligation::Handling;
pub use self::{
    obligation::Obligation,
    scope::{Filter, Scope},
};

use crate::{
    client_address::ClientAddress,
    denial::{Cause, Context, Denial, status},
    dimension::Dimension,
    directory::Directory,
    entity::{directory_revokes_access, entity_allowed},
    key::{EndReason, KeyId, KeyRecord, RevocationWatch, revokes_access},
    store::{Found, KeyStore, resolve_lookup},
};

/// The authenticated key of a request. Handlers find it in the request's extensions, or as an axum
/// extractor. No header that a client sends can put one there, and what stands there already is
/// taken out by [`AuthenticateLayer`](crate::AuthenticateLayer), unless it was told
/// [otherwise](crate::AuthenticateLayer::keep_principal_without_credential).
///
/// A clone costs a few reference counts.
///
/// # Example
/// A handler that learns from the body which shop a request is about asks for that shop, and sends
/// the denial on; the layer around it renders the denial in the dialect of the API:
/// ```
/// use tower_authz::{Denial, Dimension, Principal};
///
/// fn create_shipment(principal: &Principal, shop: &str) -> Result<(), Denial> {
///     principal.require(Dimension::SHOP, shop)?;
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Principal {
    record: Arc<KeyRecord>,
    /// The directory of the same moment as the record.
    directory: Directory,
    client: ClientAddress,
    bearer: bool,
    /// The store, to ask for the current record; `None` if other middleware has created the principal.
    store: Option<Arc<dyn KeyStore>>,
    /// The bits of the dimensions that every rule so far has named; `None` if there was no rule.
    named_bits: Option<u8>,
    /// `None` for most requests, so that the principal, which each request moves, stays small.
    rare: Option<Box<Rare>>,
}

#[derive(Clone, Default)]
struct Rare {
    obligations: Vec<Obligation>,
    /// The time at which the gate decided, if it has a clock of its own. The system clock then ends no request.
    gate_time: Option<SystemTime>,
}

/// The authenticated key as the demands of a rule see it. It is borrowed, so that only a request that is admitted counts
/// references up.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) record: &'a KeyRecord,
    pub(crate) directory: &'a Directory,
    pub(crate) client: ClientAddress,
}

impl Principal {
    /// A principal for other middleware to insert: whoever has authenticated a request (by a session,
    /// a JWT, a client certificate) can describe the caller as a record, and
    /// [`RequireLayer`](crate::RequireLayer) judges it as any other.
    #[must_use]
    pub fn new(record: Arc<KeyRecord>, directory: Directory, client: ClientAddress) -> Self {
        Self { record, directory, client, bearer: false, store: None, named_bits: None, rare: None }
    }

    /// The principal of a key that was found in this store.
    #[inline]
    pub(crate) fn from_store(
        store: Arc<dyn KeyStore>,
        (record, directory): (Arc<KeyRecord>, Directory),
        client: ClientAddress,
        bearer: bool,
        gate_time: Option<SystemTime>,
    ) -> Self {
        let rare = gate_time.map(|time| Box::new(Rare { gate_time: Some(time), ..Rare::default() }));
        Self { record, directory, client, bearer, store: Some(store), named_bits: None, rare }
    }

    pub(crate) fn gate_time(&self) -> Option<SystemTime> {
        self.rare.as_ref()?.gate_time
    }

    fn obligations(&self) -> &[Obligation] {
        self.rare.as_ref().map_or(&[], |rare| &rare.obligations)
    }

    /// A watch over the record, for what outlives the handler.
    pub(crate) fn watch(&self) -> RevocationWatch {
        let watch = RevocationWatch::new(Arc::clone(&self.record));
        if self.gate_time().is_none() { watch } else { watch.without_clock() }
    }

    /// Asks the store whether the key may still do what it could when the request was admitted: for the
    /// line before a commit, in a handler that runs long or in a task that outlives its request.
    ///
    /// A handler is dropped anyway when its key is revoked; what it has spawned is not, and what it is
    /// about to do in the very moment may be done. A principal that other middleware has made is always
    /// live.
    ///
    /// # Errors
    /// 401 if the key is revoked, expired or deleted by now, 403 if something was taken away from what it
    /// may do, 503 if the store cannot tell. Return it from the handler.
    ///
    /// # Example
    /// ```
    /// use tower_authz::{Denial, Principal};
    ///
    /// async fn transfer(principal: &Principal) -> Result<(), Denial> {
    ///     // .. hours of preparation ..
    ///     principal.ensure_live().await?;
    ///     // commit
    ///     Ok(())
    /// }
    /// ```
    pub async fn ensure_live(&self) -> Result<(), Denial> {
        let Some(store) = &self.store else { return Ok(()) };
        let (found, directory) = store.lookup(self.record.digest()).answer().await;
        let directory = directory.unwrap_or_else(|| store.directory());
        self.check_live(found, &directory).map_err(|denial| denial.in_context(self.context()))
    }

    fn check_live(&self, found: Found, directory: &Directory) -> Result<(), Denial> {
        let now = resolve_lookup(found, self.record.digest())?.ok_or(Cause::UnknownKey)?;
        status(now.status(SystemTime::now()))?;
        let (before, after) = ((self.record.grant(), &self.directory), (now.grant(), directory));
        match self.record.signal_cell().end() {
            Some(end) => Err(Cause::from(end).into()),
            None if revokes_access(&self.record, &now) => Err(Cause::GrantNarrowed.into()),
            None if directory_revokes_access(before, after, &self.directory.difference(directory)) => {
                Err(Cause::GrantNarrowed.into())
            }
            None => Ok(()),
        }
    }

    /// Waits until the key expires, is revoked or deleted, or something is taken away from what it may do: for
    /// upgraded connections, which outlive their request and are nobody's but the handler's to end. It
    /// never ends by itself, so wait for it beside the connection:
    ///
    /// ```
    /// # async fn next_message() {}
    /// # async fn serve(principal: tower_authz::Principal) {
    /// use futures::{FutureExt as _, pin_mut, select_biased};
    ///
    /// let ended = principal.ended().fuse();
    /// pin_mut!(ended);
    /// loop {
    ///     select_biased! {
    ///         () = ended => break, // close the connection
    ///         () = next_message().fuse() => { /* answer it */ }
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// Look-ups that the store answers [later](crate::store::Lookup::pending) bring a record of their own
    /// each time; nobody tells those that something has changed.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut watch = self.watch();
        std::future::poll_fn(move |cx| watch.poll_end(cx).map(drop))
    }

    /// The key as demands see it.
    pub(crate) fn caller(&self) -> Caller<'_> {
        Caller { record: &self.record, directory: &self.directory, client: self.client }
    }

    /// Why its requests must end, if they must: whoever keeps a principal may keep one whose key was revoked since.
    pub(crate) fn end(&self) -> Option<EndReason> {
        self.record.signal_cell().end()
    }

    pub(crate) fn shared_record(&self) -> Arc<KeyRecord> {
        Arc::clone(&self.record)
    }

    /// The record of the key.
    #[must_use]
    pub fn record(&self) -> &KeyRecord {
        &self.record
    }

    /// The key's public id, for logs, audit trails and rate limits.
    #[must_use]
    pub fn key_id(&self) -> &KeyId {
        self.record.id()
    }

    /// The address that the request came from.
    #[must_use]
    pub const fn client_address(&self) -> ClientAddress {
        self.client
    }

    /// Which entity belongs to which, at the moment at which the key was looked up.
    #[must_use]
    pub const fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Demands that the key may touch this entity: for ids that only the handler knows. Where a
    /// request names several, ask for each before anything is done.
    ///
    /// Where the rule calls the dimension [`deferred`](crate::Rule::deferred), a question that was answered with yes is
    /// what the handler has to ask. One that was denied is not, whatever the handler makes of it; see
    /// [`require_or_report`](Self::require_or_report).
    ///
    /// # Errors
    /// The denial that the layers would have given had the id stood in the path: 400 for an id that
    /// is not canonical, 403 for one that the key may not touch. Return it from the handler.
    pub fn require(&self, dimension: impl Into<Dimension>, id: &str) -> Result<(), Denial> {
        let dimension = dimension.into();
        entity_allowed(self.record.grant(), &self.directory, &dimension, id, self.named_bits())
            .map_err(|cause| self.deny(cause))?;
        self.mark_checked(&dimension, Handling::Deferred);
        Ok(())
    }

    /// The same question, for a handler that answers with success also if it is denied, and reports the denial in that
    /// answer: a bulk operation, say, which does some of its parts and says of the others why not. However it is
    /// answered, the question is one that a [`deferred`](crate::Rule::deferred) dimension demands.
    ///
    /// # Errors
    /// As [`require`](Self::require). Nothing may be done for this entity then.
    ///
    /// # Example
    /// ```
    /// use tower_authz::{Dimension, Principal};
    ///
    /// fn close_all(principal: &Principal, shops: &[&str]) -> Vec<String> {
    ///     let close = |shop: &&str| match principal.require_or_report(Dimension::SHOP, shop) {
    ///         Ok(()) => format!("{shop}: closed"),
    ///         Err(denial) => format!("{shop}: {}", denial.public_message()),
    ///     };
    ///     shops.iter().map(close).collect()
    /// }
    /// ```
    pub fn require_or_report(&self, dimension: impl Into<Dimension>, id: &str) -> Result<(), Denial> {
        let dimension = dimension.into();
        self.mark_checked(&dimension, Handling::Deferred);
        self.require(dimension, id)
    }

    /// A denial by the handler itself: 403 with this reason, logged with the key.
    pub fn refuse(&self, why: impl Into<std::borrow::Cow<'static, str>>) -> Denial {
        self.deny(Cause::Refused(why.into()))
    }

    /// A 404, for a handler that does not find what the path names, or will not say
    /// that it exists. The response is, to the byte, that of a request which a [concealed](crate::Rule::concealed)
    /// rule refuses, or which no rule covers.
    ///
    /// # Example
    /// ```
    /// use tower_authz::{Denial, Principal};
    ///
    /// async fn show(principal: Principal, found: Option<String>) -> Result<String, Denial> {
    ///     found.ok_or_else(|| principal.not_found())
    /// }
    /// ```
    #[must_use]
    pub fn not_found(&self) -> Denial {
        self.deny(Cause::NotFound)
    }

    fn deny(&self, cause: Cause) -> Denial {
        let denial = Denial::from(cause).in_context(self.context());
        match self.obligation() {
            Some(obligation) => obligation.describe(denial),
            None => denial,
        }
    }

    /// Which entities of the dimension the key may see, for a handler that lists or filters. Where the rule calls the
    /// dimension [`filtered`](crate::Rule::filtered), this is what the handler has to ask for.
    #[must_use]
    pub fn scope(&self, dimension: impl Into<Dimension>) -> Scope {
        let dimension = dimension.into();
        self.mark_checked(&dimension, Handling::Filtered);
        Scope::new(self.clone(), dimension)
    }

    /// The bits of the standard dimensions that every rule on the way has named.
    pub(crate) fn named_bits(&self) -> u8 {
        self.named_bits.unwrap_or(0)
    }

    /// The obligation that the innermost rule leaves to the handler.
    pub(crate) fn obligation(&self) -> Option<&Obligation> {
        self.obligations().last()
    }

    #[inline]
    pub(crate) fn add_obligation(&mut self, obligation: &Obligation) {
        self.named_bits = Some(self.named_bits.unwrap_or(u8::MAX) & obligation.named_bits);
        if !obligation.is_empty() {
            self.rare.get_or_insert_default().obligations.push(obligation.clone());
        }
    }

    pub(crate) fn into_obligations(self) -> Vec<Obligation> {
        self.rare.map(|rare| rare.obligations).unwrap_or_default()
    }

    pub(crate) fn context(&self) -> Context {
        Context::of_key(self.key_id(), self.bearer)
    }

    /// Marks the obligations as met that a check of this dimension, of this kind, meets.
    pub(crate) fn mark_checked(&self, dimension: &Dimension, asked: Handling) {
        let mark = |obligation: &Obligation| obligation.mark_checked(dimension, asked, &self.directory);
        self.obligations().iter().for_each(mark);
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal")
            .field("record", &self.record)
            .field("client", &self.client)
            .field("obligations", &self.obligations())
            .finish_non_exhaustive()
    }
}
