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
