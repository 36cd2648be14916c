-- Columns are for what SQL decides by. The rest of a record is JSON, as a key file writes it, so that a new field of a key
-- needs no new column. This part runs before the others wait, and may run again.
ALTER TABLE authz_keys ADD COLUMN IF NOT EXISTS record text;

-- The members of a JSON object as they are written, with commas between. NULL if the text is no object, or if a name is there
-- twice or not among the allowed ones.
CREATE OR REPLACE FUNCTION authz_members(object text, allowed text[]) RETURNS text LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
  members text;
BEGIN
  -- Programs skip a byte order mark.
  IF convert_to(left(object, 1), 'UTF8') = '\xefbbbf' THEN
    object := substr(object, 2);
  END IF;
  SELECT CASE WHEN count(*) = count(DISTINCT key) AND coalesce(bool_and(key = ANY (allowed)), true)
      THEN coalesce(string_agg(to_json(key)::text || ':' || value::text, ','), '') END
    INTO members FROM json_each(object::json);
  RETURN members;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
  RETURN NULL;
END $$;

-- Programs of before read and write columns of their own. Whichever form is written, the other follows, text for text. What
-- the program that reads one form would refuse, is `unreadable` in the other. (A later version drops the columns, when no such
-- program is left.)
CREATE OR REPLACE FUNCTION authz_both_forms() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
  grant_fields CONSTANT text[] := '{permissions, restrictions, ip_ranges, origins}';
  text_fields CONSTANT text[] := '{name, kind, tenant, revocation_reason, replaces, replaced_by}';
  members text;
  fields json;
BEGIN
  IF new.record IS NULL OR (TG_OP = 'UPDATE' AND new.record IS NOT DISTINCT FROM old.record) THEN
    -- Written by a program of before. It cannot read a record with fields that it does not know, and may revoke the key, but not
    -- change the grant. (Without a record, `unreadable` is a text of before this schema.)
    IF TG_OP = 'UPDATE' AND old.may = 'unreadable' AND old.record IS NOT NULL THEN
      IF new.may IS DISTINCT FROM old.may AND new.revoked_at IS NULL THEN
        RAISE EXCEPTION 'the key % has fields that `may` cannot hold: change `record`', new.id;
      END IF;
      new.record := old.record;
      new.may := old.may;
      RETURN new;
    END IF;
    members := authz_members(new.may, grant_fields);
    IF members IS NULL THEN
      new.record := 'unreadable: ' || new.may;
    ELSE
      SELECT '{' || string_agg(to_json(key)::text || ':' || to_json(value)::text, ',')
          || CASE members WHEN '' THEN '' ELSE ',' || members END || '}'
        INTO new.record
        FROM (VALUES ('name', new.name), ('kind', new.kind), ('tenant', new.tenant),
          ('revocation_reason', new.revocation_reason), ('replaces', new.replaces), ('replaced_by', new.replaced_by))
          AS own (key, value)
        WHERE value IS NOT NULL;
    END IF;
    RETURN new;
  END IF;
  new.name := coalesce(new.name, '');
  new.may := 'unreadable';
  BEGIN
    IF authz_members(new.record, grant_fields || text_fields) IS NOT NULL THEN
      fields := new.record;
      IF NOT EXISTS (SELECT 1 FROM json_each(fields)
          WHERE key = ANY (text_fields) AND json_typeof(value) <> 'string'
            AND (json_typeof(value) <> 'null' OR key = 'name')) THEN
        new.name := coalesce(fields ->> 'name', '');
        new.kind := fields ->> 'kind';
        new.tenant := fields ->> 'tenant';
        new.revocation_reason := fields ->> 'revocation_reason';
        new.replaces := fields ->> 'replaces';
        new.replaced_by := fields ->> 'replaced_by';
        SELECT '{' || coalesce(string_agg(to_json(key)::text || ':' || value::text, ','), '') || '}'
          INTO new.may FROM json_each(fields) WHERE key = ANY (grant_fields);
      END IF;
    END IF;
  EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    new.may := 'unreadable';
  END;
  RETURN new;
END $$;

DROP TRIGGER IF EXISTS both_forms ON authz_keys;
CREATE TRIGGER both_forms BEFORE INSERT OR UPDATE OF name, kind, tenant, revocation_reason, replaces, replaced_by, may, record
  ON authz_keys FOR EACH ROW EXECUTE FUNCTION authz_both_forms();
