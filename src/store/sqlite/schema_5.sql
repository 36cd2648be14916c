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
