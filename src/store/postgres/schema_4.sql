-- What the memory of leases is worth. A dump that is restored, whole or in parts, brings back what was true when it was
-- made, and not what was promised since. So the row says which transaction has written it: where the system's own word
-- (xmin) is another, it came from elsewhere, and the next change waits for all leases that may be held, as after a failover.
ALTER TABLE authz_counter ADD COLUMN written bigint;

CREATE FUNCTION authz_counter_changes() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
BEGIN
  -- Whoever changes a row that came from elsewhere does not vouch for it, unless by saying until when leases are waited for.
  IF old.written IS DISTINCT FROM (SELECT xmin::text::bigint FROM authz_counter)
      AND new.settled_at IS NOT DISTINCT FROM old.settled_at THEN
    new.server_since := NULL;
  END IF;
  new.written := txid_current() & 4294967295;
  -- Settings that are changed by hand are a change like any other: every replica has to learn of it.
  IF new.settings IS DISTINCT FROM old.settings AND new.version = old.version THEN
    new.version := old.version + 1;
    new.change := md5(random()::text || clock_timestamp()::text);
    INSERT INTO authz_audit (number, change, at, who, action)
      VALUES (new.version, new.change, clock_timestamp(), session_user, 'changed-by-sql');
    PERFORM pg_notify('authz', '');
  END IF;
  RETURN new;
END $$;
CREATE TRIGGER counter_changes BEFORE UPDATE ON authz_counter FOR EACH ROW EXECUTE FUNCTION authz_counter_changes();
-- Nobody knows what has happened to tables that were there before.
UPDATE authz_counter SET server_since = NULL;

-- A lease that is taken away while it runs: the replica still admits by it. It gives one back with a word of its own.
CREATE FUNCTION authz_lease_is_lost() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
BEGIN
  IF current_setting('authz.given_back', true) IS DISTINCT FROM 'yes' THEN
    UPDATE authz_counter SET server_since = NULL;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER lease_is_lost AFTER DELETE ON authz_replicas FOR EACH ROW
  WHEN (old.lease_until > clock_timestamp()) EXECUTE FUNCTION authz_lease_is_lost();
CREATE TRIGGER lease_is_cut AFTER UPDATE ON authz_replicas FOR EACH ROW
  WHEN (new.lease_until < old.lease_until OR new.lease < old.lease OR new.id <> old.id)
  EXECUTE FUNCTION authz_lease_is_lost();
CREATE TRIGGER leases_are_lost BEFORE TRUNCATE ON authz_replicas FOR EACH STATEMENT
  EXECUTE FUNCTION authz_lease_is_lost();

-- The log is thinned out by the program alone, which leaves a record of that.
DROP TRIGGER audit_is_kept ON authz_audit;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON authz_audit FOR EACH ROW
  EXECUTE FUNCTION authz_refuse('audit records are kept');
CREATE TRIGGER audit_is_kept BEFORE DELETE ON authz_audit FOR EACH ROW
  WHEN (current_setting('authz.writer', true) IS DISTINCT FROM 'yes')
  EXECUTE FUNCTION authz_refuse('audit records are kept');

-- Keys that are changed by hand, by SQL: the change is counted and leaves an audit record, by which every replica learns of
-- it. A program writes the records itself, in the same transaction; so this is looked at when the transaction ends.
CREATE FUNCTION authz_changed_by_sql(key text, its_digest bytea) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  next record;
BEGIN
  UPDATE authz_counter SET version = version + 1, change = md5(random()::text || clock_timestamp()::text)
    RETURNING version, change INTO next;
  INSERT INTO authz_audit (number, change, at, who, action, key_id, digest)
    VALUES (next.version, next.change, clock_timestamp(), session_user, 'changed-by-sql', key, its_digest);
END $$;
CREATE FUNCTION authz_key_changes() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
  touched record;
BEGIN
  FOR touched IN
    SELECT old.id AS id, old.digest AS digest WHERE TG_OP <> 'INSERT'
    UNION SELECT new.id, new.digest WHERE TG_OP <> 'DELETE'
  LOOP
    IF NOT EXISTS (SELECT 1 FROM authz_audit WHERE key_id = touched.id AND digest IS NOT DISTINCT FROM touched.digest
        AND xmin::text::bigint = (txid_current() & 4294967295)) THEN
      PERFORM authz_changed_by_sql(touched.id, touched.digest);
    END IF;
  END LOOP;
  PERFORM pg_notify('authz', '');
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER key_is_made AFTER INSERT ON authz_keys DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
  WHEN (current_setting('authz.writer', true) IS DISTINCT FROM 'yes') EXECUTE FUNCTION authz_key_changes();
CREATE CONSTRAINT TRIGGER key_changes AFTER UPDATE OF id, digest, name, kind, tenant, created_at, not_before, expires_at,
  revoked_at, revocation_reason, replaces, replaced_by, may, version ON authz_keys DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
  WHEN (current_setting('authz.writer', true) IS DISTINCT FROM 'yes') EXECUTE FUNCTION authz_key_changes();
CREATE CONSTRAINT TRIGGER key_is_gone AFTER DELETE ON authz_keys DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
  WHEN (current_setting('authz.writer', true) IS DISTINCT FROM 'yes') EXECUTE FUNCTION authz_key_changes();
CREATE FUNCTION authz_keys_are_gone() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
BEGIN
  PERFORM authz_changed_by_sql(id, digest) FROM authz_keys;
  PERFORM pg_notify('authz', '');
  RETURN NULL;
END $$;
CREATE TRIGGER keys_are_gone BEFORE TRUNCATE ON authz_keys FOR EACH STATEMENT EXECUTE FUNCTION authz_keys_are_gone();
