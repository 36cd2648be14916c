-- The owner is a column, because all keys of one are found and revoked at once.
ALTER TABLE keys ADD COLUMN owner TEXT;
CREATE INDEX keys_of_owner ON keys (owner, id) WHERE owner IS NOT NULL;

DROP TRIGGER IF EXISTS changed_by_hand;
CREATE TRIGGER changed_by_hand AFTER UPDATE OF id, digest, created_at, not_before, expires_at, revoked_at, version, record,
  owner ON keys WHEN (SELECT busy FROM writer) = 0
BEGIN
  INSERT INTO audit (at, who, action, key_id, digest)
    VALUES (strftime('%s', 'now') * 1000000, 'sql', 'changed-by-sql', old.id, iif(length(old.digest) = 32, old.digest, NULL)),
           (strftime('%s', 'now') * 1000000, 'sql', 'changed-by-sql', new.id, iif(length(new.digest) = 32, new.digest, NULL));
END;

-- From where a change was made, where the interface that it came by knows that.
ALTER TABLE audit ADD COLUMN address TEXT;
ALTER TABLE audit ADD COLUMN request_id TEXT;

-- How many decisions were made about a key on a day (in days since 1970, in UTC), by outcome: `allowed`, or the code of a cause.
CREATE TABLE usage (
  key_id TEXT NOT NULL,
  day INTEGER NOT NULL,
  outcome TEXT NOT NULL,
  count INTEGER NOT NULL,
  PRIMARY KEY (key_id, day, outcome)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_of_day ON usage (day);

-- When a key was last used, and from where.
CREATE TABLE last_uses (
  key_id TEXT PRIMARY KEY,
  at INTEGER NOT NULL,
  address TEXT,
  source TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX last_uses_of_time ON last_uses (at);
