//! Where keys live: [`KeyStore`] answers look-ups, [`KeyAdmin`] is the life of a key.

mod actor;
mod admin;
mod audit;
mod ceiling;
mod change;
mod counts;
mod delegate;
#[cfg(feature = "file")]
mod file;
mod index;
mod join;
mod lifecycle;
mod memory;
mod part;
#[cfg(feature = "postgres")]
mod postgres;
mod query;
mod report;
mod row;
mod serialize;
mod settings;
mod snapshot;
mod source;
#[cfg(feature = "sqlite")]
mod sqlite;
mod usage;
mod validate;
mod watch;

use std::{fmt, sync::Arc, time::Duration};

use futures::future::{BoxFuture, FutureExt as _};

pub(crate) use self::counts::{Counts, Origin};
pub(crate) use self::delegate::delegate;
#[cfg(feature = "file")]
pub use self::file::{FileStatus, FileStore};
#[cfg(feature = "postgres")]
pub use self::postgres::{PostgresOptions, PostgresStore, ReplicaStatus};
#[cfg(feature = "sqlite")]
pub use self::sqlite::{SqliteOptions, SqliteStore};
pub use self::{
    actor::Actor,
    admin::KeyAdmin,
    audit::{Action, AuditQuery, AuditRecord},
    ceiling::Ceiling,
    change::{Changed, Imported, IssuedKey, NewKey, Overlap, Propagation, RevokedKeys, RoleChanged, Rotation},
    counts::LastUse,
    memory::MemoryStore,
    query::{KeyQuery, Page, UnreadableKey},
    settings::StoreSettings,
    usage::{DayUsage, KeyUsage, UsageQuery},
    watch::{KeyEvent, Watch},
};
use crate::{
    denial::{Cause, Denial},
    dimension::Dimension,
    directory::Directory,
    key::{Digest, KeyFormats, KeyRecord},
};

/// Answers which key a digest belongs to.
///
/// A store that has its keys in memory answers at once with [`Lookup::ready`]; then no request waits,
/// nothing is boxed and the inner service is not cloned. One that has to ask elsewhere answers with
/// [`Lookup::pending`].
///
/// A store that cannot answer says so with a [`StoreError`]: the client gets a 503, never a 401,
/// which would make it throw a good key away. Whatever record a store returns is used only if its
/// digest equals the one that was asked for.
///
/// # Example
/// ```
/// use tower_authz::{Digest, store::{KeyStore, Lookup, StoreError}};
///
/// struct Remote;
///
/// impl KeyStore for Remote {
///     fn lookup(&self, digest: &Digest) -> Lookup {
///         let digest = *digest;
///         Lookup::pending(async move {
///             // ask somebody for `digest`
///             Err(StoreError::unavailable(format!("nobody knows {digest}")))
///         })
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a key store",
    note = "use `MemoryStore`, or implement `KeyStore` for your type"
)]
pub trait KeyStore: Send + Sync + 'static {
    /// Looks a key up by its digest. Expired and revoked keys are found as well: their status is
    /// judged by the caller.
    fn lookup(&self, digest: &Digest) -> Lookup;

    /// How the keys of this store look. Credentials of another shape are refused unhashed. It is asked once, when the gate
    /// is built.
    fn formats(&self) -> KeyFormats {
        KeyFormats::default()
    }

    /// Which entity belongs to which, as it is now. A clone of a directory is one reference count.
    ///
    /// A request is judged by the directory that came with its record, see [`Lookup::with_directory`]. Where none came,
    /// this is asked right after the look-up, and a change between the two is seen by halves: a store whose keys and
    /// directory change together gives both with the look-up.
    fn directory(&self) -> Directory {
        Directory::default()
    }

    /// The dimensions of your own that keys are restricted over, or `None` if that is not known.
    /// [`Authz`](crate::Authz) holds them against those of its policy.
    fn dimensions(&self) -> Option<Vec<Dimension>> {
        None
    }

    /// The keys themselves, for stores of this crate that hold all of them in memory: the gate then decides by borrowed
    /// records, and counts up only what it admits. `lookup` says the same.
    #[doc(hidden)]
    fn in_memory(&self) -> Option<InMemory> {
        None
    }
}

/// All keys of a store of this crate, in memory.
#[doc(hidden)]
#[derive(Clone)]
pub struct InMemory(pub(crate) Arc<index::Index>);

impl fmt::Debug for InMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InMemory")
    }
}

impl<S: KeyStore + ?Sized> KeyStore for Arc<S> {
    delegate!(self => **self; lookup formats directory dimensions in_memory);
}

/// The result of a look-up: the record, or none if no such key was issued.
pub type Found = Result<Option<Arc<KeyRecord>>, StoreError>;

/// The record that a look-up has found. The digest decides, not the store's word: and it is compared whole, in constant
/// time.
pub(crate) fn resolve_lookup(found: Found, digest: &Digest) -> Result<Option<Arc<KeyRecord>>, Denial> {
    found.map(|record| record.filter(|record| record.digest() == digest)).map_err(no_answer)
}

/// A store that cannot answer lets nobody in.
#[cold]
pub(crate) fn no_answer(error: StoreError) -> Denial {
    let why = error.to_string().into();
    match error.kind() {
        StoreErrorKind::Unreadable => Cause::UnreadableRecord { why }.into(),
        _ => Denial::from(Cause::StoreUnavailable { why }).with_retry_after(error.retry_after()),
    }
}

/// The answer to a look-up, now or later.
pub struct Lookup(pub(crate) Answer);

pub(crate) enum Answer {
    Ready(Found, Option<Directory>),
    Pending(BoxFuture<'static, (Found, Option<Directory>)>),
}

impl Lookup {
    /// The answer is known.
    #[must_use]
    pub const fn ready(found: Found) -> Self {
        Self(Answer::Ready(found, None))
    }

    /// The answer has to be waited for. Set a timeout of your own: the request waits as long.
    pub fn pending(answer: impl Future<Output = Found> + Send + 'static) -> Self {
        Self(Answer::Pending(async { (answer.await, None) }.boxed()))
    }

    /// The same, with the directory of the moment at which the record was found.
    pub fn pending_with_directory(answer: impl Future<Output = (Found, Directory)> + Send + 'static) -> Self {
        let answer = async {
            let (found, directory) = answer.await;
            (found, Some(directory))
        };
        Self(Answer::Pending(answer.boxed()))
    }

    /// Adds the directory of the moment at which the record was found, so that one decision sees keys and directory of
    /// one moment. A directory that an answer has already stays.
    #[must_use]
    pub fn with_directory(mut self, directory: Directory) -> Self {
        if let Answer::Ready(_, none @ None) = &mut self.0 {
            *none = Some(directory);
        }
        self
    }

    /// The result, once it is known.
    ///
    /// # Errors
    /// If the store cannot answer.
    pub async fn found(self) -> Found {
        self.answer().await.0
    }

    pub(crate) async fn answer(self) -> (Found, Option<Directory>) {
        match self.0 {
            Answer::Ready(found, directory) => (found, directory),
            Answer::Pending(answer) => answer.await,
        }
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Answer::Ready(..) => "Lookup::ready",
            Answer::Pending(_) => "Lookup::pending",
        })
    }
}

/// Why a store could not do what it was asked.
///
/// During a look-up, [`Unreadable`](StoreErrorKind::Unreadable) refuses that one key with 500 and
/// every other kind refuses with 503.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .0.message)]
pub struct StoreError(Box<StoreErrorInner>);

/// Boxed, so that the answers of a store stay small.
#[derive(Clone, Debug)]
struct StoreErrorInner {
    kind: StoreErrorKind,
    message: String,
    retry_after: Duration,
}

/// The kinds of [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store cannot be reached, or its state may be stale.
    Unavailable,
    /// The record of this one key cannot be read.
    Unreadable,
    /// There is no key with this id.
    NotFound,
    /// The change is not possible as things stand: a revoked key cannot be rotated.
    Conflict,
    /// The request has no meaning: a grant over a dimension that is not declared.
    Invalid,
    /// The change goes beyond the [`Ceiling`] that the actor is bound to.
    Forbidden,
}

impl StoreError {
    /// The store cannot be reached, or its state may be stale.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Unavailable, message)
    }

    /// The record of this one key cannot be read.
    pub fn unreadable(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Unreadable, message)
    }

    /// There is no key with this id.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::NotFound, message)
    }

    /// The change is not possible as things stand.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Conflict, message)
    }

    /// An error of the kind [`StoreErrorKind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Invalid, message)
    }

    /// The change goes beyond what the actor may do.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Forbidden, message)
    }

    fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(StoreErrorInner { kind, message: message.into(), retry_after: Duration::from_secs(1) }))
    }

    /// When a client may try again, for `Retry-After`. Default: one second.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = wait;
        self
    }

    /// The kind of this error.
    #[must_use]
    pub const fn kind(&self) -> StoreErrorKind {
        self.0.kind
    }

    pub(crate) const fn retry_after(&self) -> Duration {
        self.0.retry_after
    }
}
