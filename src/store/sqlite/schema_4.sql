-- What SQL decides by stays in columns. The rest of a record is JSON, as a key file writes it; `may` was a part of that.
-- The texts are joined and not merged, so that a row that could not be read, of duplicate fields say, cannot be read now. A
-- `may` that is no object of the four fields of a grant stays unreadable, too. (JSON functions fail on what is no JSON.)
ALTER TABLE keys ADD COLUMN record TEXT NOT NULL DEFAULT '';
-- This trigger names columns that go, and would see the change.
DROP TRIGGER IF EXISTS changed_by_hand;
UPDATE keys SET record = CASE
    WHEN NOT is_joined THEN 'unreadable: ' || may
    WHEN rest = '}' THEN own
    ELSE substr(own, 1, length(own) - 1) || ',' || substr(text, 2) END
FROM (
  SELECT its_id, own, text, trim(substr(text, 2), white) AS rest, CASE
      WHEN instr(CAST(text AS BLOB), x'00') > 0 OR NOT json_valid(text) THEN false
      WHEN json_type(text) <> 'object' THEN false
      ELSE (SELECT count(*) = count(DISTINCT key)
              AND coalesce(min(key IN ('permissions', 'restrictions', 'ip_ranges', 'origins')), true) FROM json_each(text))
    END AS is_joined
  FROM (
    SELECT id AS its_id, char(32, 9, 10, 13) AS white,
      -- Programs of before skipped a byte order mark.
      trim(CASE substr(may, 1, 1) WHEN char(65279) THEN substr(may, 2) ELSE may END, char(32, 9, 10, 13)) AS text,
      json_object('name', name, 'kind', kind, 'tenant', tenant, 'revocation_reason', revocation_reason,
        'replaces', replaces, 'replaced_by', replaced_by) AS own
    FROM keys))
WHERE id = its_id;
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
