//! The store and the options that the commands share.

use std::{
    io::{self, Read as _},
    sync::Arc,
};

use tower_authz::{ApiKey, KeyId, KeyRecord, store::StoreError};

use crate::{Failure, store::Store};

pub(crate) struct Context {
    pub(crate) store: Box<dyn Store>,
    pub(crate) actor: String,
    pub(crate) json: bool,
}

impl Context {
    /// Finds the record of a key that is named by its id, or given as a whole on standard input or in `AUTHZ_KEY`.
    pub(crate) async fn which(&self, id: Option<&KeyId>, stdin: bool) -> Result<Arc<KeyRecord>, Failure> {
        Ok(self.identify(id, stdin).await?.0)
    }

    /// The same, and whether the key has the format of its kind: if not, it is refused like one that nobody has issued. Of
    /// a key that is named by its id, that is not known.
    pub(crate) async fn identify(&self, id: Option<&KeyId>, stdin: bool) -> Result<(Arc<KeyRecord>, bool), Failure> {
        let key = match (id, stdin) {
            (Some(id), _) => {
                self.assert_no_secret(id).await?;
                return Ok((self.store.show(id).await?, true));
            }
            (None, true) => {
                let mut text = String::new();
                io::stdin().lock().take(4096).read_to_string(&mut text)?;
                ApiKey::new(text.trim_end_matches(['\r', '\n']))
            }
            (None, false) => match std::env::var("AUTHZ_KEY") {
                Ok(key) => ApiKey::new(key),
                Err(_) => {
                    let wanted = "a key is required: pass its id, or the key itself by --key-stdin or in AUTHZ_KEY";
                    return Err(Failure::Usage(wanted.to_owned()));
                }
            },
        };
        match self.found(&key).await? {
            Some(record) => {
                let fits = self.store.formats().for_kind(record.kind()).matches(key.expose().as_bytes());
                Ok((record, fits))
            }
            None => Err(Failure::Store(StoreError::not_found("key not found"))),
        }
    }

    async fn found(&self, key: &ApiKey) -> Result<Option<Arc<KeyRecord>>, Failure> {
        Ok(self.store.lookup(&key.digest()).found().await?)
    }

    /// Refuses a whole key in place of an id: the key is now in the history of the shell, and the user must know that.
    pub(crate) async fn assert_no_secret(&self, id: &KeyId) -> Result<(), Failure> {
        let key = ApiKey::new(id.as_str());
        let formats = self.store.formats();
        let known = self.found(&key).await?.map(|record| record.id().to_string());
        let public = || formats.key_id(id.as_str().as_bytes()).map(str::to_owned);
        match known.or_else(public) {
            None => Ok(()),
            Some(id) => Err(Failure::Usage(format!(
                "a key was passed in place of its id, and is now in the history of the shell: rotate {id}"
            ))),
        }
    }
}
