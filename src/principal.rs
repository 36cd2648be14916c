//! Who calls, as handlers see it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use crate::{
    ClientAddress, Denial, Dimension, Directory, Grant, KeyId, KeyRecord, Scope,
    authenticate::known,
    check::{Relations, directory_narrows, reach},
    denial::{Cause, Context},
    key::{Watch, narrows},
    name::Name,
    policy::status,
    store::{Found, KeyStore},
};

/// The authenticated key of a request. Handlers find it in the request's extensions, or as an axum
/// extractor. No header that a client sends can put one there, and what stands there already is
/// taken out by [`AuthenticateLayer`](crate::AuthenticateLayer).
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
    /// Of the moment at which the record was found.
    directory: Directory,
    client: ClientAddress,
    bearer: bool,
    /// Whether the clock of the system ends what is in flight when the key expires.
    by_clock: bool,
    /// The store that knows how the key stands now; none if other middleware has made the principal.
    store: Option<Arc<dyn KeyStore>>,
    duties: Vec<Duty>,
}

impl Principal {
    /// A principal for other middleware to insert: whoever has authenticated a request (by a session,
    /// a JWT, a client certificate) can describe the caller as a record, and
    /// [`RequireLayer`](crate::RequireLayer) judges it as any other.
    #[must_use]
    pub fn new(record: Arc<KeyRecord>, directory: Directory, client: ClientAddress) -> Self {
        Self { record, directory, client, bearer: false, by_clock: true, store: None, duties: Vec::new() }
    }

    /// The bearer of a key of this store.
    pub(crate) fn of_store(
        store: Arc<dyn KeyStore>,
        (record, directory): (Arc<KeyRecord>, Directory),
        client: ClientAddress,
        bearer: bool,
        by_clock: bool,
    ) -> Self {
        Self { record, directory, client, bearer, by_clock, store: Some(store), duties: Vec::new() }
    }

    /// A watch over the record, for whatever outlives the handler.
    pub(crate) fn watch(&self) -> Watch {
        let watch = Watch::new(Arc::clone(&self.record));
        if self.by_clock { watch } else { watch.without_clock() }
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
        self.judge_live(found, &directory).map_err(|denial| denial.in_context(self.context()))
    }

    fn judge_live(&self, found: Found, directory: &Directory) -> Result<(), Denial> {
        let now = known(found, self.record.digest())?;
        status(now.status(SystemTime::now()))?;
        let (before, after) = ((self.record.grant(), &self.directory), (now.grant(), directory));
        match self.record.life_cell().end() {
            Some(end) => Err(end.cause().into()),
            None if narrows(&self.record, &now) => Err(Cause::GrantNarrowed.into()),
            None if directory_narrows(before, after, &self.directory.difference(directory)) => {
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

    /// All that is known of the key.
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
    /// # Errors
    /// The denial that the layers would have given had the id stood in the path: 400 for an id that
    /// is not canonical, 403 for one that the key may not touch. Return it from the handler.
    pub fn require(&self, dimension: impl Into<Dimension>, id: &str) -> Result<(), Denial> {
        let dimension = dimension.into();
        self.settle(&dimension);
        reach(self, &dimension, id, self.company_declared()).map_err(|cause| self.deny(cause))
    }

    /// A denial by the handler itself: 403 with this reason, logged with the key.
    pub fn refuse(&self, why: impl Into<std::borrow::Cow<'static, str>>) -> Denial {
        self.deny(Cause::Refused(why.into()))
    }

    /// Says that there is nothing here: for a handler that does not find what the path names, or will not say
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
        match self.duty() {
            Some(duty) => duty.describe(denial),
            None => denial,
        }
    }

    /// Which entities of the dimension the key may see, for a handler that lists or filters.
    #[must_use]
    pub fn scope(&self, dimension: impl Into<Dimension>) -> Scope {
        let dimension = dimension.into();
        self.settle(&dimension);
        Scope::new(self.clone(), dimension)
    }

    /// Only if every rule that left something to the handler names companies.
    pub(crate) fn company_declared(&self) -> bool {
        !self.duties.is_empty() && self.duties.iter().all(|duty| duty.0.relations.declares_company())
    }

    /// What the innermost rule leaves to the handler.
    pub(crate) fn duty(&self) -> Option<&Duty> {
        self.duties.last()
    }

    pub(crate) fn add_duty(&mut self, duty: Duty) {
        self.duties.push(duty);
    }

    pub(crate) fn context(&self) -> Context {
        Context { key: Some(self.key_id().clone()), bearer: self.bearer, ..Context::default() }
    }

    fn settle(&self, dimension: &Dimension) {
        self.duties.iter().for_each(|duty| duty.settle(dimension));
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal")
            .field("record", &self.record)
            .field("client", &self.client)
            .field("duties", &self.duties)
            .finish_non_exhaustive()
    }
}

/// What a rule leaves to the handler: to filter by a [`Scope`], or to ask for entities that it finds.
///
/// A successful response of a handler that has not done so is turned into a 500, so that a forgotten
/// check cannot leak.
#[derive(Clone, Debug)]
pub struct Duty(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    relations: Arc<Relations>,
    /// For each open dimension of the relations, whether the handler has asked.
    settled: Box<[AtomicBool]>,
    route: Option<Name>,
    concealed: bool,
}

impl Duty {
    /// None if the handler is left nothing to do, and its denials nothing to hide.
    pub(crate) fn new(relations: &Arc<Relations>, route: Option<&str>, concealed: bool) -> Option<Self> {
        if relations.open().next().is_none() && !concealed {
            return None;
        }
        let settled = relations.open().map(|_| AtomicBool::new(false)).collect();
        let route = route.map(|route| route.to_owned().into());
        Some(Self(Arc::new(Inner { relations: Arc::clone(relations), settled, route, concealed })))
    }

    /// Adds to a denial what the rule says about it.
    pub(crate) fn describe(&self, denial: Denial) -> Denial {
        let denial = denial.in_context(Context { route: self.0.route.clone(), ..Context::default() });
        if self.0.concealed { denial.concealed() } else { denial }
    }

    fn settle(&self, dimension: &Dimension) {
        for ((open, _), settled) in self.0.relations.open().zip(&self.0.settled) {
            // Who asks for a shop country has asked for its shop.
            if open == dimension || (*open == Dimension::SHOP && *dimension == Dimension::SHOP_COUNTRY) {
                settled.store(true, Ordering::Release);
            }
        }
    }

    /// A dimension that is left open and that the grant is restricted over.
    pub(crate) fn binding(&self, grant: &Grant) -> Option<Dimension> {
        let shops = [Dimension::SHOP, Dimension::SHOP_COUNTRY];
        let bound = |open: &Dimension| {
            let over: &[Dimension] = &[open.clone(), Dimension::SHOP, Dimension::COMPANY];
            let over = if shops.contains(open) { over } else { over.get(..1).unwrap_or(over) };
            over.iter().any(|dimension| grant.restriction(dimension).is_some())
        };
        self.0.relations.open().map(|(open, _)| open).find(|open| bound(open)).cloned()
    }

    /// A dimension that the handler never asked about.
    pub(crate) fn unsettled(&self) -> Option<Denial> {
        let mut open = self.0.relations.open().zip(&self.0.settled);
        let ((dimension, _), _) = open.find(|(_, settled)| !settled.load(Ordering::Acquire))?;
        Some(self.describe(Cause::Unsettled(dimension.clone()).into()))
    }

    /// The dimension that the rule calls filtered, if there is exactly one.
    pub(crate) fn filtered(&self) -> Option<&Dimension> {
        let mut filtered = self.0.relations.open().filter(|(_, stance)| *stance == crate::check::Stance::Filtered);
        match (filtered.next(), filtered.next()) {
            (Some((dimension, _)), None) => Some(dimension),
            _ => None,
        }
    }
}
