-- Columns are for what SQL decides by. The rest of a record is JSON, as a key file writes it, so that a new field of a key
-- needs no new column.
ALTER TABLE authz_keys ADD COLUMN record text;

-- Programs of before read and write columns of their own. Whichever form is written, the other follows; `record` keeps the
-- fields that those programs do not know. (A later version drops the columns, when no such program is left.)
CREATE FUNCTION authz_both_forms() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  columns CONSTANT text[] := '{name, kind, tenant, revocation_reason, replaces, replaced_by, permissions, restrictions,
    ip_ranges, origins}';
  others jsonb := '{}';
  written jsonb;
BEGIN
  IF TG_OP = 'UPDATE' THEN
    IF new.record IS NOT DISTINCT FROM old.record THEN
      new.record := NULL;
      BEGIN
        others := old.record::jsonb - columns;
      EXCEPTION WHEN data_exception THEN
        NULL;
      END;
    END IF;
  END IF;
  IF new.record IS NULL THEN
    BEGIN
      new.record := others || jsonb_strip_nulls(jsonb_build_object('name', new.name, 'kind', new.kind, 'tenant', new.tenant,
        'revocation_reason', new.revocation_reason, 'replaces', new.replaces, 'replaced_by', new.replaced_by))
        || new.may::jsonb;
    EXCEPTION WHEN data_exception THEN
      new.record := new.may;  -- No program can read either.
    END;
  ELSE
    BEGIN
      written := new.record::jsonb;
      new.name := coalesce(written ->> 'name', '');
      new.kind := written ->> 'kind';
      new.tenant := written ->> 'tenant';
      new.revocation_reason := written ->> 'revocation_reason';
      new.replaces := written ->> 'replaces';
      new.replaced_by := written ->> 'replaced_by';
      new.may := jsonb_strip_nulls(jsonb_build_object('permissions', written -> 'permissions', 'restrictions',
        written -> 'restrictions', 'ip_ranges', written -> 'ip_ranges', 'origins', written -> 'origins'));
    EXCEPTION WHEN data_exception THEN
      new.name := coalesce(new.name, '');
      new.may := new.record;
    END;
  END IF;
  RETURN new;
END $$;

-- As in the trigger, and joined as texts: a row that could not be read, of duplicate fields say, cannot be read now.
UPDATE authz_keys SET record = CASE
  WHEN btrim(may, white) NOT LIKE '{%}' THEN may
  WHEN btrim(substr(btrim(may, white), 2), white) = '}' THEN own
  ELSE substr(own, 1, length(own) - 1) || ',' || substr(btrim(may, white), 2) END
FROM (SELECT id AS its_id, E' \t\r\n' AS white, jsonb_strip_nulls(jsonb_build_object('name', name, 'kind', kind, 'tenant', tenant,
    'revocation_reason', revocation_reason, 'replaces', replaces, 'replaced_by', replaced_by))::text AS own FROM authz_keys) AS it
WHERE id = its_id;
ALTER TABLE authz_keys ALTER COLUMN record SET NOT NULL;

CREATE TRIGGER both_forms BEFORE INSERT OR UPDATE OF name, kind, tenant, revocation_reason, replaces, replaced_by, may, record
  ON authz_keys FOR EACH ROW EXECUTE FUNCTION authz_both_forms();

DROP TRIGGER key_changes ON authz_keys;
CREATE CONSTRAINT TRIGGER key_changes AFTER UPDATE OF id, digest, name, kind, tenant, created_at, not_before, expires_at,
  revoked_at, revocation_reason, replaces, replaced_by, may, version, record ON authz_keys DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW WHEN (current_setting('authz.writer', true) IS DISTINCT FROM 'yes') EXECUTE FUNCTION authz_key_changes();
