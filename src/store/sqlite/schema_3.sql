-- Whoever revokes a key and gives it another digest at once has revoked the digest that it had.
CREATE TRIGGER revoked_earlier_is_remembered AFTER UPDATE OF digest, revoked_at ON keys
WHEN new.revoked_at IS NOT NULL AND length(old.digest) = 32
BEGIN
  INSERT INTO revoked SELECT old.digest WHERE NOT EXISTS (SELECT 1 FROM revoked WHERE digest = old.digest);
END;
