-- A revoked key stays revoked also where two transactions overlap: the check before a row is written looks before it waits
-- for the other transaction, so it is repeated afterwards; and a transaction that sees an old moment cannot see what was
-- revoked since.
CREATE OR REPLACE FUNCTION authz_refuse_revoked() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    RAISE EXCEPTION 'keys are written in READ COMMITTED: an older moment does not show which keys were revoked since';
  END IF;
  IF EXISTS (SELECT 1 FROM authz_revoked WHERE digest = new.digest) THEN
    RAISE EXCEPTION 'a revoked key stays revoked';
  END IF;
  RETURN new;
END $$;
CREATE TRIGGER revoked_is_not_forgotten_meanwhile AFTER INSERT OR UPDATE OF digest, revoked_at ON authz_keys FOR EACH ROW
  WHEN (new.revoked_at IS NULL) EXECUTE FUNCTION authz_refuse_revoked();

-- Whoever revokes a key and gives it another digest at once has revoked the digest that it had.
CREATE OR REPLACE FUNCTION authz_remember_revoked() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  INSERT INTO authz_revoked VALUES (new.digest) ON CONFLICT DO NOTHING;
  IF TG_OP = 'UPDATE' THEN
    INSERT INTO authz_revoked VALUES (old.digest) ON CONFLICT DO NOTHING;
  END IF;
  RETURN NULL;
END $$;

-- TRUNCATE removes rows that its transaction may not see. To write to the counter fails there if anything was changed since.
CREATE OR REPLACE FUNCTION authz_keys_are_gone() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  UPDATE authz_counter SET guard = guard;
  PERFORM authz_changed_by_sql(id, digest) FROM authz_keys;
  PERFORM pg_notify('authz', '');
  RETURN NULL;
END $$;

-- The table of leases that the counter vouches for: another one, of a copy of the database or restored by itself, does not
-- have the leases that were given since.
ALTER TABLE authz_counter ADD COLUMN leases text;

-- The longest lease that was ever given never becomes shorter.
CREATE FUNCTION authz_longest_lease() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  new.longest_lease := greatest(new.longest_lease, old.longest_lease);
  RETURN new;
END $$;
CREATE TRIGGER a_longest_lease BEFORE UPDATE OF longest_lease ON authz_counter FOR EACH ROW
  EXECUTE FUNCTION authz_longest_lease();

-- No replica knows of changes that were not made: a row that says so was changed by hand, and nobody can tell what the
-- replica knows.
CREATE FUNCTION authz_lease_is_false() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  IF new.applied > (SELECT version FROM authz_counter) THEN
    UPDATE authz_counter SET server_since = NULL;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER lease_is_false AFTER INSERT OR UPDATE OF applied ON authz_replicas FOR EACH ROW
  EXECUTE FUNCTION authz_lease_is_false();
