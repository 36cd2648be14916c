-- Every digest that was ever seen revoked, however its record came and went: no action takes one out.
CREATE TABLE revoked (
  digest BLOB PRIMARY KEY CHECK (length(digest) = 32)
) STRICT, WITHOUT ROWID;

INSERT INTO revoked SELECT digest FROM keys WHERE revoked_at IS NOT NULL;
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
CREATE TRIGGER revoked_is_remembered AFTER INSERT ON keys WHEN new.revoked_at IS NOT NULL
BEGIN
  INSERT INTO revoked SELECT new.digest WHERE NOT EXISTS (SELECT 1 FROM revoked WHERE digest = new.digest);
END;

CREATE TRIGGER revoked_later_is_remembered AFTER UPDATE OF digest, revoked_at ON keys WHEN new.revoked_at IS NOT NULL
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
    VALUES (strftime('%s', 'now') * 1000000, 'sql', 'changed-by-sql', new.id, new.digest);
END;

CREATE TRIGGER changed_by_hand AFTER UPDATE OF id, digest, name, kind, tenant, created_at, not_before, expires_at,
  revoked_at, revocation_reason, replaces, replaced_by, may, version ON keys WHEN (SELECT busy FROM writer) = 0
BEGIN
  INSERT INTO audit (at, who, action, key_id, digest)
    VALUES (strftime('%s', 'now') * 1000000, 'sql', 'changed-by-sql', old.id, old.digest),
           (strftime('%s', 'now') * 1000000, 'sql', 'changed-by-sql', new.id, new.digest);
END;

CREATE TRIGGER deleted_by_hand AFTER DELETE ON keys WHEN (SELECT busy FROM writer) = 0
BEGIN
  INSERT INTO audit (at, who, action, key_id, digest)
    VALUES (strftime('%s', 'now') * 1000000, 'sql', 'changed-by-sql', old.id, old.digest);
END;

CREATE TRIGGER settings_changed_by_hand AFTER UPDATE ON settings WHEN (SELECT busy FROM writer) = 0
BEGIN
  INSERT INTO audit (at, who, action) VALUES (strftime('%s', 'now') * 1000000, 'sql', 'changed-by-sql');
END;
