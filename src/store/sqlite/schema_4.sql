-- What SQL decides by stays in columns. The rest of a record is JSON, as a key file writes it; `may` was a part of that.
-- The texts are joined and not merged, so that a row that could not be read, of duplicate fields say, cannot be read now.
ALTER TABLE keys ADD COLUMN record TEXT NOT NULL DEFAULT '';
-- These triggers name columns that go, and would see the change.
DROP TRIGGER changed_by_hand;
UPDATE keys SET record =
  substr(own, 1, length(own) - 1) || iif(ltrim(substr(trim(may, white), 2), white) = '}', '}', ',' || substr(trim(may, white), 2))
  FROM (SELECT id AS its_id, json_object('name', name, 'kind', kind, 'tenant', tenant, 'revocation_reason', revocation_reason,
    'replaces', replaces, 'replaced_by', replaced_by) AS own, ' ' || char(9, 10, 13) AS white FROM keys) WHERE id = its_id AND trim(may, white) LIKE '{%}';
-- Anything else was no JSON, and stays unreadable.
UPDATE keys SET record = may WHERE record = '';
ALTER TABLE keys DROP COLUMN name;
ALTER TABLE keys DROP COLUMN kind;
ALTER TABLE keys DROP COLUMN tenant;
ALTER TABLE keys DROP COLUMN revocation_reason;
ALTER TABLE keys DROP COLUMN replaces;
ALTER TABLE keys DROP COLUMN replaced_by;
ALTER TABLE keys DROP COLUMN may;

CREATE TRIGGER changed_by_hand AFTER UPDATE OF id, digest, created_at, not_before, expires_at, revoked_at, version, record
ON keys WHEN (SELECT busy FROM writer) = 0
BEGIN
  INSERT INTO audit (at, who, action, key_id, digest)
    VALUES (strftime('%s', 'now') * 1000000, 'sql', 'changed-by-sql', old.id, iif(length(old.digest) = 32, old.digest, NULL)),
           (strftime('%s', 'now') * 1000000, 'sql', 'changed-by-sql', new.id, iif(length(new.digest) = 32, new.digest, NULL));
END;
