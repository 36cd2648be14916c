-- Since when the server that has made the newest change has been running, and when all leases are over that another
-- may have given: after a failover their rows may be lost.
ALTER TABLE authz_counter ADD COLUMN server_since timestamptz, ADD COLUMN settled_at timestamptz;
-- How long the leases of a replica are.
ALTER TABLE authz_replicas ADD COLUMN lease interval NOT NULL DEFAULT interval '2 seconds';
