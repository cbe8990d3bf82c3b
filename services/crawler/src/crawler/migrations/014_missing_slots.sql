-- Pages that had waited joined their jobs without their slots when CRAWLER_HOST_CONCURRENCY had changed meanwhile: nobody
-- could claim them.
INSERT INTO origins (origin) SELECT DISTINCT origin FROM lanes ON CONFLICT DO NOTHING;
INSERT INTO slots (origin, slot) SELECT DISTINCT origin, slot FROM lanes ON CONFLICT DO NOTHING;
