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
