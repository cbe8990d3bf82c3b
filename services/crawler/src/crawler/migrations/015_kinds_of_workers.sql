-- The pages of which jobs a worker visits: an origin is shared among those of one kind.
ALTER TABLE workers ADD COLUMN render text NOT NULL DEFAULT 'none';
