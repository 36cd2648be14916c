//! Audit records and pages as values of serde.

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use crate::{
    key::{KeyId, KeyRecord},
    store::{Action, AuditRecord, Page, UnreadableKey},
    timestamp,
};

/// An audit record as JSON has it: the states are objects, not texts.
#[derive(Serialize, Deserialize)]
struct AuditFile {
    number: u64,
    #[serde(with = "timestamp")]
    at: Option<SystemTime>,
    by: String,
    #[serde(default)]
    address: Option<IpAddr>,
    #[serde(default)]
    request_id: Option<String>,
    action: Action,
    key: Option<KeyId>,
    note: Option<String>,
    before: Option<Value>,
    after: Option<Value>,
}

/// An object with the fields of the record; `before` and `after` are objects in the words of the key file.
impl Serialize for AuditRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // INVARIANT: every field is named here, so that a new one cannot be left out.
        let Self { number, at, by, address, request_id, action, key, note, before, after } = self.clone();
        // A text that is no JSON, which nobody but a hand can have written, is shown as it is.
        let state = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
        let (before, after) = (before.map(state), after.map(state));
        AuditFile { number, at: Some(at), by, address, request_id, action, key, note, before, after }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for AuditRecord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let AuditFile { number, at, by, address, request_id, action, key, note, before, after } =
            AuditFile::deserialize(deserializer)?;
        let at = at.ok_or_else(|| de::Error::custom("at: a time is required"))?;
        let text = |state: Value| match state {
            Value::String(text) => text,
            state => state.to_string(),
        };
        Ok(Self {
            number,
            at,
            by,
            address,
            request_id,
            action,
            key,
            note,
            before: before.map(text),
            after: after.map(text),
        })
    }
}

/// Its [name](Action::name).
impl Serialize for Action {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A name that is not known is [`Action::Unknown`]: a newer program has written it.
impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|name| Self::named(&name))
    }
}

/// `{"keys": [..], "next": .., "unreadable": [..]}`, as `authz list --json` prints it.
impl Serialize for Page {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct File<'p> {
            keys: &'p [Arc<KeyRecord>],
            next: &'p Option<KeyId>,
            unreadable: &'p [UnreadableKey],
        }
        let Self { records, unreadable, next } = self;
        File { keys: records, next, unreadable }.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use serde_json::json;

    use super::*;
    use crate::{
        key::Grant,
        store::{AuditQuery, KeyAdmin as _, KeyQuery, MemoryStore, NewKey},
    };

    #[test]
    fn a_log_and_a_page_are_json() {
        let store = MemoryStore::new();
        let anna = store.as_actor("anna");
        let grant = Grant::builder().read("products").build().unwrap();
        let key = block_on(anna.issue(NewKey::new("prod", grant))).unwrap();
        block_on(anna.revoke(key.record.id(), "lost")).unwrap();
        let log = block_on(store.audit(&AuditQuery::new())).unwrap();
        let value = serde_json::to_value(&log).unwrap();
        assert_eq!(value[0]["action"], "revoked");
        assert_eq!(
            (&value[0]["by"], &value[0]["note"], &value[0]["number"]),
            (&json!("anna"), &json!("lost"), &json!(2))
        );
        assert_eq!(value[0]["before"]["permissions"], json!({ "products": "read" }));
        assert_eq!(value[1]["before"], Value::Null);
        let back: Vec<AuditRecord> = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&back).unwrap(), value);
        assert_eq!((back[0].at, &back[0].key), (log[0].at, &log[0].key));

        let page = block_on(store.list(&KeyQuery::new())).unwrap();
        let value = serde_json::to_value(&page).unwrap();
        assert_eq!(value["keys"][0], serde_json::to_value(&page.records[0]).unwrap());
        assert_eq!((&value["next"], &value["unreadable"]), (&Value::Null, &json!([])));
        assert!(!value.to_string().contains(key.api_key.expose()));
    }

    #[test]
    fn an_action_of_a_newer_program_is_read() {
        assert_eq!(serde_json::from_str::<Action>("\"sold\"").unwrap(), Action::Unknown);
        assert_eq!(serde_json::to_string(&Action::GrantChanged).unwrap(), "\"grant-changed\"");
    }
}
