PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE settings (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO settings VALUES('settings','{"format":"l64_{a-z0-9:8}_{0-9a-f:32}","dimensions":{"project":"slug"},"ip_restricted":[]}');
CREATE TABLE keys (
  id TEXT PRIMARY KEY,
  digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
  name TEXT NOT NULL,
  kind TEXT,
  tenant TEXT,
  created_at INTEGER,
  not_before INTEGER,
  expires_at INTEGER,
  revoked_at INTEGER,
  revocation_reason TEXT,
  -- The key whose place it took, and the one that took its own.
  replaces TEXT,
  replaced_by TEXT,
  -- As a key file writes it.
  may TEXT NOT NULL,
  version INTEGER NOT NULL,
  last_used INTEGER
) STRICT, WITHOUT ROWID;
INSERT INTO keys VALUES('l64_10hdccqi',X'e2d1764ea88a60d608be5e7836cab64674c30cc3a1482f0dee99e0168e1cd7ef','to be rotated','runtime',NULL,1795827163530327,NULL,NULL,NULL,NULL,'l64_d7lll7pi',NULL,'{"permissions":{"orders":"read"}}',1,NULL);
INSERT INTO keys VALUES('l64_abc12345',X'f3abb72a4e9ba85fd7f54d80be566d51114b2f285a247589b656673f61d4dabf','live',NULL,NULL,1795827163453951,NULL,NULL,NULL,NULL,NULL,NULL,'{"permissions":{"products":"read"}}',1,NULL);
INSERT INTO keys VALUES('l64_cmotsd53',X'f5e08885ae1b089b6e7f7a970bf33736a1af6e1da04f240d3a6b530f80070d0e','everything "quoted" {}','admin','one',1795827163468600,1767225600000000,4070908800000000,NULL,NULL,NULL,NULL,'{"permissions":{"orders":"read","products":"write"},"restrictions":{"shop":{"include":["ch","de"]},"project":{"include":["a_1"]},"company":{"exclude":["3","7"]}},"ip_ranges":["10.0.0.0/8","2001:db8::/32"],"origins":["https://shop.example"]}',1,NULL);
INSERT INTO keys VALUES('l64_d7lll7pi',X'9e46dab06060ba1c5cd300b81b4471241cdb4d39d9f4f750c0ada499a5ddb00a','to be rotated','runtime',NULL,1795827163500377,NULL,1798419163530380,NULL,NULL,NULL,'l64_10hdccqi','{"permissions":{"orders":"read"}}',2,NULL);
INSERT INTO keys VALUES('l64_def67890',X'4596bb0e833043a4e2c1604f692cac627472e9618acfdd8c259e277f6b923b87','lost',NULL,NULL,1795827163454008,NULL,NULL,1795827163538977,'the "laptop" {was} lost}',NULL,NULL,'{"permissions":{"products":"read"}}',2,NULL);
INSERT INTO keys VALUES('l64_qzqyzi0k',X'9a82a0838530196cf183382f62bf64d9a3105282a6391b473b139a47de74c779','Übermäßig é日本 \ }"',NULL,NULL,1795827163480258,NULL,NULL,NULL,NULL,NULL,NULL,'{"permissions":{"a":"read","orders":"write"},"restrictions":{"shop":{"include":["us"]}}}',2,NULL);
INSERT INTO keys VALUES('l64_s2t07ucv',X'453b7262c5e4fb245f9846835ab8598757971342ff8d1dfa17a126ac87595f9f','nothing at all',NULL,NULL,1795827163490316,NULL,NULL,NULL,NULL,NULL,NULL,'{"permissions":{}}',1,NULL);
INSERT INTO keys VALUES('l64_sarzriqy',X'71bb9b31598aaa392171f4e22e959ec71c150eb771e4d64903413a38d8f560e5','late',NULL,NULL,1795827163520399,4052464200000000,NULL,NULL,NULL,NULL,NULL,'{"permissions":{"orders":"read"}}',1,NULL);
CREATE TABLE audit (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  at INTEGER NOT NULL,
  who TEXT NOT NULL,
  action TEXT NOT NULL,
  key_id TEXT,
  digest BLOB CHECK (length(digest) = 32),
  note TEXT,
  before TEXT,
  after TEXT
) STRICT;
INSERT INTO audit VALUES(1,1795827163454364,'anna','imported','l64_abc12345',X'f3abb72a4e9ba85fd7f54d80be566d51114b2f285a247589b656673f61d4dabf',NULL,NULL,'{"created_at":"2026-11-28T00:52:43.453951Z","id":"l64_abc12345","name":"live","permissions":{"products":"read"}}');
INSERT INTO audit VALUES(2,1795827163454364,'anna','imported','l64_def67890',X'4596bb0e833043a4e2c1604f692cac627472e9618acfdd8c259e277f6b923b87',NULL,NULL,'{"created_at":"2026-11-28T00:52:43.454008Z","id":"l64_def67890","name":"lost","permissions":{"products":"read"}}');
INSERT INTO audit VALUES(3,1795827163468600,'anna','issued','l64_cmotsd53',X'f5e08885ae1b089b6e7f7a970bf33736a1af6e1da04f240d3a6b530f80070d0e',NULL,NULL,'{"created_at":"2026-11-28T00:52:43.4686Z","expires_at":"2099-01-01T00:00:00Z","id":"l64_cmotsd53","ip_ranges":["10.0.0.0/8","2001:db8::/32"],"kind":"admin","name":"everything \"quoted\" {}","not_before":"2026-01-01T00:00:00Z","origins":["https://shop.example"],"permissions":{"orders":"read","products":"write"},"restrictions":{"company":{"exclude":["3","7"]},"project":{"include":["a_1"]},"shop":{"include":["ch","de"]}},"tenant":"one"}');
INSERT INTO audit VALUES(4,1795827163480258,'anna','issued','l64_qzqyzi0k',X'9a82a0838530196cf183382f62bf64d9a3105282a6391b473b139a47de74c779',NULL,NULL,'{"created_at":"2026-11-28T00:52:43.480258Z","id":"l64_qzqyzi0k","name":"Übermäßig é日本 \\ }\"","permissions":{"a":"read"}}');
INSERT INTO audit VALUES(5,1795827163490316,'anna','issued','l64_s2t07ucv',X'453b7262c5e4fb245f9846835ab8598757971342ff8d1dfa17a126ac87595f9f',NULL,NULL,'{"created_at":"2026-11-28T00:52:43.490316Z","id":"l64_s2t07ucv","name":"nothing at all","permissions":{}}');
INSERT INTO audit VALUES(6,1795827163500377,'anna','issued','l64_d7lll7pi',X'9e46dab06060ba1c5cd300b81b4471241cdb4d39d9f4f750c0ada499a5ddb00a',NULL,NULL,'{"created_at":"2026-11-28T00:52:43.500377Z","id":"l64_d7lll7pi","kind":"runtime","name":"to be rotated","permissions":{"orders":"read"}}');
INSERT INTO audit VALUES(7,1795827163510284,'anna','issued','l64_f0u0wuhx',X'027f621bf609ea8b93a10f817e9c39b678a3393e11acb743fd5d9268f1c884e9',NULL,NULL,'{"created_at":"2026-11-28T00:52:43.510284Z","id":"l64_f0u0wuhx","name":"to be deleted","permissions":{"orders":"read"}}');
INSERT INTO audit VALUES(8,1795827163520399,'anna','issued','l64_sarzriqy',X'71bb9b31598aaa392171f4e22e959ec71c150eb771e4d64903413a38d8f560e5',NULL,NULL,'{"created_at":"2026-11-28T00:52:43.520399Z","id":"l64_sarzriqy","name":"late","not_before":"2098-06-01T12:30:00Z","permissions":{"orders":"read"}}');
INSERT INTO audit VALUES(9,1795827163530327,'anna','issued','l64_10hdccqi',X'e2d1764ea88a60d608be5e7836cab64674c30cc3a1482f0dee99e0168e1cd7ef','in place of l64_d7lll7pi',NULL,'{"created_at":"2026-11-28T00:52:43.530327Z","id":"l64_10hdccqi","kind":"runtime","name":"to be rotated","permissions":{"orders":"read"},"replaces":"l64_d7lll7pi"}');
INSERT INTO audit VALUES(10,1795827163530327,'anna','rotated','l64_d7lll7pi',X'9e46dab06060ba1c5cd300b81b4471241cdb4d39d9f4f750c0ada499a5ddb00a','l64_10hdccqi takes its place','{"created_at":"2026-11-28T00:52:43.500377Z","id":"l64_d7lll7pi","kind":"runtime","name":"to be rotated","permissions":{"orders":"read"}}','{"created_at":"2026-11-28T00:52:43.500377Z","expires_at":"2026-12-28T00:52:43.53038Z","id":"l64_d7lll7pi","kind":"runtime","name":"to be rotated","permissions":{"orders":"read"},"replaced_by":"l64_10hdccqi"}');
INSERT INTO audit VALUES(11,1795827163538977,'anna','revoked','l64_def67890',X'4596bb0e833043a4e2c1604f692cac627472e9618acfdd8c259e277f6b923b87','the "laptop" {was} lost}','{"created_at":"2026-11-28T00:52:43.454008Z","id":"l64_def67890","name":"lost","permissions":{"products":"read"}}','{"created_at":"2026-11-28T00:52:43.454008Z","id":"l64_def67890","name":"lost","permissions":{"products":"read"},"revocation_reason":"the \"laptop\" {was} lost}","revoked_at":"2026-11-28T00:52:43.538977Z"}');
INSERT INTO audit VALUES(12,1795827163547206,'anna','revoked','l64_f0u0wuhx',X'027f621bf609ea8b93a10f817e9c39b678a3393e11acb743fd5d9268f1c884e9','x','{"created_at":"2026-11-28T00:52:43.510284Z","id":"l64_f0u0wuhx","name":"to be deleted","permissions":{"orders":"read"}}','{"created_at":"2026-11-28T00:52:43.510284Z","id":"l64_f0u0wuhx","name":"to be deleted","permissions":{"orders":"read"},"revocation_reason":"x","revoked_at":"2026-11-28T00:52:43.547206Z"}');
INSERT INTO audit VALUES(13,1795827163555563,'anna','deleted','l64_f0u0wuhx',X'027f621bf609ea8b93a10f817e9c39b678a3393e11acb743fd5d9268f1c884e9',NULL,'{"created_at":"2026-11-28T00:52:43.510284Z","id":"l64_f0u0wuhx","name":"to be deleted","permissions":{"orders":"read"},"revocation_reason":"x","revoked_at":"2026-11-28T00:52:43.547206Z"}',NULL);
INSERT INTO audit VALUES(14,1795827163563612,'anna','grant-changed','l64_qzqyzi0k',X'9a82a0838530196cf183382f62bf64d9a3105282a6391b473b139a47de74c779',NULL,'{"created_at":"2026-11-28T00:52:43.480258Z","id":"l64_qzqyzi0k","name":"Übermäßig é日本 \\ }\"","permissions":{"a":"read"}}','{"created_at":"2026-11-28T00:52:43.480258Z","id":"l64_qzqyzi0k","name":"Übermäßig é日本 \\ }\"","permissions":{"a":"read","orders":"write"},"restrictions":{"shop":{"include":["us"]}}}');
CREATE TABLE revoked (
  digest BLOB PRIMARY KEY CHECK (length(digest) = 32)
) STRICT, WITHOUT ROWID;
INSERT INTO revoked VALUES(X'027f621bf609ea8b93a10f817e9c39b678a3393e11acb743fd5d9268f1c884e9');
INSERT INTO revoked VALUES(X'4596bb0e833043a4e2c1604f692cac627472e9618acfdd8c259e277f6b923b87');
CREATE TABLE writer (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  busy INTEGER NOT NULL
) STRICT;
INSERT INTO writer VALUES(1,0);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('audit',14);
CREATE TRIGGER revoked_is_for_good BEFORE UPDATE OF revoked_at ON keys
WHEN old.revoked_at IS NOT NULL AND new.revoked_at IS NOT old.revoked_at
BEGIN
  SELECT raise(ABORT, 'a revoked key stays revoked');
END;
CREATE INDEX audit_of_key ON audit (key_id, number);
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN
  SELECT raise(ABORT, 'audit records are not changed');
END;
CREATE TRIGGER revoked_is_never_taken_out BEFORE DELETE ON revoked
BEGIN
  SELECT raise(ABORT, 'a revoked key stays revoked');
END;
CREATE TRIGGER revoked_is_never_changed BEFORE UPDATE ON revoked
BEGIN
  SELECT raise(ABORT, 'a revoked key stays revoked');
END;
CREATE TRIGGER revoked_is_remembered AFTER INSERT ON keys WHEN new.revoked_at IS NOT NULL AND length(new.digest) = 32
BEGIN
  INSERT INTO revoked SELECT new.digest WHERE NOT EXISTS (SELECT 1 FROM revoked WHERE digest = new.digest);
END;
CREATE TRIGGER revoked_later_is_remembered AFTER UPDATE OF digest, revoked_at ON keys
WHEN new.revoked_at IS NOT NULL AND length(new.digest) = 32
BEGIN
  INSERT INTO revoked SELECT new.digest WHERE NOT EXISTS (SELECT 1 FROM revoked WHERE digest = new.digest);
END;
CREATE TRIGGER revoked_is_not_forgotten BEFORE INSERT ON keys
WHEN new.revoked_at IS NULL AND EXISTS (SELECT 1 FROM revoked WHERE digest = new.digest)
BEGIN
  SELECT raise(ABORT, 'a revoked key stays revoked');
END;
CREATE TRIGGER revoked_is_not_written_over BEFORE UPDATE OF digest, revoked_at ON keys
WHEN new.revoked_at IS NULL AND EXISTS (SELECT 1 FROM revoked WHERE digest = new.digest)
BEGIN
  SELECT raise(ABORT, 'a revoked key stays revoked');
END;
CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit WHEN (SELECT busy FROM writer) = 0
BEGIN
  SELECT raise(ABORT, 'audit records are kept');
END;
CREATE TRIGGER made_by_hand AFTER INSERT ON keys WHEN (SELECT busy FROM writer) = 0
BEGIN
  INSERT INTO audit (at, who, action, key_id, digest)
    VALUES (strftime('%s', 'now') * 1000000, 'sql', 'changed-by-sql', new.id, iif(length(new.digest) = 32, new.digest, NULL));
END;
CREATE TRIGGER changed_by_hand AFTER UPDATE OF id, digest, name, kind, tenant, created_at, not_before, expires_at,
  revoked_at, revocation_reason, replaces, replaced_by, may, version ON keys WHEN (SELECT busy FROM writer) = 0
BEGIN
  INSERT INTO audit (at, who, action, key_id, digest)
    VALUES (strftime('%s', 'now') * 1000000, 'sql', 'changed-by-sql', old.id, iif(length(old.digest) = 32, old.digest, NULL)),
           (strftime('%s', 'now') * 1000000, 'sql', 'changed-by-sql', new.id, iif(length(new.digest) = 32, new.digest, NULL));
END;
CREATE TRIGGER deleted_by_hand AFTER DELETE ON keys WHEN (SELECT busy FROM writer) = 0
BEGIN
  INSERT INTO audit (at, who, action, key_id, digest)
    VALUES (strftime('%s', 'now') * 1000000, 'sql', 'changed-by-sql', old.id, iif(length(old.digest) = 32, old.digest, NULL));
END;
CREATE TRIGGER replaced_by_hand BEFORE INSERT ON keys WHEN (SELECT busy FROM writer) = 0
BEGIN
  INSERT INTO audit (at, who, action, key_id, digest)
    SELECT strftime('%s', 'now') * 1000000, 'sql', 'changed-by-sql', id, iif(length(digest) = 32, digest, NULL) FROM keys
    WHERE id = new.id OR digest = new.digest;
END;
CREATE TRIGGER replaced_later_by_hand BEFORE UPDATE OF id, digest ON keys WHEN (SELECT busy FROM writer) = 0
BEGIN
  INSERT INTO audit (at, who, action, key_id, digest)
    SELECT strftime('%s', 'now') * 1000000, 'sql', 'changed-by-sql', id, iif(length(digest) = 32, digest, NULL) FROM keys
    WHERE (id = new.id OR digest = new.digest) AND id <> old.id;
END;
CREATE TRIGGER settings_made_by_hand AFTER INSERT ON settings WHEN (SELECT busy FROM writer) = 0
BEGIN
  INSERT INTO audit (at, who, action) VALUES (strftime('%s', 'now') * 1000000, 'sql', 'changed-by-sql');
END;
CREATE TRIGGER settings_changed_by_hand AFTER UPDATE ON settings WHEN (SELECT busy FROM writer) = 0
BEGIN
  INSERT INTO audit (at, who, action) VALUES (strftime('%s', 'now') * 1000000, 'sql', 'changed-by-sql');
END;
CREATE TRIGGER revoked_earlier_is_remembered AFTER UPDATE OF digest, revoked_at ON keys
WHEN new.revoked_at IS NOT NULL AND length(old.digest) = 32
BEGIN
  INSERT INTO revoked SELECT old.digest WHERE NOT EXISTS (SELECT 1 FROM revoked WHERE digest = old.digest);
END;
COMMIT;
PRAGMA user_version = 3;
PRAGMA application_id = 1635087464;
