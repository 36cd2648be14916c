CREATE ROLE authz_replica;  -- for servers: they read keys and hold leases
GRANT SELECT ON authz_counter, authz_keys, authz_audit TO authz_replica;
GRANT SELECT, INSERT, UPDATE, DELETE ON authz_replicas TO authz_replica;
GRANT UPDATE (guard, longest_lease) ON authz_counter TO authz_replica;    -- which lets them lock its row
GRANT UPDATE (last_used) ON authz_keys TO authz_replica;
GRANT SELECT, INSERT, UPDATE, DELETE ON authz_usage, authz_last_uses TO authz_replica;

CREATE ROLE authz_admin;    -- for whoever changes keys; beside a server, give its user both
GRANT SELECT, UPDATE ON authz_counter TO authz_admin;
GRANT SELECT, INSERT, UPDATE, DELETE ON authz_keys TO authz_admin;
GRANT SELECT, INSERT, DELETE ON authz_audit TO authz_admin;   -- DELETE, to thin it out
GRANT SELECT ON authz_replicas, authz_revoked, authz_usage, authz_last_uses TO authz_admin;
