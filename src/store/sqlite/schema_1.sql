CREATE TABLE settings (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Dates are microseconds since 1970.
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

-- Whatever writes to the file: revoked is for good.
CREATE TRIGGER revoked_is_for_good BEFORE UPDATE OF revoked_at ON keys
WHEN old.revoked_at IS NOT NULL AND new.revoked_at IS NOT old.revoked_at
BEGIN
  SELECT raise(ABORT, 'a revoked key stays revoked');
END;

-- Every change with its author; other processes learn from it what has changed, by rising numbers.
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

CREATE INDEX audit_of_key ON audit (key_id, number);

CREATE INDEX audit_of_revoked ON audit (digest) WHERE action = 'revoked';

CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN
  SELECT raise(ABORT, 'audit records are not changed');
END;

CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit
BEGIN
  SELECT raise(ABORT, 'audit records are kept');
END;

CREATE TRIGGER revoked_is_not_forgotten BEFORE INSERT ON keys
WHEN new.revoked_at IS NULL
  AND EXISTS (SELECT 1 FROM audit WHERE digest = new.digest AND action = 'revoked')
BEGIN
  SELECT raise(ABORT, 'a revoked key stays revoked');
END;
