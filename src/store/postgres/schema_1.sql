-- One row. Whoever changes anything locks it first: so versions come in the order of the commits.
CREATE TABLE authz_counter (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  version bigint NOT NULL,
  -- What tells the newest change from another with the same number, after a failover.
  change text NOT NULL,
  settings text NOT NULL,
  -- How many migrations the tables have seen, and how many a program has to know at least to work with them.
  schema integer NOT NULL,
  oldest integer NOT NULL,
  -- Replicas may update this and nothing else: it is what lets them lock the row against writers.
  guard boolean NOT NULL DEFAULT true
);

CREATE TABLE authz_keys (
  id text COLLATE "C" PRIMARY KEY,
  digest bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
  name text NOT NULL,
  kind text,
  tenant text,
  created_at timestamptz,
  not_before timestamptz,
  expires_at timestamptz,
  revoked_at timestamptz,
  revocation_reason text,
  replaces text,
  replaced_by text,
  may text NOT NULL,
  version bigint NOT NULL,
  last_used timestamptz
);

CREATE TABLE authz_audit (
  number bigint PRIMARY KEY,
  change text NOT NULL,
  at timestamptz NOT NULL,
  who text NOT NULL,
  action text NOT NULL,
  key_id text,
  digest bytea CHECK (length(digest) = 32),
  note text,
  before text,
  after text
);
CREATE INDEX authz_audit_of_key ON authz_audit (key_id, number);
CREATE INDEX authz_audit_of_revoked ON authz_audit (digest) WHERE action = 'revoked';

CREATE TABLE authz_replicas (
  id text PRIMARY KEY,
  name text NOT NULL,
  applied bigint NOT NULL,
  lease_until timestamptz NOT NULL
);

-- Whatever writes to the tables: revoked is for good, and audit records stay as they are.
CREATE FUNCTION authz_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '%', TG_ARGV[0];
END $$;
CREATE TRIGGER revoked_is_for_good BEFORE UPDATE OF revoked_at ON authz_keys FOR EACH ROW
  WHEN (old.revoked_at IS NOT NULL AND new.revoked_at IS DISTINCT FROM old.revoked_at)
  EXECUTE FUNCTION authz_refuse('a revoked key stays revoked');
CREATE TRIGGER audit_is_kept BEFORE UPDATE OR DELETE ON authz_audit FOR EACH ROW
  EXECUTE FUNCTION authz_refuse('audit records are kept');
