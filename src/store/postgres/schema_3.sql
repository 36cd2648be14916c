-- Every digest that was ever seen revoked, however its record came and went: no action takes one out.
CREATE TABLE authz_revoked (
  digest bytea PRIMARY KEY CHECK (length(digest) = 32)
);

INSERT INTO authz_revoked SELECT digest FROM authz_keys WHERE revoked_at IS NOT NULL;
-- A record that is written down has a date in this field where it is revoked. A resource may be of the same name, and has an
-- access level there.
INSERT INTO authz_revoked SELECT DISTINCT digest FROM authz_audit WHERE digest IS NOT NULL
    AND (action = 'revoked' OR before ~ '"revoked_at":"[0-9-]' OR after ~ '"revoked_at":"[0-9-]')
  ON CONFLICT DO NOTHING;

CREATE TRIGGER revoked_is_never_taken_out BEFORE UPDATE OR DELETE ON authz_revoked FOR EACH ROW
  EXECUTE FUNCTION authz_refuse('a revoked key stays revoked');
CREATE TRIGGER revoked_are_never_taken_out BEFORE TRUNCATE ON authz_revoked FOR EACH STATEMENT
  EXECUTE FUNCTION authz_refuse('a revoked key stays revoked');

-- Whatever writes to the tables. With the rights of who made them: who may revoke need not be able to do more.
CREATE FUNCTION authz_remember_revoked() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
BEGIN
  INSERT INTO authz_revoked VALUES (new.digest) ON CONFLICT DO NOTHING;
  RETURN NULL;
END $$;
CREATE TRIGGER revoked_is_remembered AFTER INSERT OR UPDATE OF digest, revoked_at ON authz_keys FOR EACH ROW
  WHEN (new.revoked_at IS NOT NULL) EXECUTE FUNCTION authz_remember_revoked();

CREATE FUNCTION authz_refuse_revoked() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM authz_revoked WHERE digest = new.digest) THEN
    RAISE EXCEPTION 'a revoked key stays revoked';
  END IF;
  RETURN new;
END $$;
CREATE TRIGGER revoked_is_not_forgotten BEFORE INSERT OR UPDATE OF digest, revoked_at ON authz_keys FOR EACH ROW
  WHEN (new.revoked_at IS NULL) EXECUTE FUNCTION authz_refuse_revoked();

DROP INDEX authz_audit_of_revoked;
