use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread::{self, ThreadId},
};

use arc_swap::ArcSwap;

use crate::{
    error::ConfigError,
    policy::{Policy, requirements::Requirements},
};

/// A policy that can be replaced while the services that enforce it run: when a policy file has changed, say.
///
/// It is given to [`Authz`](crate::Authz) in place of a policy, and a clone of it replaces the policy of all services that
/// were made with it.
///
/// * **Every request is judged by one policy.** One that begins after [`replace`](Self::replace) has returned is judged by
///   the new policy, on every thread. One that began before is judged by the old policy to its end, also if it waits for
///   its store, or if the key is revoked while its handler runs.
/// * **Everything that a policy says is replaced with it**: rules, public routes, the fallback,
///   [preflight requests](crate::PolicyBuilder::allow_preflight), requests
///   [in flight](crate::PolicyBuilder::finish_in_flight), the [shadow](Policy::with_shadow). A route that
///   [`https_only_except`](crate::Authz::https_only_except) names is exempt for as long as the policy calls it public.
/// * **A policy that a service cannot enforce is refused**, and the old one stays: if it reads the ids of a dimension by
///   another grammar than the keys of the store spell them, or if it does not cover the routes of a
///   [`GuardedRouter`](crate::GuardedRouter), whose [`guard`](crate::GuardedRouter::guard) shows how the two go together.
///   Routes of any other router are not known here; hold the policy against them in the
///   [callback](Self::with_callback).
///
/// An [`AuthenticateLayer`](crate::AuthenticateLayer) and a [`RequireLayer`](crate::RequireLayer) that are applied
/// separately take no handle, because the two could judge one request by two policies.
///
/// For a policy that can be replaced each request loads it from an `ArcSwap`, which a fixed one spares.
///
/// # Example
/// A policy file that is read again on SIGHUP. A file that is wrong changes nothing:
/// ```standalone_crate
/// # #[cfg(unix)]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tokio::signal::unix::{SignalKind, signal};
/// use tower::Layer;
/// use tower_authz::{Authz, ConfigError, Policy, PolicyHandle, store::MemoryStore};
///
/// # let directory = std::env::temp_dir().join(format!("tower-authz-reload-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory)?;
/// # let path = directory.join("policy.json");
/// # std::fs::write(&path, r#"{ "routes": [ { "path": "/orders", "resource": "orders" } ] }"#)?;
/// # let service = tower::service_fn(|_: http::Request<String>| async { Ok::<_, ()>(http::Response::new(String::new())) });
/// let routes = ["/orders"];
/// let policy = PolicyHandle::with_callback(Policy::read(&path)?, move |old, new| {
///     let audit = new.audit(routes);
///     if !audit.is_complete() {
///         return Err(ConfigError::new(audit.to_string()));
///     }
///     eprintln!("the policy changes from {:?} to {:?}", old.export()?, new.export()?);
///     Ok(())
/// });
/// let app = Authz::new(MemoryStore::new(), &policy).layer(service);
///
/// let mut hangups = signal(SignalKind::hangup())?;
/// # let handle = policy.clone();
/// # let file = path.clone();
/// let reload = async move {
///     while hangups.recv().await.is_some() {
///         if let Err(error) = Policy::read(&path).and_then(|new| policy.replace(new)) {
///             eprintln!("the policy is not replaced: {error}");
///         }
///     }
/// };
/// tokio::spawn(reload);
/// # drop(app);
/// # let first = handle.current();
/// # for (text, is_replaced) in [
/// #     (r#"{ "routes": [ { "path": "/orders", "resource": "orders", "kind": "admin" } ] }"#, true),
/// #     (r#"{ "routes": [ { "path": "/order", "public": true } ] }"#, false),
/// #     ("{", false),
/// # ] {
/// #     let before = handle.current();
/// #     std::fs::write(&file, text)?;
/// #     std::process::Command::new("kill").args(["-HUP", &std::process::id().to_string()]).status()?;
/// #     for _ in 0..if is_replaced { 500 } else { 20 } {
/// #         tokio::time::sleep(std::time::Duration::from_millis(10)).await;
/// #         if !std::sync::Arc::ptr_eq(&before, &handle.current()) {
/// #             break;
/// #         }
/// #     }
/// #     assert_eq!(!std::sync::Arc::ptr_eq(&before, &handle.current()), is_replaced, "{text}");
/// # }
/// # assert_ne!(first.export()?, handle.current().export()?);
/// # std::fs::remove_dir_all(directory)?;
/// # Ok(())
/// # }
/// # #[cfg(not(unix))]
/// # fn main() {}
/// ```
#[derive(Clone)]
pub struct PolicyHandle(Arc<Shared>);

type Callback = dyn Fn(&Policy, &Policy) -> Result<(), ConfigError> + Send + Sync;

/// A policy that stays as long as it is held, whatever replaces it.
pub(crate) type LoadedPolicy = arc_swap::Guard<Arc<Policy>>;

struct Shared {
    current: ArcSwap<Policy>,
    callback: Option<Box<Callback>>,
    /// What is required by the services that enforce the policy, for as long as they exist. No code of the user's own runs
    /// while this is locked.
    requirements: Mutex<Vec<Weak<Requirements>>>,
    /// Held by the thread that replaces the policy, also while it runs the callback.
    turn: Mutex<()>,
    /// The thread that holds `turn`.
    holder: Mutex<Option<ThreadId>>,
}

impl PolicyHandle {
    /// A handle of this policy, which is in force until it is replaced.
    pub fn new(policy: impl Into<Arc<Policy>>) -> Self {
        Self::create(policy.into(), None)
    }

    /// The same with a callback, which is called before the policy is replaced, with the old one and the new one. If it
    /// returns an error, the old one stays, and [`replace`](Self::replace) returns the error.
    ///
    /// It is the place for the audit that an application does at start-up, and for a record of the change. It is not called
    /// for the first policy, nor for one that a service cannot enforce. It runs on the thread that replaces the policy, while
    /// requests are served by the old one, and it must not replace the policy itself, nor wait for a thread that does.
    ///
    /// # Example
    /// ```
    /// use tower_authz::{ConfigError, Policy, PolicyHandle, Rule};
    ///
    /// let policy = Policy::builder().public("/health").build()?;
    /// let handle = PolicyHandle::with_callback(policy, |_old, new| match new.audit(["/health"]) {
    ///     audit if audit.is_complete() => Ok(()),
    ///     audit => Err(ConfigError::new(audit.to_string())),
    /// });
    /// let error = handle.replace(Policy::builder().public("/healthz").build()?).unwrap_err();
    /// assert!(error.to_string().contains("the rule for /healthz matches no route"));
    /// assert!(handle.current().patterns().eq(["/health"]));
    /// # Ok::<(), ConfigError>(())
    /// ```
    pub fn with_callback(
        policy: impl Into<Arc<Policy>>,
        callback: impl Fn(&Policy, &Policy) -> Result<(), ConfigError> + Send + Sync + 'static,
    ) -> Self {
        Self::create(policy.into(), Some(Box::new(callback)))
    }

    fn create(policy: Arc<Policy>, callback: Option<Box<Callback>>) -> Self {
        Self(Arc::new(Shared {
            current: ArcSwap::new(policy),
            callback,
            requirements: Mutex::default(),
            turn: Mutex::default(),
            holder: Mutex::default(),
        }))
    }

    /// The policy in force.
    #[must_use]
    pub fn current(&self) -> Arc<Policy> {
        self.0.current.load_full()
    }

    /// Replaces the policy. It is in force for every request that begins after this has returned; for those that begin
    /// while it runs it may be either.
    ///
    /// Of several threads one at a time replaces the policy, so that each callback is called with the policy that was in
    /// force before. The others block until it has returned.
    ///
    /// # Errors
    /// If a service that was made with this handle cannot enforce the policy, if the callback refuses it, or if the callback
    /// calls this. The policy in force stays the same then.
    ///
    /// # Example
    /// ```
    /// use tower_authz::{Policy, PolicyHandle, Rule};
    ///
    /// let handle = PolicyHandle::new(Policy::builder().public("/prices").build()?);
    /// handle.replace(Policy::builder().route("/prices", Rule::resource("prices").unscoped()).build()?)?;
    /// # Ok::<(), tower_authz::ConfigError>(())
    /// ```
    pub fn replace(&self, policy: impl Into<Arc<Policy>>) -> Result<(), ConfigError> {
        let new = policy.into();
        let shared = &*self.0;
        let turn = Turn::take(shared)?;
        if let Some(callback) = &shared.callback {
            // Checked before, so that a callback records no policy that a service cannot enforce.
            drop(shared.check(&new)?);
            callback(&shared.current.load_full(), &new)?;
        }
        // Checked again, as a service may have been made while the callback ran. The lock is kept until the policy is
        // replaced, so that no service is made in between.
        let requirements = shared.check(&new)?;
        let old = shared.current.swap(new);
        drop((requirements, turn));
        // Dropped last, as the checks of a policy are code of the user's own.
        drop(old);
        Ok(())
    }

    /// The policy for a request that begins now. It is not inlined, so that it costs nothing where the policy is fixed.
    #[inline(never)]
    pub(super) fn load(&self) -> LoadedPolicy {
        self.0.current.load()
    }

    /// Requires this of the policies that come later, for as long as the requirements exist. Returns the policy in force,
    /// and whether it meets them.
    pub(super) fn require(&self, requirements: &Arc<Requirements>) -> (Arc<Policy>, Result<(), ConfigError>) {
        let mut known = lock(&self.0.requirements);
        known.retain(|known| known.strong_count() > 0);
        known.push(Arc::downgrade(requirements));
        let current = self.current();
        let verdict = requirements.check(&current);
        (current, verdict)
    }
}

impl Shared {
    /// Checks the policy against the requirements of all services. No service is added while the result is held.
    fn check(&self, policy: &Policy) -> Result<MutexGuard<'_, Vec<Weak<Requirements>>>, ConfigError> {
        let requirements = lock(&self.requirements);
        requirements.iter().filter_map(Weak::upgrade).try_for_each(|required| required.check(policy))?;
        Ok(requirements)
    }
}

/// The right to replace the policy.
struct Turn<'a> {
    shared: &'a Shared,
    _turn: MutexGuard<'a, ()>,
}

impl<'a> Turn<'a> {
    fn take(shared: &'a Shared) -> Result<Self, ConfigError> {
        let this = thread::current().id();
        // A thread that holds the lock would wait for itself.
        if *lock(&shared.holder) == Some(this) {
            return Err(ConfigError::new("the callback of a PolicyHandle must not replace the policy itself"));
        }
        let turn = lock(&shared.turn);
        *lock(&shared.holder) = Some(this);
        Ok(Self { shared, _turn: turn })
    }
}

/// Also runs if the callback panics. The lock is released after it, so that the next thread finds no holder.
impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *lock(&self.shared.holder) = None;
    }
}

/// A poisoned lock is harmless: whoever panicked with it has replaced nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for PolicyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyHandle").field("current", &self.current()).finish_non_exhaustive()
    }
}
