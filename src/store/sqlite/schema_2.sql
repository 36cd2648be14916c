-- Every digest that was ever seen revoked, however its record came and went: no action takes one out.
CREATE TABLE revoked (
  digest BLOB PRIMARY KEY CHECK (length(digest) = 32)
) STRICT, WITHOUT ROWID;

-- A row whose digest is damaged admits nobody, and must keep nobody from opening the file, nor from revoking the key.
INSERT INTO revoked SELECT digest FROM keys WHERE revoked_at IS NOT NULL AND length(digest) = 32;
INSERT OR IGNORE INTO revoked SELECT digest FROM audit WHERE length(digest) = 32 AND (
  action = 'revoked'
  OR CASE WHEN json_valid(before) THEN json_extract(before, '$.revoked_at') END IS NOT NULL
  OR CASE WHEN json_valid(after) THEN json_extract(after, '$.revoked_at') END IS NOT NULL);

CREATE TRIGGER revoked_is_never_taken_out BEFORE DELETE ON revoked
BEGIN
  SELECT raise(ABORT, 'a revoked key stays revoked');
END;

CREATE TRIGGER revoked_is_never_changed BEFORE UPDATE ON revoked
BEGIN
  SELECT raise(ABORT, 'a revoked key stays revoked');
END;

-- Whatever writes to the file. (In a trigger, "OR IGNORE" gives way to what the statement outside of it says of conflicts.)
CREATE TRIGGER revoked_is_remembered AFTER INSERT ON keys WHEN new.revoked_at IS NOT NULL AND length(new.digest) = 32
BEGIN
  INSERT INTO revoked SELECT new.digest WHERE NOT EXISTS (SELECT 1 FROM revoked WHERE digest = new.digest);
END;

CREATE TRIGGER revoked_later_is_remembered AFTER UPDATE OF digest, revoked_at ON keys
WHEN new.revoked_at IS NOT NULL AND length(new.digest) = 32
BEGIN
  INSERT INTO revoked SELECT new.digest WHERE NOT EXISTS (SELECT 1 FROM revoked WHERE digest = new.digest);
END;

DROP TRIGGER revoked_is_not_forgotten;
DROP INDEX audit_of_revoked;

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

-- Changes that are made by hand, by SQL, leave an audit record as well: it is by these that every process learns what has
-- changed. The program says with each change of its own that it writes the record itself.
-- (A digest that is damaged stands in none: a row that has one can be changed and deleted as well.)
CREATE TABLE writer (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  busy INTEGER NOT NULL
) STRICT;

INSERT INTO writer VALUES (1, 0);

-- The log is thinned out by the program alone, which leaves a record of that.
DROP TRIGGER audit_is_kept;
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

-- A row that makes way for another, as REPLACE has it, is not deleted as far as triggers can see.
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
