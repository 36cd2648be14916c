-- Since when the server that has made the newest change has been running, and when all leases are over that another
-- may have given: after a failover their rows may be lost, so the longest that there ever was is remembered.
ALTER TABLE authz_counter ADD COLUMN server_since timestamptz, ADD COLUMN settled_at timestamptz,
  ADD COLUMN longest_lease interval NOT NULL DEFAULT interval '0';
-- How long the leases of a replica are; unknown of those that do not say.
ALTER TABLE authz_replicas ADD COLUMN lease interval;
