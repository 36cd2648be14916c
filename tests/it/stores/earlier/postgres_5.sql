CREATE FUNCTION public.authz_changed_by_sql(key text, its_digest bytea) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
  next record;
BEGIN
  UPDATE authz_counter SET version = version + 1, change = md5(random()::text || clock_timestamp()::text)
    RETURNING version, change INTO next;
  INSERT INTO authz_audit (number, change, at, who, action, key_id, digest)
    VALUES (next.version, next.change, clock_timestamp(), session_user, 'changed-by-sql', key, its_digest);
END $$;
CREATE FUNCTION public.authz_counter_changes() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'public', 'pg_temp'
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
CREATE FUNCTION public.authz_key_changes() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'public', 'pg_temp'
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
CREATE FUNCTION public.authz_keys_are_gone() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'public', 'pg_temp'
    AS $$
BEGIN
  UPDATE authz_counter SET guard = guard;
  PERFORM authz_changed_by_sql(id, digest) FROM authz_keys;
  PERFORM pg_notify('authz', '');
  RETURN NULL;
END $$;
CREATE FUNCTION public.authz_lease_is_false() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'public', 'pg_temp'
    AS $$
BEGIN
  IF new.applied > (SELECT version FROM authz_counter) THEN
    UPDATE authz_counter SET server_since = NULL;
  END IF;
  RETURN NULL;
END $$;
CREATE FUNCTION public.authz_lease_is_lost() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'public', 'pg_temp'
    AS $$
BEGIN
  IF current_setting('authz.given_back', true) IS DISTINCT FROM 'yes' THEN
    UPDATE authz_counter SET server_since = NULL;
  END IF;
  RETURN NULL;
END $$;
CREATE FUNCTION public.authz_longest_lease() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
  new.longest_lease := greatest(new.longest_lease, old.longest_lease);
  RETURN new;
END $$;
CREATE FUNCTION public.authz_refuse() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
  RAISE EXCEPTION '%', TG_ARGV[0];
END $$;
CREATE FUNCTION public.authz_refuse_revoked() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'public', 'pg_temp'
    AS $$
BEGIN
  IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    RAISE EXCEPTION 'keys are written in READ COMMITTED: an older moment does not show which keys were revoked since';
  END IF;
  IF EXISTS (SELECT 1 FROM authz_revoked WHERE digest = new.digest) THEN
    RAISE EXCEPTION 'a revoked key stays revoked';
  END IF;
  RETURN new;
END $$;
CREATE FUNCTION public.authz_remember_revoked() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'public', 'pg_temp'
    AS $$
BEGIN
  INSERT INTO authz_revoked VALUES (new.digest) ON CONFLICT DO NOTHING;
  IF TG_OP = 'UPDATE' THEN
    INSERT INTO authz_revoked VALUES (old.digest) ON CONFLICT DO NOTHING;
  END IF;
  RETURN NULL;
END $$;
CREATE TABLE public.authz_audit (
    number bigint NOT NULL,
    change text NOT NULL,
    at timestamp with time zone NOT NULL,
    who text NOT NULL,
    action text NOT NULL,
    key_id text,
    digest bytea,
    note text,
    before text,
    after text,
    CONSTRAINT authz_audit_digest_check CHECK ((length(digest) = 32))
);
CREATE TABLE public.authz_counter (
    one boolean DEFAULT true NOT NULL,
    version bigint NOT NULL,
    change text NOT NULL,
    settings text NOT NULL,
    schema integer NOT NULL,
    oldest integer NOT NULL,
    guard boolean DEFAULT true NOT NULL,
    server_since timestamp with time zone,
    settled_at timestamp with time zone,
    longest_lease interval DEFAULT '00:00:00'::interval NOT NULL,
    written bigint,
    leases text,
    CONSTRAINT authz_counter_one_check CHECK (one)
);
CREATE TABLE public.authz_keys (
    id text NOT NULL COLLATE pg_catalog."C",
    digest bytea NOT NULL,
    name text NOT NULL,
    kind text,
    tenant text,
    created_at timestamp with time zone,
    not_before timestamp with time zone,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    revocation_reason text,
    replaces text,
    replaced_by text,
    may text NOT NULL,
    version bigint NOT NULL,
    last_used timestamp with time zone,
    CONSTRAINT authz_keys_digest_check CHECK ((length(digest) = 32))
);
CREATE TABLE public.authz_replicas (
    id text NOT NULL,
    name text NOT NULL,
    applied bigint NOT NULL,
    lease_until timestamp with time zone NOT NULL,
    lease interval
);
CREATE TABLE public.authz_revoked (
    digest bytea NOT NULL,
    CONSTRAINT authz_revoked_digest_check CHECK ((length(digest) = 32))
);
INSERT INTO public.authz_audit VALUES (1, '36899054ea8d28903b2be6388ecf0753', '2026-11-28 00:55:48.698895+00', 'anna', 'imported', 'l64_abc12345', '\xf3abb72a4e9ba85fd7f54d80be566d51114b2f285a247589b656673f61d4dabf', NULL, NULL, '{"created_at":"2026-11-28T00:55:48.693462Z","id":"l64_abc12345","name":"live","permissions":{"products":"read"}}');
INSERT INTO public.authz_audit VALUES (2, '36899054ea8d28903b2be6388ecf0753', '2026-11-28 00:55:48.698895+00', 'anna', 'imported', 'l64_def67890', '\x4596bb0e833043a4e2c1604f692cac627472e9618acfdd8c259e277f6b923b87', NULL, NULL, '{"created_at":"2026-11-28T00:55:48.693546Z","id":"l64_def67890","name":"lost","permissions":{"products":"read"}}');
INSERT INTO public.authz_audit VALUES (3, '422f63f8310a86a21e0754b213e904e4', '2026-11-28 00:55:49.123465+00', 'anna', 'issued', 'l64_jzbfvyap', '\x411175e42a2687a56af97a06aa123ecbed0479a004c2c0fc1cb37148aff3ddde', NULL, NULL, '{"created_at":"2026-11-28T00:55:49.123465Z","expires_at":"2099-01-01T00:00:00Z","id":"l64_jzbfvyap","ip_ranges":["10.0.0.0/8","2001:db8::/32"],"kind":"admin","name":"everything \"quoted\" {}","not_before":"2026-01-01T00:00:00Z","origins":["https://shop.example"],"permissions":{"orders":"read","products":"write"},"restrictions":{"company":{"exclude":["3","7"]},"project":{"include":["a_1"]},"shop":{"include":["ch","de"]}},"tenant":"one"}');
INSERT INTO public.authz_audit VALUES (4, 'fd28a354aba8898f5d66aa714db086b1', '2026-11-28 00:55:49.372941+00', 'anna', 'issued', 'l64_kf27s8sn', '\x3e07561a202c609bcb37f1846d19d7c68b2e8c81008215e00c4a3463a7efc806', NULL, NULL, '{"created_at":"2026-11-28T00:55:49.372941Z","id":"l64_kf27s8sn","name":"Übermäßig é日本 \\ }\"","permissions":{"a":"read"}}');
INSERT INTO public.authz_audit VALUES (5, 'e198a48577a798275579dc5662cd261b', '2026-11-28 00:55:49.683415+00', 'anna', 'issued', 'l64_1elz8q53', '\xd898c6db8b6cc93111ab7b9ebf4c7cb6fd9c45254b5f5f2b52be7648dd2f9538', NULL, NULL, '{"created_at":"2026-11-28T00:55:49.683415Z","id":"l64_1elz8q53","name":"nothing at all","permissions":{}}');
INSERT INTO public.authz_audit VALUES (6, '61d84a16ed9723a42a67a0a017585ef6', '2026-11-28 00:55:50.015725+00', 'anna', 'issued', 'l64_eawpfkzc', '\x620ed0331e799098be2a9636d41a077070d856b48055ebc0d9da224f5c1a2efc', NULL, NULL, '{"created_at":"2026-11-28T00:55:50.015725Z","id":"l64_eawpfkzc","kind":"runtime","name":"to be rotated","permissions":{"orders":"read"}}');
INSERT INTO public.authz_audit VALUES (7, 'a4e2830418c089ccdb2d3829294499d8', '2026-11-28 00:55:50.510171+00', 'anna', 'issued', 'l64_cgeesh28', '\xf6013c333cc8c3da885c8aaa18a11ad3756cf941efaf95a645161f652ef427d8', NULL, NULL, '{"created_at":"2026-11-28T00:55:50.510171Z","id":"l64_cgeesh28","name":"to be deleted","permissions":{"orders":"read"}}');
INSERT INTO public.authz_audit VALUES (8, 'b9b90fd3d5f379a087561f56c39d06ec', '2026-11-28 00:55:50.954385+00', 'anna', 'issued', 'l64_1mdilnbm', '\x29478433ed5b6fa252a26c46d5a992e81e6ea331d0cdb4fd2440da6ff41b1600', NULL, NULL, '{"created_at":"2026-11-28T00:55:50.954385Z","id":"l64_1mdilnbm","name":"late","not_before":"2098-06-01T12:30:00Z","permissions":{"orders":"read"}}');
INSERT INTO public.authz_audit VALUES (9, 'ac28da166b1a49208e743d45b1b4fdee', '2026-11-28 00:55:51.406722+00', 'anna', 'issued', 'l64_l902444t', '\x45984207b9d719ea5d237535ee64d1782cb01440053de812ede07b710ad25dc6', 'in place of l64_eawpfkzc', NULL, '{"created_at":"2026-11-28T00:55:51.406722Z","id":"l64_l902444t","kind":"runtime","name":"to be rotated","permissions":{"orders":"read"},"replaces":"l64_eawpfkzc"}');
INSERT INTO public.authz_audit VALUES (10, 'ac28da166b1a49208e743d45b1b4fdee', '2026-11-28 00:55:51.406722+00', 'anna', 'rotated', 'l64_eawpfkzc', '\x620ed0331e799098be2a9636d41a077070d856b48055ebc0d9da224f5c1a2efc', 'l64_l902444t takes its place', '{"created_at":"2026-11-28T00:55:50.015725Z","id":"l64_eawpfkzc","kind":"runtime","name":"to be rotated","permissions":{"orders":"read"}}', '{"created_at":"2026-11-28T00:55:50.015725Z","expires_at":"2026-12-28T00:55:51.406802Z","id":"l64_eawpfkzc","kind":"runtime","name":"to be rotated","permissions":{"orders":"read"},"replaced_by":"l64_l902444t"}');
INSERT INTO public.authz_audit VALUES (11, '88bf770087df002c71999410db262778', '2026-11-28 00:55:51.851056+00', 'anna', 'revoked', 'l64_def67890', '\x4596bb0e833043a4e2c1604f692cac627472e9618acfdd8c259e277f6b923b87', 'the "laptop" {was} lost}', '{"created_at":"2026-11-28T00:55:48.693546Z","id":"l64_def67890","name":"lost","permissions":{"products":"read"}}', '{"created_at":"2026-11-28T00:55:48.693546Z","id":"l64_def67890","name":"lost","permissions":{"products":"read"},"revocation_reason":"the \"laptop\" {was} lost}","revoked_at":"2026-11-28T00:55:51.851056Z"}');
INSERT INTO public.authz_audit VALUES (12, '41ff5a080758e8a2e737805ce2f14127', '2026-11-28 00:55:52.202643+00', 'anna', 'revoked', 'l64_cgeesh28', '\xf6013c333cc8c3da885c8aaa18a11ad3756cf941efaf95a645161f652ef427d8', 'x', '{"created_at":"2026-11-28T00:55:50.510171Z","id":"l64_cgeesh28","name":"to be deleted","permissions":{"orders":"read"}}', '{"created_at":"2026-11-28T00:55:50.510171Z","id":"l64_cgeesh28","name":"to be deleted","permissions":{"orders":"read"},"revocation_reason":"x","revoked_at":"2026-11-28T00:55:52.202643Z"}');
INSERT INTO public.authz_audit VALUES (13, 'd8879a4a9c3ec5c28949461cbc6897f2', '2026-11-28 00:55:52.553795+00', 'anna', 'deleted', 'l64_cgeesh28', '\xf6013c333cc8c3da885c8aaa18a11ad3756cf941efaf95a645161f652ef427d8', NULL, '{"created_at":"2026-11-28T00:55:50.510171Z","id":"l64_cgeesh28","name":"to be deleted","permissions":{"orders":"read"},"revocation_reason":"x","revoked_at":"2026-11-28T00:55:52.202643Z"}', NULL);
INSERT INTO public.authz_audit VALUES (14, 'cc3834bcb76157528d8e49cb71177f76', '2026-11-28 00:55:53.02113+00', 'anna', 'grant-changed', 'l64_kf27s8sn', '\x3e07561a202c609bcb37f1846d19d7c68b2e8c81008215e00c4a3463a7efc806', NULL, '{"created_at":"2026-11-28T00:55:49.372941Z","id":"l64_kf27s8sn","name":"Übermäßig é日本 \\ }\"","permissions":{"a":"read"}}', '{"created_at":"2026-11-28T00:55:49.372941Z","id":"l64_kf27s8sn","name":"Übermäßig é日本 \\ }\"","permissions":{"a":"read","orders":"write"},"restrictions":{"shop":{"include":["us"]}}}');
INSERT INTO public.authz_counter VALUES (true, 14, 'cc3834bcb76157528d8e49cb71177f76', '{"format":"l64_{a-z0-9:8}_{0-9a-f:32}","dimensions":{"project":"slug"},"ip_restricted":[]}', 5, 1, true, '2026-11-28 00:55:45.802864+00', '2026-11-28 00:55:48.094476+00', '00:00:00', 737, '5/16414');
INSERT INTO public.authz_keys VALUES ('l64_abc12345', '\xf3abb72a4e9ba85fd7f54d80be566d51114b2f285a247589b656673f61d4dabf', 'live', NULL, NULL, '2026-11-28 00:55:48.693462+00', NULL, NULL, NULL, NULL, NULL, NULL, '{"permissions":{"products":"read"}}', 1, NULL);
INSERT INTO public.authz_keys VALUES ('l64_jzbfvyap', '\x411175e42a2687a56af97a06aa123ecbed0479a004c2c0fc1cb37148aff3ddde', 'everything "quoted" {}', 'admin', 'one', '2026-11-28 00:55:49.123465+00', '2026-01-01 00:00:00+00', '2099-01-01 00:00:00+00', NULL, NULL, NULL, NULL, '{"permissions":{"orders":"read","products":"write"},"restrictions":{"shop":{"include":["ch","de"]},"project":{"include":["a_1"]},"company":{"exclude":["3","7"]}},"ip_ranges":["10.0.0.0/8","2001:db8::/32"],"origins":["https://shop.example"]}', 1, NULL);
INSERT INTO public.authz_keys VALUES ('l64_1elz8q53', '\xd898c6db8b6cc93111ab7b9ebf4c7cb6fd9c45254b5f5f2b52be7648dd2f9538', 'nothing at all', NULL, NULL, '2026-11-28 00:55:49.683415+00', NULL, NULL, NULL, NULL, NULL, NULL, '{"permissions":{}}', 1, NULL);
INSERT INTO public.authz_keys VALUES ('l64_1mdilnbm', '\x29478433ed5b6fa252a26c46d5a992e81e6ea331d0cdb4fd2440da6ff41b1600', 'late', NULL, NULL, '2026-11-28 00:55:50.954385+00', '2098-06-01 12:30:00+00', NULL, NULL, NULL, NULL, NULL, '{"permissions":{"orders":"read"}}', 1, NULL);
INSERT INTO public.authz_keys VALUES ('l64_eawpfkzc', '\x620ed0331e799098be2a9636d41a077070d856b48055ebc0d9da224f5c1a2efc', 'to be rotated', 'runtime', NULL, '2026-11-28 00:55:50.015725+00', NULL, '2026-12-28 00:55:51.406802+00', NULL, NULL, NULL, 'l64_l902444t', '{"permissions":{"orders":"read"}}', 2, NULL);
INSERT INTO public.authz_keys VALUES ('l64_l902444t', '\x45984207b9d719ea5d237535ee64d1782cb01440053de812ede07b710ad25dc6', 'to be rotated', 'runtime', NULL, '2026-11-28 00:55:51.406722+00', NULL, NULL, NULL, NULL, 'l64_eawpfkzc', NULL, '{"permissions":{"orders":"read"}}', 1, NULL);
INSERT INTO public.authz_keys VALUES ('l64_def67890', '\x4596bb0e833043a4e2c1604f692cac627472e9618acfdd8c259e277f6b923b87', 'lost', NULL, NULL, '2026-11-28 00:55:48.693546+00', NULL, NULL, '2026-11-28 00:55:51.851056+00', 'the "laptop" {was} lost}', NULL, NULL, '{"permissions":{"products":"read"}}', 2, NULL);
INSERT INTO public.authz_keys VALUES ('l64_kf27s8sn', '\x3e07561a202c609bcb37f1846d19d7c68b2e8c81008215e00c4a3463a7efc806', 'Übermäßig é日本 \ }"', NULL, NULL, '2026-11-28 00:55:49.372941+00', NULL, NULL, NULL, NULL, NULL, NULL, '{"permissions":{"a":"read","orders":"write"},"restrictions":{"shop":{"include":["us"]}}}', 2, NULL);
INSERT INTO public.authz_revoked VALUES ('\x4596bb0e833043a4e2c1604f692cac627472e9618acfdd8c259e277f6b923b87');
INSERT INTO public.authz_revoked VALUES ('\xf6013c333cc8c3da885c8aaa18a11ad3756cf941efaf95a645161f652ef427d8');
ALTER TABLE ONLY public.authz_audit
    ADD CONSTRAINT authz_audit_pkey PRIMARY KEY (number);
ALTER TABLE ONLY public.authz_counter
    ADD CONSTRAINT authz_counter_pkey PRIMARY KEY (one);
ALTER TABLE ONLY public.authz_keys
    ADD CONSTRAINT authz_keys_digest_key UNIQUE (digest);
ALTER TABLE ONLY public.authz_keys
    ADD CONSTRAINT authz_keys_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.authz_replicas
    ADD CONSTRAINT authz_replicas_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.authz_revoked
    ADD CONSTRAINT authz_revoked_pkey PRIMARY KEY (digest);
CREATE INDEX authz_audit_of_key ON public.authz_audit USING btree (key_id, number);
CREATE TRIGGER a_longest_lease BEFORE UPDATE OF longest_lease ON public.authz_counter FOR EACH ROW EXECUTE FUNCTION public.authz_longest_lease();
CREATE TRIGGER audit_is_kept BEFORE DELETE ON public.authz_audit FOR EACH ROW WHEN ((current_setting('authz.writer'::text, true) IS DISTINCT FROM 'yes'::text)) EXECUTE FUNCTION public.authz_refuse('audit records are kept');
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON public.authz_audit FOR EACH ROW EXECUTE FUNCTION public.authz_refuse('audit records are kept');
CREATE TRIGGER counter_changes BEFORE UPDATE ON public.authz_counter FOR EACH ROW EXECUTE FUNCTION public.authz_counter_changes();
CREATE CONSTRAINT TRIGGER key_changes AFTER UPDATE OF id, digest, name, kind, tenant, created_at, not_before, expires_at, revoked_at, revocation_reason, replaces, replaced_by, may, version ON public.authz_keys DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN ((current_setting('authz.writer'::text, true) IS DISTINCT FROM 'yes'::text)) EXECUTE FUNCTION public.authz_key_changes();
CREATE CONSTRAINT TRIGGER key_is_gone AFTER DELETE ON public.authz_keys DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN ((current_setting('authz.writer'::text, true) IS DISTINCT FROM 'yes'::text)) EXECUTE FUNCTION public.authz_key_changes();
CREATE CONSTRAINT TRIGGER key_is_made AFTER INSERT ON public.authz_keys DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN ((current_setting('authz.writer'::text, true) IS DISTINCT FROM 'yes'::text)) EXECUTE FUNCTION public.authz_key_changes();
CREATE TRIGGER keys_are_gone BEFORE TRUNCATE ON public.authz_keys FOR EACH STATEMENT EXECUTE FUNCTION public.authz_keys_are_gone();
CREATE TRIGGER lease_is_cut AFTER UPDATE ON public.authz_replicas FOR EACH ROW WHEN (((new.lease_until < old.lease_until) OR (new.lease < old.lease) OR (new.id <> old.id))) EXECUTE FUNCTION public.authz_lease_is_lost();
CREATE TRIGGER lease_is_false AFTER INSERT OR UPDATE OF applied ON public.authz_replicas FOR EACH ROW EXECUTE FUNCTION public.authz_lease_is_false();
CREATE TRIGGER lease_is_lost AFTER DELETE ON public.authz_replicas FOR EACH ROW WHEN ((old.lease_until > clock_timestamp())) EXECUTE FUNCTION public.authz_lease_is_lost();
CREATE TRIGGER leases_are_lost BEFORE TRUNCATE ON public.authz_replicas FOR EACH STATEMENT EXECUTE FUNCTION public.authz_lease_is_lost();
CREATE TRIGGER revoked_are_never_taken_out BEFORE TRUNCATE ON public.authz_revoked FOR EACH STATEMENT EXECUTE FUNCTION public.authz_refuse('a revoked key stays revoked');
CREATE TRIGGER revoked_is_for_good BEFORE UPDATE OF revoked_at ON public.authz_keys FOR EACH ROW WHEN (((old.revoked_at IS NOT NULL) AND (new.revoked_at IS DISTINCT FROM old.revoked_at))) EXECUTE FUNCTION public.authz_refuse('a revoked key stays revoked');
CREATE TRIGGER revoked_is_never_taken_out BEFORE DELETE OR UPDATE ON public.authz_revoked FOR EACH ROW EXECUTE FUNCTION public.authz_refuse('a revoked key stays revoked');
CREATE TRIGGER revoked_is_not_forgotten BEFORE INSERT OR UPDATE OF digest, revoked_at ON public.authz_keys FOR EACH ROW WHEN ((new.revoked_at IS NULL)) EXECUTE FUNCTION public.authz_refuse_revoked();
CREATE TRIGGER revoked_is_not_forgotten_meanwhile AFTER INSERT OR UPDATE OF digest, revoked_at ON public.authz_keys FOR EACH ROW WHEN ((new.revoked_at IS NULL)) EXECUTE FUNCTION public.authz_refuse_revoked();
CREATE TRIGGER revoked_is_remembered AFTER INSERT OR UPDATE OF digest, revoked_at ON public.authz_keys FOR EACH ROW WHEN ((new.revoked_at IS NOT NULL)) EXECUTE FUNCTION public.authz_remember_revoked();
