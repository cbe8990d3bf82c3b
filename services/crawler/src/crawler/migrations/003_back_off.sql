ALTER TABLE origins
    -- How often in a row the server said that it is too busy, and until when it is left alone for that.
    ADD COLUMN refusals smallint NOT NULL DEFAULT 0,
    ADD COLUMN busy_until timestamptz NOT NULL DEFAULT '-infinity';

-- A slot whose last page took long is not claimed before.
ALTER TABLE slots ADD COLUMN rests_until timestamptz NOT NULL DEFAULT '-infinity';
