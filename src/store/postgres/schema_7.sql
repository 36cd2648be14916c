-- The owner is a column, because all keys of one are found and revoked at once. Programs of before leave it as it is.
ALTER TABLE authz_keys ADD COLUMN IF NOT EXISTS owner text;
CREATE INDEX IF NOT EXISTS authz_keys_of_owner ON authz_keys (owner, id) WHERE owner IS NOT NULL;
DO $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM pg_trigger WHERE tgname = 'owner_changes' AND tgrelid = 'authz_keys'::regclass) THEN
    CREATE CONSTRAINT TRIGGER owner_changes AFTER UPDATE OF owner ON authz_keys DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
      WHEN (current_setting('authz.writer', true) IS DISTINCT FROM 'yes') EXECUTE FUNCTION authz_key_changes();
  END IF;
END $$;

-- From where a change was made, where the interface that it came by knows that.
ALTER TABLE authz_audit ADD COLUMN IF NOT EXISTS address text, ADD COLUMN IF NOT EXISTS request_id text;

-- How many decisions were made about a key on a day (in days since 1970, in UTC), by outcome: `allowed`, or the code of a cause.
CREATE TABLE IF NOT EXISTS authz_usage (
  key_id text COLLATE "C" NOT NULL,
  day bigint NOT NULL,
  outcome text NOT NULL,
  count bigint NOT NULL,
  PRIMARY KEY (key_id, day, outcome)
);
CREATE INDEX IF NOT EXISTS authz_usage_of_day ON authz_usage (day);

-- When a key was last used, and from where.
CREATE TABLE IF NOT EXISTS authz_last_uses (
  key_id text COLLATE "C" PRIMARY KEY,
  at timestamptz NOT NULL,
  address text,
  source text
);

-- A program of before that rotates a key knows nothing of its owner: the new key belongs to whom the old one does.
CREATE OR REPLACE FUNCTION authz_owner_is_kept() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  new.owner := (SELECT owner FROM authz_keys WHERE id = new.replaces);
  RETURN new;
END $$;
DROP TRIGGER IF EXISTS owner_is_kept ON authz_keys;
-- (Triggers run in the order of their names: `both_forms` has written `replaces` before.)
CREATE TRIGGER owner_is_kept BEFORE INSERT ON authz_keys FOR EACH ROW
  WHEN (new.owner IS NULL) EXECUTE FUNCTION authz_owner_is_kept();

-- What roles.sql gives, where the roles are there already.
DO $$
BEGIN
  IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'authz_replica') THEN
    GRANT SELECT, INSERT, UPDATE, DELETE ON authz_usage, authz_last_uses TO authz_replica;
  END IF;
  IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'authz_admin') THEN
    GRANT SELECT ON authz_usage, authz_last_uses TO authz_admin;
  END IF;
END $$;
CREATE INDEX IF NOT EXISTS authz_last_uses_of_time ON authz_last_uses (at);
