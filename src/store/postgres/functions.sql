-- Run after every migration, as a function that is replaced loses its settings. What runs with the rights of the owner does so for these tables alone. Else anybody who may make a table, a temporary one
-- even, could hang such a function on it and write audit records, or have the function work on a temporary table of his own
-- in place of one of these, and run his triggers with the rights of the owner.
DO $$
DECLARE
  own record;
BEGIN
  FOR own IN
    SELECT DISTINCT pg_proc.oid::regprocedure AS called, nspname AS schema_name
    FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
      JOIN pg_class ON pg_class.oid = tgrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE prosecdef AND proname LIKE 'authz\_%' AND tgrelid IN ('authz_counter'::regclass, 'authz_keys'::regclass,
      'authz_audit'::regclass, 'authz_replicas'::regclass, 'authz_revoked'::regclass)
  LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', own.called);
    EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, %I, pg_temp', own.called, own.schema_name);
  END LOOP;
END $$;
