-- Keys that are changed by hand in the new column are a change like any other.
DO $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM pg_trigger WHERE tgname = 'record_changes' AND tgrelid = 'authz_keys'::regclass) THEN
    CREATE CONSTRAINT TRIGGER record_changes AFTER UPDATE OF record ON authz_keys DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
      WHEN (current_setting('authz.writer', true) IS DISTINCT FROM 'yes') EXECUTE FUNCTION authz_key_changes();
  END IF;
END $$;
