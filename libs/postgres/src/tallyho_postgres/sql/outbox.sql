-- name: add
-- Store events with the change they tell of, leased to the process that will publish them right after the commit.
-- One row of the input is one event.
INSERT INTO outbox (event_id, exchange, routing_key, type, body, leased_until)
SELECT event_id, exchange, routing_key, type, body, clock_timestamp() + $6::interval
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[]) AS event (event_id, exchange, routing_key, type, body)

-- name: lease_expired
-- Take over events whose publisher died or gave up, the oldest first. Returns a row for each, leased anew.
UPDATE outbox SET leased_until = now() + $2::interval
WHERE event_id IN (
    SELECT event_id FROM outbox WHERE leased_until < now() ORDER BY leased_until LIMIT $1 FOR UPDATE SKIP LOCKED
)
RETURNING event_id, exchange, routing_key, type, body

-- name: delete_confirmed
-- Forget events that the broker has taken.
DELETE FROM outbox WHERE event_id = ANY($1::uuid[])

-- name: back_off
-- Leave events that could not be published for later: 1, 2, 4, then 5 seconds after the attempt.
UPDATE outbox
SET leased_until = now() + least(power(2, least(attempts, 3)), 5) * interval '1 second',
    attempts = attempts + 1, last_error = $2
WHERE event_id = ANY($1::uuid[])

-- name: measure
-- How many events wait, and for how many seconds the oldest has.
SELECT count(*) AS events, greatest(0, coalesce(extract(epoch FROM now() - min(created_at)), 0))::float8 AS oldest_seconds
FROM outbox
