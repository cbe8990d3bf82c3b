-- Links of pages beyond the first so many, and entries of lists: they were not looked at, and so not met.
ALTER TABLE jobs ADD COLUMN beyond bigint NOT NULL DEFAULT 0;
ALTER TABLE documents ADD COLUMN links_beyond int NOT NULL DEFAULT 0;
